//! The service of every node: whether the plan may change it, and in which order it does.
//!
//! Three questions, each with a module: what certainly comes before a step ([`reach`]), what each
//! step finds on its node, also after an abort at any moment ([`site`]), and what has to have
//! happened on all the other nodes ([`day`] for a flag day, [`turn`] for a restart).

use std::collections::BTreeMap;

use heirloom_model::identifier::NodeId;
use heirloom_model::limit::SERVICE_PEERS_MAX;
use heirloom_model::plan::{
    Action, Gate, KeyringPlan, Plan, RollbackStep, ServiceAction, Step, StepId,
};
use heirloom_model::service::ServiceChange;

use self::reach::Reach;
use super::{Fault, Report};
use crate::inventory::Inventory;

mod custody;
mod day;
mod footing;
pub(super) mod reach;
mod site;
mod turn;

/// Steps that one way of a plan with a service has at most: one of each kind for every node, and
/// room.
const SERVICE_STEPS_MAX: usize = 20 * (SERVICE_PEERS_MAX + 1);

/// What the checks look up.
struct View<'a> {
    plan: KeyringPlan<'a>,
    change: &'a ServiceChange,
    inventory: &'a Inventory,
    reach: Reach,
    /// The steps of each node that are about its service, in the plan's order.
    nodes: BTreeMap<&'a NodeId, Own<'a>>,
}

/// What one node does with its service.
#[derive(Default)]
struct Own<'a> {
    forward: Vec<&'a Step>,
    back: Vec<&'a RollbackStep>,
}

pub(super) fn check(
    plan: KeyringPlan<'_>,
    change: &ServiceChange,
    inventory: &Inventory,
    report: &mut Report,
) {
    footing::check(plan, change, inventory, report);
    let (found, limit) = (plan.steps.len().max(plan.rollback.len()), SERVICE_STEPS_MAX);
    if found > limit {
        report.plan(Fault::TooLarge { what: "steps of a service", found, limit });
        return;
    }
    check_placements(plan, change, report);
    let view = View::of(plan, change, inventory);
    for (node, own) in &view.nodes {
        view.check_line(own, report);
        site::check(&view, node, own, report);
    }
    for RollbackStep { step, undoes } in &plan.rollback {
        if *undoes > plan.point_of_no_return {
            report.step(step.id, Fault::NeverNeeded { undoes: *undoes });
        }
    }
    view.check_withdrawal(report);
    if change.changes_code() {
        day::check(&view, report);
    } else {
        turn::check(&view, report);
    }
}

/// A plan without a service has nothing to do with one.
pub(super) fn check_stray(plan: &Plan, report: &mut Report) {
    let back = plan.rollback.iter().map(|back| &back.step);
    for step in plan.steps.iter().chain(back) {
        let stray = |gate: &Gate| {
            matches!(
                gate,
                Gate::Agreed { .. }
                    | Gate::Rehearsed { .. }
                    | Gate::Consented { .. }
                    | Gate::Concordant { .. }
            )
        };
        if step.action.concerns_service() || step.gates.iter().any(stray) {
            report.step(step.id, Fault::NoService);
        }
    }
}

/// Steps name the two releases of the service, each where it belongs, and leave keepers alone.
fn check_placements(plan: KeyringPlan<'_>, change: &ServiceChange, report: &mut Report) {
    let ServiceChange { from, to, .. } = change;
    let back = plan.rollback.iter().map(|back| (&back.step, true));
    for (step, is_back) in plan.steps.iter().map(|step| (step, false)).chain(back) {
        // On the way back the new release ends and the old one begins.
        let (ends, begins) = if is_back { (to, from) } else { (from, to) };
        let fits = match &step.action {
            Action::Service(
                ServiceAction::Equip(at)
                | ServiceAction::Join(at)
                | ServiceAction::Exercise(at)
                | ServiceAction::Watch(at),
            ) => at == to && !is_back,
            Action::Service(ServiceAction::Muster(at) | ServiceAction::Freeze(at)) => {
                at == from && !is_back
            }
            Action::Service(ServiceAction::Fence(at) | ServiceAction::Halt(at)) => at == ends,
            Action::Service(ServiceAction::Launch(at) | ServiceAction::Open(at)) => at == begins,
            Action::Service(ServiceAction::Deploy { expect, install }) => {
                expect == ends && install == begins
            }
            Action::Service(ServiceAction::Snapshot | ServiceAction::Migrate)
            | Action::Commit
            | Action::Withdraw(_) => !is_back,
            Action::Service(ServiceAction::Revert) => is_back,
            Action::Verify { code, .. } => {
                !is_back && code.is_none_or(|code| plan.keyring.is_from(&code))
            }
            Action::Prepare(_)
            | Action::Drain(_)
            | Action::Stop(_)
            | Action::Quarantine(_)
            | Action::Restore(_)
            | Action::Install { .. }
            | Action::Start(_)
            | Action::Replicate { .. }
            | Action::Restart(_)
            | Action::HandOver { .. }
            | Action::Suspend(_)
            | Action::Activate(_)
            | Action::Forget(_)
            | Action::Preserve(_)
            | Action::Reseal(_)
            | Action::Participant(_) => {
                report.step(step.id, Fault::KeeperChanges);
                continue;
            }
        };
        if !fits {
            report.step(step.id, Fault::ForeignPlacement);
        }
    }
}

