//! Who changes when, and what each step comes after.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::fleet::Node;
use heirloom_model::identifier::{NodeId, OperatorId};
use heirloom_model::plan::{Action, Gate, KeyringPlan, Placement, RollbackStep, Step, StepId};

use super::{Fault, Report};
use crate::inventory::Inventory;

/// What the checks of single nodes look up.
pub(super) struct Survey<'a> {
    pub(super) plan: KeyringPlan<'a>,
    pub(super) inventory: &'a Inventory,
    pub(super) nodes: Vec<Surveyed<'a>>,
    index: BTreeMap<&'a NodeId, usize>,
    /// The nodes of each wave; wave 1 is the first element.
    pub(super) waves: Vec<BTreeSet<NodeId>>,
    /// For each forward step: what is certain when it starts, and when it is done.
    reached: Vec<(Reached, Reached)>,
    /// How many nodes each operator runs.
    operators: BTreeMap<&'a OperatorId, usize>,
}

/// One node and its steps.
pub(super) struct Surveyed<'a> {
    pub(super) node: &'a Node,
    /// The wave in which it stops; 0 if it never does.
    pub(super) wave: u32,
    /// Forward steps that change it, and the proofs of its own keeper.
    pub(super) forward: Vec<&'a Step>,
    /// Its way back.
    pub(super) back: Vec<&'a RollbackStep>,
}

/// What is certain at some moment, because of the gates that were passed.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    /// Every node is prepared.
    prepared: bool,
    /// After that, every node proved that it holds.
    ready: bool,
    /// Up to this wave, every node has carried out its last own step.
    changed: u32,
    /// Up to this wave, every node was verified twice.
    verified: u32,
    /// Every node of the plan was verified twice, after everything changed.
    all_verified: bool,
}

/// Who verified a wave for the first time.
type First<'a> = (StepId, &'a NodeId);

impl<'a> Survey<'a> {
    pub(super) fn of(plan: KeyringPlan<'a>, inventory: &'a Inventory, report: &mut Report) -> Self {
        let mut nodes: Vec<Surveyed<'a>> = inventory
            .nodes
            .iter()
            .map(|node| Surveyed { node, wave: 0, forward: Vec::new(), back: Vec::new() })
            .collect();
        let index: BTreeMap<&NodeId, usize> =
            inventory.nodes.iter().enumerate().map(|(at, node)| (&node.node, at)).collect();
        for step in &plan.plan().steps {
            let Some(found) = index.get(&step.node).and_then(|at| nodes.get_mut(*at)) else {
                continue;
            };
            // Where the fleet is small, a node also verifies its own wave, after it proved.
            let proved = found.forward.last().is_some_and(|last| is_verification(last));
            if !changes(step) || (proved && is_verification(step)) {
                continue;
            }
            found.forward.push(step);
            if matches!(step.action, Action::Stop(_)) {
                if found.wave != 0 {
                    let node = step.node.clone();
                    report.step(step.id, Fault::ChangedTwice { node });
                }
                found.wave = step.wave;
            }
        }
        for back in &plan.plan().rollback {
            if let Some(found) = index.get(&back.step.node).and_then(|at| nodes.get_mut(*at)) {
                found.back.push(back);
            }
        }
        let waves = waves(&nodes, report);
        let mut operators = BTreeMap::new();
        for node in &inventory.nodes {
            *operators.entry(&node.operator).or_default() += 1;
        }
        let reached = Vec::new();
        let mut survey = Self { plan, inventory, nodes, index, waves, reached, operators };
        survey.walk(report);
        survey
    }

    /// What runs on a node before and after. A plan that says nothing about the node's kind of
    /// platform names foreign code for it, whatever it names.
    pub(super) fn codes(&self, node: &NodeId) -> (Placement, Placement) {
        let kept = self.plan.keyring;
        let before = self.inventory.code_of(node, &kept.from.release);
        before.map_or((kept.from, kept.to), |before| {
            let nowhere = || {
                let at = Placement { measurement: before, ..kept.from };
                (at, Placement { measurement: before, ..kept.to })
            };
            kept.pair_from(&before).unwrap_or_else(nowhere)
        })
    }

    /// The wave in which a node changes; 0 if it never does.
    pub(super) fn wave_of(&self, node: &NodeId) -> u32 {
        self.surveyed(node).map_or(0, |found| found.wave)
    }

