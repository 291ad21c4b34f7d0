//! `envoy.config.route.v3.RouteConfiguration`.

use crate::envoy::answer::{direct_response, redirect};
use crate::envoy::matching::route_match;
use crate::envoy::{policy, weighted_by, weighted_clusters};
use crate::error::ConfigError;
use crate::model::{PathMatch, RouteAction, RouteConfiguration, RouteRule, VirtualHostConfig};
use crate::policy::{Codec, Fault, HeaderMutations, HttpOptions, Mirror, RetryPolicy, RoutePolicy};
use crate::reader::{Item, Object};

/// A listener's fault filter.
pub(crate) struct FaultFilter {
    /// By which routes refer to it.
    pub(crate) name: String,
    /// What it does to routes that say nothing else.
    pub(crate) fault: Option<Fault>,
}

/// What the listener says to its routes.
pub(crate) struct Context {
    /// Its fault filter, if it has one.
    pub(crate) fault: Option<FaultFilter>,
    /// Upgrades that it allows.
    pub(crate) upgrades: Vec<String>,
    /// What clients speak.
    pub(crate) codec: Codec,
}

/// What the levels above a route say: the route configuration and the virtual host.
#[derive(Clone)]
struct Level<'c> {
    context: &'c Context,
    /// From the innermost level to the outermost.
    headers: Vec<HeaderMutations>,
    mirrors: Vec<Mirror>,
    retry: Option<RetryPolicy>,
    fault: Option<Fault>,
}

impl<'c> Level<'c> {
    fn new(context: &'c Context) -> Self {
        Self {
            context,
            headers: Vec::new(),
            mirrors: Vec::new(),
            retry: None,
            fault: context
                .fault
                .as_ref()
                .and_then(|filter| filter.fault.clone()),
        }
    }

