//! Proposals that change a service: terms that make sense, code that the policy names, and steps
//! after which nobody sees what both versions wrote.

use std::collections::BTreeSet;

use heirloom_model::limit::{MIGRATIONS_MAX, SERVICE_KEYS_MAX, SERVICE_PEERS_MAX, TESTS_MAX};
use heirloom_model::plan::{
    Action, Gate, KeyringPlan, Placement, Plan, ServiceAction, Step, StepId,
};
use heirloom_model::policy::{KeyScope, Policy};
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_model::service::{KeyCustody, ProgramTerm, ServiceChange, Terms};

use super::proposal::all_steps;
use super::service::stated;
use super::{epoch_not_passed, not_expired};
use crate::network::NetworkState;
use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, not_empty, require};

const ACTION: &str = "plan.steps.action";
const GATES: &str = "plan.steps.gates";

/// Everything that a plan says about a service; nothing, if it changes none.
pub(crate) fn check(
    state: &NetworkState,
    policy: &Policy,
    plan: KeyringPlan<'_>,
) -> Result<(), Refusal> {
    let Some(change) = &plan.service else { return check_without(&plan) };
    let mismatch = |what| Err(Refusal::PlanMismatch { what });
    let stays = plan.keyring.pairs().all(|(from, to)| from == to);
    if !stays || plan.keyring.via.is_some() {
        return mismatch("keeper");
    }
    check_terms(&change.terms)?;
    check_same_code(change)?;
    check_epochs(state, &plan, change)?;
    let from = known_release(state, &change.from, &change.terms.from)?;
    let to = known_release(state, &change.to, &change.terms.to)?;
    not_expired(state, "release", to.not_after)?;
    if to.security_version < from.security_version {
        return mismatch("security version");
    }
    for code in [&change.from, &change.to] {
        check_rule(policy, change, code)?;
    }
    check_steps(&plan, change)?;
    check_ranges(&plan)?;
    if change.changes_code() { check_commit(&plan, change) } else { check_single_commit(&plan) }
}

/// A plan without a service has none of its steps, and waits for nothing that services say.
fn check_without(plan: &Plan) -> Result<(), Refusal> {
    for step in all_steps(plan) {
        require(!step.action.concerns_service(), ACTION, Fault::Unexpected)?;
        let of_service = |gate: &Gate| {
            matches!(
                gate,
                Gate::Agreed { .. }
                    | Gate::Rehearsed { .. }
                    | Gate::Consented { .. }
                    | Gate::Concordant { .. }
            )
        };
        require(!step.gates.iter().any(of_service), GATES, Fault::Unexpected)?;
    }
    Ok(())
}

fn check_terms(terms: &Terms) -> Result<(), Refusal> {
    distinct("terms.migrations", &terms.migrations, MIGRATIONS_MAX)?;
    not_empty("terms.tests", &terms.tests)?;
    distinct("terms.tests", &terms.tests, TESTS_MAX)?;
    ascending("terms.keys", &terms.keys, SERVICE_KEYS_MAX, |term| term.key.clone())?;
    require(terms.quiet_milliseconds > 0, "terms.quiet_milliseconds", Fault::OutOfRange)?;
    require(terms.schema_to >= terms.schema_from, "terms.schema_to", Fault::OutOfRange)?;
    let moves = terms.schema_to == terms.schema_from || !terms.migrations.is_empty();
    require(moves, "terms.migrations", Fault::Empty)
}

/// A list whose order means something.
fn distinct<T: Ord>(field: &'static str, list: &[T], limit: usize) -> Result<(), Refusal> {
    let fault = Fault::TooLong { found: list.len(), limit };
    require(list.len() <= limit, field, fault)?;
    let known: BTreeSet<&T> = list.iter().collect();
    require(known.len() == list.len(), field, Fault::NotDistinct)
}

/// Where the code stays, nodes restart one by one: while they do, peers compare what they have.
fn check_same_code(change: &ServiceChange) -> Result<(), Refusal> {
    if change.changes_code() {
        return Ok(());
    }
    let terms = &change.terms;
    let alike = terms.configuration_from == terms.configuration_to;
    require(alike, "terms.configuration_to", Fault::Unexpected)?;
    require(terms.schema_from == terms.schema_to, "terms.schema_to", Fault::Unexpected)?;
    require(terms.migrations.is_empty(), "terms.migrations", Fault::Unexpected)
}

fn check_epochs(state: &NetworkState, plan: &Plan, change: &ServiceChange) -> Result<(), Refusal> {
    epoch_not_passed(state, "abort deadline", change.abort_after)?;
    let in_time = change.opens <= change.abort_after;
    require(in_time, "plan.service.opens", Fault::OutOfRange)?;
    let ends = change.abort_after <= plan.not_after;
    require(ends, "plan.service.abort_after", Fault::OutOfRange)
}

/// The release of a placement, which is what the terms call it.
fn known_release<'a>(
    state: &'a NetworkState,
    code: &Placement,
    term: &ProgramTerm,
) -> Result<&'a Release, Refusal> {
    let unknown = Refusal::UnknownRelease { release: code.release };
    let found = state.releases.get(&code.release).ok_or(unknown)?;
    if found.kind != ReleaseKind::Application || !found.measurements.contains(&code.measurement) {
        return Err(Refusal::PlanMismatch { what: "release" });
    }
    let has_program = found.artifacts.iter().any(|file| file.digest == term.program);
    if found.name != term.release || !has_program {
        return Err(Refusal::PlanMismatch { what: "program" });
    }
    Ok(found)
}

