//! `kmesh-load`: one run from the command line, or a generator that takes orders on stdin.

mod options;

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use kmesh_load::engine::{Engine, Snapshot};
use kmesh_load::fortio::Export;
use kmesh_load::result::BlockResult;
use kmesh_load::{serve, summary};
use kmesh_origin::process;
use options::{Action, Options, Process, Run};

fn main() -> ExitCode {
    let options = Options::parse_from(options::with_fortio_flags(std::env::args()));
    let done = match &options.action {
        Action::Run(options) => run(options),
        Action::Serve(process) => serve_stdio(process),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("kmesh-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs once; true if every answer was right.
fn run(options: &Run) -> anyhow::Result<bool> {
    let plan = options.plan()?;
    set_up(&options.process)?;
    let stop = process::stop_signals().context("cannot take over SIGTERM and SIGINT")?;
    let mut engine = Engine::new(plan.clone())?;
    engine.stop_on(&stop)?;
    if !options.no_open {
        engine.open()?;
    }
    let mut before = Snapshot::default();
    let result = engine.run(options.block(), &mut |now| {
        if !options.quiet {
            eprintln!("{}", summary::progress(now, &before));
        }
        before = *now;
    })?;
    if let Some(path) = &options.json {
        write_to(path, &serde_json::to_string_pretty(&result)?)?;
    }
    if let Some(path) = &options.fortio_json {
        let export = Export::new(&plan, &result, &options.labels())?;
        write_to(path, &serde_json::to_string_pretty(&export)?)?;
    }
    if ![&options.json, &options.fortio_json]
        .iter()
        .any(|path| path.as_deref() == Some("-"))
    {
        write_to("-", summary::text(&result).trim_end())?;
    }
    Ok(held(&result))
}

/// Every request has a right answer and nothing else arrived.
fn held(result: &BlockResult) -> bool {
    result.ok == result.sent && result.stray_bytes == 0
}

fn serve_stdio(options: &Process) -> anyhow::Result<bool> {
    set_up(options)?;
    serve::serve(io::stdin().lock(), io::stdout().lock())
        .context("cannot talk on stdin and stdout")?;
    Ok(true)
}

fn set_up(options: &Process) -> anyhow::Result<()> {
    if options.die_with_parent {
        process::die_with_parent().context("cannot bind my life to my parent's")?;
    }
    if let Some(cpu) = options.cpu {
        process::pin_to_cpu(cpu)
            .with_context(|| format!("cannot run on cpu {cpu}, does it exist?"))?;
    }
    process::raise_descriptor_limit().context("cannot raise the limit of open files")?;
    process::tighten_timers().context("cannot set the timer slack")
}

/// Writes a text and a line feed to a file, or to stdout for `-`.
fn write_to(path: &str, text: &str) -> anyhow::Result<()> {
    let written = if path == "-" {
        writeln!(io::stdout(), "{text}")
    } else {
        File::create(path).and_then(|mut file| writeln!(file, "{text}"))
    };
    match written {
        // Whoever reads stdout may stop when it has seen enough.
        Err(error) if path == "-" && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.with_context(|| format!("cannot write the result to {path}")),
    }
}
