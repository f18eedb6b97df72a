//! Whether the plan was made for the world as it is.

use heirloom_custody::invariant::{Party, no_leak};
use heirloom_model::limit::{NODES_MAX, STEPS_MAX};
use heirloom_model::plan::{KeyringPlan, Placement};
use heirloom_model::policy::Sharing;
use heirloom_model::release::{Release, ReleaseKind};

use super::{Fault, Report};
use crate::inventory::Inventory;

pub(super) fn check(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    check_identity(plan, inventory, report);
    check_keyring(plan, inventory, report);
    if plan.service.is_some() {
        // Every node runs the service.
        check_nodes(plan, inventory, report);
        check_kept(plan, inventory, report);
    } else if plan.has_waves() {
        // What changes seat by seat has nodes, edges and holders of its own.
        check_overlap(inventory, report);
        check_nodes(plan, inventory, report);
        check_releases(plan, inventory, report);
    }
    let limits = [
        ("steps", plan.steps.len(), STEPS_MAX),
        ("rollback steps", plan.rollback.len(), STEPS_MAX),
        ("nodes", plan.nodes.len(), NODES_MAX),
    ];
    for (what, found, limit) in limits {
        if found > limit {
            report.plan(Fault::TooLarge { what, found, limit });
        }
    }
}

fn check_identity(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    if plan.network != inventory.network {
        report.plan(Fault::OtherNetwork);
    }
    // A plan that is proposed already is judged like one that is about to be.
    let is_proposed = inventory.holding_plan.is_some_and(|holding| holding == plan.digest());
    let expected = match (is_proposed, inventory.plan_number.next()) {
        (true, _) | (false, None) => inventory.plan_number,
        (false, Some(next)) => next,
    };
    if plan.number != expected {
        report.plan(Fault::WrongNumber { expected, found: plan.number });
    }
    if let Some(holding) = inventory.holding_plan.filter(|_| !is_proposed) {
        report.plan(Fault::PlanActive { plan: holding });
    }
    if plan.keyring.policy != inventory.policy.serial {
        let (in_force, found) = (inventory.policy.serial, plan.keyring.policy);
        report.plan(Fault::OtherPolicy { in_force, found });
    }
    if inventory.epoch > plan.not_after {
        report.plan(Fault::Ended { not_after: plan.not_after, epoch: inventory.epoch });
    }
    if let Some(generation) = inventory.rotation {
        report.plan(Fault::RotationPending { generation });
    }
}

/// In waves the old release and the new one answer at the same time.
fn check_overlap(inventory: &Inventory, report: &mut Report) {
    if inventory.policy.sharing == Sharing::Exclusive {
        report.plan(Fault::Exclusive);
    }
}

fn check_keyring(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    let committed = inventory.keyring.map(|keyring| (keyring.generation, keyring.checksum));
    if committed != Some((plan.keyring.generation, plan.keyring.checksum)) {
        report.plan(Fault::OtherKeyring);
    }
    let needed = inventory.policy.holders_min.max(1);
    if plan.keyring.holders_min < needed {
        report.plan(Fault::HoldersMinTooLow { needed, found: plan.keyring.holders_min });
    }
}

/// The plan names the domain's nodes, all of them, once each, in order.
fn check_nodes(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    let mut known = inventory.nodes.iter().map(|node| &node.node);
    let mut named = plan.nodes.iter();
    loop {
        let node = match (known.next(), named.next()) {
            (None, None) => return,
            (Some(left), Some(right)) if left == right => continue,
            (_, Some(node)) | (Some(node), None) => node.clone(),
        };
        report.plan(Fault::WrongNodes { node });
        return;
    }
}

/// Keepers stay as they are, and are what the log knows.
fn check_kept(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    if plan.keyring.via.is_some() {
        report.plan(Fault::KeeperChanges);
    }
    for (from, to) in plan.keyring.pairs() {
        if from != to {
            report.plan(Fault::KeeperChanges);
        }
        if release(&from, inventory).is_none() {
            let Placement { release, measurement } = from;
            report.plan(Fault::WrongRelease { release, measurement });
        }
    }
}

fn check_releases(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    let mut parties: Vec<(Party, Party)> = Vec::new();
    for (from, to) in plan.keyring.pairs() {
        if from.measurement == to.measurement || from.measurement.kind() != to.measurement.kind() {
            report.plan(Fault::NothingChanges);
        }
        let found = [&from, &to].map(|placement| release(placement, inventory));
        for (placement, found) in [from, to].into_iter().zip(&found) {
            if found.is_none() {
                let Placement { release, measurement } = placement;
                report.plan(Fault::WrongRelease { release, measurement });
            }
        }
        let [Some(old), Some(new)] = found else { return };
        let party = |placement: &Placement, release: &Release| Party {
            measurement: placement.measurement,
            security_version: release.security_version,
        };
        parties.push((party(&from, old), party(&to, new)));
    }
    let (Some(new), Some((old_party, new_party))) =
        (inventory.releases.get(&plan.keyring.to.release), parties.first())
    else {
        return;
    };
    if inventory.now > new.not_after {
        report.plan(Fault::ReleaseExpired { not_after: new.not_after });
    }
    if new_party.security_version < old_party.security_version {
        let (from, to) = (old_party.security_version, new_party.security_version);
        report.plan(Fault::SecurityVersionLower { from, to });
    }
    // Old gives to new in the first wave, new to new later; old and new to old on the way back:
    // from nodes of every kind of platform to nodes of every kind.
    for (old, new) in &parties {
        for (other_old, other_new) in &parties {
            for (giver, receiver) in
                [(old, other_new), (new, other_new), (old, other_old), (new, other_old)]
            {
                if let Err(risk) = no_leak(&inventory.policy, inventory.now, giver, receiver) {
                    report.plan(Fault::Leak(risk));
                }
            }
        }
    }
}

fn release<'i>(placement: &Placement, inventory: &'i Inventory) -> Option<&'i Release> {
    inventory.releases.get(&placement.release).filter(|found| {
        found.kind == ReleaseKind::Keeper && found.measurements.contains(&placement.measurement)
    })
}
