//! Stands in for the rules of a preflight until they are in place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use heirloom_canton::contract_id::ContractIdVersion;
use heirloom_canton::types::PackageId;
use heirloom_model::participant::{CustodianKind, PartyKind, RemarkWeight, SynchronizerRoute};
use heirloom_model::party::{ParticipantId, PartyId, SynchronizerId};
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage};

/// Everything that the rules look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ground {
    /// The participant whose contracts move.
    pub source: Side,
    /// The participant that they move to.
    pub target: Side,
    /// What keeps the target's keys.
    pub custodian: CustodianKind,
    /// The keys that the target has there, or is to get.
    pub wanted: Vec<(KeyUsage, KeyScheme)>,
    /// Everybody whom the source hosts.
    pub hosted: BTreeMap<PartyId, PartyKind>,
    /// Everybody else who stands in its contracts, and who hosts them.
    pub foreign: BTreeMap<PartyId, Vec<ParticipantId>>,
    /// Where contracts go.
    pub routes: Vec<SynchronizerRoute>,
    /// Its contracts.
    pub contracts: ContractsSeen,
    /// Reassignments that were begun and not ended: such contracts are in no snapshot. None if the
    /// source does not say.
    pub unfinished_reassignments: Option<u64>,
}

/// One participant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Side {
    /// Its name, if it has one.
    pub participant: Option<ParticipantId>,
    /// What it runs.
    pub version: Release,
    /// Its keys.
    pub keys: Vec<KeySeen>,
    /// The synchronizers that it is registered with.
    pub synchronizers: BTreeMap<SynchronizerId, SynchronizerSeen>,
    /// Its packages.
    pub packages: BTreeSet<PackageId>,
    /// Whether it gives its private keys to whoever may administer it; none if that was not seen.
    pub exports_keys: Option<bool>,
}

/// The release line of a server: `3.5`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Release {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

/// Text that is no version of a server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("version {found:?} must begin with two numbers: 3.5")]
pub struct ParseReleaseError {
    /// The text.
    pub found: String,
}

impl FromStr for Release {
    type Err = ParseReleaseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(['.', '-', '+']);
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(ParseReleaseError { found: text.chars().take(64).collect() }),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A key of a participant.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeySeen {
    /// What it is for.
    pub usage: KeyUsage,
    /// Its mathematics.
    pub scheme: KeyScheme,
    /// Whether a KMS has it, and not the participant's database.
    pub in_custodian: bool,
}

/// A synchronizer as a participant sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SynchronizerSeen {
    /// Its protocol version; none if the participant never connected to it.
    pub protocol: Option<u32>,
    /// Whether the participant is connected to it now.
    pub is_connected: bool,
    /// The signing schemes that it takes; empty if that was not seen.
    pub signing: BTreeSet<KeyScheme>,
    /// The encryption schemes that it takes; empty if that was not seen.
    pub encryption: BTreeSet<KeyScheme>,
}

/// The contracts of a source.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContractsSeen {
    /// How many there are of each kind of id.
    pub versions: BTreeMap<ContractIdVersion, u64>,
    /// How many were ever reassigned between synchronizers.
    pub reassigned: u64,
    /// The packages that they need.
    pub packages: BTreeSet<PackageId>,
    /// The synchronizers that they are on.
    pub synchronizers: BTreeSet<SynchronizerId>,
}

impl ContractsSeen {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.versions.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Something that was found.
pub struct Finding {
    /// How bad it is.
    pub weight: RemarkWeight,
}
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("finding")
    }
}
/// Everything that the rules find.
pub fn findings(_ground: &Ground) -> Vec<Finding> {
    Vec::new()
}
