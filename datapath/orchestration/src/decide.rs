//! The decision: listener -> virtual host -> route -> cluster -> endpoint.

use kmesh_api::cluster::NO_CLUSTER;
use kmesh_api::head::Head;
use kmesh_api::limits::{
    CANDIDATE_LIST_MAX, CANDIDATES_MAX, CLUSTERS_MAX, ROUTE_CONFIGS_MAX, ROUTES_MAX,
    VIRTUAL_HOSTS_MAX,
};
use kmesh_api::route::{
    ACTION_CLUSTER, ACTION_CLUSTER_HEADER, ACTION_DIRECT, ACTION_REDIRECT, CANDIDATE_LAST, Route,
};
use kmesh_api::{Image, Reason};

use crate::balance::{self, Dice};
use crate::memory::{read, write};
use crate::repeat::{Body, repeat};
use crate::{host, path, predicate};

/// A decided request: indices into the image it was decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Choice {
    /// The route.
    pub route: u32,
    /// The cluster.
    pub cluster: u32,
    /// The endpoint.
    pub endpoint: u32,
}

/// A request that goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// Why.
    pub reason: Reason,
    /// The route that says so; [`NO_ROUTE`] if none took the request.
    pub route: u32,
}

/// [`Undecided::route`] of a request that no route took.
pub const NO_ROUTE: u32 = u32::MAX;

/// Tries the candidate routes in configuration order: the lowest number of two ordered lists.
struct Candidates<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
    drawn: u32,
    /// The route that takes the request, or [`NO_ROUTE`].
    route: &'a mut u32,
}

/// The entry at the head of what is left of a list; greater than all routes if nothing is.
#[inline(always)]
fn entry(image: &Image, list: u32) -> u32 {
    if list == 0 {
        return u32::MAX;
    }
    image.candidates[list.wrapping_sub(1) as usize & (CANDIDATES_MAX - 1)]
}

/// What is left of a list after its first entry.
#[inline(always)]
fn rest(list: u32, entry: u32) -> u32 {
    if entry & CANDIDATE_LAST != 0 {
        0
    } else {
        list.wrapping_add(1)
    }
}

impl<const N: usize> Body for Candidates<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let (left, others) = (
            read(&self.head.walk.literal),
            read(&self.head.walk.expressions),
        );
        let (literal, expression) = (entry(self.image, left), entry(self.image, others));
        let number = if literal & !CANDIDATE_LAST < expression & !CANDIDATE_LAST {
            write(&mut self.head.walk.literal, rest(left, literal));
            literal & !CANDIDATE_LAST
        } else {
            write(&mut self.head.walk.expressions, rest(others, expression));
            expression & !CANDIDATE_LAST
        };
        let route = &self.image.routes[number as usize & (ROUTES_MAX - 1)];
        if predicate::all_hold(self.image, route, self.head, self.drawn) {
            *self.route = number;
            return false;
        }
        read(&self.head.walk.literal) | read(&self.head.walk.expressions) != 0
    }
}

/// The first route of `route_config` that the head matches; `drawn` is the request's random number.
///
/// # Errors
/// [`Reason::NoRoute`] if no virtual host or no route matches.
#[inline(always)]
pub fn route<const N: usize>(
    image: &Image,
    route_config: u32,
    head: &mut Head<N>,
    drawn: u32,
) -> Result<u32, Reason> {
    let config = &image.route_configs[route_config as usize & (ROUTE_CONFIGS_MAX - 1)];
    let Some(host) = host::find(image, config, head) else {
        return Err(Reason::NoRoute);
    };
    let virtual_host = &image.virtual_hosts[host as usize & (VIRTUAL_HOSTS_MAX - 1)];
    path::candidates(image, virtual_host, head);
    let mut route = NO_ROUTE;
    if read(&head.walk.literal) | read(&head.walk.expressions) != 0 {
        // Each iteration takes one entry, and the compiler refuses lists longer than the bound.
        repeat(
            2 * CANDIDATE_LIST_MAX,
            &mut Candidates {
                image,
                head,
                drawn,
                route: &mut route,
            },
        );
    }
    if route == NO_ROUTE {
        Err(Reason::NoRoute)
    } else {
        Ok(route)
    }
}

