//! What waits for a block.

use std::collections::BTreeMap;

use heirloom_model::service::Height;

use crate::chain::CheckedBlock;
use crate::check::ValidTransaction;
use crate::limit::PENDING_MAX;
use crate::output::OutputId;
use crate::transaction::TransactionId;

/// Transactions that wait for a block, in the order in which they came.
///
/// No two of them spend the same, so all of them can go into one block.
#[derive(Debug)]
pub struct Pending {
    limit: usize,
    next: u64,
    by_arrival: BTreeMap<u64, ValidTransaction>,
    by_id: BTreeMap<TransactionId, u64>,
    by_input: BTreeMap<OutputId, TransactionId>,
}

/// Why a transaction cannot wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotQueued {
    /// It waits already.
    #[error("it waits for a block already")]
    Duplicate,
    /// Another one that waits spends the same.
    #[error("transaction {other}, which waits for a block, spends output {output} too")]
    Conflict {
        /// The output.
        output: OutputId,
        /// Who spends it.
        other: TransactionId,
    },
    /// Too many wait.
    #[error("{limit} transactions wait for a block")]
    Full {
        /// How many may wait.
        limit: usize,
    },
}

impl Default for Pending {
    fn default() -> Self {
        Self::new(PENDING_MAX)
    }
}

impl Pending {
    /// An empty queue in which at most `limit` transactions wait.
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.min(PENDING_MAX),
            next: 0,
            by_arrival: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_input: BTreeMap::new(),
        }
    }

    /// Puts a transaction at the end.
    pub fn insert(&mut self, transaction: ValidTransaction) -> Result<(), NotQueued> {
        let id = transaction.id();
        if self.by_id.contains_key(&id) {
            return Err(NotQueued::Duplicate);
        }
        let inputs = &transaction.transaction().payment.inputs;
        for input in inputs {
            if let Some(other) = self.by_input.get(&input.output) {
                return Err(NotQueued::Conflict { output: input.output, other: *other });
            }
        }
        if self.by_id.len() >= self.limit {
            return Err(NotQueued::Full { limit: self.limit });
        }
        for input in inputs {
            self.by_input.insert(input.output, id);
        }
        self.by_id.insert(id, self.next);
        self.by_arrival.insert(self.next, transaction);
        self.next = self.next.saturating_add(1);
        Ok(())
    }

    /// The first ones, for a block.
    pub fn first(&self, count: usize) -> Vec<ValidTransaction> {
        self.by_arrival.values().take(count).cloned().collect()
    }

    /// Forgets what is in a block, and what spends the same as something in it. Returns the
    /// latter.
    pub fn settle(&mut self, block: &CheckedBlock) -> Vec<TransactionId> {
        for id in &block.changes().transactions {
            self.remove(id);
        }
        let losers = block.changes().spent.iter().filter_map(|id| self.by_input.get(id).copied());
        let losers: std::collections::BTreeSet<_> = losers.collect();
        for id in &losers {
            self.remove(id);
        }
        losers.into_iter().collect()
    }

    /// Forgets what does not count in the block at `next` any more. Returns it.
    pub fn expire(&mut self, next: Height) -> Vec<TransactionId> {
        let past =
            |transaction: &&ValidTransaction| transaction.transaction().payment.tombstone < next;
        let expired: Vec<_> =
            self.by_arrival.values().filter(past).map(ValidTransaction::id).collect();
        for id in &expired {
            self.remove(id);
        }
        expired
    }

    /// Forgets everything. Returns it.
    pub fn clear(&mut self) -> Vec<TransactionId> {
        let all: Vec<_> = self.by_arrival.values().map(ValidTransaction::id).collect();
        *self = Self { next: self.next, ..Self::new(self.limit) };
        all
    }

    /// Forgets one transaction, if it waits.
    pub fn remove(&mut self, id: &TransactionId) {
        let Some(transaction) = self.by_id.remove(id).and_then(|at| self.by_arrival.remove(&at))
        else {
            return;
        };
        for input in &transaction.transaction().payment.inputs {
            self.by_input.remove(&input.output);
        }
    }

    /// Whether a transaction waits.
    pub fn contains(&self, id: &TransactionId) -> bool {
        self.by_id.contains_key(id)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests;
