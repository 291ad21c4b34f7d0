//! `gate`: comparing two programs, and testing the gate itself.

use super::progress_bar;
use crate::binaries::{Programs, workspace};
use crate::cli::{Format, Gate};
use crate::gate::verdict::{Check, Outcome, Stage, Verdict};
use crate::gate::{self, Plan};
use crate::gate::{noise, recorded};
use crate::machine;
use crate::run::Interrupt;
use crate::scenario::Catalogue;
use anyhow::Context as _;
use kmesh_cli::exit::Failure;
use kmesh_cli::{need_root, say, talk};
use std::path::PathBuf;
use std::time::Instant;

/// Seed of the simulations: any would do, but it must not change from run to run.
const SEED: u64 = 20_261_122;

/// Runs the gate or its self-test.
pub(super) fn gate(catalogue: &Catalogue, options: &Gate) -> anyhow::Result<u8> {
    if !options.record_noise.is_empty() {
        say(&recorded::to_csv(&recorded::record(&options.record_noise)?))?;
        return Ok(0);
    }
    if options.only_live && options.mutant.is_none() && options.live_aa == 0 {
        let words = "--only-live leaves nothing to do: say what with --mutant or --live-aa RUNS";
        return Err(Failure::usage(words).into());
    }
    let labs = if options.self_test {
        options.mutant.is_some() || options.live_aa > 0
    } else {
        let reads = |stage: &Stage| matches!(stage, Stage::G3 | Stage::G4);
        options.only.is_empty() || !options.only.iter().all(reads)
    };
    if labs {
        need_root("kmesh-bench gate")?;
    }
    if let Some(dir) = &options.out {
        crate::report::try_folder(dir)?;
    }
    let verdict = if options.self_test {
        self_test(catalogue, options)?
    } else {
        let base = options.base.clone().context("--base is missing")?;
        compare(catalogue, &plan(options, base))?
    };
    if let Some(dir) = &options.out {
        gate::write(dir, &verdict)?;
        talk(&format!("written: {}", dir.display()));
    }
    match options.format {
        Format::Json => say(&(serde_json::to_string(&verdict)? + "\n"))?,
        Format::Text | Format::Markdown => say(&verdict.markdown())?,
    }
    Ok(verdict.exit_code)
}

fn plan(options: &Gate, base: String) -> Plan {
    Plan {
        base,
        head: options.head.clone(),
        stages: if options.only.is_empty() {
            Stage::ALL.to_vec()
        } else {
            options.only.clone()
        },
        accept: options.accept.clone(),
        mutant: None,
        quick: options.quick,
        cases: options.cases,
        out: options.out.clone(),
        env: machine::describe(&Programs::locate().arms.envoy, std::env::args().collect()),
    }
}

fn compare(catalogue: &Catalogue, plan: &Plan) -> anyhow::Result<Verdict> {
    let interrupt = Interrupt::listen().context("signals cannot be caught")?;
    let progress = progress_bar("cells");
    let verdict = gate::run(plan, catalogue, &interrupt, &progress);
    progress.finish_and_clear();
    verdict
}

/// False alarms and power by simulation; then, if asked, a mutant and A/A runs in real labs.
fn self_test(catalogue: &Catalogue, options: &Gate) -> anyhow::Result<Verdict> {
    let begun = Instant::now();
    let mut checks = Vec::new();
    let simulated = if options.only_live {
        Vec::new()
    } else {
        let noise = match &options.noise {
            Some(file) => recorded::read(file)?,
            None => recorded::read(&catalogue.directory().join(recorded::FILE))?,
        };
        noise::simulate(&noise, noise::GATES, SEED)?
    };
    for series in simulated {
        let message = format!(
            "{} of {} simulated gates alarmed, {} were left open; {} required",
            series.alarms, series.gates, series.open, series.required
        );
        let name = format!("planted: {}", series.planted);
        checks.push(Check::new(Stage::G2, &name, passed(series.held), message).with(&series));
    }
    let head = options.head.clone();
    let own = workspace().display().to_string();
    let same = head.clone().unwrap_or(own);
    let live = |mutant: Option<&String>, name: &str| -> anyhow::Result<Verdict> {
        let mut plan = plan(options, same.clone());
        plan.head.clone_from(&head);
        plan.stages = vec![Stage::G2];
        plan.mutant = mutant.cloned();
        plan.out = options.out.as_ref().map(|dir: &PathBuf| dir.join(name));
        compare(catalogue, &plan)
    };
    if let Some(mutant) = &options.mutant {
        let verdict = live(Some(mutant), "mutant")?;
        let outcome = match verdict.exit_code {
            crate::exit::FAILED => Outcome::Pass,
            crate::exit::UNFIT => Outcome::Unfit,
            _ => Outcome::Fail,
        };
        let message = format!("head with {mutant}: {}", verdict.reason);
        checks.push(Check::new(Stage::G2, "live mutant", outcome, message).with(&verdict));
    }
    for run in 1..=options.live_aa {
        let name = format!("live A/A {run}");
        let verdict = live(None, &format!("aa-{run}"))?;
        let outcome = match verdict.exit_code {
            0 => Outcome::Pass,
            crate::exit::UNFIT => Outcome::Warn,
            _ => Outcome::Fail,
        };
        talk(&format!("{name}: {}", verdict.reason));
        checks.push(Check::new(Stage::G2, &name, outcome, verdict.reason.clone()).with(&verdict));
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Verdict::of(
        "itself".to_owned(),
        "the gate".to_owned(),
        seconds,
        checks,
    ))
}

fn passed(held: bool) -> Outcome {
    if held { Outcome::Pass } else { Outcome::Fail }
}
