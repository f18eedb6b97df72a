//! Whether a block counts, and how one is made.

use std::collections::BTreeSet;

use heirloom_model::counter::Time;
use heirloom_model::digest::{BlockId, NetworkId};
use heirloom_model::service::{Height, Tip};
use heirloom_model::wire;

use crate::amount::Amount;
use crate::block::{BLOCK_VERSION, Block};
use crate::check::{Invalid, ValidTransaction, check_transaction_after};
use crate::configuration::Configuration;
use crate::limit::{BLOCK_BYTES_MAX, TRANSACTION_BYTES_MAX};
use crate::output::{Output, OutputId, OutputRecord};
use crate::state::{Parent, State, Unreadable};
use crate::transaction::TransactionId;

/// A block that counts after the one for which it was checked. Only [`check_block`] and
/// [`first_block`] make it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckedBlock {
    block: Block,
    id: BlockId,
    changes: Changes,
}

/// What a block changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// What it spends.
    pub spent: Vec<OutputId>,
    /// What it makes, in order.
    pub created: Vec<(OutputId, OutputRecord)>,
    /// Its transactions, in order.
    pub transactions: Vec<TransactionId>,
    /// What they pay.
    pub fees: Amount,
}

/// Why a block does not count.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BlockFault {
    /// It follows rules that this release does not know.
    #[error("it has version {found}, not {BLOCK_VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// It belongs to another network.
    #[error("it is of network {found}, not of {expected}")]
    Network {
        /// This network.
        expected: NetworkId,
        /// Its own.
        found: NetworkId,
    },
    /// It is not the next one.
    #[error("it has height {found}, and the next block has {expected}")]
    Height {
        /// The next.
        expected: Height,
        /// Its own.
        found: Height,
    },
    /// It follows another block: a fork.
    #[error("it follows block {found}, and the last one is {expected}")]
    Parent {
        /// The last block.
        expected: BlockId,
        /// The one that it follows.
        found: BlockId,
    },
    /// It was made before its parent.
    #[error("it is of {found}, earlier than its parent of {parent}")]
    Time {
        /// When its parent was made.
        parent: Time,
        /// When it was made.
        found: Time,
    },
    /// It makes money.
    #[error("it allocates amounts, which only the first block does")]
    Allocations,
    /// It is larger than allowed.
    #[error("{what}: {found}, more than the {limit} allowed")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much of it.
        found: usize,
        /// How much may be.
        limit: usize,
    },
    /// One of its transactions does not count.
    #[error("transaction {index} does not count")]
    Transaction {
        /// Which.
        index: usize,
        /// Why.
        #[source]
        reason: Box<Invalid>,
    },
    /// Two of its transactions spend the same.
    #[error("output {output} is spent twice")]
    DoubleSpend {
        /// The output.
        output: OutputId,
    },
    /// Its amounts do not fit in 64 bits.
    #[error("its amounts are more than there is")]
    Overflow,
    /// Nothing is known: storage does not answer.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl CheckedBlock {
    /// The block.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its id.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// The tip of a ledger that ends with it.
    pub fn tip(&self) -> Tip {
        Tip { height: self.block.height, id: self.id }
    }

    /// What it changes.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}

/// The first block of a network.
pub fn first_block(network: NetworkId, configuration: &Configuration) -> CheckedBlock {
    let block = Block::first(network, configuration);
    let record =
        |output: &Output| OutputRecord { output: *output, height: block.height, transaction: None };
    let created = (0..).zip(&block.allocations);
    let created = created
        .map(|(index, output)| (OutputId::of_allocation(&network, index), record(output)))
        .collect();
    let changes = Changes { created, ..Changes::default() };
    CheckedBlock { id: block.id(), block, changes }
}

