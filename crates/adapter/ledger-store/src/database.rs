//! The records of a ledger, read by one or many processes.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use heed::{CommitOrAbort, Env, WithoutTls};
use heirloom_ledger::amount::Amount;
use heirloom_ledger::block::{Block, BlockMetadata};
use heirloom_ledger::client::{OwnedOutput, ScanPosition};
use heirloom_ledger::output::{OutputId, OutputRecord, PaymentPath};
use heirloom_ledger::schema::{SCHEMA_OWNERS, SCHEMA_TRANSACTIONS};
use heirloom_ledger::state::{OutputStatus, Parent, State, Unreadable};
use heirloom_ledger::transaction::TransactionId;
use heirloom_model::digest::NetworkId;
use heirloom_model::service::{Height, SchemaVersion, Tip};
use heirloom_model::signature::PublicKey;
use minicbor::{Decode, Encode};

use crate::directory::Directory;
use crate::environment::{self, Access};
use crate::error::{LedgerError, OpenError};
use crate::records::{Head, Tables, View, Writer};

/// Blocks that one look for private outputs goes through, so that it ends.
const SCAN_BLOCKS_MAX: u64 = 4_096;
/// Blocks that one answer has.
const BLOCKS_MAX: usize = 4_096;

/// A block as it stands in the database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredBlock {
    /// The block.
    pub block: Block,
    /// Who proposed it; none for the first block.
    pub metadata: Option<BlockMetadata>,
}

/// What a ledger has, all together. Migrations keep it.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, PartialEq)]
pub struct Totals {
    /// Blocks.
    #[n(0)]
    pub blocks: u64,
    /// Outputs, spent or not.
    #[n(1)]
    pub outputs: u64,
    /// What can be spent.
    #[n(2)]
    pub unspent: Amount,
    /// What was paid as fees.
    #[n(3)]
    pub fees: Amount,
}

/// Private outputs that can be spent, and where to go on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PrivatePage {
    /// The outputs, in the order in which they were made.
    pub outputs: Vec<(ScanPosition, OutputId, OutputRecord)>,
    /// Where to go on, if there is more.
    pub next: Option<ScanPosition>,
}

/// The records of a ledger. Any number of processes may read them while one appends.
pub struct Database {
    env: Env<WithoutTls>,
    tables: Tables<'static>,
    path: PathBuf,
    network: NetworkId,
    schema: SchemaVersion,
}

