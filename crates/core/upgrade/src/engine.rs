//! What one agent does next: a pure function of the plan, the log and the agent's journal.
//!
//! The engine makes no choices that the plan did not make, and never asks which strategy it runs.

mod participant;
pub(crate) mod service;

use heirloom_custody::invariant::Survivors;
use heirloom_model::admin::{KeeperStatus, SealingAge};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{
    Action, ParticipantAction, Placement, Plan, ServiceAction, Step, StepId, StepOutcome,
    StepResult,
};
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::{PlanState, PlanStatus};

use crate::gate::{self, Asked, Waiting};
use crate::guard;
use crate::journal::{Cause, Durable, Progress, Record, StepProgress};
use crate::port::Observation;

/// What the agent must do next.
#[derive(Debug)]
#[must_use = "a plan makes progress only when its directives are carried out"]
pub enum Directive {
    /// Nothing: no plan concerns this node, or its part is done.
    Rest,
    /// Nothing yet: this is awaited.
    Wait(Vec<Waiting>),
    /// Append the record, then trade the receipt for the effect.
    Journal(Intent),
    /// Observe whether this interrupted step has taken effect; if not, carry it out.
    Resolve(Effect),
    /// Append this result to the registry log.
    Report(StepResult),
    /// Call the plan off: this node cannot carry out its part in the change of a service.
    CallOff {
        /// The step that cannot be carried out.
        step: StepId,
        /// Why, for the journal.
        cause: Cause,
        /// Why, for people.
        reason: String,
    },
}

/// An effect that stays locked until its record is durable.
#[derive(Debug)]
#[must_use = "an intent that is dropped leaves the plan where it was"]
pub struct Intent {
    record: Record,
    effect: Option<Effect>,
}

impl Intent {
    /// The record to make durable first.
    pub fn record(&self) -> Record {
        self.record
    }

    /// Unlocks the effect, if the record stands for one.
    pub fn release(self, _receipt: &Durable) -> Option<Effect> {
        self.effect
    }
}

/// A change to make in the world. Each is safe to repeat.
#[derive(Debug)]
#[must_use = "a journaled effect must be carried out"]
pub struct Effect {
    /// The step.
    pub step: StepId,
    /// What to do.
    pub action: Action,
    /// Who still has the keyring when this takes a holder away. Only custody makes it, and no
    /// holder is taken away without it.
    pub survivors: Option<Survivors>,
}

/// What the agent works from.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    /// The node that it answers for.
    pub node: &'a NodeId,
    /// The log, folded.
    pub state: &'a NetworkState,
    /// The agent's journal, folded.
    pub progress: &'a Progress,
}

/// Decides what to do next. Asking twice gives the same answer.
pub fn poll(situation: &Situation<'_>) -> Directive {
    let Some(plan_state) = plan_of(situation) else { return Directive::Rest };
    let plan = plan_state.plan();
    if plan.nodes.binary_search(situation.node).is_err() {
        return Directive::Rest;
    }
    if let Some(directive) = service::called_off(situation, plan_state) {
        return directive;
    }
    match plan_state.status() {
        PlanStatus::Approved | PlanStatus::PastNoReturn => {}
        PlanStatus::Proposed => return Directive::Wait(vec![Waiting::Approval]),
        PlanStatus::ApprovalLapsed => return settle(situation, plan_state, Waiting::Approval),
        PlanStatus::Expired => return settle(situation, plan_state, Waiting::PlanExpired),
        PlanStatus::RollingBack => return poll_rollback(situation, plan_state),
        PlanStatus::Finished | PlanStatus::RolledBack => return Directive::Rest,
    }
    if let Some(directive) = adopt(situation, plan_state) {
        return directive;
    }
    walk(situation, plan_state, plan.steps.iter().filter(|step| step.node == *situation.node))
}

