//! The loop of one agent, over its four ports: journal, log, node, random numbers.
//!
//! A shell calls [`Agent::tick`] again and again; so does the simulator. Everything that the
//! agent knows is in the log, in its journal, or can be observed: a new [`Agent`] made from the
//! same journal continues where the old one was stopped.

use heirloom_model::counter::Time;
use heirloom_model::digest::Nonce;
use heirloom_model::domain::{
    Challenge, GenerationReceipt, PlanStep, PossessionProof, Registration,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_model::log::BrokenChain;
use heirloom_model::plan::{Action, Plan, StepId, StepOutcome};
use heirloom_model::signature::SigningKey;
use heirloom_model::statement::AttestedStatement;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_registry::refusal::Refusal;

use crate::countersign::{NotCountersigned, countersign};
use crate::duty::{self, Duty};
use crate::engine::{self, Directive, Effect, Situation};
use crate::gate::Waiting;
use crate::journal::{CorruptJournal, Durable, Progress, Record};
use crate::port::{DriverError, JournalError, JournalStore, NodeDriver, Observation};

/// One node's agent.
pub struct Agent<J, L, D> {
    node: NodeId,
    key: SigningKey,
    state: NetworkState,
    progress: Progress,
    journal: J,
    log: L,
    driver: D,
    /// The step whose effect this process carried out itself, for honest results.
    executed: Option<StepId>,
    /// What the node looked like when it was last observed.
    observed: Option<Observation>,
}

/// What one tick came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tick {
    /// Something was done; there may be more.
    Progressed,
    /// Nothing could be done. This is awaited, if anything is.
    Idle(Vec<Waiting>),
    /// A step, duty or statement was refused. It is tried again later.
    Refused(Trouble),
}

