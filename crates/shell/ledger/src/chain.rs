//! The ledger of this node while it runs: what waits, what is appended, and the promise to append
//! nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use heirloom_ledger::block::{Block, BlockMetadata};
use heirloom_ledger::chain::{BlockFault, CheckedBlock, build_block, check_block};
use heirloom_ledger::check::{Invalid, ValidTransaction, check_transaction};
use heirloom_ledger::client::{Fate, Receipt};
use heirloom_ledger::configuration::Configuration;
use heirloom_ledger::output::OutputId;
use heirloom_ledger::pending::{NotQueued, Pending};
use heirloom_ledger::state::{Parent, State};
use heirloom_ledger::transaction::{Transaction, TransactionId};
use heirloom_ledger_store::database::StoredBlock;
use heirloom_ledger_store::error::LedgerError;
use heirloom_ledger_store::ledger::Ledger;
use heirloom_model::causes::with_causes;
use heirloom_model::counter::Time;
use heirloom_model::digest::BlockId;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::service::{Height, SchemaVersion, Tip, Writing};
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use minicbor::{Decode, Encode};
use tokio::sync::watch;

use crate::limit::{BLOCK_ENCODED_BYTES_MAX, BLOCKS_BYTES_MAX, BLOCKS_MAX};
use crate::log::event;
use crate::peer::message::{EncodedBlock, EncodedTransaction};
use crate::raft::types::Outcome;

/// A block with its metadata, as it is proposed and sent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SentBlock {
    /// The block.
    #[n(0)]
    pub block: Block,
    /// Who proposed it; none for what was made before there were nodes.
    #[n(1)]
    pub metadata: Option<BlockMetadata>,
}

heirloom_model::wire! { SentBlock: "proposed block", 2 * BLOCK_ENCODED_BYTES_MAX; }

/// The ledger of this node while it runs.
pub struct Chain {
    ledger: Ledger,
    configuration: Configuration,
    loaded: Tip,
    kept: Mutex<Kept>,
    changed: watch::Sender<Tip>,
    frozen: watch::Sender<bool>,
    submitted: tokio::sync::Notify,
    is_broken: AtomicBool,
    /// Transactions that were taken from clients of this node.
    pub accepted: AtomicU64,
}

struct Kept {
    pending: Pending,
    writing: Writing,
    fork: Option<Tip>,
    broken: Option<String>,
    /// Since when the tip has not moved and nothing was pending.
    quiet_since: Instant,
}

/// Why a transaction is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It does not count.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It cannot wait.
    #[error(transparent)]
    NotQueued(NotQueued),
    /// This node has promised to append nothing.
    #[error("the node has promised to append nothing")]
    Frozen,
    /// This node does not know any more what is true.
    #[error("the node does not serve: {0}")]
    Broken(String),
}

/// Why a block is not appended.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// This node has promised to append nothing. Nothing is lost: it can be appended later.
    #[error("the node has promised to append nothing")]
    Frozen,
    /// The block breaks a rule, or storage failed. The node serves no more.
    #[error("the node does not serve: {0}")]
    Broken(String),
}

/// How the ledger is.
#[derive(Clone, Debug)]
pub struct ChainStatus {
    /// Its end when it was opened.
    pub loaded: Tip,
    /// Its end now.
    pub tip: Tip,
    /// The layout of its database.
    pub schema: SchemaVersion,
    /// Whether it is appended to.
    pub writing: Writing,
    /// What waits for a block.
    pub pending: u64,
    /// For how long its end has not moved and nothing waited.
    pub quiet: Duration,
    /// Another block than its own that somebody has.
    pub fork: Option<Tip>,
    /// Why it cannot be used any more.
    pub broken: Option<String>,
}

/// What goes into the next block, and after which one.
struct Chosen {
    parent: Parent,
    transactions: Vec<ValidTransaction>,
}

/// Where a block comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Origin {
    /// The nodes agreed that it comes next.
    Agreed,
    /// A peer has it in its ledger.
    Settled,
}

/// Why a block is not in the ledger.
#[derive(Debug, thiserror::Error)]
enum NotAppended {
    /// One of its transactions spends what is spent already.
    #[error("transaction {transaction} is settled already")]
    Spent {
        transaction: TransactionId,
        #[source]
        fault: BlockFault,
    },
    #[error("a block says nothing about its proposer")]
    NoProposer,
    #[error("{0}")]
    Other(String),
}

