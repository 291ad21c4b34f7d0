//! What the numbers in an image stand for: kept in user space, for status, metrics and explanations.

use std::net::SocketAddr;

use crate::model::{DirectResponse, PathMatch, Redirect};

/// The names behind an image's indices.
///
/// Listeners and clusters have the same indices in the configuration, in the image and here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// By listener index.
    pub listeners: Vec<String>,
    /// By route index.
    pub routes: Vec<RouteName>,
    /// By cluster index.
    pub clusters: Vec<ClusterName>,
    /// By endpoint index.
    pub endpoints: Vec<EndpointName>,
}

/// Which route a route index stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteName {
    /// Index of its listener.
    pub listener: u32,
    /// Name of its virtual host.
    pub virtual_host: String,
    /// Its own name; may be empty.
    pub name: String,
    /// Its position in the virtual host, from 0.
    pub position: u32,
    /// What its requests are answered with, if they go nowhere.
    pub answer: Option<LocalAnswer>,
}

/// An answer that a route gives by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAnswer {
    /// Another place to go; the route's path pattern says which part of the path a redirect may replace.
    Redirect(Redirect, PathMatch),
    /// A response from the configuration.
    Direct(DirectResponse),
}

/// Which cluster a cluster index stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterName {
    /// The name.
    pub name: String,
    /// The number that survives configuration changes.
    pub id: u32,
}

/// Which endpoint an endpoint index stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName {
    /// The address.
    pub address: SocketAddr,
    /// Index of its cluster.
    pub cluster: u32,
    /// The number that survives configuration changes; clusters that share an address share it.
    pub id: u32,
}
