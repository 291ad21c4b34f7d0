//! The subcommands: glue between the command line and the modules that do the work.

mod crosscheck;
mod gate;
mod list;

use crate::binaries::{Programs, scenario_directory};
use crate::cli::{BreakdownOf, Cli, Command, Explain, Format, Run, Stall, Up, Verify};
use crate::doctor::{self, State};
use crate::report::{self, Table};
use crate::run::{
    self, Arena, Interrupt, Measured, Options, StallOptions, groups, measure_retrying,
};
use crate::scenario::{self, Catalogue};
use crate::summary::{Status, Summary};
use crate::verify;
use crate::{arms, exit, machine};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use kmesh_cli::exit::Failure;
use kmesh_cli::{need_root, say, talk};
use std::path::Path;

/// Runs a parsed command line and returns the exit code.
///
/// # Errors
/// Everything that is not a verdict; [`exit::of_error`] gives its code.
pub fn dispatch(cli: Cli) -> anyhow::Result<u8> {
    if cli.quiet {
        kmesh_cli::be_quiet();
    }
    if cli.wide {
        report::never_fold();
    }
    let catalogue = Catalogue::new(cli.directory.unwrap_or_else(scenario_directory));
    match cli.command {
        Command::List { pattern, format } => list::list(&catalogue, pattern.as_deref(), format),
        Command::New { name } => {
            let path = scenario::create(catalogue.directory(), &name)?;
            say(&format!("{}\n", path.display()))?;
            talk(&format!("edit it, then: kmesh-bench run {name} --quick"));
            Ok(0)
        }
        Command::Run(options) => run_scenarios(&catalogue, &options),
        Command::Breakdown(options) => breakdown(&catalogue, &options),
        Command::Up(options) => up(&catalogue, &options),
        Command::Report {
            dir,
            format,
            details,
            write,
            line,
        } => {
            if line {
                return print_line(&dir);
            }
            print_report(&dir, format, details)?;
            if write {
                talk(&format!("written: {}", report::regenerate(&dir)?.display()));
            }
            Ok(0)
        }
        Command::Compare {
            a,
            b,
            changed,
            format,
        } => compare(&a, &b, changed, format),
        Command::Gate(options) => gate::gate(&catalogue, &options),
        Command::Verify(Verify::Decisions {
            cases,
            seed,
            self_test,
        }) => verify_decisions(cases, seed, self_test),
        Command::Verify(Verify::Streams {
            seconds,
            arms,
            seed,
            connections,
            only,
        }) => verify_streams(&verify::StreamOptions {
            seconds,
            arms,
            seed,
            connections,
            only,
            programs: Programs::locate(),
        }),
        Command::Verify(Verify::Isolation {
            seconds,
            seed,
            paths,
            p99,
            without,
        }) => verify_isolation(&verify::IsolationOptions {
            seconds,
            seed,
            paths,
            p99,
            without,
            programs: Programs::locate(),
        }),
        Command::Explain(options) => explain(&options),
        Command::Record => {
            let cases = kmesh_oracle::edge::record(&Programs::locate().arms.envoy)?;
            eprintln!("recorded {cases} cases; review what git diff says");
            Ok(0)
        }
        Command::Crosscheck(options) => crosscheck::crosscheck(&catalogue, &options),
        Command::Stall(options) => stall(&catalogue, &options),
        Command::Verify(Verify::Bulk {
            readers,
            rounds,
            arms,
        }) => verify_bulk(readers, rounds, &arms),
        Command::Verify(Verify::Peers { arms }) => verify_peers(&arms),
        Command::Verify(Verify::Xds {
            outages,
            pods,
            meshes,
        }) => verify_xds(outages, pods, &meshes),
        Command::Doctor { format } => print_doctor(format),
    }
}

