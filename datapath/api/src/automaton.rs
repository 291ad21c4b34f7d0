//! The one matching primitive: a deterministic automaton over bytes, stored as a row-displaced transition table.
//!
//! Hosts, paths, header names and header values are all matched by it. A step costs two dependent loads whatever the
//! number of patterns, and where a node has only one way on, eight bytes are one step ([`Node::ahead`]). Node 0 is the dead node: it has no transitions and accepts nothing. A cell that leads to node 0 is an exception to
//! [`Node::other`].

/// A state of an automaton.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Node {
    /// Where this node's row begins in the cells: byte `b` is looked up at `base + b`.
    pub base: u32,
    /// What it means to end here: an id or a candidate list, by the automaton's use; 0 = nothing.
    pub end: u32,
    /// What it means to have passed through here: the same for prefixes, inherited from ancestors; 0 = nothing. For
    /// header values: the patterns that a value which ends here matches, as bits.
    pub pass: u32,
    /// Where bytes lead that have no cell of this node's; 0 = nowhere. It keeps the rows of classes like `[^/]` short.
    pub other: u32,
    /// The next eight bytes, first byte lowest, if they alone lead on from here and nothing else is met before their last.
    pub ahead: u64,
    /// The node they lead to; 0 = there are no such eight bytes.
    pub ahead_to: u32,
    /// Reserved, 0.
    pub reserved: u32,
}

/// A transition, valid for the node that `owner` names.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// The node this transition belongs to; 0 = empty cell.
    pub owner: u32,
    /// The node it leads to.
    pub next: u32,
}
