//! Participants of a ledger that move to another key store: their keys cannot move, so names and
//! contracts get new ones.
//!
//! A plan for this concerns nodes without a keeper. What moves is in [`ParticipantChange`]; what
//! the nodes find out on the way they state one after the other, and each next step is compared
//! with it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::context;
use crate::counter::Epoch;
use crate::digest::{
    ContractSetDigest, DigestOf, NetworkId, PartyMapDigest, PlanDigest, SnapshotDigest,
};
use crate::domain::PlanStep;
use crate::identifier::{DomainId, NodeId, OperatorId};
use crate::limit::PAYLOAD_BYTES_MAX;
use crate::party::{Namespace, ParticipantId, PartyId, SynchronizerId};
use crate::plan::{Action, ParticipantAction, Plan, StepId};
use crate::text::text_forms;
use crate::wire;

/// What a plan does with participants.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ParticipantChange {
    /// One for each node of the plan, sorted by node.
    #[n(0)]
    pub moves: Vec<ParticipantMove>,
    /// The epoch in which the window opens: no source leaves its synchronizers before.
    #[n(1)]
    pub opens: Epoch,
    /// After this epoch the plan is called off by itself, unless it is past the point of no
    /// return; none if that is so after its last epoch only.
    #[n(2)]
    pub abort_after: Option<Epoch>,
}

/// One participant that moves.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ParticipantMove {
    /// The node that runs source and target.
    #[n(0)]
    pub node: NodeId,
    /// The participant whose contracts move.
    #[n(1)]
    pub source: ParticipantId,
    /// What the source runs.
    #[n(2)]
    pub source_version: ServerVersion,
    /// What the target runs.
    #[n(3)]
    pub target_version: ServerVersion,
    /// What keeps the target's keys.
    #[n(4)]
    pub custodian: CustodianKind,
    /// Where contracts go, sorted by `from`.
    #[n(5)]
    pub routes: Vec<SynchronizerRoute>,
    /// The parties that get a new name, sorted: every party that the source hosts, without its own
    /// and without those that hold their keys themselves.
    #[n(6)]
    pub parties: Vec<PartyId>,
}

/// Where the contracts of one synchronizer go: to the same one in most cases.
#[derive(Clone, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct SynchronizerRoute {
    /// Where they are.
    #[n(0)]
    pub from: SynchronizerId,
    /// Where they go.
    #[n(1)]
    pub to: SynchronizerId,
}

/// What keeps a participant's keys.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum CustodianKind {
    /// The participant itself, or a file.
    #[n(0)]
    Software,
    /// A hardware module, through PKCS #11.
    #[n(1)]
    Pkcs11,
    /// AWS KMS.
    #[n(2)]
    Aws,
    /// Google Cloud KMS.
    #[n(3)]
    Gcp,
    /// `HashiCorp` Vault or `OpenBao`, transit engine.
    #[n(4)]
    Vault,
}

impl CustodianKind {
    /// Every kind, in order.
    pub const ALL: [Self; 5] = [Self::Software, Self::Pkcs11, Self::Aws, Self::Gcp, Self::Vault];

    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Pkcs11 => "pkcs11",
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Vault => "vault",
        }
    }
}

impl fmt::Display for CustodianKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The longest version of a server.
pub const VERSION_CHARACTERS_MAX: usize = 64;

/// The version that a server says it has: `3.5.1`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServerVersion(String);

/// Why text is not the version of a server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "version {found:?} must have 1 to {limit} letters, digits, '.', '+', '_' and '-'",
    limit = VERSION_CHARACTERS_MAX
)]
pub struct ParseVersionError {
    /// The text, cut.
    pub found: String,
}

impl ServerVersion {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".+_-".contains(c);
        let fits = !text.is_empty() && text.len() <= VERSION_CHARACTERS_MAX;
        if fits && text.chars().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseVersionError { found: text.chars().take(VERSION_CHARACTERS_MAX).collect() })
    }
}

text_forms!(ServerVersion);

/// How far a participant's ledger goes.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cbor(transparent)]
pub struct LedgerOffset(#[n(0)] pub u64);

impl fmt::Display for LedgerOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One party's old and new name.
#[derive(Clone, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct PartyMove {
    /// On the source.
    #[n(0)]
    pub from: PartyId,
    /// On the target.
    #[n(1)]
    pub to: PartyId,
}

