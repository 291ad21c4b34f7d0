//! Who owns a lab. All that a stranger needs to know is in the name of the lab's cgroup directory:
//! a name is made in the same instant as the directory, so a SIGKILL can never leave an unmarked one.

use std::{fmt, fs, io::Read};

use crate::error::LabError;

/// First part of every cgroup directory of this project.
pub const PREFIX: &str = "netns-lab";

/// A process, told apart from later ones with the same pid by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Process id, as seen in `pid_ns`.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of /proc/pid/stat).
    pub start: u64,
    /// Inode of the pid namespace that `pid` belongs to.
    pub pid_ns: u64,
}

/// What can be said about an owner from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// Running.
    Alive,
    /// Ended (or a zombie): what it owned is a leftover.
    Dead,
    /// In another pid namespace: it can't be seen, so nothing of it may be touched.
    Foreign,
}

impl Owner {
    /// The calling process.
    ///
    /// # Errors
    /// [`LabError::Proc`] if /proc is not mounted.
    pub fn current() -> Result<Self, LabError> {
        let pid = std::process::id();
        let (start, _) = stat(pid).ok_or_else(|| proc_error(&format!("/proc/{pid}/stat")))?;
        Ok(Self {
            pid,
            start,
            pid_ns: current_pid_ns()?,
        })
    }

    /// Whether the owner still runs.
    ///
    /// # Errors
    /// [`LabError::Proc`] if /proc is not mounted.
    pub fn state(&self) -> Result<OwnerState, LabError> {
        if self.pid_ns != current_pid_ns()? {
            return Ok(OwnerState::Foreign);
        }
        let alive = stat(self.pid)
            .is_some_and(|(start, state)| start == self.start && !matches!(state, 'Z' | 'X'));
        Ok(if alive {
            OwnerState::Alive
        } else {
            OwnerState::Dead
        })
    }
}

/// The id of a lab and its owner; [`fmt::Display`] gives the cgroup directory's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `<topology name>-<8 random hex digits>`.
    pub id: String,
    /// The process that holds the lab.
    pub owner: Owner,
}

impl Identity {
    /// A new id for a lab of this process. The name must have been checked.
    pub(crate) fn new(name: &str) -> Result<Self, LabError> {
        let mut random = [0; 4];
        fs::File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut random))
            .map_err(|source| LabError::Proc {
                path: "/dev/urandom".to_owned(),
                source,
            })?;
        Ok(Self {
            id: format!("{name}-{:08x}", u32::from_ne_bytes(random)),
            owner: Owner::current()?,
        })
    }

    /// Reads a directory name; `None` if it isn't one of ours.
    pub fn parse(directory: &str) -> Option<Self> {
        let mut parts = directory.split('.');
        let (prefix, id, owner) = (parts.next()?, parts.next()?, parts.next()?);
        if prefix != PREFIX || parts.next().is_some() || id.is_empty() {
            return None;
        }
        let mut numbers = owner.split('-');
        let owner = Owner {
            pid: numbers.next()?.parse().ok()?,
            start: numbers.next()?.parse().ok()?,
            pid_ns: numbers.next()?.parse().ok()?,
        };
        numbers.next().is_none().then(|| Self {
            id: id.to_owned(),
            owner,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Owner { pid, start, pid_ns } = self.owner;
        write!(f, "{PREFIX}.{}.{pid}-{start}-{pid_ns}", self.id)
    }
}

/// Start time and state letter of a process; `None` if there is no such process.
fn stat(pid: u32) -> Option<(u64, char)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command (field 2) may hold spaces and brackets, so fields are counted from the last `)`.
fn parse_stat(line: &str) -> Option<(u64, char)> {
    let (_, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, state))
}

fn current_pid_ns() -> Result<u64, LabError> {
    let path = "/proc/self/ns/pid";
    let link = fs::read_link(path).map_err(|source| LabError::Proc {
        path: path.to_owned(),
        source,
    })?;
    let inode = link
        .to_str()
        .and_then(|l| l.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok());
    inode.ok_or_else(|| proc_error(path))
}

fn proc_error(path: &str) -> LabError {
    LabError::Proc {
        path: path.to_owned(),
        source: std::io::Error::other("not in the expected form, or /proc is not mounted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_name_says_it_all() {
        let identity = Identity::new("canary-2").unwrap();
        assert!(identity.id.starts_with("canary-2-"));
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
    }

    #[test]
    fn other_directories_are_not_ours() {
        let names = [
            "",
            "netns-lab",
            "netns-lab.x",
            "netns-lab.x.1-2",
            "netns-lab.x.1-2-3-4",
            "netns-lab.x.1-2-3.slice",
            "netns-lab..1-2-3",
            "other.x.1-2-3",
            "netns-lab.x.a-2-3",
            "system.slice",
        ];
        for name in names {
            assert_eq!(Identity::parse(name), None, "{name}");
        }
        assert!(Identity::parse("netns-lab.x.1-2-3").is_some());
    }

    #[test]
    fn two_ids_differ() {
        assert_ne!(
            Identity::new("a").unwrap().id,
            Identity::new("a").unwrap().id
        );
    }

    #[test]
    fn a_command_with_brackets_does_not_confuse_the_fields() {
        let line = "7 (a) b (c)) Z 1 7 7 0 -1 4 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 0";
        assert_eq!(parse_stat(line), Some((4242, 'Z')));
        assert_eq!(parse_stat("7 (x"), None);
    }

    #[test]
    fn a_reused_pid_is_a_dead_owner_and_another_pid_namespace_is_not_judged() {
        let me = Owner::current().unwrap();
        assert_eq!(me.state().unwrap(), OwnerState::Alive);
        let earlier = Owner {
            start: me.start - 1,
            ..me
        };
        assert_eq!(earlier.state().unwrap(), OwnerState::Dead);
        let elsewhere = Owner {
            pid_ns: me.pid_ns + 1,
            ..me
        };
        assert_eq!(elsewhere.state().unwrap(), OwnerState::Foreign);
    }
}
