//! The tables of a ledger, and the records in them.

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitToken, DatabaseOpener, OnCommit, PutFlags, RoTxn, RwTxn, WithoutTls};
use heirloom_ledger::amount::Amount;
use heirloom_ledger::block::{Block, BlockMetadata};
use heirloom_ledger::chain::CheckedBlock;
use heirloom_ledger::output::{OutputId, OutputRecord};
use heirloom_ledger::schema::{
    Index, IndexRecord, SCHEMA_OWNERS, SCHEMA_TRANSACTIONS, records_of_output,
    records_of_transaction,
};
use heirloom_ledger::state::{OutputStatus, Parent, State, Unreadable};
use heirloom_model::counter::Time;
use heirloom_model::digest::NetworkId;
use heirloom_model::service::{Height, SchemaVersion, Tip};
use heirloom_model::wire::{self, Wire};
use minicbor::{Decode, Encode};

use crate::database::{StoredBlock, Totals};
use crate::error::LedgerError;

/// The one format of the head record.
const HEAD_FORMAT: u32 = 1;
const HEAD_KEY: &[u8] = b"head";

pub(crate) type Table<'t> = heed::Database<'t, Bytes, Bytes>;

/// Everything that changes with each block, and the schema: one record, so that version and data
/// cannot come apart.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct Head {
    #[n(0)]
    pub(crate) format: u32,
    #[n(1)]
    pub(crate) network: NetworkId,
    #[n(2)]
    pub(crate) schema: SchemaVersion,
    #[n(3)]
    pub(crate) tip: Tip,
    #[n(4)]
    pub(crate) time: Time,
    #[n(5)]
    pub(crate) totals: Totals,
}
heirloom_model::wire! { Head: "head of the ledger", 512; }

impl Head {
    /// The head of a ledger in which nothing is yet.
    pub(crate) fn empty(network: NetworkId, schema: SchemaVersion) -> Self {
        let tip = Tip { height: Height(0), id: heirloom_model::digest::BlockId::new([0; 32]) };
        let (time, totals) = (Time(0), Totals::default());
        Self { format: HEAD_FORMAT, network, schema, tip, time, totals }
    }
}

/// The tables. Those of indexes are there from the schema on that has them.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'t> {
    pub(crate) head: Table<'t>,
    pub(crate) blocks: Table<'t>,
    pub(crate) metadata: Table<'t>,
    pub(crate) outputs: Table<'t>,
    pub(crate) spent: Table<'t>,
    pub(crate) owners: Option<Table<'t>>,
    pub(crate) transactions: Option<Table<'t>>,
}

/// The name of the table of an index.
pub(crate) fn table_name(index: Index) -> &'static str {
    match index {
        Index::OutputsByOwner => "outputs-by-owner",
        Index::HeightOfTransaction => "height-of-transaction",
    }
}

impl OnCommit for Tables<'_> {
    type Committed = Tables<'static>;

    fn on_commit(self, token: &CommitToken) -> Tables<'static> {
        Tables {
            head: self.head.on_commit(token),
            blocks: self.blocks.on_commit(token),
            metadata: self.metadata.on_commit(token),
            outputs: self.outputs.on_commit(token),
            spent: self.spent.on_commit(token),
            owners: self.owners.on_commit(token),
            transactions: self.transactions.on_commit(token),
        }
    }
}

impl<'t> Tables<'t> {
    /// Creates the tables of a schema.
    pub(crate) fn create(
        opener: &DatabaseOpener<'t, WithoutTls>,
        txn: &mut RwTxn<'t>,
        schema: SchemaVersion,
    ) -> heed::Result<Self> {
        let owners = (schema >= SCHEMA_OWNERS).then_some(table_name(Index::OutputsByOwner));
        let transactions =
            (schema >= SCHEMA_TRANSACTIONS).then_some(table_name(Index::HeightOfTransaction));
        let mut create = |name| opener.create_database(txn, Some(name));
        Ok(Self {
            head: create("head")?,
            blocks: create("blocks")?,
            metadata: create("metadata")?,
            outputs: create("outputs")?,
            spent: create("spent")?,
            owners: owners.map(&mut create).transpose()?,
            transactions: transactions.map(&mut create).transpose()?,
        })
    }

    /// Opens the tables that are there.
    pub(crate) fn open(
        opener: &DatabaseOpener<'t, WithoutTls>,
        txn: &RoTxn<'t>,
        path: &Path,
    ) -> Result<Self, LedgerError> {
        let optional = |name: &str| {
            let opened = opener.open_database(txn, Some(name));
            opened.map_err(|error| LedgerError::from_heed("open a table of", path, error))
        };
        let table = |name: &str| {
            let missing = || LedgerError::corrupt(path, format!("table {name}"), "it is missing");
            optional(name)?.ok_or_else(missing)
        };
        Ok(Self {
            head: table("head")?,
            blocks: table("blocks")?,
            metadata: table("metadata")?,
            outputs: table("outputs")?,
            spent: table("spent")?,
            owners: optional(table_name(Index::OutputsByOwner))?,
            transactions: optional(table_name(Index::HeightOfTransaction))?,
        })
    }

