//! A plan, told to people: for every step, which copies of the keyring exist before and after.
//!
//! Rows are data, so that a dashboard shows them as well; [`text`] makes text of them. Copies
//! are counted, not listed: a table of every copy at every step of a large fleet would be read
//! by nobody. A step names the one node that it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use heirloom_attest::result::AnchorClass;
use heirloom_model::counter::Epoch;
use heirloom_model::digest::ReleaseDigest;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, KeyringPlan, Plan, Step, StepId};
use heirloom_registry::network::NetworkState;

use crate::calendar::{Entry, calendar_from};
use crate::inventory::{Inventory, InventoryError};

mod ledger;
pub mod participant;
pub mod service;
pub mod text;
mod words;

use ledger::Ledger;
use words::{action, gates};

/// A plan, told to people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// What the plan is about, in sentences.
    pub summary: Vec<String>,
    /// What must be said aloud, in sentences.
    pub warnings: Vec<String>,
    /// The waves.
    pub waves: Vec<Wave>,
    /// The forward steps.
    pub steps: Vec<Row>,
    /// The way back. What exists before depends on when the abort comes, so no copies are told.
    pub rollback: Vec<BackRow>,
    /// The point of no return.
    pub point_of_no_return: StepId,
    /// How independent the holders are.
    pub diversity: Diversity,
    /// What expires, against the end of the plan.
    pub calendar: Vec<Entry>,
    /// What is closed when, and what an abort does, if the plan changes a service.
    pub phases: Vec<service::Phase>,
}

/// Nodes that change together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wave {
    /// Its number, from 1.
    pub number: u32,
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// Failure domains that keep a holder outside.
    pub failure_domains_outside: usize,
}

/// One forward step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// The step.
    pub step: StepId,
    /// Its wave.
    pub wave: u32,
    /// Whose agent carries it out.
    pub node: NodeId,
    /// What it does.
    pub action: String,
    /// What must hold first.
    pub gates: Vec<String>,
    /// The copies before.
    pub before: Copies,
    /// The copies after.
    pub after: Copies,
}

/// One step of the way back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackRow {
    /// The step.
    pub step: StepId,
    /// Whose agent carries it out.
    pub node: NodeId,
    /// What it does.
    pub action: String,
    /// What must hold first.
    pub gates: Vec<String>,
    /// Needed if this forward step may have begun.
    pub undoes: StepId,
}

/// Copies of the keyring, counted, if every step so far was carried out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Copies {
    /// Running holders of the old release, or on the node that holds before a move.
    pub old: usize,
    /// Running upgraders that unsealed what they carry.
    pub carried: usize,
    /// Running holders of the new release, or on the node that holds after a move, that unsealed
    /// what they hold.
    pub new: usize,
    /// Running holders that have not restarted since they received it.
    pub unproven: usize,
    /// Sealed copies whose code does not run: live ones of stopped keepers, and quarantined ones.
    pub sealed: usize,
    /// Failure domains with a running holder that counts.
    pub failure_domains: usize,
}

/// How independent the holders are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Diversity {
    /// Nodes.
    pub nodes: usize,
    /// Distinct failure domains.
    pub failure_domains: usize,
    /// Distinct machines, as the fleet names them.
    pub hosts: usize,
    /// Distinct operators.
    pub operators: usize,
    /// Distinct platforms, as evidence shows them.
    pub platforms: usize,
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, carried, new, unproven, sealed, failure_domains } = self;
        write!(f, "{old} old + ")?;
        if *carried > 0 {
            write!(f, "{carried} carried + ")?;
        }
        write!(
            f,
            "{new} new proven in {failure_domains} domains, {unproven} unproven, {sealed} sealed"
        )
    }
}

/// Explains a plan about a keyring against the log. What moves participants is told by
/// [`participant`].
pub fn explain(
    plan: &Plan,
    state: &NetworkState,
    epoch_seconds: Option<u64>,
) -> Result<Explanation, InventoryError> {
    let kept = KeyringPlan::of(plan).ok_or(InventoryError::NoKeyring)?;
    Ok(explain_from(kept, &Inventory::of(state, &plan.domain)?, epoch_seconds))
}

