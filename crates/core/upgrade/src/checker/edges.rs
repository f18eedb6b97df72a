//! Along which edges a plan lets the keyring go, and whether policy and releases agree.

use heirloom_custody::invariant::{Party, no_leak};
use heirloom_model::plan::{Action, KeyringPlan, Placement, Step};
use heirloom_model::policy::HolderRole;
use heirloom_model::release::{Release, ReleaseKind};

use super::{Fault, Report};
use crate::inventory::Inventory;

/// Checks the three placements, and every hop between them.
pub(super) fn check(plan: KeyringPlan<'_>, inventory: &Inventory, report: &mut Report) {
    let keepers = [plan.keyring.from, plan.keyring.to]
        .map(|at| (at, ReleaseKind::Keeper, HolderRole::Keeper));
    let carrier = plan.keyring.via.map(|at| (at, ReleaseKind::Upgrader, HolderRole::Upgrader));
    for (at, kind, role) in keepers.into_iter().chain(carrier) {
        check_placement(&at, kind, role, inventory, report);
    }
    for at in [Some(plan.keyring.to), plan.keyring.via].into_iter().flatten() {
        if let Some(release) = inventory.releases.get(&at.release)
            && inventory.now > release.not_after
        {
            report.plan(Fault::ReleaseExpired { not_after: release.not_after });
        }
    }
    if plan.keyring.via.is_some_and(|via| [plan.keyring.from, plan.keyring.to].contains(&via)) {
        report.plan(Fault::NothingChanges);
    }
    let version = |at: &Placement| Some(inventory.releases.get(&at.release)?.security_version);
    if let (Some(from), Some(to)) = (version(&plan.keyring.from), version(&plan.keyring.to))
        && to < from
    {
        report.plan(Fault::SecurityVersionLower { from, to });
    }
    for step in &plan.steps {
        check_hop(step, inventory, report);
    }
    for back in &plan.rollback {
        // Nobody who had lost the keyring needs it again: the old seat kept it.
        if matches!(back.step.action, Action::HandOver { .. }) {
            report.step(back.step.id, Fault::ForeignPlacement);
        }
    }
}

/// A known release of the right kind, whose code the policy gives the right role.
fn check_placement(
    at: &Placement,
    kind: ReleaseKind,
    role: HolderRole,
    inventory: &Inventory,
    report: &mut Report,
) {
    let Placement { release, measurement } = *at;
    let fits = |found: &Release| found.kind == kind && found.measurements.contains(&measurement);
    if !inventory.releases.get(&release).is_some_and(fits) {
        report.plan(Fault::WrongPlacement { release, measurement, role });
    }
    if inventory.policy.holder(&measurement).is_none_or(|rule| rule.role != role) {
        report.plan(Fault::WrongRole { measurement, role });
    }
}

/// The policy in force lets the keyring go along this step.
fn check_hop(step: &Step, inventory: &Inventory, report: &mut Report) {
    let Action::HandOver { from, to, .. } = &step.action else { return };
    let party = |at: &Placement| {
        let release = inventory.releases.get(&at.release)?;
        let security_version = release.security_version;
        Some(Party { measurement: at.measurement, security_version })
    };
    // Unknown releases are reported with their placements.
    let (Some(giver), Some(receiver)) = (party(from), party(to)) else { return };
    if let Err(risk) = no_leak(&inventory.policy, inventory.now, &giver, &receiver) {
        report.step(step.id, Fault::Leak(risk));
    }
}
