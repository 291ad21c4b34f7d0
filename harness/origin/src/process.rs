//! What a measuring process asks of the kernel for itself.

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Turns SIGTERM and SIGINT into a descriptor that becomes readable. Call it before any thread starts.
///
/// # Errors
/// When the kernel refuses another descriptor.
pub fn stop_signals() -> nix::Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Has the kernel kill this process when the thread that started it ends, so that a killed harness
/// leaves nothing behind.
///
/// # Errors
/// When the kernel refuses.
pub fn die_with_parent() -> nix::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)
}

/// Allows as many open descriptors as the hard limit does: one socket per connection.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_descriptor_limit() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    } else {
        Ok(())
    }
}

/// Wakes this thread from timed waits at the asked time instead of up to 50 us later.
///
/// # Errors
/// When the kernel refuses.
pub fn tighten_timers() -> nix::Result<()> {
    prctl::set_timerslack(1)
}

/// Keeps this thread on one CPU.
///
/// # Errors
/// When there is no such CPU, or this process may not use it.
pub fn pin_to_cpu(cpu: usize) -> nix::Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)
}