    /// The table of an index, if the schema has it.
    pub(crate) fn index(&self, index: Index) -> Option<Table<'t>> {
        match index {
            Index::OutputsByOwner => self.owners,
            Index::HeightOfTransaction => self.transactions,
        }
    }
}

/// The records as one transaction sees them.
pub(crate) struct View<'a, 't> {
    pub(crate) tables: &'a Tables<'t>,
    pub(crate) txn: &'a RoTxn<'a>,
    pub(crate) path: &'a Path,
}

impl View<'_, '_> {
    pub(crate) fn head(&self) -> Result<Head, LedgerError> {
        let head: Option<Head> = self.get(&self.tables.head, HEAD_KEY, "head")?;
        let corrupt = |reason: &str| LedgerError::corrupt(self.path, "head", reason);
        let head = head.ok_or_else(|| corrupt("it is missing"))?;
        if head.format != HEAD_FORMAT {
            return Err(corrupt("it has an unknown format"));
        }
        Ok(head)
    }

    pub(crate) fn block(&self, height: Height) -> Result<Option<StoredBlock>, LedgerError> {
        let key = height.0.to_be_bytes();
        let record = || format!("block {height}");
        let Some(bytes) = self.bytes(&self.tables.blocks, &key)? else { return Ok(None) };
        let block: Block = self.decode(bytes, record)?;
        if block.height != height {
            let reason = format!("it says that it is block {}", block.height);
            return Err(LedgerError::corrupt(self.path, record(), reason));
        }
        let metadata: Option<BlockMetadata> =
            self.get(&self.tables.metadata, &key, "metadata of a block")?;
        if metadata.is_none() && height > Height(1) {
            let record = format!("metadata of block {height}");
            return Err(LedgerError::corrupt(self.path, record, "they are missing"));
        }
        Ok(Some(StoredBlock { block, metadata }))
    }

    pub(crate) fn output(&self, id: &OutputId) -> Result<Option<OutputRecord>, LedgerError> {
        let Some(bytes) = self.bytes(&self.tables.outputs, id.as_bytes())? else {
            return Ok(None);
        };
        self.decode(bytes, || format!("output {id}")).map(Some)
    }

    pub(crate) fn spent(&self, id: &OutputId) -> Result<Option<Height>, LedgerError> {
        let bytes = self.bytes(&self.tables.spent, id.as_bytes())?;
        bytes.map(|bytes| self.height(bytes, || format!("spending of output {id}"))).transpose()
    }

    /// A height as it stands in a record.
    pub(crate) fn height(
        &self,
        bytes: &[u8],
        record: impl FnOnce() -> String,
    ) -> Result<Height, LedgerError> {
        let height = <[u8; 8]>::try_from(bytes).map(|bytes| Height(u64::from_be_bytes(bytes)));
        height.map_err(|_| LedgerError::corrupt(self.path, record(), "it is no height"))
    }

    pub(crate) fn bytes(
        &self,
        table: &Table<'_>,
        key: &[u8],
    ) -> Result<Option<&[u8]>, LedgerError> {
        table.get(self.txn, key).map_err(|error| LedgerError::from_heed("read", self.path, error))
    }

    pub(crate) fn decode<T: Wire>(
        &self,
        bytes: &[u8],
        record: impl FnOnce() -> String,
    ) -> Result<T, LedgerError> {
        let decoded = wire::decode(bytes);
        decoded.map_err(|error| LedgerError::corrupt(self.path, record(), error.to_string()))
    }

    fn get<T: Wire>(
        &self,
        table: &Table<'_>,
        key: &[u8],
        record: &str,
    ) -> Result<Option<T>, LedgerError> {
        let bytes = self.bytes(table, key)?;
        bytes.map(|bytes| self.decode(bytes, || record.to_owned())).transpose()
    }
}

impl State for View<'_, '_> {
    fn parent(&self) -> Result<Parent, Unreadable> {
        let head = self.head()?;
        Ok(Parent { network: head.network, tip: head.tip, time: head.time })
    }

    fn output_status(&self, id: &OutputId) -> Result<OutputStatus, Unreadable> {
        let Some(record) = self.output(id)? else { return Ok(OutputStatus::Unknown) };
        if self.spent(id)?.is_some() {
            return Ok(OutputStatus::Spent);
        }
        Ok(OutputStatus::Unspent(record.output))
    }
}

