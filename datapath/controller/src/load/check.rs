//! `kmeshd check`: what this kernel allows, and why not.

use std::{fmt, fs};

use super::btf::Offsets;
use super::{LoadError, PROGRAMS, load_program, object};
use crate::defence::Without;
use crate::path::SPLICE;

/// One requirement and whether this machine meets it.
#[derive(Debug, serde::Serialize)]
pub struct Requirement {
    /// What is needed.
    pub name: String,
    /// What it is needed for.
    pub purpose: &'static str,
    /// Whether the daemon does without it unless it is asked for (`--path splice`).
    pub optional: bool,
    /// For a program: instructions that the verifier followed; `None` if the kernel does not say.
    pub verified: Option<u32>,
    /// Why it is not met, in lines; `None` if it is.
    pub failure: Option<String>,
}

impl Requirement {
    /// Whether the daemon can do with what is here.
    pub fn met(&self) -> bool {
        self.optional || self.failure.is_none()
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:24} {:55} ", self.name, self.purpose)?;
        match (&self.failure, self.verified) {
            (Some(failure), _) => f.write_str(failure),
            (None, Some(verified)) => {
                write!(
                    f,
                    "ok, {verified} of at most {VERIFIED_MAX} instructions verified"
                )
            }
            (None, None) => f.write_str("ok"),
        }
    }
}

/// What the verifier follows at most of a program, instructions (`BPF_COMPLEXITY_LIMIT_INSNS`).
pub const VERIFIED_MAX: u32 = 1_000_000;

/// Tries every hook and map on this kernel; loads programs but attaches nothing.
pub fn check() -> Vec<Requirement> {
    let mut found = vec![cgroup2(), btf()];
    let mut ebpf = match object(&[], &Without::default()) {
        Ok(ebpf) => ebpf,
        Err(error) => {
            found.push(requirement("maps", "all of it", Err(chain(&error))));
            return found;
        }
    };
    found.push(requirement(
        "maps",
        "tables, socket maps, socket storage",
        Ok(()),
    ));
    for name in PROGRAMS.iter().chain(SPLICE).copied() {
        let outcome = load_program(&mut ebpf, name).map_err(|error| match error {
            LoadError::Refused { refusal, .. } => refusal,
            other => chain(&other),
        });
        let mut program = requirement(name, purpose(name), outcome);
        program.optional = SPLICE.contains(&name);
        program.verified = ebpf
            .program(name)
            .and_then(|program| program.info().ok()?.verified_instruction_count());
        found.push(program);
    }
    found
}

fn purpose(program: &str) -> &'static str {
    match program {
        "connect4_route" | "connect6_route" => "cgroup connect: endpoints and anchors",
        "getpeername4_restore" | "getpeername6_restore" => {
            "cgroup getpeername: true service address"
        }
        "sockops_track" => "sockops: sockets enter the maps",
        "msg_client_request" => "sk_msg: per-request routing",
        "msg_server_response" => "sk_msg: same-node responses",
        "skb_upstream_response" => "sk_skb: responses from other nodes",
        "tc_pod_egress" | "tc_pod_ingress" => "tc: packets, with --path splice",
        "share_give" | "share_release" => "test-run: shares of pods",
        _ => "test-run: upstream pools",
    }
}

fn requirement(name: &str, purpose: &'static str, met: Result<(), String>) -> Requirement {
    Requirement {
        name: name.to_owned(),
        purpose,
        optional: false,
        verified: None,
        failure: met.err(),
    }
}

fn cgroup2() -> Requirement {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted = mounts
        .lines()
        .any(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let met = if mounted {
        Ok(())
    } else {
        Err("no cgroup2 file system is mounted".to_owned())
    };
    requirement("cgroup2", "enrolment of pods", met)
}

fn btf() -> Requirement {
    let met = fs::read("/sys/kernel/btf/vmlinux")
        .map_err(LoadError::NoBtf)
        .and_then(|btf| Offsets::find(&btf))
        .map(drop)
        .map_err(|error| chain(&error));
    requirement(
        "kernel BTF",
        "offsets in sockets: ordering of the two paths",
        met,
    )
}

/// The error and its causes, each said once: some say their cause's words themselves.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let words = source.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = source.source();
    }
    text
}
