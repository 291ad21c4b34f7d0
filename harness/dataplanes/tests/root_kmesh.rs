//! The arms with `kmeshd`, against a stub of it that keeps the contract: pods are enrolled before servers start, the status
//! is read, a daemon that dies is noticed.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::PathBuf;

use kmesh_dataplanes::{ArmError, EnvoyProfile, RunningArm, arm};
use support::{WEB, address, is_root, plan, served_by, topology};

/// The stub, up to date: `cargo test --test root_kmesh` alone would not build it.
fn stub() -> PathBuf {
    support::build(&["--package", "kmesh-dataplanes", "--example", "stub_kmeshd"]);
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join("examples/stub_kmeshd")
}

fn up(name: &str, kmeshd: PathBuf) -> Result<Box<dyn RunningArm>, ArmError> {
    let topology = topology();
    let mut plan = plan(&topology, EnvoyProfile::Min);
    plan.binaries.kmeshd = kmeshd;
    arm(name).expect("a known arm").up(&plan)
}

#[test]
fn pods_are_enrolled_as_the_arm_says_and_counters_are_read() {
    if !is_root("pods_are_enrolled_as_the_arm_says_and_counters_are_read") {
        return;
    }
    for (name, pods, l4) in [
        ("kmesh", 4, false),
        ("kmesh-remote", 1, false),
        ("kmesh-l4", 4, true),
    ] {
        let mut running = up(name, stub()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(running.decides(), !l4, "{name}");
        assert_eq!(served_by(running.as_ref(), address(WEB), "x: y"), "v1");
        let counters = running.counters().unwrap();
        assert_eq!((counters.kernel_requests, counters.user_requests), (5, 2));
        assert_eq!(counters.fallback["no_upstream"], 2);
        assert!(counters.cpu.contains_key("kmeshd"));
        let artefacts = running.artefacts().unwrap();
        let (_, status) = artefacts
            .iter()
            .find(|(name, _)| name == "kmeshd-status.json")
            .unwrap();
        let status: serde_json::Value = serde_json::from_slice(status).unwrap();
        assert_eq!(
            (status["pods"].as_u64(), status["l4"].as_bool()),
            (Some(pods), Some(l4)),
            "{name}"
        );
        running.check_alive().unwrap();
    }
}

#[test]
fn a_daemon_that_does_not_start_is_reported_with_its_words() {
    if !is_root("a_daemon_that_does_not_start_is_reported_with_its_words") {
        return;
    }
    // `false` takes any arguments and ends at once; `cat` complains about them.
    for (program, expected) in [("/bin/false", "said: nothing"), ("/bin/cat", "--config")] {
        let message = up("kmesh", program.into())
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("kmeshd ended (exit status: 1)") && message.contains(expected),
            "{message}"
        );
    }
}
