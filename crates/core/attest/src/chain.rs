//! Certificate paths at a given time (RFC 5280 §6), and for how long they hold.
//!
//! Path validation is the business of `rustls-webpki`; here is decided which algorithms and which
//! extended key usage each manufacturer's certificates may have. Time is an argument, and what
//! comes out says from when until when it holds, so that whoever remembers it needs no second
//! opinion. The trust anchor's own dates count too, which the library does not look at.

use std::time::Duration;

use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA384, UnparsedPublicKey};
use heirloom_model::counter::Time;
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
    TrustAnchor, UnixTime, alg_id,
};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use crate::pki::{Certificate, Window};
use crate::tpm::{AIK_CERTIFICATE, EK_CERTIFICATE};

/// Certificates between a leaf and its trust anchor: Nitro has three, everybody else one or two.
pub const INTERMEDIATES_MAX: usize = 8;

/// Whose certificates a path is made of: which algorithms sign them, and what they may be for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// AMD's: RSASSA-PSS with SHA-384 only.
    Amd,
    /// The attestation CA of a network, for attestation keys of TPMs.
    AttestationKey,
    /// Manufacturers of TPMs, for endorsement keys.
    EndorsementKey,
    /// AWS Nitro's: ECDSA with P-384 and SHA-384 only.
    Nitro,
}

/// A leaf certificate with an unbroken path to a trust anchor at the time it was asked for.
///
/// Only [`verify`] makes one.
///
/// ```compile_fail
/// let forged = heirloom_attest::chain::VerifiedChain {};
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedChain {
    leaf: Vec<u8>,
    anchor: Vec<u8>,
    public_key: Vec<u8>,
    window: Window,
}

/// Why certificates make no path.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChainError {
    /// A certificate cannot be parsed.
    #[error("a certificate is malformed: {fault}")]
    Malformed {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// More certificates than any manufacturer needs.
    #[error("there are more than {limit} certificates between leaf and trust anchor")]
    TooLong {
        /// How many are looked at.
        limit: usize,
    },
    /// A certificate is not valid any more.
    #[error("a certificate expired at {until}")]
    Expired {
        /// The first second in which it was not.
        until: Time,
    },
    /// A certificate is not valid yet.
    #[error("a certificate is not valid before {since}")]
    NotYetValid {
        /// From when on it is.
        since: Time,
    },
    /// The path does not end in a trust anchor.
    #[error("the certificates do not end in a trust anchor")]
    UnknownAnchor,
    /// A certificate is not signed by whom it names.
    #[error("the signature of a certificate does not verify")]
    Signature,
    /// A certificate is signed in a way that its manufacturer does not use.
    #[error("a certificate is signed by an algorithm that is not accepted")]
    Algorithm,
    /// A certificate is for something else.
    #[error("a certificate is not for this purpose")]
    Purpose,
    /// Another rule of RFC 5280 is broken.
    #[error("the certificates make no valid path: {detail}")]
    Refused {
        /// Which, as the library names it.
        detail: String,
    },
}

impl ChainError {
    /// Its stable code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed-certificate",
            Self::TooLong { .. } => "chain-too-long",
            Self::Expired { .. } => "certificate-expired",
            Self::NotYetValid { .. } => "certificate-not-yet-valid",
            Self::UnknownAnchor => "unknown-anchor",
            Self::Signature => "certificate-signature",
            Self::Algorithm => "certificate-algorithm",
            Self::Purpose => "certificate-purpose",
            Self::Refused { .. } => "certificate-refused",
        }
    }
}

/// Verifies the path from a leaf over intermediates, in any order, to one of the trust anchors.
///
/// All certificates are DER. Whether one was revoked is asked elsewhere: it can change while a path
/// holds.
pub fn verify(
    profile: Profile,
    anchors: &[&[u8]],
    leaf: &[u8],
    intermediates: &[&[u8]],
    now: Time,
) -> Result<VerifiedChain, ChainError> {
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(ChainError::TooLong { limit: INTERMEDIATES_MAX });
    }
    let malformed = |fault| ChainError::Malformed { fault };
    let anchor_ders: Vec<_> = anchors.iter().map(|der| CertificateDer::from(*der)).collect();
    let trusted = anchor_ders
        .iter()
        .map(webpki::anchor_from_trusted_cert)
        .collect::<Result<Vec<TrustAnchor<'_>>, _>>()
        .map_err(|_| malformed("a trust anchor is not a certificate"))?;
    let leaf_der = CertificateDer::from(leaf);
    let end = EndEntityCert::try_from(&leaf_der).map_err(named)?;
    let between: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(*der)).collect();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(now.0));
    let path = end
        .verify_for_usage(
            profile.algorithms(),
            &trusted,
            &between,
            time,
            profile.usage(),
            None,
            None,
        )
        .map_err(named)?;
    let issuers = Issuers::of(&path, &trusted, anchors)?;
    let leaf = Certificate::parse(leaf).map_err(malformed)?;
    let window = issuers.certificates.iter().fold(leaf.window, |all, one| all.and(one.window));
    holds(window, now)?;
    let anchor = issuers.anchor().to_vec();
    let public_key = leaf.public_key().to_vec();
    Ok(VerifiedChain { leaf: leaf.der, anchor, public_key, window })
}

impl VerifiedChain {
    /// The leaf: DER.
    pub fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// The trust anchor in which the path ends: DER.
    pub fn anchor(&self) -> &[u8] {
        &self.anchor
    }

