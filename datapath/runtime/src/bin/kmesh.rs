#![no_std]
#![no_main]
//! Entry points.
#[cfg(target_arch="bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { loop {} }
