//! `crosscheck`, and `run --generator`.

use super::progress_bar;
use crate::arms;
use crate::binaries::Programs;
use crate::cli::{Crosscheck, Format};
use crate::report::{StoredFile, Table};
use crate::run::{
    AGREE, Arena, CrossOptions, Crossed, Foreign, Group, Interrupt, RunError, cross, suits,
};
use crate::scenario::{Catalogue, Scenario};
use anyhow::Context as _;
use kmesh_cli::exit::Failure;
use kmesh_cli::{need_root, say};
use std::fmt::Write as _;

/// Runs the command. Disagreement is no failure of ours: the table says why.
pub(super) fn crosscheck(catalogue: &Catalogue, options: &Crosscheck) -> anyhow::Result<u8> {
    let mut scenario = catalogue.load(&options.scenario)?;
    if let Err(why) = suits(&scenario) {
        return Err(Failure::usage(format!(
            "other generators cannot send {}: {why}; name another scenario",
            scenario.name
        ))
        .into());
    }
    arms::choose(std::slice::from_mut(&mut scenario), &options.arms)?;
    need_root("kmesh-bench crosscheck")?;
    let generators = chosen(&options.generators);
    if generators.is_empty() {
        return Err(Failure::unfit(format!(
            "none of wrk, hey and fortio is installed: {}",
            Foreign::Wrk.remedy()
        ))
        .into());
    }
    let interrupt = Interrupt::listen().context("signals cannot be caught")?;
    let group = Group {
        scenarios: vec![scenario.clone()],
        arms: options.arms.clone(),
    };
    let mut arena = Arena::up(&group, &Programs::locate(), &interrupt)?;
    let settings = CrossOptions {
        rounds: options.rounds,
        seconds: options.seconds,
    };
    let progress = progress_bar("comparisons");
    progress.set_length((options.arms.len() * generators.len()) as u64);
    let mut rows = Vec::new();
    for arm in &options.arms {
        for generator in &generators {
            progress.set_message(format!("{arm}: {}", generator.name()));
            rows.push(cross(
                &mut arena, &scenario, arm, *generator, settings, &interrupt,
            )?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    match options.format {
        Format::Json => {
            for row in &rows {
                say(&(serde_json::to_string(row)? + "\n"))?;
            }
        }
        Format::Markdown => say(&format!("{}\n{}", table(&rows).markdown(), reasons(&rows)))?,
        Format::Text => say(&format!("{}\n{}", table(&rows).text(), reasons(&rows)))?,
    }
    Ok(0)
}

/// The generators asked for; without a wish those that are here.
fn chosen(asked: &[Foreign]) -> Vec<Foreign> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let all = [Foreign::Wrk, Foreign::Hey, Foreign::Fortio];
    all.into_iter()
        .filter(|generator| generator.locate().is_some())
        .collect()
}

/// What `run --generator` adds to a scenario's result.
pub(super) struct AfterRun {
    pub(super) text: String,
    pub(super) stored: StoredFile,
}

/// Checks every arm of a scenario that has just been measured.
pub(super) fn after_run(
    arena: &mut Arena,
    scenario: &Scenario,
    generator: Foreign,
    quick: bool,
    interrupt: &Interrupt,
) -> Result<AfterRun, RunError> {
    let stored = |document: Vec<u8>| (format!("crosscheck-{}.json", generator.name()), document);
    if let Err(why) = suits(scenario) {
        return Ok(AfterRun {
            text: format!(
                "{} cannot send {}: {why}\n",
                generator.name(),
                scenario.name
            ),
            stored: stored(b"[]\n".to_vec()),
        });
    }
    let settings = CrossOptions {
        rounds: if quick { 2 } else { 8 },
        seconds: if quick { 1 } else { 2 },
    };
    let mut rows = Vec::new();
    for arm in &scenario.arms.run {
        rows.push(cross(arena, scenario, arm, generator, settings, interrupt)?);
    }
    let document = serde_json::to_vec_pretty(&rows).unwrap_or_default();
    Ok(AfterRun {
        text: format!("{}\n{}", table(&rows).text(), reasons(&rows)),
        stored: stored(document),
    })
}

fn table(rows: &[Crossed]) -> Table {
    let mut table = Table::new(
        &[
            "arm",
            "generator",
            "ours rps",
            "theirs rps",
            "theirs : ours",
            "ours p50 us",
            "theirs p50 us",
            "theirs : ours",
            "failed",
            "within 5 %",
        ],
        2..9,
    );
    for row in rows {
        let ratio = |interval: &kmesh_stats::Interval| {
            format!(
                "{:.3} [{:.3}, {:.3}]",
                interval.point, interval.lo, interval.hi
            )
        };
        table.row(vec![
            row.arm.clone(),
            row.generator.name().to_owned(),
            format!("{:.0}", row.ours_rps),
            format!("{:.0}", row.theirs_rps),
            ratio(&row.throughput),
            format!("{:.0}", row.ours_p50_us),
            format!("{:.0}", row.theirs_p50_us),
            ratio(&row.p50),
            row.failed.to_string(),
            if row.agrees { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}

/// Why those that disagree may do so.
fn reasons(rows: &[Crossed]) -> String {
    let mut text = String::new();
    let mut said: Vec<Foreign> = Vec::new();
    for row in rows.iter().filter(|row| !row.agrees) {
        if !said.contains(&row.generator) {
            said.push(row.generator);
            let _ = writeln!(
                text,
                "{}: more than {:.0} % apart. {}.",
                row.generator.name(),
                AGREE * 100.0,
                row.differs
            );
        }
    }
    text
}
