//! The real quote is accepted on its day; one changed field refuses it.

use heirloom_attest::error::{AppraiseError, EndorsementPart};
use heirloom_attest::result::{AnchorClass, Tcb};
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::evidence::{Evidence, ReportData, TrustAnchor};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::TeeKind;
use heirloom_model::policy::{PlatformRule, TcbLevel};

use crate::vectors::{Case, NOW, collateral, forever, reason, sgx};

/// The first second at which the quote's endorsements do not count: TCB info and quoting enclave
/// identity are good until 2025-07-19, the identity 55 minutes shorter.
const EXPIRED: Time = Time(1_752_919_279);

#[test]
fn a_real_quote_is_accepted_on_its_day() {
    let Some(case) = sgx() else { return };
    let result = case.appraise().unwrap();
    assert_eq!(
        result.measurement().to_string(),
        "sgx:33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
    );
    assert_eq!(
        result.signer().unwrap().to_string(),
        "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6"
    );
    assert_eq!(result.product_id(), Some(0));
    assert_eq!(result.kind(), TeeKind::Sgx);
    assert_eq!(result.security_version(), SecurityVersion(0));
    assert_eq!(result.tcb(), Tcb::Intel(TcbLevel::ConfigurationAndSwHardeningNeeded));
    assert_eq!(result.advisories(), ["INTEL-SA-00289", "INTEL-SA-00615"]);
    assert_eq!(result.anchor_class(), AnchorClass::Production);
    assert_eq!(*result.report_data(), case.report_data());
    assert!(result.report_data().as_bytes().starts_with(b"Hello, world!"));
    assert_eq!(result.expires(), EXPIRED);
    assert_eq!(result.grace(), None);
}

/// Every bit of header and report, with the quoting identity verified once; every byte without.
#[test]
fn every_flipped_bit_of_the_signed_part_is_refused() {
    let Some(case) = sgx() else { return };
    let mut warm = case.appraiser().unwrap();
    case.appraise_with(&mut warm).unwrap();
    for byte in 0..432 {
        for bit in 0..8 {
            let flipped = case.with(|case| case.quote[byte] ^= 1 << bit);
            let mut appraiser =
                if bit == byte % 8 { case.appraiser().unwrap() } else { warm.clone() };
            let outcome = flipped.appraise_with(&mut appraiser);
            assert!(outcome.is_err(), "byte {byte}, bit {bit}");
        }
    }
}

#[test]
fn report_data_must_be_what_was_asked_for() {
    let Some(case) = sgx() else { return };
    let mut appraiser = case.appraiser().unwrap();
    let evidence = Evidence::SgxDcap(case.quote.clone());
    let mut other = *case.report_data().as_bytes();
    other[63] ^= 1;
    let other = ReportData::new(other);
    let refused = appraiser.appraise(&evidence, &other, &case.policy, NOW);
    assert_eq!(reason(&refused), "report-data-mismatch");
}

/// One field of the policy at a time.
#[test]
fn every_field_of_the_policy_is_consulted() {
    let Some(case) = sgx() else { return };
    let platform = case.appraise().unwrap().platform();
    let listed = case.with(|case| case.policy.platforms = PlatformRule::Only(vec![platform]));
    assert_eq!(reason(&listed.appraise()), "ok");

    let refusals = [
        (
            "platform-not-listed",
            case.with(|case| {
                case.policy.platforms = PlatformRule::Only(vec![PlatformId::new([1; 32])]);
            }),
        ),
        (
            "platform-not-listed",
            case.with(|case| case.policy.platforms = PlatformRule::Only(vec![])),
        ),
        (
            "tcb-level-not-accepted",
            case.with(|case| {
                case.policy.tcb = vec![
                    TcbLevel::UpToDate,
                    TcbLevel::SwHardeningNeeded,
                    TcbLevel::ConfigurationNeeded,
                    TcbLevel::OutOfDate,
                    TcbLevel::OutOfDateConfigurationNeeded,
                ];
            }),
        ),
        ("tcb-level-not-accepted", case.with(|case| case.policy.tcb.clear())),
        (
            "advisory-not-accepted",
            case.with(|case| case.policy.advisories_accepted = forever(&["INTEL-SA-00289"])),
        ),
        ("advisory-not-accepted", case.with(|case| case.policy.advisories_accepted.clear())),
        ("tcb-evaluation-too-low", case.with(|case| case.policy.tcb_evaluation_min = 18)),
        ("expired-endorsements", case.with(|case| case.now = EXPIRED)),
    ];
    for (expected, refused) in refusals {
        assert_eq!(reason(&refused.appraise()), expected);
    }
}

/// An accepted advisory is accepted until a date, and the result does not outlive it.
#[test]
fn advisories_are_accepted_until_their_last_second() {
    let Some(case) = sgx() else { return };
    let until =
        |until: Time| case.with(|case| case.policy.advisories_accepted[1].until = until).appraise();
    assert_eq!(until(NOW).unwrap().expires(), NOW.after(1));
    assert_eq!(
        until(NOW.previous().unwrap()),
        Err(AppraiseError::AdvisoryNoLongerAccepted {
            advisory: "INTEL-SA-00615".to_owned(),
            until: NOW.previous().unwrap()
        })
    );
}

