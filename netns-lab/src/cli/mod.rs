//! The command line. Data goes to stdout, talk to stderr. Exit codes: 0 done, 1 leftovers were found, 2 it could not be
//! done; `exec` ends with the code of its command.

mod doctor;
mod exec;
mod list;
mod up;

use std::{io::Write, path::Path, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Labs made of network namespaces: pods on a bridge, with cgroups, gone without a trace when they end.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bring a lab up and hold it until Ctrl-C, SIGTERM or `down`
    Up(up::Up),
    /// Run a command in a pod of a lab that `up` holds
    Exec(exec::Exec),
    /// Take a lab down that `up` holds, and wait until it is gone
    Down {
        /// Name of the lab
        name: String,
    },
    /// List all labs on this machine
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look for what killed labs have left; exit code 1 if there is something (and it was not removed)
    Doctor {
        /// Remove what is found
        #[arg(long)]
        remove: bool,
    },
    /// Remove what killed labs have left; the same as `doctor --remove`
    Gc,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::Up(up) => up.run(),
            Action::Exec(exec) => exec.run(),
            Action::Down { name } => {
                netns_lab::control::down(&name)?;
                eprintln!("lab {name} is down");
                Ok(ExitCode::SUCCESS)
            }
            Action::List { json } => list::run(json),
            Action::Doctor { remove } => doctor::run(remove),
            Action::Gc => doctor::run(true),
        }
    }
}

/// Reads a topology and gives it another name if one is asked for.
fn topology(path: &Path, name: Option<&str>) -> anyhow::Result<netns_lab::Topology> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let mut topology =
        netns_lab::Topology::from_toml(&text).with_context(|| path.display().to_string())?;
    if let Some(name) = name {
        name.clone_into(&mut topology.name);
    }
    topology.validate()?;
    Ok(topology)
}

/// Writes data to stdout. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("can't write to stdout")
        }
        _ => Ok(()),
    }
}
