//! What a decision costs natively: by the size of the head and by the number of routes (a tenth of them regular expressions),
//! hosts and conditions on headers.

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kmesh_oracle::{Native, ScriptedDice};
use support::cases;

fn native(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decision_native");
    for (what, parameter, tables, head) in cases() {
        let mut judge = Native::new(&tables.image);
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(BenchmarkId::new(what, parameter), |bencher| {
            bencher.iter(|| judge.judge(0, black_box(&head), &mut ScriptedDice::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, native);
criterion_main!(benches);
