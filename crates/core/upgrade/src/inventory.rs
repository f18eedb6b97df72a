//! What planner, checker, lint and calendar know about a domain: plain data, taken from the
//! folded log once.
//!
//! Nothing is decided here. Planner and checker share this and no judgement.

pub mod participants;

use std::collections::{BTreeMap, BTreeSet};

use heirloom_attest::result::AnchorClass;
use heirloom_custody::facts::{self, Emptied};
use heirloom_custody::holding::Keyring;
use heirloom_model::admin::Volatile;
use heirloom_model::counter::{Epoch, Generation, LogIndex, PlanNumber, Serial, Time};
use heirloom_model::digest::{AnchorId, NetworkId, PlanDigest, ReleaseDigest};
use heirloom_model::fleet::Node;
use heirloom_model::identifier::{DomainId, NodeId, PlatformId};
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::Policy;
use heirloom_model::release::Release;
use heirloom_registry::network::NetworkState;

/// A domain as the log shows it.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// The network.
    pub network: NetworkId,
    /// The domain.
    pub domain: DomainId,
    /// The epoch.
    pub epoch: Epoch,
    /// The network's time.
    pub now: Time,
    /// The policy in force.
    pub policy: Policy,
    /// The latest serial that was published, in force or not.
    pub published: Serial,
    /// The keyring that must survive; none before genesis.
    pub keyring: Option<Keyring>,
    /// A generation that is ordered and can still be carried out.
    pub rotation: Option<Generation>,
    /// Every release of the network.
    pub releases: BTreeMap<ReleaseDigest, Release>,
    /// The domain's nodes, sorted by name.
    pub nodes: Vec<Node>,
    /// The latest registration of each measurement on each node of the domain.
    pub registered: BTreeMap<NodeId, BTreeMap<Measurement, Seen>>,
    /// When each seat was asked for the latest proof of possession that it gave.
    pub proven: BTreeMap<NodeId, BTreeMap<Measurement, LogIndex>>,
    /// The active holder of an exclusive domain.
    pub active: Option<(NodeId, Measurement)>,
    /// Nodes that registered for the domain and are not in the fleet (any more).
    pub strangers: BTreeSet<NodeId>,
    /// The number of the latest plan; 0 before the first.
    pub plan_number: PlanNumber,
    /// The latest plan, while it keeps others out: it is not over, and its last epoch has not
    /// passed.
    pub holding_plan: Option<PlanDigest>,
    /// Until when each operator's approval of that plan counts.
    pub approvals: Vec<Epoch>,
    /// The roots of trust, and whether each is a manufacturer's.
    pub anchors: BTreeMap<AnchorId, AnchorClass>,
    /// When the root statement expires.
    pub root_not_after: Time,
    /// When the fleet statement expires.
    pub fleet_not_after: Time,
}

/// An instance as it registered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// The entry of its registration.
    pub at: LogIndex,
    /// The machine.
    pub platform: PlatformId,
    /// Who vouches for the machine.
    pub anchor: AnchorId,
    /// When its attestation result stops saying anything.
    pub expires: Time,
    /// Why what it holds does not last, if it does not.
    pub volatile: Option<Volatile>,
}

/// What a plan needs to know and the log does not say.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InventoryError {
    /// No root is known.
    #[error("the log has no root")]
    NoRoot,
    /// No fleet is known.
    #[error("the log has no fleet")]
    NoFleet,
    /// The domain has no policy in force.
    #[error("domain {0} has no policy in force")]
    NoPolicy(DomainId),
    /// The network has no time.
    #[error("the network has no time: no epoch has started")]
    NoTime,
    /// The plan is about no keyring, so nothing can be said about one.
    #[error("the plan concerns no keyring")]
    NoKeyring,
    /// The plan moves no participant.
    #[error("the plan moves no participant")]
    NoParticipant,
}

