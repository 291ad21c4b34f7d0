//! The decision: listener -> virtual host -> route -> cluster -> endpoint.

use kmesh_api::head::Head;
use kmesh_api::limits::{
    CANDIDATE_LIST_MAX, CANDIDATES_MAX, CLUSTERS_MAX, FOUND_MAX, PREDICATES_MAX, ROUTE_CONFIGS_MAX,
    ROUTE_PREDICATES_MAX, ROUTES_MAX, VIRTUAL_HOSTS_MAX,
};
use kmesh_api::route::{
    ACTION_CLUSTER, CANDIDATE_LAST, PREDICATE_INVERT, PREDICATE_PRESENT, Predicate, Route,
};
use kmesh_api::{Image, Reason};

use crate::automaton::node;
use crate::balance::{self, Dice};
use crate::repeat::{Body, repeat};
use crate::{host, path};

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

/// A header is there.
const SEEN: u32 = 1;
/// And an occurrence of it matches.
const HIT: u32 = 2;

/// Looks for an occurrence of a header that matches.
struct Occurrences<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    predicate: &'a Predicate,
    holds: &'a mut u32,
}

impl<const N: usize> Body for Occurrences<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        if index >= self.head.found_count {
            return false;
        }
        let found = &self.head.found[index as usize & (FOUND_MAX - 1)];
        if found.name != self.predicate.name {
            return true;
        }
        *self.holds = SEEN;
        let patterns = self.predicate.patterns;
        let hit = if patterns != 0 {
            node(self.image, found.node).pass & patterns != 0
        } else {
            found.value == self.predicate.value
        };
        if hit {
            *self.holds = SEEN | HIT;
            return false;
        }
        true
    }
}

/// Checks a route's predicates: all must hold.
struct Conditions<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    at: u32,
    holds: &'a mut u32,
}

impl<const N: usize> Body for Conditions<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let at = self.at.wrapping_add(index) as usize & (PREDICATES_MAX - 1);
        let predicate = &self.image.predicates[at];
        *self.holds = 0;
        repeat(
            FOUND_MAX as u32,
            &mut Occurrences {
                image: self.image,
                head: self.head,
                predicate,
                holds: self.holds,
            },
        );
        let wanted = match predicate.flags {
            0 => SEEN | HIT,
            PREDICATE_INVERT => SEEN,
            PREDICATE_PRESENT => {
                *self.holds &= SEEN;
                SEEN
            }
            _ => {
                *self.holds &= SEEN;
                0
            }
        };
        let holds = *self.holds == wanted;
        *self.holds = u32::from(holds);
        holds
    }
}

/// Tries the candidate routes in configuration order.
struct Candidates<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    list: u32,
    route: &'a mut u32,
}

impl<const N: usize> Body for Candidates<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let at = self.list.wrapping_add(index) as usize & (CANDIDATES_MAX - 1);
        let entry = self.image.candidates[at];
        let number = entry & !CANDIDATE_LAST;
        let route = &self.image.routes[number as usize & (ROUTES_MAX - 1)];
        let count = route.predicates_count;
        let mut holds = 1;
        if count != 0 {
            // The compiler refuses routes with more predicates than the bound.
            let count = if count > ROUTE_PREDICATES_MAX {
                ROUTE_PREDICATES_MAX
            } else {
                count
            };
            let at = route.predicates_at;
            repeat(
                count,
                &mut Conditions {
                    image: self.image,
                    head: self.head,
                    at,
                    holds: &mut holds,
                },
            );
        }
        if holds != 0 {
            *self.route = number;
            return false;
        }
        entry & CANDIDATE_LAST == 0
    }
}

/// The first route of `route_config` that the head matches.
///
/// # Errors
/// [`Reason::NoRoute`] if no virtual host or no route matches.
#[inline(always)]
pub fn route<const N: usize>(
    image: &Image,
    route_config: u32,
    head: &Head<N>,
) -> Result<u32, Reason> {
    let config = &image.route_configs[route_config as usize & (ROUTE_CONFIGS_MAX - 1)];
    let Some(host) = host::find(image, config, head) else {
        return Err(Reason::NoRoute);
    };
    let virtual_host = &image.virtual_hosts[host as usize & (VIRTUAL_HOSTS_MAX - 1)];
    let Some(list) = path::candidates(image, virtual_host.paths, head) else {
        return Err(Reason::NoRoute);
    };
    let mut route = u32::MAX;
    repeat(
        CANDIDATE_LIST_MAX,
        &mut Candidates {
            image,
            head,
            list,
            route: &mut route,
        },
    );
    if route == u32::MAX {
        Err(Reason::NoRoute)
    } else {
        Ok(route)
    }
}

/// The cluster that `route` sends this request to.
///
/// # Errors
/// [`Reason::NoEndpoint`] if the route's weights are all 0, which the configuration compiler refuses.
#[inline(always)]
pub fn cluster(image: &Image, route: &Route, dice: &mut impl Dice) -> Result<u32, Reason> {
    if route.action == ACTION_CLUSTER {
        return Ok(route.target);
    }
    if route.total == 0 {
        return Err(Reason::NoEndpoint);
    }
    let drawn = dice.random() % route.total;
    balance::weighted(image, route.target, route.count, drawn).ok_or(Reason::NoEndpoint)
}

/// Decides where the request whose head was scanned goes, if it is one that the kernel may carry.
///
/// # Errors
/// [`Reason::NoRoute`] (404), [`Reason::NoEndpoint`] (503), or why user space serves the route ([`Route::passed`]).
#[inline(always)]
pub fn decide<const N: usize>(
    image: &Image,
    route_config: u32,
    head: &Head<N>,
    dice: &mut impl Dice,
) -> Result<Choice, Reason> {
    let number = route(image, route_config, head)?;
    let route = &image.routes[number as usize & (ROUTES_MAX - 1)];
    if route.passed != 0 {
        return Err(passed(route));
    }
    draw(image, number, route, dice)
}

/// Decides where the request goes, whoever carries it.
///
/// # Errors
/// [`Reason::NoRoute`] (404) or [`Reason::NoEndpoint`] (503).
#[inline(always)]
pub fn choose<const N: usize>(
    image: &Image,
    route_config: u32,
    head: &Head<N>,
    dice: &mut impl Dice,
) -> Result<Choice, Reason> {
    let number = route(image, route_config, head)?;
    let route = &image.routes[number as usize & (ROUTES_MAX - 1)];
    draw(image, number, route, dice)
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
fn draw(image: &Image, number: u32, route: &Route, dice: &mut impl Dice) -> Result<Choice, Reason> {
    let cluster = cluster(image, route, dice)?;
    let endpoint = balance::endpoint(&image.clusters[cluster as usize & (CLUSTERS_MAX - 1)], dice)?;
    Ok(Choice {
        route: number,
        cluster,
        endpoint,
    })
}
