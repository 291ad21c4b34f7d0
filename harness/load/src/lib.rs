//! Open- and closed-loop HTTP load generator.
//!
//! One thread, non-blocking sockets, epoll. Every answer is checked while the clock runs: who served
//! it, which request it answers, its status and, if asked, its bytes. Latency is kept as service time
//! (from the moment the request left) *and* as intended time (from the moment it was due), because an
//! open loop that reports only the first hides every stall of the server (coordinated omission).
//!
//! ```text
//! Plan ──▶ mix ──▶ request bytes ─┐
//!      └─▶ schedule ─────────────▶ engine (epoll, slots) ──▶ response parser ──▶ ledger ──▶ BlockResult
//!                                                                                  ├─▶ summary (text)
//!                          serve (JSON lines) · CLI                                └─▶ fortio JSON
//! ```
//!
//! The same library has two faces: `kmesh-load run` with fortio's flags, and `kmesh-load serve`, a
//! long-lived process that runs block after block on connections that stay open, so that the harness
//! can interleave the arms of an experiment.

mod block;
pub mod distribution;
pub mod engine;
pub mod fortio;
pub mod ledger;
pub mod mix;
pub mod plan;
pub mod protocol;
pub mod replay;
pub mod request;
pub mod response;
pub mod result;
pub mod schedule;
pub mod serve;
mod slot;
mod spin;
pub mod summary;

pub use kmesh_origin::pattern;
