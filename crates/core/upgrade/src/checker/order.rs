//! Whether every reference leads somewhere, and nothing waits for itself.

use std::collections::BTreeSet;

use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, Plan, Step, StepId};

use super::{Fault, Report};

/// Returns whether the plan can be walked at all.
pub(super) fn check<'n>(
    plan: &Plan,
    nodes: impl Iterator<Item = &'n NodeId>,
    report: &mut Report,
) -> bool {
    let before = report.findings.len();
    let members: BTreeSet<&NodeId> = nodes.collect();
    let forward = plan.steps.iter();
    let steps = forward.chain(plan.rollback.iter().map(|back| &back.step));
    for (place, step) in (0_u32..).zip(steps) {
        if step.id != StepId(place) {
            report.step(step.id, Fault::WrongStepNumber);
        }
        check_members(step, &members, report);
        for gate in &step.gates {
            check_gate(plan, step, gate, &members, report);
        }
    }
    for back in &plan.rollback {
        let undone = plan.step(back.undoes).filter(|_| !plan.is_rollback(back.undoes));
        if undone.is_none_or(|undone| undone.node != back.step.node) {
            report.step(back.step.id, Fault::UndoesForeign { undoes: back.undoes });
        }
    }
    report.findings.len() == before
}

fn check_members(step: &Step, members: &BTreeSet<&NodeId>, report: &mut Report) {
    let others: &[NodeId] = match &step.action {
        Action::Verify { targets, .. } => targets,
        Action::Replicate { sources, .. } => sources,
        Action::HandOver { from_node, .. } => std::slice::from_ref(from_node),
        Action::Prepare(_)
        | Action::Drain(_)
        | Action::Stop(_)
        | Action::Quarantine(_)
        | Action::Restore(_)
        | Action::Install { .. }
        | Action::Start(_)
        | Action::Restart(_)
        | Action::Withdraw(_)
        | Action::Suspend(_)
        | Action::Activate(_)
        | Action::Forget(_)
        | Action::Preserve(_)
        | Action::Reseal(_)
        | Action::Service(_)
        | Action::Commit
        | Action::Participant(_) => &[],
    };
    foreign(step.id, std::iter::once(&step.node).chain(others), members, report);
    if let Action::Verify { targets, need, .. } = &step.action {
        let distinct: BTreeSet<&NodeId> = targets.iter().collect();
        let possible = u32::try_from(distinct.len()).unwrap_or(u32::MAX);
        if *need > possible || *need == 0 {
            report.step(step.id, Fault::Unsatisfiable { need: *need, possible });
        }
    }
}

fn check_gate(
    plan: &Plan,
    step: &Step,
    gate: &Gate,
    members: &BTreeSet<&NodeId>,
    report: &mut Report,
) {
    match gate {
        Gate::Done(to) | Gate::Waited { since: to, .. } => {
            check_reference(plan, step, *to, report);
        }
        Gate::Proven { holders, since, .. } => {
            check_reference(plan, step, *since, report);
            foreign(step.id, holders, members, report);
        }
        Gate::Registered { node, .. } => foreign(step.id, [node], members, report),
        Gate::Epoch(epoch) if *epoch > plan.not_after => {
            let (epoch, not_after) = (*epoch, plan.not_after);
            report.step(step.id, Fault::EpochAfterEnd { epoch, not_after });
        }
        Gate::AllDone { first, last }
        | Gate::Agreed { first, last }
        | Gate::Consented { first, last }
        | Gate::Concordant { first, last } => {
            check_reference(plan, step, *last, report);
            if first > last {
                report.step(step.id, Fault::GateAhead { to: *first });
            } else if plan.is_rollback(*first) != plan.is_rollback(*last) {
                report.step(step.id, Fault::BackWaitsForward { to: *first });
            }
        }
        Gate::Epoch(_) | Gate::PolicyPublished(_) | Gate::Rehearsed { .. } => {}
    }
}

/// Gates look back, so that nothing waits in a circle; and the way back waits for nothing that
/// an abort may have kept from happening.
fn check_reference(plan: &Plan, step: &Step, to: StepId, report: &mut Report) {
    if to >= step.id {
        report.step(step.id, Fault::GateAhead { to });
    } else if plan.is_rollback(step.id) && !plan.is_rollback(to) {
        report.step(step.id, Fault::BackWaitsForward { to });
    }
}

fn foreign<'a>(
    step: StepId,
    nodes: impl IntoIterator<Item = &'a NodeId>,
    members: &BTreeSet<&NodeId>,
    report: &mut Report,
) {
    if let Some(node) = nodes.into_iter().find(|node| !members.contains(node)) {
        report.step(step, Fault::ForeignNode { node: node.clone() });
    }
}
