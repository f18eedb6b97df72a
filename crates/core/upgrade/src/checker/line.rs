//! Walks a plan whose steps stand in one line: seats, one after the other.
//!
//! Because every step waits for the one before it, there is exactly one world before each step,
//! and exactly one place at which an abort can come.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_custody::holding::Seat;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Gate, KeyringPlan, Placement, Step, StepId};
use heirloom_model::policy::Sharing;

use super::evidence::{Standing, judge};
use super::survey::waits_for;
use super::world::{Activity, World};
use super::{Fault, Report, edges, forward, retreat};
use crate::inventory::Inventory;

/// What the checks look up.
pub(super) struct Line<'a> {
    pub(super) plan: KeyringPlan<'a>,
    pub(super) inventory: &'a Inventory,
    /// The seat that holds before the plan.
    pub(super) old: Seat,
    /// The seat that holds after it.
    pub(super) heir: Seat,
    /// The world before the first step.
    pub(super) before: World,
}

pub(super) fn check(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    check_one_line(plan, report);
    check_nodes(plan, inventory, report);
    check_placements(plan, report);
    edges::check(plan, inventory, report);
    check_withdrawal(plan, inventory, report);
    let Some(line) = Line::of(plan, inventory, report) else { return };
    if let Some(worlds) = walk(&line, report) {
        check_no_return(&line, report);
        retreat::check(&line, &worlds, report);
    }
}

impl<'a> Line<'a> {
    fn of(plan: KeyringPlan<'a>, inventory: &'a Inventory, report: &mut Report) -> Option<Self> {
        let given = plan.steps.iter().find_map(|step| match &step.action {
            Action::HandOver { from_node, from, .. } if *from == plan.keyring.from => {
                Some(from_node)
            }
            _ => None,
        });
        let received = plan.steps.iter().rev().find_map(|step| match &step.action {
            Action::HandOver { to, .. } if *to == plan.keyring.to => Some(&step.node),
            _ => None,
        });
        let sealed = plan.steps.iter().find_map(|step| match &step.action {
            Action::Reseal(placement) if *placement == plan.keyring.from => Some(&step.node),
            _ => None,
        });
        let (Some(first), Some(last)) = (given.or(sealed), received.or(sealed)) else {
            report.plan(Fault::NothingChanges);
            return None;
        };
        let old = Seat::new(first, &plan.keyring.from.measurement);
        let heir = Seat::new(last, &plan.keyring.to.measurement);
        if old == heir && sealed.is_none() {
            report.plan(Fault::NothingChanges);
            return None;
        }
        let activity = match (inventory.policy.sharing, &inventory.active) {
            (Sharing::Replicated, _) => Activity::Shared,
            (Sharing::Exclusive, Some((node, code))) if Seat::new(node, code) == old => {
                Activity::Active(old.clone())
            }
            (Sharing::Exclusive, _) => {
                let (node, measurement) = (old.node.clone(), old.measurement);
                report.plan(Fault::NotTheActive { node, measurement });
                return None;
            }
        };
        let back = plan.rollback.iter().map(|back| &back.step);
        // A receiver of the same release runs it already, on a platform of its own kind.
        let runs = |node: &NodeId| {
            let stays = plan.keyring.from.release == plan.keyring.to.release && node == last;
            if stays { heir.measurement } else { old.measurement }
        };
        let acting = plan.steps.iter().chain(back).map(|step| &step.node);
        let nodes = acting.map(|node| (node.clone(), runs(node))).collect();
        let holding = BTreeSet::from([first.clone()]);
        let carrier = plan.keyring.via.map(|via| via.measurement);
        let before = World::before(&nodes, &holding, activity, carrier);
        Some(Self { plan, inventory, old, heir, before })
    }
}

/// Every step waits for the one before it, forward and back, and there are no waves.
fn check_one_line(plan: KeyringPlan<'_>, report: &mut Report) {
    let back: Vec<&Step> = plan.rollback.iter().map(|back| &back.step).collect();
    let forward: Vec<&Step> = plan.steps.iter().collect();
    for pair in forward.windows(2).chain(back.windows(2)) {
        let [before, step] = pair else { continue };
        if !waits_for(step, before.id) {
            report.step(step.id, Fault::LooseStep { before: before.id });
        }
    }
    for step in forward.into_iter().chain(back).filter(|step| step.wave != 0) {
        let (node, found) = (step.node.clone(), step.wave);
        report.step(step.id, Fault::WrongWave { node, expected: 0, found });
    }
}

