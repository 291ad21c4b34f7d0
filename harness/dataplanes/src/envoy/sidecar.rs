//! One Envoy process beside a pod's application: in the pod's network namespace, under a user of its own, in a cgroup of
//! its own, so that its CPU time can be told from the application's.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    net::SocketAddr,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::Path,
    process::Command,
    time::Duration,
};

use netns_lab::{CpuUsage, Lab, Pod};

use super::{
    bootstrap::{ADMIN_PORT, Bootstrap},
    profile::EnvoyProfile,
};
use crate::{
    error::ArmError,
    http,
    nft::PROXY_UID,
    program::{Program, nameless_file, tail},
    stage::require,
};

/// How long the admin interface may take to answer.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);
/// How much of the end of an access log is kept as an artefact, bytes.
const ACCESS_LOG_TAIL: u64 = 4096;

/// A running sidecar.
#[derive(Debug)]
pub(crate) struct Sidecar {
    program: Program,
    /// The pod it serves.
    pub(crate) pod: String,
    /// Its cgroup in the lab.
    pub(crate) group: String,
    added: String,
    access_log: File,
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
        let name = format!("envoy in pod {pod}");
        let failed = |call: &'static str| {
            let program = name.clone();
            move |source| ArmError::Process {
                program,
                call,
                source,
            }
        };
        let config = written(&bootstrap.document.to_string())
            .map_err(failed("writing its configuration"))?;
        let access_log = nameless_file().map_err(failed("making an access log"))?;
        let group = format!("sidecar-{pod}");
        let mut command = lab.daemon_command(envoy, &group, cpus)?;
        command.args([
            "--config-path",
            "/dev/fd/0",
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ]);
        command.args(["--concurrency", &profile.concurrency().to_string()]);
        command.stdin(config).stdout(
            access_log
                .try_clone()
                .map_err(failed("making an access log"))?,
        );
        move_into(&mut command, lab.pod(pod)?);
        let program = Program::start(name, command, |command| lab.spawn(command))?;
        Ok(Self {
            program,
            pod: pod.to_owned(),
            group,
            added: bootstrap.added_text(),
            access_log,
        })
    }

    /// Waits until Envoy says that it serves.
    pub(crate) fn await_ready(&mut self, lab: &Lab) -> Result<(), ArmError> {
        let pod = lab.pod(&self.pod)?;
        self.program.await_success(|| match ask(pod, "/ready") {
            Ok(200) => Ok(()),
            Ok(status) => Err(format!("/ready answers {status}")),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Fails if it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<(), ArmError> {
        self.program.check_alive()
    }

    /// CPU time used so far.
    pub(crate) fn cpu_usage(&self, lab: &Lab) -> Result<CpuUsage, ArmError> {
        Ok(lab.daemon_cpu_usage(&self.group)?)
    }

    /// The configuration in force, what of it the harness added, the log, and the end of the access log (empty if there is none).
    pub(crate) fn artefacts(&self, lab: &Lab) -> Result<Vec<(String, Vec<u8>)>, ArmError> {
        let pod = lab.pod(&self.pod)?;
        let failed = |source| ArmError::Exchange {
            what: format!("the admin interface of envoy in pod {}", self.pod),
            address: format!("{}/config_dump", admin()),
            source,
        };
        let dump = pod
            .run(|| http::fetch(admin(), "localhost", "/config_dump", ADMIN_PATIENCE))?
            .map_err(failed)?;
        if dump.status != 200 {
            return Err(failed(io::Error::other(format!("status {}", dump.status))));
        }
        let name = |what: &str| format!("envoy-{}-{what}", self.pod);
        Ok(vec![
            (name("config-dump.json"), dump.body),
            (name("added.txt"), self.added.clone().into_bytes()),
            (name("log.txt"), self.program.log()),
            (
                name("access-log-tail.txt"),
                tail(&self.access_log, ACCESS_LOG_TAIL),
            ),
        ])
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

/// Makes a command of the lab's run in the pod's network namespace as the sidecar's user, whose connections the
/// interception rules leave alone.
fn move_into(command: &mut Command, pod: &Pod) {
    let netns = pod.netns().as_raw_fd();
    let enter = move || {
        // SAFETY: the namespace's descriptor is held by the lab, which is borrowed until after the fork, and is inherited by
        // the child. Only system calls, no allocation.
        let entered = unsafe {
            libc::setns(netns, libc::CLONE_NEWNET) == 0
                && allow_open_files()
                && libc::setgroups(0, std::ptr::null()) == 0
                && libc::setresgid(PROXY_UID, PROXY_UID, PROXY_UID) == 0
                && libc::setresuid(PROXY_UID, PROXY_UID, PROXY_UID) == 0
                // Changing the user took back the lab's own request.
                && libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0
        };
        if entered {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: `enter` only makes system calls.
    unsafe { command.pre_exec(enter) };
}

/// Raises the limit on open files to what the caller may have: a sidecar needs two per connection.
fn allow_open_files() -> bool {
    let mut files = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a structure of the right type that outlives them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut files) != 0 {
            return false;
        }
        files.rlim_cur = files.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files) == 0
    }
}
