//! The account of an appraisal is what the appraisal did.

use heirloom_attest::account::{Account, CheckOutcome};
use heirloom_attest::error::AppraiseError;
use heirloom_model::appraisal::RevocationDemand;
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::policy::PlatformRule;

use crate::forge::UNTIL;
use crate::vectors::{Case, sgx, tdx};
use crate::worlds::{Made, Nitro, Snp, Tpm, all};

fn explain(case: &Case) -> Account {
    let mut appraiser = case.appraiser().unwrap();
    appraiser.explain(&case.evidence(), &case.report_data(), &case.policy, case.now)
}

/// The name of the check that failed, after looking at all the others.
fn failed(account: &Account) -> &'static str {
    let position = |outcome: &CheckOutcome| matches!(outcome, CheckOutcome::Failed(_));
    let at = account.checks.iter().position(|check| position(&check.outcome));
    let at = at.unwrap_or_else(|| panic!("nothing failed: {account:?}"));
    let reached = |outcome: &CheckOutcome| {
        matches!(outcome, CheckOutcome::Passed(_) | CheckOutcome::Skipped(_))
    };
    let (before, after) = account.checks.split_at(at);
    let (found, after) = after.split_first().unwrap();
    assert!(before.iter().all(|check| reached(&check.outcome)), "{account:?}");
    assert!(after.iter().all(|check| check.outcome == CheckOutcome::NotReached), "{account:?}");
    let error = account.outcome.as_ref().unwrap_err();
    assert_eq!(found.outcome, CheckOutcome::Failed(error.to_string()));
    found.name
}

fn passed(account: &Account) {
    assert!(account.outcome.is_ok(), "{account:?}");
    for check in &account.checks {
        let text = match &check.outcome {
            CheckOutcome::Passed(text) | CheckOutcome::Skipped(text) => text,
            other => panic!("{}: {other:?}", check.name),
        };
        assert!(!text.is_empty() && !check.source.is_empty(), "{}", check.name);
    }
}

#[test]
fn all_checks_of_good_evidence_passed_remembered_or_not() {
    for made in all() {
        passed(&made.explain());
        let mut warm = made.appraiser();
        let answer = made.appraise_with(&mut warm);
        let account = warm.explain(&made.evidence, &made.expected, &made.policy, made.now);
        passed(&account);
        assert_eq!(account.outcome, answer);
    }
    for case in [sgx(), tdx()].into_iter().flatten() {
        passed(&explain(&case));
        let mut warm = case.appraiser().unwrap();
        let answer = case.appraise_with(&mut warm);
        let account = warm.explain(&case.evidence(), &case.report_data(), &case.policy, case.now);
        passed(&account);
        assert_eq!(account.outcome, answer);
        let signature = account.checks.iter().find(|check| check.name == "signature").unwrap();
        assert_eq!(signature.outcome, CheckOutcome::Passed("by the attestation key".to_owned()));
    }
}

/// One changed field of an SGX quote, its endorsements or its policy: the check that it breaks.
#[test]
fn the_check_that_failed_is_named_for_sgx() {
    let Some(case) = sgx() else { return };
    let with = |change: &dyn Fn(&mut Case)| failed(&explain(&case.with(change)));
    assert_eq!(with(&|case| case.quote.truncate(100)), "format");
    assert_eq!(with(&|case| case.quote[96] |= 2), "attributes");
    assert_eq!(with(&|case| case.quote[112..144].fill(0)), "measured");
    assert_eq!(with(&|case| case.now = Time(0)), "certificate-dates");
    assert_eq!(with(&|case| case.now = case.now.after(60 * 86_400)), "endorsements");
    assert_eq!(with(&|case| case.quote[564 + 384] ^= 1), "quoting-enclave-report");
    assert_eq!(with(&|case| case.quote[500] ^= 1), "quoting-enclave-key");
    assert_eq!(with(&|case| case.quote[436] ^= 1), "signature");
    assert_eq!(with(&|case| case.policy.tcb.clear()), "tcb-accepted");
    assert_eq!(with(&|case| case.policy.advisories_accepted.clear()), "advisories");
    assert_eq!(with(&|case| case.policy.tcb_evaluation_min = 18), "tcb-evaluation");
    let nobody = PlatformRule::Only(Vec::new());
    assert_eq!(with(&|case| case.policy.platforms = nobody.clone()), "platform");
    let mut appraiser = case.appraiser().unwrap();
    let other = ReportData::new([9; 64]);
    let account = appraiser.explain(&case.evidence(), &other, &case.policy, case.now);
    assert_eq!(failed(&account), "report-data");
    appraiser.replace_anchors(Vec::new());
    let account = appraiser.explain(&case.evidence(), &case.report_data(), &case.policy, case.now);
    assert_eq!(
        (failed(&account), account.outcome),
        ("trust-anchor", Err(AppraiseError::UnknownAnchor))
    );
    let mut bare = heirloom_attest::appraiser::Appraiser::new(case.anchors.clone());
    let account = bare.explain(&case.evidence(), &case.report_data(), &case.policy, case.now);
    assert_eq!(failed(&account), "endorsements");
}

