//! Statistics for paired, interleaved comparisons on a noisy machine.
//!
//! A run is a list of *blocks*; in each block every arm is measured once, in an order that
//! [`williams`] balances. Two arms are compared *within* a block (their log-ratio), so that
//! whatever the machine does slowly hits both; the estimate is the median of these differences
//! and its interval comes from resampling blocks. Percentiles are never averaged: for display,
//! [`Latency`] histograms are merged and read once.
//!
//! Everything here is pure: no clock, no I/O, no global generator. The same input and seed give
//! the same figures, so that a report can be regenerated from stored rows.
//!
//! ```
//! use kmesh_stats::{paired, Bootstrap};
//!
//! let envoy = [400.0, 420.0, 390.0, 410.0];
//! let direct = [100.0, 101.0, 99.0, 102.0];
//! let ratio = paired::ratio(&envoy, &direct, &Bootstrap::default())?;
//! assert!(ratio.lo > 3.8 && ratio.hi < 4.3);
//! # Ok::<(), kmesh_stats::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod bootstrap;
pub mod health;
pub mod histogram;
pub mod log;
pub mod multiple;
pub mod paired;
pub mod permutation;
pub mod predicate;
pub mod rank;
pub mod rng;
pub mod sequential;
pub mod signed_rank;
pub mod tail;
pub mod williams;

mod error;
mod interval;

pub use bootstrap::Bootstrap;
pub use error::Error;
pub use histogram::Latency;
pub use interval::Interval;
pub use predicate::{Predicate, Verdict};
pub use rng::Rng;
