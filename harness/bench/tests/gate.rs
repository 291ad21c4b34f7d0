//! The gate tested on recorded noise: false alarms, power, exit codes of its command line.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use kmesh_bench::binaries::scenario_directory;
use kmesh_bench::gate::noise::simulate;
use kmesh_bench::gate::recorded::{self, FILE};
use std::process::{Command, Output};

fn gate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kmesh-bench"))
        .arg("gate")
        .args(arguments)
        .output()
        .unwrap()
}

/// A small sample of what `kmesh-bench gate --self-test` does with 200 gates each.
#[test]
fn identical_programs_pass_and_planted_slowdowns_are_found() {
    let noise = recorded::read(&scenario_directory().join(FILE)).unwrap();
    assert_eq!(noise.len(), 3);
    for series in simulate(&noise, 25, 7).unwrap() {
        let share = series.alarms as f64 / series.gates as f64;
        if series.planted.starts_with("nothing") {
            assert_eq!(series.alarms, 0, "{series:?}");
        } else {
            assert!(share >= 0.8, "{series:?}");
        }
    }
}

#[test]
fn simulations_repeat_to_the_gate() {
    let noise = recorded::read(&scenario_directory().join(FILE)).unwrap();
    assert_eq!(
        simulate(&noise, 3, 5).unwrap(),
        simulate(&noise, 3, 5).unwrap()
    );
}

#[test]
fn wrong_usage_is_exit_4() {
    for arguments in [
        &[][..],
        &["--base"],
        &["--base", "no-such-revision-or-folder"],
        &["--base", ".", "--mutant"],
        &["--base", ".", "--only", "g9"],
    ] {
        let output = gate(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {said}");
    }
}
