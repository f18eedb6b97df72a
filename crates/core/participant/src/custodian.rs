//! Who holds the keys of a participant, as a port that adapters implement.
//!
//! A custodian makes, holds and uses keys: a software file, a PKCS#11 token, a cloud KMS. Keys
//! are found by a label that the caller chose, or by the identifier that the custodian gave.
//!
//! Nothing here deletes a key. A migration leaves the keys of the source where they are, and a
//! retired key can still be the only one that reads an old message.
//!
//! * [`key`]: labels, usages, schemes, algorithms, states, public keys, signatures.
//! * [`spki`]: the exact DER of public keys, one encoding each.
//! * [`table`]: what each product can do, as data with its sources. [`assess`]: what follows for a
//!   key of a participant. [`probe`]: what a live custodian says, and how that differs.
//!   [`mod@check`]: all of it about one custodian.

pub mod assess;
pub mod check;
pub mod key;
pub mod probe;
pub mod spki;
pub mod table;

use heirloom_model::secret::SecretBytes;

use crate::custodian::key::{
    Algorithm, Description, KeyHandle, KeyId, KeyRequest, KeyScheme, KeyState, KeyUsage, Label,
    Operation, PrivateKey, PublicKeyDer, Signature,
};
use crate::custodian::probe::Abilities;

/// One place that holds keys.
///
/// Every call may be repeated after a crash. A call that changes something says what a repetition
/// does. What cannot be reached, or answers something that is no answer, is never taken for
/// absent.
pub trait Custodian: Send {
    /// Which place this is. Says nothing about whether it answers.
    fn describe(&self) -> Description;

    /// What the place says that it can do. Asks it, and changes nothing in it: no trial key is
    /// made, because a key that was made stays.
    fn abilities(&self) -> Result<Abilities, CustodianError>;

    /// Makes the key that is asked for, or finds it: a key with this label, usage and scheme
    /// exists when this returns, and only one with this label.
    ///
    /// [`CustodianError::Different`] if the label belongs to a key of another usage or scheme.
    /// After an error or a crash the key may exist; asking again finds it.
    fn create(&self, request: &KeyRequest) -> Result<KeyHandle, CustodianError>;

    /// The key with this label. Nothing only if the custodian answered and has none.
    fn find(&self, label: &Label) -> Result<Option<KeyHandle>, CustodianError>;

    /// The key with this identifier of the custodian; [`CustodianError::Missing`] if there is
    /// none. A key that carries no label and usage of ours is [`CustodianError::Foreign`]: its
    /// usage would be a guess, and a key in the wrong usage is dead.
    fn open(&self, id: &KeyId) -> Result<KeyHandle, CustodianError>;

    /// All keys that carry a label of ours, ordered by label, at most [`KEYS_MAX`].
    fn keys(&self) -> Result<Vec<KeyHandle>, CustodianError>;

    /// The public half, as X.509 `SubjectPublicKeyInfo`.
    fn public(&self, key: &KeyHandle) -> Result<PublicKeyDer, CustodianError>;

    /// Whether the key may be used.
    fn state(&self, key: &KeyHandle) -> Result<KeyState, CustodianError>;

