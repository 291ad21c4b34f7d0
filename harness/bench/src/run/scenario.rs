//! One scenario on arms that are up: probe, blocks, figures, verdict.

use super::cell::{self, Place};
use super::generator::Generator;
use super::group::{Arena, Contestant};
use super::{Interrupt, RunError, connections, traffic};
use crate::binaries::Programs;
use crate::bpf;
use crate::machine::Ticks;
use crate::record::Record;
use crate::report::StoredFile;
use crate::scenario::{Connection, Design, Loop, Rate, Scenario};
use crate::summarise::{Run, summarise};
use crate::summary::{Env, Status, Summary};
use indicatif::ProgressBar;
use kmesh_stats::williams;
use std::path::Path;
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
    pub artefacts: Vec<StoredFile>,
}

/// Runs one scenario on the arms of its group that it names. Stops at one of the design's looks when
/// the run is fit and every expectation decided.
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
    let mut session = Session::begin(arena, scenario, options, progress)?;
    for look in session.design.all_looks() {
        session.advance(look, interrupt, progress)?;
        let decided = |status| matches!(status, Status::Held | Status::Missed);
        if look < session.design.blocks && decided(session.summary().verdict.status) {
            break;
        }
    }
    session.finish()
}

/// A scenario that is being measured: open connections, the order of all blocks, the rows so far.
pub(crate) struct Session<'a> {
    contestants: Vec<&'a mut Contestant>,
    scenario: &'a Scenario,
    options: &'a Options,
    design: Design,
    /// The order of the arms in every block, fixed before the first.
    orders: Vec<Vec<usize>>,
    rate: Option<f64>,
    record: Record,
    started: Instant,
    started_text: String,
    ticks: Ticks,
}

impl<'a> Session<'a> {
    /// Opens the connections and settles the rate; no block is measured yet.
    pub(crate) fn begin(
        arena: &'a mut Arena,
        scenario: &'a Scenario,
        options: &'a Options,
        progress: &ProgressBar,
    ) -> Result<Self, RunError> {
        let (started, ticks) = (Instant::now(), Ticks::now());
        let started_text = crate::machine::rfc3339(std::time::SystemTime::now());
        let design = scenario.design(options.quick);
        let mut contestants: Vec<&mut Contestant> = arena
            .contestants
            .iter_mut()
            .filter(|c| scenario.arms.run.contains(&c.name))
            .collect();
        let mut record = Record::default();
        let rate = prepare(&mut contestants, scenario, &mut record, progress)?;
        let orders = williams::schedule(contestants.len(), design.blocks, design.seed);
        progress.set_length((design.blocks * contestants.len()) as u64);
        progress.set_position(0);
        Ok(Self {
            contestants,
            scenario,
            options,
            design,
            orders,
            rate,
            record,
            started,
            started_text,
            ticks,
        })
    }

    /// Measures until `blocks` blocks are complete.
    pub(crate) fn advance(
        &mut self,
        blocks: usize,
        interrupt: &Interrupt,
        progress: &ProgressBar,
    ) -> Result<(), RunError> {
        for block in self.record.blocks()..blocks.min(self.orders.len()) {
            self.block(block, interrupt, progress)?;
        }
        Ok(())
    }

    /// Measures every arm once.
    fn block(
        &mut self,
        block: usize,
        interrupt: &Interrupt,
        progress: &ProgressBar,
    ) -> Result<(), RunError> {
        for (position, &index) in self.orders[block].iter().enumerate() {
            if interrupt.asked() {
                return Err(RunError::Interrupted);
            }
            let contestant = &mut *self.contestants[index];
            progress.set_message(format!("{}: {}", self.scenario.name, contestant.name));
            let place = Place {
                block,
                position,
                rate: self.rate,
            };
            let scenario = (self.scenario.name.as_str(), self.scenario.restart);
            cell::measure(contestant, scenario, &self.design, place, &mut self.record)?;
            progress.inc(1);
            std::thread::sleep(Duration::from_millis(self.design.idle_ms.into()));
        }
        for contestant in &mut self.contestants {
            let arm = contestant.name.clone();
            contestant
                .arm
                .check_alive()
                .map_err(|source| RunError::Arm { arm, source })?;
        }
        Ok(())
    }

