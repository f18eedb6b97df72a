//! What a node's platform must be able to keep for what the plan asks of it.

use heirloom_model::admin::Volatile;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, KeyringPlan};

use super::{Fault, Report};
use crate::inventory::{Inventory, Seen};

/// Looks at each node that a step asks to prove or to seal again.
pub(super) fn check(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    for step in &plan.steps {
        if let Action::Verify { targets, .. } = &step.action {
            for node in targets {
                if lasts(node, inventory) == Err(Volatile::Memory) {
                    report.step(step.id, Fault::HoldsInMemory { node: node.clone() });
                }
            }
        }
        if matches!(step.action, Action::Reseal(_)) && lasts(&step.node, inventory).is_err() {
            report.step(step.id, Fault::SealsForThePresent { node: step.node.clone() });
        }
    }
}

/// Whether what the node's latest instance holds lasts, as far as anybody knows.
fn lasts(node: &NodeId, inventory: &Inventory) -> Result<(), Volatile> {
    let seats = inventory.registered.get(node).into_iter().flatten();
    let latest: Option<&Seen> = seats.map(|(_, seen)| seen).max_by_key(|seen| seen.at);
    latest.and_then(|seen| seen.volatile).map_or(Ok(()), Err)
}
