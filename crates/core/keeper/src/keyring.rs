//! Generations and the checksum chain over them.
//!
//! The chain is that of the Oasis key manager: `c(-1)` is the domain, and `c(g)` is KMAC256 with
//! the master secret of generation `g` as key over `c(g-1)`. Whoever trusts `c(g)` can therefore
//! judge an untrusted pair of a secret and the checksum before it, and then trusts `c(g-1)`: a
//! replica receives from the newest generation down to 0 and believes nobody on the way.

use std::collections::BTreeMap;

use heirloom_model::counter::Generation;
use heirloom_model::digest::Checksum;
use heirloom_model::identifier::DomainId;
use heirloom_model::limit::{GENERATIONS_MAX, REPLICATION_BATCH_MAX};
use heirloom_model::protocol::{ReplicatedGeneration, WireSecret};
use zeroize::Zeroizing;

use crate::kmac::kmac256;

/// The KMAC customization string of the chain, as Oasis has it.
pub const CHECKSUM_CUSTOM: &[u8] = b"ekiden-checksum-master-secret";

/// The checksum before the first generation.
pub fn checksum_before_first(domain: &DomainId) -> Checksum {
    Checksum::new(*domain.as_bytes())
}

/// The checksum of a keyring that ended in `previous` and got one more secret.
pub fn extend(previous: &Checksum, secret: &[u8; 32]) -> Checksum {
    Checksum::new(*kmac256(secret, &[previous.as_bytes()], CHECKSUM_CUSTOM))
}

/// The master secrets of one domain that are in hand, in consecutive batches. Wiped when dropped.
pub struct Keyring {
    domain: DomainId,
    batches: BTreeMap<Generation, Batch>,
    /// The newest generation of a complete chain from 0 that was verified, with its checksum.
    verified: Option<(Generation, Checksum)>,
    /// How far down the chain from one trusted checksum was verified.
    ladder: Option<Ladder>,
}

/// Consecutive generations, each with the checksum before it. Wiped when dropped.
pub struct Batch {
    first: Generation,
    secrets: Zeroizing<Vec<[u8; 32]>>,
    previous: Vec<Checksum>,
}

/// A chain that is being verified downwards.
#[derive(Clone, Copy)]
struct Ladder {
    top: (Generation, Checksum),
    /// The next generation to look at and its trusted checksum; none below generation 0.
    next: Option<(Generation, Checksum)>,
}

/// What a keyring has of what the log has committed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coverage {
    /// Every generation up to the committed one, in one chain.
    Complete,
    /// Not these.
    Missing(Gap),
}

/// Consecutive generations that are missing, below a trusted checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Gap {
    /// The newest of them.
    pub newest: Generation,
    /// How many they are.
    pub count: u64,
    /// The trusted checksum of the keyring with the newest of them.
    pub checksum: Checksum,
}

/// The secrets in hand are not those of one keyring.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("generation {generation} does not belong to the chain")]
pub struct NotOneChain {
    /// Where the chain breaks.
    pub generation: Generation,
}

/// Why generations from a peer are not accepted. Nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadGenerations {
    /// There are none, or more than were asked for.
    #[error("{found} generations were sent where 1 to {asked} were asked for")]
    Count {
        /// How many there are.
        found: usize,
        /// How many were asked for.
        asked: u64,
    },
    /// They are not consecutive from the one that was asked for.
    #[error("generation {found} was sent where {expected} must be")]
    Order {
        /// Which must come.
        expected: Generation,
        /// Which came.
        found: Generation,
    },
    /// A secret is not the one that the network committed to.
    #[error("the secret of generation {generation} does not match the trusted checksum")]
    Checksum {
        /// Of which generation.
        generation: Generation,
    },
    /// The chain does not begin with the domain.
    #[error("the chain does not begin with the domain")]
    Beginning,
}

impl Keyring {
    /// A keyring without generations.
    pub fn new(domain: DomainId) -> Self {
        Self { domain, batches: BTreeMap::new(), verified: None, ladder: None }
    }

    /// How many generations are in hand.
    pub fn count(&self) -> u64 {
        self.batches.values().map(Batch::count).sum()
    }

    /// The newest generation in hand.
    pub fn newest(&self) -> Option<Generation> {
        self.batches.values().next_back().map(Batch::last)
    }

    /// Lends a master secret.
    pub fn expose<R>(
        &self,
        generation: Generation,
        use_secret: impl FnOnce(&[u8; 32]) -> R,
    ) -> Option<R> {
        self.batch_of(generation)?.secret(generation).map(use_secret)
    }

    /// The checksum before a generation in hand.
    pub fn previous(&self, generation: Generation) -> Option<Checksum> {
        self.batch_of(generation)?.previous_of(generation)
    }

    /// The checksum of the keyring that ends with a generation in hand.
    pub fn checksum(&self, generation: Generation) -> Option<Checksum> {
        let previous = self.previous(generation)?;
        self.expose(generation, |secret| extend(&previous, secret))
    }

