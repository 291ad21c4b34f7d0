//! How many large messages the kernel may carry at once here, and where their readers' memory is counted.
//!
//! What is redirected to a queue that may not grow is lost, so the programs ask for room first, and there are no more places than
//! the kernel's memory for TCP bears without a thought.

use std::fs;

use kmesh_api::limits::{LARGE_MAX, LARGE_PLACES};

use super::LoadError;
use super::btf::member_offset;

/// The constants of `runtime/large.rs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Places in use; 0 = every large message goes by TCP.
    pub(super) used: u32,
    /// Offset of `sock.__sk_common.skc_cookie`.
    pub(super) cookie: u32,
    /// Offset of `sock.sk_wmem_queued`.
    pub(super) queued: u32,
    /// Offset of `sock.sk_memcg`.
    pub(super) memcg: u32,
    /// Offset of the counter that sockets are charged to in `struct mem_cgroup`.
    pub(super) counter: u32,
    /// Offset of `page_counter.usage`.
    pub(super) usage: u32,
    /// Offset of `page_counter.max`.
    pub(super) max: u32,
    /// Offset of `page_counter.parent`.
    pub(super) parent: u32,
}

impl Places {
    /// What this kernel has, by its BTF and its settings. A kernel that counts memory in a way not known here gets no place.
    pub(super) fn find(btf: &[u8]) -> Self {
        let controllers = fs::read_to_string("/proc/cgroups").unwrap_or_default();
        let memory = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").unwrap_or_default();
        let Ok(offsets) = Self::offsets(btf, counter(&controllers)) else {
            return Self::default();
        };
        Self {
            used: fitting(&memory),
            ..offsets
        }
    }

    fn offsets(btf: &[u8], counter: &'static str) -> Result<Self, LoadError> {
        Ok(Self {
            used: 0,
            cookie: member_offset(btf, "sock", "__sk_common")?
                + member_offset(btf, "sock_common", "skc_cookie")?,
            queued: member_offset(btf, "sock", "sk_wmem_queued")?,
            memcg: member_offset(btf, "sock", "sk_memcg")?,
            counter: member_offset(btf, "mem_cgroup", counter)?,
            usage: member_offset(btf, "page_counter", "usage")?,
            max: member_offset(btf, "page_counter", "max")?,
            parent: member_offset(btf, "page_counter", "parent")?,
        })
    }
}

/// The counter in `struct mem_cgroup` that sockets are charged to (`mem_cgroup_charge_skmem`), by the text of `/proc/cgroups`: a
/// controller in a hierarchy of its own is version 1's.
fn counter(controllers: &str) -> &'static str {
    let mut rows = controllers
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let version1 = rows.any(|row| matches!(row[..], ["memory", hierarchy, ..] if hierarchy != "0"));
    if version1 { "tcpmem" } else { "memory" }
}

/// Places that take at most a quarter of the memory which TCP takes freely, by the text of `tcp_mem` (pages: freely, under pressure, at
/// most).
fn fitting(tcp_mem: &str) -> u32 {
    const PAGE: u64 = 4096;
    let freely: u64 = tcp_mem
        .split_ascii_whitespace()
        .next()
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    let fitting = freely.saturating_mul(PAGE) / 4 / LARGE_MAX;
    u32::try_from(fitting).unwrap_or(u32::MAX).min(LARGE_PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fit_into_a_quarter_of_what_tcp_takes_freely() {
        // 8 GiB, 1 GiB and 256 MiB of memory.
        assert_eq!(fitting("287898\t383867\t575796\n"), LARGE_PLACES);
        assert_eq!(fitting("11223 14964 22446"), 0);
        assert_eq!(fitting("20000 26000 40000"), 1);
        assert_eq!(fitting(""), 0);
    }

    #[test]
    fn sockets_are_charged_to_the_version_that_has_the_controller() {
        let head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
        assert_eq!(
            counter(&format!("{head}cpu\t2\t1\t1\nmemory\t7\t60\t1\n")),
            "tcpmem"
        );
        assert_eq!(counter(&format!("{head}memory\t0\t60\t1\n")), "memory");
        assert_eq!(counter(""), "memory");
    }

    #[test]
    fn the_running_kernel_has_places() {
        let Ok(btf) = fs::read("/sys/kernel/btf/vmlinux") else {
            eprintln!("SKIP: this kernel has no BTF");
            return;
        };
        for counter in ["memory", "tcpmem"] {
            if counter == "memory" || member_offset(&btf, "mem_cgroup", counter).is_ok() {
                Places::offsets(&btf, counter).unwrap();
            }
        }
        assert_eq!(Places::find(b""), Places::default());
    }
}