/// Whether an action has taken effect, as far as log and observation show.
pub fn is_done(
    situation: &Situation<'_>,
    plan: &Plan,
    step: &Step,
    observed: &Observation,
) -> bool {
    let status = |placement: &Placement| observed.status(&placement.measurement);
    match &step.action {
        Action::Prepare(placement) => {
            gate::registered(situation.state, plan, &step.node, &placement.measurement)
        }
        Action::Verify { targets, need, code } => {
            let asked = Asked { step: step.id, targets, need: *need, code: *code };
            gate::proven(situation.state, plan, &asked).is_ok()
        }
        Action::Drain(placement) => {
            !observed.silent.contains(&placement.measurement)
                && status(placement).is_none_or(|status| !guard::serves(status))
        }
        Action::Stop(placement) => !observed.exists(&placement.measurement),
        Action::Quarantine(measurement) => !observed.live.contains(measurement),
        Action::Restore(measurement) => {
            observed.live.contains(measurement) || !observed.quarantined.contains(measurement)
        }
        Action::Install { install, .. } => observed.installed == Some(install.measurement),
        Action::Start(placement) => status(placement).is_some(),
        Action::Replicate { to, .. } | Action::HandOver { to, .. } => {
            status(to).is_some_and(|status| guard::holds(status, plan))
        }
        Action::Restart(placement) => status(placement)
            .is_some_and(|status| guard::recovered(status, plan) && !guard::is_spent(status)),
        Action::Withdraw(_) => true,
        Action::Suspend(_) => plan_of(situation)
            .is_some_and(|current| current.plan() == plan && is_suspended(current, step.id)),
        Action::Activate(placement) => {
            status(placement).is_some_and(|status| is_active(situation, plan, step, status))
        }
        Action::Forget(placement) => {
            // What has no file and holds nothing has nothing to give up.
            let code = &placement.measurement;
            let sealed = observed.live.contains(code);
            match status(placement) {
                Some(status) => guard::gave_up(status) || (status.holding.is_none() && !sealed),
                None => !observed.exists(code) && !sealed,
            }
        }
        Action::Preserve(measurement) => observed.quarantined.contains(measurement),
        Action::Reseal(placement) => {
            status(placement).is_some_and(|status| status.sealing == SealingAge::Current)
        }
        Action::Service(_) | Action::Commit => service::is_done(situation, plan, step, observed),
        Action::Participant(action) => {
            participant::is_done(situation, plan, step, *action, observed)
        }
    }
}

/// Whether [`is_done`] can tell this step's effect from what was before it. What it cannot tell is
/// carried out at least once by every process that finds it begun.
pub fn leaves_a_mark(plan: &Plan, step: &Step) -> bool {
    match &step.action {
        // An older upgrade may have left a copy of the same code. A commit is nothing but its
        // result: whoever reports it did it. A process that died and a proxy that forgot look as
        // if they had been told to, and would be put right as if nobody had told them. A source
        // that was not taken off yet is connected and may not connect by itself any more: only
        // the driver knows how it was.
        Action::Preserve(_)
        | Action::Commit
        | Action::Participant(ParticipantAction::Reconnect)
        | Action::Service(
            ServiceAction::Fence(_) | ServiceAction::Halt(_) | ServiceAction::Open(_),
        ) => false,
        // Before and after, the same code runs and has what it unsealed when it started.
        Action::Restart(placement) => !plan
            .steps
            .iter()
            .any(|other| other.node == step.node && other.action == Action::Reseal(*placement)),
        // Another release of the same code looks the same when it is installed.
        Action::Service(ServiceAction::Deploy { expect, install }) => {
            expect.measurement != install.measurement
        }
        _ => true,
    }
}

/// Whether the log has the suspension that a step asks for. Whoever is active later became so
/// after it.
fn is_suspended(plan: &PlanState, step: StepId) -> bool {
    plan.witnessed_at(step).is_some()
}

/// Whether the log names this very instance, at the seat of the step, as the active holder.
fn is_active(situation: &Situation<'_>, plan: &Plan, step: &Step, status: &KeeperStatus) -> bool {
    let domain = situation.state.domain(&plan.domain);
    let active = domain.and_then(|domain| domain.activity().active());
    active.is_some_and(|active| {
        active.is_at(&step.node, &status.measurement) && *active.instance() == status.instance
    })
}

/// The result statement of a step that the journal says has succeeded.
fn result(
    situation: &Situation<'_>,
    plan: &PlanState,
    step: StepId,
    how: StepOutcome,
) -> StepResult {
    StepResult {
        network: situation.state.network(),
        plan: *plan.digest(),
        number: plan.plan().number,
        step,
        node: situation.node.clone(),
        outcome: how,
        journal: situation.progress.head(),
    }
}

fn plan_of<'a>(situation: &Situation<'a>) -> Option<&'a PlanState> {
    let node = situation.state.node(situation.node)?;
    situation.state.active_plan(&node.domain)
}

/// The directive that makes this agent act for this plan, if it does not yet.
fn adopt(situation: &Situation<'_>, plan: &PlanState) -> Option<Directive> {
    let (digest, number) = (*plan.digest(), plan.plan().number);
    match situation.progress.plan() {
        Some((adopted, _)) if adopted == digest => None,
        Some((_, adopted)) if adopted >= number => Some(Directive::Rest),
        Some(_) | None => Some(Directive::Journal(Intent {
            record: Record::Adopted { plan: digest, number },
            effect: None,
        })),
    }
}

