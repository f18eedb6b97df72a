//! Exclusive domains: exactly one instance serves.
//!
//! The log names that instance by its identity key. Two rules keep a second one from serving:
//!
//! * An instance that says that it serves no more does not serve from that moment on, whatever
//!   becomes of the statement. Only a new instance can become active, and its key is another one.
//! * An instance whose agent lost the log does not know whether it was replaced by a restart of
//!   the same seat. It therefore serves only for [`ATTENDANCE_MILLISECONDS`] after its agent was
//!   last known to look, and whoever takes its place waits so long.
//!
//! A clone, which starts from copied files, is another instance: it stays on standby unless its
//! agent makes it the active one, and then the log says so to both.

use std::collections::VecDeque;

use heirloom_model::admin::Ticket;
use heirloom_model::counter::{LogIndex, Moment};
use heirloom_model::domain::{Activation, ActivationCause, HoldingOrigin, PlanStep, Suspension};
use heirloom_model::limit::ATTENDANCE_MILLISECONDS;
use heirloom_model::plan::{Action, Step};
use heirloom_model::policy::{HolderRole, Sharing};
use heirloom_model::protocol::ServingState;
use heirloom_registry::activity::Activity;
use heirloom_registry::domain::Committed;
use heirloom_registry::plan::PlanState;

use super::error::KeeperError;
use super::{Admission, Keeper};
use crate::handover::{NotAuthorised, current_plan, expect_forward, expect_host};
use crate::handshake::is_active;
use crate::port::Platform;

/// How many tickets are good at a time: an agent may look from more than one thread.
const TICKETS_MAX: usize = 8;

/// What an instance knows about the agent that shows it the log.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// The latest moment that this instance was told.
    now: Moment,
    given: u64,
    tickets: VecDeque<(Ticket, Moment)>,
    /// Before this moment it may be the active holder; none before the first look.
    until: Option<Moment>,
    /// From this moment on the instance before it knows that it is not.
    from: Moment,
}

impl Attendance {
    /// Time does not go back.
    pub(super) fn pass(&mut self, now: Moment) {
        self.now = self.now.max(now);
    }

    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// The agent had the log's end in hand, and had asked for it after this ticket was given.
    pub(super) fn looked(&mut self, ticket: Ticket) {
        let given = self.tickets.iter().find(|(kept, _)| *kept == ticket).map(|(_, at)| *at);
        if let Some(given) = given {
            self.until = self.until.max(Some(given.after(ATTENDANCE_MILLISECONDS)));
        }
    }

    fn give(&mut self) -> Ticket {
        self.given = self.given.saturating_add(1);
        let ticket = Ticket(self.given);
        self.tickets.push_back((ticket, self.now));
        if self.tickets.len() > TICKETS_MAX {
            self.tickets.pop_front();
        }
        ticket
    }

    /// Whether the instance before this one knows that it is not the active holder any more.
    fn has_taken_over(&self) -> bool {
        self.now >= self.from
    }

    fn is_valid(&self, now: Moment) -> bool {
        let now = self.now.max(now);
        now >= self.from && self.until.is_some_and(|until| now < until)
    }
}

impl Keeper {
    /// Notes that the agent is about to read the log to its end. The ticket comes back with what
    /// was read.
    pub fn attend(&mut self, now: Moment) -> Ticket {
        self.attendance.pass(now);
        self.attendance.give()
    }

    /// States that this instance serves no more, by a step of a plan, and serves no more. May be
    /// repeated.
    ///
    /// Only the active holder does so, and only once the log lets it: a suspension that the log
    /// refuses would end the service for nothing.
    pub fn suspend(
        &mut self,
        platform: &dyn Platform,
        step: PlanStep,
    ) -> Result<Vec<u8>, KeeperError> {
        let committed = self.expect_exclusive_keeper()?;
        let own = self.instance.public_key();
        let is_own = match self.activity() {
            Activity::Active(active) => *active.instance() == own,
            Activity::Suspended(holder) => *holder.instance() == own && holder.step() == step,
            Activity::None => false,
        };
        if !is_own {
            return Err(KeeperError::State { state: self.state() });
        }
        // As long as the instance before this one may believe that it is the one, the next one
        // must not begin, and it begins at once after a suspension.
        if !self.attendance.has_taken_over() {
            return Err(KeeperError::State { state: ServingState::Unattended });
        }
        let plan = current_plan(&self.network, &step.plan)?;
        expect_forward(plan)?;
        let is_forward = !plan.plan().is_rollback(step.step);
        self.expect_own_step(plan, step, "suspend", |action| match action {
            Action::Suspend(placement) => {
                is_forward && placement.measurement == self.identity.measurement
            }
            _ => false,
        })?;
        let statement = self.attested(
            platform,
            &Suspension {
                network: self.config.network,
                domain: self.config.domain,
                node: self.config.node.clone(),
                step,
                generation: committed.generation,
                checksum: committed.checksum,
                as_of: self.position(),
            },
        )?;
        self.suspended = Some(step);
        Ok(statement)
    }

