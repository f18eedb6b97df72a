//! Public areas: what a TPM says about a key, and what we ask it to make.

use std::fmt;

use crate::error::TpmError;
use crate::structure::{
    ALG_AES, ALG_CFB, ALG_ECC, ALG_ECDSA, ALG_HMAC, ALG_KEYED_HASH, ALG_NULL, ALG_RSA, ALG_SHA256,
    CURVE_P256, Name,
};
use crate::wire::{Reader, Writer};

/// A point of P-256 by its coordinates. It may not be on the curve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Point {
    /// The first coordinate.
    pub x: [u8; 32],
    /// The second coordinate.
    pub y: [u8; 32],
}

impl Point {
    /// From an uncompressed point (SEC 1, 2.3.3).
    pub fn from_sec1(bytes: &[u8]) -> Option<Self> {
        let [4, rest @ ..] = bytes else { return None };
        let (x, y) = rest.split_at_checked(32)?;
        Some(Self { x: x.try_into().ok()?, y: y.try_into().ok()? })
    }

    /// As an uncompressed point.
    pub fn to_sec1(&self) -> [u8; 65] {
        let mut bytes = [4; 65];
        bytes[1..33].copy_from_slice(&self.x);
        bytes[33..].copy_from_slice(&self.y);
        bytes
    }
}

/// What a key can do with others, out of its public area.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PublicKey {
    /// A P-256 key.
    P256(Point),
    /// An RSA-2048 key with the exponent 65537, by its modulus.
    Rsa2048(Box<[u8; 256]>),
    /// A key for HMAC with SHA-256, which nothing shows.
    Mac,
}

/// The public area of an object (`TPMT_PUBLIC`), whose name is of SHA-256.
#[derive(Clone, Eq, PartialEq)]
pub struct PublicArea {
    bytes: Vec<u8>,
    attributes: u32,
    policy: Vec<u8>,
    key: PublicKey,
}

impl PublicArea {
    /// Takes a public area apart. One with an algorithm that we do not use is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("a public area", bytes);
        let kind = reader.u16()?;
        reader.expect_u16(ALG_SHA256, "its name is not of SHA-256")?;
        let attributes = reader.u32()?;
        let policy = reader.sized()?.to_vec();
        let key = match kind {
            ALG_ECC => ecc_key(&mut reader)?,
            ALG_RSA => rsa_key(&mut reader)?,
            ALG_KEYED_HASH => {
                reader
                    .expect_u16(ALG_HMAC, "it is sealed data, which somebody knew, and no key")?;
                reader.expect_u16(ALG_SHA256, "it is for HMAC with another digest")?;
                reader.sized_array::<32>()?;
                PublicKey::Mac
            }
            _ => return Err(reader.corrupt("it is of an unknown kind")),
        };
        reader.end()?;
        Ok(Self { bytes: bytes.to_vec(), attributes, policy, key })
    }

    /// The name of the object.
    pub fn name(&self) -> Name {
        Name::of(&self.bytes)
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The digest of the policy under which the object can be used. Empty if there is none.
    pub fn policy(&self) -> &[u8] {
        &self.policy
    }

    /// As it is sent, without its length.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether everything but the key itself is as a template asks.
    pub(crate) fn is_made_from(&self, template: &Template) -> bool {
        let head = template.head();
        self.bytes.starts_with(head.as_slice())
            && matches!(
                (&self.key, template.unique),
                (PublicKey::P256(_), Unique::Point)
                    | (PublicKey::Rsa2048(_), Unique::Modulus)
                    | (PublicKey::Mac, Unique::Digest)
            )
    }
}

impl fmt::Debug for PublicArea {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PublicArea").field("key", &self.key).finish_non_exhaustive()
    }
}

