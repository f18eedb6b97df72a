//! The certificate of the key that signs reports (AMD 57230, "Versioned Chip Endorsement Key
//! Certificate and KDS Interface Specification").

use heirloom_model::appraisal::{SnpGeneration, VekKind};
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Certificate, TrustAnchor};
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, OctetStringRef};
use x509_cert::name::RelativeDistinguishedName;

use super::error::SnpError;
use super::report::Tcb;
use crate::chain::{self, Profile, VerifiedChain};

/// The key's certificate and its issuer's, and what a tool may have put after them.
const CERTIFICATES_MAX: usize = 4;
/// The provider's name in the certificate of its key.
const PROVIDER_BYTES_MAX: usize = 256;

/// Extensions under AMD's arc.
mod oid {
    use x509_cert::der::asn1::ObjectIdentifier;

    pub(super) const PRODUCT: ObjectIdentifier = amd("1.3.6.1.4.1.3704.1.2");
    pub(super) const BOOTLOADER: ObjectIdentifier = amd("1.3.6.1.4.1.3704.1.3.1");
    pub(super) const TEE: ObjectIdentifier = amd("1.3.6.1.4.1.3704.1.3.2");
    pub(super) const SNP: ObjectIdentifier = amd("1.3.6.1.4.1.3704.1.3.3");
    pub(super) const MICROCODE: ObjectIdentifier = amd("1.3.6.1.4.1.3704.1.3.8");
    pub(super) const FMC: ObjectIdentifier = amd("1.3.6.1.4.1.3704.1.3.9");
    pub(super) const HARDWARE: ObjectIdentifier = amd("1.3.6.1.4.1.3704.1.4");
    pub(super) const PROVIDER: ObjectIdentifier = amd("1.3.6.1.4.1.3704.1.5");
    /// `id-at-commonName`.
    pub(super) const COMMON_NAME: ObjectIdentifier = amd("2.5.4.3");
    /// `id-ecPublicKey`.
    pub(super) const EC_PUBLIC_KEY: ObjectIdentifier = amd("1.2.840.10045.2.1");
    /// `secp384r1`.
    pub(super) const P384: ObjectIdentifier = amd("1.3.132.0.34");

    const fn amd(text: &str) -> ObjectIdentifier {
        ObjectIdentifier::new_unwrap(text)
    }
}

/// A key that signs reports, with a verified certificate.
///
/// Only [`verify_vek`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedVek {
    chain: VerifiedChain,
    kind: VekKind,
    generation: SnpGeneration,
    tcb: Tcb,
    hardware: Option<[u8; 64]>,
    provider: Option<String>,
}

/// Verifies the certificate of a report's key: the first of these, issued by the second.
///
/// Only the trust anchors for SEV-SNP count. `revoked` is AMD's list for the generation.
pub fn verify_vek(
    anchors: &[TrustAnchor],
    certificates: &[Certificate],
    now: Time,
) -> Result<VerifiedVek, SnpError> {
    if certificates.len() > CERTIFICATES_MAX {
        let found = certificates.len();
        return Err(SnpError::TooManyCertificates { found, limit: CERTIFICATES_MAX });
    }
    let (leaf, issuers) = certificates.split_first().ok_or(SnpError::MissingCertificate)?;
    let issuers: Vec<&[u8]> = issuers.iter().map(|certificate| &certificate.0[..]).collect();
    let roots: Vec<&[u8]> = anchors
        .iter()
        .filter(|anchor| matches!(anchor, TrustAnchor::Snp(_)))
        .map(TrustAnchor::certificate)
        .collect();
    let chain = chain::verify(Profile::Amd, &roots, &leaf.0, &issuers, now)
        .map_err(|error| SnpError::Chain { error })?;
    VerifiedVek::of(chain)
}

impl VerifiedVek {
    /// The path of its certificate.
    pub fn chain(&self) -> &VerifiedChain {
        &self.chain
    }

    /// Whose key it is.
    pub fn kind(&self) -> VekKind {
        self.kind
    }

    /// For which generation.
    pub fn generation(&self) -> SnpGeneration {
        self.generation
    }

    /// For which firmware.
    pub fn tcb(&self) -> Tcb {
        self.tcb
    }

    /// For which chip, as reports spell it.
    pub(super) fn hardware(&self) -> Option<[u8; 64]> {
        self.hardware
    }

    /// For which cloud provider.
    pub(super) fn provider(&self) -> Option<&str> {
        self.provider.as_deref()
    }

    /// The point on P-384.
    pub(super) fn key(&self) -> &[u8] {
        self.chain.public_key()
    }

    /// Reads what a certificate says about its key.
    fn of(chain: VerifiedChain) -> Result<Self, SnpError> {
        let parsed = x509_cert::Certificate::from_der(chain.leaf())
            .map_err(|_| malformed("not a certificate"))?;
        let certificate = Extensions { certificate: &parsed };
        let product = certificate.product()?;
        let generation = generation(&product)?;
        let hardware = certificate.hardware(generation)?;
        let provider = certificate.provider()?;
        // The common name and the extensions must say the same: a comparison with the wrong name
        // once left the chip unchecked in another verifier.
        let kind = match (certificate.common_name()?.as_str(), &hardware, &provider) {
            ("SEV-VCEK", Some(_), None) => VekKind::Vcek,
            ("SEV-VLEK", None, Some(_)) => VekKind::Vlek,
            _ => return Err(malformed("neither the key of a chip nor one of a provider")),
        };
        let tcb = certificate.tcb(generation)?;
        certificate.key_is_p384()?;
        Ok(Self { chain, kind, generation, tcb, hardware, provider })
    }
}

