//! What happens to what was agreed on.
//!
//! The ledger alone says what was applied. After a start the log is applied again from the last
//! note on; a block that the ledger has already changes nothing, so that no crash between two
//! files matters.

use std::sync::Arc;

use heirloom_model::service::{Height, Tip};
use openraft::storage::RaftStateMachine;
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StorageIOError,
};

use crate::chain::{ApplyError, Chain};
use crate::raft::types::{Entry, LedgerRaft, LogId, Membership, Outcome, SnapshotNote};
use crate::raft::votes::{Noted, Votes};

/// Applies the log to the ledger.
#[derive(Clone)]
pub struct Machine {
    chain: Arc<Chain>,
    votes: Votes,
    applied: Option<LogId>,
    membership: Membership,
}

/// A snapshot cannot be installed: blocks are missing.
#[derive(Debug, thiserror::Error)]
#[error("the ledger ends at {found}, before the snapshot at {expected}")]
struct Behind {
    found: Tip,
    expected: u64,
}

impl Machine {
    /// Applies to this ledger.
    pub fn new(chain: Arc<Chain>, votes: Votes) -> Self {
        let Noted { applied, membership } = votes.noted();
        Self { chain, votes, applied, membership }
    }

    async fn apply_one(&self, entry: &Entry) -> Result<Outcome, StorageError<u64>> {
        let proposed = match &entry.payload {
            EntryPayload::Normal(proposed) => proposed,
            EntryPayload::Blank | EntryPayload::Membership(_) => return Ok(Outcome::Nothing),
        };
        loop {
            match tokio::task::block_in_place(|| self.chain.apply(&proposed.0)) {
                Ok(outcome) => return Ok(outcome),
                // What was agreed on waits until the promise is taken back, or for ever.
                Err(ApplyError::Frozen) => self.chain.thawed().await,
                Err(error @ ApplyError::Broken(_)) => {
                    return Err(StorageIOError::apply(entry.log_id, &error).into());
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot<LedgerRaft> {
        let note = SnapshotNote::of(self.chain.tip());
        let index = self.applied.map_or(0, |applied| applied.index);
        Snapshot {
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
                snapshot_id: format!("{index}-{}", note.height),
            },
            snapshot: Box::new(note),
        }
    }

    #[expect(clippy::result_large_err, reason = "it is the error of openraft's traits")]
    fn note(&self) -> Result<(), StorageError<u64>> {
        let noted = Noted { applied: self.applied, membership: self.membership.clone() };
        self.votes.note(noted).map_err(|error| StorageIOError::write_snapshot(None, &error).into())
    }
}

impl RaftSnapshotBuilder<LedgerRaft> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<LedgerRaft>, StorageError<u64>> {
        self.note()?;
        Ok(self.snapshot())
    }
}

impl RaftStateMachine<LedgerRaft> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError<u64>> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut outcomes = Vec::new();
        for entry in entries {
            outcomes.push(self.apply_one(&entry).await?);
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = Membership::new(Some(entry.log_id), membership);
            }
        }
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotNote>, StorageError<u64>> {
        Ok(Box::new(SnapshotNote::of(self.chain.tip())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, openraft::BasicNode>,
        snapshot: Box<SnapshotNote>,
    ) -> Result<(), StorageError<u64>> {
        // The blocks came before, and were checked one by one.
        let found = self.chain.tip();
        let own = self.chain.id_at(Height(snapshot.height));
        if !matches!(own, Ok(Some(id)) if id.to_string() == snapshot.id) {
            let behind = Behind { found, expected: snapshot.height };
            let signature = Some(meta.signature());
            return Err(StorageIOError::write_snapshot(signature, &behind).into());
        }
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.note()
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<LedgerRaft>>, StorageError<u64>> {
        Ok(self.votes.noted().applied.is_some().then(|| self.snapshot()))
    }
}