    /// Whether a generation is in hand.
    pub fn holds(&self, generation: Generation) -> bool {
        self.batch_of(generation).is_some()
    }

    /// Adds a batch. Generations that are in hand already must be the same.
    pub fn insert(&mut self, batch: Batch) -> Result<(), NotOneChain> {
        let overlaps = (0..batch.count()).any(|offset| self.holds(batch.at(offset)));
        if !overlaps {
            self.batches.insert(batch.first, batch);
            return Ok(());
        }
        for offset in 0..batch.count() {
            let generation = batch.at(offset);
            let Some(single) = batch.single(generation) else { continue };
            if !self.holds(generation) {
                self.batches.insert(generation, single);
            } else if !self.agrees(&single) {
                return Err(NotOneChain { generation });
            }
        }
        Ok(())
    }

    /// Whether the one generation of `single` is in hand with the same content.
    fn agrees(&self, single: &Batch) -> bool {
        let own = self.batch_of(single.first).and_then(|batch| batch.single(single.first));
        own.is_some_and(|own| {
            let equal: bool = subtle::ConstantTimeEq::ct_eq(
                own.secrets.as_flattened(),
                single.secrets.as_flattened(),
            )
            .into();
            equal && own.previous == single.previous
        })
    }

    /// Verifies from a trusted checksum downwards as far as generations are in hand, and says
    /// what is missing. What was verified before is not verified again.
    pub fn coverage(
        &mut self,
        top: Generation,
        checksum: Checksum,
    ) -> Result<Coverage, NotOneChain> {
        if self.verified == Some((top, checksum)) {
            return Ok(Coverage::Complete);
        }
        let start = Ladder { top: (top, checksum), next: Some((top, checksum)) };
        let mut ladder = self.ladder.filter(|ladder| ladder.top == start.top).unwrap_or(start);
        while let Some((generation, trusted)) = ladder.next {
            if self.verified == Some((generation, trusted)) {
                ladder.next = None;
                break;
            }
            let Some(previous) = self.previous(generation) else { break };
            if self.checksum(generation) != Some(trusted) {
                return Err(NotOneChain { generation });
            }
            ladder.next = generation.previous().map(|below| (below, previous));
            if ladder.next.is_none() && previous != checksum_before_first(&self.domain) {
                return Err(NotOneChain { generation });
            }
        }
        self.ladder = Some(ladder);
        let Some((newest, checksum)) = ladder.next else {
            self.verified = Some((top, checksum));
            return Ok(Coverage::Complete);
        };
        Ok(Coverage::Missing(Gap { newest, count: self.gap_below(newest), checksum }))
    }

    /// Verifies the chain of the generations in hand from 0 up, without a trusted checksum, and
    /// returns the newest generation that it reaches with its checksum.
    pub fn climb(&mut self) -> Result<Option<(Generation, Checksum)>, NotOneChain> {
        let mut reached: Option<(Generation, Checksum)> = None;
        for batch in self.batches.values() {
            let (expected, before) = match reached {
                None => (Some(Generation(0)), checksum_before_first(&self.domain)),
                Some((generation, checksum)) => (generation.next(), checksum),
            };
            if expected != Some(batch.first) {
                break;
            }
            let checksum = batch.climb(before)?;
            reached = Some((batch.last(), checksum));
        }
        self.verified = reached;
        Ok(reached)
    }

    /// Generations in the form in which they travel, from `newest` downwards, at most `count`.
    pub fn replicate(&self, newest: Generation, count: usize) -> Vec<ReplicatedGeneration> {
        let mut found = Vec::new();
        let mut next = Some(newest);
        while let Some(generation) = next.filter(|_| found.len() < count) {
            let Some(previous) = self.previous(generation) else { break };
            let Some(secret) = self.expose(generation, WireSecret::new) else { break };
            found.push(ReplicatedGeneration { generation, secret, previous });
            next = generation.previous();
        }
        found
    }

    fn gap_below(&self, newest: Generation) -> u64 {
        let below = self.batches.range(..newest).next_back().map(|(_, batch)| batch.last());
        match below {
            Some(held) => newest.0.saturating_sub(held.0),
            None => newest.0.saturating_add(1),
        }
    }

    fn batch_of(&self, generation: Generation) -> Option<&Batch> {
        let (_, batch) = self.batches.range(..=generation).next_back()?;
        (generation <= batch.last()).then_some(batch)
    }
}

impl Gap {
    /// How many generations to ask for in one request.
    pub fn request_count(&self) -> u32 {
        let limit = u32::try_from(REPLICATION_BATCH_MAX).unwrap_or(u32::MAX);
        u32::try_from(self.count).map_or(limit, |count| count.min(limit))
    }

    /// What is left of the gap if exactly this is accepted; none if nothing is, or if this does
    /// not even have the right number. Nothing is verified here.
    pub fn after(&self, received: &[ReplicatedGeneration]) -> Option<Self> {
        let oldest = received.last()?;
        let count = self.count.checked_sub(u64::try_from(received.len()).ok()?)?;
        let newest = oldest.generation.previous()?;
        (count > 0).then_some(Self { newest, count, checksum: oldest.previous })
    }

