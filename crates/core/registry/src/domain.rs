//! What the log says about one domain.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_attest::result::AttestationResult;
use heirloom_model::counter::{Epoch, Generation, LogIndex, PlanNumber, Serial};
use heirloom_model::digest::{Checksum, Nonce, PlanDigest};
use heirloom_model::domain::{
    Challenge, GenerationOrder, HoldingOrigin, PlanStep, PossessionProof, Registration,
};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::Policy;
use heirloom_model::signature::PublicKey;

use crate::activity::{Activity, Spent};
use crate::verified::Verified;

/// What the log says about one domain.
#[derive(Clone, Debug, Default)]
pub struct DomainState {
    pub(crate) policies: BTreeMap<Serial, Verified<Policy>>,
    /// Which serial took effect with which entry, oldest first.
    pub(crate) in_force: Vec<(LogIndex, Serial)>,
    pub(crate) published: Serial,
    pub(crate) pending: Option<Serial>,
    pub(crate) committed: Option<Committed>,
    pub(crate) order: Option<OpenOrder>,
    pub(crate) registrations: BTreeMap<(NodeId, Measurement), Registered>,
    pub(crate) challenges: BTreeMap<Nonce, Challenged>,
    pub(crate) plan_number: PlanNumber,
    pub(crate) plan: Option<PlanDigest>,
    pub(crate) genesis_node: Option<NodeId>,
    pub(crate) activity: Activity,
    pub(crate) spent: Spent,
}

/// The newest generation that enough nodes hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Committed {
    /// The generation.
    pub generation: Generation,
    /// The checksum of the keyring with it.
    pub checksum: Checksum,
    /// The entry that completed it.
    pub at: LogIndex,
    /// The epoch in which it was completed.
    pub epoch: Epoch,
}

/// A generation that is ordered and not committed yet.
#[derive(Clone, Debug)]
pub struct OpenOrder {
    pub(crate) order: Verified<GenerationOrder>,
    pub(crate) at: LogIndex,
    pub(crate) proposed: Option<Checksum>,
    pub(crate) receipts: BTreeMap<NodeId, Receipt>,
}

/// A node holds an ordered generation, sealed.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The instance that says so.
    pub instance: PublicKey,
    /// What its evidence showed.
    pub result: AttestationResult,
    /// The entry.
    pub at: LogIndex,
}

/// An instance that introduced itself.
#[derive(Clone, Debug)]
pub struct Registered {
    pub(crate) statement: Verified<Registration>,
    pub(crate) instance: PublicKey,
    pub(crate) result: AttestationResult,
    pub(crate) at: LogIndex,
}

/// A challenge and its answers.
#[derive(Clone, Debug)]
pub struct Challenged {
    pub(crate) challenge: Verified<Challenge>,
    pub(crate) at: LogIndex,
    pub(crate) proofs: BTreeMap<NodeId, Proven>,
}

/// An answer to a challenge. It is recorded also if it is a bad one: that a holder computed
/// another checksum is a fact that people must see. Whoever counts holders asks
/// [`Proven::flaw`].
#[derive(Clone, Debug)]
pub struct Proven {
    pub(crate) proof: Verified<PossessionProof>,
    pub(crate) instance: PublicKey,
    pub(crate) result: AttestationResult,
    pub(crate) at: LogIndex,
}

/// Why a recorded proof does not show possession of a keyring.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofFlaw {
    /// The holder has another generation.
    #[error("it proves generation {found}, not {expected}")]
    Generation {
        /// What must survive.
        expected: Generation,
        /// What was proven.
        found: Generation,
    },
    /// The holder has another keyring.
    #[error("it proves checksum {found}, not {expected}")]
    Checksum {
        /// What must survive.
        expected: Checksum,
        /// What was proven.
        found: Checksum,
    },
    /// The holder has not restarted since it received something: its durable state is unproven.
    #[error("the instance received keys since it started; its durable state is unproven")]
    NotRecovered,
}

/// Challenges that one domain remembers. The plan of the largest fleet asks some three times for
/// each node, one node at a time, and agents that were interrupted ask again.
pub const CHALLENGES_KEPT_MAX: usize = 65_536;
/// Policies that one domain remembers, besides those in force and pending.
pub const POLICIES_KEPT_MAX: usize = 64;

impl DomainState {
    /// The policy that decides now, expired or not.
    pub fn policy(&self) -> Option<&Verified<Policy>> {
        let (_, serial) = self.in_force.last()?;
        self.policies.get(serial)
    }

    /// The policy that waits for the plan that it completes.
    pub fn pending_policy(&self) -> Option<&Verified<Policy>> {
        self.policies.get(&self.pending?)
    }

    /// A policy by its serial, if it is still remembered.
    pub fn policy_by_serial(&self, serial: Serial) -> Option<&Verified<Policy>> {
        self.policies.get(&serial)
    }

    /// The serial of the latest policy, in force or not; 0 before the first.
    pub fn published(&self) -> Serial {
        self.published
    }

    /// The serial that was in force when the log had `length` entries.
    pub fn policy_in_force_at(&self, length: LogIndex) -> Option<Serial> {
        self.in_force.iter().rev().find(|(at, _)| *at < length).map(|(_, serial)| *serial)
    }

