//! Names of ledger participants: parties, participants, synchronizers, and the namespaces that
//! their keys own.
//!
//! Canton, `topology.proto` and `Identifier.scala`: a unique identifier is
//! `identifier::namespace`, and a namespace is the fingerprint of a key.

use std::str::FromStr;

use crate::text::text_forms;

/// The longest identifier in front of `::`.
pub const IDENTIFIER_CHARACTERS_MAX: usize = 185;
/// The longest namespace.
pub const NAMESPACE_CHARACTERS_MAX: usize = 68;
/// The longest unique identifier.
pub const UNIQUE_IDENTIFIER_CHARACTERS_MAX: usize = 255;

/// Between the identifier and the namespace.
const DELIMITER: &str = "::";

/// Why text is not a name of a ledger.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParsePartyError {
    /// There is no `::`.
    #[error("{what} {found:?} must be an identifier, \"::\" and a namespace")]
    NoDelimiter {
        /// The type that was expected.
        what: &'static str,
        /// The text.
        found: String,
    },
    /// One of its parts is empty.
    #[error("{part} of {what} {found:?} is empty")]
    Empty {
        /// The part.
        part: &'static str,
        /// The type that was expected.
        what: &'static str,
        /// The text.
        found: String,
    },
    /// One of its parts is too long.
    #[error("{part} of {what} {found:?} has more than {limit} characters")]
    TooLong {
        /// The part.
        part: &'static str,
        /// The type that was expected.
        what: &'static str,
        /// The text, cut.
        found: String,
        /// How many it may have.
        limit: usize,
    },
    /// It has a character that no ledger takes.
    #[error(
        "{what} {found:?} has {character:?}; allowed are letters, digits, ':', '-', '_' and space"
    )]
    Character {
        /// The type that was expected.
        what: &'static str,
        /// The text.
        found: String,
        /// The first such character.
        character: char,
    },
    /// The namespace has a second `::`.
    #[error("{what} {found:?} has \"::\" twice")]
    SecondDelimiter {
        /// The type that was expected.
        what: &'static str,
        /// The text.
        found: String,
    },
}

/// The owner of names: the fingerprint of a root signing key, or of a group of such owners.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Namespace(String);

impl Namespace {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = ParsePartyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let what = "namespace";
        check_characters(what, text)?;
        check_length(what, "the text", text, text, NAMESPACE_CHARACTERS_MAX)?;
        if text.contains(DELIMITER) {
            return Err(ParsePartyError::SecondDelimiter { what, found: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! unique_identifiers {
    ($($(#[$doc:meta])* $name:ident: $what:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(String);

        impl $name {
            /// A name in this namespace.
            pub fn new(identifier: &str, namespace: &Namespace) -> Result<Self, ParsePartyError> {
                format!("{identifier}{DELIMITER}{namespace}").parse()
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// What stands in front of the first `::`.
            pub fn identifier(&self) -> &str {
                self.parts().0
            }

            /// Who owns the name.
            pub fn namespace(&self) -> Namespace {
                Namespace(self.parts().1.to_owned())
            }

            /// The same identifier in another namespace.
            pub fn moved_to(&self, namespace: &Namespace) -> Result<Self, ParsePartyError> {
                Self::new(self.identifier(), namespace)
            }

            fn parts(&self) -> (&str, &str) {
                self.0.split_once(DELIMITER).expect("it was parsed")
            }
        }

        impl FromStr for $name {
            type Err = ParsePartyError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                check_unique_identifier($what, text)?;
                Ok(Self(text.to_owned()))
            }
        }
        text_forms!($name);
    )+};
}

text_forms!(Namespace);

unique_identifiers! {
    /// Somebody who signs or sees contracts.
    PartyId: "party";
    /// A node of a ledger that hosts parties. Its own party has the same name.
    ParticipantId: "participant";
    /// What orders the messages of participants. Without protocol version and serial.
    SynchronizerId: "synchronizer";
}

impl ParticipantId {
    /// The party that stands for the participant itself. It is never moved: the new participant
    /// has its own.
    pub fn admin_party(&self) -> PartyId {
        PartyId(self.0.clone())
    }
}

fn check_unique_identifier(what: &'static str, text: &str) -> Result<(), ParsePartyError> {
    let total = UNIQUE_IDENTIFIER_CHARACTERS_MAX;
    // The length first: messages repeat the text.
    check_length(what, "the text", text, text, total)?;
    let Some((identifier, namespace)) = text.split_once(DELIMITER) else {
        return Err(ParsePartyError::NoDelimiter { what, found: text.to_owned() });
    };
    check_characters(what, text)?;
    if namespace.contains(DELIMITER) {
        return Err(ParsePartyError::SecondDelimiter { what, found: text.to_owned() });
    }
    check_length(what, "the identifier", identifier, text, IDENTIFIER_CHARACTERS_MAX)?;
    check_length(what, "the namespace", namespace, text, NAMESPACE_CHARACTERS_MAX)
}

fn check_length(
    what: &'static str,
    part: &'static str,
    found: &str,
    text: &str,
    limit: usize,
) -> Result<(), ParsePartyError> {
    if found.is_empty() {
        return Err(ParsePartyError::Empty { part, what, found: text.to_owned() });
    }
    if found.chars().count() > limit {
        let found = text.chars().take(limit).collect();
        return Err(ParsePartyError::TooLong { part, what, found, limit });
    }
    Ok(())
}

fn check_characters(what: &'static str, text: &str) -> Result<(), ParsePartyError> {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || ":-_ ".contains(*c);
    match text.chars().find(|c| !allowed(c)) {
        None => Ok(()),
        Some(character) => {
            let found = text.chars().take(UNIQUE_IDENTIFIER_CHARACTERS_MAX).collect();
            Err(ParsePartyError::Character { what, found, character })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: &str = "1220b21d512c6a7e2f5d215266fe6568cb732caaef7ff04e308f990a652340d3529";

    #[test]
    fn a_name_has_an_identifier_and_a_namespace() {
        let party: PartyId = format!("Alice-1_x y:z::{NAMESPACE}").parse().unwrap();
        assert_eq!(party.identifier(), "Alice-1_x y:z");
        assert_eq!(party.namespace().as_str(), NAMESPACE);
        let elsewhere = party.moved_to(&"1220ff".parse().unwrap()).unwrap();
        assert_eq!(elsewhere.as_str(), "Alice-1_x y:z::1220ff");
    }

    #[test]
    fn each_rule_of_a_name_refuses_by_itself() {
        type Check = fn(&ParsePartyError) -> bool;
        let long = "x".repeat(IDENTIFIER_CHARACTERS_MAX + 1);
        let cases: [(String, Check); 7] = [
            ("alice".to_owned(), |e| matches!(e, ParsePartyError::NoDelimiter { .. })),
            (format!("::{NAMESPACE}"), |e| matches!(e, ParsePartyError::Empty { .. })),
            ("alice::".to_owned(), |e| matches!(e, ParsePartyError::Empty { .. })),
            (format!("a.b::{NAMESPACE}"), |e| matches!(e, ParsePartyError::Character { .. })),
            ("a::b::c".to_owned(), |e| matches!(e, ParsePartyError::SecondDelimiter { .. })),
            (format!("{long}::1220"), |e| matches!(e, ParsePartyError::TooLong { .. })),
            (format!("a::{}", "1".repeat(69)), |e| matches!(e, ParsePartyError::TooLong { .. })),
        ];
        for (text, is_expected) in cases {
            let error = text.parse::<PartyId>().unwrap_err();
            assert!(is_expected(&error), "{text}: {error:?}");
        }
    }
}
