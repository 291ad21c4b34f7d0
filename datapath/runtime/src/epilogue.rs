//! What every object of eBPF programs ends with: its licence, and a panic handler that is never called.
//!
//! A module of each binary: a library cannot give a binary its licence section.

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: nothing in these programs panics, and the verifier would refuse an endless loop.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
