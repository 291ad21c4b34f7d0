//! Everything that can go wrong with a lab. A message names the object, the call and, where the
//! errno allows a guess, the likely cause; the errno itself is the `source`.

use std::{io, path::PathBuf};

use crate::topology::TopologyError;

/// Why a lab could not be built, used or taken down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The topology was refused; nothing was built.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A pod asks for a CPU that this machine doesn't have.
    #[error("pod {pod:?}: cpu {cpu} is not online (online: {online})")]
    NoSuchCpu {
        /// The pod.
        pod: String,
        /// The CPU it asks for.
        cpu: usize,
        /// The kernel's list of online CPUs, such as `0-3`.
        online: String,
    },
    /// A namespace could not be made, entered or read.
    #[error("namespace of {of:?}: {call} failed{}", privilege(source))]
    Namespace {
        /// Pod the namespace belongs to, or `switch`.
        of: String,
        /// The system call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// A kernel setting of a namespace could not be made.
    #[error(
        "namespace of {of:?}: can't set sysctl {name} to {value:?}{}",
        sysctl_cause(name, source)
    )]
    Sysctl {
        /// Pod the namespace belongs to, or `switch`.
        of: String,
        /// Path below /proc/sys.
        name: String,
        /// The value.
        value: String,
        /// The error of open or write.
        source: io::Error,
    },
    /// The kernel refused a link, address, route or neighbour.
    #[error(
        "namespace of {of:?}: netlink request \"{request}\" failed{}",
        link_cause(source)
    )]
    Link {
        /// Pod the namespace belongs to, or `switch`.
        of: String,
        /// The request, in the words of iproute2.
        request: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No cgroup2 file system in /proc/mounts.
    #[error(
        "no cgroup2 file system in /proc/mounts: mount one (mount -t cgroup2 none /sys/fs/cgroup)"
    )]
    NoCgroup2,
    /// A file or directory of a cgroup could not be used.
    #[error("cgroup {}: {call} failed{}", path.display(), cgroup_cause(source))]
    Cgroup {
        /// The directory or file.
        path: PathBuf,
        /// The system call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// Killed processes did not go away.
    #[error("cgroup {} is still in use {seconds} s after its processes were killed (pids: {pids})", path.display())]
    CgroupBusy {
        /// The lab's directory.
        path: PathBuf,
        /// How long was waited, seconds.
        seconds: u64,
        /// The pids that are left.
        pids: String,
    },
    /// A daemon's cgroup would be a pod's.
    #[error("daemon cgroup {name:?}: {problem}")]
    DaemonName {
        /// The name asked for.
        name: String,
        /// Why it can't be had.
        problem: String,
    },
    /// The process that cleans up after a SIGKILL could not be started.
    #[error("guardian process: {call} failed{}", guardian_cause(source))]
    Guardian {
        /// The system call.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("can't start {program:?} in {place:?}{}", spawn_cause(source))]
    Spawn {
        /// The program.
        program: String,
        /// Pod or daemon cgroup.
        place: String,
        /// The error of fork, of one of the steps in the child, or of exec.
        source: io::Error,
    },
    /// A thread or its I/O runtime could not be started.
    #[error("can't start a {what} (limit on processes or open files?)")]
    Thread {
        /// Which one.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
    /// There is no such pod.
    #[error("lab {lab} has no pod {pod:?}; pods are: {known}")]
    UnknownPod {
        /// The lab's id.
        lab: String,
        /// The name asked for.
        pod: String,
        /// The names that exist, comma-separated.
        known: String,
    },
    /// A file of /proc could not be read or understood.
    #[error("can't read {path}")]
    Proc {
        /// The file.
        path: String,
        /// The error.
        source: io::Error,
    },
}

/// The errno in a netlink answer, or the message if the kernel sent none.
pub(crate) fn netlink_errno(error: &rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

fn errno(source: &io::Error) -> i32 {
    source.raw_os_error().unwrap_or(0)
}

fn privilege(source: &io::Error) -> &'static str {
    match errno(source) {
        libc::EPERM | libc::EACCES => {
            ", likely cause: not root (needs CAP_SYS_ADMIN and CAP_NET_ADMIN)"
        }
        libc::ENOSPC => ", likely cause: user.max_net_namespaces is reached",
        libc::EINVAL => ", likely cause: a kernel without CONFIG_NET_NS",
        libc::EMFILE | libc::ENFILE => ", likely cause: too many open files (ulimit -n)",
        _ => "",
    }
}

fn sysctl_cause(name: &str, source: &io::Error) -> &'static str {
    match errno(source) {
        libc::ENOENT if name.contains("ipv6") => ", likely cause: IPv6 is disabled in this kernel",
        libc::ENOENT => ", likely cause: an old kernel",
        libc::EPERM | libc::EACCES | libc::EROFS => {
            ", likely cause: not root, or /proc/sys is mounted read-only"
        }
        _ => "",
    }
}

fn link_cause(source: &io::Error) -> &'static str {
    match errno(source) {
        libc::EPERM | libc::EACCES => ", likely cause: not root (needs CAP_NET_ADMIN)",
        libc::EOPNOTSUPP => ", likely cause: a kernel without the veth or bridge driver",
        libc::EEXIST => ", likely cause: the name or address is already in use there",
        libc::EXFULL => ", likely cause: the bridge has no free port",
        _ => "",
    }
}

