//! What an agent needs from the outside, as traits that adapters implement.
//!
//! Each method says what it means after a crash. A call that timed out is *unknown*: the engine
//! observes before it decides.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::admin::{KeeperStatus, Ticket};
use heirloom_model::digest::Nonce;
use heirloom_model::domain::{ActivationCause, LogPosition, PlanStep};
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;
use heirloom_model::release::Release;

use crate::journal::Durable;

/// The durable journal of one agent.
pub trait JournalStore {
    /// Appends one encoded record. When it returns, the record survives a power failure. After a
    /// crash in the middle the record is there whole, or not at all.
    fn append(&mut self, record: &[u8]) -> Result<Durable, JournalError>;
}

/// Why a record was not appended. Nothing may act on it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JournalError {
    /// The disk is full.
    #[error("no space is left for the journal")]
    Full,
    /// The journal cannot be written.
    #[error("the journal cannot be written: {0}")]
    Unwritable(String),
    /// The process is going down.
    #[error("the agent is stopping")]
    Stopping,
}

/// One node: its bundles, its seats, and what is sealed in them.
///
/// A seat is one measurement on the node. Several instances run side by side while a keyring is
/// handed over, so every call that concerns an instance names its code. Every change is idempotent
/// and names what it expects to find. None deletes anything.
pub trait NodeDriver {
    /// What is there now. Changes nothing. An instance that does not answer is
    /// [silent](Observation::silent); it does not keep the others from being seen.
    fn observe(&mut self) -> Result<Observation, DriverError>;

    /// Fetches and stages a release, checks every digest and the free space, starts it once
    /// without keys beside what runs, takes its registration, and stops it. Needs no plan and
    /// touches no keeper. Returns the registration statement.
    fn stage(
        &mut self,
        release: &Release,
        measurement: &Measurement,
    ) -> Result<Vec<u8>, DriverError>;

    /// As [`stage`](Self::stage); and every running instance that holds unseals every current
    /// secret once.
    fn prepare(
        &mut self,
        release: &Release,
        measurement: &Measurement,
    ) -> Result<Vec<u8>, DriverError>;

    /// Lets running requests of this code end; new ones are refused from now on.
    fn drain(&mut self, code: &Measurement) -> Result<(), DriverError>;

    /// Lets this code serve again after a drain.
    fn resume(&mut self, code: &Measurement) -> Result<(), DriverError>;

    /// Stops the instance of this code and observes that its process is gone. If none runs, it is
    /// done. Other seats go on.
    fn stop(&mut self, code: &Measurement) -> Result<(), DriverError>;

    /// Moves sealed state of this measurement into quarantine. Refused while that code runs.
    fn quarantine(&mut self, measurement: &Measurement) -> Result<(), DriverError>;

    /// Moves quarantined state of this measurement back. Refused while that code runs. Live state
    /// of the same code stays as it is: then it is done.
    fn restore(&mut self, measurement: &Measurement) -> Result<(), DriverError>;

