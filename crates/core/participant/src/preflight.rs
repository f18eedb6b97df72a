//! What must hold before a participant moves: rules over what was seen of both sides.
//!
//! Each rule has a code that is never used for another one. A finding says what was found and
//! what to do about it; nothing is planned over a finding that blocks.

pub mod required;
pub(crate) mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use heirloom_canton::contract_id::ContractIdVersion;
use heirloom_canton::types::PackageId;
use heirloom_model::limit::NOTE_CHARACTERS_MAX;
use heirloom_model::participant::{
    CustodianKind, PartyKind, RemarkWeight, SurveyRemark, SynchronizerRoute,
};
use heirloom_model::party::{ParticipantId, PartyId, SynchronizerId};

use crate::custodian::key::{KeyScheme, KeyUsage};
use crate::preflight::required::SequencerSeen;

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
    /// The local ones that other participants host as well, and which ones.
    pub elsewhere: BTreeMap<PartyId, Vec<ParticipantId>>,
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
    /// What its sequencers say of the keys of its members; empty if none was asked.
    pub sequencers: Vec<SequencerSeen>,
}

/// The contracts of a source.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContractsSeen {
    /// How many there are of each kind of id.
    pub versions: BTreeMap<ContractIdVersion, u64>,
    /// How many were ever reassigned between synchronizers.
    pub reassigned: u64,
    /// Hosted parties with keys of their own that have a stake in one.
    pub external: BTreeSet<PartyId>,
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
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Which rule says so.
    pub code: Code,
    /// How bad it is.
    pub weight: RemarkWeight,
    /// What was found.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Finding {
    /// The finding as a survey states it. Names can be long, and a remark has a limit: then what
    /// was found is cut, and never what to do.
    pub fn remark(&self) -> SurveyRemark {
        let whole = self.to_string();
        let excess = whole.chars().count().saturating_sub(NOTE_CHARACTERS_MAX);
        let text = if excess == 0 {
            whole
        } else {
            // One more, for the character that says so.
            let kept = self.what.chars().count().saturating_sub(excess + 1);
            let what: String = self.what.chars().take(kept).collect();
            format!("{}: {what}…; {}", self.code.text(), self.remedy)
        };
        remark(self.weight, &text)
    }
}

/// What somebody said, as a survey states it: one line, and not too long.
pub fn remark(weight: RemarkWeight, said: &str) -> SurveyRemark {
    let plain = said.chars().map(|found| if found.is_control() { ' ' } else { found });
    SurveyRemark { weight, text: plain.take(NOTE_CHARACTERS_MAX).collect() }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.code.text(), self.what, self.remedy)
    }
}

/// The rules.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Code {
    /// The source is of a major version that is not driven.
    SourceVersion,
    /// The target is of a major version that is not driven.
    TargetVersion,
    /// The target is older than the source.
    TargetOlder,
    /// Source and target are one participant.
    SameParticipant,
    /// Contracts have ids that the target's protocol does not know.
    IdVersion,
    /// Contracts have ids of the second major version.
    OldIds,
    /// Contracts stand on a synchronizer without a route.
    NoRoute,
    /// The target does not know a synchronizer that contracts go to.
    TargetSynchronizer,
    /// The target never connected to a synchronizer that contracts go to.
    NeverConnected,
    /// The protocol version goes down.
    ProtocolLower,
    /// A synchronizer does not take a scheme of the new keys.
    SchemeNotTaken,
    /// What a synchronizer takes was not seen.
    SchemesUnseen,
    /// Sequencers of one synchronizer do not say the same, or one belongs to another.
    SequencersDiffer,
    /// A synchronizer requires something that is not known here.
    SchemesUnknown,
    /// The custodian, or Canton's support of it, lacks a scheme.
    SchemeNotSupported,
    /// Whether custodian and Canton support a scheme is not certain.
    SchemeUncertain,
    /// Packages that contracts need are not on the source.
    PackageMissing,
    /// Contracts were reassigned.
    Reassigned,
    /// Reassignments are under way.
    Reassigning,
    /// Whether reassignments are under way is not known.
    ReassigningUnknown,
    /// Two hosted parties would get one name.
    Collision,
    /// Parties with keys of their own stay as they are.
    ExternalParties,
    /// There is nothing to move.
    NothingHosted,
    /// Parties of others stand in contracts.
    ForeignParties,
    /// A party that nobody hosts stands in contracts.
    UnhostedParties,
    /// Other participants host parties that move.
    HostedElsewhere,
    /// Parties with keys of their own have a stake in contracts.
    ExternalStakes,
    /// Contracts carry weak ids.
    WeakIds,
}

impl Code {
    /// The code, for people and programs.
    pub fn text(self) -> &'static str {
        match self {
            Self::SourceVersion => "P-101",
            Self::TargetVersion => "P-102",
            Self::TargetOlder => "P-103",
            Self::SameParticipant => "P-104",
            Self::IdVersion => "P-201",
            Self::OldIds => "P-202",
            Self::WeakIds => "P-203",
            Self::NoRoute => "P-301",
            Self::TargetSynchronizer => "P-302",
            Self::NeverConnected => "P-303",
            Self::ProtocolLower => "P-304",
            Self::SchemeNotTaken => "P-401",
            Self::SchemesUnseen => "P-402",
            Self::SchemeNotSupported => "P-403",
            Self::SchemeUncertain => "P-404",
            Self::SequencersDiffer => "P-405",
            Self::SchemesUnknown => "P-406",
            Self::PackageMissing => "P-501",
            Self::Reassigned => "P-601",
            Self::Reassigning => "P-602",
            Self::ReassigningUnknown => "P-603",
            Self::Collision => "P-701",
            Self::ExternalParties => "P-702",
            Self::NothingHosted => "P-703",
            Self::ForeignParties => "P-704",
            Self::UnhostedParties => "P-705",
            Self::HostedElsewhere => "P-706",
            Self::ExternalStakes => "P-707",
        }
    }
}

/// The newest id that a protocol version takes (Canton, `CantonContractIdVersion`).
pub fn newest_id(protocol: u32) -> ContractIdVersion {
    match protocol {
        ..=32 => ContractIdVersion::V10,
        33 => ContractIdVersion::V11,
        _ => ContractIdVersion::V12,
    }
}

/// Everything that the rules find, what blocks first.
pub fn findings(ground: &Ground) -> Vec<Finding> {
    let mut found = Vec::new();
    rules::versions(ground, &mut found);
    rules::ids(ground, &mut found);
    rules::synchronizers(ground, &mut found);
    rules::schemes(ground, &mut found);
    rules::packages(ground, &mut found);
    rules::reassignments(ground, &mut found);
    rules::parties(ground, &mut found);
    rules::hosts(ground, &mut found);
    found.sort_by_key(|finding| (finding.weight, finding.code));
    found
}

#[cfg(test)]
pub(crate) mod tests;
