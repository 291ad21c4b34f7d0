//! The pod application: a fortio-style echo server.
//!
//! One thread, epoll, as fast as nginx on a small static response, so that a benchmark measures the
//! mesh and not its backend. Every response says who answered (`x-served-by`), which request it
//! answers (`x-request-seq`) and what arrived (`x-body-hash`), which lets a client prove that no
//! request was routed wrongly and no byte was lost.
//!
//! ```text
//! socket ──▶ server (epoll, timers) ──▶ session (pure: bytes in, bytes out)
//!                                          ├─ request: head and framing
//!                                          ├─ chunked: chunked bodies
//!                                          ├─ echo: fortio's query grammar
//!                                          └─ response: one buffer per answer
//!               └─ forward: in the middle of a chain, the next service's answer instead of an own one
//! ```

pub mod answer;
pub mod chunked;
pub mod date;
pub mod echo;
pub mod forward;
pub mod pattern;
pub mod poller;
pub mod process;
pub mod request;
pub mod response;
pub mod server;
pub mod session;
