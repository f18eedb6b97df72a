//! Receiving what is committed from holders.

use heirloom_model::admin::Progress;
use heirloom_model::counter::Generation;
use heirloom_model::policy::{HolderRole, Sharing};
use heirloom_model::protocol::{PeerRequest, ReplicatedGeneration};

use super::error::KeeperError;
use super::{Change, Keeper};
use crate::handshake::{Peer, expect_holder};
use crate::intent::Intent;
use crate::keyring::Gap;
use crate::port::Platform;

/// What to ask a holder for next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplicationRequest {
    gap: Gap,
}

impl ReplicationRequest {
    /// The newest missing generation.
    pub fn newest(&self) -> Generation {
        self.gap.newest
    }

    /// How many to ask for.
    pub fn count(&self) -> u32 {
        self.gap.request_count()
    }

    /// What would have to be asked next if exactly this were accepted, so that it can be asked
    /// early; none if nothing would be left.
    pub fn after(&self, sent: &[ReplicatedGeneration]) -> Option<Self> {
        self.gap.after(sent).map(|gap| Self { gap })
    }

    /// The message to send.
    pub fn message(&self) -> PeerRequest {
        PeerRequest::Replicate { newest: self.newest(), count: self.count() }
    }
}

impl Keeper {
    /// What is missing of what the log committed, newest first; none if nothing is, if this
    /// keeper may not hold keys now, or if it receives them only by a handover.
    pub fn replication_next(&self) -> Option<ReplicationRequest> {
        if !self.state().lacks() {
            return None;
        }
        if self.expect_replicated().is_err() {
            return None;
        }
        self.gap().map(|gap| ReplicationRequest { gap })
    }

    /// How many committed generations are held.
    pub fn progress(&self) -> Option<Progress> {
        let committed = self.committed()?;
        let wanted = committed.generation.0.saturating_add(1);
        Some(Progress { received: self.keyring.count().min(wanted), wanted })
    }

    /// Takes what a holder sent for [`Self::replication_next`], newest first. Everything is
    /// compared with what the log committed before anything is written. Fewer than were asked for
    /// are welcome; if one is wrong, none is taken.
    pub fn accept_generations(
        &self,
        platform: &dyn Platform,
        from: &Peer,
        sent: &[ReplicatedGeneration],
    ) -> Result<Intent<Option<Progress>>, KeeperError> {
        self.expect_writable()?;
        self.expect_replicated()?;
        let state = self.state();
        let request = self.replication_next().ok_or(KeeperError::State { state })?;
        self.expect_giver(from)?;
        self.take_batch(platform, request.gap, sent)
    }

    /// Verifies generations for a gap, and seals them.
    pub(super) fn take_batch(
        &self,
        platform: &dyn Platform,
        gap: Gap,
        sent: &[ReplicatedGeneration],
    ) -> Result<Intent<Option<Progress>>, KeeperError> {
        let batch = gap.fill(&self.config.domain, sent)?;
        let file = self.keyring_file(platform, &batch, 0)?;
        let progress = self.progress().map(|progress| Progress {
            received: progress.received.saturating_add(batch.count()).min(progress.wanted),
            ..progress
        });
        let change = Change { batches: vec![batch], ..Change::default() };
        Ok(Intent::with(file.into_iter().collect(), Vec::new(), change, progress))
    }

    /// Judges backward: the peer may hold, and the policy names the edge from it to this code.
    /// That this code may hold is part of every state in which it asks.
    pub(super) fn expect_giver(&self, from: &Peer) -> Result<(), KeeperError> {
        let policy = self.policy()?;
        self.expect_replicated()?;
        let giver = expect_holder(from, &self.network, &self.config.domain)?;
        let (from, to) = (giver.measurement(), self.identity.measurement);
        if giver.role() == HolderRole::Keeper && policy.names_edge(&from, &to) {
            return Ok(());
        }
        Err(KeeperError::NoEdge { from, to })
    }

    /// Expects that keyrings of this domain are given without a plan, between keepers. The only
    /// copies of an exclusive domain, and those of upgraders, are made by handovers.
    fn expect_replicated(&self) -> Result<(), KeeperError> {
        self.expect_role(HolderRole::Keeper)?;
        match self.sharing() {
            Some(Sharing::Exclusive) => Err(KeeperError::Exclusive),
            Some(Sharing::Replicated) | None => Ok(()),
        }
    }
}
