//! The fleet: which nodes exist, where, and who answers for them.

use minicbor::{Decode, Encode};

use crate::counter::{Serial, Time};
use crate::digest::NetworkId;
use crate::identifier::{DomainId, FailureDomain, HostId, NodeId, OperatorId};
use crate::limit::PAYLOAD_BYTES_MAX;
use crate::signature::PublicKey;
use crate::wire;

/// The nodes of a network.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Fleet {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// Adds one with each change.
    #[n(1)]
    pub serial: Serial,
    /// Distinct nodes, sorted by name.
    #[n(2)]
    pub nodes: Vec<Node>,
    /// After this time the fleet is not accepted.
    #[n(3)]
    pub not_after: Time,
}

/// One keeper's place.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Node {
    /// Its name.
    #[n(0)]
    pub node: NodeId,
    /// Whose keys it is meant to hold.
    #[n(1)]
    pub domain: DomainId,
    /// The machine.
    #[n(2)]
    pub host: HostId,
    /// What can take it away together with others.
    #[n(3)]
    pub failure_domain: FailureDomain,
    /// Who runs it.
    #[n(4)]
    pub operator: OperatorId,
    /// Signs for its agent: step results, challenges.
    #[n(5)]
    pub agent: PublicKey,
}

wire! { Fleet: "fleet", PAYLOAD_BYTES_MAX; }
