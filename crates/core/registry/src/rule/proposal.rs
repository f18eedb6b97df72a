//! Proposals: plans that are put forward.

use std::collections::BTreeSet;

use heirloom_model::envelope::Envelope;
use heirloom_model::limit::{NODES_MAX, STEPS_MAX};
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::plan::{Action, Gate, KeyringPlan, Placement, Plan, Proposal, Step, StepId};
use heirloom_model::policy::{HolderRole, Policy, Sharing, UpdateMode};
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_model::root::Role;
use heirloom_model::wire;

use super::custody::with_policy;
use super::fleet::node_in;
use super::{
    Change, Proposer, epoch_not_passed, is_next, not_expired, participant_plan, same_network,
    service_plan,
};
use crate::domain::DomainState;
use crate::network::NetworkState;
use crate::plan::Consent;
use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, not_empty, require};
use crate::verified::{Verified, verify_one};

pub(crate) fn examine(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let (proposal, proposer) = verify_proposer(state, envelope)?;
    same_network(state, proposal.network)?;
    let plan: Plan = wire::decode(&proposal.plan).map_err(Refusal::Malformed)?;
    same_network(state, plan.network)?;
    epoch_not_passed(state, "plan", plan.not_after)?;
    if let Some(holding) = state.holding_plan(&plan.domain) {
        return Err(Refusal::PlanUnderWay { plan: *holding.digest() });
    }
    let last = state.domain(&plan.domain).map_or(0, |domain| domain.plan_number.0);
    match (KeyringPlan::of(&plan), &plan.participant) {
        (Some(kept), None) => check_kept(state, kept, proposer, last)?,
        (None, Some(change)) => {
            is_next("plan", Some(last), 1, plan.number.0)?;
            check_shape(state, &plan)?;
            participant_plan::check(state, &plan, change, proposer.consent)?;
        }
        // A plan is about keys that must survive, or about keys that cannot move.
        (Some(_), Some(_)) | (None, None) => {
            return Err(Refusal::PlanMismatch { what: "keyring" });
        }
    }
    Ok(Change::Proposal(Box::new(plan), proposer))
}

/// A plan that concerns a keyring.
fn check_kept(
    state: &NetworkState,
    plan: KeyringPlan<'_>,
    proposer: Proposer,
    last: u64,
) -> Result<(), Refusal> {
    let domain = with_policy(state, &plan.domain)?;
    let policy = domain.policy().ok_or(Refusal::NoPolicy { domain: plan.domain })?;
    match proposer.consent {
        Consent::Operators => {}
        Consent::Policy => check_own_node(state, policy, &plan, proposer)?,
    }
    is_next("plan", Some(last), 1, plan.number.0)?;
    check_ground(domain, plan)?;
    check_shape(state, &plan)?;
    check_placements(state, policy, plan)?;
    service_plan::check(state, policy, plan)?;
    check_actions(state, policy, plan)?;
    check_successor(domain, policy, &plan)?;
    check_edges(policy, plan)?;
    match proposer.consent {
        Consent::Operators => Ok(()),
        // It is approved with this entry, so what approvals would wait for must hold now.
        Consent::Policy => check_no_rotation(state, domain),
    }
}

