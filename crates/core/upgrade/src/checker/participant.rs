//! Plans that move participants: what moves is what nodes found, everybody is asked before anything
//! of theirs gets a new name, and nobody uses source and target at once.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::identifier::NodeId;
use heirloom_model::limit::{PARTICIPANTS_MAX, SURVEY_EPOCHS_MAX};
use heirloom_model::participant::{ParticipantChange, ParticipantMove};
use heirloom_model::plan::{Action, Gate, ParticipantAction, Plan, RollbackStep, Step, StepId};

use super::service::reach::Reach;
use super::{Fault, Report, order};
use crate::inventory::participants::Participants;

/// What a node does, in this order, each once.
const ORDER: [ParticipantAction; 12] = [
    ParticipantAction::Survey,
    ParticipantAction::Enroll,
    ParticipantAction::Allocate,
    ParticipantAction::Supply,
    ParticipantAction::Quiesce,
    ParticipantAction::Export,
    ParticipantAction::Rewrite,
    ParticipantAction::Safeguard,
    ParticipantAction::Import,
    ParticipantAction::Connect,
    ParticipantAction::Reconcile,
    ParticipantAction::Settle,
];

/// What must have happened on every node before a step of any.
const BARRIERS: [(ParticipantAction, ParticipantAction, &str); 7] = [
    (
        ParticipantAction::Supply,
        ParticipantAction::Allocate,
        "operators agree to the names that every target has",
    ),
    (
        ParticipantAction::Quiesce,
        ParticipantAction::Supply,
        "no source leaves before every target is ready",
    ),
    (
        ParticipantAction::Export,
        ParticipantAction::Quiesce,
        "a contract that two sources have changes until both are quiet",
    ),
    (
        ParticipantAction::Safeguard,
        ParticipantAction::Rewrite,
        "nothing is imported before all snapshots are compared",
    ),
    (
        ParticipantAction::Connect,
        ParticipantAction::Import,
        "who connects first meets targets without their contracts",
    ),
    (
        ParticipantAction::Settle,
        ParticipantAction::Reconcile,
        "one target that is wrong calls all of them off",
    ),
    (
        ParticipantAction::Settle,
        ParticipantAction::Connect,
        "one target that does not connect calls all of them off",
    ),
];

/// What the way back does, in this order, and what each undoes.
const RETREAT: [(ParticipantAction, ParticipantAction); 3] = [
    (ParticipantAction::Disconnect, ParticipantAction::Connect),
    (ParticipantAction::Purge, ParticipantAction::Import),
    (ParticipantAction::Reconnect, ParticipantAction::Quiesce),
];

pub(super) fn check(
    plan: &Plan,
    change: &ParticipantChange,
    known: &Participants,
    report: &mut Report,
) {
    if plan.keyring.is_some() || plan.service.is_some() {
        report.plan(Fault::OtherGround);
    }
    check_identity(plan, known, report);
    check_window(plan, change, known, report);
    check_moves(plan, change, known, report);
    if !order::check(plan, plan.nodes.iter(), report) {
        return;
    }
    check_belongs(plan, report);
    let reach = Reach::of(plan);
    let steps = by_kind(plan, report);
    check_lines(plan, &steps, &reach, report);
    check_barriers(&steps, &reach, report);
    check_asked(plan, known, &steps, report);
    check_opening(change, &steps, report);
    check_commit(plan, &steps, &reach, report);
    check_retreat(plan, &steps, report);
}

/// The steps of each kind, by node.
type Steps<'a> = BTreeMap<ParticipantAction, BTreeMap<&'a NodeId, &'a Step>>;

