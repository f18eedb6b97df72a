//! Copies and proofs, taken from the folded log.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::domain::PlanStep;
use heirloom_model::fleet::Node;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_registry::domain::{Challenged, DomainState};

use crate::holding::{Condition, KeyCopy, Keyring, Proof, Seat};

/// The keyring that the log says must survive; none before genesis.
pub fn keyring(domain: &DomainState) -> Option<Keyring> {
    let committed = domain.committed()?;
    Some(Keyring { generation: committed.generation, checksum: committed.checksum })
}

/// A copy for each node. The seats in `changing` do not count; others of the same node do.
pub fn copies<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    changing: &BTreeSet<Seat>,
) -> Vec<KeyCopy> {
    let mut by_node: BTreeMap<&NodeId, BTreeSet<Measurement>> = BTreeMap::new();
    for seat in changing {
        by_node.entry(&seat.node).or_default().insert(seat.measurement);
    }
    let copy = |node: &Node| KeyCopy {
        node: node.node.clone(),
        failure_domain: node.failure_domain.clone(),
        condition: Condition::Steady,
        changing: by_node.get(&node.node).cloned().unwrap_or_default(),
    };
    nodes.into_iter().map(copy).collect()
}

/// Every answer that the log remembers.
pub fn proofs(domain: &DomainState) -> Vec<Proof> {
    domain.challenges().flat_map(answers).collect()
}

/// The answers to the challenges of one step of a plan.
pub fn proofs_of(domain: &DomainState, step: PlanStep) -> Vec<Proof> {
    domain.challenges_of(step).flat_map(answers).collect()
}

/// The answers to one challenge. The measurement is the one that the evidence shows.
fn answers(asked: &Challenged) -> impl Iterator<Item = Proof> {
    asked.proofs().iter().map(|(node, proven)| Proof {
        node: node.clone(),
        platform: Some(proven.result().platform()),
        measurement: proven.result().measurement(),
        generation: proven.proof().generation,
        checksum: proven.proof().checksum,
        origin: proven.proof().origin,
        asked_at: asked.at(),
    })
}

#[cfg(test)]
mod tests;
