//! Path matching: all patterns of a virtual host in one walk over the path, or two.
//!
//! There are two automata: a tree of the literal patterns, whose nodes know what passed through them, and, if the virtual host has
//! any, one automaton of all regular expressions (case-insensitive patterns among them), which is looked at where the path ends.

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::route::{RouteConfig, VirtualHost, option};

use crate::automaton::{DEAD, leap, node, step};
use crate::repeat::{Body, repeat};
use crate::word::{self, forget};

/// The candidate lists for a path: indices into [`Image::candidates`] plus one, 0 = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// By literal patterns.
    pub literal: u32,
    /// By regular expressions.
    pub expressions: u32,
}

/// Progress of a walk; in memory, not in registers, for the verifier's sake.
struct Progress {
    node: u32,
    at: u32,
    /// The list of the walk's end.
    list: u32,
}

/// Longest stretch that one iteration leaps, in words, before it goes byte by byte.
const LEAPS: u32 = 4;
/// Bytes that one iteration consumes singly: most paths are done in one.
const RUN: u32 = 16;

struct Walk<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    progress: &'a mut Progress,
}

impl<const N: usize> Body for Walk<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let Progress {
            node: mut here,
            mut at,
            ..
        } = *self.progress;
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
        for _ in 0..RUN {
            if at >= end {
                self.progress.list = node(self.image, here).end;
                return false;
            }
            let next = step(self.image, here, self.head.bytes[at as usize & (N - 1)]);
            if next == DEAD {
                self.progress.list = node(self.image, here).pass;
                return false;
            }
            here = next;
            at = at.wrapping_add(1);
        }
        self.progress.node = here;
        self.progress.at = at;
        true
    }
}

/// Where the walk over the path from `root` ends: the list there.
#[inline(always)]
fn walk<const N: usize>(image: &Image, root: u32, head: &Head<N>) -> u32 {
    if root == DEAD {
        return 0;
    }
    let mut progress = Progress {
        node: root,
        at: head.target_at,
        list: 0,
    };
    // The path is part of the head and ends before it, so N / RUN iterations see its end.
    repeat(
        N as u32 / RUN,
        &mut Walk {
            image,
            head,
            progress: &mut progress,
        },
    );
    progress.list
}

/// The candidates for the head's path (without query).
#[inline(always)]
pub fn candidates<const N: usize>(image: &Image, host: &VirtualHost, head: &Head<N>) -> Lists {
    Lists {
        literal: walk(image, host.paths, head),
        expressions: walk(image, host.expressions, head),
    }
}

/// Looks for what a normal path does not have.
struct Judge<'a, const N: usize> {
    head: &'a Head<N>,
    options: u32,
    at: &'a mut u32,
    /// The byte before was a slash.
    slash: &'a mut bool,
    odd: &'a mut bool,
}

impl<const N: usize> Body for Judge<'_, N> {
    /// One byte: more at a time would multiply the states that the verifier has to look at.
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        if *self.at >= self.head.path_end {
            return false;
        }
        let byte = self.head.bytes[*self.at as usize & (N - 1)];
        let normal = match byte {
            b'/' => self.options & option::SINGLE_SLASHES == 0 || !*self.slash,
            b'%' => false,
            b'.' => self.options & option::NORMAL_PATH == 0 || !*self.slash,
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'&'..=b'-'
            | b':'
            | b';'
            | b'='
            | b'@' => true,
            _ => self.options & option::NORMAL_PATH == 0,
        };
        *self.odd = !normal;
        *self.slash = byte == b'/';
        *self.at = forget::<N>(self.at.wrapping_add(1));
        normal
    }
}

/// Whether the path may become another one by what the listener asks for: then user space decides what it is.
#[inline(always)]
pub fn is_odd<const N: usize>(config: &RouteConfig, head: &Head<N>) -> bool {
    let options = config.options & option::PATHS;
    let mut odd = false;
    if options != 0 {
        let mut at = head.target_at;
        let mut slash = false;
        // The path is part of the head, and each iteration but the last consumes a byte.
        repeat(
            N as u32,
            &mut Judge {
                head,
                options,
                at: &mut at,
                slash: &mut slash,
                odd: &mut odd,
            },
        );
    }
    odd
}
