//! Carrying out the steps of a service, and calling a plan off where that cannot be done.

use std::time::Duration;

use heirloom_model::counter::Time;
use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::NOTE_CHARACTERS_MAX;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Abort, Action, Plan, ServiceAction, StepId};
use heirloom_model::service::{KeyCustody, ServiceChange, ServiceStatus, Tip, Writing};
use heirloom_model::signature::PublicKey;
use heirloom_model::wire;
use heirloom_registry::plan::{PlanState, PlanStatus};
use heirloom_registry::port::LogStore;
use heirloom_registry::refusal::Refusal;

use super::perform::refused;
use super::{Agent, AgentError, Tick, Trouble};
use crate::countersign::countersign_standing;
use crate::engine::service::{describe, may_call_off, must_succeed};
use crate::gate::Waiting;
use crate::journal::{Cause, Record};
use crate::port::{
    DriverError, JournalStore, NodeDriver, Observation, ServiceDriver, ServiceObservation,
};

/// What one step of a service needs to know.
struct Part {
    step: PlanStep,
    change: ServiceChange,
    /// Where the ledger of this node froze, if it did.
    frozen: Option<Tip>,
    /// The instance that froze there.
    froze: Option<PublicKey>,
    is_rollback: bool,
}

impl<J: JournalStore, L: LogStore, D: NodeDriver> Agent<J, L, D> {
    /// Carries out a step of the service, and puts into the log what the service states.
    pub(super) fn perform_service(
        &mut self,
        step: PlanStep,
        action: &Action,
    ) -> Result<Result<(), DriverError>, AgentError> {
        let Some(part) = self.part(step) else { return Ok(Err(missing("a plan for a service"))) };
        let seen = self.observed.as_ref().and_then(|observed| observed.service.clone());
        let Some(service) = self.driver.service() else {
            return Ok(Err(missing("a service on this node")));
        };
        if let Action::Service(ServiceAction::Equip(placement)) = action {
            let Some(release) = self.state.release(&placement.release) else {
                return Ok(Err(missing("the release")));
            };
            return match service.equip(release, &placement.measurement, step) {
                Ok(made) => self.state_standing(step, action, &made),
                Err(error) => Ok(Err(error)),
            };
        }
        if let Err(error) = part.act(service, action, &seen.unwrap_or_default()) {
            return Ok(Err(error));
        }
        let Some(code) = stated_by(action) else { return Ok(Ok(())) };
        // What it states is compared with what it says to its agent now: the log would refuse a
        // statement that comes too early, and nobody could tell that from one that is wrong.
        let observed = self.observe()?.service.unwrap_or_default();
        if let Err(error) = self.is_ready(&part, action, &observed, code) {
            return Ok(Err(error));
        }
        let Some(service) = self.driver.service() else {
            return Ok(Err(missing("a service on this node")));
        };
        match service.state(code, step) {
            Ok(made) => self.state_standing(step, action, &made),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Puts what a service stated into the log.
    fn state_standing(
        &mut self,
        step: PlanStep,
        action: &Action,
        made: &[u8],
    ) -> Result<Result<(), DriverError>, AgentError> {
        let statement = match countersign_standing(made, &self.node, step, &self.key) {
            Ok(statement) => statement,
            Err(reason) => return Ok(Err(DriverError::Refused(reason.to_string()))),
        };
        let appended = self.append(&statement)?;
        // An attempt that got no answer may have reached the log after all.
        if let Tick::Refused(Trouble::Statement(refusal)) = &appended
            && let Refusal::AlreadyRecorded { .. } = **refusal
        {
            return Ok(Ok(()));
        }
        Ok(match (refused(appended), action) {
            // Peers come and go while they find each other. What never comes right ends with the
            // deadline of the plan.
            (Err(DriverError::Refused(reason)), Action::Service(ServiceAction::Join(_))) => {
                Err(DriverError::Unknown(reason))
            }
            (stated, _) => stated,
        })
    }

    fn part(&self, step: PlanStep) -> Option<Part> {
        let plan = self.current(&step.plan)?;
        let freeze = plan.plan().freeze_of(&self.node);
        let froze = freeze.and_then(|freeze| plan.standing(freeze)).map(|seen| *seen.instance());
        Some(Part {
            froze,
            step,
            change: plan.plan().service.clone()?,
            frozen: plan.frozen_tip(&self.node),
            is_rollback: plan.plan().is_rollback(step.step),
        })
    }

    /// Why the service should not be asked for its statement yet, or never.
    fn is_ready(
        &self,
        part: &Part,
        action: &Action,
        observed: &ServiceObservation,
        code: &Measurement,
    ) -> Result<(), DriverError> {
        let status = answering(observed, code)?;
        match action {
            Action::Service(ServiceAction::Muster(_) | ServiceAction::Launch(_)) => {
                has_begun(status)
            }
            Action::Service(ServiceAction::Join(_)) => {
                has_begun(status)?;
                let Some(plan) = self.current(&part.step.plan) else {
                    return Err(missing("the plan"));
                };
                has_joined(status, plan.plan(), &part.change, &self.node)
            }
            Action::Service(ServiceAction::Watch(_)) => part.was_watched(status),
            _ => Ok(()),
        }
    }

    /// Calls the plan off if this step, which was refused, must succeed in it.
    pub(super) fn call_off_after(
        &mut self,
        id: StepId,
        source: &DriverError,
        now: Time,
    ) -> Result<(), AgentError> {
        let Some(cause) = cause_of(source) else { return Ok(()) };
        let Some(plan) = self.acts_for() else { return Ok(()) };
        let step = plan.plan().step(id).filter(|step| must_succeed(plan.plan(), step));
        if step.is_none() || !may_call_off(plan) {
            return Ok(());
        }
        let reason = format!("{}: {source}", describe(plan.plan(), id));
        // Whatever became of it, the next look at the journal and the log shows it.
        let _tick = self.call_off(id, cause, &reason, now)?;
        Ok(())
    }

    /// Before the point of no return a fork calls the plan off, once this node has closed.
    pub(super) fn call_off_for_fork(
        &mut self,
        observed: &Observation,
        now: Time,
    ) -> Result<Option<Tick>, AgentError> {
        let Some(fork) = fork_of(Some(observed)) else { return Ok(None) };
        let Some(plan) = self.acts_for().filter(|plan| may_call_off(plan)) else {
            return Ok(None);
        };
        let contents = plan.plan();
        let begun = contents.steps.iter().rev().find(|step| {
            step.node == self.node
                && must_succeed(contents, step)
                && self.progress.step(step.id).is_some()
        });
        let Some(step) = begun.map(|step| step.id) else { return Ok(None) };
        let reason = format!("{}: a peer has block {fork}", describe(contents, step));
        self.call_off(step, Cause::Forked, &reason, now).map(Some)
    }

    /// Says in the log that the plan is called off: once, and only if nobody else has.
    pub(super) fn call_off(
        &mut self,
        step: StepId,
        cause: Cause,
        reason: &str,
        now: Time,
    ) -> Result<Tick, AgentError> {
        let Some((plan, _)) = self.progress.plan() else { return Ok(Tick::Idle(Vec::new())) };
        if self.progress.called_off().is_none() {
            let _receipt = self.record(Record::CalledOff(step, cause), now)?;
        }
        let abort = Abort {
            network: self.state.network(),
            plan,
            node: Some(self.node.clone()),
            reason: Some(note(reason)),
        };
        let envelope = Envelope::signed(&abort, [&self.key]);
        let tick = self.append(&wire::encode(&envelope))?;
        let aborted = self.state.plan(&plan).is_some_and(|plan| plan.aborted().is_some());
        Ok(match tick {
            // Another one was faster.
            Tick::Refused(Trouble::Statement(_)) if aborted => Tick::Progressed,
            tick => tick,
        })
    }

    /// The plan that this agent acts for and that counts.
    fn acts_for(&self) -> Option<&PlanState> {
        let (digest, _) = self.progress.plan()?;
        self.current(&digest)
    }

    /// Why nothing of the service goes on: past the point of no return a fork is for people.
    pub(super) fn is_forked(&self, record: Record) -> Option<Waiting> {
        let Record::Started(id) = record else { return None };
        let seen = fork_of(self.observed.as_ref())?;
        let plan = self.acts_for()?;
        let step = plan.plan().step(id)?;
        let stops = plan.status() == PlanStatus::PastNoReturn && step.action.concerns_service();
        stops.then(|| Waiting::Fork { node: self.node.clone(), seen })
    }

    /// What is awaited, and the alarm that must not be missed beside it.
    pub(super) fn alarmed(&self, mut waiting: Vec<Waiting>) -> Vec<Waiting> {
        let is_alarm = |waiting: &Waiting| matches!(waiting, Waiting::Fork { .. });
        if let Some(seen) = fork_of(self.observed.as_ref())
            && !waiting.iter().any(is_alarm)
        {
            waiting.insert(0, Waiting::Fork { node: self.node.clone(), seen });
        }
        waiting
    }
}

impl Part {
    /// What the step changes on this host; nothing where the service only states something.
    fn act(
        &self,
        service: &mut dyn ServiceDriver,
        action: &Action,
        seen: &ServiceObservation,
    ) -> Result<(), DriverError> {
        let Self { step, change, .. } = self;
        let terms = &change.terms;
        match action {
            Action::Service(ServiceAction::Fence(_)) => service.fence(),
            Action::Service(ServiceAction::Freeze(placement)) => {
                let quiet = Duration::from_millis(terms.quiet_milliseconds);
                service.freeze(&placement.measurement, quiet)
            }
            Action::Service(ServiceAction::Halt(placement)) => service.halt(&placement.measurement),
            Action::Service(ServiceAction::Snapshot) => {
                service.snapshot(&step.plan, &self.frozen()?)
            }
            Action::Service(ServiceAction::Migrate) => {
                service.migrate(&step.plan, &self.frozen()?, terms)
            }
            Action::Service(ServiceAction::Revert) => service.revert(&step.plan, &self.frozen()?),
            Action::Service(ServiceAction::Deploy { expect, install }) => {
                service.deploy(&expect.measurement, &install.measurement)
            }
            Action::Service(ServiceAction::Launch(placement)) => {
                self.launch(service, &placement.measurement, seen)
            }
            Action::Service(ServiceAction::Exercise(_)) => service.exercise(*step, &terms.tests),
            Action::Service(ServiceAction::Open(_)) => service.open(),
            // These only state, or say something in the log.
            _ => Ok(()),
        }
    }

    fn frozen(&self) -> Result<Tip, DriverError> {
        self.frozen.ok_or_else(|| missing("the tip at which this node froze"))
    }

    /// Starts code at the frozen tip, unless the instance that froze there was never ended: on the
    /// way back it states that itself.
    ///
    /// On the way back peers may be open again and have given it new blocks before it could state
    /// anything. So only one that loaded less must load the frozen tip; the log judges the others.
    fn launch(
        &self,
        service: &mut dyn ServiceDriver,
        code: &Measurement,
        seen: &ServiceObservation,
    ) -> Result<(), DriverError> {
        let Some(frozen) = self.frozen.as_ref().filter(|_| self.is_rollback) else {
            return service.launch(code, self.frozen.as_ref());
        };
        let running = seen.running.as_ref().filter(|status| status.measurement == *code);
        let stayed = running.is_some_and(|status| {
            status.tip.as_ref() == Some(frozen)
                && status.writing == Writing::Frozen
                && Some(status.instance) == self.froze
        });
        if stayed {
            return Ok(());
        }
        let loaded = running.and_then(|status| status.loaded);
        let is_behind = loaded.is_some_and(|loaded| loaded.height < frozen.height);
        service.launch(code, is_behind.then_some(frozen))
    }

    /// Whether clients were served for as long as the terms say, and well enough.
    fn was_watched(&self, status: &ServiceStatus) -> Result<(), DriverError> {
        let terms = &self.change.terms;
        if let Some(fork) = status.fork {
            return Err(DriverError::Refused(format!("a peer has block {fork}")));
        }
        if status.errors > terms.errors_max {
            let (found, allowed) = (status.errors, terms.errors_max);
            let reason = format!("{found} requests of clients failed, more than {allowed}");
            return Err(DriverError::Refused(reason));
        }
        if status.open_milliseconds < terms.watch_milliseconds {
            let (seen, all) = (status.open_milliseconds, terms.watch_milliseconds);
            return Err(DriverError::Unknown(format!("watched for {seen} of {all} ms")));
        }
        Ok(())
    }
}

/// The code that states how it is at this step.
fn stated_by(action: &Action) -> Option<&Measurement> {
    match action {
        Action::Service(
            ServiceAction::Equip(placement)
            | ServiceAction::Muster(placement)
            | ServiceAction::Freeze(placement)
            | ServiceAction::Launch(placement)
            | ServiceAction::Join(placement)
            | ServiceAction::Watch(placement),
        ) => Some(&placement.measurement),
        _ => None,
    }
}

/// The instance of this code, if it answers.
fn answering<'o>(
    observed: &'o ServiceObservation,
    code: &Measurement,
) -> Result<&'o ServiceStatus, DriverError> {
    match &observed.running {
        Some(status) if status.measurement == *code => Ok(status),
        Some(status) => Err(DriverError::Unexpected {
            expected: code.to_string(),
            found: status.measurement.to_string(),
        }),
        None => Err(DriverError::Unknown("the service does not answer".to_owned())),
    }
}