impl Database {
    /// Opens the live database of a data directory for reading, whatever its schema is.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_at(&live(directory)?, Access::Read)
    }

    /// Opens the database in exactly this directory.
    pub(crate) fn open_at(path: &Path, access: Access) -> Result<Self, OpenError> {
        if !path.join(crate::directory::DATA_FILE).is_file() {
            return Err(OpenError::Missing { path: path.to_owned() });
        }
        Ok(Self::of(environment::open(path, access)?, path)?)
    }

    /// The records of an environment that has some.
    pub(crate) fn of(env: Env<WithoutTls>, path: &Path) -> Result<Self, LedgerError> {
        let heed = |error| LedgerError::from_heed("read", path, error);
        let txn = env.read_txn().map_err(heed)?;
        let tables = env.open_databases_and_commit(txn, |opener, txn| {
            Tables::open(opener, txn, path)
                .map_err(Opening::Ledger)
                .map(CommitOrAbort::<_, ()>::Commit)
        });
        let tables = match tables {
            Ok(tables) => tables.unwrap_commit(),
            Err(Opening::Ledger(error)) => return Err(error),
            Err(Opening::Heed(error)) => return Err(heed(error)),
        };
        let head = {
            let txn = env.read_txn().map_err(heed)?;
            View { tables: &tables, txn: &txn, path }.head()?
        };
        check_tables(&head, &tables, path)?;
        let (network, schema) = (head.network, head.schema);
        Ok(Self { env, tables, path: path.to_owned(), network, schema })
    }

    /// The network.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// The layout.
    pub fn schema(&self) -> SchemaVersion {
        self.schema
    }

    /// The end of the ledger.
    pub fn tip(&self) -> Result<Tip, LedgerError> {
        self.read(|view| Ok(view.head()?.tip))
    }

    /// What it has, all together.
    pub fn totals(&self) -> Result<Totals, LedgerError> {
        self.read(|view| Ok(view.head()?.totals))
    }

    /// The block at a height, if there is one yet.
    pub fn block(&self, height: Height) -> Result<Option<StoredBlock>, LedgerError> {
        self.read(|view| view.block(height))
    }

    /// At most `max` blocks from a height on.
    pub fn blocks(&self, from: Height, max: usize) -> Result<Vec<StoredBlock>, LedgerError> {
        self.read(|view| {
            let mut blocks = Vec::new();
            for height in (from.0..).take(max.min(BLOCKS_MAX)) {
                let Some(block) = view.block(Height(height))? else { break };
                blocks.push(block);
            }
            Ok(blocks)
        })
    }

    /// An output, and the block in which it was spent, if it was.
    pub fn output(
        &self,
        id: &OutputId,
    ) -> Result<Option<(OutputRecord, Option<Height>)>, LedgerError> {
        self.read(|view| {
            let Some(record) = view.output(id)? else { return Ok(None) };
            Ok(Some((record, view.spent(id)?)))
        })
    }

    /// At most `max` public outputs of a key that can be spent, after one, sorted by id. From
    /// schema 2 on.
    pub fn outputs_of(
        &self,
        owner: &PublicKey,
        after: Option<&OutputId>,
        max: usize,
    ) -> Result<Vec<OwnedOutput>, LedgerError> {
        let not_here = LedgerError::NotInSchema { found: self.schema, needed: SCHEMA_OWNERS };
        let table = self.tables.owners.ok_or(not_here)?;
        let key = |id: &[u8]| [owner.as_bytes().as_slice(), id].concat();
        let last = key(&[0xff; OutputId::BYTES]);
        let first = after.map_or_else(|| key(&[]), |id| key(id.as_bytes()));
        let from = match after {
            None => Bound::Included(first.as_slice()),
            Some(_) => Bound::Excluded(first.as_slice()),
        };
        self.read(|view| {
            let heed = |error| LedgerError::from_heed("read", &self.path, error);
            let mut outputs = Vec::new();
            let range = (from, Bound::Included(last.as_slice()));
            for entry in table.range(view.txn, &range).map_err(heed)? {
                let (key, _) = entry.map_err(heed)?;
                let output = owned(view, key, owner)?;
                outputs.extend(output);
                if outputs.len() >= max {
                    break;
                }
            }
            Ok(outputs)
        })
    }

    /// At most `max` private outputs that can be spent, from a position on.
    pub fn private_outputs(
        &self,
        from: ScanPosition,
        max: usize,
    ) -> Result<PrivatePage, LedgerError> {
        self.read(|view| {
            let tip = view.head()?.tip.height;
            let mut page = PrivatePage::default();
            let first = from.height.0.max(1);
            let end = first.saturating_add(SCAN_BLOCKS_MAX);
            for height in (first..end).map(Height).take_while(|height| *height <= tip) {
                let Some(stored) = view.block(height)? else { break };
                for (place, id) in private_of(&stored.block) {
                    let position = ScanPosition { height, place };
                    if position < from || view.spent(&id)?.is_some() {
                        continue;
                    }
                    if page.outputs.len() >= max {
                        page.next = Some(position);
                        return Ok(page);
                    }
                    let missing = || {
                        let record = format!("output {id}");
                        LedgerError::corrupt(&self.path, record, "it is missing")
                    };
                    let record = view.output(&id)?.ok_or_else(missing)?;
                    page.outputs.push((position, id, record));
                }
            }
            if end <= tip.0 {
                page.next = Some(ScanPosition { height: Height(end), place: 0 });
            }
            Ok(page)
        })
    }

    /// The height of the block with a transaction, if there is one. From schema 3 on.
    pub fn transaction_height(&self, id: &TransactionId) -> Result<Option<Height>, LedgerError> {
        let not_here = LedgerError::NotInSchema { found: self.schema, needed: SCHEMA_TRANSACTIONS };
        let table = self.tables.transactions.ok_or(not_here)?;
        self.read(|view| {
            let bytes = view.bytes(&table, id.as_bytes())?;
            bytes.map(|bytes| view.height(bytes, || format!("transaction {id}"))).transpose()
        })
    }

    /// Looks at everything as it is at one moment.
    pub(crate) fn read<R>(
        &self,
        look: impl FnOnce(&View<'_, '_>) -> Result<R, LedgerError>,
    ) -> Result<R, LedgerError> {
        let txn = self.env.read_txn();
        let txn = txn.map_err(|error| LedgerError::from_heed("read", &self.path, error))?;
        look(&View { tables: &self.tables, txn: &txn, path: &self.path })
    }

    /// Changes something, all of it or nothing.
    pub(crate) fn write<R>(
        &self,
        change: impl FnOnce(&mut Writer<'_, '_, '_>) -> Result<R, LedgerError>,
    ) -> Result<R, LedgerError> {
        let heed = |error| LedgerError::from_heed("write", &self.path, error);
        let mut txn = self.env.write_txn().map_err(heed)?;
        let made = {
            let (tables, path) = (&self.tables, self.path.as_path());
            change(&mut Writer { tables, txn: &mut txn, path })?
        };
        txn.commit().map_err(heed)?;
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts everything on disk.
    pub(crate) fn flush(&self) -> Result<(), LedgerError> {
        let flushed = self.env.force_sync();
        flushed.map_err(|error| LedgerError::from_heed("flush", &self.path, error))
    }
}

impl State for Database {
    fn parent(&self) -> Result<Parent, Unreadable> {
        self.read(|view| Ok(view.parent()))?
    }

    fn output_status(&self, id: &OutputId) -> Result<OutputStatus, Unreadable> {
        self.read(|view| Ok(view.output_status(id)))?
    }
}

/// Where the live database is.
pub(crate) fn live(directory: &Path) -> Result<PathBuf, OpenError> {
    let live = Directory::new(directory).live();
    match std::fs::canonicalize(&live) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(OpenError::Missing { path: live })
        }
        Err(error) => Err(LedgerError::from_io("find", &live, error).into()),
    }
}