    /// Judges what a peer sent for this gap, newest first, against the trusted checksum. Fewer
    /// than were asked for are welcome; anything that does not fit refuses all of them.
    pub fn fill(
        &self,
        domain: &DomainId,
        received: &[ReplicatedGeneration],
    ) -> Result<Batch, BadGenerations> {
        let asked = u64::from(self.request_count());
        let found = received.len();
        let count = u64::try_from(found).unwrap_or(u64::MAX);
        if count == 0 || count > asked {
            return Err(BadGenerations::Count { found, asked });
        }
        let mut trusted = self.checksum;
        let mut expected = Some(self.newest);
        for sent in received {
            let generation = sent.generation;
            if expected != Some(generation) {
                let expected = expected.unwrap_or_default();
                return Err(BadGenerations::Order { expected, found: generation });
            }
            if sent.secret.expose(|secret| extend(&sent.previous, secret)) != trusted {
                return Err(BadGenerations::Checksum { generation });
            }
            trusted = sent.previous;
            expected = generation.previous();
        }
        if expected.is_none() && trusted != checksum_before_first(domain) {
            return Err(BadGenerations::Beginning);
        }
        let first = received.last().map_or(self.newest, |oldest| oldest.generation);
        let mut batch = Batch::with_capacity(first, found);
        for sent in received.iter().rev() {
            sent.secret.expose(|secret| batch.push(secret, sent.previous));
        }
        Ok(batch)
    }
}

impl Batch {
    /// Bytes of one generation: the secret, and the checksum before it.
    pub const GENERATION_BYTES: usize = 64;

    /// A batch of one generation.
    pub fn of_one(generation: Generation, secret: &[u8; 32], previous: Checksum) -> Self {
        let mut batch = Self::with_capacity(generation, 1);
        batch.push(secret, previous);
        batch
    }

    /// Reads the content of a sealed file that says which generations it has.
    pub fn from_bytes(first: Generation, last: Generation, bytes: &[u8]) -> Option<Self> {
        let (pairs, rest) = bytes.as_chunks::<{ Self::GENERATION_BYTES }>();
        let count = last.0.checked_sub(first.0)?.checked_add(1)?;
        let whole = rest.is_empty() && u64::try_from(pairs.len()) == Ok(count);
        if !whole || last.0 >= GENERATIONS_MAX {
            return None;
        }
        let mut batch = Self::with_capacity(first, pairs.len());
        for pair in pairs {
            let (secret, previous) = pair.split_first_chunk::<32>()?;
            batch.push(secret, Checksum::new(*previous.first_chunk::<32>()?));
        }
        Some(batch)
    }

    /// The content of a sealed file.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let size = self.secrets.len().saturating_mul(Self::GENERATION_BYTES);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size));
        for (secret, previous) in self.secrets.iter().zip(&self.previous) {
            bytes.extend_from_slice(secret);
            bytes.extend_from_slice(previous.as_bytes());
        }
        bytes
    }

    /// The oldest generation.
    pub fn first(&self) -> Generation {
        self.first
    }

    /// The newest generation.
    pub fn last(&self) -> Generation {
        self.at(self.count().saturating_sub(1))
    }

    /// How many generations it has; never 0.
    pub fn count(&self) -> u64 {
        u64::try_from(self.previous.len()).unwrap_or(u64::MAX)
    }

    /// Room for exactly `count` generations, so that no secret is left behind by growing.
    fn with_capacity(first: Generation, count: usize) -> Self {
        let secrets = Zeroizing::new(Vec::with_capacity(count));
        Self { first, secrets, previous: Vec::with_capacity(count) }
    }

    fn push(&mut self, secret: &[u8; 32], previous: Checksum) {
        self.secrets.push(*secret);
        self.previous.push(previous);
    }

    fn at(&self, offset: u64) -> Generation {
        Generation(self.first.0.saturating_add(offset))
    }

    fn offset(&self, generation: Generation) -> Option<usize> {
        usize::try_from(generation.0.checked_sub(self.first.0)?).ok()
    }

    fn secret(&self, generation: Generation) -> Option<&[u8; 32]> {
        self.secrets.get(self.offset(generation)?)
    }

    fn previous_of(&self, generation: Generation) -> Option<Checksum> {
        self.previous.get(self.offset(generation)?).copied()
    }

    fn single(&self, generation: Generation) -> Option<Self> {
        let previous = self.previous_of(generation)?;
        Some(Self::of_one(generation, self.secret(generation)?, previous))
    }

    /// Verifies the chain inside the batch from the checksum before it, and returns its end.
    fn climb(&self, before: Checksum) -> Result<Checksum, NotOneChain> {
        let mut checksum = before;
        for (offset, (secret, previous)) in (0_u64..).zip(self.secrets.iter().zip(&self.previous)) {
            if *previous != checksum {
                return Err(NotOneChain { generation: self.at(offset) });
            }
            checksum = extend(previous, secret);
        }
        Ok(checksum)
    }
}

#[cfg(test)]
mod tests;
