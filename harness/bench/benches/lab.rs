//! Two lab scenarios as criterion benches: time per request of each arm, all arms up at once.
//!
//! Criterion measures one arm after the other, so its figures drift with the machine; for ratios
//! with intervals use `kmesh-bench run`. This is for `cargo bench`'s history and HTML.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{Criterion, Throughput};
use kmesh_bench::binaries::{Programs, scenario_directory, workspace};
use kmesh_bench::run::{Arena, Interrupt, groups};
use kmesh_bench::scenario::{Catalogue, Scenario};
use std::process::Command;
use std::time::Duration;

/// Keep-alive and one request per connection; they share their labs.
const SCENARIOS: [&str; 2] = ["http-lb-long60-max", "http-lb-short"];
/// One sample is one cell of this length, however many requests criterion asks for.
const CELL_MS: u32 = 200;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "the lab bench needs root"
        );
        println!("SKIP lab: needs root");
        return;
    }
    build_programs();
    let catalogue = Catalogue::new(scenario_directory());
    let scenarios: Vec<Scenario> = SCENARIOS
        .iter()
        .map(|name| catalogue.load(name).unwrap())
        .collect();
    let group = groups(scenarios.clone(), &[]).remove(0);
    assert_eq!(group.scenarios.len(), SCENARIOS.len(), "they share labs");
    let mut arena = Arena::up(&group, &Programs::locate(), &Interrupt::listen().unwrap()).unwrap();

    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for scenario in &scenarios {
        arena.prepare(scenario).unwrap();
        let mut bench = criterion.benchmark_group(format!("lab/{}", scenario.name));
        bench.throughput(Throughput::Elements(1));
        bench.sampling_mode(criterion::SamplingMode::Flat);
        for arm in &scenario.arms.run {
            bench.bench_function(arm, |b| {
                b.iter_custom(|requests| {
                    let per_second = arena.requests_per_second(scenario, arm, CELL_MS).unwrap();
                    Duration::from_secs_f64(requests as f64 / per_second)
                });
            });
        }
        bench.finish();
    }
    criterion.final_summary();
}

/// `cargo bench` builds this package only; the programs that the arms start come from others.
fn build_programs() {
    let status = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args([
            "build",
            "--locked",
            "--release",
            "--bins",
            "-p",
            "kmesh-load",
            "-p",
            "kmesh-origin",
            "-p",
            "kmesh-controller",
        ])
        .status()
        .unwrap();
    assert!(status.success(), "the programs of the lab do not build");
}
