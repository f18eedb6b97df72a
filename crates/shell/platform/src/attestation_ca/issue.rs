//! Certificates and lists of an attestation CA.

use std::path::Path;
use std::time::Duration;

use heirloom_attest::tpm::{AIK_CERTIFICATE_OID, AK_IDENTITY_OID, AkIdentity};
use heirloom_launcher::files;
use heirloom_model::counter::Time;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, RevokedCertParams, SerialNumber, SignatureAlgorithm,
    date_time_ymd,
};
use zeroize::Zeroizing;

use super::record::Certified;
use super::{CertifyError, KEY};
use crate::error::PlatformdError;
use crate::root::issued_at;

/// For how long the CA is good: ten years.
const CA_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;
/// For how long a machine's certificate is good: two years.
const CERTIFICATE_SECONDS: u64 = 2 * 365 * 24 * 60 * 60;
/// For how long a list of revoked keys is good: thirty days, as those of manufacturers.
const LIST_SECONDS: u64 = 30 * 24 * 60 * 60;
/// Keys on one list: with some 40 bytes each it fits into endorsements.
const REVOKED_MAX: usize = 2_048;
/// A P-256 key in PEM has some 250 bytes.
const KEY_BYTES_MAX: usize = 4 * 1024;

/// A new CA: its key in PEM, and its certificate in DER.
pub(super) fn found(now: Time) -> Result<(Zeroizing<String>, Vec<u8>), CertifyError> {
    let key = KeyPair::generate()?;
    let certificate = ca_parameters(now).self_signed(&key)?;
    Ok((Zeroizing::new(key.serialize_pem()), certificate.der().to_vec()))
}

/// The CA in a directory. Its name and key are all that an issuer needs; its dates are in the
/// anchor.
pub(super) fn issuer(
    directory: &Path,
    now: Time,
) -> Result<Issuer<'static, KeyPair>, PlatformdError> {
    let pem = files::read_text(&directory.join(KEY), KEY_BYTES_MAX)?;
    let key = KeyPair::from_pem(&pem).map_err(CertifyError::from)?;
    Ok(Issuer::new(ca_parameters(now), key))
}

/// The certificate of an attestation key, in DER.
pub(super) fn certificate(
    issuer: &Issuer<'_, KeyPair>,
    identity: &AkIdentity,
    point: &[u8; 65],
    serial: &[u8],
    now: Time,
) -> Result<Vec<u8>, CertifyError> {
    let name = format!("Heirloom machine {}", identity.platform);
    let mut parameters = named(&name, now, CERTIFICATE_SECONDS);
    parameters.serial_number = Some(SerialNumber::from(serial.to_vec()));
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::Other(numbers(AIK_CERTIFICATE_OID))];
    let extension = CustomExtension::from_oid_content(&numbers(AK_IDENTITY_OID), identity.encode());
    parameters.custom_extensions = vec![extension];
    Ok(parameters.signed_by(&AttestationPoint(*point), issuer)?.der().to_vec())
}

/// The first second in which a certificate that is issued now does not count any more.
pub(super) fn certificate_ends(now: Time) -> Time {
    issued_at(now).after(CERTIFICATE_SECONDS).after(1)
}

/// The list of what was revoked and would still count, in DER.
pub(super) fn list(
    issuer: &Issuer<'_, KeyPair>,
    revoked: &[(Certified, Time)],
    now: Time,
) -> Result<Vec<u8>, CertifyError> {
    let date = |time: Time| date_time_ymd(1970, 1, 1) + Duration::from_secs(time.0);
    let current = revoked.iter().filter(|(certified, _)| certified.until > now);
    let revoked_certs: Vec<_> = current
        .map(|(certified, at)| RevokedCertParams {
            serial_number: SerialNumber::from(certified.serial.clone()),
            revocation_time: date(*at),
            reason_code: None,
            invalidity_date: None,
        })
        .collect();
    if revoked_certs.len() > REVOKED_MAX {
        return Err(CertifyError::TooManyRevoked { limit: REVOKED_MAX });
    }
    let parameters = CertificateRevocationListParams {
        this_update: date(now),
        next_update: date(now.after(LIST_SECONDS)),
        // Later lists have greater numbers.
        crl_number: SerialNumber::from(now.0),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(parameters.signed_by(issuer)?.der().to_vec())
}

fn ca_parameters(now: Time) -> CertificateParams {
    let mut parameters = named("Heirloom attestation CA", now, CA_SECONDS);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn named(name: &str, now: Time, seconds: u64) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let begin = Duration::from_secs(issued_at(now).0);
    parameters.not_before = date_time_ymd(1970, 1, 1) + begin;
    parameters.not_after = parameters.not_before + Duration::from_secs(seconds);
    parameters
}

fn numbers(oid: &str) -> Vec<u64> {
    oid.split('.').filter_map(|number| number.parse().ok()).collect()
}

/// An uncompressed P-256 point, which is how its key stands in a certificate.
struct AttestationPoint([u8; 65]);

impl PublicKeyData for AttestationPoint {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
