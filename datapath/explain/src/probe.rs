//! Questions to the datapath's own code about one thing at a time.
//!
//! A condition is put alone into a listener of its own, many of them into one image, and the image is asked: what fails is why
//! a route did not take the request. In the same way each domain becomes a virtual host of its own to learn which one matched.

use std::net::{Ipv4Addr, SocketAddr};

use kmesh_config::model::{
    Config, ListenerConfig, ListenerKind, PathMatch, RouteAction, RouteConfiguration, RouteRule,
    VirtualHostConfig,
};
use kmesh_config::policy::HttpOptions;
use kmesh_config::{Classes, ConfigError, Identities, compile};

use crate::condition;
use crate::trial::{Numbers, Trial, Verdict};

/// Conditions in one image: below the limits on listeners and virtual hosts by a margin.
const BATCH: usize = 2048;

/// A condition that does not hold.
pub(crate) struct Doubt(String);

impl Doubt {
    pub(crate) fn into_words(self) -> String {
        self.0
    }
}

/// What is asked about, again and again.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'c> {
    /// The configuration.
    pub(crate) config: &'c Config,
    /// What its listener makes of hosts and paths.
    pub(crate) options: &'c HttpOptions,
    /// The request's head.
    pub(crate) head: &'c [u8],
    /// Its random number.
    pub(crate) drawn: u32,
}

/// For each route, the conditions that the request does not meet.
pub(crate) fn doubts(
    asked: Asked<'_>,
    routes: &[RouteRule],
) -> Result<Vec<Vec<Doubt>>, ConfigError> {
    let conditions: Vec<(usize, String, RouteRule)> = routes
        .iter()
        .enumerate()
        .flat_map(|(position, rule)| {
            condition::all(rule).map(move |(words, alone)| (position, words, alone))
        })
        .collect();
    let mut doubts: Vec<Vec<Doubt>> = routes.iter().map(|_| Vec::new()).collect();
    for batch in conditions.chunks(BATCH) {
        let listeners = batch.iter().enumerate().map(|(number, (_, _, rule))| {
            let host = VirtualHostConfig {
                name: "probe".to_owned(),
                domains: vec!["*".to_owned()],
                routes: vec![rule.clone()],
            };
            listener(number, vec![host], asked.options)
        });
        let answers = ask(asked, listeners.collect())?;
        for ((position, words, _), answer) in batch.iter().zip(answers) {
            if answer == Verdict::NoRoute {
                doubts[*position].push(Doubt(words.clone()));
            }
        }
    }
    Ok(doubts)
}

/// The virtual host that serves the request's host, and the domain by which.
pub(crate) fn host<'c>(
    asked: Asked<'_>,
    hosts: &'c [VirtualHostConfig],
) -> Result<Option<(&'c VirtualHostConfig, String)>, ConfigError> {
    let domains = hosts
        .iter()
        .flat_map(|host| host.domains.iter().map(move |domain| (host, domain)));
    let domains: Vec<_> = domains.collect();
    // One route each, so that routes are numbered as the domains are.
    let target = asked
        .config
        .clusters
        .first()
        .map(|cluster| cluster.name.clone());
    let rule = RouteRule::to(
        PathMatch::Prefix(String::new()),
        RouteAction::Cluster(target.unwrap_or_default()),
    );
    let split = domains
        .iter()
        .enumerate()
        .map(|(number, (_, domain))| VirtualHostConfig {
            name: number.to_string(),
            domains: vec![(*domain).clone()],
            routes: vec![rule.clone()],
        });
    let verdict = ask(asked, vec![listener(0, split.collect(), asked.options)])?;
    Ok(match verdict.first() {
        Some(Verdict::Chosen(choice)) => domains
            .get(choice.route as usize)
            .map(|(host, domain)| (*host, (*domain).clone())),
        Some(Verdict::Route(route)) => domains
            .get(*route as usize)
            .map(|(host, domain)| (*host, (*domain).clone())),
        _ => None,
    })
}

fn listener(
    number: usize,
    virtual_hosts: Vec<VirtualHostConfig>,
    options: &HttpOptions,
) -> ListenerConfig {
    let number = number as u32;
    let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + number);
    ListenerConfig {
        name: number.to_string(),
        address: SocketAddr::from((ip, 80)),
        kind: ListenerKind::Http(RouteConfiguration {
            name: String::new(),
            virtual_hosts,
            options: options.clone(),
        }),
    }
}

/// What is decided on each of these listeners.
fn ask(asked: Asked<'_>, listeners: Vec<ListenerConfig>) -> Result<Vec<Verdict>, ConfigError> {
    let mut clusters = asked.config.clusters.clone();
    for cluster in &mut clusters {
        // Without endpoints no listener is opaque, and every one is decided on.
        cluster.endpoints.clear();
    }
    let config = Config {
        origin: asked.config.origin.clone(),
        listeners,
        clusters,
    };
    let compiled = compile(&config, &mut Identities::default(), Classes::default())?;
    let targets = (0..config.listeners.len()).map(|i| compiled.image.listeners[i].target);
    Ok(targets
        .map(|target| {
            let mut numbers = Numbers::new(&[asked.drawn]);
            Trial::run(&compiled.image, target, asked.head, &mut numbers).verdict
        })
        .collect())
}
