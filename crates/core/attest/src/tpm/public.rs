//! Public areas of keys (TPM 2.0 part 2, 12.2.4), and what their attributes promise.

use std::fmt;

use heirloom_model::digest::sha256;
use heirloom_model::identifier::PlatformId;

use super::error::TpmError;
use super::key::{AttestationKey, Key};
use super::reader::Reader;

/// An RSA-4096 key with its parameters and policy.
const PUBLIC_BYTES_MAX: usize = 1024;

mod algorithm {
    pub(super) const RSA: u16 = 0x0001;
    pub(super) const AES: u16 = 0x0006;
    pub(super) const SHA256: u16 = 0x000b;
    pub(super) const NULL: u16 = 0x0010;
    pub(super) const ECDAA: u16 = 0x001a;
    pub(super) const ECC: u16 = 0x0023;
    pub(super) const CFB: u16 = 0x0043;
    pub(super) const P256: u16 = 0x0003;
    pub(super) const P384: u16 = 0x0004;
}

/// `TPMA_OBJECT` (TPM 2.0 part 2, 8.3).
mod attribute {
    pub(super) const FIXED_TPM: u32 = 1 << 1;
    pub(super) const FIXED_PARENT: u32 = 1 << 4;
    pub(super) const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    pub(super) const RESTRICTED: u32 = 1 << 16;
    pub(super) const DECRYPT: u32 = 1 << 17;
    pub(super) const SIGN: u32 = 1 << 18;
    /// Made in this TPM and never to leave it, and used for nothing but its own purpose.
    pub(super) const OF_THIS_TPM: u32 =
        FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED;
    /// A key may have these as it likes: whether it is cleared at reset, who may use and change it,
    /// and whether wrong guesses lock the TPM.
    pub(super) const FREE: u32 = (1 << 2) | (1 << 6) | (1 << 7) | (1 << 10);
}

/// Names a key by its whole public area (TPM 2.0 part 1, 16): algorithm SHA-256, then the digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Name([u8; 34]);

impl Name {
    /// The name of the object with this public area.
    pub fn of(public: &[u8]) -> Self {
        Self::new(sha256(&[public]))
    }

    /// The name with this digest.
    pub(super) fn new(digest: [u8; 32]) -> Self {
        let mut name = [0; 34];
        let bytes = algorithm::SHA256.to_be_bytes().into_iter().chain(digest);
        name.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Self(name)
    }

    /// A name that somebody wrote down.
    pub fn parse(bytes: &[u8]) -> Result<Self, TpmError> {
        let malformed = |fault| TpmError::Malformed { part: "name", fault };
        let name = <[u8; 34]>::try_from(bytes);
        let name = Self(name.map_err(|_| malformed("it must have 34 bytes"))?);
        if name.0.first_chunk() != Some(&algorithm::SHA256.to_be_bytes()) {
            return Err(malformed("it is not made with SHA-256"));
        }
        Ok(name)
    }

    /// The algorithm's number and the digest.
    pub fn as_bytes(&self) -> &[u8; 34] {
        &self.0
    }
}

/// The public area of an attestation key: it signs nothing that the TPM did not make, was made in
/// the TPM and never leaves it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AkPublic {
    key: AttestationKey,
    name: Name,
}

impl AkPublic {
    /// Takes a public area (`TPMT_PUBLIC`, without its length) apart.
    pub fn parse(public: &[u8]) -> Result<Self, TpmError> {
        let area = Area::parse(public)?;
        area.must_be("an attestation key", attribute::SIGN)?;
        // Without a scheme the caller of the TPM would choose one, and with ECDAA the signature would
        // name no key.
        match area.scheme {
            algorithm::NULL | algorithm::ECDAA => {
                Err(unsupported("attestation key's scheme", area.scheme))
            }
            _ => Ok(Self { key: AttestationKey(area.key), name: Name::of(public) }),
        }
    }

    /// The key.
    pub fn key(&self) -> &AttestationKey {
        &self.key
    }

    /// The name by which its TPM knows it.
    pub fn name(&self) -> Name {
        self.name
    }
}

/// A kind of endorsement key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EkKind {
    /// RSA.
    Rsa,
    /// P-256.
    P256,
    /// P-384.
    P384,
}

impl fmt::Display for EkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
        })
    }
}

/// The public area of an endorsement key: it decrypts credentials for its TPM and nothing else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EkPublic {
    pub(super) key: Key,
    /// Bits of the AES key that protects what the key decrypts.
    pub(super) symmetric_bits: u16,
    name: Name,
}

