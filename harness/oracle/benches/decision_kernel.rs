//! What a decision costs as verified bytecode, by `BPF_PROG_TEST_RUN`: the cases of `decision`. Needs root.

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kmesh_oracle::kernel::Kernel;
use support::cases;

fn kernel(criterion: &mut Criterion) {
    let mut judge = match Kernel::load() {
        Ok(judge) => judge,
        Err(error) => {
            eprintln!("decision_kernel left out: {error}");
            return;
        }
    };
    let mut group = criterion.benchmark_group("decision_kernel");
    for (what, parameter, tables, head) in cases() {
        judge.configure(&tables.image);
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(BenchmarkId::new(what, parameter), |bencher| {
            bencher.iter_custom(|count| {
                // The kernel reports a mean over `repeat` runs, in whole nanoseconds.
                let repeat = u32::try_from(count).unwrap_or(u32::MAX);
                let mean = judge.time(0, &head, repeat).expect("decide_head runs");
                mean * repeat
            });
        });
    }
    group.finish();
}

criterion_group!(benches, kernel);
criterion_main!(benches);
