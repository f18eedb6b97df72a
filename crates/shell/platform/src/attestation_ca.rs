//! A network's attestation CA, in a directory: it certifies that an attestation key lives in the
//! same TPM as an endorsement key that a manufacturer certified.
//!
//! It never sees a TPM. What it is shown are files, and it believes only who opens its challenge.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use heirloom_attest::tpm::{
    AK_IDENTITY_OID, AkIdentity, AkPublic, CredentialSeed, EkPublic, Name, make_credential,
    verify_ek_certificate,
};
use heirloom_launcher::files;
use heirloom_launcher::randomness::system_randomness;
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Certificate, TrustAnchor};
use heirloom_model::identifier::PlatformId;
use heirloom_model::wire;
use heirloom_tpm::machine::enrolment::{EnrolmentAnswer, EnrolmentChallenge, EnrolmentRequest};
use heirloom_tpm::machine::state::CertificateChain;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};

use crate::error::PlatformdError;

/// Why a key is not certified.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// A key or certificate in the request is not what it should be.
    #[error("the request is refused")]
    Request(#[from] heirloom_attest::tpm::TpmError),
    /// The request names another machine than its endorsement key.
    #[error("the request says that the machine is {said}, its endorsement key says {found}")]
    OtherMachine {
        /// In the request.
        said: PlatformId,
        /// By the endorsement key.
        found: PlatformId,
    },
    /// The attestation key is of another kind than those of our machines.
    #[error("the attestation key is not of P-256")]
    KeyKind,
    /// The answer is not the secret that was asked for.
    #[error("the answer does not open the challenge: the two keys are not in one TPM")]
    WrongAnswer,
    /// Certificates could not be made.
    #[error("a certificate could not be made")]
    Issue(#[from] rcgen::Error),
}

/// For how long the CA is good: ten years.
const CA_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;
/// For how long a machine's certificate is good: two years.
const CERTIFICATE_SECONDS: u64 = 2 * 365 * 24 * 60 * 60;
/// How much earlier than now certificates begin, since not all clocks agree.
const ISSUED_EARLIER_SECONDS: u64 = 60 * 60;
const KEY: &str = "key.pem";
const ANCHOR: &str = "anchor";
/// `tcg-kp-AIKCertificate`.
const AIK_CERTIFICATE: [u64; 5] = [2, 23, 133, 8, 3];
/// A P-256 key in PEM has some 250 bytes.
const KEY_BYTES_MAX: usize = 4 * 1024;

/// Founds an attestation CA in a directory that has none.
pub fn found(directory: &Path, now: Time) -> Result<TrustAnchor, PlatformdError> {
    files::create_private_directory(directory)?;
    files::refuse_present(&directory.join(KEY))?;
    let key = KeyPair::generate().map_err(CertifyError::from)?;
    let certificate = ca_parameters(now).self_signed(&key).map_err(CertifyError::from)?;
    let anchor = TrustAnchor::Tpm(certificate.der().to_vec());
    files::replace(&directory.join(ANCHOR), &wire::encode(&anchor))?;
    files::create(&directory.join(KEY), key.serialize_pem().as_bytes())?;
    Ok(anchor)
}

/// Writes the challenge for a request, and keeps the secret that answers it.
pub fn challenge(
    directory: &Path,
    request: &EnrolmentRequest,
    manufacturers: &[Certificate],
    now: Time,
) -> Result<EnrolmentChallenge, PlatformdError> {
    let (endorsement, attestation) = verified(request, manufacturers, now)?;
    let mut secret = [0; 32];
    system_randomness()(&mut secret);
    let mut seed = [0; 32];
    system_randomness()(&mut seed);
    let seed = CredentialSeed::new(seed);
    let credential = make_credential(&endorsement, &attestation.name(), &secret, &seed)
        .map_err(CertifyError::from)?;
    // A new request of the same machine replaces what was asked before: that is worthless now.
    let path = pending(directory, &endorsement.platform(), &attestation.name());
    let expected = EnrolmentAnswer { secret: secret.to_vec() };
    files::replace(&path, &wire::encode(&expected))?;
    Ok(EnrolmentChallenge { identity: credential.id_object, seed: credential.encrypted_secret })
}

/// Certifies the attestation key of a request whose challenge was answered.
pub fn certify(
    directory: &Path,
    request: &EnrolmentRequest,
    manufacturers: &[Certificate],
    answer: &EnrolmentAnswer,
    now: Time,
) -> Result<CertificateChain, PlatformdError> {
    let (endorsement, attestation) = verified(request, manufacturers, now)?;
    let (platform, name) = (endorsement.platform(), attestation.name());
    let path = pending(directory, &platform, &name);
    let expected: EnrolmentAnswer = files::read_value(&path)?;
    verify_slices_are_equal(&expected.secret, &answer.secret)
        .map_err(|_| CertifyError::WrongAnswer)?;
    // An answer is good once: what it answered is set aside before anything is issued.
    files::rename(&path, &path.with_extension("answered"))?;
    let spki = attestation.key().spki();
    let point = spki.last_chunk::<65>().copied().filter(|_| spki.len() == P256_SPKI_BYTES);
    let key = AttestationPoint(point.ok_or(CertifyError::KeyKind)?);
    let pem = files::read_text(&directory.join(KEY), KEY_BYTES_MAX)?;
    let ca = KeyPair::from_pem(&pem).map_err(CertifyError::from)?;
    // The name and key of the CA are all that an issuer needs; its dates are in the anchor.
    let issuer = Issuer::new(ca_parameters(now), ca);
    let identity = AkIdentity { platform, name };
    let certificate =
        ak_parameters(&identity, now).signed_by(&key, &issuer).map_err(CertifyError::from)?;
    Ok(CertificateChain { certificates: vec![Certificate(certificate.der().to_vec())] })
}

/// Reads certificates of manufacturers: PEM, one or more.
pub fn read_manufacturers(path: &Path) -> Result<Vec<Certificate>, PlatformdError> {
    const BYTES_MAX: usize = 256 * 1024;
    let text = files::read_text(path, BYTES_MAX)?;
    let not_pem = || PlatformdError::NotPem { path: path.to_owned(), what: "certificates in PEM" };
    let parsed = pem::parse_many(text.as_bytes()).map_err(|_| not_pem())?;
    if parsed.is_empty() || parsed.iter().any(|one| one.tag() != "CERTIFICATE") {
        return Err(not_pem());
    }
    Ok(parsed.into_iter().map(|one| Certificate(one.into_contents())).collect())
}

/// Both keys, after the manufacturer's certificate and the attributes of both were checked.
fn verified(
    request: &EnrolmentRequest,
    manufacturers: &[Certificate],
    now: Time,
) -> Result<(EkPublic, AkPublic), CertifyError> {
    let endorsement = EkPublic::parse(&request.endorsement_key)?;
    // Self-signed ones are roots; the others may be between them and the key.
    let roots: Vec<&[u8]> = manufacturers.iter().map(|one| one.0.as_slice()).collect();
    let mut path = vec![request.endorsement_certificate.clone()];
    path.extend(manufacturers.iter().cloned());
    let verified = verify_ek_certificate(&roots, &path, &endorsement, now)?;
    if verified.platform() != request.platform {
        let (said, found) = (request.platform, verified.platform());
        return Err(CertifyError::OtherMachine { said, found });
    }
    Ok((endorsement, AkPublic::parse(&request.attestation_key)?))
}

fn pending(directory: &Path, platform: &PlatformId, name: &Name) -> PathBuf {
    let key = hex(name.as_bytes());
    directory.join(format!("pending-{platform}-{key}"))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing into a string cannot fail");
        text
    })
}

