//! What an agent owes its fleet outside of plans: registrations, answers to challenges, and
//! carrying out generation orders.

use heirloom_model::admin::KeeperStatus;
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::Nonce;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::Action;
use heirloom_model::protocol::ServingState;
use heirloom_registry::domain::{Challenged, DomainState, OpenOrder};

use crate::engine::Situation;
use crate::journal::StepProgress;
use crate::port::Observation;

/// One thing to do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Duty {
    /// Introduce the running instance.
    Register,
    /// Answer a challenge.
    Prove(Nonce),
    /// Create the generation of an order that names this node.
    CreateGeneration(Nonce),
    /// Receive the generation of an order from nodes that have it.
    ReceiveGeneration(Nonce, Vec<NodeId>),
    /// Receive committed generations that this node missed.
    Replicate(Vec<NodeId>),
    /// Serve again: what the keeper was drained for does not happen any more.
    Resume,
    /// Start the installed keeper: nothing says that it should be down.
    Start(Measurement),
    /// Restart the keeper, so that what it received is proven to be durable.
    Restart(Measurement),
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
    let Some(status) = observed.running.as_deref() else {
        return observed.installed.filter(|_| !is_down(situation)).map(Duty::Start);
    };
    let node = situation.state.node(situation.node)?;
    let domain = situation.state.domain(&node.domain)?;
    if owes_registration(situation, domain, status) {
        return Some(Duty::Register);
    }
    if let Some(duty) = domain.order().and_then(|order| generation(situation, order, status)) {
        return Some(duty);
    }
    if status.state == ServingState::Draining && !is_drained(situation, &node.domain) {
        return Some(Duty::Resume);
    }
    if let Some(sources) = missed(situation, domain, status) {
        return Some(Duty::Replicate(sources));
    }
    match status.holding?.origin {
        HoldingOrigin::Recovered => {
            let serves = matches!(status.state, ServingState::Ready | ServingState::Draining);
            oldest_challenge(situation, domain).filter(|_| serves).map(Duty::Prove)
        }
        HoldingOrigin::Received => restart(situation, domain, status),
    }
}

/// Whether the running instance is not in the log yet, although policy lets it hold.
fn owes_registration(
    situation: &Situation<'_>,
    domain: &DomainState,
    status: &KeeperStatus,
) -> bool {
    let permitted =
        domain.policy().is_some_and(|policy| policy.holder(&status.measurement).is_some());
    let known = domain
        .registration_with(situation.node, &status.measurement)
        .is_some_and(|registered| *registered.instance() == status.instance);
    permitted && !known && status.policy.is_some()
}

/// What an open generation order asks of this node.
fn generation(situation: &Situation<'_>, open: &OpenOrder, status: &KeeperStatus) -> Option<Duty> {
    let order = open.order();
    let able = matches!(status.state, ServingState::Ready | ServingState::Empty);
    if !able || !open.is_open(situation.state.epoch()) {
        return None;
    }
    if open.receipts().contains_key(situation.node) {
        return None;
    }
    if order.node == *situation.node {
        return Some(Duty::CreateGeneration(order.nonce));
    }
    let sources: Vec<NodeId> = open.receipts().keys().cloned().collect();
    open.proposed().map(|_| Duty::ReceiveGeneration(order.nonce, sources))
}

/// Who may have the committed generations that this node lacks, if it lacks any. While a plan
/// changes this node, the plan says when it replicates.
fn missed(
    situation: &Situation<'_>,
    domain: &DomainState,
    status: &KeeperStatus,
) -> Option<Vec<NodeId>> {
    domain.committed()?;
    let lacks = matches!(status.state, ServingState::Empty | ServingState::Replicating);
    if !lacks || changing(situation, &status.domain) {
        return None;
    }
    let others = situation.state.nodes_of(status.domain).map(|node| &node.node);
    let registered = others
        .filter(|node| *node != situation.node && domain.registration(node).is_some())
        .take(SOURCES_MAX);
    Some(registered.cloned().collect())
}