/// The cluster that `route` sends this request to; `drawn` is the request's random number.
/// It may be [`NO_CLUSTER`].
///
/// # Errors
/// [`Reason::Redirect`] and [`Reason::DirectResponse`] if it is to be answered instead, [`Reason::NoCluster`] if a header
/// should name the cluster and does not, [`Reason::NoEndpoint`] if the weights are all 0, which the compiler refuses.
#[inline(always)]
pub fn cluster<const N: usize>(
    image: &Image,
    route: &Route,
    head: &mut Head<N>,
    drawn: u32,
) -> Result<u32, Reason> {
    match route.action {
        ACTION_CLUSTER => return Ok(route.target),
        ACTION_CLUSTER_HEADER => {
            let cluster = predicate::value(head, route.target).wrapping_sub(1);
            return if cluster < route.total {
                Ok(cluster)
            } else {
                Err(Reason::NoCluster)
            };
        }
        ACTION_REDIRECT => return Err(Reason::Redirect),
        ACTION_DIRECT => return Err(Reason::DirectResponse),
        _ => {}
    }
    let mut number = u64::from(drawn);
    if route.number_from != 0
        && let Some(told) = predicate::number(head, route.number_from)
    {
        number = told;
    }
    let Some(drawn) = number.checked_rem(u64::from(route.total)) else {
        return Err(Reason::NoEndpoint);
    };
    balance::weighted(image, route.target, route.count, drawn as u32).ok_or(Reason::NoCluster)
}

/// Decides where the request whose head was scanned goes, if it is one that the kernel may carry.
///
/// # Errors
/// As [`choose`], [`Reason::Path`] if the path may have to be changed first, or why user space serves the route
/// ([`Route::passed`]).
#[inline(always)]
pub fn decide<const N: usize>(
    image: &Image,
    route_config: u32,
    head: &mut Head<N>,
    dice: &mut impl Dice,
) -> Result<Choice, Undecided> {
    let drawn = dice.random();
    let config = &image.route_configs[route_config as usize & (ROUTE_CONFIGS_MAX - 1)];
    if path::is_odd(config, head) {
        return Err(no_route(Reason::Path));
    }
    let number = match route(image, route_config, head, drawn) {
        Ok(number) => number,
        Err(reason) => return Err(no_route(reason)),
    };
    let route = &image.routes[number as usize & (ROUTES_MAX - 1)];
    if route.passed != 0 {
        return Err(Undecided {
            reason: passed(route),
            route: number,
        });
    }
    draw(image, number, head, drawn, dice)
}

/// Decides where the request goes, whoever carries it.
///
/// One random number decides about all shares and weights of a request, as in Envoy (`RouteConfiguration::route`).
///
/// # Errors
/// Why it goes nowhere: no route (404), no endpoint or cluster (503), or an answer that user space gives.
#[inline(always)]
pub fn choose<const N: usize>(
    image: &Image,
    route_config: u32,
    head: &mut Head<N>,
    dice: &mut impl Dice,
) -> Result<Choice, Undecided> {
    let drawn = dice.random();
    match route(image, route_config, head, drawn) {
        Ok(number) => draw(image, number, head, drawn, dice),
        Err(reason) => Err(no_route(reason)),
    }
}

#[inline(always)]
fn no_route(reason: Reason) -> Undecided {
    let route = NO_ROUTE;
    Undecided { reason, route }
}

/// The reason that [`Route::passed`] gives.
#[inline(always)]
fn passed(route: &Route) -> Reason {
    match Reason::from_number(route.passed) {
        Some(reason) => reason,
        None => Reason::NoRoute,
    }
}

/// Draws the cluster and its endpoint.
#[inline(always)]
fn draw<const N: usize>(
    image: &Image,
    number: u32,
    head: &mut Head<N>,
    drawn: u32,
    dice: &mut impl Dice,
) -> Result<Choice, Undecided> {
    let undecided = |reason| Undecided {
        reason,
        route: number,
    };
    let route = &image.routes[number as usize & (ROUTES_MAX - 1)];
    let cluster = match cluster(image, route, head, drawn) {
        Ok(cluster) => cluster,
        Err(reason) => return Err(undecided(reason)),
    };
    if cluster == NO_CLUSTER {
        return Err(undecided(Reason::NoCluster));
    }
    let chosen = &image.clusters[cluster as usize & (CLUSTERS_MAX - 1)];
    match balance::endpoint(chosen, dice) {
        Ok(endpoint) => Ok(Choice {
            route: number,
            cluster,
            endpoint,
        }),
        Err(reason) => Err(undecided(reason)),
    }
}
