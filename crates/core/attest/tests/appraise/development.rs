//! Evidence of emulated machines, under roots of development: what only a manufacturer can sign.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::error::{AppraiseError, EndorsementPart};
use heirloom_attest::result::{AnchorClass, AttestationResult, Tcb};
use heirloom_emulated::host::EmulatedHost;
use heirloom_emulated::provisioning::{COLLATERAL_SECONDS, DevelopmentRoot, FIRST_CPU_SVN};
use heirloom_keeper::port::Platform;
use heirloom_launcher::report::{Attributes, LaunchMode, Secs};
use heirloom_model::counter::Time;
use heirloom_model::digest::sha256;
use heirloom_model::evidence::{DcapCollateral, Endorsements, Evidence, ReportData};
use heirloom_model::limit::ENDORSEMENTS_MAX;
use heirloom_model::measurement::{MrEnclave, MrSigner};
use heirloom_model::policy::{AppraisalPolicy, TcbLevel};
use heirloom_model::sealed::CpuSvn;
use heirloom_model::{context, evidence::TrustAnchor};
use x509_cert::der::Decode;

use crate::vectors::{policy, reason};

const FOUNDED: Time = Time(1_700_000_000);
const NOW: Time = Time(1_750_000_000);
const SEED: [u8; 32] = [7; 32];
const DATA: ReportData = ReportData::new([3; 64]);

fn root() -> DevelopmentRoot {
    DevelopmentRoot::from_seed(&SEED, FOUNDED)
}

fn secs() -> Secs {
    Secs {
        measurement: MrEnclave::new([1; 32]),
        signer: MrSigner::new([2; 32]),
        product_id: 5,
        isv_svn: 6,
        attributes: LaunchMode::Production.attributes(),
        misc_select: 0,
    }
}

fn quote(host: &EmulatedHost, secs: Secs) -> Evidence {
    host.launch(secs, Box::new(|bytes| bytes.fill(9))).evidence(&DATA).unwrap()
}

fn endorsed(root: &DevelopmentRoot, collateral: DcapCollateral) -> Appraiser {
    let mut appraiser = Appraiser::new(vec![root.anchor()]);
    appraiser.endorse(Endorsements::SgxDcap(collateral)).unwrap();
    appraiser
}

fn appraise(
    appraiser: &mut Appraiser,
    evidence: &Evidence,
) -> Result<AttestationResult, AppraiseError> {
    appraiser.appraise(evidence, &DATA, &policy(), NOW)
}

#[test]
fn an_emulated_machine_takes_the_same_way_and_the_result_says_what_it_is() {
    let root = root();
    let host = EmulatedHost::from_seed(&root, &[1; 32]);
    let mut appraiser = endorsed(&root, root.collateral(NOW, COLLATERAL_SECONDS));
    let result = appraise(&mut appraiser, &quote(&host, secs())).unwrap();
    assert_eq!(result.anchor_class(), AnchorClass::Development);
    assert_eq!(result.anchor(), root.anchor().id());
    assert_eq!(result.platform(), host.platform());
    assert_eq!(result.tcb(), Tcb::Intel(TcbLevel::UpToDate));
    assert_eq!((result.product_id(), result.security_version().0), (Some(5), 6));
    assert_eq!(result.expires(), NOW.after(COLLATERAL_SECONDS));
}

/// Signed as they are, by a genuine quoting enclave.
#[test]
fn genuine_evidence_of_what_no_policy_allows_is_refused() {
    let root = root();
    let host = EmulatedHost::from_seed(&root, &[1; 32]);
    let mut appraiser = endorsed(&root, root.collateral(NOW, COLLATERAL_SECONDS));
    let mut refused = |change: &dyn Fn(&mut Secs)| {
        let mut secs = secs();
        change(&mut secs);
        appraise(&mut appraiser, &quote(&host, secs)).unwrap_err().reason()
    };
    let flags = |flags| move |secs: &mut Secs| secs.attributes = Attributes { flags, xfrm: 0xe7 };
    assert_eq!(refused(&|secs| secs.attributes = LaunchMode::Debug.attributes()), "debug-enclave");
    assert_eq!(refused(&flags(0x04)), "not-initialised");
    assert_eq!(refused(&flags(0x01)), "not-64-bit");
    assert_eq!(refused(&flags(0x15)), "privileged-enclave");
    assert_eq!(refused(&flags(0x25)), "privileged-enclave");
    assert_eq!(refused(&flags(0x85)), "unmeasured-configuration");
    assert_eq!(refused(&flags(0x0d)), "unknown-attributes");
    assert_eq!(refused(&|secs| secs.measurement = MrEnclave::new([0; 32])), "zero-measurement");
    assert_eq!(refused(&|secs| secs.signer = MrSigner::new([0; 32])), "zero-signer");
}

