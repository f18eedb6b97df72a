//! What an agent owes its fleet outside of plans: that what should run runs, registrations,
//! answers to challenges, generation orders, and that an exclusive domain has an active holder.
//!
//! Duties belong to instances: while a keyring is handed over a node has several, and each is
//! looked at alone.

use std::collections::BTreeSet;

use heirloom_model::admin::KeeperStatus;
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::Nonce;
use heirloom_model::domain::{ActivationCause, HoldingOrigin};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Plan, Step};
use heirloom_model::policy::{HolderRole, Sharing};
use heirloom_model::protocol::ServingState;
use heirloom_registry::activity::Activity;
use heirloom_registry::domain::{Challenged, DomainState, OpenOrder};
use heirloom_registry::plan::PlanStatus;

use crate::engine::Situation;
use crate::journal::StepProgress;
use crate::port::Observation;

/// One thing to do now, by or for the instance of a code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Duty {
    /// Introduce the instance.
    Register(Measurement),
    /// Answer a challenge.
    Prove(Measurement, Nonce),
    /// Create the generation of an order that names this node.
    CreateGeneration(Measurement, Nonce),
    /// Receive the generation of an order from nodes that have it.
    ReceiveGeneration(Measurement, Nonce, Vec<NodeId>),
    /// Receive committed generations that this node missed.
    Replicate(Measurement, Vec<NodeId>),
    /// Serve again: what the keeper was drained for does not happen any more.
    Resume(Measurement),
    /// Start what should run.
    Start(Measurement),
    /// Restart an instance: what it received must be proven to be durable, or it has suspended
    /// itself and the log will never have it.
    Restart(Measurement),
    /// Become the active holder of an exclusive domain.
    Activate(Measurement, ActivationCause),
    /// Put right what is not as the node's service was last told to be.
    KeepService,
}

impl std::fmt::Display for Duty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Register(code) => write!(f, "register {code}"),
            Self::Prove(code, _) => write!(f, "answer a challenge with {code}"),
            Self::CreateGeneration(code, _) => write!(f, "create a generation with {code}"),
            Self::ReceiveGeneration(code, ..) => write!(f, "receive a generation with {code}"),
            Self::Replicate(code, _) => write!(f, "replicate to {code}"),
            Self::Resume(code) => write!(f, "let {code} serve again"),
            Self::Start(code) => write!(f, "start {code}"),
            Self::Restart(code) => write!(f, "restart {code}"),
            Self::Activate(code, _) => write!(f, "make {code} the active holder"),
            Self::KeepService => f.write_str("keep the service as it was told to be"),
        }
    }
}

/// Challenges older than this many entries are not answered any more, unless a running plan
/// waits for them: whoever asked has given up or asked again.
pub const CHALLENGE_WINDOW_ENTRIES: u64 = 10_000;

/// Epochs for which a node waits until those before it have restarted.
pub const RESTART_WAIT_EPOCHS: u64 = 2;
/// Holders that a node which missed something asks.
pub const SOURCES_MAX: usize = 8;

/// The most urgent duty of this node, if any.
pub fn next(situation: &Situation<'_>, observed: &Observation) -> Option<Duty> {
    due(situation, observed).into_iter().next()
}

/// Everything that this node owes now, at most one duty for each instance, the most urgent first,
/// and its service last.
/// One that is refused does not stand in the way of the others.
pub fn due(situation: &Situation<'_>, observed: &Observation) -> Vec<Duty> {
    let down = supposed(situation, observed).into_iter().filter(|code| !observed.exists(code));
    let (installed, others): (Vec<_>, Vec<_>) =
        down.partition(|code| observed.installed == Some(*code));
    let start = installed.into_iter().chain(others).map(Duty::Start);
    let of_seats = observed.seats().filter_map(|(_, status)| {
        let node = situation.state.node(situation.node)?;
        let domain = situation.state.domain(&node.domain)?;
        let seat = Seat {
            situation: *situation,
            domain_id: node.domain,
            domain,
            status,
            is_installed: observed.installed == Some(status.measurement),
        };
        seat.duty()
    });
    // The keeper comes first: the service asks it for keys.
    let drifted = observed.service.as_ref().is_some_and(|service| service.drift.is_some());
    start.chain(of_seats).chain(drifted.then_some(Duty::KeepService)).collect()
}

