//! A migration, told to people.

use std::collections::BTreeSet;
use std::fmt;

use heirloom_model::counter::Epoch;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::SURVEY_EPOCHS_MAX;
use heirloom_model::participant::{ParticipantChange, ParticipantMove, PartyKind};
use heirloom_model::plan::{Action, Gate, ParticipantAction, Plan, Step, StepId};
use heirloom_registry::network::NetworkState;

use super::words::names;
use crate::calendar::{End, Entry, Expiring, Verdict};
use crate::inventory::InventoryError;
use crate::inventory::participants::Participants;
use crate::planner::migration::LOST;

/// A migration, told to people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MigrationStory {
    /// What the plan is about, in sentences.
    pub summary: Vec<String>,
    /// What must be said aloud, in sentences.
    pub warnings: Vec<String>,
    /// What moves.
    pub moves: Vec<MoveStory>,
    /// The forward steps.
    pub steps: Vec<StepStory>,
    /// The way back.
    pub rollback: Vec<StepStory>,
    /// The point of no return.
    pub point_of_no_return: StepId,
    /// What does not move.
    pub lost: Vec<&'static str>,
    /// What expires, against the end of the plan.
    pub calendar: Vec<Entry>,
}

/// One participant that moves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MoveStory {
    /// The node.
    pub node: NodeId,
    /// In sentences.
    pub told: Vec<String>,
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StepStory {
    /// The step.
    pub step: StepId,
    /// Whose agent carries it out.
    pub node: NodeId,
    /// What it does.
    pub action: &'static str,
    /// What must hold first.
    pub gates: Vec<String>,
    /// On the way back: needed if this forward step may have begun.
    pub undoes: Option<StepId>,
}

/// Explains a migration against the log.
pub fn explain(plan: &Plan, state: &NetworkState) -> Result<MigrationStory, InventoryError> {
    let change = plan.participant.as_ref().ok_or(InventoryError::NoParticipant)?;
    Ok(explain_from(plan, change, &Participants::of(state, &plan.domain)?))
}

/// Explains a migration against what its nodes found out.
pub fn explain_from(
    plan: &Plan,
    change: &ParticipantChange,
    known: &Participants,
) -> MigrationStory {
    let row = |step: &Step, undoes: Option<StepId>| StepStory {
        step: step.id,
        node: step.node.clone(),
        action: match &step.action {
            Action::Participant(found) => action(*found),
            Action::Commit => "commit: from here on nobody calls the migration off",
            other => other.name(),
        },
        gates: step.gates.iter().map(gate).collect(),
        undoes,
    };
    MigrationStory {
        summary: summary(plan, change),
        warnings: warnings(plan, change, known),
        moves: change.moves.iter().map(|moved| told(moved, known)).collect(),
        steps: plan.steps.iter().map(|step| row(step, None)).collect(),
        rollback: plan.rollback.iter().map(|back| row(&back.step, Some(back.undoes))).collect(),
        point_of_no_return: plan.point_of_no_return,
        lost: LOST.to_vec(),
        calendar: calendar(plan, known),
    }
}

fn counted(participants: usize) -> String {
    match participants {
        1 => "1 participant".to_owned(),
        several => format!("{several} participants"),
    }
}

fn summary(plan: &Plan, change: &ParticipantChange) -> Vec<String> {
    let (domain, number) = (plan.domain, plan.number);
    let parties: usize = change.moves.iter().map(|moved| moved.parties.len()).sum();
    let mut told = vec![
        format!(
            "migration of {} of domain {domain}, plan number {number}: {}",
            counted(change.moves.len()),
            names(&plan.nodes)
        ),
        format!(
            "keys cannot move: {parties} parties get new names, and every contract that names one \
             gets a new id"
        ),
        format!("the window opens with epoch {}", change.opens),
    ];
    let last = change.abort_after.unwrap_or(plan.not_after);
    told.push(format!(
        "after epoch {last} the plan is called off by itself, unless it is committed"
    ));
    let first = |wanted: ParticipantAction| {
        plan.steps.iter().find(|step| step.action == Action::Participant(wanted)).map(|it| it.id)
    };
    if let (Some(quiet), Some(connect)) =
        (first(ParticipantAction::Quiesce), first(ParticipantAction::Connect))
    {
        told.push(format!(
            "closed from step {quiet} to step {connect}: neither source nor target answers"
        ));
    }
    told.push(format!(
        "the point of no return is step {}: before it an abort disconnects the target, takes out \
         what was imported and connects the source again, after it there is only forward",
        plan.point_of_no_return
    ));
    told
}