fn run_scenarios(catalogue: &Catalogue, options: &Run) -> anyhow::Result<u8> {
    let mut scenarios = catalogue.load_each(&options.scenarios)?;
    arms::choose(&mut scenarios, &options.arms)?;
    need_root("kmesh-bench run")?;
    for line in arms::unjudged(&scenarios, &options.arms) {
        talk(&line);
    }
    if let Some(dir) = &options.out {
        report::try_folder(dir)?;
    }
    let programs = Programs::locate();
    let interrupt = Interrupt::listen().context("signals cannot be caught")?;
    let env = machine::describe(&programs.arms.envoy, std::env::args().collect());
    let settings = Options {
        quick: options.quick,
        env,
    };
    let mut summaries: Vec<Summary> = Vec::new();
    for group in groups(scenarios, &options.arms) {
        let progress = progress_bar("cells");
        if progress.is_hidden() && !kmesh_cli::is_quiet() {
            let names: Vec<&str> = group.scenarios.iter().map(|s| s.name.as_str()).collect();
            talk(&format!("{}: {}", names.join(", "), group.arms.join(", ")));
        }
        progress.set_message(format!("bringing up {}", group.arms.join(", ")));
        let mut arena = Arena::up(&group, &programs, &interrupt)?;
        for scenario in group
            .scenarios
            .iter()
            .filter(|scenario| !scenario.arms.run.is_empty())
        {
            let mut measured =
                measure_retrying(&mut arena, scenario, &settings, &interrupt, &progress)?;
            if let Some(generator) = options.generator {
                progress.set_message(format!("{}: {}", scenario.name, generator.name()));
                let table = crosscheck::after_run(
                    &mut arena,
                    scenario,
                    generator,
                    options.quick,
                    &interrupt,
                )?;
                progress.suspend(|| eprint!("{}", table.text));
                measured.artefacts.push(table.stored);
            }
            progress.suspend(|| publish(options, &measured))?;
            summaries.push(measured.summary);
        }
        progress.finish_and_clear();
        if let Some(dir) = &options.out {
            let page = report::regenerate(dir)?;
            talk(&format!("written: {}", page.display()));
        }
    }
    if summaries.len() > 1 && options.format != Format::Json {
        say(&format!(
            "{}\n",
            report::claim_table(&summaries, words(options.format))
        ))?;
    }
    Ok(exit::of_all(
        &summaries
            .iter()
            .map(|summary| summary.verdict.status)
            .collect::<Vec<_>>(),
    ))
}

/// Prints one scenario's result and writes its folder.
fn publish(options: &Run, measured: &Measured) -> anyhow::Result<()> {
    let summary = &measured.summary;
    match options.format {
        Format::Json => say(&(serde_json::to_string(summary)? + "\n"))?,
        Format::Text | Format::Markdown => say(&format!(
            "{}\n",
            laid_out(
                options.format,
                report::scenario_report(summary, words(options.format))
            )
        ))?,
    }
    if let Some(dir) = &options.out {
        let folder = report::write_scenario(dir, summary, &measured.record, &measured.artefacts)?;
        talk(&format!("written: {}", folder.display()));
    }
    Ok(())
}

fn stall(catalogue: &Catalogue, options: &Stall) -> anyhow::Result<u8> {
    let scenario = catalogue.load(&options.scenario)?;
    arms::check(std::slice::from_ref(&options.arm))?;
    if options.stall_ms >= options.cell_ms {
        return Err(Failure::usage(format!(
            "--stall-ms {} leaves nothing of --cell-ms {}: make the load longer than the stall",
            options.stall_ms, options.cell_ms
        ))
        .into());
    }
    need_root("kmesh-bench stall")?;
    let interrupt = Interrupt::listen().context("signals cannot be caught")?;
    let settings = StallOptions {
        rate: options.rate,
        stall_ms: options.stall_ms,
        cell_ms: options.cell_ms,
        connections: options.connections,
    };
    let stalled = run::stall(
        &scenario,
        &options.arm,
        settings,
        &Programs::locate(),
        &interrupt,
    )?;
    if options.format == Format::Json {
        say(&(serde_json::to_string(&stalled)? + "\n"))?;
        return Ok(0);
    }
    let mut table = Table::new(
        &["counted from", "p50 us", "p90 us", "p99 us", "p99.9 us"],
        1..5,
    );
    for (what, p) in [
        ("its start (service time)", stalled.service_us),
        ("when it was due (intended time)", stalled.intended_us),
    ] {
        let figures = [p.p50, p.p90, p.p99, p.p999].map(|us| format!("{us:.0}"));
        table.row([vec![what.to_owned()], figures.into()].concat());
    }
    say(&format!(
        "{}: {} requests at {}/s over {} connections, servers stopped once for {} ms\n\n{}",
        stalled.arm,
        stalled.sent,
        stalled.offered_rps,
        options.connections,
        stalled.stall_ms,
        match options.format {
            Format::Markdown => table.markdown(),
            Format::Text | Format::Json => table.text(),
        }
    ))?;
    Ok(0)
}