    /// The leaf's public key, without its algorithm.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The first second in which the whole path is valid.
    pub fn since(&self) -> Time {
        self.window.since
    }

    /// The first second after it.
    pub fn until(&self) -> Time {
        self.window.until
    }

    /// Whether the path is valid at another time too.
    pub fn holds_at(&self, now: Time) -> Result<(), ChainError> {
        holds(self.window, now)
    }
}

/// Whether a certificate is signed by its own key, by an algorithm of the profile.
pub(crate) fn is_self_signed(profile: Profile, der: &[u8]) -> Result<bool, &'static str> {
    let certificate = Certificate::parse(der)?;
    let whole = CertificateDer::from(der);
    let own = EndEntityCert::try_from(&whole).map_err(|_| "not a certificate")?;
    let (algorithm, signed) = certificate.signed_part().ok_or("not a certificate")?;
    let made = |known: &&dyn SignatureVerificationAlgorithm| {
        known.signature_alg_id().as_ref() == algorithm
            && own.verify_signature(*known, signed, certificate.signature()).is_ok()
    };
    Ok(certificate.subject == certificate.issuer && profile.algorithms().iter().any(made))
}

impl Profile {
    fn algorithms(self) -> &'static [&'static dyn SignatureVerificationAlgorithm] {
        match self {
            Self::Amd => AMD_ALGORITHMS,
            Self::AttestationKey | Self::EndorsementKey => TPM_ALGORITHMS,
            Self::Nitro => NITRO_ALGORITHMS,
        }
    }

    /// Whoever restricts a certificate's usage must mean ours. That there is a restriction where
    /// one is due is checked with the leaf: here it would be demanded of issuers too.
    fn usage(self) -> KeyUsage {
        match self {
            Self::Amd | Self::Nitro => KeyUsage::client_auth(),
            Self::AttestationKey => KeyUsage::required_if_present(AIK_CERTIFICATE.as_bytes()),
            Self::EndorsementKey => KeyUsage::required_if_present(EK_CERTIFICATE.as_bytes()),
        }
    }
}

/// The certificates above a leaf: intermediates in order, then the trust anchor.
struct Issuers {
    certificates: Vec<Certificate>,
}

impl Issuers {
    fn of(
        path: &VerifiedPath<'_>,
        trusted: &[TrustAnchor<'_>],
        anchors: &[&[u8]],
    ) -> Result<Self, ChainError> {
        let used = |anchor: &TrustAnchor<'_>| anchor == path.anchor();
        let anchor = trusted.iter().zip(anchors).find(|(anchor, _)| used(anchor));
        let (_, anchor) = anchor.ok_or(ChainError::UnknownAnchor)?;
        let between: Vec<_> = path.intermediate_certificates().map(webpki::Cert::der).collect();
        let ders = between.iter().map(AsRef::as_ref).chain([*anchor]);
        let certificates = ders
            .map(Certificate::parse)
            .collect::<Result<_, _>>()
            .map_err(|fault| ChainError::Malformed { fault })?;
        Ok(Self { certificates })
    }

    fn anchor(&self) -> &[u8] {
        self.certificates.last().map_or(&[], |certificate| &certificate.der)
    }
}

fn holds(window: Window, now: Time) -> Result<(), ChainError> {
    if now < window.since {
        return Err(ChainError::NotYetValid { since: window.since });
    }
    if now >= window.until {
        return Err(ChainError::Expired { until: window.until });
    }
    Ok(())
}

/// The name of a refusal.
fn named(error: webpki::Error) -> ChainError {
    use webpki::Error;
    match error {
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => {
            ChainError::Malformed { fault: "not DER" }
        }
        // `notAfter` is the last second (RFC 5280 §4.1.2.5).
        Error::CertExpired { not_after, .. } => {
            ChainError::Expired { until: Time(not_after.as_secs()).after(1) }
        }
        Error::CertNotValidYet { not_before, .. } => {
            ChainError::NotYetValid { since: Time(not_before.as_secs()) }
        }
        Error::UnknownIssuer => ChainError::UnknownAnchor,
        Error::InvalidSignatureForPublicKey => ChainError::Signature,
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | Error::SignatureAlgorithmMismatch => ChainError::Algorithm,
        Error::RequiredEkuNotFoundContext(_) | Error::CaUsedAsEndEntity => ChainError::Purpose,
        other => ChainError::Refused { detail: format!("{other:?}") },
    }
}

/// AMD spells out the trailer field in the parameters of most signatures, which is its default
/// and so should be absent (RFC 4055 §3.1), and leaves it out in others.
static AMD_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] =
    &[&PssSha384WithTrailer, webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY];

static NITRO_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] =
    &[webpki::aws_lc_rs::ECDSA_P384_SHA384];

static TPM_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P256_SHA384,
    webpki::aws_lc_rs::ECDSA_P384_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::ECDSA_P521_SHA512,
    webpki::aws_lc_rs::ED25519,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
];

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384, 48 bytes of salt, and the trailer field 1.
#[derive(Debug)]
struct PssSha384WithTrailer;

impl SignatureVerificationAlgorithm for PssSha384WithTrailer {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA384, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(&PSS_SHA384_WITH_TRAILER)
    }
}

/// The content of the `AlgorithmIdentifier`: `id-RSASSA-PSS` and its four parameters.
const PSS_SHA384_WITH_TRAILER: [u8; 70] = [
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39, 0xa0, 0x0f, 0x30,
    0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c,
    0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06,
    0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01,
    0x30, 0xa3, 0x03, 0x02, 0x01, 0x01,
];