/// The code that should be running on this node: the installed one, and what a plan has started
/// beside it and not stopped again. After the machine died, exactly this is started again.
///
/// The journal decides, also before the log is known: what a plan has stopped is never started by
/// habit, and what it has not yet started is started by its own step.
pub fn supposed(situation: &Situation<'_>, observed: &Observation) -> BTreeSet<Measurement> {
    let installed = || observed.installed.into_iter().collect();
    let Some((digest, number)) = situation.progress.plan() else { return installed() };
    let Some(plan) = situation.state.plan(&digest) else {
        // A plan that the log has forgotten was fenced by later ones long ago.
        let node = situation.state.node(situation.node);
        let domain = node.and_then(|node| situation.state.domain(&node.domain));
        let forgotten = domain.is_some_and(|domain| domain.plan_number() > number);
        return if forgotten { installed() } else { BTreeSet::new() };
    };
    let plan = plan.plan();
    // A plan without a keyring starts and stops no keeper.
    let Some(kept) = &plan.keyring else { return installed() };
    // On nodes of every kind: what the plan has stopped there is not started by habit either.
    let about = |installed: &Measurement| {
        let via = kept.via.is_some_and(|via| via.measurement == *installed);
        via || kept.is_from(installed) || kept.is_to(installed)
    };
    if !observed.installed.as_ref().is_some_and(about) {
        return installed();
    }
    let back = plan.rollback.iter().map(|rollback| &rollback.step);
    let begun =
        |step: &&Step| step.node == *situation.node && situation.progress.step(step.id).is_some();
    let mut running: BTreeSet<_> =
        installed_before(situation, plan, observed).into_iter().collect();
    for step in plan.steps.iter().chain(back).filter(begun) {
        match &step.action {
            Action::Stop(placement) => {
                running.remove(&placement.measurement);
            }
            Action::Start(placement) | Action::Restart(placement) => {
                let progress = situation.progress.step(step.id);
                if matches!(progress, Some(StepProgress::Succeeded(_))) {
                    running.insert(placement.measurement);
                }
            }
            Action::Prepare(_)
            | Action::Verify { .. }
            | Action::Drain(_)
            | Action::Quarantine(_)
            | Action::Restore(_)
            | Action::Install { .. }
            | Action::Replicate { .. }
            | Action::Withdraw(_)
            | Action::HandOver { .. }
            | Action::Suspend(_)
            | Action::Activate(_)
            | Action::Forget(_)
            | Action::Preserve(_)
            | Action::Reseal(_)
            | Action::Service(_)
            | Action::Commit
            | Action::Participant(_) => {}
        }
    }
    running
}

/// What was installed when this node's part of the plan began.
fn installed_before(
    situation: &Situation<'_>,
    plan: &Plan,
    observed: &Observation,
) -> Option<Measurement> {
    let replaced = plan.steps.iter().find_map(|step| match &step.action {
        Action::Install { expect, .. } if step.node == *situation.node => {
            situation.progress.step(step.id).map(|_| expect.measurement)
        }
        _ => None,
    });
    replaced.or(observed.installed)
}

/// One running instance, and what decides about it.
struct Seat<'a> {
    situation: Situation<'a>,
    domain_id: DomainId,
    domain: &'a DomainState,
    status: &'a KeeperStatus,
    is_installed: bool,
}

