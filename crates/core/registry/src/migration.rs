//! What the nodes of a migration stated on the way, and what operators agreed to.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::counter::{Epoch, LogIndex};
use heirloom_model::digest::PartyMapDigest;
use heirloom_model::identifier::{NodeId, OperatorId};
use heirloom_model::participant::{
    Enrolled, Exported, LedgerOffset, MapAgreement, ParticipantFacts, ParticipantStanding,
    ParticipantSurvey, PartyMove, Reconciled, Rewritten, map_digest,
};
use heirloom_model::plan::{ParticipantAction, StepId};
use heirloom_model::signature::PublicKey;

use crate::network::NetworkState;
use crate::plan::PlanState;
use crate::verified::Verified;

/// What a node found out last about its participants.
#[derive(Clone, Debug)]
pub struct SurveySeen {
    pub(crate) survey: Verified<ParticipantSurvey>,
    pub(crate) at: LogIndex,
    pub(crate) epoch: Epoch,
}

/// What a node stated last for a step.
#[derive(Clone, Debug)]
pub struct ParticipantStandingSeen {
    pub(crate) standing: Verified<ParticipantStanding>,
    pub(crate) at: LogIndex,
}

/// An operator's consent to the whole party map of a plan.
#[derive(Clone, Debug)]
pub struct AgreementSeen {
    pub(crate) agreement: Verified<MapAgreement>,
    pub(crate) key: PublicKey,
    pub(crate) at: LogIndex,
}

/// Whether nodes rewrote the same contracts alike.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Concord {
    /// This step, the first of its kind, has no statement yet.
    Open(StepId),
    /// All of them used this map, and have the same contracts where their parties stand together.
    Concordant(PartyMapDigest),
    /// Two of them differ.
    Discordant {
        /// One of them.
        a: StepId,
        /// The other one.
        b: StepId,
        /// In what.
        what: &'static str,
    },
}

impl SurveySeen {
    /// What was found.
    pub fn survey(&self) -> &Verified<ParticipantSurvey> {
        &self.survey
    }

    /// The entry.
    pub fn at(&self) -> LogIndex {
        self.at
    }

    /// The epoch of the entry.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl ParticipantStandingSeen {
    /// What was stated.
    pub fn standing(&self) -> &Verified<ParticipantStanding> {
        &self.standing
    }

    /// The entry.
    pub fn at(&self) -> LogIndex {
        self.at
    }
}

impl AgreementSeen {
    /// What was agreed to.
    pub fn agreement(&self) -> &Verified<MapAgreement> {
        &self.agreement
    }

    /// Whose key signed it.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The entry.
    pub fn at(&self) -> LogIndex {
        self.at
    }
}

impl PlanState {
    /// What a node stated last for a step of its participant.
    pub fn participant_standing(&self, step: StepId) -> Option<&ParticipantStandingSeen> {
        self.facts.get(&step)
    }

    /// Every step for which a node stated something about its participant.
    pub fn participant_standings(
        &self,
    ) -> impl Iterator<Item = (StepId, &ParticipantStandingSeen)> {
        self.facts.iter().map(|(step, seen)| (*step, seen))
    }

    /// Who agreed to the whole party map.
    pub fn agreements(&self) -> &BTreeMap<OperatorId, AgreementSeen> {
        &self.agreements
    }

    fn facts_of(&self, node: &NodeId, action: ParticipantAction) -> Option<&ParticipantFacts> {
        let step = self.plan.participant_step(node, action)?;
        Some(&self.participant_standing(step)?.standing.get().facts)
    }

    /// The target of a node, once it has a name.
    pub fn enrolled(&self, node: &NodeId) -> Option<&Enrolled> {
        match self.facts_of(node, ParticipantAction::Enroll)? {
            ParticipantFacts::Enrolled(enrolled) => Some(enrolled),
            _ => None,
        }
    }

    /// A node's part of the party map, once its target hosts the parties.
    pub fn allocated(&self, node: &NodeId) -> Option<&[PartyMove]> {
        match self.facts_of(node, ParticipantAction::Allocate)? {
            ParticipantFacts::Allocated(moves) => Some(moves),
            _ => None,
        }
    }

    /// Where the ledger of a node's source ended when it was quiet.
    pub fn quiesced(&self, node: &NodeId) -> Option<LedgerOffset> {
        match self.facts_of(node, ParticipantAction::Quiesce)? {
            ParticipantFacts::Quiesced(ledger_end) => Some(*ledger_end),
            _ => None,
        }
    }

    /// The snapshot of a node's source.
    pub fn exported(&self, node: &NodeId) -> Option<&Exported> {
        match self.facts_of(node, ParticipantAction::Export)? {
            ParticipantFacts::Exported(exported) => Some(exported),
            _ => None,
        }
    }