/// The digest of a whole party map, which operators agree to: of its moves, sorted by `from`.
pub fn map_digest(moves: &[PartyMove]) -> PartyMapDigest {
    let sorted: BTreeSet<&PartyMove> = moves.iter().collect();
    let sorted: Vec<&PartyMove> = sorted.into_iter().collect();
    let bytes = minicbor::to_vec(&sorted).expect("encoding into memory cannot fail");
    PartyMapDigest::of(bytes.as_slice())
}

/// Digests a set of contract ids of any size.
#[derive(Clone)]
pub struct ContractSetHasher {
    hash: aws_lc_rs::digest::Context,
    last: Option<Vec<u8>>,
    count: u64,
}

/// Ids of a set are not in order, or one is there twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("contract id number {position} of the set does not follow the one before it")]
pub struct NotAscending {
    /// Which one, counted from 0.
    pub position: u64,
}

impl Default for ContractSetHasher {
    fn default() -> Self {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        hash.update(context::CONTRACT_SET_DIGEST);
        Self { hash, last: None, count: 0 }
    }
}

impl ContractSetHasher {
    /// Adds an id, whose bytes must be greater than those of the one before.
    pub fn push(&mut self, id: &[u8]) -> Result<(), NotAscending> {
        if self.last.as_deref().is_some_and(|last| last >= id) {
            return Err(NotAscending { position: self.count });
        }
        // The length in front keeps two ids from reading like one.
        let length = u64::try_from(id.len()).unwrap_or(u64::MAX);
        self.hash.update(&length.to_be_bytes());
        self.hash.update(id);
        self.last = Some(id.to_vec());
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// How many there are so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The digest.
    pub fn finish(self) -> ContractSetDigest {
        let mut out = [0; 32];
        out.copy_from_slice(self.hash.finish().as_ref());
        ContractSetDigest::new(out)
    }
}

/// Digests the bytes of a snapshot, before compression, of any size.
#[derive(Clone)]
pub struct SnapshotHasher(aws_lc_rs::digest::Context);

impl Default for SnapshotHasher {
    fn default() -> Self {
        let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        hash.update(context::SNAPSHOT_DIGEST);
        Self(hash)
    }
}

impl SnapshotHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest.
    pub fn finish(self) -> SnapshotDigest {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        SnapshotDigest::new(out)
    }
}

/// What a node found before anything was planned. Signed by its agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ParticipantSurvey {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain of the node, which has no keyring.
    #[n(1)]
    pub domain: DomainId,
    /// The node.
    #[n(2)]
    pub node: NodeId,
    /// What it found.
    #[n(3)]
    pub found: SurveyFindings,
}

/// What a survey finds.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SurveyFindings {
    /// The participant whose contracts would move.
    #[n(0)]
    pub source: ParticipantId,
    /// What the source runs.
    #[n(1)]
    pub source_version: ServerVersion,
    /// What the target runs.
    #[n(2)]
    pub target_version: ServerVersion,
    /// What would keep the target's keys.
    #[n(3)]
    pub custodian: CustodianKind,
    /// The target, if it has a name already.
    #[n(4)]
    pub target: Option<ParticipantId>,
    /// Where contracts would go, sorted by `from`.
    #[n(5)]
    pub routes: Vec<SynchronizerRoute>,
    /// Every party that the source hosts, sorted by party.
    #[n(6)]
    pub parties: Vec<SurveyedParty>,
    /// Every other party that stands in its contracts, sorted by party.
    #[n(7)]
    pub foreign: Vec<ForeignParty>,
    /// How many packages the source has.
    #[n(8)]
    pub packages: u64,
    /// How many contracts are active.
    #[n(9)]
    pub contracts: u64,
    /// How far the source's ledger went.
    #[n(10)]
    pub ledger_end: LedgerOffset,
    /// What people should know, the worst first.
    #[n(11)]
    pub remarks: Vec<SurveyRemark>,
}

/// A party that a source hosts.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SurveyedParty {
    /// Who.
    #[n(0)]
    pub party: PartyId,
    /// What it is there.
    #[n(1)]
    pub kind: PartyKind,
}

/// What a party is on the participant that hosts it.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum PartyKind {
    /// The participant's keys sign for it: it gets a new name.
    #[n(0)]
    Local,
    /// The participant itself: the target has its own.
    #[n(1)]
    Admin,
    /// It signs for itself: its keys are elsewhere, and its name stays.
    #[n(2)]
    External,
}

impl PartyKind {
    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Admin => "admin",
            Self::External => "external",
        }
    }
}

/// A party that stands in contracts of a source and is hosted elsewhere.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ForeignParty {
    /// Who.
    #[n(0)]
    pub party: PartyId,
    /// Who hosts it, sorted; empty if nobody is known to.
    #[n(1)]
    pub hosts: Vec<ParticipantId>,
}