    /// Makes `install` the node's one installed bundle, in place of `expect`. What runs goes on.
    fn install(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError>;

    /// Starts this code, which is installed or staged, in its seat. If it runs, it is done.
    fn start(&mut self, code: &Measurement) -> Result<(), DriverError>;

    /// Lets the instance of this code copy every missing generation from these nodes.
    fn replicate(&mut self, code: &Measurement, sources: &[NodeId]) -> Result<(), DriverError>;

    /// Tells the instance of this code that its agent is about to read the log to its end.
    fn attend(&mut self, code: &Measurement) -> Result<Ticket, DriverError>;

    /// Feeds the instance of this code with log entries; returns how far it has followed. With a
    /// ticket, the entries are the end of the log, read after the ticket was given; no entries
    /// then mean that it has the whole log.
    fn follow(
        &mut self,
        code: &Measurement,
        entries: &[LogEntry],
        attended: Option<Ticket>,
    ) -> Result<LogPosition, DriverError>;

    /// A registration statement of the instance of this code.
    fn register(&mut self, code: &Measurement) -> Result<Vec<u8>, DriverError>;

    /// Its answer to a challenge, made from its durable state.
    fn prove(&mut self, code: &Measurement, challenge: &Nonce) -> Result<Vec<u8>, DriverError>;

    /// Lets it create the generation of this order; returns its receipt.
    fn create_generation(
        &mut self,
        code: &Measurement,
        order: &Nonce,
    ) -> Result<Vec<u8>, DriverError>;

    /// Lets it receive the generation of this order; returns its receipt.
    fn receive_generation(
        &mut self,
        code: &Measurement,
        order: &Nonce,
        sources: &[NodeId],
    ) -> Result<Vec<u8>, DriverError>;

    /// Lets the instance of `to` receive the keyring from the instance of `from` on `from_node`,
    /// which may be this node, by this step. What it received is durable when this returns.
    fn hand_over(
        &mut self,
        to: &Measurement,
        step: PlanStep,
        from_node: &NodeId,
        from: &Measurement,
    ) -> Result<(), DriverError>;

    /// Lets the instance of this code say that it serves no more, by this step; returns the
    /// suspension. From the moment at which it is asked it may answer nobody, whatever becomes of
    /// the statement. Asked again, it makes the statement again.
    fn suspend(&mut self, code: &Measurement, step: PlanStep) -> Result<Vec<u8>, DriverError>;

    /// Lets the instance of this code say that it is the active holder; returns the activation.
    /// It changes nothing before the log contains it.
    fn activate(
        &mut self,
        code: &Measurement,
        cause: ActivationCause,
    ) -> Result<Vec<u8>, DriverError>;

    /// Lets the instance of this code, an upgrader, give up its copy by this step. What the seat
    /// had is gone when this returns.
    fn forget(&mut self, code: &Measurement, step: PlanStep) -> Result<(), DriverError>;

    /// Copies the live sealed state of this measurement into quarantine, durably, and leaves it
    /// in place.
    fn preserve(&mut self, measurement: &Measurement) -> Result<(), DriverError>;

    /// Lets the instance of this code seal everything again, as platform and code are now.
    fn reseal(&mut self, code: &Measurement) -> Result<(), DriverError>;
}

/// What a node looks like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Observation {
    /// The installed bundle's measurement.
    pub installed: Option<Measurement>,
    /// The instances that run and answer, by their code.
    pub running: BTreeMap<Measurement, Box<KeeperStatus>>,
    /// The code whose process exists and does not answer. It runs as far as anybody can tell, and
    /// nothing can be asked of it.
    pub silent: BTreeSet<Measurement>,
    /// Measurements that have live sealed state.
    pub live: BTreeSet<Measurement>,
    /// Measurements that have quarantined state.
    pub quarantined: BTreeSet<Measurement>,
}

impl Observation {
    /// What the instance of this code says about itself, if it runs and answers.
    pub fn status(&self, code: &Measurement) -> Option<&KeeperStatus> {
        self.running.get(code).map(|status| &**status)
    }

    /// Whether a process of this code exists, whether it answers or not.
    pub fn exists(&self, code: &Measurement) -> bool {
        self.running.contains_key(code) || self.silent.contains(code)
    }

    /// The instance that answers key requests now, if any.
    pub fn serving(&self) -> Option<&KeeperStatus> {
        self.running
            .values()
            .map(|status| &**status)
            .find(|status| status.state == ServingState::Ready && status.role == HolderRole::Keeper)
    }

    /// The seats that run and answer, the installed one first.
    pub fn seats(&self) -> impl Iterator<Item = (&Measurement, &KeeperStatus)> {
        let is_installed = |code: &Measurement| self.installed.as_ref() == Some(code);
        let all = || self.running.iter().map(|(code, status)| (code, &**status));
        let first = all().filter(move |(code, _)| is_installed(code));
        first.chain(all().filter(move |(code, _)| !is_installed(code)))
    }
}

/// Why a node did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DriverError {
    /// The world is not as the call expects; nothing was changed.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What the call names.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Something that the call needs does not exist.
    #[error("{what} is missing")]
    Missing {
        /// What.
        what: String,
    },
    /// Something is not what was signed, sealed or written.
    #[error("{what} is corrupt: {reason}")]
    Corrupt {
        /// What.
        what: String,
        /// How it shows.
        reason: String,
    },
    /// The keeper, the platform or the policy says no.
    #[error("refused: {0}")]
    Refused(String),
    /// Nobody answered. It may or may not have happened.
    #[error("no answer: {0}")]
    Unknown(String),
    /// The disk is full.
    #[error("no space is left for {0}")]
    Full(String),
    /// The process is going down.
    #[error("the agent is stopping")]
    Stopping,
}
