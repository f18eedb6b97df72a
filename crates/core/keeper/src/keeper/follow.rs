//! Following the log, and what becomes durable because of it.

use heirloom_model::admin::Ticket;
use heirloom_model::counter::{Epoch, Generation, Moment, Serial};
use heirloom_model::domain::LogPosition;
use heirloom_model::limit::EPHEMERAL_EPOCHS_MAX;
use heirloom_model::log::LogEntry;
use heirloom_model::protocol::ServingState;
use heirloom_model::sealed::{SealedPurpose, Witness, WitnessedGeneration};
use heirloom_model::wire;

use super::error::KeeperError;
use super::{Change, Forked, Keeper};
use crate::file::FileName;
use crate::intent::{FileWrite, Intent};
use crate::keyring::{Batch, extend};
use crate::port::{Platform, PlatformError, Sealing};
use crate::sealing::{Subject, seal};

impl Keeper {
    /// Follows the log by some entries, which may be none.
    ///
    /// What the log says counts at once. What must be durable because of it is in the intent: a
    /// proposed generation that is committed now becomes part of the keyring, and a root, policy
    /// or generation that is newer than any before is witnessed. If the intent cannot be carried
    /// out, the next call makes another one.
    ///
    /// If an entry does not continue the log, those before it were followed all the same.
    ///
    /// `attended` says that these entries are the end of the log, which was read after this
    /// ticket was given: so long as it was given lately, the active holder of an exclusive domain
    /// knows that it still is.
    pub fn follow(
        &mut self,
        platform: &dyn Platform,
        entries: &[LogEntry],
        attended: Option<Ticket>,
        now: Moment,
    ) -> Result<Intent<LogPosition>, KeeperError> {
        self.attendance.pass(now);
        // What a crash or an error left uncounted.
        self.count_witness(platform)?;
        for entry in entries {
            self.follow_one(entry)?;
        }
        if let Some(ticket) = attended {
            self.attendance.looked(ticket);
        }
        self.refresh();
        self.settle(platform)
    }

    fn follow_one(&mut self, entry: &LogEntry) -> Result<(), KeeperError> {
        let epoch = self.network.epoch();
        let committed = self.committed().map(|committed| committed.generation);
        // A statement that the fold refuses has no effect, and that is all.
        let _applied = self.network.apply(entry)?;
        self.notice_activity(entry.index);
        if self.network.epoch() != epoch {
            self.epochs.insert(self.network.epoch(), committed);
            let kept = u64::try_from(EPHEMERAL_EPOCHS_MAX).unwrap_or(u64::MAX);
            let oldest = Epoch(self.network.epoch().0.saturating_sub(kept));
            self.epochs = self.epochs.split_off(&oldest);
        }
        let position = self.position();
        if let Some((_, seen)) = self.witness
            && seen.position.length == position.length
        {
            if seen.position.head == position.head {
                self.witnessed_root = self.root_serial();
            } else {
                self.forked = Forked::Yes;
            }
        }
        Ok(())
    }

    /// Writes what has become due.
    fn settle(&self, platform: &dyn Platform) -> Result<Intent<LogPosition>, KeeperError> {
        let position = self.position();
        let quiet = matches!(
            self.state(),
            ServingState::Starting
                | ServingState::Unreadable
                | ServingState::RolledBack
                | ServingState::Uncounted
        );
        if quiet || self.identity.debug {
            return Ok(Intent::new(position));
        }
        let mut writes = Vec::new();
        let mut change = Change::default();
        self.promote(platform, &mut writes, &mut change)?;
        self.witness(platform, &mut writes, &mut change)?;
        let mut removals: Vec<String> = self.stale.iter().cloned().collect();
        removals.extend(change.stale.iter().cloned());
        Ok(Intent::with(writes, removals, change, position))
    }

