//! What the log says about one plan.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::counter::{Epoch, LogIndex};
use heirloom_model::digest::PlanDigest;
use heirloom_model::identifier::{NodeId, OperatorId};
use heirloom_model::plan::{Action, Gate, Plan, Step, StepId, StepResult};
use heirloom_model::signature::PublicKey;

use crate::migration::{AgreementSeen, Concord, ParticipantStandingSeen};
use crate::standing::{Agreement, StandingSeen};
use crate::verified::{Quorum, Verified};

/// What the log says about one plan.
#[derive(Clone, Debug)]
pub struct PlanState {
    pub(crate) digest: PlanDigest,
    pub(crate) plan: Plan,
    pub(crate) consent: Consent,
    pub(crate) proposed_by: PublicKey,
    pub(crate) proposed_at: LogIndex,
    pub(crate) approvals: BTreeMap<PublicKey, Epoch>,
    pub(crate) approved_at: Option<LogIndex>,
    pub(crate) results: BTreeMap<StepId, (Verified<StepResult>, LogIndex)>,
    /// The epoch in which each result entered the log.
    pub(crate) epochs: BTreeMap<StepId, Epoch>,
    /// The entries with which the holder itself stated what a step asks of it.
    pub(crate) witnessed: BTreeMap<StepId, LogIndex>,
    /// What the service of a node stated last, for each step that asks it.
    pub(crate) standings: BTreeMap<StepId, StandingSeen>,
    /// What the node itself stated last about its participant, for each step that asks it.
    pub(crate) facts: BTreeMap<StepId, ParticipantStandingSeen>,
    /// Who agreed to the party map that was stated.
    pub(crate) agreements: BTreeMap<OperatorId, AgreementSeen>,
    /// Consent that was taken back: it must not be repeated by whoever kept it.
    pub(crate) revoked: BTreeMap<PublicKey, (Epoch, LogIndex)>,
    /// The steps that are not settled. Whoever waits for a long range of steps asks for the first
    /// of them, so that no range is walked with each entry.
    pub(crate) unsettled: BTreeSet<StepId>,
    pub(crate) aborted: Option<Aborted>,
    pub(crate) status: PlanStatus,
}

/// Whose consent lets a plan run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consent {
    /// Enough operators must approve it, and their consent can lapse.
    Operators,
    /// The policy in force gave it in advance: an agent changes its own node only. Operators can
    /// call such a plan off like any other.
    Policy,
}

/// Who called a plan off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AbortCause {
    /// An operator.
    Operator {
        /// Why, for people.
        reason: Option<String>,
    },
    /// The agent of a node that cannot carry out its part in the change of a service.
    Agent {
        /// The node.
        node: NodeId,
        /// Why, for people.
        reason: Option<String>,
    },
    /// Nobody: the epoch passed until which the service was to have changed.
    Deadline,
}

/// How an abort found a plan.
#[derive(Clone, Debug)]
pub(crate) struct Aborted {
    pub(crate) at: LogIndex,
    pub(crate) cause: AbortCause,
    /// The forward steps that some agent may have started by then.
    pub(crate) may_have_started: BTreeSet<StepId>,
}

/// Where a plan stands. Only [`Approved`](Self::Approved) and
/// [`PastNoReturn`](Self::PastNoReturn) let forward steps start, only
/// [`RollingBack`](Self::RollingBack) lets rollback steps start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PlanStatus {
    /// Not enough operators approved it yet.
    Proposed,
    /// Enough operators approve it, now.
    Approved,
    /// It was approved, but some approvals have expired since. It goes on when enough operators
    /// approve again, and it can be aborted.
    ApprovalLapsed,
    /// Its last epoch passed before the point of no return. If it was ever approved, only an
    /// abort or a new plan can follow.
    Expired,
    /// Called off; what was started is being put back.
    RollingBack,
    /// Called off, and everything that may have been started is back.
    RolledBack,
    /// The point of no return has a result: there is only forward, and neither expiry nor an
    /// abort stops it any more.
    PastNoReturn,
    /// Every forward step has a result.
    Finished,
}

impl PlanStatus {
    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approved => "approved",
            Self::ApprovalLapsed => "approval lapsed",
            Self::Expired => "expired",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
            Self::PastNoReturn => "past the point of no return",
            Self::Finished => "finished",
        }
    }
}

