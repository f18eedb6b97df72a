//! A plan, told to people: for every step, which copies of the keyring exist before and after.
//!
//! Rows are data, so that a dashboard shows them as well; [`text`] makes text of them. Copies
//! are counted, not listed: a table of every copy at every step of a large fleet would be read
//! by nobody. A step names the one node that it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;

use heirloom_attest::result::AnchorClass;
use heirloom_model::counter::Epoch;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Gate, Plan, Step, StepId};
use heirloom_registry::network::NetworkState;

use crate::calendar::{Entry, calendar_from};
use crate::inventory::{Inventory, InventoryError};

pub mod text;

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
    /// Running holders of the old release.
    pub old: usize,
    /// Running holders of the new release that unsealed what they hold.
    pub new: usize,
    /// Running holders of the new release that have not restarted since they received it.
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
        let Self { old, new, unproven, sealed, failure_domains } = self;
        write!(
            f,
            "{old} old + {new} new proven in {failure_domains} domains, {unproven} unproven, \
             {sealed} sealed"
        )
    }
}

/// Explains a plan against the log.
pub fn explain(
    plan: &Plan,
    state: &NetworkState,
    epoch_seconds: Option<u64>,
) -> Result<Explanation, InventoryError> {
    Ok(explain_from(plan, &Inventory::of(state, &plan.domain)?, epoch_seconds))
}

/// Explains a plan against an inventory.
pub fn explain_from(plan: &Plan, inventory: &Inventory, epoch_seconds: Option<u64>) -> Explanation {
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
        diversity: diversity(inventory),
        calendar: calendar_from(plan, inventory, epoch_seconds),
    }
}

