//! What services state on the way through a plan, and what operators say about changing them.

use heirloom_model::counter::Epoch;
use heirloom_model::envelope::Envelope;
use heirloom_model::limit::{REHEARSALS_MAX, SERVICE_KEYS_MAX, SERVICE_PEERS_MAX};
use heirloom_model::plan::{
    Action, Gate, ParticipantAction, Placement, Plan, ServiceAction, Step, StepId,
};
use heirloom_model::root::Role;
use heirloom_model::service::{
    Admission, KeyTerm, Rehearsal, Revocation, SchemaVersion, ServiceChange, Standing, Tip, Writing,
};
use heirloom_model::signature::PublicKey;

use super::attested::{appraise, verify_attested};
use super::plan::{check_open, current_plan};
use super::{Attested, Change, same_network};
use crate::network::NetworkState;
use crate::plan::{PlanState, PlanStatus};
use crate::refusal::Refusal;
use crate::shape::ascending;
use crate::standing::{StandingSeen, content, long_lived};
use crate::verified::verify_one;

/// Terms whose rehearsals one network remembers.
pub(crate) const TERMS_KEPT_MAX: usize = 1_024;
/// Instances that state something for one step, one after the other: each attempt may start one.
pub(crate) const INSTANCES_MAX: usize = 1_024;
/// Different statements of one instance for one step.
pub(crate) const STATEMENTS_MAX: usize = 1_024;

pub(crate) fn examine_standing(
    state: &mut NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let (standing, key) = verify_attested::<Standing>(state, envelope)?;
    let (plan, step, change) = asking_step(state, &standing)?;
    check_allowed(state, plan, step)?;
    check_successor(plan, step, &key)?;
    check_new(plan, &standing, &key)?;
    let code = stated(&step.action);
    let reason = "asks for no statement of a service";
    let code = code.ok_or(Refusal::WrongStep { step: step.id, reason })?;
    check_lists(&standing)?;
    check_common(&standing, change, code, &step.action)?;
    check_action(&standing, plan, step, &key)?;
    let attested = attest_application(state, envelope, key, &standing)?;
    check_platform(state, &standing, &attested)?;
    Ok(Change::Standing(Box::new(standing), attested))
}

/// The code that states something in a step, if the step asks for it.
pub(crate) fn stated(action: &Action) -> Option<&Placement> {
    match action {
        Action::Service(
            ServiceAction::Equip(code)
            | ServiceAction::Muster(code)
            | ServiceAction::Freeze(code)
            | ServiceAction::Launch(code)
            | ServiceAction::Join(code)
            | ServiceAction::Watch(code),
        ) => Some(code),
        Action::Prepare(_)
        | Action::Verify { .. }
        | Action::Drain(_)
        | Action::Stop(_)
        | Action::Quarantine(_)
        | Action::Restore(_)
        | Action::Install { .. }
        | Action::Start(_)
        | Action::Replicate { .. }
        | Action::Restart(_)
        | Action::Withdraw(_)
        | Action::HandOver { .. }
        | Action::Suspend(_)
        | Action::Activate(_)
        | Action::Forget(_)
        | Action::Preserve(_)
        | Action::Reseal(_)
        | Action::Service(
            ServiceAction::Fence(_)
            | ServiceAction::Halt(_)
            | ServiceAction::Snapshot
            | ServiceAction::Migrate
            | ServiceAction::Revert
            | ServiceAction::Deploy { .. }
            | ServiceAction::Exercise(_)
            | ServiceAction::Open(_),
        )
        | Action::Commit
        | Action::Participant(_) => None,
    }
}

/// The step that a standing names, in the latest plan of its domain, and without a result.
fn asking_step<'a>(
    state: &'a NetworkState,
    standing: &Standing,
) -> Result<(&'a PlanState, &'a Step, &'a ServiceChange), Refusal> {
    let plan = current_plan(state, &standing.step.plan)?;
    let id = standing.step.step;
    let wrong = |reason| Err(Refusal::WrongStep { step: id, reason });
    if plan.plan().domain != standing.domain {
        return wrong("belongs to another domain");
    }
    let change = service_of(plan)?;
    let step = plan.plan().step(id).ok_or(Refusal::UnknownStep { step: id })?;
    if step.node != standing.node {
        return wrong("belongs to another node");
    }
    if let Some(at) = plan.done_at(id) {
        return Err(Refusal::AlreadyRecorded { what: "result of this step", at });
    }
    Ok((plan, step, change))
}

/// What a plan does with a service.
pub(crate) fn service_of(plan: &PlanState) -> Result<&ServiceChange, Refusal> {
    plan.plan().service.as_ref().ok_or(Refusal::NoService { plan: *plan.digest() })
}