/// The policy lets the code ask for every long-lived key of the terms.
fn check_rule(policy: &Policy, change: &ServiceChange, code: &Placement) -> Result<(), Refusal> {
    let rule = policy.application(&change.application, &code.measurement);
    let rule = rule.ok_or(Refusal::PlanMismatch { what: "application" })?;
    let allowed = change.terms.keys.iter().all(|term| match term.custody {
        KeyCustody::Keyring => match &rule.keys {
            KeyScope::All => true,
            KeyScope::Only(keys) => keys.contains(&term.key),
        },
        KeyCustody::PerBoot => true,
    });
    if allowed { Ok(()) } else { Err(Refusal::PlanMismatch { what: "key scope" }) }
}

/// The plan changes no keeper, and changes the service of its nodes only.
fn check_steps(plan: &Plan, change: &ServiceChange) -> Result<(), Refusal> {
    let limit = SERVICE_PEERS_MAX.saturating_add(1);
    let fault = Fault::TooLong { found: plan.nodes.len(), limit };
    require(plan.nodes.len() <= limit, "plan.nodes", fault)?;
    let named = |code: &Placement| *code == change.from || *code == change.to;
    let mut frozen = BTreeSet::new();
    for step in all_steps(plan) {
        let about = match &step.action {
            Action::Service(
                ServiceAction::Equip(code)
                | ServiceAction::Muster(code)
                | ServiceAction::Fence(code)
                | ServiceAction::Halt(code)
                | ServiceAction::Launch(code)
                | ServiceAction::Join(code)
                | ServiceAction::Exercise(code)
                | ServiceAction::Open(code)
                | ServiceAction::Watch(code),
            ) => named(code),
            // A node freezes once, and not on the way back: everything after refers to it.
            Action::Service(ServiceAction::Freeze(code)) => {
                named(code) && !plan.is_rollback(step.id) && frozen.insert(&step.node)
            }
            Action::Service(ServiceAction::Deploy { expect, install }) => {
                named(expect) && named(install)
            }
            Action::Service(
                ServiceAction::Snapshot | ServiceAction::Migrate | ServiceAction::Revert,
            )
            | Action::Commit => true,
            Action::Verify { .. } | Action::Withdraw(_) => continue,
            _ => return require(false, ACTION, Fault::Unexpected),
        };
        require(about, ACTION, Fault::Dangling)?;
        require(plan.nodes.contains(&step.node), "plan.steps.node", Fault::Dangling)?;
    }
    Ok(())
}

/// Services agree about one thing at a time. That no more steps than nodes are compared bounds what
/// each result costs.
fn check_ranges(plan: &Plan) -> Result<(), Refusal> {
    for gate in all_steps(plan).flat_map(|step| &step.gates) {
        match gate {
            Gate::Agreed { first, last } => {
                let nodes = u32::try_from(plan.nodes.len()).unwrap_or(u32::MAX);
                let few = last.0.saturating_sub(first.0) < nodes;
                require(few, GATES, Fault::OutOfRange)?;
                let action = |id: u32| plan.step(StepId(id)).map(|step| &step.action);
                let asked = action(first.0);
                let alike = asked.is_some_and(|asked| stated(asked).is_some())
                    && (first.0..=last.0).all(|id| action(id) == asked);
                require(alike, GATES, Fault::Unexpected)?;
            }
            Gate::Rehearsed { need } => require(*need > 0, GATES, Fault::OutOfRange)?,
            Gate::Done(_)
            | Gate::Proven { .. }
            | Gate::Registered { .. }
            | Gate::Epoch(_)
            | Gate::PolicyPublished(_)
            | Gate::Waited { .. }
            | Gate::AllDone { .. } => {}
            Gate::Consented { .. } | Gate::Concordant { .. } => {
                require(false, GATES, Fault::Unexpected)?;
            }
        }
    }
    Ok(())
}

/// If a plan commits, it does so once, and that is its point of no return.
fn check_single_commit(plan: &Plan) -> Result<(), Refusal> {
    let commits = all_steps(plan).filter(|step| step.action == Action::Commit);
    for step in commits {
        let is_end = step.id == plan.point_of_no_return;
        require(is_end, "plan.point_of_no_return", Fault::Unexpected)?;
    }
    Ok(())
}

/// Clients are let in to the new version only when nothing can be called off any more, so that
/// nobody ever sees what both versions wrote. The way back opens the old version only.
fn check_commit(plan: &Plan, change: &ServiceChange) -> Result<(), Refusal> {
    check_single_commit(plan)?;
    let commits = plan.step(plan.point_of_no_return).map(|step| &step.action);
    let found = commits == Some(&Action::Commit);
    require(found, "plan.point_of_no_return", Fault::Unexpected)?;
    let mut behind = BTreeSet::from([plan.point_of_no_return]);
    for step in all_steps(plan) {
        let Action::Service(ServiceAction::Open(code)) = &step.action else { continue };
        if plan.is_rollback(step.id) {
            require(*code == change.from, ACTION, Fault::Unexpected)?;
            continue;
        }
        require(*code == change.to, ACTION, Fault::Unexpected)?;
        require(waits_for(step, &behind), GATES, Fault::Unexpected)?;
        behind.insert(step.id);
    }
    Ok(())
}

/// Whether a step waits for one of these.
pub(crate) fn waits_for(step: &Step, behind: &BTreeSet<StepId>) -> bool {
    step.gates.iter().any(|gate| match gate {
        Gate::Done(before) => behind.contains(before),
        Gate::AllDone { first, last } => {
            first <= last && behind.range(*first..=*last).next().is_some()
        }
        _ => false,
    })
}
