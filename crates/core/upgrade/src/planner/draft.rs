//! A plan as it is written down: steps in order, the way back, and what every report says.

use heirloom_attest::result::AnchorClass;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::{PLAN_BYTES_MAX, STEPS_MAX};
use heirloom_model::plan::{
    Action, Gate, KeyringGround, Placement, Plan, RollbackStep, Step, StepId, Strategy,
};
use heirloom_model::service::ServiceChange;
use heirloom_model::wire;

use super::eligible::Ground;
use super::{Note, PlanError, PlanRequest};
use crate::inventory::Inventory;

/// The steps so far. The way back begins when the way forward is complete, since its steps are
/// numbered on.
#[derive(Default)]
pub(super) struct Draft {
    steps: Vec<Step>,
    back: Vec<RollbackStep>,
}

/// What a strategy decides besides steps.
pub(super) struct Frame {
    pub(super) strategy: Strategy,
    pub(super) via: Option<Placement>,
    /// Sorted.
    pub(super) nodes: Vec<NodeId>,
    pub(super) point_of_no_return: StepId,
    pub(super) service: Option<ServiceChange>,
}

impl Draft {
    /// A forward step.
    pub(super) fn push(
        &mut self,
        node: &NodeId,
        wave: u32,
        action: Action,
        gates: Vec<Gate>,
    ) -> StepId {
        let step = self.next();
        self.steps.push(Step { id: step, node: node.clone(), wave, action, gates });
        step
    }

    /// A forward step that comes after one other step.
    pub(super) fn then(
        &mut self,
        node: &NodeId,
        wave: u32,
        action: Action,
        after: StepId,
    ) -> StepId {
        self.push(node, wave, action, vec![Gate::Done(after)])
    }

    /// A step of the way back.
    pub(super) fn push_back(
        &mut self,
        (node, wave): (&NodeId, u32),
        undoes: StepId,
        action: Action,
        gates: Vec<Gate>,
    ) -> StepId {
        let step = self.next();
        let node = node.clone();
        self.back.push(RollbackStep { step: Step { id: step, node, wave, action, gates }, undoes });
        step
    }

    /// The number that the next step gets.
    pub(super) fn next(&self) -> StepId {
        id(self.steps.len() + self.back.len())
    }

    /// The last forward step.
    pub(super) fn last(&self) -> StepId {
        id(self.steps.len().saturating_sub(1))
    }

    /// The steps, for a plan that is about no keyring.
    pub(super) fn into_steps(self) -> (Vec<Step>, Vec<RollbackStep>) {
        (self.steps, self.back)
    }

    /// The plan, and the size of its encoding.
    pub(super) fn finish(
        self,
        request: &PlanRequest,
        ground: &Ground,
        frame: Frame,
        inventory: &Inventory,
    ) -> Result<(Plan, usize), PlanError> {
        for found in [self.steps.len(), self.back.len()] {
            if found > STEPS_MAX {
                return Err(PlanError::TooLarge { what: "steps", found, limit: STEPS_MAX });
            }
        }
        let Frame { strategy, via, nodes, point_of_no_return, service } = frame;
        let keyring = KeyringGround {
            from: ground.from,
            to: ground.to,
            via,
            policy: inventory.policy.serial,
            generation: ground.keyring.generation,
            checksum: ground.keyring.checksum,
            holders_min: ground.need,
            others: ground.others.clone(),
        };
        let plan = Plan {
            network: inventory.network,
            domain: inventory.domain,
            number: ground.number,
            strategy,
            keyring: Some(keyring),
            nodes,
            point_of_no_return,
            steps: self.steps,
            rollback: self.back,
            not_after: request.not_after,
            nonce: request.nonce,
            service,
            participant: None,
        };
        let bytes = wire::encode(&plan).len();
        if bytes > PLAN_BYTES_MAX {
            return Err(PlanError::TooLarge { what: "bytes", found: bytes, limit: PLAN_BYTES_MAX });
        }
        Ok((plan, bytes))
    }
}

/// Saturates far beyond `STEPS_MAX`, which is checked before the plan is used.
fn id(index: usize) -> StepId {
    StepId(u32::try_from(index).unwrap_or(u32::MAX))
}

/// What an operator should know whatever the strategy.
pub(super) fn notes(need: u32, inventory: &Inventory) -> Vec<Note> {
    let mut notes = Vec::new();
    if need < 2 {
        notes.push(Note::NoMargin);
    }
    if inventory.anchors.values().any(|class| *class == AnchorClass::Development) {
        notes.push(Note::DevelopmentRoot);
    }
    notes
}
