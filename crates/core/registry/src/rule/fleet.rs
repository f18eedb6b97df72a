//! The fleet.

use heirloom_model::envelope::Envelope;
use heirloom_model::fleet::{Fleet, Node};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::limit::NODES_MAX;
use heirloom_model::root::Role;
use heirloom_model::signature::PublicKey;

use super::{Change, is_next, not_expired, same_network};
use crate::network::NetworkState;
use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, not_empty, require};
use crate::verified::{Verified, verify};

pub(crate) fn examine(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let fleet: Verified<Fleet> = verify(envelope, &[state.quorum(Role::Operator)?])?;
    same_network(state, fleet.network)?;
    is_next("fleet", state.fleet.as_ref().map(|old| old.serial.0), 1, fleet.serial.0)?;
    not_expired(state, "fleet", fleet.not_after)?;
    not_empty("fleet.nodes", &fleet.nodes)?;
    ascending("fleet.nodes", &fleet.nodes, NODES_MAX, |node| node.node.clone())?;
    // One key for two nodes would let one agent speak for both.
    let mut agents: Vec<PublicKey> = fleet.nodes.iter().map(|node| node.agent).collect();
    agents.sort_unstable();
    agents.dedup();
    require(agents.len() == fleet.nodes.len(), "fleet.nodes.agent", Fault::NotDistinct)?;
    Ok(Change::Fleet(fleet))
}

/// A node of a fleet that has not expired, in the given domain.
pub(crate) fn node_in<'a>(
    state: &'a NetworkState,
    node: &NodeId,
    domain: &DomainId,
) -> Result<&'a Node, Refusal> {
    let fleet = state.fleet.as_ref().ok_or(Refusal::NoFleet)?;
    not_expired(state, "fleet", fleet.not_after)?;
    let known = state.node(node).ok_or_else(|| Refusal::UnknownNode { node: node.clone() })?;
    if known.domain != *domain {
        return Err(Refusal::OtherDomain { node: node.clone() });
    }
    Ok(known)
}
