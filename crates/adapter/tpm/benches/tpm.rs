//! What a TPM in software does in a second, beside a bare round trip: the difference to it is what
//! the TPM and this client add. A TPM in hardware is a hundred times slower.

#[path = "../../../test/testkit/src/swtpm.rs"]
pub mod swtpm;

use criterion::{Criterion, criterion_group, criterion_main};
use heirloom_model::secret::Secret;
use heirloom_tpm::client::Tpm;
use heirloom_tpm::counter::{Counter, CounterPublic, Incrementer};
use heirloom_tpm::key::{AttestationKey, StorageRoot};
use heirloom_tpm::pcr::Selection;
use heirloom_tpm::policy::{Comparison, Opening, Policy, Step};
use heirloom_tpm::transport::Socket;

use swtpm::Swtpm;

fn operations(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let Some(swtpm) = Swtpm::start(folder.path()) else { return };
    let tpm = Tpm::new(Socket::unix(swtpm.socket()));
    tpm.startup().expect("it was just manufactured");
    let root = StorageRoot::open(&tpm).expect("nobody made another root");
    let value = Secret::new([5; 32]);
    let key = AttestationKey::create(&root, value).expect("there is room for a key");
    let public = CounterPublic::new(0x0180_4801, Incrementer::Owner).expect("it is an owner's");
    let counter = Counter::define(&root, public, None).expect("nobody made another counter");

    let mut group = criterion.benchmark_group("tpm");
    group.bench_function("round trip", |bencher| {
        bencher.iter(|| tpm.random(&mut [0]).expect("it has random numbers"));
    });
    group.bench_function("quote of 16 registers", |bencher| {
        bencher.iter(|| key.quote(&[9; 32], Selection::boot()).expect("it quotes"));
    });
    group.bench_function("counter read, authenticated", |bencher| {
        bencher.iter(|| counter.read(&root).expect("it exists"));
    });
    group.bench_function("counter increment", |bencher| {
        bencher.iter(|| counter.increment(&root, None).expect("it has no end"));
    });
    let registers = tpm.registers(Selection::boot()).expect("it has registers");
    let registers = Step::registers(&registers).expect("they are distinct");
    let value = counter.read(&root).expect("it exists");
    let step = Step::Counter { counter: public, comparison: Comparison::Equal, value };
    let policy = Policy::all(vec![registers, step]).expect("it has two conditions");
    let made = root.make_mac_key(&policy.digest()).expect("it makes keys");
    group.bench_function("key made under a policy", |bencher| {
        bencher.iter(|| root.make_mac_key(&policy.digest()).expect("it makes keys"));
    });
    group.bench_function("MAC by registers and counter", |bencher| {
        let opening = Opening::Plain(&policy);
        bencher.iter(|| root.mac(&made, opening, b"message").expect("it opens"));
    });
    group.finish();
}

criterion_group!(benches, operations);
criterion_main!(benches);
