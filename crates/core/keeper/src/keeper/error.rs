//! Why a keeper does not do what it is asked.

use heirloom_model::admin::{AdminRefusal, Unreadable};
use heirloom_model::counter::Generation;
use heirloom_model::identifier::DomainId;
use heirloom_model::log::BrokenChain;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;

use crate::handover::{NotAttested, NotAuthorised};
use crate::handshake::NotAHolder;
use crate::keyring::BadGenerations;
use crate::port::PlatformError;

/// Why a keeper does not do what it is asked. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeeperError {
    /// The request does not fit the state.
    #[error("the keeper is {state}")]
    State {
        /// The state.
        state: ServingState,
    },
    /// Sealed state cannot be opened.
    #[error(transparent)]
    Unreadable(Unreadable),
    /// Entries do not continue the log. Those before them were followed.
    #[error(transparent)]
    Log(#[from] BrokenChain),
    /// The log has no such order or challenge for this node, or not any more.
    #[error("the log does not contain what this request refers to")]
    NotInLog,
    /// The generation was proposed before, and this keeper does not hold what was proposed.
    #[error("generation {generation} was proposed by this node already, and its secret is lost")]
    ProposalLost {
        /// Which.
        generation: Generation,
    },
    /// A generation that is in memory is not on disk.
    #[error("generation {generation} is not on disk any more")]
    NotOnDisk {
        /// Which.
        generation: Generation,
    },
    /// The peer may not hold the keyring.
    #[error(transparent)]
    NotAHolder(#[from] NotAHolder),
    /// The policy names no edge from the peer to this code.
    #[error("the policy names no edge from {from} to {to}")]
    NoEdge {
        /// The peer.
        from: Measurement,
        /// This code.
        to: Measurement,
    },
    /// The peer sent something else than what was asked for.
    #[error(transparent)]
    BadGenerations(#[from] BadGenerations),
    /// The peer talks about another domain.
    #[error("the peer talks about domain {found}")]
    OtherDomain {
        /// Which.
        found: DomainId,
    },
    /// The platform did not do its part.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The platform says that this code can be read from outside.
    #[error("debug code never holds keys")]
    Debug,
    /// Code of this role does no such thing.
    #[error("this code is measured as {} and does no such thing", .role.name())]
    Role {
        /// The role of this code.
        role: HolderRole,
    },
    /// The challenge is for another instance on this node.
    #[error("{asked} is asked, this code is {own}")]
    OtherCode {
        /// Who is asked.
        asked: Measurement,
        /// This code.
        own: Measurement,
    },
    /// The keyring of an exclusive domain moves only by a handover.
    #[error("the domain is exclusive: its keyring moves only by a handover")]
    Exclusive,
    /// Only exclusive domains have one active holder.
    #[error("the domain is not exclusive: no holder is the active one")]
    NotExclusive,
    /// Only an instance that unsealed the keyring when it started becomes active.
    #[error("this instance received keys since it started; only a restarted one becomes active")]
    NotRecovered,
    /// The log does not allow it.
    #[error(transparent)]
    NotAuthorised(#[from] NotAuthorised),
    /// The other side of a handover is not believed.
    #[error(transparent)]
    NotAttested(#[from] NotAttested),
}

impl From<KeeperError> for AdminRefusal {
    fn from(error: KeeperError) -> Self {
        match error {
            KeeperError::State { state } => Self::State { state },
            KeeperError::Role { .. }
            | KeeperError::Exclusive
            | KeeperError::NotExclusive
            | KeeperError::NotRecovered
            | KeeperError::NotAuthorised(_) => Self::NotAuthorised(error.to_string()),
            KeeperError::Unreadable(unreadable) => Self::Unreadable(unreadable),
            KeeperError::Log(_) | KeeperError::ProposalLost { .. } => Self::Log(error.to_string()),
            KeeperError::NotInLog | KeeperError::OtherCode { .. } => Self::NotInLog,
            KeeperError::NotOnDisk { .. } => Self::Storage(error.to_string()),
            KeeperError::NotAHolder(_)
            | KeeperError::NoEdge { .. }
            | KeeperError::BadGenerations(_)
            | KeeperError::OtherDomain { .. }
            | KeeperError::NotAttested(_) => {
                Self::NotReplicated(heirloom_model::causes::with_causes(&error))
            }
            KeeperError::Platform(_) => Self::Platform(error.to_string()),
            KeeperError::Debug => Self::Debug,
        }
    }
}
