//! G2 in real labs: base, a second base, head and no mesh, all alive, every block in balanced order.
//!
//! Only `kmeshd` differs between the lanes. Generator and servers are head's in all of them: the measuring
//! instrument must not be part of the comparison.

use super::counts::{self, Count};
use super::side::Side;
use super::wall::{Bench, METRICS, Metric, Round, Samples};
use crate::binaries::Programs;
use crate::bpf::{self, Footprint};
use crate::record::{Record, metric};
use crate::report;
use crate::run::{Arena, Interrupt, Lane, Measured, Options, RunError, Session};
use crate::scenario::{Connection, Scenario};
use crate::summary::{Reason, Status};
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Lanes in the order of reports.
pub const LANES: [&str; 4] = ["base", "base-again", "head", "direct"];

/// Why the clock could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// An arm or a generator.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The figures cannot be compared, most likely because every request of a cell failed.
    #[error("{0}")]
    Stats(#[from] kmesh_stats::Error),
    /// The results cannot be written.
    #[error(transparent)]
    Write(#[from] report::ReadError),
}

/// What one measurement of one scenario was like.
#[derive(Debug, Clone, Serialize)]
pub struct Sitting {
    /// The scenario.
    pub scenario: String,
    /// Whether it was the confirming one.
    pub confirming: bool,
    /// From 1; the second is the repetition of an unfit first.
    pub attempt: usize,
    /// Blocks measured.
    pub blocks: usize,
    /// How it ended.
    pub status: Status,
    /// Why it was unfit or wrong.
    pub reasons: Vec<Reason>,
    /// Wrong answers by lane.
    pub wrong: Vec<(String, u64)>,
}

/// Labs for the gate.
pub struct Live<'a> {
    scenarios: Vec<Scenario>,
    lanes: Vec<Lane>,
    options: &'a Options,
    interrupt: &'a Interrupt,
    progress: &'a ProgressBar,
    /// Where every sitting is written.
    out: Option<PathBuf>,
    /// Labs that are up, and the scenario they were built for.
    arena: Option<(usize, Arena)>,
    /// Every measurement, in order.
    pub sittings: Vec<Sitting>,
    /// Programs and maps of base and head, read once.
    pub footprints: Option<(Footprint, Footprint)>,
}

impl<'a> Live<'a> {
    /// Prepares; nothing is up yet. `mutant` are response parameters for head's servers, such as
    /// `delay=60us`: a slowdown that a working gate must find.
    pub fn new(
        scenarios: Vec<Scenario>,
        (base, head): (&Side, &Side),
        mutant: Option<&str>,
        (options, interrupt, progress): (&'a Options, &'a Interrupt, &'a ProgressBar),
        out: Option<&Path>,
    ) -> Self {
        let lane = |name: &str| {
            let mut programs = Programs::locate();
            programs.load = head.bin.join("kmesh-load");
            programs.arms.origin = head.bin.join("kmesh-origin");
            let side = if name == "head" { head } else { base };
            programs.arms.kmeshd = side.bin.join("kmeshd");
            Lane {
                name: name.to_owned(),
                arm: if name == "direct" { "direct" } else { "kmesh" }.to_owned(),
                programs,
                server_params: mutant.filter(|_| name == "head").map(str::to_owned),
            }
        };
        Self {
            scenarios: scenarios.into_iter().map(prepared).collect(),
            lanes: LANES.iter().map(|name| lane(name)).collect(),
            options,
            interrupt,
            progress,
            out: out.map(Path::to_owned),
            arena: None,
            sittings: Vec::new(),
            footprints: None,
        }
    }

    /// Names of the scenarios.
    pub fn names(&self) -> Vec<String> {
        self.scenarios.iter().map(|s| s.name.clone()).collect()
    }

    /// Brings the labs of one scenario up, if only to look at their programs.
    ///
    /// # Errors
    /// An arm or a generator that does not come up.
    pub fn up(&mut self, scenario: usize, anew: bool) -> Result<(), LiveError> {
        let wanted = &self.scenarios[scenario];
        let usable = self
            .arena
            .as_ref()
            .is_some_and(|(of, _)| !anew && crate::run::same_lab(&self.scenarios[*of], wanted));
        if !usable {
            // The old labs go before the new ones come: an idle daemon is small, but it is not nothing.
            self.arena = None;
            self.progress
                .set_message(format!("bringing up {}", LANES.join(", ")));
            let arena = Arena::up_lanes(wanted, &self.lanes, self.interrupt)?;
            if self.footprints.is_none() {
                self.footprints = footprints(&arena);
            }
            self.arena = Some((scenario, arena));
        }
        Ok(())
    }

    /// System calls per request of base and head, over kept and over short connections. Growth is counted again: it
    /// is one if it is there both times.
    ///
    /// # Errors
    /// Labs that do not come up, a generator that fails, a kernel that counts no calls.
    pub fn calls(&mut self) -> Result<Vec<Count>, LiveError> {
        self.up(0, false)?;
        let scenario = &self.scenarios[0];
        let Some((_, arena)) = &mut self.arena else {
            return Err(RunError::Interrupted.into());
        };
        let mut counts = Vec::new();
        for connection in [Connection::KeepAlive, Connection::ShortReset] {
            self.progress
                .set_message(format!("counting system calls, {connection}"));
            let mut count = || {
                if self.interrupt.asked() {
                    return Err(RunError::Interrupted);
                }
                let of = arena.calls_per_request(scenario, &["base", "head"], connection)?;
                Ok(counts::calls(&connection.to_string(), &of[0], &of[1]))
            };
            let first = count()?;
            let grew = first.iter().any(Count::grew);
            let second = if grew { count()? } else { Vec::new() };
            counts.extend(counts::twice(first, &second));
        }
        Ok(counts)
    }

    fn sitting(
        &mut self,
        index: usize,
        (round, attempt): (Round, usize),
        looks: &[usize],
        decided: &dyn Fn(&[Samples]) -> bool,
    ) -> Result<(Vec<Samples>, Status), LiveError> {
        let scenario = &self.scenarios[index];
        let Some((_, arena)) = &mut self.arena else {
            return Err(RunError::Interrupted.into());
        };
        let mut session = Session::begin(arena, scenario, self.options, self.progress)?;
        for look in looks {
            session.advance(*look, self.interrupt, self.progress)?;
            if decided(&samples(session.record())) {
                break;
            }
        }
        let measured = session.finish()?;
        let confirming = round == Round::Confirm;
        if let Some(out) = &self.out {
            let folder = match (confirming, attempt) {
                (false, 1) => out.clone(),
                (false, _) => out.join(format!("attempt-{attempt}")),
                (true, 1) => out.join("confirm"),
                (true, _) => out.join(format!("confirm-attempt-{attempt}")),
            };
            report::write_scenario(
                &folder,
                &measured.summary,
                &measured.record,
                &measured.artefacts,
            )?;
        }
        let status = measured.summary.verdict.status;
        self.sittings
            .push(described(&measured, confirming, attempt));
        Ok((samples(&measured.record), status))
    }
}

impl Bench for Live<'_> {
    type Error = LiveError;

