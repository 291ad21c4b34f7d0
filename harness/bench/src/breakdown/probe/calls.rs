//! System calls of an arm's threads, counted by tracepoints through `perf_event_open` (counting, not sampling).

use super::tasks::Task;
use perf_event::events::Tracepoint;
use perf_event::{Builder, Counter};
use std::io;

/// Calls that move payload across the boundary of user space. All of them are counted, whatever descriptor they are
/// used on: an arm's threads do little else with `read` and `write` than serve sockets.
const MOVING: [&str; 8] = [
    "read", "write", "readv", "writev", "sendto", "recvfrom", "sendmsg", "recvmsg",
];

/// Running counters.
#[derive(Debug)]
pub struct Calls {
    all: Vec<Counter>,
    moving: Vec<Counter>,
}

impl Calls {
    /// Starts to count for these threads. A thread that has ended meanwhile is left out.
    ///
    /// # Errors
    /// The kernel's refusal of the tracepoint, or of counting at all.
    pub fn start(tasks: &[Task]) -> io::Result<Self> {
        let enter = Tracepoint::with_name("raw_syscalls/sys_enter")?;
        let moving = MOVING
            .iter()
            .map(|name| Tracepoint::with_name(format!("syscalls/sys_enter_{name}")))
            .collect::<io::Result<Vec<Tracepoint>>>()?;
        let mut calls = Self {
            all: counters(tasks, enter)?,
            moving: Vec::new(),
        };
        for event in moving {
            calls.moving.extend(counters(tasks, event)?);
        }
        for counter in calls.all.iter_mut().chain(&mut calls.moving) {
            counter.enable()?;
        }
        Ok(calls)
    }

    /// Calls so far: all, and those that move payload.
    ///
    /// # Errors
    /// Whatever reading a counter answers.
    pub fn read(&mut self) -> io::Result<(u64, u64)> {
        let sum = |counters: &mut [Counter]| {
            counters
                .iter_mut()
                .map(Counter::read)
                .sum::<io::Result<u64>>()
        };
        Ok((sum(&mut self.all)?, sum(&mut self.moving)?))
    }
}

fn counters(tasks: &[Task], event: Tracepoint) -> io::Result<Vec<Counter>> {
    let mut counters = Vec::new();
    for task in tasks {
        let mut builder = Builder::new(event);
        builder
            .include_kernel()
            .any_cpu()
            .observe_pid(task.tid.cast_signed());
        match builder.build() {
            Ok(counter) => counters.push(counter),
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(counters)
}
