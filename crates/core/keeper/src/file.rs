//! The names of sealed files.
//!
//! A name says what is in a file, so that a directory can be listed in order and read by people.
//! The keeper believes the sealed header, and refuses a file whose name says something else.

use std::fmt;

use heirloom_model::counter::Generation;
use heirloom_model::digest::Nonce;

/// The name of a sealed file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum FileName {
    /// `keyring-<first>-<last>.sealed`: consecutive committed generations. Never updated.
    Keyring {
        /// The oldest generation inside.
        first: Generation,
        /// The newest generation inside.
        last: Generation,
    },
    /// `proposed-<generation>-<order>.sealed`: a generation that is not committed yet. The name
    /// has the beginning of the order's nonce, so that a second order for the same generation
    /// overwrites nothing.
    Proposed {
        /// The generation.
        generation: Generation,
        /// The first eight bytes of the nonce of the order.
        order: [u8; 8],
    },
    /// `witness-<sequence>.sealed`: what the keeper must never see less of.
    Witness {
        /// Grows with every write.
        sequence: u64,
    },
}

/// What a file in the directory is, by its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One of ours.
    Sealed(FileName),
    /// It ends like one of ours, and is none.
    Malformed,
    /// Something else, which is none of our business.
    Foreign,
}

/// How every sealed file's name ends.
pub const SUFFIX: &str = ".sealed";

impl FileName {
    /// The name of the proposal of an order.
    pub fn proposed(generation: Generation, order: &Nonce) -> Self {
        let order = *order.as_bytes().first_chunk::<8>().expect("a nonce has 32 bytes");
        Self::Proposed { generation, order }
    }

    /// Classifies a name. Only the one spelling of each name is accepted.
    pub fn classify(name: &str) -> Kind {
        let Some(stem) = name.strip_suffix(SUFFIX) else { return Kind::Foreign };
        match Self::parse(stem).filter(|parsed| parsed.to_string() == name) {
            Some(parsed) => Kind::Sealed(parsed),
            None => Kind::Malformed,
        }
    }

    fn parse(stem: &str) -> Option<Self> {
        let mut words = stem.split('-');
        let parsed = match words.next()? {
            "keyring" => {
                let first = words.next()?.parse().ok()?;
                Self::Keyring { first, last: words.next()?.parse().ok()? }
            }
            "proposed" => {
                let generation = words.next()?.parse().ok()?;
                let mut order = [0; 8];
                hex::decode_to_slice(words.next()?, &mut order).ok()?;
                Self::Proposed { generation, order }
            }
            "witness" => Self::Witness { sequence: words.next()?.parse().ok()? },
            _ => return None,
        };
        words.next().is_none().then_some(parsed)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyring { first, last } => {
                write!(f, "keyring-{:020}-{:020}{SUFFIX}", first.0, last.0)
            }
            Self::Proposed { generation, order } => {
                write!(f, "proposed-{:020}-{}{SUFFIX}", generation.0, hex::encode(order))
            }
            Self::Witness { sequence } => write!(f, "witness-{sequence:020}{SUFFIX}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_text_and_has_one_spelling() {
        let names = [
            FileName::Keyring { first: Generation(0), last: Generation(2047) },
            FileName::proposed(Generation(7), &Nonce::new([0xab; 32])),
            FileName::Witness { sequence: u64::MAX },
        ];
        for name in names {
            assert_eq!(FileName::classify(&name.to_string()), Kind::Sealed(name));
        }
        for bad in [
            "keyring-0-1.sealed",
            "keyring-00000000000000000000.sealed",
            "witness-+0000000000000000001.sealed",
            "witness-00000000000000000001-1.sealed",
            "proposed-00000000000000000001-ABCDEFABCDEFABCD.sealed",
            "other-00000000000000000001.sealed",
        ] {
            assert_eq!(FileName::classify(bad), Kind::Malformed, "{bad}");
        }
        assert_eq!(FileName::classify("lost+found"), Kind::Foreign);
    }
}
