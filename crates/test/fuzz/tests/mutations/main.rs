//! Every target over its starts, over mutations of them that are the same each time, and over noise.
//!
//! A failure names its target, start and round. Guided by coverage the same targets run for as
//! long as one likes: `cargo xtask fuzz`.

#![expect(clippy::print_stderr, reason = "a target without vectors says so")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use heirloom_fuzz::mutate::Random;
use heirloom_fuzz::target::{EVIDENCE, Target, find};

/// Mutations of each target, shared by its starts. Most take microseconds; those that reach a
/// signature take up to a millisecond.
const ROUNDS: u64 = 30_000;
/// Noise for each target.
const NOISE: u64 = 10_000;

fn run(name: &str) {
    let target = find(name).expect("tests name targets");
    let starts = (target.starts)();
    if starts.is_empty() {
        eprintln!("skipped: there is nothing to start {name} from on this machine");
        return;
    }
    // Otherwise only refusals would be tried.
    let accepted = starts.iter().filter(|start| (target.run)(start)).count();
    assert!(accepted > 0, "{name}: nothing genuine is accepted");
    let rounds = ROUNDS / u64::try_from(starts.len()).expect("starts are few");
    for (index, start) in starts.iter().enumerate() {
        let mut random = Random::new(u64::try_from(index).expect("starts are few"));
        for round in 0..rounds {
            keeps_its_promises(target, &random.mutated(start), index, round);
        }
    }
    let mut random = Random::new(u64::MAX);
    let mut noise = Vec::new();
    for round in 0..NOISE {
        noise = random.mutated(&[noise.as_slice(), &[0x30]].concat());
        noise.truncate(512);
        keeps_its_promises(target, &noise, usize::MAX, round);
    }
}

fn keeps_its_promises(target: &Target, bytes: &[u8], start: usize, round: u64) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    assert!(outcome.is_ok(), "{}: start {start}, round {round}: {bytes:02x?}", target.name);
}

macro_rules! targets {
    ($($test:ident: $name:literal;)+) => {
        $(#[test]
        fn $test() {
            run($name);
        })+

        #[test]
        fn every_target_is_tried() {
            let tried = [$($name),+];
            for target in EVIDENCE {
                assert!(tried.contains(&target.name), "{}", target.name);
            }
        }
    };
}

targets! {
    quotes_of_sgx: "sgx-quote";
    quotes_of_tdx: "tdx-quote";
    collateral: "collateral";
    reports_of_sev_snp: "snp-report";
    certificates_of_sev_snp: "snp-certificates";
    tables_of_hosts: "ghcb-table";
    documents_of_nitro: "nitro-document";
    answers_of_a_security_module: "nsm-answer";
    what_a_tpm_signed: "tpm-attest";
    signatures_of_a_tpm: "tpm-signature";
    public_areas: "tpm-public";
    answers_of_a_tpm: "tpm-response";
    reports_of_paravisors: "hcl-report";
    evidence_of_every_kind: "appraisal";
    byte_formats_of_the_model: "wire";
}
