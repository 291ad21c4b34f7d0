//! A configuration to an image: one pass over the model, every table filled in its order, every limit checked.

use std::collections::{BTreeMap, HashMap, HashSet};

use kmesh_api::cluster::{Cluster, Endpoint, LB_RANDOM, LB_ROUND_ROBIN, NO_CLUSTER, Weight};
use kmesh_api::limits::{
    CLUSTERS_MAX, ENDPOINTS_MAX, LISTENER_PROBES, LISTENER_SLOTS, LISTENERS_MAX, PREDICATES_MAX,
    ROUTE_CONFIGS_MAX, ROUTE_PREDICATES_MAX, ROUTE_WEIGHTS_MAX, ROUTES_MAX, VIRTUAL_HOSTS_MAX,
    WEIGHTS_MAX,
};
use kmesh_api::listener::{CLASS_ANCHORED, CLASS_OPAQUE, Listener};
use kmesh_api::route::{
    ACTION_CLUSTER, ACTION_CLUSTER_HEADER, ACTION_DIRECT, ACTION_REDIRECT, ACTION_WEIGHTED,
    Predicate, Route, RouteConfig, VirtualHost, name,
};
use kmesh_api::{Address, Image, Reason};

use crate::automaton::{Automata, Meaning};
use crate::candidates::{Candidates, merge};
use crate::check::check;
use crate::class::{Class, Classes, classify};
use crate::error::{ConfigError, Place};
use crate::expressions::Expressions;
use crate::header::Headers;
use crate::identities::Identities;
use crate::model::{
    ClusterConfig, Config, HeaderMatch, LbPolicy, ListenerConfig, ListenerKind, PathMatch,
    RouteAction, RouteConfiguration, RouteRule, Sniffed, ValueMatch, VirtualHostConfig,
    WeightedCluster,
};
use crate::names::{ClusterName, EndpointName, LocalAnswer, Names, RouteName};
use crate::policy::{Discovery, HttpOptions, RoutePolicy};
use crate::trie::Trie;

/// A configuration in the form that decisions are made on.
pub struct Compiled {
    /// The tables. `generation` is 0: whoever installs the image numbers it.
    pub image: Box<Image>,
    /// What the indices in the tables stand for.
    pub names: Names,
    /// What user space does besides routing.
    pub policies: Policies,
}

/// What user space does with requests besides routing them, by the indices of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// By route index.
    pub routes: Vec<RoutePolicy>,
    /// By route configuration index.
    pub route_configs: Vec<HttpOptions>,
    /// By cluster index.
    pub clusters: Vec<ClusterConfig>,
    /// By listener index: the chains of those whose connections are told apart.
    pub sniffed: BTreeMap<u32, Sniffed>,
}

/// Compiles a configuration. Listeners and clusters keep their indices.
///
/// # Errors
/// [`ConfigError::Field`] for what contradicts itself, [`ConfigError::Limit`] for what does not fit. `identities` may
/// have grown by then; that does no harm.
pub fn compile(
    config: &Config,
    identities: &mut Identities,
    classes: Classes,
) -> Result<Compiled, ConfigError> {
    if let Some(error) = check(config, None).into_iter().next() {
        return Err(error);
    }
    let mut compiler = Compiler {
        image: vacant(),
        names: Names::default(),
        policies: Policies {
            clusters: config.clusters.clone(),
            ..Policies::default()
        },
        document: Place::document(&config.origin),
        clusters: config
            .clusters
            .iter()
            .zip(0..)
            .map(|(c, i)| (c.name.as_str(), i))
            .collect(),
        automata: Automata::new(),
        candidates: Candidates::default(),
        headers: Headers::new(),
        route_configs: 0,
        virtual_hosts: 0,
        routes: 0,
        predicates: 0,
        weights: 0,
    };
    compiler.clusters(config, identities)?;
    compiler.cluster_headers(config)?;
    compiler.listeners(config, classes)?;
    compiler.finish()
}

/// An image of zeros. It is far too large for a stack, so it is made where it stays.
pub(crate) fn vacant() -> Box<Image> {
    // SAFETY: an image consists of integers, and all bytes zero is a value of each.
    unsafe { Box::<Image>::new_zeroed().assume_init() }
}

