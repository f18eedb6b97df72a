//! One contract of the third major version: the `created_event_blob`.
//!
//! `Versioned { version, payload }` around a `FatContractInstance`. Its decoder refuses what it
//! does not know, and so does this one: a field that is overlooked here would be lost by a rewrite.

use std::collections::BTreeSet;

use crate::contract_id::{ContractId, ContractIdError};
use crate::key_hash::KeyHash;
use crate::name::{NotAParty, Party};
use crate::proto::ProtoError;
use crate::types::{PackageName, ParseNameError, TypeId};
use crate::unicum::Salt;
use crate::value::codec::ValueError;
use crate::value::{TIMESTAMP_MICROS, Value};

pub mod codec;

/// Which form of the payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SerializationVersion {
    /// `2.1`: contracts without key.
    V1,
    /// `2`: contracts with key, since 3.5.
    V2,
}

impl SerializationVersion {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "2.1",
            Self::V2 => "2",
        }
    }
}

/// When a contract was created: microseconds since 1970, in the years 1 to 9999. Never "now", which
/// the format has as the smallest number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CreatedAt(i64);

impl CreatedAt {
    /// None if it is of no such year, as the number that stands for "now".
    pub fn from_micros(micros: i64) -> Option<Self> {
        TIMESTAMP_MICROS.contains(&micros).then_some(Self(micros))
    }

    /// Microseconds since 1970.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down, and the nanoseconds behind them.
    pub fn seconds_and_nanos(self) -> (i64, i32) {
        let nanos = self.0.rem_euclid(1_000_000) * 1_000;
        let nanos = i32::try_from(nanos).expect("a second has a billion nanoseconds");
        (self.0.div_euclid(1_000_000), nanos)
    }
}

/// The key of a contract and who maintains it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyWithMaintainers {
    /// The key.
    pub key: Value,
    /// Who maintains it; all of them are signatories.
    pub maintainers: BTreeSet<Party>,
    /// Its hash; only the newer form has it.
    pub hash: Option<KeyHash>,
}

/// A contract with everything that its id depends on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FatContract {
    /// Which form it was read in and is written in.
    pub version: SerializationVersion,
    /// Its id.
    pub contract_id: ContractId,
    /// The name of the package of its template.
    pub package_name: PackageName,
    /// Its template.
    pub template: TypeId,
    /// What it says.
    pub create_arg: Value,
    /// Who signed it; never empty.
    pub signatories: BTreeSet<Party>,
    /// Who sees it and did not sign it.
    pub observers: BTreeSet<Party>,
    /// When it was created.
    pub created_at: CreatedAt,
    /// The random bytes in its id.
    pub salt: Salt,
    /// Its key.
    pub key: Option<KeyWithMaintainers>,
}

/// Why bytes are not a contract.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BlobError {
    /// The message is none.
    #[error(transparent)]
    Proto(#[from] ProtoError),
    /// More bytes than a contract may have.
    #[error("a contract of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A form that this release does not know.
    #[error("contracts are serialized as \"2.1\" or \"2\", not as {found:?}")]
    Version {
        /// What was found.
        found: String,
    },
    /// The authentication data has another version.
    #[error("authentication data has version 30, not {found}")]
    AuthenticationVersion {
        /// What was found.
        found: u32,
    },
    /// The salt is not a SHA-256 HMAC of 32 bytes.
    #[error("a salt is a SHA-256 HMAC of 32 bytes, not algorithm {algorithm} with {bytes} bytes")]
    Salt {
        /// The algorithm.
        algorithm: i32,
        /// How many bytes it has.
        bytes: usize,
    },
    /// Its id.
    #[error("the id of the contract: {0}")]
    ContractId(#[from] ContractIdError),
    /// A name of its template or package.
    #[error(transparent)]
    Name(#[from] ParseNameError),
    /// A party.
    #[error(transparent)]
    Party(#[from] NotAParty),
    /// What it says.
    #[error("the argument: {0}")]
    Argument(#[source] ValueError),
    /// Its key.
    #[error("the key: {0}")]
    Key(#[source] ValueError),
    /// The key's hash has another length.
    #[error("the hash of a key has 32 bytes, not {bytes}")]
    KeyHashLength {
        /// How many it has.
        bytes: usize,
    },
    /// The form and the key contradict each other.
    #[error("serialization {version} {problem}")]
    KeyAndVersion {
        /// The form.
        version: &'static str,
        /// What contradicts it.
        problem: &'static str,
    },
    /// Parties are not in strict order.
    #[error("{list} are not in strict order")]
    Unsorted {
        /// Which.
        list: &'static str,
    },
    /// A party stands in two lists that have no party in common.
    #[error("{party} is in two lists of stakeholders")]
    Twice {
        /// The party.
        party: Party,
    },
    /// Nobody signed it.
    #[error("a contract has a signatory")]
    NoSignatory,
    /// A key without maintainer.
    #[error("a key has a maintainer")]
    NoMaintainer,
    /// It says "now" instead of a time, or a time that no ledger has.
    #[error("the contract has no time of creation")]
    CreatedNow,
    /// It would have other bytes when it is written again.
    #[error("the bytes are not the canonical ones of their contract")]
    NotCanonical,
}

impl FatContract {
    /// Reads a contract. The bytes must be the ones that [`Self::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BlobError> {
        codec::decode(bytes)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Everybody who signed or sees it.
    pub fn stakeholders(&self) -> BTreeSet<Party> {
        self.signatories.union(&self.observers).cloned().collect()
    }
}
