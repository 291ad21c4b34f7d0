//! A few seconds of the checker in every arm. `kmesh-bench verify streams` is the long run.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use kmesh_streams::lab::check;
use support::{is_root, options};

fn holds(arm: &str, seconds: f64) {
    if !is_root(arm) {
        return;
    }
    let outcome = check(
        arm,
        &options(seconds, env!("CARGO_BIN_EXE_kmesh-streams-server")),
    )
    .unwrap();
    let tally = &outcome.tally;
    assert_eq!(tally.wrong, 0, "{outcome:#?}");
    // Envoy cuts clients off that pipeline faster than it writes, and counts them; nothing else may break.
    assert_eq!(tally.broken, outcome.response_floods, "{outcome:#?}");
    assert!(tally.messages > 50 && tally.pipelined > 0, "{outcome:#?}");
    let by_request = ["kmesh", "kmesh-remote", "kmesh-splice"].contains(&arm);
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
fn kmesh_splice() {
    holds("kmesh-splice", 10.0);
}

#[test]
fn kmesh_l4() {
    holds("kmesh-l4", 2.0);
}