    /// Moves proposals that the log has committed into the keyring: first a keyring file, then
    /// the proposal's file may go.
    fn promote(
        &self,
        platform: &dyn Platform,
        writes: &mut Vec<FileWrite>,
        change: &mut Change,
    ) -> Result<(), PlatformError> {
        // The network has committed to a secret for these generations, and it is durable here.
        // Whatever else was proposed for them can never be committed any more.
        for (order, proposal) in &self.proposals {
            if self.keyring.holds(proposal.generation) {
                change.promoted.push(*order);
                change.stale.push(FileName::proposed(proposal.generation, order).to_string());
            }
        }
        let Some(gap) = self.gap() else { return Ok(()) };
        let mut next = Some((gap.newest, gap.checksum));
        while let Some((generation, trusted)) = next.filter(|(at, _)| !self.keyring.holds(*at)) {
            let found = self.proposals.iter().find(|(_, proposal)| {
                let made = proposal.secret.expose(|secret| extend(&proposal.previous, secret));
                proposal.generation == generation && made == trusted
            });
            let Some((order, proposal)) = found else { break };
            let batch = proposal
                .secret
                .expose(|secret| Batch::of_one(generation, secret, proposal.previous));
            let offset = u64::try_from(change.batches.len()).unwrap_or(u64::MAX);
            writes.extend(self.keyring_file(platform, &batch, offset)?);
            change.batches.push(batch);
            change.promoted.push(*order);
            change.stale.push(FileName::proposed(generation, order).to_string());
            next = generation.previous().map(|below| (below, proposal.previous));
        }
        Ok(())
    }

    /// Witnesses the log position if root, policy or generation is newer than any before. A new
    /// root may be all that keeps stolen keys of the old one from making policies.
    fn witness(
        &self,
        platform: &dyn Platform,
        writes: &mut Vec<FileWrite>,
        change: &mut Change,
    ) -> Result<(), PlatformError> {
        let committed = self.committed().map(|committed| WitnessedGeneration {
            generation: committed.generation,
            checksum: committed.checksum,
        });
        let now = Witness { position: self.position(), policy: self.policy_serial(), committed };
        let generation = |witness: &Witness| witness.committed.map(|seen| seen.generation);
        let is_news = self.witness.as_ref().is_none_or(|(_, seen)| {
            now.policy > seen.policy
                || generation(&now) > generation(seen)
                || self.root_serial() > self.witnessed_root
        });
        if is_news && now.policy > Serial(0) {
            let sequence = self.next_witness();
            let none = Generation(0);
            let purpose = SealedPurpose::Witness;
            let (domain, node) = (self.config.domain, self.config.node.clone());
            let subject = Subject { purpose, domain, node, first: none, last: none, sequence };
            if self.sealing != Sealing::None {
                let bytes = seal(platform, &self.identity, &subject, &wire::encode(&now))?;
                writes.push(FileWrite { name: FileName::Witness { sequence }.to_string(), bytes });
            }
            change.witness = Some((sequence, now));
        }
        // The newest good one and the one before it are kept.
        let good = change.witness.or(self.witness).map_or(0, |(sequence, _)| sequence);
        let old = self.witness_files.iter().filter(|kept| kept.saturating_add(1) < good);
        change
            .stale
            .extend(old.map(|sequence| FileName::Witness { sequence: *sequence }.to_string()));
        Ok(())
    }

    /// A file with a batch of committed generations, the `offset`th one of an intent; none where
    /// nothing can be sealed.
    pub(super) fn keyring_file(
        &self,
        platform: &dyn Platform,
        batch: &Batch,
        offset: u64,
    ) -> Result<Option<FileWrite>, PlatformError> {
        if self.sealing == Sealing::None {
            return Ok(None);
        }
        let (first, last) = (batch.first(), batch.last());
        let subject = Subject {
            purpose: SealedPurpose::Keyring,
            domain: self.config.domain,
            node: self.config.node.clone(),
            first,
            last,
            sequence: self.sequence.saturating_add(1).saturating_add(offset),
        };
        let bytes = seal(platform, &self.identity, &subject, &batch.to_bytes())?;
        Ok(Some(FileWrite { name: FileName::Keyring { first, last }.to_string(), bytes }))
    }
}
