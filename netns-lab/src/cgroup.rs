//! The cgroup2 side of a lab: `<mount>/<lab>/<pod>`. Programs attach here, CPU time is read here, and what runs here
//! can be killed for certain.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{error::LabError, guardian::Guardian, identity::Identity, sweep::sweep};

/// How long killed processes may take to go before a lab's end counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// CPU time used by all processes of a cgroup since it was made, including the ones that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// Time in user mode, microseconds.
    pub user_us: u64,
    /// Time in the kernel, microseconds.
    pub system_us: u64,
}

impl CpuUsage {
    /// User and system time together, microseconds.
    pub fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }

    /// What was used since an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }

    /// Reads `cpu.stat`, which every cgroup2 has, whichever controllers are on.
    pub(crate) fn read(cgroup: &Path) -> Result<Self, LabError> {
        let path = cgroup.join("cpu.stat");
        let text = fs::read_to_string(&path).map_err(|e| failed(&path, "read", e))?;
        parse_cpu_stat(&text).ok_or_else(|| {
            failed(
                &path,
                "read",
                io::Error::other("no user_usec and system_usec"),
            )
        })
    }
}

fn parse_cpu_stat(text: &str) -> Option<CpuUsage> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, _)| *key == name)?.1.trim().parse().ok()
    };
    Some(CpuUsage {
        user_us: field("user_usec")?,
        system_us: field("system_usec")?,
    })
}

/// The place where cgroup2 is mounted: /sys/fs/cgroup on most machines, .../unified on hybrid ones.
///
/// # Errors
/// [`LabError::NoCgroup2`] if it isn't mounted, [`LabError::Proc`] if that can't be found out.
pub fn cgroup2_mount() -> Result<PathBuf, LabError> {
    let path = "/proc/self/mounts";
    let text = fs::read(path).map_err(|source| LabError::Proc {
        path: path.to_owned(),
        source,
    })?;
    parse_mounts(&text).ok_or(LabError::NoCgroup2)
}

fn parse_mounts(text: &[u8]) -> Option<PathBuf> {
    text.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let (_, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == b"cgroup2").then(|| PathBuf::from(OsStr::from_bytes(&unescape(at))))
    })
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits in mount tables.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok();
        let escaped = tail
            .split_at_checked(3)
            .filter(|_| *first == b'\\')
            .and_then(|(digits, after)| Some((octal(digits)?, after)));
        let (byte, after) = escaped.unwrap_or((*first, tail));
        out.push(byte);
        rest = after;
    }
    out
}

/// A lab's own cgroup, with the guardian that removes it if we can't.
#[derive(Debug)]
pub(crate) struct LabCgroup {
    path: PathBuf,
    guardian: Option<Guardian>,
}

impl LabCgroup {
    /// Starts the guardian, then makes the directory.
    pub(crate) fn create(identity: &Identity) -> Result<Self, LabError> {
        let mount = cgroup2_mount()?;
        let root = File::open(&mount).map_err(|e| failed(&mount, "open", e))?;
        let name = identity.to_string();
        let path = mount.join(&name);
        let name = CString::new(name).map_err(|e| failed(&path, "mkdir", e.into()))?;
        let guardian = Guardian::start(&root, &name)?;
        let made = make(&path);
        let cgroup = Self {
            path,
            guardian: Some(guardian),
        };
        made.map(|()| cgroup)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn guardian_pid(&self) -> Option<u32> {
        self.guardian.as_ref().map(Guardian::pid)
    }

    /// Makes a cgroup for a pod or daemon below the lab's, and opens its list of processes for writing.
    pub(crate) fn child(&self, name: &str) -> Result<(PathBuf, File), LabError> {
        let path = self.path.join(name);
        if let Err(error) = make(&path) {
            let exists = matches!(&error, LabError::Cgroup { source, .. } if source.kind() == io::ErrorKind::AlreadyExists);
            if !exists {
                return Err(error);
            }
        }
        let procs = path.join("cgroup.procs");
        let file = OpenOptions::new()
            .write(true)
            .open(&procs)
            .map_err(|e| failed(&procs, "open", e))?;
        Ok((path, file))
    }

    /// Kills everything inside and removes the directory; afterwards the guardian goes too.
    pub(crate) fn remove(&mut self) -> Result<(), LabError> {
        let Some(guardian) = self.guardian.take() else {
            return Ok(());
        };
        remove(&self.path)?;
        guardian.dismiss();
        Ok(())
    }
}

impl Drop for LabCgroup {
    fn drop(&mut self) {
        // On failure the guardian, dropped undismissed, goes on trying.
        let _ = self.remove();
    }
}

/// Kills everything in a cgroup of ours, waits for it to end, and removes the directory with all below.
pub(crate) fn remove(path: &Path) -> Result<(), LabError> {
    let invalid = || failed(path, "rmdir", io::ErrorKind::InvalidInput.into());
    let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(invalid)?;
    let name = CString::new(name.as_bytes()).map_err(|_| invalid())?;
    let parent = File::open(parent).map_err(|e| failed(parent, "open", e))?;
    sweep(parent.as_fd(), &name, PATIENCE).map_err(|errno| {
        if errno == nix::errno::Errno::EBUSY {
            LabError::CgroupBusy {
                path: path.to_owned(),
                seconds: PATIENCE.as_secs(),
                pids: processes(path)
                    .iter()
                    .map(u32::to_string)
                    .collect::<Vec<_>>()
                    .join(" "),
            }
        } else {
            failed(path, "kill or rmdir", errno.into())
        }
    })
}

/// Pids in a cgroup and all below it; empty if it is gone.
pub(crate) fn processes(path: &Path) -> Vec<u32> {
    let own = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    for child in children(path) {
        pids.extend(processes(&child));
    }
    pids
}

/// The cgroups directly below, sorted by name.
pub(crate) fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut paths: Vec<_> = directories.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn make(path: &Path) -> Result<(), LabError> {
    fs::create_dir(path).map_err(|e| failed(path, "mkdir", e))
}

fn failed(path: &Path, call: &'static str, source: io::Error) -> LabError {
    LabError::Cgroup {
        path: path.to_owned(),
        call,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_on_unified_and_hybrid_machines() {
        let unified = b"proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(parse_mounts(unified), Some("/sys/fs/cgroup".into()));
        let hybrid = b"cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(parse_mounts(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            parse_mounts(b"cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"),
            None
        );
        assert_eq!(
            parse_mounts(b"x /a\\040b\\134c cgroup2 rw 0 0"),
            Some("/a b\\c".into())
        );
    }

    #[test]
    fn cpu_time_is_read_whatever_else_is_in_the_file() {
        let text = "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnice_usec 0\nnr_periods 0\n";
        let usage = parse_cpu_stat(text).unwrap();
        assert_eq!(
            (usage.user_us, usage.system_us, usage.total_us()),
            (20, 10, 30)
        );
        assert_eq!(parse_cpu_stat("usage_usec 30\n"), None);
        assert_eq!(
            usage.since(CpuUsage {
                user_us: 5,
                system_us: 99
            }),
            CpuUsage {
                user_us: 15,
                system_us: 0
            }
        );
    }
}
