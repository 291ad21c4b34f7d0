//! What is to be done with a request: its route, its cluster, its endpoint, or a reply.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{HOST, UPGRADE};
use hyper::body::Body;
use hyper::{Method, Request, StatusCode, Version};
use kmesh_api::Reason;
use kmesh_api::limits::{CLUSTERS_MAX, ROUTES_MAX};
use kmesh_api::listener::CLASS_ANCHORED;
use kmesh_config::policy::{Fault, HttpOptions, RoutePolicy};
use kmesh_orchestration::{Dice, balance, choose, listener};

use super::anchor::Anchor;
use super::exchange::Target;
use super::head::scan_request;
use super::local::local;
use super::reply::Reply;
use crate::generation::Generation;
use crate::node::{Node, NodeDice};

/// A decided request.
pub(super) struct Plan {
    /// Where the first try goes.
    pub target: Target,
    /// The route's index.
    pub route: u32,
    /// Whether the kernel could have carried the request, had there been an upstream.
    pub kernel_bound: bool,
}

impl Plan {
    /// The route's policy.
    pub(super) fn policy(&self) -> &RoutePolicy {
        &self.target.generation.policies.routes[self.route as usize]
    }

    /// The next try's target: the same cluster, as it is configured now, another turn of its endpoints, and not one of those that were
    /// `tried`, by their ids, if `picks` turns find another.
    pub(super) fn next(&self, node: &Node, tried: &[u32], picks: u32) -> Target {
        let id = self.target.cluster_id();
        let now = node.generation().and_then(|generation| {
            let clusters = &generation.names.clusters;
            let cluster = clusters.iter().position(|cluster| cluster.id == id)? as u32;
            let row = &generation.image.clusters[cluster as usize & (CLUSTERS_MAX - 1)];
            let mut target = Target {
                endpoint: balance::endpoint(row, &mut NodeDice(node)).ok()?,
                generation: Arc::clone(&generation),
                cluster,
                original: self.target.original,
                http2: self.target.http2,
            };
            for _ in 1..picks {
                if !tried.contains(&target.endpoint_id()) {
                    break;
                }
                target.endpoint = balance::endpoint(row, &mut NodeDice(node)).ok()?;
            }
            Some(target)
        });
        now.unwrap_or_else(|| self.target.clone())
    }
}

/// A request that goes nowhere.
pub(super) struct Refusal {
    /// What the client gets.
    pub reply: Reply,
    /// The listener's faults come first.
    pub fault: Option<Fault>,
}

impl From<(StatusCode, &str)> for Refusal {
    fn from((status, text): (StatusCode, &str)) -> Self {
        Self {
            reply: Reply::new(status, text),
            fault: None,
        }
    }
}

/// What the listener at `original` asks for as a whole.
pub(super) fn options(generation: &Generation, original: SocketAddr) -> Option<&HttpOptions> {
    let image = &generation.image;
    let number = listener::find(image, &original.into())?;
    let target = listener::at(image, number).target;
    generation.policies.route_configs.get(target as usize)
}

/// Decides, by the tables and the code that the kernel decides by.
pub(super) fn plan<B: Body>(
    node: &Node,
    anchor: &Anchor,
    request: &Request<B>,
) -> Result<Plan, Refusal> {
    let Some(generation) = node.generation() else {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "no configuration").into());
    };
    decide(generation, anchor.original, request, &mut NodeDice(node))
}

/// Decides with a configuration what becomes of a request to the service at `original`.
pub(super) fn decide<B: Body>(
    generation: Arc<Generation>,
    original: SocketAddr,
    request: &Request<B>,
    dice: &mut impl Dice,
) -> Result<Plan, Refusal> {
    if request.version() < Version::HTTP_11 {
        return Err((StatusCode::UPGRADE_REQUIRED, "").into());
    }
    // RFC 9112 section 3.2, and Envoy: 400 without a Host.
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        return Err((StatusCode::BAD_REQUEST, "").into());
    }
    if request.method() == Method::CONNECT {
        return Err((StatusCode::NOT_FOUND, "").into());
    }
    let image = &*generation.image;
    let mut scanned = scan_request(image, request).map_err(|reason| match reason {
        Reason::HeadTooLong | Reason::TooManyHeaders => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "")
        }
        _ => (StatusCode::BAD_REQUEST, ""),
    })?;
    let governed = listener::find(image, &original.into())
        .map(|number| listener::at(image, number))
        .filter(|governed| governed.class == CLASS_ANCHORED)
        .ok_or((StatusCode::NOT_FOUND, ""))?;
    let upgrade = request.headers().get(UPGRADE);
    let chosen = choose(image, governed.target, &mut scanned.head, dice);
    let choice = match chosen {
        Ok(choice) => choice,
        Err(_) if upgrade.is_some() => return Err((StatusCode::FORBIDDEN, "").into()),
        Err(undecided) => {
            let route = generation.names.routes.get(undecided.route as usize);
            let answer = route.and_then(|route| route.answer.as_ref());
            let reply = match (undecided.reason, answer) {
                (Reason::NoEndpoint, _) => {
                    Reply::new(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream")
                }
                (Reason::NoCluster, _) => Reply::new(StatusCode::SERVICE_UNAVAILABLE, ""),
                (Reason::Redirect | Reason::DirectResponse, Some(answer)) => local(answer, request),
                _ => Reply::new(StatusCode::NOT_FOUND, ""),
            };
            let options = options(&generation, original);
            let fault = options.and_then(|options| options.fault.clone());
            return Err(Refusal { reply, fault });
        }
    };
    let policy = &generation.policies.routes[choice.route as usize];
    if let Some(upgrade) = upgrade {
        let kind = upgrade.to_str().unwrap_or_default().to_ascii_lowercase();
        if request.version() != Version::HTTP_11 || !policy.upgrades.contains(&kind) {
            return Err((StatusCode::FORBIDDEN, "").into());
        }
    }
    let passed = image.routes[choice.route as usize & (ROUTES_MAX - 1)].passed != 0;
    // What an HTTP/2 client sends the kernel never reads: a connection that it got would be of no use, and the next request would need
    // another one.
    let http1 = request.version() == Version::HTTP_11;
    Ok(Plan {
        kernel_bound: scanned.kernel_bound && !passed && http1,
        route: choice.route,
        target: Target {
            cluster: choice.cluster,
            endpoint: choice.endpoint,
            original,
            http2: request.version() == Version::HTTP_2,
            generation,
        },
    })
}
