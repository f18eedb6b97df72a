//! What the emulated CPU adds to everything that asks it: a seal key, a report, a quote.
//!
//! The floors are the primitives below: one CMAC for a key, one P-256 signature for a quote.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use cmac::{Cmac, KeyInit, Mac};
use criterion::{Criterion, criterion_group, criterion_main};
use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_emulated::provisioning::DevelopmentRoot;
use heirloom_keeper::intent::StoredFile;
use heirloom_keeper::port::Platform as _;
use heirloom_keeper::sealing::{Home, Subject, open, seal};
use heirloom_launcher::randomness::system_randomness;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::counter::{Generation, Time};
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::ReportData;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::sealed::{SealPolicy, SealRecipe, SealedPurpose, SgxSealRecipe};

const FOUNDED: Time = Time(1_700_000_000);
/// One generation: the secret, and the checksum before it.
const GENERATION: [u8; 64] = [7; 64];

fn enclave() -> EmulatedEnclave {
    let root = DevelopmentRoot::from_seed(&[1; 32], FOUNDED);
    let secs = Secs {
        measurement: MrEnclave::new([1; 32]),
        signer: MrSigner::new([2; 32]),
        product_id: 7,
        isv_svn: 3,
        attributes: LaunchMode::Production.attributes(),
        misc_select: 0,
    };
    EmulatedHost::from_seed(&root, &[2; 32]).launch(secs, system_randomness())
}

fn keys(criterion: &mut Criterion) {
    let enclave = enclave();
    let identity = enclave.identity().expect("the machine is in this process");
    let recipe = SealRecipe::Sgx(SgxSealRecipe {
        policy: SealPolicy::Measurement,
        isv_svn: identity.isv_svn,
        cpu_svn: identity.cpu_svn,
        flags_mask: u64::MAX,
        xfrm_mask: u64::MAX,
        misc_mask: u32::MAX,
        key_id: Nonce::new([9; 32]),
    });
    let mut group = criterion.benchmark_group("seal key");
    group.bench_function("EGETKEY", |bencher| {
        bencher.iter(|| enclave.seal_key(&recipe).expect("the recipe is of this CPU"));
    });
    group.bench_function("floor: one CMAC of 256 bytes", |bencher| {
        bencher.iter(|| {
            let mut mac = Cmac::<aes::Aes128>::new(&[1; 16].into());
            mac.update(std::hint::black_box(&[2; 256]));
            mac.finalize()
        });
    });
    group.finish();
}

fn files(criterion: &mut Criterion) {
    let enclave = enclave();
    let identity = enclave.identity().expect("the machine is in this process");
    let domain = DomainId::new([3; 32]);
    let node: NodeId = "node-1".parse().expect("the name is one");
    let home = Home { domain: &domain, node: &node };
    let none = Generation(0);
    let purpose = SealedPurpose::Keyring;
    let subject =
        Subject { purpose, domain, node: node.clone(), first: none, last: none, sequence: 1 };
    let sealed = || seal(&enclave, &identity, &subject, &GENERATION).expect("the machine seals");
    let stored = StoredFile { name: "keyring.sealed".to_owned(), bytes: sealed() };
    let mut group = criterion.benchmark_group("file of one generation");
    // Sealing opens what it sealed before it hands it out.
    group.bench_function("seal", |bencher| bencher.iter(sealed));
    group.bench_function("open", |bencher| {
        bencher.iter(|| open(&enclave, &identity, home, &stored).map(drop));
    });
    group.finish();
}

fn quotes(criterion: &mut Criterion) {
    let enclave = enclave();
    let data = ReportData::new([0xcc; 64]);
    let mut group = criterion.benchmark_group("evidence");
    group.bench_function("report", |bencher| {
        let target = enclave.report_target().expect("the machine is in this process");
        bencher.iter(|| enclave.report(&target, &data).expect("the machine is in this process"));
    });
    group.bench_function("quote", |bencher| {
        bencher.iter(|| enclave.evidence(&data).expect("the machine is in this process"));
    });
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
        .expect("the operating system has random bytes");
    group.bench_function("floor: one P-256 signature", |bencher| {
        let random = SystemRandom::new();
        bencher.iter(|| key.sign(&random, std::hint::black_box(&[5; 432])));
    });
    group.finish();
}

criterion_group!(benches, keys, files, quotes);
criterion_main!(benches);
