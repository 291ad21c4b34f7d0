//! `netns-lab doctor` and `gc`.

use kmesh_cli::exit;
use netns_lab::{OwnerState, find_labs};

/// Lists leftovers; as `command` that removes them, does so.
pub(super) fn run(remove: Option<&str>) -> anyhow::Result<u8> {
    if let Some(command) = remove {
        super::need_root(command)?;
    }
    let mut left = 0;
    for lab in find_labs()? {
        let what = format!(
            "{} (owner {}, {} processes, {})",
            lab.identity.id,
            lab.identity.owner.pid,
            lab.processes.len(),
            lab.cgroup.display()
        );
        match lab.state {
            OwnerState::Alive => {}
            OwnerState::Foreign => {
                eprintln!("not judged, the owner is in another pid namespace: {what}");
            }
            OwnerState::Dead if remove.is_some() && lab.remove_leftover()? => {
                super::say(&format!("removed: {what}\n"))?;
            }
            OwnerState::Dead => {
                super::say(&format!("leftover: {what}\n"))?;
                left += 1;
            }
        }
    }
    if left > 0 {
        eprintln!("{left} leftover labs; `netns-lab doctor --remove` removes them");
        return Ok(exit::FAILED);
    }
    Ok(exit::HELD)
}
