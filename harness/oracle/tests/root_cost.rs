//! Verified instructions and stack frames of every program are the recorded ones (`golden/cost.txt`), or less.
//!
//! They are those of one kernel series: on another this test says so and holds the programs against the limits only.
//! `BLESS=1 cargo test -p kmesh-oracle --features kernel --test root_cost` records anew.
#![cfg(feature = "kernel")]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use kmesh_oracle::cost::costs;
use support::root;

/// Instructions that the verifier may follow in one program, of the million that it gives up at: other kernels follow more.
const VERIFIED_MAX: u32 = 250_000;
/// One part in this many that a program may cost more than recorded: verifiers of one series differ a little.
const TOLERATED: u32 = 20;
#[test]
fn programs_cost_what_is_recorded() {
    if !root("programs_cost_what_is_recorded") {
        return;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cost.txt");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let series = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let mut now = format!("kernel {series}\n");
    for cost in costs().unwrap() {
        assert!(cost.verified < VERIFIED_MAX, "{cost:?} is near the limit");
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
            "SKIP programs_cost_what_is_recorded: the figures are of {kernel}, this is {series}"
        );
        return;
    }
    let figures = |line: &str| -> Vec<u32> {
        line.split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    assert_eq!(now.lines().count(), recorded.lines().count());
    for (now, recorded) in now.lines().zip(recorded.lines()).skip(1) {
        let ((program, costs), (before, past)) = (
            now.split_once(": ").unwrap(),
            recorded.split_once(": ").unwrap(),
        );
        assert_eq!(program, before);
        for (cost, past) in figures(costs).into_iter().zip(figures(past)) {
            assert!(
                cost <= past + past / TOLERATED,
                "{program} costs {costs}, and {past} was recorded; BLESS=1 if that is meant"
            );
        }
    }
}
