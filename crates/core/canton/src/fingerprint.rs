//! Names of keys, and of groups of their owners.
//!
//! Canton, `Fingerprint.scala`: the hash of the key with purpose 12. Ed25519 keys are hashed as
//! their raw 32 bytes, also where they are stored as X.509, so that they kept their names when the
//! storage changed; every other key as its X.509 `SubjectPublicKeyInfo`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use heirloom_model::limit::{LEDGER_KEY_BYTES_MAX, TOPOLOGY_ELEMENTS_MAX};

use crate::hash::{Preimage, Purpose, canton_hash};
use crate::key::SigningScheme;
use crate::name::{Namespace, ParsePartyError};

/// X.509, RFC 8410 §4: what stands in front of the 32 bytes of an Ed25519 key.
pub(crate) const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The name of a key.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint(Namespace);

impl Fingerprint {
    /// The text: 68 hex digits, except for keys of old ledgers.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The namespace that this key owns.
    pub fn to_namespace(&self) -> Namespace {
        self.0.clone()
    }
}

impl FromStr for Fingerprint {
    type Err = ParsePartyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", self.as_str())
    }
}

/// Why a key has no fingerprint.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FingerprintError {
    /// The bytes are not an X.509 Ed25519 key.
    #[error("{bytes} bytes are no Ed25519 key in X.509 form")]
    NotEd25519 {
        /// How many there are.
        bytes: usize,
    },
    /// More bytes than any key has.
    #[error("a key of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// The fingerprint of a signing key that is stored as X.509 `SubjectPublicKeyInfo`.
pub fn fingerprint_of_spki(
    scheme: SigningScheme,
    spki: &[u8],
) -> Result<Fingerprint, FingerprintError> {
    let (bytes, limit) = (spki.len(), LEDGER_KEY_BYTES_MAX);
    if bytes > limit {
        return Err(FingerprintError::TooLarge { bytes, limit });
    }
    if scheme != SigningScheme::Ed25519 {
        return Ok(fingerprint_of_bytes(spki));
    }
    let raw = spki.strip_prefix(&ED25519_SPKI_PREFIX).filter(|raw| raw.len() == 32);
    raw.map(fingerprint_of_bytes).ok_or(FingerprintError::NotEd25519 { bytes })
}

/// The fingerprint of an encryption key in X.509 form.
pub fn fingerprint_of_encryption_spki(spki: &[u8]) -> Fingerprint {
    fingerprint_of_bytes(spki)
}

/// The fingerprint of exactly the bytes that are hashed for this key.
pub fn fingerprint_of_bytes(bytes: &[u8]) -> Fingerprint {
    parse_hash(&canton_hash(Purpose::PublicKeyFingerprint, bytes).to_string())
}

/// The namespace of a group, from its *first* owners: it stays when owners change.
pub fn decentralized_namespace(owners: &BTreeSet<Namespace>) -> Namespace {
    debug_assert!(owners.len() <= TOPOLOGY_ELEMENTS_MAX, "mappings are read under this limit");
    let mut preimage = Preimage::default();
    for owner in owners {
        preimage.text(owner.as_str());
    }
    let hash = canton_hash(Purpose::DecentralizedNamespace, preimage.as_bytes());
    parse_hash(&hash.to_string()).to_namespace()
}

fn parse_hash(hex: &str) -> Fingerprint {
    hex.parse().expect("68 hex digits are a fingerprint")
}
