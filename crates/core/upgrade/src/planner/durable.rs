//! What platforms that do not seal for ever cannot be part of.

use heirloom_model::admin::Volatile;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Plan};

use super::PlanError;
use crate::inventory::Inventory;

/// What to do about a node that holds in memory only.
pub(super) const LEAVE_AND_RETURN: &str = "take the node out of the domain by a fleet statement, carry out the plan without it, and let \
     it back in with the new release: it receives the keyring again";
/// What to do about a node whose sealed state does not outlive an update.
pub(super) const RECEIVE_AGAIN: &str = "make sure that enough other holders have proven the keyring, update the platform, quarantine \
     what this node has sealed, and let its keeper receive the keyring again";

/// Refuses a plan that asks for a proof of what is in memory only, which never comes, and one that
/// seals again where no key outlives an update.
pub(super) fn check(plan: &Plan, inventory: &Inventory) -> Result<(), PlanError> {
    for step in &plan.steps {
        if let Action::Verify { targets, .. } = &step.action {
            let in_memory = |node: &&NodeId| inventory.volatile(node) == Some(Volatile::Memory);
            if let Some(node) = targets.iter().find(in_memory) {
                return Err(PlanError::HoldsInMemory { node: node.clone() });
            }
        }
        let seals_again = matches!(step.action, Action::Reseal(_));
        if seals_again && inventory.volatile(&step.node).is_some() {
            return Err(PlanError::SealsForThePresent { node: step.node.clone() });
        }
    }
    Ok(())
}
