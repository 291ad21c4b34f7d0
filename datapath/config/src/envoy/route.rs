//! `envoy.config.route.v3.RouteConfiguration`.

use std::time::Duration;

use crate::envoy::answer::{direct_response, redirect};
use crate::envoy::matching::route_match;
use crate::envoy::{policy, weighted_by, weighted_clusters};
use crate::model::{PathMatch, RouteAction, RouteConfiguration, RouteRule, VirtualHostConfig};
use crate::policy::{Cors, Fault, HeaderMutations, HttpOptions, Mirror, RetryPolicy, RoutePolicy};
use crate::reader::{Item, Object};

/// A listener's fault filter.
#[derive(Clone)]
pub(crate) struct FaultFilter {
    /// By which routes refer to it.
    pub(crate) name: String,
    /// What it does to routes that say nothing else.
    pub(crate) fault: Option<Fault>,
}

/// What the listener says to its routes.
#[derive(Clone, Default)]
pub(crate) struct Context {
    /// Its fault filter, if it has one.
    pub(crate) fault: Option<FaultFilter>,
    /// By which name routes refer to its CORS filter, if it has one.
    pub(crate) cors: Option<String>,
    /// Upgrades that it allows.
    pub(crate) upgrades: Vec<String>,
    /// What it asks for as a whole.
    pub(crate) options: HttpOptions,
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
    cors: Option<Cors>,
    /// Longest body of a direct response, bytes.
    body_max: u32,
}

/// Envoy's default of `max_direct_response_body_size_bytes`.
const BODY_MAX: u32 = 4096;

impl<'c> Level<'c> {
    fn new(context: &'c Context) -> Self {
        let filter = context.fault.as_ref();
        Self {
            context,
            headers: Vec::new(),
            mirrors: Vec::new(),
            retry: None,
            fault: filter.and_then(|filter| filter.fault.clone()),
            cors: None,
            body_max: BODY_MAX,
        }
    }

    /// What a resource of this kind can say at every level.
    fn read(&mut self, fields: &mut Object<'_>) {
        let headers = policy::header_mutations(fields);
        if !headers.is_empty() {
            self.headers.insert(0, headers);
        }
        let Some(filters) = fields.take("typed_per_filter_config") else {
            return;
        };
        for (name, config) in filters.entries() {
            match config.kind() {
                policy::FAULT => {}
                policy::CORS => {
                    let cors = config.typed("CorsPolicy", |_, fields| policy::cors(fields));
                    if self.context.cors.as_deref() == Some(name) {
                        self.cors = cors;
                    }
                    continue;
                }
                _ => {
                    let problem =
                        "not supported by this datapath, which knows HTTPFault and CorsPolicy here";
                    config.refuse_place(problem);
                    continue;
                }
            }
            let fault = config.typed("HTTPFault", |_, fields| policy::fault(fields));
            // Without such a filter in the listener, nobody runs it.
            if self
                .context
                .fault
                .as_ref()
                .is_some_and(|filter| filter.name == name)
            {
                self.fault = fault;
            }
        }
    }

    /// What a route configuration, a virtual host and a route action can say.
    fn read_mirrors(&mut self, fields: &mut Object<'_>) {
        let mirrors = policy::mirrors(fields);
        if !mirrors.is_empty() {
            self.mirrors = mirrors;
        }
    }
}

/// Reads a route configuration; one that came by RDS takes unknown clusters unless told otherwise.
pub(crate) fn configuration(item: &Item<'_>, context: &Context, rds: bool) -> RouteConfiguration {
    item.message("RouteConfiguration", |fields| {
        let mut level = Level::new(context);
        let name = fields.string("name").to_owned();
        let validate_clusters = fields.flag_or("validate_clusters", !rds);
        level.body_max = fields.number_or("max_direct_response_body_size_bytes", BODY_MAX);
        level.read(fields);
        level.read_mirrors(fields);
        let hosts = fields.items("virtual_hosts");
        let hosts = hosts.iter().map(|host| virtual_host(host, level.clone()));
        RouteConfiguration {
            name,
            virtual_hosts: hosts.collect(),
            options: HttpOptions {
                fault: level.fault,
                validate_clusters,
                rds,
                ignore_port: fields.flag("ignore_port_in_host_matching"),
                ..context.options.clone()
            },
        }
    })
}

fn virtual_host(item: &Item<'_>, mut level: Level<'_>) -> VirtualHostConfig {
    item.message("VirtualHost", |fields| {
        let name = fields.need("name").text().to_owned();
        let domains = fields.need("domains").list();
        let domains = domains.iter().map(|domain| domain.text().to_owned());
        level.read(fields);
        level.read_mirrors(fields);
        if let Some(item) = fields.take("retry_policy") {
            level.retry = policy::retry(&item);
        }
        let routes = fields.items("routes");
        let routes = routes.iter().map(|item| route(item, level.clone()));
        VirtualHostConfig {
            name,
            domains: domains.collect(),
            routes: routes.collect(),
        }
    })
}

fn route(item: &Item<'_>, mut level: Level<'_>) -> RouteRule {
    item.message("Route", |fields| {
        let name = fields.string("name").to_owned();
        let matching = fields.need("match").message("RouteMatch", route_match);
        level.read(fields);
        let (action, policy) = action(fields, &matching.path, level);
        RouteRule {
            name,
            action,
            policy,
            ..matching
        }
    })
}

