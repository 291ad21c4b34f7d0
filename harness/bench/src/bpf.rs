//! What the kernel knows about an arm's BPF programs: size, verification effort, memory, run time.
//!
//! A program belongs to the processes that hold a descriptor of it, and those of an arm are in its lab's
//! cgroup; so any data plane that keeps its descriptors can be asked, whatever it is written in.
//! Run time is counted by the kernel only while somebody asks for it (`BPF_ENABLE_STATS`), which costs
//! every run about 20 ns: never during the blocks, always in a pass of its own.

use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What a program costs before it has run once. The kernel counts all of it; none is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSize {
    /// Instructions the verifier walked through, all paths together.
    pub verified_instructions: u64,
    /// Bytes after the verifier's rewriting.
    pub translated_bytes: u64,
    /// Bytes of machine code.
    pub jited_bytes: u64,
}

/// The programs and maps of one arm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Footprint {
    /// By name; programs of the same name are added up.
    pub programs: BTreeMap<String, ProgramSize>,
    /// Memory of all maps, bytes.
    pub map_bytes: u64,
}

/// How often and how long a program ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunTime {
    /// Nanoseconds.
    pub ns: u64,
    /// Runs.
    pub runs: u64,
}

/// What a program costs per request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BpfCost {
    /// Nanoseconds per request, counting included.
    pub ns_per_request: f64,
    /// Runs per request.
    pub runs_per_request: f64,
}

/// Ids of the programs, and ids and sizes of the maps, that a cgroup's processes hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Held {
    programs: BTreeSet<u32>,
    maps: BTreeMap<u32, u64>,
}

/// Sizes of all programs and maps held by the processes of `cgroup` and below.
///
/// # Errors
/// The kernel lists no programs (root needed).
pub fn footprint(cgroup: &Path) -> io::Result<Footprint> {
    let held = held_below(cgroup);
    let mut footprint = Footprint {
        map_bytes: held.maps.values().sum(),
        ..Footprint::default()
    };
    for info in loaded_programs() {
        let info = info.map_err(io::Error::other)?;
        if held.programs.contains(&info.id()) {
            let size = footprint
                .programs
                .entry(info.name_as_str().unwrap_or("unnamed").to_owned())
                .or_default();
            size.verified_instructions +=
                u64::from(info.verified_instruction_count().unwrap_or_default());
            size.translated_bytes += u64::from(info.size_translated().unwrap_or_default());
            size.jited_bytes += u64::from(info.size_jitted());
        }
    }
    Ok(footprint)
}

/// Run times so far, by name, of the programs held by the processes of `cgroup` and below. They only
/// grow while [`count_run_time`]'s descriptor is open.
///
/// # Errors
/// As [`footprint`].
pub fn run_times(cgroup: &Path) -> io::Result<BTreeMap<String, RunTime>> {
    let held = held_below(cgroup);
    let mut times = BTreeMap::new();
    for info in loaded_programs() {
        let info = info.map_err(io::Error::other)?;
        if held.programs.contains(&info.id()) {
            let name = info.name_as_str().unwrap_or("unnamed").to_owned();
            let time: &mut RunTime = times.entry(name).or_default();
            time.ns += info.run_time().as_nanos() as u64;
            time.runs += info.run_count();
        }
    }
    Ok(times)
}

/// Makes the kernel count run times until the descriptor is closed; nothing stays behind.
///
/// # Errors
/// The kernel refuses (before 5.8, or not root).
pub fn count_run_time() -> io::Result<OwnedFd> {
    enable_stats(Stats::RunTime).map_err(io::Error::other)
}

/// What was run between two readings, per request. Programs that did not run are left out.
pub fn per_request(
    before: &BTreeMap<String, RunTime>,
    after: &BTreeMap<String, RunTime>,
    requests: u64,
) -> BTreeMap<String, BpfCost> {
    let requests = requests.max(1) as f64;
    after
        .iter()
        .filter_map(|(name, after)| {
            let before = before.get(name).copied().unwrap_or_default();
            let runs = after.runs.saturating_sub(before.runs);
            let cost = BpfCost {
                ns_per_request: after.ns.saturating_sub(before.ns) as f64 / requests,
                runs_per_request: runs as f64 / requests,
            };
            (runs > 0).then(|| (name.clone(), cost))
        })
        .collect()
}

fn held_below(cgroup: &Path) -> Held {
    let mut held = Held::default();
    let mut groups = vec![cgroup.to_owned()];
    while let Some(group) = groups.pop() {
        // A process or group that ended meanwhile holds nothing any more.
        let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines() {
            let Ok(infos) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
                continue;
            };
            for info in infos.flatten() {
                held.note(&std::fs::read_to_string(info.path()).unwrap_or_default());
            }
        }
        if let Ok(entries) = std::fs::read_dir(&group) {
            groups.extend(entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()));
        }
    }
    held
}

impl Held {
    /// Reads one `/proc/PID/fdinfo/FD` (`bpf_prog_show_fdinfo`, `bpf_map_show_fdinfo` in
    /// kernel/bpf/syscall.c). A link's names its program too, but the link is not the program.
    fn note(&mut self, fdinfo: &str) {
        let field = |name: &str| {
            fdinfo.lines().find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')?
                    .trim()
                    .parse()
                    .ok()
            })
        };
        if field("map_type").is_some() {
            if let Some(id) = field("map_id") {
                self.maps.insert(id as u32, field("memlock").unwrap_or(0));
            }
        } else if field("prog_type").is_some()
            && let Some(id) = field("prog_id")
        {
            self.programs.insert(id as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_maps_are_told_from_links_and_sockets() {
        let mut held = Held::default();
        held.note("pos:\t0\nprog_type:\t16\nprog_jited:\t1\nmemlock:\t8192\nprog_id:\t7\n");
        held.note("pos:\t0\nmap_type:\t1\nmax_entries:\t64\nmemlock:\t4096\nmap_id:\t3\n");
        held.note("pos:\t0\nlink_type:\tcgroup\nlink_id:\t2\nprog_id:\t9\n");
        held.note("pos:\t0\nflags:\t02\n");
        assert_eq!(held.programs, BTreeSet::from([7]));
        assert_eq!(held.maps, BTreeMap::from([(3, 4096)]));
    }

    #[test]
    fn costs_are_what_was_added_between_the_readings() {
        let times = |ns, runs| BTreeMap::from([("msg".to_owned(), RunTime { ns, runs })]);
        let cost = per_request(&times(1_000, 10), &times(5_000, 30), 10)["msg"];
        assert!((cost.ns_per_request - 400.0).abs() < 1e-9);
        assert!((cost.runs_per_request - 2.0).abs() < 1e-9);
        assert!(per_request(&times(5, 3), &times(5, 3), 10).is_empty());
    }
}
