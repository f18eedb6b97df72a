//! Why a participant does not do what it is asked.

use heirloom_custodians::config::ConfigError;
use heirloom_model::party::ParsePartyError;
use heirloom_participant::custodian::CustodianError;
use heirloom_participant::custodian::key::ParseKeyError;

use crate::crypto::CryptoError;
use crate::node::confirm::ContractRefusal;
use crate::repair::RepairError;
use crate::store::StoreError;
use crate::topology::TopologyRefusal;
use crate::values::ValueError;

/// Why a participant does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store does not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The custodian's configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The custodian does not do its part.
    #[error(transparent)]
    Custodian(#[from] CustodianError),
    /// A label or an identifier of a key is none.
    #[error(transparent)]
    Key(#[from] ParseKeyError),
    /// A key is none.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] ParsePartyError),
    /// A value is none.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// Topology is refused.
    #[error(transparent)]
    Topology(#[from] TopologyRefusal),
    /// A repair is refused.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// A contract is refused.
    #[error(transparent)]
    Contract(#[from] ContractRefusal),
    /// It is nobody yet.
    #[error("the participant is not initialized")]
    NotInitialized,
    /// Keys are there, and the store says that none were ever made.
    #[error(
        "the store was never initialised, but the custodian has a key {label}: \
         this is the store of another participant, or an old one is missing"
    )]
    KeysWithoutStore {
        /// The label.
        label: String,
    },
    /// The store names a key that does not answer to its public half any more.
    #[error("the custodian's key {label} is another one than the store has")]
    OtherKey {
        /// The label.
        label: String,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// What is asked for is not there.
    #[error("{0}")]
    Missing(String),
    /// It is there already.
    #[error("{0}")]
    Exists(String),
    /// Something must be otherwise first.
    #[error("{0}")]
    Refused(String),
    /// The synchronizer refuses.
    #[error("{0}")]
    Rejected(String),
    /// Somebody cannot be reached; nothing was done.
    #[error("{0}")]
    Unreachable(String),
    /// It may have been done or not.
    #[error("{0}")]
    Unknown(String),
    /// This participant does not do that at all.
    #[error("{0}")]
    Unsupported(String),
}
