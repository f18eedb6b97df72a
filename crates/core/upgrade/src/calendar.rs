//! Everything that expires, against the end of a plan.
//!
//! What a step needs must not expire before the plan does. Expiry is in seconds of network time;
//! a plan ends with an epoch. How long an epoch takes is the operators' custom, so it is an
//! argument; without it nothing is guessed, and the calendar says so.

use std::collections::BTreeSet;
use std::fmt;

use heirloom_model::counter::{Epoch, Serial, Time};
use heirloom_model::digest::ReleaseDigest;
use heirloom_model::identifier::{NodeId, ReleaseName};
use heirloom_model::plan::{KeyringPlan, Plan};
use heirloom_registry::network::NetworkState;

use crate::inventory::{Inventory, InventoryError};

/// One thing that expires.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What.
    pub what: Expiring,
    /// When.
    pub end: End,
    /// What that means for the plan.
    pub verdict: Verdict,
}

/// What expires.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Expiring {
    /// The root statement. Afterwards only a new root is accepted.
    Root,
    /// The fleet statement.
    Fleet,
    /// The policy in force. Afterwards it permits nothing, no transfer either.
    Policy(Serial),
    /// A release that the plan names.
    Release(ReleaseName, ReleaseDigest),
    /// An operator's approval of the plan; the position in the list of approvals.
    Approval(usize),
    /// What a node showed about itself, which rests on the manufacturer's collateral.
    Attestation(NodeId),
    /// What a node found out about its participants, on which a proposal rests.
    Survey(NodeId),
    /// The plan itself.
    Plan,
}

/// When something expires.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// After this time.
    Time(Time),
    /// After this epoch.
    Epoch(Epoch),
}

/// What an end means for the plan.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// It has expired already.
    Expired,
    /// It expires while the plan may run.
    TooEarly,
    /// Nobody said how long an epoch takes.
    Unknown,
    /// It outlives the plan.
    Outlives,
}

impl Verdict {
    /// The words that people see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "has expired",
            Self::TooEarly => "expires before the plan ends",
            Self::Unknown => "unknown: how long an epoch takes was not said",
            Self::Outlives => "outlives the plan",
        }
    }
}

impl fmt::Display for Expiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Fleet => f.write_str("fleet"),
            Self::Policy(serial) => write!(f, "policy serial {serial}"),
            Self::Release(name, _) => write!(f, "release {name}"),
            Self::Approval(position) => write!(f, "approval {}", position + 1),
            Self::Attestation(node) => write!(f, "attestation of {node}"),
            Self::Survey(node) => write!(f, "survey of {node}"),
            Self::Plan => f.write_str("plan"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "time {time}"),
            Self::Epoch(epoch) => write!(f, "epoch {epoch}"),
        }
    }
}

/// Attestations that the calendar lists one by one: the ones that end first.
pub const ATTESTATIONS_MAX: usize = 8;

/// The calendar of a plan, the most urgent first.
pub fn calendar(
    plan: &Plan,
    state: &NetworkState,
    epoch_seconds: Option<u64>,
) -> Result<Vec<Entry>, InventoryError> {
    let kept = KeyringPlan::of(plan).ok_or(InventoryError::NoKeyring)?;
    Ok(calendar_from(kept, &Inventory::of(state, &plan.domain)?, epoch_seconds))
}

/// The calendar of a plan against an inventory.
pub fn calendar_from(
    plan: KeyringPlan<'_>,
    inventory: &Inventory,
    epoch_seconds: Option<u64>,
) -> Vec<Entry> {
    let plan_ends = epoch_seconds.map(|seconds| plan_ends(plan, inventory, seconds));
    let by_time = |what, end: Time| {
        let verdict = match plan_ends {
            _ if inventory.now > end => Verdict::Expired,
            None => Verdict::Unknown,
            Some(plan_ends) if plan_ends > end => Verdict::TooEarly,
            Some(_) => Verdict::Outlives,
        };
        Entry { what, end: End::Time(end), verdict }
    };
    let by_epoch = |what, end: Epoch| {
        let verdict = match () {
            () if inventory.epoch > end => Verdict::Expired,
            () if plan.not_after > end => Verdict::TooEarly,
            () => Verdict::Outlives,
        };
        Entry { what, end: End::Epoch(end), verdict }
    };
    let mut entries = vec![
        by_epoch(Expiring::Plan, plan.not_after),
        by_time(Expiring::Root, inventory.root_not_after),
        by_time(Expiring::Fleet, inventory.fleet_not_after),
        by_time(Expiring::Policy(inventory.policy.serial), inventory.policy.not_after),
    ];
    let service = plan.service.iter().flat_map(|change| [change.from, change.to]);
    let named = [Some(plan.keyring.from), plan.keyring.via, Some(plan.keyring.to)]
        .into_iter()
        .flatten()
        .chain(service);
    for digest in named.map(|placement| placement.release).collect::<BTreeSet<_>>() {
        if let Some(release) = inventory.releases.get(&digest) {
            let what = Expiring::Release(release.name.clone(), digest);
            entries.push(by_time(what, release.not_after));
        }
    }
    for (position, end) in inventory.approvals.iter().enumerate() {
        entries.push(by_epoch(Expiring::Approval(position), *end));
    }
    entries.extend(
        attestations(plan, inventory)
            .into_iter()
            .map(|(end, node)| by_time(Expiring::Attestation(node.clone()), end)),
    );
    entries.sort_by(|left, right| (left.verdict, &left.what).cmp(&(right.verdict, &right.what)));
    entries
}

/// When the last epoch of the plan has certainly ended. Between now and the end of epoch
/// `not_after` lie this many whole epochs, the present one included.
fn plan_ends(plan: KeyringPlan<'_>, inventory: &Inventory, epoch_seconds: u64) -> Time {
    let epochs = plan.not_after.0.saturating_sub(inventory.epoch.0).saturating_add(1);
    inventory.now.after(epochs.saturating_mul(epoch_seconds))
}

/// The attestations that end first.
fn attestations<'i>(plan: KeyringPlan<'_>, inventory: &'i Inventory) -> Vec<(Time, &'i NodeId)> {
    let expires = |node: &NodeId| {
        let code = inventory.code_of(node, &plan.keyring.from.release)?;
        Some(inventory.seen(node, &code)?.expires)
    };
    let seen = inventory.registered.iter();
    // Others than the plan's nodes have nothing to do with it.
    let seen = seen.filter(|(node, _)| plan.nodes.binary_search(node).is_ok());
    let mut ends: Vec<(Time, &NodeId)> =
        seen.filter_map(|(node, _)| Some((expires(node)?, node))).collect();
    ends.sort_unstable();
    ends.truncate(ATTESTATIONS_MAX);
    ends
}
