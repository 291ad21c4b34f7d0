//! What stalled readers cost: kernel memory of TCP sockets and the resident memory of sidecars and daemons.
//!
//! `mem` of /proc/net/sockstat counts the pages of all TCP sockets of the machine, data redirected into a socket's queue by
//! BPF included (`sk_mem_charge`). Other TCP traffic on the machine shows in it, so a quiet machine measures best.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use netns_lab::Lab;
use serde::Serialize;

use crate::bulk::{LEVEL, STALLED, Stall, Stalled};
use crate::lab::{Bench, CheckError, Options, io};
use crate::task::Task;

/// Time between two samples.
const SAMPLE: Duration = Duration::from_millis(100);
/// Longest growth that is watched.
const GROWTH: Duration = Duration::from_secs(20);
/// What counts as level: less than one part in this many more.
const LEVEL_PARTS: u64 = 100;

/// Memory in use, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Of all TCP sockets of the machine.
    pub tcp: u64,
    /// Resident in the arm's sidecars and daemons.
    pub daemons: u64,
    /// `MemAvailable` of the machine; for the record, everything on the machine moves it.
    pub available: u64,
}

/// What an arm's stalled readers came to.
#[derive(Clone, Debug, Serialize)]
pub struct Footprint {
    /// The arm.
    pub arm: String,
    /// Readers.
    pub readers: usize,
    /// Bytes each of them asked for.
    pub length: u64,
    /// Before the first connection.
    pub before: Memory,
    /// The most while all were stalled.
    pub peak: Memory,
    /// What the readers cost: growth of TCP and daemons, bytes.
    pub cost: u64,
    /// What they found when they read on.
    pub found: Stalled,
}

/// Measures an arm. `options.server` must be `kmesh-streams-server`.
///
/// # Errors
/// [`CheckError`].
pub fn footprint(
    arm: &str,
    readers: usize,
    length: u64,
    options: &Options,
) -> Result<Footprint, CheckError> {
    let bench = Bench::up(arm, options)?;
    let lab = bench.running.lab();
    let before = memory(lab)?;
    let task = Task::Stall(Stall {
        target: bench.target(),
        readers,
        length,
    });
    let mut child = bench.start(&task)?;
    let mut lines = BufReader::new(child.stdout.take().ok_or_else(gone).map_err(io("a pipe"))?);
    let mut line = String::new();
    lines
        .read_line(&mut line)
        .map_err(io("reading from the client"))?;
    let mut peak = before;
    if line.trim() == STALLED {
        let begun = Instant::now();
        let mut grown = begun;
        while grown.elapsed() < LEVEL && begun.elapsed() < GROWTH {
            let now = memory(lab)?;
            let all = |memory: &Memory| memory.tcp + memory.daemons;
            if all(&now) > all(&peak) + all(&peak) / LEVEL_PARTS {
                grown = Instant::now();
            }
            if all(&now) > all(&peak) {
                peak = now;
            }
            thread::park_timeout(SAMPLE);
        }
        let mut stdin = child.stdin.take().ok_or_else(gone).map_err(io("a pipe"))?;
        writeln!(stdin, "read on").map_err(io("writing to the client"))?;
        line.clear();
        lines
            .read_line(&mut line)
            .map_err(io("reading from the client"))?;
    }
    let status = child.wait().map_err(io("waiting for the client"))?;
    let found = serde_json::from_str(&line).map_err(|_| CheckError::Client {
        status,
        said: line.clone(),
    })?;
    let growth = |peak: u64, before: u64| peak.saturating_sub(before);
    Ok(Footprint {
        arm: arm.to_owned(),
        readers,
        length,
        before,
        peak,
        cost: growth(peak.tcp, before.tcp) + growth(peak.daemons, before.daemons),
        found,
    })
}

fn gone() -> std::io::Error {
    std::io::ErrorKind::BrokenPipe.into()
}

fn memory(lab: &Lab) -> Result<Memory, CheckError> {
    let read = |path: &str| fs::read_to_string(path).map_err(io("reading memory figures"));
    let sockstat = read("/proc/net/sockstat")?;
    let meminfo = read("/proc/meminfo")?;
    Ok(Memory {
        tcp: word_after(&sockstat, "TCP:", "mem").unwrap_or(0) * PAGE,
        daemons: daemons(lab),
        available: word_after(&meminfo, "MemAvailable:", "MemAvailable:").unwrap_or(0) << 10,
    })
}

/// Bytes of a page; x86_64 has one size.
const PAGE: u64 = 4096;

/// The number behind `name` on the line that begins with `line`.
fn word_after(text: &str, line: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|text| text.starts_with(line))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != name);
    words.next()?;
    words.next()?.parse().ok()
}

/// Resident memory of what runs in the lab but in no pod.
fn daemons(lab: &Lab) -> u64 {
    let folders = fs::read_dir(lab.cgroup()).into_iter().flatten().flatten();
    folders
        .filter(|folder| {
            let name = folder.file_name();
            lab.pods()
                .iter()
                .all(|pod| name.to_str() != Some(pod.name()))
        })
        .map(|folder| resident(&folder.path()))
        .sum()
}

/// Of all processes of a cgroup; one that has just ended counts nothing.
fn resident(cgroup: &Path) -> u64 {
    let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let of = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        word_after(&status, "VmRSS:", "VmRSS:")
    };
    pids.lines().filter_map(of).sum::<u64>() << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_their_lines() {
        let sockstat =
            "sockets: used 5\nTCP: inuse 2 orphan 0 tw 1 alloc 9 mem 33\nUDP: inuse 1 mem 7\n";
        assert_eq!(word_after(sockstat, "TCP:", "mem"), Some(33));
        let meminfo = "MemTotal: 9 kB\nMemAvailable:   23138704 kB\n";
        assert_eq!(
            word_after(meminfo, "MemAvailable:", "MemAvailable:"),
            Some(23_138_704)
        );
        assert_eq!(word_after(meminfo, "Swap:", "Swap:"), None);
    }
}
