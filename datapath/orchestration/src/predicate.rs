//! Conditions of a route besides the path: on headers, on query parameters, on chance.

use kmesh_api::Image;
use kmesh_api::head::{Found, Head};
use kmesh_api::limits::{FOUND_MAX, PREDICATES_MAX, ROUTE_PREDICATES_MAX};
use kmesh_api::route::{Predicate, Route, name};

use crate::automaton::node;
use crate::repeat::{Body, repeat};

/// What is known of a header, as the number of the `HOLDS_*` bit that counts: it is absent.
const ABSENT: u32 = 0;
/// It is there, and does not match so far.
const OTHER: u32 = 1;
/// An occurrence of it matches.
const MATCH: u32 = 2;

/// Looks for an occurrence of a header that matches.
struct Occurrences<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    predicate: &'a Predicate,
    known: &'a mut u32,
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
        *self.known = OTHER;
        let patterns = self.predicate.patterns;
        let hit = if patterns != 0 {
            node(self.image, found.node).pass & patterns != 0
        } else {
            found.value == self.predicate.value
        };
        if hit {
            *self.known = MATCH;
            return false;
        }
        true
    }
}

/// Checks a route's predicates: all must hold.
struct Conditions<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    drawn: u32,
    at: u32,
    holds: &'a mut u32,
}

impl<const N: usize> Body for Conditions<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let at = self.at.wrapping_add(index) as usize & (PREDICATES_MAX - 1);
        let predicate = &self.image.predicates[at];
        if predicate.name == name::FRACTION {
            let drawn = self.drawn.checked_rem(predicate.patterns);
            let holds = matches!(drawn, Some(drawn) if drawn < predicate.value);
            *self.holds = u32::from(holds);
            return holds;
        }
        *self.holds = ABSENT;
        repeat(
            FOUND_MAX as u32,
            &mut Occurrences {
                image: self.image,
                head: self.head,
                predicate,
                known: self.holds,
            },
        );
        let known = *self.holds & 3;
        *self.holds = predicate.flags >> known & 1;
        *self.holds != 0
    }
}

/// Whether all of the route's predicates hold; `drawn` is the request's random number.
#[inline(always)]
pub(crate) fn all_hold<const N: usize>(
    image: &Image,
    route: &Route,
    head: &Head<N>,
    drawn: u32,
) -> bool {
    let count = route.predicates_count;
    if count == 0 {
        return true;
    }
    // The compiler refuses routes with more predicates than the bound.
    let count = if count > ROUTE_PREDICATES_MAX {
        ROUTE_PREDICATES_MAX
    } else {
        count
    };
    let mut holds = 1;
    repeat(
        count,
        &mut Conditions {
            image,
            head,
            drawn,
            at: route.predicates_at,
            holds: &mut holds,
        },
    );
    holds != 0
}

/// Finds the first occurrence of a header and counts them.
struct First<'a, const N: usize> {
    head: &'a Head<N>,
    name: u32,
    found: &'a mut Found,
    count: &'a mut u32,
}

impl<const N: usize> Body for First<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        if index >= self.head.found_count {
            return false;
        }
        let found = &self.head.found[index as usize & (FOUND_MAX - 1)];
        if found.name == self.name {
            if *self.count == 0 {
                *self.found = *found;
            }
            *self.count = self.count.wrapping_add(1);
        }
        true
    }
}

/// The first occurrence of a header, and how many there are.
#[inline(always)]
fn first<const N: usize>(head: &Head<N>, name: u32) -> (Found, u32) {
    let (mut found, mut count) = (Found::default(), 0);
    repeat(
        FOUND_MAX as u32,
        &mut First {
            head,
            name,
            found: &mut found,
            count: &mut count,
        },
    );
    (found, count)
}

/// The id of the value that the first occurrence of a header has; 0 if there is none.
#[inline(always)]
pub(crate) fn value<const N: usize>(head: &Head<N>, name: u32) -> u32 {
    first(head, name).0.value
}

struct Digits<'a, const N: usize> {
    head: &'a Head<N>,
    at: u32,
    end: u32,
    number: &'a mut u64,
    valid: &'a mut u32,
}

impl<const N: usize> Body for Digits<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let at = self.at.wrapping_add(index);
        if at >= self.end {
            return false;
        }
        let byte = self.head.bytes[at as usize & (N - 1)];
        if index == 0 && byte == b'+' {
            return true;
        }
        let digit = u64::from(byte & 15);
        *self.valid = 0;
        if !byte.is_ascii_digit() || *self.number > u64::MAX / 10 {
            return false;
        }
        let tens = (*self.number).wrapping_mul(10);
        if tens > u64::MAX - digit {
            return false;
        }
        *self.number = tens + digit;
        *self.valid = 1;
        true
    }
}

/// The number in a header that the request has once: Envoy's `absl::SimpleAtoi` for `uint64_t`.
#[inline(always)]
pub(crate) fn number<const N: usize>(head: &Head<N>, name: u32) -> Option<u64> {
    let (found, count) = first(head, name);
    if count != 1 || found.end == Found::SEVERAL {
        return None;
    }
    let (mut number, mut valid) = (0, 0);
    // The value is part of the head; most numbers end after a few digits.
    repeat(
        N as u32,
        &mut Digits {
            head,
            at: found.at,
            end: found.end,
            number: &mut number,
            valid: &mut valid,
        },
    );
    if valid == 0 { None } else { Some(number) }
}
