//! Generations and challenges.

use std::collections::BTreeSet;

use heirloom_model::digest::Nonce;
use heirloom_model::domain::{Challenge, GenerationOrder, GenerationReceipt, PlanStep};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::limit::{CHALLENGE_TARGETS_MAX, GENERATIONS_MAX};
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::Action;
use heirloom_model::policy::Sharing;
use heirloom_model::root::Role;
use heirloom_model::signature::PublicKey;
use heirloom_model::statement::Statement;

use super::activity::check_keeper;
use super::attested::{attest, verify_attested};
use super::fleet::node_in;
use super::plan::current_plan;
use super::{Change, epoch_not_passed, is_next, not_expired, same_network};
use crate::activity::Activity;
use crate::domain::{CHALLENGES_KEPT_MAX, DomainState, OpenOrder};
use crate::network::NetworkState;
use crate::plan::PlanStatus;
use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, not_empty, require};
use crate::verified::{Verified, verify, verify_one};

pub(crate) fn examine_order(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let order: Verified<GenerationOrder> = verify(envelope, &[state.quorum(Role::Operator)?])?;
    same_network(state, order.network)?;
    epoch_not_passed(state, "order", order.not_after)?;
    let domain = with_policy(state, &order.domain)?;
    node_in(state, &order.node, &order.domain)?;
    // A plan promises the survival of one exact keyring; a new generation would change it under
    // the plan's hands, and reach holders that the plan is about to stop.
    if let Some(plan) = state.plan_under_way(&order.domain) {
        return Err(Refusal::PlanUnderWay { plan: *plan.digest() });
    }
    if let Some(open) = &domain.order
        && open.is_open(state.epoch)
    {
        return Err(Refusal::RotationUnderWay { generation: open.order.generation });
    }
    check_orderable(domain, &order.node)?;
    // A receipt names its order by the nonce: those of an order that lapsed must not count again.
    if let Some(lapsed) = &domain.order
        && lapsed.order.nonce == order.nonce
    {
        return Err(Refusal::AlreadyRecorded { what: "nonce of the order", at: lapsed.at });
    }
    let last = domain.committed.map(|committed| committed.generation.0);
    is_next("generation", last, 0, order.generation.0)?;
    if order.generation.0 >= GENERATIONS_MAX {
        let limit = usize::try_from(GENERATIONS_MAX).unwrap_or(usize::MAX);
        return Err(Refusal::Limit { what: "generations", limit });
    }
    Ok(Change::Order(order))
}

/// In an exclusive domain only the active holder creates generations: nobody else's keyring is
/// the one that is used. Before the first activation there is nobody to ask.
fn check_orderable(domain: &DomainState, node: &NodeId) -> Result<(), Refusal> {
    match &domain.activity {
        _ if !is_exclusive(domain) => Ok(()),
        Activity::None => Ok(()),
        Activity::Active(active) if active.node == *node => Ok(()),
        Activity::Active(_) | Activity::Suspended(_) => {
            Err(Refusal::NotActiveNode { node: node.clone() })
        }
    }
}

fn is_exclusive(domain: &DomainState) -> bool {
    domain.policy().is_some_and(|policy| policy.sharing == Sharing::Exclusive)
}

pub(crate) fn examine_receipt(
    state: &mut NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let (receipt, key) = verify_attested::<GenerationReceipt>(state, envelope)?;
    let domain = with_policy(state, &receipt.domain)?;
    let no_order = Refusal::NoOrder { order: receipt.order };
    let open = domain.order.as_ref().ok_or_else(|| no_order.clone())?;
    if open.order.nonce != receipt.order || open.order.generation != receipt.generation {
        return Err(no_order);
    }
    epoch_not_passed(state, "order", open.order.not_after)?;
    // Only the node that was ordered to may say what the generation is.
    if open.proposed.is_none() && open.order.node != receipt.node {
        return Err(no_order);
    }
    if let Some(expected) = open.proposed
        && expected != receipt.checksum
    {
        return Err(Refusal::ChecksumMismatch { expected, found: receipt.checksum });
    }
    if let Some(known) = open.receipts.get(&receipt.node) {
        return Err(Refusal::AlreadyRecorded { what: "receipt of this node", at: known.at });
    }
    // A second start of the active holder's files could create another generation of this number.
    if is_exclusive(domain)
        && domain.activity != Activity::None
        && domain.activity.active().is_none_or(|active| active.instance != key)
    {
        return Err(Refusal::NotActiveHolder { instance: key });
    }
    let attested = attest(state, envelope, key, &receipt.domain)?;
    check_keeper(state, &receipt.domain, &attested.result.measurement())?;
    Ok(Change::Receipt(receipt, attested))
}