impl Seat<'_> {
    /// The most urgent duty of the instance, if any.
    fn duty(&self) -> Option<Duty> {
        let code = self.status.measurement;
        if hands_on(&self.situation) {
            // Nobody serves between a suspension and the next activation.
            return self.activation().map(|cause| Duty::Activate(code, cause));
        }
        if self.owes_registration() {
            return Some(Duty::Register(code));
        }
        if let Some(cause) = self.activation() {
            return Some(Duty::Activate(code, cause));
        }
        if self.is_suspended_for_nothing() {
            return Some(Duty::Restart(code));
        }
        if let Some(duty) = self.domain.order().and_then(|order| self.generation(order)) {
            return Some(duty);
        }
        if self.status.state == ServingState::Draining && !self.is_drained() {
            return Some(Duty::Resume(code));
        }
        if let Some(sources) = self.missed() {
            return Some(Duty::Replicate(code, sources));
        }
        match self.status.holding?.origin {
            HoldingOrigin::Recovered => self
                .oldest_challenge()
                .filter(|_| self.status.state.holds())
                .map(|nonce| Duty::Prove(code, nonce)),
            HoldingOrigin::Received => self.must_restart().then_some(Duty::Restart(code)),
        }
    }

    /// Whether this is the instance that serves, or would serve, on this node.
    fn is_keeper(&self) -> bool {
        self.is_installed && self.status.role == HolderRole::Keeper
    }

    fn is_exclusive(&self) -> bool {
        self.domain.policy().is_some_and(|policy| policy.sharing == Sharing::Exclusive)
    }

    /// Whether the instance is not in the log yet, although policy lets it hold.
    fn owes_registration(&self) -> bool {
        let Self { situation, domain, status, .. } = self;
        let permitted =
            domain.policy().is_some_and(|policy| policy.holder(&status.measurement).is_some());
        let known = domain
            .registration_with(situation.node, &status.measurement)
            .is_some_and(|registered| *registered.instance() == status.instance);
        permitted && !known && status.policy.is_some()
    }

    /// Why this instance of an exclusive domain should become the active one without a plan: it
    /// is the first, or it follows an instance of the same seat that is gone. What a plan suspended
    /// only a plan activates.
    fn activation(&self) -> Option<ActivationCause> {
        let Self { situation, domain, status, .. } = self;
        let recovered =
            status.holding.is_some_and(|holding| holding.origin == HoldingOrigin::Recovered);
        let ready = status.state == ServingState::Standby && status.role == HolderRole::Keeper;
        if !self.is_exclusive() || !ready || !recovered {
            return None;
        }
        match domain.activity() {
            Activity::None => {
                let begins = domain.genesis_node() == Some(situation.node) && self.is_installed;
                begins.then_some(ActivationCause::First)
            }
            Activity::Active(active) => {
                let here = active.is_at(situation.node, &status.measurement);
                let other = *active.instance() != status.instance;
                (here && other).then_some(ActivationCause::Restarted)
            }
            Activity::Suspended(_) => None,
        }
    }

    /// Whether the instance has said that it serves no more, the log still names it as the active
    /// one, and no step that can go on will bring the statement there. Only a fresh instance can
    /// serve then.
    fn is_suspended_for_nothing(&self) -> bool {
        let Self { situation, domain, status, .. } = self;
        let named =
            domain.activity().active().is_some_and(|active| *active.instance() == status.instance);
        let coming = situation.state.active_plan(&self.domain_id).is_some_and(|plan| {
            let goes_on = match plan.status() {
                PlanStatus::Approved | PlanStatus::PastNoReturn | PlanStatus::RollingBack => true,
                PlanStatus::Proposed
                | PlanStatus::ApprovalLapsed
                | PlanStatus::Expired
                | PlanStatus::RolledBack
                | PlanStatus::Finished => false,
            };
            goes_on && situation.progress.plan().is_some_and(|(own, _)| own == *plan.digest())
        });
        status.state == ServingState::Suspended && named && !coming
    }

    /// What an open generation order asks of this node's keeper. In an exclusive domain nobody
    /// else has a copy, and only the active holder makes a generation once there is one.
    fn generation(&self, open: &OpenOrder) -> Option<Duty> {
        let Self { situation, domain, status, .. } = self;
        let (order, code) = (open.order(), status.measurement);
        let able = matches!(status.state, ServingState::Ready | ServingState::Empty);
        if !able || !self.is_keeper() || !open.is_open(situation.state.epoch()) {
            return None;
        }
        if open.receipts().contains_key(situation.node) {
            return None;
        }
        if order.node == *situation.node {
            let may = match domain.activity() {
                Activity::None => true,
                Activity::Active(active) => *active.instance() == status.instance,
                Activity::Suspended(_) => false,
            };
            return may.then_some(Duty::CreateGeneration(code, order.nonce));
        }
        if self.is_exclusive() {
            return None;
        }
        let sources: Vec<NodeId> = open.receipts().keys().cloned().collect();
        open.proposed().map(|_| Duty::ReceiveGeneration(code, order.nonce, sources))
    }

    /// Who may have the committed generations that this node lacks, if it lacks any. While a plan
    /// changes this node, the plan says when it replicates.
    fn missed(&self) -> Option<Vec<NodeId>> {
        let Self { situation, domain, status, domain_id, .. } = self;
        domain.committed()?;
        if !status.state.lacks()
            || !self.is_keeper()
            || self.is_exclusive()
            || changing(situation, domain_id)
        {
            return None;
        }
        let others = situation.state.nodes_of(*domain_id).map(|node| &node.node);
        let registered = others
            .filter(|node| *node != situation.node && domain.registration(node).is_some())
            .take(SOURCES_MAX);
        Some(registered.cloned().collect())
    }

    /// The oldest challenge that this instance should answer and that has no answer from this
    /// node. A challenge that names no code is for the node's keeper.
    fn oldest_challenge(&self) -> Option<Nonce> {
        let Self { situation, domain, status, .. } = self;
        let oldest = situation.state.position().length.0.saturating_sub(CHALLENGE_WINDOW_ENTRIES);
        domain
            .challenges()
            .filter(|asked| asked.at() >= LogIndex(oldest) || is_awaited(situation, asked))
            .filter(|asked| asked.challenge().targets.binary_search(situation.node).is_ok())
            .filter(|asked| !asked.proofs().contains_key(situation.node))
            .filter(|asked| match asked.challenge().code {
                Some(code) => code == status.measurement,
                None => self.is_keeper(),
            })
            .min_by_key(|asked| asked.at())
            .map(|asked| asked.challenge().nonce)
    }

    /// Whether to restart, so that what was received becomes what was recovered.
    ///
    /// Nodes go one after the other, in the order of their names: each waits until the instances
    /// of all before it introduced themselves after the generation was committed, but not for
    /// nodes that are gone: after [`RESTART_WAIT_EPOCHS`] it goes. While a plan changes this node,
    /// the plan says when it restarts.
    fn must_restart(&self) -> bool {
        let Self { situation, domain, status, domain_id, .. } = self;
        let state = situation.state;
        let (Some(committed), Some(holding)) = (domain.committed(), status.holding) else {
            return false;
        };
        let complete = matches!(status.state, ServingState::Ready | ServingState::Standby);
        if !self.is_keeper()
            || changing(situation, domain_id)
            || !complete
            || holding.generation != committed.generation
            || holding.checksum != committed.checksum
        {
            return false;
        }
        let restarted = |node: &NodeId| {
            domain.registration(node).is_none_or(|registered| registered.at() > committed.at)
        };
        let turn = state
            .nodes_of(*domain_id)
            .filter(|node| node.node < *situation.node)
            .all(|node| restarted(&node.node));
        let patient = committed.epoch.0.saturating_add(RESTART_WAIT_EPOCHS);
        turn || state.epoch().0 > patient
    }

    /// Whether a plan that goes forward has drained this code.
    fn is_drained(&self) -> bool {
        let Self { situation, status, domain_id, .. } = self;
        let Some(plan) = situation.state.active_plan(domain_id) else { return false };
        let adopted = situation.progress.plan().map(|(digest, _)| digest);
        adopted == Some(*plan.digest())
            && plan.aborted().is_none()
            && !situation.progress.turned_back()
            && begun(situation, plan.plan()).any(|step| match &step.action {
                Action::Drain(placement) | Action::Stop(placement) => {
                    placement.measurement == status.measurement
                }
                _ => false,
            })
    }
}