fn check_identity(plan: &Plan, known: &Participants, report: &mut Report) {
    if plan.network != known.network {
        report.plan(Fault::OtherNetwork);
    }
    if known.has_keepers {
        report.plan(Fault::HasKeepers { domain: known.domain });
    }
    let is_proposed = known.holding_plan.is_some_and(|holding| holding == plan.digest());
    let expected = match (is_proposed, known.plan_number.next()) {
        (true, _) | (false, None) => known.plan_number,
        (false, Some(next)) => next,
    };
    if plan.number != expected {
        report.plan(Fault::WrongNumber { expected, found: plan.number });
    }
    if let Some(holding) = known.holding_plan.filter(|_| !is_proposed) {
        report.plan(Fault::PlanActive { plan: holding });
    }
    if known.epoch > plan.not_after {
        report.plan(Fault::Ended { not_after: plan.not_after, epoch: known.epoch });
    }
    let (found, limit) = (plan.nodes.len(), PARTICIPANTS_MAX);
    if found > limit {
        report.plan(Fault::TooLarge { what: "nodes", found, limit });
    }
}

fn check_window(
    plan: &Plan,
    change: &ParticipantChange,
    known: &Participants,
    report: &mut Report,
) {
    let not_after = plan.not_after;
    let (opens, last) = (change.opens, change.abort_after.unwrap_or(not_after));
    if opens > last || last > not_after || last < known.epoch {
        report.plan(Fault::WrongMoveWindow { opens, last, not_after });
    }
}

fn check_moves(plan: &Plan, change: &ParticipantChange, known: &Participants, report: &mut Report) {
    let named = change.moves.iter().map(|moved| &moved.node);
    if plan.nodes.is_empty() || !named.eq(&plan.nodes) || !plan.nodes.is_sorted() {
        let node = plan.nodes.first().or(change.moves.first().map(|moved| &moved.node));
        if let Some(node) = node.cloned() {
            report.plan(Fault::WrongNodes { node });
        } else {
            report.plan(Fault::NothingChanges);
        }
    }
    let mut sources = BTreeMap::new();
    let mut parties = BTreeMap::new();
    for moved in &change.moves {
        check_survey(moved, change, known, report);
        let mut twice = |other: Option<&NodeId>, what| {
            if let Some(other) = other {
                let (node, other) = (moved.node.clone(), other.clone());
                report.plan(Fault::MovedTwice { node, other, what });
            }
        };
        twice(sources.insert(&moved.source, &moved.node), "participant");
        for party in &moved.parties {
            twice(parties.insert(party, &moved.node), "party");
        }
    }
}

fn check_survey(
    moved: &ParticipantMove,
    change: &ParticipantChange,
    known: &Participants,
    report: &mut Report,
) {
    let node = || moved.node.clone();
    if known.node(&moved.node).is_none() {
        report.plan(Fault::WrongNodes { node: node() });
    }
    let fresh = known.epoch.0.saturating_sub(SURVEY_EPOCHS_MAX);
    let seen = known.surveys.get(&moved.node).filter(|seen| seen.epoch.0 >= fresh);
    let Some(seen) = seen else {
        report.plan(Fault::NotSurveyed { node: node() });
        return;
    };
    if let Some(what) = moved.difference(&seen.found) {
        report.plan(Fault::SurveyDiffers { node: node(), what });
    }
    if let Some(remark) = seen.found.blocks().next() {
        report.plan(Fault::SurveyBlocks { node: node(), remark: remark.to_owned() });
    }
    let sources: BTreeSet<_> = change.moves.iter().map(|other| &other.source).collect();
    for foreign in &seen.found.foreign {
        let elsewhere = foreign.hosts.iter().find(|host| !sources.contains(host));
        let participant = match (elsewhere, foreign.hosts.is_empty()) {
            (Some(host), _) => host.to_string(),
            (None, true) => "nobody who is known".to_owned(),
            (None, false) => continue,
        };
        let party = foreign.party.clone();
        report.plan(Fault::ForeignParty { node: node(), party, participant });
    }
}

