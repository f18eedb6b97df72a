//! What custody says before a holder is taken away, and what a keeper's status shows.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_custody::facts;
use heirloom_custody::holding::{Keyring, Seat};
use heirloom_custody::invariant::{NextEffect, Requirement, Survivors, no_loss};
use heirloom_model::admin::KeeperStatus;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Plan, Step, StepId};
use heirloom_model::protocol::ServingState;
use heirloom_registry::domain::DomainState;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanState;

use crate::gate::Waiting;

/// Whether the instance answers key requests.
pub(crate) fn serves(status: &KeeperStatus) -> bool {
    status.state == ServingState::Ready
}

/// Whether the instance says that it holds at least the plan's keyring.
pub(crate) fn holds(status: &KeeperStatus, plan: &Plan) -> bool {
    status.holding.zip(plan.keyring.as_ref()).is_some_and(|(holding, kept)| {
        holding.generation > kept.generation
            || (holding.generation == kept.generation && holding.checksum == kept.checksum)
    })
}

/// Whether the instance says that it unsealed the plan's keyring when it started.
pub(crate) fn recovered(status: &KeeperStatus, plan: &Plan) -> bool {
    holds(status, plan)
        && status.holding.is_some_and(|holding| holding.origin == HoldingOrigin::Recovered)
}

/// Whether the instance was the active holder of an exclusive domain and never will be again.
pub(crate) fn is_spent(status: &KeeperStatus) -> bool {
    matches!(status.state, ServingState::Suspended | ServingState::Superseded)
}

/// Whether the instance says that it has nothing of the keyring, neither whole nor in part. One
/// that cannot say what it has is no such instance.
pub(crate) fn gave_up(status: &KeeperStatus) -> bool {
    let knows = match status.state {
        ServingState::Empty | ServingState::Replicating | ServingState::Withdrawn => true,
        ServingState::Starting
        | ServingState::Ready
        | ServingState::Draining
        | ServingState::Unreadable
        | ServingState::RolledBack
        | ServingState::Standby
        | ServingState::Suspended
        | ServingState::Superseded
        | ServingState::Unattended
        | ServingState::Carrying
        | ServingState::Uncounted => false,
    };
    knows && status.holding.is_none() && status.progress.is_none_or(|it| it.received == 0)
}

/// Who still has the keyring when this step takes a holder, or a policy's rights, away. None for
/// steps that take nothing away.
///
/// A suspension takes away too: what serves must be provably replaceable before it stops serving.
pub(crate) fn survivors(
    state: &NetworkState,
    plan: &PlanState,
    step: &Step,
) -> Result<Option<Survivors>, Waiting> {
    let contents = plan.plan();
    if step.action.concerns_participant() {
        return Ok(None);
    }
    let Some(kept) = &contents.keyring else { return Err(Waiting::NoKeyring) };
    let Some(domain) = state.domain(&contents.domain) else { return Err(Waiting::PolicyInForce) };
    let Some(policy) = domain.policy() else { return Err(Waiting::PolicyInForce) };
    let taken;
    let next = match &step.action {
        Action::Stop(placement) | Action::Suspend(placement) | Action::Forget(placement) => {
            taken = BTreeSet::from([Seat::new(&step.node, &placement.measurement)]);
            NextEffect::TakeAway(&taken)
        }
        Action::Withdraw(serial) => match domain.pending_policy() {
            Some(pending) if pending.serial == *serial => NextEffect::Enforce(pending),
            Some(_) | None => return Err(Waiting::Policy { serial: *serial }),
        },
        Action::Prepare(_)
        | Action::Verify { .. }
        | Action::Drain(_)
        | Action::Quarantine(_)
        | Action::Restore(_)
        | Action::Install { .. }
        | Action::Start(_)
        | Action::Replicate { .. }
        | Action::Restart(_)
        | Action::HandOver { .. }
        | Action::Activate(_)
        | Action::Preserve(_)
        | Action::Reseal(_)
        | Action::Service(_)
        | Action::Commit
        | Action::Participant(_) => return Ok(None),
    };
    let nodes = contents.nodes.iter().filter_map(|node| state.node(node));
    let copies = facts::copies(nodes, &changing(plan, domain));
    let requirement = Requirement {
        policy,
        keyring: Keyring { generation: kept.generation, checksum: kept.checksum },
        need: kept.holders_min,
        fresh_from: plan.proposed_at(),
    };
    no_loss(&requirement, &copies, &facts::proofs(domain), &next)
        .map(Some)
        .map_err(Waiting::Custody)
}

/// The seats that some agent may be clearing now, on the way forward or back: what their instances
/// proved before says nothing any more, until they prove it again in a later step.
fn changing(plan: &PlanState, domain: &DomainState) -> BTreeSet<Seat> {
    let contents = plan.plan();
    let proven = proven(plan, domain);
    let needed: BTreeSet<_> = plan.rollback_needed().map(|step| step.id).collect();
    let forward = contents
        .steps
        .iter()
        .filter_map(|step| Some((step, cleared(step)?)))
        .filter(|(step, _)| plan.may_have_started(step.id));
    let backward = contents
        .rollback
        .iter()
        .map(|rollback| &rollback.step)
        .filter_map(|step| Some((step, cleared(step)?)))
        .filter(|(step, _)| needed.contains(&step.id) && plan.is_open(step));
    forward
        .chain(backward)
        .map(|(step, code)| (step.id, Seat::new(&step.node, &code)))
        .filter(|(cleared_by, seat)| proven.get(seat).is_none_or(|latest| latest < cleared_by))
        .map(|(_, seat)| seat)
        .collect()
}

/// The code whose seat a step clears.
fn cleared(step: &Step) -> Option<Measurement> {
    match &step.action {
        Action::Stop(placement) | Action::Forget(placement) => Some(placement.measurement),
        _ => None,
    }
}

/// The seats that have shown that their durable state opens, in a step that asked their node alone
/// and has a result; with the latest such step. Rollback steps are later than forward steps.
fn proven(plan: &PlanState, domain: &DomainState) -> BTreeMap<Seat, StepId> {
    let contents = plan.plan();
    let mut latest: BTreeMap<Seat, StepId> = BTreeMap::new();
    // Without a keyring nobody has proven one.
    let Some(kept) = &contents.keyring else { return latest };
    for asked in domain.challenges() {
        let Some(by) = asked.challenge().step.filter(|by| by.plan == *plan.digest()) else {
            continue;
        };
        let Some(step) = contents.step(by.step).filter(|step| proves_itself(step)) else {
            continue;
        };
        if plan.done_at(step.id).is_none() {
            continue;
        }
        let good = asked
            .proofs()
            .iter()
            .filter(|(_, proven)| proven.flaw(kept.generation, &kept.checksum).is_none());
        for (node, proven) in good {
            let seat = Seat::new(node, &proven.result().measurement());
            let newest = latest.entry(seat).or_insert(step.id);
            *newest = (*newest).max(step.id);
        }
    }
    latest
}

/// Whether a step asks its own node alone.
fn proves_itself(step: &Step) -> bool {
    matches!(&step.action, Action::Verify { targets, .. } if *targets == [step.node.clone()])
}
