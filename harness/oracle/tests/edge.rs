//! The edge corpus: recorded verdicts are what Envoy and the native code say now, at every split and behind another request.
//!
//! `EDGE_RECORD=1 cargo test -p kmesh-oracle --test edge` records anew; `kmesh-bench record` does the same.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use kmesh_oracle::edge::{self, by_native, cases, compiled, read_table};
use kmesh_oracle::envoy::{self, Envoy, Profile};
use kmesh_oracle::{Prediction, Request, predict};

/// Splits of one case at most; longer cases are split at every so many bytes.
const SPLITS: usize = 512;

fn table(name: &str) -> BTreeMap<String, Vec<String>> {
    read_table(name).unwrap().into_iter().collect()
}

#[test]
fn cases_are_many_and_their_ids_unique() {
    let cases = cases();
    let ids: HashSet<_> = cases.iter().map(|case| &case.id).collect();
    assert_eq!(ids.len(), cases.len());
    assert!(cases.len() >= 200, "only {}", cases.len());
    for name in ["envoy-default", "istio", "native"] {
        let table = table(name);
        assert_eq!(table.keys().collect::<HashSet<_>>(), ids, "{name}");
    }
}

#[test]
fn recorded_verdicts_are_envoys() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = envoy::program(&workspace);
    if !program.is_file() {
        assert!(std::env::var("CI").is_err(), "needs envoy");
        eprintln!("SKIP recorded_verdicts_are_envoys: needs envoy, which ci/setup.sh installs");
        return;
    }
    if std::env::var_os("EDGE_RECORD").is_some() {
        edge::record(&program).unwrap();
    }
    let cases = cases();
    for profile in Profile::ALL {
        let recorded = table(profile.name());
        let envoy = Envoy::start_in(&program, &edge::config(), profile).unwrap();
        let streams: Vec<_> = cases
            .iter()
            .map(|case| (case.bytes.as_slice(), recorded[&case.id].len()))
            .collect();
        for (case, said) in cases.iter().zip(envoy.answers(&streams).unwrap()) {
            assert_eq!(said, recorded[&case.id], "{}: {}", profile.name(), case.id);
        }
    }
}

#[test]
fn recorded_verdicts_are_the_native_codes() {
    let (recorded, compiled) = (table("native"), compiled());
    for case in cases() {
        let said = by_native(&compiled, &case.bytes);
        assert_eq!(said, recorded[&case.id], "{}", case.id);
    }
}

/// Whatever the native code decides by itself, Envoy decides alike. What it leaves to user space is not a decision.
#[test]
fn the_native_code_decides_nothing_otherwise_than_envoy() {
    let (native, envoy) = (table("native"), table("envoy-default"));
    let mut decided = 0;
    for (id, words) in &native {
        let finals = envoy[id].iter().filter(|word| *word != "100");
        for (i, (said, by_envoy)) in words.iter().zip(finals).enumerate() {
            if said.starts_with("user:") || said == "partial" {
                break;
            }
            assert_eq!(said, by_envoy, "{id}, request {i}");
            decided += 1;
        }
    }
    assert!(decided > 80, "only {decided} decisions compared");
}

/// Where the head is in canonical form, the reference agrees too.
#[test]
fn the_reference_agrees_on_canonical_heads() {
    let (native, config) = (table("native"), edge::config());
    let mut compared = 0;
    for case in cases() {
        let Some(end) = case.bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = std::str::from_utf8(&case.bytes[..end + 4]);
        let Some(request) = head.ok().and_then(Request::parse) else {
            continue;
        };
        let first = native[&case.id].first().map_or("", String::as_str);
        if first.starts_with("user:") || first == "partial" {
            continue;
        }
        let expected = match predict(&config, &config.listeners[0], &request, 0) {
            Prediction::NoRoute => "404".to_owned(),
            Prediction::Answered(_) => "answered".to_owned(),
            Prediction::Routed(routed) => routed.candidates[0].cluster.to_owned(),
        };
        assert_eq!(first, expected, "{}", case.id);
        compared += 1;
    }
    assert!(compared > 60, "only {compared} heads are canonical");
}

/// The same verdicts however the bytes are cut, one piece after the other.
#[test]
fn verdicts_do_not_depend_on_splits() {
    let compiled = compiled();
    for case in cases() {
        let whole = edge::first_head(&compiled.image, &case.bytes, &[]);
        let step = (case.bytes.len() / SPLITS).max(1);
        for split in (0..case.bytes.len()).step_by(step) {
            let parts = edge::first_head(&compiled.image, &case.bytes, &[split]);
            assert_eq!(parts, whole, "{}: split at {split}", case.id);
        }
        if case.bytes.len() < 4096 {
            let every: Vec<usize> = (1..case.bytes.len()).collect();
            let single = edge::first_head(&compiled.image, &case.bytes, &every);
            assert_eq!(single, whole, "{}: byte by byte", case.id);
        }
    }
}

/// The same verdicts behind another request on the same connection.
#[test]
fn verdicts_do_not_depend_on_what_came_before() {
    let (recorded, compiled) = (table("native"), compiled());
    let before = [
        ("GET /a/b HTTP/1.1\r\nhost: svc.test\r\n\r\n", "exact"),
        (
            "POST / HTTP/1.1\r\nhost: other.test\r\nend-user: jason\r\ncontent-length: 3\r\n\r\nGET",
            "other",
        ),
        (
            "POST /p/ HTTP/1.1\r\nhost: svc.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n",
            "prefixed",
        ),
    ];
    for case in cases() {
        for (request, word) in before {
            let mut bytes = request.as_bytes().to_vec();
            bytes.extend_from_slice(&case.bytes);
            let said = by_native(&compiled, &bytes);
            assert_eq!(said[0], word, "before {}", case.id);
            assert_eq!(said[1..], recorded[&case.id], "{} behind {word}", case.id);
        }
    }
}
