//! Copies and proofs, taken from the folded log.

use std::collections::BTreeSet;

use heirloom_model::domain::PlanStep;
use heirloom_model::fleet::Node;
use heirloom_model::identifier::NodeId;
use heirloom_registry::domain::{Challenged, DomainState};

use crate::holding::{Condition, KeyCopy, Keyring, Proof};

/// The keyring that the log says must survive; none before genesis.
pub fn keyring(domain: &DomainState) -> Option<Keyring> {
    let committed = domain.committed()?;
    Some(Keyring { generation: committed.generation, checksum: committed.checksum })
}

/// A copy for each node, of which those in `changing` do not count.
pub fn copies<'a>(
    nodes: impl IntoIterator<Item = &'a Node>,
    changing: &BTreeSet<NodeId>,
) -> Vec<KeyCopy> {
    let copy = |node: &Node| KeyCopy {
        node: node.node.clone(),
        failure_domain: node.failure_domain.clone(),
        condition: if changing.contains(&node.node) {
            Condition::Changing
        } else {
            Condition::Steady
        },
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
