//! Public keys of a TPM in the forms in which they come.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_cert::der::asn1::{Any, BitString, ObjectIdentifier, UintRef};
use x509_cert::der::{Decode, Encode, Reader as _, SliceReader, Tag};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use super::error::TpmError;
use super::quote::{Hash, Scheme, Signature};

/// The only exponent that TPMs use (TPM 2.0 part 2, 12.2.3.5).
const EXPONENT: [u8; 3] = [1, 0, 1];
/// RSA keys of TPMs have 2048 bits at least.
const MODULUS_BYTES_MIN: usize = 256;
/// RSA keys of TPMs have 4096 bits at most.
const MODULUS_BYTES_MAX: usize = 512;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// A public key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Key {
    /// An uncompressed point on P-256.
    P256([u8; 65]),
    /// An uncompressed point on P-384.
    P384([u8; 97]),
    /// A modulus, big-endian without leading zeros; the exponent is 65537.
    Rsa(Vec<u8>),
}

impl Key {
    pub(super) fn rsa(modulus: &[u8]) -> Result<Self, TpmError> {
        let bounds = MODULUS_BYTES_MIN..=MODULUS_BYTES_MAX;
        if !bounds.contains(&modulus.len()) || modulus.first() == Some(&0) {
            return Err(malformed("an RSA key must have 2048 to 4096 bits"));
        }
        Ok(Self::Rsa(modulus.to_vec()))
    }

    /// From coordinates, which a TPM may write without leading zeros.
    pub(super) fn p256(x: &[u8], y: &[u8]) -> Result<Self, TpmError> {
        point::<65>(x, y).map(Self::P256)
    }

    /// As [`Key::p256`].
    pub(super) fn p384(x: &[u8], y: &[u8]) -> Result<Self, TpmError> {
        point::<97>(x, y).map(Self::P384)
    }

    /// From a `SubjectPublicKeyInfo`: DER.
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, TpmError> {
        let spki = SubjectPublicKeyInfoOwned::from_der(der)
            .map_err(|_| malformed("it is not a SubjectPublicKeyInfo"))?;
        let bits = spki.subject_public_key.as_bytes();
        let bits = bits.ok_or(malformed("it is not whole bytes"))?;
        let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.decode_as().ok());
        let not_a_point = |_| malformed("it is not an uncompressed point");
        match (spki.algorithm.oid, curve) {
            (RSA_ENCRYPTION, _) => Self::rsa(modulus(bits)?),
            (EC_PUBLIC_KEY, Some(PRIME256V1)) => {
                bits.try_into().map(Self::P256).map_err(not_a_point)
            }
            (EC_PUBLIC_KEY, Some(SECP384R1)) => {
                bits.try_into().map(Self::P384).map_err(not_a_point)
            }
            _ => Err(malformed("it is of an algorithm that is not supported")),
        }
    }

    /// As `SubjectPublicKeyInfo`: DER, the same bytes for the same key.
    pub(super) fn spki(&self) -> Vec<u8> {
        let curve = |oid: &ObjectIdentifier| Any::encode_from(oid);
        let (oid, parameters, bits) = match self {
            Self::P256(point) => (EC_PUBLIC_KEY, curve(&PRIME256V1), point.to_vec()),
            Self::P384(point) => (EC_PUBLIC_KEY, curve(&SECP384R1), point.to_vec()),
            Self::Rsa(modulus) => (RSA_ENCRYPTION, Any::new(Tag::Null, Vec::new()), pkcs1(modulus)),
        };
        let encoded = parameters.and_then(|parameters| {
            let algorithm = AlgorithmIdentifierOwned { oid, parameters: Some(parameters) };
            let subject_public_key = BitString::from_bytes(&bits)?;
            SubjectPublicKeyInfoOwned { algorithm, subject_public_key }.to_der()
        });
        encoded.expect("a key of bounded size has a DER form")
    }

    pub(super) fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), TpmError> {
        let algorithms: (&'static dyn VerificationAlgorithm, &[u8]) =
            match (self, signature.scheme, signature.hash) {
                (Self::P256(point), Scheme::Ecdsa, Hash::Sha256) => {
                    (&ECDSA_P256_SHA256_FIXED, point)
                }
                (Self::P384(point), Scheme::Ecdsa, Hash::Sha384) => {
                    (&ECDSA_P384_SHA384_FIXED, point)
                }
                (Self::Rsa(modulus), scheme, hash) => {
                    return rsa_verify(modulus, rsa_algorithm(scheme, hash)?, message, signature);
                }
                _ => return Err(TpmError::KeyKind),
            };
        let (algorithm, point) = algorithms;
        let scalars = signature.scalars(point.len() / 2).ok_or(TpmError::Signature)?;
        UnparsedPublicKey::new(algorithm, point)
            .verify(message, &scalars)
            .map_err(|_| TpmError::Signature)
    }
}

