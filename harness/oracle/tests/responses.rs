//! The edge corpus of what servers send: recorded verdicts are what Envoy says now, and the kernel passes nothing on that Envoy does not.
//!
//! `EDGE_RECORD=1 cargo test -p kmesh-oracle --test responses` records anew.

use std::collections::HashSet;
use std::path::Path;

use kmesh_api::head::{Head, flag};
use kmesh_api::limits::RESPONSE_HEAD_MAX;
use kmesh_oracle::edge::{compiled, read_table};
use kmesh_oracle::envoy;
use kmesh_oracle::responses::{self, TABLE, responses};
use kmesh_orchestration::http1::{Length, Outcome, begin_response, response_length, scan};

#[test]
fn cases_are_many_and_their_ids_unique() {
    let ids: HashSet<_> = responses().into_iter().map(|case| case.id).collect();
    assert_eq!(ids.len(), responses().len());
    assert!(ids.len() >= 120, "only {}", ids.len());
    let recorded = read_table(TABLE).unwrap();
    assert_eq!(
        recorded
            .into_iter()
            .map(|(id, _)| id)
            .collect::<HashSet<_>>(),
        ids
    );
}

#[test]
fn recorded_verdicts_are_envoys() {
    let program = envoy::program(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    if !program.is_file() {
        assert!(std::env::var("CI").is_err(), "needs envoy");
        eprintln!("SKIP recorded_verdicts_are_envoys: needs envoy, which ci/setup.sh installs");
        return;
    }
    if std::env::var_os("EDGE_RECORD").is_some() {
        responses::record(&program).unwrap();
    }
    let recorded = read_table(TABLE).unwrap();
    let said = responses::by_envoy(&program, Some(&recorded)).unwrap();
    for (said, recorded) in said.iter().zip(&recorded) {
        assert_eq!(said, recorded);
    }
}

/// What the kernel sends on as it is.
fn kernel_passes(bytes: &[u8]) -> bool {
    let image = compiled().image;
    let mut head = Box::new(Head::<RESPONSE_HEAD_MAX>::new());
    begin_response(&mut *head);
    let visible = bytes.len().min(RESPONSE_HEAD_MAX);
    head.bytes[..visible].copy_from_slice(&bytes[..visible]);
    head.length = visible as u32;
    scan(&image, &mut *head) == Outcome::Complete
        && head.flags & flag::CONNECTION == 0
        && !matches!(response_length(&head, false), Length::Unknown(_))
}

#[test]
fn the_kernel_passes_nothing_on_that_envoy_does_not() {
    // Without another look at the text of the length, which says nothing anyway.
    let known = ["204-length-00"];
    let (mut passed, mut wrong) = (0, Vec::new());
    for (case, (_, words)) in responses().iter().zip(read_table(TABLE).unwrap()) {
        if kernel_passes(&case.bytes) {
            passed += 1;
            let bad = words.first().is_none_or(|word| word == "502");
            if bad != known.contains(&case.id.as_str()) {
                wrong.push(case.id.clone());
            }
        }
    }
    assert!(
        wrong.is_empty() && passed > 5,
        "{passed} passed, wrong: {wrong:?}"
    );
}
