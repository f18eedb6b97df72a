//! Carrying out the steps of a participant: one call of the driver for each, and what it found
//! out goes into the log.

use std::collections::BTreeMap;

use heirloom_model::digest::PlanDigest;
use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::participant::{
    Exported, LedgerOffset, ParticipantFacts, ParticipantMove, ParticipantStanding,
    ParticipantSurvey, PartyMove, Rewritten, SurveyFindings,
};
use heirloom_model::plan::ParticipantAction;
use heirloom_model::statement::Statement;
use heirloom_model::wire;
use heirloom_registry::port::LogStore;
use heirloom_registry::refusal::Refusal;

use super::perform::refused;
use super::{Agent, AgentError, Tick, Trouble};
use crate::port::{
    DriverError, JournalStore, NodeDriver, ParticipantCall, ParticipantDriver,
    ParticipantObservation,
};

/// What one step of a participant needs to know.
struct Part {
    step: PlanStep,
    moved: ParticipantMove,
    quiet: Option<LedgerOffset>,
    exported: Option<Exported>,
    rewritten: Option<Rewritten>,
    parts: Option<BTreeMap<NodeId, Vec<PartyMove>>>,
}

impl<J: JournalStore, L: LogStore, D: NodeDriver> Agent<J, L, D> {
    /// Looks at this node's participants, and says in the log what was found. Needs no plan, and
    /// changes nothing.
    pub fn survey(&mut self) -> Result<Tick, AgentError> {
        let Some(driver) = self.driver.participant() else {
            return Ok(Tick::Refused(Trouble::Survey(no_participant())));
        };
        let found = match driver.survey() {
            Ok(found) => found,
            Err(source) => return Ok(Tick::Refused(Trouble::Survey(source))),
        };
        self.say_survey(found)
    }

    fn say_survey(&mut self, found: SurveyFindings) -> Result<Tick, AgentError> {
        let Some(node) = self.state.node(&self.node) else {
            let source = missing("this node in the fleet");
            return Ok(Tick::Refused(Trouble::Survey(source)));
        };
        let survey = ParticipantSurvey {
            network: self.state.network(),
            domain: node.domain,
            node: self.node.clone(),
            found,
        };
        self.say(&survey)
    }

    /// What source and target look like, while a plan moves them.
    pub(super) fn observe_participant(
        &mut self,
    ) -> Result<Option<ParticipantObservation>, AgentError> {
        let Some((plan, _)) = self.progress.plan() else { return Ok(None) };
        let Some(moved) = self.moved(&plan) else { return Ok(None) };
        let Some(driver) = self.driver.participant() else { return Ok(None) };
        let task = ParticipantCall { plan, moved: &moved };
        driver.observe(task).map(Some).map_err(AgentError::Observe)
    }

    /// What an unfinished plan says about this node.
    fn moved(&self, plan: &PlanDigest) -> Option<ParticipantMove> {
        let current = self.current(plan).filter(|current| !current.is_over())?;
        current.plan().participant.as_ref()?.move_of(&self.node).cloned()
    }

    /// Whether a plan is about participants.
    pub(super) fn moves_participant(&self, plan: &PlanDigest) -> bool {
        self.current(plan).is_some_and(|current| current.plan().participant.is_some())
    }

