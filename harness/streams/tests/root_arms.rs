//! A few seconds of the checker in every arm. `kmesh-bench verify streams` is the long run.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use kmesh_dataplanes::Binaries;
use kmesh_streams::lab::{Options, check};

fn is_root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test}: needs root, and CI=true forbids skipping"
    );
    println!("SKIP {test}: needs root");
    false
}

/// `kmeshd`: that of `KMESH_BIN_DIR`, else built here, for cargo builds no other package's binaries for a test.
fn arms() -> Binaries {
    static KMESHD: OnceLock<()> = OnceLock::new();
    let mut arms = Binaries::locate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    if let Some(folder) = std::env::var_os("KMESH_BIN_DIR").filter(|value| !value.is_empty()) {
        arms.kmeshd = Path::new(&folder).join("kmeshd");
        return arms;
    }
    KMESHD.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--package",
            "kmesh-controller",
            "--bin",
            "kmeshd",
        ]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "kmeshd does not build");
    });
    arms
}

fn options(seconds: f64) -> Options {
    Options {
        seconds,
        seed: 1,
        workers: 12,
        only: None,
        arms: arms(),
        server: PathBuf::from(env!("CARGO_BIN_EXE_kmesh-streams-server")),
        client: PathBuf::from(env!("CARGO_BIN_EXE_kmesh-streams-client")),
    }
}

fn holds(arm: &str, seconds: f64) {
    if !is_root(arm) {
        return;
    }
    let outcome = check(arm, &options(seconds)).unwrap();
    let tally = &outcome.tally;
    assert_eq!((tally.wrong, tally.broken), (0, 0), "{outcome:#?}");
    assert!(tally.messages > 50 && tally.pipelined > 0, "{outcome:#?}");
    let by_request = ["kmesh", "kmesh-remote"].contains(&arm);
    assert_eq!(outcome.generations > 0, by_request, "{outcome:#?}");
    assert_eq!(outcome.kernel_requests > 0, by_request, "{outcome:#?}");
}

#[test]
fn direct() {
    holds("direct", 2.0);
}

#[test]
fn dnat() {
    holds("dnat", 2.0);
}

#[test]
fn envoy_client() {
    holds("envoy-client", 3.0);
}

#[test]
fn envoy_both() {
    holds("envoy-both", 3.0);
}

#[test]
fn envoy_both_sockmap() {
    holds("envoy-both-sockmap", 3.0);
}

#[test]
fn kmesh() {
    holds("kmesh", 10.0);
}

#[test]
fn kmesh_remote() {
    holds("kmesh-remote", 10.0);
}

#[test]
fn kmesh_l4() {
    holds("kmesh-l4", 2.0);
}
