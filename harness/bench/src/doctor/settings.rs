//! Settings of the machine that change what is measured: each with what was found and what to do. They cost nothing to look at, so every
//! run records them (`env.json`, `conditions`).

use super::{Check, State, verdict};
use netns_lab::{Identity, OwnerState};
use nix::sys::resource::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::fs;

/// Open files that the largest scenario needs in one process: 4096 connections, two sockets each in a proxy, and some.
const FILES: u64 = 16_384;
/// Ports that short connections of one scenario use up before `TIME_WAIT` gives them back.
const PORTS: u32 = 20_000;
/// Connections that the DNAT and sidecar arms have tracked at once.
const TRACKED: u64 = 65_536;
/// Connections that may wait in a listener's queue while 4096 are opened.
const BACKLOG: u64 = 4_096;
/// Clock sources that user space reads without a system call.
const FAST_CLOCKS: [&str; 5] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "riscv_clocksource",
];

/// All of them.
pub(super) fn checks() -> Vec<Check> {
    vec![
        congestion(&read("/proc/sys/net/ipv4/tcp_congestion_control")),
        bridge_filter(&read("/proc/sys/net/bridge/bridge-nf-call-iptables")),
        clock(&read(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        )),
        huge_pages(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
        irq_balance(&running("irqbalance")),
        mitigations(),
        jit(&read("/proc/sys/net/core/bpf_jit_enable")),
        statistics(&read("/proc/sys/kernel/bpf_stats_enabled")),
        files(),
        tracked(&read("/proc/sys/net/netfilter/nf_conntrack_max")),
        ports(&read("/proc/sys/net/ipv4/ip_local_port_range")),
        backlog(&read("/proc/sys/net/core/somaxconn")),
        labs(),
    ]
}

/// What was found, by name.
pub fn conditions() -> BTreeMap<String, String> {
    checks()
        .into_iter()
        .map(|check| (check.name.to_owned(), check.found))
        .collect()
}

/// A file's text without the newline at its end; empty if it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn warn(when: bool) -> Option<State> {
    when.then_some(State::Warn)
}

/// "not here" for a file that this kernel does not have.
fn or_absent(text: &str) -> String {
    if text.is_empty() {
        "not here".to_owned()
    } else {
        text.to_owned()
    }
}

fn congestion(text: &str) -> Check {
    verdict(
        "congestion-control",
        warn(text != "cubic"),
        or_absent(text),
        "sysctl -w net.ipv4.tcp_congestion_control=cubic: another one paces or queues differently, and other people's figures are cubic's",
    )
}

fn bridge_filter(text: &str) -> Check {
    verdict(
        "bridge-netfilter",
        warn(text == "1"),
        if text == "1" {
            "frames on bridges pass through iptables".to_owned()
        } else {
            "off".to_owned()
        },
        "sysctl -w net.bridge.bridge-nf-call-iptables=0 (br_netfilter was loaded, by a container engine most likely): every arm's packets pay for it",
    )
}

fn clock(text: &str) -> Check {
    verdict(
        "clocksource",
        warn(!text.is_empty() && !FAST_CLOCKS.contains(&text)),
        or_absent(text),
        "boot with clocksource=tsc, or use a host that has it: reading this clock is a system call, twice per request",
    )
}

fn huge_pages(text: &str) -> Check {
    let chosen = text
        .split(['[', ']'])
        .nth(1)
        .map_or_else(|| or_absent(text), ToOwned::to_owned);
    verdict("huge-pages", None, chosen, "")
}

fn irq_balance(pids: &[String]) -> Check {
    verdict(
        "irqbalance",
        warn(!pids.is_empty()),
        if pids.is_empty() {
            "not running".to_owned()
        } else {
            format!("running as pid {}", pids.join(", "))
        },
        "stop it for the run (systemctl stop irqbalance): it moves interrupts between the generator's and the servers' CPUs",
    )
}

