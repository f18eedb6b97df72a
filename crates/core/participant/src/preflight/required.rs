//! What a synchronizer requires of the keys of its members: the lists of its static parameters, as
//! each of its sequencers says them.
//!
//! Numbers are those of the wire. A number that is not known here is kept: two sequencers that
//! differ in it differ, and people are told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use heirloom_model::party::SynchronizerId;

use crate::custodian::key::KeyScheme;

/// Numbers in one list. The longest one has five.
pub const REQUIRED_NUMBERS_MAX: usize = 64;
/// The last protocol version whose encryption algorithms have the older numbers.
const OLDER_ALGORITHMS: u32 = 33;
/// X.509 `SubjectPublicKeyInfo`: in this form members publish every key.
const FORMAT_OF_KEYS: u32 = 4;

/// A list of the static parameters that is about keys.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum List {
    /// What signing keys may be.
    SigningKeys,
    /// How they may sign.
    SigningAlgorithms,
    /// What encryption keys may be.
    EncryptionKeys,
    /// How one may encrypt to them.
    EncryptionAlgorithms,
    /// In which form keys are published.
    KeyFormats,
    /// In which form signatures are.
    SignatureFormats,
}

impl List {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SigningKeys,
        Self::SigningAlgorithms,
        Self::EncryptionKeys,
        Self::EncryptionAlgorithms,
        Self::KeyFormats,
        Self::SignatureFormats,
    ];

    /// What one entry of it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SigningKeys => "signing key",
            Self::SigningAlgorithms => "signing algorithm",
            Self::EncryptionKeys => "encryption key",
            Self::EncryptionAlgorithms => "encryption algorithm",
            Self::KeyFormats => "key format",
            Self::SignatureFormats => "signature format",
        }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One entry of a list, for people.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Entry {
    /// Which list.
    pub list: List,
    /// The number there.
    pub number: u32,
    /// What it means, if that is known here.
    pub word: Option<&'static str>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.word {
            Some(word) => write!(f, "{} {word}", self.list),
            None => write!(f, "{} number {}", self.list, self.number),
        }
    }
}

/// Static parameters that are none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RequiredError {
    /// A list that every synchronizer fills is empty.
    #[error("it names no {list}")]
    Empty {
        /// Which one.
        list: List,
    },
    /// A list is longer than any.
    #[error("it names {found} times a {list}, and at most {REQUIRED_NUMBERS_MAX} are read")]
    TooMany {
        /// Which one.
        list: List,
        /// Its length.
        found: usize,
    },
}

/// What is required of keys, all lists of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Required {
    protocol: u32,
    lists: BTreeMap<List, BTreeSet<u32>>,
}

impl Required {
    /// The lists of static parameters with this protocol version. None of them is empty in a
    /// synchronizer, so an answer without one says nothing that may be relied on.
    pub fn new(protocol: u32, numbers: impl Fn(List) -> Vec<u32>) -> Result<Self, RequiredError> {
        let mut lists = BTreeMap::new();
        for list in List::ALL {
            let found = numbers(list);
            match found.len() {
                0 => return Err(RequiredError::Empty { list }),
                1..=REQUIRED_NUMBERS_MAX => {}
                found => return Err(RequiredError::TooMany { list, found }),
            }
            lists.insert(list, found.into_iter().collect());
        }
        Ok(Self { protocol, lists })
    }

    /// The protocol version.
    pub fn protocol(&self) -> u32 {
        self.protocol
    }

    /// What is not admitted of a key of this scheme; nothing if all of it is.
    ///
    /// A member publishes the key, and others check its signatures or encrypt to it: each of that
    /// is refused unless its number is in its list.
    pub fn lacks(&self, scheme: KeyScheme) -> Vec<Entry> {
        let needs = needs(scheme, self.protocol);
        let lacking = needs.into_iter().filter(|(list, numbers)| {
            let listed = self.lists.get(list);
            !listed.is_some_and(|listed| numbers.iter().any(|number| listed.contains(number)))
        });
        // Where several numbers will do, the newest one is named.
        lacking.filter_map(|(list, numbers)| Some(self.entry(list, *numbers.last()?))).collect()
    }

    /// The schemes of keys that sign, or of those that decrypt, which are admitted.
    pub fn admitted(&self, like: KeyScheme) -> Vec<KeyScheme> {
        let all = KeyScheme::ALL.iter().copied();
        let alike = all.filter(|scheme| scheme.operation() == like.operation());
        alike.filter(|scheme| self.lacks(*scheme).is_empty()).collect()
    }