/// Something that a survey says to people.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SurveyRemark {
    /// How bad it is.
    #[n(0)]
    pub weight: RemarkWeight,
    /// What, in one line.
    #[n(1)]
    pub text: String,
}

/// How bad something is that a survey found.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum RemarkWeight {
    /// Nothing can be planned before it is put right.
    #[n(0)]
    Blocks,
    /// It can be planned, and people should think about it first.
    #[n(1)]
    Warns,
    /// Good to know.
    #[n(2)]
    Notes,
}

impl RemarkWeight {
    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Warns => "warns",
            Self::Notes => "notes",
        }
    }
}

/// What a node states for a step of a migration. Signed by its agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ParticipantStanding {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain.
    #[n(1)]
    pub domain: DomainId,
    /// The node.
    #[n(2)]
    pub node: NodeId,
    /// The step that asks.
    #[n(3)]
    pub step: PlanStep,
    /// What it says.
    #[n(4)]
    pub facts: ParticipantFacts,
}

/// What a step of a migration found out. Each is stated for the step of its name.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum ParticipantFacts {
    /// The target has its keys and its name.
    #[n(0)]
    Enrolled(#[n(0)] Enrolled),
    /// The target hosts the parties: this node's part of the party map, sorted by `from`.
    #[n(1)]
    Allocated(#[n(0)] Vec<PartyMove>),
    /// The source is disconnected from every synchronizer, and its ledger ends here.
    #[n(2)]
    Quiesced(#[n(0)] LedgerOffset),
    /// The snapshot of the source.
    #[n(3)]
    Exported(#[n(0)] Exported),
    /// The snapshot for the target.
    #[n(4)]
    Rewritten(#[n(0)] Rewritten),
    /// What the target shows after it was connected.
    #[n(5)]
    Reconciled(#[n(0)] Reconciled),
}

impl ParticipantFacts {
    /// The word that people use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Enrolled(_) => "enrolled",
            Self::Allocated(_) => "allocated",
            Self::Quiesced(_) => "quiesced",
            Self::Exported(_) => "exported",
            Self::Rewritten(_) => "rewritten",
            Self::Reconciled(_) => "reconciled",
        }
    }
}

/// A target with a name.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Enrolled {
    /// Its name, in the namespace of the key that its custodian made.
    #[n(0)]
    pub target: ParticipantId,
    /// What keeps that key.
    #[n(1)]
    pub custodian: CustodianKind,
}

/// A snapshot of a source.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Exported {
    /// Where the source's ledger ended when it was made, and after.
    #[n(0)]
    pub ledger_end: LedgerOffset,
    /// Its bytes.
    #[n(1)]
    pub snapshot: SnapshotDigest,
    /// How many contracts it has.
    #[n(2)]
    pub contracts: u64,
}

/// A snapshot with the new names, checked from the bytes that were written.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Rewritten {
    /// The snapshot that it was made from.
    #[n(0)]
    pub source: SnapshotDigest,
    /// The whole party map that was applied.
    #[n(1)]
    pub map: PartyMapDigest,
    /// Its bytes.
    #[n(2)]
    pub snapshot: SnapshotDigest,
    /// How many contracts it has: as many as the one before.
    #[n(3)]
    pub contracts: u64,
    /// The new ids of all of them.
    #[n(4)]
    pub ids: ContractSetDigest,
    /// What each other node of the plan must have too, sorted by node.
    #[n(5)]
    pub shared: Vec<SharedContracts>,
}

/// The contracts in which parties of two nodes stand.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SharedContracts {
    /// The other node.
    #[n(0)]
    pub node: NodeId,
    /// How many there are.
    #[n(1)]
    pub contracts: u64,
    /// Their new ids.
    #[n(2)]
    pub ids: ContractSetDigest,
}

/// What a target shows.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Reconciled {
    /// How many of the plan's contracts are active there.
    #[n(0)]
    pub contracts: u64,
    /// Their ids.
    #[n(1)]
    pub ids: ContractSetDigest,
    /// The key with which the custodian just signed, and whose signature was checked.
    #[n(2)]
    pub signer: Namespace,
    /// How far the target's ledger went.
    #[n(3)]
    pub ledger_end: LedgerOffset,
}

/// An operator consents to a party map: from then on, contracts in which its parties stand may
/// have these names. It cannot be taken back; the plan can be called off.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct MapAgreement {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The plan.
    #[n(1)]
    pub plan: PlanDigest,
    /// The operator of some node of the plan, as the fleet calls it.
    #[n(2)]
    pub operator: OperatorId,
    /// The whole map.
    #[n(3)]
    pub map: PartyMapDigest,
}

