//! Who is the active holder of an exclusive domain: suspensions and activations.
//!
//! Both are statements of measured code, which keeps two promises: an instance that suspended
//! itself, or that was active before, never asks to become active; and what it states is as its
//! own log says at that moment. The fold adds what no single instance can know: that there is
//! one order in which all of this happened, and that a statement which comes late finds that
//! somebody else was faster.

use heirloom_attest::result::Host;
use heirloom_model::counter::{Generation, LogIndex};
use heirloom_model::digest::Checksum;
use heirloom_model::domain::{Activation, ActivationCause, HoldingOrigin, PlanStep, Suspension};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Placement, Step};
use heirloom_model::policy::{HolderRole, Policy, Sharing};

use super::attested::{attest, check_history, check_seen, verify_attested};
use super::custody::with_policy;
use super::plan::{check_open, current_plan};
use super::{Attested, Change};
use crate::activity::Activity;
use crate::domain::DomainState;
use crate::network::NetworkState;
use crate::plan::PlanState;
use crate::refusal::Refusal;

pub(crate) fn examine_suspension(
    state: &mut NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let (statement, key) = verify_attested::<Suspension>(state, envelope)?;
    let attested = attest(state, envelope, key, &statement.domain)?;
    let measurement = attested.result.measurement();
    let domain = exclusive(state, &statement.domain)?;
    // A suspension that arrives after another instance became active suspends nobody.
    let active = domain.activity.active().filter(|active| active.instance == key);
    let active = active.ok_or(Refusal::NotActiveHolder { instance: key })?;
    if !active.is_at(&statement.node, &measurement) {
        return Err(Refusal::OtherSeat { node: statement.node.clone(), measurement });
    }
    check_history(state, &statement.as_of)?;
    check_seen(&statement.as_of, active.at)?;
    check_keyring(domain, statement.generation, &statement.checksum)?;
    let (plan, step) = asking_step(state, &statement.step, &statement.domain)?;
    check_allowed(plan, step)?;
    if plan.plan().is_rollback(step.id) {
        return Err(Refusal::WrongStep { step: step.id, reason: "belongs to the way back" });
    }
    check_seen(&statement.as_of, plan.approved_at().unwrap_or(plan.proposed_at()))?;
    let Action::Suspend(seat) = &step.action else {
        return Err(Refusal::WrongStep { step: step.id, reason: "does not suspend anybody" });
    };
    check_seat(step, seat, &statement.node, &measurement)?;
    check_open(state, plan, step)?;
    Ok(Change::Suspension(statement, attested))
}

pub(crate) fn examine_activation(
    state: &mut NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let (statement, key) = verify_attested::<Activation>(state, envelope)?;
    let attested = attest(state, envelope, key, &statement.domain)?;
    let domain = exclusive(state, &statement.domain)?;
    check_keeper(state, &statement.domain, &attested.result.measurement())?;
    match statement.origin {
        HoldingOrigin::Recovered => {}
        HoldingOrigin::Received => return Err(Refusal::NotRecovered),
    }
    let committed_at = check_keyring(domain, statement.generation, &statement.checksum)?;
    if let Some(at) = domain.spent.at(&key) {
        return Err(Refusal::ActivatedBefore { instance: key, at });
    }
    // Whatever an instance stated before somebody became active, or was suspended, it stated about
    // another world. This alone keeps every kept statement of an instance that was active out,
    // for ever and without any memory of keys: it made its last one before it became active.
    check_history(state, &statement.as_of)?;
    let changed_at = domain.activity.at().unwrap_or(committed_at);
    check_seen(&statement.as_of, changed_at.max(committed_at))?;
    match statement.cause {
        ActivationCause::First => check_first(domain, &statement.node)?,
        ActivationCause::Restarted => check_restarted(domain, &statement.node, &attested)?,
        ActivationCause::Planned(step) => check_planned(state, &statement, step, &attested)?,
    }
    Ok(Change::Activation(statement, attested))
}

/// Nobody was ever active, and this node made the first key.
fn check_first(domain: &DomainState, node: &NodeId) -> Result<(), Refusal> {
    if let Some(at) = domain.activity.at() {
        return Err(Refusal::AlreadyActive { at });
    }
    if domain.genesis_node.as_ref() != Some(node) {
        return Err(Refusal::NotGenesisNode { node: node.clone() });
    }
    Ok(())
}

/// The same code on the same node and machine was active until now. A suspended holder that starts
/// anew gets nothing: the plan decides who is next.
fn check_restarted(
    domain: &DomainState,
    node: &NodeId,
    attested: &Attested,
) -> Result<(), Refusal> {
    let active = domain.activity.active().ok_or(Refusal::NobodyActive)?;
    let measurement = attested.result.measurement();
    if !active.is_at(node, &measurement) {
        return Err(Refusal::OtherSeat { node: node.clone(), measurement });
    }
    // Of hosts that their evidence does not name, nobody knows whether they are one.
    let found = attested.result.host();
    if found == Host::Unknown || found != active.host {
        return Err(Refusal::OtherPlatform { found: attested.result.platform() });
    }
    Ok(())
}