/// Makes the next block of transactions that were checked for it. What would spend an output
/// twice, has no room or is past its tombstone is left out; it stays with the caller's queue.
pub fn build_block(
    parent: &Parent,
    configuration: &Configuration,
    transactions: Vec<ValidTransaction>,
    time: Time,
) -> Block {
    let height = Height(parent.tip.height.0.saturating_add(1));
    let room = usize::try_from(configuration.block_payments_max).unwrap_or(usize::MAX);
    let mut spent = BTreeSet::new();
    let mut bytes = TRANSACTION_BYTES_MAX;
    let mut chosen = Vec::new();
    for transaction in transactions {
        let transaction = transaction.into_transaction();
        let payment = &transaction.payment;
        let free = payment.inputs.iter().all(|input| !spent.contains(&input.output));
        let size = bytes.saturating_add(wire::encode(&transaction).len());
        let counts = payment.network == parent.network && height <= payment.tombstone;
        if free && counts && size <= BLOCK_BYTES_MAX && chosen.len() < room {
            bytes = size;
            spent.extend(payment.inputs.iter().map(|input| input.output));
            chosen.push(transaction);
        }
    }
    Block {
        version: BLOCK_VERSION,
        network: parent.network,
        height,
        parent: parent.tip.id,
        time: time.max(parent.time),
        allocations: Vec::new(),
        transactions: chosen,
    }
}

/// Checks a block against everything before it. `parent` is what the state says that the next
/// block follows.
pub fn check_block(
    block: Block,
    parent: &Parent,
    configuration: &Configuration,
    state: &impl State,
) -> Result<CheckedBlock, BlockFault> {
    check_place(&block, parent)?;
    check_size(&block, configuration)?;
    let changes = changes_of(&block, parent, configuration, state)?;
    Ok(CheckedBlock { id: block.id(), block, changes })
}

fn check_place(block: &Block, parent: &Parent) -> Result<(), BlockFault> {
    if block.version != BLOCK_VERSION {
        return Err(BlockFault::Version { found: block.version });
    }
    if block.network != parent.network {
        return Err(BlockFault::Network { expected: parent.network, found: block.network });
    }
    let expected = Height(parent.tip.height.0.saturating_add(1));
    if block.height != expected {
        return Err(BlockFault::Height { expected, found: block.height });
    }
    if block.parent != parent.tip.id {
        return Err(BlockFault::Parent { expected: parent.tip.id, found: block.parent });
    }
    if block.time < parent.time {
        return Err(BlockFault::Time { parent: parent.time, found: block.time });
    }
    if !block.allocations.is_empty() {
        return Err(BlockFault::Allocations);
    }
    Ok(())
}

fn check_size(block: &Block, configuration: &Configuration) -> Result<(), BlockFault> {
    let (found, limit) = (block.transactions.len(), configuration.block_payments_max);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if found > limit {
        return Err(BlockFault::TooLarge { what: "transactions", found, limit });
    }
    let (found, limit) = (wire::encode(block).len(), BLOCK_BYTES_MAX);
    if found > limit {
        return Err(BlockFault::TooLarge { what: "bytes", found, limit });
    }
    Ok(())
}

fn changes_of(
    block: &Block,
    parent: &Parent,
    configuration: &Configuration,
    state: &impl State,
) -> Result<Changes, BlockFault> {
    let mut changes = Changes::default();
    let mut seen = BTreeSet::new();
    for (index, transaction) in block.transactions.iter().enumerate() {
        // The state is that before the block, so what one transaction of a block makes, no other
        // one spends, and their order does not matter.
        let valid = check_transaction_after(
            transaction.clone(),
            block.height,
            configuration,
            parent,
            state,
        );
        let valid = valid.map_err(|reason| match reason {
            Invalid::Unreadable(unreadable) => BlockFault::Unreadable(unreadable),
            reason => BlockFault::Transaction { index, reason: Box::new(reason) },
        })?;
        for input in &transaction.payment.inputs {
            if !seen.insert(input.output) {
                return Err(BlockFault::DoubleSpend { output: input.output });
            }
            changes.spent.push(input.output);
        }
        let id = valid.id();
        changes.transactions.push(id);
        changes.fees = changes.fees.plus(transaction.payment.fee).ok_or(BlockFault::Overflow)?;
        for (place, output) in (0..).zip(&transaction.payment.outputs) {
            let record =
                OutputRecord { output: *output, height: block.height, transaction: Some(id) };
            changes.created.push((OutputId::of(&id, place), record));
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests;