/// Nothing else happens in such a plan.
fn check_belongs(plan: &Plan, report: &mut Report) {
    let back = plan.rollback.iter().map(|back| (&back.step, true));
    for (step, is_back) in plan.steps.iter().map(|step| (step, false)).chain(back) {
        let fits = match &step.action {
            Action::Participant(action) => action.is_back() == is_back,
            Action::Commit => !is_back,
            _ => false,
        };
        let awaited = step.gates.iter().all(|gate| match gate {
            Gate::Done(_)
            | Gate::AllDone { .. }
            | Gate::Epoch(_)
            | Gate::Consented { .. }
            | Gate::Concordant { .. } => true,
            Gate::Proven { .. }
            | Gate::Registered { .. }
            | Gate::PolicyPublished(_)
            | Gate::Waited { .. }
            | Gate::Agreed { .. }
            | Gate::Rehearsed { .. } => false,
        });
        if !fits || !awaited || step.wave != 0 {
            report.step(step.id, Fault::NotOfParticipants);
        }
    }
}

fn by_kind<'a>(plan: &'a Plan, report: &mut Report) -> Steps<'a> {
    let mut steps = Steps::new();
    let mut counts: BTreeMap<(&NodeId, ParticipantAction), usize> = BTreeMap::new();
    let back = plan.rollback.iter().map(|back| &back.step);
    for step in plan.steps.iter().chain(back) {
        if let Action::Participant(action) = step.action {
            *counts.entry((&step.node, action)).or_default() += 1;
            steps.entry(action).or_default().insert(&step.node, step);
        }
    }
    for node in &plan.nodes {
        for action in ORDER.into_iter().chain(RETREAT.map(|(action, _)| action)) {
            let found = counts.get(&(node, action)).copied().unwrap_or_default();
            if found != 1 {
                let (node, action) = (node.clone(), action.name());
                report.plan(Fault::NotOnce { node, action, found });
            }
        }
    }
    steps
}

/// Each node does one thing after the other.
fn check_lines(plan: &Plan, steps: &Steps<'_>, reach: &Reach, report: &mut Report) {
    for node in &plan.nodes {
        for pair in ORDER.windows(2) {
            let own = |action| steps.get(action).and_then(|of| of.get(node));
            if let [before, action] = pair
                && let (Some(before), Some(step)) = (own(before), own(action))
                && !reach.is_after(step.id, before.id)
            {
                report.step(step.id, Fault::LooseStep { before: before.id });
            }
        }
    }
}

fn check_barriers(steps: &Steps<'_>, reach: &Reach, report: &mut Report) {
    for (action, before, rule) in BARRIERS {
        let of = |action| steps.get(&action).into_iter().flatten().map(|(_, step)| *step);
        for step in of(action) {
            if let Some(open) = of(before).find(|before| !reach.is_after(step.id, before.id)) {
                report.step(step.id, Fault::TooSoon { before: open.id, rule });
            }
        }
    }
}

/// The steps of one kind, if they stand in one row without a hole.
fn row(steps: &Steps<'_>, action: ParticipantAction) -> Option<(StepId, StepId)> {
    let of = steps.get(&action)?;
    let first = of.values().map(|step| step.id).min()?;
    let last = of.values().map(|step| step.id).max()?;
    let span = usize::try_from(last.0.checked_sub(first.0)?).ok()?;
    (span.checked_add(1)? == of.len()).then_some((first, last))
}

/// Other operators are asked, about all of it. Nobody is, where one moves by himself.
fn check_asked(plan: &Plan, known: &Participants, steps: &Steps<'_>, report: &mut Report) {
    let operators: BTreeSet<_> =
        plan.nodes.iter().filter_map(|node| known.node(node)).map(|node| &node.operator).collect();
    if plan.nodes.len() < 2 && operators.len() < 2 {
        return check_ranges(plan, steps, report);
    }
    for operator in operators {
        if !known.keys.contains_key(operator) {
            report.plan(Fault::MuteOperator { operator: operator.clone() });
        }
    }
    let all = |action| steps.get(&action).into_iter().flatten().map(|(_, step)| *step);
    let nowhere = (StepId(0), StepId(0));
    let (first, last) = row(steps, ParticipantAction::Allocate).unwrap_or(nowhere);
    for step in all(ParticipantAction::Supply) {
        if !step.gates.contains(&Gate::Consented { first, last }) {
            report.step(step.id, Fault::NotConsented { first, last });
        }
    }
    let (first, last) = row(steps, ParticipantAction::Rewrite).unwrap_or(nowhere);
    for step in all(ParticipantAction::Safeguard) {
        if !step.gates.contains(&Gate::Concordant { first, last }) {
            report.step(step.id, Fault::NotConcordant { first, last });
        }
    }
    check_ranges(plan, steps, report);
}

