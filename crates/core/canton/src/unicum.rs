//! The part of a contract id that depends on the contract.
//!
//! Canton, `UnicumGenerator.scala`.

use std::collections::BTreeSet;

use crate::blob::{CreatedAt, FatContract};
use crate::contract_hash::ContractHash;
use crate::hash::{Multihash, Preimage, Purpose, canton_hash};
use crate::key_hash::KeyHash;
use crate::name::Party;

/// Random bytes in a contract id. A rewrite keeps them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Salt([u8; 32]);

impl Salt {
    /// These bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The unicum of a contract of the third major version.
pub fn unicum(
    contract: &FatContract,
    key_hash: Option<&KeyHash>,
    hash: &ContractHash,
) -> Multihash {
    let mut preimage = unicum_preimage(contract, key_hash);
    preimage.raw(hash.as_bytes());
    canton_hash(Purpose::Unicum, preimage.as_bytes())
}

/// What is hashed, without the purpose and without the contract hash at the end.
pub fn unicum_preimage(contract: &FatContract, key_hash: Option<&KeyHash>) -> Preimage {
    let mut preimage = Preimage::default();
    preimage.raw(contract.salt.as_bytes());
    write_created_at(contract.created_at, &mut preimage);
    write_parties(&contract.signatories, &mut preimage);
    write_parties(&contract.observers, &mut preimage);
    let mut maintainers = Preimage::default();
    if let (Some(key), Some(hash)) = (&contract.key, key_hash) {
        preimage.byte(1).raw(hash.as_bytes());
        maintainers.byte(1).texts(key.maintainers.iter());
    } else {
        preimage.byte(0);
        maintainers.byte(0);
    }
    preimage.bytes(maintainers.as_bytes());
    preimage
}

pub(crate) fn write_created_at(created_at: CreatedAt, preimage: &mut Preimage) {
    let (seconds, nanos) = created_at.seconds_and_nanos();
    preimage.int64(seconds).int32(nanos);
}

/// The list is encoded by itself and stands behind its own length.
pub(crate) fn write_parties(parties: &BTreeSet<Party>, preimage: &mut Preimage) {
    let mut list = Preimage::default();
    list.texts(parties.iter());
    preimage.bytes(list.as_bytes());
}