    /// One more cell per arm with the kernel counting the run time of BPF programs; its rows are not kept,
    /// because counting slows the programs down. Arms whose lab holds no programs are left out, and so is
    /// everything on a kernel that does not count.
    fn count_bpf(&mut self) -> Result<(), RunError> {
        let Ok(_counting) = bpf::count_run_time() else {
            return Ok(());
        };
        let rate = Some(self.rate.unwrap_or(0.0));
        for contestant in &mut self.contestants {
            let cgroup = contestant.arm.lab().cgroup().to_owned();
            let Ok(before) = bpf::run_times(&cgroup) else {
                continue;
            };
            if before.is_empty() {
                continue;
            }
            let cell = self.design.cell_ms;
            let result = contestant
                .generator
                .run(&self.scenario.name, cell, 0, rate)?;
            if let Ok(after) = bpf::run_times(&cgroup) {
                let costs = bpf::per_request(&before, &after, result.sent);
                self.record.bpf.insert(contestant.name.clone(), costs);
            }
        }
        Ok(())
    }

    /// The rows so far.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Figures and verdict of the rows so far.
    pub(crate) fn summary(&self) -> Summary {
        let arms: Vec<String> = self.contestants.iter().map(|c| c.name.clone()).collect();
        let mut env = self.options.env.clone();
        env.started.clone_from(&self.started_text);
        env.seconds = self.started.elapsed().as_secs_f64();
        env.steal = Ticks::now().steal_since(&self.ticks);
        let run = Run {
            arms: &arms,
            record: &self.record,
            quick: self.options.quick,
            rate: self.rate,
            env,
        };
        summarise(self.scenario, run)
    }

    /// Closes the connections and collects what is kept.
    pub(crate) fn finish(mut self) -> Result<Measured, RunError> {
        self.count_bpf()?;
        let artefacts = finish(&mut self.contestants, self.scenario)?;
        Ok(Measured {
            summary: self.summary(),
            record: self.record,
            artefacts,
        })
    }
}

/// Opens the connections of every arm, looks at each arm's capacity and connections, and settles the rate.
fn prepare(
    contestants: &mut [&mut Contestant],
    scenario: &Scenario,
    record: &mut Record,
    progress: &ProgressBar,
) -> Result<Option<f64>, RunError> {
    let mut slowest = f64::INFINITY;
    let load = &Programs::locate().load;
    for contestant in contestants.iter_mut() {
        progress.set_message(format!("{}: preparing {}", scenario.name, contestant.name));
        let name = contestant.name.clone();
        let arm_failed = |source: kmesh_dataplanes::ArmError| RunError::Arm {
            arm: name.clone(),
            source,
        };
        if contestant.arm.decides() {
            record.deciding.push(contestant.name.clone());
        }
        let plan = contestant.plan(scenario);
        contestant.generator.prepare(&scenario.name, plan)?;
        start_background(contestant, scenario, load)?;
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

/// Starts a generator in each pod of the scenario's background load and opens its connections.
fn start_background(
    contestant: &mut Contestant,
    scenario: &Scenario,
    program: &Path,
) -> Result<(), RunError> {
    contestant.background.clear();
    let arm = contestant.name.clone();
    let failed = |source| RunError::Arm {
        arm: arm.clone(),
        source,
    };
    for background in &scenario.background {
        let vip = background.vip.or(scenario.vip);
        for pod in &background.pods {
            let pod = contestant
                .arm
                .lab()
                .pod(pod)
                .map_err(|error| failed(error.into()))?;
            let cpu = scenario.placement.generator.first().copied();
            let mut generator = Generator::start(&arm, program, pod, cpu)?;
            let targets = vip
                .map(|vip| contestant.arm.targets(vip))
                .unwrap_or_default();
            let plan = traffic::background(scenario, background, targets, contestant.arm.decides());
            generator.prepare(&scenario.name, plan)?;
            contestant.background.push((generator, background.rate));
        }
    }
    Ok(())
}

/// Closes the connections and collects what each data plane was given.
fn finish(
    contestants: &mut [&mut Contestant],
    scenario: &Scenario,
) -> Result<Vec<StoredFile>, RunError> {
    let mut artefacts = Vec::new();
    if let Ok(resources) = std::fs::read(&scenario.resources) {
        artefacts.push(("resources.yaml".to_owned(), resources));
    }
    for contestant in contestants.iter_mut() {
        contestant.generator.close(&scenario.name)?;
        contestant.background.clear();
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
