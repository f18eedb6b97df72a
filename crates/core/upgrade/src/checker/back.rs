//! Aborts at every moment, and walks every node back.

use std::collections::BTreeSet;

use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, KeyringPlan, Placement, RollbackStep, Step};

use super::forward::{best_gate, check_sources, is_of, judge_proofs};
use super::host::Host;
use super::survey::{Survey, Surveyed, waits_for};
use super::{Fault, Report};

pub(super) fn check(survey: &Survey<'_>, report: &mut Report) {
    for node in &survey.nodes {
        check_steps(survey, node, report);
        check_aborts(survey, node, report);
    }
}

/// Checks the steps as they stand.
fn check_steps(survey: &Survey<'_>, surveyed: &Surveyed<'_>, report: &mut Report) {
    let codes = survey.codes(&surveyed.node.node);
    let mut before: Option<&Step> = None;
    for RollbackStep { step, .. } in surveyed.back.iter().copied() {
        if let Some(before) = before.filter(|before| !waits_for(step, before.id)) {
            report.step(step.id, Fault::LooseStep { before: before.id });
        }
        if !names_the_way_back(survey.plan, codes, &step.action) {
            report.step(step.id, Fault::ForeignPlacement);
        }
        match &step.action {
            Action::Stop(_) => check_stop(survey, surveyed, step, report),
            Action::Replicate { sources, .. } => {
                check_sources(survey, surveyed, step.id, sources, report);
            }
            _ => {}
        }
        before = Some(step);
    }
    let returned = |last: &&RollbackStep| proves_itself(&last.step, &codes.0.measurement);
    if !surveyed.back.last().is_some_and(returned) {
        report.plan(Fault::BackNotVerified { node: surveyed.node.node.clone() });
    }
}

/// Whether a node asks its own keeper, and no other code than the old one may answer.
fn proves_itself(step: &Step, old: &Measurement) -> bool {
    matches!(&step.action, Action::Verify { targets, code, .. }
        if targets.as_slice() == [step.node.clone()] && code.is_none_or(|code| code == *old))
}

/// Steps of the way back put the plan's old release in place of its new one, as both are on the
/// node's kind of platform.
fn names_the_way_back(
    plan: KeyringPlan<'_>,
    (from, to): (Placement, Placement),
    action: &Action,
) -> bool {
    match action {
        Action::Stop(placement) => *placement == to,
        Action::Quarantine(measurement) => *measurement == to.measurement,
        Action::Install { expect, install } => *expect == to && *install == from,
        Action::Restore(measurement) => *measurement == from.measurement,
        Action::Start(placement)
        | Action::Restart(placement)
        | Action::Replicate { to: placement, .. } => *placement == from,
        // Whoever proves on the way back does so with one of the two releases.
        Action::Verify { code, .. } => code.is_none_or(|code| is_of(plan, &code)),
        Action::Prepare(_)
        | Action::Drain(_)
        | Action::Withdraw(_)
        | Action::HandOver { .. }
        | Action::Suspend(_)
        | Action::Activate(_)
        | Action::Forget(_)
        | Action::Preserve(_)
        | Action::Reseal(_)
        | Action::Service(_)
        | Action::Commit
        | Action::Participant(_) => false,
    }
}

/// A new instance may already be one of the proven holders. Before it stops, others must prove:
/// nodes of earlier waves, which do not stop before this one is back, or nodes of later waves
/// that are back already and stay.
fn check_stop(survey: &Survey<'_>, surveyed: &Surveyed<'_>, stop: &Step, report: &mut Report) {
    let fresh = |asked: &Step| survey.plan.is_rollback(asked.id);
    let away = BTreeSet::from([surveyed.node.node.clone()]);
    let judged = best_gate(stop, |gate| {
        judge_proofs(survey, surveyed, stop, gate, &fresh, &away)?;
        check_circle(survey, surveyed, stop, gate)
    });
    match judged {
        None => report.step(stop.id, Fault::BackWithoutProof),
        Some(Err(fault)) => report.step(stop.id, fault),
        Some(Ok(())) => {}
    }
}

fn check_circle(
    survey: &Survey<'_>,
    surveyed: &Surveyed<'_>,
    stop: &Step,
    gate: &heirloom_model::plan::Gate,
) -> Result<(), Fault> {
    let heirloom_model::plan::Gate::Proven { holders, since, .. } = gate else {
        return Err(Fault::BackWithoutProof);
    };
    let asked = survey.plan.step(*since);
    for node in holders {
        let Some(witness) = survey.surveyed(node) else { continue };
        if witness.wave != 0 && witness.wave < surveyed.wave {
            continue;
        }
        let returned = witness.back.last().is_some_and(|last| {
            let id = last.step.id;
            waits_for(stop, id) || asked.is_some_and(|asked| waits_for(asked, id))
        });
        if !returned {
            return Err(Fault::BackCircle { node: node.clone() });
        }
    }
    Ok(())
}

/// Cuts the node off before, in and after every one of its forward steps.
fn check_aborts(survey: &Survey<'_>, surveyed: &Surveyed<'_>, report: &mut Report) {
    let node = &surveyed.node.node;
    let (from, _) = survey.codes(node);
    let mut reached = Host::holding(from.measurement);
    for step in &surveyed.forward {
        let mut taken_effect = reached.clone();
        if taken_effect.run(&step.action).is_err() {
            // The walk forward reports it.
            return;
        }
        // The step was begun; whether it has taken effect is not known.
        for mut host in [reached, taken_effect.clone()] {
            for back in surveyed.back.iter().filter(|back| back.undoes <= step.id) {
                // The way back must not depend on anybody who can give the keyring.
                if matches!(back.step.action, Action::Replicate { .. }) {
                    continue;
                }
                if let Err(needed) = host.run(&back.step.action) {
                    let (node, aborted_at) = (node.clone(), step.id);
                    let fault = Fault::BackUnexpected { node, aborted_at, needed };
                    return report.step(back.step.id, fault);
                }
            }
            if !host.proves(from.measurement) {
                return report.step(step.id, Fault::NoWayBack { node: node.clone() });
            }
        }
        reached = taken_effect;
    }
}