    /// What a resource of this kind can say at every level.
    fn read(&mut self, fields: &mut Object<'_>) -> Result<(), ConfigError> {
        let headers = policy::header_mutations(fields)?;
        if !headers.is_empty() {
            self.headers.insert(0, headers);
        }
        if let Some(filters) = fields.take("typed_per_filter_config") {
            filters.object(|filters| {
                let name = self.context.fault.as_ref().map(|filter| &filter.name);
                let Some(fault) = name.and_then(|name| filters.take(name)) else {
                    return Ok(());
                };
                self.fault = policy::fault(&fault)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// What a route configuration, a virtual host and a route action can say.
    fn read_mirrors(&mut self, fields: &mut Object<'_>) -> Result<(), ConfigError> {
        let mirrors = policy::mirrors(fields)?;
        if !mirrors.is_empty() {
            self.mirrors = mirrors;
        }
        Ok(())
    }
}

/// Reads a route configuration.
pub(crate) fn configuration(
    item: &Item<'_>,
    context: &Context,
) -> Result<RouteConfiguration, ConfigError> {
    item.object(|fields| {
        let name = fields.string("name")?.to_owned();
        fields.fixed("validate_clusters", true)?;
        fields.fixed("ignore_port_in_host_matching", false)?;
        fields.fixed("ignore_path_parameters_in_path_matching", false)?;
        fields.fixed("most_specific_header_mutations_wins", false)?;
        let mut level = Level::new(context);
        level.read(fields)?;
        level.read_mirrors(fields)?;
        let hosts = fields.items("virtual_hosts")?;
        let hosts = hosts.iter().map(|host| virtual_host(host, level.clone()));
        let virtual_hosts = hosts.collect::<Result<_, _>>()?;
        Ok(RouteConfiguration {
            name,
            virtual_hosts,
            options: HttpOptions {
                codec: context.codec,
                fault: level.fault,
            },
        })
    })
}

fn virtual_host(item: &Item<'_>, mut level: Level<'_>) -> Result<VirtualHostConfig, ConfigError> {
    item.object(|fields| {
        let name = fields.need("name")?.text()?.to_owned();
        let domains = fields.need("domains")?.list()?;
        let domains = domains
            .iter()
            .map(|domain| domain.text().map(str::to_owned))
            .collect::<Result<_, _>>()?;
        fields.allow("require_tls", &["NONE"])?;
        fields.fixed("include_request_attempt_count", false)?;
        fields.fixed("include_attempt_count_in_response", false)?;
        level.read(fields)?;
        level.read_mirrors(fields)?;
        if let Some(item) = fields.take("retry_policy") {
            level.retry = policy::retry(&item)?;
        }
        let routes = fields.items("routes")?;
        let routes = routes.iter().map(|item| route(item, level.clone()));
        let routes = routes.collect::<Result<_, _>>()?;
        Ok(VirtualHostConfig {
            name,
            domains,
            routes,
        })
    })
}

fn route(item: &Item<'_>, mut level: Level<'_>) -> Result<RouteRule, ConfigError> {
    item.object(|fields| {
        let name = fields.string("name")?.to_owned();
        let matching = fields.need("match")?.object(route_match)?;
        level.read(fields)?;
        let (action, policy) = action(fields, &matching.path, level)?;
        fields.ignore("metadata", "nothing reads it");
        fields.ignore("stat_prefix", "statistics only");
        Ok(RouteRule {
            name,
            action,
            policy,
            ..matching
        })
    })
}

fn action(
    fields: &mut Object<'_>,
    path: &PathMatch,
    level: Level<'_>,
) -> Result<(RouteAction, RoutePolicy), ConfigError> {
    for action in ["filter_action", "non_forwarding_action"] {
        if let Some(action) = fields.take(action) {
            return Err(action.refuse(
                "not supported by this datapath, which knows route, redirect and direct_response",
            ));
        }
    }
    let (route, redirection) = (fields.take("route"), fields.take("redirect"));
    let direct = fields.take("direct_response");
    let (action, item) = match (route, redirection, direct) {
        (Some(item), None, None) => {
            return item.object(|fields| route_action(fields, path, level));
        }
        (None, Some(item), None) => (RouteAction::Redirect(item.object(redirect)?), item),
        (None, None, Some(item)) => (RouteAction::Direct(item.object(direct_response)?), item),
        (None, None, None) => return Err(fields.place.field("route").refuse("is missing")),
        (_, Some(second), _) | (_, _, Some(second)) => {
            return Err(second.place.refuse("stands beside another action: use one"));
        }
    };
    // Envoy would change the answer's headers, and fail some answers on purpose.
    if !level.headers.is_empty() || level.fault.is_some() {
        return Err(item.place.refuse(
            "with changes of headers or faults at this level or above: not supported by this datapath",
        ));
    }
    Ok((action, RoutePolicy::default()))
}

fn route_action(
    fields: &mut Object<'_>,
    path: &PathMatch,
    mut level: Level<'_>,
) -> Result<(RouteAction, RoutePolicy), ConfigError> {
    let timeout = fields.timeout("timeout")?;
    fields.no_timeout("idle_timeout")?;
    fields.allow("priority", &["DEFAULT"])?;
    fields.fixed("append_x_forwarded_host", false)?;
    fields.ignore(
        "cluster_not_found_response_code",
        "unknown clusters are refused at load time",
    );
    fields.empty("hash_policy")?;
    fields.empty("rate_limits")?;
    level.read_mirrors(fields)?;
    if let Some(item) = fields.take("retry_policy") {
        level.retry = policy::retry(&item)?;
    }
    let matched = match path {
        PathMatch::Prefix(text) | PathMatch::Exact(text) | PathMatch::Separated(text) => text,
        PathMatch::Regex(_) => {
            if let Some(item) = fields.take("prefix_rewrite") {
                return Err(item.refuse("not supported by this datapath beside safe_regex"));
            }
            ""
        }
    };
    let path_rewrite = policy::path_rewrite(fields, matched)?;
    let host_rewrite = match fields.take("host_rewrite_literal") {
        None => None,
        Some(item) => Some(item.string()?.to_owned()).filter(|host| !host.is_empty()),
    };
    let upgrades = policy::upgrades(fields, &level.context.upgrades)?;
    let mut cluster_headers: Vec<(String, HeaderMutations)> = Vec::new();
    let mut targets = Vec::new();
    if let Some(item) = fields.take("cluster") {
        targets.push((RouteAction::Cluster(item.text()?.to_owned()), item));
    }
    if let Some(item) = fields.take("weighted_clusters") {
        targets.push((weighted(&item, &mut cluster_headers)?, item));
    }
    if let Some(item) = fields.take("cluster_header") {
        let header = item.text()?.to_ascii_lowercase();
        targets.push((RouteAction::ClusterHeader(header), item));
    }
    if let [_, (_, second), ..] = targets.as_slice() {
        return Err(second.refuse("stands beside another target: use one"));
    }
    let Some((action, _)) = targets.pop() else {
        return Err(fields
            .place
            .refuse("has neither cluster nor weighted_clusters nor cluster_header"));
    };
    cluster_headers.retain(|(_, headers)| !headers.is_empty());
    let policy = RoutePolicy {
        timeout,
        retry: level.retry,
        path_rewrite,
        host_rewrite,
        cluster_headers,
        headers: level.headers,
        mirrors: level.mirrors,
        fault: level.fault,
        upgrades,
    };
    Ok((action, policy))
}

/// Weighted clusters, and the header changes of each into `cluster_headers`.
fn weighted(
    item: &Item<'_>,
    cluster_headers: &mut Vec<(String, HeaderMutations)>,
) -> Result<RouteAction, ConfigError> {
    item.object(|fields| {
        let header = weighted_by(fields)?;
        let choices = weighted_clusters(fields, |fields, name| {
            let headers = policy::header_mutations(fields)?;
            let known = cluster_headers.iter().find(|(other, _)| other == name);
            match known {
                Some((_, other)) if *other != headers => Err(fields.place.refuse(
                    "this datapath changes headers by cluster: use another cluster's name",
                )),
                Some(_) => Ok(()),
                None => {
                    cluster_headers.push((name.to_owned(), headers));
                    Ok(())
                }
            }
        })?;
        Ok(match header {
            Some(header) => RouteAction::WeightedBy { header, choices },
            None => RouteAction::Weighted(choices),
        })
    })
}
