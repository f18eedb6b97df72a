//! Gates: whether one holds, and if not, what exactly it waits for.
//!
//! A gate is a predicate over the log. It never looks at a host, and it never says "probably".

use std::collections::BTreeSet;
use std::fmt;

use heirloom_custody::facts;
use heirloom_custody::holding::{Condition, KeyCopy, Keyring, Proof};
use heirloom_custody::invariant::{LossRisk, NextEffect, Requirement, Shortfall, counts, no_loss};
use heirloom_model::counter::{Epoch, Generation, LogIndex, PlanNumber, Serial};
use heirloom_model::digest::{PlanDigest, TermsDigest};
use heirloom_model::domain::PlanStep;
use heirloom_model::identifier::{FailureDomain, NodeId, OperatorId};
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Gate, KeyringGround, Plan, StepId};
use heirloom_model::policy::Policy;
use heirloom_model::service::Tip;
use heirloom_registry::domain::DomainState;
use heirloom_registry::migration::Concord;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanState;
use heirloom_registry::standing::Agreement;
use heirloom_registry::verified::Verified;

/// What is awaited. Its text completes "waiting for".
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// Enough operators have to approve the plan.
    Approval,
    /// The plan's last epoch passed: an abort or a new plan is awaited.
    PlanExpired,
    /// The plan is not in the log.
    Proposal,
    /// Another plan of the domain counts now. This one waits for ever.
    Superseded {
        /// The number of the plan that counts.
        by: PlanNumber,
    },
    /// A step has no good result yet.
    Step {
        /// The step.
        step: StepId,
        /// Whose agent carries it out.
        node: NodeId,
        /// What it does.
        action: &'static str,
    },
    /// Too few nodes have proven possession since a step asked them.
    Proofs {
        /// The step that asked.
        since: StepId,
        /// What must be proven.
        generation: Generation,
        /// How many have proven it: failure domains for a gate, nodes for a verification.
        found: u32,
        /// How many are needed.
        need: u32,
        /// Whose proof is missing, or why it does not count.
        missing: Vec<(NodeId, String)>,
    },
    /// Code has not shown that it runs on a node and is accepted there.
    Registration {
        /// The node.
        node: NodeId,
        /// The code.
        measurement: Measurement,
    },
    /// The network has not reached an epoch.
    Epoch {
        /// The awaited one.
        epoch: Epoch,
        /// The one that it is.
        now: Epoch,
    },
    /// A policy that completes this plan is not published.
    Policy {
        /// The awaited serial.
        serial: Serial,
    },
    /// The domain has no policy in force that could say who may hold.
    PolicyInForce,
    /// Another holder than a step names is the active one, or none is.
    Active {
        /// The node of the awaited one.
        node: NodeId,
        /// Its code.
        measurement: Measurement,
    },
    /// The next effect could lose the keyring.
    Custody(LossRisk),
    /// A step was carried out, and its effect does not show yet.
    Effect {
        /// The step.
        step: StepId,
    },
    /// Steps of many nodes have no good result yet.
    Steps {
        /// The first of them.
        open: Vec<OpenStep>,
        /// Whether there are more than those.
        more: bool,
    },
    /// Services that must agree have not all stated how they are.
    Standings {
        /// The steps at which they will, the first of them.
        open: Vec<OpenStep>,
        /// Whether there are more than those.
        more: bool,
    },
    /// Services that must agree stated different things. This never heals.
    Disagreement {
        /// One of them.
        a: OpenStep,
        /// Another one.
        b: OpenStep,
        /// In what they differ.
        what: &'static str,
    },
    /// Too few operators have recorded a rehearsal of exactly these terms.
    Rehearsals {
        /// How many have.
        found: u32,
        /// How many must.
        need: u32,
    },
    /// A step of the service is under way on this node.
    Service {
        /// The step.
        step: StepId,
        /// What keeps it, for people.
        reason: String,
    },
    /// A peer of the node's service has another block at the same height. People must decide which
    /// is the right one: no agent can, and nothing on this node goes on before.
    Fork {
        /// The node.
        node: NodeId,
        /// The peer's block.
        seen: Tip,
    },
    /// Operators have not agreed to the whole party map.
    Consent {
        /// Who has not.
        missing: BTreeSet<OperatorId>,
    },
    /// Two nodes rewrote the same contracts differently. This never heals.
    Discord {
        /// One of them.
        a: OpenStep,
        /// The other one.
        b: OpenStep,
        /// In what they differ.
        what: &'static str,
    },
    /// A step of the participant is under way on this node.
    Participant {
        /// The step.
        step: StepId,
        /// What keeps it, for people.
        reason: String,
    },
    /// The plan is about no keyring, so nobody can prove one.
    NoKeyring,
    /// Others append to the log all the time.
    BusyLog,
}

