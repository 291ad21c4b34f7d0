//! Why a request goes where it goes: which virtual host, which route, why not each earlier one, which cluster and endpoint.
//!
//! No rule of matching is written down here. The decision is the datapath's own, made on the tables compiled from the whole
//! configuration; the reasons are the datapath's own decisions too, made on tables that hold one condition each (see
//! [`probe`](mod@probe)). So an explanation cannot drift from what it explains.

mod condition;
mod explanation;
mod probe;
mod request;
mod trial;

use std::net::SocketAddr;

use kmesh_api::Reason;
use kmesh_api::listener::CLASS_OPAQUE;
use kmesh_config::model::{Config, ListenerKind, RouteAction, RouteRule, VirtualHostConfig};
use kmesh_config::{Classes, Compiled, ConfigError, Identities, LocalAnswer, compile};

pub use explanation::{
    ClusterStep, Explanation, HostStep, Outcome, PassedRoute, RouteStep, Server, Share,
};
pub use request::{RequestError, head};

use probe::{Asked, Doubt, doubts};
use trial::{Numbers, Trial, Verdict};

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The configuration cannot be compiled.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No such listener.
    #[error("the configuration has no listener {0}")]
    Listener(usize),
    /// The named listener is not there, or none is named and there is not exactly one HTTP listener.
    #[error("which listener? {wanted:?} is not one of: {}", names.join(", "))]
    Which {
        /// The name asked for; empty if none was.
        wanted: String,
        /// The listeners there are.
        names: Vec<String>,
    },
}

/// The position of the listener with that name; without a name, of the only HTTP listener.
///
/// # Errors
/// [`ExplainError::Which`].
pub fn listener(config: &Config, name: Option<&str>) -> Result<usize, ExplainError> {
    let mut fitting = config.listeners.iter().enumerate().filter(|(_, listener)| {
        name.map_or(listener.routes().is_some(), |name| listener.name == name)
    });
    match (fitting.next(), fitting.next()) {
        (Some((position, _)), None) => Ok(position),
        _ => Err(ExplainError::Which {
            wanted: name.unwrap_or_default().to_owned(),
            names: config.listeners.iter().map(|l| l.name.clone()).collect(),
        }),
    }
}

/// Explains what happens to a request on a listener.
///
/// `listener` is a position in the configuration, `head` the request as it travels. `dice` are the numbers that chance would
/// draw, in order: for shares of requests and the weighted choice, then for the endpoint. Without them the explanation names the
/// shares and the endpoints, and chooses none.
///
/// # Errors
/// [`ExplainError`].
pub fn explain(
    config: &Config,
    listener: usize,
    head: &[u8],
    dice: Option<&[u32]>,
) -> Result<Explanation, ExplainError> {
    let governing = config
        .listeners
        .get(listener)
        .ok_or(ExplainError::Listener(listener))?;
    let compiled = compile(config, &mut Identities::default(), Classes::default())?;
    let mut explanation = Explanation::new(governing, head);
    let record = &compiled.image.listeners[listener];
    if record.class == CLASS_OPAQUE {
        explanation.outcome = Outcome::Connection;
        explanation.cluster = Some(connection(config, &governing.kind));
        return Ok(explanation);
    }
    let drawn = dice
        .and_then(|dice| dice.first().copied())
        .unwrap_or_default();
    let options = governing.routes().map(|routes| routes.options.clone());
    let asked = Asked {
        config,
        options: &options.unwrap_or_default(),
        head,
        drawn,
    };
    let mut numbers = Numbers::new(dice.unwrap_or_default());
    let trial = Trial::run(&compiled.image, record.target, head, &mut numbers);
    explanation.server = trial.server;
    match trial.verdict {
        Verdict::Partial => explanation.outcome = Outcome::Incomplete,
        Verdict::Refused(reason) => {
            explanation.outcome = Outcome::Undecided {
                reason: reason_name(reason).to_owned(),
            };
        }
        Verdict::NoRoute => {
            missed(&mut explanation, asked, governing.virtual_hosts())?;
        }
        Verdict::Answered(route, _) => {
            let place = Place::of(&compiled, governing.virtual_hosts(), route);
            found(&mut explanation, asked, &place)?;
            explanation.outcome = match &compiled.names.routes[route as usize].answer {
                Some(LocalAnswer::Redirect(redirect, _)) => Outcome::Answered {
                    status: redirect.status,
                },
                Some(LocalAnswer::Direct(direct)) => Outcome::Answered {
                    status: direct.status,
                },
                None => Outcome::NoCluster,
            };
        }
        Verdict::Route(route) => {
            let place = Place::of(&compiled, governing.virtual_hosts(), route);
            found(&mut explanation, asked, &place)?;
            explanation.outcome = Outcome::NoEndpoint;
            let rule = &place.host.routes[place.route];
            explanation.cluster = Some(clusters(config, &rule.action, None));
        }
        Verdict::Chosen(choice) => {
            let place = Place::of(&compiled, governing.virtual_hosts(), choice.route);
            found(&mut explanation, asked, &place)?;
            explanation.outcome = Outcome::Routed;
            let rule = &place.host.routes[place.route];
            let name = config.clusters[choice.cluster as usize].name.as_str();
            let endpoint = compiled.names.endpoints[choice.endpoint as usize].address;
            let chosen = dice.map(|_| (name, endpoint));
            explanation.cluster = Some(clusters(config, &rule.action, chosen));
        }
    }
    Ok(explanation)
}

