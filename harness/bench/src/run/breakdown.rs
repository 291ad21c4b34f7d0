//! Measures where the time goes: each arm alone under load, once with counters around it and once with the profiler.

use super::group::{Arena, Contestant};
use super::{Interrupt, RunError, connections};
use crate::breakdown::figures::SCHEMA;
use crate::breakdown::probe::{
    Calls, PERIOD_NS, Profile, Runs, Segments, Symbols, Task, switches, tasks, traversals,
};
use crate::breakdown::{ArmBreakdown, Breakdown, Counts, Missing, PARTS, Part};
use crate::scenario::{Connection, Loop, Rate, Scenario};
use indicatif::ProgressBar;
use kmesh_load::plan::Idle;
use std::collections::BTreeMap;
use std::io;

/// Load before an arm is looked at, milliseconds: opens connections, fills pools.
const WARM_MS: u32 = 400;

/// Measures every arm of the scenario for `cell_ms` per pass.
///
/// # Errors
/// [`RunError`]: an arm or a generator failed, or the user interrupted. A probe that the kernel refuses is no error: its
/// figure is listed as missing.
pub fn breakdown(
    arena: &mut Arena,
    scenario: &Scenario,
    cell_ms: u32,
    command: Vec<String>,
    interrupt: &Interrupt,
    progress: &ProgressBar,
) -> Result<Breakdown, RunError> {
    let mut result = Breakdown {
        schema: SCHEMA.to_owned(),
        scenario: scenario.name.clone(),
        reference: scenario.arms.reference.clone(),
        command,
        ..Breakdown::default()
    };
    let mut contestants: Vec<&mut Contestant> = arena
        .contestants
        .iter_mut()
        .filter(|contestant| scenario.arms.run.contains(&contestant.name))
        .collect();
    let rate = prepare(&mut contestants, scenario)?;
    progress.set_length(contestants.len() as u64);
    for contestant in &mut contestants {
        if interrupt.asked() {
            return Err(RunError::Interrupted);
        }
        progress.set_message(format!("{}: {}", scenario.name, contestant.name));
        let arm = measure(contestant, scenario, cell_ms, rate, &mut result.missing)?;
        result.arms.push(arm);
        contestant.generator.close(&scenario.name)?;
        progress.inc(1);
    }
    Ok(result)
}

/// Opens the connections of every arm and settles the rate: requests per second, 0 for a closed loop.
fn prepare(contestants: &mut [&mut Contestant], scenario: &Scenario) -> Result<f64, RunError> {
    let mut slowest = f64::INFINITY;
    for contestant in contestants.iter_mut() {
        let mut plan = contestant.plan(scenario);
        // A generator that polls without rest would be counted as the application's system calls.
        plan.idle = Idle::Hybrid;
        contestant.generator.prepare(&scenario.name, plan)?;
        let warm = contestant
            .generator
            .run(&scenario.name, WARM_MS, 0, Some(0.0))?;
        slowest = slowest.min(warm.achieved_rps);
    }
    Ok(match (scenario.load.pace, scenario.load.rate) {
        (Loop::Closed, _) | (Loop::Open, Rate::Unset) => 0.0,
        (Loop::Open, Rate::Fixed(rate)) => rate,
        (Loop::Open, Rate::OfSlowest(share)) => (slowest * share).max(1.0).round(),
    })
}