/// A step of a node, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OpenStep {
    /// The step.
    pub step: StepId,
    /// Whose agent carries it out.
    pub node: NodeId,
    /// What it does.
    pub action: &'static str,
}

impl fmt::Display for OpenStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} ({} on {})", self.step, self.action, self.node)
    }
}

/// Nodes, or steps, that one message names.
const NAMED_MAX: usize = 5;

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approval => f.write_str("approval by enough operators"),
            Self::PlanExpired => f.write_str("an abort or a new plan: this one has expired"),
            Self::Proposal => f.write_str("the plan to be proposed"),
            Self::Superseded { by } => write!(f, "nothing: plan number {by} took its place"),
            Self::Step { step, node, action } => write!(f, "step {step} ({action} on {node})"),
            Self::Proofs { generation, found, need, missing, .. } => {
                write!(f, "proof of generation {generation} from ")?;
                for (position, (node, _)) in missing.iter().take(NAMED_MAX).enumerate() {
                    write!(f, "{}{node}", if position == 0 { "" } else { ", " })?;
                }
                if let Some(more @ 1..) = missing.len().checked_sub(NAMED_MAX) {
                    write!(f, " and {more} more")?;
                }
                write!(f, " ({found} of {need})")
            }
            Self::Registration { node, measurement } => {
                write!(f, "a registration of {measurement} on {node}")
            }
            Self::Epoch { epoch, now } => write!(f, "epoch {epoch} (it is {now})"),
            Self::Policy { serial } => {
                write!(f, "policy serial {serial}, which completes this plan, to be published")
            }
            Self::PolicyInForce => f.write_str("a policy in force"),
            Self::Active { node, measurement } => {
                write!(f, "{measurement} on {node} to be the active holder")
            }
            Self::Custody(risk) => write!(f, "more proven holders: {risk}"),
            Self::Effect { step } => write!(f, "step {step} to take effect"),
            Self::Steps { open, more } => list(f, open, *more),
            Self::Standings { open, more } => {
                f.write_str("what services state at ")?;
                list(f, open, *more)
            }
            Self::Disagreement { a, b, what } => {
                write!(f, "nothing: the services at {a} and {b} differ in their {what}")
            }
            Self::Rehearsals { found, need } => {
                write!(f, "rehearsals of these terms by {need} operators (there are {found})")
            }
            Self::Service { step, reason } | Self::Participant { step, reason } => {
                write!(f, "step {step}: {reason}")
            }
            Self::Fork { node, seen } => write!(
                f,
                "people, urgently: the ledger has forked, a peer of the service on {node} has \
                 block {seen}"
            ),
            Self::Consent { missing } => {
                f.write_str("consent to the party map from ")?;
                for (position, operator) in missing.iter().take(NAMED_MAX).enumerate() {
                    write!(f, "{}{operator}", if position == 0 { "" } else { ", " })?;
                }
                if missing.len() > NAMED_MAX { f.write_str(" and more") } else { Ok(()) }
            }
            Self::Discord { a, b, what } => {
                write!(f, "nothing: the participants at {a} and {b} differ in their {what}")
            }
            Self::NoKeyring => f.write_str("nothing: the plan concerns no keyring"),
            Self::BusyLog => f.write_str("a quiet moment of the registry log"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, open: &[OpenStep], more: bool) -> fmt::Result {
    for (position, step) in open.iter().enumerate() {
        write!(f, "{}{step}", if position == 0 { "" } else { ", " })?;
    }
    if more { f.write_str(" and more") } else { Ok(()) }
}

/// Whether a gate of a plan holds now; if not, what it waits for.
pub fn holds(gate: &Gate, plan: &Plan, state: &NetworkState) -> Result<(), Waiting> {
    holds_in(gate, plan, &Log::of(plan, state)?)
}

/// Whether an instance of this measurement registered on this node since the plan was proposed.
pub fn registered(
    state: &NetworkState,
    plan: &Plan,
    node: &NodeId,
    measurement: &Measurement,
) -> bool {
    Log::of(plan, state).is_ok_and(|log| log.registered(node, measurement))
}

