//! Path matching: all patterns of a virtual host in one walk over the path, or two.
//!
//! There are two automata: a tree of the literal patterns, whose nodes know what passed through them, and, if the virtual host has
//! any, one automaton of all regular expressions (case-insensitive patterns among them), which is looked at where the path ends.

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::route::{RouteConfig, VirtualHost, option};

use crate::automaton::{DEAD, leap, node, step};
use crate::http1::bytes::{NORMAL, is};
use crate::repeat::{Body, repeat};
use crate::word::{self, forget};

/// Longest stretch that one iteration leaps, in words, before it goes byte by byte.
const LEAPS: u32 = 4;
/// Bytes that one iteration consumes singly: most paths are done in one.
const RUN: u32 = 16;

/// Goes from the path's first byte to its last, or to where no pattern goes on: that is the head's `mark`, and the node there its
/// `node`.
struct Walk<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
}

impl<const N: usize> Body for Walk<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let mut here = self.head.node;
        let mut at = self.head.mark;
        let end = self.head.path_end;
        for _ in 0..LEAPS {
            if at.wrapping_add(word::BYTES) > end {
                break;
            }
            let next = leap(self.image, here, word::load(self.head, at));
            if next == DEAD {
                break;
            }
            here = next;
            at = at.wrapping_add(word::BYTES);
        }
        at = forget::<N>(at);
        let mut goes_on = true;
        for _ in 0..RUN {
            let next = step(self.image, here, self.head.bytes[at as usize & (N - 1)]);
            if at >= end || next == DEAD {
                goes_on = false;
                break;
            }
            here = next;
            at = at.wrapping_add(1);
        }
        self.head.node = here;
        self.head.mark = at;
        goes_on
    }
}

/// Where the walk over the path from `root` ends: the list there, an index into [`Image::candidates`] plus one, 0 = none.
#[inline(always)]
fn walk<const N: usize>(image: &Image, root: u32, head: &mut Head<N>) -> u32 {
    if root == DEAD {
        return 0;
    }
    head.node = root;
    head.mark = head.target_at;
    // The path is part of the head and ends before it, so N / RUN iterations see its end.
    repeat(N as u32 / RUN, &mut Walk { image, head });
    let last = node(image, head.node);
    if head.mark >= head.path_end {
        last.end
    } else {
        last.pass
    }
}

/// Finds the candidates for the head's path (without query): the head's `literal` and `expressions`.
#[inline(always)]
pub fn candidates<const N: usize>(image: &Image, host: &VirtualHost, head: &mut Head<N>) {
    head.literal = walk(image, host.paths, head);
    head.expressions = walk(image, host.expressions, head);
}

/// Goes from the path's first byte to its last, or to what a normal path does not have: that is the head's `mark`.
struct Judge<'a, const N: usize> {
    head: &'a mut Head<N>,
    options: u32,
}

impl<const N: usize> Body for Judge<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let end = self.head.path_end;
        let mut at = self.head.mark;
        for _ in 0..LEAPS {
            if at.wrapping_add(word::BYTES) > end {
                break;
            }
            let word = word::load(self.head, at);
            // The path is behind a method.
            let before = word::load(self.head, at.wrapping_sub(1));
            if !word::is_plain(word, true) || word::after_slash(word, before) != 0 {
                break;
            }
            at = at.wrapping_add(word::BYTES);
        }
        at = forget::<N>(at);
        let mut goes_on = true;
        for _ in 0..RUN {
            if at >= end || !self.is_normal(at) {
                goes_on = false;
                break;
            }
            at = at.wrapping_add(1);
        }
        self.head.mark = at;
        goes_on
    }
}

impl<const N: usize> Judge<'_, N> {
    /// Whether nothing that the listener asks for may change the byte at `at`, or those around it because of it.
    #[inline(always)]
    fn is_normal(&self, at: u32) -> bool {
        let byte = self.head.bytes[at as usize & (N - 1)];
        // The path is behind a method.
        let before = self.head.bytes[at.wrapping_sub(1) as usize & (N - 1)];
        let asked = if byte == b'/' {
            if before == b'/' {
                option::SINGLE_SLASHES
            } else {
                0
            }
        } else if byte == b'%' {
            option::PATHS
        } else if byte == b'.' {
            if before == b'/' {
                option::NORMAL_PATH
            } else {
                0
            }
        } else if is(byte, NORMAL) {
            0
        } else {
            option::NORMAL_PATH
        };
        self.options & asked == 0
    }
}

/// Whether the path may become another one by what the listener asks for: then user space decides what it is.
#[inline(always)]
pub fn is_odd<const N: usize>(config: &RouteConfig, head: &mut Head<N>) -> bool {
    let options = config.options & option::PATHS;
    if options == 0 {
        return false;
    }
    head.mark = head.target_at;
    // The path is part of the head and ends before it, so N / RUN iterations see its end.
    repeat(N as u32 / RUN, &mut Judge { head, options });
    head.mark < head.path_end
}
