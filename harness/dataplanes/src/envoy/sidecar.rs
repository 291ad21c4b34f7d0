//! One Envoy process beside a pod's application.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use netns_lab::{CpuUsage, Lab, Pod};

use super::{
    bootstrap::{ADMIN_PORT, Bootstrap},
    profile::EnvoyProfile,
};
use crate::{
    beside::{Beside, User},
    error::ArmError,
    http,
    program::{nameless_file, tail},
    stage::require,
};

/// How long the admin interface may take to answer.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);
/// How much of the end of an access log is kept as an artefact, bytes.
const ACCESS_LOG_TAIL: u64 = 4096;

/// A running sidecar.
#[derive(Debug)]
pub(crate) struct Sidecar {
    beside: Beside,
    launch: Launch,
    added: String,
    access_log: File,
}

/// What an Envoy is started with, the first time and again.
#[derive(Debug)]
struct Launch {
    envoy: PathBuf,
    pod: String,
    document: String,
    concurrency: u32,
    cpus: Vec<usize>,
}

impl Sidecar {
    /// Starts Envoy in a pod; it is ready only after [`Self::await_ready`].
    pub(crate) fn start(
        lab: &Lab,
        pod: &str,
        envoy: &Path,
        bootstrap: &Bootstrap,
        profile: EnvoyProfile,
        cpus: &[usize],
    ) -> Result<Self, ArmError> {
        require(envoy, "envoy", "run ci/setup.sh, or set KMESH_ENVOY")?;
        let launch = Launch {
            envoy: envoy.to_owned(),
            pod: pod.to_owned(),
            document: bootstrap.document.to_string(),
            concurrency: profile.concurrency(),
            cpus: cpus.to_vec(),
        };
        let access_log = nameless_file().map_err(launch.failed("making an access log"))?;
        Ok(Self {
            beside: launch.start(lab, &access_log)?,
            launch,
            added: bootstrap.added_text(),
            access_log,
        })
    }

    /// Kills Envoy.
    pub(crate) fn stop(&mut self) {
        self.beside.program.stop();
    }

    /// Starts Envoy once more after [`Self::stop`], as it was; it is ready only after [`Self::await_ready`].
    pub(crate) fn start_again(&mut self, lab: &Lab) -> Result<(), ArmError> {
        self.beside = self.launch.start(lab, &self.access_log)?;
        Ok(())
    }

    /// Waits until Envoy says that it serves.
    pub(crate) fn await_ready(&mut self, lab: &Lab) -> Result<(), ArmError> {
        let pod = lab.pod(&self.beside.pod)?;
        self.beside
            .program
            .await_success(|| match ask(pod, "/ready") {
                Ok(200) => Ok(()),
                Ok(status) => Err(format!("/ready answers {status}")),
                Err(error) => Err(error.to_string()),
            })
    }

    /// Fails if it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<(), ArmError> {
        self.beside.program.check_alive()
    }

    /// Its cgroup in the lab.
    pub(crate) fn group(&self) -> &str {
        &self.beside.group
    }

    /// CPU time used so far.
    pub(crate) fn cpu_usage(&self, lab: &Lab) -> Result<CpuUsage, ArmError> {
        self.beside.cpu_usage(lab)
    }

    /// Its counter `http1.response_flood`.
    pub(crate) fn response_floods(&self, lab: &Lab) -> Result<u64, ArmError> {
        let path = "/stats?filter=^http1.response_flood$";
        let stats = self.asked(lab, path)?;
        let stats = String::from_utf8_lossy(&stats);
        // A counter that nobody has raised is not listed.
        let Some((_, count)) = stats.trim().split_once(": ") else {
            return Ok(0);
        };
        let odd = |_| self.exchange_failed(path, io::Error::other(format!("it says {stats:?}")));
        count.parse().map_err(odd)
    }

    /// What its admin interface has at this path.
    fn asked(&self, lab: &Lab, path: &str) -> Result<Vec<u8>, ArmError> {
        let pod = lab.pod(&self.beside.pod)?;
        let answer = pod
            .run(|| http::fetch(admin(), "localhost", path, ADMIN_PATIENCE))?
            .map_err(|source| self.exchange_failed(path, source))?;
        if answer.status != 200 {
            let source = io::Error::other(format!("status {}", answer.status));
            return Err(self.exchange_failed(path, source));
        }
        Ok(answer.body)
    }

    fn exchange_failed(&self, path: &str, source: io::Error) -> ArmError {
        ArmError::Exchange {
            what: format!("the admin interface of envoy in pod {}", self.beside.pod),
            address: format!("{}{path}", admin()),
            source,
        }
    }

    /// The configuration in force, what of it the harness added, the log, and the end of the access log (empty if there is none).
    pub(crate) fn artefacts(&self, lab: &Lab) -> Result<Vec<(String, Vec<u8>)>, ArmError> {
        let dump = self.asked(lab, "/config_dump")?;
        let name = |what: &str| format!("envoy-{}-{what}", self.beside.pod);
        Ok(vec![
            (name("config-dump.json"), dump),
            (name("added.txt"), self.added.clone().into_bytes()),
            (name("log.txt"), self.beside.program.log()),
            (
                name("access-log-tail.txt"),
                tail(&self.access_log, ACCESS_LOG_TAIL),
            ),
        ])
    }
}

impl Launch {
    fn start(&self, lab: &Lab, access_log: &File) -> Result<Beside, ArmError> {
        let config = written(&self.document).map_err(self.failed("writing its configuration"))?;
        let log = access_log
            .try_clone()
            .map_err(self.failed("making an access log"))?;
        let shape = |command: &mut Command| {
            command.args(["--config-path", "/dev/fd/0", "--disable-hot-restart"]);
            command.args(["--log-level", "warning", "--concurrency"]);
            command.arg(self.concurrency.to_string());
            command.stdin(config).stdout(log);
        };
        let (name, user) = (self.name(), User::Proxy);
        let mut beside = Beside::start(lab, &self.pod, name, &self.envoy, user, &self.cpus, shape)?;
        beside.program = beside.program.reading(self.document.len() as u64);
        Ok(beside)
    }

    fn name(&self) -> String {
        format!("envoy in pod {}", self.pod)
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(io::Error) -> ArmError {
        let program = self.name();
        move |source| ArmError::Process {
            program,
            call,
            source,
        }
    }
}

fn admin() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ADMIN_PORT))
}

fn ask(pod: &Pod, path: &str) -> Result<u16, io::Error> {
    let answer = pod.run(|| http::fetch(admin(), "localhost", path, ADMIN_PATIENCE));
    Ok(answer.map_err(io::Error::other)??.status)
}

/// A nameless file with this text, to be read from its beginning.
fn written(text: &str) -> io::Result<File> {
    let mut file = nameless_file()?;
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}
