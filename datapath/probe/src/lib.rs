//! What the datapath reports about itself: one status document, its source and its readers.

pub mod client;
pub mod status;

pub use status::Status;
