//! Whether everything in a database fits together.

use heirloom_ledger::amount::Amount;
use heirloom_ledger::block::BLOCK_VERSION;
use heirloom_ledger::output::{OutputId, OutputRecord};
use heirloom_ledger::schema::{IndexRecord, records_of_output, records_of_transaction};
use heirloom_ledger::transaction::TransactionId;
use heirloom_model::digest::BlockId;
use heirloom_model::service::{Height, SchemaVersion};

use crate::database::{Database, StoredBlock, Totals};
use crate::error::LedgerError;
use crate::records::{Head, View, worth};

/// Reads every record of a ledger and compares it with what its blocks say: the chain, each
/// output, each spending, each entry of each index, and the totals. What is too much shows in the
/// numbers of records.
pub(crate) fn verify(database: &Database) -> Result<Head, LedgerError> {
    database.read(|view| {
        let head = view.head()?;
        let mut walk = Walk { view, schema: head.schema, found: Found::default() };
        let mut previous = BlockId::new([0; 32]);
        for height in (1..=head.tip.height.0).map(Height) {
            let missing = || walk_error(view, format!("block {height}"), "it is missing");
            let stored = view.block(height)?.ok_or_else(missing)?;
            let fits = stored.block.parent == previous
                && stored.block.network == head.network
                && stored.block.version == BLOCK_VERSION;
            if !fits {
                let record = format!("block {height}");
                return Err(walk_error(view, record, "it does not follow the one before"));
            }
            previous = stored.block.id();
            walk.block(&stored)?;
        }
        if previous != head.tip.id {
            return Err(walk_error(view, "head".to_owned(), "the last block is another one"));
        }
        walk.finish(&head)?;
        Ok(head)
    })
}

struct Walk<'w, 'a, 't> {
    view: &'w View<'a, 't>,
    schema: SchemaVersion,
    found: Found,
}

#[derive(Default)]
struct Found {
    totals: Totals,
    spent: u64,
    owners: u64,
    transactions: u64,
}

impl Walk<'_, '_, '_> {
    fn block(&mut self, stored: &StoredBlock) -> Result<(), LedgerError> {
        let (block, height) = (&stored.block, stored.block.height);
        for (index, output) in (0..).zip(&block.allocations) {
            let id = OutputId::of_allocation(&block.network, index);
            self.created(&id, &OutputRecord { output: *output, height, transaction: None })?;
        }
        for transaction in &block.transactions {
            for input in &transaction.payment.inputs {
                self.spent(&input.output, height)?;
            }
            let id = transaction.id();
            for (output_id, output) in transaction.created() {
                let record = OutputRecord { output, height, transaction: Some(id) };
                self.created(&output_id, &record)?;
            }
            self.transaction(&id, height)?;
            let fees = self.found.totals.fees.plus(transaction.payment.fee);
            self.found.totals.fees = self.sum(fees)?;
        }
        self.found.totals.blocks += 1;
        Ok(())
    }

    fn created(&mut self, id: &OutputId, expected: &OutputRecord) -> Result<(), LedgerError> {
        if self.view.output(id)?.as_ref() != Some(expected) {
            let reason = "it is not what its block says";
            return Err(walk_error(self.view, format!("output {id}"), reason));
        }
        if let Some(index) = records_of_output(self.schema, id, expected) {
            self.index(&index)?;
            self.found.owners += 1;
        }
        let unspent = worth([expected]).and_then(|amount| self.found.totals.unspent.plus(amount));
        self.found.totals.unspent = self.sum(unspent)?;
        self.found.totals.outputs += 1;
        Ok(())
    }

    fn spent(&mut self, id: &OutputId, height: Height) -> Result<(), LedgerError> {
        let error = |reason| walk_error(self.view, format!("spending of output {id}"), reason);
        if self.view.spent(id)? != Some(height) {
            return Err(error("it is not what its block says"));
        }
        let record = self.view.output(id)?.ok_or_else(|| error("there is no such output"))?;
        let unspent = self.found.totals.unspent.minus(record.output.amount());
        self.found.totals.unspent = self.sum(unspent)?;
        self.found.spent += 1;
        Ok(())
    }

    fn transaction(&mut self, id: &TransactionId, height: Height) -> Result<(), LedgerError> {
        if let Some(index) = records_of_transaction(self.schema, id, height) {
            self.index(&index)?;
            self.found.transactions += 1;
        }
        Ok(())
    }

    fn index(&self, record: &IndexRecord) -> Result<(), LedgerError> {
        let table = self.view.tables.index(record.index);
        let found = table.map(|table| self.view.bytes(&table, &record.key)).transpose()?.flatten();
        if found == Some(record.value.as_slice()) {
            return Ok(());
        }
        let name = crate::records::table_name(record.index);
        let record = format!("{name} {}", hex::encode(&record.key));
        Err(walk_error(self.view, record, "it is not what the blocks say"))
    }

    fn sum(&self, amount: Option<Amount>) -> Result<Amount, LedgerError> {
        let reason = "more is spent than there is, or there is more than anybody can count";
        amount.ok_or_else(|| walk_error(self.view, "amounts".to_owned(), reason))
    }

    fn finish(&self, head: &Head) -> Result<(), LedgerError> {
        let tables = self.view.tables;
        let blocks = self.found.totals.blocks;
        let numbers = [
            ("blocks", Some(tables.blocks), blocks),
            ("metadata", Some(tables.metadata), blocks.saturating_sub(1)),
            ("outputs", Some(tables.outputs), self.found.totals.outputs),
            ("spent", Some(tables.spent), self.found.spent),
            ("outputs-by-owner", tables.owners, self.found.owners),
            ("height-of-transaction", tables.transactions, self.found.transactions),
        ];
        for (name, table, expected) in numbers {
            let Some(table) = table else { continue };
            let found = table.len(self.view.txn);
            let found =
                found.map_err(|error| LedgerError::from_heed("count", self.view.path, error))?;
            if found != expected {
                let reason = format!("it has {found} records, and the blocks say {expected}");
                return Err(LedgerError::corrupt(self.view.path, format!("table {name}"), reason));
            }
        }
        if head.totals != self.found.totals {
            let reason = "the totals are not what the blocks say";
            return Err(walk_error(self.view, "head".to_owned(), reason));
        }
        Ok(())
    }
}

fn walk_error(view: &View<'_, '_>, record: String, reason: &str) -> LedgerError {
    LedgerError::corrupt(view.path, record, reason)
}
