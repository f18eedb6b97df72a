//! What the tests of this crate share.

use heirloom_launcher::manifest::Manifest;
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_model::digest::NetworkId;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::identifier::DomainId;
use heirloom_model::release::ReleaseKind;

/// The key that everybody has.
pub(crate) fn test_key() -> EnclaveSigningKey {
    let pem = include_str!("../../../launcher/tests/data/enclave-signing-test-key-not-secret.pem");
    EnclaveSigningKey::from_pem(pem).unwrap()
}

/// The manifest of a test's enclave.
pub(crate) fn manifest(release: &str, security_version: u16) -> Manifest {
    Manifest {
        network: NetworkId::new([1; 32]),
        domain: Some(DomainId::new([2; 32])),
        application: None,
        release: release.parse().unwrap(),
        product_id: 7,
        security_version,
        kind: ReleaseKind::Keeper,
    }
}

/// Report data of a quote, by its offset: header of 48 bytes, then 320 into the report.
pub(crate) fn report_data(evidence: &Evidence) -> ReportData {
    let Evidence::SgxDcap(quote) = evidence else { panic!("it is of the kind SGX") };
    ReportData::new(quote[48 + 320..48 + 384].try_into().unwrap())
}
