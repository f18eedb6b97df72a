//! Whether a plan may be made at all: what every strategy demands, and what only rolling does.

use std::collections::BTreeSet;

use heirloom_custody::holding::Keyring;
use heirloom_custody::invariant::{Party, no_leak};
use heirloom_model::counter::{Epoch, PlanNumber, Serial};
use heirloom_model::digest::ReleaseDigest;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::plan::{CodePair, Placement};
use heirloom_model::policy::{HolderRole, Sharing};
use heirloom_model::release::{Release, ReleaseKind};

use super::{Hop, PlanError, PlanRequest};
use crate::inventory::Inventory;

/// What is settled before anything is arranged.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// What runs before and after, where all nodes are of one kind.
    pub(super) from: Placement,
    pub(super) to: Placement,
    /// What it is on nodes of other kinds, sorted.
    pub(super) others: Vec<CodePair>,
    pub(super) keyring: Keyring,
    pub(super) number: PlanNumber,
    /// How many failure domains must keep a proven holder outside of what changes.
    pub(super) need: u32,
}

/// Whose keepers a plan changes, which says on which kinds of platform.
#[derive(Clone, Copy, Debug)]
pub(super) enum Changing<'a> {
    /// Those of every node.
    All,
    /// That of one node.
    One(&'a NodeId),
    /// What one node has goes to another one, which may be of another kind.
    Move(&'a NodeId, &'a NodeId),
}

impl Ground {
    /// What runs on a node before and after.
    pub(super) fn pair(&self, node: &NodeId, inventory: &Inventory) -> (Placement, Placement) {
        let before = inventory.code_of(node, &self.from.release);
        let pair = before.and_then(|code| self.others.iter().find(|pair| pair.from == code));
        pair.map_or((self.from, self.to), |pair| {
            let from = Placement { measurement: pair.from, ..self.from };
            (from, Placement { measurement: pair.to, ..self.to })
        })
    }

    /// All that runs before and after, on every kind of platform.
    pub(super) fn pairs(&self) -> Vec<(Placement, Placement)> {
        let others = self.others.iter().map(|pair| {
            let from = Placement { measurement: pair.from, ..self.from };
            (from, Placement { measurement: pair.to, ..self.to })
        });
        std::iter::once((self.from, self.to)).chain(others).collect()
    }
}

