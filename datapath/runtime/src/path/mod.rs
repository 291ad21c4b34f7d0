//! What carries the bytes of an exchange.

pub mod splice;
