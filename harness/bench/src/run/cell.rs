//! One cell: one arm measured once, with the counters around it.

use super::RunError;
use super::group::Contestant;
use crate::machine::Ticks;
use crate::record::{Merged, Record, Row};
use crate::scenario::{Design, Restarting};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kmesh_dataplanes::{ArmCounters, ArmError, Restart, RunningArm};
use kmesh_load::distribution::Distribution;
use kmesh_load::result::BlockResult;
use kmesh_stats::Latency;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Examples of wrong answers kept per arm.
const EXAMPLES: usize = 5;

/// Where a cell stands and how it is loaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) block: usize,
    pub(super) position: usize,
    /// Requests per second; none in a closed loop.
    pub(super) rate: Option<f64>,
}

/// Measures one cell and adds it to the record.
pub(super) fn measure(
    contestant: &mut Contestant,
    (scenario, restart): (&str, Option<Restarting>),
    design: &Design,
    place: Place,
    record: &mut Record,
) -> Result<(), RunError> {
    let before = counters(contestant)?;
    let ticks = Ticks::now();
    let rate = Some(place.rate.unwrap_or(0.0));
    let Contestant {
        generator,
        background,
        followed,
        name,
        arm,
        ..
    } = &mut *contestant;
    let (result, restarted) = std::thread::scope(|scope| {
        let (loaded, over) = std::sync::mpsc::channel::<()>();
        let restarting = restart.map(|restart| {
            let after = restart.after_ms + design.warmup_ms;
            scope.spawn(move || restarted(arm.as_mut(), restart.how, after, &over))
        });
        let (going, end) = std::sync::mpsc::channel::<()>();
        let changing = followed
            .as_mut()
            .map(|followed| scope.spawn(move || followed.keep_changing(&end)));
        let others: Vec<_> = background
            .iter_mut()
            .map(|(other, rate)| {
                let rate = Some(rate.unwrap_or(0.0));
                scope.spawn(move || other.run(scenario, design.cell_ms, design.warmup_ms, rate))
            })
            .collect();
        let result = generator.run(scenario, design.cell_ms, design.warmup_ms, rate);
        drop(going);
        drop(loaded);
        let restarted = match restarting.and_then(|thread| thread.join().ok()) {
            Some(outcome) => outcome.map_err(|source| RunError::Arm {
                arm: name.clone(),
                source,
            })?,
            None => None,
        };
        if let Some(Err(error)) = changing.and_then(|thread| thread.join().ok()) {
            return Err(RunError::Generator {
                arm: name.clone(),
                message: format!("its configuration cannot be changed: {error}"),
            });
        }
        for other in others {
            other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        result.map(|result| (result, restarted))
    })?;
    let steal = Ticks::now().steal_since(&ticks);
    let mut after = counters(contestant)?;
    let arm = contestant.name.clone();
    let mut row = row(&arm, design, place, &result, (&before, &after), steal);
    if let Some(ready_ms) = restarted {
        record
            .restarts
            .entry(arm.clone())
            .or_default()
            .push(ready_ms);
        // The new daemon counts from 0 and the old one has taken its counts along: there is no share to speak of.
        (row.kernel_requests, row.fallback_requests) = (0, 0);
        after.fallback.clear();
    }
    add(record, &arm, &result, (&before, &after))?;
    record.rows.push(row);
    Ok(())
}

/// Restarts the arm's data plane `after` so many milliseconds, unless the cell is `over` before; milliseconds until the new
/// one was ready, none if there is nothing to restart.
fn restarted(
    arm: &mut dyn RunningArm,
    how: Restart,
    after: u32,
    over: &Receiver<()>,
) -> Result<Option<f64>, ArmError> {
    if over.recv_timeout(Duration::from_millis(after.into())) != Err(RecvTimeoutError::Timeout) {
        return Ok(None);
    }
    let begun = Instant::now();
    let had_one = arm.restart(how)?;
    Ok(had_one.then(|| begun.elapsed().as_secs_f64() * 1e3))
}

fn counters(contestant: &Contestant) -> Result<ArmCounters, RunError> {
    contestant.arm.counters().map_err(|source| RunError::Arm {
        arm: contestant.name.clone(),
        source,
    })
}

/// CPU time of everything in the arm, microseconds: pods, sidecars, daemon.
fn cpu_us(counters: &ArmCounters) -> u64 {
    counters
        .cpu
        .values()
        .map(|time| time.user_us + time.system_us)
        .sum()
}

fn row(
    arm: &str,
    design: &Design,
    place: Place,
    result: &BlockResult,
    (before, after): (&ArmCounters, &ArmCounters),
    steal: f64,
) -> Row {
    let cpu = cpu_us(after)
        .saturating_sub(cpu_us(before))
        .saturating_sub(result.spun_us);
    let latency = &result.latency;
    Row {
        block: place.block,
        position: place.position,
        arm: arm.to_owned(),
        started_unix_ns: result.started_unix_ns,
        duration_s: result.duration_s,
        offered_rps: result.offered_rps.unwrap_or(0.0),
        achieved_rps: result.achieved_rps,
        sent: result.sent,
        ok: result.ok,
        dropped: result.dropped,
        errors: result.errors() + result.wrong_status + refused(result),
        wrong: wrong(result),
        connects: result.connects,
        p50_us: latency.service.p50_us,
        p90_us: latency.service.p90_us,
        p99_us: latency.service.p99_us,
        intended_p50_us: latency.intended.p50_us,
        intended_p90_us: latency.intended.p90_us,
        intended_p99_us: latency.intended.p99_us,
        connect_p50_us: latency.connect.p50_us,
        lag_p99_us: latency.lag.p99_us,
        cpu_us_per_request: cpu_us_per_request(design, result, cpu),
        kernel_requests: after.kernel_requests.saturating_sub(before.kernel_requests),
        fallback_requests: after.user_requests.saturating_sub(before.user_requests),
        steal,
    }
}

/// CPU time per answered request, without what the generator spent waiting for answers and due times; 0 if nothing was answered.
fn cpu_us_per_request(design: &Design, result: &BlockResult, cpu_us: u64) -> f64 {
    let answered = result.achieved_rps * result.duration_s;
    if answered <= 0.0 {
        return 0.0;
    }
    // The counters span the warm-up too; under a steady load its share of CPU time is its share of time.
    let whole = f64::from(design.cell_ms + design.warmup_ms);
    cpu_us as f64 * f64::from(design.cell_ms) / whole / answered
}

/// Wrong server, wrong request or wrong byte. A wrong status is an error: the mesh said so itself.
fn wrong(result: &BlockResult) -> u64 {
    result.wrong_decisions + result.wrong_seq + result.wrong_body - refused(result)
}

/// Answers that the generator counts as wrong decisions because no server signed them, but which are
/// a proxy's own refusals (404, 503): errors, since nobody wrong was reached.
fn refused(result: &BlockResult) -> u64 {
    let unsigned: u64 = result
        .served_by
        .values()
        .filter_map(|servers| servers.get(""))
        .sum();
    let refusals: u64 = result.statuses.range(400..).map(|(_, count)| count).sum();
    unsigned.min(refusals).min(result.wrong_decisions)
}

fn add(
    record: &mut Record,
    arm: &str,
    result: &BlockResult,
    (before, after): (&ArmCounters, &ArmCounters),
) -> Result<(), RunError> {
    let merged: &mut Merged = record.merged.entry(arm.to_owned()).or_default();
    let latency = &result.latency;
    for (into, from) in [
        (&mut merged.service, &latency.service),
        (&mut merged.intended, &latency.intended),
        (&mut merged.connect, &latency.connect),
        (&mut merged.lag, &latency.lag),
    ] {
        if from.count > 0 {
            into.merge(&histogram(arm, from)?);
        }
    }
    // Of the two views, the one that the scenario's ratios are of.
    let shown = if result.offered_rps.is_some() {
        &latency.intended
    } else {
        &latency.service
    };
    if shown.count > 0 {
        let counts = histogram(arm, shown)?.counts();
        record.cells.entry(arm.to_owned()).or_default().push(counts);
    }
    let served_by = record.served_by.entry(arm.to_owned()).or_default();
    for (server, answers) in result.served_by.values().flatten() {
        *served_by.entry(server.clone()).or_default() += answers;
    }
    let examples = record.examples.entry(arm.to_owned()).or_default();
    examples.extend(
        result
            .examples
            .iter()
            .take(EXAMPLES.saturating_sub(examples.len()))
            .cloned(),
    );
    let fallback = record.fallback.entry(arm.to_owned()).or_default();
    for (reason, count) in &after.fallback {
        let new = count.saturating_sub(before.fallback.get(reason).copied().unwrap_or(0));
        if new > 0 {
            *fallback.entry(reason.clone()).or_default() += new;
        }
    }
    if let (Some(after), Some(before)) = (&after.messages, &before.messages) {
        let (shortcut, total) = record.messages.entry(arm.to_owned()).or_default();
        *shortcut += after.shortcut.saturating_sub(before.shortcut);
        *total += after.total().saturating_sub(before.total());
    }
    Ok(())
}

fn histogram(arm: &str, distribution: &Distribution) -> Result<Latency, RunError> {
    let failed = |message: String| RunError::Generator {
        arm: arm.to_owned(),
        message,
    };
    let bytes = STANDARD
        .decode(&distribution.hdr)
        .map_err(|error| failed(format!("histogram text: {error}")))?;
    Latency::from_v2(&bytes).map_err(|error| failed(error.to_string()))
}