#[test]
fn a_revoked_machine_is_refused_although_it_was_verified_before() {
    let mut root = root();
    let host = EmulatedHost::from_seed(&root, &[1; 32]);
    let evidence = quote(&host, secs());
    let before = root.endorsements(Time(NOW.0 - 1000));
    let mut appraiser = Appraiser::new(vec![root.anchor()]);
    appraiser.endorse(before.clone()).unwrap();
    appraise(&mut appraiser, &evidence).unwrap();

    let serial = root.certify(&host.pck_request()).serial;
    root.revoke(serial, NOW).unwrap();
    appraiser.endorse(root.endorsements(NOW)).unwrap();
    assert_eq!(appraise(&mut appraiser, &evidence), Err(AppraiseError::CertificateRevoked));
    // The list of before does not bring it back, nor does it when it comes with fresh TCB info.
    appraiser.endorse(before.clone()).unwrap();
    assert_eq!(appraise(&mut appraiser, &evidence), Err(AppraiseError::CertificateRevoked));
    let Endorsements::SgxDcap(stale) = before else { panic!("endorsements for SGX") };
    let mixed = DcapCollateral {
        pck_crl: stale.pck_crl,
        pck_crl_issuer_chain: stale.pck_crl_issuer_chain,
        ..root.collateral(NOW, COLLATERAL_SECONDS)
    };
    appraiser.endorse(Endorsements::SgxDcap(mixed)).unwrap();
    assert_eq!(appraise(&mut appraiser, &evidence), Err(AppraiseError::CertificateRevoked));
    let other = EmulatedHost::from_seed(&root, &[2; 32]);
    assert!(appraise(&mut appraiser, &quote(&other, secs())).is_ok());
}

/// Each part is replaced by a newer one of its kind, and by nothing else.
#[test]
fn older_parts_change_nothing_and_newer_ones_count_alone() {
    let root = root();
    let host = EmulatedHost::from_seed(&root, &[1; 32]);
    let evidence = quote(&host, secs());
    let old = root.collateral(Time(NOW.0 - 5000), 10_000);
    let new = root.collateral(Time(NOW.0 - 1000), 10_000);
    let last_second_with = |change: &dyn Fn(&mut DcapCollateral)| {
        let mut appraiser = endorsed(&root, old.clone());
        let mut mixed = old.clone();
        change(&mut mixed);
        appraiser.endorse(Endorsements::SgxDcap(mixed)).unwrap();
        // What is old now comes again, and changes nothing.
        appraiser.endorse(Endorsements::SgxDcap(old.clone())).unwrap();
        appraise(&mut appraiser, &evidence).unwrap().expires()
    };
    let (list_end, text_end) = (Time(NOW.0 + 5000), Time(NOW.0 + 5001));
    let texts = |c: &mut DcapCollateral| {
        c.tcb_info.clone_from(&new.tcb_info);
        c.tcb_info_signature.clone_from(&new.tcb_info_signature);
        c.qe_identity.clone_from(&new.qe_identity);
        c.qe_identity_signature.clone_from(&new.qe_identity_signature);
    };
    let lists = |c: &mut DcapCollateral| {
        c.root_ca_crl.clone_from(&new.root_ca_crl);
        c.pck_crl.clone_from(&new.pck_crl);
    };
    assert_eq!(last_second_with(&|_| ()), list_end);
    assert_eq!(last_second_with(&texts), list_end);
    assert_eq!(last_second_with(&lists), text_end);
    let both = |c: &mut DcapCollateral| {
        texts(c);
        lists(c);
    };
    assert_eq!(last_second_with(&both), Time(NOW.0 + 9000));
}

