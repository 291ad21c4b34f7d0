//! What an attacker may do at all. The lab starts programs as root with every capability; no pod has that.

use std::{fs, io};

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// The user nobody, and its group.
const NOBODY: u32 = 65_534;

/// Whom a program becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Root with the capabilities that container runtimes grant, as far as they matter here.
    Container,
    /// Root in a user namespace of its own, and nobody outside.
    Userns,
    /// The user nobody, without a capability.
    Nobody,
}

impl Who {
    /// By the name that it has on a command line.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "container" => Self::Container,
            "userns" => Self::Userns,
            "nobody" => Self::Nobody,
            _ => return None,
        })
    }
}

/// Gives up what `who` does not have. The limit of descriptors goes up first: a pod's is what its runtime sets, which is more than enough.
///
/// # Errors
/// What the kernel says.
pub fn become_who(who: Who) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    match who {
        Who::Container => keep(&[Capability::CAP_NET_RAW, Capability::CAP_NET_BIND_SERVICE]),
        Who::Userns => {
            nobody()?;
            // Without it the files of this process are root's, who may be anybody else by now.
            set_dumpable(true)?;
            unshare(CloneFlags::CLONE_NEWUSER)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {NOBODY} 1"))?;
            fs::write("/proc/self/gid_map", format!("0 {NOBODY} 1"))
        }
        Who::Nobody => nobody(),
    }
}

fn nobody() -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    Ok(())
}

fn keep(kept: &[Capability]) -> io::Result<()> {
    let kept: CapsHashSet = kept.iter().copied().collect();
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}
