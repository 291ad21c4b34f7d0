//! Where the time goes: connections, stack traversals, context switches, system calls, copies and CPU time
//! per request and per arm, measured instead of asserted.
//!
//! Each figure has one source, named in [`figures`]; a source that this kernel refuses leaves its figure out and a
//! line in [`Breakdown::missing`], never a guess. The counting pass and the profiling pass are separate cells, so
//! that counters are not disturbed by the profiler's interrupts. Latency is not measured here: probes cost time.

pub mod figures;
pub mod probe;

pub use figures::{ArmBreakdown, Breakdown, Counts, Missing, PARTS, Part};
