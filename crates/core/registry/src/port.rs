//! The log store and the table of who is alive, as traits that adapters implement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;

/// An append-only log of envelopes, shared by everybody in a network.
///
/// A store orders bytes. It verifies nothing that its readers do not verify again. Each call
/// tries once, within a deadline of its own, and reports honestly; retries belong to the caller.
pub trait LogStore: Send + Sync {
    /// Appends an envelope as the entry at `expected`, and returns the position after it.
    ///
    /// When this returns, the entry survives a power failure. After [`AppendError::Unknown`] or
    /// a crash of the caller the entry may or may not be there: read from `expected` to see.
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError>;

    /// The position after the last entry.
    fn head(&self) -> Result<LogPosition, ReadError>;

    /// Entries from `from` on, in order, without a gap: at most `max`, and fewer if they are
    /// large. Empty only if the log has no entry at `from`.
    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError>;

    /// Waits until the log has an entry at `from`, at most `timeout`, and returns its position
    /// then. A position that is not beyond `from` means that the time ran out.
    fn watch(&self, from: LogIndex, timeout: Duration) -> Result<LogPosition, ReadError>;
}

impl<S: LogStore + ?Sized> LogStore for Arc<S> {
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError> {
        S::append(self, expected, envelope)
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        S::head(self)
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        S::read(self, from, max)
    }

    fn watch(&self, from: LogIndex, timeout: Duration) -> Result<LogPosition, ReadError> {
        S::watch(self, from, timeout)
    }
}

/// Why an envelope was not appended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// Another entry stands there, or one before it is missing.
    #[error("the log has {length} entries, another number than expected", length = head.length)]
    Conflict {
        /// The position after the last entry.
        head: LogPosition,
    },
    /// The store judged the statement and does not take it.
    #[error("the registry refuses the statement ({code}): {reason}")]
    Refused {
        /// [`Refusal::code`](crate::refusal::Refusal::code) of the reason.
        code: String,
        /// The reason, for people.
        reason: String,
    },
    /// More bytes than a statement may have.
    #[error("the statement has {found} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Bytes present.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// No space is left where the log is kept.
    #[error("no space is left for the log: {reason}")]
    Full {
        /// What the system said.
        reason: String,
    },
    /// The store could not be reached; nothing was appended.
    #[error("the registry cannot be reached: {reason}")]
    Unreachable {
        /// What the system said.
        reason: String,
    },
    /// The store's own data contradicts itself.
    #[error("the log is corrupt: {reason}")]
    Corrupt {
        /// Where and how.
        reason: String,
    },
    /// No answer came: the entry may or may not be there.
    #[error("it is not known whether the statement was appended: {reason}")]
    Unknown {
        /// What the system said.
        reason: String,
    },
}

/// Why the log cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// The store could not be reached, or did not answer in time.
    #[error("the registry cannot be reached: {reason}")]
    Unreachable {
        /// What the system said.
        reason: String,
    },
    /// The store answered that it does not serve this.
    #[error("the registry refuses to answer: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The store's data, or its answer, contradicts itself.
    #[error("the log is corrupt: {reason}")]
    Corrupt {
        /// Where and how.
        reason: String,
    },
}

/// Where nodes can be reached, until it expires. Never in the log.
///
/// An address is a hint: whoever connects demands evidence. A table keeps what it is given; that
/// the agent of the node said so is verified before.
pub trait PresenceTable: Send + Sync {
    /// Keeps what the agent of a node said, for as long as it said, in place of what it said
    /// before. Something that was said earlier than what is known is stale, also when that has
    /// expired.
    fn announce(&self, node: &NodeId, said: &Presence) -> Result<(), AnnounceError>;

    /// Everything that has not expired, each with about the time that is left.
    fn present(&self) -> Result<BTreeMap<NodeId, Presence>, ReadError>;
}

/// Where a node can be reached, as its agent said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Presence {
    /// Host and port.
    pub address: String,
    /// For how long.
    pub ttl: Duration,
    /// When the agent said so, by its clock, in milliseconds since 1970.
    pub said_at_ms: u64,
}

/// Why an address is not kept.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnnounceError {
    /// The agent has said something later.
    #[error("a newer announcement is known")]
    Stale,
    /// There are as many nodes as a network may have.
    #[error("more than the {limit} nodes that a network may have")]
    TooMany {
        /// Nodes allowed.
        limit: usize,
    },
    /// The table cannot be written.
    #[error(transparent)]
    Table(#[from] ReadError),
}
