//! Path matching: all patterns of a virtual host in one walk over the path.
//!
//! Two automata walk side by side: a tree of the literal patterns, whose nodes know what passed through them, and one
//! automaton of all regular expressions (case-insensitive patterns among them), which is looked at where the path ends.

use kmesh_api::Image;
use kmesh_api::head::Head;
use kmesh_api::route::VirtualHost;

use crate::automaton::{DEAD, node, step};
use crate::repeat::{Body, repeat};

/// The candidate lists for a path: indices into [`Image::candidates`] plus one, 0 = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// By literal patterns.
    pub literal: u32,
    /// By regular expressions.
    pub expressions: u32,
}

struct Progress {
    literal: u32,
    expressions: u32,
    lists: Lists,
}

struct Walk<'a, const N: usize> {
    image: &'a Image,
    head: &'a Head<N>,
    progress: &'a mut Progress,
}

/// Bytes that one iteration consumes: most paths are done in two.
const RUN: u32 = 16;

impl<const N: usize> Body for Walk<'_, N> {
    #[inline(always)]
    fn run(&mut self, index: u32) -> bool {
        let mut at = self.head.target_at.wrapping_add(index.wrapping_mul(RUN));
        let mut literal = self.progress.literal;
        let mut expressions = self.progress.expressions;
        for _ in 0..RUN {
            if at >= self.head.path_end {
                if literal != DEAD {
                    self.progress.lists.literal = node(self.image, literal).end;
                }
                self.progress.lists.expressions = node(self.image, expressions).end;
                return false;
            }
            let byte = self.head.bytes[at as usize & (N - 1)];
            if literal != DEAD {
                let next = step(self.image, literal, byte);
                if next == DEAD {
                    self.progress.lists.literal = node(self.image, literal).pass;
                }
                literal = next;
            }
            if expressions != DEAD {
                expressions = step(self.image, expressions, byte);
            }
            if literal == DEAD && expressions == DEAD {
                return false;
            }
            at = at.wrapping_add(1);
        }
        self.progress.literal = literal;
        self.progress.expressions = expressions;
        true
    }
}

/// The candidates for the head's path (without query).
#[inline(always)]
pub fn candidates<const N: usize>(image: &Image, host: &VirtualHost, head: &Head<N>) -> Lists {
    let mut progress = Progress {
        literal: host.paths,
        expressions: host.expressions,
        lists: Lists::default(),
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
    progress.lists
}
