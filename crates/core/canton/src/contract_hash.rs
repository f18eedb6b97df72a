//! Hashes of what a contract says: one for each version of contract ids.
//!
//! The oldest two hash values as they stand ([`plain`]); the newest hashes them with the names of
//! their types ([`typed`]), so that it does not depend on the version of a package.

pub mod plain;
pub mod typed;

use std::fmt;

use crate::hash::Preimage;
use crate::types::TypeName;

/// The hash of a contract.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct ContractHash([u8; 32]);

impl ContractHash {
    /// These bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContractHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ContractHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContractHash({self})")
    }
}

/// Hashes of contracts, not of keys.
pub(crate) const CONTRACT_PURPOSE: u8 = 5;

pub(crate) fn write_name(name: &TypeName, preimage: &mut Preimage) {
    preimage.texts(name.module.segments().iter()).texts(name.entity.segments().iter());
}
