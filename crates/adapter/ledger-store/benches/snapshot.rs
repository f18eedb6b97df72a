//! How fast a ledger is copied: checked, as a snapshot does it, and as the system would.

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heirloom_ledger::amount::Amount;
use heirloom_ledger::configuration::{Allocation, Configuration};
use heirloom_ledger_store::copy;
use heirloom_ledger_store::prepare::{Prepared, prepare};
use heirloom_model::digest::NetworkId;
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::secret::Secret;
use heirloom_model::service::SchemaVersion;
use heirloom_model::signature::SigningKey;

/// As large as the ledger of a network that has run for a while.
const BLOCKS: u64 = 100_000;

fn ledger(data: &Path) {
    let faucet = SigningKey::from_seed(Secret::new([1; 32]));
    let configuration = Configuration {
        name: "bench".to_owned(),
        minimum_fee: Amount(1),
        tombstone_distance_max: 100,
        block_payments_max: 16,
        block_interval_milliseconds: 100,
        allocations: vec![Allocation { owner: faucet.public_key(), amount: Amount(1 << 40) }],
        client_protocol_min: 1,
    };
    let prepared = Prepared {
        network: NetworkId::new([1; 32]),
        configuration: &configuration,
        schema: SchemaVersion(2),
        blocks: BLOCKS,
        faucet: &faucet,
        view: None,
        node: "n1".parse().expect("it is a name"),
        measurement: Measurement::Sgx(MrEnclave::new([2; 32])),
        instance: &faucet,
    };
    prepare(data, &prepared, &mut |_| ()).expect("the arguments are good");
}

fn copies(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let data = directory.path().join("data");
    ledger(&data);
    let from = data.join("original/data.mdb");
    let to = directory.path().join("copy");
    let bytes = std::fs::metadata(&from).expect("it was prepared").len();
    let mut group = criterion.benchmark_group("copy");
    group.throughput(Throughput::Bytes(bytes)).sample_size(10);
    let gone = || drop(std::fs::remove_file(&to));
    group.bench_function("snapshot: copied, flushed, read back", |bencher| {
        let run = |()| copy::copy(&from, &to, &mut |_| ()).expect("there is room");
        bencher.iter_batched(gone, |gone| black_box(run(gone)), BatchSize::PerIteration);
    });
    group.bench_function("std::fs::copy, not flushed", |bencher| {
        let run = |()| std::fs::copy(&from, &to).expect("there is room");
        bencher.iter_batched(gone, |gone| black_box(run(gone)), BatchSize::PerIteration);
    });
    group.bench_function("std::fs::copy, flushed", |bencher| {
        let run = |()| {
            std::fs::copy(&from, &to).expect("there is room");
            let file = std::fs::File::open(&to).expect("it was copied");
            file.sync_all().expect("there is room");
        };
        bencher.iter_batched(gone, run, BatchSize::PerIteration);
    });
    gone();
    if reflink_copy::reflink(&from, &to).is_ok() {
        group.bench_function("reflink", |bencher| {
            let run = |()| reflink_copy::reflink(&from, &to).expect("it did before");
            bencher.iter_batched(gone, run, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, copies);
criterion_main!(benches);