/// The oldest challenge that names this node and has no answer from it.
fn oldest_challenge(situation: &Situation<'_>, domain: &DomainState) -> Option<Nonce> {
    let oldest = situation.state.position().length.0.saturating_sub(CHALLENGE_WINDOW_ENTRIES);
    domain
        .challenges()
        .filter(|asked| asked.at() >= LogIndex(oldest) || is_awaited(situation, asked))
        .filter(|asked| asked.challenge().targets.binary_search(situation.node).is_ok())
        .filter(|asked| !asked.proofs().contains_key(situation.node))
        .min_by_key(|asked| asked.at())
        .map(|asked| asked.challenge().nonce)
}

/// Whether a plan that is not over asked.
fn is_awaited(situation: &Situation<'_>, asked: &Challenged) -> bool {
    asked
        .challenge()
        .step
        .and_then(|step| situation.state.plan(&step.plan))
        .is_some_and(|plan| !plan.is_over())
}

/// A restart that turns what was received into what was recovered.
///
/// Nodes go one after the other, in the order of their names: each waits until the instances of
/// all before it introduced themselves after the generation was committed, but not for nodes that
/// are gone: after [`RESTART_WAIT_EPOCHS`] it goes. While a plan changes this node, the plan says
/// when it restarts.
fn restart(situation: &Situation<'_>, domain: &DomainState, status: &KeeperStatus) -> Option<Duty> {
    let state = situation.state;
    let committed = domain.committed()?;
    let holding = status.holding?;
    if changing(situation, &status.domain)
        || status.state != ServingState::Ready
        || holding.generation != committed.generation
        || holding.checksum != committed.checksum
    {
        return None;
    }
    let restarted = |node: &NodeId| {
        domain.registration(node).is_none_or(|registered| registered.at() > committed.at)
    };
    let fleet = state.fleet()?;
    let turn = fleet
        .nodes
        .iter()
        .filter(|node| node.domain == status.domain && node.node < *situation.node)
        .all(|node| restarted(&node.node));
    let patient = committed.epoch.0.saturating_add(RESTART_WAIT_EPOCHS);
    let late = state.epoch().0 > patient;
    (turn || late).then_some(Duty::Restart(status.measurement))
}

/// Whether a plan has taken the keeper down and not started it again yet. The journal decides,
/// also before the log is known: a keeper that a plan stopped is never started by habit.
fn is_down(situation: &Situation<'_>) -> bool {
    let Some((digest, _)) = situation.progress.plan() else { return false };
    let Some(plan) = situation.state.plan(&digest) else { return true };
    let plan = plan.plan();
    let back = plan.rollback.iter().map(|rollback| &rollback.step);
    let own = plan.steps.iter().chain(back).filter(|step| step.node == *situation.node);
    own.fold(false, |down, step| {
        let Some(progress) = situation.progress.step(step.id) else { return down };
        match &step.action {
            Action::Stop(_)
            | Action::Quarantine(_)
            | Action::Restore(_)
            | Action::Install { .. } => true,
            Action::Start(_) | Action::Restart(_) => {
                !matches!(progress, StepProgress::Succeeded(_))
            }
            Action::Prepare(_)
            | Action::Verify { .. }
            | Action::Drain
            | Action::Replicate { .. }
            | Action::Withdraw(_) => down,
        }
    })
}

/// Whether a plan that goes forward has drained this node.
fn is_drained(situation: &Situation<'_>, domain: &DomainId) -> bool {
    let called_off =
        situation.state.active_plan(domain).is_some_and(|plan| plan.aborted().is_some());
    changing(situation, domain) && !called_off && !situation.progress.turned_back()
}

/// Whether a plan that is not over has begun to change this node.
fn changing(situation: &Situation<'_>, domain: &DomainId) -> bool {
    let Some(plan) = situation.state.active_plan(domain) else { return false };
    let adopted = situation.progress.plan().map(|(digest, _)| digest);
    adopted == Some(*plan.digest())
        && plan.plan().steps.iter().any(|step| {
            step.node == *situation.node
                && matches!(step.action, Action::Drain | Action::Stop(_))
                && situation.progress.step(step.id).is_some()
        })
}
