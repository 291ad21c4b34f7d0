//! `envoy.config.route.v3.RouteConfiguration`.

use crate::envoy::{policy, weighted_clusters};
use crate::error::ConfigError;
use crate::model::{
    HeaderMatch, PathMatch, RouteAction, RouteConfiguration, RouteRule, ValueMatch,
    VirtualHostConfig,
};
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
        let (path, headers) = fields.need("match")?.object(route_match)?;
        for action in [
            "redirect",
            "direct_response",
            "filter_action",
            "non_forwarding_action",
        ] {
            if let Some(action) = fields.take(action) {
                return Err(action.refuse("not supported by this datapath, which knows route"));
            }
        }
        level.read(fields)?;
        let (action, policy) = fields
            .need("route")?
            .object(|fields| route_action(fields, &path, level))?;
        fields.ignore("metadata", "nothing reads it");
        fields.ignore("stat_prefix", "statistics only");
        Ok(RouteRule {
            name,
            path,
            headers,
            action,
            policy,
        })
    })
}

fn route_match(fields: &mut Object<'_>) -> Result<(PathMatch, Vec<HeaderMatch>), ConfigError> {
    fields.fixed("case_sensitive", true)?;
    let mut headers = Vec::new();
    for item in fields.items("headers")? {
        headers.push(item.object(header)?);
    }
    for specifier in ["safe_regex", "connect_matcher", "path_match_policy"] {
        if let Some(item) = fields.take(specifier) {
            let problem = "not supported by this datapath, which knows prefix and path";
            return Err(item.place.refuse(problem));
        }
    }
    if let Some(item) = fields.take("path_separated_prefix") {
        let prefix = item.text()?;
        if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#']) {
            return Err(item.refuse("must begin with / and not end with it, and have no ? or #"));
        }
        if let Some(other) = fields.take("prefix").or_else(|| fields.take("path")) {
            return Err(other.refuse("stands beside path_separated_prefix: use one"));
        }
        return Ok((PathMatch::Separated(prefix.to_owned()), headers));
    }
    let path = match (fields.take("prefix"), fields.take("path")) {
        (Some(prefix), None) => PathMatch::Prefix(prefix.string()?.to_owned()),
        (None, Some(path)) => PathMatch::Exact(path.string()?.to_owned()),
        (None, None) => return Err(fields.place.refuse("has neither prefix nor path")),
        (Some(prefix), Some(_)) => return Err(prefix.refuse("stands beside path: use one")),
    };
    Ok((path, headers))
}

fn header(fields: &mut Object<'_>) -> Result<HeaderMatch, ConfigError> {
    let name = fields.need("name")?.text()?.to_ascii_lowercase();
    fields.fixed("treat_missing_header_as_empty", false)?;
    let mut invert = fields
        .take("invert_match")
        .map_or(Ok(false), |item| item.boolean())?;
    let mut ignore_case = false;
    let mut matches = Vec::new();
    if let Some(pattern) = fields.take("string_match") {
        let value = pattern.object(|pattern| {
            if let Some(item) = pattern.take("ignore_case") {
                ignore_case = item.boolean()?;
            }
            string_match(pattern, ignore_case)
        })?;
        matches.push((pattern, value));
    }
    if let Some(exact) = fields.take("exact_match") {
        // Deprecated; an empty one means presence to Envoy.
        let value = Some(ValueMatch::Exact(exact.text()?.to_owned()));
        matches.push((exact, value));
    }
    if let Some(present) = fields.take("present_match") {
        invert ^= !present.boolean()?;
        matches.push((present, Some(ValueMatch::Present)));
    }
    if let [_, (second, _), ..] = matches.as_slice() {
        return Err(second.place.refuse("stands beside another match: use one"));
    }
    let value = match matches.pop() {
        Some((_, Some(value))) => value,
        // Another kind of match is refused by its own name when the object ends.
        None if !fields.is_read() => ValueMatch::Present,
        _ => {
            return Err(fields
                .place
                .refuse("has neither string_match nor present_match"));
        }
    };
    Ok(HeaderMatch {
        name,
        value,
        ignore_case,
        invert,
    })
}

/// The one pattern of a `StringMatcher`; `None` if there is none that this datapath knows.
fn string_match(
    fields: &mut Object<'_>,
    ignore_case: bool,
) -> Result<Option<ValueMatch>, ConfigError> {
    type Make = fn(String) -> ValueMatch;
    let mut value = None;
    let kinds: [(&str, Make); 3] = [
        ("prefix", ValueMatch::Prefix),
        ("suffix", ValueMatch::Suffix),
        ("contains", ValueMatch::Contains),
    ];
    if let Some(exact) = fields.take("exact") {
        value = Some(ValueMatch::Exact(exact.string()?.to_owned()));
    }
    for (kind, make) in kinds {
        if let Some(item) = fields.take(kind) {
            if value.is_some() {
                return Err(item.refuse("stands beside another match: use one"));
            }
            value = Some(make(item.text()?.to_owned()));
        }
    }
    if let Some(item) = fields.take("safe_regex") {
        if value.is_some() || ignore_case {
            return Err(item
                .place
                .refuse("stands beside another match or ignore_case"));
        }
        value = Some(ValueMatch::Regex(regex(&item)?));
    }
    Ok(value)
}

/// A `RegexMatcher`.
fn regex(item: &Item<'_>) -> Result<String, ConfigError> {
    item.object(|fields| {
        if let Some(engine) = fields.take("google_re2") {
            engine.object(|_| Ok(()))?;
        }
        Ok(fields.need("regex")?.text()?.to_owned())
    })
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
    };
    let path_rewrite = policy::path_rewrite(fields, matched)?;
    let host_rewrite = match fields.take("host_rewrite_literal") {
        None => None,
        Some(item) => Some(item.string()?.to_owned()).filter(|host| !host.is_empty()),
    };
    let upgrades = policy::upgrades(fields, &level.context.upgrades)?;
    if let Some(header) = fields.take("cluster_header") {
        return Err(header
            .refuse("not supported by this datapath, which knows cluster and weighted_clusters"));
    }
    let mut cluster_headers: Vec<(String, HeaderMutations)> = Vec::new();
    let action = match (fields.take("cluster"), fields.take("weighted_clusters")) {
        (Some(cluster), None) => RouteAction::Cluster(cluster.text()?.to_owned()),
        (None, Some(weighted)) => {
            let choices = weighted_clusters(&weighted, |fields, name| {
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
            RouteAction::Weighted(choices)
        }
        (None, None) => {
            return Err(fields
                .place
                .refuse("has neither cluster nor weighted_clusters"));
        }
        (Some(cluster), Some(_)) => {
            return Err(cluster.refuse("stands beside weighted_clusters: use one"));
        }
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
