//! What it costs to turn rows into figures: a report over hundreds of cells must not take minutes.

use criterion::{Criterion, criterion_group, criterion_main};
use kmesh_stats::{Bootstrap, Latency, Rng, paired, williams};
use std::hint::black_box;

/// Blocks of a full run.
const BLOCKS: usize = 28;

fn noisy(centre: f64, rng: &mut Rng) -> Vec<f64> {
    (0..BLOCKS)
        .map(|_| centre * (1.0 + rng.below(100) as f64 / 1_000.0))
        .collect()
}

fn comparisons(c: &mut Criterion) {
    let mut rng = Rng::new(1);
    let (num, den) = (noisy(400.0, &mut rng), noisy(100.0, &mut rng));
    c.bench_function("stats/ratio with interval, 28 blocks", |b| {
        b.iter(|| paired::ratio(black_box(&num), black_box(&den), &Bootstrap::default()));
    });
    c.bench_function("stats/full comparison, 28 blocks", |b| {
        b.iter(|| paired::compare(black_box(&num), black_box(&den), &Bootstrap::default()));
    });
    c.bench_function("stats/williams schedule, 8 arms, 32 blocks", |b| {
        b.iter(|| williams::schedule(black_box(8), black_box(32), 1));
    });
}

fn histograms(c: &mut Criterion) {
    let mut rng = Rng::new(1);
    let mut one = Latency::new();
    for _ in 0..100_000 {
        one.record(50_000 + rng.below(400_000) as u64);
    }
    c.bench_function("stats/merge a cell's histogram", |b| {
        let mut sum = Latency::new();
        b.iter(|| sum.merge(black_box(&one)));
    });
}

criterion_group!(benches, comparisons, histograms);
criterion_main!(benches);
