//! Names of a ledger. Unique identifiers are `model`'s; here is what Daml calls a party.

use std::fmt;
use std::str::FromStr;

pub use heirloom_model::party::{
    Namespace, ParsePartyError, ParticipantId, PartyId, SynchronizerId,
    UNIQUE_IDENTIFIER_CHARACTERS_MAX,
};

/// A party as values and contracts name it. Every party of a participant is a [`PartyId`], but the
/// language demands less, and so do its tests: no `::`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Party(String);

/// The text is no party.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{found:?} is not a party: 1 to {limit} letters, digits, ':', '-', '_' and spaces")]
pub struct NotAParty {
    /// The text, cut.
    pub found: String,
    /// How many characters it may have.
    pub limit: usize,
}

impl Party {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identifier and namespace, if it has them.
    pub fn as_party_id(&self) -> Result<PartyId, ParsePartyError> {
        self.0.parse()
    }
}

impl FromStr for Party {
    type Err = NotAParty;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let limit = UNIQUE_IDENTIFIER_CHARACTERS_MAX;
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_ ".contains(c);
        if text.is_empty() || text.len() > limit || !text.chars().all(allowed) {
            return Err(NotAParty { found: text.chars().take(limit).collect(), limit });
        }
        Ok(Self(text.to_owned()))
    }
}

impl From<&PartyId> for Party {
    fn from(id: &PartyId) -> Self {
        Self(id.as_str().to_owned())
    }
}

impl AsRef<str> for Party {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Party({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_of_a_party_refuses_by_itself() {
        assert!("Alice".parse::<Party>().is_ok());
        assert!("a-_ :9::x".parse::<Party>().is_ok());
        assert!("x".repeat(255).parse::<Party>().is_ok());
        for text in ["", "a.b", "ä", "a\n", &"x".repeat(256)] {
            assert!(text.parse::<Party>().is_err(), "{text:?}");
        }
    }
}
