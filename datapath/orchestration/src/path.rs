//! Path matching: all patterns of a virtual host in one walk over the path, or two.
//!
//! There are two automata: a tree of the literal patterns, whose nodes know what passed through them, and, if the virtual host has
//! any, one automaton of all regular expressions (case-insensitive patterns among them), which is looked at where the path ends.

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::route::{RouteConfig, VirtualHost, option};

use crate::automaton::{DEAD, leap, node, step};
use crate::http1::bytes::{NORMAL, is};
use crate::memory::{read, write};
use crate::repeat::{Body, repeat};
use crate::word;

/// Longest stretch that one iteration leaps, in words, before it goes byte by byte.
const LEAPS: u32 = 4;
/// Bytes that one iteration consumes singly: most paths are done in one.
const RUN: u32 = 16;

struct Walk<'a, const N: usize> {
    image: &'a Image,
    head: &'a mut Head<N>,
}

impl<const N: usize> Walk<'_, N> {
    /// Goes on to `node` with `bytes` bytes.
    #[inline(always)]
    fn go(&mut self, node: u32, bytes: u32) {
        let walk = &mut self.head.walk;
        let at = read(&walk.at);
        write(&mut walk.node, node);
        write(&mut walk.at, at.wrapping_add(bytes));
    }
}

impl<const N: usize> Body for Walk<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let end = self.head.path_end;
        for _ in 0..LEAPS {
            let (here, at) = (read(&self.head.walk.node), read(&self.head.walk.at));
            if at.wrapping_add(word::BYTES) > end {
                break;
            }
            let next = leap(self.image, here, word::load(self.head, at));
            if next == DEAD {
                break;
            }
            self.go(next, word::BYTES);
        }
        for _ in 0..RUN {
            let (here, at) = (read(&self.head.walk.node), read(&self.head.walk.at));
            if at >= end {
                write(&mut self.head.walk.known, node(self.image, here).end);
                return false;
            }
            let next = step(self.image, here, self.head.bytes[at as usize & (N - 1)]);
            if next == DEAD {
                write(&mut self.head.walk.known, node(self.image, here).pass);
                return false;
            }
            self.go(next, 1);
        }
        true
    }
}

/// Where the walk over the path from `root` ends: the list there.
#[inline(always)]
fn walk<const N: usize>(image: &Image, root: u32, head: &mut Head<N>) -> u32 {
    if root == DEAD {
        return 0;
    }
    let begin = head.target_at;
    write(&mut head.walk.node, root);
    write(&mut head.walk.at, begin);
    write(&mut head.walk.known, 0);
    // The path is part of the head and ends before it, so N / RUN iterations see its end.
    repeat(N as u32 / RUN, &mut Walk { image, head });
    read(&head.walk.known)
}

/// Learns the candidates for the head's path (without query): [`kmesh_api::head::Walk::literal`] and `expressions`.
#[inline(always)]
pub fn candidates<const N: usize>(image: &Image, host: &VirtualHost, head: &mut Head<N>) {
    let literal = walk(image, host.paths, head);
    write(&mut head.walk.literal, literal);
    let expressions = walk(image, host.expressions, head);
    write(&mut head.walk.expressions, expressions);
}

/// Goes from the path's first byte to its last, or to what a normal path does not have.
struct Judge<'a, const N: usize> {
    head: &'a mut Head<N>,
    options: u32,
}

impl<const N: usize> Body for Judge<'_, N> {
    #[inline(always)]
    fn run(&mut self, _: u32) -> bool {
        let end = self.head.path_end;
        for _ in 0..LEAPS {
            let at = read(&self.head.walk.at);
            if at.wrapping_add(word::BYTES) > end {
                break;
            }
            let word = word::load(self.head, at);
            // The path is behind a method.
            let before = word::load(self.head, at.wrapping_sub(1));
            if !word::is_plain(word, true) || word::after_slash(word, before) != 0 {
                break;
            }
            write(&mut self.head.walk.at, at.wrapping_add(word::BYTES));
        }
        for _ in 0..RUN {
            let at = read(&self.head.walk.at);
            if at >= end || !self.is_normal(at) {
                return false;
            }
            write(&mut self.head.walk.at, at.wrapping_add(1));
        }
        true
    }
}

impl<const N: usize> Judge<'_, N> {
    /// Whether nothing that the listener asks for may change the byte at `at`, or those around it because of it.
    #[inline(always)]
    fn is_normal(&self, at: u32) -> bool {
        let byte = self.head.bytes[at as usize & (N - 1)];
        // The path is behind a method.
        let before = self.head.bytes[at.wrapping_sub(1) as usize & (N - 1)];
        let asked = match byte {
            b'/' if before == b'/' => option::SINGLE_SLASHES,
            b'.' if before == b'/' => option::NORMAL_PATH,
            b'/' | b'.' => 0,
            b'%' => option::PATHS,
            _ if is(byte, NORMAL) => 0,
            _ => option::NORMAL_PATH,
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
    let begin = head.target_at;
    write(&mut head.walk.at, begin);
    // The path is part of the head and ends before it, so N / RUN iterations see its end.
    repeat(N as u32 / RUN, &mut Judge { head, options });
    read(&head.walk.at) < head.path_end
}
