//! Keys and values. `docs/formats/etcd.md` describes them.

use heirloom_model::counter::LogIndex;
use heirloom_model::digest::{LogHash, NetworkId, sha256};
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::ENVELOPE_BYTES_MAX;
use heirloom_model::{fixed_bytes, wire};
use minicbor::{Decode, Encode};

/// A longer envelope is kept in parts. A page of entries that are all as long as this fits into
/// one answer of etcd's client, 4 MiB.
pub(crate) const INLINE_BYTES_MAX: usize = 48 * 1024;
/// etcd refuses requests of more than 1.5 MiB unless it is told otherwise.
pub(crate) const PART_BYTES_MAX: usize = 1024 * 1024;
/// The parts of the largest envelope. etcd refuses transactions with more than 128 operations.
pub(crate) const PARTS_MAX: usize = ENVELOPE_BYTES_MAX.div_ceil(PART_BYTES_MAX);
/// Entries that are read at once.
pub(crate) const PAGE_ENTRIES: u64 = 64;

fixed_bytes! {
    /// SHA-256 of a part of an envelope.
    PartDigest[32];
}

/// What is kept of an entry. Its index is in its key.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct Record {
    /// Hash of the entry before; all zero for the first.
    #[n(0)]
    pub(crate) previous: LogHash,
    /// Hash of the entry.
    #[n(1)]
    pub(crate) hash: LogHash,
    /// The envelope.
    #[n(2)]
    pub(crate) body: Body,
}

/// Where the bytes of an envelope are.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) enum Body {
    /// Here.
    #[n(0)]
    Inline {
        /// The envelope.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        envelope: Vec<u8>,
    },
    /// In parts, in this order, each under its digest.
    #[n(1)]
    Parts {
        /// Bytes of all of them.
        #[n(0)]
        length: u64,
        /// What they are.
        #[n(1)]
        digests: Vec<PartDigest>,
    },
}

impl Body {
    /// How an envelope is kept.
    pub(crate) fn of(envelope: &[u8]) -> Self {
        if envelope.len() <= INLINE_BYTES_MAX {
            return Self::Inline { envelope: envelope.to_vec() };
        }
        let digests = envelope.chunks(PART_BYTES_MAX).map(digest).collect();
        Self::Parts { length: u64::try_from(envelope.len()).unwrap_or(u64::MAX), digests }
    }

    /// How many bytes the envelope has.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Inline { envelope } => envelope.len(),
            Self::Parts { length, .. } => usize::try_from(*length).unwrap_or(usize::MAX),
        }
    }
}

/// Under what a part is kept.
pub(crate) fn digest(part: &[u8]) -> PartDigest {
    PartDigest::new(sha256(&[part]))
}

/// The position after the last entry, as it is kept. There is none before the first.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(transparent)]
pub(crate) struct Head(#[n(0)] pub(crate) LogPosition);

/// Where a node can be reached, as it is kept.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct Announced {
    /// Host and port.
    #[n(0)]
    pub(crate) address: String,
    /// When its agent said so, by the agent's clock, in milliseconds since 1970.
    #[n(1)]
    pub(crate) said_at_ms: u64,
    /// When that ends, by the clock of the server that was told. Only for people: the lease ends
    /// it.
    #[n(2)]
    pub(crate) until_ms: u64,
}

/// When the agent of a node last said something, by its clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct LastSaid {
    #[n(0)]
    pub(crate) said_at_ms: u64,
}

wire! {
    Record: "etcd log entry", INLINE_BYTES_MAX + 48 * PARTS_MAX + 256;
    Head: "etcd log head", 128;
    Announced: "etcd announcement", 1024;
    LastSaid: "etcd time of announcement", 32;
}

/// The keys of one network.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    base: String,
}

impl Keys {
    pub(crate) fn new(network: &NetworkId) -> Self {
        Self { base: format!("heirloom/{network}/") }
    }

    /// The position after the last entry.
    pub(crate) fn head(&self) -> String {
        format!("{}head", self.base)
    }

    /// An entry. Keys are in the order of entries.
    pub(crate) fn entry(&self, index: LogIndex) -> String {
        format!("{}log/{:016x}", self.base, index.0)
    }

    /// Behind every entry: `0` comes after `/`.
    pub(crate) fn entries_end(&self) -> String {
        format!("{}log0", self.base)
    }

    /// A part of an envelope.
    pub(crate) fn part(&self, digest: &PartDigest) -> String {
        format!("{}part/{digest}", self.base)
    }

    /// Where a node can be reached. Leased.
    pub(crate) fn address(&self, node: &NodeId) -> String {
        format!("{}{node}", self.addresses())
    }

    /// Before every address.
    pub(crate) fn addresses(&self) -> String {
        format!("{}presence/address/", self.base)
    }

    /// When a node's agent last said something. Not leased.
    pub(crate) fn said(&self, node: &NodeId) -> String {
        format!("{}{node}", self.all_said())
    }

    /// Before all of them.
    pub(crate) fn all_said(&self) -> String {
        format!("{}presence/said/", self.base)
    }
}

#[cfg(test)]
mod tests {
    use heirloom_model::wire::{decode, encode};

    use super::*;

    #[test]
    fn keys_and_values_are_as_described() {
        let keys = Keys::new(&NetworkId::new([0xab; 32]));
        let base = format!("heirloom/{}/", "ab".repeat(32));
        assert_eq!(keys.head(), format!("{base}head"));
        assert_eq!(keys.entry(LogIndex(0x1f)), format!("{base}log/000000000000001f"));
        assert!(keys.entry(LogIndex(u64::MAX)) < keys.entries_end());
        let position = LogPosition { length: LogIndex(3), head: LogHash::new([7; 32]) };
        // As in every other place: a position is an array of its length and a hash.
        let expected = [&[0x82, 0x03, 0x58, 0x20][..], &[7; 32]].concat();
        assert_eq!(encode(&Head(position)), expected);
        assert_eq!(decode(&expected), Ok(Head(position)));
        let inline = Record {
            previous: LogHash::new([1; 32]),
            hash: LogHash::new([2; 32]),
            body: Body::of(b"xy"),
        };
        let expected = [
            &[0x83, 0x58, 0x20][..],
            &[1; 32],
            &[0x58, 0x20],
            &[2; 32],
            &[0x82, 0x00, 0x81, 0x42, b'x', b'y'],
        ];
        assert_eq!(encode(&inline), expected.concat());
    }

    #[test]
    fn the_largest_envelope_is_kept_in_parts_that_etcd_takes() {
        let envelope = vec![1; ENVELOPE_BYTES_MAX];
        let body = Body::of(&envelope);
        let Body::Parts { length, digests } = &body else { panic!("it is inline") };
        assert_eq!((*length, digests.len()), (ENVELOPE_BYTES_MAX as u64, PARTS_MAX));
        // An entry, the head, and a comparison for each part: see `--max-txn-ops` of etcd.
        const { assert!(PARTS_MAX + 2 <= 128) };
        let record = Record { previous: LogHash::new([1; 32]), hash: LogHash::new([2; 32]), body };
        assert_eq!(decode(&encode(&record)), Ok(record));
        let longest = Body::of(&envelope[..INLINE_BYTES_MAX]);
        assert!(matches!(longest, Body::Inline { .. }));
        assert!(matches!(Body::of(&envelope[..=INLINE_BYTES_MAX]), Body::Parts { .. }));
    }
}
