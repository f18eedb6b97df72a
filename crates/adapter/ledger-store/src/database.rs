//! The records of a ledger, read by one or many processes.

use std::path::Path;

use heirloom_ledger::amount::Amount;
use heirloom_ledger::block::{Block, BlockMetadata};
use heirloom_ledger::client::{OwnedOutput, ScanPosition};
use heirloom_ledger::output::{OutputId, OutputRecord};
use heirloom_ledger::state::{OutputStatus, Parent, State, Unreadable};
use heirloom_ledger::transaction::TransactionId;
use heirloom_model::service::{Height, SchemaVersion, Tip};
use heirloom_model::signature::PublicKey;

use crate::error::{LedgerError, OpenError};

/// A block as it stands in the database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredBlock {
    /// The block.
    pub block: Block,
    /// Who proposed it; none for the first block.
    pub metadata: Option<BlockMetadata>,
}

/// What a ledger has, all together. Migrations keep it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Blocks.
    pub blocks: u64,
    /// Outputs, spent or not.
    pub outputs: u64,
    /// What can be spent.
    pub unspent: Amount,
    /// What was paid as fees.
    pub fees: Amount,
}

/// The records of a ledger. Any number of processes may read them while one appends.
pub struct Database {}

impl Database {
    /// Opens the live database of a data directory for reading, whatever its schema is.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let _ = directory;
        unimplemented!()
    }
    /// The layout.
    pub fn schema(&self) -> SchemaVersion {
        unimplemented!()
    }
    /// The end of the ledger.
    pub fn tip(&self) -> Result<Tip, LedgerError> {
        unimplemented!()
    }
    /// What it has, all together.
    pub fn totals(&self) -> Result<Totals, LedgerError> {
        unimplemented!()
    }
    /// The block at a height, if there is one yet.
    pub fn block(&self, height: Height) -> Result<Option<StoredBlock>, LedgerError> {
        let _ = height;
        unimplemented!()
    }
    /// At most `max` blocks from a height on.
    pub fn blocks(&self, from: Height, max: usize) -> Result<Vec<StoredBlock>, LedgerError> {
        let _ = (from, max);
        unimplemented!()
    }
    /// An output, and the block in which it was spent, if it was.
    pub fn output(
        &self,
        id: &OutputId,
    ) -> Result<Option<(OutputRecord, Option<Height>)>, LedgerError> {
        let _ = id;
        unimplemented!()
    }
    /// At most `max` public outputs of a key that can be spent, after one, sorted by id. From
    /// schema 2 on.
    pub fn outputs_of(
        &self,
        owner: &PublicKey,
        after: Option<&OutputId>,
        max: usize,
    ) -> Result<Vec<OwnedOutput>, LedgerError> {
        let _ = (owner, after, max);
        unimplemented!()
    }
    /// At most `max` private outputs that can be spent, from a position on, with their positions,
    /// and where to go on, if there is more.
    #[expect(clippy::type_complexity)]
    pub fn private_outputs(
        &self,
        from: ScanPosition,
        max: usize,
    ) -> Result<(Vec<(ScanPosition, OutputId, OutputRecord)>, Option<ScanPosition>), LedgerError>
    {
        let _ = (from, max);
        unimplemented!()
    }
    /// The height of the block with a transaction, if there is one. From schema 3 on.
    pub fn transaction_height(&self, id: &TransactionId) -> Result<Option<Height>, LedgerError> {
        let _ = id;
        unimplemented!()
    }
}

impl State for Database {
    fn parent(&self) -> Result<Parent, Unreadable> {
        unimplemented!()
    }

    fn output_status(&self, id: &OutputId) -> Result<OutputStatus, Unreadable> {
        let _ = id;
        unimplemented!()
    }
}