    pub(super) fn surveyed(&self, node: &NodeId) -> Option<&Surveyed<'a>> {
        self.nodes.get(*self.index.get(node)?)
    }

    /// The nodes of a wave.
    pub(super) fn members(&self, wave: u32) -> Option<&BTreeSet<NodeId>> {
        self.waves.get(usize::try_from(wave.checked_sub(1)?).ok()?)
    }

    /// Whether every node is prepared and has proven when a step starts.
    pub(super) fn is_ready_before(&self, step: StepId) -> bool {
        self.reached(step).ready
    }

    /// Whether every wave before this one is verified twice when a step starts.
    pub(super) fn is_after_wave_before(&self, step: StepId, wave: u32) -> bool {
        self.reached(step).verified.saturating_add(1) >= wave
    }

    /// Whether everything is verified twice when a step starts.
    pub(super) fn is_after_everything(&self, step: StepId) -> bool {
        self.reached(step).all_verified
    }

    /// What is certain when a step starts.
    fn reached(&self, step: StepId) -> Reached {
        self.around(step).0
    }

    fn around(&self, step: StepId) -> (Reached, Reached) {
        let at = usize::try_from(step.0).ok();
        at.and_then(|at| self.reached.get(at)).copied().unwrap_or_default()
    }

    /// Walks forward once. What a step adds is certain for those that wait for it.
    fn walk(&mut self, report: &mut Report) {
        let prepares: BTreeSet<StepId> = self
            .plan
            .steps
            .iter()
            .filter(|step| matches!(step.action, Action::Prepare(_)))
            .map(|step| step.id)
            .collect();
        let lasts: BTreeMap<StepId, u32> = self
            .nodes
            .iter()
            .filter_map(|found| Some((found.forward.last()?.id, found.wave)))
            .collect();
        let mut firsts: BTreeMap<u32, Vec<First<'a>>> = BTreeMap::new();
        let mut twice: BTreeSet<u32> = BTreeSet::new();
        for step in &self.plan.plan().steps {
            let before_it = self.before(step, &prepares, &lasts);
            let mut reached = before_it;
            reached.ready |= reached.prepared && self.asks_everybody(step);
            let covered = self.covered(step, &reached);
            let all = covered.len() == self.waves.len() && !covered.is_empty();
            for wave in covered {
                let before: Vec<First<'a>> = firsts.get(&wave).cloned().unwrap_or_default();
                let before: Vec<_> = before.iter().filter(|(id, _)| waits_for(step, *id)).collect();
                let other = before.iter().find(|(_, verifier)| *verifier != &step.node);
                match other {
                    Some((_, verifier)) => self.compare_operators(step, verifier, wave, report),
                    // A witness of a later wave may have been a verifier of this one.
                    None if before.is_empty() || (step.wave != wave && !all) => {}
                    None => {
                        let node = step.node.clone();
                        report.step(step.id, Fault::SameVerifier { wave, node });
                    }
                }
                let last = u32::try_from(self.waves.len()).unwrap_or(u32::MAX);
                let again = other.is_some() && (step.wave == wave || wave == last);
                if again {
                    twice.insert(wave);
                    if reached.ready && reached.verified.saturating_add(1) >= wave {
                        reached.verified = reached.verified.max(wave);
                    }
                    reached.all_verified |= all && wave == last;
                }
                firsts.entry(wave).or_default().push((step.id, &step.node));
            }
            self.reached.push((before_it, reached));
        }
        for wave in (1_u32..).take(self.waves.len()).filter(|wave| !twice.contains(wave)) {
            report.plan(Fault::NotVerifiedTwice { wave });
        }
    }

    /// What a step's gates make certain.
    fn before(
        &self,
        step: &Step,
        prepares: &BTreeSet<StepId>,
        lasts: &BTreeMap<StepId, u32>,
    ) -> Reached {
        let mut reached = Reached::default();
        let mut prepared = BTreeSet::new();
        let mut done: BTreeMap<u32, BTreeSet<StepId>> = BTreeMap::new();
        for gate in &step.gates {
            let (Gate::Done(before) | Gate::Proven { since: before, .. }) = gate else { continue };
            // A proof shows that the step which asked had started, not that all answered it.
            let (started, done_too) = self.around(*before);
            let earlier = if matches!(gate, Gate::Done(_)) { done_too } else { started };
            reached.prepared |= earlier.prepared;
            reached.ready |= earlier.ready;
            reached.changed = reached.changed.max(earlier.changed);
            reached.verified = reached.verified.max(earlier.verified);
            reached.all_verified |= earlier.all_verified;
            if matches!(gate, Gate::Done(_)) {
                if prepares.contains(before) {
                    prepared.insert(*before);
                }
                if let Some(wave) = lasts.get(before) {
                    done.entry(*wave).or_default().insert(*before);
                }
            }
        }
        reached.prepared |= prepared.len() == self.nodes.len();
        for (wave, steps) in done {
            let complete = self.members(wave).is_some_and(|members| members.len() == steps.len());
            if complete && reached.changed.saturating_add(1) >= wave {
                reached.changed = reached.changed.max(wave);
            }
        }
        reached
    }

    /// Whether this step asks every node for a proof and waits for all of them.
    fn asks_everybody(&self, step: &Step) -> bool {
        let Action::Verify { targets, need, .. } = &step.action else { return false };
        let enough = usize::try_from(*need).is_ok_and(|need| need >= self.nodes.len());
        // Few steps ask so many, so the set is rarely made.
        enough && targets.iter().collect::<BTreeSet<_>>().len() == self.nodes.len()
    }

    /// The waves of which this step verifies every node, after every node changed.
    fn covered(&self, step: &Step, reached: &Reached) -> Vec<u32> {
        let Action::Verify { targets, need, .. } = &step.action else { return Vec::new() };
        if usize::try_from(*need).is_ok_and(|need| need < targets.len()) {
            return Vec::new();
        }
        let mut found: BTreeMap<u32, BTreeSet<&NodeId>> = BTreeMap::new();
        for target in targets {
            found.entry(self.wave_of(target)).or_default().insert(target);
        }
        let complete = |(wave, nodes): &(u32, BTreeSet<&NodeId>)| {
            *wave <= reached.changed
                && self.members(*wave).is_some_and(|members| members.len() == nodes.len())
        };
        found.into_iter().filter(complete).map(|(wave, _)| wave).collect()
    }

    fn compare_operators(&self, step: &Step, first: &NodeId, wave: u32, report: &mut Report) {
        let operator = |node: &NodeId| self.surveyed(node).map(|found| &found.node.operator);
        if operator(&step.node) != operator(first) {
            return;
        }
        // A verification of one wave is best made from outside it. The final ones cover every
        // wave; one finding about them is enough.
        let is_last = usize::try_from(wave).is_ok_and(|wave| wave == self.waves.len());
        let inside = match self.members(wave) {
            Some(members) if step.wave == wave => members,
            _ if is_last => &BTreeSet::new(),
            _ => return,
        };
        let mut outside = self.operators.clone();
        for member in inside.iter().filter_map(operator) {
            if let Some(count) = outside.get_mut(member) {
                *count = count.saturating_sub(1);
            }
        }
        if outside.values().filter(|count| **count > 0).count() > 1 {
            report.step(step.id, Fault::OneOperator { wave });
        }
    }
}

