//! Proposals that move participants: no keyring, fresh surveys, and steps after which nobody uses
//! source and target at once.

use std::collections::BTreeSet;

use heirloom_model::limit::{
    PARTICIPANT_PARTIES_MAX, PARTICIPANTS_MAX, SURVEY_EPOCHS_MAX, SYNCHRONIZERS_MAX,
};
use heirloom_model::participant::{ParticipantChange, ParticipantMove};
use heirloom_model::party::ParticipantId;
use heirloom_model::plan::{Action, Gate, ParticipantAction, Plan, Step, StepId};

use super::epoch_not_passed;
use super::proposal::all_steps;
use super::service_plan::waits_for;
use crate::network::NetworkState;
use crate::plan::Consent;
use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, not_empty, require};

const ACTION: &str = "plan.steps.action";
const GATES: &str = "plan.steps.gates";
const BACK: &str = "plan.rollback.action";

/// Everything that a plan says about participants.
pub(crate) fn check(
    state: &NetworkState,
    plan: &Plan,
    change: &ParticipantChange,
    consent: Consent,
) -> Result<(), Refusal> {
    let mismatch = |what| Err(Refusal::PlanMismatch { what });
    match consent {
        Consent::Operators => {}
        // Names of parties are everybody's business; no policy consents to new ones.
        Consent::Policy => return mismatch("proposer"),
    }
    if plan.service.is_some() {
        return mismatch("service");
    }
    // Where a keyring is, nodes have keepers, and plans look after it.
    if state.domain(&plan.domain).is_some_and(|domain| domain.published().0 > 0) {
        return Err(Refusal::HasKeyring { domain: plan.domain });
    }
    check_epochs(state, plan, change)?;
    check_moves(state, plan, change)?;
    check_steps(plan)?;
    check_gates(plan)?;
    check_opening(plan, change)?;
    check_commit(plan)?;
    check_retreat(plan)
}

fn check_epochs(
    state: &NetworkState,
    plan: &Plan,
    change: &ParticipantChange,
) -> Result<(), Refusal> {
    let last = change.abort_after.unwrap_or(plan.not_after);
    epoch_not_passed(state, "abort deadline", last)?;
    require(change.opens <= last, "plan.participant.opens", Fault::OutOfRange)?;
    require(last <= plan.not_after, "plan.participant.abort_after", Fault::OutOfRange)
}

/// What moves is what the nodes found out themselves, not long ago.
fn check_moves(
    state: &NetworkState,
    plan: &Plan,
    change: &ParticipantChange,
) -> Result<(), Refusal> {
    let fault = Fault::TooLong { found: plan.nodes.len(), limit: PARTICIPANTS_MAX };
    require(plan.nodes.len() <= PARTICIPANTS_MAX, "plan.nodes", fault)?;
    let alike = change.moves.iter().map(|moved| &moved.node).eq(&plan.nodes);
    require(alike, "plan.participant.moves", Fault::Unexpected)?;
    let mut sources = BTreeSet::new();
    let mut parties = BTreeSet::new();
    for moved in &change.moves {
        check_lists(moved)?;
        let distinct = sources.insert(&moved.source);
        require(distinct, "plan.participant.moves.source", Fault::NotDistinct)?;
        // One party on two sources would get two names.
        let distinct = moved.parties.iter().all(|party| parties.insert(party));
        require(distinct, "plan.participant.moves.parties", Fault::NotDistinct)?;
        check_survey(state, moved)?;
    }
    for moved in &change.moves {
        check_hosts(state, moved, &sources)?;
    }
    Ok(())
}

fn check_lists(moved: &ParticipantMove) -> Result<(), Refusal> {
    let (routes, parties) = ("plan.participant.moves.routes", "plan.participant.moves.parties");
    not_empty(routes, &moved.routes)?;
    ascending(routes, &moved.routes, SYNCHRONIZERS_MAX, |route| route.from.clone())?;
    ascending(parties, &moved.parties, PARTICIPANT_PARTIES_MAX, Clone::clone)?;
    let admin = moved.source.admin_party();
    require(!moved.parties.contains(&admin), parties, Fault::Unexpected)
}

fn check_survey(state: &NetworkState, moved: &ParticipantMove) -> Result<(), Refusal> {
    let node = || moved.node.clone();
    let seen = state.survey(&moved.node).ok_or_else(|| Refusal::NotSurveyed { node: node() })?;
    let oldest = state.epoch().0.saturating_sub(SURVEY_EPOCHS_MAX);
    if seen.epoch().0 < oldest {
        return Err(Refusal::SurveyOld { node: node(), found: seen.epoch(), epoch: state.epoch() });
    }
    let found = &seen.survey().found;
    if let Some(what) = moved.difference(found) {
        return Err(Refusal::SurveyDiffers { node: node(), what });
    }
    if found.blocks().next().is_some() {
        return Err(Refusal::SurveyBlocks { node: node() });
    }
    Ok(())
}