/// The private outputs that a block makes, with their places among each other.
fn private_of(block: &Block) -> impl Iterator<Item = (u32, OutputId)> {
    let created = block.transactions.iter().flat_map(|transaction| {
        let private = |output: &(OutputId, heirloom_ledger::output::Output)| {
            output.1.path() == PaymentPath::Private
        };
        transaction.created().into_iter().filter(private)
    });
    (0..).zip(created.map(|(id, _)| id))
}

/// The output of one entry of the index by owner, if it can be spent.
fn owned(
    view: &View<'_, '_>,
    key: &[u8],
    owner: &PublicKey,
) -> Result<Option<OwnedOutput>, LedgerError> {
    let corrupt = |reason: &str| {
        let record = format!("output {} of {owner} by owner", hex::encode(key));
        LedgerError::corrupt(view.path, record, reason)
    };
    let id =
        key.split_at_checked(PublicKey::BYTES).map(|(_, id)| <[u8; OutputId::BYTES]>::try_from(id));
    let Some(Ok(id)) = id else { return Err(corrupt("it is no output")) };
    let id = OutputId::new(id);
    if view.spent(&id)?.is_some() {
        return Ok(None);
    }
    let record = view.output(&id)?.ok_or_else(|| corrupt("there is no such output"))?;
    let (amount, height) = (record.output.amount(), record.height);
    Ok(Some(OwnedOutput { output: id, amount, height }))
}

fn check_tables(head: &Head, tables: &Tables<'_>, path: &Path) -> Result<(), LedgerError> {
    let missing = (head.schema >= SCHEMA_OWNERS && tables.owners.is_none())
        || (head.schema >= SCHEMA_TRANSACTIONS && tables.transactions.is_none());
    if missing {
        return Err(LedgerError::corrupt(path, "tables", "an index of the schema is missing"));
    }
    Ok(())
}

/// What went wrong while tables were opened: heed wants one type for both.
enum Opening {
    Heed(heed::Error),
    Ledger(LedgerError),
}

impl From<heed::Error> for Opening {
    fn from(error: heed::Error) -> Self {
        Self::Heed(error)
    }
}