/// A manufacturer signs what it said before its last evaluation for a while longer.
#[test]
fn an_earlier_evaluation_of_a_later_date_replaces_nothing() {
    let root = root();
    let evidence = quote(&EmulatedHost::from_seed(&root, &[1; 32]), secs());
    let mut evaluated = root.collateral(Time(NOW.0 - 5000), 10_000);
    let number = r#""tcbEvaluationDataNumber":"#;
    replace(&mut evaluated.tcb_info, number, &format!("{number}9"));
    replace(&mut evaluated.qe_identity, number, &format!("{number}9"));
    sign_again(&mut evaluated);
    let late = root.collateral(Time(NOW.0 - 1000), 10_000);
    let mut appraiser = endorsed(&root, evaluated.clone());
    appraiser.endorse(Endorsements::SgxDcap(late.clone())).unwrap();
    let kept = appraise(&mut appraiser, &evidence).unwrap().expires();
    assert_eq!(kept, Time(NOW.0 + 5001));
    // The other way round, the later evaluation counts although its date is earlier.
    let mut appraiser = endorsed(&root, late);
    appraiser.endorse(Endorsements::SgxDcap(evaluated)).unwrap();
    assert_eq!(appraise(&mut appraiser, &evidence).unwrap().expires(), kept);
}

#[test]
fn a_machine_that_falls_out_of_date_is_refused_although_it_was_verified_before() {
    let mut root = root();
    let host = EmulatedHost::from_seed(&root, &[1; 32]);
    let evidence = quote(&host, secs());
    let mut appraiser = endorsed(&root, root.collateral(Time(NOW.0 - 1000), COLLATERAL_SECONDS));
    appraise(&mut appraiser, &evidence).unwrap();

    let mut required = *FIRST_CPU_SVN.as_bytes();
    required[0] += 1;
    root.require(CpuSvn::new(required), NOW).unwrap();
    appraiser.endorse(root.endorsements(NOW)).unwrap();
    assert_eq!(
        appraise(&mut appraiser, &evidence),
        Err(AppraiseError::TcbLevelNotAccepted { found: TcbLevel::OutOfDate })
    );
    let tolerant = AppraisalPolicy { tcb: vec![TcbLevel::OutOfDate], ..policy() };
    let result = appraiser.appraise(&evidence, &DATA, &tolerant, NOW).unwrap();
    assert_eq!(result.tcb(), Tcb::Intel(TcbLevel::OutOfDate));

    host.update_microcode().unwrap();
    host.certify_again(&root);
    assert!(appraise(&mut appraiser, &quote(&host, secs())).is_ok());
}

/// All development roots have the same names.
#[test]
fn roots_of_the_same_name_are_not_mistaken_for_each_other() {
    let (ours, theirs) = (root(), DevelopmentRoot::from_seed(&[8; 32], FOUNDED));
    let host = EmulatedHost::from_seed(&theirs, &[1; 32]);
    let evidence = quote(&host, secs());
    let mut appraiser = Appraiser::new(vec![ours.anchor()]);
    appraiser.endorse(ours.endorsements(NOW)).unwrap();
    assert_eq!(appraise(&mut appraiser, &evidence), Err(AppraiseError::UnknownAnchor));
    assert_eq!(appraiser.endorse(theirs.endorsements(NOW)), Err(AppraiseError::UnknownAnchor));

    let both = [ours.anchor(), theirs.anchor()];
    for anchors in [both.to_vec(), both.iter().rev().cloned().collect()] {
        let mut appraiser = Appraiser::new(anchors);
        appraiser.endorse(ours.endorsements(NOW)).unwrap();
        assert_eq!(reason(&appraise(&mut appraiser, &evidence)), "missing-endorsements");
        appraiser.endorse(theirs.endorsements(NOW)).unwrap();
        let result = appraise(&mut appraiser, &evidence).unwrap();
        assert_eq!(result.anchor(), theirs.anchor().id());
    }
}

#[test]
fn endorsements_for_more_families_than_are_kept_are_refused() {
    let roots: Vec<_> = (0..=u8::try_from(ENDORSEMENTS_MAX).unwrap())
        .map(|number| DevelopmentRoot::from_seed(&[number; 32], FOUNDED))
        .collect();
    let mut appraiser = Appraiser::new(roots.iter().map(DevelopmentRoot::anchor).collect());
    let (last, first) = roots.split_last().unwrap();
    for root in first {
        appraiser.endorse(root.endorsements(NOW)).unwrap();
    }
    let limit = ENDORSEMENTS_MAX;
    assert_eq!(
        appraiser.endorse(last.endorsements(NOW)),
        Err(AppraiseError::TooManyEndorsements { limit })
    );
    appraiser.endorse(first[0].endorsements(NOW.after(1))).unwrap();
}

