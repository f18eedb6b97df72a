//! Whether an upgrade may be planned at all.

use heirloom_custody::holding::Keyring;
use heirloom_custody::invariant::{Party, no_leak};
use heirloom_model::counter::PlanNumber;
use heirloom_model::digest::ReleaseDigest;
use heirloom_model::plan::Placement;
use heirloom_model::policy::Sharing;
use heirloom_model::release::{Release, ReleaseKind};

use super::{PlanError, PlanRequest};
use crate::inventory::Inventory;

/// What is settled before anything is arranged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    pub(super) from: Placement,
    pub(super) to: Placement,
    pub(super) keyring: Keyring,
    pub(super) number: PlanNumber,
    /// How many failure domains must keep a proven holder outside every wave.
    pub(super) need: u32,
}

/// Refuses what must not, or need not, be planned.
pub(super) fn ground(request: &PlanRequest, inventory: &Inventory) -> Result<Ground, PlanError> {
    let keyring = inventory.keyring.ok_or(PlanError::NoGeneration(inventory.domain))?;
    check_quiet(inventory)?;
    check_holders_can_overlap(inventory)?;
    let (old, from) = keeper(request.from, inventory)?;
    let (new, to) = keeper(request.to, inventory)?;
    if from.measurement == to.measurement {
        return Err(PlanError::SameMeasurement(to.measurement));
    }
    if inventory.now > new.not_after {
        let (release, not_after) = (request.to, new.not_after);
        return Err(PlanError::ReleaseExpired { release, not_after, now: inventory.now });
    }
    if new.security_version < old.security_version {
        let (from, to) = (old.security_version, new.security_version);
        return Err(PlanError::SecurityVersionLower { from, to });
    }
    check_edges(inventory, &party(old, &from), &party(new, &to))?;
    check_withdrawal(request, inventory)?;
    check_end(request, inventory)?;
    check_nodes(inventory, &from)?;
    let number = inventory.plan_number.next().ok_or(PlanError::OutOfNumbers("plan"))?;
    Ok(Ground { from, to, keyring, number, need: inventory.policy.holders_min.max(1) })
}

/// Nothing else is going on in the domain.
fn check_quiet(inventory: &Inventory) -> Result<(), PlanError> {
    if let Some(plan) = inventory.active_plan {
        return Err(PlanError::PlanActive(plan));
    }
    match inventory.rotation {
        Some(generation) => Err(PlanError::RotationPending(generation)),
        None => Ok(()),
    }
}

/// The new instance of one node needs a holder on another one.
fn check_holders_can_overlap(inventory: &Inventory) -> Result<(), PlanError> {
    if inventory.policy.sharing == Sharing::Exclusive {
        return Err(PlanError::Exclusive(inventory.domain));
    }
    let found = inventory.nodes.len();
    if found < 2 {
        return Err(PlanError::SingleHolder { domain: inventory.domain, found });
    }
    Ok(())
}

fn keeper(
    digest: ReleaseDigest,
    inventory: &Inventory,
) -> Result<(&Release, Placement), PlanError> {
    let release = inventory.releases.get(&digest).ok_or(PlanError::UnknownRelease(digest))?;
    if release.kind != ReleaseKind::Keeper {
        return Err(PlanError::NotAKeeper(digest));
    }
    let measurement = *release.measurements.first().ok_or(PlanError::NotAKeeper(digest))?;
    Ok((release, Placement { release: digest, measurement }))
}

fn party(release: &Release, placement: &Placement) -> Party {
    Party { measurement: placement.measurement, security_version: release.security_version }
}

/// Every edge along which the plan lets the keyring go: forward, back, and to itself.
fn check_edges(inventory: &Inventory, old: &Party, new: &Party) -> Result<(), PlanError> {
    let policy = &inventory.policy;
    let forward = |risk| PlanError::NoWayForward { policy: policy.serial, risk };
    let back = |risk| PlanError::NoWayBack { policy: policy.serial, risk };
    let _forward = no_leak(policy, inventory.now, old, new).map_err(forward)?;
    let _between_new = no_leak(policy, inventory.now, new, new).map_err(forward)?;
    let _back = no_leak(policy, inventory.now, new, old).map_err(back)?;
    let _between_old = no_leak(policy, inventory.now, old, old).map_err(back)?;
    Ok(())
}

fn check_withdrawal(request: &PlanRequest, inventory: &Inventory) -> Result<(), PlanError> {
    let expected = inventory.published.next().ok_or(PlanError::OutOfNumbers("policy"))?;
    if request.withdraw != expected {
        return Err(PlanError::WrongWithdrawal { expected, found: request.withdraw });
    }
    Ok(())
}

fn check_end(request: &PlanRequest, inventory: &Inventory) -> Result<(), PlanError> {
    let needed = inventory.epoch.max(request.upgrade_epoch.unwrap_or_default());
    if request.not_after < needed {
        return Err(PlanError::EndsTooEarly { not_after: request.not_after, needed });
    }
    Ok(())
}

/// Every node is known, and runs what the plan starts from, as far as the log knows.
fn check_nodes(inventory: &Inventory, from: &Placement) -> Result<(), PlanError> {
    if let Some(node) = inventory.strangers.first() {
        return Err(PlanError::NotInFleet { node: node.clone() });
    }
    for node in &inventory.nodes {
        if inventory.seen(&node.node, &from.measurement).is_none() {
            let (node, measurement) = (node.node.clone(), from.measurement);
            return Err(PlanError::NotRegistered { node, measurement });
        }
    }
    Ok(())
}
