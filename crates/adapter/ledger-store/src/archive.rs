//! Blocks as files, for everybody: an archive is only ever added to.

use std::path::{Path, PathBuf};

use heirloom_ledger::block::{Block, BlockMetadata};
use heirloom_ledger::limit::{BLOCK_BYTES_MAX, METADATA_BYTES_MAX};
use heirloom_model::service::Height;
use heirloom_model::wire;
use heirloom_store::atomic;
use heirloom_store::error::StoreError;
use minicbor::{Decode, Encode};

use crate::database::{Database, StoredBlock};
use crate::error::JobError;
use crate::manifest::{check_pair, read_state, write_state};
use crate::snapshot::Checkpoint;

/// Blocks that are archived between two looks at whether to stop.
const BATCH_BLOCKS_MAX: usize = 1_024;

/// A block as it stands in an archive.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
struct ArchivedBlock {
    #[n(0)]
    block: Block,
    #[n(1)]
    metadata: Option<BlockMetadata>,
}
wire! { ArchivedBlock: "archived block", BLOCK_BYTES_MAX + METADATA_BYTES_MAX + 16; }

/// A directory of blocks, one file each.
#[derive(Debug)]
pub struct Archive {
    root: PathBuf,
}

/// Puts the blocks of a ledger into an archive, one after the other.
#[derive(Debug)]
pub struct Distribution {
    archive: Archive,
    state_file: PathBuf,
    next: u64,
}

impl Archive {
    /// The archive in a directory, which is created if it is absent.
    pub fn open(directory: &Path) -> Result<Self, JobError> {
        atomic::create_directory(directory)?;
        Ok(Self { root: directory.to_owned() })
    }

    /// Where the block at a height stands: sixteen hexadecimal digits, in pairs.
    pub fn path(&self, height: Height) -> PathBuf {
        let digits = format!("{:016x}", height.0);
        let mut path = self.root.clone();
        for start in (0..digits.len().saturating_sub(2)).step_by(2) {
            path.extend(digits.get(start..start.saturating_add(2)));
        }
        path.join(format!("{digits}.block"))
    }

    /// The block at a height, if it is there.
    pub fn block(&self, height: Height) -> Result<Option<StoredBlock>, JobError> {
        let path = self.path(height);
        let bytes = match atomic::read(&path, <ArchivedBlock as wire::Wire>::BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(StoreError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let corrupt = |reason: String| JobError::corrupt(&path, format!("block {height}"), reason);
        let archived: ArchivedBlock =
            wire::decode(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if archived.block.height != height {
            return Err(corrupt(format!("it says that it is block {}", archived.block.height)));
        }
        Ok(Some(StoredBlock { block: archived.block, metadata: archived.metadata }))
    }

    /// Puts a block there. Another block at its height is never overwritten.
    pub fn put(&self, block: &StoredBlock) -> Result<(), JobError> {
        let height = block.block.height;
        if self.has(block)? {
            return Ok(());
        }
        let path = self.path(height);
        if let Some(parent) = path.parent() {
            atomic::create_directory(parent)?;
        }
        let StoredBlock { block: content, metadata } = block.clone();
        let bytes = wire::encode(&ArchivedBlock { block: content, metadata });
        match atomic::create(&path, &bytes) {
            // Another one came first: what it put there counts.
            Err(StoreError::Exists { .. }) => self.has(block).map(|_| ()),
            created => Ok(created?),
        }
    }

    /// Whether exactly this block is there. Another one at its height is refused.
    fn has(&self, block: &StoredBlock) -> Result<bool, JobError> {
        let Some(found) = self.block(block.block.height)? else { return Ok(false) };
        let (there, ours) = (found.block.id(), block.block.id());
        if there != ours {
            return Err(JobError::refused(format!(
                "the archive has block {there} at height {}, and the ledger {ours}: one of the \
                 two is a fork, and nothing in an archive is ever overwritten",
                block.block.height,
            )));
        }
        Ok(true)
    }
}

impl Distribution {
    /// Finds out where to go on, from the state file and the archive.
    pub fn open(
        database: &Database,
        archive: Archive,
        state_file: &Path,
    ) -> Result<Self, JobError> {
        let tip = database.tip()?;
        let state = read_state(state_file)?;
        check_pair(state, &tip)?;
        let mut next = state.unwrap_or(1);
        // What was archived after the state file was written, or without one. Every block is
        // compared, so that a fork shows now and not when somebody reads the archive.
        while next <= tip.height.0 {
            let Some(block) = database.block(Height(next))? else { break };
            if !archive.has(&block)? {
                break;
            }
            next = next.saturating_add(1);
        }
        if let Some(last) = database.block(Height(next.saturating_sub(1)))?
            && !archive.has(&last)?
        {
            let path = archive.path(last.block.height);
            return Err(JobError::Missing { path });
        }
        if state != Some(next) {
            write_state(state_file, next)?;
        }
        Ok(Self { archive, state_file: state_file.to_owned(), next })
    }

    /// Archives at most `max` blocks and writes the state file. Returns how many there were.
    pub fn advance(&mut self, database: &Database, max: usize) -> Result<usize, JobError> {
        self.advance_with(database, max, &mut |_| Ok(()))
    }

    pub(crate) fn advance_with(
        &mut self,
        database: &Database,
        max: usize,
        checkpoint: Checkpoint<'_>,
    ) -> Result<usize, JobError> {
        let blocks = database.blocks(Height(self.next), max.min(BATCH_BLOCKS_MAX))?;
        let mut next = self.next;
        for block in &blocks {
            self.archive.put(block)?;
            checkpoint("a block is archived")?;
            next = next.saturating_add(1);
        }
        if !blocks.is_empty() {
            write_state(&self.state_file, next)?;
            checkpoint("the state file is written")?;
        }
        self.next = next;
        Ok(blocks.len())
    }

    /// The next block that is to be archived.
    pub fn next(&self) -> Height {
        Height(self.next)
    }
}

#[cfg(test)]
mod tests;
