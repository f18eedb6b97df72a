//! Names of contracts.
//!
//! Daml-LF, `Value.ContractId.V1`: `00`, a discriminator of 32 bytes, and a suffix. Canton's suffix
//! is two bytes that say how it was made and a multihash ([`crate::unicum`]).

use std::fmt;
use std::str::FromStr;

use crate::hash::{MULTIHASH_BYTES, Multihash};

/// In front of every contract id that this release reads.
const LF_VERSION: u8 = 0;
/// Bytes of the discriminator.
pub const DISCRIMINATOR_BYTES: usize = 32;
/// The longest suffix of any ledger.
pub const SUFFIX_BYTES_MAX: usize = 94;

/// Why bytes or text are not a contract id.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ContractIdError {
    /// Not lower-case hex.
    #[error("a contract id is lower-case hex")]
    NotHex,
    /// Too few or too many bytes.
    #[error("a contract id has 33 to 127 bytes, not {bytes}")]
    Length {
        /// How many it has.
        bytes: usize,
    },
    /// Another version of ids, in which no contract is importable.
    #[error("contract ids start with 00, not {found:02x}")]
    LfVersion {
        /// The first byte.
        found: u8,
    },
}

/// How the suffix of an id was made.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ContractIdVersion {
    /// By a ledger of the second major version. The third one does not import it.
    Old(OldContractIdVersion),
    /// 3.0 to 3.2.
    V10,
    /// 3.3.
    V11,
    /// Since 3.4.
    V12,
}

/// The ids of the second major version.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum OldContractIdVersion {
    /// `ca00`: says nothing about the contract.
    NonAuthenticated,
    /// `ca01`.
    V1,
    /// `ca02`.
    V2,
    /// `ca03`.
    V3,
}

impl ContractIdVersion {
    /// The first two bytes of the suffix.
    pub fn prefix(self) -> [u8; 2] {
        let second = match self {
            Self::Old(OldContractIdVersion::NonAuthenticated) => 0x00,
            Self::Old(OldContractIdVersion::V1) => 0x01,
            Self::Old(OldContractIdVersion::V2) => 0x02,
            Self::Old(OldContractIdVersion::V3) => 0x03,
            Self::V10 => 0x10,
            Self::V11 => 0x11,
            Self::V12 => 0x12,
        };
        [0xca, second]
    }

    fn of_prefix(prefix: [u8; 2]) -> Option<Self> {
        use OldContractIdVersion::{NonAuthenticated, V1, V2, V3};
        let all = [
            Self::Old(NonAuthenticated),
            Self::Old(V1),
            Self::Old(V2),
            Self::Old(V3),
            Self::V10,
            Self::V11,
            Self::V12,
        ];
        all.into_iter().find(|version| version.prefix() == prefix)
    }
}

impl fmt::Display for ContractIdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Old(OldContractIdVersion::NonAuthenticated) => "not authenticated (2.x)",
            Self::Old(OldContractIdVersion::V1) => "V1 (2.x)",
            Self::Old(OldContractIdVersion::V2) => "V2 (2.x)",
            Self::Old(OldContractIdVersion::V3) => "V3 (2.x)",
            Self::V10 => "V10",
            Self::V11 => "V11",
            Self::V12 => "V12",
        })
    }
}

/// The name of a contract.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContractId(Vec<u8>);

impl ContractId {
    /// An id that was read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ContractIdError> {
        let (shortest, longest) =
            (1 + DISCRIMINATOR_BYTES, 1 + DISCRIMINATOR_BYTES + SUFFIX_BYTES_MAX);
        match bytes.first() {
            Some(&LF_VERSION) if (shortest..=longest).contains(&bytes.len()) => {
                Ok(Self(bytes.to_vec()))
            }
            Some(&found) if found != LF_VERSION => Err(ContractIdError::LfVersion { found }),
            _ => Err(ContractIdError::Length { bytes: bytes.len() }),
        }
    }

    /// The id with this discriminator and this unicum.
    pub fn new(
        version: ContractIdVersion,
        discriminator: &[u8; DISCRIMINATOR_BYTES],
        unicum: &Multihash,
    ) -> Self {
        let mut bytes = vec![LF_VERSION];
        bytes.extend_from_slice(discriminator);
        bytes.extend_from_slice(&version.prefix());
        bytes.extend_from_slice(unicum.as_bytes());
        Self(bytes)
    }

    /// How its suffix was made, or none if no ledger made such a suffix.
    pub fn version(&self) -> Option<ContractIdVersion> {
        let (prefix, unicum) = self.suffix().split_first_chunk::<2>()?;
        let version = ContractIdVersion::of_prefix(*prefix)?;
        (unicum.len() == MULTIHASH_BYTES && Multihash::from_bytes(unicum).is_some())
            .then_some(version)
    }

    /// All bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the submitting transaction determines. A rewrite keeps it.
    pub fn discriminator(&self) -> &[u8; DISCRIMINATOR_BYTES] {
        let behind_version = self.0.split_first().map(|(_, rest)| rest);
        let chunk = behind_version.and_then(|rest| rest.first_chunk());
        chunk.expect("an id has a discriminator")
    }

    /// What stands behind the discriminator.
    pub fn suffix(&self) -> &[u8] {
        let (_, suffix) =
            self.0.split_at_checked(1 + DISCRIMINATOR_BYTES).expect("an id has a discriminator");
        suffix
    }
}

impl FromStr for ContractId {
    type Err = ContractIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ContractIdError::NotHex);
        }
        let bytes = hex::decode(text).map_err(|_| ContractIdError::NotHex)?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for ContractId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for ContractId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContractId({self})")
    }
}