#[test]
fn the_check_that_failed_is_named_for_tdx() {
    let Some(case) = tdx() else { return };
    let with = |change: &dyn Fn(&mut Case)| failed(&explain(&case.with(change)));
    assert_eq!(with(&|case| case.quote[168] |= 1), "attributes");
    assert_eq!(with(&|case| case.quote[184..232].fill(0)), "measured");
    assert_eq!(with(&|case| case.quote[300] ^= 1), "signature");
    assert_eq!(with(&|case| case.policy.tdx = None), "kind-accepted");
    let none = heirloom_model::appraisal::Reference::Match(Vec::new());
    let rule = |case: &mut Case| case.policy.tdx.clone().unwrap();
    assert_eq!(
        with(&|case| {
            let rule = heirloom_model::appraisal::TdxRule { xfam: none.clone(), ..rule(case) };
            case.policy.tdx = Some(rule);
        }),
        "xfam"
    );
}

#[test]
fn the_check_that_failed_is_named_for_the_other_kinds() {
    let bad = |made: Made| failed(&made.explain());
    assert_eq!(bad(Snp::new().with(0, &[9]).made()), "format");
    assert_eq!(bad(Snp::new().with(0x008, &0xb_0000_u64.to_le_bytes()).made()), "attributes");
    assert_eq!(bad(Snp::new().with(0x090, &[0; 48]).made()), "measured");
    assert_eq!(bad(Snp::new().with(0x1a0, &[1]).made()), "key-identity");
    assert_eq!(bad(Snp::new().with(0x030, &[2]).made()), "vmpl");
    assert_eq!(bad(Snp::new().with(0x0c0, &[2]).made()), "host-data");
    for made in all() {
        let kind = made.evidence.kind();
        assert_eq!(bad(made.with(|made| made.now = UNTIL.after(1))), "certificate-chain", "{kind}");
        assert_eq!(
            bad(made.with(|made| made.expected = ReportData::new([2; 64]))),
            "report-data",
            "{kind}"
        );
        let unruled = made.with(|made| {
            let policy = &mut made.policy;
            (policy.snp, policy.nitro, policy.tpm, policy.vtpm) = (None, None, None, None);
        });
        assert_eq!(bad(unruled), "kind-accepted", "{kind}");
    }
    let mut enclave = Nitro::new();
    enclave.registers[3].1 = [1; 48];
    assert_eq!(bad(enclave.made()), "pcr3-role");
    let mut machine = Tpm::new();
    machine.qualifying = Some([1; 32]);
    assert_eq!(bad(machine.made()), "quote");
    let mut machine = Tpm::new();
    machine.registers[2].value = heirloom_model::measurement::Register32::new([9; 32]);
    assert_eq!(bad(machine.made()), "pcrs");
    let demanded = Snp::new().made().with(|made| {
        made.policy.snp.as_mut().unwrap().revocation = RevocationDemand::Demanded;
    });
    assert_eq!(bad(demanded), "endorsements");
    let unbound = Snp::new().vtpm().with(|made| {
        let Evidence::Vtpm(evidence) = &mut made.evidence else { panic!("a virtual TPM's") };
        let last = evidence.hcl_report.len() - 3;
        evidence.hcl_report[last] = b' ';
    });
    assert_eq!(bad(unbound), "binding");
}

/// Nobody looked, and the account says so.
#[test]
fn what_the_policy_skips_is_said_aloud() {
    let account = Snp::new().made().explain();
    let outcome =
        |name: &str| &account.checks.iter().find(|check| check.name == name).unwrap().outcome;
    for name in ["revocation", "platform", "endorsements"] {
        assert!(matches!(outcome(name), CheckOutcome::Skipped(_)), "{name}");
    }
    assert!(matches!(outcome("signature"), CheckOutcome::Passed(_)));
}
