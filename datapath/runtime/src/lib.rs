//! The eBPF programs.
#![no_std]
