//! The gate in real labs: a head that is slower is found, twice, and nothing is wrong about its answers; system calls of
//! equal programs are equal.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/fit.rs"]
mod fit;
mod support;

use fit::ANY_MACHINE;
use kmesh_bench::binaries::scenario_directory;
use std::process::Command;
use support::{programs, ready};

/// The gate's scenarios, as short as they can be; a busy test machine is no reason to fail.
fn scenarios() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("gate")).unwrap();
    for name in ["gate-long60", "gate-short", "gate-canary"] {
        let base = scenario_directory().join(format!("gate/{name}.toml"));
        let text = format!(
            r#"extends = "{}"
name = "{name}"

[load]
timeout_ms = 10000

[design]
blocks = 8
looks = []
warmup_ms = 20
cell_ms = 80
idle_ms = 0
{ANY_MACHINE}"#,
            base.display()
        );
        std::fs::write(dir.path().join(format!("gate/{name}.toml")), text).unwrap();
    }
    dir
}

/// What a gate with these options says; it must end in 0.
fn held(options: &[&str]) -> serde_json::Value {
    let scenarios = scenarios();
    let output = Command::new(env!("CARGO_BIN_EXE_kmesh-bench"))
        .arg("--scenarios")
        .arg(scenarios.path())
        .args(["gate", "--format", "json"])
        .args(options)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let verdict = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{verdict}");
    serde_json::from_str(&verdict).unwrap()
}

#[test]
fn a_slower_head_is_a_regression() {
    if !ready("a_slower_head_is_a_regression") {
        return;
    }
    let head = programs();
    // Far above what a busy machine does by itself, below what 60 connections can carry.
    let mutant = ["--self-test", "--only-live", "--mutant", "delay=20ms"];
    let verdict = held(&[&mutant[..], &["--head", head.to_str().unwrap()]].concat());
    let mutant = &verdict["checks"][0]["figures"];
    assert_eq!(mutant["exit_code"], 1, "{mutant}");
    let outcome_of = |name: &str| {
        let checks = mutant["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no check {name}: {mutant}"))["outcome"].clone()
    };
    assert_eq!(outcome_of("gate-long60 p50"), "fail");
    assert_eq!(outcome_of("answers"), "pass");
}

#[test]
fn requests_cost_the_same_calls_on_both_sides() {
    if !ready("requests_cost_the_same_calls_on_both_sides") {
        return;
    }
    let programs = programs();
    let both = programs.to_str().unwrap();
    let verdict = held(&["--only", "g1", "--base", both, "--head", both]);
    let checks = verdict["checks"].as_array().unwrap();
    let calls = checks
        .iter()
        .find(|check| check["name"] == "syscalls-per-1000")
        .unwrap();
    let figures = calls["figures"].as_array().unwrap();
    let head = |of: &str| {
        let figure = figures.iter().find(|figure| figure["of"] == of);
        figure.unwrap_or_else(|| panic!("no {of}: {calls}"))["head"]
            .as_u64()
            .unwrap()
    };
    // Wait, read, write: not a call more, though an eBPF program stands in between.
    assert!(
        (3000..3030).contains(&head("client (keep-alive)")),
        "{calls}"
    );
    assert!(
        (3000..3030).contains(&head("servers (keep-alive)")),
        "{calls}"
    );
    // The daemon does see each new connection, so it can be counted at all.
    assert!(head("kmeshd (short-reset)") > 1000, "{calls}");
}
