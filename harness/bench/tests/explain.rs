//! `explain` and what leads to it: a wrong decision is found, printed on one line, and the line replayed.

use kmesh_bench::binaries::workspace;
use serde_json::Value;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kmesh-bench"))
        .args(arguments)
        .output()
        .expect("kmesh-bench starts")
}

#[test]
fn a_planted_error_ends_with_two_and_a_line_to_replay() {
    let found = bench(&["verify", "decisions", "--self-test"]);
    let talk = String::from_utf8_lossy(&found.stderr).into_owned();
    assert_eq!(found.status.code(), Some(2), "{talk}");
    let outcome: Value = serde_json::from_slice(&found.stdout).expect("one object");
    assert!(outcome["mismatches"].as_u64() > Some(0), "{outcome}");
    let line = talk.lines().find(|line| line.contains("mismatch: "));
    let line = line.expect("the mismatch is printed on one line");
    assert!(line.contains("mutant says"), "{line}");
    let (_, replay) = line.split_once("explain '").expect("a command to replay");
    let replay = replay.strip_suffix('\'').expect("a quoted reproducer");

    let text = bench(&["explain", replay]);
    let said = String::from_utf8_lossy(&text.stdout);
    // The judges that are not planted agree.
    assert_eq!(text.status.code(), Some(0), "{said}");
    for part in ["virtual host", "outcome", "reference", "native"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    let json = bench(&["explain", replay, "--format", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("one object");
    assert_eq!(json["agreed"], true, "{json}");
}

#[test]
fn a_request_is_explained_by_a_file() {
    let file = workspace().join("scenarios/resources/header-canary.yaml");
    let file = file.to_string_lossy();
    let said = bench(&[
        "explain",
        "GET svc.test/a end-user: mary",
        "--config",
        &file,
    ]);
    let text = String::from_utf8_lossy(&said.stdout);
    assert_eq!(said.status.code(), Some(0), "{text}");
    assert!(
        text.contains("not route     0: fails header end-user is \"jason\""),
        "{text}"
    );
    assert!(text.contains("cluster       v1"), "{text}");
    for wrong in [
        &["explain", "GET svc.test/"][..],
        &["explain", "GET", "--config", &file],
    ] {
        let said = bench(wrong);
        assert_eq!(said.status.code(), Some(4), "{wrong:?}");
    }
}