/// The place of the transaction in a block that spends what is spent already.
fn spent_at(fault: &BlockFault) -> Option<usize> {
    match fault {
        BlockFault::Transaction { index, reason }
            if matches!(**reason, Invalid::AlreadySpent { .. }) =>
        {
            Some(*index)
        }
        _ => None,
    }
}

impl Chain {
    /// Takes over a ledger. One that is frozen is not appended to before it is thawed.
    pub fn new(
        ledger: Ledger,
        configuration: Configuration,
        writing: Writing,
    ) -> Result<Self, LedgerError> {
        let loaded = ledger.tip()?;
        let kept = Kept {
            pending: Pending::default(),
            writing,
            fork: None,
            broken: None,
            quiet_since: Instant::now(),
        };
        Ok(Self {
            ledger,
            configuration,
            loaded,
            kept: Mutex::new(kept),
            changed: watch::channel(loaded).0,
            frozen: watch::channel(writing == Writing::Frozen).0,
            submitted: tokio::sync::Notify::new(),
            is_broken: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
        })
    }

    /// What all nodes have configured alike.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The records.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Its end.
    pub fn tip(&self) -> Tip {
        *self.changed.borrow()
    }

    /// Its end, for who waits for the next block.
    pub fn watch(&self) -> watch::Receiver<Tip> {
        self.changed.subscribe()
    }

    /// Ready when a transaction was taken.
    pub async fn submitted(&self) {
        self.submitted.notified().await;
    }

    /// Ready when nothing keeps blocks from being appended.
    pub async fn thawed(&self) {
        let mut frozen = self.frozen.subscribe();
        // The sender is in this very value.
        frozen.wait_for(|frozen| !frozen).await.map(drop).ok();
    }

    /// How it is.
    pub fn status(&self) -> ChainStatus {
        let kept = self.lock();
        let pending = u64::try_from(kept.pending.len()).unwrap_or(u64::MAX);
        ChainStatus {
            loaded: self.loaded,
            tip: self.tip(),
            schema: self.ledger.schema(),
            writing: kept.writing,
            pending,
            quiet: if pending > 0 { Duration::ZERO } else { kept.quiet_since.elapsed() },
            fork: kept.fork,
            broken: kept.broken.clone(),
        }
    }

    /// How much waits for a block.
    pub fn pending(&self) -> u64 {
        u64::try_from(self.lock().pending.len()).unwrap_or(u64::MAX)
    }

    /// Whether this node still knows what is true.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// Takes a transaction, to be put into a block. One that waits already is taken again.
    pub fn submit(&self, transaction: Transaction) -> Result<TransactionId, SubmitError> {
        let id = transaction.id();
        let mut kept = self.lock();
        kept.expect_well()?;
        if kept.writing == Writing::Frozen {
            return Err(SubmitError::Frozen);
        }
        if kept.pending.contains(&id) {
            return Ok(id);
        }
        let next = Height(self.tip().height.0.saturating_add(1));
        let valid = check_transaction(transaction, next, &self.configuration, &*self.ledger)?;
        kept.pending.insert(valid).map_err(SubmitError::NotQueued)?;
        drop(kept);
        self.submitted.notify_one();
        Ok(id)
    }

    /// What waits, for whoever leads.
    pub fn waiting(&self, max: usize) -> Vec<EncodedTransaction> {
        let first = self.lock().pending.first(max);
        first.iter().map(|it| EncodedTransaction(wire::encode(it.transaction()))).collect()
    }

    /// Builds the next block of what waits; none if there is nothing to do.
    pub fn propose(
        &self,
        node: &NodeId,
        measurement: Measurement,
        key: &SigningKey,
    ) -> Option<Vec<u8>> {
        let block = self.build(self.choose()?)?;
        let metadata = Some(BlockMetadata::sign(&block.id(), node.clone(), measurement, key));
        Some(wire::encode(&SentBlock { block, metadata }))
    }