/// Refuses what no strategy can do. `earliest` is the first epoch in which the plan can end.
pub(super) fn ground(
    request: &PlanRequest,
    changing: Changing<'_>,
    earliest: Epoch,
    inventory: &Inventory,
) -> Result<Ground, PlanError> {
    let keyring = inventory.keyring.ok_or(PlanError::NoGeneration(inventory.domain))?;
    check_quiet(inventory)?;
    let old = keeper(request.from, inventory)?;
    let new = keeper(request.to, inventory)?;
    let mut pairs = pairs((request.from, old), (request.to, new), changing, inventory)?;
    for pair in &pairs {
        check_role(&pair.from, HolderRole::Keeper, inventory)?;
        check_role(&pair.to, HolderRole::Keeper, inventory)?;
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
    let first = pairs.remove(0);
    Ok(Ground {
        from: Placement { release: request.from, measurement: first.from },
        to: Placement { release: request.to, measurement: first.to },
        others: pairs,
        keyring,
        number,
        need: inventory.policy.holders_min.max(1),
    })
}

/// What both releases are on each kind of platform that changes, sorted and never empty. A node of
/// which nothing is known is taken to be of the first kind of the old release; that it never
/// registered is refused later.
fn pairs(
    (from, old): (ReleaseDigest, &Release),
    (to, new): (ReleaseDigest, &Release),
    changing: Changing<'_>,
    inventory: &Inventory,
) -> Result<Vec<CodePair>, PlanError> {
    let first = old.measurements.first().copied().ok_or(PlanError::NotAKeeper(from))?;
    let before = |node: &NodeId| inventory.code_of(node, &from);
    let after = |node: &NodeId, kind: TeeKind| {
        let found = new.measurements.iter().find(|measurement| measurement.kind() == kind);
        let nowhere = || PlanError::NotOnPlatform { node: node.clone(), kind, release: to };
        if new.measurements.is_empty() {
            return Err(PlanError::NotAKeeper(to));
        }
        found.copied().ok_or_else(nowhere)
    };
    let pair = |node: &NodeId| {
        let from = before(node).unwrap_or(first);
        Ok(CodePair { from, to: after(node, from.kind())? })
    };
    match changing {
        Changing::One(node) => Ok(vec![pair(node)?]),
        Changing::Move(giver, receiver) => {
            let giving = before(giver).unwrap_or(first);
            let kind = inventory.code_of(receiver, &to).unwrap_or(giving).kind();
            Ok(vec![CodePair { from: giving, to: after(receiver, kind)? }])
        }
        Changing::All => {
            let known = inventory.nodes.iter().filter(|node| before(&node.node).is_some());
            let pairs: BTreeSet<CodePair> =
                known.map(|node| pair(&node.node)).collect::<Result<_, PlanError>>()?;
            match (pairs.is_empty(), inventory.nodes.first()) {
                (false, _) => Ok(pairs.into_iter().collect()),
                (true, Some(node)) => Ok(vec![pair(&node.node)?]),
                (true, None) => {
                    let to = new.measurements.first().ok_or(PlanError::NotAKeeper(to))?;
                    Ok(vec![CodePair { from: first, to: *to }])
                }
            }
        }
    }
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

fn keeper(digest: ReleaseDigest, inventory: &Inventory) -> Result<&Release, PlanError> {
    let found = released(digest, ReleaseKind::Keeper, inventory)?;
    found.map(|(release, _)| release).ok_or(PlanError::NotAKeeper(digest))
}

/// An upgrader's release, which must still be good and whose code the policy lets carry, as it is
/// on the kind of platform that a node has.
pub(super) fn upgrader(
    digest: ReleaseDigest,
    (node, kind): (&NodeId, TeeKind),
    inventory: &Inventory,
) -> Result<(Party, Placement), PlanError> {
    let found = released(digest, ReleaseKind::Upgrader, inventory)?;
    let (release, _) = found.ok_or(PlanError::NotAnUpgrader(digest))?;
    let measurement = release.measurements.iter().find(|found| found.kind() == kind);
    let nowhere = || PlanError::NotOnPlatform { node: node.clone(), kind, release: digest };
    let measurement = *measurement.ok_or_else(nowhere)?;
    let placement = Placement { release: digest, measurement };
    if inventory.now > release.not_after {
        let (not_after, now) = (release.not_after, inventory.now);
        return Err(PlanError::ReleaseExpired { release: digest, not_after, now });
    }
    check_role(&placement.measurement, HolderRole::Upgrader, inventory)?;
    Ok((party_of(release, &placement), placement))
}

/// A known release and what it launches to first; none if it is of another kind, or launches nowhere.
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
    let same = |(from, to): &(Placement, Placement)| from.measurement == to.measurement;
    match ground.pairs().iter().find(|pair| same(pair)) {
        Some((_, to)) => Err(PlanError::SameMeasurement(to.measurement)),
        None => Ok(()),
    }
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
    check_edges(ground, inventory)?;
    check_withdrawal(withdraw, inventory)?;
    if let Some(node) = inventory.strangers.first() {
        return Err(PlanError::NotInFleet { node: node.clone() });
    }
    inventory.nodes.iter().try_for_each(|node| {
        let (from, _) = ground.pair(&node.node, inventory);
        check_registered(&node.node, &from, inventory)
    })
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

/// Every edge along which rolling lets the keyring go: forward, back, and to itself, from nodes of
/// every kind of platform to nodes of every kind.
fn check_edges(ground: &Ground, inventory: &Inventory) -> Result<(), PlanError> {
    let policy = &inventory.policy;
    let forward = |risk| PlanError::NoWayForward { policy: policy.serial, risk };
    let back = |risk| PlanError::NoWayBack { policy: policy.serial, risk };
    let party = |(from, to): &(Placement, Placement)| {
        Ok::<_, PlanError>((party(from, inventory)?, party(to, inventory)?))
    };
    let parties: Vec<_> = ground.pairs().iter().map(party).collect::<Result<_, _>>()?;
    for (old, new) in &parties {
        for (other_old, other_new) in &parties {
            let _forward = no_leak(policy, inventory.now, old, other_new).map_err(forward)?;
            let _between_new = no_leak(policy, inventory.now, new, other_new).map_err(forward)?;
            let _back = no_leak(policy, inventory.now, new, other_old).map_err(back)?;
            let _between_old = no_leak(policy, inventory.now, old, other_old).map_err(back)?;
        }
    }
    Ok(())
}

/// A plan in which the keeper's release stays.
pub(super) fn stays(
    request: &PlanRequest,
    changing: Changing<'_>,
    earliest: Epoch,
    inventory: &Inventory,
) -> Result<Ground, PlanError> {
    if request.from != request.to {
        return Err(PlanError::ReleaseChanges { from: request.from, to: request.to });
    }
    ground(request, changing, earliest, inventory)
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
