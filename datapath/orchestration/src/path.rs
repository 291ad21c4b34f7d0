//! Path matching: all patterns of a virtual host in one walk over the path.

use kmesh_api::Image;
use kmesh_api::head::Head;

use crate::automaton::{DEAD, node, step};
use crate::repeat::{Body, repeat};

struct Progress {
    node: u32,
    list: u32,
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
        let mut here = self.progress.node;
        for _ in 0..RUN {
            if at >= self.head.path_end {
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
        true
    }
}

/// The candidate list for the head's path (without query), as an index into [`Image::candidates`].
#[inline(always)]
pub fn candidates<const N: usize>(image: &Image, root: u32, head: &Head<N>) -> Option<u32> {
    let mut progress = Progress {
        node: root,
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
    progress.list.checked_sub(1)
}
