//! Whether the service of a domain may change as its operators agreed.

use std::collections::BTreeSet;

use heirloom_model::fleet::Node;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::{
    MIGRATIONS_MAX, REHEARSALS_MAX, SERVICE_KEYS_MAX, SERVICE_PEERS_MAX, TESTS_MAX,
};
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::Placement;
use heirloom_model::policy::{KeyScope, Sharing};
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_model::service::{KeyCustody, ProgramTerm, ServiceChange, Terms};

use super::eligible::{self, Changing, Ground};
use super::service::{ServiceError, StageFault};
use super::{FlagDayRequest, PlanError, PlanRequest, verifier, witness};
use crate::inventory::Inventory;

/// What is settled before the steps of a service are arranged.
pub(super) struct Footing<'i> {
    pub(super) ground: Ground,
    pub(super) change: ServiceChange,
    /// The nodes of the service: all of the domain, sorted.
    pub(super) nodes: &'i [Node],
    /// The nodes whose keepers prove, sorted.
    pub(super) holders: Vec<NodeId>,
    /// Who asks them first, and who asks them again.
    pub(super) verifiers: (&'i Node, &'i Node),
    /// The nodes that open together, in order.
    pub(super) stages: Vec<Vec<NodeId>>,
}

/// Refuses what no service can do.
pub(super) fn footing<'i>(
    request: &PlanRequest,
    wish: &FlagDayRequest,
    inventory: &'i Inventory,
) -> Result<Footing<'i>, PlanError> {
    let ground = eligible::stays(request, Changing::All, wish.abort_after, inventory)?;
    let needed = wish.opens.max(inventory.epoch);
    if wish.abort_after < needed {
        let abort_after = wish.abort_after;
        return Err(ServiceError::CalledOffTooEarly { abort_after, needed }.into());
    }
    let change = change(wish, inventory)?;
    check_lists(&change.terms)?;
    if let Some(withdraw) = wish.withdraw {
        eligible::check_withdrawal(withdraw, inventory)?;
    }
    let found = usize::try_from(wish.rehearsals).unwrap_or(usize::MAX);
    at_most("rehearsals", found, REHEARSALS_MAX)?;
    let nodes = inventory.nodes.as_slice();
    at_most("nodes", nodes.len(), SERVICE_PEERS_MAX + 1)?;
    let pair = verifier::pair(nodes);
    let verifiers = pair.ok_or(ServiceError::NoNodes(inventory.domain))?;
    let stages = stages(&wish.stages, nodes)?;
    let holders = holders(&ground, inventory)?;
    Ok(Footing { ground, change, nodes, holders, verifiers, stages })
}

/// Both releases as terms and policy know them.
fn change(wish: &FlagDayRequest, inventory: &Inventory) -> Result<ServiceChange, PlanError> {
    let not = |digest| ServiceError::NotAnApplication(digest);
    let released = |digest| {
        let found = eligible::released(digest, ReleaseKind::Application, inventory)?;
        found.ok_or_else(|| PlanError::from(not(digest)))
    };
    let (old, from) = released(wish.from)?;
    let (new, to) = released(wish.to)?;
    if inventory.now > new.not_after {
        let (release, not_after) = (wish.to, new.not_after);
        return Err(PlanError::ReleaseExpired { release, not_after, now: inventory.now });
    }
    if new.security_version < old.security_version {
        let (from, to) = (old.security_version, new.security_version);
        return Err(PlanError::SecurityVersionLower { from, to });
    }
    check_program(&wish.terms.from, old)?;
    check_program(&wish.terms.to, new)?;
    for (release, placement) in [(old, &from), (new, &to)] {
        check_rule(wish, release, placement, inventory)?;
    }
    check_schema(&wish.terms, &from, &to)?;
    Ok(ServiceChange {
        application: wish.application.clone(),
        from,
        to,
        terms: wish.terms.clone(),
        opens: wish.opens,
        abort_after: wish.abort_after,
    })
}

/// The terms are about this release.
fn check_program(term: &ProgramTerm, release: &Release) -> Result<(), ServiceError> {
    if term.release != release.name {
        let (expected, found) = (release.name.clone(), term.release.clone());
        return Err(ServiceError::OtherRelease { expected, found });
    }
    if !release.artifacts.iter().any(|artifact| artifact.digest == term.program) {
        let (release, program) = (release.name.clone(), term.program);
        return Err(ServiceError::OtherProgram { release, program });
    }
    Ok(())
}

/// The policy gives this code every key that must outlive it.
fn check_rule(
    wish: &FlagDayRequest,
    release: &Release,
    placement: &Placement,
    inventory: &Inventory,
) -> Result<(), ServiceError> {
    let (policy, measurement) = (inventory.policy.serial, placement.measurement);
    let mut rules = inventory.policy.applications.iter();
    let named =
        rules.find(|rule| rule.application == wish.application && rule.measurement == measurement);
    let rule = named.ok_or_else(|| {
        let application = wish.application.clone();
        ServiceError::Unnamed { policy, application, measurement }
    })?;
    if release.security_version < rule.security_version {
        let (needed, found) = (rule.security_version, release.security_version);
        return Err(ServiceError::SecurityVersionTooLow { policy, measurement, needed, found });
    }
    let given = |key| match &rule.keys {
        KeyScope::All => true,
        KeyScope::Only(keys) => keys.contains(key),
    };
    let lasting = wish.terms.keys.iter().filter(|term| term.custody == KeyCustody::Keyring);
    match lasting.map(|term| &term.key).find(|key| !given(key)) {
        Some(key) => Err(ServiceError::KeyNotGiven { policy, key: key.clone(), measurement }),
        None => Ok(()),
    }
}

