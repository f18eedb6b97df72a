//! Proposals, approvals, aborts, and the results of steps.

use heirloom_model::counter::Serial;
use heirloom_model::digest::PlanDigest;
use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::{NODES_MAX, STEPS_MAX};
use heirloom_model::plan::{
    Abort, Action, Approval, Gate, Placement, Plan, Proposal, Step, StepId, StepResult,
};
use heirloom_model::policy::Policy;
use heirloom_model::release::ReleaseKind;
use heirloom_model::root::Role;
use heirloom_model::wire;

use super::custody::{verify_agent, with_policy};
use super::fleet::node_in;
use super::{Change, epoch_not_passed, is_next, not_expired, same_network};
use crate::domain::DomainState;
use crate::network::NetworkState;
use crate::plan::{PlanState, PlanStatus};
use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, not_empty, require};
use crate::verified::{Quorum, Verified, verify, verify_one};

/// Plans that one domain remembers.
pub(crate) const PLANS_KEPT_MAX: usize = 64;

/// The plan of this digest, if it is the latest of its domain. Actors with another one are stale.
pub(crate) fn current_plan<'a>(
    state: &'a NetworkState,
    digest: &PlanDigest,
) -> Result<&'a PlanState, Refusal> {
    let plan = state.plans.get(digest).ok_or(Refusal::UnknownPlan { plan: *digest })?;
    let domain = state.domains.get(&plan.plan().domain);
    let domain = domain.ok_or(Refusal::UnknownPlan { plan: *digest })?;
    if domain.plan.as_ref() != Some(digest) {
        return Err(Refusal::StalePlan { plan: *digest, current: domain.plan_number });
    }
    Ok(plan)
}

pub(crate) fn examine_proposal(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let operators = state.quorum(Role::Operator)?;
    let (proposal, operator) = verify_one::<Proposal>(envelope, operators.of, operators.keys)?;
    same_network(state, proposal.network)?;
    let plan: Plan = wire::decode(&proposal.plan).map_err(Refusal::Malformed)?;
    same_network(state, plan.network)?;
    epoch_not_passed(state, "plan", plan.not_after)?;
    let domain = with_policy(state, &plan.domain)?;
    if let Some(active) = state.active_plan(&plan.domain)
        && active.holds_domain(state.epoch)
    {
        return Err(Refusal::PlanUnderWay { plan: *active.digest() });
    }
    is_next("plan", Some(domain.plan_number.0), 1, plan.number.0)?;
    check_ground(domain, &plan)?;
    check_shape(state, &plan)?;
    let policy = domain.policy().ok_or(Refusal::NoPolicy { domain: plan.domain })?;
    check_edge(state, policy, &plan)?;
    Ok(Change::Proposal(Box::new(plan), operator))
}

/// The plan was made for the domain as it is: its policy, its keyring.
fn check_ground(domain: &DomainState, plan: &Plan) -> Result<(), Refusal> {
    let mismatch = |what| Err(Refusal::PlanMismatch { what });
    let Some(policy) = domain.policy() else { return mismatch("policy") };
    if policy.serial != plan.policy {
        return mismatch("policy");
    }
    let Some(committed) = &domain.committed else { return mismatch("generation") };
    if committed.generation != plan.generation {
        return mismatch("generation");
    }
    if committed.checksum != plan.checksum {
        return mismatch("checksum");
    }
    if plan.holders_min < policy.holders_min {
        return mismatch("holders_min");
    }
    Ok(())
}

