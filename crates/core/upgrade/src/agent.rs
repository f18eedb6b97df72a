//! The loop of one agent, over its four ports: journal, log, node, random numbers.
//!
//! A shell calls [`Agent::tick`] again and again; so does the simulator. Everything that the
//! agent knows is in the log, in its journal, or can be observed: a new [`Agent`] made from the
//! same journal continues where the old one was stopped.

mod participant;
mod perform;
mod service;

use std::collections::BTreeMap;

use heirloom_model::admin::Ticket;
use heirloom_model::counter::Time;
use heirloom_model::digest::{Nonce, ReleaseDigest};
use heirloom_model::domain::{Activation, GenerationReceipt, PossessionProof, Registration};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_model::log::BrokenChain;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Plan, Proposal, Step, StepId, StepOutcome};
use heirloom_model::policy::Sharing;
use heirloom_model::signature::{PublicKey, SigningKey};
use heirloom_model::statement::AttestedStatement;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanState;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_registry::refusal::Refusal;

use crate::attendance;
use crate::countersign::{NotCountersigned, countersign};
use crate::duty::{self, Duty};
use crate::engine::{self, Directive, Effect, Situation};
use crate::gate::Waiting;
use crate::journal::{CorruptJournal, Durable, Progress, Record};
use crate::port::{
    DriverError, JournalError, JournalStore, NodeDriver, Observation, ServiceDriver,
};

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
    /// A step, duty or statement was refused, and nothing else could be done. It is tried again
    /// later.
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
    #[error("a duty was not carried out: {duty}")]
    Duty {
        /// Which.
        duty: Duty,
        /// Why.
        #[source]
        source: DriverError,
    },
    /// A running instance did not take log entries.
    #[error("{code} does not follow the log")]
    Follow {
        /// Its code.
        code: Measurement,
        /// Why.
        #[source]
        source: DriverError,
    },
    /// The keeper said something that this agent does not sign.
    #[error("the agent does not sign what its keeper said")]
    Countersign(#[source] NotCountersigned),
    /// The log would refuse a statement of this agent or its keeper.
    #[error("the log would refuse a statement of this node")]
    Statement(#[source] Box<Refusal>),
    /// A release was not staged.
    #[error("the release was not staged")]
    Stage(#[source] DriverError),
    /// The node's participants could not be looked at.
    #[error("the participants of this node were not surveyed")]
    Survey(#[source] DriverError),
}

impl Trouble {
    /// Whether this process is going down: then nothing else is tried either.
    fn is_stopping(&self) -> bool {
        match self {
            Self::Step { source, .. }
            | Self::Duty { source, .. }
            | Self::Follow { source, .. }
            | Self::Stage(source)
            | Self::Survey(source) => *source == DriverError::Stopping,
            Self::Countersign(_) | Self::Statement(_) => false,
        }
    }
}

/// Tickets that instances gave, by code. A ticket is good only for the instance that gave it.
type Tickets = BTreeMap<Measurement, (PublicKey, Ticket)>;

/// What feeding the running instances came to.
#[derive(Default)]
struct Fed {
    /// Some instance took something: what it says about itself may have changed.
    advanced: bool,
    /// Some instance took entries and has more to follow.
    behind: bool,
    /// Those that did not take what they were given.
    refused: Vec<(Measurement, DriverError)>,
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

    /// Follows the log, renews what instances believe, and does at most one thing more: fulfils a
    /// duty, or advances the plan.
    ///
    /// What is refused to one instance does not keep the others, or the plan, from going on. Only
    /// the installed code must follow the log: it is the one that everything here is judged by.
    pub fn tick(
        &mut self,
        now: Time,
        random: &mut dyn FnMut() -> Nonce,
    ) -> Result<Tick, AgentError> {
        let mut tickets = self.attend();
        if !self.catch_up()? {
            tickets.clear();
        }
        let mut observed = self.observe()?;
        let mut fed = self.feed(&observed, &tickets)?;
        if let Some(at) = fed.refused.iter().position(|(code, source)| {
            observed.installed == Some(*code) || *source == DriverError::Stopping
        }) {
            let (code, source) = fed.refused.swap_remove(at);
            return Ok(Tick::Refused(Trouble::Follow { code, source }));
        }
        if fed.behind {
            return Ok(Tick::Progressed);
        }
        if fed.advanced {
            observed = self.observe()?;
        }
        let mut trouble = fed.refused.pop().map(|(code, source)| Trouble::Follow { code, source });
        for duty in duty::due(&self.situation(), &observed) {
            match self.fulfil(duty)? {
                Tick::Refused(refused) if !refused.is_stopping() => {
                    trouble.get_or_insert(refused);
                }
                done => return Ok(done),
            }
        }
        let tick = self.advance(&observed, now, random)?;
        Ok(match (tick, trouble) {
            (Tick::Idle(_), Some(trouble)) => Tick::Refused(trouble),
            (Tick::Idle(waiting), None) => Tick::Idle(self.alarmed(waiting)),
            (tick, _) => tick,
        })
    }

    /// Does what the plan says next.
    fn advance(
        &mut self,
        observed: &Observation,
        now: Time,
        random: &mut dyn FnMut() -> Nonce,
    ) -> Result<Tick, AgentError> {
        if let Some(tick) = self.call_off_for_fork(observed, now)? {
            return Ok(tick);
        }
        match engine::poll(&self.situation()) {
            Directive::Rest => Ok(Tick::Idle(Vec::new())),
            Directive::Wait(waiting) => Ok(Tick::Idle(waiting)),
            Directive::CallOff { step, cause, reason } => self.call_off(step, cause, &reason, now),
            Directive::Journal(intent) => {
                let waiting = self.burns_in_vain(intent.record(), observed);
                if let Some(waiting) = waiting.or_else(|| self.is_forked(intent.record())) {
                    return Ok(Tick::Idle(vec![waiting]));
                }
                let receipt = self.record(intent.record(), now)?;
                match intent.release(&receipt) {
                    Some(effect) => self.carry_out(effect, now, random),
                    None => Ok(Tick::Progressed),
                }
            }
            Directive::Resolve(effect) => match self.is_forked(Record::Started(effect.step)) {
                Some(waiting) => Ok(Tick::Idle(vec![waiting])),
                None => self.carry_out(effect, now, random),
            },
            Directive::Report(result) => {
                let envelope = Envelope::signed(&result, [&self.key]);
                self.append(&wire::encode(&envelope))
            }
        }
    }

    /// Fetches a release, tries it beside what runs, and puts its registration into the log. No
    /// plan is needed, and nothing that runs changes.
    pub fn stage(
        &mut self,
        release: &ReleaseDigest,
        measurement: &Measurement,
    ) -> Result<Tick, AgentError> {
        let Some(found) = self.state.release(release) else {
            let source = DriverError::Missing { what: format!("release {release}") };
            return Ok(Tick::Refused(Trouble::Stage(source)));
        };
        match self.driver.stage(found, measurement) {
            Ok(made) => match self.countersign::<Registration>(&made) {
                Ok(registration) => self.append(&registration),
                Err(reason) => Ok(Tick::Refused(Trouble::Countersign(reason))),
            },
            Err(source) => Ok(Tick::Refused(Trouble::Stage(source))),
        }
    }

    /// Puts a plan for this node forward, where the policy lets its agent do so.
    pub fn propose(&mut self, plan: &Plan) -> Result<Tick, AgentError> {
        let proposal = Proposal { network: plan.network, plan: wire::encode(plan) };
        let envelope = Envelope::signed(&proposal, [&self.key]);
        self.append(&wire::encode(&envelope))
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
        let mut observed = self.driver.observe().map_err(AgentError::Observe)?;
        observed.participant = self.observe_participant()?;
        self.observed = Some(observed.clone());
        Ok(observed)
    }

    /// Reads and folds what is new in the log.
    pub fn sync(&mut self) -> Result<(), AgentError> {
        self.catch_up().map(|_| ())
    }

    /// Reads and folds what is new in the log; whether that was all.
    fn catch_up(&mut self) -> Result<bool, AgentError> {
        for _ in 0..READ_BATCHES_MAX {
            let entries = self.log.read(self.state.position().length, LOG_ENTRIES_MAX)?;
            if entries.is_empty() {
                return Ok(true);
            }
            for entry in &entries {
                // A refused statement has no effect, here as everywhere.
                let _applied = self.state.apply(entry)?;
            }
        }
        Ok(false)
    }

    /// Tells every keeper of an exclusive domain that the log is about to be read. One that does
    /// not answer gives no ticket, and will know that it was not attended.
    fn attend(&mut self) -> Tickets {
        let node = self.state.node(&self.node);
        let policy = node.and_then(|node| self.state.policy(&node.domain));
        if policy.is_none_or(|policy| policy.sharing != Sharing::Exclusive) {
            return Tickets::new();
        }
        let Some(observed) = &self.observed else { return Tickets::new() };
        let driver = &mut self.driver;
        let concerned = observed.running.values().filter(|status| attendance::concerns(status));
        concerned
            .filter_map(|status| {
                let ticket = driver.attend(&status.measurement).ok()?;
                Some((status.measurement, (status.instance, ticket)))
            })
            .collect()
    }

    /// Gives the running instances what they have not followed yet, and the news that this is all.
    fn feed(&mut self, observed: &Observation, tickets: &Tickets) -> Result<Fed, AgentError> {
        let end = self.state.position().length;
        let mut fed = Fed::default();
        for (code, status) in observed.seats() {
            let from = status.position.length;
            let mut entries = Vec::new();
            if from < end {
                entries = self.log.read(from, LOG_ENTRIES_MAX)?;
                // An instance must not be ahead: what it signs refers to a log that this agent
                // can judge.
                entries.retain(|entry| entry.index < end);
            }
            let is_all = entries.last().map_or(from >= end, |last| last.index.next() == Some(end));
            let ticket = tickets
                .get(code)
                .filter(|(instance, _)| is_all && *instance == status.instance)
                .map(|(_, ticket)| *ticket);
            if entries.is_empty() && ticket.is_none() {
                continue;
            }
            match self.driver.follow(code, &entries, ticket) {
                Ok(position) => {
                    fed.advanced = true;
                    fed.behind |= from < position.length && position.length < end;
                }
                Err(source) => fed.refused.push((*code, source)),
            }
        }
        Ok(fed)
    }

    fn fulfil(&mut self, duty: Duty) -> Result<Tick, AgentError> {
        let driver = &mut self.driver;
        let made = match &duty {
            Duty::Register(code) => {
                driver.register(code).map(|made| self.countersign::<Registration>(&made))
            }
            Duty::Prove(code, nonce) => {
                driver.prove(code, nonce).map(|made| self.countersign::<PossessionProof>(&made))
            }
            Duty::CreateGeneration(code, order) => driver
                .create_generation(code, order)
                .map(|made| self.countersign::<GenerationReceipt>(&made)),
            Duty::ReceiveGeneration(code, order, sources) => driver
                .receive_generation(code, order, sources)
                .map(|made| self.countersign::<GenerationReceipt>(&made)),
            Duty::Activate(code, cause) => {
                driver.activate(code, *cause).map(|made| self.countersign::<Activation>(&made))
            }
            Duty::Replicate(code, sources) => {
                let replicated = driver.replicate(code, sources);
                return Ok(dutiful(duty, replicated));
            }
            Duty::Resume(code) => {
                let resumed = driver.resume(code);
                return Ok(dutiful(duty, resumed));
            }
            Duty::Start(code) => {
                let started = driver.start(code);
                return Ok(dutiful(duty, started));
            }
            Duty::Restart(code) => {
                let restarted = driver.stop(code).and_then(|()| driver.start(code));
                return Ok(dutiful(duty, restarted));
            }
            Duty::KeepService => {
                let kept = driver.service().map_or(Ok(()), ServiceDriver::keep);
                return Ok(dutiful(duty, kept));
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
        if !self.is_found_done(id)? {
            let mut waiting = Waiting::Effect { step: id };
            let of_service = effect.action.concerns_service();
            let of_participant = effect.action.concerns_participant();
            match self.perform(effect, random)? {
                Ok(()) => self.executed = Some(id),
                Err(DriverError::Unknown(reason)) if of_service => {
                    waiting = Waiting::Service { step: id, reason };
                }
                Err(DriverError::Unknown(reason)) if of_participant => {
                    waiting = Waiting::Participant { step: id, reason };
                }
                Err(DriverError::Unknown(_)) => {}
                Err(DriverError::Stopping) => {
                    return Err(AgentError::Observe(DriverError::Stopping));
                }
                Err(source) => {
                    let _receipt = self.record(Record::Refused(id), now)?;
                    self.call_off_after(id, &source, now)?;
                    return Ok(Tick::Refused(Trouble::Step { step: id, source }));
                }
            }
            if !self.is_found_done(id)? {
                return Ok(Tick::Idle(vec![waiting]));
            }
        }
        let own = self.executed == Some(id);
        let how = if own { StepOutcome::Done } else { StepOutcome::FoundDone };
        let _receipt = self.record(Record::Succeeded(id, how), now)?;
        Ok(Tick::Progressed)
    }

    /// The plan that this agent acts for.
    fn plan(&self) -> Option<&PlanState> {
        let (digest, _) = self.progress.plan()?;
        self.state.plan(&digest)
    }

    /// Whether a step has taken effect. One whose effect nobody could tell from what was before
    /// must have been carried out by this process.
    fn is_found_done(&mut self, id: StepId) -> Result<bool, AgentError> {
        let observed = self.observe()?;
        let Some(plan) = self.plan().map(PlanState::plan) else { return Ok(false) };
        let Some(step) = plan.step(id) else { return Ok(false) };
        let can_tell = engine::leaves_a_mark(plan, step) || self.executed == Some(id);
        Ok(can_tell && engine::is_done(&self.situation(), plan, step, &observed))
    }

    /// Why a suspension must not begin now: the instance that would make it is not the one that
    /// the log names, so it would be silent for nothing.
    fn burns_in_vain(&self, record: Record, observed: &Observation) -> Option<Waiting> {
        let Record::Started(id) = record else { return None };
        let plan = self.plan()?.plan();
        let Step { node, action: Action::Suspend(placement), .. } = plan.step(id)? else {
            return None;
        };
        let active = self.state.domain(&plan.domain)?.activity().active();
        let status = observed.status(&placement.measurement);
        let named = active.zip(status).is_some_and(|(active, status)| {
            active.is_at(node, &status.measurement) && *active.instance() == status.instance
        });
        let measurement = placement.measurement;
        (!named).then(|| Waiting::Active { node: node.clone(), measurement })
    }

    /// Appends a statement, again if others append at the same moment.
    fn append(&mut self, envelope: &[u8]) -> Result<Tick, AgentError> {
        for _ in 0..APPEND_ATTEMPTS_MAX {
            let seen = self.state.position();
            if let Err(refusal) = self.state.judge(envelope) {
                // It may refer to entries that came after the last look.
                self.sync()?;
                if self.state.position() == seen {
                    return Ok(Tick::Refused(Trouble::Statement(Box::new(refusal))));
                }
                continue;
            }
            match self.log.append(seen.length, envelope) {
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

/// What a duty without a statement came to.
fn dutiful(duty: Duty, result: Result<(), DriverError>) -> Tick {
    match result {
        Ok(()) => Tick::Progressed,
        Err(source) => Tick::Refused(Trouble::Duty { duty, source }),
    }
}
