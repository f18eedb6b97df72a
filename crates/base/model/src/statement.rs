//! Statements: what the registry orders.

use minicbor::{Decode, Encode};

use crate::digest::NetworkId;
use crate::domain::{
    Activation, Challenge, EpochStart, GenerationOrder, GenerationReceipt, PossessionProof,
    Registration, Suspension,
};
use crate::evidence::Endorsements;
use crate::fleet::Fleet;
use crate::identifier::{DomainId, NodeId};
use crate::participant::{MapAgreement, ParticipantStanding, ParticipantSurvey};
use crate::plan::{Abort, Approval, Proposal, StepResult};
use crate::policy::Policy;
use crate::release::Release;
use crate::root::Root;
use crate::service::{Rehearsal, Revocation, Standing};
use crate::wire::Wire;

/// What a statement is about. The number is part of what is signed.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
#[repr(u8)]
pub enum StatementKind {
    /// [`Root`].
    #[n(0)]
    Root = 0,
    /// [`Fleet`].
    #[n(1)]
    Fleet = 1,
    /// [`Release`].
    #[n(2)]
    Release = 2,
    /// [`Policy`].
    #[n(3)]
    Policy = 3,
    /// [`EpochStart`].
    #[n(4)]
    Epoch = 4,
    /// [`Endorsements`].
    #[n(5)]
    Endorsements = 5,
    /// [`GenerationOrder`].
    #[n(6)]
    GenerationOrder = 6,
    /// [`GenerationReceipt`].
    #[n(7)]
    GenerationReceipt = 7,
    /// [`Registration`].
    #[n(8)]
    Registration = 8,
    /// [`Challenge`].
    #[n(9)]
    Challenge = 9,
    /// [`PossessionProof`].
    #[n(10)]
    PossessionProof = 10,
    /// [`Proposal`].
    #[n(11)]
    Proposal = 11,
    /// [`Approval`].
    #[n(12)]
    Approval = 12,
    /// [`Abort`].
    #[n(13)]
    Abort = 13,
    /// [`StepResult`].
    #[n(14)]
    StepResult = 14,
    /// [`Suspension`].
    #[n(15)]
    Suspension = 15,
    /// [`Activation`].
    #[n(16)]
    Activation = 16,
    /// [`Standing`].
    #[n(17)]
    Standing = 17,
    /// [`Rehearsal`].
    #[n(18)]
    Rehearsal = 18,
    /// [`Revocation`].
    #[n(19)]
    Revocation = 19,
    /// [`ParticipantSurvey`].
    #[n(20)]
    ParticipantSurvey = 20,
    /// [`ParticipantStanding`].
    #[n(21)]
    ParticipantStanding = 21,
    /// [`MapAgreement`].
    #[n(22)]
    MapAgreement = 22,
}

impl StatementKind {
    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Fleet => "fleet",
            Self::Release => "release",
            Self::Policy => "policy",
            Self::Epoch => "epoch",
            Self::Endorsements => "endorsements",
            Self::GenerationOrder => "generation-order",
            Self::GenerationReceipt => "generation-receipt",
            Self::Registration => "registration",
            Self::Challenge => "challenge",
            Self::PossessionProof => "possession-proof",
            Self::Proposal => "proposal",
            Self::Approval => "approval",
            Self::Abort => "abort",
            Self::StepResult => "step-result",
            Self::Suspension => "suspension",
            Self::Activation => "activation",
            Self::Standing => "standing",
            Self::Rehearsal => "rehearsal",
            Self::Revocation => "revocation",
            Self::ParticipantSurvey => "participant-survey",
            Self::ParticipantStanding => "participant-standing",
            Self::MapAgreement => "map-agreement",
        }
    }

    /// The number that is signed.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Whether an instance makes such statements: they carry its evidence.
    pub fn is_attested(self) -> bool {
        match self {
            Self::GenerationReceipt
            | Self::Registration
            | Self::PossessionProof
            | Self::Suspension
            | Self::Activation
            | Self::Standing => true,
            Self::Root
            | Self::Fleet
            | Self::Release
            | Self::Policy
            | Self::Epoch
            | Self::Endorsements
            | Self::GenerationOrder
            | Self::Challenge
            | Self::Proposal
            | Self::Approval
            | Self::Abort
            | Self::StepResult
            | Self::Rehearsal
            | Self::Revocation
            | Self::ParticipantSurvey
            | Self::ParticipantStanding
            | Self::MapAgreement => false,
        }
    }
}

/// A payload that can be signed as a statement of one kind.
pub trait Statement: Wire {
    /// Its kind.
    const KIND: StatementKind;
}

/// A statement of a running instance about its node.
///
/// Evidence says which code speaks, on which platform, and nothing about the node: one host could
/// run two instances and let each speak for another node. Therefore the node's agent, whose key
/// the fleet names, signs too.
pub trait AttestedStatement: Statement {
    /// Its network.
    fn network(&self) -> NetworkId;
    /// Whose keyring it is about.
    fn domain(&self) -> &DomainId;
    /// Where the instance says that it runs.
    fn node(&self) -> &NodeId;
}

macro_rules! attested_statements {
    ($($type:ty;)+) => {$(
        impl AttestedStatement for $type {
            fn network(&self) -> NetworkId {
                self.network
            }

            fn domain(&self) -> &DomainId {
                &self.domain
            }

            fn node(&self) -> &NodeId {
                &self.node
            }
        }
    )+};
}

attested_statements! {
    Activation;
    GenerationReceipt;
    PossessionProof;
    Registration;
    Standing;
    Suspension;
}

macro_rules! statements {
    ($($type:ty => $kind:ident;)+) => {$(
        impl Statement for $type {
            const KIND: StatementKind = StatementKind::$kind;
        }
    )+};
}

statements! {
    Root => Root;
    Fleet => Fleet;
    Release => Release;
    Policy => Policy;
    EpochStart => Epoch;
    Endorsements => Endorsements;
    GenerationOrder => GenerationOrder;
    GenerationReceipt => GenerationReceipt;
    Registration => Registration;
    Challenge => Challenge;
    PossessionProof => PossessionProof;
    Proposal => Proposal;
    Approval => Approval;
    Abort => Abort;
    StepResult => StepResult;
    Suspension => Suspension;
    Activation => Activation;
    Standing => Standing;
    Rehearsal => Rehearsal;
    Revocation => Revocation;
    ParticipantSurvey => ParticipantSurvey;
    ParticipantStanding => ParticipantStanding;
    MapAgreement => MapAgreement;
}