fn cgroup_cause(source: &io::Error) -> &'static str {
    match errno(source) {
        libc::EPERM | libc::EACCES => ", likely cause: not root",
        libc::EROFS => {
            ", likely cause: cgroup2 is mounted read-only (a container without cgroup access?)"
        }
        libc::EAGAIN => ", likely cause: cgroup.max.descendants of a parent is reached",
        libc::ENOENT => ", likely cause: it is gone already, or the kernel is older than 5.14",
        libc::EBUSY => ", likely cause: it still holds processes or other cgroups",
        _ => "",
    }
}

fn guardian_cause(source: &io::Error) -> &'static str {
    match errno(source) {
        libc::EAGAIN => ", likely cause: limit on the number of processes",
        libc::EMFILE | libc::ENFILE => ", likely cause: too many open files (ulimit -n)",
        _ => "",
    }
}

fn spawn_cause(source: &io::Error) -> &'static str {
    match errno(source) {
        libc::ENOENT => ", likely cause: no such program in PATH",
        libc::EACCES => ", likely cause: not executable",
        libc::EPERM => {
            ", likely cause: not root, or its user was set by Command::uid (use pre_exec)"
        }
        libc::ENODEV => ", likely cause: the lab is down",
        libc::EINVAL => ", likely cause: none of its CPUs may be used here",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_object_call_and_likely_cause() {
        let os = io::Error::from_raw_os_error;
        let namespace = LabError::Namespace {
            of: "client".to_owned(),
            call: "unshare",
            source: os(libc::EPERM),
        };
        assert_eq!(
            namespace.to_string(),
            "namespace of \"client\": unshare failed, likely cause: not root (needs CAP_SYS_ADMIN and CAP_NET_ADMIN)"
        );
        let link = LabError::Link {
            of: "switch".to_owned(),
            request: "link add br0 type bridge".to_owned(),
            source: os(libc::EOPNOTSUPP),
        };
        assert!(
            link.to_string()
                .ends_with("likely cause: a kernel without the veth or bridge driver")
        );
        let cgroup = LabError::Cgroup {
            path: "/sys/fs/cgroup/x".into(),
            call: "mkdir",
            source: os(libc::EROFS),
        };
        assert!(cgroup.to_string().starts_with(
            "cgroup /sys/fs/cgroup/x: mkdir failed, likely cause: cgroup2 is mounted read-only"
        ));
        assert!(LabError::NoCgroup2.to_string().contains("mount one"));
    }

    #[test]
    fn the_errno_stays_available_as_the_source() {
        let error = LabError::Spawn {
            program: "nginx".to_owned(),
            place: "web".to_owned(),
            source: io::Error::from_raw_os_error(libc::ENOENT),
        };
        let source = std::error::Error::source(&error).expect("a source");
        assert!(source.to_string().contains("os error 2"));
        assert!(error.to_string().contains("no such program in PATH"));
    }
}