    /// Carries out a step of the participant, and puts into the log what it found out.
    pub(super) fn perform_participant(
        &mut self,
        step: PlanStep,
        action: ParticipantAction,
    ) -> Result<Result<(), DriverError>, AgentError> {
        let Some(part) = self.part_of_participant(step) else {
            return Ok(Err(missing("a plan for a participant")));
        };
        if action == ParticipantAction::Survey {
            return self.look_again(&part);
        }
        let Some(driver) = self.driver.participant() else { return Ok(Err(no_participant())) };
        match part.act(driver, action) {
            Ok(Some(facts)) => self.state_facts(step, facts),
            Ok(None) => Ok(Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Compares what is there now with the plan, and says it in the log.
    fn look_again(&mut self, part: &Part) -> Result<Result<(), DriverError>, AgentError> {
        let Some(driver) = self.driver.participant() else { return Ok(Err(no_participant())) };
        let found = match driver.survey() {
            Ok(found) => found,
            Err(source) => return Ok(Err(source)),
        };
        // What differs is told to people and not to the log, which would fill with it.
        if let Some(what) = part.moved.difference(&found) {
            return Ok(Err(DriverError::Unexpected {
                expected: format!("the {what} of the plan"),
                found: format!("other {what}: survey and plan anew"),
            }));
        }
        self.say_survey(found).map(refused)
    }

    fn part_of_participant(&self, step: PlanStep) -> Option<Part> {
        let plan = self.current(&step.plan)?;
        let change = plan.plan().participant.as_ref()?;
        Some(Part {
            step,
            moved: change.move_of(&self.node)?.clone(),
            quiet: plan.quiesced(&self.node),
            exported: plan.exported(&self.node).copied(),
            rewritten: plan.rewritten(&self.node).cloned(),
            parts: plan.party_map().map(|(_, parts)| parts),
        })
    }

    fn state_facts(
        &mut self,
        step: PlanStep,
        facts: ParticipantFacts,
    ) -> Result<Result<(), DriverError>, AgentError> {
        let Some(domain) = self.state.node(&self.node).map(|node| node.domain) else {
            return Ok(Err(missing("this node in the fleet")));
        };
        let standing = ParticipantStanding {
            network: self.state.network(),
            domain,
            node: self.node.clone(),
            step,
            facts,
        };
        let appended = self.say(&standing)?;
        // An attempt that got no answer may have reached the log after all.
        if let Tick::Refused(Trouble::Statement(refusal)) = &appended
            && let Refusal::AlreadyRecorded { .. } = **refusal
        {
            return Ok(Ok(()));
        }
        Ok(refused(appended))
    }

    fn say<T: Statement>(&mut self, statement: &T) -> Result<Tick, AgentError> {
        let envelope = Envelope::signed(statement, [&self.key]);
        self.append(&wire::encode(&envelope))
    }
}

impl Part {
    /// What the step does on this host, and what it found out.
    fn act(
        &self,
        driver: &mut dyn ParticipantDriver,
        action: ParticipantAction,
    ) -> Result<Option<ParticipantFacts>, DriverError> {
        let task = ParticipantCall { plan: self.step.plan, moved: &self.moved };
        match action {
            ParticipantAction::Enroll => {
                driver.enroll(task).map(ParticipantFacts::Enrolled).map(Some)
            }
            ParticipantAction::Allocate => {
                driver.allocate(task).map(ParticipantFacts::Allocated).map(Some)
            }
            ParticipantAction::Supply => driver.supply(task).map(|()| None),
            ParticipantAction::Quiesce => {
                driver.quiesce(task).map(ParticipantFacts::Quiesced).map(Some)
            }
            ParticipantAction::Export => {
                let quiet = self.quiet.ok_or_else(|| missing("the end of the source's ledger"))?;
                driver.export(task, quiet).map(ParticipantFacts::Exported).map(Some)
            }
            ParticipantAction::Rewrite => {
                let exported = self.exported.as_ref().ok_or_else(|| missing("the snapshot"))?;
                let parts = self.parts.as_ref().ok_or_else(|| missing("the whole party map"))?;
                let rewritten = driver.rewrite(task, exported, parts)?;
                Ok(Some(ParticipantFacts::Rewritten(rewritten)))
            }
            ParticipantAction::Safeguard => driver.safeguard(task).map(|()| None),
            ParticipantAction::Import => driver.import(task, self.rewritten()?).map(|()| None),
            ParticipantAction::Connect => driver.connect(task).map(|()| None),
            ParticipantAction::Reconcile => {
                let reconciled = driver.reconcile(task, self.rewritten()?)?;
                Ok(Some(ParticipantFacts::Reconciled(reconciled)))
            }
            ParticipantAction::Settle => driver.settle(task).map(|()| None),
            ParticipantAction::Disconnect => driver.disconnect(task).map(|()| None),
            ParticipantAction::Purge => driver.purge(task, self.rewritten.as_ref()).map(|()| None),
            ParticipantAction::Reconnect => driver.reconnect(task).map(|()| None),
            // Its statement is not a standing.
            ParticipantAction::Survey => Ok(None),
        }
    }

    fn rewritten(&self) -> Result<&Rewritten, DriverError> {
        self.rewritten.as_ref().ok_or_else(|| missing("the rewritten snapshot"))
    }
}

fn no_participant() -> DriverError {
    missing("a participant on this node")
}

fn missing(what: &str) -> DriverError {
    DriverError::Missing { what: what.to_owned() }
}
