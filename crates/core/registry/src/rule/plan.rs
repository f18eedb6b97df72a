//! Approvals, aborts, and the results of steps.

use heirloom_model::counter::Serial;
use heirloom_model::digest::PlanDigest;
use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::NOTE_CHARACTERS_MAX;
use heirloom_model::plan::{
    Abort, Action, Approval, Gate, KeyringPlan, Placement, Step, StepId, StepResult,
};
use heirloom_model::policy::Policy;
use heirloom_model::root::Role;

use super::custody::{verify_agent, with_policy};
use super::fleet::node_in;
use super::proposal::{check_ground, check_no_rotation};
use super::service::{check_lasts, check_not_revoked, check_result, service_of};
use super::{Change, epoch_not_passed, participant, same_network};
use crate::migration::Concord;
use crate::network::NetworkState;
use crate::plan::{PlanState, PlanStatus};
use crate::refusal::{Fault, Refusal};
use crate::shape::require;
use crate::standing::Agreement;
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
    check_lasts(plan, approval.not_after)?;
    check_not_revoked(plan, approval.signers(), approval.not_after)?;
    if plan.approved_at().is_none() {
        // Where participants move, what they are is looked at once more by their own steps.
        if let Some(kept) = KeyringPlan::of(plan.plan()) {
            let domain = with_policy(state, &kept.domain)?;
            check_ground(domain, kept)?;
            check_no_rotation(state, domain)?;
        }
    }
    Ok(Change::Approval(approval))
}

pub(crate) fn examine_abort(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let unverified: Abort = envelope.unverified().map_err(Refusal::Malformed)?;
    same_network(state, unverified.network)?;
    let abort = match &unverified.node {
        None => {
            let operators = state.quorum(Role::Operator)?;
            verify_one::<Abort>(envelope, operators.of, operators.keys)?.0
        }
        Some(node) => verify_abort_of(state, envelope, &unverified.plan, node)?,
    };
    check_reason(abort.reason.as_deref())?;
    let status = current_plan(state, &abort.plan)?.status();
    let possible = match status {
        PlanStatus::Approved | PlanStatus::ApprovalLapsed => true,
        // Agents call off what they carry out; nothing of this is carried out.
        PlanStatus::Proposed | PlanStatus::Expired => abort.node.is_none(),
        PlanStatus::RollingBack
        | PlanStatus::RolledBack
        | PlanStatus::PastNoReturn
        | PlanStatus::Finished => false,
    };
    if possible { Ok(Change::Abort(abort)) } else { Err(Refusal::PlanStatus { status }) }
}

/// The agent of a node that cannot carry out its part calls off the change of a service, or the
/// move of participants. Such nodes change together, so one that cannot stops all of them.
fn verify_abort_of(
    state: &NetworkState,
    envelope: &Envelope,
    plan: &PlanDigest,
    node: &NodeId,
) -> Result<Verified<Abort>, Refusal> {
    let plan = current_plan(state, plan)?;
    let agent = node_in(state, node, &plan.plan().domain)?.agent;
    let (abort, _) = verify_agent::<Abort>(envelope, agent)?;
    if plan.plan().participant.is_none() {
        service_of(plan)?;
    }
    if plan.plan().nodes.binary_search(node).is_err() {
        return Err(Refusal::PlanMismatch { what: "nodes" });
    }
    Ok(abort)
}

/// People read it in a terminal.
fn check_reason(reason: Option<&str>) -> Result<(), Refusal> {
    let Some(reason) = reason else { return Ok(()) };
    let found = reason.chars().count();
    let fault = Fault::TooLong { found, limit: NOTE_CHARACTERS_MAX };
    require(found <= NOTE_CHARACTERS_MAX, "abort.reason", fault)?;
    require(!reason.chars().any(char::is_control), "abort.reason", Fault::Unexpected)
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
    check_open(state, plan, step)?;
    match &step.action {
        Action::Withdraw(serial) => check_withdrawal(state, plan, step, *serial)?,
        Action::Verify { targets, need, .. } => {
            check_verification(state, plan, id, (targets, *need))?;
        }
        Action::Suspend(_) => check_suspended(plan, id)?,
        Action::Activate(seat) => check_active(state, plan, step, seat)?,
        Action::Prepare(_)
        | Action::Drain(_)
        | Action::Stop(_)
        | Action::Quarantine(_)
        | Action::Restore(_)
        | Action::Install { .. }
        | Action::Start(_)
        | Action::Replicate { .. }
        | Action::Restart(_)
        | Action::HandOver { .. }
        | Action::Forget(_)
        | Action::Preserve(_)
        | Action::Reseal(_) => {}
        Action::Service(_) | Action::Commit => check_result(plan, step)?,
        Action::Participant(action) => participant::check_result(state, plan, step, *action)?,
    }
    Ok(Change::StepResult(result))
}

