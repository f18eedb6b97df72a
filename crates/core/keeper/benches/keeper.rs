//! What a key costs, and what a keyring costs: derivation, the checksum chain, sealed files.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use heirloom_keeper::derive::{KeyName, Period, derive};
use heirloom_keeper::keyring::{Batch, Coverage, Gap, Keyring, checksum_before_first, extend};
use heirloom_model::counter::Generation;
use heirloom_model::digest::Checksum;
use heirloom_model::identifier::DomainId;
use heirloom_model::limit::REPLICATION_BATCH_MAX;
use heirloom_model::protocol::KeyKind;

const DOMAIN: DomainId = DomainId::new([0xd0; 32]);
/// A rotation an hour for more than a year.
const GENERATIONS: u64 = 10_000;

fn derivation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("derive");
    group.throughput(Throughput::Elements(1));
    for kind in KeyKind::ALL {
        let name = KeyName {
            domain: DOMAIN,
            application: "wallet".parse().expect("it is a name"),
            key: "signing".parse().expect("it is a name"),
            kind,
            period: Period::Generation(Generation(7)),
        };
        group.bench_function(kind.name(), |bencher| bencher.iter(|| derive(&[1; 32], &name)));
    }
    group.finish();
}

/// A keyring with every generation, and its checksum.
fn keyring() -> (Keyring, Checksum) {
    let mut ring = Keyring::new(DOMAIN);
    let mut checksum = checksum_before_first(&DOMAIN);
    for generation in 0..GENERATIONS {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&generation.to_be_bytes());
        let batch = Batch::of_one(Generation(generation), &secret, checksum);
        ring.insert(batch).expect("no generation is there twice");
        checksum = extend(&checksum, &secret);
    }
    (ring, checksum)
}

/// What a replica verifies when it receives everything.
fn replication(criterion: &mut Criterion) {
    let (donor, checksum) = keyring();
    let newest = Generation(GENERATIONS - 1);
    let mut group = criterion.benchmark_group("replicate");
    group.throughput(Throughput::Elements(GENERATIONS));
    group.sample_size(10);
    let receive = |mut replica: Keyring| {
        while let Ok(Coverage::Missing(gap)) = replica.coverage(newest, checksum) {
            let gap: Gap = gap;
            let sent = donor.replicate(gap.newest, REPLICATION_BATCH_MAX);
            let batch = gap.fill(&DOMAIN, &sent).expect("the donor is honest");
            replica.insert(batch).expect("it was missing");
        }
        replica
    };
    group.bench_function("10000 generations", |bencher| {
        bencher.iter_batched(|| Keyring::new(DOMAIN), receive, BatchSize::LargeInput);
    });
    group.finish();
}

criterion_group!(benches, derivation, replication);
criterion_main!(benches);