/// The plan lists its nodes in order, known ones, and everybody who acts or proves is one of
/// them: copies are counted over them.
fn check_nodes(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    let wrong = |node: &NodeId| Fault::WrongNodes { node: node.clone() };
    for pair in plan.nodes.windows(2) {
        if let [left, right] = pair
            && left >= right
        {
            report.plan(wrong(right));
        }
    }
    if let Some(node) = plan.nodes.iter().find(|node| inventory.node(node).is_none()) {
        report.plan(wrong(node));
    }
    let listed: BTreeSet<&NodeId> = plan.nodes.iter().collect();
    for step in plan.steps.iter().chain(plan.rollback.iter().map(|back| &back.step)) {
        let targets: &[NodeId] = match &step.action {
            Action::Verify { targets, .. } => targets,
            Action::HandOver { from_node, .. } => std::slice::from_ref(from_node),
            _ => &[],
        };
        let holders = step.gates.iter().flat_map(|gate| match gate {
            Gate::Proven { holders, .. } => holders.as_slice(),
            _ => &[],
        });
        let named = std::iter::once(&step.node).chain(targets).chain(holders);
        if let Some(node) = named.into_iter().find(|node| !listed.contains(node)) {
            report.step(step.id, Fault::ForeignNode { node: node.clone() });
        }
    }
}

/// Steps name the plan's placements and no others. A seat is of one kind of platform, so there is
/// one placement before and one after.
fn check_placements(plan: KeyringPlan<'_>, report: &mut Report) {
    if !plan.keyring.others.is_empty() {
        report.plan(Fault::ForeignPlacement);
    }
    let known: Vec<Placement> =
        [plan.keyring.from, plan.keyring.to].into_iter().chain(plan.keyring.via).collect();
    let back = plan.rollback.iter().map(|back| &back.step);
    for step in plan.steps.iter().chain(back) {
        let (placements, code): (Vec<Placement>, Option<Measurement>) = match &step.action {
            Action::Prepare(at)
            | Action::Drain(at)
            | Action::Stop(at)
            | Action::Start(at)
            | Action::Restart(at)
            | Action::Suspend(at)
            | Action::Activate(at)
            | Action::Forget(at)
            | Action::Reseal(at)
            | Action::Replicate { to: at, .. } => (vec![*at], None),
            Action::Install { expect, install } => (vec![*expect, *install], None),
            Action::HandOver { from, to, .. } => (vec![*from, *to], None),
            Action::Quarantine(code) | Action::Restore(code) | Action::Preserve(code) => {
                (Vec::new(), Some(*code))
            }
            Action::Verify { code, .. } => (Vec::new(), *code),
            Action::Withdraw(_) | Action::Service(_) | Action::Commit | Action::Participant(_) => {
                (Vec::new(), None)
            }
        };
        let foreign = placements.iter().any(|at| !known.contains(at));
        if foreign || code.is_some_and(|code| known.iter().all(|at| at.measurement != code)) {
            report.step(step.id, Fault::ForeignPlacement);
        }
        // The upgrader is never what a node starts by itself.
        let carrier = |at: &Placement| Some(*at) == plan.keyring.via;
        let kept = matches!(step.action, Action::Install { .. }) && placements.iter().any(carrier);
        if kept {
            report.step(step.id, Fault::ForeignPlacement);
        }
    }
}

/// Rights may be withdrawn, once and last.
fn check_withdrawal(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    for step in &plan.steps {
        let Action::Withdraw(serial) = step.action else { continue };
        if plan.steps.last().is_none_or(|last| last.id != step.id) {
            report.step(step.id, Fault::EarlyWithdrawal);
        }
        forward::check_serial(step, serial, inventory, report);
    }
}

/// Walks forward. Returns the world before each step, and the one after the last; none if the
/// walk could not be finished.
fn walk(line: &Line<'_>, report: &mut Report) -> Option<Vec<World>> {
    let plan = line.plan;
    let mut world = line.before.clone();
    let mut standing = Standing::default();
    let mut worlds = vec![world.clone()];
    let mut before: Option<&Step> = None;
    let mut taken = None;
    for step in &plan.steps {
        check_switch(step, before, report);
        check_given_up(line, step, (&world, &standing), taken, report);
        check_donor(step, &standing, report);
        if stops_holder(step, &world) {
            taken = Some(step.id);
        }
        if let Err(needed) = world.run(step) {
            let node = step.node.clone();
            report.step(step.id, Fault::Unexpected { node, needed });
            return None;
        }
        standing.follow(step, &world);
        worlds.push(world.clone());
        before = Some(step);
    }
    check_end(line, &world, &standing, taken, report);
    Some(worlds)
}

/// Whether a step stops an instance that has the keyring.
fn stops_holder(step: &Step, world: &World) -> bool {
    matches!(&step.action, Action::Stop(at)
        if world.has_keys(&Seat::new(&step.node, &at.measurement)))
}

/// Between the two statements nobody answers, so nothing else happens in between.
fn check_switch(step: &Step, before: Option<&Step>, report: &mut Report) {
    let suspends = |step: &Step| matches!(step.action, Action::Suspend(_));
    let activates = matches!(step.action, Action::Activate(_));
    if before.is_some_and(suspends) != activates {
        report.step(step.id, Fault::Interposed);
    }
}