/// Verifies the one signature on a proposal: of an operator, or of some agent, of whom it remains
/// to be seen whether the policy consented in advance.
fn verify_proposer(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<(Verified<Proposal>, Proposer), Refusal> {
    let operators = state.quorum(Role::Operator)?;
    let agent = envelope.signatures.first().map(|made| made.key).filter(|key| {
        let nodes = state.fleet.iter().flat_map(|fleet| &fleet.nodes);
        !operators.keys.contains(key) && nodes.into_iter().any(|node| node.agent == *key)
    });
    let (consent, of, keys) = match &agent {
        None => (Consent::Operators, operators.of, operators.keys),
        Some(agent) => (Consent::Policy, "agent", std::slice::from_ref(agent)),
    };
    let (proposal, key) = verify_one::<Proposal>(envelope, of, keys)?;
    Ok((proposal, Proposer { key, consent }))
}

/// What the signers of the policy consented to in advance: an agent changes its own node, and
/// nothing else, with its own hands. Other nodes of the plan only prove that they hold.
fn check_own_node(
    state: &NetworkState,
    policy: &Policy,
    plan: &Plan,
    proposer: Proposer,
) -> Result<(), Refusal> {
    let refused = Refusal::UnknownSigner { key: proposer.key };
    match policy.update {
        // What clients notice, and what no single node can do alone, is never consented to in
        // advance.
        UpdateMode::Auto if plan.service.is_none() => {}
        UpdateMode::Auto | UpdateMode::Ask => return Err(refused),
    }
    let own = state.nodes_of(plan.domain).find(|node| node.agent == proposer.key);
    let own = &own.ok_or(refused)?.node;
    node_in(state, own, &plan.domain)?;
    let is_own = |step: &Step| {
        let donor = match &step.action {
            Action::HandOver { from_node, .. } => from_node,
            _ => own,
        };
        step.node == *own && donor == own
    };
    if plan.nodes.contains(own) && all_steps(plan).all(is_own) {
        return Ok(());
    }
    Err(Refusal::PlanMismatch { what: "nodes" })
}

/// The plan was made for the domain as it is: its policy, its keyring.
pub(crate) fn check_ground(domain: &DomainState, plan: KeyringPlan<'_>) -> Result<(), Refusal> {
    let mismatch = |what| Err(Refusal::PlanMismatch { what });
    let Some(policy) = domain.policy() else { return mismatch("policy") };
    if policy.serial != plan.keyring.policy {
        return mismatch("policy");
    }
    let Some(committed) = &domain.committed else { return mismatch("generation") };
    if committed.generation != plan.keyring.generation {
        return mismatch("generation");
    }
    if committed.checksum != plan.keyring.checksum {
        return mismatch("checksum");
    }
    if plan.keyring.holders_min < policy.holders_min {
        return mismatch("holders_min");
    }
    Ok(())
}

/// Refuses consent to a plan while a generation is ordered.
pub(crate) fn check_no_rotation(state: &NetworkState, domain: &DomainState) -> Result<(), Refusal> {
    match &domain.order {
        Some(open) if open.is_open(state.epoch) => {
            Err(Refusal::RotationUnderWay { generation: open.order.generation })
        }
        Some(_) | None => Ok(()),
    }
}

/// Every reference in the plan leads somewhere, and gates look back, never forward.
fn check_shape(state: &NetworkState, plan: &Plan) -> Result<(), Refusal> {
    not_empty("plan.nodes", &plan.nodes)?;
    ascending("plan.nodes", &plan.nodes, NODES_MAX, Clone::clone)?;
    for node in &plan.nodes {
        node_in(state, node, &plan.domain)?;
    }
    not_empty("plan.steps", &plan.steps)?;
    for found in [plan.steps.len(), plan.rollback.len()] {
        let fault = Fault::TooLong { found, limit: STEPS_MAX };
        require(found <= STEPS_MAX, "plan.steps", fault)?;
    }
    for (expected, step) in (0_u32..).zip(all_steps(plan)) {
        require(step.id == StepId(expected), "plan.steps.id", Fault::Unexpected)?;
        node_in(state, &step.node, &plan.domain)?;
        check_gates(step)?;
    }
    let is_forward = |step: StepId| !plan.is_rollback(step);
    for back in &plan.rollback {
        require(is_forward(back.undoes), "plan.rollback.undoes", Fault::Dangling)?;
    }
    let no_return = is_forward(plan.point_of_no_return);
    require(no_return, "plan.point_of_no_return", Fault::Dangling)
}

fn check_gates(step: &Step) -> Result<(), Refusal> {
    let looks_back = step.gates.iter().all(|gate| match gate {
        Gate::Done(before)
        | Gate::Proven { since: before, .. }
        | Gate::Waited { since: before, .. } => *before < step.id,
        Gate::AllDone { first, last }
        | Gate::Agreed { first, last }
        | Gate::Consented { first, last }
        | Gate::Concordant { first, last } => first <= last && *last < step.id,
        Gate::Registered { .. }
        | Gate::Epoch(_)
        | Gate::PolicyPublished(_)
        | Gate::Rehearsed { .. } => true,
    });
    require(looks_back, "plan.steps.gates", Fault::Dangling)
}

/// Forward steps, then those of the way back.
pub(crate) fn all_steps(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.steps.iter().chain(plan.rollback.iter().map(|back| &back.step))
}

/// Steps are about the code that the plan names, each in the role that it has there.
fn check_actions(
    state: &NetworkState,
    policy: &Policy,
    plan: KeyringPlan<'_>,
) -> Result<(), Refusal> {
    for step in all_steps(&plan) {
        let named = is_about(plan, &step.action);
        require(named, "plan.steps.action", Fault::Dangling)?;
        match &step.action {
            Action::Suspend(_) | Action::Activate(_) if policy.sharing != Sharing::Exclusive => {
                return Err(Refusal::NotExclusive { domain: plan.domain });
            }
            // Once the next holder is active, nothing puts the one before it back.
            Action::Activate(_) if !plan.is_rollback(step.id) => {
                let in_time = plan.point_of_no_return <= step.id;
                require(in_time, "plan.point_of_no_return", Fault::Unexpected)?;
            }
            Action::HandOver { from_node, from, to } => {
                node_in(state, from_node, &plan.domain)?;
                let moves = *from_node != step.node || from != to;
                require(moves, "plan.steps.action", Fault::Unexpected)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// While the active holder is suspended, only a plan says who is next. One that says nothing would
/// take the place of the last one that did, and of its way back.
fn check_successor(domain: &DomainState, policy: &Policy, plan: &Plan) -> Result<(), Refusal> {
    let activates = |step: &Step| matches!(step.action, Action::Activate(_));
    let orphaned = policy.sharing == Sharing::Exclusive
        && domain.activity.suspended().is_some()
        && !plan.steps.iter().any(activates);
    if orphaned { Err(Refusal::PlanMismatch { what: "active holder" }) } else { Ok(()) }
}

/// Whether an action is about code that the plan names, in a role that the action can have.
fn is_about(plan: KeyringPlan<'_>, action: &Action) -> bool {
    let keeper =
        |code: &Placement| plan.keyring.pairs().any(|(from, to)| *code == from || *code == to);
    // What is exchanged is one release for the other on one kind of platform.
    let exchanged = |one: &Placement, other: &Placement| {
        plan.keyring
            .pairs()
            .any(|(from, to)| (*one, *other) == (from, to) || (*one, *other) == (to, from))
    };
    let upgrader = |code: &Placement| plan.keyring.via.as_ref() == Some(code);
    let any = |code: &Placement| keeper(code) || upgrader(code);
    let measured = |code: &Measurement| {
        let via = plan.keyring.via.is_some_and(|via| via.measurement == *code);
        via || plan.keyring.is_from(code) || plan.keyring.is_to(code)
    };
    match action {
        Action::Prepare(code)
        | Action::Drain(code)
        | Action::Stop(code)
        | Action::Start(code)
        | Action::Restart(code)
        | Action::Reseal(code) => any(code),
        Action::HandOver { from, to, .. } => any(from) && any(to),
        Action::Suspend(code) | Action::Activate(code) | Action::Replicate { to: code, .. } => {
            keeper(code)
        }
        Action::Install { expect, install } => exchanged(expect, install),
        Action::Forget(code) => upgrader(code),
        Action::Quarantine(code) | Action::Restore(code) | Action::Preserve(code) => measured(code),
        Action::Verify { code, .. } => code.as_ref().is_none_or(measured),
        Action::Withdraw(_) => true,
        // Those of a service are looked at with the service.
        Action::Service(_) | Action::Commit => plan.service.is_some(),
        Action::Participant(_) => false,
    }
}

/// The releases exist, launch to what the plan says, and the policy gives their code the role that
/// it has in the plan. What is started anew has not expired, and no plan makes anything older.
fn check_placements(
    state: &NetworkState,
    policy: &Policy,
    plan: KeyringPlan<'_>,
) -> Result<(), Refusal> {
    let mismatch = |what| Err(Refusal::PlanMismatch { what });
    let keeper = (ReleaseKind::Keeper, HolderRole::Keeper);
    let upgrader = (ReleaseKind::Upgrader, HolderRole::Upgrader);
    let from = known_release(state, policy, &plan.keyring.from, keeper)?;
    let to = known_release(state, policy, &plan.keyring.to, keeper)?;
    check_kinds(plan)?;
    for (from, to) in plan.keyring.pairs() {
        known_release(state, policy, &from, keeper)?;
        known_release(state, policy, &to, keeper)?;
    }
    // Where a service changes, no keeper is started anew.
    if plan.service.is_none() {
        not_expired(state, "release", to.not_after)?;
    }
    if let Some(via) = &plan.keyring.via {
        let via = known_release(state, policy, via, upgrader)?;
        not_expired(state, "release", via.not_after)?;
    }
    if to.security_version < from.security_version {
        return mismatch("security version");
    }
    let installs = |step: &Step| matches!(step.action, Action::Install { .. });
    if plan.keyring.from.release == plan.keyring.to.release && all_steps(&plan).any(installs) {
        return mismatch("edge");
    }
    Ok(())
}

/// What both releases are on other kinds of platform is sorted, and each kind is there once.
fn check_kinds(plan: KeyringPlan<'_>) -> Result<(), Refusal> {
    const OTHERS: &str = "plan.keyring.others";
    let others = &plan.keyring.others;
    ascending(OTHERS, others, TeeKind::ALL.len(), |pair| *pair)?;
    let mut kinds = BTreeSet::from([plan.keyring.from.measurement.kind()]);
    for pair in others {
        let distinct = pair.from.kind() == pair.to.kind() && kinds.insert(pair.from.kind());
        require(distinct, OTHERS, Fault::Unexpected)?;
    }
    Ok(())
}

/// The release of a placement, which is what the plan takes it for.
fn known_release<'a>(
    state: &'a NetworkState,
    policy: &Policy,
    placement: &Placement,
    (kind, role): (ReleaseKind, HolderRole),
) -> Result<&'a Release, Refusal> {
    let Placement { release, measurement } = placement;
    let unknown = Refusal::UnknownRelease { release: *release };
    let found = state.releases.get(release).ok_or(unknown)?;
    if found.kind != kind || !found.measurements.contains(measurement) {
        return Err(Refusal::PlanMismatch { what: "release" });
    }
    match policy.holder(measurement) {
        None => Err(Refusal::PlanMismatch { what: "edge" }),
        Some(rule) if rule.role != role => Err(Refusal::PlanMismatch { what: "role" }),
        Some(_) => Ok(found),
    }
}

/// The policy names every edge along which the keyring goes: each hop of a handover, which goes
/// one way, and for replication the edge and the way back.
fn check_edges(policy: &Policy, plan: KeyringPlan<'_>) -> Result<(), Refusal> {
    let unnamed = Refusal::PlanMismatch { what: "edge" };
    let mut hands_over = false;
    let mut replicates = false;
    for step in all_steps(&plan) {
        match &step.action {
            Action::HandOver { from, to, .. } => {
                hands_over = true;
                if !policy.names_edge(&from.measurement, &to.measurement) {
                    return Err(unnamed);
                }
            }
            Action::Replicate { .. } => replicates = true,
            _ => {}
        }
    }
    if hands_over && !replicates {
        return Ok(());
    }
    let pairs = || plan.keyring.pairs().map(|(from, to)| (from.measurement, to.measurement));
    let named = pairs().all(|(from, to)| {
        pairs().all(|(other_from, other_to)| {
            // Nodes of one kind copy from nodes of another where anything is copied.
            let meet = replicates || from == other_from;
            !meet
                || (policy.names_edge(&from, &other_to)
                    && policy.names_edge(&to, &other_from)
                    && policy.names_edge(&from, &other_from)
                    && policy.names_edge(&to, &other_to))
        })
    });
    if named { Ok(()) } else { Err(unnamed) }
}
