//! Where each copy is, while a plan is told.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, KeyringPlan, Step};

use super::Copies;
use crate::inventory::Inventory;

/// Where each copy is.
pub(super) struct Ledger<'i> {
    inventory: &'i Inventory,
    /// By node and code.
    seats: BTreeMap<(&'i NodeId, Measurement), State>,
    /// Nodes that get the keyring with the code that another node has already.
    targets: BTreeSet<&'i NodeId>,
    /// Running holders that count, by failure domain.
    domains: BTreeMap<&'i str, usize>,
    pub(super) copies: Copies,
}

/// What one seat has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Nothing,
    /// Running, and not restarted since it received.
    Unproven,
    /// Running with what it unsealed.
    Running,
    /// On disk, and its code does not run.
    Sealed,
}

/// Whose copy it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Owner {
    Old,
    Carrier,
    New,
}

impl<'i> Ledger<'i> {
    pub(super) fn new(plan: KeyringPlan<'_>, inventory: &'i Inventory) -> Self {
        let moved = plan.steps.iter().filter_map(|step| match &step.action {
            Action::HandOver { to, .. } if to.release == plan.keyring.from.release => {
                inventory.node(&step.node)
            }
            _ => None,
        });
        let mut ledger = Self {
            inventory,
            seats: BTreeMap::new(),
            targets: moved.map(|node| &node.node).collect(),
            domains: BTreeMap::new(),
            copies: Copies::default(),
        };
        for node in plan.nodes.iter().filter_map(|name| inventory.node(name)) {
            if !ledger.targets.contains(&node.node) {
                let before = plan.keyring.from;
                let code = inventory.code_of(&node.node, &before.release);
                let code = code.unwrap_or(before.measurement);
                ledger.enter(plan, &node.node, code, State::Running);
            }
        }
        ledger
    }

    pub(super) fn apply(&mut self, plan: KeyringPlan<'_>, step: &Step) {
        let Some(node) = self.inventory.node(&step.node) else { return };
        let node = &node.node;
        let (code, becomes): (Measurement, fn(State) -> State) = match &step.action {
            Action::Stop(at) => (at.measurement, |state| match state {
                State::Running | State::Unproven => State::Sealed,
                State::Nothing | State::Sealed => state,
            }),
            Action::Start(at) | Action::Restart(at) => (at.measurement, |state| match state {
                State::Sealed | State::Unproven => State::Running,
                State::Nothing | State::Running => state,
            }),
            Action::Replicate { to: at, .. } | Action::HandOver { to: at, .. } => {
                (at.measurement, |state| match state {
                    State::Nothing => State::Unproven,
                    State::Unproven | State::Running | State::Sealed => state,
                })
            }
            Action::Forget(at) => (at.measurement, |_| State::Nothing),
            Action::Preserve(_) => {
                self.copies.sealed += 1;
                return;
            }
            Action::Prepare(_)
            | Action::Verify { .. }
            | Action::Drain(_)
            | Action::Quarantine(_)
            | Action::Restore(_)
            | Action::Install { .. }
            | Action::Withdraw(_)
            | Action::Suspend(_)
            | Action::Activate(_)
            | Action::Reseal(_)
            | Action::Service(_)
            | Action::Commit
            | Action::Participant(_) => return,
        };
        let state = self.seats.get(&(node, code)).copied().unwrap_or_default();
        self.enter(plan, node, code, becomes(state));
    }

    fn owner(&self, plan: KeyringPlan<'_>, node: &NodeId, code: Measurement) -> Owner {
        if plan.keyring.via.is_some_and(|via| via.measurement == code) {
            return Owner::Carrier;
        }
        let changes = plan.keyring.from.release != plan.keyring.to.release;
        let is_new = plan.keyring.is_to(&code) && (changes || self.targets.contains(node));
        if is_new { Owner::New } else { Owner::Old }
    }

    fn enter(&mut self, plan: KeyringPlan<'_>, node: &'i NodeId, code: Measurement, after: State) {
        let before = self.seats.insert((node, code), after).unwrap_or_default();
        let owner = self.owner(plan, node, code);
        let domain = self.inventory.node(node).map_or("", |found| found.failure_domain.as_str());
        let members = self.domains.entry(domain).or_default();
        let copies = &mut self.copies;
        for (state, entering) in [(before, false), (after, true)] {
            let count = |count: &mut usize| {
                *count = if entering { *count + 1 } else { count.saturating_sub(1) };
            };
            match (state, owner) {
                (State::Nothing, _) => {}
                (State::Sealed, _) => count(&mut copies.sealed),
                (State::Unproven, _) => count(&mut copies.unproven),
                (State::Running, Owner::Old) => count(&mut copies.old),
                (State::Running, Owner::Carrier) => count(&mut copies.carried),
                (State::Running, Owner::New) => count(&mut copies.new),
            }
            if state == State::Running {
                let had = usize::from(*members > 0);
                count(members);
                copies.failure_domains = copies.failure_domains + usize::from(*members > 0) - had;
            }
        }
    }
}