/// Every reference in the plan leads somewhere, and gates look back, never forward.
fn check_shape(state: &NetworkState, plan: &Plan) -> Result<(), Refusal> {
    not_empty("plan.nodes", &plan.nodes)?;
    ascending("plan.nodes", &plan.nodes, NODES_MAX, Clone::clone)?;
    for node in &plan.nodes {
        node_in(state, node, &plan.domain)?;
    }
    not_empty("plan.steps", &plan.steps)?;
    for found in [plan.steps.len(), plan.rollback.len()] {
        let fault = Fault::TooLong { found, limit: STEPS_MAX };
        require(found <= STEPS_MAX, "plan.steps", fault)?;
    }
    let steps = plan.steps.iter().chain(plan.rollback.iter().map(|back| &back.step));
    for (expected, step) in (0_u32..).zip(steps) {
        require(step.id == StepId(expected), "plan.steps.id", Fault::Unexpected)?;
        node_in(state, &step.node, &plan.domain)?;
        check_gates(step)?;
    }
    let is_forward = |step: StepId| !plan.is_rollback(step);
    for back in &plan.rollback {
        require(is_forward(back.undoes), "plan.rollback.undoes", Fault::Dangling)?;
    }
    let no_return = is_forward(plan.point_of_no_return);
    require(no_return, "plan.point_of_no_return", Fault::Dangling)
}

fn check_gates(step: &Step) -> Result<(), Refusal> {
    let looks_back = step.gates.iter().all(|gate| match gate {
        Gate::Done(before) | Gate::Proven { since: before, .. } => *before < step.id,
        Gate::Registered { .. } | Gate::Epoch(_) | Gate::PolicyPublished(_) => true,
    });
    require(looks_back, "plan.steps.gates", Fault::Dangling)
}

/// The releases exist, launch to what the plan says, and the policy names the edge and the way
/// back.
fn check_edge(state: &NetworkState, policy: &Policy, plan: &Plan) -> Result<(), Refusal> {
    for Placement { release, measurement } in [&plan.from, &plan.to] {
        let unknown = Refusal::UnknownRelease { release: *release };
        let found = state.releases.get(release).ok_or(unknown)?;
        if found.kind != ReleaseKind::Keeper || !found.measurements.contains(measurement) {
            return Err(Refusal::PlanMismatch { what: "release" });
        }
    }
    if let Some(to) = state.releases.get(&plan.to.release) {
        not_expired(state, "release", to.not_after)?;
    }
    let (from, to) = (&plan.from.measurement, &plan.to.measurement);
    if !policy.names_edge(from, to) || !policy.names_edge(to, from) {
        return Err(Refusal::PlanMismatch { what: "edge" });
    }
    Ok(())
}

pub(crate) fn examine_approval(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    // Operators may sign one envelope together or append one each; together they are counted
    // over the plan's digest, by their keys.
    let one = Quorum { threshold: 1, ..state.quorum(Role::Operator)? };
    let approval: Verified<Approval> = verify(envelope, &[one])?;
    same_network(state, approval.network)?;
    epoch_not_passed(state, "approval", approval.not_after)?;
    let plan = current_plan(state, &approval.plan)?;
    match plan.status() {
        PlanStatus::Proposed | PlanStatus::Approved | PlanStatus::ApprovalLapsed => {}
        status @ (PlanStatus::Expired
        | PlanStatus::RollingBack
        | PlanStatus::RolledBack
        | PlanStatus::PastNoReturn
        | PlanStatus::Finished) => return Err(Refusal::PlanStatus { status }),
    }
    if plan.approved_at().is_none() {
        let domain = with_policy(state, &plan.plan().domain)?;
        check_ground(domain, plan.plan())?;
        if let Some(open) = &domain.order
            && open.is_open(state.epoch)
        {
            return Err(Refusal::RotationUnderWay { generation: open.order.generation });
        }
    }
    Ok(Change::Approval(approval))
}

pub(crate) fn examine_abort(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let operators = state.quorum(Role::Operator)?;
    let (abort, _) = verify_one::<Abort>(envelope, operators.of, operators.keys)?;
    same_network(state, abort.network)?;
    match current_plan(state, &abort.plan)?.status() {
        PlanStatus::Proposed
        | PlanStatus::Approved
        | PlanStatus::ApprovalLapsed
        | PlanStatus::Expired => Ok(Change::Abort(abort)),
        status @ (PlanStatus::RollingBack
        | PlanStatus::RolledBack
        | PlanStatus::PastNoReturn
        | PlanStatus::Finished) => Err(Refusal::PlanStatus { status }),
    }
}

