//! Hashes with a purpose, and the builder of what is hashed.
//!
//! Canton, `HashBuilder.scala` and `HashPurpose.scala`: SHA-256 over the purpose as four big-endian
//! bytes and the data, written as a multihash (`12 20` and the digest).

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// Bytes of a [`Multihash`].
pub const MULTIHASH_BYTES: usize = 34;

/// "SHA-256, 32 bytes" in the table of multihashes.
const SHA256_PREFIX: [u8; 2] = [0x12, 0x20];

/// What a hash is about: two hashes of different purposes never meet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Purpose {
    /// What keys of a topology transaction sign.
    TopologyTransactionSignature = 11,
    /// The name of a key.
    PublicKeyFingerprint = 12,
    /// What a member signs to log in at a sequencer.
    AuthenticationToken = 14,
    /// The part of a contract id that depends on the contract.
    Unicum = 29,
    /// What a member signs to send.
    SubmissionRequestSignature = 35,
    /// The name of a group of owners.
    DecentralizedNamespace = 37,
    /// What two topology mappings of one kind collide on.
    TopologyMappingUniqueKey = 43,
    /// What an external party signs.
    PreparedSubmission = 48,
    /// What signs several topology transactions at once.
    MultiTopologyTransaction = 55,
}

/// A hash with its algorithm in front.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Multihash([u8; MULTIHASH_BYTES]);

impl Multihash {
    /// A multihash that was read: none if it is not a SHA-256.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes = <[u8; MULTIHASH_BYTES]>::try_from(bytes).ok()?;
        bytes.starts_with(&SHA256_PREFIX).then_some(Self(bytes))
    }

    /// All 34 bytes.
    pub fn as_bytes(&self) -> &[u8; MULTIHASH_BYTES] {
        &self.0
    }
}

impl fmt::Display for Multihash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Multihash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Multihash({self})")
    }
}

/// The hash of these bytes for this purpose.
pub fn canton_hash(purpose: Purpose, data: &[u8]) -> Multihash {
    let mut input = (purpose as u32).to_be_bytes().to_vec();
    input.extend_from_slice(data);
    let mut hash = [0; MULTIHASH_BYTES];
    let (prefix, rest) = hash.split_at_mut(SHA256_PREFIX.len());
    prefix.copy_from_slice(&SHA256_PREFIX);
    rest.copy_from_slice(&sha256(&input));
    Multihash(hash)
}

/// SHA-256.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    digest(&SHA256, data).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Gathers what is hashed. Lengths and counts are signed 32-bit big-endian numbers.
#[derive(Clone, Debug, Default)]
pub struct Preimage(Vec<u8>);

impl Preimage {
    /// One byte.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    /// A 32-bit number.
    pub fn int32(&mut self, number: i32) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    /// A 64-bit number.
    pub fn int64(&mut self, number: i64) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    /// A count or a length. What is hashed here was read under limits far below the maximum.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.int32(i32::try_from(count).expect("what is hashed is below the limits of reading"))
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// UTF-8 behind its length.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Bytes without a length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A count and texts.
    pub fn texts<T: AsRef<str>>(&mut self, texts: impl ExactSizeIterator<Item = T>) -> &mut Self {
        self.count(texts.len());
        texts.fold(self, |preimage, text| preimage.text(text.as_ref()))
    }

    /// What was gathered.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The plain SHA-256 of it.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.0)
    }
}
