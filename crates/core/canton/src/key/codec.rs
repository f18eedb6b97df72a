//! Reads and writes keys and signatures.

use heirloom_model::limit::TOPOLOGY_ELEMENTS_MAX;

use crate::fingerprint::Fingerprint;
use crate::key::{
    EncryptionPublicKey, EncryptionScheme, KeyError, KeyFormat, PublicKey, Signature,
    SignatureFormat, SigningAlgorithm, SigningKeyUsage, SigningPublicKey, SigningScheme,
};
use crate::proto::{Field, ProtoError, Reader, Wire, Writer, push, read_varint, write_varint};

/// RFC 3279 §2.3.1: rsaEncryption, as X.509 has it.
const RSA_OID: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

impl SigningPublicKey {
    /// Reads a key.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let (mut format, mut key, mut old, mut new): (u32, &[u8], u32, u32) = (0, &[], 0, 0);
        let (mut stated, mut usages) = ("", Vec::new());
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                // Keys of old ledgers say their name.
                1 => stated = field.text()?,
                2 => format = field.uint32()?,
                3 => key = field.bytes()?,
                4 => old = field.uint32()?,
                5 => read_numbers(&field, &mut usages)?,
                6 => new = field.uint32()?,
                _ => return Err(field.unknown("SigningPublicKey").into()),
            }
        }
        let scheme = match (new, old) {
            (0, 0) => return Err(KeyError::NoScheme),
            // Both count alike.
            (0, number) | (number, _) => SigningScheme::from_number(number)?,
        };
        let usages = usages.into_iter().map(SigningKeyUsage::from_number);
        let usages = usages.collect::<Result<Vec<_>, _>>()?;
        let key = Self::new(scheme, KeyFormat::from_number(format)?, key, &usages)?;
        check_name(stated, key.fingerprint())?;
        Ok(key)
    }

    /// As new ledgers write it.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.varint(2, u64::from(self.format.number())).bytes(3, &self.bytes);
        write_numbers(5, self.usages.iter().map(|usage| usage.number()), &mut writer);
        writer.varint(6, u64::from(self.scheme.number()));
        writer.finish()
    }
}

impl EncryptionPublicKey {
    /// Reads a key. One of an old ledger has a number of an older list; its X.509 form says more.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let (mut format, mut key, mut scheme): (u32, &[u8], u32) = (0, &[], 0);
        let mut stated = "";
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => stated = field.text()?,
                2 => format = field.uint32()?,
                3 => key = field.bytes()?,
                4 => _ = field.uint32()?,
                5 => scheme = field.uint32()?,
                _ => return Err(field.unknown("EncryptionPublicKey").into()),
            }
        }
        let is_rsa = key.windows(RSA_OID.len()).take(32).any(|window| window == RSA_OID);
        let scheme = match scheme {
            0 if is_rsa => EncryptionScheme::Rsa2048,
            0 => EncryptionScheme::P256,
            number => EncryptionScheme::from_number(number)?,
        };
        let format = KeyFormat::from_number(format)?;
        let key = Self { scheme, format, bytes: key.to_vec() };
        check_name(stated, &key.fingerprint())?;
        Ok(key)
    }

    /// As new ledgers write it.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.varint(2, u64::from(self.format.number())).bytes(3, &self.bytes);
        writer.varint(5, u64::from(self.scheme.number()));
        writer.finish()
    }
}

impl PublicKey {
    /// Reads a key.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let mut key = None;
        for field in Reader::new(bytes) {
            let field = field?;
            key = Some(match field.number() {
                1 => Self::Signing(SigningPublicKey::decode(field.bytes()?)?),
                2 => Self::Encryption(EncryptionPublicKey::decode(field.bytes()?)?),
                _ => return Err(field.unknown("PublicKey").into()),
            });
        }
        key.ok_or(ProtoError::Missing { message: "PublicKey", field: "key" }.into())
    }

    /// As new ledgers write it.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::Signing(key) => writer.bytes(1, &key.encode()),
            Self::Encryption(key) => writer.bytes(2, &key.encode()),
        };
        writer.finish()
    }
}

impl Signature {
    /// Reads a signature. One by a delegated session key is refused: nothing of topology is signed
    /// by such a key.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let (mut format, mut signature, mut signed_by, mut algorithm): (u32, &[u8], &str, u32) =
            (0, &[], "", 0);
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => format = field.uint32()?,
                2 => signature = field.bytes()?,
                3 => signed_by = field.text()?,
                4 => algorithm = field.uint32()?,
                _ => return Err(field.unknown("Signature").into()),
            }
        }
        let algorithm = match algorithm {
            0 => None,
            number => Some(SigningAlgorithm::from_number(number)?),
        };
        Ok(Self {
            format: SignatureFormat::from_number(format)?,
            bytes: signature.to_vec(),
            signed_by: signed_by.parse()?,
            algorithm,
        })
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer
            .varint(1, u64::from(self.format.number()))
            .bytes(2, &self.bytes)
            .text(3, self.signed_by.as_str());
        if let Some(algorithm) = self.algorithm {
            writer.varint(4, u64::from(algorithm.number()));
        }
        writer.finish()
    }
}

fn check_name(stated: &str, computed: &Fingerprint) -> Result<(), KeyError> {
    if stated.is_empty() || stated == computed.as_str() {
        return Ok(());
    }
    let stated = stated.chars().take(80).collect();
    Err(KeyError::OtherName { stated, computed: computed.clone() })
}

/// Reads numbers of a repeated field, packed or not.
pub(crate) fn read_numbers(field: &Field<'_>, numbers: &mut Vec<u32>) -> Result<(), ProtoError> {
    let (what, limit) = ("numbers of a list", TOPOLOGY_ELEMENTS_MAX);
    let Wire::Bytes(mut packed) = field.wire() else {
        return push(numbers, field.uint32()?, what, limit);
    };
    while !packed.is_empty() {
        let number = read_varint(&mut packed)?;
        let number = u32::try_from(number)
            .map_err(|_| ProtoError::Number { what: "number of a list", found: number })?;
        push(numbers, number, what, limit)?;
    }
    Ok(())
}

/// Writes them packed.
pub(crate) fn write_numbers(field: u32, numbers: impl Iterator<Item = u32>, writer: &mut Writer) {
    let mut packed = Vec::new();
    for number in numbers {
        write_varint(&mut packed, u64::from(number));
    }
    writer.bytes_if_set(field, &packed);
}
