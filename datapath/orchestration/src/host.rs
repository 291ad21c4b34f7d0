//! Virtual host selection: exact domain, then longest suffix (`*.svc`), then longest prefix (`svc.*`), then `*`.
//!
//! Envoy, `RouteMatcher::findVirtualHost` (`source/common/router/config_impl.cc`): hosts compare in lower case with their port as
//! sent, and a wildcard stands for at least one character.

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::route::RouteConfig;

use crate::automaton::{DEAD, lower, node, step};
use crate::repeat::{Body, repeat};

/// Progress of the walk; in memory, not in registers, for the verifier's sake.
struct Progress {
    forward: u32,
    backward: u32,
    prefix: u32,
    suffix: u32,
}

struct Walk<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    progress: &'a mut Progress,
}

/// Bytes that one iteration consumes.
const RUN: u32 = 8;

impl<const N: usize> Body for Walk<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let mut done = index.wrapping_mul(RUN);
        let mut forward = self.progress.forward;
        let mut backward = self.progress.backward;
        let length = self.head.host_end.wrapping_sub(self.head.host_at);
        for _ in 0..RUN {
            if done >= length || forward == DEAD && backward == DEAD {
                break;
            }
            let from_start = self.head.host_at.wrapping_add(done);
            let from_end = self.head.host_end.wrapping_sub(done).wrapping_sub(1);
            done = done.wrapping_add(1);
            // A wildcard's node counts only when another character follows it: this one.
            if forward != DEAD {
                let pass = node(self.image, forward).pass;
                if pass != 0 {
                    self.progress.prefix = pass;
                }
                let byte = lower(self.head.bytes[from_start as usize & (N - 1)]);
                forward = step(self.image, forward, byte);
            }
            if backward != DEAD {
                let pass = node(self.image, backward).pass;
                if pass != 0 {
                    self.progress.suffix = pass;
                }
                let byte = lower(self.head.bytes[from_end as usize & (N - 1)]);
                backward = step(self.image, backward, byte);
            }
        }
        self.progress.forward = forward;
        self.progress.backward = backward;
        done < length && (forward != DEAD || backward != DEAD)
    }
}

/// Index of the virtual host that serves the head's host.
#[inline(always)]
pub fn find<const N: usize>(image: &Image, config: &RouteConfig, head: &Head<N>) -> Option<u32> {
    let mut progress = Progress {
        forward: config.hosts,
        backward: config.suffixes,
        prefix: 0,
        suffix: 0,
    };
    // The host is part of the head, so N / RUN iterations reach its end.
    repeat(
        N as u32 / RUN,
        &mut Walk {
            image,
            head,
            progress: &mut progress,
        },
    );
    let exact = node(image, progress.forward).end;
    let found = if exact != 0 {
        exact
    } else if progress.suffix != 0 {
        progress.suffix
    } else if progress.prefix != 0 {
        progress.prefix
    } else {
        config.any
    };
    found.checked_sub(1)
}
