//! The configuration as people write it.

use std::path::{Path, PathBuf};

use heirloom_ledger::amount::Amount;
use heirloom_ledger::configuration::{Allocation, Configuration, ConfigurationFault};
use heirloom_model::digest::ParseHexError;
use heirloom_store::atomic;
use heirloom_store::error::StoreError;
use serde::{Deserialize, Serialize};

use crate::limit::CONFIGURATION_BYTES_MAX;

/// A configuration file. Peers compare everything but `wallets`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationFile {
    /// What people call the network.
    pub name: String,
    /// The smallest fee.
    pub minimum_fee: u64,
    /// How far ahead of the next block a tombstone may be.
    pub tombstone_distance_max: u64,
    /// How many transactions a block may have.
    pub block_payments_max: u32,
    /// How long a proposer waits for more before it makes a block.
    pub block_interval_ms: u64,
    /// The oldest client protocol that is served.
    pub client_protocol_min: u32,
    /// Where the wallets of the operator's tests are, beside this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wallets: Option<PathBuf>,
    /// What the network starts with.
    #[serde(default)]
    pub allocation: Vec<AllocationEntry>,
}

/// What an account starts with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AllocationEntry {
    /// Its key.
    pub owner: String,
    /// How much it is.
    pub amount: u64,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// It is not the text of a configuration.
    #[error("{path} is no configuration: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An owner is no key.
    #[error(transparent)]
    Owner(#[from] ParseHexError),
    /// No network can run with it.
    #[error(transparent)]
    Fault(#[from] ConfigurationFault),
}

/// Reads a configuration.
pub fn read(path: &Path) -> Result<Configuration, ConfigurationError> {
    read_file(path)?.to_configuration()
}

/// Reads a configuration with what peers do not compare.
pub fn read_file(path: &Path) -> Result<ConfigurationFile, ConfigurationError> {
    let malformed =
        |reason: String| ConfigurationError::Malformed { path: path.to_owned(), reason };
    let bytes = atomic::read(path, CONFIGURATION_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|error| malformed(error.to_string()))?;
    toml::from_str(&text).map_err(|error| malformed(error.to_string()))
}

impl ConfigurationFile {
    /// What peers compare.
    pub fn to_configuration(&self) -> Result<Configuration, ConfigurationError> {
        let allocations = self.allocation.iter().map(|entry| {
            Ok(Allocation { owner: entry.owner.parse()?, amount: Amount(entry.amount) })
        });
        let configuration = Configuration {
            name: self.name.clone(),
            minimum_fee: Amount(self.minimum_fee),
            tombstone_distance_max: self.tombstone_distance_max,
            block_payments_max: self.block_payments_max,
            block_interval_milliseconds: self.block_interval_ms,
            allocations: allocations.collect::<Result<_, ParseHexError>>()?,
            client_protocol_min: self.client_protocol_min,
        };
        configuration.check()?;
        Ok(configuration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
        name = \"test\"
        minimum_fee = 1
        tombstone_distance_max = 100
        block_payments_max = 10
        block_interval_ms = 100
        client_protocol_min = 1
        [[allocation]]
        owner = \"0101010101010101010101010101010101010101010101010101010101010101\"
        amount = 7
    ";

    fn digest(text: &str) -> String {
        let file: ConfigurationFile = toml::from_str(text).unwrap();
        file.to_configuration().unwrap().digest().to_string()
    }

    #[test]
    fn peers_compare_everything_but_where_the_wallets_are() {
        let with_wallets = TEXT.replacen("name", "wallets = \"w\"\nname", 1);
        assert_eq!(digest(TEXT), digest(&with_wallets));
        for (from, to) in [
            ("\"test\"", "\"other\""),
            ("minimum_fee = 1", "minimum_fee = 2"),
            ("distance_max = 100", "distance_max = 101"),
            ("payments_max = 10", "payments_max = 11"),
            ("interval_ms = 100", "interval_ms = 101"),
            ("protocol_min = 1", "protocol_min = 2"),
            ("amount = 7", "amount = 8"),
            ("\"0101", "\"0201"),
        ] {
            let changed = TEXT.replacen(from, to, 1);
            assert_ne!(changed, TEXT, "{from}");
            assert_ne!(digest(TEXT), digest(&changed), "{from}");
        }
        let unknown = format!("wallet = 1\n{TEXT}");
        assert!(toml::from_str::<ConfigurationFile>(&unknown).is_err());
    }
}
