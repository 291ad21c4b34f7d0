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
    program::{Program, nameless_file},
    stage::require,
};

/// How long the admin interface may take to answer.
const ADMIN_PATIENCE: Duration = Duration::from_secs(5);
/// Open files a sidecar may have; two per connection.
const OPEN_FILES: libc::rlim_t = 1 << 20;

/// A running sidecar.
#[derive(Debug)]
pub(crate) struct Sidecar {
    program: Program,
    /// The pod it serves.
    pub(crate) pod: String,
    /// Its cgroup in the lab.
    pub(crate) group: String,
    added: String,
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
        let mut command = lab.daemon_command(&envoy.to_string_lossy(), &group, cpus)?;
        command.args([
            "--config-path",
            "/dev/stdin",
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ]);
        command.args(["--concurrency", &profile.concurrency().to_string()]);
        command.stdin(config).stdout(access_log);
        move_into(&mut command, lab.pod(pod)?);
        let program = Program::start(name, command, |command| lab.spawn(command))?;
        Ok(Self {
            program,
            pod: pod.to_owned(),
            group,
            added: bootstrap.added_text(),
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

    /// The configuration in force, what of it the harness added, and the log.
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
        let files = libc::rlimit {
            rlim_cur: OPEN_FILES,
            rlim_max: OPEN_FILES,
        };
        // SAFETY: the namespace's descriptor is held by the lab, which is borrowed until after the fork, and is inherited by
        // the child; the rlimit outlives the call. Only system calls, no allocation.
        let entered = unsafe {
            libc::setns(netns, libc::CLONE_NEWNET) == 0
                && libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files) == 0
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