    /// The snapshot for a node's target.
    pub fn rewritten(&self, node: &NodeId) -> Option<&Rewritten> {
        match self.facts_of(node, ParticipantAction::Rewrite)? {
            ParticipantFacts::Rewritten(rewritten) => Some(rewritten),
            _ => None,
        }
    }

    /// What a node's target showed after it was connected.
    pub fn reconciled(&self, node: &NodeId) -> Option<&Reconciled> {
        match self.facts_of(node, ParticipantAction::Reconcile)? {
            ParticipantFacts::Reconciled(reconciled) => Some(reconciled),
            _ => None,
        }
    }

    /// The whole party map and its digest, once every node stated its part.
    pub fn party_map(&self) -> Option<(PartyMapDigest, BTreeMap<NodeId, Vec<PartyMove>>)> {
        let part = |node: &NodeId| Some((node.clone(), self.allocated(node)?.to_vec()));
        let parts: BTreeMap<NodeId, Vec<PartyMove>> =
            self.plan.nodes.iter().map(part).collect::<Option<_>>()?;
        let all: Vec<PartyMove> = parts.values().flatten().cloned().collect();
        Some((map_digest(&all), parts))
    }

    /// The digest of the whole party map once nothing can change it any more, or the first step
    /// that can.
    pub fn settled_map(&self) -> Result<PartyMapDigest, StepId> {
        for node in &self.plan.nodes {
            let step = self.plan.participant_step(node, ParticipantAction::Allocate);
            let step = step.unwrap_or(StepId(0));
            if self.done_at(step).is_none() {
                return Err(step);
            }
        }
        self.party_map().map(|(digest, _)| digest).ok_or(StepId(0))
    }

    /// Whether the nodes rewrote the same contracts alike. Walks every pair: proposals bound the
    /// nodes.
    pub fn concord(&self, first: StepId, last: StepId) -> Concord {
        let mut seen: BTreeMap<&NodeId, (StepId, &Rewritten)> = BTreeMap::new();
        for id in (first.0..=last.0).map(StepId) {
            let stated = self.participant_standing(id).map(|seen| seen.standing.get());
            match stated.map(|stated| (&stated.node, &stated.facts)) {
                Some((node, ParticipantFacts::Rewritten(rewritten))) => {
                    seen.insert(node, (id, rewritten));
                }
                Some(_) | None => return Concord::Open(id),
            }
        }
        let Some((a, reference)) = seen.values().next() else { return Concord::Open(first) };
        for (node, (id, rewritten)) in &seen {
            if rewritten.map != reference.map {
                return Concord::Discordant { a: *a, b: *id, what: "party map" };
            }
            for shared in &rewritten.shared {
                let Some((other, theirs)) = seen.get(&shared.node) else { continue };
                let same = theirs.shared.iter().any(|back| {
                    back.node == **node
                        && (back.contracts, back.ids) == (shared.contracts, shared.ids)
                });
                if !same {
                    let (a, b) = ((*id).min(*other), (*id).max(*other));
                    return Concord::Discordant { a, b, what: "shared contracts" };
                }
            }
        }
        Concord::Concordant(reference.map)
    }
}

impl NetworkState {
    /// What a node found out last about its participants.
    pub fn survey(&self, node: &NodeId) -> Option<&SurveySeen> {
        self.surveys.get(node)
    }

    /// What every node found out last about its participants.
    pub fn surveys(&self) -> impl Iterator<Item = (&NodeId, &SurveySeen)> {
        self.surveys.iter()
    }

    /// The agreement of an operator, if the key that signed it is still this operator's: a fleet
    /// may have named another one since, and a root may have taken it out of the role.
    pub(crate) fn agreement_of<'p>(
        &self,
        plan: &'p PlanState,
        operator: &OperatorId,
    ) -> Option<&'p AgreementSeen> {
        let counts = |seen: &&AgreementSeen| self.key_of(operator).ok() == Some(seen.key());
        plan.agreements().get(operator).filter(counts)
    }

    /// The operators of the nodes of a plan who have not agreed to its whole party map.
    pub fn disagreeing(&self, plan: &PlanState) -> BTreeSet<OperatorId> {
        let map = plan.settled_map().ok();
        let agreed = |operator: &OperatorId| {
            let seen = self.agreement_of(plan, operator);
            seen.map(|seen| seen.agreement.map) == map && map.is_some()
        };
        let nodes = plan.plan().nodes.iter().filter_map(|node| self.node(node));
        nodes.map(|node| node.operator.clone()).filter(|operator| !agreed(operator)).collect()
    }
}