impl SurveyFindings {
    /// The parties that get a new name.
    pub fn movable(&self) -> impl Iterator<Item = &PartyId> {
        let local = |found: &&SurveyedParty| match found.kind {
            PartyKind::Local => true,
            PartyKind::Admin | PartyKind::External => false,
        };
        self.parties.iter().filter(local).map(|found| &found.party)
    }

    /// What must be put right before anything is planned.
    pub fn blocks(&self) -> impl Iterator<Item = &str> {
        self.remarks
            .iter()
            .filter(|remark| remark.weight == RemarkWeight::Blocks)
            .map(|remark| remark.text.as_str())
    }
}

impl ParticipantMove {
    /// The move that a survey shows.
    pub fn of(node: NodeId, found: &SurveyFindings) -> Self {
        Self {
            node,
            source: found.source.clone(),
            source_version: found.source_version.clone(),
            target_version: found.target_version.clone(),
            custodian: found.custodian,
            routes: found.routes.clone(),
            parties: found.movable().cloned().collect(),
        }
    }

    /// In what a survey differs from this move; none if it is still as planned. Contracts come and
    /// go until the source is quiet, and with them parties of others: a plan does not have them,
    /// and every stakeholder is looked at again when the snapshot is rewritten.
    pub fn difference(&self, found: &SurveyFindings) -> Option<&'static str> {
        if self.source != found.source {
            return Some("source");
        }
        if self.source_version != found.source_version {
            return Some("source version");
        }
        if self.target_version != found.target_version {
            return Some("target version");
        }
        if self.custodian != found.custodian {
            return Some("custodian");
        }
        if self.routes != found.routes {
            return Some("synchronizers");
        }
        if self.parties.iter().eq(found.movable()) { None } else { Some("parties") }
    }
}

impl ParticipantChange {
    /// What happens to the participant of a node.
    pub fn move_of(&self, node: &NodeId) -> Option<&ParticipantMove> {
        self.moves.iter().find(|part| part.node == *node)
    }
}

impl Plan {
    /// The forward step with which the participant of a node does this, if the plan has it.
    pub fn participant_step(&self, node: &NodeId, action: ParticipantAction) -> Option<StepId> {
        let wanted = Action::Participant(action);
        let found = self.steps.iter().find(|step| step.node == *node && step.action == wanted);
        found.map(|step| step.id)
    }
}

wire! {
    ParticipantChange: "participant change", crate::limit::PLAN_BYTES_MAX;
    ParticipantSurvey: "participant survey", PAYLOAD_BYTES_MAX;
    ParticipantStanding: "participant standing", PAYLOAD_BYTES_MAX;
    MapAgreement: "map agreement", 1024;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(from: &str, to: &str) -> PartyMove {
        PartyMove { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn a_map_has_one_digest_whatever_its_order() {
        let (a, b) = (moved("a::1220aa", "a::1220bb"), moved("b::1220aa", "b::1220bb"));
        let digest = map_digest(&[a.clone(), b.clone()]);
        assert_eq!(map_digest(&[b.clone(), a.clone()]), digest);
        assert_ne!(map_digest(std::slice::from_ref(&a)), digest);
        assert_ne!(map_digest(&[a, moved("b::1220aa", "b::1220cc")]), digest);
    }

    #[test]
    fn a_set_of_ids_is_taken_in_order_only() {
        let digest = |ids: &[&[u8]]| {
            let mut hasher = ContractSetHasher::default();
            ids.iter().try_for_each(|id| hasher.push(id)).map(|()| hasher.finish())
        };
        assert_ne!(digest(&[b"a", b"bc"]), digest(&[b"ab", b"c"]));
        assert_ne!(digest(&[]), digest(&[b"a"]));
        assert_eq!(digest(&[b"b", b"a"]), Err(NotAscending { position: 1 }));
        assert_eq!(digest(&[b"a", b"a"]), Err(NotAscending { position: 1 }));
    }

    #[test]
    fn a_version_has_nothing_but_plain_characters() {
        assert_eq!("3.5.10-SNAPSHOT".parse::<ServerVersion>().unwrap().as_str(), "3.5.10-SNAPSHOT");
        for text in ["", "3.5 1", "3\n", "ü", &"1".repeat(65)] {
            assert!(text.parse::<ServerVersion>().is_err(), "{text:?}");
        }
    }
}
