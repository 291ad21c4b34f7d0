//! Virtual host selection: exact domain, then longest suffix (`*.svc`), then longest prefix (`svc.*`), then `*`.
//!
//! Envoy, `RouteMatcher::findVirtualHost` (`source/common/router/config_impl.cc`): hosts compare in lower case with their port as
//! sent (unless the configuration ignores ports), and a wildcard stands for at least one character.

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::route::{RouteConfig, option};

use crate::automaton::{DEAD, leap, lower, node, step};
use crate::memory::{read, write};
use crate::repeat::{Body, repeat};
use crate::word;

/// Longest stretch that one iteration leaps, in words, before it goes byte by byte.
const LEAPS: u32 = 4;
/// Bytes that one iteration consumes singly.
const RUN: u32 = 8;

/// Goes from the host's first byte to its last: exact domains and prefixes.
struct Forward<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
}

impl<const N: usize> Forward<'_, N> {
    /// Goes on to `node` with `bytes` bytes.
    #[inline(always)]
    fn go(&mut self, node: u32, bytes: u32) {
        let walk = &mut self.head.walk;
        let (here, at) = (read(&walk.node), read(&walk.at));
        write(&mut walk.before, here);
        write(&mut walk.node, node);
        write(&mut walk.at, at.wrapping_add(bytes));
    }
}

impl<const N: usize> Body for Forward<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let end = self.head.walk.end;
        for _ in 0..LEAPS {
            let (here, at) = (read(&self.head.walk.node), read(&self.head.walk.at));
            if at.wrapping_add(word::BYTES) > end {
                break;
            }
            let next = leap(self.image, here, word::lower(word::load(self.head, at)));
            if next == DEAD {
                break;
            }
            self.go(next, word::BYTES);
        }
        for _ in 0..RUN {
            let (here, at) = (read(&self.head.walk.node), read(&self.head.walk.at));
            if at >= end || here == DEAD {
                return false;
            }
            let byte = lower(self.head.bytes[at as usize & (N - 1)]);
            self.go(step(self.image, here, byte), 1);
        }
        true
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
        let begin = self.head.host_at;
        for _ in 0..RUN {
            let (here, at) = (read(&self.head.walk.node), read(&self.head.walk.at));
            if at <= begin || here == DEAD {
                return false;
            }
            let at = at.wrapping_sub(1);
            let byte = lower(self.head.bytes[at as usize & (N - 1)]);
            let next = step(self.image, here, byte);
            let walk = &mut self.head.walk;
            write(&mut walk.before, here);
            write(&mut walk.node, next);
            write(&mut walk.at, at);
        }
        true
    }
}

/// Goes from the host's last byte to the colon before the port, or to what shows that there is none: it stands behind that.
struct Port<'a, const N: usize> {
    head: &'a mut Head<N>,
}

impl<const N: usize> Body for Port<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let begin = self.head.host_at;
        for _ in 0..LEAPS {
            let at = read(&self.head.walk.at);
            if at < begin.wrapping_add(word::BYTES) {
                break;
            }
            let from = at.wrapping_sub(word::BYTES);
            if !word::is_plain(word::load(self.head, from), false) {
                break;
            }
            write(&mut self.head.walk.at, from);
        }
        for _ in 0..RUN {
            let at = read(&self.head.walk.at);
            let before = at.wrapping_sub(1);
            let byte = self.head.bytes[before as usize & (N - 1)];
            if at <= begin || byte == b':' || byte == b']' {
                return false;
            }
            write(&mut self.head.walk.at, before);
        }
        true
    }
}

/// Finds where the host ends, without its port if the configuration ignores that.
///
/// Envoy, `HeaderUtility::getPortStart` (`source/common/http/header_utility.cc`): the port begins at the last colon, whatever follows,
/// unless that is inside of brackets.
#[inline(always)]
fn find_end<const N: usize>(config: &RouteConfig, head: &mut Head<N>) {
    let end = head.host_end;
    write(&mut head.walk.end, end);
    if config.options & option::IGNORE_PORT == 0 {
        return;
    }
    write(&mut head.walk.at, end);
    // The host is part of the head, and each iteration but the last consumes RUN bytes or more.
    repeat(N as u32 / RUN, &mut Port { head });
    let at = read(&head.walk.at);
    let colon = at.wrapping_sub(1);
    if at > head.host_at && head.bytes[colon as usize & (N - 1)] == b':' {
        write(&mut head.walk.end, colon);
    }
}

/// Begins a walk at `node` and at byte `at`.
#[inline(always)]
fn begin<const N: usize>(head: &mut Head<N>, node: u32, at: u32) {
    write(&mut head.walk.node, node);
    write(&mut head.walk.before, DEAD);
    write(&mut head.walk.at, at);
}

/// Index of the virtual host that serves the head's host.
#[inline(always)]
pub fn find<const N: usize>(
    image: &Image,
    config: &RouteConfig,
    head: &mut Head<N>,
) -> Option<u32> {
    find_end(config, head);
    let at = head.host_at;
    begin(head, config.hosts, at);
    // Here and below: the host is part of the head, and each iteration but the last consumes RUN bytes or more.
    repeat(N as u32 / RUN, &mut Forward { image, head });
    let exact = node(image, read(&head.walk.node)).end;
    if exact != 0 {
        return Some(exact.wrapping_sub(1));
    }
    // Only what another character follows counts as a wildcard.
    let prefix = node(image, read(&head.walk.before)).pass;
    write(&mut head.walk.known, prefix);
    let at = read(&head.walk.end);
    begin(head, config.suffixes, at);
    if config.suffixes != DEAD {
        repeat(N as u32 / RUN, &mut Backward { image, head });
    }
    let suffix = node(image, read(&head.walk.before)).pass;
    let prefix = read(&head.walk.known);
    let found = if suffix != 0 {
        suffix
    } else if prefix != 0 {
        prefix
    } else {
        config.any
    };
    found.checked_sub(1)
}