/// Whether it has opened its ledger and has every key that outlives it.
fn has_begun(status: &ServiceStatus) -> Result<(), DriverError> {
    let lacks = |what: &str| {
        let said = status.waits_for.as_deref().unwrap_or(what);
        Err(DriverError::Unknown(format!("the service waits for {said}")))
    };
    if status.schema.is_none() || status.loaded.is_none() || status.tip.is_none() {
        return lacks("its ledger");
    }
    let keyless = status.keys.iter().find(|shown| match shown.custody {
        KeyCustody::Keyring => shown.public.is_none(),
        KeyCustody::PerBoot => false,
    });
    match keyless {
        Some(shown) => lacks(&format!("key {}", shown.key)),
        None => Ok(()),
    }
}

/// Whether every other node of the plan, and nobody else, is its peer.
fn has_joined(
    status: &ServiceStatus,
    plan: &Plan,
    change: &ServiceChange,
    own: &NodeId,
) -> Result<(), DriverError> {
    let configuration = change.configuration_of(&status.measurement);
    let is_good = |node: &NodeId| {
        status.peers.iter().any(|peer| {
            peer.node == *node
                && peer.measurement == status.measurement
                && peer.configuration == configuration
        })
    };
    let others = || plan.nodes.iter().filter(|node| *node != own);
    if let Some(absent) = others().find(|node| !is_good(node)) {
        return Err(DriverError::Unknown(format!("{absent} is not a peer yet")));
    }
    if status.peers.len() > others().count() {
        return Err(DriverError::Unknown("somebody else is a peer too".to_owned()));
    }
    Ok(())
}

fn fork_of(observed: Option<&Observation>) -> Option<Tip> {
    observed?.service.as_ref()?.running.as_ref()?.fork
}

fn missing(what: &str) -> DriverError {
    DriverError::Missing { what: what.to_owned() }
}

/// Why a plan is called off after this error; none if the step may still succeed.
fn cause_of(error: &DriverError) -> Option<Cause> {
    match error {
        DriverError::Unexpected { .. } => Some(Cause::Unexpected),
        DriverError::Missing { .. } => Some(Cause::Missing),
        DriverError::Corrupt { .. } => Some(Cause::Corrupt),
        DriverError::Refused(_) => Some(Cause::Refused),
        DriverError::Full(_) => Some(Cause::Full),
        DriverError::Unknown(_) | DriverError::Stopping => None,
    }
}

/// A reason as the log takes it: one line of bounded length.
fn note(reason: &str) -> String {
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    reason.chars().map(plain).take(NOTE_CHARACTERS_MAX).collect()
}
