//! How fast a log is followed: a keeper that starts folds all of it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heirloom_model::counter::{Epoch, Serial, Time};
use heirloom_model::digest::{DigestOf, NetworkId};
use heirloom_model::domain::{EpochStart, LogPosition};
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::TrustAnchor;
use heirloom_model::log::LogEntry;
use heirloom_model::root::{Role, RoleKeys, Root};
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};

/// Statements in the log, besides its root.
const STATEMENTS: u64 = 10_000;

/// A log of epochs, each with two signatures. Verifying signatures is nearly all the work.
fn log() -> (NetworkId, Vec<LogEntry>) {
    let mut keys: Vec<SigningKey> =
        [1, 2, 3].map(|seed| SigningKey::from_seed(Secret::new([seed; 32]))).into();
    keys.sort_by_key(SigningKey::public_key);
    let public: Vec<_> = keys.iter().map(SigningKey::public_key).collect();
    let role = |role| RoleKeys { role, keys: public.clone(), threshold: 2 };
    let root = Root {
        network: None,
        serial: Serial(1),
        roles: Role::ALL.into_iter().map(role).collect(),
        anchors: vec![TrustAnchor::SgxDcap(vec![1])],
        not_after: Time(u64::MAX),
    };
    let root = Envelope::signed(&root, &keys[..2]);
    let network = NetworkId::of(root.payload.as_slice());
    let epoch = |index| {
        let start = EpochStart { network, epoch: Epoch(index), time: Time(index) };
        Envelope::signed(&start, &keys[..2])
    };
    let mut position = LogPosition::START;
    let mut entries = Vec::new();
    for envelope in std::iter::once(root).chain((1..=STATEMENTS).map(epoch)) {
        let entry = LogEntry::following(&position, wire::encode(&envelope));
        position = position.advance(&entry).expect("an entry follows its position");
        entries.push(entry);
    }
    (network, entries)
}

fn fold(network: NetworkId, log: &[LogEntry]) -> NetworkState {
    let mut state = NetworkState::new(network);
    for entry in log {
        let applied = state.apply(entry).expect("the log is one chain");
        assert!(matches!(applied, Applied::Accepted(_)));
    }
    state
}

fn bench(criterion: &mut Criterion) {
    let (network, log) = log();
    let mut group = criterion.benchmark_group("fold");
    group.throughput(Throughput::Elements(STATEMENTS));
    group.sample_size(10);
    group.bench_function("10000 epochs, 2 signatures each", |bencher| {
        bencher.iter(|| fold(network, &log));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