/// What the manufacturer says about the machine and its quoting enclave, one word at a time.
#[test]
fn what_the_manufacturer_takes_back_no_policy_can_accept() {
    let root = root();
    let host = EmulatedHost::from_seed(&root, &[1; 32]);
    let evidence = quote(&host, secs());
    let everything = AppraisalPolicy {
        tcb: vec![
            TcbLevel::UpToDate,
            TcbLevel::SwHardeningNeeded,
            TcbLevel::ConfigurationNeeded,
            TcbLevel::ConfigurationAndSwHardeningNeeded,
            TcbLevel::OutOfDate,
            TcbLevel::OutOfDateConfigurationNeeded,
        ],
        ..policy()
    };
    let under = |change: &dyn Fn(&mut DcapCollateral)| {
        let mut collateral = root.collateral(NOW, COLLATERAL_SECONDS);
        change(&mut collateral);
        sign_again(&mut collateral);
        let mut appraiser = endorsed(&root, collateral);
        reason(&appraiser.appraise(&evidence, &DATA, &everything, NOW))
    };
    let tcb = |from: &'static str, to: &'static str| {
        move |collateral: &mut DcapCollateral| replace(&mut collateral.tcb_info, from, to)
    };
    let enclave = |from: &'static str, to: &'static str| {
        move |collateral: &mut DcapCollateral| replace(&mut collateral.qe_identity, from, to)
    };
    assert_eq!(under(&|_| ()), "ok");
    assert_eq!(under(&tcb("\"UpToDate\"", "\"Revoked\"")), "revoked-tcb");
    assert_eq!(under(&enclave("\"UpToDate\"", "\"Revoked\"")), "revoked-tcb");
    assert_eq!(under(&tcb("\"pcesvn\":13", "\"pcesvn\":14")), "no-tcb-level");
    assert_eq!(under(&enclave("\"isvsvn\":1", "\"isvsvn\":2")), "no-tcb-level");
    let foreign = "quoting-enclave-identity";
    assert_eq!(under(&enclave("\"isvprodid\":1", "\"isvprodid\":2")), foreign);
    assert_eq!(under(&enclave("\"attributes\":\"11", "\"attributes\":\"01")), foreign);
    assert_eq!(under(&enclave("\"miscselect\":\"00", "\"miscselect\":\"01")), foreign);
    assert_eq!(under(&enclave("\"mrsigner\":\"", "\"mrsigner\":\"00")), "not-verified");
    assert_eq!(under(&tcb("\"version\":3", "\"version\":1")), "not-verified");
}

/// Only the TCB signer itself may sign for it, also under a genuine root.
#[test]
fn endorsements_whose_parts_are_of_different_roots_are_refused() {
    let (ours, theirs) = (root(), DevelopmentRoot::from_seed(&[8; 32], FOUNDED));
    let mine = ours.collateral(NOW, COLLATERAL_SECONDS);
    let other = theirs.collateral(NOW, COLLATERAL_SECONDS);
    let mut appraiser = Appraiser::new(vec![ours.anchor(), theirs.anchor()]);
    let mut endorse = |change: &dyn Fn(&mut DcapCollateral)| {
        let mut mixed = mine.clone();
        change(&mut mixed);
        appraiser.endorse(Endorsements::SgxDcap(mixed))
    };
    let disagree = |part| Err(AppraiseError::EndorsementsDisagree { part });
    let mixed = endorse(&|c| {
        c.qe_identity.clone_from(&other.qe_identity);
        c.qe_identity_signature.clone_from(&other.qe_identity_signature);
        c.qe_identity_issuer_chain.clone_from(&other.qe_identity_issuer_chain);
    });
    assert_eq!(mixed, disagree(EndorsementPart::QeIdentityIssuer));
    let mixed = endorse(&|c| {
        c.pck_crl.clone_from(&other.pck_crl);
        c.pck_crl_issuer_chain.clone_from(&other.pck_crl_issuer_chain);
    });
    assert_eq!(mixed, disagree(EndorsementPart::PckCrlIssuer));
    let signature = |part| Err(AppraiseError::EndorsementSignature { part });
    let mixed = endorse(&|c| c.root_ca_crl.clone_from(&other.root_ca_crl));
    assert_eq!(mixed, signature(EndorsementPart::RootCrl));
    let mixed = endorse(&|c| c.pck_crl.clone_from(&other.pck_crl));
    assert_eq!(mixed, signature(EndorsementPart::PckCrl));
}

