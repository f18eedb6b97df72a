//! The one process that appends.

use std::path::Path;

use heirloom_ledger::block::BlockMetadata;
use heirloom_ledger::chain::CheckedBlock;
use heirloom_ledger::configuration::Configuration;
use heirloom_model::digest::NetworkId;
use heirloom_model::service::{SchemaVersion, Tip};

use crate::database::Database;
use crate::error::{LedgerError, OpenError};

/// A ledger that this process has, and no other. Reads are those of [`Database`].
pub struct Ledger {
    database: Database,
}

impl Ledger {
    /// Opens a ledger of exactly this schema. What is absent is not created.
    pub fn open(directory: &Path, expected: SchemaVersion) -> Result<Self, OpenError> {
        let _ = (directory, expected);
        unimplemented!()
    }

    /// Creates the ledger of a network, with its first block, in a directory that is absent or
    /// empty.
    pub fn create(
        directory: &Path,
        network: NetworkId,
        configuration: &Configuration,
        schema: SchemaVersion,
    ) -> Result<Self, OpenError> {
        let _ = (directory, network, configuration, schema);
        unimplemented!()
    }

    /// Appends the next block, and returns the new end, which is on disk.
    pub fn append(
        &self,
        block: &CheckedBlock,
        metadata: &BlockMetadata,
    ) -> Result<Tip, LedgerError> {
        let _ = (block, metadata);
        unimplemented!()
    }
}

impl std::ops::Deref for Ledger {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}
