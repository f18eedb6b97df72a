//! Statements about one domain's keyring: how it begins, grows, and who can show that they have it.

use minicbor::{Decode, Encode};

use crate::admin::Volatile;
use crate::counter::{Epoch, Generation, LogIndex, Serial, Time};
use crate::digest::{Checksum, LogHash, NetworkId, Nonce, PlanDigest};
use crate::identifier::{DomainId, NodeId};
use crate::limit::PAYLOAD_BYTES_MAX;
use crate::measurement::Measurement;
use crate::plan::StepId;
use crate::wire;

/// The network's clock advances.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct EpochStart {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The epoch that begins; one more than the last.
    #[n(1)]
    pub epoch: Epoch,
    /// What the time is, for everything that expires. Never decreases.
    #[n(2)]
    pub time: Time,
}

/// Permission for one node to create the next generation of a domain's keyring. For generation 0
/// this is genesis: nothing else ever creates a first key.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct GenerationOrder {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain.
    #[n(1)]
    pub domain: DomainId,
    /// The generation to create; one more than the last, or 0.
    #[n(2)]
    pub generation: Generation,
    /// Who creates it.
    #[n(3)]
    pub node: NodeId,
    /// The last epoch in which it may be carried out.
    #[n(4)]
    pub not_after: Epoch,
    /// Makes the order unique.
    #[n(5)]
    pub nonce: Nonce,
}

/// A keeper holds a generation that is not committed yet, sealed. Attested.
///
/// The first one for a generation proposes its checksum; the others acknowledge that they
/// received it. When enough nodes have, the generation is committed.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct GenerationReceipt {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain.
    #[n(1)]
    pub domain: DomainId,
    /// The node that holds it.
    #[n(2)]
    pub node: NodeId,
    /// The nonce of the order that it carries out.
    #[n(3)]
    pub order: Nonce,
    /// The generation.
    #[n(4)]
    pub generation: Generation,
    /// The checksum of the keyring with this generation.
    #[n(5)]
    pub checksum: Checksum,
}

/// An instance introduces itself. Attested.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Registration {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain.
    #[n(1)]
    pub domain: DomainId,
    /// Where it runs.
    #[n(2)]
    pub node: NodeId,
    /// How far it has followed the log.
    #[n(3)]
    pub as_of: LogPosition,
    /// The policy that it follows.
    #[n(4)]
    pub policy: Serial,
    /// Why what it holds does not last, if it does not: what its platform says about sealing.
    #[n(5)]
    pub volatile: Option<Volatile>,
}

/// A point in the log, and through the hash everything before it.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct LogPosition {
    /// How many entries have been followed.
    #[n(0)]
    pub length: LogIndex,
    /// Hash of the last one; all zero for none.
    #[n(1)]
    pub head: LogHash,
}

/// A verifier asks holders to show that they have the keyring. Signed by the verifier's agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Challenge {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain.
    #[n(1)]
    pub domain: DomainId,
    /// Random. Answers repeat it.
    #[n(2)]
    pub nonce: Nonce,
    /// The node whose agent asks.
    #[n(3)]
    pub verifier: NodeId,
    /// Who must answer, sorted.
    #[n(4)]
    pub targets: Vec<NodeId>,
    /// The step of a plan that asks, if one does.
    #[n(5)]
    pub step: Option<PlanStep>,
    /// Only instances of this code answer; without it, the node's keeper does. A node can have
    /// several holders while a keyring is handed over.
    #[n(6)]
    pub code: Option<Measurement>,
}

/// A step of a plan.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct PlanStep {
    /// The plan.
    #[n(0)]
    pub plan: PlanDigest,
    /// The step.
    #[n(1)]
    pub step: StepId,
}

/// A holder's answer to a challenge, made by unsealing its durable state. Attested.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct PossessionProof {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain.
    #[n(1)]
    pub domain: DomainId,
    /// The node that holds.
    #[n(2)]
    pub node: NodeId,
    /// The challenge that it answers.
    #[n(3)]
    pub challenge: Nonce,
    /// The newest committed generation that it unsealed.
    #[n(4)]
    pub generation: Generation,
    /// The checksum that it computed from what it unsealed.
    #[n(5)]
    pub checksum: Checksum,
    /// How the instance that answers came to the keyring.
    #[n(6)]
    pub origin: HoldingOrigin,
    /// How far it has followed the log: it cannot have been made earlier.
    #[n(7)]
    pub as_of: LogPosition,
    /// The policy that it follows.
    #[n(8)]
    pub policy: Serial,
    /// The code that holds, as it knows itself; the evidence must agree.
    #[n(9)]
    pub measurement: Measurement,
}

/// The active holder of an exclusive domain says that it serves no more. Attested.
///
/// From the moment at which it makes this statement it answers no request, whether the log ever
/// receives the statement or not.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Suspension {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain.
    #[n(1)]
    pub domain: DomainId,
    /// The node of the active holder.
    #[n(2)]
    pub node: NodeId,
    /// The step that asks for it.
    #[n(3)]
    pub step: PlanStep,
    /// The newest committed generation that it holds.
    #[n(4)]
    pub generation: Generation,
    /// The checksum of the keyring that it holds.
    #[n(5)]
    pub checksum: Checksum,
    /// How far it has followed the log.
    #[n(6)]
    pub as_of: LogPosition,
}

/// A holder of an exclusive domain says that it is the active one. Attested.
///
/// It names one instance, by the key that signs it: an older log cannot contain the key of an
/// instance that has just started, so whoever finds its own activation in the log has followed
/// the log at least to its own start.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Activation {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain.
    #[n(1)]
    pub domain: DomainId,
    /// The node of the holder.
    #[n(2)]
    pub node: NodeId,
    /// Why it may.
    #[n(3)]
    pub cause: ActivationCause,
    /// The newest committed generation that it unsealed.
    #[n(4)]
    pub generation: Generation,
    /// The checksum that it computed from what it unsealed.
    #[n(5)]
    pub checksum: Checksum,
    /// How the instance came to the keyring; only a recovered one becomes active.
    #[n(6)]
    pub origin: HoldingOrigin,
    /// How far it has followed the log.
    #[n(7)]
    pub as_of: LogPosition,
}

/// Why an instance may become the active holder of an exclusive domain.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum ActivationCause {
    /// Nobody was ever active: the node that carried out genesis begins.
    #[n(0)]
    First,
    /// The same code on the same node and machine was active and has started anew. It serves only
    /// after the time in which the instance before it can still believe that it is the one.
    #[n(1)]
    Restarted,
    /// The active holder is suspended, and this step of the plan names the next one.
    #[n(2)]
    Planned(#[n(0)] PlanStep),
}

/// How a running instance came to its keyring.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum HoldingOrigin {
    /// It unsealed the keyring from its own durable state when it started. Only this counts.
    #[n(0)]
    Recovered,
    /// It created or received some generation since it started.
    #[n(1)]
    Received,
}

wire! {
    EpochStart: "epoch", 256;
    GenerationOrder: "generation order", 1024;
    GenerationReceipt: "generation receipt", 1024;
    Registration: "registration", 1024;
    Challenge: "challenge", PAYLOAD_BYTES_MAX;
    PossessionProof: "proof of possession", 1024;
    Suspension: "suspension", 1024;
    Activation: "activation", 1024;
}
