//! SIGSTRUCT: who signed an enclave, and with which versions (SDM volume 3D, 37.14 and 38.4.1.2).

use std::time::Duration;

use heirloom_model::counter::Time;
use heirloom_model::digest::sha256;
use heirloom_model::measurement::{MrEnclave, MrSigner};
use rcgen::date_time_ymd;
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};

use crate::report::{Attributes, FLAG_DEBUG, LaunchMode, Secs, put, take};
use crate::signer::EnclaveSigningKey;

/// The size of a SIGSTRUCT.
pub const SIGSTRUCT_BYTES: usize = 1808;

/// What a signer says about an enclave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SigstructContent {
    /// The code.
    pub measurement: MrEnclave,
    /// ISVPRODID.
    pub product_id: u16,
    /// ISVSVN.
    pub isv_svn: u16,
    /// Day of signing as binary coded decimal, `0xYYYYMMDD`. For people.
    pub date: u32,
}

/// Signs an enclave. Debugging is left open to whoever launches it, as Intel's tools do: the
/// attribute is in all evidence, and keepers refuse it.
pub fn sign(key: &EnclaveSigningKey, content: &SigstructContent) -> [u8; SIGSTRUCT_BYTES] {
    let attributes = LaunchMode::Production.attributes();
    let mut bytes = [0; SIGSTRUCT_BYTES];
    put(&mut bytes, HEADER, &HEADER_VALUE);
    put(&mut bytes, DATE, &content.date.to_le_bytes());
    put(&mut bytes, HEADER2, &HEADER2_VALUE);
    put(&mut bytes, MISC_MASK, &u32::MAX.to_le_bytes());
    put(&mut bytes, ATTRIBUTES, &attributes.flags.to_le_bytes());
    put(&mut bytes, ATTRIBUTES + 8, &attributes.xfrm.to_le_bytes());
    put(&mut bytes, ATTRIBUTE_MASK, &(!FLAG_DEBUG).to_le_bytes());
    put(&mut bytes, ATTRIBUTE_MASK + 8, &u64::MAX.to_le_bytes());
    put(&mut bytes, ENCLAVE_HASH, content.measurement.as_bytes());
    put(&mut bytes, PRODUCT_ID, &content.product_id.to_le_bytes());
    put(&mut bytes, ISV_SVN, &content.isv_svn.to_le_bytes());

    let signature = key.sign_digest(&signed_digest(&bytes));
    let (q1, q2) = quotients(&signature, key.modulus());
    put(&mut bytes, MODULUS, &little_endian(key.modulus()));
    put(&mut bytes, EXPONENT, &EXPONENT_VALUE.to_le_bytes());
    put(&mut bytes, SIGNATURE, &little_endian(&signature));
    put(&mut bytes, Q1, &little_endian(&q1));
    put(&mut bytes, Q2, &little_endian(&q2));
    bytes
}

/// The day of a time as SIGSTRUCT writes it.
pub fn date(time: Time) -> u32 {
    let date = date_time_ymd(1970, 1, 1) + Duration::from_secs(time.0);
    let year = u32::try_from(date.year()).unwrap_or_default();
    let decimal = [year / 100, year % 100, u8::from(date.month()).into(), date.day().into()];
    decimal.iter().fold(0, |bcd, pair| (bcd << 8) | ((pair / 10 % 10) << 4) | (pair % 10))
}

/// What a signer said, after its signature was checked. Only [`verify`] makes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VerifiedSigstruct {
    content: SigstructContent,
    signer: MrSigner,
    attributes: Attributes,
    attribute_mask: Attributes,
    misc_select: u32,
    misc_mask: u32,
}

