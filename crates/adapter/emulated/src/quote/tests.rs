use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteCollateralV3, QuotePolicy, TcbStatus};
use heirloom_keeper::port::Platform as _;
use heirloom_model::counter::Time;
use heirloom_model::evidence::{DcapCollateral, Evidence, TrustAnchor};
use heirloom_model::identifier::PlatformId;

use super::*;
use crate::host::EmulatedHost;
use crate::provisioning::{COLLATERAL_SECONDS, DevelopmentRoot};
use heirloom_launcher::report::LaunchMode;

const FOUNDED: Time = Time(1_700_000_000);
const NOW: Time = Time(1_780_000_000);

struct World {
    root: DevelopmentRoot,
    host: EmulatedHost,
}

fn world() -> World {
    let root = DevelopmentRoot::from_seed(&[1; 32], FOUNDED);
    let host = EmulatedHost::from_seed(&root, &[2; 32]);
    World { root, host }
}

fn secs(mode: LaunchMode) -> Secs {
    Secs {
        measurement: MrEnclave::new([0xaa; 32]),
        signer: MrSigner::new([0xbb; 32]),
        product_id: 7,
        isv_svn: 3,
        attributes: mode.attributes(),
        misc_select: 0,
    }
}

fn quote(host: &EmulatedHost, mode: LaunchMode) -> Vec<u8> {
    let enclave = host.launch(secs(mode), Box::new(|bytes| bytes.fill(0)));
    let evidence = enclave.evidence(&ReportData::new([0xcc; 64])).unwrap();
    let Evidence::SgxDcap(quote) = evidence else { panic!("it is of the kind SGX") };
    quote
}

fn verifier(root: &DevelopmentRoot) -> QuoteVerifier {
    let TrustAnchor::SgxDcap(certificate) = root.anchor() else { panic!("it is of the kind SGX") };
    QuoteVerifier::new(certificate)
}

fn collateral(given: DcapCollateral) -> QuoteCollateralV3 {
    QuoteCollateralV3 {
        pck_crl_issuer_chain: given.pck_crl_issuer_chain,
        root_ca_crl: given.root_ca_crl,
        pck_crl: given.pck_crl,
        tcb_info_issuer_chain: given.tcb_info_issuer_chain,
        tcb_info: given.tcb_info,
        tcb_info_signature: given.tcb_info_signature,
        qe_identity_issuer_chain: given.qe_identity_issuer_chain,
        qe_identity: given.qe_identity,
        qe_identity_signature: given.qe_identity_signature,
        pck_certificate_chain: None,
    }
}

fn current(root: &DevelopmentRoot) -> QuoteCollateralV3 {
    collateral(root.collateral(NOW, COLLATERAL_SECONDS))
}

#[test]
fn a_quote_verifies_under_the_development_root_and_the_strictest_policy() {
    let World { root, host } = world();
    let quote = quote(&host, LaunchMode::Production);
    let policy = QuotePolicy::strict(NOW.0).accepted_sgx_types(&[0]);
    let claims =
        verifier(&root).verify_with_policy(&quote, current(&root), NOW.0, &policy).unwrap();
    assert_eq!(claims.tcb.status, TcbStatus::UpToDate);
    let ppid: [u8; 16] = claims.platform.pck.ppid.clone().try_into().unwrap();
    assert_eq!(PlatformId::of_ppid(&ppid), host.platform());
    let report = claims.report.as_sgx().unwrap();
    assert_eq!(report.mr_enclave, [0xaa; 32]);
    assert_eq!(report.mr_signer, [0xbb; 32]);
    assert_eq!((report.isv_prod_id, report.isv_svn), (7, 3));
    assert_eq!(report.report_data, [0xcc; 64]);
    assert_eq!(report.cpu_svn, *host.cpu_svn().as_bytes());
}

#[test]
fn the_same_world_makes_the_same_bytes() {
    let (one, other) = (world(), world());
    assert_eq!(one.root.anchor(), other.root.anchor());
    assert_eq!(
        quote(&one.host, LaunchMode::Production),
        quote(&other.host, LaunchMode::Production)
    );
    assert_eq!(
        one.root.collateral(NOW, COLLATERAL_SECONDS),
        other.root.collateral(NOW, COLLATERAL_SECONDS)
    );
    let another = EmulatedHost::from_seed(&one.root, &[3; 32]);
    assert_ne!(another.platform(), one.host.platform());
}

#[test]
fn every_signed_byte_counts() {
    let World { root, host } = world();
    let (verifier, collateral) = (verifier(&root), current(&root));
    let quote = quote(&host, LaunchMode::Production);
    for at in 0..HEADER_BYTES + heirloom_launcher::report::REPORT_BODY_BYTES {
        let mut changed = quote.clone();
        changed[at] ^= 1;
        assert!(verifier.verify(&changed, &collateral, NOW.0).is_err(), "byte {at}");
    }
    // Attestation signature, attestation key, QE report, its signature, authentication data.
    let start = HEADER_BYTES + heirloom_launcher::report::REPORT_BODY_BYTES + 4;
    for at in (start..start + 64 + 64 + 384 + 64 + 2 + 32).step_by(7) {
        let mut changed = quote.clone();
        changed[at] ^= 1;
        assert!(verifier.verify(&changed, &collateral, NOW.0).is_err(), "byte {at}");
    }
}

