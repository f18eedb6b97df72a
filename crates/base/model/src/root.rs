//! Roots: who may sign what, and how many of them (TUF §4.3, "root.json").

use minicbor::{Decode, Encode};

use crate::counter::{Serial, Time};
use crate::digest::NetworkId;
use crate::evidence::TrustAnchor;
use crate::limit::PAYLOAD_BYTES_MAX;
use crate::signature::PublicKey;
use crate::wire;

/// Who may sign what in one network.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Root {
    /// The network; none in the first root, whose digest it is.
    #[n(0)]
    pub network: Option<NetworkId>,
    /// 1 for the first root; each successor adds one.
    #[n(1)]
    pub serial: Serial,
    /// One entry per role, in the order of [`Role`].
    #[n(2)]
    pub roles: Vec<RoleKeys>,
    /// Whose word is believed about attesters, sorted.
    #[n(3)]
    pub anchors: Vec<TrustAnchor>,
    /// After this time nothing but a new root is accepted.
    #[n(4)]
    pub not_after: Time,
}

/// What a key may sign for.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum Role {
    /// New roots.
    #[n(0)]
    Root,
    /// Releases.
    #[n(1)]
    Release,
    /// Policies.
    #[n(2)]
    Policy,
    /// The fleet, genesis, rotation, proposals, approvals, aborts.
    #[n(3)]
    Operator,
    /// Epochs.
    #[n(4)]
    Timekeeper,
}

impl Role {
    /// Every role, in order.
    pub const ALL: [Self; 5] =
        [Self::Root, Self::Release, Self::Policy, Self::Operator, Self::Timekeeper];

    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Policy => "policy",
            Self::Operator => "operator",
            Self::Timekeeper => "timekeeper",
        }
    }
}

/// The keys of one role.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct RoleKeys {
    /// The role.
    #[n(0)]
    pub role: Role,
    /// Distinct keys, sorted.
    #[n(1)]
    pub keys: Vec<PublicKey>,
    /// How many distinct keys must sign; at least one, at most all.
    #[n(2)]
    pub threshold: u32,
}

wire! { Root: "root", PAYLOAD_BYTES_MAX; }
