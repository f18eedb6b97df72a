//! What planner and checker know about nodes that move their participants: plain data, taken from
//! the folded log once.

use std::collections::BTreeMap;

use heirloom_model::counter::{Epoch, LogIndex, PlanNumber, Time};
use heirloom_model::digest::{NetworkId, PlanDigest};
use heirloom_model::fleet::Node;
use heirloom_model::identifier::{DomainId, NodeId, OperatorId};
use heirloom_model::participant::SurveyFindings;
use heirloom_model::party::ParticipantId;
use heirloom_model::signature::PublicKey;
use heirloom_registry::domain::DomainState;
use heirloom_registry::network::NetworkState;

use super::InventoryError;

/// A domain without a keyring as the log shows it.
#[derive(Clone, Debug)]
pub struct Participants {
    /// The network.
    pub network: NetworkId,
    /// The domain.
    pub domain: DomainId,
    /// Whether the domain has, or had, a policy: then it is about a keyring.
    pub has_keepers: bool,
    /// The epoch.
    pub epoch: Epoch,
    /// The network's time.
    pub now: Time,
    /// The domain's nodes, sorted by name.
    pub nodes: Vec<Node>,
    /// What each of them found out last.
    pub surveys: BTreeMap<NodeId, Surveyed>,
    /// Who runs which participant, in the whole fleet.
    pub operators: BTreeMap<ParticipantId, OperatorId>,
    /// With which key each operator of these nodes can agree to something; who is missing cannot.
    pub keys: BTreeMap<OperatorId, PublicKey>,
    /// The number of the latest plan; 0 before the first.
    pub plan_number: PlanNumber,
    /// The latest plan, while it keeps others out.
    pub holding_plan: Option<PlanDigest>,
    /// Until when each operator's approval of that plan counts.
    pub approvals: Vec<Epoch>,
    /// When the root statement expires.
    pub root_not_after: Time,
    /// When the fleet statement expires.
    pub fleet_not_after: Time,
}

/// What a node found out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Surveyed {
    /// What.
    pub found: SurveyFindings,
    /// The entry.
    pub at: LogIndex,
    /// Its epoch.
    pub epoch: Epoch,
}

impl Participants {
    /// Takes what the log says about a domain.
    pub fn of(state: &NetworkState, domain: &DomainId) -> Result<Self, InventoryError> {
        let root = state.root().ok_or(InventoryError::NoRoot)?;
        let fleet = state.fleet().ok_or(InventoryError::NoFleet)?;
        let now = state.now().ok_or(InventoryError::NoTime)?;
        let nodes: Vec<Node> = state.nodes_of(*domain).cloned().collect();
        let surveyed = |node: &Node| {
            let seen = state.survey(&node.node)?;
            let (found, at, epoch) = (seen.survey().found.clone(), seen.at(), seen.epoch());
            Some((node.node.clone(), Surveyed { found, at, epoch }))
        };
        let operators = state.surveys().filter_map(|(node, seen)| {
            let operator = state.node(node)?.operator.clone();
            Some((seen.survey().found.source.clone(), operator))
        });
        let key = |node: &Node| Some((node.operator.clone(), *state.key_of(&node.operator).ok()?));
        let known = state.domain(domain);
        let holding = state.holding_plan(domain);
        Ok(Self {
            network: state.network(),
            domain: *domain,
            has_keepers: known.is_some_and(|known| known.published().0 > 0),
            epoch: state.epoch(),
            now,
            surveys: nodes.iter().filter_map(surveyed).collect(),
            keys: nodes.iter().filter_map(key).collect(),
            nodes,
            operators: operators.collect(),
            plan_number: known.map(DomainState::plan_number).unwrap_or_default(),
            holding_plan: holding.map(|plan| *plan.digest()),
            approvals: holding
                .map(|plan| plan.approvals().values().copied().collect())
                .unwrap_or_default(),
            root_not_after: root.not_after,
            fleet_not_after: fleet.not_after,
        })
    }

    /// A node of the domain.
    pub fn node(&self, node: &NodeId) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|known| known.node.cmp(node)).ok()?;
        self.nodes.get(at)
    }
}
