//! Certificates and revocation lists of the development PKI.

use std::time::Duration;

use heirloom_model::counter::Time;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use super::tcb::Window;
use super::{Revocation, WELL_FORMED};
use crate::ecdsa::EcdsaKey;

/// Whom a certificate is about.
#[derive(Clone, Copy)]
pub(super) enum Subject {
    /// The root itself.
    Root,
    /// The authority that certifies machines.
    PckCa,
    /// The signer of TCB info and QE identity.
    TcbSigning,
    /// One machine.
    Pck { serial: [u8; 16] },
}

/// Every certificate of the PKI, the root's included, is good for 30 years.
const CERTIFICATE_SECONDS: u64 = 30 * 365 * 24 * 60 * 60;
/// What every subject and issuer says of itself.
const ORGANIZATION: &str = "Heirloom development root, not for production";

pub(super) fn parameters(subject: Subject, founded: Time) -> CertificateParams {
    let (name, serial) = match subject {
        Subject::Root => ("Heirloom development SGX root CA, not for production", vec![1]),
        Subject::PckCa => ("Heirloom development SGX PCK Processor CA", vec![2]),
        Subject::TcbSigning => ("Heirloom development SGX TCB signing", vec![3]),
        Subject::Pck { serial } => ("Heirloom development SGX PCK certificate", serial.to_vec()),
    };
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    parameters.serial_number = Some(SerialNumber::from(serial));
    parameters.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(founded.0);
    parameters.not_after = parameters.not_before + Duration::from_secs(CERTIFICATE_SECONDS);
    parameters.use_authority_key_identifier_extension = true;
    match subject {
        Subject::Root | Subject::PckCa => {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        Subject::TcbSigning | Subject::Pck { .. } => {
            parameters.is_ca = IsCa::ExplicitNoCa;
            parameters.key_usages =
                vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
        }
    }
    parameters
}

/// A revocation list, as DER.
pub(super) fn crl(
    issuer: &Issuer<'static, EcdsaKey>,
    window: &Window,
    number: u32,
    revoked: &[Revocation],
) -> Vec<u8> {
    let date = |time: Time| date_time_ymd(1970, 1, 1) + Duration::from_secs(time.0);
    let revoked = revoked.iter().map(|one| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&one.serial.0),
        revocation_time: date(one.time),
        reason_code: None,
        invalidity_date: None,
    });
    let list = CertificateRevocationListParams {
        this_update: date(window.issued),
        next_update: date(window.next),
        crl_number: SerialNumber::from(u64::from(number)),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(issuer).expect(WELL_FORMED).der().to_vec()
}
