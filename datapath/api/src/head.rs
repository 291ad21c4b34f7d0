//! An HTTP/1 message head and what the scanner found in it.
//!
//! The struct lives in a map value, and the scanner and the decision keep their own state in it too: what is read back from map
//! memory is an unknown number to the verifier, so a loop over the bytes is checked once and not once per state.

use crate::limits::FOUND_MAX;

/// Scanner phases, in the order of the grammar (RFC 9112 section 3). The scanner's own business, but stored.
pub mod phase {
    /// Request method.
    pub const METHOD: u32 = 0;
    /// Request target.
    pub const TARGET: u32 = 1;
    /// `HTTP/1.1` and its line end.
    pub const VERSION: u32 = 2;
    /// Response status line after the version.
    pub const STATUS: u32 = 3;
    /// Rest of the response's first line.
    pub const REASON_PHRASE: u32 = 4;
    /// First byte of a header line, or of the empty line.
    pub const LINE: u32 = 5;
    /// Header name.
    pub const NAME: u32 = 6;
    /// White space before a value.
    pub const VALUE_START: u32 = 7;
    /// A value the configuration asks about.
    pub const VALUE: u32 = 8;
    /// A value nobody asks about.
    pub const SKIP: u32 = 9;
    /// LF that ends a header line.
    pub const LINE_FEED: u32 = 10;
    /// LF that ends the head.
    pub const LAST_LINE_FEED: u32 = 11;
    /// The head is complete.
    pub const DONE: u32 = 12;
    /// Not a head that the kernel decides on; `fault` says why.
    pub const FAULT: u32 = 13;
}

/// What the scanner noticed, as bits of [`Head::flags`].
pub mod flag {
    /// A valid `content-length`.
    pub const CONTENT_LENGTH: u32 = 1;
    /// `transfer-encoding: chunked`.
    pub const CHUNKED: u32 = 2;
    /// `connection` asks for something other than keep-alive.
    pub const CONNECTION: u32 = 4;
    /// An `upgrade` header.
    pub const UPGRADE: u32 = 8;
    /// An `expect` header.
    pub const EXPECT: u32 = 16;
    /// A `host` header.
    pub const HOST: u32 = 32;
    /// The method is HEAD.
    pub const HEAD_METHOD: u32 = 64;
    /// The method is CONNECT.
    pub const CONNECT_METHOD: u32 = 128;
    /// What the configuration asks about the request line was looked up.
    pub const LOOKED_UP: u32 = 256;
}

/// One occurrence of a header that the configuration asks about, or all occurrences of a joined one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// The name's id.
    pub name: u32,
    /// The value's id in that name's automaton; 0 = a value nobody asks about.
    pub value: u32,
    /// The node that the value ends in: where a joined name's next line goes on.
    pub node: u32,
    /// First byte of the value.
    pub at: u32,
    /// First byte after the value, white space excluded; [`Found::SEVERAL`] if it consists of several lines.
    pub end: u32,
}

impl Found {
    /// [`Found::end`] of a value that is joined from several lines.
    pub const SEVERAL: u32 = u32::MAX;
}

/// Where the decision on a head stands: the business of `kmesh_orchestration::decide`, but stored, for the scanner's reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// The number that a header's digits make.
    pub number: u64,
    /// The node that a walk has come to.
    pub node: u32,
    /// The node before it.
    pub before: u32,
    /// Where the walk stands in the head; of a header, the entry in [`Head::found`] plus one.
    pub at: u32,
    /// First byte after what a walk goes over.
    pub end: u32,
    /// What a walk or a search has found out.
    pub known: u32,
    /// What is left of the candidates by literal patterns: an index into `Image::candidates` plus one, 0 = nothing.
    pub literal: u32,
    /// The same by regular expressions.
    pub expressions: u32,
    /// Padding; zero.
    pub reserved: u32,
}

/// A message head of at most `N` bytes (a power of two) and what was found in it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Head<const N: usize> {
    /// The bytes, from the first of the message; 8-byte aligned so that the scanner can skip by words.
    pub bytes: [u8; N],
    /// How many of `bytes` are valid.
    pub length: u32,
    /// Where the scanner stands.
    pub position: u32,
    /// One of [`phase`].
    pub phase: u32,
    /// Why the phase is `FAULT`: a [`crate::Reason`] number.
    pub fault: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Length of the head with its final empty line, once `DONE`.
    pub end: u32,
    /// First byte of the request target.
    pub target_at: u32,
    /// First byte after the path: `?`, `#` or the space.
    pub path_end: u32,
    /// First byte after the request target.
    pub target_end: u32,
    /// First byte of the host.
    pub host_at: u32,
    /// First byte after the host.
    pub host_end: u32,
    /// First byte of the current line, name or value.
    pub mark: u32,
    /// Automaton node of the current name or value.
    pub node: u32,
    /// Node at the last byte of the value that was not white space.
    pub value_node: u32,
    /// First byte after that byte.
    pub value_end: u32,
    /// Id of the current header's name, 0 = unknown.
    pub name: u32,
    /// The entry in `found` that the current value continues, plus one; 0 = none.
    pub joined: u32,
    /// Number of header lines seen.
    pub lines: u32,
    /// Response status code.
    pub status: u32,
    /// Value of `content-length`.
    pub content_length: u64,
    /// Number of valid entries in `found`.
    pub found_count: u32,
    /// Where the value of the last `connection` line stands; 0 = none yet. A second line is left to user space.
    pub connection_at: u32,
    /// The decision's own memory.
    pub walk: Walk,
    /// The headers that the configuration asks about, in order.
    pub found: [Found; FOUND_MAX],
}

impl<const N: usize> Head<N> {
    /// A head of no bytes, not yet begun.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
            position: 0,
            phase: 0,
            fault: 0,
            flags: 0,
            end: 0,
            target_at: 0,
            path_end: 0,
            target_end: 0,
            host_at: 0,
            host_end: 0,
            mark: 0,
            node: 0,
            value_node: 0,
            value_end: 0,
            name: 0,
            joined: 0,
            lines: 0,
            status: 0,
            content_length: 0,
            found_count: 0,
            connection_at: 0,
            walk: Walk {
                number: 0,
                node: 0,
                before: 0,
                at: 0,
                end: 0,
                known: 0,
                literal: 0,
                expressions: 0,
                reserved: 0,
            },
            found: [Found {
                name: 0,
                value: 0,
                node: 0,
                at: 0,
                end: 0,
            }; FOUND_MAX],
        }
    }
}

impl<const N: usize> Default for Head<N> {
    fn default() -> Self {
        Self::new()
    }
}