/// The public key of an attestation key. Nothing is known about where it lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttestationKey(pub(super) Key);

impl AttestationKey {
    /// From a `SubjectPublicKeyInfo`: DER.
    pub fn from_spki(der: &[u8]) -> Result<Self, TpmError> {
        Key::from_spki(der).map(Self)
    }

    /// From an RSA modulus with the exponent 65537.
    pub fn from_modulus(modulus: &[u8]) -> Result<Self, TpmError> {
        Key::rsa(modulus).map(Self)
    }

    /// As `SubjectPublicKeyInfo`: DER, the same bytes for the same key.
    pub fn spki(&self) -> Vec<u8> {
        self.0.spki()
    }

    /// The uncompressed point of a P-256 key, for whoever issues a certificate.
    pub fn p256_point(&self) -> Option<&[u8; 65]> {
        match &self.0 {
            Key::P256(point) => Some(point),
            Key::P384(_) | Key::Rsa(_) => None,
        }
    }
}

fn rsa_algorithm(scheme: Scheme, hash: Hash) -> Result<&'static RsaParameters, TpmError> {
    match (scheme, hash) {
        (Scheme::RsaSsa, Hash::Sha256) => Ok(&RSA_PKCS1_2048_8192_SHA256),
        (Scheme::RsaSsa, Hash::Sha384) => Ok(&RSA_PKCS1_2048_8192_SHA384),
        (Scheme::RsaPss, Hash::Sha256) => Ok(&RSA_PSS_2048_8192_SHA256),
        (Scheme::RsaPss, Hash::Sha384) => Ok(&RSA_PSS_2048_8192_SHA384),
        (Scheme::Ecdsa, _) => Err(TpmError::KeyKind),
    }
}

fn rsa_verify(
    modulus: &[u8],
    algorithm: &'static RsaParameters,
    message: &[u8],
    signature: &Signature,
) -> Result<(), TpmError> {
    let key = RsaPublicKeyComponents { n: modulus, e: EXPONENT.as_slice() };
    key.verify(algorithm, message, &signature.first).map_err(|_| TpmError::Signature)
}

/// The modulus of an `RSAPublicKey` (RFC 8017, A.1.1), whose exponent must be 65537.
fn modulus(der: &[u8]) -> Result<&[u8], TpmError> {
    let not_rsa = |_| malformed("it is not an RSAPublicKey");
    let mut reader = SliceReader::new(der).map_err(not_rsa)?;
    let (modulus, exponent) = reader
        .sequence(|reader| {
            Ok::<_, x509_cert::der::Error>((UintRef::decode(reader)?, UintRef::decode(reader)?))
        })
        .map_err(not_rsa)?;
    reader.finish().map_err(not_rsa)?;
    if exponent.as_bytes() != EXPONENT {
        return Err(malformed("the exponent is not 65537"));
    }
    Ok(modulus.as_bytes())
}

fn pkcs1(modulus: &[u8]) -> Vec<u8> {
    let numbers = [modulus, &EXPONENT].map(|number| UintRef::new(number)?.to_der());
    let [modulus, exponent] = numbers.map(|number| number.expect("a number has a DER form"));
    Any::new(Tag::Sequence, [modulus, exponent].concat())
        .and_then(|sequence| sequence.to_der())
        .expect("two numbers of bounded size have a DER form")
}

/// SEC 1 §2.3.3: an uncompressed point begins with 4.
fn point<const N: usize>(x: &[u8], y: &[u8]) -> Result<[u8; N], TpmError> {
    let width = N / 2;
    let x = padded(x, width).ok_or(malformed("a coordinate is too long"))?;
    let y = padded(y, width).ok_or(malformed("a coordinate is too long"))?;
    let bytes = [&[4], x.as_slice(), y.as_slice()].concat();
    bytes.try_into().map_err(|_| malformed("it is not a point"))
}

/// A big-endian number with leading zeros up to a width.
pub(super) fn padded(number: &[u8], width: usize) -> Option<Vec<u8>> {
    let zeros = width.checked_sub(number.len())?;
    Some([vec![0; zeros].as_slice(), number].concat())
}

fn malformed(fault: &'static str) -> TpmError {
    TpmError::Malformed { part: "public key", fault }
}
