//! Copies of a keyring, and what shows that one can be used.

use std::collections::BTreeSet;

use heirloom_model::counter::{Generation, LogIndex};
use heirloom_model::digest::Checksum;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::identifier::{FailureDomain, NodeId, PlatformId};
use heirloom_model::measurement::Measurement;

/// The keyring that must survive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keyring {
    /// Its newest committed generation.
    pub generation: Generation,
    /// The end of the hash chain over its generations.
    pub checksum: Checksum,
}

/// One measurement on one node: where an instance runs, and where its sealed state lies. While a
/// keyring is handed over, a node has several.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Seat {
    /// The node.
    pub node: NodeId,
    /// The code.
    pub measurement: Measurement,
}

impl Seat {
    /// This code on this node.
    pub fn new(node: &NodeId, measurement: &Measurement) -> Self {
        Self { node: node.clone(), measurement: *measurement }
    }
}

/// A place where the keyring is meant to be: a node, with all its seats.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyCopy {
    /// The node.
    pub node: NodeId,
    /// What can take it away together with others.
    pub failure_domain: FailureDomain,
    /// Whether it can be counted at all.
    pub condition: Condition,
    /// The code whose seat on this node does not count, because a plan has stopped, or is about
    /// to stop, the instance that holds there. Other seats of the node do count.
    pub changing: BTreeSet<Measurement>,
}

/// Whether a copy can be counted at all.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Condition {
    /// As far as anybody knows, its node is there.
    Steady,
    /// It is known to be gone, with every seat of its node.
    Lost,
}

/// A holder's answer to a challenge, reduced to what custody judges.
///
/// Whoever builds one from the log got it from a verified, attested statement. The planner and
/// the checker build the answers that a plan will ask for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// Who answered.
    pub node: NodeId,
    /// The machine that answered, as its evidence shows; none if nothing answered yet, and
    /// nobody knows on which machine the node will be.
    pub platform: Option<PlatformId>,
    /// The code that answered, as its evidence shows.
    pub measurement: Measurement,
    /// What it unsealed.
    pub generation: Generation,
    /// The checksum that it computed.
    pub checksum: Checksum,
    /// How the instance came to the keyring.
    pub origin: HoldingOrigin,
    /// The log entry of the challenge: the answer is younger than it.
    pub asked_at: LogIndex,
}

impl Proof {
    /// The seat that answered.
    pub fn seat(&self) -> Seat {
        Seat::new(&self.node, &self.measurement)
    }
}