fn ecc_key(reader: &mut Reader<'_>) -> Result<PublicKey, TpmError> {
    symmetric(reader)?;
    match reader.u16()? {
        ALG_NULL => {}
        ALG_ECDSA => reader.expect_u16(ALG_SHA256, "it signs with another digest")?,
        _ => return Err(reader.corrupt("it signs in an unknown way")),
    }
    reader.expect_u16(CURVE_P256, "it is on another curve")?;
    reader.expect_u16(ALG_NULL, "it has a key derivation of its own")?;
    Ok(PublicKey::P256(Point { x: reader.sized_array()?, y: reader.sized_array()? }))
}

fn rsa_key(reader: &mut Reader<'_>) -> Result<PublicKey, TpmError> {
    symmetric(reader)?;
    reader.expect_u16(ALG_NULL, "it has a scheme of its own")?;
    reader.expect_u16(2048, "it is not of 2048 bits")?;
    // Zero stands for 65537.
    if !matches!(reader.u32()?, 0 | 65537) {
        return Err(reader.corrupt("its exponent is not 65537"));
    }
    Ok(PublicKey::Rsa2048(Box::new(reader.sized_array()?)))
}

/// Parents have AES-128 in CFB mode, others nothing.
fn symmetric(reader: &mut Reader<'_>) -> Result<(), TpmError> {
    match reader.u16()? {
        ALG_NULL => Ok(()),
        ALG_AES => {
            reader.expect_u16(128, "it protects with another key size")?;
            reader.expect_u16(ALG_CFB, "it protects in another mode")
        }
        _ => Err(reader.corrupt("it protects in an unknown way")),
    }
}

/// What a TPM is asked to make.
pub(crate) struct Template {
    kind: u16,
    attributes: u32,
    policy: Vec<u8>,
    parameters: &'static [u16],
    unique: Unique,
}

/// The last part of a public area, which the TPM fills.
#[derive(Clone, Copy)]
enum Unique {
    Digest,
    Modulus,
    Point,
}

impl Template {
    /// The root of our own objects: TCG's storage root on P-256, without dictionary attacks.
    pub(crate) fn storage_root() -> Self {
        let attributes = FIXED | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | RESTRICTED;
        Self {
            kind: ALG_ECC,
            attributes: attributes | DECRYPT,
            policy: Vec::new(),
            parameters: &[ALG_AES, 128, ALG_CFB, ALG_NULL, CURVE_P256, ALG_NULL],
            unique: Unique::Point,
        }
    }

    /// A key that signs nothing but what the TPM made itself.
    pub(crate) fn attestation_key() -> Self {
        let attributes = FIXED | SENSITIVE_DATA_ORIGIN | USER_WITH_AUTH | NO_DA | RESTRICTED;
        Self {
            kind: ALG_ECC,
            attributes: attributes | SIGN,
            policy: Vec::new(),
            parameters: &[ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL],
            unique: Unique::Point,
        }
    }

    /// TCG EK credential profile, template L-1: the default endorsement key on RSA-2048.
    pub(crate) fn endorsement_rsa() -> Self {
        Self {
            kind: ALG_RSA,
            attributes: ENDORSEMENT,
            policy: ENDORSEMENT_POLICY.to_vec(),
            parameters: &[ALG_AES, 128, ALG_CFB, ALG_NULL, 2048, 0, 0],
            unique: Unique::Modulus,
        }
    }

    /// Template L-2: the default endorsement key on P-256.
    pub(crate) fn endorsement_p256() -> Self {
        Self {
            kind: ALG_ECC,
            attributes: ENDORSEMENT,
            policy: ENDORSEMENT_POLICY.to_vec(),
            parameters: &[ALG_AES, 128, ALG_CFB, ALG_NULL, CURVE_P256, ALG_NULL],
            unique: Unique::Point,
        }
    }

    /// A key for HMAC that the TPM makes itself, and that only a policy lets use.
    pub(crate) fn mac_key(policy: &[u8; 32]) -> Self {
        Self {
            kind: ALG_KEYED_HASH,
            attributes: FIXED | SENSITIVE_DATA_ORIGIN | NO_DA | SIGN,
            policy: policy.to_vec(),
            parameters: &[ALG_HMAC, ALG_SHA256],
            unique: Unique::Digest,
        }
    }