/// Explains a plan against an inventory.
pub fn explain_from(
    plan: KeyringPlan<'_>,
    inventory: &Inventory,
    epoch_seconds: Option<u64>,
) -> Explanation {
    let mut ledger = Ledger::new(plan, inventory);
    let steps = plan.steps.iter().map(|step| row(plan, step, &mut ledger)).collect();
    let back = plan.rollback.iter().map(|back| BackRow {
        step: back.step.id,
        node: back.step.node.clone(),
        action: action(plan, &back.step.action),
        gates: gates(plan, &back.step),
        undoes: back.undoes,
    });
    Explanation {
        summary: summary(plan, inventory),
        warnings: warnings(plan, inventory),
        waves: waves(plan, inventory),
        steps,
        rollback: back.collect(),
        point_of_no_return: plan.point_of_no_return,
        diversity: diversity(plan, inventory),
        calendar: calendar_from(plan, inventory, epoch_seconds),
        phases: service::phases(plan),
    }
}

fn row(plan: KeyringPlan<'_>, step: &Step, ledger: &mut Ledger<'_>) -> Row {
    let before = ledger.copies;
    ledger.apply(plan, step);
    Row {
        step: step.id,
        wave: step.wave,
        node: step.node.clone(),
        action: action(plan, &step.action),
        gates: gates(plan, step),
        before,
        after: ledger.copies,
    }
}

fn summary(plan: KeyringPlan<'_>, inventory: &Inventory) -> Vec<String> {
    let first = plan.steps.iter().find_map(|step| {
        step.gates.iter().find_map(|gate| match gate {
            Gate::Epoch(epoch) => Some(*epoch),
            _ => None,
        })
    });
    let mut told = vec![subject(plan, inventory)];
    let changes = plan.keyring.pairs().filter(|(from, to)| from != to);
    told.extend(
        changes.map(|(from, to)| format!("from {} to {}", from.measurement, to.measurement)),
    );
    told.extend(plan.keyring.via.map(|via| {
        let name = release_name(&via.release, inventory);
        format!("by way of {name}, {}: it carries the keyring and never serves", via.measurement)
    }));
    let where_kept = match () {
        () if plan.service.is_some() => "before anything is closed; no copy is given up",
        () if plan.has_waves() => "outside every wave",
        () => "whichever copy is given up",
    };
    told.push(format!(
        "the keyring up to generation {} (checksum {}) must survive: {} failure domains keep \
         a proven holder {where_kept}",
        plan.keyring.generation, plan.keyring.checksum, plan.keyring.holders_min
    ));
    if let Some(change) = &plan.service {
        told.extend(service::summary(plan, change));
        return told;
    }
    told.extend(
        first.map(|Epoch(epoch)| {
            format!("after the first wave nothing goes on before epoch {epoch}")
        }),
    );
    told.push(format!("no step starts after epoch {}", plan.not_after));
    told.extend(silence(plan));
    told.push(format!(
        "the point of no return is step {}: before it an abort restores the old release, after \
         it there is only forward",
        plan.point_of_no_return
    ));
    told
}

/// What is done to what.
fn subject(plan: KeyringPlan<'_>, inventory: &Inventory) -> String {
    let (domain, number) = (plan.domain, plan.number);
    if let Some(change) = &plan.service {
        return service::subject(plan, change, |digest| release_name(digest, inventory));
    }
    let from = release_name(&plan.keyring.from.release, inventory);
    if plan.keyring.from.release != plan.keyring.to.release {
        let (strategy, to) =
            (plan.strategy.name(), release_name(&plan.keyring.to.release, inventory));
        return format!(
            "{strategy} upgrade of domain {domain} from {from} to {to}, plan number {number}"
        );
    }
    let moved = plan.steps.iter().find_map(|step| match &step.action {
        Action::HandOver { from_node, .. } => Some((from_node, &step.node)),
        _ => None,
    });
    match moved {
        Some((old, new)) => format!(
            "move of domain {domain} from {old} to {new}, with release {from} as it is, plan \
             number {number}"
        ),
        None => format!(
            "sealing domain {domain} again on {}, with release {from} as it is, plan number \
             {number}",
            words::names(&plan.nodes)
        ),
    }
}