/// A question for proofs of possession, as a `Verify` step asks it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The step that asks.
    pub step: StepId,
    /// Who is asked.
    pub targets: &'a [NodeId],
    /// How many must answer well.
    pub need: u32,
    /// Only this code's answers count; without it, any holder's.
    pub code: Option<Measurement>,
}

/// Whether at least `need` of these nodes have answered a challenge of the step well, each
/// counted once wherever it stands. This is when a `Verify` step is done.
pub fn proven(state: &NetworkState, plan: &Plan, asked: &Asked<'_>) -> Result<(), Waiting> {
    proven_in(plan, asked, &Log::of(plan, state)?)
}

/// What gates ask of the log.
trait Facts {
    fn policy(&self) -> Option<&Policy>;
    fn failure_domain(&self, node: &NodeId) -> Option<FailureDomain>;
    fn is_settled(&self, step: StepId) -> bool;
    fn proofs(&self, step: StepId) -> Vec<Proof>;
    fn registered(&self, node: &NodeId, measurement: &Measurement) -> bool;
    fn epoch(&self) -> Epoch;
    fn epoch_of(&self, step: StepId) -> Option<Epoch>;
    fn completes_this_plan(&self, serial: Serial) -> bool;
    /// The first step of a range that is not settled.
    fn unsettled_in(&self, first: StepId, last: StepId) -> Option<StepId>;
    /// Whether the services stated the same at every step of a range.
    fn agreement(&self, first: StepId, last: StepId) -> Agreement;
    fn is_stated(&self, step: StepId) -> bool;
    /// How many operators rehearsed these terms.
    fn rehearsals(&self, terms: &TermsDigest) -> usize;
    /// The operators of the plan's nodes who have not agreed to the whole party map.
    fn disagreeing(&self) -> BTreeSet<OperatorId>;
    /// Whether the nodes rewrote the same contracts alike.
    fn concord(&self, first: StepId, last: StepId) -> Concord;
}

/// The log, seen from one plan.
struct Log<'a> {
    state: &'a NetworkState,
    domain: &'a DomainState,
    plan: &'a PlanState,
    digest: &'a PlanDigest,
}

impl<'a> Log<'a> {
    fn of(plan: &Plan, state: &'a NetworkState) -> Result<Self, Waiting> {
        let domain = state.domain(&plan.domain).ok_or(Waiting::Proposal)?;
        let digest = domain.plan().ok_or(Waiting::Proposal)?;
        let current = state.plan(digest).ok_or(Waiting::Proposal)?;
        let by = domain.plan_number();
        if by > plan.number {
            return Err(Waiting::Superseded { by });
        }
        // Numbers are unique within a domain; the nonce tells apart plans that never met.
        if by < plan.number || current.plan().nonce != plan.nonce {
            return Err(Waiting::Proposal);
        }
        Ok(Self { state, domain, plan: current, digest })
    }
}

impl Facts for Log<'_> {
    fn policy(&self) -> Option<&Policy> {
        self.domain.policy().map(Verified::get)
    }

    fn failure_domain(&self, node: &NodeId) -> Option<FailureDomain> {
        self.state.node(node).map(|node| node.failure_domain.clone())
    }

    fn is_settled(&self, step: StepId) -> bool {
        // What a holder stated in the log needs no agent's word.
        if self.plan.done_at(step).or(self.plan.witnessed_at(step)).is_some() {
            return true;
        }
        // A rollback step of something that was never begun has nothing to wait for.
        let forward = self.plan.plan().steps.len();
        let back = usize::try_from(step.0).ok().and_then(|index| index.checked_sub(forward));
        let back = back.and_then(|index| self.plan.plan().rollback.get(index));
        self.plan.aborted().is_some()
            && back.is_some_and(|back| !self.plan.may_have_started(back.undoes))
    }

    fn proofs(&self, step: StepId) -> Vec<Proof> {
        facts::proofs_of(self.domain, PlanStep { plan: *self.digest, step })
    }

    fn registered(&self, node: &NodeId, measurement: &Measurement) -> bool {
        self.domain
            .registration_with(node, measurement)
            .is_some_and(|found| found.at() > self.plan.proposed_at())
    }

    fn epoch(&self) -> Epoch {
        self.state.epoch()
    }

    fn epoch_of(&self, step: StepId) -> Option<Epoch> {
        self.plan.epoch_of(step)
    }

    fn completes_this_plan(&self, serial: Serial) -> bool {
        self.domain
            .policy_by_serial(serial)
            .is_some_and(|policy| policy.completes.as_ref() == Some(self.digest))
    }

    fn unsettled_in(&self, first: StepId, last: StepId) -> Option<StepId> {
        self.plan.unsettled_in(first, last)
    }

    fn agreement(&self, first: StepId, last: StepId) -> Agreement {
        self.plan.agreement(first, last)
    }

    fn is_stated(&self, step: StepId) -> bool {
        self.plan.standing(step).is_some()
    }

    fn rehearsals(&self, terms: &TermsDigest) -> usize {
        self.state.rehearsals(terms)
    }

    fn disagreeing(&self) -> BTreeSet<OperatorId> {
        self.state.disagreeing(self.plan)
    }

    fn concord(&self, first: StepId, last: StepId) -> Concord {
        self.plan.concord(first, last)
    }
}