    /// What waits, and the end of the ledger after which it waits. Both are of one moment: what a
    /// block settles in between would else be put into the next block again.
    fn choose(&self) -> Option<Chosen> {
        let kept = self.lock();
        if kept.pending.is_empty() || kept.writing == Writing::Frozen || kept.broken.is_some() {
            return None;
        }
        let room = usize::try_from(self.configuration.block_payments_max).unwrap_or(usize::MAX);
        let parent = self.ledger.parent().ok()?;
        Some(Chosen { parent, transactions: kept.pending.first(room) })
    }

    fn build(&self, chosen: Chosen) -> Option<Block> {
        let Chosen { parent, mut transactions } = chosen;
        let mut bytes = 0_usize;
        transactions.retain(|transaction| {
            bytes = bytes.saturating_add(wire::encode(transaction.transaction()).len());
            bytes <= BLOCK_ENCODED_BYTES_MAX
        });
        let block = build_block(&parent, &self.configuration, transactions, now());
        (!block.transactions.is_empty()).then_some(block)
    }

    /// Appends what was agreed on. The same block may come again, after a start.
    ///
    /// A block that follows the own end and spends what is spent already has no effect, on any
    /// node: all of them judge it from the same blocks, in the same order of the log. A node that
    /// judged otherwise has another block at its height, and the next block shows it as a fork.
    pub fn apply(&self, bytes: &[u8]) -> Result<Outcome, ApplyError> {
        self.take(bytes, Origin::Agreed)
    }

    /// Appends a block that a peer has in its ledger. Nothing about it can be left out.
    pub fn adopt(&self, bytes: &[u8]) -> Result<Outcome, ApplyError> {
        self.take(bytes, Origin::Settled)
    }

    fn take(&self, bytes: &[u8], origin: Origin) -> Result<Outcome, ApplyError> {
        let mut kept = self.lock();
        if let Some(reason) = &kept.broken {
            return Err(ApplyError::Broken(reason.clone()));
        }
        let sent: SentBlock = match wire::decode(bytes) {
            Ok(sent) => sent,
            Err(error) => return Err(self.give_up(&mut kept, None, with_causes(&error))),
        };
        let (tip, found) = (self.tip(), sent.block.tip());
        if found.height <= tip.height {
            return match self.id_at(found.height) {
                Ok(Some(own)) if own == found.id => Ok(Outcome::Applied),
                Ok(_) => Ok(Outcome::Overtaken),
                Err(error) => Err(self.give_up(&mut kept, None, with_causes(&error))),
            };
        }
        if kept.writing == Writing::Frozen {
            return Err(ApplyError::Frozen);
        }
        match self.append(sent) {
            Ok(checked) => {
                kept.pending.settle(&checked);
                kept.pending.expire(Height(found.height.0.saturating_add(1)));
                kept.quiet_since = Instant::now();
                self.changed.send_replace(found);
                Ok(Outcome::Applied)
            }
            Err(NotAppended::Spent { transaction, .. }) if origin == Origin::Agreed => {
                event("overtaken", format_args!("{found}: {transaction} is settled already"));
                // Else whoever leads would propose it again and again.
                kept.pending.remove(&transaction);
                Ok(Outcome::Overtaken)
            }
            Err(error) => Err(self.give_up(&mut kept, Some(found), with_causes(&error))),
        }
    }

    fn append(&self, sent: SentBlock) -> Result<CheckedBlock, NotAppended> {
        let other = |error: &dyn std::error::Error| NotAppended::Other(with_causes(error));
        let parent = self.ledger.parent().map_err(|error| other(&error))?;
        let ids: Vec<_> = sent.block.transactions.iter().map(Transaction::id).collect();
        let checked = check_block(sent.block, &parent, &self.configuration, &*self.ledger);
        let checked =
            checked.map_err(|fault| match spent_at(&fault).and_then(|index| ids.get(index)) {
                Some(transaction) => NotAppended::Spent { transaction: *transaction, fault },
                None => other(&fault),
            })?;
        let metadata = sent.metadata.ok_or(NotAppended::NoProposer)?;
        metadata.check(&checked.id()).map_err(|error| other(&error))?;
        self.ledger.append(&checked, &metadata).map_err(|error| other(&error))?;
        Ok(checked)
    }