impl Inventory {
    /// Takes what the log says about a domain.
    pub fn of(state: &NetworkState, domain: &DomainId) -> Result<Self, InventoryError> {
        let root = state.root().ok_or(InventoryError::NoRoot)?;
        let fleet = state.fleet().ok_or(InventoryError::NoFleet)?;
        let known = state.domain(domain).ok_or(InventoryError::NoPolicy(*domain))?;
        let policy = known.policy().ok_or(InventoryError::NoPolicy(*domain))?;
        let now = state.now().ok_or(InventoryError::NoTime)?;
        let nodes: Vec<Node> = state.nodes_of(*domain).cloned().collect();
        let mut registered: BTreeMap<NodeId, BTreeMap<Measurement, Seen>> = BTreeMap::new();
        let mut strangers = BTreeSet::new();
        for found in known.registrations() {
            let node = &found.statement().node;
            if nodes.binary_search_by(|known| known.node.cmp(node)).is_err() {
                strangers.insert(node.clone());
                continue;
            }
            let result = found.result();
            let (platform, anchor) = (result.platform(), result.anchor());
            let (expires, volatile) = (result.expires(), found.statement().volatile);
            let seen = Seen { at: found.at(), platform, anchor, expires, volatile };
            registered.entry(node.clone()).or_default().insert(result.measurement(), seen);
        }
        let mut proven: BTreeMap<NodeId, BTreeMap<Measurement, LogIndex>> = BTreeMap::new();
        for proof in facts::standing_proofs(known, &Emptied::of(domain, state)) {
            let latest = proven.entry(proof.node).or_default().entry(proof.measurement);
            let latest = latest.or_insert(proof.asked_at);
            *latest = proof.asked_at.max(*latest);
        }
        let holder = known.activity().active();
        let holding = state.holding_plan(domain);
        let order = known.order().filter(|order| order.is_open(state.epoch()));
        let anchor = |id: AnchorId| (id, AnchorClass::of(&id));
        Ok(Self {
            network: state.network(),
            domain: *domain,
            epoch: state.epoch(),
            now,
            policy: policy.get().clone(),
            published: known.published(),
            keyring: facts::keyring(known),
            rotation: order.map(|order| order.order().generation),
            releases: state.releases().map(|(id, found)| (*id, found.get().clone())).collect(),
            nodes,
            registered,
            proven,
            active: holder.map(|holder| (holder.node().clone(), holder.measurement())),
            strangers,
            plan_number: known.plan_number(),
            holding_plan: holding.map(|plan| *plan.digest()),
            approvals: holding
                .map(|plan| plan.approvals().values().copied().collect())
                .unwrap_or_default(),
            anchors: root.anchors.iter().map(|found| anchor(found.id())).collect(),
            root_not_after: root.not_after,
            fleet_not_after: fleet.not_after,
        })
    }

    /// A node of the domain.
    pub fn node(&self, node: &NodeId) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|known| known.node.cmp(node)).ok()?;
        self.nodes.get(at)
    }

    /// The machine on which a node registered last, with whatever code.
    pub fn platform(&self, node: &NodeId) -> Option<PlatformId> {
        let seen = self.registered.get(node)?.values();
        seen.max_by_key(|seen| seen.at).map(|seen| seen.platform)
    }

    /// Why what a node holds does not last, as it registered last, with whatever code; none if it
    /// lasts, or nothing is known.
    pub fn volatile(&self, node: &NodeId) -> Option<Volatile> {
        let seen = self.registered.get(node)?.values();
        seen.max_by_key(|seen| seen.at).and_then(|seen| seen.volatile)
    }

    /// Whether a seat has proven, since an instance there registered last, that it holds.
    pub fn holds(&self, node: &NodeId, measurement: &Measurement) -> bool {
        let asked = self.proven.get(node).and_then(|seats| seats.get(measurement));
        let seen = self.seen(node, measurement);
        asked.zip(seen).is_some_and(|(asked, seen)| *asked > seen.at)
    }

    /// The code that registered last on a node.
    pub fn latest(&self, node: &NodeId) -> Option<Measurement> {
        let seen = self.registered.get(node)?.iter();
        seen.max_by_key(|(_, seen)| seen.at).map(|(measurement, _)| *measurement)
    }

    /// The measurement of a release that registered last on a node: what the release is on the kind
    /// of platform that the node has.
    pub fn code_of(&self, node: &NodeId, release: &ReleaseDigest) -> Option<Measurement> {
        let release = self.releases.get(release)?;
        let seen = release
            .measurements
            .iter()
            .filter_map(|measurement| Some((self.seen(node, measurement)?.at, *measurement)));
        seen.max().map(|(_, measurement)| measurement)
    }

    /// What an instance of this measurement showed on this node, if one ever registered there.
    pub fn seen(&self, node: &NodeId, measurement: &Measurement) -> Option<&Seen> {
        self.registered.get(node)?.get(measurement)
    }
}
