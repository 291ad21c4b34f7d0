//! Finds labs by their cgroups: the ones that run, and what is left of ones whose owner and guardian were both killed.
//! A lab is known by the name of its directory (see [`Identity`]); anything else is never touched.

use std::path::PathBuf;

use crate::{
    cgroup::{self, cgroup2_mount},
    error::LabError,
    identity::{Identity, OwnerState},
};

/// A lab found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLab {
    /// Its id and owner.
    pub identity: Identity,
    /// Whether the owner still holds it.
    pub state: OwnerState,
    /// Its cgroup2 directory.
    pub cgroup: PathBuf,
    /// Names of the cgroups below: pods and daemons.
    pub members: Vec<String>,
    /// Pids of everything that runs in it.
    pub processes: Vec<u32>,
}

impl FoundLab {
    /// True if nobody will ever take it down.
    pub fn is_leftover(&self) -> bool {
        self.state == OwnerState::Dead
    }

    /// Kills what runs in a leftover and removes its cgroups. Its namespaces and links end with its processes.
    /// A lab whose owner lives, or can't be seen, is left alone, and `false` returned.
    ///
    /// # Errors
    /// [`LabError::Cgroup`] or [`LabError::CgroupBusy`].
    pub fn remove_leftover(&self) -> Result<bool, LabError> {
        // The owner is looked at again: this may be long after the search.
        if self.identity.owner.state()? != OwnerState::Dead {
            return Ok(false);
        }
        cgroup::remove(&self.cgroup)?;
        Ok(true)
    }
}

/// All labs on this machine, by directory name.
///
/// # Errors
/// [`LabError::NoCgroup2`], or [`LabError::Proc`] if an owner can't be judged.
pub fn find_labs() -> Result<Vec<FoundLab>, LabError> {
    let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    let mut labs = Vec::new();
    for cgroup in cgroup::children(&cgroup2_mount()?) {
        let Some(identity) = name(&cgroup).and_then(|name| Identity::parse(&name)) else {
            continue;
        };
        labs.push(FoundLab {
            state: identity.owner.state()?,
            members: cgroup::children(&cgroup).iter().filter_map(name).collect(),
            processes: cgroup::processes(&cgroup),
            identity,
            cgroup,
        });
    }
    Ok(labs)
}