fn breakdown(catalogue: &Catalogue, options: &BreakdownOf) -> anyhow::Result<u8> {
    let mut scenario = catalogue.load(&options.scenario)?;
    arms::choose(std::slice::from_mut(&mut scenario), &options.arms)?;
    need_root("kmesh-bench breakdown")?;
    if let Some(dir) = &options.out {
        report::try_folder(dir)?;
    }
    let programs = Programs::locate();
    let interrupt = Interrupt::listen().context("signals cannot be caught")?;
    let group = groups(vec![scenario], &options.arms)
        .into_iter()
        .next()
        .context("no arm to measure")?;
    let progress = progress_bar("arms");
    progress.set_message(format!("bringing up {}", group.arms.join(", ")));
    let mut arena = Arena::up(&group, &programs, &interrupt)?;
    let cell_ms = (options.seconds * 1e3) as u32;
    let command = std::env::args().collect();
    let result = run::breakdown(
        &mut arena,
        &group.scenarios[0],
        cell_ms,
        command,
        &interrupt,
        &progress,
    )?;
    progress.finish_and_clear();
    say(&match options.format {
        Format::Json => serde_json::to_string(&result)? + "\n",
        Format::Text | Format::Markdown => laid_out(
            options.format,
            report::breakdown_tables(&result, words(options.format)),
        ),
    })?;
    if let Some(dir) = &options.out {
        let file = report::write_breakdown(dir, &result)?;
        talk(&format!("written: {}", file.display()));
    }
    Ok(0)
}

fn up(catalogue: &Catalogue, options: &Up) -> anyhow::Result<u8> {
    let scenario = catalogue.load(&options.scenario)?;
    arms::check(std::slice::from_ref(&options.arm))?;
    need_root("kmesh-bench up")?;
    // Ctrl-C is for the command in the foreground; catching it here keeps this program alive to clean up.
    let _interrupt = Interrupt::listen().context("signals cannot be caught")?;
    crate::up::up(&scenario, &options.arm, &options.cmd, &Programs::locate())
}

fn print_report(dir: &Path, format: Format, details: bool) -> anyhow::Result<()> {
    let results = report::read_all(dir)?;
    let claims = report::claim_rows_of(&results);
    let summaries: Vec<Summary> = results.into_iter().map(|stored| stored.summary).collect();
    let losses = report::losses(&summaries);
    if format == Format::Json {
        for row in &claims {
            say(&(serde_json::to_string(row)? + "\n"))?;
        }
        for loss in &losses {
            say(&(serde_json::json!({ "loss": loss }).to_string() + "\n"))?;
        }
    } else {
        say(&report::claims_as_table(&claims, words(format)))?;
        say(&format!(
            "\nwhere the mesh loses:\n\n{}",
            laid_out(format, report::loss_lines(&losses, words(format)))
        ))?;
        for summary in summaries.iter().filter(|_| details) {
            say(&format!(
                "\n{}",
                laid_out(format, report::scenario_report(summary, words(format)))
            ))?;
        }
    }
    Ok(())
}

fn print_line(dir: &Path) -> anyhow::Result<u8> {
    let name = std::path::absolute(dir)?;
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    let line = report::run_line(&name, &report::read_summaries(dir)?).with_context(|| {
        format!(
            "{}: no scenario in it was fit and at full length",
            dir.display()
        )
    })?;
    say(&(serde_json::to_string(&line)? + "\n"))?;
    Ok(0)
}

fn compare(a: &Path, b: &Path, changed: bool, format: Format) -> anyhow::Result<u8> {
    let mut lines = report::compared(&report::read_summaries(a)?, &report::read_summaries(b)?);
    if lines.is_empty() {
        return Err(Failure::usage(format!(
            "{} and {} have no ratio in common: name two runs of the same scenarios",
            a.display(),
            b.display()
        ))
        .into());
    }
    lines.retain(|line| line.apart || !changed);
    if format == Format::Json {
        for line in &lines {
            say(&(serde_json::to_string(line)? + "\n"))?;
        }
        return Ok(0);
    }
    say(&report::comparison(&lines, words(format)))?;
    Ok(0)
}

fn print_doctor(format: Format) -> anyhow::Result<u8> {
    let checks = doctor::checks(&Programs::locate());
    let mut table = Table::new(&["check", "state", "found", "what to do"], 0..0);
    for check in &checks {
        if format == Format::Json {
            say(&(serde_json::to_string(check)? + "\n"))?;
        }
        table.row(vec![
            check.name.to_owned(),
            format!("{:?}", check.state).to_lowercase(),
            check.found.clone(),
            check.remedy.clone(),
        ]);
    }
    say(&match format {
        Format::Json => String::new(),
        Format::Markdown => table.markdown(),
        Format::Text => table.text(),
    })?;
    Ok(if doctor::worst(&checks) == State::Fail {
        exit::UNFIT
    } else {
        0
    })
}

