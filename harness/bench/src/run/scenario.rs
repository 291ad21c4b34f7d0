//! One scenario on arms that are up: probe, blocks, figures, verdict.

use super::cell::{self, Place};
use super::group::{Arena, Contestant};
use super::{Interrupt, RunError, connections, traffic};
use crate::machine::Ticks;
use crate::record::Record;
use crate::report::Stored;
use crate::scenario::{Connection, Design, Loop, Rate, Scenario};
use crate::summarise::{Run, summarise};
use crate::summary::{Env, Summary};
use indicatif::ProgressBar;
use kmesh_stats::williams;
use std::time::{Duration, Instant};

/// Length of the closed-loop look at each arm before the blocks, milliseconds: fills pools and caches,
/// and finds the capacity that a relative rate refers to.
const PROBE_MS: u32 = 250;
/// Its discarded start.
const PROBE_WARMUP_MS: u32 = 150;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Fewer and shorter cells.
    pub quick: bool,
    /// The machine and the command, as `machine::describe` saw them at the start.
    pub env: Env,
}

/// What a scenario brought.
#[derive(Debug)]
pub struct Measured {
    /// The published figures.
    pub summary: Summary,
    /// The rows behind them.
    pub record: Record,
    /// Configuration as it was in force, by path below the result's folder.
    pub artefacts: Vec<Stored>,
}

/// Runs one scenario on the arms of its group that it names.
///
/// # Errors
/// [`RunError`]: an arm or a generator failed, or the user interrupted.
pub fn measure(
    arena: &mut Arena,
    scenario: &Scenario,
    options: &Options,
    interrupt: &Interrupt,
    progress: &ProgressBar,
) -> Result<Measured, RunError> {
    let (started, ticks) = (Instant::now(), Ticks::now());
    let mut env = options.env.clone();
    env.started = crate::machine::rfc3339(std::time::SystemTime::now());
    let design = scenario.design(options.quick);
    let mut contestants: Vec<&mut Contestant> = arena
        .contestants
        .iter_mut()
        .filter(|c| scenario.arms.run.contains(&c.name))
        .collect();
    let mut record = Record::default();
    let rate = prepare(&mut contestants, scenario, &mut record, progress)?;
    blocks(
        &mut contestants,
        scenario,
        &design,
        rate,
        &mut record,
        interrupt,
        progress,
    )?;
    let artefacts = finish(&mut contestants, scenario)?;

    let arms: Vec<String> = contestants.iter().map(|c| c.name.clone()).collect();
    env.seconds = started.elapsed().as_secs_f64();
    env.steal = Ticks::now().steal_since(&ticks);
    let run = Run {
        arms: &arms,
        record: &record,
        quick: options.quick,
        rate,
        env,
    };
    let summary = summarise(scenario, run);
    Ok(Measured {
        summary,
        record,
        artefacts,
    })
}

/// Opens the connections of every arm, looks at each arm's capacity and connections, and settles the rate.
fn prepare(
    contestants: &mut [&mut Contestant],
    scenario: &Scenario,
    record: &mut Record,
    progress: &ProgressBar,
) -> Result<Option<f64>, RunError> {
    let mut slowest = f64::INFINITY;
    for contestant in contestants.iter_mut() {
        progress.set_message(format!("{}: preparing {}", scenario.name, contestant.name));
        let arm_failed = |source: kmesh_dataplanes::ArmError| RunError::Arm {
            arm: contestant.name.clone(),
            source,
        };
        let decides = contestant.arm.decides();
        if decides {
            record.deciding.push(contestant.name.clone());
        }
        let targets = scenario
            .vip
            .map(|vip| contestant.arm.targets(vip))
            .unwrap_or_default();
        contestant
            .generator
            .prepare(&scenario.name, traffic::plan(scenario, targets, decides))?;
        let probe =
            contestant
                .generator
                .run(&scenario.name, PROBE_MS, PROBE_WARMUP_MS, Some(0.0))?;
        slowest = slowest.min(probe.achieved_rps);
        if scenario.load.connection == Connection::KeepAlive {
            let open =
                connections::established(contestant.arm.lab()).map_err(|e| arm_failed(e.into()))?;
            let per_client =
                (open - contestant.idle_connections) / f64::from(scenario.load.connections);
            record
                .connections_per_client
                .insert(contestant.name.clone(), per_client);
        }
    }
    Ok(match (scenario.load.pace, scenario.load.rate) {
        (Loop::Closed, _) | (Loop::Open, Rate::Unset) => None,
        (Loop::Open, Rate::Fixed(rate)) => Some(rate),
        (Loop::Open, Rate::OfSlowest(share)) => Some((slowest * share).max(1.0).round()),
    })
}

/// Measures every arm once per block, in balanced order.
fn blocks(
    contestants: &mut [&mut Contestant],
    scenario: &Scenario,
    design: &Design,
    rate: Option<f64>,
    record: &mut Record,
    interrupt: &Interrupt,
    progress: &ProgressBar,
) -> Result<(), RunError> {
    let orders = williams::schedule(contestants.len(), design.blocks, design.seed);
    progress.set_length((design.blocks * contestants.len()) as u64);
    progress.set_position(0);
    for (block, order) in orders.iter().enumerate() {
        for (position, &index) in order.iter().enumerate() {
            if interrupt.asked() {
                return Err(RunError::Interrupted);
            }
            let contestant = &mut *contestants[index];
            progress.set_message(format!("{}: {}", scenario.name, contestant.name));
            cell::measure(
                contestant,
                &scenario.name,
                design,
                Place {
                    block,
                    position,
                    rate,
                },
                record,
            )?;
            progress.inc(1);
            std::thread::sleep(Duration::from_millis(design.idle_ms.into()));
        }
        for contestant in contestants.iter_mut() {
            let arm = contestant.name.clone();
            contestant
                .arm
                .check_alive()
                .map_err(|source| RunError::Arm { arm, source })?;
        }
    }
    Ok(())
}

/// Closes the connections and collects what each data plane was given.
fn finish(
    contestants: &mut [&mut Contestant],
    scenario: &Scenario,
) -> Result<Vec<Stored>, RunError> {
    let mut artefacts = Vec::new();
    if let Ok(resources) = std::fs::read(&scenario.resources) {
        artefacts.push(("artefacts/resources.yaml".to_owned(), resources));
    }
    for contestant in contestants.iter_mut() {
        contestant.generator.close(&scenario.name)?;
        let arm = contestant.name.clone();
        let files = contestant
            .arm
            .artefacts()
            .map_err(|source| RunError::Arm { arm, source })?;
        let named = files
            .into_iter()
            .map(|(name, content)| (format!("artefacts/{}/{name}", contestant.name), content));
        artefacts.extend(named);
    }
    Ok(artefacts)
}
