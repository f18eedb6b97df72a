//! The registry log: an append-only hash chain of envelopes.

use minicbor::{Decode, Encode};

use crate::counter::LogIndex;
use crate::digest::{LogHash, sha256};
use crate::domain::LogPosition;
use crate::limit::ENVELOPE_BYTES_MAX;
use crate::{context, wire};

/// One entry.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct LogEntry {
    /// Its position.
    #[n(0)]
    pub index: LogIndex,
    /// Hash of the entry before; all zero for the first.
    #[n(1)]
    pub previous: LogHash,
    /// The encoding of an [`Envelope`](crate::envelope::Envelope).
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub envelope: Vec<u8>,
}

impl LogEntry {
    /// The entry that follows `position` and carries `envelope`.
    pub fn following(position: &LogPosition, envelope: Vec<u8>) -> Self {
        Self { index: position.length, previous: position.head, envelope }
    }

    /// Hash of this entry, and through `previous` of all before it.
    pub fn hash(&self) -> LogHash {
        let index = self.index.0.to_be_bytes();
        LogHash::new(sha256(&[
            context::LOG_ENTRY,
            &index,
            self.previous.as_bytes(),
            &self.envelope,
        ]))
    }
}

impl LogPosition {
    /// Before the first entry.
    pub const START: Self = Self { length: LogIndex(0), head: LogHash::new([0; 32]) };

    /// The position after `entry`, which must follow this one; otherwise why it does not.
    pub fn advance(&self, entry: &LogEntry) -> Result<Self, BrokenChain> {
        if entry.index != self.length {
            return Err(BrokenChain::Index { expected: self.length, found: entry.index });
        }
        if entry.previous != self.head {
            return Err(BrokenChain::Hash { index: entry.index });
        }
        let length = self.length.next().ok_or(BrokenChain::Full)?;
        Ok(Self { length, head: entry.hash() })
    }
}

/// Why an entry does not follow the log before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BrokenChain {
    /// An entry is missing or repeated.
    #[error("log entry {found} stands where entry {expected} must")]
    Index {
        /// The position that comes next.
        expected: LogIndex,
        /// The position in the entry.
        found: LogIndex,
    },
    /// The entry belongs to another history.
    #[error("log entry {index} does not continue the history before it")]
    Hash {
        /// The entry.
        index: LogIndex,
    },
    /// No index is left.
    #[error("the log is full")]
    Full,
}

wire! { LogEntry: "log entry", ENVELOPE_BYTES_MAX + 128; }
