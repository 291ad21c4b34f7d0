//! Steps of the matching automaton.

use kmesh_api::Image;
use kmesh_api::automaton::Node;
use kmesh_api::limits::{CELLS_MAX, NODES_MAX};

/// The node that accepts nothing and leads nowhere.
pub const DEAD: u32 = 0;

/// The node's record.
#[inline(always)]
pub fn node(image: &Image, node: u32) -> &Node {
    &image.nodes[node as usize & (NODES_MAX - 1)]
}

/// Where `byte` leads from `from`; [`DEAD`] if nowhere.
#[inline(always)]
pub fn step(image: &Image, from: u32, byte: u8) -> u32 {
    let node = node(image, from);
    let at = node.base.wrapping_add(u32::from(byte));
    let cell = &image.cells[at as usize & (CELLS_MAX - 1)];
    if cell.owner == from {
        cell.next
    } else {
        node.other
    }
}

/// Where the next eight bytes lead from `from` in one step; [`DEAD`] if that is not known, and then a step for each byte tells.
#[inline(always)]
pub fn leap(image: &Image, from: u32, word: u64) -> u32 {
    let node = node(image, from);
    if node.ahead == word {
        node.ahead_to
    } else {
        DEAD
    }
}

/// ASCII lower case, the only case folding that HTTP names and hosts know (RFC 9110 section 5.1).
#[inline(always)]
pub const fn lower(byte: u8) -> u8 {
    if byte >= b'A' && byte <= b'Z' {
        byte | 0x20
    } else {
        byte
    }
}
