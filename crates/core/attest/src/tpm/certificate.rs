//! Certificates of keys of a TPM: of the manufacturer for the endorsement key, and of the
//! network's attestation CA for the attestation key.

use heirloom_model::counter::Time;
use heirloom_model::evidence::{Certificate, TrustAnchor};
use heirloom_model::identifier::PlatformId;
use heirloom_model::limit::MANUFACTURERS_MAX;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage};

use super::error::TpmError;
use super::key::{AttestationKey, Key};
use super::public::{EkPublic, Name};
use crate::chain::{self, INTERMEDIATES_MAX, Profile, VerifiedChain};
use crate::pki;

/// The extension with which an attestation CA says what it has seen, below the number that is
/// reserved for examples (RFC 5612): it is read in certificates of a network's own CA only.
pub const AK_IDENTITY_OID: &str = "1.3.6.1.4.1.32473.1.1";

/// The one purpose that certificates of attestation keys have: `tcg-kp-AIKCertificate`.
pub const AIK_CERTIFICATE_OID: &str = "2.23.133.8.3";

const AK_IDENTITY: ObjectIdentifier = ObjectIdentifier::new_unwrap(AK_IDENTITY_OID);
/// `tcg-kp-EKCertificate`, which the endorsement key profile demands of certificates of keys that
/// decrypt.
pub(crate) static EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
/// `tcg-kp-AIKCertificate`.
pub(crate) static AIK_CERTIFICATE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap(AIK_CERTIFICATE_OID);
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");

/// What an attestation CA says about an attestation key: in which machine's TPM it is, and by
/// which name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AkIdentity {
    /// The machine, by its endorsement key.
    pub platform: PlatformId,
    /// The attestation key, by its whole public area.
    pub name: Name,
}

impl AkIdentity {
    /// SEQUENCE of two OCTET STRINGs, of 32 and 34 bytes, up to the first of them.
    const HEAD: [u8; 4] = [0x30, 70, 0x04, 32];
    /// What stands between them.
    const MIDDLE: [u8; 2] = [0x04, 34];

    /// The value of the extension: DER.
    pub fn encode(&self) -> Vec<u8> {
        [&Self::HEAD[..], self.platform.as_bytes(), &Self::MIDDLE, self.name.as_bytes()].concat()
    }

    /// Reads the value of the extension. There is one way to write it.
    pub fn decode(der: &[u8]) -> Result<Self, TpmError> {
        let fault = || not_an_attestation_key("its identity is malformed");
        let rest = der.strip_prefix(&Self::HEAD).ok_or_else(fault)?;
        let (platform, rest) = rest.split_first_chunk().ok_or_else(fault)?;
        let name = rest.strip_prefix(&Self::MIDDLE).ok_or_else(fault)?;
        let name = Name::parse(name).map_err(|_| fault())?;
        Ok(Self { platform: PlatformId::new(*platform), name })
    }
}

/// An attestation key that an attestation CA certified.
///
/// Only [`verify_ak_certificate`] makes one.
///
/// ```compile_fail
/// let forged = heirloom_attest::tpm::CertifiedKey {};
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertifiedKey {
    chain: VerifiedChain,
    key: AttestationKey,
    identity: AkIdentity,
}

/// Verifies the certificate of an attestation key: the first of these, the others above it.
///
/// Only the trust anchors for TPMs count.
pub fn verify_ak_certificate(
    anchors: &[TrustAnchor],
    certificates: &[Certificate],
    now: Time,
) -> Result<CertifiedKey, TpmError> {
    let roots: Vec<&[u8]> = anchors
        .iter()
        .filter(|anchor| matches!(anchor, TrustAnchor::Tpm(_)))
        .map(TrustAnchor::certificate)
        .collect();
    let chain = path(Profile::AttestationKey, &roots, certificates, now)?;
    let leaf = Leaf::parse(chain.leaf())?;
    leaf.must_be_for(AIK_CERTIFICATE)?;
    let identity = leaf.identity()?;
    let key = AttestationKey(leaf.key()?);
    Ok(CertifiedKey { chain, key, identity })
}

impl CertifiedKey {
    /// The path of its certificate.
    pub fn chain(&self) -> &VerifiedChain {
        &self.chain
    }

    /// The key.
    pub fn key(&self) -> &AttestationKey {
        &self.key
    }

    /// The machine in whose TPM it is.
    pub fn platform(&self) -> PlatformId {
        self.identity.platform
    }

    /// The name by which its TPM knows it.
    pub fn name(&self) -> Name {
        self.identity.name
    }
}

/// An endorsement key that its manufacturer certified.
///
/// Only [`verify_ek_certificate`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedEk {
    chain: VerifiedChain,
    public: EkPublic,
}

/// Manufacturers of TPMs whose word is believed: self-signed roots, and what is between them and
/// TPMs, which is believed only under a root.
///
/// Only [`Manufacturers::of`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manufacturers {
    roots: Vec<Vec<u8>>,
    between: Vec<Certificate>,
}

