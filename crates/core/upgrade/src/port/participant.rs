//! What an agent needs from the two participants of a node that moves to another key store.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::digest::{ContractSetDigest, PlanDigest};
use heirloom_model::identifier::NodeId;
use heirloom_model::participant::{
    Enrolled, Exported, LedgerOffset, ParticipantMove, PartyMove, Reconciled, Rewritten,
    ServerVersion, SurveyFindings,
};
use heirloom_model::party::{ParticipantId, PartyId, SynchronizerId};

use super::DriverError;

/// What a call is about.
#[derive(Clone, Copy, Debug)]
pub struct ParticipantCall<'a> {
    /// The plan: everything that the driver leaves on this host is under its name.
    pub plan: PlanDigest,
    /// What the plan says about this node.
    pub moved: &'a ParticipantMove,
}

/// The source and the target of one node, and the custodian of the target's keys.
///
/// Every call is idempotent and finds out from source and target themselves what is left to do: a
/// process may have died in any of them. What has to be waited for is [`DriverError::Unknown`]
/// until it is there: the call is made again. Where a step cannot succeed as things are, the error
/// is any other one, and the plan is called off unless nobody noticed anything of it yet.
///
/// Each call first compares what it finds with the task: another source, another version, another
/// synchronizer or another party than planned is [`DriverError::Unexpected`], and nothing changes.
/// Nothing that the source has is ever deleted.
pub trait ParticipantDriver {
    /// Looks at source, target and custodian, without a plan. Changes nothing.
    fn survey(&mut self) -> Result<SurveyFindings, DriverError>;

    /// What is there now. Changes nothing. A server that does not answer is none, and does not
    /// keep the rest from being seen.
    fn observe(&mut self, task: ParticipantCall<'_>)
    -> Result<ParticipantObservation, DriverError>;

    /// Lets the custodian make the target's keys, or finds those that it made for this plan, and
    /// gives the target its name.
    fn enroll(&mut self, task: ParticipantCall<'_>) -> Result<Enrolled, DriverError>;

    /// Lets the target host every party of the task under its new name, and waits until that is
    /// effective on every synchronizer. Returns the moves, sorted by `from`.
    fn allocate(&mut self, task: ParticipantCall<'_>) -> Result<Vec<PartyMove>, DriverError>;

    /// Gives the target every package of the source. The content of each is checked against its
    /// id before it is uploaded; vetting is effective when this returns.
    fn supply(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError>;

    /// Notes how the source is connected, disconnects it from every synchronizer, and sees to it
    /// that it does not connect by itself after a restart. Returns where its ledger ends.
    fn quiesce(&mut self, task: ParticipantCall<'_>) -> Result<LedgerOffset, DriverError>;

    /// Takes a snapshot of the source, whose ledger must end with `ledger_end` before and after.
    fn export(
        &mut self,
        task: ParticipantCall<'_>,
        ledger_end: LedgerOffset,
    ) -> Result<Exported, DriverError>;

    /// Verifies the snapshot that was exported, rewrites it with the whole map, and verifies what
    /// was written from its bytes. `parts` has the moves of every node of the plan, this one
    /// included: their union is the map. States one entry of `shared` for each other node: the
    /// contracts in which a party of this node and a party of that one stand.
    fn rewrite(
        &mut self,
        task: ParticipantCall<'_>,
        exported: &Exported,
        parts: &BTreeMap<NodeId, Vec<PartyMove>>,
    ) -> Result<Rewritten, DriverError>;

    /// Copies the target's store, so that it can be put back as it was, and leaves a durable mark.
    fn safeguard(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError>;

    /// Disconnects the target, so that it stays disconnected after a restart too, and imports what
    /// it lacks of the rewritten snapshot.
    fn import(
        &mut self,
        task: ParticipantCall<'_>,
        rewritten: &Rewritten,
    ) -> Result<(), DriverError>;

    /// Connects the target to every synchronizer of the task. After a restart it does not connect
    /// by itself yet.
    fn connect(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError>;

    /// Compares contracts, stakeholders and ids that the target shows with those of the rewritten
    /// snapshot, and lets the custodian sign once with the key of the target's namespace.
    fn reconcile(
        &mut self,
        task: ParticipantCall<'_>,
        rewritten: &Rewritten,
    ) -> Result<Reconciled, DriverError>;

    /// Lets the target connect by itself from now on. The source stays disconnected, and as it is.
    fn settle(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError>;

    /// Way back: disconnects the target, so that it stays disconnected after a restart too.
    fn disconnect(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError>;

    /// Way back: takes from the target what this plan imported, and nothing else. `rewritten` is
    /// what this node stated, if it got that far.
    fn purge(
        &mut self,
        task: ParticipantCall<'_>,
        rewritten: Option<&Rewritten>,
    ) -> Result<(), DriverError>;

    /// Way back: connects the source again, as it was connected before it was quiet.
    fn reconnect(&mut self, task: ParticipantCall<'_>) -> Result<(), DriverError>;
}

/// What source and target of a node look like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ParticipantObservation {
    /// The source, if it answers.
    pub source: Option<ServerObservation>,
    /// The target, if it answers.
    pub target: Option<ServerObservation>,
    /// What became of the plan so far, as target and disk show.
    pub work: PlanWork,
    /// Work on the host that somebody began and that goes on, for people. What is seen may change
    /// until it ends: nothing is done before.
    pub under_way: Option<String>,
}

/// What one server says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerObservation {
    /// Its name, once it has one.
    pub participant: Option<ParticipantId>,
    /// What it runs.
    pub version: ServerVersion,
    /// The synchronizers that it knows, and how it is with each.
    pub synchronizers: BTreeMap<SynchronizerId, Connection>,
    /// The parties that it hosts, without its own.
    pub parties: BTreeSet<PartyId>,
    /// How far its ledger goes, if it says so.
    pub ledger_end: Option<LedgerOffset>,
}

/// How a participant is with a synchronizer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connection {
    /// Now.
    pub link: Link,
    /// After a restart of the participant.
    pub restart: Restart,
}

/// Whether a participant is connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Link {
    /// It takes part.
    Connected,
    /// It does not.
    Disconnected,
}

/// What a participant does by itself after a restart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Restart {
    /// It connects.
    Automatic,
    /// It stays disconnected until somebody connects it.
    Manual,
}

/// What is there of one plan. The target's state decides wherever it can be asked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PlanWork {
    /// Packages of the source that the target does not have, or has not vetted; none if that
    /// cannot be seen.
    pub lacking: Option<u64>,
    /// Whether the copy of the target's store is there, whole.
    pub safeguarded: bool,
    /// The contracts of this plan that are active on the target now; none if that cannot be seen.
    /// May be remembered for as long as the end of the target's ledger stays where it is.
    pub imported: Option<Imported>,
}

/// Contracts of a plan on its target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Imported {
    /// How many.
    pub contracts: u64,
    /// Their ids.
    pub ids: ContractSetDigest,
}

impl ServerObservation {
    /// Whether it is connected to none of its synchronizers, now and after a restart.
    pub fn is_off(&self) -> bool {
        self.synchronizers.values().all(|connection| {
            connection.link == Link::Disconnected && connection.restart == Restart::Manual
        })
    }

    /// Whether it is connected to a synchronizer.
    pub fn is_connected(&self, synchronizer: &SynchronizerId) -> bool {
        let found = self.synchronizers.get(synchronizer);
        found.is_some_and(|connection| connection.link == Link::Connected)
    }
}
