//! System calls of an arm's threads, counted by tracepoints through `perf_event_open` (counting, not sampling).

use super::tasks::Task;
use super::tracepoint::tracepoints;
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
        let all = tracepoints(&["raw_syscalls/sys_enter".to_owned()])?;
        let moving = tracepoints(&MOVING.map(|name| format!("syscalls/sys_enter_{name}")))?;
        let mut calls = Self {
            all: counters(tasks, &all)?,
            moving: counters(tasks, &moving)?,
        };
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

fn counters(tasks: &[Task], events: &[Tracepoint]) -> io::Result<Vec<Counter>> {
    let mut counters = Vec::new();
    let pairs = events
        .iter()
        .flat_map(|event| tasks.iter().map(move |task| (event, task)));
    for (event, task) in pairs {
        let mut builder = Builder::new(*event);
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