/// Writes within one transaction. What fails is undone by dropping the transaction.
pub(crate) struct Writer<'a, 't, 'e> {
    pub(crate) tables: &'a Tables<'t>,
    pub(crate) txn: &'a mut RwTxn<'e>,
    pub(crate) path: &'a Path,
}

impl Writer<'_, '_, '_> {
    pub(crate) fn view(&self) -> View<'_, '_> {
        View { tables: self.tables, txn: self.txn, path: self.path }
    }

    pub(crate) fn put_head(&mut self, head: &Head) -> Result<(), LedgerError> {
        let written = self.tables.head.put(self.txn, HEAD_KEY, &wire::encode(head));
        written.map_err(|error| LedgerError::from_heed("write", self.path, error))
    }

    /// Puts a block and everything that it changes after the head, and returns the new head.
    pub(crate) fn append(
        &mut self,
        head: &Head,
        checked: &CheckedBlock,
        metadata: Option<&BlockMetadata>,
    ) -> Result<Head, LedgerError> {
        let block = checked.block();
        let follows = block.height.0 == head.tip.height.0.saturating_add(1)
            && block.parent == head.tip.id
            && block.network == head.network;
        if !follows {
            let (height, tip) = (block.height, head.tip);
            return Err(LedgerError::NotNext { block: checked.id(), height, tip });
        }
        let key = block.height.0.to_be_bytes();
        self.put_new(self.tables.blocks, &key, &wire::encode(block), checked)?;
        if let Some(metadata) = metadata {
            self.put_new(self.tables.metadata, &key, &wire::encode(metadata), checked)?;
        }
        let totals = self.apply(head, checked)?;
        let head = Head { tip: checked.tip(), time: block.time, totals, ..head.clone() };
        self.put_head(&head)?;
        Ok(head)
    }

    fn apply(&mut self, head: &Head, checked: &CheckedBlock) -> Result<Totals, LedgerError> {
        let changes = checked.changes();
        let key = checked.block().height.0.to_be_bytes();
        let other = |reason: String| LedgerError::OtherState { block: checked.id(), reason };
        let overflow = || other("its amounts are more than there is".to_owned());
        let mut totals = head.totals;
        for id in &changes.spent {
            let record = self.view().output(id)?;
            let record = record.ok_or_else(|| other(format!("there is no output {id}")))?;
            self.put_new(self.tables.spent, id.as_bytes(), &key, checked)?;
            totals.unspent = totals.unspent.minus(record.output.amount()).ok_or_else(overflow)?;
        }
        for (id, record) in &changes.created {
            self.put_new(self.tables.outputs, id.as_bytes(), &wire::encode(record), checked)?;
            let index = records_of_output(head.schema, id, record);
            self.put_index(index.as_ref())?;
            totals.unspent = totals.unspent.plus(record.output.amount()).ok_or_else(overflow)?;
            totals.outputs = totals.outputs.saturating_add(1);
        }
        for id in &changes.transactions {
            let index = records_of_transaction(head.schema, id, checked.block().height);
            self.put_index(index.as_ref())?;
        }
        totals.fees = totals.fees.plus(changes.fees).ok_or_else(overflow)?;
        totals.blocks = totals.blocks.saturating_add(1);
        Ok(totals)
    }

    /// Puts a record of an index. What is there already is the same.
    pub(crate) fn put_index(&mut self, record: Option<&IndexRecord>) -> Result<(), LedgerError> {
        let Some(record) = record else { return Ok(()) };
        let name = table_name(record.index);
        let missing = || LedgerError::corrupt(self.path, format!("table {name}"), "it is missing");
        let table = self.tables.index(record.index).ok_or_else(missing)?;
        let written = table.put(self.txn, &record.key, &record.value);
        written.map_err(|error| LedgerError::from_heed("write", self.path, error))
    }

    fn put_new(
        &mut self,
        table: Table<'_>,
        key: &[u8],
        value: &[u8],
        block: &CheckedBlock,
    ) -> Result<(), LedgerError> {
        let written = table.put_with_flags(self.txn, PutFlags::NO_OVERWRITE, key, value);
        written.map_err(|error| match error {
            heed::Error::Mdb(heed::MdbError::KeyExist) => {
                let reason = format!("there is a record {} already", hex::encode(key));
                LedgerError::OtherState { block: block.id(), reason }
            }
            error => LedgerError::from_heed("write", self.path, error),
        })
    }
}

/// What all outputs of a block are worth.
pub(crate) fn worth<'a>(records: impl IntoIterator<Item = &'a OutputRecord>) -> Option<Amount> {
    Amount::sum(records.into_iter().map(|record| record.output.amount()))
}