impl std::fmt::Display for PlanStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl PlanState {
    /// The digest that operators approve.
    pub fn digest(&self) -> &PlanDigest {
        &self.digest
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whose consent lets it run.
    pub fn consent(&self) -> Consent {
        self.consent
    }

    /// Who put it forward: an operator, or the agent of the node that changes.
    pub fn proposed_by(&self) -> &PublicKey {
        &self.proposed_by
    }

    /// The entry that put it forward.
    pub fn proposed_at(&self) -> LogIndex {
        self.proposed_at
    }

    /// Until when each operator consents, expired consent included.
    pub fn approvals(&self) -> &BTreeMap<PublicKey, Epoch> {
        &self.approvals
    }

    /// The entry with which enough operators had approved for the first time.
    pub fn approved_at(&self) -> Option<LogIndex> {
        self.approved_at
    }

    /// How steps ended, forward and back.
    pub fn results(&self) -> &BTreeMap<StepId, (Verified<StepResult>, LogIndex)> {
        &self.results
    }

    /// The entry with a step's result.
    pub fn done_at(&self, step: StepId) -> Option<LogIndex> {
        self.results.get(&step).map(|(_, at)| *at)
    }

    /// The epoch in which a step's result entered the log.
    pub fn epoch_of(&self, step: StepId) -> Option<Epoch> {
        self.epochs.get(&step).copied()
    }

    /// The entry with which a holder itself stated what this step asks of it: a suspension or an
    /// activation. The result of the step comes later, from the agent.
    pub fn witnessed_at(&self, step: StepId) -> Option<LogIndex> {
        self.witnessed.get(&step).copied()
    }

    /// Whether so many epochs began since the epoch in which the result of `since` entered the
    /// log.
    pub fn has_waited(&self, since: StepId, epochs: u32, now: Epoch) -> bool {
        let waited = |from: Epoch| now.0.saturating_sub(from.0) >= u64::from(epochs);
        self.epoch_of(since).is_some_and(waited)
    }

    /// Whether everything that a step waits for by its `Done` and `AllDone` gates
    /// [is settled](Self::is_settled). Other gates, and whether the plan lets any step
    /// start, are other questions.
    pub fn is_open(&self, step: &Step) -> bool {
        self.missing_before(step).is_none()
    }

    /// Whether the plan lets a step start where it stands: a forward step while it is approved or
    /// past the point of no return, a rollback step that is needed while it is rolling back. Gates
    /// are another question.
    pub fn allows(&self, step: StepId) -> bool {
        match self.status {
            PlanStatus::Approved | PlanStatus::PastNoReturn => !self.plan.is_rollback(step),
            PlanStatus::RollingBack => self.rollback_needed().any(|needed| needed.id == step),
            PlanStatus::Proposed
            | PlanStatus::ApprovalLapsed
            | PlanStatus::Expired
            | PlanStatus::RolledBack
            | PlanStatus::Finished => false,
        }
    }

    /// The entry that called it off.
    pub fn aborted(&self) -> Option<LogIndex> {
        self.aborted.as_ref().map(|aborted| aborted.at)
    }

    /// Who called it off.
    pub fn abort_cause(&self) -> Option<&AbortCause> {
        self.aborted.as_ref().map(|aborted| &aborted.cause)
    }

    /// Where it stands.
    pub fn status(&self) -> PlanStatus {
        self.status
    }

    /// Whether a forward step may have been started, as far as the log can tell: the plan was
    /// approved, everything that must be done before the step was done before any abort, and
    /// services that had to agree did not disagree for good.
    ///
    /// An agent may know better about its own steps. It still says so with a result.
    pub fn may_have_started(&self, step: StepId) -> bool {
        if let Some(aborted) = &self.aborted {
            return aborted.may_have_started.contains(&step);
        }
        let startable = |step: &Step| self.is_open(step) && !self.is_barred(step);
        self.approved_at.is_some()
            && !self.plan.is_rollback(step)
            && self.plan.step(step).is_some_and(startable)
    }

    /// The rollback steps that must have a result before the plan counts as rolled back: those
    /// that undo a step which may have been started. An agent that finds nothing to undo records
    /// `FoundDone`.
    pub fn rollback_needed(&self) -> impl Iterator<Item = &Step> {
        self.plan
            .rollback
            .iter()
            .filter(|back| self.aborted.is_some() && self.may_have_started(back.undoes))
            .map(|back| &back.step)
    }

    /// Whether nothing of this plan is left to do.
    pub fn is_over(&self) -> bool {
        matches!(self.status, PlanStatus::Finished | PlanStatus::RolledBack)
    }

    /// The first step that a step waits for by a `Done` or `AllDone` gate, and that is not settled.
    pub(crate) fn missing_before(&self, step: &Step) -> Option<StepId> {
        step.gates.iter().find_map(|gate| match gate {
            Gate::Done(before) if !self.is_settled(*before) => Some(*before),
            Gate::AllDone { first, last } => self.unsettled_in(*first, *last),
            Gate::Done(_)
            | Gate::Proven { .. }
            | Gate::Registered { .. }
            | Gate::Epoch(_)
            | Gate::PolicyPublished(_)
            | Gate::Agreed { .. }
            | Gate::Rehearsed { .. }
            | Gate::Consented { .. }
            | Gate::Concordant { .. }
            | Gate::Waited { .. } => None,
        })
    }

    /// The first step of a range that is not settled.
    pub fn unsettled_in(&self, first: StepId, last: StepId) -> Option<StepId> {
        if first > last {
            return None;
        }
        self.unsettled.range(first..=last).next().copied()
    }

    /// Whether an `Agreed` or `Concordant` gate of a step never was open and never opens. Standings can change
    /// until their steps have results, so that an agent may have seen services agree that disagree
    /// now. Only where the step itself also waits for every result of the range did nobody start
    /// it before the standings were the last ones.
    fn is_barred(&self, step: &Step) -> bool {
        step.gates.iter().any(|gate| match gate {
            Gate::Agreed { first, last } => {
                waits_for_all(step, *first, *last)
                    && !matches!(self.agreement(*first, *last), Agreement::Agreed(_))
            }
            Gate::Concordant { first, last } => {
                waits_for_all(step, *first, *last)
                    && !matches!(self.concord(*first, *last), Concord::Concordant(_))
            }
            Gate::Done(_)
            | Gate::Proven { .. }
            | Gate::Registered { .. }
            | Gate::Epoch(_)
            | Gate::PolicyPublished(_)
            | Gate::AllDone { .. }
            | Gate::Rehearsed { .. }
            | Gate::Consented { .. }
            | Gate::Waited { .. } => false,
        })
    }

    /// The first `Waited` gate of a step that is closed in this epoch: since which step, and how
    /// many epochs.
    pub(crate) fn waiting_for(&self, step: &Step, now: Epoch) -> Option<(StepId, u32)> {
        step.gates.iter().find_map(|gate| match gate {
            Gate::Waited { since, epochs } if !self.has_waited(*since, *epochs, now) => {
                Some((*since, *epochs))
            }
            Gate::Done(_)
            | Gate::Proven { .. }
            | Gate::Registered { .. }
            | Gate::Epoch(_)
            | Gate::PolicyPublished(_)
            | Gate::AllDone { .. }
            | Gate::Agreed { .. }
            | Gate::Rehearsed { .. }
            | Gate::Consented { .. }
            | Gate::Concordant { .. }
            | Gate::Waited { .. } => None,
        })
    }

    /// Whether a step has a result, or the statement of a holder that is as good as one, or is a
    /// rollback step that needs none.
    pub fn is_settled(&self, step: StepId) -> bool {
        !self.unsettled.contains(&step)
    }

    /// A step is carried out.
    pub(crate) fn record(&mut self, result: Verified<StepResult>, at: LogIndex, epoch: Epoch) {
        let step = result.step;
        self.unsettled.remove(&step);
        self.epochs.insert(step, epoch);
        self.results.insert(step, (result, at));
    }

    /// The holder itself stated what a step asks of it.
    pub(crate) fn witness(&mut self, step: StepId, at: LogIndex) {
        self.unsettled.remove(&step);
        self.witnessed.insert(step, at);
    }

    /// Calls the plan off: what may have been started by now must be put back.
    pub(crate) fn call_off(&mut self, cause: AbortCause, at: LogIndex) {
        let may_have_started = self.startable();
        self.aborted = Some(Aborted { at, cause, may_have_started });
        let open =
            |step: &StepId| !self.results.contains_key(step) && !self.witnessed.contains_key(step);
        let needed: Vec<StepId> = self.rollback_needed().map(|step| step.id).filter(open).collect();
        self.unsettled.extend(needed);
    }

    /// The forward steps that an agent may start or may have started now.
    pub(crate) fn startable(&self) -> BTreeSet<StepId> {
        if self.approved_at.is_none() {
            return BTreeSet::new();
        }
        let startable = |step: &&Step| self.is_open(step) && !self.is_barred(step);
        self.plan.steps.iter().filter(startable).map(|step| step.id).collect()
    }

    /// Whether every forward step but `except` has a result.
    pub(crate) fn forward_done_except(&self, except: Option<StepId>) -> bool {
        // Counting first keeps a long plan from being walked with each of its results.
        if self.results.len().saturating_add(1) < self.plan.steps.len() {
            return false;
        }
        let done = |step: &Step| Some(step.id) == except || self.results.contains_key(&step.id);
        self.plan.steps.iter().all(done)
    }

    /// Whether there is only forward: the point of no return has a result, or the next holder
    /// became active by a forward step, which no abort could undo.
    fn is_past_no_return(&self) -> bool {
        let activates = |step: &StepId| {
            let step = self.plan.step(*step).map(|step| &step.action);
            matches!(step, Some(Action::Activate(_)))
        };
        self.results.contains_key(&self.plan.point_of_no_return)
            || self.witnessed.keys().any(|step| !self.plan.is_rollback(*step) && activates(step))
    }

    /// After which epoch the plan is called off by itself, if after any. One that moves
    /// participants is so after its last epoch at the latest: it may have taken sources off, and
    /// one that merely expired would leave them so.
    pub fn abort_after(&self) -> Option<Epoch> {
        let service = self.plan.service.as_ref().map(|change| change.abort_after);
        let participant = self.plan.participant.as_ref();
        let last = self.plan.not_after;
        service.or_else(|| participant.map(|change| change.abort_after.unwrap_or(last)))
    }

    /// Whether the epoch passed until which the service was to have changed, and nothing else
    /// ended the plan.
    fn is_overdue(&self, epoch: Epoch) -> bool {
        let late = self.abort_after().is_some_and(|last| epoch > last);
        late && self.aborted.is_none()
            && !self.is_past_no_return()
            && !self.forward_done_except(None)
    }

    /// How many of these operators consent in this epoch.
    pub(crate) fn consenting(&self, operators: &[PublicKey], epoch: Epoch) -> usize {
        let consents =
            |(key, until): &(&PublicKey, &Epoch)| epoch <= **until && operators.contains(key);
        self.approvals.iter().filter(consents).count()
    }

    /// Decides the status anew; called after every entry that can change it.
    pub(crate) fn refresh(&mut self, operators: Quorum<'_>, epoch: Epoch, at: LogIndex) {
        let consenting = self.consenting(operators.keys, epoch);
        let approved = match self.consent {
            Consent::Policy => true,
            Consent::Operators => {
                u32::try_from(consenting).is_ok_and(|found| found >= operators.threshold)
            }
        };
        if approved && self.approved_at.is_none() && self.aborted.is_none() {
            self.approved_at = Some(at);
        }
        if self.is_overdue(epoch) {
            self.call_off(AbortCause::Deadline, at);
        }
        self.status = if self.forward_done_except(None) {
            PlanStatus::Finished
        } else if self.is_past_no_return() {
            PlanStatus::PastNoReturn
        } else if self.aborted.is_some() {
            let back = self.rollback_needed().all(|step| self.results.contains_key(&step.id));
            if back { PlanStatus::RolledBack } else { PlanStatus::RollingBack }
        } else if epoch > self.plan.not_after {
            PlanStatus::Expired
        } else if approved {
            PlanStatus::Approved
        } else if self.approved_at.is_some() {
            PlanStatus::ApprovalLapsed
        } else {
            PlanStatus::Proposed
        };
    }
}

/// Whether one gate of a step waits for the results of this whole range.
fn waits_for_all(step: &Step, first: StepId, last: StepId) -> bool {
    step.gates.iter().any(|gate| match gate {
        Gate::AllDone { first: from, last: until } => *from <= first && last <= *until,
        Gate::Done(before) => *before == first && *before == last,
        Gate::Proven { .. }
        | Gate::Registered { .. }
        | Gate::Epoch(_)
        | Gate::PolicyPublished(_)
        | Gate::Agreed { .. }
        | Gate::Rehearsed { .. }
        | Gate::Consented { .. }
        | Gate::Concordant { .. }
        | Gate::Waited { .. } => false,
    })
}
