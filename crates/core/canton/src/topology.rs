//! Who may sign what: topology transactions of the third major version.
//!
//! A transaction is read, but not believed: [`verify::VerifiedTransaction`] is one whose every
//! signature was checked. Whether the signers are those that the mapping needs is
//! [`verify::Authority::missing`].

pub mod codec;
pub mod mapping;
mod required;
pub mod snapshot;
pub mod verify;

use crate::hash::{Multihash, Purpose, canton_hash};
use crate::key::{KeyError, Signature};
use crate::name::ParsePartyError;
use crate::proto::ProtoError;
use crate::topology::mapping::Mapping;

/// The version of every message of topology.
pub const TOPOLOGY_VERSION: u32 = 30;

/// Why bytes are not a topology transaction.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TopologyError {
    /// The message is none.
    #[error(transparent)]
    Proto(#[from] ProtoError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] ParsePartyError),
    /// A key or signature is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// More bytes than one may have.
    #[error("{what} of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How many there are.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Another version of the message.
    #[error("{what} has version 30, not {found}")]
    Version {
        /// What.
        what: &'static str,
        /// What was found.
        found: u32,
    },
    /// A transaction changes one thing, and says what.
    #[error("a transaction has {found} mappings instead of one")]
    Mappings {
        /// How many it has.
        found: usize,
    },
    /// A root delegation is not restricted.
    #[error("a delegation says both that it is a root and that it is restricted")]
    RestrictedRoot,
    /// A hash is not one.
    #[error("a hash is a multihash of SHA-256")]
    Hash,
}

/// Whether a mapping is put in place or taken away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// The mapping holds from now on.
    AddReplace,
    /// It does not hold any more.
    Remove,
}

/// A change of topology, with the bytes that are signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transaction {
    bytes: Vec<u8>,
    operation: Operation,
    serial: u32,
    mapping: Mapping,
}

impl Transaction {
    /// A change that nobody signed yet.
    pub fn new(operation: Operation, serial: u32, mapping: Mapping) -> Self {
        let bytes = codec::write_transaction(operation, serial, &mapping);
        Self { bytes, operation, serial, mapping }
    }

    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, TopologyError> {
        codec::read_transaction(bytes)
    }

    /// Exactly the bytes that it was read from.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it does.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Which change of this mapping it is; the first one is 1.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// What it changes.
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// What its keys sign: these 34 bytes are the message.
    pub fn hash(&self) -> Multihash {
        canton_hash(Purpose::TopologyTransactionSignature, &self.bytes)
    }
}

/// Signatures over several transactions at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MultiSignatures {
    /// Of which transactions.
    pub hashes: Vec<Multihash>,
    /// The signatures.
    pub signatures: Vec<Signature>,
}

/// A change of topology with the signatures that somebody says it has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedTransaction {
    /// The change.
    pub transaction: Transaction,
    /// Signatures of this transaction alone.
    pub signatures: Vec<Signature>,
    /// Signatures of several.
    pub multi_signatures: Vec<MultiSignatures>,
    /// Whether it still waits for signatures.
    pub proposal: bool,
}

impl SignedTransaction {
    /// Reads one.
    pub fn decode(bytes: &[u8]) -> Result<Self, TopologyError> {
        codec::read_signed(bytes)
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::write_signed(self)
    }
}
