//! A program beside a pod's application: in the pod's network namespace, in a cgroup of its own, so that its CPU time can be told from the
//! application's, and usually under a user of its own, so that its connections can be told from the application's too.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use netns_lab::{CpuUsage, Lab, Pod};

use crate::{error::ArmError, nft::PROXY_UID, program::Program};

/// Who the program runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The proxies' user, which interception rules leave alone.
    Proxy,
    /// Root, for programs that need capabilities.
    Root,
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) program: Program,
    /// The pod it serves.
    pub(crate) pod: String,
    /// Its cgroup in the lab.
    pub(crate) group: String,
}

impl Beside {
    /// Starts `program` beside `pod`; `shape` adds its arguments and its input.
    ///
    /// The program may lie where its user cannot go (a folder of root's with mode 0700): it is opened here, and the user runs what is open.
    pub(crate) fn start(
        lab: &Lab,
        pod: &str,
        what: String,
        program: &Path,
        user: User,
        cpus: &[usize],
        shape: impl FnOnce(&mut Command),
    ) -> Result<Self, ArmError> {
        let group = format!("sidecar-{pod}");
        let opened = File::open(program).map_err(|source| ArmError::Process {
            program: what.clone(),
            call: "opening it",
            source,
        })?;
        let mut command = lab.daemon_command(of_open_file(&opened), &group, cpus)?;
        command.arg0(program);
        shape(&mut command);
        move_into(&mut command, lab.pod(pod)?, user, &opened);
        Ok(Self {
            program: Program::start(what, command, |command| lab.spawn(command))?,
            pod: pod.to_owned(),
            group,
        })
    }

    /// CPU time used so far.
    pub(crate) fn cpu_usage(&self, lab: &Lab) -> Result<CpuUsage, ArmError> {
        Ok(lab.daemon_cpu_usage(&self.group)?)
    }
}

/// A path to what is open: whoever has the descriptor may take it, whatever lies above the file.
fn of_open_file(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Makes a command of the lab's run in the pod's network namespace as `user`. A script's interpreter finds the script by its descriptor,
/// so `program` stays open.
fn move_into(command: &mut Command, pod: &Pod, user: User, program: &File) {
    let netns = pod.netns().as_raw_fd();
    let program = program.as_raw_fd();
    let enter = move || {
        // SAFETY: the namespace's descriptor is held by the lab, which is borrowed until after the fork, the program's by the
        // caller, and the child inherits both. Only system calls, no allocation.
        let entered = unsafe {
            libc::setns(netns, libc::CLONE_NEWNET) == 0
                && libc::fcntl(program, libc::F_SETFD, 0) == 0
                && allow_open_files()
                && (user == User::Root
                    || libc::setgroups(0, std::ptr::null()) == 0
                        && libc::setresgid(PROXY_UID, PROXY_UID, PROXY_UID) == 0
                        && libc::setresuid(PROXY_UID, PROXY_UID, PROXY_UID) == 0)
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
