//! The eBPF object as bytes.
