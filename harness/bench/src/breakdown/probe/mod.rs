//! The sources of a breakdown's figures, one file each. All of them only read; none loads a program into the kernel.

mod bpf;
mod calls;
mod category;
mod profile;
mod segments;
mod symbols;
mod tasks;
mod tracepoint;

pub use bpf::Runs;
pub use calls::Calls;
pub use category::category;
pub use profile::{PERIOD_NS, Profile, Samples};
pub use segments::{Segments, traversals};
pub use symbols::Symbols;
pub use tasks::{Role, Task, switches, tasks};