/// Whoever hosts a party that stands in the contracts gets them under its new names too.
fn check_hosts(
    state: &NetworkState,
    moved: &ParticipantMove,
    sources: &BTreeSet<&ParticipantId>,
) -> Result<(), Refusal> {
    let Some(seen) = state.survey(&moved.node) else { return Ok(()) };
    for foreign in &seen.survey().found.foreign {
        let moves =
            !foreign.hosts.is_empty() && foreign.hosts.iter().all(|it| sources.contains(it));
        if !moves {
            let (node, party) = (moved.node.clone(), foreign.party.clone());
            return Err(Refusal::ForeignParty { node, party });
        }
    }
    Ok(())
}

/// The plan changes nothing but participants, and each node does each thing once.
fn check_steps(plan: &Plan) -> Result<(), Refusal> {
    let mut known = BTreeSet::new();
    for step in all_steps(plan) {
        let fits = match &step.action {
            Action::Participant(action) => {
                action.is_back() == plan.is_rollback(step.id) && known.insert((&step.node, *action))
            }
            Action::Commit => !plan.is_rollback(step.id),
            _ => false,
        };
        require(fits, ACTION, Fault::Unexpected)?;
        require(plan.nodes.contains(&step.node), "plan.steps.node", Fault::Dangling)?;
    }
    Ok(())
}

/// Nodes state one thing at a time, and all of them are asked: a range with a hole would leave
/// a node out.
fn check_gates(plan: &Plan) -> Result<(), Refusal> {
    for step in all_steps(plan) {
        for gate in &step.gates {
            let fits = match gate {
                Gate::Consented { first, last } => {
                    covers(plan, *first, *last, ParticipantAction::Allocate)
                }
                Gate::Concordant { first, last } => {
                    covers(plan, *first, *last, ParticipantAction::Rewrite)
                }
                Gate::Done(_) | Gate::AllDone { .. } | Gate::Epoch(_) => true,
                Gate::Proven { .. }
                | Gate::Registered { .. }
                | Gate::PolicyPublished(_)
                | Gate::Waited { .. }
                | Gate::Agreed { .. }
                | Gate::Rehearsed { .. } => false,
            };
            require(fits, GATES, Fault::Unexpected)?;
        }
        check_asked(plan, step)?;
    }
    Ok(())
}

/// No source leaves its synchronizers before the window opens.
fn check_opening(plan: &Plan, change: &ParticipantChange) -> Result<(), Refusal> {
    let opens = |gate: &Gate| matches!(gate, Gate::Epoch(epoch) if *epoch >= change.opens);
    let quiesce = Action::Participant(ParticipantAction::Quiesce);
    let leaves = plan.steps.iter().filter(|step| step.action == quiesce);
    let in_time = leaves.into_iter().all(|step| step.gates.iter().any(opens));
    require(in_time, GATES, Fault::OutOfRange)
}

/// Whether exactly one step of each node, and no other step, is in a range.
fn covers(plan: &Plan, first: StepId, last: StepId, action: ParticipantAction) -> bool {
    let nodes = u32::try_from(plan.nodes.len()).unwrap_or(u32::MAX);
    let wanted = Some(Action::Participant(action));
    let all = (first.0..=last.0)
        .all(|id| plan.step(StepId(id)).map(|step| step.action.clone()) == wanted);
    last.0.checked_sub(first.0).is_some_and(|span| span < nodes && span.saturating_add(1) == nodes)
        && all
}

/// Other operators are asked before anything of theirs gets a new name, and before anything is
/// imported.
fn check_asked(plan: &Plan, step: &Step) -> Result<(), Refusal> {
    if plan.nodes.len() < 2 {
        return Ok(());
    }
    let asks = match &step.action {
        Action::Participant(ParticipantAction::Supply) => {
            step.gates.iter().any(|gate| matches!(gate, Gate::Consented { .. }))
        }
        Action::Participant(ParticipantAction::Safeguard) => {
            step.gates.iter().any(|gate| matches!(gate, Gate::Concordant { .. }))
        }
        _ => true,
    };
    require(asks, GATES, Fault::Unexpected)
}

