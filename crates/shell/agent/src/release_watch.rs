//! Which releases this node should have at hand: decided from the log and from what is installed.
//!
//! A release is of interest if the policy in force names a way to it from what is installed here:
//! directly, or by an upgrader. It must have been published after what is installed, and its
//! security version must not be lower: a policy names the way back as well, and nobody goes back
//! unless operators say so.
//!
//! A release has another measurement on each kind of platform. This node's is the one of the kind
//! of what is installed here, which was installed for the platform that this host has.

use heirloom_model::counter::{LogIndex, SecurityVersion};
use heirloom_model::digest::ReleaseDigest;
use heirloom_model::identifier::{NodeId, ReleaseName};
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::{HolderRole, Policy, UpdateMode};
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanStatus;

/// A release that this node should have at hand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    /// Its digest.
    pub release: ReleaseDigest,
    /// Its name.
    pub name: ReleaseName,
    /// What it is for.
    pub kind: ReleaseKind,
    /// What it launches to here.
    pub measurement: Measurement,
    published: LogIndex,
    security_version: SecurityVersion,
}

/// What could be installed here next, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// What is installed.
    pub from: Candidate,
    /// What carries the keyring on this host, if the policy names such a way.
    pub via: Option<Candidate>,
    /// What could be installed.
    pub to: Candidate,
    /// What the policy says about it.
    pub update: UpdateMode,
}

impl Offer {
    /// What must be at hand, in the order in which it is fetched.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.via.iter().chain([&self.to])
    }
}

/// The newest release that could be installed on a node in place of what is installed.
pub fn offer(state: &NetworkState, node: &NodeId, installed: &Measurement) -> Option<Offer> {
    let domain = state.node(node)?.domain;
    let policy = state.policy(&domain)?;
    if state.now()? > policy.not_after {
        return None;
    }
    let from = known(state, policy)
        .filter(|it| it.kind == ReleaseKind::Keeper && it.measurement == *installed)
        .max_by_key(|it| it.published)?;
    let is_for_here = |it: &Candidate| it.measurement.kind() == installed.kind();
    let upgraders: Vec<Candidate> = usable(state, policy)
        .filter(is_for_here)
        .filter(|it| it.kind == ReleaseKind::Upgrader)
        .filter(|it| policy.names_edge(installed, &it.measurement))
        .collect();
    let carrier = |to: &Candidate| {
        let carries =
            upgraders.iter().filter(|it| policy.names_edge(&it.measurement, &to.measurement));
        carries.max_by_key(|it| it.published).cloned()
    };
    let is_newer = |it: &Candidate| {
        it.published > from.published
            && it.security_version >= from.security_version
            && it.measurement != *installed
    };
    let ways = usable(state, policy)
        .filter(is_for_here)
        .filter(|it| it.kind == ReleaseKind::Keeper && is_newer(it))
        .map(|to| (carrier(&to), to))
        .filter(|(via, to)| via.is_some() || policy.names_edge(installed, &to.measurement));
    let (via, to) = ways.max_by_key(|(_, to)| to.published)?;
    Some(Offer { from, via, to, update: policy.update })
}

/// Whether operators called off a plan of this domain that led to the same release, however many
/// plans came after it: then nobody but operators begins it again.
pub fn was_called_off(state: &NetworkState, node: &NodeId, to: &ReleaseDigest) -> bool {
    let Some(domain) = state.node(node).map(|known| known.domain) else { return false };
    state.plans().any(|known| {
        let plan = known.plan();
        let led_there = plan.keyring.as_ref().is_some_and(|kept| kept.to.release == *to);
        plan.domain == domain && led_there && known.aborted().is_some()
    })
}

/// Whether a finished plan took this node away from the same release: operators who went back know
/// why, and nobody but operators goes there again.
pub fn was_left_behind(state: &NetworkState, node: &NodeId, to: &ReleaseDigest) -> bool {
    let Some(domain) = state.node(node).map(|known| known.domain) else { return false };
    state.plans().any(|known| {
        let plan = known.plan();
        plan.domain == domain
            && plan.keyring.as_ref().is_some_and(|kept| kept.from.release == *to)
            && plan.nodes.contains(node)
            && known.status() == PlanStatus::Finished
    })
}

/// Every release that launches to code which the policy knows, in the role that it has.
fn known<'a>(state: &'a NetworkState, policy: &'a Policy) -> impl Iterator<Item = Candidate> + 'a {
    let each = state.releases().filter_map(|(digest, release)| {
        let published = state.published_at(digest)?;
        Some((*digest, release.get(), published))
    });
    each.flat_map(move |(digest, release, published)| {
        let fits = move |code: &&Measurement| permits(policy, release, code);
        let candidate = move |code: &Measurement| Candidate {
            release: digest,
            name: release.name.clone(),
            kind: release.kind,
            measurement: *code,
            published,
            security_version: release.security_version,
        };
        release.measurements.iter().filter(fits).map(candidate)
    })
}

/// As [`known`], without what has expired.
fn usable<'a>(state: &'a NetworkState, policy: &'a Policy) -> impl Iterator<Item = Candidate> + 'a {
    known(state, policy).filter(|it| {
        let release = state.release(&it.release);
        release.zip(state.now()).is_some_and(|(release, now)| now <= release.not_after)
    })
}

fn permits(policy: &Policy, release: &Release, code: &Measurement) -> bool {
    let role = match release.kind {
        ReleaseKind::Keeper => HolderRole::Keeper,
        ReleaseKind::Upgrader => HolderRole::Upgrader,
        ReleaseKind::Application => return false,
    };
    let rule = policy.holder(code);
    rule.is_some_and(|rule| rule.role == role && rule.security_version <= release.security_version)
}

#[cfg(test)]
mod tests;