/// Whether a step changes its own node, or proves that its own keeper holds.
fn changes(step: &Step) -> bool {
    match &step.action {
        Action::Verify { targets, .. } => targets.as_slice() == std::slice::from_ref(&step.node),
        Action::Withdraw(_) => false,
        Action::Prepare(_)
        | Action::Drain(_)
        | Action::Stop(_)
        | Action::Quarantine(_)
        | Action::Restore(_)
        | Action::Install { .. }
        | Action::Start(_)
        | Action::Replicate { .. }
        | Action::Restart(_)
        | Action::HandOver { .. }
        | Action::Suspend(_)
        | Action::Activate(_)
        | Action::Forget(_)
        | Action::Preserve(_)
        | Action::Reseal(_)
        | Action::Service(_)
        | Action::Commit
        | Action::Participant(_) => true,
    }
}

fn is_verification(step: &Step) -> bool {
    matches!(step.action, Action::Verify { .. })
}

/// Whether a step waits for another one directly.
pub(super) fn waits_for(step: &Step, before: StepId) -> bool {
    step.gates.iter().any(|gate| matches!(gate, Gate::Done(found) if *found == before))
}

fn waves(nodes: &[Surveyed<'_>], report: &mut Report) -> Vec<BTreeSet<NodeId>> {
    let mut waves: BTreeMap<u32, BTreeSet<NodeId>> = BTreeMap::new();
    for found in nodes.iter().filter(|found| found.wave != 0) {
        waves.entry(found.wave).or_default().insert(found.node.node.clone());
    }
    if waves.keys().zip(1_u32..).any(|(found, expected)| *found != expected) {
        report.plan(Fault::WaveNumbers);
    }
    waves.into_values().collect()
}
