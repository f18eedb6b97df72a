//! What custody says before a holder is taken away, and what a keeper's status shows.

use std::collections::BTreeSet;

use heirloom_custody::facts;
use heirloom_custody::holding::Keyring;
use heirloom_custody::invariant::{NextEffect, Requirement, Survivors, no_loss};
use heirloom_model::admin::KeeperStatus;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, Plan, Step};
use heirloom_model::protocol::ServingState;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanState;

use crate::gate::Waiting;

/// Whether the keeper answers key requests.
pub(crate) fn serves(status: &KeeperStatus) -> bool {
    status.state == ServingState::Ready
}

/// Whether the keeper says that it holds at least the plan's keyring.
pub(crate) fn holds(status: &KeeperStatus, plan: &Plan) -> bool {
    status.holding.is_some_and(|holding| {
        holding.generation > plan.generation
            || (holding.generation == plan.generation && holding.checksum == plan.checksum)
    })
}

/// Whether the keeper says that it unsealed the plan's keyring when it started.
pub(crate) fn recovered(status: &KeeperStatus, plan: &Plan) -> bool {
    holds(status, plan)
        && status.holding.is_some_and(|holding| holding.origin == HoldingOrigin::Recovered)
}

/// Who still has the keyring when this step takes a holder, or a policy's rights, away. None for
/// steps that take nothing away.
pub(crate) fn survivors(
    state: &NetworkState,
    plan: &PlanState,
    step: &Step,
) -> Result<Option<Survivors>, Waiting> {
    let contents = plan.plan();
    let taken = BTreeSet::from([step.node.clone()]);
    let Some(domain) = state.domain(&contents.domain) else { return Err(Waiting::PolicyInForce) };
    let Some(policy) = domain.policy() else { return Err(Waiting::PolicyInForce) };
    let next = match &step.action {
        Action::Stop(_) => NextEffect::TakeAway(&taken),
        Action::Withdraw(serial) => match domain.pending_policy() {
            Some(pending) if pending.serial == *serial => NextEffect::Enforce(pending),
            Some(_) | None => return Err(Waiting::Policy { serial: *serial }),
        },
        Action::Prepare(_)
        | Action::Verify { .. }
        | Action::Drain
        | Action::Quarantine(_)
        | Action::Restore(_)
        | Action::Install { .. }
        | Action::Start(_)
        | Action::Replicate { .. }
        | Action::Restart(_) => return Ok(None),
    };
    let nodes = contents.nodes.iter().filter_map(|node| state.node(node));
    let copies = facts::copies(nodes, &changing(plan));
    let requirement = Requirement {
        policy,
        keyring: Keyring { generation: contents.generation, checksum: contents.checksum },
        need: contents.holders_min,
        fresh_from: plan.proposed_at(),
    };
    no_loss(&requirement, &copies, &facts::proofs(domain), &next)
        .map(Some)
        .map_err(Waiting::Custody)
}

/// The nodes that some agent may be changing now: their stop may have begun, and they have not
/// proven possession since, neither on the way forward nor on the way back.
fn changing(plan: &PlanState) -> BTreeSet<NodeId> {
    let contents = plan.plan();
    let back = contents.rollback.iter().map(|rollback| &rollback.step);
    let settled: BTreeSet<&NodeId> = back
        .clone()
        .filter(|step| proves_itself(step) && plan.done_at(step.id).is_some())
        .map(|step| &step.node)
        .collect();
    let proven: BTreeSet<&NodeId> = contents
        .steps
        .iter()
        .filter(|step| proves_itself(step) && plan.done_at(step.id).is_some())
        .map(|step| &step.node)
        .collect();
    let forward = contents
        .steps
        .iter()
        .filter(|step| stops(step) && plan.may_have_started(step.id))
        .filter(|step| !proven.contains(&step.node));
    let needed: BTreeSet<_> = plan.rollback_needed().map(|step| step.id).collect();
    let backward = back.filter(|step| stops(step) && needed.contains(&step.id) && open(plan, step));
    forward
        .chain(backward)
        .filter(|step| !settled.contains(&step.node))
        .map(|step| step.node.clone())
        .collect()
}

fn stops(step: &Step) -> bool {
    matches!(step.action, Action::Stop(_))
}

/// Whether a step ends a node's change: the node shows that its durable state opens.
fn proves_itself(step: &Step) -> bool {
    matches!(&step.action, Action::Verify { targets, .. } if *targets == [step.node.clone()])
}

/// Whether every step that must come before has a result.
fn open(plan: &PlanState, step: &Step) -> bool {
    step.gates.iter().all(|gate| match gate {
        Gate::Done(before) => plan.done_at(*before).is_some(),
        Gate::Proven { .. }
        | Gate::Registered { .. }
        | Gate::Epoch(_)
        | Gate::PolicyPublished(_) => true,
    })
}
