//! Copies and proofs, taken from the folded log.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::counter::LogIndex;
use heirloom_model::domain::PlanStep;
use heirloom_model::fleet::Node;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::Action;
use heirloom_registry::domain::{Challenged, DomainState, Proven};
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanState;

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

/// Every answer that the log remembers of a seat that no plan has emptied since.
pub fn standing_proofs(domain: &DomainState, emptied: &Emptied) -> Vec<Proof> {
    let stands = |asked: &Challenged, proof: &Proof| {
        asked.proofs().get(&proof.node).is_some_and(|proven| emptied.since(proven).is_none())
    };
    let standing = |asked| answers(asked).filter(move |proof| stands(asked, proof));
    domain.challenges().flat_map(standing).collect()
}

/// The seats that plans emptied, forward or back: whoever held there was stopped or forgot its
/// copy, or its state was moved into quarantine. What a seat proves afterwards counts again.
#[derive(Clone, Debug, Default)]
pub struct Emptied(BTreeMap<Seat, LogIndex>);

impl Emptied {
    /// What the remembered plans of a domain say.
    pub fn of(domain: &DomainId, state: &NetworkState) -> Self {
        let plans = state.plans().filter(|found| found.plan().domain == *domain);
        let mut emptied: BTreeMap<Seat, LogIndex> = BTreeMap::new();
        for (seat, at) in plans.flat_map(empties) {
            let last = emptied.entry(seat).or_insert(at);
            *last = at.max(*last);
        }
        Self(emptied)
    }

    /// The entry that last says that nobody holds at a seat any more.
    pub fn at(&self, node: &NodeId, code: &Measurement) -> Option<LogIndex> {
        self.0.get(&Seat::new(node, code)).copied()
    }

    /// The entry since which a proof shows nothing, because its seat was emptied after it.
    pub fn since(&self, proven: &Proven) -> Option<LogIndex> {
        let emptied = self.at(&proven.proof().node, &proven.result().measurement());
        emptied.filter(|at| *at > proven.at())
    }
}

/// The seats that the results of one plan say are empty.
fn empties(found: &PlanState) -> impl Iterator<Item = (Seat, LogIndex)> {
    found.results().iter().filter_map(|(step, (_, at))| {
        let step = found.plan().step(*step)?;
        let code = match &step.action {
            Action::Stop(placement) | Action::Forget(placement) => &placement.measurement,
            Action::Quarantine(code) => code,
            _ => return None,
        };
        Some((Seat::new(&step.node, code), *at))
    })
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
