//! What all nodes of a network have configured alike.

use heirloom_model::digest::{ConfigurationDigest, DigestOf};
use heirloom_model::signature::PublicKey;
use heirloom_model::wire;
use minicbor::{Decode, Encode};

use crate::amount::Amount;
use crate::limit::{
    ALLOCATIONS_MAX, BLOCK_TRANSACTIONS_MAX, CONFIGURATION_BYTES_MAX, NETWORK_NAME_CHARACTERS_MAX,
    TOMBSTONE_DISTANCE_MAX,
};

/// What all nodes of a network have configured alike. Peers with another digest do not connect.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Configuration {
    /// What people call the network.
    #[n(0)]
    pub name: String,
    /// The smallest fee of a transaction.
    #[n(1)]
    pub minimum_fee: Amount,
    /// How far ahead of the next block a tombstone may be.
    #[n(2)]
    pub tombstone_distance_max: u64,
    /// How many transactions a block may have.
    #[n(3)]
    pub block_payments_max: u32,
    /// How long a proposer waits for more before it makes a block.
    #[n(4)]
    pub block_interval_milliseconds: u64,
    /// What the network starts with.
    #[n(5)]
    pub allocations: Vec<Allocation>,
    /// The oldest client protocol that is served.
    #[n(6)]
    pub client_protocol_min: u32,
}

/// An amount that the network starts with.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Allocation {
    /// Whose it is.
    #[n(0)]
    pub owner: PublicKey,
    /// How much it is.
    #[n(1)]
    pub amount: Amount,
}

/// Why no network runs with a configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigurationFault {
    /// The name is empty or too long, or not plain.
    #[error("the name must have 1 to {NETWORK_NAME_CHARACTERS_MAX} printable ASCII characters")]
    Name,
    /// No transaction could be valid, or nodes would have to remember them for too long.
    #[error("tombstones must be 1 to {TOMBSTONE_DISTANCE_MAX} blocks ahead, not {found}")]
    TombstoneDistance {
        /// What is configured.
        found: u64,
    },
    /// Blocks would be empty or too large.
    #[error("a block must have room for 1 to {BLOCK_TRANSACTIONS_MAX} transactions, not {found}")]
    BlockPayments {
        /// What is configured.
        found: u32,
    },
    /// More accounts than a first block has room for.
    #[error("{found} allocations are more than the {ALLOCATIONS_MAX} allowed")]
    Allocations {
        /// What is configured.
        found: usize,
    },
    /// All allocations together are more than anybody can count, or one is nothing.
    #[error("an allocation is zero, or all together do not fit in 64 bits")]
    Supply,
}

impl Configuration {
    /// What peers compare.
    pub fn digest(&self) -> ConfigurationDigest {
        ConfigurationDigest::of(wire::encode(self).as_slice())
    }

    /// Refuses what no network can run with.
    pub fn check(&self) -> Result<(), ConfigurationFault> {
        let plain = self.name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        if self.name.is_empty() || self.name.len() > NETWORK_NAME_CHARACTERS_MAX || !plain {
            return Err(ConfigurationFault::Name);
        }
        let found = self.tombstone_distance_max;
        if !(1..=TOMBSTONE_DISTANCE_MAX).contains(&found) {
            return Err(ConfigurationFault::TombstoneDistance { found });
        }
        let found = self.block_payments_max;
        let payments = usize::try_from(found).unwrap_or(usize::MAX);
        if !(1..=BLOCK_TRANSACTIONS_MAX).contains(&payments) {
            return Err(ConfigurationFault::BlockPayments { found });
        }
        if self.allocations.len() > ALLOCATIONS_MAX {
            return Err(ConfigurationFault::Allocations { found: self.allocations.len() });
        }
        let nothing = self.allocations.iter().any(|allocation| allocation.amount == Amount(0));
        let all = Amount::sum(self.allocations.iter().map(|allocation| allocation.amount));
        if nothing || all.is_none() {
            return Err(ConfigurationFault::Supply);
        }
        Ok(())
    }
}

wire! {
    Configuration: "configuration", CONFIGURATION_BYTES_MAX;
}
