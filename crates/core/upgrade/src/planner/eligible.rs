//! Whether a plan may be made at all: what every strategy demands, and what only rolling does.

use heirloom_custody::holding::Keyring;
use heirloom_custody::invariant::{Party, no_leak};
use heirloom_model::counter::{Epoch, PlanNumber, Serial};
use heirloom_model::digest::ReleaseDigest;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::Placement;
use heirloom_model::policy::{HolderRole, Sharing};
use heirloom_model::release::{Release, ReleaseKind};

use super::{Hop, PlanError, PlanRequest};
use crate::inventory::Inventory;

/// What is settled before anything is arranged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    pub(super) from: Placement,
    pub(super) to: Placement,
    pub(super) keyring: Keyring,
    pub(super) number: PlanNumber,
    /// How many failure domains must keep a proven holder outside of what changes.
    pub(super) need: u32,
}

/// Refuses what no strategy can do. `earliest` is the first epoch in which the plan can end.
pub(super) fn ground(
    request: &PlanRequest,
    earliest: Epoch,
    inventory: &Inventory,
) -> Result<Ground, PlanError> {
    let keyring = inventory.keyring.ok_or(PlanError::NoGeneration(inventory.domain))?;
    check_quiet(inventory)?;
    let (old, from) = keeper(request.from, inventory)?;
    let (new, to) = keeper(request.to, inventory)?;
    for placement in [&from, &to] {
        check_role(&placement.measurement, HolderRole::Keeper, inventory)?;
    }
    if inventory.now > new.not_after {
        let (release, not_after) = (request.to, new.not_after);
        return Err(PlanError::ReleaseExpired { release, not_after, now: inventory.now });
    }
    if new.security_version < old.security_version {
        let (from, to) = (old.security_version, new.security_version);
        return Err(PlanError::SecurityVersionLower { from, to });
    }
    let needed = inventory.epoch.max(earliest);
    if request.not_after < needed {
        return Err(PlanError::EndsTooEarly { not_after: request.not_after, needed });
    }
    let number = inventory.plan_number.next().ok_or(PlanError::OutOfNumbers("plan"))?;
    Ok(Ground { from, to, keyring, number, need: inventory.policy.holders_min.max(1) })
}

/// Nothing else is going on in the domain.
fn check_quiet(inventory: &Inventory) -> Result<(), PlanError> {
    if let Some(plan) = inventory.holding_plan {
        return Err(PlanError::PlanActive(plan));
    }
    match inventory.rotation {
        Some(generation) => Err(PlanError::RotationPending(generation)),
        None => Ok(()),
    }
}

fn keeper(
    digest: ReleaseDigest,
    inventory: &Inventory,
) -> Result<(&Release, Placement), PlanError> {
    released(digest, ReleaseKind::Keeper, inventory)?.ok_or(PlanError::NotAKeeper(digest))
}

/// An upgrader's release, which must still be good and whose code the policy lets carry.
pub(super) fn upgrader(
    digest: ReleaseDigest,
    inventory: &Inventory,
) -> Result<(Party, Placement), PlanError> {
    let found = released(digest, ReleaseKind::Upgrader, inventory)?;
    let (release, placement) = found.ok_or(PlanError::NotAnUpgrader(digest))?;
    if inventory.now > release.not_after {
        let (not_after, now) = (release.not_after, inventory.now);
        return Err(PlanError::ReleaseExpired { release: digest, not_after, now });
    }
    check_role(&placement.measurement, HolderRole::Upgrader, inventory)?;
    Ok((party_of(release, &placement), placement))
}

/// A known release and what it launches to; none if it is of another kind, or launches nowhere.
pub(super) fn released(
    digest: ReleaseDigest,
    kind: ReleaseKind,
    inventory: &Inventory,
) -> Result<Option<(&Release, Placement)>, PlanError> {
    let release = inventory.releases.get(&digest).ok_or(PlanError::UnknownRelease(digest))?;
    let measurement = release.measurements.first().filter(|_| release.kind == kind);
    let placed =
        |measurement: &Measurement| Placement { release: digest, measurement: *measurement };
    Ok(measurement.map(|measurement| (release, placed(measurement))))
}

/// Code that has a rule has it with this role. Whether it has one is a matter of edges.
fn check_role(
    measurement: &Measurement,
    expected: HolderRole,
    inventory: &Inventory,
) -> Result<(), PlanError> {
    match inventory.policy.holder(measurement) {
        Some(rule) if rule.role != expected => {
            let (policy, measurement) = (inventory.policy.serial, *measurement);
            Err(PlanError::WrongRole { policy, measurement, expected })
        }
        Some(_) | None => Ok(()),
    }
}

