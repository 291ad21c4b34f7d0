//! Conditions of a route besides the path: on headers, on query parameters, on chance.

use kmesh_api::Image;
use kmesh_api::head::{Found, Head};
use kmesh_api::limits::{FOUND_MAX, PREDICATES_MAX, ROUTE_PREDICATES_MAX};
use kmesh_api::route::{Predicate, Route, name};

use crate::automaton::node;
use crate::memory::{read, write};
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
    head: &'a mut Head<N>,
    predicate: &'a Predicate,
}

impl<const N: usize> Body for Occurrences<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        if index >= self.head.found_count {
            return false;
        }
        let head = &mut *self.head;
        let found = &head.found[index as usize & (FOUND_MAX - 1)];
        if found.name != self.predicate.name {
            return true;
        }
        write(&mut head.walk.known, OTHER);
        let patterns = self.predicate.patterns;
        let hit = if patterns != 0 {
            node(self.image, found.node).pass & patterns != 0
        } else {
            found.value == self.predicate.value
        };
        if hit {
            write(&mut head.walk.known, MATCH);
            return false;
        }
        true
    }
}

/// Checks a route's predicates: all must hold.
struct Conditions<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
    drawn: u32,
    at: u32,
}

impl<const N: usize> Body for Conditions<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let at = self.at.wrapping_add(index) as usize & (PREDICATES_MAX - 1);
        let predicate = &self.image.predicates[at];
        if predicate.name == name::FRACTION {
            let drawn = self.drawn.checked_rem(predicate.patterns);
            let holds = matches!(drawn, Some(drawn) if drawn < predicate.value);
            write(&mut self.head.walk.known, u32::from(holds));
            return holds;
        }
        write(&mut self.head.walk.known, ABSENT);
        repeat(
            FOUND_MAX as u32,
            &mut Occurrences {
                image: self.image,
                head: self.head,
                predicate,
            },
        );
        let holds = predicate.flags >> (read(&self.head.walk.known) & 3) & 1;
        write(&mut self.head.walk.known, holds);
        holds != 0
    }
}

/// Whether all of the route's predicates hold; `drawn` is the request's random number.
#[inline(always)]
pub(crate) fn all_hold<const N: usize>(
    image: &Image,
    route: &Route,
    head: &mut Head<N>,
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
    repeat(
        count,
        &mut Conditions {
            image,
            head,
            drawn,
            at: route.predicates_at,
        },
    );
    read(&head.walk.known) != 0
}

/// Finds the first occurrence of a header and counts them.
struct First<'a, const N: usize> {
    head: &'a mut Head<N>,
    name: u32,
}

impl<const N: usize> Body for First<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        if index >= self.head.found_count {
            return false;
        }
        if self.head.found[index as usize & (FOUND_MAX - 1)].name == self.name {
            let walk = &mut self.head.walk;
            let count = read(&walk.known);
            if count == 0 {
                write(&mut walk.at, index.wrapping_add(1));
            }
            write(&mut walk.known, count.wrapping_add(1));
        }
        true
    }
}

/// The first occurrence of a header; none if there is none. `Walk::known` is how many there are.
#[inline(always)]
fn first<const N: usize>(head: &mut Head<N>, name: u32) -> Option<&Found> {
    write(&mut head.walk.at, 0);
    write(&mut head.walk.known, 0);
    repeat(FOUND_MAX as u32, &mut First { head, name });
    let number = read(&head.walk.at).checked_sub(1)?;
    Some(&head.found[number as usize & (FOUND_MAX - 1)])
}

/// The id of the value that the first occurrence of a header has; 0 if there is none.
#[inline(always)]
pub(crate) fn value<const N: usize>(head: &mut Head<N>, name: u32) -> u32 {
    match first(head, name) {
        Some(found) => found.value,
        None => 0,
    }
}

struct Digits<'a, const N: usize> {
    head: &'a mut Head<N>,
    end: u32,
}

impl<const N: usize> Body for Digits<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let walk = &mut self.head.walk;
        let at = read(&walk.at);
        if at >= self.end {
            return false;
        }
        write(&mut walk.at, at.wrapping_add(1));
        let byte = self.head.bytes[at as usize & (N - 1)];
        if index == 0 && byte == b'+' {
            return true;
        }
        let walk = &mut self.head.walk;
        let digit = u64::from(byte & 15);
        let number = read(&walk.number);
        write(&mut walk.known, 0);
        if !byte.is_ascii_digit() || number > u64::MAX / 10 {
            return false;
        }
        let tens = number.wrapping_mul(10);
        if tens > u64::MAX - digit {
            return false;
        }
        write(&mut walk.number, tens + digit);
        write(&mut walk.known, 1);
        true
    }
}

/// The number in a header that the request has once: Envoy's `absl::SimpleAtoi` for `uint64_t`.
#[inline(always)]
pub(crate) fn number<const N: usize>(head: &mut Head<N>, name: u32) -> Option<u64> {
    let found = first(head, name)?;
    let (at, end) = (found.at, found.end);
    if read(&head.walk.known) != 1 || end == Found::SEVERAL {
        return None;
    }
    write(&mut head.walk.at, at);
    write(&mut head.walk.known, 0);
    write(&mut head.walk.number, 0);
    // The value is part of the head; most numbers end after a few digits.
    repeat(N as u32, &mut Digits { head, end });
    if read(&head.walk.known) == 0 {
        None
    } else {
        Some(read(&head.walk.number))
    }
}
