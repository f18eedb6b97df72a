//! Handing a keyring over: who may, and what both sides say.
//!
//! A handover moves a domain's keyring from one seat to another under an approved plan. The
//! receiver connects to the donor in an attested session, and the two exchange, inside of it:
//!
//! 1. [`HandoverRequest`]: the receiver names the step of the plan, and challenges the donor.
//! 2. [`HandoverChallenge`]: the donor answers the receiver's challenge and challenges it.
//! 3. [`HandoverProof`]: the receiver answers, and says what it lacks.
//! 4. Generations, newest first, until nothing is missing.
//!
//! On one host both answers are local attestation reports (SGX: EREPORT), which only the enclave
//! that they are addressed to, on the same CPU, can check. Between hosts the session's own
//! evidence, made for that session, stands for them. In both cases what is attested is
//! [`ReportData::for_handover`]: the role, both
//! challenges, the channel, and the [`Authorisation`] that each side derives from the log itself.

use minicbor::{Decode, Encode};

use crate::counter::{Epoch, Generation};
use crate::digest::{
    AuthorisationDigest, ChannelDigest, Checksum, DigestOf, NetworkId, Nonce, PlanDigest, sha256,
};
use crate::domain::PlanStep;
use crate::evidence::{LocalReport, ReportData, ReportTarget};
use crate::identifier::{DomainId, HostId, NodeId};
use crate::plan::{Placement, StepId};
use crate::{context, wire};

/// Permission to move one keyring along one edge: what an approved plan allows with one of its
/// steps. Never sent: each side derives it from the log that it followed, and attests its digest,
/// so that two sides that differ in any field do not believe each other.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Authorisation {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// Whose keyring.
    #[n(1)]
    pub domain: DomainId,
    /// The plan that operators approved.
    #[n(2)]
    pub plan: PlanDigest,
    /// Its step.
    #[n(3)]
    pub step: StepId,
    /// The donor's node.
    #[n(4)]
    pub from_node: NodeId,
    /// The donor's host.
    #[n(5)]
    pub from_host: HostId,
    /// The donor's release and measurement.
    #[n(6)]
    pub from: Placement,
    /// The receiver's node.
    #[n(7)]
    pub to_node: NodeId,
    /// The receiver's host.
    #[n(8)]
    pub to_host: HostId,
    /// The receiver's release and measurement.
    #[n(9)]
    pub to: Placement,
    /// The newest generation that moves.
    #[n(10)]
    pub generation: Generation,
    /// What the receiver must find when it computes the chain itself.
    #[n(11)]
    pub checksum: Checksum,
    /// The last epoch in which it may move.
    #[n(12)]
    pub not_after: Epoch,
    /// The plan's nonce: another plan with the same words is another permission.
    #[n(13)]
    pub nonce: Nonce,
}

impl Authorisation {
    /// The digest that both sides attest.
    pub fn digest(&self) -> AuthorisationDigest {
        AuthorisationDigest::of(wire::encode(self).as_slice())
    }

    /// Whether both seats are on one host, so that local attestation is demanded.
    pub fn is_local(&self) -> bool {
        self.from_host == self.to_host
    }
}

/// A side of a handover. What one side attests is worthless on the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HandoverRole {
    /// The side that has the keyring.
    Donor,
    /// The side that asks for it.
    Receiver,
}

impl ReportData {
    /// What a side of a handover attests: its role, the challenge that it answers and its own, the
    /// channel, and the permission that it derived from the log.
    pub fn for_handover(
        role: HandoverRole,
        answered: &HandoverQuestion,
        own: &HandoverQuestion,
        channel: &ChannelDigest,
        authorisation: &AuthorisationDigest,
    ) -> Self {
        let context = match role {
            HandoverRole::Donor => context::EVIDENCE_HANDOVER_DONOR,
            HandoverRole::Receiver => context::EVIDENCE_HANDOVER_RECEIVER,
        };
        let question = |asked: &HandoverQuestion| {
            let target = asked.target.as_ref().map_or(&[][..], |target| target.as_bytes());
            sha256(&[asked.nonce.as_bytes(), target])
        };
        let (answered, own) = (question(answered), question(own));
        Self::hashed(&[context, &answered, &own, channel.as_bytes(), authorisation.as_bytes()])
    }
}

/// A fresh question of one side of a handover, which only the other side of this session can
/// answer.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct HandoverQuestion {
    /// Random; the answer is bound to it.
    #[n(0)]
    pub nonce: Nonce,
    /// Where a local report must be addressed to; none between hosts.
    #[n(1)]
    pub target: Option<ReportTarget>,
}

/// The receiver asks.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct HandoverRequest {
    /// The step of the plan that allows it.
    #[n(0)]
    pub step: PlanStep,
    /// The receiver's challenge to the donor.
    #[n(1)]
    pub question: HandoverQuestion,
}

/// The donor answers the receiver's challenge and challenges it.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct HandoverChallenge {
    /// The donor's challenge to the receiver. It is good for one answer.
    #[n(0)]
    pub question: HandoverQuestion,
    /// The donor's local report, addressed to the receiver; none between hosts.
    #[n(1)]
    pub report: Option<LocalReport>,
}

/// The receiver answers the donor's challenge, and asks for generations.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct HandoverProof {
    /// The receiver's local report, addressed to the donor; none between hosts.
    #[n(0)]
    pub report: Option<LocalReport>,
    /// The first generation to send.
    #[n(1)]
    pub newest: Generation,
    /// The most to send in one answer.
    #[n(2)]
    pub count: u32,
}

wire! { Authorisation: "handover authorisation", 2048; }
