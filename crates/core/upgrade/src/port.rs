//! What an agent needs from the outside, as traits that adapters implement.
//!
//! Each method says what it means after a crash. A call that timed out is *unknown*: the engine
//! observes before it decides.

pub mod keeperless;
pub mod participant;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heirloom_model::admin::{KeeperStatus, Ticket};
use heirloom_model::digest::{Nonce, PlanDigest};
use heirloom_model::domain::{ActivationCause, LogPosition, PlanStep};
use heirloom_model::identifier::{NodeId, TestName};
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;
use heirloom_model::release::Release;
use heirloom_model::service::{ServiceStatus, Terms, Tip};

use crate::journal::Durable;

pub use participant::{
    Connection, Imported, Link, ParticipantCall, ParticipantDriver, ParticipantObservation,
    PlanWork, Restart, ServerObservation,
};

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

    /// The service that this node runs besides its keeper, if it runs one.
    fn service(&mut self) -> Option<&mut dyn ServiceDriver> {
        None
    }

    /// The participant that this node can move, if it has one.
    fn participant(&mut self) -> Option<&mut dyn ParticipantDriver> {
        None
    }
}

/// The service of one node: its process, its database, and the proxy in front of it.
///
/// Every call is idempotent, names what it expects to find, and deletes nothing. What has to be
/// waited for is [`DriverError::Unknown`] until it is there: the call is made again. Where a step
/// cannot succeed as things are, the error is any other one, and the plan is called off.
///
/// What the node was last told to be - which code runs, whose work it takes - is durable before a
/// call returns. A process that dies, a host that starts again and a proxy that forgets are put
/// right by [`keep`](Self::keep).
pub trait ServiceDriver {
    /// Fetches and stages the release, checks digests and space, tries the code once without data,
    /// and returns the [`Standing`](heirloom_model::service::Standing) that it made.
    fn equip(
        &mut self,
        release: &Release,
        code: &Measurement,
        step: PlanStep,
    ) -> Result<Vec<u8>, DriverError>;

    /// The standing of the running instance of this code.
    fn state(&mut self, code: &Measurement, step: PlanStep) -> Result<Vec<u8>, DriverError>;

    /// Closes the node and the proxy in front of it. Unknown while clients' requests run.
    fn fence(&mut self) -> Result<(), DriverError>;

    /// Lets the running instance of this code promise that it appends nothing, once it has been
    /// quiet for so long. Unknown until then.
    fn freeze(&mut self, code: &Measurement, quiet: Duration) -> Result<(), DriverError>;

    /// Ends the process of this code, and sees that it is gone and that its database is free.
    fn halt(&mut self, code: &Measurement) -> Result<(), DriverError>;

    /// Copies database and distribution state as a pair, under the name of the plan, and compares
    /// the copy with this tip.
    fn snapshot(&mut self, plan: &PlanDigest, tip: &Tip) -> Result<(), DriverError>;

    /// Migrates a copy and puts it in the database's place.
    fn migrate(&mut self, plan: &PlanDigest, tip: &Tip, terms: &Terms) -> Result<(), DriverError>;

    /// Puts the database in place again that was there before the plan's migration.
    fn revert(&mut self, plan: &PlanDigest, tip: &Tip) -> Result<(), DriverError>;

    /// Makes `install` the installed service, in place of `expect`.
    fn deploy(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError>;

    /// Starts this code, closed. Refused if its ledger does not end with `expected`, where that is
    /// said. Then opens the side door. An instance of this code that runs already, and loaded an
    /// older tip than that, is ended and started again; one that has gone on from there is taken.
    fn launch(&mut self, code: &Measurement, expected: Option<&Tip>) -> Result<(), DriverError>;

    /// Carries out tests through the side door. They leave a durable mark for this step.
    fn exercise(&mut self, step: PlanStep, tests: &[TestName]) -> Result<(), DriverError>;

    /// Lets clients in, at the node and at the proxy, and distributes blocks.
    fn open(&mut self) -> Result<(), DriverError>;

    /// Puts right what is not as this node was last told to be.
    fn keep(&mut self) -> Result<(), DriverError>;
}

/// What a service looks like from its host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceObservation {
    /// The installed service's measurement.
    pub installed: Option<Measurement>,
    /// The instance that runs and answers.
    pub running: Option<Box<ServiceStatus>>,
    /// Code whose process exists and does not answer.
    pub silent: BTreeSet<Measurement>,
    /// Who has the database open, for people; none if it is free.
    pub database_held: Option<String>,
    /// What the running proxy does with clients; none if that cannot be seen.
    pub edge: Option<EdgeAdmission>,
    /// Plans for which a verified snapshot exists, with its tip.
    pub snapshots: BTreeMap<PlanDigest, Tip>,
    /// The plan whose migrated copy is the live database; none if it is the original.
    pub migrated: Option<PlanDigest>,
    /// The steps whose tests succeeded.
    pub exercised: BTreeSet<PlanStep>,
    /// Work on the host that somebody began and that goes on, for people. What is seen may change
    /// until it ends: nothing is done before.
    pub under_way: Option<String>,
    /// What is not as the node was last told to be, for people.
    pub drift: Option<String>,
}

/// What a reverse proxy does with clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EdgeAdmission {
    /// It turns them away.
    Closed,
    /// It lets them through.
    Open,
}

impl ServiceObservation {
    /// Whether a process of this code exists, whether it answers or not.
    pub fn exists(&self, code: &Measurement) -> bool {
        self.silent.contains(code) || self.running_code() == Some(code)
    }

    /// The code that runs and answers.
    pub fn running_code(&self) -> Option<&Measurement> {
        self.running.as_ref().map(|status| &status.measurement)
    }
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
    /// The service, if this node runs one.
    pub service: Option<ServiceObservation>,
    /// The participant that a plan moves, while there is one.
    pub participant: Option<ParticipantObservation>,
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
