//! `netns-lab doctor` and `gc`.

use kmesh_cli::exit;
use netns_lab::{OwnerState, find_labs};

pub(super) fn run(remove: bool) -> anyhow::Result<u8> {
    if remove {
        super::need_root("netns-lab doctor --remove")?;
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
            OwnerState::Dead if remove && lab.remove_leftover()? => {
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