/// Whether a plan that is not over asked.
fn is_awaited(situation: &Situation<'_>, asked: &Challenged) -> bool {
    asked
        .challenge()
        .step
        .and_then(|step| situation.state.plan(&step.plan))
        .is_some_and(|plan| !plan.is_over())
}

/// Whether this node is between a suspension and the activation that follows it: its journal says
/// that a holder may have been asked to suspend itself, and the log does not have the statement
/// yet, or the next holder on this node is not active yet. Every moment of it is one in which
/// nobody serves.
fn hands_on(situation: &Situation<'_>) -> bool {
    let Some((digest, _)) = situation.progress.plan() else { return false };
    let Some(plan) = situation.state.plan(&digest) else { return false };
    if situation.progress.turned_back() || plan.is_over() || plan.aborted().is_some() {
        return false;
    }
    let plan = plan.plan();
    let progress = |wanted: fn(&Action) -> bool| {
        let own = plan.steps.iter().filter(|step| step.node == *situation.node);
        own.filter(|step| wanted(&step.action)).map(|step| situation.progress.step(step.id)).next()
    };
    match progress(|action| matches!(action, Action::Suspend(_))) {
        Some(Some(StepProgress::Interrupted)) => true,
        Some(Some(StepProgress::Succeeded(_))) => {
            let next = progress(|action| matches!(action, Action::Activate(_)));
            next.is_some_and(|next| !matches!(next, Some(StepProgress::Succeeded(_))))
        }
        Some(Some(StepProgress::Refused) | None) | None => false,
    }
}

/// Whether a plan that is not over has begun to change this node.
fn changing(situation: &Situation<'_>, domain: &DomainId) -> bool {
    let Some(plan) = situation.state.active_plan(domain) else { return false };
    let adopted = situation.progress.plan().map(|(digest, _)| digest);
    adopted == Some(*plan.digest())
        && begun(situation, plan.plan()).any(|step| match &step.action {
            Action::Drain(_)
            | Action::Stop(_)
            | Action::Start(_)
            | Action::HandOver { .. }
            | Action::Suspend(_)
            | Action::Reseal(_) => true,
            Action::Prepare(_)
            | Action::Verify { .. }
            | Action::Quarantine(_)
            | Action::Restore(_)
            | Action::Install { .. }
            | Action::Replicate { .. }
            | Action::Restart(_)
            | Action::Withdraw(_)
            | Action::Activate(_)
            | Action::Forget(_)
            | Action::Preserve(_)
            | Action::Service(_)
            | Action::Commit
            | Action::Participant(_) => false,
        })
}

/// The forward steps of this node that its journal has begun.
fn begun<'p>(
    situation: &Situation<'p>,
    plan: &'p Plan,
) -> impl Iterator<Item = &'p Step> + use<'p> {
    let (node, progress) = (situation.node, situation.progress);
    plan.steps.iter().filter(move |step| step.node == *node && progress.step(step.id).is_some())
}
