//! What manufacturers say about families of platforms, and until when.

use std::fmt;

use heirloom_model::counter::Time;
use heirloom_model::digest::AnchorId;

use crate::error::EndorsementPart;

/// A family of platforms that share endorsements.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Family {
    /// The root that vouches for it.
    pub anchor: AnchorId,
    /// Intel's number of the platform's make (FMSPC).
    pub fmspc: [u8; 6],
    /// SHA-256 of the name of the CA that issues its platforms' certificates, in DER.
    pub issuer: [u8; 32],
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FMSPC {} under root {}", hex::encode_upper(self.fmspc), self.anchor)
    }
}

/// One line of the expiry calendar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expiry {
    /// From this second on it does not count.
    pub at: Time,
    /// What expires.
    pub item: ExpiryItem,
}

/// What expires.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ExpiryItem {
    /// A trust anchor.
    Anchor(AnchorId),
    /// A part of the endorsements of a family.
    Endorsements(Family, EndorsementPart),
}
