//! Whole data planes under load: chains of services, whose every hop is judged, and restarts.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/fit.rs"]
mod fit;
mod support;

use fit::ANY_MACHINE;
use kmesh_bench::binaries::{Programs, scenario_directory};
use kmesh_bench::report::read_summaries;
use kmesh_bench::summary::{ArmSummary, Summary};
use std::fs;
use std::process::Command;
use support::{programs, ready};

/// Runs the scenario of that name (`SWEEP.POINT` for one of a sweep) with `more` in place of some of its keys; the exit code and the figures.
fn run(name: &str, more: &str, arms: &str) -> (Option<i32>, Summary) {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let family = name.split('.').next().unwrap();
    let base = scenario_directory().join(format!("{family}.toml"));
    let extends = format!("extends = \"{}\"\nname = \"{family}\"\n", base.display());
    fs::write(
        dir.path().join(format!("{family}.toml")),
        extends + more + ANY_MACHINE,
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kmesh-bench"))
        .env("KMESH_BIN_DIR", programs())
        .arg("--scenarios")
        .arg(dir.path())
        .args(["run", name, "--arms", arms, "--out"])
        .arg(out.path())
        .output()
        .unwrap();
    println!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (
        output.status.code(),
        read_summaries(out.path()).unwrap().remove(0),
    )
}

fn arm<'s>(summary: &'s Summary, name: &str) -> &'s ArmSummary {
    summary.arms.iter().find(|arm| arm.name == name).unwrap()
}

/// The arms of Envoy only where it is.
fn with_envoy(without: &str, envoy: &str) -> String {
    if Programs::locate().arms.envoy.is_file() {
        format!("{without},{envoy}")
    } else {
        without.to_owned()
    }
}

const SHORT_CHAIN: &str = r#"
[load]
connections = 4
rate = 200

[design]
blocks = 2
warmup_ms = 50
cell_ms = 300
idle_ms = 0

# Among so few requests the first of each connection weigh more than they should.
[expect]
"arm(kmesh).kernel_share" = ">= 0.9"
"#;

const SHORT_CLOSED: &str = r"
[load]
connections = 4

[design]
blocks = 2
warmup_ms = 50
cell_ms = 300
idle_ms = 0
";

#[test]
fn every_hop_of_a_chain_is_judged() {
    if !ready("every_hop_of_a_chain_is_judged") {
        return;
    }
    let arms = with_envoy("direct,dnat,kmesh", "envoy-client,envoy-both");
    let (code, summary) = run("chain-3hop", SHORT_CHAIN, &arms);
    assert_eq!(code, Some(0), "{:?}", summary.verdict);
    for arm in &summary.arms {
        let chains: Vec<&String> = arm.served_by.keys().collect();
        let (first, last) = ("front/middle-1/back-1", "front/middle-2/back-2");
        if arm.decides {
            assert_eq!(chains, [first, last], "{}", arm.name);
        } else {
            // An endpoint is drawn per connection there, and the few of this test may all draw the same.
            let whole = |chain: &&String| chain.split('/').count() == 3;
            assert!(!chains.is_empty() && chains.iter().all(whole), "{arm:?}");
        }
    }
    // Each request is three, each of them finished in the kernel.
    assert!(arm(&summary, "kmesh").kernel_share.unwrap() > 0.9);

    // The third hop of one kind of request is expected elsewhere, which must not go unnoticed.
    let wrong = format!(
        r#"{SHORT_CHAIN}
[[traffic]]
name = "jason"
weight = 1
host = "front.test"
path = "/"
headers = {{ end-user = "jason" }}
expect = ["front/middle-2/back-1"]
"#
    );
    let (code, summary) = run("chain-3hop", &wrong, "direct,kmesh");
    assert_eq!(code, Some(2));
    assert_eq!(arm(&summary, "direct").wrong_decisions, 0);
    assert!(arm(&summary, "kmesh").wrong_decisions > 0);
}

#[test]
fn requests_that_user_space_serves_are_all_counted() {
    if !ready("requests_that_user_space_serves_are_all_counted") {
        return;
    }
    // Heads of 8 KiB are beyond the kernel: it gives each connection up once, for all requests that follow on it.
    let (code, summary) = run("sweep-header-position.8192", SHORT_CLOSED, "direct,kmesh");
    assert_eq!(code, Some(0), "{:?}", summary.verdict);
    let kmesh = arm(&summary, "kmesh");
    assert_eq!(kmesh.kernel_share, Some(0.0));
    // The warm-up is counted too.
    let user: u64 = kmesh.fallback.values().sum();
    assert!(user >= kmesh.sent, "{:?} of {}", kmesh.fallback, kmesh.sent);
}

/// Two blocks of cells that last this long, milliseconds: a restart lies in each.
fn cells_of(cell_ms: u32) -> String {
    format!(
        "[load]\nrate = 200\n\n[design]\nblocks = 2\nwarmup_ms = 50\ncell_ms = {cell_ms}\nidle_ms = 0\n"
    )
}

#[test]
fn a_daemon_is_replaced_without_a_failed_request() {
    if !ready("a_daemon_is_replaced_without_a_failed_request") {
        return;
    }
    let short = &cells_of(2500);
    let (code, summary) = run("daemon-restart", short, "direct,kmesh");
    assert_eq!(code, Some(0), "{:?}", summary.verdict);
    let restarts = |name| arm(&summary, name).restarts.unwrap();
    assert_eq!((restarts("direct").count, restarts("kmesh").count), (0, 2));
    assert!(restarts("kmesh").ready_ms.unwrap() > 0.0);
    assert!(restarts("kmesh").peak_ms.unwrap() > 0.0);
    assert!(arm(&summary, "kmesh").served_by.len() == 4);
}

#[test]
fn killed_data_planes_come_back_and_what_failed_is_counted() {
    if !ready("killed_data_planes_come_back_and_what_failed_is_counted") {
        return;
    }
    let short = &cells_of(3000);
    let arms = with_envoy("direct,kmesh", "envoy-both");
    let (code, summary) = run("envoy-restart", short, &arms);
    assert_eq!(code, Some(0), "{:?}", summary.verdict);
    for arm in &summary.arms {
        let restarts = arm.restarts.unwrap();
        if arm.name == "direct" {
            assert_eq!((restarts.count, arm.errors), (0, 0));
            continue;
        }
        assert_eq!(restarts.count, 2, "{}", arm.name);
        // A connection whose proxy is killed does not go unnoticed; after the first restart there was a second cell, so
        // the arm has served again.
        assert!(arm.errors > 0 && arm.sent > arm.errors, "{arm:?}");
    }
}