fn release_name(digest: &ReleaseDigest, inventory: &Inventory) -> String {
    let release = inventory.releases.get(digest);
    release.map_or_else(|| format!("unknown release {digest}"), |found| found.name.to_string())
}

/// When nobody answers, if an active holder hands over to the next one.
fn silence(plan: KeyringPlan<'_>) -> Option<String> {
    let suspends = |step: &&Step| matches!(step.action, Action::Suspend(_));
    let activates = |step: &&Step| matches!(step.action, Action::Activate(_));
    let suspend = plan.steps.iter().find(suspends)?.id;
    let activate = plan.steps.iter().find(activates)?.id;
    Some(format!(
        "nobody answers from step {suspend} to step {activate}: for as long as the log takes \
         the suspension, its result and the activation; the new holder runs and has proven before"
    ))
}

fn warnings(plan: KeyringPlan<'_>, inventory: &Inventory) -> Vec<String> {
    let mut told = Vec::new();
    for (anchor, class) in &inventory.anchors {
        match class {
            AnchorClass::Development => told.push(format!(
                "development root {anchor} is trusted: platforms under it protect nothing from \
                 whoever runs them"
            )),
            AnchorClass::Production => {}
        }
    }
    told.extend(service::warnings(plan));
    let diversity = diversity(plan, inventory);
    for (what, count) in [
        ("failure domain", diversity.failure_domains),
        ("host", diversity.hosts),
        ("operator", diversity.operators),
        ("platform", diversity.platforms),
    ] {
        if count == 1 {
            told.push(format!("all holders share one {what}"));
        }
    }
    if plan.keyring.holders_min < 2 {
        let place = match () {
            () if plan.service.is_some() => "in the domain",
            () if plan.has_waves() => "outside a wave",
            () => "in another seat",
        };
        told.push(format!("one proven holder {place} is enough for this plan"));
    }
    told
}

fn waves(plan: KeyringPlan<'_>, inventory: &Inventory) -> Vec<Wave> {
    let mut members: BTreeMap<u32, Vec<NodeId>> = BTreeMap::new();
    for step in &plan.steps {
        if step.wave != 0 && matches!(step.action, Action::Stop(_)) {
            members.entry(step.wave).or_default().push(step.node.clone());
        }
    }
    let mut sizes: BTreeMap<_, usize> = BTreeMap::new();
    for node in &inventory.nodes {
        *sizes.entry(&node.failure_domain).or_default() += 1;
    }
    let outside = |nodes: &[NodeId]| {
        let mut taken: BTreeMap<_, usize> = BTreeMap::new();
        for node in nodes.iter().filter_map(|node| inventory.node(node)) {
            *taken.entry(&node.failure_domain).or_default() += 1;
        }
        let emptied = taken.iter().filter(|(domain, count)| sizes.get(*domain) == Some(count));
        sizes.len().saturating_sub(emptied.count())
    };
    members
        .into_iter()
        .map(|(number, nodes)| {
            let failure_domains_outside = outside(&nodes);
            Wave { number, nodes, failure_domains_outside }
        })
        .collect()
}

/// How independent the nodes are that hold before or after.
fn diversity(plan: KeyringPlan<'_>, inventory: &Inventory) -> Diversity {
    let nodes: Vec<_> = plan.nodes.iter().filter_map(|node| inventory.node(node)).collect();
    let platforms = plan.nodes.iter().filter_map(|node| inventory.registered.get(node));
    let platforms = platforms.flat_map(BTreeMap::values);
    Diversity {
        nodes: nodes.len(),
        failure_domains: nodes
            .iter()
            .map(|node| &node.failure_domain)
            .collect::<BTreeSet<_>>()
            .len(),
        hosts: nodes.iter().map(|node| &node.host).collect::<BTreeSet<_>>().len(),
        operators: nodes.iter().map(|node| &node.operator).collect::<BTreeSet<_>>().len(),
        platforms: platforms.map(|seen| seen.platform).collect::<BTreeSet<_>>().len(),
    }
}
