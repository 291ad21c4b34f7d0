//! The command line. Data goes to stdout, talk to stderr. Exit codes: those of [`kmesh_cli::exit`], where 1 is leftovers that were
//! found; `exec` ends with the code of its command.

mod doctor;
mod exec;
mod list;
mod up;

use std::path::Path;

use anyhow::Context;
use clap::{Parser, Subcommand};
use kmesh_cli::{exit, exit::Failure, need_root, say};
use netns_lab::{LabError, TopologyError, control::ControlError};

/// Labs made of network namespaces: pods on a bridge, with cgroups, gone without a trace when they end.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bring a lab up and hold it until Ctrl-C, SIGTERM or `down`
    Up(up::Up),
    /// Run a command in a pod of a lab that `up` holds, and end with the command's code
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
    /// Look for what killed labs have left; exit code 1 if there is something, and it was not removed
    Doctor {
        /// Remove what is found
        #[arg(long)]
        remove: bool,
    },
    /// Remove what killed labs have left; the same as `doctor --remove`
    Gc,
}

impl Arguments {
    pub(crate) fn run(self) -> anyhow::Result<u8> {
        match self.action {
            Action::Up(up) => up.run(),
            Action::Exec(exec) => exec.run(),
            Action::Down { name } => {
                need_root("netns-lab down")?;
                netns_lab::control::down(&name)?;
                eprintln!("lab {name} is down");
                Ok(exit::HELD)
            }
            Action::List { json } => list::run(json),
            Action::Doctor { remove } => doctor::run(remove.then_some("netns-lab doctor --remove")),
            Action::Gc => doctor::run(Some("netns-lab gc")),
        }
    }
}

/// The codes of this crate's errors: what was typed or read is wrong, or the machine does not do it.
pub(crate) fn code_of(error: &anyhow::Error) -> Option<u8> {
    error.chain().find_map(|cause| {
        if cause.is::<TopologyError>() {
            return Some(exit::USAGE);
        }
        if let Some(error) = cause.downcast_ref::<LabError>() {
            let asked = matches!(
                error,
                LabError::Topology(_)
                    | LabError::NoSuchCpu { .. }
                    | LabError::UnknownPod { .. }
                    | LabError::DaemonName { .. }
            );
            return Some(if asked { exit::USAGE } else { exit::UNFIT });
        }
        let asked = match cause.downcast_ref::<ControlError>()? {
            ControlError::Name(_)
            | ControlError::NameInUse(_)
            | ControlError::NotFound(_)
            | ControlError::Refused { .. } => exit::USAGE,
            _ => exit::UNFIT,
        };
        Some(asked)
    })
}

/// Reads a topology and gives it another name if one is asked for.
fn topology(path: &Path, name: Option<&str>) -> anyhow::Result<netns_lab::Topology> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let path = path.display();
        Failure::usage(format!(
            "topology {path} can't be read: {error}; name a TOML file"
        ))
    })?;
    let mut topology =
        netns_lab::Topology::from_toml(&text).with_context(|| path.display().to_string())?;
    if let Some(name) = name {
        name.clone_into(&mut topology.name);
    }
    topology.validate()?;
    Ok(topology)
}
