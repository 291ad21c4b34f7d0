//! Verified instructions and stack frames of every program are the recorded ones (`golden/cost.txt`), to the digit.
//!
//! They are one kernel's: on another release this test says so and compares nothing.
//! `BLESS=1 cargo test -p kmesh-oracle --features kernel --test root_cost` records anew.
#![cfg(feature = "kernel")]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use kmesh_oracle::cost::costs;
use support::root;

/// What the kernel's verifier follows at most, instructions.
const VERIFIED_MAX: u32 = 1_000_000;
/// Stack of a call chain, bytes.
const STACK_MAX: u32 = 512;

#[test]
fn programs_cost_what_is_recorded() {
    if !root("programs_cost_what_is_recorded") {
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cost.txt");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut now = format!("kernel {}\n", release.trim());
    for cost in costs().unwrap() {
        assert!(
            cost.verified < VERIFIED_MAX / 2,
            "{cost:?} is near the limit"
        );
        assert!(
            cost.frame + cost.deepest <= STACK_MAX,
            "{cost:?} is near the limit"
        );
        writeln!(
            now,
            "{}: {} instructions verified, frame {} bytes, deepest callee {} bytes",
            cost.program, cost.verified, cost.frame, cost.deepest
        )
        .unwrap();
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &now).unwrap();
        return;
    }
    let recorded = std::fs::read_to_string(&file).unwrap();
    let (kernel, _) = recorded.split_once('\n').unwrap();
    if !now.starts_with(kernel) {
        eprintln!(
            "SKIP programs_cost_what_is_recorded: the figures are of {kernel}, this is {}",
            release.trim()
        );
        return;
    }
    for (now, recorded) in now.lines().zip(recorded.lines()) {
        assert_eq!(
            now, recorded,
            "left is what it costs now; BLESS=1 if that is meant"
        );
    }
    assert_eq!(now.lines().count(), recorded.lines().count());
}
