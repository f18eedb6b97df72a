//! What goes over the wire, as JSON. Entries and statements travel as the bytes that they are.

use std::collections::BTreeMap;

use heirloom_model::context;
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::{LogHash, NetworkId, ParseHexError, sha256};
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::NODES_MAX;
use heirloom_model::signature::{BadSignature, PublicKey, Signature, SigningKey};
use serde::{Deserialize, Serialize};

/// One request may wait so long for an entry: shorter than the idle time-outs of usual proxies.
pub const WATCH_MS_MAX: u64 = 30_000;
/// An announced address is kept at most so long without being announced again.
pub const PRESENCE_MS_MAX: u64 = 600_000;
/// An announcement counts if it was made at most so long ago, or so far ahead, by the server's own
/// clock: hosts whose clocks differ by more have other problems.
pub const PRESENCE_SKEW_MS_MAX: u64 = 600_000;
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

/// Where a node can be reached, in the words of its agent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// Host and port.
    pub address: String,
    /// For how long, unless it is announced again.
    pub ttl_ms: u64,
    /// When the agent said so, in milliseconds since 1970. Grows with each announcement.
    pub said_at_ms: u64,
    /// The agent's signature, in hexadecimal.
    pub signature: String,
}

/// An announcement that the agent of its node has signed. Only [`Announcement::verify`] makes one.
#[derive(Debug)]
pub(crate) struct Vouched {
    node: NodeId,
    announcement: Announcement,
}

impl Announcement {
    /// What the agent that has `key` says about its node.
    pub fn signed(
        network: &NetworkId,
        node: &NodeId,
        address: &str,
        ttl_ms: u64,
        said_at_ms: u64,
        key: &SigningKey,
    ) -> Self {
        let (address, signature) = (address.to_owned(), String::new());
        let unsigned = Self { address, ttl_ms, said_at_ms, signature };
        let signature = key.sign(&unsigned.message(network, node)).signature.to_string();
        Self { signature, ..unsigned }
    }

    /// Verifies that the agent whose key this is said so about this node of this network.
    pub(crate) fn verify(
        self,
        network: &NetworkId,
        node: NodeId,
        agent: &PublicKey,
    ) -> Result<Vouched, NotVouched> {
        let signature: Signature = self.signature.parse()?;
        agent.verify_bytes(&self.message(network, &node), &signature)?;
        Ok(Vouched { node, announcement: self })
    }

    /// The bytes that are signed: every part has a fixed length.
    fn message(&self, network: &NetworkId, node: &NodeId) -> Vec<u8> {
        [
            context::PRESENCE,
            network.as_bytes(),
            &sha256(&[node.as_str().as_bytes()]),
            &sha256(&[self.address.as_bytes()]),
            &self.ttl_ms.to_be_bytes(),
            &self.said_at_ms.to_be_bytes(),
        ]
        .concat()
    }
}

impl Vouched {
    pub(crate) fn into_parts(self) -> (NodeId, Announcement) {
        (self.node, self.announcement)
    }
}

/// Why nobody vouches for an announcement.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NotVouched {
    /// The signature is not one.
    #[error("the signature cannot be read")]
    Unreadable(#[from] ParseHexError),
    /// Somebody else signed, or something else.
    #[error("the agent of the node did not sign this")]
    Signature(#[from] BadSignature),
}

/// Where a node can be reached, for how long.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Present {
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
    pub nodes: BTreeMap<String, Present>,
}