impl<'a> View<'a> {
    fn of(plan: KeyringPlan<'a>, change: &'a ServiceChange, inventory: &'a Inventory) -> Self {
        let mut nodes: BTreeMap<&NodeId, Own<'_>> =
            plan.plan().nodes.iter().map(|node| (node, Own::default())).collect();
        let whole = |step: &Step| matches!(step.action, Action::Commit);
        for step in &plan.plan().steps {
            if step.action.concerns_service() && !whole(step) {
                nodes.entry(&step.node).or_default().forward.push(step);
            }
        }
        for back in &plan.plan().rollback {
            nodes.entry(&back.step.node).or_default().back.push(back);
        }
        Self { plan, change, inventory, reach: Reach::of(&plan), nodes }
    }

    /// The steps of one node follow each other, whatever order agents prefer.
    fn check_line(&self, own: &Own<'_>, report: &mut Report) {
        let back: Vec<&Step> = own.back.iter().map(|back| &back.step).collect();
        for pair in own.forward.windows(2).chain(back.windows(2)) {
            if let [before, step] = pair
                && !self.reach.is_after(step.id, before.id)
            {
                report.step(step.id, Fault::LooseStep { before: before.id });
            }
        }
    }

    /// Rights may be withdrawn, once, last, and after everything else.
    fn check_withdrawal(&self, report: &mut Report) {
        for step in &self.plan.steps {
            let Action::Withdraw(serial) = step.action else { continue };
            let others = self.plan.steps.iter().filter(|other| other.id != step.id);
            if others.clone().any(|other| !self.reach.is_after(step.id, other.id)) {
                report.step(step.id, Fault::EarlyWithdrawal);
            }
            super::forward::check_serial(step, serial, self.inventory, report);
        }
    }

    /// Reports the first of these steps that a step may overtake.
    fn require<'s>(
        &self,
        step: &Step,
        needed: impl IntoIterator<Item = &'s Step>,
        rule: &'static str,
        report: &mut Report,
    ) {
        let mut needed = needed.into_iter().map(|needed| needed.id);
        if let Some(before) = needed.find(|needed| !self.reach.is_after(step.id, *needed)) {
            report.step(step.id, Fault::TooSoon { before, rule });
        }
    }

    /// The gates of a step, and of everything that certainly came before it.
    fn gates_up_to(&self, step: &'a Step) -> impl Iterator<Item = &'a Gate> {
        let earlier = self.reach.before(step.id).filter_map(|id| self.plan.plan().step(id));
        earlier.chain([step]).flat_map(|step| &step.gates)
    }

    /// Before clients are shut out the window is open and custody is proven.
    fn check_closing(&self, fence: &'a Step, report: &mut Report) {
        let opens = self.change.opens;
        let waits = |gate: &Gate| matches!(gate, Gate::Epoch(epoch) if *epoch >= opens);
        if !self.gates_up_to(fence).any(waits) {
            report.step(fence.id, Fault::BeforeWindow { opens });
        }
        let what = "clients are shut out";
        custody::check(self, fence.id, self.gates_up_to(fence), &[], what, report);
    }

    /// The point of no return is where the way back ends.
    fn check_no_return(&self, expected: Option<StepId>, report: &mut Report) {
        let found = self.plan.point_of_no_return;
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            report.plan(Fault::WrongNoReturn { found, expected });
        }
    }
}