pub(crate) fn examine_result(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let unverified: StepResult = envelope.unverified().map_err(Refusal::Malformed)?;
    same_network(state, unverified.network)?;
    let plan = current_plan(state, &unverified.plan)?;
    let agent = node_in(state, &unverified.node, &plan.plan().domain)?.agent;
    let (result, _) = verify_agent::<StepResult>(envelope, agent)?;
    if result.number != plan.plan().number {
        let (expected, found) = (plan.plan().number.0, result.number.0);
        return Err(Refusal::NotNext { what: "plan", expected, found });
    }
    let id = result.step;
    let step = plan.plan().step(id).ok_or(Refusal::UnknownStep { step: id })?;
    if step.node != result.node {
        return Err(Refusal::WrongStep { step: id, reason: "belongs to another node" });
    }
    if let Some(at) = plan.done_at(id) {
        return Err(Refusal::AlreadyRecorded { what: "result of this step", at });
    }
    check_direction(plan, id)?;
    if let Some(before) = plan.missing_before(step) {
        return Err(Refusal::TooEarly { step: id, before });
    }
    match &step.action {
        Action::Withdraw(serial) => check_withdrawal(state, plan, step, *serial)?,
        Action::Verify { targets, need } => check_verification(state, plan, id, (targets, *need))?,
        Action::Prepare(_)
        | Action::Drain
        | Action::Stop(_)
        | Action::Quarantine(_)
        | Action::Restore(_)
        | Action::Install { .. }
        | Action::Start(_)
        | Action::Replicate { .. }
        | Action::Restart(_) => {}
    }
    Ok(Change::StepResult(result))
}

/// That holders have proven possession is in the log, so nobody has to believe an agent that
/// says so.
fn check_verification(
    state: &NetworkState,
    plan: &PlanState,
    step: StepId,
    (targets, needed): (&[NodeId], u32),
) -> Result<(), Refusal> {
    let contents = plan.plan();
    let asked = PlanStep { plan: *plan.digest(), step };
    let proven = state
        .domain(&contents.domain)
        .map(|domain| domain.proven_since(asked, contents.generation, &contents.checksum))
        .unwrap_or_default();
    let found = targets.iter().filter(|target| proven.contains(target)).count();
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if found < needed {
        return Err(Refusal::NotProven { step, found, needed });
    }
    Ok(())
}

/// Whether a result of this step makes sense where the plan stands.
///
/// Consent and the plan's last epoch decide about forward steps until the point of no return.
/// After an abort only the steps that may already have been under way can still end: their
/// results are facts, they make their rollback due, and they open nothing. Rollback steps are
/// results of the abort and need no consent of their own.
fn check_direction(plan: &PlanState, step: StepId) -> Result<(), Refusal> {
    let status = plan.status();
    let possible = match status {
        PlanStatus::Approved | PlanStatus::PastNoReturn => !plan.plan().is_rollback(step),
        PlanStatus::RollingBack => {
            plan.plan().is_rollback(step)
                || (plan.may_have_started(step) && step != plan.plan().point_of_no_return)
        }
        PlanStatus::Proposed
        | PlanStatus::ApprovalLapsed
        | PlanStatus::Expired
        | PlanStatus::RolledBack
        | PlanStatus::Finished => false,
    };
    if possible { Ok(()) } else { Err(Refusal::PlanStatus { status }) }
}

/// Rights are withdrawn last, and by a policy that everybody can already read.
fn check_withdrawal(
    state: &NetworkState,
    plan: &PlanState,
    step: &Step,
    serial: Serial,
) -> Result<(), Refusal> {
    let open = |other: &&Step| other.id != step.id && plan.done_at(other.id).is_none();
    if let Some(before) = plan.plan().steps.iter().find(open) {
        return Err(Refusal::TooEarly { step: step.id, before: before.id });
    }
    let pending = state.pending_policy(&plan.plan().domain);
    let fits = |policy: &&Verified<Policy>| {
        policy.serial == serial && policy.completes.as_ref() == Some(plan.digest())
    };
    pending.filter(fits).map(|_| ()).ok_or(Refusal::PolicyNotPending { serial })
}
