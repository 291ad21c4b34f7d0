//! Where a program runs: namespace, cgroup and CPUs, entered between fork and exec.

use std::{
    cell::Cell,
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
    sync::Arc,
};

use netns_rs::NetNs;

use crate::error::LabError;

/// Environment variable with the lab's id in every program started in a lab.
pub const LAB_VARIABLE: &str = "NETNS_LAB_ID";
/// Environment variable with the pod's (or daemon cgroup's) name in every program started in a lab.
pub const POD_VARIABLE: &str = "NETNS_LAB_POD";

thread_local! {
    /// True on the thread that [`crate::spawn`] forks from. It never ends before the process does.
    pub(crate) static OUTLIVES_ITS_CHILDREN: Cell<bool> = const { Cell::new(false) };
}

/// Everything a program takes on before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    pub(crate) lab: String,
    pub(crate) name: String,
    pub(crate) netns: Arc<NetNs>,
    /// `cgroup.procs` of the cgroup, open for writing.
    pub(crate) procs: Arc<File>,
    pub(crate) cpus: CpuSet,
}

impl Placement {
    /// A command that, once forked, joins the cgroup, enters the namespace and binds itself to the CPUs.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env(LAB_VARIABLE, &self.lab)
            .env(POD_VARIABLE, &self.name);
        let (netns, procs, cpus) = (Arc::clone(&self.netns), Arc::clone(&self.procs), self.cpus);
        let parent = std::process::id();
        // SAFETY: the closure makes plain system calls on descriptors opened before the fork; it allocates nothing.
        unsafe { command.pre_exec(move || enter(&netns, &procs, &cpus, parent)) };
        command
    }
}

/// Runs in the forked child. The cgroup comes first: from then on the guardian finds the child. The signal mask is
/// cleared because the owner may have blocked what should end a child.
fn enter(netns: &NetNs, procs: &File, cpus: &CpuSet, parent: u32) -> io::Result<()> {
    // SAFETY: valid descriptors, a buffer of one byte, a cpu_set_t of the size given, an initialised signal set.
    unsafe {
        check(libc::write(procs.as_raw_fd(), c"0".as_ptr().cast(), 1) == 1)?;
        check(libc::setns(netns.file().as_raw_fd(), libc::CLONE_NEWNET) == 0)?;
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const cpus.0) == 0)?;
        let mut none = std::mem::MaybeUninit::uninit();
        check(libc::sigemptyset(none.as_mut_ptr()) == 0)?;
        check(libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) == 0)?;
    }
    // The signal comes when the forking *thread* ends, so only a thread that stays may ask for it.
    if OUTLIVES_ITS_CHILDREN.get() {
        // SAFETY: no pointers involved.
        unsafe {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0)?;
            // Too late if the parent had died before the request; nobody would read an error.
            if libc::getppid().unsigned_abs() != parent {
                libc::_exit(1);
            }
        }
    }
    Ok(())
}

fn check(succeeded: bool) -> io::Result<()> {
    if succeeded {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A set of CPUs in the kernel's form.
#[derive(Clone, Copy)]
pub(crate) struct CpuSet(libc::cpu_set_t);

impl CpuSet {
    /// These CPUs; all if the list is empty, even if the calling thread is bound to some.
    pub(crate) fn new(cpus: &[usize]) -> Self {
        // SAFETY: a cpu_set_t is a plain bit field, for which all zeroes is the empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        let mut add = |cpu: usize| {
            if cpu < libc::CPU_SETSIZE.unsigned_abs() as usize {
                // SAFETY: within the bit field, as just checked.
                unsafe { libc::CPU_SET(cpu, &mut set) };
            }
        };
        if cpus.is_empty() {
            (0..libc::CPU_SETSIZE.unsigned_abs() as usize).for_each(&mut add);
        } else {
            cpus.iter().copied().for_each(&mut add);
        }
        Self(set)
    }
}

impl std::fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "CpuSet({})",
            (0..1024).filter(|cpu| self.contains(*cpu)).count()
        )
    }
}

impl CpuSet {
    fn contains(&self, cpu: usize) -> bool {
        // SAFETY: the one caller stays below CPU_SETSIZE.
        unsafe { libc::CPU_ISSET(cpu, &self.0) }
    }
}

/// Refuses CPUs that this machine doesn't have: the kernel would quietly ignore them beside a good one.
pub(crate) fn check_online(pod: &str, cpus: &[usize]) -> Result<(), LabError> {
    if cpus.is_empty() {
        return Ok(());
    }
    let path = "/sys/devices/system/cpu/online";
    let online = std::fs::read_to_string(path).map_err(|source| LabError::Proc {
        path: path.to_owned(),
        source,
    })?;
    let online = online.trim();
    match cpus.iter().find(|cpu| !in_list(online, **cpu)) {
        Some(cpu) => Err(LabError::NoSuchCpu {
            pod: pod.to_owned(),
            cpu: *cpu,
            online: online.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Whether a kernel list such as `0-3,8` holds a CPU.
fn in_list(list: &str, cpu: usize) -> bool {
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&cpu),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lists_are_understood() {
        assert!(in_list("0-1", 1) && !in_list("0-1", 2));
        assert!(in_list("0-3,8,10-11", 10) && in_list("0", 0) && !in_list("", 0));
    }

    #[test]
    fn an_unknown_cpu_is_refused_by_name() {
        let message = check_online("web", &[0, 4095]).unwrap_err().to_string();
        assert!(
            message.starts_with("pod \"web\": cpu 4095 is not online (online: 0"),
            "{message}"
        );
        check_online("web", &[0]).unwrap();
    }

    #[test]
    fn an_empty_list_is_every_cpu() {
        assert!((0..1024).all(|cpu| CpuSet::new(&[]).contains(cpu)));
        let some = CpuSet::new(&[1, 5000]);
        assert!(some.contains(1) && !some.contains(0));
    }
}
