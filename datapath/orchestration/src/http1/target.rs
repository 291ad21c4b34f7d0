//! What the configuration asks about the request line: pseudo headers and query parameters.
//!
//! They are looked up when the head is complete, and only if a route asks, so that requests of other configurations pay
//! nothing. What is found joins the headers found. The scanner's own fields of the head, which nobody needs any more, keep
//! the progress: see [`Head`] for why it must be in map memory.
//!
//! Envoy, `Utility::parseParameters` (`source/common/http/utility.cc`): parameters are separated by `&`, a name ends at the first
//! `=`, nothing is decoded; of several with one name the first counts.

use kmesh_api::head::{Found, Head, flag};
use kmesh_api::limits::{FOUND_MAX, NAMES_MAX};
use kmesh_api::route::name;
use kmesh_api::{Image, Reason};

use super::scan::{Earlier, refuse};
use crate::automaton::{node, step};
use crate::repeat::{Body, repeat};

/// Bytes that one iteration consumes.
const RUN: u32 = 8;

/// Looks up what `image` asks about the request line of a complete head; once for each head.
#[inline(always)]
pub(super) fn look_up<const N: usize>(image: &Image, head: &mut Head<N>) {
    if head.target_at == 0 || head.flags & flag::LOOKED_UP != 0 {
        return;
    }
    head.flags |= flag::LOOKED_UP;
    let asks = |pseudo: u32| image.names[pseudo as usize & (NAMES_MAX - 1)].values;
    if asks(name::METHOD) | asks(name::PATH) | asks(name::AUTHORITY) != 0 {
        repeat(PSEUDO, &mut Pseudo { image, head });
    }
    if image.queries_root == 0 || head.path_end >= head.target_end {
        return;
    }
    head.mark = head.path_end.wrapping_add(1);
    head.node = image.queries_root;
    head.value_end = 0;
    // Each iteration consumes a byte of the query, which is part of the head, or ends a parameter of at least one.
    repeat(N as u32, &mut Query { image, head });
}

/// Number of pseudo headers; their ids follow each other.
const PSEUDO: u32 = name::AUTHORITY - name::METHOD + 1;

/// Finds the pseudo headers that are asked about.
struct Pseudo<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
}

impl<const N: usize> Body for Pseudo<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let pseudo = name::METHOD.wrapping_add(index);
        let root = self.image.names[pseudo as usize & (NAMES_MAX - 1)].values;
        if root == 0 {
            return true;
        }
        let (at, end) = match pseudo {
            name::METHOD => (0, self.head.target_at.wrapping_sub(1)),
            name::PATH => (self.head.target_at, self.head.target_end),
            _ => (self.head.host_at, self.head.host_end),
        };
        self.head.node = root;
        self.head.mark = at;
        self.head.value_end = end;
        // The span is part of the head.
        repeat(
            N as u32 / RUN,
            &mut Walk {
                image: self.image,
                head: self.head,
            },
        );
        add(self.image, self.head, pseudo, at, end);
        true
    }
}

/// Walks from `mark` to `value_end`.
struct Walk<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
}

impl<const N: usize> Body for Walk<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let mut at = self.head.mark;
        let end = self.head.value_end;
        let mut here = self.head.node;
        for _ in 0..RUN {
            if at >= end {
                break;
            }
            here = step(self.image, here, self.head.bytes[at as usize & (N - 1)]);
            at = at.wrapping_add(1);
        }
        self.head.mark = at;
        self.head.node = here;
        at < end
    }
}

/// Adds what was found from `at` to `end`, the walk's last node being the head's.
#[inline(always)]
fn add<const N: usize>(image: &Image, head: &mut Head<N>, name: u32, at: u32, end: u32) {
    let count = head.found_count;
    if count >= FOUND_MAX as u32 {
        return refuse(head, Reason::TooManyHeaders);
    }
    head.found[count as usize & (FOUND_MAX - 1)] = Found {
        name,
        value: node(image, head.node).end,
        node: head.node,
        at,
        end,
    };
    head.found_count = count.wrapping_add(1);
}

/// Reads query parameters. `mark` is where it stands, `value_end` the first byte of the value (0 = still in the name), `name` the
/// name's id once that is known.
struct Query<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
}

impl<const N: usize> Body for Query<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let end = self.head.target_end;
        let mut at = self.head.mark;
        let mut here = self.head.node;
        let in_name = self.head.value_end == 0;
        let mut byte = b'&';
        for _ in 0..RUN {
            byte = b'&';
            if at >= end {
                break;
            }
            byte = self.head.bytes[at as usize & (N - 1)];
            if byte == b'&' || byte == b'=' && in_name {
                break;
            }
            here = step(self.image, here, byte);
            at = at.wrapping_add(1);
        }
        self.head.node = here;
        self.head.mark = at;
        let ends_name = byte == b'=' && in_name;
        if !ends_name && byte != b'&' {
            return true;
        }
        if in_name {
            // The name is complete; its value begins behind it, or is empty.
            let name = node(self.image, here).end;
            self.head.name = name;
            self.head.node = self.image.names[name as usize & (NAMES_MAX - 1)].values;
            self.head.value_end = at.wrapping_add(u32::from(ends_name));
        }
        if !ends_name {
            self.finish(at);
        }
        self.head.mark = at.wrapping_add(1);
        at < end
    }
}

impl<const N: usize> Query<'_, N> {
    /// The value is complete and ends before `end`; another parameter begins.
    #[inline(always)]
    fn finish(&mut self, end: u32) {
        let name = self.head.name;
        let value_at = self.head.value_end;
        if name != 0 {
            let mut earlier = 0;
            repeat(
                FOUND_MAX as u32,
                &mut Earlier {
                    head: self.head,
                    name,
                    place: &mut earlier,
                },
            );
            if earlier == 0 {
                add(self.image, self.head, name, value_at, end);
            }
        }
        self.head.value_end = 0;
        self.head.node = self.image.queries_root;
    }
}
