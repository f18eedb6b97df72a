//! Endorsements: everybody may publish them, so nobody may forge them.

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::endorse::ExpiryItem;
use heirloom_attest::error::{AppraiseError, EndorsementPart, EndorsementPart as Part};
use heirloom_model::counter::Time;
use heirloom_model::evidence::{DcapCollateral, Endorsements, TrustAnchor};

use crate::vectors::{collateral, reason, sgx};

fn endorse(change: impl FnOnce(&mut DcapCollateral)) -> Option<AppraiseError> {
    let case = sgx()?;
    case.with(|case| change(&mut case.collateral)).appraiser().err()
}

/// One field at a time.
#[test]
fn a_changed_part_is_refused_when_it_arrives() {
    let Some(_) = sgx() else { return };
    let signature = |part| Some(AppraiseError::EndorsementSignature { part });
    let flip = |bytes: &mut Vec<u8>| bytes[40] ^= 1;
    assert_eq!(endorse(|c| flip(&mut c.tcb_info_signature)), signature(Part::TcbInfo));
    assert_eq!(endorse(|c| flip(&mut c.qe_identity_signature)), signature(Part::QeIdentity));
    assert_eq!(
        endorse(|c| c.tcb_info = c.tcb_info.replacen("OutOfDate", "UpToDate_", 1)),
        signature(Part::TcbInfo)
    );
    assert_eq!(
        endorse(|c| c.qe_identity = c.qe_identity.replacen("2025-07", "2035-07", 1)),
        signature(Part::QeIdentity)
    );
    let last = |bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(endorse(|c| last(&mut c.pck_crl)), signature(Part::PckCrl));
    assert_eq!(endorse(|c| last(&mut c.root_ca_crl)), signature(Part::RootCrl));
    assert_eq!(
        endorse(|c| c.root_ca_crl = c.pck_crl.clone()),
        signature(Part::RootCrl),
        "another CA's list"
    );
    let length = |part, found| Some(AppraiseError::EndorsementChainLength { part, found });
    assert_eq!(endorse(|c| c.tcb_info_issuer_chain.clear()), length(Part::TcbInfoIssuer, 0));
    assert_eq!(endorse(|c| c.qe_identity_issuer_chain.clear()), length(Part::QeIdentityIssuer, 0));
    assert_eq!(endorse(|c| c.pck_crl_issuer_chain.clear()), length(Part::PckCrlIssuer, 0));
    let malformed = endorse(|c| c.pck_crl.clear()).unwrap();
    assert_eq!(malformed.reason(), "malformed-endorsements");
}

#[test]
fn endorsements_of_a_foreign_root_are_refused() {
    let Some(case) = sgx() else { return };
    let collateral = case.collateral.clone();
    let refused = Appraiser::new(Vec::new()).endorse(Endorsements::SgxDcap(collateral.clone()));
    assert_eq!(refused, Err(AppraiseError::UnknownAnchor));
    // The same certificate, trusted for another kind of evidence.
    let der = case.anchors[0].certificate().to_vec();
    let mut other = Appraiser::new(vec![TrustAnchor::Snp(der)]);
    let refused = other.endorse(Endorsements::SgxDcap(collateral));
    assert_eq!(refused, Err(AppraiseError::UnknownAnchor));
}

#[test]
fn endorsements_for_tdx_are_none_for_sgx() {
    let (Some(case), Some(tdx)) = (sgx(), collateral("tee/tdx/tdx_quote_v4.collateral.json"))
    else {
        return;
    };
    let refused = Appraiser::new(case.anchors).endorse(Endorsements::SgxDcap(tdx));
    let part = EndorsementPart::TcbInfo;
    assert_eq!(refused, Err(AppraiseError::EndorsementsDisagree { part }));
}

#[test]
fn endorsements_of_one_family_say_nothing_about_another() {
    let (Some(case), Some(other)) =
        (sgx(), collateral("tee/sgx/mc_hw_quote_v3.stale_crl.collateral.json"))
    else {
        return;
    };
    let mut appraiser = Appraiser::new(case.anchors.clone());
    appraiser.endorse(Endorsements::SgxDcap(other)).unwrap();
    assert_eq!(reason(&case.appraise_with(&mut appraiser)), "missing-endorsements");
}

#[test]
fn the_calendar_names_every_part_earliest_first() {
    let Some(case) = sgx() else { return };
    let calendar = case.appraiser().unwrap().expiry_calendar();
    assert_eq!(calendar.len(), 8);
    assert!(calendar.is_sorted());
    let ExpiryItem::Endorsements(family, part) = calendar[0].item else {
        panic!("a root outlives its endorsements")
    };
    assert_eq!(part, EndorsementPart::QeIdentity);
    assert_eq!(family.fmspc, [0x00, 0xa0, 0x67, 0x11, 0x00, 0x00]);
    assert_eq!(calendar[0].at, case.appraise().unwrap().expires());
    // The end of 2049.
    let root = calendar.iter().find(|expiry| matches!(expiry.item, ExpiryItem::Anchor(_)));
    assert_eq!(root.map(|expiry| expiry.at), Some(Time(2_524_608_000)));
}