/// What was refused, by whom.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// The node did not carry out a step.
    #[error("step {step} was not carried out")]
    Step {
        /// The step.
        step: StepId,
        /// Why.
        #[source]
        source: DriverError,
    },
    /// The node did not carry out a duty.
    #[error("a duty was not carried out: {duty:?}")]
    Duty {
        /// Which.
        duty: Duty,
        /// Why.
        #[source]
        source: DriverError,
    },
    /// The running keeper did not take log entries.
    #[error("the keeper does not follow the log")]
    Follow(#[source] DriverError),
    /// The keeper said something that this agent does not sign.
    #[error("the agent does not sign what its keeper said")]
    Countersign(#[source] NotCountersigned),
    /// The log would refuse a statement of this agent or its keeper.
    #[error("the log would refuse a statement of this node")]
    Statement(#[source] Box<Refusal>),
}

/// Why the agent cannot go on. What was begun stays as the journal says.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The registry log cannot be read.
    #[error("the registry log cannot be read")]
    Read(#[from] ReadError),
    /// A statement could not be appended.
    #[error("a statement could not be appended")]
    Append(#[from] AppendError),
    /// The registry shows another history than before.
    #[error("the registry shows another history than before")]
    History(#[from] BrokenChain),
    /// The journal cannot be written.
    #[error("the journal cannot be written")]
    Journal(#[from] JournalError),
    /// The journal contradicts itself.
    #[error("the journal contradicts itself")]
    CorruptJournal(#[from] CorruptJournal),
    /// The node cannot be observed.
    #[error("the node cannot be observed")]
    Observe(#[source] DriverError),
}

/// Times that an append is tried when others append at the same moment.
pub const APPEND_ATTEMPTS_MAX: u32 = 64;
/// Batches of log entries read in one tick; more follow in the next.
pub const READ_BATCHES_MAX: u32 = 64;
/// Challenges that one step issues: the first, and one for each time that a target restarted.
pub const CHALLENGES_PER_STEP_MAX: usize = 16;

impl<J: JournalStore, L: LogStore, D: NodeDriver> Agent<J, L, D> {
    /// Continues from a journal. An empty journal begins.
    pub fn recover(
        node: NodeId,
        key: SigningKey,
        state: NetworkState,
        progress: Progress,
        ports: (J, L, D),
    ) -> Self {
        let (journal, log, driver) = ports;
        Self { node, key, state, progress, journal, log, driver, executed: None, observed: None }
    }

    /// Does at most one thing: follows the log, fulfils a duty, or advances the plan.
    pub fn tick(
        &mut self,
        now: Time,
        random: &mut dyn FnMut() -> Nonce,
    ) -> Result<Tick, AgentError> {
        self.sync()?;
        let mut observed = self.observe()?;
        match self.feed(&observed)? {
            Ok(true) => observed = self.observe()?,
            Ok(false) => {}
            Err(source) => return Ok(Tick::Refused(Trouble::Follow(source))),
        }
        if let Some(duty) = duty::next(&self.situation(), &observed) {
            return self.fulfil(duty);
        }
        match engine::poll(&self.situation()) {
            Directive::Rest => Ok(Tick::Idle(Vec::new())),
            Directive::Wait(waiting) => Ok(Tick::Idle(waiting)),
            Directive::Journal(intent) => {
                let receipt = self.record(intent.record(), now)?;
                match intent.release(&receipt) {
                    Some(effect) => self.carry_out(effect, now, random),
                    None => Ok(Tick::Progressed),
                }
            }
            Directive::Resolve(effect) => self.carry_out(effect, now, random),
            Directive::Report(result) => {
                let envelope = Envelope::signed(&result, [&self.key]);
                self.append(&wire::encode(&envelope))
            }
        }
    }

    /// The log, folded.
    pub fn state(&self) -> &NetworkState {
        &self.state
    }

    /// The journal, folded.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What the node looked like when it was last observed.
    pub fn observed(&self) -> Option<&Observation> {
        self.observed.as_ref()
    }

    /// The node's outside.
    pub fn driver(&mut self) -> &mut D {
        &mut self.driver
    }

    fn situation(&self) -> Situation<'_> {
        Situation { node: &self.node, state: &self.state, progress: &self.progress }
    }

    fn observe(&mut self) -> Result<Observation, AgentError> {
        let observed = self.driver.observe().map_err(AgentError::Observe)?;
        self.observed = Some(observed.clone());
        Ok(observed)
    }

    /// Reads and folds what is new in the log.
    pub fn sync(&mut self) -> Result<(), AgentError> {
        for _ in 0..READ_BATCHES_MAX {
            let entries = self.log.read(self.state.position().length, LOG_ENTRIES_MAX)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in &entries {
                // A refused statement has no effect, here as everywhere.
                let _applied = self.state.apply(entry)?;
            }
        }
        Ok(())
    }

    /// Gives the running keeper what it has not followed yet.
    fn feed(&mut self, observed: &Observation) -> Result<Result<bool, DriverError>, AgentError> {
        let Some(status) = observed.running.as_deref() else { return Ok(Ok(false)) };
        if status.position.length >= self.state.position().length {
            return Ok(Ok(false));
        }
        let mut entries = self.log.read(status.position.length, LOG_ENTRIES_MAX)?;
        // The keeper must not be ahead: what it signs refers to a log that this agent can judge.
        entries.retain(|entry| entry.index < self.state.position().length);
        Ok(self.driver.follow(&entries).map(|_| true))
    }

    fn fulfil(&mut self, duty: Duty) -> Result<Tick, AgentError> {
        let made = match &duty {
            Duty::Register => {
                self.driver.register().map(|made| self.countersign::<Registration>(&made))
            }
            Duty::Prove(nonce) => {
                self.driver.prove(nonce).map(|made| self.countersign::<PossessionProof>(&made))
            }
            Duty::CreateGeneration(order) => self
                .driver
                .create_generation(order)
                .map(|made| self.countersign::<GenerationReceipt>(&made)),
            Duty::ReceiveGeneration(order, sources) => self
                .driver
                .receive_generation(order, sources)
                .map(|made| self.countersign::<GenerationReceipt>(&made)),
            Duty::Replicate(sources) => {
                return Ok(dutiful(duty.clone(), self.driver.replicate(sources)));
            }
            Duty::Resume => return Ok(dutiful(duty.clone(), self.driver.resume())),
            Duty::Start(code) => return Ok(dutiful(duty.clone(), self.driver.start(code))),
            Duty::Restart(code) => {
                let restarted = self.driver.stop(code).and_then(|()| self.driver.start(code));
                return Ok(dutiful(duty.clone(), restarted));
            }
        };
        match made {
            Ok(Ok(statement)) => self.append(&statement),
            Ok(Err(reason)) => Ok(Tick::Refused(Trouble::Countersign(reason))),
            Err(source) => Ok(Tick::Refused(Trouble::Duty { duty, source })),
        }
    }

    fn countersign<T: AttestedStatement>(&self, made: &[u8]) -> Result<Vec<u8>, NotCountersigned> {
        countersign::<T>(made, &self.node, &self.key)
    }

    /// Makes a fact durable. Nothing acts on it before.
    fn record(&mut self, record: Record, now: Time) -> Result<Durable, AgentError> {
        let entry = self.progress.entry(record, now);
        let receipt = self.journal.append(&wire::encode(&entry))?;
        self.progress.apply(&entry)?;
        Ok(receipt)
    }

    /// Carries out an effect that is journaled, unless it is found done.
    fn carry_out(
        &mut self,
        effect: Effect,
        now: Time,
        random: &mut dyn FnMut() -> Nonce,
    ) -> Result<Tick, AgentError> {
        let id = effect.step;
        if !self.is_done(id)? {
            match self.perform(effect, random)? {
                Ok(()) => self.executed = Some(id),
                Err(DriverError::Unknown(_)) => {}
                Err(DriverError::Stopping) => {
                    return Err(AgentError::Observe(DriverError::Stopping));
                }
                Err(source) => {
                    let _receipt = self.record(Record::Refused(id), now)?;
                    return Ok(Tick::Refused(Trouble::Step { step: id, source }));
                }
            }
            if !self.is_done(id)? {
                return Ok(Tick::Idle(vec![Waiting::Effect { step: id }]));
            }
        }
        let own = self.executed == Some(id);
        let how = if own { StepOutcome::Done } else { StepOutcome::FoundDone };
        let _receipt = self.record(Record::Succeeded(id, how), now)?;
        Ok(Tick::Progressed)
    }

    /// The plan that this agent acts for.
    fn plan(&self) -> Option<&Plan> {
        let (digest, _) = self.progress.plan()?;
        Some(self.state.plan(&digest)?.plan())
    }

    fn is_done(&mut self, id: StepId) -> Result<bool, AgentError> {
        let observed = self.observe()?;
        let Some(plan) = self.plan() else { return Ok(false) };
        let Some(step) = plan.step(id) else { return Ok(false) };
        Ok(engine::is_done(&self.situation(), plan, step, &observed))
    }

    fn perform(
        &mut self,
        effect: Effect,
        random: &mut dyn FnMut() -> Nonce,
    ) -> Result<Result<(), DriverError>, AgentError> {
        let driver = &mut self.driver;
        Ok(match effect.action {
            Action::Prepare(placement) => {
                let Some(release) = self.state.release(&placement.release) else {
                    return Ok(Err(DriverError::Missing { what: "the release".to_owned() }));
                };
                match driver.prepare(release, &placement.measurement) {
                    Ok(made) => match self.countersign::<Registration>(&made) {
                        Ok(registration) => refused(self.append(&registration)?),
                        Err(reason) => Err(DriverError::Refused(reason.to_string())),
                    },
                    Err(error) => Err(error),
                }
            }
            Action::Verify { targets, .. } => match self.challenge(effect.step, &targets, random) {
                Some(challenge) => {
                    let envelope = Envelope::signed(&challenge, [&self.key]);
                    refused(self.append(&wire::encode(&envelope))?)
                }
                None => Ok(()),
            },
            Action::Drain => driver.drain(),
            Action::Stop(placement) => driver.stop(&placement.measurement),
            Action::Quarantine(measurement) => driver.quarantine(&measurement),
            Action::Restore(measurement) => driver.restore(&measurement),
            Action::Install { expect, install } => {
                driver.install(&expect.measurement, &install.measurement)
            }
            Action::Start(placement) => driver.start(&placement.measurement),
            Action::Replicate { sources } => driver.replicate(&sources),
            Action::Restart(placement) => {
                let code = placement.measurement;
                driver.stop(&code).and_then(|()| driver.start(&code))
            }
            Action::Withdraw(_) => Ok(()),
        })
    }

    /// The challenge that a verifying step still has to issue, if any: its first, or another
    /// because a target that answered badly has started anew since.
    fn challenge(
        &self,
        step: StepId,
        targets: &[NodeId],
        random: &mut dyn FnMut() -> Nonce,
    ) -> Option<Challenge> {
        let plan = self.plan()?;
        let domain = self.state.domain(&plan.domain)?;
        let asked_by = PlanStep { plan: *domain.plan()?, step };
        let latest = domain.challenges_of(asked_by).max_by_key(|asked| asked.at());
        if let Some(latest) = latest {
            let outdated = latest.proofs().iter().any(|(node, proven)| {
                proven.flaw(plan.generation, &plan.checksum).is_some()
                    && domain
                        .registration(node)
                        .is_some_and(|registered| registered.at() > proven.at())
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
        })
    }

    /// Appends a statement, again if others append at the same moment.
    fn append(&mut self, envelope: &[u8]) -> Result<Tick, AgentError> {
        for _ in 0..APPEND_ATTEMPTS_MAX {
            if let Err(refusal) = self.state.judge(envelope) {
                return Ok(Tick::Refused(Trouble::Statement(Box::new(refusal))));
            }
            match self.log.append(self.state.position().length, envelope) {
                Ok(_) => {
                    self.sync()?;
                    return Ok(Tick::Progressed);
                }
                Err(AppendError::Conflict { .. }) => self.sync()?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Tick::Idle(vec![Waiting::BusyLog]))
    }
}

/// A statement that the log would refuse, as a refused effect.
fn refused(tick: Tick) -> Result<(), DriverError> {
    match tick {
        Tick::Refused(Trouble::Statement(refusal)) => {
            Err(DriverError::Refused(refusal.to_string()))
        }
        Tick::Refused(_) | Tick::Progressed | Tick::Idle(_) => Ok(()),
    }
}

/// What a duty without a statement came to.
fn dutiful(duty: Duty, result: Result<(), DriverError>) -> Tick {
    match result {
        Ok(()) => Tick::Progressed,
        Err(source) => Tick::Refused(Trouble::Duty { duty, source }),
    }
}
