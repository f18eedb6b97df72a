//! When a step of a service is done, and when a plan for one is called off.

use heirloom_model::domain::PlanStep;
use heirloom_model::plan::{Action, Plan, ServiceAction, Step, StepId};
use heirloom_model::service::{Admission, Writing};
use heirloom_registry::plan::{PlanState, PlanStatus};

use super::{Directive, Situation, plan_of};
use crate::gate::Waiting;
use crate::journal::Cause;
use crate::port::{EdgeAdmission, Observation, ServiceObservation};

/// Whether the action of a service has taken effect, as far as log and observation show.
///
/// What the service itself states is done when the log has it: nothing on the host could show more.
pub(super) fn is_done(
    situation: &Situation<'_>,
    plan: &Plan,
    step: &Step,
    observed: &Observation,
) -> bool {
    let current = plan_of(situation).filter(|current| current.plan() == plan);
    let seen = observed.service.as_ref();
    match &step.action {
        Action::Service(
            ServiceAction::Equip(_)
            | ServiceAction::Muster(_)
            | ServiceAction::Freeze(_)
            | ServiceAction::Launch(_)
            | ServiceAction::Join(_)
            | ServiceAction::Watch(_),
        ) => current.is_some_and(|current| current.standing(step.id).is_some()),
        Action::Commit => true,
        action => current.zip(seen).is_some_and(|(current, seen)| {
            let shows = Shows { situation, current, step: step.id, seen };
            shows.effect(action)
        }),
    }
}

/// What a host shows of the effect of a step.
struct Shows<'a> {
    situation: &'a Situation<'a>,
    current: &'a PlanState,
    step: StepId,
    seen: &'a ServiceObservation,
}

impl Shows<'_> {
    fn effect(&self, action: &Action) -> bool {
        let Self { situation, current, step, seen } = self;
        let plan = *current.digest();
        // A migration that goes on after the plan was called off would undo the way back.
        if seen.under_way.is_some() {
            return false;
        }
        match action {
            Action::Service(ServiceAction::Fence(placement)) => {
                let code = &placement.measurement;
                let idle = seen.running.as_ref().is_none_or(|status| {
                    status.admission == Admission::Closed && status.pending == 0
                });
                seen.edge == Some(EdgeAdmission::Closed) && !seen.silent.contains(code) && idle
            }
            Action::Service(ServiceAction::Halt(placement)) => {
                !seen.exists(&placement.measurement) && seen.database_held.is_none()
            }
            Action::Service(ServiceAction::Snapshot) => {
                let frozen = current.frozen_tip(situation.node);
                frozen.is_some() && seen.snapshots.get(&plan).copied() == frozen
            }
            Action::Service(ServiceAction::Migrate) => seen.migrated == Some(plan),
            Action::Service(ServiceAction::Revert) => seen.migrated != Some(plan),
            Action::Service(ServiceAction::Deploy { install, .. }) => {
                seen.installed == Some(install.measurement)
            }
            Action::Service(ServiceAction::Exercise(_)) => {
                seen.exercised.contains(&PlanStep { plan, step: *step })
            }
            Action::Service(ServiceAction::Open(placement)) => {
                let open = seen.running.as_ref().is_some_and(|status| {
                    status.measurement == placement.measurement
                        && status.admission == Admission::Open
                        && status.writing == Writing::Active
                });
                open && seen.edge == Some(EdgeAdmission::Open)
            }
            // The others concern keepers, or are stated in the log.
            _ => false,
        }
    }
}

/// Whether the agent of a node may call this plan off now: a service changes or participants move,
/// and nobody has committed to it yet.
pub(crate) fn may_call_off(plan: &PlanState) -> bool {
    let changes_together = plan.plan().service.is_some() || plan.plan().participant.is_some();
    changes_together
        && match plan.status() {
            PlanStatus::Approved | PlanStatus::ApprovalLapsed => true,
            PlanStatus::Proposed
            | PlanStatus::Expired
            | PlanStatus::RollingBack
            | PlanStatus::RolledBack
            | PlanStatus::PastNoReturn
            | PlanStatus::Finished => false,
        }
}

/// Whether a step that cannot be carried out is a reason to call the plan off: clients notice
/// already that it runs, and other nodes wait.
pub(crate) fn must_succeed(plan: &Plan, step: &Step) -> bool {
    if plan.is_rollback(step.id) {
        return false;
    }
    match &step.action {
        // Nothing is closed yet: operators have until the deadline to help.
        Action::Service(ServiceAction::Equip(_) | ServiceAction::Muster(_)) => false,
        Action::Participant(action) => super::participant::is_noticed(*action),
        action => action.concerns_service(),
    }
}

/// The directive to say in the log what the journal says already: that this agent calls the plan
/// off. The log may have none of it, whatever happened to the process in between.
pub(super) fn called_off(situation: &Situation<'_>, plan: &PlanState) -> Option<Directive> {
    let (adopted, _) = situation.progress.plan()?;
    let (step, cause) = situation.progress.called_off()?;
    if adopted != *plan.digest() || !may_call_off(plan) {
        return None;
    }
    let reason = format!("{}: {cause}", describe(plan.plan(), step));
    Some(Directive::CallOff { step, cause, reason })
}

/// The directive that follows from services which must agree and do not.
pub(super) fn disagreed(plan: &PlanState, step: &Step, waiting: &[Waiting]) -> Option<Directive> {
    if !may_call_off(plan) || plan.plan().is_rollback(step.id) {
        return None;
    }
    waiting.iter().find_map(|waiting| match waiting {
        Waiting::Disagreement { a, b, what } => {
            let reason = format!("the services at {a} and {b} differ in their {what}");
            Some(Directive::CallOff { step: step.id, cause: Cause::Disagreed, reason })
        }
        Waiting::Discord { a, b, what } => {
            let reason = format!("the participants at {a} and {b} differ in their {what}");
            Some(Directive::CallOff { step: step.id, cause: Cause::Disagreed, reason })
        }
        _ => None,
    })
}

/// A step in words.
pub(crate) fn describe(plan: &Plan, step: StepId) -> String {
    match plan.step(step) {
        Some(found) => format!("step {step} ({} on {})", found.action.name(), found.node),
        None => format!("step {step}"),
    }
}