/// Why a SIGSTRUCT is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SigstructError {
    /// It does not have 1808 bytes.
    #[error("a SIGSTRUCT has {SIGSTRUCT_BYTES} bytes, not {found}")]
    WrongSize {
        /// Bytes present.
        found: usize,
    },
    /// One of its constants is another.
    #[error("the SIGSTRUCT's {field} is not the one that the architecture defines")]
    WrongConstant {
        /// The field.
        field: &'static str,
    },
    /// Reserved bytes are set.
    #[error("the SIGSTRUCT has reserved bytes set behind ISVSVN")]
    ReservedBytesSet,
    /// The key is not an RSA-3072 key.
    #[error("the SIGSTRUCT's modulus is not that of an RSA-3072 key")]
    BadKey,
    /// The signature is not one of this key over this content.
    #[error("the SIGSTRUCT's signature does not verify")]
    BadSignature,
    /// Q1 and Q2 do not belong to signature and modulus.
    #[error("the SIGSTRUCT's quotients Q1 and Q2 do not belong to its signature")]
    BadQuotients,
    /// It signs other code (`SGX_INVALID_MEASUREMENT`).
    #[error("the SIGSTRUCT signs measurement {signed}, but the code measures to {measured}")]
    OtherMeasurement {
        /// What is signed.
        signed: MrEnclave,
        /// What was measured.
        measured: MrEnclave,
    },
    /// The enclave is launched with attributes that the signer excluded
    /// (`SGX_INVALID_ATTRIBUTE`).
    #[error("the SIGSTRUCT does not allow the attributes {found:#x}")]
    AttributesNotAllowed {
        /// FLAGS of the enclave.
        found: u64,
    },
}

