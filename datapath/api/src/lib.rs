//! The contract between the kernel programs and user space.
//!
//! Every type here is `repr(C)`, has no implicit padding that matters, no `bool` and no Rust `enum` field: the kernel
//! object and the user-space binaries are built by two compilers and meet only in these bytes. One file per family;
//! every size stands in [`limits`] with its reason.
#![no_std]

pub mod address;
pub mod automaton;
pub mod cluster;
pub mod event;
pub mod exchange;
pub mod head;
pub mod image;
pub mod limits;
pub mod listener;
pub mod pod;
pub mod pool;
pub mod reason;
pub mod route;
pub mod share;
pub mod shortcut;
pub mod slot;
pub mod splice;
pub mod testrun;
#[cfg(feature = "user")]
mod user;

pub use address::Address;
pub use image::Image;
pub use reason::Reason;