/// The plan ends its way back with one commit, after every target was compared; nothing connects by
/// itself before. What a step needs to know is stated before it.
///
/// What is left to the checker, which every operator runs before approving: that a block of all
/// nodes waits for the whole block before it. A step that runs before another node is ready finds
/// something missing and is called off, and nothing is lost by that; a commit would be for good.
fn check_commit(plan: &Plan) -> Result<(), Refusal> {
    let commits = plan.steps.iter().filter(|step| step.action == Action::Commit).count();
    let end = plan.step(plan.point_of_no_return).map(|step| &step.action);
    let once = commits == 1 && end == Some(&Action::Commit);
    require(once, "plan.point_of_no_return", Fault::Unexpected)?;
    let before = all_before(plan, plan.point_of_no_return);
    for node in &plan.nodes {
        // The steps of a node wait for each other, so this one stands for all before it.
        let compared = plan.participant_step(node, ParticipantAction::Reconcile);
        let compared = compared.ok_or(Refusal::Shape { field: ACTION, fault: Fault::Dangling })?;
        require(before.contains(&compared), GATES, Fault::Unexpected)?;
        let settles = plan.participant_step(node, ParticipantAction::Settle).is_some();
        require(settles, ACTION, Fault::Dangling)?;
    }
    let behind = BTreeSet::from([plan.point_of_no_return]);
    for step in &plan.steps {
        let Action::Participant(action) = step.action else { continue };
        if action == ParticipantAction::Settle {
            require(waits_for(step, &behind), GATES, Fault::Unexpected)?;
            continue;
        }
        require(step.id < plan.point_of_no_return, "plan.point_of_no_return", Fault::Unexpected)?;
        let Some(before) = needs(action) else { continue };
        let before = plan.participant_step(&step.node, before);
        let before = before.ok_or(Refusal::Shape { field: ACTION, fault: Fault::Dangling })?;
        require(waits_for(step, &BTreeSet::from([before])), GATES, Fault::Unexpected)?;
    }
    Ok(())
}

/// Every forward step that a step waits for, over others too. Each step is looked at once.
fn all_before(plan: &Plan, step: StepId) -> BTreeSet<StepId> {
    let mut unseen: BTreeSet<StepId> = plan.steps.iter().map(|step| step.id).collect();
    let mut before = BTreeSet::new();
    let mut open = vec![step];
    while let Some(next) = open.pop() {
        for gate in plan.step(next).iter().flat_map(|step| &step.gates) {
            let (first, last) = match gate {
                Gate::Done(done) => (*done, *done),
                Gate::AllDone { first, last } if first <= last => (*first, *last),
                _ => continue,
            };
            let found: Vec<StepId> = unseen.range(first..=last).copied().collect();
            for step in found {
                unseen.remove(&step);
                before.insert(step);
                open.push(step);
            }
        }
    }
    before
}

/// The way back of a node: what it does, in this order, and which of its own steps each undoes.
const RETREAT: [(ParticipantAction, ParticipantAction); 3] = [
    (ParticipantAction::Disconnect, ParticipantAction::Connect),
    (ParticipantAction::Purge, ParticipantAction::Import),
    (ParticipantAction::Reconnect, ParticipantAction::Quiesce),
];

/// Each node can go back, and by itself: it waits for nobody but its own step before.
fn check_retreat(plan: &Plan) -> Result<(), Refusal> {
    for node in &plan.nodes {
        let mut before: Option<StepId> = None;
        for (action, undone) in RETREAT {
            let wanted = Action::Participant(action);
            let found = plan
                .rollback
                .iter()
                .find(|back| back.step.node == *node && back.step.action == wanted);
            let back = found.ok_or(Refusal::Shape { field: BACK, fault: Fault::Dangling })?;
            let undoes = plan.participant_step(node, undone) == Some(back.undoes);
            require(undoes, "plan.rollback.undoes", Fault::Unexpected)?;
            let alone: Vec<Gate> = before.map(Gate::Done).into_iter().collect();
            require(back.step.gates == alone, GATES, Fault::Unexpected)?;
            before = Some(back.step.id);
        }
    }
    Ok(())
}

/// What a node has done before, whatever else it waits for.
fn needs(action: ParticipantAction) -> Option<ParticipantAction> {
    match action {
        ParticipantAction::Enroll => Some(ParticipantAction::Survey),
        ParticipantAction::Allocate => Some(ParticipantAction::Enroll),
        ParticipantAction::Supply => Some(ParticipantAction::Allocate),
        ParticipantAction::Quiesce => Some(ParticipantAction::Supply),
        ParticipantAction::Export => Some(ParticipantAction::Quiesce),
        ParticipantAction::Rewrite => Some(ParticipantAction::Export),
        ParticipantAction::Safeguard => Some(ParticipantAction::Rewrite),
        ParticipantAction::Import => Some(ParticipantAction::Safeguard),
        ParticipantAction::Connect => Some(ParticipantAction::Import),
        ParticipantAction::Reconcile => Some(ParticipantAction::Connect),
        ParticipantAction::Survey
        | ParticipantAction::Settle
        | ParticipantAction::Disconnect
        | ParticipantAction::Purge
        | ParticipantAction::Reconnect => None,
    }
}
