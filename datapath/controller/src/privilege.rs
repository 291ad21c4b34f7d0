//! What the daemon may do: what it needs, and nothing else.

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};

/// A capability and the line that needs it.
pub struct Need {
    /// The capability.
    pub capability: Capability,
    /// Where it is used, and what for.
    pub line: &'static str,
}

/// Capabilities of the daemon. `CAP_SYS_ADMIN` includes what `CAP_BPF` and `CAP_PERFMON` allow (`bpf_capable`, `perfmon_capable`).
pub const DAEMON: [Need; 4] = [
    Need {
        capability: Capability::CAP_SYS_ADMIN,
        line: "netns::enter: setns into a pod's network namespace; load: programs, maps, ids of links",
    },
    Need {
        capability: Capability::CAP_NET_ADMIN,
        line: "buffers::Buffers::hold_any: SO_SNDBUFFORCE; load: programs on sockets and cgroups",
    },
    Need {
        capability: Capability::CAP_SYS_PTRACE,
        line: "netns::enter: a namespace that is named by /proc/PID, of a process that may do more than this one",
    },
    Need {
        capability: Capability::CAP_DAC_READ_SEARCH,
        line: "follow::read: a configuration that belongs to another user",
    },
];

/// Capabilities of the guard.
pub const GUARD: [Need; 1] = [Need {
    capability: Capability::CAP_SYS_ADMIN,
    line: "guard::process::link: BPF_LINK_GET_FD_BY_ID, BPF_MAP_GET_FD_BY_ID",
}];

/// Gives up everything but `needs`, for this process and all that it starts. Only the calling thread changes: call it before there are
/// others.
///
/// # Errors
/// If the kernel refuses.
pub fn keep_only(needs: &[Need]) -> Result<()> {
    let needed: CapsHashSet = needs.iter().map(|need| need.capability).collect();
    let have = caps::read(None, CapSet::Permitted)?;
    if have.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::runtime::thread_all_supported().difference(&needed) {
            caps::drop(None, CapSet::Bounding, *capability)
                .with_context(|| format!("cannot give up {capability}"))?;
        }
    }
    caps::clear(None, CapSet::Ambient).context("cannot give up ambient capabilities")?;
    caps::clear(None, CapSet::Inheritable).context("cannot give up inheritable capabilities")?;
    let keep: CapsHashSet = have.intersection(&needed).copied().collect();
    caps::set(None, CapSet::Effective, &keep).context("cannot give up effective capabilities")?;
    caps::set(None, CapSet::Permitted, &keep).context("cannot give up permitted capabilities")?;
    // What is executed from here on gains nothing by its file.
    nix::sys::prctl::set_no_new_privs().context("cannot do without new privileges")
}