/// The database only goes forward, and only on a flag day.
fn check_schema(terms: &Terms, from: &Placement, to: &Placement) -> Result<(), ServiceError> {
    if terms.schema_to < terms.schema_from {
        let (from, to) = (terms.schema_from, terms.schema_to);
        return Err(ServiceError::SchemaLower { from, to });
    }
    let moves = terms.schema_to == terms.schema_from || !terms.migrations.is_empty();
    let changes = |what| {
        let measurement: Measurement = to.measurement;
        Err(ServiceError::RestartChanges { measurement, what })
    };
    match () {
        () if from.measurement != to.measurement && moves => Ok(()),
        () if from.measurement != to.measurement => {
            Err(ServiceError::TermsWithout("migration to the new schema"))
        }
        () if terms.configuration_to != terms.configuration_from => changes("the configuration"),
        () if terms.schema_to != terms.schema_from => changes("the schema"),
        () if !terms.migrations.is_empty() => changes("the database"),
        () => Ok(()),
    }
}

/// What the terms must say, and how much of it.
fn check_lists(terms: &Terms) -> Result<(), PlanError> {
    at_most("migrations", terms.migrations.len(), MIGRATIONS_MAX)?;
    at_most("tests", terms.tests.len(), TESTS_MAX)?;
    at_most("keys", terms.keys.len(), SERVICE_KEYS_MAX)?;
    if terms.tests.is_empty() {
        return Err(ServiceError::TermsWithout("tests").into());
    }
    if terms.quiet_milliseconds == 0 {
        return Err(ServiceError::TermsWithout("quiet time").into());
    }
    let unsorted = |what, name: String| Err(ServiceError::TermsUnsorted { what, name }.into());
    for pair in terms.keys.windows(2) {
        if let [left, right] = pair
            && left.key >= right.key
        {
            return unsorted("keys", right.key.to_string());
        }
    }
    let mut seen = BTreeSet::new();
    if let Some(again) = terms.migrations.iter().find(|name| !seen.insert(*name)) {
        return unsorted("migrations", again.to_string());
    }
    let mut seen = BTreeSet::new();
    if let Some(again) = terms.tests.iter().find(|name| !seen.insert(*name)) {
        return unsorted("tests", again.to_string());
    }
    Ok(())
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), PlanError> {
    if found > limit {
        return Err(PlanError::TooLarge { what, found, limit });
    }
    Ok(())
}

/// Every node opens once. By default one node shows first what clients do to the new version.
fn stages(asked: &[Vec<NodeId>], nodes: &[Node]) -> Result<Vec<Vec<NodeId>>, ServiceError> {
    if asked.is_empty() {
        let names = |nodes: &[Node]| nodes.iter().map(|node| node.node.clone()).collect();
        let (first, rest) = nodes.split_at(nodes.len().min(1));
        let parts = [first, rest].into_iter().filter(|part| !part.is_empty());
        return Ok(parts.map(names).collect());
    }
    let mut missing: BTreeSet<&NodeId> = nodes.iter().map(|node| &node.node).collect();
    for stage in asked {
        if stage.is_empty() {
            return Err(ServiceError::Stages(StageFault::Empty));
        }
        for node in stage {
            if missing.remove(node) {
                continue;
            }
            let known = nodes.iter().any(|found| found.node == *node);
            let fault = if known { StageFault::Twice } else { StageFault::Unknown };
            return Err(ServiceError::Stages(fault(node.clone())));
        }
    }
    match missing.first() {
        Some(node) => Err(ServiceError::Stages(StageFault::Missing((*node).clone()))),
        None => Ok(asked.to_vec()),
    }
}

/// The nodes whose keepers can prove that nothing is lost, if everything else stops.
fn holders(ground: &Ground, inventory: &Inventory) -> Result<Vec<NodeId>, PlanError> {
    let code = |node: &Node| ground.pair(&node.node, inventory).0.measurement;
    let holds = |node: &&Node| match (inventory.policy.sharing, &inventory.active) {
        (Sharing::Replicated, _) => inventory.seen(&node.node, &code(node)).is_some(),
        (Sharing::Exclusive, Some((active, measurement))) => {
            *active == node.node && *measurement == code(node)
        }
        (Sharing::Exclusive, None) => false,
    };
    let keepers = || inventory.nodes.iter().filter(holds);
    if keepers().next().is_none() && inventory.policy.sharing == Sharing::Exclusive {
        return Err(PlanError::NobodyActive(inventory.domain));
    }
    let needed = ground.need;
    let survivors = witness::enough(inventory, ground, keepers());
    let _survivors = survivors.map_err(|risk| ServiceError::TooFewHolders { needed, risk })?;
    Ok(keepers().map(|node| node.node.clone()).collect())
}