/// The plan lets the step start, and what it waits for in the log is there.
fn check_allowed(state: &NetworkState, plan: &PlanState, step: &Step) -> Result<(), Refusal> {
    if !plan.allows(step.id) {
        return Err(Refusal::PlanStatus { status: plan.status() });
    }
    check_open(state, plan, step)
}

/// Each start of a service makes a new instance, so one that another followed is gone. Whoever
/// kept its statement could otherwise put it back in place of a newer one.
fn check_successor(plan: &PlanState, step: &Step, key: &PublicKey) -> Result<(), Refusal> {
    let Some(seen) = plan.standing(step.id) else { return Ok(()) };
    if seen.superseded.contains(key) {
        return Err(Refusal::Superseded { instance: *key, at: seen.at });
    }
    if seen.superseded.len() >= INSTANCES_MAX {
        return Err(Refusal::Limit { what: "instances for one step", limit: INSTANCES_MAX });
    }
    Ok(())
}

/// What an instance stated, and replaced since, it does not state again: whoever kept it could
/// otherwise put it back in place of what is true now.
fn check_new(plan: &PlanState, standing: &Standing, key: &PublicKey) -> Result<(), Refusal> {
    let seen = plan.standing(standing.step.step).filter(|seen| seen.instance() == key);
    let Some(seen) = seen else { return Ok(()) };
    if let Some(at) = seen.stated.get(&content(standing)) {
        return Err(Refusal::AlreadyRecorded { what: "statement of this instance", at: *at });
    }
    if seen.stated.len() >= STATEMENTS_MAX {
        let what = "statements of one instance for one step";
        return Err(Refusal::Limit { what, limit: STATEMENTS_MAX });
    }
    Ok(())
}

fn check_lists(standing: &Standing) -> Result<(), Refusal> {
    ascending("standing.peers", &standing.peers, SERVICE_PEERS_MAX, |peer| peer.node.clone())?;
    ascending("standing.keys", &standing.keys, SERVICE_KEYS_MAX, |shown| shown.key.clone())
}

fn agree(holds: bool, what: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::StandingMismatch { what }) }
}

/// What every standing shows, whatever the step: that it is the agreed code with the agreed
/// configuration and keys.
fn check_common(
    standing: &Standing,
    change: &ServiceChange,
    code: &Placement,
    action: &Action,
) -> Result<(), Refusal> {
    agree(standing.application == change.application, "application")?;
    agree(standing.measurement == code.measurement, "measurement")?;
    let configuration = change.configuration_of(&code.measurement);
    agree(standing.configuration == configuration, "configuration")?;
    let keys = standing.keys.iter().map(|shown| (&shown.key, shown.custody));
    let terms = change.terms.keys.iter().map(|KeyTerm { key, custody }| (key, *custody));
    agree(keys.eq(terms), "keys")?;
    if matches!(action, Action::Service(ServiceAction::Equip(_))) {
        return Ok(());
    }
    agree(long_lived(standing).all(|shown| shown.public.is_some()), "long-lived keys")?;
    agree(standing.fork.is_none(), "fork")
}

/// What a standing shows for the step that asks for it.
fn check_action(
    standing: &Standing,
    plan: &PlanState,
    step: &Step,
    key: &PublicKey,
) -> Result<(), Refusal> {
    let change = service_of(plan)?;
    match &step.action {
        Action::Service(ServiceAction::Muster(code)) => {
            agree(standing.writing == Writing::Active, "writing")?;
            agree(standing.schema == Some(schema_of(change, code)), "schema")
        }
        Action::Service(ServiceAction::Freeze(code)) => {
            agree(standing.writing == Writing::Frozen, "writing")?;
            agree(standing.pending == 0, "pending work")?;
            agree(standing.admission == Admission::Closed, "admission")?;
            let quiet = standing.quiet_milliseconds >= change.terms.quiet_milliseconds;
            agree(quiet, "quiet time")?;
            agree(standing.tip.is_some(), "tip")?;
            agree(standing.schema == Some(schema_of(change, code)), "schema")
        }
        Action::Service(ServiceAction::Launch(code)) => {
            agree(standing.schema == Some(schema_of(change, code)), "schema")?;
            agree(standing.admission != Admission::Open, "admission")?;
            check_kept_keys(standing, plan)?;
            check_loaded(standing, plan, (step, code), key)
        }
        Action::Service(ServiceAction::Join(code)) => {
            agree(has_all_peers(standing, plan.plan(), change, code), "peers")?;
            check_kept_keys(standing, plan)
        }
        Action::Service(ServiceAction::Watch(_)) => {
            agree(standing.admission == Admission::Open, "admission")?;
            let frozen = plan.frozen_tip(&step.node).map(|tip| tip.height).unwrap_or_default();
            agree(standing.tip.is_some_and(|tip| tip.height >= frozen), "tip")?;
            check_kept_keys(standing, plan)
        }
        // Equip: tried without data. Others do not get here, and state nothing.
        _ => Ok(()),
    }
}