/// Refuses a step before what it waits for in the log: other steps, epochs after them, and what
/// services and operators say.
pub(crate) fn check_open(
    state: &NetworkState,
    plan: &PlanState,
    step: &Step,
) -> Result<(), Refusal> {
    let id = step.id;
    if let Some(before) = plan.missing_before(step) {
        return Err(Refusal::TooEarly { step: id, before });
    }
    if let Some((since, epochs)) = plan.waiting_for(step, state.epoch) {
        return Err(Refusal::NotWaited { step: id, since, epochs });
    }
    let changes_together = plan.plan().service.is_some() || plan.plan().participant.is_some();
    for gate in &step.gates {
        match gate {
            Gate::Agreed { first, last } => match plan.agreement(*first, *last) {
                Agreement::Agreed(_) => {}
                Agreement::Open(before) => return Err(Refusal::TooEarly { step: id, before }),
                Agreement::Disagreed { a, b, what } => {
                    return Err(Refusal::Disagreed { step: id, a, b, what });
                }
            },
            Gate::Rehearsed { need } => check_rehearsed(state, plan, (id, *need))?,
            // Clients of a service or of a participant are told when the window opens.
            Gate::Epoch(opens) if changes_together && state.epoch < *opens => {
                return Err(Refusal::WindowClosed { step: id, opens: *opens, epoch: state.epoch });
            }
            Gate::Consented { .. } => {
                if let Some(operator) = state.disagreeing(plan).into_iter().next() {
                    return Err(Refusal::NotConsented { step: id, operator });
                }
            }
            Gate::Concordant { first, last } => match plan.concord(*first, *last) {
                Concord::Concordant(_) => {}
                Concord::Open(before) => return Err(Refusal::TooEarly { step: id, before }),
                Concord::Discordant { a, b, what } => {
                    return Err(Refusal::Disagreed { step: id, a, b, what });
                }
            },
            Gate::Epoch(_)
            | Gate::Done(_)
            | Gate::Proven { .. }
            | Gate::Registered { .. }
            | Gate::PolicyPublished(_)
            | Gate::Waited { .. }
            | Gate::AllDone { .. } => {}
        }
    }
    Ok(())
}

fn check_rehearsed(
    state: &NetworkState,
    plan: &PlanState,
    (step, needed): (StepId, u32),
) -> Result<(), Refusal> {
    let terms = &service_of(plan)?.terms;
    let found = u32::try_from(state.rehearsals(&terms.digest())).unwrap_or(u32::MAX);
    if found < needed { Err(Refusal::NotRehearsed { step, found, needed }) } else { Ok(()) }
}

/// The holder itself said that it serves no more. Who became active since does not matter.
fn check_suspended(plan: &PlanState, step: StepId) -> Result<(), Refusal> {
    plan.witnessed_at(step).map(|_| ()).ok_or(Refusal::NotWitnessed { step })
}

/// The holder itself said that it is the active one, by this step or because it never ceased to
/// be: an abort can come before the suspension that its way back undoes.
fn check_active(
    state: &NetworkState,
    plan: &PlanState,
    step: &Step,
    seat: &Placement,
) -> Result<(), Refusal> {
    let domain = state.domain(&plan.plan().domain);
    let active = domain.and_then(|domain| domain.activity.active());
    if active.is_some_and(|active| active.is_at(&step.node, &seat.measurement)) {
        return Ok(());
    }
    Err(Refusal::NotWitnessed { step: step.id })
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
    // Without a keyring nobody proves anything.
    let proven = state
        .domain(&contents.domain)
        .zip(contents.keyring.as_ref())
        .map(|(domain, kept)| domain.proven_since(asked, kept.generation, &kept.checksum))
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
