//! Planning and checking an upgrade of the largest fleet.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use heirloom_upgrade::checker::check_from;
use heirloom_upgrade::planner::{WaveSize, plan_from};

fn ten_thousand_nodes(criterion: &mut Criterion) {
    let fleet = common::large(10_000);
    let mut group = criterion.benchmark_group("10000 nodes");
    group.sample_size(10);
    for (name, size) in [
        ("half", WaveSize::Half),
        ("hundred", WaveSize::Count(100)),
        ("one by one", WaveSize::OneByOne),
    ] {
        let request = common::request(size);
        group.bench_function(format!("plan, {name}"), |bencher| {
            bencher.iter(|| plan_from(black_box(&request), &fleet).expect("the fleet is sound"));
        });
        let (plan, _) = plan_from(&request, &fleet).expect("the fleet is sound");
        group.bench_function(format!("check, {name}"), |bencher| {
            bencher.iter(|| check_from(black_box(&plan), &fleet));
        });
    }
    group.finish();
}

criterion_group!(benches, ten_thousand_nodes);
criterion_main!(benches);