/// The schema that code of the change works with.
fn schema_of(change: &ServiceChange, code: &Placement) -> SchemaVersion {
    if code.measurement == change.to.measurement {
        change.terms.schema_to
    } else {
        change.terms.schema_from
    }
}

/// What starts behind the fence opened the ledger that froze there. On the way back the instance
/// that froze may still run: nothing stopped it, and it kept its promise. One that starts late, or
/// once more, finds peers that are open again, and what they wrote since follows the frozen tip.
fn check_loaded(
    standing: &Standing,
    plan: &PlanState,
    (step, code): (&Step, &Placement),
    key: &PublicKey,
) -> Result<(), Refusal> {
    let change = service_of(plan)?;
    let Some(freeze) = plan.plan().freeze_of(&step.node) else { return Ok(()) };
    let frozen = plan.standing(freeze).ok_or(Refusal::NotStated { step: freeze })?;
    let tip: Option<Tip> = frozen.standing().tip;
    let goes_back = plan.plan().is_rollback(step.id) && code.measurement == change.from.measurement;
    let still_frozen =
        frozen.instance() == key && standing.writing == Writing::Frozen && standing.tip == tip;
    let height = |tip: Option<Tip>| tip.map(|tip| tip.height);
    let went_on = height(standing.loaded) > height(tip);
    let holds = standing.loaded == tip || goes_back && (still_frozen || went_on);
    agree(holds, "loaded tip")
}

/// The keys that must outlive every instance are those that the node had when it froze.
fn check_kept_keys(standing: &Standing, plan: &PlanState) -> Result<(), Refusal> {
    let freeze = plan.plan().freeze_of(&standing.node);
    let Some(frozen) = freeze.and_then(|step| plan.standing(step)) else { return Ok(()) };
    agree(long_lived(standing).eq(long_lived(frozen.standing())), "long-lived keys")
}

/// Every other node, and nobody else, is a peer of the same code and configuration.
fn has_all_peers(
    standing: &Standing,
    plan: &Plan,
    change: &ServiceChange,
    code: &Placement,
) -> bool {
    let configuration = change.configuration_of(&code.measurement);
    let alike = standing
        .peers
        .iter()
        .all(|peer| peer.measurement == code.measurement && peer.configuration == configuration);
    let others = plan.nodes.iter().filter(|node| **node != standing.node);
    alike && standing.peers.iter().map(|peer| &peer.node).eq(others)
}

/// Shows that the signer is an instance of the application, of code that the policy names for it.
fn attest_application(
    state: &mut NetworkState,
    envelope: &Envelope,
    key: PublicKey,
    standing: &Standing,
) -> Result<Attested, Refusal> {
    let evidence = envelope.evidence.as_ref().ok_or(Refusal::EvidenceMissing)?;
    let result = appraise(state, &standing.domain, evidence, &envelope.report_data(&key))?;
    let measurement = result.measurement();
    if measurement != standing.measurement {
        let stated = standing.measurement;
        return Err(Refusal::MeasurementMismatch { stated, attested: measurement });
    }
    let no_policy = Refusal::NoPolicy { domain: standing.domain };
    let policy = state.policy(&standing.domain).ok_or(no_policy)?;
    let application = &standing.application;
    let rule = policy.application(application, &measurement);
    let rule = rule.ok_or_else(|| Refusal::ApplicationRefused {
        application: application.clone(),
        measurement,
    })?;
    let (needed, found) = (rule.security_version, result.security_version());
    if found < needed {
        return Err(Refusal::SecurityVersionTooLow { needed, found });
    }
    Ok(Attested { instance: key, result })
}

/// One host must not pose as two operators: no platform states the same for two nodes.
fn check_platform(
    state: &NetworkState,
    standing: &Standing,
    attested: &Attested,
) -> Result<(), Refusal> {
    let plan = current_plan(state, &standing.step.plan)?;
    let action = |step| plan.plan().step(step).map(|step| &step.action);
    let own = action(standing.step.step);
    let platform = attested.result.platform();
    let same = |(step, seen): &(StepId, &StandingSeen)| {
        seen.result().platform() == platform
            && seen.standing().node != standing.node
            && action(*step) == own
    };
    match plan.standings().find(same) {
        None => Ok(()),
        Some((_, seen)) => {
            Err(Refusal::SamePlatform { platform, node: seen.standing().node.clone() })
        }
    }
}