    /// Signs a message of at most [`MESSAGE_BYTES_MAX`] bytes, which is hashed as the algorithm
    /// says. ECDSA signatures are DER, Ed25519 ones are the 64 bytes of RFC 8032.
    ///
    /// The key must be enabled, also if the place would sign all the same, and the signature was
    /// verified with the public half before it is returned.
    fn sign(
        &self,
        key: &KeyHandle,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Signature, CustodianError>;

    /// Decrypts what somebody encrypted to the public half. The key must be enabled.
    fn decrypt(
        &self,
        key: &KeyHandle,
        algorithm: Algorithm,
        ciphertext: &[u8],
    ) -> Result<SecretBytes, CustodianError>;

    /// Brings a key from outside under the label of the request. Idempotent: if the label already
    /// has this very key, it is found; if it has another one, [`CustodianError::Different`].
    fn import(
        &self,
        request: &KeyRequest,
        private: &PrivateKey,
    ) -> Result<KeyHandle, CustodianError>;
}

/// Keys with a label of ours in one custodian. A participant has four; a fleet in one token some
/// dozens; rotations a few more a year.
pub const KEYS_MAX: usize = 1_024;
/// The longest message that is signed: hashes, and in tests more. Products that take at most 4096
/// bytes are given the digest of longer ones, so that all agree.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The longest ciphertext that is decrypted: RSA-2048 has 256 bytes, and no cloud takes more than
/// this.
pub const CIPHERTEXT_BYTES_MAX: usize = 6_144;

/// Why a custodian did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CustodianError {
    /// There is no such key, and the custodian is sure.
    #[error("there is no key {key} in {place}")]
    Missing {
        /// Label or identifier.
        key: String,
        /// Which custodian.
        place: String,
    },
    /// What is held cannot be read, or contradicts itself.
    #[error("{what} is corrupt: {why}")]
    Corrupt {
        /// A file, an object, a key.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The custodian refused: permission, PIN, policy, quota of keys.
    #[error("{place} refused {what}: {why}")]
    Refused {
        /// Which custodian.
        place: String,
        /// The request.
        what: String,
        /// Its words.
        why: String,
    },
    /// The key may not be used now.
    #[error("key {label} in {place} is {state}")]
    NotEnabled {
        /// The key.
        label: Label,
        /// Which custodian.
        place: String,
        /// What it is instead.
        state: KeyState,
    },
    /// The label belongs to another key.
    #[error("label {label} in {place} belongs to {found}, not to {asked}")]
    Different {
        /// The label.
        label: Label,
        /// Which custodian.
        place: String,
        /// What the key is.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// The key is there and carries no label and usage of ours.
    #[error("key {id} in {place} was not made by this program: its usage is not known")]
    Foreign {
        /// Its identifier.
        id: KeyId,
        /// Which custodian.
        place: String,
    },
    /// The key has another usage.
    #[error("key {label} is for {usage} and cannot {operation}")]
    WrongUsage {
        /// The key.
        label: Label,
        /// What it is for.
        usage: KeyUsage,
        /// What was asked.
        operation: Operation,
    },
    /// No key of this usage can be of this scheme.
    #[error("a key for {usage} cannot be of scheme {scheme}")]
    WrongScheme {
        /// What it is for.
        usage: KeyUsage,
        /// What was asked.
        scheme: KeyScheme,
    },
    /// The algorithm belongs to another scheme.
    #[error("a key of scheme {scheme} does not do {algorithm}")]
    WrongAlgorithm {
        /// Of the key.
        scheme: KeyScheme,
        /// What was asked.
        algorithm: Algorithm,
    },
    /// The custodian does not do this at all.
    #[error("{place} does not support {what}")]
    Unsupported {
        /// Which custodian.
        place: String,
        /// The request.
        what: String,
    },
    /// What was handed over is longer than any custodian takes.
    #[error("{what} has {found} bytes, more than {limit}")]
    TooLong {
        /// A message or a ciphertext.
        what: &'static str,
        /// Its length.
        found: usize,
        /// What is taken.
        limit: usize,
    },
    /// The custodian asked to be asked less often, each time.
    #[error("{place} limits its rate: refused {attempts} times")]
    Throttled {
        /// Which custodian.
        place: String,
        /// How often it was asked.
        attempts: u32,
    },
    /// No answer, and nothing was changed.
    #[error("{place} cannot be reached: {why}")]
    Unreachable {
        /// Which custodian.
        place: String,
        /// What happened.
        why: String,
    },
    /// Something was answered that is no answer, or none came after the request had gone out:
    /// what was asked may have happened.
    #[error("it is unknown whether {place} did {what}: {why}")]
    Unknown {
        /// Which custodian.
        place: String,
        /// The request.
        what: String,
        /// What happened.
        why: String,
    },
}

/// What kind of failure it is: what the caller does next depends on this alone.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum FailureKind {
    /// Not there, for sure.
    Missing,
    /// There and unreadable, or contradictory.
    Corrupt,
    /// A rule says no; asking again gives the same answer until somebody acts.
    Refused,
    /// Asking again later is right.
    Unreachable,
    /// Look before asking again.
    Unknown,
    /// Never here.
    Unsupported,
}

impl CustodianError {
    /// The kind of failure.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Missing { .. } => FailureKind::Missing,
            Self::Corrupt { .. } => FailureKind::Corrupt,
            Self::Refused { .. }
            | Self::NotEnabled { .. }
            | Self::Different { .. }
            | Self::Foreign { .. }
            | Self::WrongUsage { .. }
            | Self::WrongScheme { .. }
            | Self::WrongAlgorithm { .. }
            | Self::TooLong { .. } => FailureKind::Refused,
            Self::Unsupported { .. } => FailureKind::Unsupported,
            Self::Throttled { .. } | Self::Unreachable { .. } => FailureKind::Unreachable,
            Self::Unknown { .. } => FailureKind::Unknown,
        }
    }
}