    /// What is listed and not known here.
    pub fn unknown(&self) -> Vec<Entry> {
        self.entries().filter(|entry| entry.word.is_none()).collect()
    }

    /// What one of two lists and the other does not.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.protocol != other.protocol {
            found.push(format!("protocol version {}, not {}", self.protocol, other.protocol));
        }
        let lists = |one: &Self, entry: &Entry| {
            one.lists.get(&entry.list).is_some_and(|list| list.contains(&entry.number))
        };
        let more = self.entries().filter(|entry| !lists(other, entry));
        found.extend(more.map(|entry| entry.to_string()));
        let fewer = other.entries().filter(|entry| !lists(self, entry));
        found.extend(fewer.map(|entry| format!("no {entry}")));
        found
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let lists = self.lists.iter();
        lists.flat_map(|(list, numbers)| numbers.iter().map(|number| self.entry(*list, *number)))
    }

    fn entry(&self, list: List, number: u32) -> Entry {
        Entry { list, number, word: word(list, self.protocol, number) }
    }
}

/// What the lists must have for keys of a scheme: of each list, one of these numbers.
fn needs(scheme: KeyScheme, protocol: u32) -> Vec<(List, &'static [u32])> {
    let is_older = protocol <= OLDER_ALGORITHMS;
    let signs = |key: &'static [u32], algorithm: &'static [u32], format: &'static [u32]| {
        vec![
            (List::SigningKeys, key),
            (List::SigningAlgorithms, algorithm),
            (List::SignatureFormats, format),
        ]
    };
    let opens = |key: &'static [u32], algorithm: &'static [u32]| {
        vec![(List::EncryptionKeys, key), (List::EncryptionAlgorithms, algorithm)]
    };
    let mut needs: Vec<(List, &'static [u32])> = match (scheme, is_older) {
        (KeyScheme::Ed25519, _) => signs(&[1], &[1], &[3]),
        (KeyScheme::P256, _) => signs(&[2], &[2], &[2]),
        (KeyScheme::P384, _) => signs(&[3], &[3], &[2]),
        (KeyScheme::Secp256k1, _) => signs(&[4], &[2], &[2]),
        (KeyScheme::MlDsa65, _) => signs(&[5], &[4], &[2]),
        (KeyScheme::EciesP256, true) => opens(&[1], &[1, 2]),
        (KeyScheme::EciesP256, false) => opens(&[1], &[1]),
        (KeyScheme::Rsa2048, true) => opens(&[2], &[3]),
        (KeyScheme::Rsa2048, false) => opens(&[2], &[2]),
    };
    needs.push((List::KeyFormats, &[FORMAT_OF_KEYS]));
    needs
}

/// What a number means. A number may mean two things in two protocol versions.
fn word(list: List, protocol: u32, number: u32) -> Option<&'static str> {
    let words: &[(u32, &str)] = match list {
        List::SigningKeys => {
            &[(1, "ed25519"), (2, "p256"), (3, "p384"), (4, "secp256k1"), (5, "ml-dsa65")]
        }
        List::SigningAlgorithms => {
            &[(1, "ed25519"), (2, "ecdsa-sha256"), (3, "ecdsa-sha384"), (4, "ml-dsa65")]
        }
        List::EncryptionKeys => &[(1, "p256"), (2, "rsa2048")],
        List::EncryptionAlgorithms if protocol <= OLDER_ALGORITHMS => {
            &[(1, "ecies-aes128-gcm"), (2, "ecies-aes128-cbc"), (3, "rsa-oaep-sha256")]
        }
        List::EncryptionAlgorithms => &[(1, "ecies-aes128-cbc"), (2, "rsa-oaep-sha256")],
        List::KeyFormats => &[(2, "der"), (3, "raw"), (4, "x509"), (5, "pkcs8")],
        List::SignatureFormats => &[(1, "raw"), (2, "der"), (3, "concat")],
    };
    words.iter().find(|(known, _)| *known == number).map(|(_, word)| *word)
}

/// A sequencer that was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SequencerSeen {
    /// Which one, for people.
    pub name: String,
    /// What came of it.
    pub said: SequencerSaid,
}

/// What came of asking a sequencer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SequencerSaid {
    /// What its synchronizer requires.
    Required(Required),
    /// It belongs to another synchronizer.
    Other(SynchronizerId),
    /// It did not answer, or not with anything that can be read.
    Nothing {
        /// Why.
        why: String,
    },
}

#[cfg(test)]
mod tests;
