//! What goes into and comes out of `decide_head`, the `tc` wrapper that lets `BPF_PROG_TEST_RUN` run the decision on the
//! bytecode that routes: sk_msg has no test-run of its own.

/// The question, after the packet's 14-byte Ethernet header and before the head's bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The route configuration.
    pub route_config: u32,
    /// What the dice say: the first random number or turn, then the second; later ones are 0.
    pub numbers: [u32; 2],
    /// Index of the last of the head's bytes that follow, below `HEAD_MAX`.
    pub last: u32,
}

/// Numbers of [`Answer::outcome`] besides those of refusals, which are `Reason` numbers.
pub mod outcome {
    /// A choice was made.
    pub const CHOSEN: u32 = 1000;
    /// The head is not complete.
    pub const PARTIAL: u32 = 1001;
    /// The program could not read the question.
    pub const UNREADABLE: u32 = 1002;
}

/// The answer, in a memory-mapped array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// One of [`outcome`] or the number of a `Reason`.
    pub outcome: u32,
    /// The route that took the request; `u32::MAX` if none did.
    pub route: u32,
    /// The chosen cluster.
    pub cluster: u32,
    /// The chosen endpoint.
    pub endpoint: u32,
}