/// Explains; for a reproducer, says also what each judge says, and is a wrong decision if they disagree.
fn explain(options: &Explain) -> anyhow::Result<u8> {
    let envoy = Programs::locate().arms.envoy;
    let explained = crate::explain::explain(options, &envoy)?;
    say(&match options.format {
        Format::Json => serde_json::to_string(&explained)? + "\n",
        Format::Text | Format::Markdown => laid_out(options.format, explained.to_string()),
    })?;
    Ok(exit::of_all(&[if explained.agreed() {
        Status::Held
    } else {
        Status::Wrong
    }]))
}

fn verify_decisions(cases: u64, seed: u64, self_test: bool) -> anyhow::Result<u8> {
    if !self_test {
        need_root("kmesh-bench verify decisions")?;
    }
    let progress = progress_bar("decisions");
    let options = verify::Options {
        cases,
        seed,
        envoy: Programs::locate().arms.envoy,
        self_test,
    };
    let outcome = verify::decisions(&options, &progress)?;
    progress.finish_and_clear();
    say(&(serde_json::to_string(&outcome)? + "\n"))?;
    let status = if outcome.mismatches == 0 {
        Status::Held
    } else {
        Status::Wrong
    };
    Ok(exit::of_all(&[status]))
}

fn verify_streams(options: &verify::StreamOptions) -> anyhow::Result<u8> {
    arms::check(&options.arms)?;
    need_root("kmesh-bench verify streams")?;
    let outcome = verify::streams(options)?;
    say(&(serde_json::to_string(&outcome)? + "\n"))?;
    let status = match (outcome.mismatches, outcome.broken) {
        (0, 0) => Status::Held,
        (0, _) => Status::Missed,
        _ => Status::Wrong,
    };
    Ok(exit::of_all(&[status]))
}

fn verify_isolation(options: &verify::IsolationOptions) -> anyhow::Result<u8> {
    need_root("kmesh-bench verify isolation")?;
    let outcome = verify::isolation(options)?;
    say(&(serde_json::to_string(&outcome)? + "\n"))?;
    Ok(exit::of_all(&[outcome.status(options.p99)]))
}

fn verify_bulk(readers: usize, rounds: usize, asked: &[String]) -> anyhow::Result<u8> {
    arms::check(asked)?;
    need_root("kmesh-bench verify bulk")?;
    let outcome = verify::bulk(readers, rounds, asked, &Programs::locate())?;
    say(&(serde_json::to_string(&outcome)? + "\n"))?;
    Ok(exit::of_all(&[outcome.status()]))
}

fn verify_peers(asked: &[String]) -> anyhow::Result<u8> {
    arms::check(asked)?;
    need_root("kmesh-bench verify peers")?;
    let outcome = verify::peers(asked, &Programs::locate())?;
    say(&outcome.table())?;
    say(&(serde_json::to_string(&outcome)? + "\n"))?;
    Ok(exit::of_all(&[outcome.status()]))
}

/// Text for a terminal fits it; Markdown is left alone.
fn laid_out(format: Format, text: String) -> String {
    match format {
        Format::Text => report::fit(&text),
        Format::Markdown | Format::Json => text,
    }
}

fn verify_xds(outages: u32, pods: usize, meshes: &[(u32, u32)]) -> anyhow::Result<u8> {
    let outcome = kmesh_ads::verify::verify(outages, pods, meshes)?;
    say(&(serde_json::to_string(&outcome)? + "\n"))?;
    let status = match (outcome.right(), outcome.in_time()) {
        (false, _) => Status::Wrong,
        (true, false) => Status::Missed,
        (true, true) => Status::Held,
    };
    Ok(exit::of_all(&[status]))
}

fn words(format: Format) -> report::Format {
    match format {
        Format::Markdown => report::Format::Markdown,
        Format::Text | Format::Json => report::Format::Text,
    }
}

fn progress_bar(unit: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!(
        "{{elapsed_precise}} [{{bar:30}}] {{pos}}/{{len}} {unit}, {{eta}} left  {{msg}}",
    ));
    if kmesh_cli::is_quiet() {
        return ProgressBar::hidden();
    }
    let bar =
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(std::time::Duration::from_millis(500));
    bar
}
