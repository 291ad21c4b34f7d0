//! Pure routing decisions over HTTP/1 heads.
//!
//! One source, three uses: the kernel programs, the user-space fallback, and the tests and fuzzers. Nothing here
//! allocates, performs I/O or panics, and every loop is bounded by a constant (see [`repeat`]).
#![no_std]

pub mod automaton;
pub mod balance;
pub mod decide;
pub mod host;
pub mod http1;
pub mod listener;
pub mod memory;
pub mod path;
mod predicate;
pub mod repeat;
pub mod slot;
mod word;

pub use balance::Dice;
pub use decide::{Choice, NO_ROUTE, Undecided, choose, decide};