/// Checks a SIGSTRUCT as EINIT does and returns what its signer said.
pub fn verify(bytes: &[u8]) -> Result<VerifiedSigstruct, SigstructError> {
    let bytes: &[u8; SIGSTRUCT_BYTES] =
        bytes.try_into().map_err(|_| SigstructError::WrongSize { found: bytes.len() })?;
    let constants: [(&'static str, usize, &[u8]); 3] = [
        ("HEADER", HEADER, &HEADER_VALUE),
        ("HEADER2", HEADER2, &HEADER2_VALUE),
        ("EXPONENT", EXPONENT, &EXPONENT_VALUE.to_le_bytes()),
    ];
    for (field, at, value) in constants {
        if bytes.get(at..).is_none_or(|tail| !tail.starts_with(value)) {
            return Err(SigstructError::WrongConstant { field });
        }
    }
    if take::<12>(bytes, RESERVED) != [0; 12] {
        return Err(SigstructError::ReservedBytesSet);
    }
    let modulus_bytes: [u8; KEY_BYTES] = take(bytes, MODULUS);
    verify_signature(bytes, &modulus_bytes)?;
    Ok(VerifiedSigstruct {
        content: SigstructContent {
            measurement: MrEnclave::new(take(bytes, ENCLAVE_HASH)),
            product_id: u16::from_le_bytes(take(bytes, PRODUCT_ID)),
            isv_svn: u16::from_le_bytes(take(bytes, ISV_SVN)),
            date: u32::from_le_bytes(take(bytes, DATE)),
        },
        signer: MrSigner::new(sha256(&[&modulus_bytes])),
        attributes: attributes_at(bytes, ATTRIBUTES),
        attribute_mask: attributes_at(bytes, ATTRIBUTE_MASK),
        misc_select: u32::from_le_bytes(take(bytes, MISC_SELECT)),
        misc_mask: u32::from_le_bytes(take(bytes, MISC_MASK)),
    })
}

impl VerifiedSigstruct {
    /// EINIT: the identity of an enclave whose pages measured to `measured`.
    pub fn launch(&self, measured: MrEnclave, mode: LaunchMode) -> Result<Secs, SigstructError> {
        let signed = self.content.measurement;
        if signed != measured {
            return Err(SigstructError::OtherMeasurement { signed, measured });
        }
        let (attributes, misc_select) = (mode.attributes(), 0);
        let mask = self.attribute_mask;
        let same = attributes.flags & mask.flags == self.attributes.flags & mask.flags
            && attributes.xfrm & mask.xfrm == self.attributes.xfrm & mask.xfrm
            && misc_select & self.misc_mask == self.misc_select & self.misc_mask;
        if !same {
            return Err(SigstructError::AttributesNotAllowed { found: attributes.flags });
        }
        Ok(Secs {
            measurement: measured,
            signer: self.signer,
            product_id: self.content.product_id,
            isv_svn: self.content.isv_svn,
            attributes,
            misc_select,
        })
    }

    /// What the signer said.
    pub fn content(&self) -> &SigstructContent {
        &self.content
    }

    /// The signer.
    pub fn signer(&self) -> MrSigner {
        self.signer
    }
}

/// Bytes of an RSA-3072 number.
pub(crate) const KEY_BYTES: usize = 384;
/// The one public exponent that SIGSTRUCT allows.
pub(crate) const EXPONENT_VALUE: u32 = 3;

const HEADER: usize = 0;
const DATE: usize = 20;
const HEADER2: usize = 24;
const MODULUS: usize = 128;
const EXPONENT: usize = 512;
const SIGNATURE: usize = 516;
const MISC_SELECT: usize = 900;
const MISC_MASK: usize = 904;
const ATTRIBUTES: usize = 928;
const ATTRIBUTE_MASK: usize = 944;
const ENCLAVE_HASH: usize = 960;
const PRODUCT_ID: usize = 1024;
const ISV_SVN: usize = 1026;
const RESERVED: usize = 1028;
const Q1: usize = 1040;
const Q2: usize = 1424;

const HEADER_VALUE: [u8; 16] = [6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
const HEADER2_VALUE: [u8; 16] = [1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0];

/// The PKCS#1 v1.5 padding of a SHA-256 digest (RFC 8017 §9.2).
pub(crate) fn padding() -> Pkcs1v15Sign {
    const DIGEST_INFO: [u8; 19] = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(DIGEST_INFO) }
}

fn verify_signature(
    bytes: &[u8; SIGSTRUCT_BYTES],
    modulus_bytes: &[u8; KEY_BYTES],
) -> Result<(), SigstructError> {
    let modulus = BigUint::from_bytes_le(modulus_bytes);
    let key = RsaPublicKey::new(modulus, BigUint::from(EXPONENT_VALUE))
        .map_err(|_| SigstructError::BadKey)?;
    if key.n().bits() != KEY_BYTES * 8 {
        return Err(SigstructError::BadKey);
    }
    let signature = BigUint::from_bytes_le(&take::<KEY_BYTES>(bytes, SIGNATURE));
    if signature >= *key.n() {
        return Err(SigstructError::BadSignature);
    }
    let mut big_endian = little_endian(&signature);
    big_endian.reverse();
    key.verify(padding(), &signed_digest(bytes), &big_endian)
        .map_err(|_| SigstructError::BadSignature)?;
    let (q1, q2) = quotients(&signature, key.n());
    let present = (take::<KEY_BYTES>(bytes, Q1), take::<KEY_BYTES>(bytes, Q2));
    if present != (little_endian(&q1), little_endian(&q2)) {
        return Err(SigstructError::BadQuotients);
    }
    Ok(())
}

/// The digest that is signed: everything but key, signature and quotients.
fn signed_digest(bytes: &[u8; SIGSTRUCT_BYTES]) -> [u8; 32] {
    sha256(&[&take::<128>(bytes, HEADER), &take::<128>(bytes, MISC_SELECT)])
}

/// Q1 and Q2, which spare the CPU two divisions: q1 = s²/n, q2 = (s³ - q1·s·n)/n.
fn quotients(signature: &BigUint, modulus: &BigUint) -> (BigUint, BigUint) {
    let square = signature * signature;
    let q1 = &square / modulus;
    let q2 = (&square * signature - &q1 * signature * modulus) / modulus;
    (q1, q2)
}

fn little_endian(number: &BigUint) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    put(&mut bytes, 0, &number.to_bytes_le());
    bytes
}

fn attributes_at(bytes: &[u8; SIGSTRUCT_BYTES], at: usize) -> Attributes {
    Attributes {
        flags: u64::from_le_bytes(take(bytes, at)),
        xfrm: u64::from_le_bytes(take(bytes, at + 8)),
    }
}

#[cfg(test)]
mod tests;
