//! The eBPF programs: thin glue between the kernel's hooks and the decisions in `kmesh-orchestration`.
//!
//! One module per hook, one for the maps, and what several hooks need. Entry points are in `bin/kmesh.rs`. What can be decided without a kernel context is
//! not here but in orchestration, where it can be tested and fuzzed: sk_msg and sk_skb have no test-run.
#![no_std]
#![cfg_attr(
    not(target_arch = "bpf"),
    allow(unused, reason = "builds for the BPF target only")
)]

mod asked;
pub mod backlog;
pub mod connect;
pub mod counter;
pub mod dice;
pub mod donate;
pub mod established;
mod exchange;
pub mod generation;
mod large;
pub mod lease;
pub mod maps;
mod message;
mod overlap;
mod owed;
pub mod path;
mod probe_read;
pub mod request;
pub mod response;
mod sock_ops;
pub mod tcp;
mod unfolded;
pub mod upstream;
