//! The eBPF object as bytes: the only crate that knows how the kernel programs are built.

/// The ELF object with all programs and maps; empty if it was built with `AYA_BUILD_SKIP=1`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kmesh"));

/// The ELF object of the sockmap arm (`sockops_meet`, `msg_shortcut`); empty if it was built with `AYA_BUILD_SKIP=1`.
pub static SOCKMAP: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sockmap"));

/// The ELF object with `decide_head`, the decision for `BPF_PROG_TEST_RUN`; empty if it was built with `AYA_BUILD_SKIP=1`.
pub static TESTRUN: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/testrun"));
