//! Whether releases, policy and terms let the service change at all.

use std::collections::BTreeSet;

use heirloom_model::limit::{MIGRATIONS_MAX, SERVICE_KEYS_MAX, SERVICE_PEERS_MAX, TESTS_MAX};
use heirloom_model::plan::{KeyringPlan, Placement};
use heirloom_model::policy::KeyScope;
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_model::service::{KeyCustody, ProgramTerm, ServiceChange, Terms};

use super::super::{Fault, Report};
use crate::inventory::Inventory;

pub(super) fn check(
    plan: KeyringPlan<'_>,
    change: &ServiceChange,
    inventory: &Inventory,
    report: &mut Report,
) {
    let ServiceChange { opens, abort_after, .. } = *change;
    let not_after = plan.not_after;
    if opens > abort_after || abort_after > not_after || abort_after < inventory.epoch {
        report.plan(Fault::WrongWindow { opens, abort_after, not_after });
    }
    check_releases(change, inventory, report);
    for what in faults_of(&change.terms) {
        report.plan(Fault::Terms { what });
    }
    if !change.changes_code() && changes_more(&change.terms) {
        report.plan(Fault::Terms { what: "change what peers compare, and the code stays" });
    }
    let limits = [
        ("nodes of a service", plan.nodes.len(), SERVICE_PEERS_MAX + 1),
        ("migrations", change.terms.migrations.len(), MIGRATIONS_MAX),
        ("tests", change.terms.tests.len(), TESTS_MAX),
        ("keys", change.terms.keys.len(), SERVICE_KEYS_MAX),
    ];
    for (what, found, limit) in limits {
        if found > limit {
            report.plan(Fault::TooLarge { what, found, limit });
        }
    }
}

fn check_releases(change: &ServiceChange, inventory: &Inventory, report: &mut Report) {
    let mut versions = Vec::new();
    let sides = [(&change.from, &change.terms.from), (&change.to, &change.terms.to)];
    for (at, term) in sides {
        let Placement { release, measurement } = *at;
        let found = inventory.releases.get(&release).filter(|found| {
            found.kind == ReleaseKind::Application && found.measurements.contains(&measurement)
        });
        let Some(found) = found else {
            report.plan(Fault::NotAnApplication { release, measurement });
            continue;
        };
        check_term(term, found, report);
        if !is_served(change, at, found, inventory) {
            let application = change.application.clone();
            report.plan(Fault::NotServed { application, measurement });
        }
        versions.push(found);
    }
    let [old, new] = versions.as_slice() else { return };
    if inventory.now > new.not_after {
        report.plan(Fault::ReleaseExpired { not_after: new.not_after });
    }
    if new.security_version < old.security_version {
        let (from, to) = (old.security_version, new.security_version);
        report.plan(Fault::SecurityVersionLower { from, to });
    }
}

fn check_term(term: &ProgramTerm, release: &Release, report: &mut Report) {
    if term.release != release.name {
        report.plan(Fault::Terms { what: "name another release than the plan" });
    }
    if release.artifacts.iter().all(|artifact| artifact.digest != term.program) {
        report.plan(Fault::Terms { what: "name a program that is no file of the release" });
    }
}

/// Whether the policy gives this code every key that outlives it.
fn is_served(
    change: &ServiceChange,
    at: &Placement,
    release: &Release,
    inventory: &Inventory,
) -> bool {
    let mut rules = inventory.policy.applications.iter();
    let rule = rules
        .find(|rule| rule.application == change.application && rule.measurement == at.measurement);
    let Some(rule) = rule else { return false };
    let lasting = change.terms.keys.iter().filter(|term| term.custody == KeyCustody::Keyring);
    let given = match &rule.keys {
        KeyScope::All => true,
        KeyScope::Only(keys) => lasting.into_iter().all(|term| keys.contains(&term.key)),
    };
    given && release.security_version >= rule.security_version
}

/// What is wrong with some terms, whatever the plan.
fn faults_of(terms: &Terms) -> Vec<&'static str> {
    let sorted = terms.keys.is_sorted_by(|left, right| left.key < right.key);
    let distinct = |count: usize, of: usize| count == of;
    let migrations: BTreeSet<_> = terms.migrations.iter().collect();
    let tests: BTreeSet<_> = terms.tests.iter().collect();
    let moves = terms.schema_to <= terms.schema_from || !terms.migrations.is_empty();
    let judged = [
        (moves, "change the schema without a migration"),
        (terms.schema_to >= terms.schema_from, "take the schema back"),
        (!terms.tests.is_empty(), "try nothing before clients are let in"),
        (terms.quiet_milliseconds > 0, "ask for no quiet time before a freeze"),
        (sorted, "list keys twice or out of order"),
        (distinct(migrations.len(), terms.migrations.len()), "list a migration twice"),
        (distinct(tests.len(), terms.tests.len()), "list a test twice"),
    ];
    judged.into_iter().filter(|(holds, _)| !holds).map(|(_, what)| what).collect()
}

/// Whether the terms change what only all nodes together can change.
fn changes_more(terms: &Terms) -> bool {
    terms.configuration_from != terms.configuration_to
        || terms.schema_from != terms.schema_to
        || !terms.migrations.is_empty()
}
