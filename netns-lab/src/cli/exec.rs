//! `netns-lab exec`: becomes a command inside a pod.

use std::{ffi::OsString, os::unix::process::CommandExt};

use kmesh_cli::exit::Failure;

/// Run a command in a pod, and end with its code.
#[derive(Debug, clap::Args)]
pub(super) struct Exec {
    /// Name of the lab
    name: String,
    /// Name of the pod
    pod: String,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Exec {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        super::need_root("netns-lab exec")?;
        let lab = netns_lab::control::describe(&self.name)?;
        let mut words = self.command.iter();
        let program = words
            .next()
            .ok_or_else(|| Failure::usage("no command given"))?;
        let mut command = lab.command(&self.pod, program)?;
        let error = command.args(words).exec();
        Err(Failure::usage(format!(
            "can't run {} in pod {:?}: {error}",
            program.display(),
            self.pod
        ))
        .into())
    }
}
