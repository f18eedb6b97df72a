//! What topology maps to what.

use std::collections::BTreeSet;

use crate::key::numbered;
use crate::key::{PublicKey, SigningPublicKey};
use crate::name::{Namespace, ParticipantId, PartyId};
use crate::proto::ProtoError;

numbered! {
    /// What a host may do for a party (`ParticipantPermission`).
    Permission: "permission of a participant" {
        /// Submit, confirm and see.
        Submission = 1,
        /// Confirm and see.
        Confirmation = 2,
        /// See.
        Observation = 3,
    }
}

/// What a delegated key may sign.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Restriction {
    /// Everything. An old root delegation says it by `is_root_delegation`.
    AllMappings,
    /// Everything but other delegations. An old delegation says it by its absence.
    AllButNamespaceDelegations,
    /// These kinds of mappings.
    Specific(BTreeSet<u32>),
}

/// A key may sign in a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamespaceDelegation {
    /// The namespace.
    pub namespace: Namespace,
    /// The key.
    pub target: SigningPublicKey,
    /// What it may sign.
    pub restriction: Restriction,
}

impl NamespaceDelegation {
    /// Says that the key is the namespace itself.
    pub fn is_root(&self) -> bool {
        self.target.fingerprint().to_namespace() == self.namespace
    }
}

/// A group owns a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DecentralizedNamespace {
    /// The namespace.
    pub namespace: Namespace,
    /// How many owners must sign.
    pub threshold: i32,
    /// The owners.
    pub owners: BTreeSet<Namespace>,
}

/// A member has keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnerToKey {
    /// The member, with its kind in front: `PAR::name::namespace`.
    pub member: String,
    /// Its keys.
    pub keys: Vec<PublicKey>,
}

/// One host of a party.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostingParticipant {
    /// The participant.
    pub participant: ParticipantId,
    /// What it may do.
    pub permission: Permission,
    /// Whether it does not have all contracts of the party yet.
    pub onboarding: bool,
}

/// Keys that sign for an external party.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartySigningKeys {
    /// The keys.
    pub keys: Vec<SigningPublicKey>,
    /// How many must sign.
    pub threshold: u32,
}

/// A party is hosted by participants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartyToParticipant {
    /// The party.
    pub party: PartyId,
    /// How many hosts must confirm.
    pub threshold: u32,
    /// The hosts.
    pub participants: Vec<HostingParticipant>,
    /// Keys, if the party is external.
    pub signing_keys: Option<PartySigningKeys>,
}

/// A package that a participant is ready to run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VettedPackage {
    /// The package.
    pub package: String,
    /// From when on (a protobuf timestamp, unread).
    pub valid_from: Option<Vec<u8>>,
    /// Until when (a protobuf timestamp, unread).
    pub valid_until: Option<Vec<u8>>,
}

/// A participant is ready to run packages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VettedPackages {
    /// The participant.
    pub participant: ParticipantId,
    /// The packages.
    pub packages: Vec<VettedPackage>,
}

/// A participant trusts a synchronizer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SynchronizerTrustCertificate {
    /// The participant.
    pub participant: ParticipantId,
    /// The synchronizer; with protocol version and serial behind it on newer ledgers.
    pub synchronizer: String,
    /// Feature flags, unread.
    pub features: Vec<u32>,
}

/// What topology maps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mapping {
    /// A group owns a namespace.
    DecentralizedNamespace(DecentralizedNamespace),
    /// A key may sign in a namespace.
    NamespaceDelegation(NamespaceDelegation),
    /// Another mapping, unread.
    Other {
        /// Which.
        field: u32,
        /// Its message.
        bytes: Vec<u8>,
    },
    /// A member has keys.
    OwnerToKey(OwnerToKey),
    /// A party is hosted.
    PartyToParticipant(PartyToParticipant),
    /// A participant trusts a synchronizer.
    SynchronizerTrustCertificate(SynchronizerTrustCertificate),
    /// A participant runs packages.
    VettedPackages(VettedPackages),
}

impl Mapping {
    /// The number by which a restriction names it: that of its field, where both lists are alike.
    pub fn code(&self) -> u32 {
        match self.field() {
            field @ 15.. => field + 2,
            field => field,
        }
    }

    /// The number of its field.
    pub fn field(&self) -> u32 {
        match self {
            Self::NamespaceDelegation(_) => 1,
            Self::DecentralizedNamespace(_) => 3,
            Self::OwnerToKey(_) => 4,
            Self::SynchronizerTrustCertificate(_) => 5,
            Self::VettedPackages(_) => 8,
            Self::PartyToParticipant(_) => 9,
            Self::Other { field, .. } => *field,
        }
    }
}
