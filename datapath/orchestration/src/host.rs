//! Virtual host selection: exact domain, then longest suffix (`*.svc`), then longest prefix (`svc.*`), then `*`.
//!
//! Envoy, `RouteMatcher::findVirtualHost` (`source/common/router/config_impl.cc`): hosts compare in lower case with their port as
//! sent (unless the configuration ignores ports), and a wildcard stands for at least one character.

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::route::{RouteConfig, option};

use crate::automaton::{DEAD, leap, lower, node, step};
use crate::repeat::{Body, repeat};
use crate::word::{self, forget};

/// Longest stretch that one iteration leaps, in words, before it goes byte by byte.
const LEAPS: u32 = 4;
/// Bytes that one iteration consumes singly.
const RUN: u32 = 8;

/// Goes from the host's first byte to its last: exact domains and prefixes. Where it stands is the head's `mark`, its nodes the head's
/// `node` and `value_node`: the node before, since only what another character follows counts as a wildcard.
struct Forward<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
}

impl<const N: usize> Body for Forward<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let mut node = self.head.node;
        let mut before = self.head.value_node;
        let mut at = self.head.mark;
        let end = self.head.value_end;
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
        self.head.node = node;
        self.head.value_node = before;
        self.head.mark = at;
        at < end && node != DEAD
    }
}

/// Goes from the host's last byte to its first: suffixes.
struct Backward<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
}

impl<const N: usize> Body for Backward<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let mut node = self.head.node;
        let mut before = self.head.value_node;
        let mut at = forget::<N>(self.head.mark);
        let begin = self.head.host_at;
        for _ in 0..RUN {
            if at <= begin || node == DEAD {
                break;
            }
            at = at.wrapping_sub(1);
            before = node;
            let byte = lower(self.head.bytes[at as usize & (N - 1)]);
            node = step(self.image, node, byte);
        }
        self.head.node = node;
        self.head.value_node = before;
        self.head.mark = at;
        at > begin && node != DEAD
    }
}

/// Goes from the host's last byte to the colon before the port, or to what shows that there is none. It stands behind the next byte.
struct Port<'a, const N: usize> {
    head: &'a mut Head<N>,
}

impl<const N: usize> Body for Port<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let begin = self.head.host_at;
        let mut at = forget::<N>(self.head.mark);
        for _ in 0..LEAPS {
            if at < begin.wrapping_add(word::BYTES) {
                break;
            }
            let from = at.wrapping_sub(word::BYTES);
            if !word::is_plain(word::load(self.head, from), false) {
                break;
            }
            at = from;
        }
        at = forget::<N>(at);
        let mut goes_on = true;
        for _ in 0..RUN {
            let before = at.wrapping_sub(1);
            let byte = self.head.bytes[before as usize & (N - 1)];
            if at <= begin || byte == b':' || byte == b']' {
                goes_on = false;
                break;
            }
            at = before;
        }
        self.head.mark = at;
        goes_on
    }
}

/// Finds where the host ends, without its port if the configuration ignores that: the head's `value_end`.
///
/// Envoy, `HeaderUtility::getPortStart` (`source/common/http/header_utility.cc`): the port begins at the last colon, whatever follows,
/// unless that is inside of brackets.
#[inline(always)]
fn find_end<const N: usize>(config: &RouteConfig, head: &mut Head<N>) {
    head.value_end = head.host_end;
    if config.options & option::IGNORE_PORT == 0 {
        return;
    }
    head.mark = head.host_end;
    // The host is part of the head, and each iteration but the last consumes RUN bytes or more.
    repeat(N as u32 / RUN, &mut Port { head });
    let at = head.mark;
    if at > head.host_at {
        let colon = at.wrapping_sub(1);
        if head.bytes[colon as usize & (N - 1)] == b':' {
            head.value_end = colon;
        }
    }
}

/// Index of the virtual host that serves the head's host.
#[inline(always)]
pub fn find<const N: usize>(
    image: &Image,
    config: &RouteConfig,
    head: &mut Head<N>,
) -> Option<u32> {
    find_end(config, head);
    head.node = config.hosts;
    head.value_node = DEAD;
    head.mark = head.host_at;
    // Here and below: the host is part of the head, and each iteration but the last consumes RUN bytes or more.
    repeat(N as u32 / RUN, &mut Forward { image, head });
    let exact = node(image, head.node).end;
    if exact != 0 {
        return Some(exact.wrapping_sub(1));
    }
    let prefix = node(image, head.value_node).pass;
    head.value_node = DEAD;
    if config.suffixes != DEAD {
        head.node = config.suffixes;
        head.mark = head.value_end;
        repeat(N as u32 / RUN, &mut Backward { image, head });
    }
    let suffix = node(image, head.value_node).pass;
    let found = if suffix != 0 {
        suffix
    } else if prefix != 0 {
        prefix
    } else {
        config.any
    };
    found.checked_sub(1)
}
