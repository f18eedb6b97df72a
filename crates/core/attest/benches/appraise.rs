//! How long an appraisal takes, per kind of evidence: in full, from memory, and the floors that no
//! verifier gets below, which are the bare signatures of each in the same run.
//!
//! SGX and TDX are real quotes; the others are made here, with RSA-2048 where AMD has RSA-4096, and
//! one certificate less than AWS has, and their floors are made alike.

#![expect(clippy::print_stderr, reason = "a skipped benchmark says so")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_SHA384,
    RsaEncoding, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use criterion::{Criterion, criterion_group, criterion_main};
use heirloom_attest::appraiser::Appraiser;
use heirloom_model::measurement::TeeKind;

#[path = "../tests/appraise/forge.rs"]
#[allow(dead_code, reason = "tests make more than is measured")]
mod forge;
#[path = "../tests/appraise/vectors.rs"]
#[allow(dead_code, reason = "tests need more than is measured")]
mod vectors;
#[path = "../tests/appraise/worlds.rs"]
#[allow(dead_code, reason = "tests make more than is measured")]
mod worlds;

/// What a floor verifies.
#[derive(Clone, Copy)]
enum Bare {
    P256,
    P384,
    /// As certificates of AMD are signed.
    Pss,
    /// As quotes of TPMs are signed.
    Pkcs1,
}

/// A signature over as many bytes as a report has.
struct Signed {
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Bare {
    fn make(self) -> Signed {
        match self {
            Self::P256 => ecdsa(&ECDSA_P256_SHA256_FIXED, &ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::P384 => ecdsa(&ECDSA_P384_SHA384_FIXED, &ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::Pss => rsa(&RSA_PSS_2048_8192_SHA384, &RSA_PSS_SHA384),
            Self::Pkcs1 => rsa(&RSA_PKCS1_2048_8192_SHA256, &RSA_PKCS1_SHA256),
        }
    }
}

fn message() -> Vec<u8> {
    vec![0x5a; 672]
}

fn ecdsa(
    algorithm: &'static dyn VerificationAlgorithm,
    signing: &'static EcdsaSigningAlgorithm,
) -> Signed {
    let pair = EcdsaKeyPair::generate(signing).unwrap();
    let signature = pair.sign(&SystemRandom::new(), &message()).unwrap().as_ref().to_vec();
    Signed { algorithm, key: pair.public_key().as_ref().to_vec(), message: message(), signature }
}

fn rsa(algorithm: &'static dyn VerificationAlgorithm, padding: &'static dyn RsaEncoding) -> Signed {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), &message(), &mut signature).unwrap();
    Signed { algorithm, key: pair.public_key().as_ref().to_vec(), message: message(), signature }
}

/// The signatures that a kind has in full, and from memory.
fn floors(kind: TeeKind) -> (Vec<Bare>, Vec<Bare>) {
    match kind {
        // Intel: certificates of the platform and their issuer, of both lists' signer, the lists of
        // revoked ones, what is listed, the quoting enclave's report and the quote.
        TeeKind::Sgx | TeeKind::Tdx => (vec![Bare::P256; 9], vec![Bare::P256]),
        // Certificate and quote.
        TeeKind::Tpm => (vec![Bare::P256; 2], vec![Bare::P256]),
        TeeKind::Snp => (vec![Bare::Pss, Bare::Pss, Bare::P384], vec![Bare::P384]),
        TeeKind::Nitro => (vec![Bare::P384; 2], vec![Bare::P384]),
        TeeKind::Vtpm => {
            (vec![Bare::Pss, Bare::Pss, Bare::P384, Bare::Pkcs1], vec![Bare::P384, Bare::Pkcs1])
        }
    }
}

fn measure(
    criterion: &mut Criterion,
    kind: TeeKind,
    empty: &Appraiser,
    run: &dyn Fn(&mut Appraiser),
) {
    let mut group = criterion.benchmark_group(format!("appraise-{kind}"));
    // Two dozen measurements, of which each is thousands of appraisals.
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(2));
    // The clone is a copy of some kilobytes, orders of magnitude below the appraisal.
    group.bench_function("full", |bencher| bencher.iter(|| run(&mut empty.clone())));
    let mut warm = empty.clone();
    run(&mut warm);
    group.bench_function("cached", |bencher| bencher.iter(|| run(&mut warm)));
    let (full, cached) = floors(kind);
    for (name, bare) in [("full-floor", full), ("cached-floor", cached)] {
        let signed: Vec<_> = bare.into_iter().map(Bare::make).collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for Signed { algorithm, key, message, signature } in &signed {
                    UnparsedPublicKey::new(*algorithm, key)
                        .verify(black_box(message), signature)
                        .unwrap();
                }
            });
        });
    }
    group.finish();
}

fn appraise(criterion: &mut Criterion) {
    let real = [vectors::sgx(), vectors::tdx()];
    if real.iter().any(Option::is_none) {
        eprintln!("skipped: the SGX and TDX vectors are not on this machine");
    }
    for case in real.into_iter().flatten() {
        let empty = case.appraiser().unwrap();
        let (evidence, expected) = (case.evidence(), case.report_data());
        measure(criterion, case.kind, &empty, &|appraiser| {
            appraiser.appraise(&evidence, &expected, &case.policy, case.now).unwrap();
        });
    }
    for made in worlds::all() {
        let empty = made.appraiser();
        measure(criterion, made.evidence.kind(), &empty, &|appraiser| {
            made.appraise_with(appraiser).unwrap();
        });
    }
}

criterion_group!(benches, appraise);
criterion_main!(benches);
