//! `kmeshd` as a daemon of an arm's lab: it runs in the namespace the lab was built from, as it would on a node, and
//! enrols the pods it is told of.

use std::{
    collections::BTreeMap,
    fs::{File, Permissions},
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

use kmesh_probe::client;
use netns_lab::{CpuUsage, Lab, Pod};
use serde::{Deserialize, Serialize};

use crate::{
    arm::Restart,
    error::ArmError,
    plan::ArmPlan,
    program::{Program, nameless_file, with_piped_stdout},
    stage::require,
};

/// Its cgroup in the lab.
const GROUP: &str = "kmeshd";

/// One pod in the list that `kmeshd run --pods` reads.
#[derive(Debug, Serialize)]
struct Enrolled<'p> {
    name: &'p str,
    netns: PathBuf,
    cgroup: PathBuf,
}

/// What of the status document concerns the arms; more may be in it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) requests: Requests,
}

/// Requests since the daemon started.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Requests {
    /// Routed and carried in the kernel.
    pub(crate) kernel: u64,
    /// Served by the daemon.
    pub(crate) user: u64,
    /// The daemon's, by the reason the kernel passed them on.
    #[serde(default)]
    pub(crate) by_reason: BTreeMap<String, u64>,
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Kmeshd {
    program: Program,
    launch: Launch,
    /// Daemons that were replaced and stay with their connections.
    replaced: Vec<Program>,
}

/// What the daemon is started with, the first time and again.
#[derive(Debug)]
struct Launch {
    kmeshd: PathBuf,
    config: PathBuf,
    name: String,
    l4: bool,
    path: &'static str,
    cpus: Vec<usize>,
    /// Read by the daemon through /proc; it has no name, so it goes with us.
    pods: File,
}

impl Kmeshd {
    /// Starts the daemon for these pods and waits until all its programs are attached.
    pub(crate) fn start(
        lab: &Lab,
        plan: &ArmPlan<'_>,
        pods: &[&Pod],
        l4: bool,
        path: &'static str,
    ) -> Result<Self, ArmError> {
        require(
            &plan.binaries.kmeshd,
            "kmeshd",
            "build it with cargo build --release -p kmesh-controller",
        )?;
        let failed = |source| ArmError::Process {
            program: "kmeshd".to_owned(),
            call: "writing its list of pods",
            source,
        };
        let list = write_pods(pods).map_err(failed)?;
        let launch = Launch {
            kmeshd: plan.binaries.kmeshd.clone(),
            config: plan.resources_yaml.to_owned(),
            name: lab.id().to_owned(),
            l4,
            path,
            cpus: plan.placement.servers.clone(),
            pods: list,
        };
        Ok(Self {
            program: launch.start(lab, false)?,
            launch,
            replaced: Vec::new(),
        })
    }

    /// Starts another one in its place and waits until that is ready.
    pub(crate) fn restart(&mut self, lab: &Lab, how: Restart) -> Result<(), ArmError> {
        match how {
            Restart::Plain => {
                self.program.stop();
                self.program = self.launch.start(lab, false)?;
            }
            Restart::Replace => {
                let successor = self.launch.start(lab, true)?;
                let before = std::mem::replace(&mut self.program, successor);
                self.replaced.push(before);
                // Those whose last connection has ended.
                self.replaced
                    .retain_mut(|program| program.check_alive().is_ok());
            }
        }
        Ok(())
    }

    /// Fails if it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<(), ArmError> {
        self.program.check_alive()
    }

    /// CPU time used so far.
    pub(crate) fn cpu_usage(lab: &Lab) -> Result<CpuUsage, ArmError> {
        Ok(lab.daemon_cpu_usage(GROUP)?)
    }

    /// Its counters.
    pub(crate) fn status(&self) -> Result<Status, ArmError> {
        parse_status(&self.launch.name, &self.status_document()?)
    }

    /// The whole status document and the log.
    pub(crate) fn artefacts(&self) -> Result<Vec<(String, Vec<u8>)>, ArmError> {
        let status = self.status_document()?;
        Ok(vec![
            ("kmeshd-status.json".to_owned(), status),
            ("kmeshd-log.txt".to_owned(), self.program.log()),
        ])
    }

    fn status_document(&self) -> Result<Vec<u8>, ArmError> {
        let name = &self.launch.name;
        let run_dir = Path::new(client::RUN_DIR);
        client::document(run_dir, name).map_err(|source| ArmError::Exchange {
            what: "kmeshd's status".to_owned(),
            address: run_dir.join(name).display().to_string(),
            source,
        })
    }
}

impl Launch {
    fn start(&self, lab: &Lab, replace: bool) -> Result<Program, ArmError> {
        let mut command = lab.daemon_command(&self.kmeshd, GROUP, &self.cpus)?;
        command.arg("run").arg("--config").arg(&self.config);
        command.arg("--pods").arg(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.pods.as_raw_fd()
        ));
        command.args(["--name", &self.name]);
        command.args(["--path", self.path]);
        command.args(self.l4.then_some("--l4"));
        command.args(replace.then_some("--replace"));
        with_piped_stdout(&mut command);
        let spawn = |command| lab.spawn(command);
        let bytes = std::fs::metadata(&self.config).map_or(0, |config| config.len());
        let program = Program::start("kmeshd".to_owned(), command, spawn)?;
        let mut program = program.reading(bytes);
        program.await_line("kmeshd ready")?;
        Ok(program)
    }
}

fn write_pods(pods: &[&Pod]) -> io::Result<File> {
    let list: Vec<_> = pods
        .iter()
        .map(|pod| Enrolled {
            name: pod.name(),
            netns: pod.netns_path(),
            cgroup: pod.cgroup().to_owned(),
        })
        .collect();
    let mut file = nameless_file()?;
    // The daemon takes no orders from a file that anybody may write to.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(&serde_json::to_vec_pretty(&list)?)?;
    Ok(file)
}

fn parse_status(name: &str, document: &[u8]) -> Result<Status, ArmError> {
    serde_json::from_slice(document).map_err(|source| ArmError::Status {
        name: name.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_in_the_status_is_no_error_less_is() {
        let document = br#"{"version": 3, "requests": {"kernel": 7, "user": 2, "http2": 1, "by_reason": {"no_upstream": 2}}}"#;
        let requests = parse_status("x", document).unwrap().requests;
        assert_eq!(
            (
                requests.kernel,
                requests.user,
                requests.by_reason["no_upstream"]
            ),
            (7, 2, 2)
        );
        let message = parse_status("lab-1", b"{}").unwrap_err().to_string();
        assert!(message.contains("lab-1"), "{message}");
    }
}
