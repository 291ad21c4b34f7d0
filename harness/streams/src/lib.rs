//! The stream checker: is every byte of every message where it belongs?
//!
//! A message is a request and its answer. All of it (method, path, sizes, framing, how it is cut into segments, pauses)
//! follows from three numbers, the seed, the connection and the message's number ([`plan`]), and each byte of a body follows
//! from its position ([`pattern`]). The request carries the numbers, so the server knows what must arrive and what it has
//! to answer, and the client knows what must come back: nothing is compared with what the other side happened to see.
//!
//! ```text
//!  client: plan -> segments -> socket ==> data plane ==> socket -> check against plan -> answer by plan   :server
//!          check against plan, server allowed by the configuration in force          <==
//! ```
//!
//! [`lab::check`] does that in an arm's lab while the configuration is rewritten ([`churn`]).

pub mod body;
pub mod bulk;
pub mod ceiling;
pub mod churn;
pub mod client;
pub mod desync;
pub mod finding;
#[cfg(feature = "peers")]
pub mod grpc;
pub mod head;
pub mod lab;
pub mod listen;
pub mod memory;
pub mod pattern;
pub mod peers;
pub mod plan;
pub mod raw;
pub mod recorder;
pub mod segments;
pub mod server;
pub mod task;
pub mod throughput;
pub mod world;
