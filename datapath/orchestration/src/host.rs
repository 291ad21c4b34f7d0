//! Virtual host selection: exact domain, then longest suffix (`*.svc`), then longest prefix (`svc.*`), then `*`.
//!
//! Envoy, `RouteMatcher::findVirtualHost` (`source/common/router/config_impl.cc`): hosts compare in lower case with their port as
//! sent, and a wildcard stands for at least one character.

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::route::RouteConfig;

use crate::automaton::{DEAD, leap, lower, node, step};
use crate::repeat::{Body, repeat};
use crate::word::{self, forget};

/// Longest stretch that one iteration leaps, in words, before it goes byte by byte.
const LEAPS: u32 = 4;
/// Bytes that one iteration consumes singly.
const RUN: u32 = 8;

/// Progress of a walk; in memory, not in registers, for the verifier's sake.
struct Progress {
    node: u32,
    /// The node before it: only what another character follows counts as a wildcard.
    before: u32,
    /// Where the walk stands in the head.
    at: u32,
}

/// Goes from the host's first byte to its last: exact domains and prefixes.
struct Forward<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    progress: &'a mut Progress,
}

impl<const N: usize> Body for Forward<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let Progress {
            mut node,
            mut before,
            mut at,
        } = *self.progress;
        let end = self.head.host_end;
        for _ in 0..LEAPS {
            if at.wrapping_add(word::BYTES) > end {
                break;
            }
            let next = leap(self.image, node, word::lower(word::load(self.head, at)));
            if next == DEAD {
                break;
            }
            before = node;
            node = next;
            at = at.wrapping_add(word::BYTES);
        }
        at = forget::<N>(at);
        for _ in 0..RUN {
            if at >= end || node == DEAD {
                break;
            }
            before = node;
            let byte = lower(self.head.bytes[at as usize & (N - 1)]);
            node = step(self.image, node, byte);
            at = at.wrapping_add(1);
        }
        *self.progress = Progress { node, before, at };
        at < end && node != DEAD
    }
}

/// Goes from the host's last byte to its first: suffixes.
struct Backward<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    progress: &'a mut Progress,
}

impl<const N: usize> Body for Backward<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let Progress {
            mut node,
            mut before,
            mut at,
        } = *self.progress;
        let begin = self.head.host_at;
        at = forget::<N>(at);
        for _ in 0..RUN {
            if at <= begin || node == DEAD {
                break;
            }
            at = at.wrapping_sub(1);
            before = node;
            let byte = lower(self.head.bytes[at as usize & (N - 1)]);
            node = step(self.image, node, byte);
        }
        *self.progress = Progress { node, before, at };
        at > begin && node != DEAD
    }
}

/// Index of the virtual host that serves the head's host.
#[inline(always)]
pub fn find<const N: usize>(image: &Image, config: &RouteConfig, head: &Head<N>) -> Option<u32> {
    let begin = |node, at| Progress {
        node,
        before: DEAD,
        at,
    };
    let mut forward = begin(config.hosts, head.host_at);
    // Here and below: the host is part of the head, and each iteration but the last consumes RUN bytes or more.
    repeat(
        N as u32 / RUN,
        &mut Forward {
            image,
            head,
            progress: &mut forward,
        },
    );
    let exact = node(image, forward.node).end;
    if exact != 0 {
        return Some(exact.wrapping_sub(1));
    }
    let mut backward = begin(config.suffixes, head.host_end);
    if config.suffixes != DEAD {
        repeat(
            N as u32 / RUN,
            &mut Backward {
                image,
                head,
                progress: &mut backward,
            },
        );
    }
    let suffix = node(image, backward.before).pass;
    let prefix = node(image, forward.before).pass;
    let found = if suffix != 0 {
        suffix
    } else if prefix != 0 {
        prefix
    } else {
        config.any
    };
    found.checked_sub(1)
}