fn holds_in(gate: &Gate, plan: &Plan, log: &impl Facts) -> Result<(), Waiting> {
    match gate {
        Gate::Done(step) if log.is_settled(*step) => Ok(()),
        Gate::Done(step) => Err(step_of(plan, *step)),
        Gate::Proven { holders, need, since } => proven_apart_in(plan, holders, *need, *since, log),
        Gate::Registered { node, measurement } if log.registered(node, measurement) => Ok(()),
        Gate::Registered { node, measurement } => {
            Err(Waiting::Registration { node: node.clone(), measurement: *measurement })
        }
        Gate::Epoch(epoch) if log.epoch() >= *epoch => Ok(()),
        Gate::Epoch(epoch) => Err(Waiting::Epoch { epoch: *epoch, now: log.epoch() }),
        Gate::PolicyPublished(serial) if log.completes_this_plan(*serial) => Ok(()),
        Gate::PolicyPublished(serial) => Err(Waiting::Policy { serial: *serial }),
        Gate::Waited { since, epochs } => {
            let from = log.epoch_of(*since).ok_or_else(|| step_of(plan, *since))?;
            let (epoch, now) = (Epoch(from.0.saturating_add(u64::from(*epochs))), log.epoch());
            if now >= epoch { Ok(()) } else { Err(Waiting::Epoch { epoch, now }) }
        }
        Gate::AllDone { first, last } => all_done_in(plan, *first, *last, log),
        Gate::Agreed { first, last } => agreed_in(plan, *first, *last, log),
        Gate::Rehearsed { need } => rehearsed_in(plan, *need, log),
        Gate::Consented { .. } => consented_in(log),
        Gate::Concordant { first, last } => concordant_in(plan, *first, *last, log),
    }
}

/// Finds the first open steps of a range without a walk through those that are settled.
fn all_done_in(plan: &Plan, first: StepId, last: StepId, log: &impl Facts) -> Result<(), Waiting> {
    let mut open = Vec::new();
    let mut from = first;
    while let Some(step) = log.unsettled_in(from, last) {
        if open.len() == NAMED_MAX {
            return Err(Waiting::Steps { open, more: true });
        }
        open.push(open_step(plan, step)?);
        let Some(next) = step.0.checked_add(1) else { break };
        from = StepId(next);
    }
    if open.is_empty() { Ok(()) } else { Err(Waiting::Steps { open, more: false }) }
}

fn agreed_in(plan: &Plan, first: StepId, last: StepId, log: &impl Facts) -> Result<(), Waiting> {
    match log.agreement(first, last) {
        Agreement::Agreed(_) => Ok(()),
        Agreement::Disagreed { a, b, what } => {
            let (a, b) = (open_step(plan, a)?, open_step(plan, b)?);
            Err(Waiting::Disagreement { a, b, what })
        }
        Agreement::Open(from) => {
            let silent = (from.0..=last.0).map(StepId).filter(|step| !log.is_stated(*step));
            let mut open = Vec::new();
            for step in silent.take(NAMED_MAX.saturating_add(1)) {
                open.push(open_step(plan, step)?);
            }
            let more = open.len() > NAMED_MAX;
            open.truncate(NAMED_MAX);
            Err(Waiting::Standings { open, more })
        }
    }
}

fn consented_in(log: &impl Facts) -> Result<(), Waiting> {
    let missing = log.disagreeing();
    if missing.is_empty() { Ok(()) } else { Err(Waiting::Consent { missing }) }
}

fn concordant_in(
    plan: &Plan,
    first: StepId,
    last: StepId,
    log: &impl Facts,
) -> Result<(), Waiting> {
    match log.concord(first, last) {
        Concord::Concordant(_) => Ok(()),
        Concord::Discordant { a, b, what } => {
            let (a, b) = (open_step(plan, a)?, open_step(plan, b)?);
            Err(Waiting::Discord { a, b, what })
        }
        Concord::Open(step) => Err(step_of(plan, step)),
    }
}

