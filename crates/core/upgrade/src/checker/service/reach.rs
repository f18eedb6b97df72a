//! What certainly came before a step, in every order that the gates allow.

use std::collections::BTreeMap;

use heirloom_model::plan::{Gate, Plan, Step, StepId};

/// Bits of one word.
const WORD: usize = 64;

/// For each step, the steps that have a result whenever it starts. On the way back a step also
/// counts if it is not needed.
pub(in crate::checker) struct Reach {
    before: Vec<Set>,
}

/// A set of steps.
#[derive(Clone, Default)]
struct Set(Vec<u64>);

impl Reach {
    /// Gates look back, so one pass is enough.
    pub(in crate::checker) fn of(plan: &Plan) -> Self {
        let mut reach = Self { before: Vec::new() };
        // Each block waits for whole ranges, every step of it for the same ones.
        let mut ranges: BTreeMap<(StepId, StepId, Certainty), Set> = BTreeMap::new();
        let back = plan.rollback.iter().map(|back| &back.step);
        for step in plan.steps.iter().chain(back) {
            let mut before = Set::default();
            for (first, last, certainty) in step.gates.iter().filter_map(range) {
                let key = (first, last, certainty);
                let set = ranges.entry(key).or_insert_with(|| reach.range(step, key));
                before.unite(set);
            }
            reach.before.push(before);
        }
        reach
    }

    /// Whether `earlier` has a result whenever `step` starts.
    pub(in crate::checker) fn is_after(&self, step: StepId, earlier: StepId) -> bool {
        index(step).and_then(|at| self.before.get(at)).is_some_and(|set| set.contains(earlier))
    }

    /// Everything that has a result whenever `step` starts.
    pub(super) fn before(&self, step: StepId) -> impl Iterator<Item = StepId> {
        let set = index(step).and_then(|at| self.before.get(at));
        set.into_iter().flat_map(Set::steps)
    }

    fn range(&self, of: &Step, (first, last, certainty): (StepId, StepId, Certainty)) -> Set {
        let mut set = Set::default();
        // Gates that look ahead were reported, and what they name is not known yet.
        let end = last.0.min(of.id.0.saturating_sub(1));
        for id in (first.0..=end).map(StepId) {
            if let Some(before) = index(id).and_then(|at| self.before.get(at)) {
                set.unite(before);
            }
            if certainty == Certainty::Done {
                set.insert(id);
            }
        }
        set
    }
}

/// What a gate says of the steps that it names.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Certainty {
    /// They have a result.
    Done,
    /// They were started: what they wait for has a result.
    Started,
}

fn range(gate: &Gate) -> Option<(StepId, StepId, Certainty)> {
    match gate {
        Gate::Done(step) | Gate::Waited { since: step, .. } => {
            Some((*step, *step, Certainty::Done))
        }
        Gate::AllDone { first, last } => Some((*first, *last, Certainty::Done)),
        Gate::Agreed { first, last }
        | Gate::Consented { first, last }
        | Gate::Concordant { first, last } => Some((*first, *last, Certainty::Started)),
        Gate::Proven { since, .. } => Some((*since, *since, Certainty::Started)),
        Gate::Registered { .. }
        | Gate::Epoch(_)
        | Gate::PolicyPublished(_)
        | Gate::Rehearsed { .. } => None,
    }
}

fn index(step: StepId) -> Option<usize> {
    usize::try_from(step.0).ok()
}

impl Set {
    fn insert(&mut self, step: StepId) {
        let Some(at) = index(step) else { return };
        if self.0.len() <= at / WORD {
            self.0.resize(at / WORD + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at / WORD) {
            *word |= 1 << (at % WORD);
        }
    }

    fn contains(&self, step: StepId) -> bool {
        let found = index(step).and_then(|at| Some(self.0.get(at / WORD)? >> (at % WORD) & 1));
        found == Some(1)
    }

    fn unite(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    fn steps(&self) -> impl Iterator<Item = StepId> {
        let bits =
            (0_u32..).zip(self.0.iter().flat_map(|word| (0..WORD).map(move |bit| word >> bit & 1)));
        bits.filter(|(_, bit)| *bit == 1).map(|(id, _)| StepId(id))
    }
}
