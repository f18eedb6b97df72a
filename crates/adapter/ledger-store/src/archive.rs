//! Blocks as files, for everybody.

use std::path::Path;

use crate::database::{Database, StoredBlock};
use crate::error::JobError;
use heirloom_model::service::Height;

/// A directory of blocks, one file each.
pub struct Archive {}

/// Puts the blocks of a ledger into an archive, one after the other.
pub struct Distribution {}

impl Archive {
    /// The archive in a directory, which is created if it is absent.
    pub fn open(directory: &Path) -> Result<Self, JobError> {
        let _ = directory;
        unimplemented!()
    }

    /// The block at a height, if it is there.
    pub fn block(&self, height: Height) -> Result<Option<StoredBlock>, JobError> {
        let _ = height;
        unimplemented!()
    }

    /// Puts a block there. Another block at its height is never overwritten.
    pub fn put(&self, block: &StoredBlock) -> Result<(), JobError> {
        let _ = block;
        unimplemented!()
    }
}

impl Distribution {
    /// Finds out where to go on, from the state file and the archive.
    pub fn open(
        database: &Database,
        archive: Archive,
        state_file: &Path,
    ) -> Result<Self, JobError> {
        let _ = (database, archive, state_file);
        unimplemented!()
    }

    /// Archives at most `max` blocks and writes the state file. Returns how many there were.
    pub fn advance(&mut self, database: &Database, max: usize) -> Result<usize, JobError> {
        let _ = (database, max);
        unimplemented!()
    }

    /// The next block that is to be archived.
    pub fn next(&self) -> Height {
        unimplemented!()
    }
}