fn mitigations() -> Check {
    let entries = fs::read_dir("/sys/devices/system/cpu/vulnerabilities")
        .into_iter()
        .flatten()
        .flatten();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for entry in entries {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let kind = match text.split([':', ' ', '\n']).next() {
            Some("Not") => "not affected",
            Some("Mitigation") => "mitigated",
            Some("Vulnerable") => "vulnerable",
            _ => "unknown",
        };
        *counts.entry(kind).or_default() += 1;
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    // Nothing to do about it: they change what a system call costs, so a result must say which were on.
    verdict("mitigations", None, or_absent(&words.join(", ")), "")
}

fn jit(text: &str) -> Check {
    verdict(
        "bpf-jit",
        warn(text == "0"),
        match text {
            "0" => "off: programs are interpreted".to_owned(),
            "" => "always on".to_owned(),
            _ => "on".to_owned(),
        },
        "sysctl -w net.core.bpf_jit_enable=1",
    )
}

fn statistics(text: &str) -> Check {
    verdict(
        "bpf-statistics",
        warn(text == "1"),
        if text == "1" { "on" } else { "off" }.to_owned(),
        "sysctl -w kernel.bpf_stats_enabled=0: every program run is timed, which costs the kmesh arms some 5 %",
    )
}

fn files() -> Check {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard);
    verdict(
        "open-files",
        warn(limit < FILES),
        format!("hard limit {limit}"),
        "raise the hard limit (LimitNOFILE of the service, /etc/security/limits.conf): scenarios with 4096 connections need it",
    )
}

fn tracked(text: &str) -> Check {
    let limit: Option<u64> = text.parse().ok();
    verdict(
        "conntrack",
        warn(limit.is_some_and(|limit| limit < TRACKED)),
        limit.map_or_else(
            || "not loaded yet".to_owned(),
            |limit| format!("at most {limit} connections"),
        ),
        "sysctl -w net.netfilter.nf_conntrack_max=262144: the arms that translate addresses lose connections beyond it",
    )
}

fn ports(text: &str) -> Check {
    let bounds: Vec<u32> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let count = match bounds[..] {
        [low, high] => (high + 1).saturating_sub(low),
        _ => 0,
    };
    verdict(
        "ephemeral-ports",
        warn(count < PORTS),
        format!("{count} ports"),
        "sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\" or wider: short connections run out of ports",
    )
}

fn backlog(text: &str) -> Check {
    let limit: u64 = text.parse().unwrap_or(0);
    verdict(
        "listen-backlog",
        warn(limit < BACKLOG),
        format!("somaxconn {limit}"),
        "sysctl -w net.core.somaxconn=4096: connections opened at once are dropped and tried again after a second",
    )
}

/// Other labs whose owner lives: they share the CPUs.
fn labs() -> Check {
    let own = std::process::id();
    let others: Vec<String> = netns_lab::cgroup2_mount()
        .ok()
        .and_then(|mount| fs::read_dir(mount).ok())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            Identity::parse(name).is_some_and(|identity| {
                identity.owner.pid != own && matches!(identity.owner.state(), Ok(OwnerState::Alive))
            })
        })
        .collect();
    verdict(
        "other-labs",
        warn(!others.is_empty()),
        if others.is_empty() {
            "none".to_owned()
        } else {
            others.join(", ")
        },
        "wait for them to end: two runs on the same CPUs measure each other",
    )
}

/// Pids of the processes of this name.
fn running(name: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_disturbs_is_found_and_has_a_remedy() {
        let disturbing = [
            congestion("bbr"),
            bridge_filter("1"),
            clock("hpet"),
            irq_balance(&["7".to_owned()]),
            jit("0"),
            statistics("1"),
            tracked("1024"),
            ports("60000\t60999"),
            backlog("128"),
        ];
        for check in disturbing {
            assert_eq!(check.state, State::Warn, "{check:?}");
            assert!(
                !check.remedy.is_empty() && !check.found.is_empty(),
                "{check:?}"
            );
        }
    }

    #[test]
    fn what_does_not_is_left_alone() {
        let fine = [
            congestion("cubic"),
            bridge_filter(""),
            clock("kvm-clock"),
            huge_pages("always [madvise] never"),
            irq_balance(&[]),
            jit("1"),
            jit(""),
            statistics("0"),
            tracked(""),
            tracked("262144"),
            ports("32768\t60999"),
            backlog("4096"),
        ];
        for check in fine {
            assert_eq!(
                (check.state, check.remedy.as_str()),
                (State::Ok, ""),
                "{check:?}"
            );
        }
        assert_eq!(huge_pages("always [madvise] never").found, "madvise");
    }

    #[test]
    fn this_machine_has_them_all() {
        let conditions = conditions();
        assert_eq!(conditions.len(), checks().len());
        assert!(
            conditions.values().all(|found| !found.is_empty()),
            "{conditions:?}"
        );
    }
}