    fn measure(
        &mut self,
        scenario: usize,
        round: Round,
        looks: &[usize],
        decided: &dyn Fn(&[Samples]) -> bool,
    ) -> Result<Vec<Samples>, LiveError> {
        // The second opinion must not come from the labs of the first.
        self.up(scenario, round == Round::Confirm)?;
        let (samples, status) = self.sitting(scenario, (round, 1), looks, decided)?;
        if status != Status::Invalid {
            return Ok(samples);
        }
        // The one repetition of an unfit measurement; both are kept.
        Ok(self.sitting(scenario, (round, 2), looks, decided)?.0)
    }
}

/// The scenario with the gate's lanes instead of its arms.
fn prepared(mut scenario: Scenario) -> Scenario {
    scenario.arms.run = LANES.map(str::to_owned).to_vec();
    LANES[0].clone_into(&mut scenario.arms.reference);
    LANES[1].clone_into(&mut scenario.arms.aa);
    LANES[3].clone_into(&mut scenario.arms.baseline);
    scenario.expectations.clear();
    scenario
}

fn described(measured: &Measured, confirming: bool, attempt: usize) -> Sitting {
    let summary = &measured.summary;
    Sitting {
        scenario: summary.scenario.clone(),
        confirming,
        attempt,
        blocks: summary.blocks_run,
        status: summary.verdict.status,
        reasons: summary.verdict.reasons.clone(),
        wrong: summary
            .arms
            .iter()
            .filter(|arm| arm.wrong_decisions > 0)
            .map(|arm| (arm.name.clone(), arm.wrong_decisions))
            .collect(),
    }
}

/// The policed metrics of the three lanes, in blocks that have them all.
fn samples(record: &Record) -> Vec<Samples> {
    METRICS.map(|policed| of_metric(record, policed)).into()
}

fn of_metric(record: &Record, policed: Metric) -> Samples {
    let mut samples = Samples::none(policed);
    for block in 0..record.blocks() {
        let of = |lane: &str| {
            record
                .of(lane)
                .find(|row| row.block == block)
                .and_then(|row| metric(row, policed.name))
        };
        if let (Some(base), Some(again), Some(head)) = (of("base"), of("base-again"), of("head")) {
            samples.base.push(base);
            samples.again.push(again);
            samples.head.push(head);
        }
    }
    samples
}

/// Programs and maps of base and head; none if the kernel does not tell.
fn footprints(arena: &Arena) -> Option<(Footprint, Footprint)> {
    let of = |lane: &str| bpf::footprint(&arena.cgroup_of(lane)?).ok();
    Some((of("base")?, of("head")?))
}