/// The holder before is suspended, and the plan names this seat as the next one.
fn check_planned(
    state: &NetworkState,
    statement: &Activation,
    asked: PlanStep,
    attested: &Attested,
) -> Result<(), Refusal> {
    let measurement = attested.result.measurement();
    let domain = exclusive(state, &statement.domain)?;
    match &domain.activity {
        Activity::Suspended(_) => {}
        Activity::Active(active) if active.is_at(&statement.node, &measurement) => {
            return Err(Refusal::AlreadyActive { at: active.at });
        }
        Activity::Active(_) | Activity::None => return Err(Refusal::NotSuspended),
    }
    let (plan, step) = asking_step(state, &asked, &statement.domain)?;
    check_allowed(plan, step)?;
    let Action::Activate(seat) = &step.action else {
        return Err(Refusal::WrongStep { step: step.id, reason: "does not activate anybody" });
    };
    check_seat(step, seat, &statement.node, &measurement)?;
    check_open(state, plan, step)
}

/// A domain whose policy in force, which has not expired, allows one active holder.
pub(crate) fn exclusive<'a>(
    state: &'a NetworkState,
    domain: &DomainId,
) -> Result<&'a DomainState, Refusal> {
    let known = with_policy(state, domain)?;
    match known.policy().map(|policy| policy.sharing) {
        Some(Sharing::Exclusive) => Ok(known),
        Some(Sharing::Replicated) | None => Err(Refusal::NotExclusive { domain: *domain }),
    }
}

/// Refuses code that holds only to pass the keyring on.
pub(crate) fn check_keeper(
    state: &NetworkState,
    domain: &DomainId,
    measurement: &Measurement,
) -> Result<(), Refusal> {
    let policy = state.policy(domain).ok_or(Refusal::NoPolicy { domain: *domain })?;
    match role_of(policy, measurement)? {
        HolderRole::Keeper => Ok(()),
        role @ HolderRole::Upgrader => {
            Err(Refusal::RoleRefused { measurement: *measurement, role: role.name() })
        }
    }
}

/// What a policy lets this code do.
fn role_of(policy: &Policy, measurement: &Measurement) -> Result<HolderRole, Refusal> {
    let refused = Refusal::MeasurementRefused { measurement: *measurement };
    policy.holder(measurement).map(|rule| rule.role).ok_or(refused)
}

/// Refuses a holder of anything but the committed keyring. Returns the entry that committed it.
fn check_keyring(
    domain: &DomainState,
    generation: Generation,
    checksum: &Checksum,
) -> Result<LogIndex, Refusal> {
    let held = |committed: &&crate::domain::Committed| {
        committed.generation == generation && committed.checksum == *checksum
    };
    let committed = domain.committed().filter(held);
    let refused = Refusal::KeyringMismatch { generation, checksum: *checksum };
    committed.map(|committed| committed.at).ok_or(refused)
}

/// The step that a statement names, in the latest plan of its domain. Nothing happened by it yet.
fn asking_step<'a>(
    state: &'a NetworkState,
    asked: &PlanStep,
    domain: &DomainId,
) -> Result<(&'a PlanState, &'a Step), Refusal> {
    let plan = current_plan(state, &asked.plan)?;
    let id = asked.step;
    if plan.plan().domain != *domain {
        return Err(Refusal::WrongStep { step: id, reason: "belongs to another domain" });
    }
    let step = plan.plan().step(id).ok_or(Refusal::UnknownStep { step: id })?;
    if let Some(at) = plan.done_at(id).or(plan.witnessed_at(id)) {
        return Err(Refusal::AlreadyRecorded { what: "statement for this step", at });
    }
    Ok((plan, step))
}

/// Refuses a step that the plan does not let start. After an abort a new holder could no longer be
/// told from the old one that is put back.
fn check_allowed(plan: &PlanState, step: &Step) -> Result<(), Refusal> {
    if plan.allows(step.id) { Ok(()) } else { Err(Refusal::PlanStatus { status: plan.status() }) }
}

/// The step is about exactly this seat.
fn check_seat(
    step: &Step,
    seat: &Placement,
    node: &NodeId,
    measurement: &Measurement,
) -> Result<(), Refusal> {
    let wrong = |reason| Err(Refusal::WrongStep { step: step.id, reason });
    if step.node != *node {
        return wrong("belongs to another node");
    }
    if seat.measurement != *measurement {
        return wrong("is about other code");
    }
    Ok(())
}
