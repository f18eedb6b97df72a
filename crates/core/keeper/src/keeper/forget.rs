//! An upgrader gives up its copy.
//!
//! This is the one thing that a keeper does which cannot be undone. So it reads in its own log
//! that the keyring survives without this copy, whatever the plan's gates or its agent say.

use std::collections::BTreeSet;

use heirloom_attest::result::Host;
use heirloom_model::counter::LogIndex;
use heirloom_model::domain::PlanStep;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Gate, Step, StepId};
use heirloom_model::policy::HolderRole;
use heirloom_registry::plan::{PlanState, PlanStatus};

use super::error::KeeperError;
use super::{Change, Keeper, Memory};
use crate::file::{FileName, Kind};
use crate::handover::{NotAuthorised, current_plan};
use crate::intent::{Intent, StoredFile};

impl Keeper {
    /// Gives up every secret, by a step of a plan: on disk first, then in memory. May be repeated.
    ///
    /// Only an upgrader does so, and only after the keeper that it served has proven that it holds
    /// the keyring, since the point of no return, and the policy's delay has passed; or, on the
    /// way back, after the keeper that gave it the keyring has, since the abort. A file that cannot
    /// be removed makes the intent fail.
    pub fn forget(&self, step: PlanStep, files: &[StoredFile]) -> Result<Intent<()>, KeeperError> {
        self.expect_role(HolderRole::Upgrader)?;
        self.expect_writable()?;
        if self.is_rolled_back() {
            return Err(KeeperError::State { state: self.state() });
        }
        let plan = current_plan(&self.network, &step.plan)?;
        let survivor = self.expect_survivor(plan, step)?;
        let found = self.expect_own_step(plan, step, "forget", |action| match action {
            Action::Forget(placement) => placement.measurement == self.identity.measurement,
            _ => false,
        })?;
        self.expect_gates(plan, found)?;
        self.expect_proof(plan, &survivor)?;
        let is_secret = |stored: &&StoredFile| {
            let name = FileName::classify(&stored.name);
            matches!(name, Kind::Sealed(FileName::Keyring { .. } | FileName::Proposed { .. }))
        };
        let removals = files.iter().filter(is_secret).map(|stored| stored.name.clone()).collect();
        let change = Change { memory: Memory::Wiped, ..Change::default() };
        Ok(Intent::burning(removals, change))
    }

    /// Who must have proven that it holds the keyring, and since when. Before that, the plan must
    /// have come to where the upgrader is not needed any more.
    fn expect_survivor(&self, plan: &PlanState, step: PlanStep) -> Result<Survivor, NotAuthorised> {
        let (status, content) = (plan.status(), plan.plan());
        let no_keyring = NotAuthorised::NoKeyring { plan: step.plan };
        let kept = content.keyring.as_ref().ok_or(no_keyring)?;
        match (status, content.is_rollback(step.step)) {
            (PlanStatus::PastNoReturn | PlanStatus::Finished, false) => {}
            (PlanStatus::RollingBack | PlanStatus::RolledBack, true) => {
                // What gave the keyring away should still be there. Whether it is, only a proof
                // shows that was asked for after the abort: until then the plan changed things.
                let measurement = kept.from.measurement;
                let since = plan.aborted().ok_or(NotAuthorised::NotProven { measurement })?;
                return Ok(Survivor { measurement, since });
            }
            _ => return Err(NotAuthorised::Status { status }),
        }
        let measurement = kept.to.measurement;
        let not_proven = NotAuthorised::NotProven { measurement };
        let since = plan.done_at(content.point_of_no_return).ok_or(not_proven)?;
        let policy = self.network.policy(&self.config.domain).ok_or(NotAuthorised::NoPolicy)?;
        let epochs = policy.forget_after_epochs;
        if !plan.has_waited(content.point_of_no_return, epochs, self.network.epoch()) {
            return Err(NotAuthorised::TooEarly { epochs });
        }
        Ok(Survivor { measurement, since })
    }

    /// Expects that the survivor answered a challenge of this plan with the plan's keyring, recovered
    /// from durable state. It is a seat beside this one: what the same code has on another node, or
    /// on another machine, is not what this copy was taken from or given to.
    fn expect_proof(&self, plan: &PlanState, survivor: &Survivor) -> Result<(), NotAuthorised> {
        let not_proven = NotAuthorised::NotProven { measurement: survivor.measurement };
        let Some(domain) = self.domain_state() else { return Err(not_proven) };
        let content = plan.plan();
        let Some(kept) = &content.keyring else { return Err(not_proven) };
        let back = content.rollback.iter().map(|back| &back.step);
        let asking = content.steps.iter().chain(back).filter(|step| {
            let Action::Verify { code, .. } = &step.action else { return false };
            *code == Some(survivor.measurement)
        });
        let asked = |step: &Step| PlanStep { plan: *plan.digest(), step: step.id };
        let challenges = asking.flat_map(|step| domain.challenges_of(asked(step)));
        let late = challenges.filter(|challenged| challenged.at() > survivor.since);
        let mut own = late.filter_map(|challenged| challenged.proofs().get(&self.config.node));
        let good = own.any(|proven| {
            proven.result().measurement() == survivor.measurement
                && proven.result().host() == Host::Known(self.identity.platform)
                && proven.flaw(kept.generation, &kept.checksum).is_none()
        });
        if good { Ok(()) } else { Err(not_proven) }
    }

    /// The gates of a step that say whether a keyring survives. Whether an instance registered or
    /// a policy is published is for the agent to judge.
    fn expect_gates(&self, plan: &PlanState, step: &Step) -> Result<(), NotAuthorised> {
        let epoch = self.network.epoch();
        for gate in &step.gates {
            let (is_open, gate) = match gate {
                Gate::Waited { since, epochs } => {
                    (plan.has_waited(*since, *epochs, epoch), "for epochs to pass")
                }
                Gate::Epoch(from) => (epoch >= *from, "for an epoch"),
                Gate::Proven { holders, need, since } => {
                    let proven = self.proven_failure_domains(plan, holders, *since);
                    (u32::try_from(proven).is_ok_and(|found| found >= *need), "for proofs")
                }
                // Ranges of steps are gates of services; the log itself enforces them.
                Gate::AllDone { .. }
                | Gate::Agreed { .. }
                | Gate::Done(_)
                | Gate::PolicyPublished(_)
                | Gate::Registered { .. }
                | Gate::Rehearsed { .. }
                | Gate::Consented { .. }
                | Gate::Concordant { .. } => continue,
            };
            if !is_open {
                return Err(NotAuthorised::Closed { step: step.id, gate });
            }
        }
        Ok(())
    }

    /// In how many distinct failure domains these nodes have answered a step's challenge.
    fn proven_failure_domains(&self, plan: &PlanState, holders: &[NodeId], since: StepId) -> usize {
        let Some(domain) = self.domain_state() else { return 0 };
        let Some(kept) = &plan.plan().keyring else { return 0 };
        let asked = PlanStep { plan: *plan.digest(), step: since };
        let proven = domain.proven_since(asked, kept.generation, &kept.checksum);
        let nodes = holders.iter().filter(|holder| proven.contains(holder));
        let domains = nodes.filter_map(|node| self.network.node(node));
        domains.map(|node| &node.failure_domain).collect::<BTreeSet<_>>().len()
    }
}

/// The code that must hold the keyring, on this node and machine, before an upgrader may forget
/// it.
struct Survivor {
    measurement: Measurement,
    /// It must have been asked after this entry.
    since: LogIndex,
}
