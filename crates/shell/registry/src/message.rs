//! What goes over the wire, as JSON. Entries and statements travel as the bytes that they are.

use std::collections::BTreeMap;

use heirloom_model::counter::LogIndex;
use heirloom_model::digest::{LogHash, ParseHexError};
use heirloom_model::domain::LogPosition;
use heirloom_model::limit::NODES_MAX;
use serde::{Deserialize, Serialize};

/// One request may wait so long for an entry: shorter than the idle time-outs of usual proxies.
pub const WATCH_MS_MAX: u64 = 30_000;
/// An announced address is kept at most so long without being announced again.
pub const PRESENCE_MS_MAX: u64 = 600_000;
/// A host name has at most 253 characters; a port has 6 with its colon.
pub const ADDRESS_BYTES_MAX: usize = 260;
/// Any JSON that server and client exchange, but for all addresses: a few lines.
pub const JSON_BYTES_MAX: usize = 16 * 1024;
/// The addresses of the largest network, as JSON.
pub const PRESENCE_BYTES_MAX: usize = 512 * NODES_MAX;
/// How many bytes stand before each entry and say how long it is.
pub const ENTRY_LENGTH_BYTES: usize = 4;

/// A position in the log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// How many entries there are.
    pub length: u64,
    /// Hash of the last one, in hexadecimal.
    pub head: String,
}

impl From<LogPosition> for Head {
    fn from(position: LogPosition) -> Self {
        Self { length: position.length.0, head: position.head.to_string() }
    }
}

impl TryFrom<&Head> for LogPosition {
    type Error = ParseHexError;

    fn try_from(head: &Head) -> Result<Self, ParseHexError> {
        Ok(Self { length: LogIndex(head.length), head: head.head.parse::<LogHash>()? })
    }
}

/// Why a request was not carried out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "error")]
pub enum Failure {
    /// Another entry stands there, or one before it is missing.
    Conflict {
        /// The end of the log.
        head: Head,
    },
    /// The statement breaks a rule.
    Refused {
        /// The stable code of the rule.
        code: String,
        /// For people.
        reason: String,
    },
    /// The request cannot be understood.
    Malformed {
        /// For people.
        reason: String,
    },
    /// More bytes, or more of something, than allowed.
    TooLarge {
        /// How many are allowed.
        limit: usize,
    },
    /// No space is left.
    Full {
        /// For people.
        reason: String,
    },
    /// The log contradicts itself.
    Corrupt {
        /// For people.
        reason: String,
    },
    /// The log cannot be read or written now; nothing was changed.
    Unavailable {
        /// For people.
        reason: String,
    },
    /// The statement may or may not have been appended.
    Unknown {
        /// For people.
        reason: String,
    },
}

/// Where a node can be reached.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// Host and port.
    pub address: String,
    /// For how long, unless it is announced again.
    pub ttl_ms: u64,
}

/// Where nodes can be reached now.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// By node, each with the time that is left.
    pub nodes: BTreeMap<String, Announcement>,
}