#[test]
fn expired_endorsements_count_only_as_long_as_the_policy_says_and_the_result_says_so() {
    let Some(case) = sgx() else { return };
    let at = |now: u64, grace: u64| {
        case.with(|case| {
            case.now = Time(now);
            case.policy.collateral_grace_seconds = grace;
        })
        .appraise()
    };
    assert_eq!(at(EXPIRED.0 - 1, 0).unwrap().grace(), None);
    assert_eq!(
        at(EXPIRED.0, 0),
        Err(AppraiseError::ExpiredEndorsements {
            part: EndorsementPart::QeIdentity,
            expired: EXPIRED
        })
    );
    let graced = at(EXPIRED.0, 3600).unwrap();
    let grace = graced.grace().unwrap();
    assert_eq!((grace.expired, grace.until), (EXPIRED, EXPIRED.after(3600)));
    assert_eq!(grace.part, EndorsementPart::QeIdentity);
    assert_eq!(graced.expires(), grace.until);
    assert!(at(EXPIRED.0 + 3599, 3600).is_ok());
    assert_eq!(reason(&at(EXPIRED.0 + 3600, 3600)), "expired-endorsements");
    // A grace does not change what is found before it begins.
    assert_eq!(at(NOW.0, 3600), at(NOW.0, 0));
}

/// The platform's certificate is valid until 2030, whatever the grace.
#[test]
fn no_grace_is_granted_to_certificates() {
    let Some(case) = sgx() else { return };
    let evidence = Evidence::SgxDcap(case.quote.clone());
    let (since, until) = heirloom_attest::decode::unverified(&evidence).unwrap().certified.unwrap();
    let at = |now: Time| {
        case.with(|case| {
            case.now = now;
            case.policy.collateral_grace_seconds = u64::MAX;
        })
        .appraise()
    };
    let last = at(until.previous().unwrap()).unwrap();
    assert_eq!(last.expires(), until);
    assert_eq!(at(until), Err(AppraiseError::CertificateExpired { expired: until }));
    let before = at(since.previous().unwrap());
    assert_eq!(before, Err(AppraiseError::CertificateNotYetValid { since }));
}

#[test]
fn time_before_the_endorsements_is_refused() {
    let Some(case) = sgx() else { return };
    let early = case.with(|case| case.now = Time(1_750_000_000)).appraise();
    assert_eq!(reason(&early), "endorsements-not-yet-valid");
}

#[test]
fn a_foreign_anchor_vouches_for_nothing() {
    let Some(case) = sgx() else { return };
    let mut without = case.appraiser().unwrap();
    without.replace_anchors(Vec::new());
    assert_eq!(reason(&case.appraise_with(&mut without)), "unknown-anchor");

    // The same name, another key: the last byte of the root's public key lies before its
    // extensions, so a flip in the key keeps the name.
    let mut der = case.anchors[0].certificate().to_vec();
    let key = der.windows(4).position(|w| w == [0x03, 0x42, 0x00, 0x04]).unwrap() + 4;
    der[key] ^= 1;
    let imitation = TrustAnchor::SgxDcap(der);
    assert_eq!(AnchorClass::of(&imitation.id()), AnchorClass::Development);
    let foreign = case.with(|case| case.anchors = vec![imitation.clone()]);
    assert_eq!(reason(&foreign.appraise()), "unknown-anchor");
    let mut replaced = case.appraiser().unwrap();
    replaced.replace_anchors(vec![imitation.clone()]);
    assert_eq!(reason(&case.appraise_with(&mut replaced)), "missing-endorsements");
    // Beside the genuine root an imitation changes nothing, in either order.
    for anchors in
        [vec![imitation.clone(), case.anchors[0].clone()], vec![case.anchors[0].clone(), imitation]]
    {
        assert_eq!(case.with(|case| case.anchors = anchors).appraise(), case.appraise());
    }
}

#[test]
fn without_endorsements_of_its_family_a_platform_is_refused() {
    let Some(case) = sgx() else { return };
    let mut appraiser = heirloom_attest::appraiser::Appraiser::new(case.anchors.clone());
    assert_eq!(reason(&case.appraise_with(&mut appraiser)), "missing-endorsements");
}

/// Endorsements whose revocation list expired before its TCB info was issued: never, at any time.
#[test]
fn a_stale_revocation_list_is_refused_at_every_time() {
    let Some(case) = sgx() else { return };
    let (Some(quote), Some(collateral)) = (
        crate::vectors::bytes("tee/sgx/mc_hw_quote_v3.bin"),
        collateral("tee/sgx/mc_hw_quote_v3.stale_crl.collateral.json"),
    ) else {
        return;
    };
    let stale = case.with(|case: &mut Case| {
        case.quote = quote;
        case.collateral = collateral;
        case.policy.collateral_grace_seconds = u64::MAX;
    });
    let never = ["certificate-not-yet-valid", "endorsements-not-yet-valid", "expired-endorsements"];
    // From March to September 2023, every day.
    for day in 0..200 {
        for grace in [0, u64::MAX] {
            let at = stale.with(|case| {
                case.now = Time(1_677_628_800 + day * 86_400);
                case.policy.collateral_grace_seconds = grace;
            });
            let found = reason(&at.appraise());
            assert!(never.contains(&found), "day {day}: {found}");
        }
    }
}

/// Each link of the chain from the anchor to the quote, broken alone.
#[test]
fn the_link_that_is_broken_is_the_one_that_is_named() {
    let Some(case) = sgx() else { return };
    let with = |at: usize| reason(&case.with(|case| case.quote[at] ^= 1).appraise());
    let (signature, key, enclave) = (436, 500, 564);
    let (enclave_signature, authentication) = (enclave + 384, enclave + 384 + 64 + 2);
    assert_eq!(with(48), "quote-signature", "the quoted report");
    assert_eq!(with(8), "quote-signature", "the header's security version");
    assert_eq!(with(28), "quote-signature", "the header's user data");
    assert_eq!(with(signature), "quote-signature");
    assert_eq!(with(key), "quoting-enclave-key");
    assert_eq!(with(authentication), "quoting-enclave-key");
    assert_eq!(with(enclave), "quoting-enclave-signature");
    assert_eq!(with(enclave_signature), "quoting-enclave-signature");
}