struct Compiler<'c> {
    image: Box<Image>,
    names: Names,
    policies: Policies,
    document: Place,
    clusters: HashMap<&'c str, u32>,
    automata: Automata,
    candidates: Candidates,
    headers: Headers,
    // Entries used so far.
    route_configs: usize,
    virtual_hosts: usize,
    routes: usize,
    predicates: usize,
    weights: usize,
}

/// The routes that a path pattern belongs to.
#[derive(Debug, Default)]
struct Owners {
    exact: Vec<u32>,
    prefix: Vec<u32>,
}

impl Compiler<'_> {
    fn clusters(
        &mut self,
        config: &Config,
        identities: &mut Identities,
    ) -> Result<(), ConfigError> {
        let count = config.clusters.len();
        self.document
            .within(count, "clusters", "CLUSTERS_MAX", CLUSTERS_MAX)?;
        let mut at = 0;
        for (index, cluster) in config.clusters.iter().enumerate() {
            let place = self.document.resource("cluster", &cluster.name);
            let id = identities
                .cluster_id(&cluster.name)
                .ok_or_else(|| ConfigError::Limit {
                    place: place.clone(),
                    needed: "a number while those of earlier configurations are in use".to_owned(),
                    limit: "CLUSTERS_MAX",
                    most: CLUSTERS_MAX,
                })?;
            let lb = match cluster.lb {
                LbPolicy::RoundRobin => LB_ROUND_ROBIN,
                LbPolicy::Random => LB_RANDOM,
            };
            let count = cluster.endpoints.len();
            let what = "endpoints, all clusters together";
            place.within(at + count, what, "ENDPOINTS_MAX", ENDPOINTS_MAX)?;
            self.image.clusters[index] = Cluster {
                endpoints_at: at as u32,
                endpoints_count: count as u32,
                lb,
                id,
            };
            self.names.clusters.push(ClusterName {
                name: cluster.name.clone(),
                id,
            });
            for &address in &cluster.endpoints {
                let id = identities.endpoint_id(address);
                self.image.endpoints[at] = Endpoint {
                    address: Address::from(address),
                    id,
                };
                self.names.endpoints.push(EndpointName {
                    address,
                    cluster: index as u32,
                    id,
                });
                at += 1;
            }
        }
        Ok(())
    }

    /// Numbers the values of headers that name clusters.
    fn cluster_headers(&mut self, config: &Config) -> Result<(), ConfigError> {
        let hosts = config
            .listeners
            .iter()
            .flat_map(ListenerConfig::virtual_hosts);
        let mut done = HashSet::new();
        for route in hosts.flat_map(|host| &host.routes) {
            if let RouteAction::ClusterHeader(header) = &route.action
                && done.insert(header)
            {
                let names = config.clusters.iter().map(|cluster| cluster.name.as_str());
                self.headers.clusters(header, names, &self.document)?;
            }
        }
        Ok(())
    }

    fn listeners(&mut self, config: &Config, classes: Classes) -> Result<(), ConfigError> {
        let count = config.listeners.len();
        self.document
            .within(count, "listeners", "LISTENERS_MAX", LISTENERS_MAX)?;
        for (index, listener) in config.listeners.iter().enumerate() {
            let place = self.document.resource("listener", &listener.name);
            let address = Address::from(listener.address);
            let (class, target, count) = match classify(config, listener, classes, &place)? {
                Class::Opaque(choices) => {
                    let (target, count, _) = self.weights(&choices, &place)?;
                    (CLASS_OPAQUE, target, count)
                }
                Class::Anchored(routes) => {
                    let place = if routes.options.rds {
                        self.document.resource("route configuration", &routes.name)
                    } else {
                        place.field("filter_chains[0].filters[0].typed_config.route_config")
                    };
                    (CLASS_ANCHORED, self.route_config(routes, index, &place)?, 0)
                }
            };
            self.image.listeners[index] = Listener {
                address,
                class,
                target,
                count,
            };
            self.names.listeners.push(listener.name.clone());
            if let ListenerKind::Sniffed(sniffed) = &listener.kind {
                self.policies.sniffed.insert(index as u32, sniffed.clone());
            }
            match &listener.kind {
                // Nobody connects to it: it is about what comes to pods, or about what goes to no listener.
                ListenerKind::Inbound => continue,
                ListenerKind::Strangers(choices) => {
                    let goes_on = choices.iter().all(|choice| {
                        let cluster = self
                            .policies
                            .clusters
                            .get(self.cluster(&choice.name) as usize);
                        cluster
                            .is_some_and(|cluster| cluster.policy.discovery == Discovery::Original)
                    });
                    self.image.strangers_refused = u32::from(!goes_on);
                    continue;
                }
                _ => {}
            }
            // A listener that was refused closes its address unless another one has it.
            let taken = |other: &ListenerConfig| {
                other.kind != ListenerKind::Closed && other.address == listener.address
            };
            if listener.kind != ListenerKind::Closed || !config.listeners.iter().any(taken) {
                self.listener_slot(&address, index, &place)?;
            }
        }
        Ok(())
    }

    fn listener_slot(
        &mut self,
        address: &Address,
        index: usize,
        place: &Place,
    ) -> Result<(), ConfigError> {
        for probe in 0..LISTENER_PROBES {
            let slot = address.hash().wrapping_add(probe) as usize & (LISTENER_SLOTS - 1);
            if self.image.listener_slots[slot] == 0 {
                self.image.listener_slots[slot] = index as u32 + 1;
                return Ok(());
            }
        }
        Err(ConfigError::Limit {
            place: place.clone(),
            needed: "one more probe in the listener table: too many addresses hash alike"
                .to_owned(),
            limit: "LISTENER_PROBES",
            most: LISTENER_PROBES as usize,
        })
    }

    /// Fills the virtual hosts of a listener; returns the route configuration's index.
    fn route_config(
        &mut self,
        config: &RouteConfiguration,
        listener: usize,
        place: &Place,
    ) -> Result<u32, ConfigError> {
        let index = self.route_configs;
        self.route_configs += 1;
        self.policies.route_configs.push(config.options.clone());
        let what = "route configurations";
        place.within(
            self.route_configs,
            what,
            "ROUTE_CONFIGS_MAX",
            ROUTE_CONFIGS_MAX,
        )?;
        let mut forward: Trie<Meaning> = Trie::new();
        let mut backward: Trie<Meaning> = Trie::new();
        let mut any = 0;
        for (i, host) in config.virtual_hosts.iter().enumerate() {
            let place = place.field("virtual_hosts").item(i);
            let number = self.virtual_host(host, &config.options, listener, &place)? + 1;
            for domain in &host.domains {
                let domain = domain.to_ascii_lowercase();
                if domain == "*" {
                    any = number;
                } else if let Some(suffix) = domain.strip_prefix('*') {
                    backward.at(suffix.bytes().rev()).pass = number;
                } else if let Some(prefix) = domain.strip_suffix('*') {
                    forward.at(prefix.bytes()).pass = number;
                } else {
                    forward.at(domain.bytes()).end = number;
                }
            }
        }
        let hosts = self.host_automaton(&forward, place)?;
        let suffixes = self.host_automaton(&backward, place)?;
        self.image.route_configs[index] = RouteConfig {
            hosts,
            suffixes,
            any,
            options: config.options.bits(),
        };
        Ok(index as u32)
    }

    fn host_automaton(&mut self, trie: &Trie<Meaning>, place: &Place) -> Result<u32, ConfigError> {
        if trie.is_bare() {
            return Ok(0);
        }
        self.automata.add(trie, place, 0, |own, above| {
            let pass = if own.pass == 0 { *above } else { own.pass };
            let end = own.end;
            Ok((Meaning { end, pass }, pass))
        })
    }

    /// Fills a virtual host and its routes; returns its index.
    fn virtual_host(
        &mut self,
        host: &VirtualHostConfig,
        options: &HttpOptions,
        listener: usize,
        place: &Place,
    ) -> Result<u32, ConfigError> {
        let index = self.virtual_hosts;
        self.virtual_hosts += 1;
        let what = "virtual hosts, all listeners together";
        place.within(
            self.virtual_hosts,
            what,
            "VIRTUAL_HOSTS_MAX",
            VIRTUAL_HOSTS_MAX,
        )?;
        let mut paths: Trie<Owners> = Trie::new();
        let mut expressions = Expressions::new();
        for (position, route) in host.routes.iter().enumerate() {
            let place = place.field("routes").item(position);
            let number = self.route(route, options, &place)?;
            let taken = expressions.take(route, number, &place)?;
            match &route.path {
                _ if taken => {}
                PathMatch::Regex(_) => {}
                PathMatch::Exact(path) => paths.at(path.bytes()).exact.push(number),
                PathMatch::Separated(prefix) => {
                    paths.at(prefix.bytes()).exact.push(number);
                    paths.at(prefix.bytes().chain([b'/'])).prefix.push(number);
                }
                PathMatch::Prefix(prefix) => paths.at(prefix.bytes()).prefix.push(number),
            }
            self.names.routes.push(RouteName {
                listener: listener as u32,
                virtual_host: host.name.clone(),
                name: route.name.clone(),
                position: position as u32,
                answer: answer(route),
            });
        }
        let (image, candidates) = (&self.image, &mut self.candidates);
        let always = |route: u32| image.routes[route as usize].predicates_count == 0;
        // Down the tree goes the list of the prefixes passed so far, with its number.
        let above = (Vec::new(), 0);
        let root = self
            .automata
            .add(&paths, place, above, |own, (above, number)| {
                let (passed, pass) = if own.prefix.is_empty() {
                    (above.clone(), *number)
                } else {
                    let passed = merge(above, &own.prefix, always);
                    let number = candidates.list(&passed, place)?;
                    (passed, number)
                };
                let end = if own.exact.is_empty() {
                    pass
                } else {
                    candidates.list(&merge(&passed, &own.exact, always), place)?
                };
                Ok((Meaning { end, pass }, (passed, pass)))
            })?;
        let expressions = expressions.store(&mut self.automata, candidates, place, always)?;
        self.image.virtual_hosts[index] = VirtualHost {
            paths: root,
            expressions,
        };
        Ok(index as u32)
    }

    /// Fills a route; returns its index.
    fn route(
        &mut self,
        route: &RouteRule,
        options: &HttpOptions,
        place: &Place,
    ) -> Result<u32, ConfigError> {
        let index = self.routes;
        self.routes += 1;
        place.within(
            self.routes,
            "routes, all listeners together",
            "ROUTES_MAX",
            ROUTES_MAX,
        )?;
        let predicates = self.predicates(route, place)?;
        let predicates_at = self.predicates as u32;
        for predicate in &predicates {
            self.image.predicates[self.predicates] = *predicate;
            self.predicates += 1;
        }
        let mut compiled = Route {
            predicates_at,
            predicates_count: predicates.len() as u32,
            ..Route::default()
        };
        match &route.action {
            RouteAction::Cluster(name) => {
                compiled.action = ACTION_CLUSTER;
                compiled.target = self.cluster(name);
            }
            RouteAction::Weighted(choices) | RouteAction::WeightedBy { choices, .. } => {
                compiled.action = ACTION_WEIGHTED;
                (compiled.target, compiled.count, compiled.total) = self.weights(choices, place)?;
            }
            RouteAction::ClusterHeader(header) => {
                compiled.action = ACTION_CLUSTER_HEADER;
                compiled.target = self.headers.name(header, place)?;
                compiled.total = self.clusters.len() as u32;
            }
            RouteAction::Redirect(_) => compiled.action = ACTION_REDIRECT,
            RouteAction::Direct(_) => compiled.action = ACTION_DIRECT,
        }
        if let RouteAction::WeightedBy { header, .. } = &route.action {
            compiled.number_from = self.headers.name(header, place)?;
        }
        let policies = &self.policies.clusters;
        let reached: Vec<&ClusterConfig> = match &route.action {
            RouteAction::ClusterHeader(_) => policies.iter().collect(),
            action => {
                let clusters = action.clusters();
                let clusters =
                    clusters.filter_map(|name| policies.get(self.cluster(name) as usize));
                clusters.collect()
            }
        };
        let any = |such: fn(&ClusterConfig) -> bool| reached.iter().any(|cluster| such(cluster));
        let passed = (route.policy.reason())
            .or_else(|| options.reason())
            .or_else(|| any(|cluster| cluster.policy.http2).then_some(Reason::Http2))
            .or_else(|| any(|cluster| cluster.policy.single_use).then_some(Reason::OwnConnection));
        compiled.passed = passed.map_or(0, |reason| reason as u32);
        self.policies.routes.push(route.policy.clone());
        self.image.routes[index] = compiled;
        Ok(index as u32)
    }

    /// The cluster's index; [`NO_CLUSTER`] if it is not configured.
    fn cluster(&self, name: &str) -> u32 {
        self.clusters.get(name).copied().unwrap_or(NO_CLUSTER)
    }

    /// A route's conditions besides the path.
    fn predicates(
        &mut self,
        route: &RouteRule,
        place: &Place,
    ) -> Result<Vec<Predicate>, ConfigError> {
        let mut predicates = Vec::new();
        let matching = place.field("match");
        if let Some(fraction) = route.fraction {
            predicates.push(Predicate {
                name: name::FRACTION,
                value: fraction.numerator,
                patterns: fraction.denominator,
                flags: 0,
            });
        }
        for (i, header) in route.headers.iter().enumerate() {
            let place = matching.field("headers").item(i);
            predicates.push(self.headers.predicate(header, &place)?);
        }
        for (i, query) in route.query.iter().enumerate() {
            let place = matching.field("query_parameters").item(i);
            predicates.push(self.headers.query(query, &place)?);
        }
        if route.grpc {
            let place = matching.field("grpc");
            predicates.push(self.headers.predicate(&grpc(), &place)?);
        }
        place.within(
            predicates.len(),
            "conditions on one route",
            "ROUTE_PREDICATES_MAX",
            ROUTE_PREDICATES_MAX as usize,
        )?;
        let what = "conditions, all routes together";
        let all = self.predicates + predicates.len();
        place.within(all, what, "PREDICATES_MAX", PREDICATES_MAX)?;
        Ok(predicates)
    }

    /// Fills weighted choices; returns the first's index, their number and the sum of the weights.
    fn weights(
        &mut self,
        choices: &[WeightedCluster],
        place: &Place,
    ) -> Result<(u32, u32, u32), ConfigError> {
        let most = ROUTE_WEIGHTS_MAX as usize;
        place.within(
            choices.len(),
            "weighted clusters",
            "ROUTE_WEIGHTS_MAX",
            most,
        )?;
        let at = self.weights;
        self.weights += choices.len();
        let what = "weighted clusters, all routes together";
        place.within(self.weights, what, "WEIGHTS_MAX", WEIGHTS_MAX)?;
        let mut up_to = 0;
        for (i, choice) in choices.iter().enumerate() {
            up_to += choice.weight;
            let cluster = self.cluster(&choice.name);
            self.image.weights[at + i] = Weight { cluster, up_to };
        }
        Ok((at as u32, choices.len() as u32, up_to))
    }

    fn finish(mut self) -> Result<Compiled, ConfigError> {
        self.headers
            .store(&mut self.image, &mut self.automata, &self.document)?;
        self.automata.pack(&mut self.image, &self.document)?;
        self.candidates.store(&mut self.image);
        Ok(Compiled {
            image: self.image,
            names: self.names,
            policies: self.policies,
        })
    }
}

/// What makes a request gRPC: Envoy, `Grpc::Common::hasGrpcContentType`.
fn grpc() -> HeaderMatch {
    HeaderMatch {
        value: ValueMatch::Regex("application/grpc(?:\\+.*)?".to_owned()),
        ..HeaderMatch::exact("content-type", "")
    }
}

/// What a route answers by itself.
fn answer(route: &RouteRule) -> Option<LocalAnswer> {
    match &route.action {
        RouteAction::Redirect(redirect) => {
            Some(LocalAnswer::Redirect(redirect.clone(), route.path.clone()))
        }
        RouteAction::Direct(response) => Some(LocalAnswer::Direct(response.clone())),
        _ => None,
    }
}