    /// States that this instance is the active holder from now on. It serves when it finds the
    /// statement in the log. May be repeated.
    pub fn activate(
        &self,
        platform: &dyn Platform,
        cause: ActivationCause,
    ) -> Result<Vec<u8>, KeeperError> {
        let committed = self.expect_exclusive_keeper()?;
        let state = self.state();
        if state != ServingState::Standby {
            return Err(KeeperError::State { state });
        }
        if self.origin != HoldingOrigin::Recovered {
            return Err(KeeperError::NotRecovered);
        }
        self.expect_cause(cause)?;
        self.attested(
            platform,
            &Activation {
                network: self.config.network,
                domain: self.config.domain,
                node: self.config.node.clone(),
                cause,
                generation: committed.generation,
                checksum: committed.checksum,
                origin: self.origin,
                as_of: self.position(),
            },
        )
    }

    /// The state of a keeper that holds everything, in an exclusive domain.
    pub(super) fn exclusive_state(&self, now: Moment) -> ServingState {
        let own = self.instance.public_key();
        let activity = self.activity();
        if is_active(activity, &own) {
            return match (self.suspended, self.attendance.is_valid(now), self.admission) {
                (Some(_), _, _) => ServingState::Suspended,
                (None, false, _) => ServingState::Unattended,
                (None, true, Admission::Open) => ServingState::Ready,
                (None, true, Admission::Draining) => ServingState::Draining,
            };
        }
        if activity.suspended().is_some_and(|holder| *holder.instance() == own) {
            return ServingState::Suspended;
        }
        if self.was_active { ServingState::Superseded } else { ServingState::Standby }
    }

    /// Notices what an entry says about who is active.
    pub(super) fn notice_activity(&mut self, entry: LogIndex) {
        let own = self.instance.public_key();
        let Activity::Active(active) = self.activity() else { return };
        if *active.instance() != own {
            return;
        }
        let became_so = active.at() == entry;
        let cause = active.cause();
        self.was_active = true;
        if became_so && cause == ActivationCause::Restarted {
            // The instance before this one may have looked just before this entry was written.
            self.attendance.from = self.attendance.now.after(ATTENDANCE_MILLISECONDS);
        }
    }

    pub(super) fn activity(&self) -> &Activity {
        self.domain_state().map_or(&Activity::None, |domain| domain.activity())
    }

    /// Refuses unless this is a keeper that holds everything of an exclusive domain.
    fn expect_exclusive_keeper(&self) -> Result<Committed, KeeperError> {
        self.expect_role(HolderRole::Keeper)?;
        if self.sharing() != Some(Sharing::Exclusive) {
            return Err(KeeperError::NotExclusive);
        }
        self.expect_holder_state()?;
        self.committed().copied().ok_or(KeeperError::NotInLog)
    }

    /// Whether the log accepts an activation of this instance for this reason.
    fn expect_cause(&self, cause: ActivationCause) -> Result<(), KeeperError> {
        let refused = Err(KeeperError::NotInLog);
        match (cause, self.activity()) {
            (ActivationCause::First, Activity::None) => {
                let genesis = self.domain_state().and_then(|domain| domain.genesis_node());
                if genesis == Some(&self.config.node) { Ok(()) } else { refused }
            }
            (ActivationCause::Restarted, Activity::Active(active)) => {
                let is_seat = active.is_at(&self.config.node, &self.identity.measurement)
                    && expect_host(self.identity.platform, active.host()).is_ok();
                if is_seat { Ok(()) } else { refused }
            }
            (ActivationCause::Planned(step), Activity::Suspended(_)) => self.expect_activate(step),
            (
                ActivationCause::First | ActivationCause::Restarted | ActivationCause::Planned(_),
                Activity::None | Activity::Active(_) | Activity::Suspended(_),
            ) => refused,
        }
    }

    fn expect_activate(&self, step: PlanStep) -> Result<(), KeeperError> {
        let plan = current_plan(&self.network, &step.plan)?;
        if !plan.allows(step.step) {
            return Err(NotAuthorised::Status { status: plan.status() }.into());
        }
        self.expect_own_step(plan, step, "activate", |action| match action {
            Action::Activate(placement) => placement.measurement == self.identity.measurement,
            _ => false,
        })?;
        Ok(())
    }

    /// A step of this seat that a plan lets start now, as far as its `Done` gates say.
    pub(super) fn expect_own_step<'a>(
        &self,
        plan: &'a PlanState,
        step: PlanStep,
        expected: &'static str,
        is_own: impl FnOnce(&Action) -> bool,
    ) -> Result<&'a Step, NotAuthorised> {
        let id = step.step;
        let found = plan.plan().step(id).filter(|found| {
            plan.plan().domain == self.config.domain && found.node == self.config.node
        });
        let found = found.filter(|found| is_own(&found.action));
        let found = found.ok_or(NotAuthorised::OtherStep { step: id, expected })?;
        if plan.is_open(found) { Ok(found) } else { Err(NotAuthorised::NotOpen { step: id }) }
    }
}
