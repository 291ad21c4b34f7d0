//! Judges of routing decisions: who should have answered, and who would.
//!
//! [`reference`] reads the configuration naively and says what must happen; [`native`] runs the datapath's own decision
//! code on the compiled tables. They share the configuration model and nothing else, so an error in the compiler, the
//! automata or the scanner shows as a disagreement. [`mod@envoy`] asks real Envoy, which settles what is right. [`generate`] draws configurations and requests in which the hard
//! cases (overlapping patterns, equal lengths, repeated headers) are frequent.

#[cfg(feature = "kernel")]
pub mod cost;
pub mod differential;
pub mod edge;
pub mod envoy;
pub mod fuzz;
pub mod generate;
#[cfg(feature = "kernel")]
pub mod kernel;
pub mod many;
pub mod native;
pub mod reference;
pub mod reproducer;
mod request;
pub mod responses;

pub use native::{Native, ScriptedDice, Verdict};
pub use reference::{Answered, Candidate, Prediction, Routed, connection, predict};
pub use reproducer::{Reproducer, ReproducerError};
pub use request::Request;