/// Before a copy is given up, or stops answering, every other copy has been proven, and custody
/// agrees that it may go.
fn check_given_up(
    line: &Line<'_>,
    step: &Step,
    (world, standing): (&World, &Standing),
    taken: Option<StepId>,
    report: &mut Report,
) {
    let at = |placement: &Placement| Seat::new(&step.node, &placement.measurement);
    let (seat, since) = match &step.action {
        Action::Suspend(placement) | Action::Stop(placement) => (at(placement), None),
        // What was proven before a seat stopped says little about what is left after it.
        Action::Forget(placement) => (at(placement), taken),
        Action::Quarantine(code) => (Seat::new(&step.node, code), taken),
        Action::Preserve(code) => {
            if !standing.is_proven(&Seat::new(&step.node, code)) {
                report.step(step.id, Fault::GivenUpWithoutProof);
            }
            return;
        }
        _ => return,
    };
    if let Action::Forget(_) = step.action {
        check_delay(line, step, report);
    }
    if !world.has_keys(&seat) {
        return;
    }
    let others = world.holders();
    let unproven = others.iter().find(|other| **other != seat && !standing.is_proven(other));
    if let Some(other) = unproven {
        report.step(step.id, Fault::Unproven { node: other.node.clone(), code: other.measurement });
    }
    if !standing.is_proven(&line.heir) {
        report.step(step.id, Fault::GivenUpWithoutProof);
    }
    let fresh = |asked: &Step| since.is_none_or(|since| asked.id > since);
    if let Err(fault) = judge(line, step, &seat, standing, &fresh) {
        report.step(step.id, fault);
    }
}

/// An upgrader keeps its copy for as long as the policy says.
fn check_delay(line: &Line<'_>, step: &Step, report: &mut Report) {
    let no_return = line.plan.point_of_no_return;
    let needed = line.inventory.policy.forget_after_epochs;
    let waits = |gate: &Gate| {
        matches!(gate, Gate::Waited { since, epochs }
            if *since >= no_return && *epochs >= needed)
    };
    if step.id <= no_return || !(step.gates.iter().any(waits)) {
        report.step(step.id, Fault::ForgottenEarly { needed });
    }
}

/// Only what was proven is given on.
fn check_donor(step: &Step, standing: &Standing, report: &mut Report) {
    let Action::HandOver { from_node, from, .. } = &step.action else { return };
    if !standing.is_proven(&Seat::new(from_node, &from.measurement)) {
        let (node, code) = (from_node.clone(), from.measurement);
        report.step(step.id, Fault::Unproven { node, code });
    }
}

/// At the end one seat holds, answers, and has proven it since everything else stopped.
fn check_end(
    line: &Line<'_>,
    world: &World,
    standing: &Standing,
    taken: Option<StepId>,
    report: &mut Report,
) {
    let Line { plan, old, heir, .. } = line;
    let node = heir.node.clone();
    let proven = standing.proven_at(heir);
    let late = proven.is_some_and(|asked| taken.is_none_or(|taken| asked > taken));
    let resealed = old != heir || world.is_sealed_again(heir);
    if !late || !world.is_installed(heir) || !world.answers(heir) || !resealed {
        report.plan(Fault::NotUpgraded { node });
    }
    let others = world.seats().filter(|seat| seat != heir);
    for seat in others.chain(world.carried()).collect::<BTreeSet<_>>() {
        report.plan(Fault::LeftBehind { node: seat.node, code: seat.measurement });
    }
    let names = plan.steps.iter().filter(|step| matches!(step.action, Action::HandOver { .. }));
    let mut receivers = BTreeMap::<Seat, StepId>::new();
    for step in names {
        let Action::HandOver { to, .. } = &step.action else { continue };
        let seat = Seat::new(&step.node, &to.measurement);
        if receivers.insert(seat, step.id).is_some() {
            report.step(step.id, Fault::ChangedTwice { node: step.node.clone() });
        }
    }
}

/// The way back stays open for as long as it can: until the next holder is the active one, or
/// until the old one has stopped.
fn check_no_return(line: &Line<'_>, report: &mut Report) {
    let Line { plan, old, heir, .. } = line;
    let activates = |step: &&Step| {
        matches!(&step.action, Action::Activate(at)
            if step.node == heir.node && at.measurement == heir.measurement)
    };
    let stops = |step: &&Step| {
        matches!(&step.action, Action::Stop(at)
            if step.node == old.node && at.measurement == old.measurement)
    };
    let activation = plan.steps.iter().find(activates);
    let earliest =
        activation.or_else(|| plan.steps.iter().find(stops)).or_else(|| plan.steps.last());
    let Some(expected) = earliest.map(|step| step.id) else { return };
    let found = plan.point_of_no_return;
    if found < expected || (activation.is_some() && found != expected) {
        report.plan(Fault::WrongNoReturn { found, expected });
    }
}