fn rehearsed_in(plan: &Plan, need: u32, log: &impl Facts) -> Result<(), Waiting> {
    // The registry refuses such a gate in a plan that changes no service.
    let Some(change) = &plan.service else { return Err(Waiting::Proposal) };
    let found = log.rehearsals(&change.terms.digest());
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if found >= need { Ok(()) } else { Err(Waiting::Rehearsals { found, need }) }
}

fn open_step(plan: &Plan, step: StepId) -> Result<OpenStep, Waiting> {
    // The registry refuses a plan whose gates name steps that it does not have.
    let found = plan.step(step).ok_or(Waiting::Proposal)?;
    Ok(OpenStep { step, node: found.node.clone(), action: found.action.name() })
}

fn step_of(plan: &Plan, step: StepId) -> Waiting {
    match plan.step(step) {
        Some(found) => {
            Waiting::Step { step, node: found.node.clone(), action: found.action.name() }
        }
        // The registry refuses such a plan; nothing ever opens the gate.
        None => Waiting::Proposal,
    }
}

/// Counts distinct failure domains, with the one function that defines what a loss is.
fn proven_apart_in(
    plan: &Plan,
    holders: &[NodeId],
    need: u32,
    since: StepId,
    log: &impl Facts,
) -> Result<(), Waiting> {
    let policy = log.policy().ok_or(Waiting::PolicyInForce)?;
    let copies: Vec<KeyCopy> = holders
        .iter()
        .filter_map(|node| {
            let failure_domain = log.failure_domain(node)?;
            Some(KeyCopy {
                node: node.clone(),
                failure_domain,
                condition: Condition::Steady,
                changing: BTreeSet::new(),
            })
        })
        .collect();
    let kept = plan.keyring.as_ref().ok_or(Waiting::NoKeyring)?;
    let requirement = requirement(kept, policy, need);
    match no_loss(&requirement, &copies, &log.proofs(since), &NextEffect::None) {
        Ok(_) => Ok(()),
        Err(LossRisk::TooFew(Shortfall { needed, found, missing, .. })) => {
            let missing =
                missing.into_iter().map(|each| (each.node, each.why.to_string())).collect();
            let generation = kept.generation;
            Err(Waiting::Proofs { since, generation, found, need: needed, missing })
        }
        Err(risk @ LossRisk::Contradiction { .. }) => Err(Waiting::Custody(risk)),
    }
}

fn proven_in(plan: &Plan, asked: &Asked<'_>, log: &impl Facts) -> Result<(), Waiting> {
    let Asked { step, targets, need, code } = *asked;
    let policy = log.policy().ok_or(Waiting::PolicyInForce)?;
    let kept = plan.keyring.as_ref().ok_or(Waiting::NoKeyring)?;
    let requirement = requirement(kept, policy, need);
    let mut proofs = log.proofs(step);
    proofs.retain(|proof| code.is_none_or(|code| proof.measurement == code));
    let proven: BTreeSet<&NodeId> = proofs
        .iter()
        .filter(|proof| counts(&requirement, proof).is_ok())
        .map(|proof| &proof.node)
        .collect();
    let distinct: BTreeSet<&NodeId> = targets.iter().collect();
    let (proven, missing): (Vec<_>, Vec<_>) =
        distinct.into_iter().partition(|target| proven.contains(target));
    let found = u32::try_from(proven.len()).unwrap_or(u32::MAX);
    if found >= need {
        return Ok(());
    }
    let why = |node: &NodeId| {
        let said = proofs.iter().filter(|proof| proof.node == *node);
        let said = said.filter_map(|proof| counts(&requirement, proof).err()).max();
        said.map_or_else(|| "no proof".to_owned(), |why| why.to_string())
    };
    let missing = missing.into_iter().map(|node| (node.clone(), why(node))).collect();
    Err(Waiting::Proofs { since: step, generation: kept.generation, found, need, missing })
}

/// The challenges are already those of one step, so every answer to them is fresh.
fn requirement<'a>(kept: &KeyringGround, policy: &'a Policy, need: u32) -> Requirement<'a> {
    let keyring = Keyring { generation: kept.generation, checksum: kept.checksum };
    Requirement { policy, keyring, need, fresh_from: LogIndex(0) }
}

#[cfg(test)]
mod tests;
