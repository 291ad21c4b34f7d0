//! `doctor`: what makes this machine unfit for a run, and what to do about it.

mod settings;

pub use settings::conditions;

use crate::binaries::Programs;
use crate::machine::{self, Ticks};
use crate::run::Foreign;
use netns_lab::{Identity, OwnerState};
use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name.
    pub name: &'static str,
    /// How it looks.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty when all is well.
    pub remedy: String,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Fine.
    Ok,
    /// A run works, its figures may suffer.
    Warn,
    /// No run is possible.
    Fail,
}

/// How long the machine is watched for stolen time and other work.
const WATCH: Duration = Duration::from_millis(500);
/// Highest share of stolen CPU time that is no reason for a warning.
const STEAL: f64 = 0.02;
/// Highest load average that counts as an idle machine.
const IDLE_LOAD: f64 = 0.5;

/// Looks at everything.
pub fn checks(programs: &Programs) -> Vec<Check> {
    let mut checks = vec![root(), cgroup2()];
    checks.extend([
        program(
            "kmesh-load",
            &programs.load,
            "cargo build --release -p kmesh-load",
        ),
        program(
            "kmesh-origin",
            &programs.arms.origin,
            "cargo build --release -p kmesh-origin",
        ),
        program(
            "kmeshd",
            &programs.arms.kmeshd,
            "run ci/setup.sh, then cargo build --release -p kmesh-controller",
        ),
        program(
            "envoy",
            &programs.arms.envoy,
            "run ci/setup.sh, which fetches it, or set KMESH_ENVOY",
        ),
        program("nft", &programs.arms.nft, "apt-get install nftables"),
        datapath(&programs.arms.kmeshd),
        cpus(),
        governor(),
        steal(),
        load(),
        leftovers(),
    ]);
    checks.extend(settings::checks());
    checks.extend([Foreign::Wrk, Foreign::Hey, Foreign::Fortio].map(generator));
    checks
}

/// The worst state found.
pub fn worst(checks: &[Check]) -> State {
    checks
        .iter()
        .map(|check| check.state)
        .max()
        .unwrap_or(State::Ok)
}

fn verdict(name: &'static str, bad: Option<State>, found: String, remedy: &str) -> Check {
    Check {
        name,
        state: bad.unwrap_or(State::Ok),
        found,
        remedy: if bad.is_some() {
            remedy.to_owned()
        } else {
            String::new()
        },
    }
}

fn root() -> Check {
    let uid = nix::unistd::geteuid();
    verdict(
        "root",
        (!uid.is_root()).then_some(State::Fail),
        format!("uid {uid}"),
        "run as root: namespaces, cgroups and eBPF need it",
    )
}

fn cgroup2() -> Check {
    match netns_lab::cgroup2_mount() {
        Ok(path) => verdict("cgroup2", None, path.display().to_string(), ""),
        Err(error) => verdict(
            "cgroup2",
            Some(State::Fail),
            error.to_string(),
            "mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
    }
}

fn program(name: &'static str, path: &Path, remedy: &str) -> Check {
    let missing = !path.is_file();
    let found = if missing {
        format!("not at {}", path.display())
    } else {
        path.display().to_string()
    };
    verdict(name, missing.then_some(State::Fail), found, remedy)
}

/// A generator to check ours against: welcome, not needed.
fn generator(foreign: Foreign) -> Check {
    let place = foreign.locate();
    Check {
        name: foreign.name(),
        state: State::Ok,
        remedy: if place.is_some() {
            String::new()
        } else {
            format!("only for crosscheck: {}", foreign.remedy())
        },
        found: place.map_or_else(
            || "not installed".to_owned(),
            |path| path.display().to_string(),
        ),
    }
}

/// Asks `kmeshd check` whether this kernel carries the datapath.
fn datapath(kmeshd: &Path) -> Check {
    let output = Command::new(kmeshd)
        .arg("check")
        .stdin(Stdio::null())
        .output();
    let (bad, found) = match output {
        Err(error) => (Some(State::Fail), format!("kmeshd check: {error}")),
        Ok(output) if output.status.success() => (None, "kmeshd check is content".to_owned()),
        Ok(output) => {
            let said = String::from_utf8_lossy(if output.stderr.is_empty() {
                &output.stdout
            } else {
                &output.stderr
            })
            .into_owned();
            // The first line is the kernel's, the others say `ok` or what is missing.
            let missing = said.lines().skip(1).find(|line| !line.contains(" ok"));
            (
                Some(State::Fail),
                missing
                    .or(said.lines().last())
                    .unwrap_or("kmeshd check failed without a word")
                    .to_owned(),
            )
        }
    };
    verdict(
        "datapath",
        bad,
        found,
        "see `kmeshd check`; the arms kmesh, kmesh-remote and kmesh-l4 cannot run without it",
    )
}

fn cpus() -> Check {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    verdict(
        "cpus",
        (cpus < 2).then_some(State::Fail),
        format!("{cpus}"),
        "generator and servers need a CPU each: give the machine two",
    )
}

fn governor() -> Check {
    let governor = machine::governor();
    let bad = governor
        .as_deref()
        .is_some_and(|name| name != "performance");
    verdict(
        "governor",
        bad.then_some(State::Warn),
        governor.unwrap_or_else(|| "none (no frequency scaling here)".to_owned()),
        "cpupower frequency-set -g performance",
    )
}

fn steal() -> Check {
    let before = Ticks::now();
    std::thread::sleep(WATCH);
    let steal = Ticks::now().steal_since(&before);
    verdict(
        "steal",
        (steal > STEAL).then_some(State::Warn),
        format!("{:.1} %", steal * 100.0),
        "the hypervisor takes CPU time: use another host or another hour",
    )
}

fn load() -> Check {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0);
    verdict(
        "load",
        (load > IDLE_LOAD).then_some(State::Warn),
        format!("load average {load:.2}"),
        "other programs are at work: stop them, or expect wide intervals",
    )
}

/// Cgroups of labs whose owner is gone. The guardians clear these; one that stays points to a bug.
fn leftovers() -> Check {
    let left: Vec<String> = netns_lab::cgroup2_mount()
        .ok()
        .and_then(|mount| std::fs::read_dir(mount).ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            Identity::parse(name)
                .is_some_and(|identity| matches!(identity.owner.state(), Ok(OwnerState::Dead)))
        })
        .collect();
    let found = if left.is_empty() {
        "none".to_owned()
    } else {
        left.join(", ")
    };
    verdict(
        "leftovers",
        (!left.is_empty()).then_some(State::Warn),
        found,
        "netns-lab gc",
    )
}
