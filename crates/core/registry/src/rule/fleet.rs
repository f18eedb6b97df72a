//! The fleet.

use std::collections::BTreeSet;

use heirloom_model::envelope::Envelope;
use heirloom_model::fleet::{Fleet, Node};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::limit::{NODES_MAX, ROLE_KEYS_MAX};
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
    check_operators(&fleet, state.operators())?;
    Ok(Change::Fleet(fleet))
}

/// Each operator has one key, and each key one operator: nobody speaks for two. Who has no key of
/// the role in force could not speak at all.
fn check_operators(fleet: &Fleet, role: &[PublicKey]) -> Result<(), Refusal> {
    let named = &fleet.operators;
    ascending("fleet.operators", named, ROLE_KEYS_MAX, |named| named.operator.clone())?;
    let distinct: BTreeSet<&PublicKey> = named.iter().map(|named| &named.key).collect();
    require(distinct.len() == named.len(), "fleet.operators.key", Fault::NotDistinct)?;
    let known = distinct.into_iter().all(|key| role.contains(key));
    require(known, "fleet.operators.key", Fault::Dangling)
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
