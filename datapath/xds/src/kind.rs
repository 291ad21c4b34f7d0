//! The four types of resources that this client asks for.

/// A type of resources, in the order in which they are asked for and applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Routes,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Routes];

    /// Its type URL.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Routes => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The kind of a type URL, if this client asks for it.
    pub fn of(type_url: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.type_url() == type_url)
    }

    /// As messages call one: `cluster "x"`.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Endpoints => "load assignment",
            Self::Listener => "listener",
            Self::Routes => "route configuration",
        }
    }

    /// Its discovery service's short name.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoints => "EDS",
            Self::Listener => "LDS",
            Self::Routes => "RDS",
        }
    }

    /// Whether all that there are are asked for, instead of those that another resource names.
    pub const fn wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }

    /// The kind that a resource of this kind waits for: a cluster for its endpoints, a listener for its routes.
    pub const fn needs(self) -> Option<Self> {
        match self {
            Self::Cluster => Some(Self::Endpoints),
            Self::Listener => Some(Self::Routes),
            Self::Endpoints | Self::Routes => None,
        }
    }

    /// The field that holds a resource's name.
    pub(crate) const fn name_field(self) -> &'static str {
        match self {
            Self::Endpoints => "cluster_name",
            Self::Cluster | Self::Listener | Self::Routes => "name",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
