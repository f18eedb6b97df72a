//! What was verified before.
//!
//! Verifying one quote fully costs about ten P-256 signatures, of which nine are the same for
//! every quote of one quoting enclave; of a Nitro document four out of five, of an SEV-SNP report
//! two out of three. They are remembered here under a digest of everything that they cover. What is
//! remembered are facts, not permissions: the policy is judged again each time, and nothing of
//! what is attested is in here.

use std::collections::{BTreeMap, VecDeque};

use heirloom_model::digest::sha256;
use heirloom_model::limit::QUOTING_IDENTITIES_MAX;

/// Digest of everything that something remembered was verified from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct MemoryKey([u8; 32]);

/// A bounded number of verified things; the oldest goes first.
#[derive(Clone, Debug)]
pub(crate) struct Memory<V> {
    known: BTreeMap<MemoryKey, V>,
    order: VecDeque<MemoryKey>,
}

impl MemoryKey {
    /// Each part is hashed with its length, so that no two lists of parts read alike.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut bytes = Vec::new();
        for part in parts {
            bytes.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend(part);
        }
        Self(sha256(&[&bytes]))
    }
}

impl<V> Default for Memory<V> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<V> Memory<V> {
    pub(crate) fn get(&self, key: &MemoryKey) -> Option<&V> {
        self.known.get(key)
    }

    pub(crate) fn put(&mut self, key: MemoryKey, value: V) {
        if self.known.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > QUOTING_IDENTITIES_MAX {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> MemoryKey {
        MemoryKey::of([number.to_string().as_bytes()])
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut memory = Memory::default();
        for number in 0..=QUOTING_IDENTITIES_MAX {
            memory.put(key(number), number);
            // What is verified again takes no second place.
            memory.put(key(number), number);
        }
        assert_eq!(memory.len(), QUOTING_IDENTITIES_MAX);
        assert!(memory.get(&key(0)).is_none());
        assert_eq!(memory.get(&key(1)), Some(&1));
        assert_eq!(memory.get(&key(QUOTING_IDENTITIES_MAX)), Some(&QUOTING_IDENTITIES_MAX));
    }

    #[test]
    fn parts_that_join_alike_are_not_alike() {
        let one = MemoryKey::of([b"ab".as_slice(), b"c"]);
        assert_ne!(one, MemoryKey::of([b"a".as_slice(), b"bc"]));
        assert_ne!(one, MemoryKey::of([b"abc".as_slice()]));
    }
}