fn warnings(plan: &Plan, change: &ParticipantChange, known: &Participants) -> Vec<String> {
    let mut told = Vec::new();
    let asks =
        |wanted: fn(&Gate) -> bool| plan.steps.iter().any(|step| step.gates.iter().any(wanted));
    if !asks(|gate| matches!(gate, Gate::Consented { .. })) {
        told.push("no operator is asked to agree to the party map".to_owned());
    }
    let operators: BTreeSet<_> =
        plan.nodes.iter().filter_map(|node| known.node(node)).map(|node| &node.operator).collect();
    if operators.len() == 1 {
        told.push("one operator runs every participant of this plan".to_owned());
    }
    if change.abort_after.is_none_or(|last| last >= plan.not_after) {
        told.push(
            "the plan is called off with its last epoch only: a plan that is made then stops the \
             way back of this one, and sources stay away"
                .to_owned(),
        );
    }
    told.push("nothing is rehearsed by this plan: try it on a test network first".to_owned());
    told
}

fn told(moved: &ParticipantMove, known: &Participants) -> MoveStory {
    let mut told = vec![
        format!(
            "{} (version {}) moves to a participant of version {} whose keys are in {}",
            moved.source, moved.source_version, moved.target_version, moved.custodian
        ),
        format!("{} parties get a new name", moved.parties.len()),
    ];
    told.extend(
        moved
            .routes
            .iter()
            .filter(|route| route.from != route.to)
            .map(|route| format!("contracts of synchronizer {} go to {}", route.from, route.to)),
    );
    if let Some(seen) = known.surveys.get(&moved.node) {
        let found = &seen.found;
        let external = found.parties.iter().filter(|party| party.kind == PartyKind::External);
        told.push(format!(
            "in epoch {} it had {} contracts, {} packages and {} parties of others in them",
            seen.epoch,
            found.contracts,
            found.packages,
            found.foreign.len()
        ));
        let external = external.count();
        if external > 0 {
            told.push(format!("{external} parties sign for themselves and keep their names"));
        }
        told.extend(
            found.remarks.iter().map(|remark| format!("{}: {}", remark.weight.name(), remark.text)),
        );
    }
    MoveStory { node: moved.node.clone(), told }
}

/// What a step does to the participants of its node.
pub(super) fn action(action: ParticipantAction) -> &'static str {
    match action {
        ParticipantAction::Survey => "look at source and target once more",
        ParticipantAction::Enroll => "make the target's keys, and give it its name",
        ParticipantAction::Allocate => "let the target host the parties under their new names",
        ParticipantAction::Supply => "give the target every package of the source",
        ParticipantAction::Quiesce => "disconnect the source, and state where its ledger ends",
        ParticipantAction::Export => "take a snapshot of the source",
        ParticipantAction::Rewrite => "put the new names into the snapshot, and verify it",
        ParticipantAction::Safeguard => "copy the target's store",
        ParticipantAction::Import => "import the rewritten snapshot into the target",
        ParticipantAction::Connect => "connect the target",
        ParticipantAction::Reconcile => {
            "compare the target's contracts, and let its custodian sign"
        }
        ParticipantAction::Settle => "let the target connect by itself; the source stays as it is",
        ParticipantAction::Disconnect => "disconnect the target",
        ParticipantAction::Purge => "take what was imported out of the target",
        ParticipantAction::Reconnect => "connect the source as it was connected before",
    }
}