pub(crate) fn examine_rehearsal(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let operators = state.quorum(Role::Operator)?;
    let (rehearsal, key) = verify_one::<Rehearsal>(envelope, operators.of, operators.keys)?;
    same_network(state, rehearsal.network)?;
    // What happens here is no rehearsal of what happens here.
    if rehearsal.rehearsed_on == state.network {
        return Err(Refusal::RehearsedHere);
    }
    let known = state.rehearsals.get(&rehearsal.terms);
    if let Some((_, at)) = known.and_then(|known| known.get(&key)) {
        return Err(Refusal::AlreadyRecorded { what: "rehearsal of this operator", at: *at });
    }
    // Those of former operators make room.
    if state.rehearsals(&rehearsal.terms) >= REHEARSALS_MAX {
        return Err(Refusal::Limit { what: "rehearsals of these terms", limit: REHEARSALS_MAX });
    }
    Ok(Change::Rehearsal(rehearsal, key))
}

pub(crate) fn examine_revocation(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let operators = state.quorum(Role::Operator)?;
    let (revocation, key) = verify_one::<Revocation>(envelope, operators.of, operators.keys)?;
    same_network(state, revocation.network)?;
    let plan = current_plan(state, &revocation.plan)?;
    match plan.status() {
        PlanStatus::Proposed | PlanStatus::Approved | PlanStatus::ApprovalLapsed => {}
        status @ (PlanStatus::Expired
        | PlanStatus::RollingBack
        | PlanStatus::RolledBack
        | PlanStatus::PastNoReturn
        | PlanStatus::Finished) => return Err(Refusal::PlanStatus { status }),
    }
    // Otherwise whoever kept it could take back what its operator gave again.
    if let Some((_, at)) = plan.revoked.get(&key) {
        return Err(Refusal::AlreadyRecorded { what: "revocation of this operator", at: *at });
    }
    if !plan.approvals().contains_key(&key) {
        return Err(Refusal::NotApproved { key });
    }
    // An agent may have begun a step that is open, and without consent it could neither end the
    // step nor go back.
    let may_be_noticed = |id: &StepId| {
        plan.plan().step(*id).is_some_and(|step| !is_quiet(&step.action) && has_come(state, step))
    };
    if let Some(step) = plan.startable().into_iter().find(may_be_noticed) {
        return Err(Refusal::RevokedTooLate { step });
    }
    Ok(Change::Revocation(revocation, key))
}

/// Whether every epoch has begun that a step waits for. Epochs never go back, so no agent has
/// started a step whose epoch has not come.
fn has_come(state: &NetworkState, step: &Step) -> bool {
    step.gates.iter().all(|gate| match gate {
        Gate::Epoch(opens) => *opens <= state.epoch,
        Gate::Done(_)
        | Gate::Proven { .. }
        | Gate::Registered { .. }
        | Gate::PolicyPublished(_)
        | Gate::Waited { .. }
        | Gate::AllDone { .. }
        | Gate::Agreed { .. }
        | Gate::Rehearsed { .. }
        | Gate::Consented { .. }
        | Gate::Concordant { .. } => true,
    })
}

/// Whether nobody outside notices this action.
fn is_quiet(action: &Action) -> bool {
    matches!(
        action,
        Action::Service(ServiceAction::Equip(_) | ServiceAction::Muster(_))
            | Action::Prepare(_)
            | Action::Verify { .. }
            | Action::Participant(
                ParticipantAction::Survey
                    | ParticipantAction::Enroll
                    | ParticipantAction::Allocate
                    | ParticipantAction::Supply
            )
    )
}

/// What a result of a step of a service needs besides the agent's word.
pub(crate) fn check_result(plan: &PlanState, step: &Step) -> Result<(), Refusal> {
    if stated(&step.action).is_some() && plan.standing(step.id).is_none() {
        return Err(Refusal::NotStated { step: step.id });
    }
    if step.action != Action::Commit {
        return Ok(());
    }
    // From here on nothing can be called off, so nothing before may be left.
    let earlier = plan.plan().steps.iter().take_while(|other| other.id < step.id);
    match earlier.map(|other| other.id).find(|other| !plan.is_settled(*other)) {
        Some(before) => Err(Refusal::TooEarly { step: step.id, before }),
        None => Ok(()),
    }
}

/// Consent to the change of a service lasts as long as its window. If it ended before, nodes
/// that are closed could go neither on nor back until the deadline.
pub(crate) fn check_lasts(plan: &PlanState, not_after: Epoch) -> Result<(), Refusal> {
    match plan.abort_after() {
        Some(needed) if not_after < needed => {
            Err(Refusal::ApprovalTooShort { needed, found: not_after })
        }
        Some(_) | None => Ok(()),
    }
}

/// Consent that its operator took back does not count again when somebody repeats it.
pub(crate) fn check_not_revoked(
    plan: &PlanState,
    signers: &[PublicKey],
    not_after: Epoch,
) -> Result<(), Refusal> {
    for key in signers {
        match plan.revoked.get(key) {
            Some((until, _)) if not_after <= *until => {
                return Err(Refusal::Revoked { key: *key, not_after: *until });
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}