/// Whether enough nodes hold an ordered generation.
///
/// As many as the policy's minimum, so that the new generation is never less safe than the
/// policy asks; and two thirds of the domain's nodes, as Oasis does, so that a generation becomes
/// the newest one only when losing a third of the fleet cannot take it away, and no node that
/// lags can be mistaken for the rule. The minimum counts platforms: what two nodes keep on one
/// machine goes with that machine. An exclusive domain has one holder, so one is all.
pub(crate) fn is_complete(state: &NetworkState, domain: &DomainId, open: &OpenOrder) -> bool {
    let Some(policy) = state.policy(domain) else { return false };
    let nodes = state.nodes_of(*domain).count();
    let receipts = || state.nodes_of(*domain).filter_map(|node| open.receipts.get(&node.node));
    let platforms: BTreeSet<_> = receipts().map(|receipt| receipt.result.platform()).collect();
    let two_thirds = nodes.saturating_mul(2).div_ceil(3);
    let minimum = usize::try_from(policy.holders_min).unwrap_or(usize::MAX);
    match policy.sharing {
        Sharing::Replicated => {
            receipts().count() >= two_thirds && platforms.len() >= minimum.max(1)
        }
        Sharing::Exclusive => !platforms.is_empty(),
    }
}

pub(crate) fn examine_challenge(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let unverified: Challenge = envelope.unverified().map_err(Refusal::Malformed)?;
    same_network(state, unverified.network)?;
    let agent = node_in(state, &unverified.verifier, &unverified.domain)?.agent;
    let (challenge, _) = verify_agent::<Challenge>(envelope, agent)?;
    let domain = with_policy(state, &challenge.domain)?;
    if let Some(known) = domain.challenges.get(&challenge.nonce) {
        return Err(Refusal::AlreadyRecorded { what: "challenge", at: known.at });
    }
    not_empty("challenge.targets", &challenge.targets)?;
    ascending("challenge.targets", &challenge.targets, CHALLENGE_TARGETS_MAX, Clone::clone)?;
    for target in &challenge.targets {
        node_in(state, target, &challenge.domain)?;
    }
    let zero = challenge.code.as_ref().is_some_and(Measurement::is_zero);
    require(!zero, "challenge.code", Fault::Zero)?;
    check_asking_step(state, &challenge)?;
    if domain.challenges.len() >= CHALLENGES_KEPT_MAX && forgettable(domain).is_none() {
        return Err(Refusal::Limit { what: "challenges", limit: CHALLENGES_KEPT_MAX });
    }
    Ok(Change::Challenge(challenge))
}

/// The oldest challenge that the domain's latest plan does not need. Forgetting is safe: if the
/// same challenge is made again, no old answer covers its new position in the log.
pub(crate) fn forgettable(domain: &DomainState) -> Option<Nonce> {
    let needed = |step: &PlanStep| Some(step.plan) == domain.plan;
    let others = domain.challenges.iter();
    others
        .filter(|(_, asked)| !asked.challenge.step.as_ref().is_some_and(needed))
        .min_by_key(|(_, asked)| asked.at)
        .map(|(nonce, _)| *nonce)
}

/// A challenge on behalf of a plan comes from the agent whose step it is, while the plan runs.
fn check_asking_step(state: &NetworkState, challenge: &Challenge) -> Result<(), Refusal> {
    let Some(asking) = &challenge.step else { return Ok(()) };
    let plan = current_plan(state, &asking.plan)?;
    match plan.status() {
        PlanStatus::Approved | PlanStatus::PastNoReturn | PlanStatus::RollingBack => {}
        status @ (PlanStatus::Proposed
        | PlanStatus::ApprovalLapsed
        | PlanStatus::Expired
        | PlanStatus::RolledBack
        | PlanStatus::Finished) => return Err(Refusal::PlanStatus { status }),
    }
    let step = asking.step;
    let found = plan.plan().step(step).ok_or(Refusal::UnknownStep { step })?;
    if plan.plan().domain != challenge.domain {
        return Err(Refusal::WrongStep { step, reason: "belongs to another domain" });
    }
    if found.node != challenge.verifier {
        return Err(Refusal::WrongStep { step, reason: "belongs to another node" });
    }
    let Action::Verify { targets, code, .. } = &found.action else {
        return Err(Refusal::WrongStep { step, reason: "does not verify anything" });
    };
    // Otherwise the answers of one seat would count for another one.
    require(*code == challenge.code, "challenge.code", Fault::Unexpected)?;
    let allowed: BTreeSet<&NodeId> = targets.iter().collect();
    let asked = challenge.targets.iter().all(|target| allowed.contains(target));
    require(asked, "challenge.targets", Fault::Unexpected)
}

/// Verifies a statement of one agent.
pub(crate) fn verify_agent<T: Statement>(
    envelope: &Envelope,
    agent: PublicKey,
) -> Result<(Verified<T>, PublicKey), Refusal> {
    verify_one(envelope, "agent", &[agent])
}

/// A domain whose policy in force has not expired.
pub(crate) fn with_policy<'a>(
    state: &'a NetworkState,
    domain: &DomainId,
) -> Result<&'a DomainState, Refusal> {
    let no_policy = Refusal::NoPolicy { domain: *domain };
    let known = state.domains.get(domain).ok_or_else(|| no_policy.clone())?;
    let policy = known.policy().ok_or(no_policy)?;
    not_expired(state, "policy", policy.not_after)?;
    Ok(known)
}
