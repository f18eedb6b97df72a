//! What the services of a plan stated on the way, and whether they agree.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_attest::result::AttestationResult;
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::sha256;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, ServiceAction, StepId};
use heirloom_model::service::{KeyCustody, KeyShown, Standing, Tip};
use heirloom_model::signature::PublicKey;
use heirloom_model::wire;

use crate::plan::PlanState;
use crate::verified::Verified;

/// What the service of a node stated last for a step.
#[derive(Clone, Debug)]
pub struct StandingSeen {
    pub(crate) standing: Verified<Standing>,
    pub(crate) instance: PublicKey,
    pub(crate) result: AttestationResult,
    pub(crate) at: LogIndex,
    /// Instances that stated it before: each start makes a new one, and none comes back.
    pub(crate) superseded: BTreeSet<PublicKey>,
    /// What this instance stated for it, and where.
    pub(crate) stated: BTreeMap<[u8; 32], LogIndex>,
}

/// Whether the services of a range of steps stated the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Agreement {
    /// This step, the first of its kind, has no statement yet.
    Open(StepId),
    /// All of them have the same tip, configuration and long-lived keys.
    Agreed(Tip),
    /// Two of them differ.
    Disagreed {
        /// The first step of the range.
        a: StepId,
        /// The first one that differs from it.
        b: StepId,
        /// In what.
        what: &'static str,
    },
}

impl StandingSeen {
    /// What was stated.
    pub fn standing(&self) -> &Verified<Standing> {
        &self.standing
    }

    /// The instance that stated it.
    pub fn instance(&self) -> &PublicKey {
        &self.instance
    }

    /// What its evidence showed.
    pub fn result(&self) -> &AttestationResult {
        &self.result
    }

    /// The entry.
    pub fn at(&self) -> LogIndex {
        self.at
    }
}

impl PlanState {
    /// What the service stated last for a step.
    pub fn standing(&self, step: StepId) -> Option<&StandingSeen> {
        self.standings.get(&step)
    }

    /// Every step for which a service stated something.
    pub fn standings(&self) -> impl Iterator<Item = (StepId, &StandingSeen)> {
        self.standings.iter().map(|(step, seen)| (*step, seen))
    }

    /// Where the ledger of a node froze, once its service said so.
    pub fn frozen_tip(&self, node: &NodeId) -> Option<Tip> {
        self.standing(self.plan.freeze_of(node)?)?.standing.tip
    }

    /// Whether the services stated the same at every step of a range. Walks the range: proposals
    /// bound it by the nodes of one service.
    ///
    /// Services that were launched must have loaded the same. What the first of them has appended
    /// since, the others may not have yet.
    pub fn agreement(&self, first: StepId, last: StepId) -> Agreement {
        let Some(reference) = self.standing(first) else { return Agreement::Open(first) };
        let compared = match self.plan.step(first).map(|step| &step.action) {
            Some(Action::Service(ServiceAction::Launch(_))) => Compared::Loaded,
            Some(_) | None => Compared::Tip,
        };
        let mut different = None;
        for id in (first.0..=last.0).map(StepId) {
            let Some(seen) = self.standing(id) else { return Agreement::Open(id) };
            if different.is_none() {
                let what = difference(&reference.standing, &seen.standing, compared);
                different = what.map(|what| (id, what));
            }
        }
        match (different, compared.of(&reference.standing)) {
            (None, Some(tip)) => Agreement::Agreed(tip),
            (None, None) => Agreement::Disagreed { a: first, b: first, what: compared.name() },
            (Some((b, what)), _) => Agreement::Disagreed { a: first, b, what },
        }
    }
}

/// The tip in which services must be alike.
#[derive(Clone, Copy)]
enum Compared {
    /// Where their ledgers end.
    Tip,
    /// Where their ledgers ended when they started.
    Loaded,
}

impl Compared {
    fn of(self, standing: &Standing) -> Option<Tip> {
        match self {
            Self::Tip => standing.tip,
            Self::Loaded => standing.loaded,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tip => "tip",
            Self::Loaded => "loaded tip",
        }
    }
}

/// In what two services differ that must be alike.
fn difference(left: &Standing, right: &Standing, compared: Compared) -> Option<&'static str> {
    if compared.of(left) != compared.of(right) {
        return Some(compared.name());
    }
    if left.configuration != right.configuration {
        return Some("configuration");
    }
    let alike = long_lived(left).eq(long_lived(right));
    if alike { None } else { Some("keys") }
}

/// What tells one statement from another, whoever signed it.
pub(crate) fn content(standing: &Standing) -> [u8; 32] {
    sha256(&[&wire::encode(standing)])
}

/// The keys that must outlive every instance.
pub(crate) fn long_lived(standing: &Standing) -> impl Iterator<Item = &KeyShown> {
    standing.keys.iter().filter(|shown| match shown.custody {
        KeyCustody::Keyring => true,
        KeyCustody::PerBoot => false,
    })
}