impl Manufacturers {
    /// Takes certificates of manufacturers, in any order.
    ///
    /// Every one must be of an authority. Those that name themselves as their issuer are roots, must
    /// have signed themselves and count now; there is one at least.
    pub fn of(certificates: &[Certificate], now: Time) -> Result<Self, TpmError> {
        let (found, limit) = (certificates.len(), MANUFACTURERS_MAX);
        if found > limit {
            return Err(TpmError::TooManyCertificates { found, limit });
        }
        let mut sorted = Self { roots: Vec::new(), between: Vec::new() };
        for (index, certificate) in certificates.iter().enumerate() {
            let malformed = |fault| TpmError::Manufacturer { index, fault };
            let der = certificate.0.as_slice();
            let parsed = pki::Certificate::parse(der).map_err(malformed)?;
            if !is_authority(der).map_err(malformed)? {
                return Err(malformed("it is not one of an authority"));
            }
            if parsed.issuer != parsed.subject {
                sorted.between.push(certificate.clone());
                continue;
            }
            if !chain::is_self_signed(Profile::EndorsementKey, der).map_err(malformed)? {
                return Err(malformed("its own key did not sign it"));
            }
            if now < parsed.window.since || now >= parsed.window.until {
                return Err(malformed("it is not valid now"));
            }
            sorted.roots.push(der.to_vec());
        }
        if sorted.roots.is_empty() {
            return Err(TpmError::NoManufacturer);
        }
        Ok(sorted)
    }
}

fn is_authority(der: &[u8]) -> Result<bool, &'static str> {
    let parsed = x509_cert::Certificate::from_der(der).map_err(|_| "it is not a certificate")?;
    let constraints = parsed.tbs_certificate().get_extension::<BasicConstraints>();
    let constraints = constraints.map_err(|_| "its basic constraints are malformed")?;
    Ok(constraints.is_some_and(|(_, constraints)| constraints.ca))
}

/// Verifies that a manufacturer certified this endorsement key, and for this purpose.
pub fn verify_ek_certificate(
    manufacturers: &Manufacturers,
    certificate: &Certificate,
    public: &EkPublic,
    now: Time,
) -> Result<VerifiedEk, TpmError> {
    let roots: Vec<&[u8]> = manufacturers.roots.iter().map(Vec::as_slice).collect();
    let between: Vec<&[u8]> = manufacturers.between.iter().map(|one| one.0.as_slice()).collect();
    let chain = chain::verify(Profile::EndorsementKey, &roots, &certificate.0, &between, now)
        .map_err(|error| TpmError::Chain { error })?;
    let leaf = Leaf::parse(chain.leaf())?;
    leaf.must_be_for(EK_CERTIFICATE)?;
    if leaf.key()? != public.key {
        return Err(TpmError::OtherKey);
    }
    Ok(VerifiedEk { chain, public: public.clone() })
}

impl VerifiedEk {
    /// The path of its certificate.
    pub fn chain(&self) -> &VerifiedChain {
        &self.chain
    }

    /// The key.
    pub fn public(&self) -> &EkPublic {
        &self.public
    }

    /// The machine in whose TPM it is.
    pub fn platform(&self) -> PlatformId {
        self.public.platform()
    }
}

fn path(
    profile: Profile,
    roots: &[&[u8]],
    certificates: &[Certificate],
    now: Time,
) -> Result<VerifiedChain, TpmError> {
    let limit = INTERMEDIATES_MAX + 1;
    if certificates.len() > limit {
        return Err(TpmError::TooManyCertificates { found: certificates.len(), limit });
    }
    let (leaf, above) = certificates.split_first().ok_or(TpmError::MissingCertificate)?;
    let above: Vec<&[u8]> = above.iter().map(|certificate| &certificate.0[..]).collect();
    chain::verify(profile, roots, &leaf.0, &above, now).map_err(|error| TpmError::Chain { error })
}

/// A certificate's own claims.
struct Leaf(x509_cert::Certificate);

impl Leaf {
    fn parse(der: &[u8]) -> Result<Self, TpmError> {
        let parsed = x509_cert::Certificate::from_der(der);
        parsed.map(Self).map_err(|_| not_an_attestation_key("it is not a certificate"))
    }

    /// Exactly one purpose, which is what separates these certificates from all others that a CA
    /// may have issued.
    fn must_be_for(&self, purpose: ObjectIdentifier) -> Result<(), TpmError> {
        let value = self.extension(EXTENDED_KEY_USAGE)?;
        let usage = value.and_then(|der| ExtendedKeyUsage::from_der(der).ok());
        if usage.is_some_and(|usage| usage.0 == [purpose]) {
            return Ok(());
        }
        Err(TpmError::Purpose)
    }

    fn identity(&self) -> Result<AkIdentity, TpmError> {
        let value = self.extension(AK_IDENTITY)?;
        AkIdentity::decode(value.ok_or(not_an_attestation_key("it names no machine"))?)
    }

    fn key(&self) -> Result<Key, TpmError> {
        let spki = self.0.tbs_certificate().subject_public_key_info().to_der();
        Key::from_spki(&spki.map_err(|_| not_an_attestation_key("its key is malformed"))?)
    }

    /// The value of an extension that occurs at most once.
    fn extension(&self, oid: ObjectIdentifier) -> Result<Option<&[u8]>, TpmError> {
        let all = self.0.tbs_certificate().extensions();
        let mut values = all.into_iter().flatten().filter(|extension| extension.extn_id == oid);
        let first = values.next().map(|extension| extension.extn_value.as_bytes());
        match values.next() {
            Some(_) => Err(not_an_attestation_key("an extension occurs twice")),
            None => Ok(first),
        }
    }
}

fn not_an_attestation_key(fault: &'static str) -> TpmError {
    TpmError::NotAnAttestationKey { fault }
}