fn row(plan: &Plan, step: &Step, ledger: &mut Ledger<'_>) -> Row {
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

/// Where each node's copies are, while the plan is told.
struct Ledger<'i> {
    inventory: &'i Inventory,
    holding: BTreeMap<&'i NodeId, Holding>,
    /// Running holders that count, by failure domain.
    domains: BTreeMap<&'i str, usize>,
    copies: Copies,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Holding {
    running: Option<Running>,
    /// The old release's keyring is sealed on disk and its code does not run.
    sealed_old: usize,
    sealed_new: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Running {
    Old,
    New,
    Unproven,
}

impl<'i> Ledger<'i> {
    fn new(plan: &Plan, inventory: &'i Inventory) -> Self {
        let mut ledger = Self {
            inventory,
            holding: BTreeMap::new(),
            domains: BTreeMap::new(),
            copies: Copies::default(),
        };
        for name in &plan.nodes {
            let before = Holding::default();
            let after = Holding { running: Some(Running::Old), ..before };
            if let Some(node) = inventory.node(name) {
                ledger.count(&node.node, before, after);
            }
        }
        ledger
    }

    fn apply(&mut self, plan: &Plan, step: &Step) {
        let Some(node) = self.inventory.node(&step.node) else { return };
        let before = self.holding.get(&node.node).copied().unwrap_or_default();
        let is_new = |found: &Measurement| *found == plan.to.measurement;
        let mut after = before;
        match &step.action {
            Action::Stop(placement) => {
                after.running = None;
                if is_new(&placement.measurement) {
                    after.sealed_new += usize::from(before.running.is_some());
                } else {
                    after.sealed_old += usize::from(before.running.is_some());
                }
            }
            Action::Start(placement) | Action::Restart(placement) => {
                let sealed = if is_new(&placement.measurement) {
                    (after.sealed_new, Running::New)
                } else {
                    (after.sealed_old, Running::Old)
                };
                match (before.running, sealed) {
                    (Some(Running::Unproven), _) => after.running = Some(Running::New),
                    (None, (1.., Running::New)) => {
                        (after.sealed_new, after.running) = (0, Some(Running::New));
                    }
                    (None, (1.., kind)) => (after.sealed_old, after.running) = (0, Some(kind)),
                    _ => {}
                }
            }
            Action::Replicate { .. } if before.running.is_none() => {
                after.running = Some(Running::Unproven);
            }
            Action::Replicate { .. }
            | Action::Prepare(_)
            | Action::Verify { .. }
            | Action::Drain
            | Action::Quarantine(_)
            | Action::Restore(_)
            | Action::Install { .. }
            | Action::Withdraw(_) => {}
        }
        self.count(&node.node, before, after);
    }

    fn count(&mut self, node: &'i NodeId, before: Holding, after: Holding) {
        let domain = self.inventory.node(node).map_or("", |found| found.failure_domain.as_str());
        let members = self.domains.entry(domain).or_default();
        let copies = &mut self.copies;
        for (holding, sign) in [(before, -1_isize), (after, 1)] {
            let add = |count: &mut usize, by: usize| {
                *count = if sign > 0 { *count + by } else { count.saturating_sub(by) };
            };
            match holding.running {
                Some(Running::Old) => add(&mut copies.old, 1),
                Some(Running::New) => add(&mut copies.new, 1),
                Some(Running::Unproven) => add(&mut copies.unproven, 1),
                None => {}
            }
            if matches!(holding.running, Some(Running::Old | Running::New)) {
                let had = usize::from(*members > 0);
                add(members, 1);
                copies.failure_domains = copies.failure_domains + usize::from(*members > 0) - had;
            }
            add(&mut copies.sealed, holding.sealed_old + holding.sealed_new);
        }
        self.holding.insert(node, after);
    }
}

/// Names that one sentence lists.
const NAMED_MAX: usize = 6;

fn names(nodes: &[NodeId]) -> String {
    let mut text = String::new();
    for (position, node) in nodes.iter().take(NAMED_MAX).enumerate() {
        let separator = if position == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{node}");
    }
    if let Some(more @ 1..) = nodes.len().checked_sub(NAMED_MAX) {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Which of the plan's two releases a measurement is.
fn side(plan: &Plan, measurement: &Measurement) -> &'static str {
    if *measurement == plan.to.measurement { "new" } else { "old" }
}

fn action(plan: &Plan, action: &Action) -> String {
    let side = |measurement| side(plan, measurement);
    match action {
        Action::Prepare(placement) => {
            format!("stage and try the {} release", side(&placement.measurement))
        }
        Action::Verify { targets, need } => {
            format!("ask for proof, {need} of: {}", names(targets))
        }
        Action::Drain => "let running requests end".to_owned(),
        Action::Stop(placement) => format!("stop the {} keeper", side(&placement.measurement)),
        Action::Quarantine(measurement) => {
            format!("quarantine {} sealed state", side(measurement))
        }
        Action::Restore(measurement) => format!("restore {} sealed state", side(measurement)),
        Action::Install { expect, install } => {
            let (expect, install) = (side(&expect.measurement), side(&install.measurement));
            format!("install the {install} release in place of the {expect} one")
        }
        Action::Start(placement) => format!("start the {} keeper", side(&placement.measurement)),
        Action::Replicate { sources } => {
            format!("copy the keyring from one of: {}", names(sources))
        }
        Action::Restart(placement) => {
            format!("restart the {} keeper, so that it must unseal", side(&placement.measurement))
        }
        Action::Withdraw(serial) => {
            format!("policy serial {serial} takes effect: the old release loses its rights")
        }
    }
}

/// `Done` gates that one row lists.
const DONE_NAMED_MAX: usize = 4;

fn gates(plan: &Plan, step: &Step) -> Vec<String> {
    let mut told = Vec::new();
    let mut done = Vec::new();
    for gate in &step.gates {
        match gate {
            Gate::Done(before) => done.push(*before),
            Gate::Proven { holders, need, since } => told.push(format!(
                "{need} failure domains proven since step {since}, out of: {}",
                names(holders)
            )),
            Gate::Registered { node, measurement } => {
                let side = side(plan, measurement);
                told.push(format!("the {side} release registered on {node}"));
            }
            Gate::Epoch(epoch) => told.push(format!("epoch {epoch} reached")),
            Gate::PolicyPublished(serial) => told.push(format!("policy serial {serial} published")),
        }
    }
    match (done.first(), done.last()) {
        (Some(first), Some(last)) if done.len() > DONE_NAMED_MAX => {
            told.insert(0, format!("{} steps done, {first} to {last}", done.len()));
        }
        _ => {
            let steps = done.iter().map(|before| format!("step {before} done"));
            told.splice(0..0, steps);
        }
    }
    told
}

fn summary(plan: &Plan, inventory: &Inventory) -> Vec<String> {
    let release = |digest| {
        inventory
            .releases
            .get(digest)
            .map_or_else(|| format!("unknown release {digest}"), |release| release.name.to_string())
    };
    let first = plan.steps.iter().find_map(|step| {
        step.gates.iter().find_map(|gate| match gate {
            Gate::Epoch(epoch) => Some(*epoch),
            _ => None,
        })
    });
    let mut told = vec![
        format!(
            "{} upgrade of domain {} from {} to {}, plan number {}",
            plan.strategy.name(),
            plan.domain,
            release(&plan.from.release),
            release(&plan.to.release),
            plan.number
        ),
        format!("from {} to {}", plan.from.measurement, plan.to.measurement),
        format!(
            "the keyring up to generation {} (checksum {}) must survive: {} failure domains keep \
             a proven holder outside every wave",
            plan.generation, plan.checksum, plan.holders_min
        ),
    ];
    told.extend(
        first.map(|Epoch(epoch)| {
            format!("after the first wave nothing goes on before epoch {epoch}")
        }),
    );
    told.push(format!("no step starts after epoch {}", plan.not_after));
    told.push(format!(
        "the point of no return is step {}: before it an abort restores the old release, after \
         it there is only forward",
        plan.point_of_no_return
    ));
    told
}

fn warnings(plan: &Plan, inventory: &Inventory) -> Vec<String> {
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
    let diversity = diversity(inventory);
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
    if plan.holders_min < 2 {
        told.push("one proven holder outside a wave is enough for this plan".to_owned());
    }
    told
}

fn waves(plan: &Plan, inventory: &Inventory) -> Vec<Wave> {
    let mut members: BTreeMap<u32, Vec<NodeId>> = BTreeMap::new();
    for step in &plan.steps {
        if matches!(step.action, Action::Stop(_)) {
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

fn diversity(inventory: &Inventory) -> Diversity {
    let nodes = &inventory.nodes;
    let platforms = inventory.registered.values().flat_map(BTreeMap::values);
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