    /// The newest generation that enough nodes hold; none before genesis.
    pub fn committed(&self) -> Option<&Committed> {
        self.committed.as_ref()
    }

    /// The generation that is ordered and not committed; it may have lapsed.
    pub fn order(&self) -> Option<&OpenOrder> {
        self.order.as_ref()
    }

    /// The latest registration on a node.
    pub fn registration(&self, node: &NodeId) -> Option<&Registered> {
        let of_node = self.registrations.values();
        of_node.filter(|found| found.statement.node == *node).max_by_key(|found| found.at)
    }

    /// The latest registration of exactly this code on a node.
    pub fn registration_with(
        &self,
        node: &NodeId,
        measurement: &Measurement,
    ) -> Option<&Registered> {
        self.registrations.get(&(node.clone(), *measurement))
    }

    /// Every remembered registration, by node and measurement.
    pub fn registrations(&self) -> impl Iterator<Item = &Registered> {
        self.registrations.values()
    }

    /// A challenge by its nonce.
    pub fn challenge(&self, nonce: &Nonce) -> Option<&Challenged> {
        self.challenges.get(nonce)
    }

    /// Every remembered challenge.
    pub fn challenges(&self) -> impl Iterator<Item = &Challenged> {
        self.challenges.values()
    }

    /// The challenges that a step of a plan issued: one for each time that it was attempted.
    pub fn challenges_of(&self, step: PlanStep) -> impl Iterator<Item = &Challenged> {
        self.challenges.values().filter(move |asked| asked.challenge.step == Some(step))
    }

    /// The nodes that answered a challenge of this step with exactly this keyring, recovered from
    /// durable state.
    pub fn proven_since(
        &self,
        step: PlanStep,
        generation: Generation,
        checksum: &Checksum,
    ) -> BTreeSet<NodeId> {
        self.challenges_of(step)
            .flat_map(|asked| asked.proofs.iter())
            .filter(|(_, proven)| proven.flaw(generation, checksum).is_none())
            .map(|(node, _)| node.clone())
            .collect()
    }

    /// The latest proof of a node, good or bad.
    pub fn latest_proof(&self, node: &NodeId) -> Option<&Proven> {
        self.challenges
            .values()
            .filter_map(|asked| asked.proofs.get(node))
            .max_by_key(|proven| proven.at)
    }

    /// The node that carried out genesis; none before it.
    pub fn genesis_node(&self) -> Option<&NodeId> {
        self.genesis_node.as_ref()
    }

    /// Who is the active holder. Has a meaning only while the domain is exclusive.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// The entry that made this instance the active holder, if one did. Of very many instances
    /// only the latest [`ACTIVATIONS_KEPT_MAX`](crate::activity::ACTIVATIONS_KEPT_MAX) are known.
    pub fn activated_at(&self, instance: &PublicKey) -> Option<LogIndex> {
        self.spent.at(instance)
    }

    /// The number of the latest plan; 0 before the first.
    pub fn plan_number(&self) -> PlanNumber {
        self.plan_number
    }

    /// The latest plan, whatever became of it.
    pub fn plan(&self) -> Option<&PlanDigest> {
        self.plan.as_ref()
    }
}

impl OpenOrder {
    /// The order.
    pub fn order(&self) -> &Verified<GenerationOrder> {
        &self.order
    }

    /// The entry.
    pub fn at(&self) -> LogIndex {
        self.at
    }

    /// The checksum that the ordered node proposed, once it did.
    pub fn proposed(&self) -> Option<&Checksum> {
        self.proposed.as_ref()
    }

    /// Who holds it, the ordered node included.
    pub fn receipts(&self) -> &BTreeMap<NodeId, Receipt> {
        &self.receipts
    }

    /// Whether it can still be carried out.
    pub fn is_open(&self, epoch: Epoch) -> bool {
        epoch <= self.order.not_after
    }
}

impl Registered {
    /// What it says.
    pub fn statement(&self) -> &Verified<Registration> {
        &self.statement
    }

    /// Its identity key.
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

impl Challenged {
    /// The challenge.
    pub fn challenge(&self) -> &Verified<Challenge> {
        &self.challenge
    }

    /// The entry.
    pub fn at(&self) -> LogIndex {
        self.at
    }

    /// The answers, good and bad, by node.
    pub fn proofs(&self) -> &BTreeMap<NodeId, Proven> {
        &self.proofs
    }
}

impl Proven {
    /// What it says.
    pub fn proof(&self) -> &Verified<PossessionProof> {
        &self.proof
    }

    /// The identity key of the holder.
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

    /// Why this does not show that exactly this keyring can be recovered; none if it does.
    pub fn flaw(&self, generation: Generation, checksum: &Checksum) -> Option<ProofFlaw> {
        if self.proof.generation != generation {
            let found = self.proof.generation;
            return Some(ProofFlaw::Generation { expected: generation, found });
        }
        if self.proof.checksum != *checksum {
            let found = self.proof.checksum;
            return Some(ProofFlaw::Checksum { expected: *checksum, found });
        }
        match self.proof.origin {
            HoldingOrigin::Recovered => None,
            HoldingOrigin::Received => Some(ProofFlaw::NotRecovered),
        }
    }
}