/// What must hold first.
fn gate(gate: &Gate) -> String {
    match gate {
        Gate::Done(before) => format!("step {before} done"),
        Gate::AllDone { first, last } if first == last => format!("step {first} done"),
        Gate::AllDone { first, last } => format!("steps {first} to {last} done on every node"),
        Gate::Epoch(epoch) => format!("epoch {epoch} reached"),
        Gate::Consented { first, last } => {
            format!("every operator agreed to the party map stated in steps {first} to {last}")
        }
        Gate::Concordant { first, last } => format!(
            "one party map, and the same contracts where parties of two nodes stand together, \
             stated in steps {first} to {last}"
        ),
        // The registry takes no migration with one of these.
        Gate::Proven { .. }
        | Gate::Registered { .. }
        | Gate::PolicyPublished(_)
        | Gate::Waited { .. }
        | Gate::Agreed { .. }
        | Gate::Rehearsed { .. } => "something that no migration waits for".to_owned(),
    }
}

/// What expires: by epochs alone, since nothing here rests on attestation.
fn calendar(plan: &Plan, known: &Participants) -> Vec<Entry> {
    let by_epoch = |what, end: Epoch| {
        let verdict = match () {
            () if known.epoch > end => Verdict::Expired,
            () if plan.not_after > end => Verdict::TooEarly,
            () => Verdict::Outlives,
        };
        Entry { what, end: End::Epoch(end), verdict }
    };
    let by_time = |what, end| {
        let verdict = if known.now > end { Verdict::Expired } else { Verdict::Unknown };
        Entry { what, end: End::Time(end), verdict }
    };
    let mut entries = vec![
        by_epoch(Expiring::Plan, plan.not_after),
        by_time(Expiring::Root, known.root_not_after),
        by_time(Expiring::Fleet, known.fleet_not_after),
    ];
    for (position, end) in known.approvals.iter().enumerate() {
        entries.push(by_epoch(Expiring::Approval(position), *end));
    }
    for node in &plan.nodes {
        // A survey need not outlive the plan: its own steps look again.
        if let Some(seen) = known.surveys.get(node) {
            let end = Epoch(seen.epoch.0.saturating_add(SURVEY_EPOCHS_MAX));
            let verdict = if known.epoch > end { Verdict::Expired } else { Verdict::Outlives };
            let what = Expiring::Survey(node.clone());
            entries.push(Entry { what, end: End::Epoch(end), verdict });
        }
    }
    entries.sort_by(|left, right| (left.verdict, &left.what).cmp(&(right.verdict, &right.what)));
    entries
}

impl fmt::Display for MigrationStory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.summary {
            writeln!(f, "{line}")?;
        }
        for line in &self.warnings {
            writeln!(f, "warning: {line}")?;
        }
        for moved in &self.moves {
            writeln!(f, "\n{}", moved.node)?;
            for line in &moved.told {
                writeln!(f, "  {line}")?;
            }
        }
        writeln!(f, "\nsteps")?;
        for step in &self.steps {
            let mark = if step.step == self.point_of_no_return { " (no return)" } else { "" };
            writeln!(f, "  {:>4}  {:<12} {}{mark}", step.step.0, step.node, step.action)?;
            for gate in &step.gates {
                writeln!(f, "        waits for: {gate}")?;
            }
        }
        writeln!(f, "\nway back")?;
        for step in &self.rollback {
            writeln!(f, "  {:>4}  {:<12} {}", step.step.0, step.node, step.action)?;
            if let Some(undoes) = step.undoes {
                writeln!(f, "        if step {undoes} may have begun")?;
            }
        }
        writeln!(f, "\ndoes not move")?;
        for line in &self.lost {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "\nexpires")?;
        for entry in &self.calendar {
            writeln!(f, "  {}: {}, {}", entry.what, entry.end, entry.verdict.name())?;
        }
        Ok(())
    }
}