#[test]
fn other_roots_refuse() {
    let World { root, host } = world();
    let quote = quote(&host, LaunchMode::Production);
    let collateral = current(&root);
    assert!(QuoteVerifier::new_prod().verify(&quote, &collateral, NOW.0).is_err(), "Intel's");
    let other = DevelopmentRoot::from_seed(&[9; 32], FOUNDED);
    assert!(verifier(&other).verify(&quote, &collateral, NOW.0).is_err(), "another development");
    assert!(verifier(&other).verify(&quote, &current(&other), NOW.0).is_err(), "its collateral");
    assert!(verifier(&root).verify(&quote, &collateral, NOW.0).is_ok());
}

#[test]
fn a_debug_enclave_is_refused() {
    let World { root, host } = world();
    let quote = quote(&host, LaunchMode::Debug);
    assert!(verifier(&root).verify(&quote, &current(&root), NOW.0).is_err());
    assert!(verifier(&root).allow_debug(true).verify(&quote, &current(&root), NOW.0).is_ok());
}

#[test]
fn a_revoked_machine_is_refused_and_the_others_are_not() {
    let World { mut root, host } = world();
    let other = EmulatedHost::from_seed(&root, &[3; 32]);
    root.revoke(root.certify(&host.pck_request()).serial, NOW).unwrap();
    let collateral = current(&root);
    let verify =
        |host| verifier(&root).verify(&quote(host, LaunchMode::Production), &collateral, NOW.0);
    assert!(verify(&host).is_err());
    assert!(verify(&other).is_ok());
}

#[test]
fn collateral_is_good_in_its_window_only() {
    let World { root, host } = world();
    let quote = quote(&host, LaunchMode::Production);
    let collateral = current(&root);
    let verify = |now: u64| verifier(&root).verify(&quote, &collateral, now);
    assert!(verify(NOW.0).is_ok());
    assert!(verify(NOW.0 + COLLATERAL_SECONDS - 1).is_ok());
    assert!(verify(NOW.0 + COLLATERAL_SECONDS + 1).is_err());
    assert!(verify(NOW.0 - 1).is_err());
}

#[test]
fn each_part_of_the_collateral_is_checked() {
    let World { root, host } = world();
    let quote = quote(&host, LaunchMode::Production);
    let changes: [fn(&mut QuoteCollateralV3); 6] = [
        |collateral| collateral.tcb_info = collateral.tcb_info.replace("\"SGX\"", "\"SGY\""),
        |collateral| collateral.tcb_info_signature[5] ^= 1,
        |collateral| collateral.qe_identity = collateral.qe_identity.replace(":1,", ":2,"),
        |collateral| collateral.qe_identity_signature[5] ^= 1,
        |collateral| *collateral.root_ca_crl.last_mut().unwrap() ^= 1,
        |collateral| *collateral.pck_crl.last_mut().unwrap() ^= 1,
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut collateral = current(&root);
        change(&mut collateral);
        assert!(verifier(&root).verify(&quote, &collateral, NOW.0).is_err(), "change {at}");
    }
}

#[test]
fn a_tcb_recovery_makes_machines_out_of_date_until_they_are_updated_and_certified_again() {
    let World { mut root, host } = world();
    let status = |root: &DevelopmentRoot, host: &EmulatedHost| {
        let quote = quote(host, LaunchMode::Production);
        verifier(root).verify(&quote, &current(root), NOW.0).unwrap().status
    };
    let required = crate::cpu::next_cpu_svn(&host.cpu_svn()).unwrap();
    root.require(required, Time(NOW.0 - 100)).unwrap();
    assert_eq!(status(&root, &host), "OutOfDate");
    assert_eq!(host.update_microcode(), Ok(required));
    assert_eq!(status(&root, &host), "OutOfDate", "the certificate still says less");
    host.certify_again(&root);
    assert_eq!(status(&root, &host), "UpToDate");
}

#[test]
fn the_quoting_enclave_quotes_its_own_cpus_reports_only() {
    let World { root, host } = world();
    let other = EmulatedHost::from_seed(&root, &[3; 32]);
    let cpu = |seed| Cpu::new(crate::cpu::FuseKeys::from_seed(&[seed; 32]), host.cpu_svn());
    let (own, foreign) = (cpu(2), cpu(3));
    let quoting = QuotingEnclave::new(&own, &root.certify(&host.pck_request()));
    let target = quoting.target_info();
    let report = own.report(&secs(LaunchMode::Production), &target, &ReportData::new([0; 64]));
    assert!(quoting.quote(&own, &report).is_ok());
    let stolen = foreign.report(&secs(LaunchMode::Production), &target, &ReportData::new([0; 64]));
    assert_eq!(quoting.quote(&own, &stolen), Err(ForeignReport));
    assert_ne!(other.platform(), host.platform());
}

#[test]
fn certificates_say_what_they_are() {
    let TrustAnchor::SgxDcap(certificate) = world().root.anchor() else {
        panic!("it is of the kind SGX")
    };
    let text = b"Heirloom development root, not for production";
    assert!(certificate.windows(text.len()).any(|window| window == text));
}