/// A product's name, with or without its stepping (`Milan-B0`).
fn generation(product: &str) -> Result<SnpGeneration, SnpError> {
    match product.split_once('-').map_or(product, |(name, _)| name) {
        "Milan" => Ok(SnpGeneration::Milan),
        "Genoa" => Ok(SnpGeneration::Genoa),
        "Turin" => Ok(SnpGeneration::Turin),
        _ => Err(SnpError::UnknownProduct { found: product.to_owned() }),
    }
}

/// What a certificate says.
struct Extensions<'a> {
    certificate: &'a x509_cert::Certificate,
}

impl<'a> Extensions<'a> {
    /// The value of an extension that occurs at most once.
    fn find(&self, oid: ObjectIdentifier) -> Result<Option<&'a [u8]>, SnpError> {
        let all = self.certificate.tbs_certificate().extensions();
        let mut values = all.into_iter().flatten().filter(|extension| extension.extn_id == oid);
        let first = values.next().map(|extension| extension.extn_value.as_bytes());
        match values.next() {
            Some(_) => Err(malformed("an extension occurs twice")),
            None => Ok(first),
        }
    }

    fn product(&self) -> Result<String, SnpError> {
        let value = self.find(oid::PRODUCT)?.ok_or(malformed("it names no product"))?;
        let name =
            Ia5StringRef::from_der(value).map_err(|_| malformed("the product is no text"))?;
        Ok(name.as_str().to_owned())
    }

    /// Chips before Turin have 64 bytes, Turin 8; some certificates wrap them once more.
    fn hardware(&self, generation: SnpGeneration) -> Result<Option<[u8; 64]>, SnpError> {
        let Some(value) = self.find(oid::HARDWARE)? else { return Ok(None) };
        let count = match generation {
            SnpGeneration::Milan | SnpGeneration::Genoa => 64,
            SnpGeneration::Turin => 8,
        };
        let bare = match <&OctetStringRef>::from_der(value) {
            Ok(inner) if value.len() != count => inner.as_bytes(),
            _ => value,
        };
        if bare.len() != count {
            return Err(malformed("the number of the chip has another length"));
        }
        let mut chip = [0; 64];
        chip.iter_mut().zip(bare).for_each(|(to, from)| *to = *from);
        Ok(Some(chip))
    }

    fn provider(&self) -> Result<Option<String>, SnpError> {
        let Some(value) = self.find(oid::PROVIDER)? else { return Ok(None) };
        let name =
            Ia5StringRef::from_der(value).map_err(|_| malformed("the provider is no text"))?;
        if value.len() > PROVIDER_BYTES_MAX {
            return Err(malformed("the provider's name is too long"));
        }
        Ok(Some(name.as_str().to_owned()))
    }

    fn tcb(&self, generation: SnpGeneration) -> Result<Tcb, SnpError> {
        let fmc = match generation {
            SnpGeneration::Turin => self.version(oid::FMC)?,
            SnpGeneration::Milan | SnpGeneration::Genoa => 0,
        };
        Ok(Tcb {
            fmc,
            bootloader: self.version(oid::BOOTLOADER)?,
            tee: self.version(oid::TEE)?,
            snp: self.version(oid::SNP)?,
            microcode: self.version(oid::MICROCODE)?,
        })
    }

    fn version(&self, oid: ObjectIdentifier) -> Result<u8, SnpError> {
        let value = self.find(oid)?.ok_or(malformed("a security version is missing"))?;
        u8::from_der(value).map_err(|_| malformed("a security version is no number"))
    }

    fn common_name(&self) -> Result<String, SnpError> {
        let subject = self.certificate.tbs_certificate().subject();
        let mut names = subject
            .iter_rdn()
            .flat_map(RelativeDistinguishedName::iter)
            .filter(|attribute| attribute.oid == oid::COMMON_NAME);
        let (Some(name), None) = (names.next(), names.next()) else {
            return Err(malformed("it has not one common name"));
        };
        let text = std::str::from_utf8(name.value.value());
        Ok(text.map_err(|_| malformed("the common name is no text"))?.to_owned())
    }

    fn key_is_p384(&self) -> Result<(), SnpError> {
        let algorithm = &self.certificate.tbs_certificate().subject_public_key_info().algorithm;
        let curve = algorithm.parameters.as_ref().and_then(|any| any.decode_as().ok());
        if algorithm.oid != oid::EC_PUBLIC_KEY || curve != Some(oid::P384) {
            return Err(malformed("the key is not one of P-384"));
        }
        Ok(())
    }
}

fn malformed(fault: &'static str) -> SnpError {
    SnpError::Certificate { fault }
}
