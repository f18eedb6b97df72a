//! What is remembered changes how long an appraisal takes, and nothing else.
//!
//! An appraiser that has verified the quoting identity before must answer every changed case
//! exactly as one that has never seen anything.

use heirloom_model::counter::Time;
use heirloom_model::identifier::PlatformId;
use heirloom_model::policy::{PlatformRule, TcbLevel};

use crate::vectors::{Case, reason, sgx};

/// Both answers to a changed case, which must be one.
fn compare(case: &Case, changed: &Case, what: &str) {
    let mut warm = case.appraiser().unwrap();
    case.appraise_with(&mut warm).unwrap();
    assert_eq!(warm.quoting_identities_known(), 1);
    let remembered = changed.appraise_with(&mut warm);
    let mut cold = case.appraiser().unwrap();
    assert_eq!(remembered, changed.appraise_with(&mut cold), "{what}");
}

#[test]
fn a_second_appraisal_answers_the_same() {
    let Some(case) = sgx() else { return };
    let mut appraiser = case.appraiser().unwrap();
    let first = case.appraise_with(&mut appraiser).unwrap();
    let second = case.appraise_with(&mut appraiser).unwrap();
    assert_eq!(first, second);
    assert_eq!(appraiser.quoting_identities_known(), 1);
}

/// Every field of a quote: all bytes outside the certificates, and a sample of those.
#[test]
fn every_changed_byte_of_a_quote_is_answered_the_same() {
    let Some(case) = sgx() else { return };
    let mut warm = case.appraiser().unwrap();
    case.appraise_with(&mut warm).unwrap();
    let cold = case.appraiser().unwrap();
    let certificates = 1100;
    let sample = (0..certificates).chain((certificates..case.quote.len()).step_by(23));
    for byte in sample {
        let changed = case.with(|case| case.quote[byte] ^= 1 << (byte % 8));
        let remembered = changed.appraise_with(&mut warm.clone());
        assert_eq!(remembered, changed.appraise_with(&mut cold.clone()), "byte {byte}");
        // Past the signed part, only the text of the certificates has a second spelling.
        assert!(byte >= 1052 || remembered.is_err(), "byte {byte}");
    }
}

#[test]
fn the_policy_is_not_remembered() {
    let Some(case) = sgx() else { return };
    let other = PlatformRule::Only(vec![PlatformId::new([1; 32])]);
    let changes = [
        case.with(|case| case.policy.platforms = other),
        case.with(|case| case.policy.tcb = vec![TcbLevel::UpToDate]),
        case.with(|case| case.policy.advisories_accepted.clear()),
        case.with(|case| case.policy.tcb_evaluation_min = 18),
    ];
    for changed in changes {
        assert!(changed.appraise().is_err());
        compare(&case, &changed, "policy");
    }
}

#[test]
fn the_time_is_not_remembered() {
    let Some(case) = sgx() else { return };
    let month = 30 * 86_400;
    for grace in [0, 3600, u64::MAX] {
        for days in 0..80 {
            let changed = case.with(|case| {
                case.now = Time(case.now.0 - month + days * 86_400);
                case.policy.collateral_grace_seconds = grace;
            });
            compare(&case, &changed, "time");
        }
        for years in [6, 10, 30] {
            let changed = case.with(|case| {
                case.now = Time(case.now.0 + years * 365 * 86_400);
                case.policy.collateral_grace_seconds = grace;
            });
            compare(&case, &changed, "years");
        }
    }
}

#[test]
fn anchors_that_are_replaced_take_what_is_remembered_with_them() {
    let Some(case) = sgx() else { return };
    let mut appraiser = case.appraiser().unwrap();
    case.appraise_with(&mut appraiser).unwrap();
    appraiser.replace_anchors(Vec::new());
    assert_eq!(appraiser.quoting_identities_known(), 0);
    assert_eq!(reason(&case.appraise_with(&mut appraiser)), "unknown-anchor");
    appraiser.replace_anchors(case.anchors.clone());
    assert_eq!(reason(&case.appraise_with(&mut appraiser)), "missing-endorsements");
    appraiser.endorse(case.endorsements()).unwrap();
    assert_eq!(reason(&case.appraise_with(&mut appraiser)), "ok");
}
