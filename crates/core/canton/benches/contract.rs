//! How long one contract takes: to be read, and to have its id computed again.
//!
//! The floor is SHA-256 over its bytes: a migration does both for every contract, twice.

#![expect(clippy::print_stderr, reason = "a skipped benchmark says so")]

use std::hint::black_box;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heirloom_canton::authenticate::recompute;
use heirloom_canton::blob::FatContract;
use heirloom_canton::dar::{self, Dar};
use heirloom_canton::types::{DataType, PackageId, TypeName, TypeStore};

/// The types of one package, for every version of it.
struct Main(Dar);

impl TypeStore for Main {
    fn data_type(&self, package: &PackageId, name: &TypeName) -> Option<&DataType> {
        self.0.package(package).unwrap_or_else(|| self.0.main()).data_type(name)
    }
}

fn vector(name: &str) -> Option<Vec<u8>> {
    let path = heirloom_testkit::vectors::find(&format!("canton/{name}"))?;
    #[expect(clippy::disallowed_methods, reason = "benchmarks read vectors from files")]
    std::fs::read(path).ok()
}

fn blob(contracts: &serde_json::Value, name: &str) -> Option<Vec<u8>> {
    let mut all = contracts.as_array()?.iter();
    let about = all.find(|about| about["name"].as_str().is_some_and(|n| n.contains(name)))?;
    STANDARD.decode(about["created_event_blob_base64"].as_str()?).ok()
}

fn contracts(criterion: &mut Criterion) {
    let (Some(json), Some(dar)) =
        (vector("contracts.json"), vector("dars/splice-amulet-0.1.17.dar"))
    else {
        eprintln!("skipped: the shared vectors of contracts are not here");
        return;
    };
    let json: serde_json::Value = serde_json::from_slice(&json).expect("a vector is JSON");
    let types = Main(dar::read(&dar).expect("a vector is a DAR"));
    let cases = [
        ("V10, small", "Iou:IouTransfer"),
        ("V11, small", "InstrumentConfiguration"),
        ("V12, 2 kB, nested", "AmuletRules:AmuletRules"),
    ];
    for (label, name) in cases {
        let blob = blob(&json, name).expect("the vector has the contract");
        let mut group = criterion.benchmark_group(label);
        group.throughput(Throughput::Bytes(blob.len() as u64));
        group.bench_function("floor: SHA-256", |b| b.iter(|| digest(&SHA256, black_box(&blob))));
        group.bench_function("decode", |b| b.iter(|| FatContract::decode(black_box(&blob))));
        group.bench_function("decode and compute the id", |b| {
            b.iter(|| {
                let contract = FatContract::decode(black_box(&blob)).expect("a contract");
                recompute(&contract, &types).expect("an id")
            });
        });
        group.finish();
    }
}

criterion_group!(benches, contracts);
criterion_main!(benches);
