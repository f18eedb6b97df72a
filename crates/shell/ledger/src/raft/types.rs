//! What nodes agree on.

use heirloom_model::digest::sha256;
use heirloom_model::identifier::NodeId;
use heirloom_model::service::Tip;
use openraft::BasicNode;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// The types of this consensus.
    pub LedgerRaft:
        D = Proposed,
        R = Outcome,
        NodeId = u64,
        Node = BasicNode,
        SnapshotData = SnapshotNote,
);

/// A node of consensus.
pub type Raft = openraft::Raft<LedgerRaft>;
/// An entry of its log.
pub type Entry = openraft::Entry<LedgerRaft>;
/// Where a log ends.
pub type LogId = openraft::LogId<u64>;
/// Who takes part.
pub type Membership = openraft::StoredMembership<u64, BasicNode>;

/// A block that a leader proposes: the encodings of the block and its metadata.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Proposed(#[serde(with = "hex::serde")] pub Vec<u8>);

/// What became of an entry.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Outcome {
    /// The ledger has its block.
    Applied,
    /// It proposed a block that another one has overtaken: it has no effect, on any node.
    Overtaken,
    /// It has no block.
    Nothing,
}

/// A snapshot is a note of where the ledger stood: the ledger itself is on disk, and a peer that
/// lags is sent the blocks that it does not have.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SnapshotNote {
    /// How many blocks there were.
    pub height: u64,
    /// The last of them.
    pub id: String,
}

impl SnapshotNote {
    /// The note about a tip.
    pub fn of(tip: Tip) -> Self {
        Self { height: tip.height.0, id: tip.id.to_string() }
    }
}

/// The number of a node in consensus. It follows from the name alone, so that it stays the same
/// whoever else there is.
pub fn number(node: &NodeId) -> u64 {
    let digest = sha256(&[b"heirloom ledger node", node.as_str().as_bytes()]);
    let mut first = [0; 8];
    for (byte, from) in first.iter_mut().zip(digest) {
        *byte = from;
    }
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_node_follows_from_its_name() {
        let [one, two] = ["n1", "n2"].map(|name| number(&name.parse().unwrap()));
        assert_ne!(one, two);
        assert_eq!(one, number(&"n1".parse().unwrap()));
    }
}