/// A gate about fewer nodes than all would leave somebody out.
fn check_ranges(plan: &Plan, steps: &Steps<'_>, report: &mut Report) {
    let allocate = row(steps, ParticipantAction::Allocate);
    let rewrite = row(steps, ParticipantAction::Rewrite);
    let back = plan.rollback.iter().map(|back| &back.step);
    for step in plan.steps.iter().chain(back) {
        for gate in &step.gates {
            match *gate {
                Gate::Consented { first, last } if allocate != Some((first, last)) => {
                    report.step(step.id, Fault::NotConsented { first, last });
                }
                Gate::Concordant { first, last } if rewrite != Some((first, last)) => {
                    report.step(step.id, Fault::NotConcordant { first, last });
                }
                _ => {}
            }
        }
    }
}

fn check_opening(change: &ParticipantChange, steps: &Steps<'_>, report: &mut Report) {
    for step in steps.get(&ParticipantAction::Quiesce).into_iter().flatten().map(|(_, step)| step) {
        let opens = |gate: &Gate| matches!(gate, Gate::Epoch(epoch) if *epoch >= change.opens);
        if !step.gates.iter().any(opens) {
            report.step(step.id, Fault::BeforeWindow { opens: change.opens });
        }
    }
}

/// One commit, itself behind every comparison, and nothing settles before it.
fn check_commit(plan: &Plan, steps: &Steps<'_>, reach: &Reach, report: &mut Report) {
    let commits: Vec<&Step> =
        plan.steps.iter().filter(|step| step.action == Action::Commit).collect();
    let [commit] = commits.as_slice() else { return report.plan(Fault::NoMoveCommit) };
    if commit.id != plan.point_of_no_return {
        report.step(commit.id, Fault::NoMoveCommit);
    }
    for needed in steps.get(&ParticipantAction::Reconcile).into_iter().flatten() {
        if !reach.is_after(commit.id, needed.1.id) {
            report.step(commit.id, Fault::CommitWithout { needed: needed.1.id });
        }
    }
    for (_, settle) in steps.get(&ParticipantAction::Settle).into_iter().flatten() {
        if !reach.is_after(settle.id, commit.id) {
            report.step(settle.id, Fault::NoMoveCommit);
        }
    }
    for step in plan.steps.iter().filter(|step| step.id > commit.id) {
        if step.action != Action::Participant(ParticipantAction::Settle) {
            report.step(step.id, Fault::NoMoveCommit);
        }
    }
}

/// Each node goes back by itself: the target leaves, what was imported goes, the source returns.
fn check_retreat(plan: &Plan, steps: &Steps<'_>, report: &mut Report) {
    for node in &plan.nodes {
        let mut before: Option<StepId> = None;
        for (action, undone) in RETREAT {
            let forward = steps.get(&undone).and_then(|of| of.get(node)).map(|step| step.id);
            let fits = |back: &&RollbackStep| {
                back.step.node == *node && back.step.action == Action::Participant(action)
            };
            let Some(back) = plan.rollback.iter().find(fits) else {
                let (node, action) = (node.clone(), undone.name());
                report.plan(Fault::NoRetreat { node, action });
                continue;
            };
            if Some(back.undoes) != forward {
                let (node, action) = (node.clone(), undone.name());
                report.step(back.step.id, Fault::NoRetreat { node, action });
            }
            let alone: Vec<Gate> = before.map(Gate::Done).into_iter().collect();
            if back.step.gates != alone {
                report.step(back.step.id, Fault::BackWaits { node: node.clone() });
            }
            before = Some(back.step.id);
        }
    }
}