/// A forger has a root of its own with the same name, and puts the genuine root at the end.
#[test]
fn a_genuine_root_at_the_end_of_a_forged_chain_vouches_for_nothing() {
    let (ours, forger) = (root(), DevelopmentRoot::from_seed(&[8; 32], FOUNDED));
    let mine = ours.collateral(NOW, COLLATERAL_SECONDS);
    let forged = forger.collateral(NOW, COLLATERAL_SECONDS);
    let ends_genuinely = |chain: &str| {
        let signer = pem::parse_many(chain).unwrap().swap_remove(0);
        let root = pem::parse_many(&mine.tcb_info_issuer_chain).unwrap().swap_remove(1);
        pem::encode_many(&[signer, root])
    };
    let mut appraiser = Appraiser::new(vec![ours.anchor()]);
    let mut endorse = |change: &dyn Fn(&mut DcapCollateral)| {
        let mut mixed = mine.clone();
        change(&mut mixed);
        appraiser.endorse(Endorsements::SgxDcap(mixed))
    };
    let signature = |part| Err(AppraiseError::EndorsementSignature { part });
    let mixed = endorse(&|c| {
        c.tcb_info.clone_from(&forged.tcb_info);
        c.tcb_info_signature.clone_from(&forged.tcb_info_signature);
        c.tcb_info_issuer_chain = ends_genuinely(&forged.tcb_info_issuer_chain);
    });
    assert_eq!(mixed, signature(EndorsementPart::TcbInfoIssuer));
    let mixed = endorse(&|c| {
        c.qe_identity.clone_from(&forged.qe_identity);
        c.qe_identity_signature.clone_from(&forged.qe_identity_signature);
        c.qe_identity_issuer_chain = ends_genuinely(&forged.qe_identity_issuer_chain);
    });
    assert_eq!(mixed, signature(EndorsementPart::QeIdentityIssuer));
    let mixed = endorse(&|c| {
        c.pck_crl.clone_from(&forged.pck_crl);
        c.pck_crl_issuer_chain = ends_genuinely(&forged.pck_crl_issuer_chain);
    });
    assert_eq!(mixed, signature(EndorsementPart::PckCrlIssuer));
    assert_eq!(endorse(&|_| ()), Ok(()));
}

fn replace(text: &mut String, from: &str, to: &str) {
    assert!(text.contains(from), "{text} has {from}");
    *text = text.replace(from, to);
}

/// Signs TCB info and quoting enclave identity with the emulated manufacturer's own key.
fn sign_again(collateral: &mut DcapCollateral) {
    let parts: [&[u8]; 5] = [context::EMULATED_KEY, &SEED, b"development TCB signing", b"\0", &[0]];
    let blocks = pem::parse_many(&collateral.tcb_info_issuer_chain).unwrap();
    let signer = x509_cert::Certificate::from_der(blocks[0].contents()).unwrap();
    let point = &signer.tbs_certificate().subject_public_key_info().subject_public_key;
    let key = EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &sha256(&parts),
        point.raw_bytes(),
    )
    .expect("the emulated manufacturer derives its keys as the test does");
    let sign =
        |text: &str| key.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec();
    collateral.tcb_info_signature = sign(&collateral.tcb_info);
    collateral.qe_identity_signature = sign(&collateral.qe_identity);
}

#[test]
fn an_anchor_that_is_no_certificate_vouches_for_nothing() {
    let root = root();
    let host = EmulatedHost::from_seed(&root, &[1; 32]);
    let mut appraiser = Appraiser::new(vec![TrustAnchor::SgxDcap(vec![1, 2, 3])]);
    assert_eq!(reason(&appraise(&mut appraiser, &quote(&host, secs()))), "unknown-anchor");
    assert!(appraiser.expiry_calendar().is_empty());
}
