//! The command itself, on real labs: results, exit codes, cleaning up.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/fit.rs"]
mod fit;
mod support;

use fit::ANY_MACHINE;
use kmesh_bench::binaries::{Programs, scenario_directory, workspace};
use kmesh_bench::report::read_summaries;
use netns_lab::Identity;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::ready;
use tempfile::TempDir;

/// How long anything here may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_mins(1);

/// A folder with one short scenario named `quick`; `more` is appended to it.
fn scenarios(more: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        r#"extends = "{}"
name = "quick"
title = "three short blocks"
reproduces = "nothing"

[load]
connections = 8

[design]
blocks = 3
warmup_ms = 20
cell_ms = 60
idle_ms = 0
{ANY_MACHINE}{more}"#,
        scenario_directory().join("base/http-lb.toml").display()
    );
    fs::write(dir.path().join("quick.toml"), text).unwrap();
    dir
}

fn bench(scenarios: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmesh-bench"));
    command
        .arg("--scenarios")
        .arg(scenarios.path())
        .args(arguments);
    command
}

fn run(scenarios: &TempDir, arguments: &[&str]) -> Output {
    let output = bench(scenarios, arguments).output().unwrap();
    println!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Cgroups of labs that belong to this process id.
fn labs_of(pid: u32) -> Vec<String> {
    fs::read_dir(netns_lab::cgroup2_mount().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| Identity::parse(name).is_some_and(|identity| identity.owner.pid == pid))
        .collect()
}

/// Waits until the condition holds.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "still not: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_run_leaves_a_folder_that_the_schema_accepts_and_nothing_else() {
    if !ready("a_run_leaves_a_folder_that_the_schema_accepts_and_nothing_else") {
        return;
    }
    let scenarios = scenarios("");
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let output = run(
        &scenarios,
        &[
            "run",
            "quick",
            "--arms",
            "direct,direct-aa,dnat",
            "--out",
            folder,
            "--format",
            "json",
        ],
    );
    assert_eq!(output.status.code(), Some(0));

    let schema = fs::read_to_string(workspace().join("results/schema.json")).unwrap();
    let validator = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    validator.validate(&printed).unwrap();

    let summary = read_summaries(out.path()).unwrap().remove(0);
    assert_eq!(serde_json::to_value(&summary).unwrap(), printed);
    assert_eq!(summary.arms.len(), 3);
    for arm in &summary.arms {
        assert!(arm.achieved_rps > 100.0 && arm.sent > 0, "{arm:?}");
        assert_eq!((arm.errors, arm.wrong_decisions), (0, 0), "{arm:?}");
        // nftables picks an endpoint at random for each of the 8 connections: it may well leave one out.
        let all = arm.served_by.len() == 4 || arm.name == "dnat";
        let known = arm
            .served_by
            .keys()
            .all(|server| server.starts_with("web-"));
        assert!(all && known && !arm.served_by.is_empty(), "{arm:?}");
        assert!(
            (arm.connections_per_client.unwrap() - 1.0).abs() < 0.01,
            "{arm:?}"
        );
        assert!(arm.cpu_us_per_request.unwrap() > 1.0, "{arm:?}");
    }
    let rows = fs::read_to_string(out.path().join("quick/raw.csv")).unwrap();
    assert_eq!(rows.lines().count(), 1 + 3 * 3);
}

#[test]
fn a_wrong_answer_is_exit_2() {
    if !ready("a_wrong_answer_is_exit_2") {
        return;
    }
    let envoy = Programs::locate().arms.envoy;
    if !envoy.is_file() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "no {}",
            envoy.display()
        );
        println!("SKIP a_wrong_answer_is_exit_2: no {}", envoy.display());
        return;
    }
    // The routes spread over all four servers; the traffic claims that only v2 may answer.
    let traffic = "[[traffic]]\nname = \"get\"\nweight = 1\nhost = \"svc.test\"\npath = \"/\"\nexpect = [\"v2\"]\n";
    let output = run(
        &scenarios(traffic),
        &["run", "quick", "--arms", "direct,envoy-client"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("wrong-decisions: envoy-client"));
}

#[test]
fn failed_requests_are_exit_1() {
    if !ready("failed_requests_are_exit_1") {
        return;
    }
    let traffic = |host: &str, path: &str| {
        format!("[[traffic]]\nname = \"get\"\nweight = 1\nhost = \"{host}\"\npath = \"{path}\"\n")
    };
    let refused = scenarios(&traffic("svc.test", "/?status=503"));
    let output = run(&refused, &["run", "quick", "--arms", "direct"]);
    assert_eq!(output.status.code(), Some(1));
    if Programs::locate().arms.envoy.is_file() {
        // A host without a route: Envoy's own 404 is an error, not an answer by the wrong server.
        let unknown = scenarios(&traffic("unknown.test", "/"));
        let output = run(&unknown, &["run", "quick", "--arms", "envoy-client"]);
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn ctrl_c_takes_everything_down() {
    if !ready("ctrl_c_takes_everything_down") {
        return;
    }
    let scenarios = scenarios("");
    let mut child = bench(
        &scenarios,
        &["run", "quick", "--arms", "direct,direct-aa,dnat"],
    )
    .stdout(Stdio::null())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let pid = child.id();
    eventually("labs are up", || !labs_of(pid).is_empty());
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    eventually("no cgroup is left", || labs_of(pid).is_empty());
}

fn interrupt(child: &Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
}

#[test]
fn up_gives_the_commands_exit_code_and_a_url_that_works() {
    if !ready("up_gives_the_commands_exit_code_and_a_url_that_works") {
        return;
    }
    for arm in ["direct", "dnat"] {
        let fetch = "curl -sSf -o /dev/null -D - \"$KMESH_URL\" && exit 7";
        let output = run(
            &scenarios(""),
            &["up", "quick", "--arm", arm, "--", "sh", "-c", fetch],
        );
        assert_eq!(output.status.code(), Some(7), "{arm}");
        assert!(
            String::from_utf8_lossy(&output.stdout)
                .to_lowercase()
                .contains("x-served-by: web-"),
            "{arm}"
        );
    }
}

#[test]
fn wrong_usage_is_exit_4() {
    let scenarios = scenarios("");
    for arguments in [
        &["run"][..],
        &["run", "nope"],
        &["run", "quick", "--arms", "qmesh"],
        &["up", "quick", "--arm", "qmesh"],
        &["frobnicate"],
    ] {
        assert_eq!(
            run(&scenarios, arguments).status.code(),
            Some(4),
            "{arguments:?}"
        );
    }
    fs::write(scenarios.path().join("broken.toml"), "name = \n").unwrap();
    let output = run(&scenarios, &["run", "broken"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("broken.toml:1:8"),
        "place is missing"
    );
}