/// What stands for an action that was refused.
fn no_action() -> (RouteAction, RoutePolicy) {
    (RouteAction::Cluster(String::new()), RoutePolicy::default())
}

fn action(
    fields: &mut Object<'_>,
    path: &PathMatch,
    level: Level<'_>,
) -> (RouteAction, RoutePolicy) {
    for action in ["filter_action", "non_forwarding_action"] {
        if let Some(action) = fields.take(action) {
            action.refuse(
                "not supported by this datapath, which knows route, redirect and direct_response",
            );
            return no_action();
        }
    }
    let (route, redirection) = (fields.take("route"), fields.take("redirect"));
    let direct = fields.take("direct_response");
    let (action, item) = match (route, redirection, direct) {
        (Some(item), None, None) => {
            return item.message("RouteAction", |fields| route_action(fields, path, level));
        }
        (None, Some(item), None) => {
            let action = item.message("RedirectAction", redirect);
            (RouteAction::Redirect(action), item)
        }
        (None, None, Some(item)) => {
            let action = item.message("DirectResponseAction", |fields| {
                direct_response(fields, level.body_max)
            });
            (RouteAction::Direct(action), item)
        }
        (None, None, None) => {
            fields.need("route");
            return no_action();
        }
        (_, Some(second), _) | (_, _, Some(second)) => {
            second.refuse_place("stands beside another action: use one");
            return no_action();
        }
    };
    // Envoy would change the answer's headers, and fail some answers on purpose.
    if !level.headers.is_empty() || level.fault.is_some() || level.cors.is_some() {
        item.refuse_place(
            "with changes of headers, faults or CORS at this level or above: not supported by this datapath",
        );
    }
    (action, RoutePolicy::default())
}

fn route_action(
    fields: &mut Object<'_>,
    path: &PathMatch,
    mut level: Level<'_>,
) -> (RouteAction, RoutePolicy) {
    level.read_mirrors(fields);
    if let Some(item) = fields.take("retry_policy") {
        level.retry = policy::retry(&item);
    }
    let matched = match path {
        PathMatch::Prefix(text) | PathMatch::Exact(text) | PathMatch::Separated(text) => text,
        PathMatch::Regex(_) => {
            if let Some(item) = fields.take("prefix_rewrite") {
                item.refuse("not supported by this datapath beside safe_regex");
            }
            ""
        }
    };
    let mut cluster_headers: Vec<(String, HeaderMutations)> = Vec::new();
    let mut targets = Vec::new();
    if let Some(item) = fields.take("cluster") {
        targets.push((RouteAction::Cluster(item.text().to_owned()), item));
    }
    if let Some(item) = fields.take("weighted_clusters") {
        targets.push((weighted(&item, &mut cluster_headers), item));
    }
    if let Some(item) = fields.take("cluster_header") {
        let header = item.text().to_ascii_lowercase();
        targets.push((RouteAction::ClusterHeader(header), item));
    }
    if let [_, (_, second), ..] = targets.as_slice() {
        second.refuse("stands beside another target: use one");
    }
    let Some((action, _)) = targets.pop() else {
        fields.refuse("has neither cluster nor weighted_clusters nor cluster_header");
        return no_action();
    };
    cluster_headers.retain(|(_, headers)| !headers.is_empty());
    let (max_duration, idle_timeout) = (max_duration(fields), fields.timeout("idle_timeout"));
    let policy = RoutePolicy {
        timeout: fields.timeout("timeout"),
        idle_timeout,
        max_duration,
        auto_host_rewrite: fields.flag("auto_host_rewrite"),
        retry: level.retry,
        path_rewrite: policy::path_rewrite(fields, matched),
        host_rewrite: Some(fields.string("host_rewrite_literal").to_owned())
            .filter(|host| !host.is_empty()),
        cluster_headers,
        headers: level.headers,
        mirrors: level.mirrors,
        fault: level.fault,
        cors: level.cors,
        grpc_timeout_max: fields.take("max_grpc_timeout").map(|item| item.duration()),
        upgrades: policy::upgrades(fields, &level.context.upgrades),
    };
    (action, policy)
}

/// `max_stream_duration` of a route, if it is more than the default.
fn max_duration(fields: &mut Object<'_>) -> Option<Duration> {
    fields
        .take("max_stream_duration")?
        .message("MaxStreamDuration", |fields| {
            fields.timeout("max_stream_duration")
        })
}

/// Weighted clusters, and the header changes of each into `cluster_headers`.
fn weighted(item: &Item<'_>, cluster_headers: &mut Vec<(String, HeaderMutations)>) -> RouteAction {
    item.message("WeightedCluster", |fields| {
        let header = weighted_by(fields);
        let choices = weighted_clusters(fields, |fields, name| {
            let headers = policy::header_mutations(fields);
            let known = cluster_headers.iter().find(|(other, _)| other == name);
            match known {
                Some((_, other)) if *other != headers => fields
                    .refuse("this datapath changes headers by cluster: use another cluster's name"),
                Some(_) => {}
                None => cluster_headers.push((name.to_owned(), headers)),
            }
        });
        match header {
            Some(header) => RouteAction::WeightedBy { header, choices },
            None => RouteAction::Weighted(choices),
        }
    })
}
