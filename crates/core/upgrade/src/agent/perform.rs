//! Carrying out the steps of a plan: one call of the driver, or one statement, for each.

use heirloom_model::digest::{Nonce, PlanDigest};
use heirloom_model::domain::{
    Activation, ActivationCause, Challenge, PlanStep, Registration, Suspension,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Placement};
use heirloom_model::statement::AttestedStatement;
use heirloom_model::wire;
use heirloom_registry::plan::PlanState;
use heirloom_registry::port::LogStore;

use super::{Agent, AgentError, CHALLENGES_PER_STEP_MAX, Tick, Trouble};
use crate::engine::Effect;
use crate::port::{DriverError, JournalStore, NodeDriver};

impl<J: JournalStore, L: LogStore, D: NodeDriver> Agent<J, L, D> {
    /// Carries out a journaled step on this node. What it made for the log is appended.
    pub(super) fn perform(
        &mut self,
        effect: Effect,
        random: &mut dyn FnMut() -> Nonce,
    ) -> Result<Result<(), DriverError>, AgentError> {
        let Some(digest) = self.progress.plan().map(|(digest, _)| digest) else {
            return Ok(Err(DriverError::Missing { what: "the plan".to_owned() }));
        };
        let step = PlanStep { plan: digest, step: effect.step };
        let driver = &mut self.driver;
        Ok(match effect.action {
            Action::Prepare(placement) => return self.prepare(&placement),
            Action::Verify { targets, code, .. } => {
                let Some(challenge) = self.challenge(step, &targets, code, random) else {
                    return Ok(Ok(()));
                };
                let envelope = Envelope::signed(&challenge, [&self.key]);
                refused(self.append(&wire::encode(&envelope))?)
            }
            Action::Suspend(placement) => {
                let made = driver.suspend(&placement.measurement, step);
                return self.state_it::<Suspension>(made);
            }
            Action::Activate(placement) => {
                let cause = ActivationCause::Planned(step);
                let made = driver.activate(&placement.measurement, cause);
                return self.state_it::<Activation>(made);
            }
            Action::Drain(placement) => driver.drain(&placement.measurement),
            Action::Stop(placement) => driver.stop(&placement.measurement),
            Action::Quarantine(measurement) => driver.quarantine(&measurement),
            Action::Restore(measurement) => driver.restore(&measurement),
            Action::Install { expect, install } => {
                driver.install(&expect.measurement, &install.measurement)
            }
            Action::Start(placement) => driver.start(&placement.measurement),
            Action::Replicate { sources, to } => driver.replicate(&to.measurement, &sources),
            Action::Restart(placement) => {
                let code = placement.measurement;
                driver.stop(&code).and_then(|()| driver.start(&code))
            }
            Action::HandOver { from_node, from, to } => {
                driver.hand_over(&to.measurement, step, &from_node, &from.measurement)
            }
            Action::Forget(placement) => driver.forget(&placement.measurement, step),
            Action::Preserve(measurement) => driver.preserve(&measurement),
            Action::Reseal(placement) => driver.reseal(&placement.measurement),
            Action::Withdraw(_) => Ok(()),
            // A commit is nothing but its result; the rest of it is about the service.
            Action::Commit if self.moves_participant(&digest) => Ok(()),
            action @ (Action::Service(_) | Action::Commit) => {
                return self.perform_service(step, &action);
            }
            Action::Participant(action) => return self.perform_participant(step, action),
        })
    }

    /// Lets a new keeper prepare itself and register.
    fn prepare(&mut self, placement: &Placement) -> Result<Result<(), DriverError>, AgentError> {
        let Some(release) = self.state.release(&placement.release) else {
            return Ok(Err(DriverError::Missing { what: "the release".to_owned() }));
        };
        let made = self.driver.prepare(release, &placement.measurement);
        self.state_it::<Registration>(made)
    }

    /// Puts what an instance stated into the log.
    fn state_it<T: AttestedStatement>(
        &mut self,
        made: Result<Vec<u8>, DriverError>,
    ) -> Result<Result<(), DriverError>, AgentError> {
        Ok(match made.map(|made| self.countersign::<T>(&made)) {
            Ok(Ok(statement)) => refused(self.append(&statement)?),
            Ok(Err(reason)) => Err(DriverError::Refused(reason.to_string())),
            Err(error) => Err(error),
        })
    }

    /// The challenge that a verifying step still has to issue, if any: its first, or another
    /// because a target that answered badly has started anew since.
    fn challenge(
        &self,
        asked_by: PlanStep,
        targets: &[NodeId],
        code: Option<Measurement>,
        random: &mut dyn FnMut() -> Nonce,
    ) -> Option<Challenge> {
        let plan = self.current(&asked_by.plan)?.plan();
        let kept = plan.keyring.as_ref()?;
        let domain = self.state.domain(&plan.domain)?;
        let latest = domain.challenges_of(asked_by).max_by_key(|asked| asked.at());
        if let Some(latest) = latest {
            let outdated = latest.proofs().iter().any(|(node, proven)| {
                let registered = match &code {
                    Some(code) => domain.registration_with(node, code),
                    None => domain.registration(node),
                };
                proven.flaw(kept.generation, &kept.checksum).is_some()
                    && registered.is_some_and(|registered| registered.at() > proven.at())
            });
            let issued = domain.challenges_of(asked_by).count();
            if !outdated || issued >= CHALLENGES_PER_STEP_MAX {
                return None;
            }
        }
        Some(Challenge {
            network: plan.network,
            domain: plan.domain,
            nonce: random(),
            verifier: self.node.clone(),
            targets: targets.to_vec(),
            step: Some(asked_by),
            code,
        })
    }

    /// This plan, if it is the latest of its domain.
    pub(super) fn current(&self, digest: &PlanDigest) -> Option<&PlanState> {
        let plan = self.state.plan(digest)?;
        let domain = self.state.domain(&plan.plan().domain)?;
        (domain.plan() == Some(digest)).then_some(plan)
    }
}

/// A statement that the log would refuse, as a refused effect.
pub(super) fn refused(tick: Tick) -> Result<(), DriverError> {
    match tick {
        Tick::Refused(Trouble::Statement(refusal)) => {
            Err(DriverError::Refused(refusal.to_string()))
        }
        Tick::Refused(_) | Tick::Progressed | Tick::Idle(_) => Ok(()),
    }
}