/// Takes the first of these steps that is not done and reported.
fn walk<'p>(
    situation: &Situation<'_>,
    plan: &PlanState,
    steps: impl Iterator<Item = &'p Step>,
) -> Directive {
    let mut unreported = None;
    for step in steps {
        let directive = match situation.progress.step(step.id) {
            Some(StepProgress::Succeeded(_)) if plan.done_at(step.id).is_some() => continue,
            Some(StepProgress::Succeeded(how)) => {
                let report = Directive::Report(result(situation, plan, step.id, how));
                if unreported.is_none() && may_be_reported_later(plan, step) {
                    unreported = Some(report);
                    continue;
                }
                report
            }
            Some(StepProgress::Interrupted) => match effect(situation, plan, step) {
                Ok(effect) => Directive::Resolve(effect),
                Err(waiting) => Directive::Wait(vec![waiting]),
            },
            Some(StepProgress::Refused) | None => start(situation, plan, step),
        };
        return match directive {
            Directive::Wait(_) | Directive::Report(_) | Directive::Rest => {
                unreported.unwrap_or(directive)
            }
            Directive::Journal(_) | Directive::Resolve(_) | Directive::CallOff { .. } => directive,
        };
    }
    unreported.unwrap_or(Directive::Rest)
}

/// Whether the step after this one need not wait for its result: nobody answers between a
/// suspension and the activation after it, and the log already has the holder's own statement.
fn may_be_reported_later(plan: &PlanState, step: &Step) -> bool {
    matches!(step.action, Action::Suspend(_)) && plan.witnessed_at(step.id).is_some()
}

/// Starts a step whose gates hold, or says what they wait for.
fn start(situation: &Situation<'_>, plan: &PlanState, step: &Step) -> Directive {
    let waiting: Vec<Waiting> = step
        .gates
        .iter()
        .filter_map(|gate| gate::holds(gate, plan.plan(), situation.state).err())
        .collect();
    if let Some(directive) = service::disagreed(plan, step, &waiting) {
        return directive;
    }
    if !waiting.is_empty() {
        return Directive::Wait(waiting);
    }
    if let Some(waiting) = suspends_nobody(situation, plan, step) {
        return Directive::Wait(vec![waiting]);
    }
    match effect(situation, plan, step) {
        Ok(effect) => {
            Directive::Journal(Intent { record: Record::Started(step.id), effect: Some(effect) })
        }
        Err(waiting) => Directive::Wait(vec![waiting]),
    }
}

/// Why a suspension must not be asked for: the log would refuse it, and its maker would be silent
/// for nothing.
fn suspends_nobody(situation: &Situation<'_>, plan: &PlanState, step: &Step) -> Option<Waiting> {
    let Action::Suspend(placement) = &step.action else { return None };
    let domain = situation.state.domain(&plan.plan().domain);
    let active = domain.and_then(|domain| domain.activity().active());
    let measurement = placement.measurement;
    let is_it = active.is_some_and(|active| active.is_at(&step.node, &measurement));
    // A suspension that the log has already is found done.
    let needed = !is_it && !is_suspended(plan, step.id);
    needed.then(|| Waiting::Active { node: step.node.clone(), measurement })
}

/// The effect of a step, with what custody says where a holder is taken away.
fn effect(situation: &Situation<'_>, plan: &PlanState, step: &Step) -> Result<Effect, Waiting> {
    let survivors = guard::survivors(situation.state, plan, step)?;
    Ok(Effect { step: step.id, action: step.action.clone(), survivors })
}

/// The way back: every step that undoes something which may have begun. Most find nothing to undo.
fn poll_rollback(situation: &Situation<'_>, plan: &PlanState) -> Directive {
    if let Some(directive) = adopt(situation, plan) {
        return directive;
    }
    if !situation.progress.turned_back() {
        return Directive::Journal(Intent { record: Record::TurnedBack, effect: None });
    }
    walk(situation, plan, plan.rollback_needed().filter(|step| step.node == *situation.node))
}

/// Starts nothing new, but settles a step that was interrupted.
fn settle(situation: &Situation<'_>, plan: &PlanState, otherwise: Waiting) -> Directive {
    let adopted = situation.progress.plan().map(|(digest, _)| digest);
    if adopted != Some(*plan.digest()) {
        return Directive::Wait(vec![otherwise]);
    }
    let begun =
        plan.plan().steps.iter().filter(|step| {
            step.node == *situation.node && situation.progress.step(step.id).is_some()
        });
    match walk(situation, plan, begun) {
        directive @ (Directive::Resolve(_) | Directive::Report(_) | Directive::CallOff { .. }) => {
            directive
        }
        Directive::Wait(_) | Directive::Rest | Directive::Journal(_) => {
            Directive::Wait(vec![otherwise])
        }
    }
}