/// Where a route stands in its listener.
struct Place<'c> {
    host: &'c VirtualHostConfig,
    route: usize,
}

impl<'c> Place<'c> {
    /// Where the route with that index in the tables stands.
    fn of(compiled: &Compiled, hosts: &'c [VirtualHostConfig], route: u32) -> Self {
        let name = &compiled.names.routes[route as usize];
        let host = hosts.iter().find(|host| host.name == name.virtual_host);
        Self {
            host: host.unwrap_or(&hosts[0]),
            route: name.position as usize,
        }
    }
}

/// No route: because of the host, or because of every route.
fn missed(
    explanation: &mut Explanation,
    asked: Asked<'_>,
    hosts: &[VirtualHostConfig],
) -> Result<(), ExplainError> {
    explanation.outcome = Outcome::NoRoute;
    let Some((host, domain)) = probe::host(asked, hosts)? else {
        return Ok(());
    };
    explanation.virtual_host = Some(HostStep {
        name: host.name.clone(),
        domain,
    });
    explanation.passed = passed(asked, &host.routes)?;
    Ok(())
}

/// A route.
fn found(
    explanation: &mut Explanation,
    asked: Asked<'_>,
    place: &Place<'_>,
) -> Result<(), ExplainError> {
    let hosts = std::slice::from_ref(place.host);
    explanation.virtual_host = probe::host(asked, hosts)?.map(|(host, domain)| HostStep {
        name: host.name.clone(),
        domain,
    });
    explanation.passed = passed(asked, &place.host.routes[..place.route])?;
    let rule = &place.host.routes[place.route];
    explanation.route = Some(RouteStep {
        position: place.route,
        name: rule.name.clone(),
        conditions: condition::all(rule).map(|(words, _)| words).collect(),
    });
    Ok(())
}

/// Why these routes do not take the request.
fn passed(asked: Asked<'_>, routes: &[RouteRule]) -> Result<Vec<PassedRoute>, ExplainError> {
    let doubts = doubts(asked, routes)?;
    let routes = routes.iter().zip(doubts).enumerate();
    Ok(routes
        .map(|(position, (rule, doubts))| PassedRoute {
            position,
            name: rule.name.clone(),
            because: doubts.into_iter().map(Doubt::into_words).collect(),
        })
        .collect())
}

fn clusters(
    config: &Config,
    action: &RouteAction,
    chosen: Option<(&str, SocketAddr)>,
) -> ClusterStep {
    let shares = match action {
        RouteAction::Cluster(name) => vec![share(config, name, 1)],
        RouteAction::Weighted(choices) | RouteAction::WeightedBy { choices, .. } => choices
            .iter()
            .map(|choice| share(config, &choice.name, choice.weight))
            .collect(),
        RouteAction::ClusterHeader(_) => chosen
            .map(|(name, _)| share(config, name, 1))
            .into_iter()
            .collect(),
        RouteAction::Redirect(_) | RouteAction::Direct(_) => Vec::new(),
    };
    ClusterStep {
        shares,
        chosen: chosen.map(|(name, _)| name.to_owned()),
        endpoint: chosen.map(|(_, endpoint)| endpoint),
    }
}

/// Where connections to an opaque listener go.
fn connection(config: &Config, kind: &ListenerKind) -> ClusterStep {
    let shares = match kind {
        ListenerKind::Tcp(choices) => choices
            .iter()
            .map(|choice| share(config, &choice.name, choice.weight))
            .collect(),
        ListenerKind::Http(routes) => {
            // Opaque because its first route takes everything to one endpoint.
            let first = routes.virtual_hosts.iter().flat_map(|host| &host.routes);
            let names = first
                .take(1)
                .flat_map(|route| route.action.clusters().map(str::to_owned));
            names.map(|name| share(config, &name, 1)).collect()
        }
        _ => Vec::new(),
    };
    ClusterStep {
        shares,
        chosen: None,
        endpoint: None,
    }
}

fn share(config: &Config, name: &str, weight: u32) -> Share {
    let cluster = config
        .cluster(name)
        .map(|position| &config.clusters[position]);
    Share {
        cluster: name.to_owned(),
        weight,
        policy: cluster
            .map_or("", |cluster| explanation::policy(cluster.lb))
            .to_owned(),
        endpoints: cluster.map_or_else(Vec::new, |cluster| cluster.endpoints.clone()),
    }
}

fn reason_name(number: u32) -> &'static str {
    Reason::ALL
        .get(number as usize)
        .map_or("unknown", |reason| reason.name())
}
