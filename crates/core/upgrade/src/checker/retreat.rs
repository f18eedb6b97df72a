//! Aborts a plan in one line at every step before its point of no return, and walks back.

use std::collections::BTreeSet;

use heirloom_custody::holding::Seat;
use heirloom_model::plan::{Action, Placement, RollbackStep, Step, StepId};

use super::evidence::{Standing, judge};
use super::line::Line;
use super::world::World;
use super::{Fault, Report};

/// `worlds` has the world before each forward step.
pub(super) fn check(line: &Line<'_>, worlds: &[World], report: &mut Report) {
    let no_return = line.plan.point_of_no_return;
    for RollbackStep { step, undoes } in &line.plan.rollback {
        if *undoes > no_return {
            report.step(step.id, Fault::NeverNeeded { undoes: *undoes });
        }
    }
    let pairs = worlds.iter().zip(worlds.iter().skip(1));
    for (step, (before, after)) in line.plan.steps.iter().zip(pairs) {
        if step.id > no_return {
            return;
        }
        for world in cut_off(step, no_return, before, after) {
            if !walk(line, step.id, world, report) {
                // One way that fails says enough about this plan.
                return;
            }
        }
    }
}

/// The worlds in which an abort can find a step that was begun.
fn cut_off(step: &Step, no_return: StepId, before: &World, after: &World) -> Vec<World> {
    let mut worlds = vec![before.clone()];
    match &step.action {
        // The log that has an activation takes no abort any more.
        Action::Activate(_) if step.id == no_return => {}
        Action::Suspend(placement) => {
            // The instance has ended its service, and the log took the abort first.
            let mut half = before.clone();
            half.end_service(&Seat::new(&step.node, &placement.measurement));
            worlds.extend([half, after.clone()]);
        }
        _ => worlds.push(after.clone()),
    }
    worlds
}

/// Walks back from an abort at a step. Returns whether the way was sound.
fn walk(line: &Line<'_>, aborted_at: StepId, mut world: World, report: &mut Report) -> bool {
    let mut standing = Standing::default();
    world.called_off();
    let needed = line.plan.rollback.iter().filter(|back| back.undoes <= aborted_at);
    for step in needed.map(|back| &back.step) {
        if let Err(fault) = check_given_up(line, step, &world, &standing) {
            report.step(step.id, fault);
            return false;
        }
        if let Err(needed) = world.run(step) {
            let node = step.node.clone();
            report.step(step.id, Fault::BackUnexpected { node, aborted_at, needed });
            return false;
        }
        standing.follow(step, &world);
    }
    let old = &line.old;
    let recovered = world.proves(old) || world.is_sealed_again(old);
    let back = world.is_installed(old) && world.answers(old) && recovered;
    if !back {
        report.step(aborted_at, Fault::NoWayBack { node: old.node.clone() });
        return false;
    }
    // Beside the old one every seat is as it was: those of the plan are gone, and a target that
    // runs, runs without the keyring again.
    let (found, expected): (BTreeSet<Seat>, BTreeSet<Seat>) =
        (world.seats().collect(), line.before.seats().collect());
    if let Some(seat) = expected.difference(&found).next() {
        report.step(aborted_at, Fault::NoWayBack { node: seat.node.clone() });
        return false;
    }
    let extra = found.difference(&expected).next().cloned();
    let holder = || world.holders().into_iter().find(|seat| seat != old);
    if let Some(Seat { node, measurement: code }) =
        extra.or_else(holder).or_else(|| world.carried())
    {
        report.step(aborted_at, Fault::LeftBehind { node, code });
        return false;
    }
    true
}

/// On the way back the old seat proves first, after the abort; then the others give up.
fn check_given_up(
    line: &Line<'_>,
    step: &Step,
    world: &World,
    standing: &Standing,
) -> Result<(), Fault> {
    let at = |placement: &Placement| Seat::new(&step.node, &placement.measurement);
    let seat = match &step.action {
        Action::Stop(placement) | Action::Forget(placement) => at(placement),
        Action::Quarantine(code) => {
            // It was stopped with a proof of others; they have to stand still.
            let gone = Seat::new(&step.node, code);
            let safe = !world.has_keys(&gone) || standing.is_proven(&line.old);
            return if safe { Ok(()) } else { Err(Fault::BackWithoutProof) };
        }
        _ => return Ok(()),
    };
    if !world.has_keys(&seat) {
        return Ok(());
    }
    if seat == line.old || !standing.is_proven(&line.old) {
        return Err(Fault::BackWithoutProof);
    }
    judge(line, step, &seat, standing, &|asked| line.plan.is_rollback(asked.id))
}
