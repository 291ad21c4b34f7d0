//! Other people's generators, described arms and the stall, through the command itself.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use kmesh_bench::run::Foreign;
use serde_json::Value;
use std::process::{Command, Output};
use support::ready;

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kmesh-bench"));
    command.args(arguments);
    command
}

fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    println!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn a_stall_shows_in_the_time_counted_from_when_requests_were_due() {
    if !ready("a_stall_shows_in_the_time_counted_from_when_requests_were_due") {
        return;
    }
    let output = output(&mut bench(&[
        "stall",
        "--cell-ms",
        "3000",
        "--format",
        "json",
    ]));
    assert!(output.status.success());
    let stalled: Value = serde_json::from_slice(&output.stdout).unwrap();
    let p99 = |view: &str| stalled[view]["p99"].as_f64().unwrap();
    // A sixth of the requests fell due in a stall of 500 ms. Eight of 3000 were on their way when it began.
    let (service, intended) = (p99("service_us"), p99("intended_us"));
    assert!(intended > 300_000.0, "the stall is in it: {intended} us");
    assert!(
        intended > 5.0 * service,
        "a generator that waits for answers hides it: {service} against {intended} us"
    );
}

#[test]
fn another_generator_is_tabled_beside_ours() {
    if !ready("another_generator_is_tabled_beside_ours") {
        return;
    }
    for generator in [Foreign::Wrk, Foreign::Hey, Foreign::Fortio] {
        if generator.locate().is_none() {
            // Debian has wrk and hey; fortio needs Go.
            assert!(
                generator == Foreign::Fortio || std::env::var("CI").as_deref() != Ok("true"),
                "{}",
                generator.remedy()
            );
            println!("SKIP {}: {}", generator.name(), generator.remedy());
            continue;
        }
        let arguments = [
            "crosscheck",
            "--rounds",
            "2",
            "--seconds",
            "1",
            "--format",
            "json",
            "--with",
            generator.name(),
        ];
        let output = output(&mut bench(&arguments));
        assert!(output.status.success());
        let row: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(row["generator"], generator.name());
        assert_eq!(
            (row["failed"].as_u64(), row["connections"].as_u64()),
            (Some(0), Some(60))
        );
        for figure in ["ours_rps", "theirs_rps", "ours_p50_us", "theirs_p50_us"] {
            assert!(row[figure].as_f64().unwrap() > 0.0, "{figure}: {row}");
        }
        // Not a measurement, on a machine that may be busy: only that both mean the same thing by their figures.
        let ratio = row["throughput"]["point"].as_f64().unwrap();
        assert!((0.02..50.0).contains(&ratio), "{row}");
    }
}

#[test]
fn a_described_arm_is_left_out_or_refused_in_words() {
    if !ready("a_described_arm_is_left_out_or_refused_in_words") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let describe = |name: &str, text: &str| {
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    };
    describe(
        "ghost",
        "title = 'g'\ndecides = true\nprograms = ['no-such-proxy']\nremedy = 'get it'\n[client]\nrun = ['no-such-proxy']\nready = 'tcp://127.0.0.1:1'\n",
    );
    describe("broken", "title = 'b'\ndecides = 'maybe'\n");
    let run = |arms: &str| {
        let mut command = bench(&["run", "http-lb-long60-max", "--quick", "--arms", arms]);
        output(command.env("KMESH_ARMS", folder.path()))
    };
    let words = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let ghost = run("ghost");
    assert!(
        words(&ghost)
            .contains("arm ghost is left out: no-such-proxy not found on this machine: get it"),
        "{}",
        words(&ghost)
    );
    let broken = run("broken");
    assert_eq!(broken.status.code(), Some(4));
    assert!(
        words(&broken).contains("broken.toml:2:11: decides: "),
        "{}",
        words(&broken)
    );
    let unknown = run("spectre");
    assert_eq!(unknown.status.code(), Some(4));
    assert!(words(&unknown).contains("ghost"), "{}", words(&unknown));
}