fn measure(
    contestant: &mut Contestant,
    scenario: &Scenario,
    cell_ms: u32,
    rate: f64,
    missing: &mut Vec<Missing>,
) -> Result<ArmBreakdown, RunError> {
    let name = contestant.name.clone();
    let failed = |source: kmesh_dataplanes::ArmError| RunError::Arm {
        arm: name.clone(),
        source,
    };
    let pods: Vec<String> = contestant
        .arm
        .lab()
        .pods()
        .iter()
        .map(|pod| pod.name().to_owned())
        .collect();
    let tasks = tasks(contestant.arm.lab().cgroup(), &pods);

    // The counting pass.
    let before = Look::new(contestant, &tasks, missing);
    let mut calls = noted(Calls::start(&tasks), "system calls and copies", missing);
    let runs = noted(Runs::start(), "eBPF runs and run time", missing);
    let cpu_before = contestant.arm.counters().map_err(failed)?;
    let result = contestant
        .generator
        .run(&scenario.name, cell_ms, 0, Some(rate))?;
    let cpu_after = contestant.arm.counters().map_err(failed)?;
    let bpf = runs.as_ref().map(Runs::since_start);
    drop(runs);
    let calls = calls
        .as_mut()
        .and_then(|calls| noted(calls.read(), "system calls and copies", missing));
    let after = Look::new(contestant, &tasks, missing);
    let requests = result.ok.max(1);
    let per_request = |count: u64| count as f64 / requests as f64;

    let mut counts = Counts {
        connections: connections_per_client(contestant, scenario),
        context_switches: Some(per_request(after.switches_since(&before))),
        syscalls: calls.map(|(all, _)| per_request(all)),
        copies: calls.map(|(_, moving)| per_request(moving)),
        bpf_runs: bpf.map(|(runs, _)| per_request(runs)),
        bpf_us: bpf.map(|(_, time)| time.as_secs_f64() * 1e6 / requests as f64),
        ..Counts::default()
    };
    if let (Some(now), Some(earlier)) = (&after.segments, &before.segments) {
        counts.segments = Some(per_request(now.out_since(earlier)));
        match now.with_data_since(earlier) {
            Some(segments) => counts.traversals = Some(traversals(segments, requests)),
            None => note(
                missing,
                "stack traversals",
                "connections ended during the count and took their segments along",
            ),
        }
    }
    let places = cpu_after
        .cpu
        .iter()
        .map(|(place, time)| {
            let earlier = cpu_before.cpu.get(place).copied().unwrap_or_default();
            let us =
                (time.user_us + time.system_us).saturating_sub(earlier.user_us + earlier.system_us);
            (place.clone(), per_request(us))
        })
        .collect();

    let (parts, samples) = profile(contestant, scenario, cell_ms, rate, &tasks, missing)?;
    Ok(ArmBreakdown {
        name,
        requests: result.ok,
        counts,
        parts,
        places,
        samples,
    })
}

/// The profiling pass.
fn profile(
    contestant: &mut Contestant,
    scenario: &Scenario,
    cell_ms: u32,
    rate: f64,
    tasks: &[Task],
    missing: &mut Vec<Missing>,
) -> Result<(Vec<Part>, u64), RunError> {
    const FIGURE: &str = "CPU time by part";
    let symbols = noted(Symbols::read(), FIGURE, missing);
    let (Some(symbols), Some(profile)) = (symbols, noted(Profile::start(), FIGURE, missing)) else {
        return Ok((Vec::new(), 0));
    };
    let result = contestant
        .generator
        .run(&scenario.name, cell_ms, 0, Some(rate))?;
    let Some(samples) = noted(profile.finish(tasks, &symbols), FIGURE, missing) else {
        return Ok((Vec::new(), 0));
    };
    if samples.lost > 0 {
        let reason = format!("{} samples were lost, shares may be off", samples.lost);
        note(missing, FIGURE, &reason);
    }
    let us = |count: u64| count as f64 * PERIOD_NS as f64 / 1e3 / result.ok.max(1) as f64;
    let parts = PARTS
        .iter()
        .filter_map(|(name, _)| {
            let count = *samples.parts.get(name)?;
            Some(Part {
                name: (*name).to_owned(),
                us: us(count),
            })
        })
        .collect();
    Ok((parts, samples.total()))
}

/// What can be read at any time, before and after.
struct Look {
    segments: Option<Segments>,
    switches: BTreeMap<u32, u64>,
}

impl Look {
    fn new(contestant: &Contestant, tasks: &[Task], missing: &mut Vec<Missing>) -> Self {
        Self {
            segments: noted(
                Segments::of(contestant.arm.lab()),
                "TCP segments and stack traversals",
                missing,
            ),
            switches: switches(tasks),
        }
    }

    /// Threads that ended in between are left out.
    fn switches_since(&self, earlier: &Self) -> u64 {
        self.switches
            .iter()
            .filter_map(|(tid, count)| Some(count.saturating_sub(*earlier.switches.get(tid)?)))
            .sum()
    }
}

/// Only kept connections can be counted.
fn connections_per_client(contestant: &Contestant, scenario: &Scenario) -> Option<f64> {
    let open = connections::established(contestant.arm.lab()).ok()?;
    (scenario.load.connection == Connection::KeepAlive)
        .then(|| (open - contestant.idle_connections) / f64::from(scenario.load.connections))
}

/// The value, or a line about the figure that has no source.
fn noted<T>(outcome: io::Result<T>, figure: &str, missing: &mut Vec<Missing>) -> Option<T> {
    outcome
        .inspect_err(|error| note(missing, figure, &error.to_string()))
        .ok()
}

fn note(missing: &mut Vec<Missing>, figure: &str, reason: &str) {
    let entry = Missing {
        figure: figure.to_owned(),
        reason: reason.to_owned(),
    };
    if !missing.contains(&entry) {
        missing.push(entry);
    }
}
