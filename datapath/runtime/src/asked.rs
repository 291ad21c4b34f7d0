//! What the controller asks a program for that it runs itself (`BPF_PROG_TEST_RUN`).

use aya_ebpf::programs::TcContext;

/// What follows the packet's Ethernet header; none if the packet is too short for it.
#[inline(always)]
pub(crate) fn asked<T>(ctx: &TcContext) -> Option<T> {
    const ETHERNET: usize = 14;
    ctx.load(ETHERNET).ok()
}
