//! Coordinated omission, shown: the servers stop for half a second under a steady load, and the same requests are looked at in two ways.
//!
//! A generator that waits for answers sends nothing while the server stands still, and then reports a handful of slow requests: the
//! service time's 99th percentile hardly moves. Counted from the moment each request was due, everything that fell into the stall was late.

use super::{Arena, Group, Interrupt, RunError};
use crate::binaries::Programs;
use crate::scenario::{Connection, Loop, Rate, Scenario};
use crate::summary::Percentiles;
use kmesh_load::distribution::Distribution;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::sync::mpsc;
use std::time::Duration;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct StallOptions {
    /// Requests per second, evenly spaced.
    pub rate: f64,
    /// How long the servers stand still, milliseconds.
    pub stall_ms: u32,
    /// Length of the load, milliseconds; the stall begins in its middle.
    pub cell_ms: u32,
    /// Connections that share the load.
    pub connections: u32,
}

/// The same requests in two ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stalled {
    /// The arm.
    pub arm: String,
    /// Requests per second that fell due.
    pub offered_rps: f64,
    /// Length of the stall, milliseconds.
    pub stall_ms: u32,
    /// Requests sent.
    pub sent: u64,
    /// From each request's start to its last byte, microseconds: what a generator sees that waits for answers.
    pub service_us: Percentiles,
    /// From the moment each request was due, microseconds: what a user sees.
    pub intended_us: Percentiles,
}

/// Brings one arm of a scenario up, loads it, and stops all its servers in between.
///
/// # Errors
/// The arm or its generator fails, or the user interrupts.
pub fn stall(
    scenario: &Scenario,
    arm: &str,
    options: StallOptions,
    programs: &Programs,
    interrupt: &Interrupt,
) -> Result<Stalled, RunError> {
    let mut scenario = scenario.clone();
    scenario.arms.run = vec![arm.to_owned()];
    scenario.load.pace = Loop::Open;
    scenario.load.rate = Rate::Fixed(options.rate);
    scenario.load.connections = options.connections;
    scenario.load.connection = Connection::KeepAlive;
    let group = Group {
        scenarios: vec![scenario.clone()],
        arms: vec![arm.to_owned()],
    };
    let mut arena = Arena::up(&group, programs, interrupt)?;
    let Some(contestant) = arena.contestants.first_mut() else {
        return Err(RunError::UnknownArm(arm.to_owned()));
    };
    let failed = |message: String| RunError::Generator {
        arm: arm.to_owned(),
        message,
    };
    let servers = Servers::of(&scenario, contestant.arm.lab())
        .map_err(|error| failed(format!("the servers cannot be stopped: {error}")))?;
    let plan = contestant.plan(&scenario);
    contestant.generator.prepare(&scenario.name, plan)?;
    let half = Duration::from_millis((options.cell_ms / 2).into());
    let pause = Duration::from_millis(options.stall_ms.into());
    let (over, ended) = mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        let stopper = scope.spawn(move || {
            // Ends early, with the servers running, should the load end before its time.
            if ended.recv_timeout(half) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _stopped = servers.stop();
                let _ = ended.recv_timeout(pause);
            }
        });
        let result =
            contestant
                .generator
                .run(&scenario.name, options.cell_ms, 0, Some(options.rate));
        drop(over);
        let _ = stopper.join();
        result
    })?;
    Ok(Stalled {
        arm: arm.to_owned(),
        offered_rps: options.rate,
        stall_ms: options.stall_ms,
        sent: result.sent,
        service_us: percentiles(&result.latency.service),
        intended_us: percentiles(&result.latency.intended),
    })
}

fn percentiles(distribution: &Distribution) -> Percentiles {
    Percentiles {
        p50: distribution.p50_us,
        p90: distribution.p90_us,
        p99: distribution.p99_us,
        p999: distribution.p999_us,
    }
}

/// The server processes of a lab.
struct Servers(Vec<Pid>);

/// Servers that stand still; dropping it lets them go on.
struct Stopped<'s>(&'s Servers);

impl Servers {
    fn of(scenario: &Scenario, lab: &netns_lab::Lab) -> Result<Self, String> {
        let mut pids = Vec::new();
        for server in &scenario.server {
            let pod = lab.pod(&server.pod).map_err(|error| error.to_string())?;
            let path = pod.cgroup().join("cgroup.procs");
            let text = std::fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            pids.extend(
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .map(Pid::from_raw),
            );
        }
        Ok(Self(pids))
    }

    fn signal(&self, signal: Signal) {
        // One that has ended since is the generator's to report.
        for pid in &self.0 {
            let _ = kill(*pid, signal);
        }
    }

    fn stop(&self) -> Stopped<'_> {
        self.signal(Signal::SIGSTOP);
        Stopped(self)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}
