//! A rolling restart: one node after the other, forward and back.

use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, RollbackStep, ServiceAction, Step};

use super::super::{Fault, Report};
use super::{Own, View};

pub(super) fn check(view: &View<'_>, report: &mut Report) {
    check_kinds(view, report);
    let joins = |step: &&&Step| matches!(step.action, Action::Service(ServiceAction::Join(_)));
    let opens = |step: &&&Step| matches!(step.action, Action::Service(ServiceAction::Open(_)));
    let closes = |step: &&&Step| matches!(step.action, Action::Service(ServiceAction::Fence(_)));
    for own in view.nodes.values() {
        for fence in own.forward.iter().filter(closes) {
            view.check_closing(fence, report);
        }
        for open in own.forward.iter().filter(opens) {
            let rule = "no client is let in before the node has its peers";
            view.require(open, own.forward.iter().filter(joins).copied(), rule, report);
        }
    }
    check_apart(view, report);
    let is_open = |step: &&Step| matches!(step.action, Action::Service(ServiceAction::Open(_)));
    let last = view.plan.steps.iter().rev().find(is_open).map(|step| step.id);
    view.check_no_return(last, report);
}

/// Nothing freezes, migrates or commits where the code stays.
fn check_kinds(view: &View<'_>, report: &mut Report) {
    for step in &view.plan.steps {
        let belongs = match &step.action {
            Action::Service(
                ServiceAction::Fence(_)
                | ServiceAction::Halt(_)
                | ServiceAction::Deploy { .. }
                | ServiceAction::Launch(_)
                | ServiceAction::Join(_)
                | ServiceAction::Open(_),
            ) => true,
            action => !action.concerns_service(),
        };
        if !belongs {
            let needed = "a plan that changes the measurement";
            report.step(step.id, Fault::Unexpected { node: step.node.clone(), needed });
        }
    }
    for RollbackStep { step, .. } in &view.plan.rollback {
        if matches!(step.action, Action::Service(ServiceAction::Revert)) {
            let needed = "a plan that changes the measurement";
            report.step(step.id, Fault::Unexpected { node: step.node.clone(), needed });
        }
        if !step.gates.iter().all(|gate| matches!(gate, Gate::Done(_))) {
            report.step(step.id, Fault::BackWaits { node: step.node.clone() });
        }
    }
}

/// Of any two nodes, one is through before the other begins.
fn check_apart(view: &View<'_>, report: &mut Report) {
    let nodes: Vec<_> = view.nodes.iter().collect();
    for (place, (node, own)) in nodes.iter().enumerate() {
        for (other, others) in nodes.iter().skip(place + 1) {
            if apart(view, ends, own, others) && apart(view, ends_back, own, others) {
                continue;
            }
            let (node, other) = (NodeId::clone(node), NodeId::clone(other));
            let step = own.forward.first().map(|step| step.id);
            report.push(step, Fault::ClosedTogether { node, other });
            return;
        }
    }
}

type Ends<'a> = (&'a Step, &'a Step);

fn apart<'a>(
    view: &View<'_>,
    ends: fn(&Own<'a>) -> Option<Ends<'a>>,
    left: &Own<'a>,
    right: &Own<'a>,
) -> bool {
    // A node without steps was reported as one that does not finish.
    let (Some(left), Some(right)) = (ends(left), ends(right)) else { return true };
    view.reach.is_after(right.0.id, left.1.id) || view.reach.is_after(left.0.id, right.1.id)
}

fn ends<'a>(own: &Own<'a>) -> Option<Ends<'a>> {
    Some((own.forward.first()?, own.forward.last()?))
}

fn ends_back<'a>(own: &Own<'a>) -> Option<Ends<'a>> {
    Some((&own.back.first()?.step, &own.back.last()?.step))
}
