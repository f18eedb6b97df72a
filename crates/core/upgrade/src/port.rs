//! What an agent needs from the outside, as traits that adapters implement.
//!
//! Each method says what it means after a crash. A call that timed out is *unknown*: the engine
//! observes before it decides.

use std::collections::BTreeSet;

use heirloom_model::admin::KeeperStatus;
use heirloom_model::digest::Nonce;
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
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

/// One node: its bundles, its keeper process, its sealed state.
///
/// Every change is idempotent and names what it expects to find. None deletes anything.
pub trait NodeDriver {
    /// What is there now. Changes nothing.
    fn observe(&mut self) -> Result<Observation, DriverError>;

    /// Fetches and stages a release, checks every digest and the free space, starts it once
    /// without keys beside the running keeper, takes its registration, stops it, and unseals
    /// every current secret of the running keeper once. Returns the registration statement.
    fn prepare(
        &mut self,
        release: &Release,
        measurement: &Measurement,
    ) -> Result<Vec<u8>, DriverError>;

    /// Lets running requests end; new ones are refused from now on.
    fn drain(&mut self) -> Result<(), DriverError>;

    /// Serves again after a drain.
    fn resume(&mut self) -> Result<(), DriverError>;

    /// Stops the keeper and observes that its process is gone. Other code running is refused.
    fn stop(&mut self, expect: &Measurement) -> Result<(), DriverError>;

    /// Moves sealed state of this measurement into quarantine.
    fn quarantine(&mut self, measurement: &Measurement) -> Result<(), DriverError>;

    /// Moves quarantined state of this measurement back. Live state of other code is refused.
    fn restore(&mut self, measurement: &Measurement) -> Result<(), DriverError>;

    /// Makes `install` the node's one bundle, in place of `expect`.
    fn install(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError>;

    /// Starts the installed bundle, which must be `expect`.
    fn start(&mut self, expect: &Measurement) -> Result<(), DriverError>;

    /// Lets the running keeper copy every missing generation from these nodes.
    fn replicate(&mut self, sources: &[NodeId]) -> Result<(), DriverError>;

    /// Feeds the running keeper with log entries; returns how far it has followed.
    fn follow(&mut self, entries: &[LogEntry]) -> Result<LogPosition, DriverError>;

    /// A registration statement of the running keeper.
    fn register(&mut self) -> Result<Vec<u8>, DriverError>;

    /// The running keeper's answer to a challenge, made from its durable state.
    fn prove(&mut self, challenge: &Nonce) -> Result<Vec<u8>, DriverError>;

    /// Lets the running keeper create the generation of this order; returns its receipt.
    fn create_generation(&mut self, order: &Nonce) -> Result<Vec<u8>, DriverError>;

    /// Lets the running keeper receive the generation of this order; returns its receipt.
    fn receive_generation(
        &mut self,
        order: &Nonce,
        sources: &[NodeId],
    ) -> Result<Vec<u8>, DriverError>;
}

/// What a node looks like.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Observation {
    /// The installed bundle's measurement.
    pub installed: Option<Measurement>,
    /// The running keeper.
    pub running: Option<Box<KeeperStatus>>,
    /// Measurements that have live sealed state.
    pub live: BTreeSet<Measurement>,
    /// Measurements that have quarantined state.
    pub quarantined: BTreeSet<Measurement>,
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