    /// A P-256 key from elsewhere whose signatures are verified.
    pub(crate) fn authority() -> Self {
        Self {
            kind: ALG_ECC,
            attributes: USER_WITH_AUTH | NO_DA | SIGN,
            policy: Vec::new(),
            parameters: &[ALG_NULL, ALG_ECDSA, ALG_SHA256, CURVE_P256, ALG_NULL],
            unique: Unique::Point,
        }
    }

    /// The public area that asks for it.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let head = self.head();
        match self.unique {
            // The profile wants zeros where the key will be.
            Unique::Modulus => head.sized(&[0; 256]),
            Unique::Point if self.attributes == ENDORSEMENT => head.sized(&[0; 32]).sized(&[0; 32]),
            Unique::Point => head.sized(&[]).sized(&[]),
            Unique::Digest => head.sized(&[]),
        }
        .to_vec()
    }

    /// The public area of this key.
    pub(crate) fn with_point(&self, point: &Point) -> PublicArea {
        let bytes = self.head().sized(&point.x).sized(&point.y).to_vec();
        PublicArea::parse(&bytes).expect("what is written here is read here")
    }

    fn head(&self) -> Writer {
        let head = Writer::new().u16(self.kind).u16(ALG_SHA256).u32(self.attributes);
        let head = head.sized(&self.policy);
        self.parameters.iter().fold(head, |head, parameter| head.u16(*parameter))
    }
}

/// Never leaves this TPM and this parent (`fixedTPM`, `fixedParent`).
const FIXED: u32 = 1 << 1 | 1 << 4;
/// The TPM made it itself.
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const ADMIN_WITH_POLICY: u32 = 1 << 7;
/// Wrong authorisations are not counted: a machine that crashes often must not lock itself out.
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;
const ENDORSEMENT: u32 = FIXED | SENSITIVE_DATA_ORIGIN | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT;
/// `PolicySecret(TPM_RH_ENDORSEMENT)` (TCG EK credential profile, B.3.3).
const ENDORSEMENT_POLICY: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24,
    0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa,
];

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: Point = Point { x: [1; 32], y: [2; 32] };

    #[test]
    fn a_public_area_is_made_from_its_template_and_from_no_other() {
        let root = Template::storage_root();
        let area = root.with_point(&POINT);
        assert!(area.is_made_from(&root));
        assert!(!area.is_made_from(&Template::attestation_key()));
        assert!(!area.is_made_from(&Template::authority()));
        assert_eq!(area.key(), &PublicKey::P256(POINT));
        assert!(area.policy().is_empty());
    }

    #[test]
    fn a_public_area_that_is_not_understood_is_refused() {
        let whole = Template::attestation_key().with_point(&POINT).as_bytes().to_vec();
        for length in 0..whole.len() {
            assert!(PublicArea::parse(&whole[..length]).is_err(), "{length} bytes");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(PublicArea::parse(&longer).is_err());
        // Kind, digest of the name, symmetric, scheme, digest of the scheme, curve, derivation.
        for at in [1, 3, 11, 13, 15, 17, 19, 21] {
            let mut other = whole.clone();
            other[at] ^= 0x02;
            assert!(PublicArea::parse(&other).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_policy_of_endorsement_keys_is_the_endorsement_hierarchy() {
        let command = crate::code::CommandCode::PolicySecret.code().to_be_bytes();
        let hierarchy = crate::structure::ENDORSEMENT.to_be_bytes();
        let first = crate::crypto::sha256(&[&[0; 32], &command, &hierarchy]);
        assert_eq!(crate::crypto::sha256(&[&first]), ENDORSEMENT_POLICY);
    }

    #[test]
    fn points_are_uncompressed() {
        assert_eq!(Point::from_sec1(&POINT.to_sec1()), Some(POINT));
        assert_eq!(Point::from_sec1(&POINT.to_sec1()[..64]), None);
        assert_eq!(Point::from_sec1(&[[2].as_slice(), &[1; 64]].concat()), None);
    }
}