impl EkPublic {
    /// Takes a public area (`TPMT_PUBLIC`, without its length) apart.
    pub fn parse(public: &[u8]) -> Result<Self, TpmError> {
        let area = Area::parse(public)?;
        area.must_be("an endorsement key", attribute::DECRYPT)?;
        let Some(symmetric_bits) = area.symmetric_bits else {
            return Err(unsupported("endorsement key's symmetric cipher", algorithm::NULL));
        };
        Ok(Self { key: area.key, symmetric_bits, name: Name::of(public) })
    }

    /// Of which kind it is. A TPM has one of each.
    pub fn kind(&self) -> EkKind {
        match &self.key {
            Key::Rsa(_) => EkKind::Rsa,
            Key::P256(_) => EkKind::P256,
            Key::P384(_) => EkKind::P384,
        }
    }

    /// The machine whose TPM it is.
    pub fn platform(&self) -> PlatformId {
        PlatformId::of_endorsement_key(&self.spki())
    }

    /// As `SubjectPublicKeyInfo`: DER, the same bytes for the same key.
    pub fn spki(&self) -> Vec<u8> {
        self.key.spki()
    }

    /// The name by which its TPM knows it.
    pub fn name(&self) -> Name {
        self.name
    }
}

/// What both kinds of public area have.
struct Area {
    attributes: u32,
    symmetric_bits: Option<u16>,
    scheme: u16,
    key: Key,
}

impl Area {
    fn parse(public: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("public area", public, PUBLIC_BYTES_MAX)?;
        let kind = reader.u16()?;
        let name_algorithm = reader.u16()?;
        if name_algorithm != algorithm::SHA256 {
            return Err(unsupported("key's name", name_algorithm));
        }
        let attributes = reader.u32()?;
        let _policy = reader.sized()?;
        let symmetric_bits = symmetric(&mut reader)?;
        let scheme = scheme(&mut reader)?;
        let key = match kind {
            algorithm::ECC => point(&mut reader)?,
            algorithm::RSA => modulus(&mut reader)?,
            found => return Err(unsupported("key", found)),
        };
        reader.finish()?;
        Ok(Self { attributes, symmetric_bits, scheme, key })
    }

    /// Whether the key was made in its TPM, stays there, and has this one purpose.
    fn must_be(&self, what: &'static str, purpose: u32) -> Result<(), TpmError> {
        let demanded = attribute::OF_THIS_TPM | purpose;
        let known = demanded | attribute::FREE;
        let found = self.attributes;
        // Whatever is neither demanded nor free is refused: another purpose, being duplicated, and
        // what this release does not know.
        if found & demanded != demanded || found & !known != 0 {
            return Err(TpmError::Attributes { what, found });
        }
        Ok(())
    }
}

/// `TPMT_SYM_DEF_OBJECT`: none, or AES in CFB mode.
fn symmetric(reader: &mut Reader<'_>) -> Result<Option<u16>, TpmError> {
    match reader.u16()? {
        algorithm::NULL => Ok(None),
        algorithm::AES => {
            let bits = reader.u16()?;
            let mode = reader.u16()?;
            if mode != algorithm::CFB {
                return Err(unsupported("mode of the symmetric cipher", mode));
            }
            if bits != 128 && bits != 256 {
                return Err(reader.fault("an AES key must have 128 or 256 bits"));
            }
            Ok(Some(bits))
        }
        found => Err(unsupported("symmetric cipher", found)),
    }
}

/// `TPMT_ASYM_SCHEME`, of which only the kind matters.
fn scheme(reader: &mut Reader<'_>) -> Result<u16, TpmError> {
    let scheme = reader.u16()?;
    if scheme != algorithm::NULL {
        let _hash = reader.u16()?;
    }
    if scheme == algorithm::ECDAA {
        let _count = reader.u16()?;
    }
    Ok(scheme)
}

fn modulus(reader: &mut Reader<'_>) -> Result<Key, TpmError> {
    let bits = reader.u16()?;
    // Zero stands for 65537 (TPM 2.0 part 2, 12.2.3.5).
    let exponent = reader.u32()?;
    if exponent != 0 && exponent != 65_537 {
        return Err(reader.fault("the exponent is not 65537"));
    }
    let modulus = reader.sized()?;
    if modulus.len() * 8 != usize::from(bits) {
        return Err(reader.fault("the modulus has another length than stated"));
    }
    Key::rsa(modulus)
}

fn point(reader: &mut Reader<'_>) -> Result<Key, TpmError> {
    let curve = reader.u16()?;
    let derivation = reader.u16()?;
    if derivation != algorithm::NULL {
        return Err(unsupported("key derivation of the curve", derivation));
    }
    let (x, y) = (reader.sized()?, reader.sized()?);
    match curve {
        algorithm::P256 => Key::p256(x, y),
        algorithm::P384 => Key::p384(x, y),
        found => Err(unsupported("curve", found)),
    }
}

fn unsupported(part: &'static str, found: u16) -> TpmError {
    TpmError::UnsupportedAlgorithm { part, found }
}