fn ca_parameters(now: Time) -> CertificateParams {
    let mut parameters = named("Heirloom attestation CA", now, CA_SECONDS);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn ak_parameters(identity: &AkIdentity, now: Time) -> CertificateParams {
    let name = format!("Heirloom machine {}", identity.platform);
    let mut parameters = named(&name, now, CERTIFICATE_SECONDS);
    let mut serial = [0; 16];
    system_randomness()(&mut serial);
    // Positive, as serial numbers are.
    serial[0] &= 0x7f;
    parameters.serial_number = Some(SerialNumber::from(serial.to_vec()));
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.use_authority_key_identifier_extension = true;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(AIK_CERTIFICATE.to_vec())];
    let oid: Vec<u64> =
        AK_IDENTITY_OID.split('.').filter_map(|number| number.parse().ok()).collect();
    parameters.custom_extensions = vec![CustomExtension::from_oid_content(&oid, identity.encode())];
    parameters
}

fn named(name: &str, now: Time, seconds: u64) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let begin = Duration::from_secs(now.0.saturating_sub(ISSUED_EARLIER_SECONDS));
    parameters.not_before = date_time_ymd(1970, 1, 1) + begin;
    parameters.not_after = parameters.not_before + Duration::from_secs(seconds);
    parameters
}

/// An uncompressed P-256 point, which is how its key stands in a certificate.
struct AttestationPoint([u8; 65]);

/// `SubjectPublicKeyInfo` of a P-256 key: the point is its end.
const P256_SPKI_BYTES: usize = 91;

impl PublicKeyData for AttestationPoint {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
