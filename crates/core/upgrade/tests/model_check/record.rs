//! The log of one plan, as far as a model needs it.

use heirloom_model::plan::{Action, Gate, Plan, Step, StepId};

/// A set of steps of a small plan.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Steps(u128);

impl Steps {
    pub(crate) fn has(self, step: StepId) -> bool {
        self.0 & bit(step) != 0
    }

    pub(crate) fn add(&mut self, step: StepId) {
        self.0 |= bit(step);
    }
}

fn bit(step: StepId) -> u128 {
    assert!(step.0 < u128::BITS, "a model has a small plan");
    1 << step.0
}

/// Results and aborts, in the order in which they count.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Record {
    /// Steps that have a result.
    pub(crate) done: Steps,
    /// Steps that a holder itself witnessed.
    pub(crate) witnessed: Steps,
    /// The steps that may have been started when the plan was called off, if it was.
    pub(crate) aborted: Option<Steps>,
    /// Steps that had a result then: all that somebody knows who has not read the abort.
    before: Steps,
}

/// Every step, forward and back.
pub(crate) fn all_steps(plan: &Plan) -> impl Iterator<Item = &Step> {
    plan.steps.iter().chain(plan.rollback.iter().map(|back| &back.step))
}

impl Record {
    /// Whether a step has a result, or needs none.
    fn is_settled(&self, plan: &Plan, step: StepId) -> bool {
        self.done.has(step)
            || self.witnessed.has(step)
            || (plan.is_rollback(step) && !self.is_needed(plan, step))
    }

    /// Whether a rollback step has something to undo, as far as the log can tell.
    pub(crate) fn is_needed(&self, plan: &Plan, step: StepId) -> bool {
        let undoes = plan.rollback.iter().find(|back| back.step.id == step);
        let undoes = undoes.map(|back| back.undoes);
        self.aborted.zip(undoes).is_some_and(|(started, undoes)| started.has(undoes))
    }

    /// Whether everything before a step is settled. Proofs, rehearsals and epochs come by
    /// themselves in a model; what services agree on is the model's own.
    pub(crate) fn is_open(&self, plan: &Plan, step: &Step) -> bool {
        step.gates.iter().all(|gate| match gate {
            Gate::Done(before) | Gate::Waited { since: before, .. } => {
                self.is_settled(plan, *before)
            }
            Gate::AllDone { first, last } => {
                (first.0..=last.0).all(|step| self.is_settled(plan, StepId(step)))
            }
            Gate::Agreed { .. }
            | Gate::Proven { .. }
            | Gate::Registered { .. }
            | Gate::Epoch(_)
            | Gate::PolicyPublished(_)
            | Gate::Rehearsed { .. }
            | Gate::Consented { .. }
            | Gate::Concordant { .. } => true,
        })
    }

    /// Whether there is only forward.
    pub(crate) fn is_past_no_return(&self, plan: &Plan) -> bool {
        let activates = |step: &&Step| matches!(step.action, Action::Activate(_));
        self.done.has(plan.point_of_no_return)
            || plan.steps.iter().filter(activates).any(|step| self.witnessed.has(step.id))
    }

    /// Calls the plan off, unless it is too late. Nobody has started what services would have to
    /// agree about first.
    pub(crate) fn abort(&mut self, plan: &Plan, agrees: impl Fn(&Step) -> bool) {
        if self.aborted.is_some() || self.is_past_no_return(plan) {
            return;
        }
        let mut started = Steps::default();
        for step in plan.steps.iter().filter(|step| self.is_open(plan, step) && agrees(step)) {
            started.add(step.id);
        }
        self.aborted = Some(started);
        self.before = self.done;
    }

    /// The log as somebody sees it who has not read on to the abort.
    pub(crate) fn until_abort(&self) -> Self {
        let done = if self.aborted.is_some() { self.before } else { self.done };
        Self { done, aborted: None, ..*self }
    }

    /// Appends a result, if it counts.
    pub(crate) fn report(&mut self, plan: &Plan, step: &Step) {
        let counts = match (self.aborted, plan.is_rollback(step.id)) {
            (None, back) => !back,
            (Some(_), true) => true,
            (Some(started), false) => started.has(step.id) && step.id != plan.point_of_no_return,
        };
        if counts && self.is_open(plan, step) {
            self.done.add(step.id);
        }
    }

    /// Whether everything that was begun is back.
    pub(crate) fn is_rolled_back(&self, plan: &Plan) -> bool {
        let back = |step: &Step| !self.is_needed(plan, step.id) || self.done.has(step.id);
        self.aborted.is_some() && plan.rollback.iter().all(|it| back(&it.step))
    }

    /// Whether every forward step has a result.
    pub(crate) fn is_finished(&self, plan: &Plan) -> bool {
        plan.steps.iter().all(|step| self.done.has(step.id))
    }

    /// The first step of these that has no result.
    pub(crate) fn next<'p>(
        &self,
        plan: &'p Plan,
        is_own: impl Fn(&Step) -> bool,
        called_off: bool,
    ) -> Option<&'p Step> {
        all_steps(plan).find(|step| {
            let turn =
                if called_off { self.is_needed(plan, step.id) } else { !plan.is_rollback(step.id) };
            turn && is_own(step) && !self.done.has(step.id)
        })
    }
}