    /// What was agreed on cannot be appended: whatever is true, this node does not know it.
    fn give_up(&self, kept: &mut Kept, fork: Option<Tip>, reason: String) -> ApplyError {
        event("serves-no-more", &reason);
        kept.fork = kept.fork.or(fork);
        kept.broken = Some(reason.clone());
        self.is_broken.store(true, Ordering::Release);
        ApplyError::Broken(reason)
    }

    /// Nothing can be agreed on any more: the node serves no more.
    pub fn stop_serving(&self, reason: String) {
        let mut kept = self.lock();
        if kept.broken.is_none() {
            // What is said is said already; nothing else comes of it.
            drop(self.give_up(&mut kept, None, reason));
        }
    }

    /// Compares with a peer: another block at a height that both have is a fork.
    pub fn compare(&self, theirs: Tip) {
        let Ok(Some(own)) = self.id_at(theirs.height) else { return };
        if own == theirs.id {
            return;
        }
        let mut kept = self.lock();
        if kept.fork.is_none() {
            event("fork", format_args!("own block {own}, a peer has {theirs}"));
            kept.fork = Some(theirs);
            kept.broken = Some(format!("a peer has another block at height {}", theirs.height));
            self.is_broken.store(true, Ordering::Release);
        }
    }

    /// The id of the block at a height; none if there is no such block.
    pub fn id_at(&self, height: Height) -> Result<Option<BlockId>, LedgerError> {
        let tip = self.tip();
        if height == tip.height {
            return Ok(Some(tip.id));
        }
        if height.0 == 0 || height > tip.height {
            return Ok(None);
        }
        // The next block names it.
        let next = self.ledger.block(Height(height.0.saturating_add(1)))?;
        Ok(next.map(|next| next.block.parent))
    }

    /// Blocks after a height, as many as fit into one message.
    pub fn blocks_after(&self, height: Height) -> Result<Vec<EncodedBlock>, LedgerError> {
        let from = Height(height.0.saturating_add(1));
        let mut bytes = 0_usize;
        let mut blocks = Vec::new();
        for StoredBlock { block, metadata } in self.ledger.blocks(from, BLOCKS_MAX)? {
            let encoded = wire::encode(&SentBlock { block, metadata });
            bytes = bytes.saturating_add(encoded.len());
            if bytes > BLOCKS_BYTES_MAX && !blocks.is_empty() {
                break;
            }
            blocks.push(EncodedBlock(encoded));
        }
        Ok(blocks)
    }

    /// What became of a transaction.
    pub fn fate(&self, id: &TransactionId) -> Result<Fate, LedgerError> {
        // Every transaction makes an output, and its record names the block, in every schema.
        if let Some((record, _)) = self.ledger.output(&OutputId::of(id, 0))? {
            let height = record.height;
            if let Some(block) = self.id_at(height)? {
                return Ok(Fate::Settled(Receipt { transaction: *id, height, block }));
            }
        }
        let waits = self.lock().pending.contains(id);
        Ok(if waits { Fate::Waiting } else { Fate::Unknown })
    }

    /// Promises to append nothing, if it has been quiet for so long. What is not quiet is said.
    pub fn freeze(&self, quiet: Duration) -> Result<(), String> {
        let mut kept = self.lock();
        if let Some(reason) = &kept.broken {
            return Err(reason.clone());
        }
        if kept.writing == Writing::Frozen {
            return Ok(());
        }
        if !kept.pending.is_empty() {
            return Err(format!("{} transactions wait for a block", kept.pending.len()));
        }
        let found = kept.quiet_since.elapsed();
        if found < quiet {
            return Err(format!("quiet for {} of {} ms", found.as_millis(), quiet.as_millis()));
        }
        kept.writing = Writing::Frozen;
        self.frozen.send_replace(true);
        Ok(())
    }

    /// The plan is called off.
    pub fn thaw(&self) {
        self.lock().writing = Writing::Active;
        self.frozen.send_replace(false);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn expect_well(&self) -> Result<(), SubmitError> {
        self.broken.as_ref().map_or(Ok(()), |reason| Err(SubmitError::Broken(reason.clone())))
    }
}

/// The clock of the host: blocks say it, and nothing depends on it.
fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Time(since.map_or(0, |since| since.as_secs()))
}

#[cfg(test)]
mod tests;
