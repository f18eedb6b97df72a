//! How long an appraisal takes: in full, from memory, and the floor that no verifier gets below.
//!
//! The floor is two P-256 signatures: the quoting enclave's report and the quote itself. From
//! memory only the second one is verified again.

#![expect(clippy::print_stderr, reason = "a skipped benchmark says so")]

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use criterion::{Criterion, criterion_group, criterion_main};
use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::decode;
use heirloom_model::counter::Time;
use heirloom_model::evidence::{DcapCollateral, Endorsements, Evidence, TrustAnchor};
use heirloom_model::policy::{AppraisalPolicy, PlatformRule, TcbLevel};

const NOW: Time = Time(1_750_334_171);

fn vector(name: &str) -> Option<Vec<u8>> {
    let path = heirloom_testkit::vectors::find(&format!("tee/sgx/{name}"))?;
    #[expect(clippy::disallowed_methods, reason = "benchmarks read vectors from files")]
    std::fs::read(path).ok()
}

fn collateral() -> Option<DcapCollateral> {
    let json: serde_json::Value =
        serde_json::from_slice(&vector("sgx_quote_v3.collateral.json")?).ok()?;
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    let binary = |name: &str| hex::decode(text(name)?).ok();
    Some(DcapCollateral {
        pck_crl_issuer_chain: text("pck_crl_issuer_chain")?,
        root_ca_crl: binary("root_ca_crl")?,
        pck_crl: binary("pck_crl")?,
        tcb_info_issuer_chain: text("tcb_info_issuer_chain")?,
        tcb_info: text("tcb_info")?,
        tcb_info_signature: binary("tcb_info_signature")?,
        qe_identity_issuer_chain: text("qe_identity_issuer_chain")?,
        qe_identity: text("qe_identity")?,
        qe_identity_signature: binary("qe_identity_signature")?,
    })
}

fn policy() -> AppraisalPolicy {
    AppraisalPolicy {
        platforms: PlatformRule::Any,
        tcb: vec![TcbLevel::ConfigurationAndSwHardeningNeeded],
        advisories_accepted: vec!["INTEL-SA-00289".to_owned(), "INTEL-SA-00615".to_owned()],
        tcb_evaluation_min: 17,
        collateral_grace_seconds: 0,
    }
}

fn appraise(criterion: &mut Criterion) {
    let (Some(quote), Some(root), Some(collateral)) =
        (vector("sgx_quote_v3.bin"), vector("IntelSGXRootCA.der"), collateral())
    else {
        eprintln!("skipped: the SGX vectors are not on this machine");
        return;
    };
    let mut empty = Appraiser::new(vec![TrustAnchor::SgxDcap(root)]);
    empty.endorse(Endorsements::SgxDcap(collateral)).expect("the vector's endorsements are good");
    let evidence = Evidence::SgxDcap(quote.clone());
    let claims = decode::unverified(&evidence).expect("the vector is a quote");
    let policy = policy();
    let run = |appraiser: &mut Appraiser| {
        appraiser
            .appraise(&evidence, &claims.report_data, &policy, NOW)
            .expect("the vector is good on its day")
    };
    let mut group = criterion.benchmark_group("appraise");
    group.bench_function("full", |bencher| {
        // The clone is a copy of 15 kB, three orders of magnitude below the appraisal.
        bencher.iter(|| run(&mut empty.clone()));
    });
    let mut warm = empty.clone();
    run(&mut warm);
    group.bench_function("cached", |bencher| bencher.iter(|| run(&mut warm)));
    let (signed, section) = quote.split_at(432);
    let (signature, key) = (section[4..68].to_vec(), [&[4], &section[68..132]].concat());
    group.bench_function("floor", |bencher| {
        bencher.iter(|| {
            for _ in 0..2 {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key)
                    .verify(signed, &signature)
                    .expect("the vector is signed");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, appraise);
criterion_main!(benches);