/// A release's code as a giver or receiver.
pub(super) fn party(placement: &Placement, inventory: &Inventory) -> Result<Party, PlanError> {
    let release = inventory.releases.get(&placement.release);
    let release = release.ok_or(PlanError::UnknownRelease(placement.release))?;
    Ok(party_of(release, placement))
}

fn party_of(release: &Release, placement: &Placement) -> Party {
    Party { measurement: placement.measurement, security_version: release.security_version }
}

/// The plan changes what runs.
pub(super) fn check_changes(ground: &Ground) -> Result<(), PlanError> {
    if ground.from.measurement == ground.to.measurement {
        return Err(PlanError::SameMeasurement(ground.to.measurement));
    }
    Ok(())
}

/// The policy that completes the plan would be the next one.
pub(super) fn check_withdrawal(withdraw: Serial, inventory: &Inventory) -> Result<(), PlanError> {
    let expected = inventory.published.next().ok_or(PlanError::OutOfNumbers("policy"))?;
    if withdraw != expected {
        return Err(PlanError::WrongWithdrawal { expected, found: withdraw });
    }
    Ok(())
}

/// A node runs what the plan starts from, as far as the log knows.
pub(super) fn check_registered(
    node: &NodeId,
    placement: &Placement,
    inventory: &Inventory,
) -> Result<(), PlanError> {
    if inventory.seen(node, &placement.measurement).is_none() {
        let (node, measurement) = (node.clone(), placement.measurement);
        return Err(PlanError::NotRegistered { node, measurement });
    }
    Ok(())
}

/// What only rolling demands: holders that overlap, edges both ways, every node in its place.
pub(super) fn rolling(
    ground: &Ground,
    withdraw: Serial,
    inventory: &Inventory,
) -> Result<(), PlanError> {
    check_holders_can_overlap(inventory)?;
    check_changes(ground)?;
    check_edges(inventory, &party(&ground.from, inventory)?, &party(&ground.to, inventory)?)?;
    check_withdrawal(withdraw, inventory)?;
    if let Some(node) = inventory.strangers.first() {
        return Err(PlanError::NotInFleet { node: node.clone() });
    }
    inventory
        .nodes
        .iter()
        .try_for_each(|node| check_registered(&node.node, &ground.from, inventory))
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

/// Every edge along which rolling lets the keyring go: forward, back, and to itself.
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

/// A plan in which the keeper's release stays.
pub(super) fn stays(
    request: &PlanRequest,
    earliest: Epoch,
    inventory: &Inventory,
) -> Result<Ground, PlanError> {
    if request.from != request.to {
        return Err(PlanError::ReleaseChanges { from: request.from, to: request.to });
    }
    ground(request, earliest, inventory)
}

/// What a handover, a move and a reseal demand of the domain and of the node that they begin at.
pub(super) fn handing(
    ground: &Ground,
    node: &NodeId,
    inventory: &Inventory,
) -> Result<(), PlanError> {
    let (domain, policy) = (inventory.domain, &inventory.policy);
    if inventory.node(node).is_none() {
        return Err(PlanError::UnknownNode(node.clone()));
    }
    check_registered(node, &ground.from, inventory)?;
    if policy.sharing == Sharing::Replicated {
        return Ok(());
    }
    if ground.need > 1 {
        let (policy, needed) = (policy.serial, ground.need);
        return Err(PlanError::ExclusiveNeedsOne { domain, policy, needed });
    }
    let (active, code) = inventory.active.as_ref().ok_or(PlanError::NobodyActive(domain))?;
    if active != node || *code != ground.from.measurement {
        let (node, measurement) = (node.clone(), ground.from.measurement);
        return Err(PlanError::NotActive { node, measurement, active: active.clone() });
    }
    Ok(())
}

/// The policy lets the keyring go along one hop of a handover.
pub(super) fn check_hop(
    hop: Hop,
    from: &Party,
    to: &Party,
    inventory: &Inventory,
) -> Result<(), PlanError> {
    let policy = inventory.policy.serial;
    no_leak(&inventory.policy, inventory.now, from, to).map(drop).map_err(|risk| PlanError::NoHop {
        policy,
        hop,
        risk,
    })
}
