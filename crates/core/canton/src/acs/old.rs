//! Entries of older snapshots. They are read, not written.

use std::collections::BTreeSet;

use heirloom_model::limit::STAKEHOLDERS_MAX;

use crate::acs::AcsError;
use crate::blob::BlobError;
use crate::contract_id::ContractId;
use crate::instance1::{OldContract, read_timestamp};
use crate::name::Party;
use crate::proto::{Field, ProtoError, Reader};

/// An entry of the older export of 3.3 and 3.4. What the engine serialized is carried unread.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OldActiveContract {
    /// Where the contract is active.
    pub synchronizer: String,
    /// Its id.
    pub contract_id: ContractId,
    /// Template and argument.
    pub instance: Vec<u8>,
    /// Who signed it, without maintainers.
    pub signatories: BTreeSet<Party>,
    /// Who sees it and did not sign it.
    pub observers: BTreeSet<Party>,
    /// Who maintains its key.
    pub maintainers: BTreeSet<Party>,
    /// Its key, unread.
    pub key: Option<Vec<u8>>,
    /// When it was created: microseconds since 1970.
    pub created_at: i64,
    /// What its id is authenticated with, unread.
    pub authentication: Vec<u8>,
    /// How often it moved.
    pub reassignment_counter: u64,
}

impl OldActiveContract {
    /// Reads the message.
    pub fn decode(data: &[u8]) -> Result<Self, AcsError> {
        let (mut synchronizer, mut contract, mut reassignment_counter) = ("", None, 0);
        for field in Reader::new(data) {
            let field = field?;
            match field.number() {
                1 => synchronizer = field.text()?,
                2 => contract = Some(field.bytes()?),
                3 => reassignment_counter = field.varint()?,
                _ => return Err(field.unknown("ActiveContractOld").into()),
            }
        }
        let missing = ProtoError::Missing { message: "ActiveContractOld", field: "contract" };
        let mut read = read_contract(contract.ok_or(missing)?)?;
        synchronizer.clone_into(&mut read.synchronizer);
        read.reassignment_counter = reassignment_counter;
        Ok(read)
    }
}

fn read_contract(bytes: &[u8]) -> Result<OldActiveContract, AcsError> {
    let mut id = "";
    let (mut instance, mut metadata, mut authentication) = (Vec::new(), None, Vec::new());
    let mut created_at = 0;
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => id = field.text()?,
            2 => instance = field.bytes()?.to_vec(),
            3 => metadata = Some(field.bytes()?),
            4 => created_at = read_timestamp(field.bytes()?)?,
            5 => authentication = field.bytes()?.to_vec(),
            _ => return Err(field.unknown("Contract").into()),
        }
    }
    let contract_id = id.parse().map_err(BlobError::ContractId)?;
    let mut contract = OldActiveContract {
        synchronizer: String::new(),
        contract_id,
        instance,
        signatories: BTreeSet::new(),
        observers: BTreeSet::new(),
        maintainers: BTreeSet::new(),
        key: None,
        created_at,
        authentication,
        reassignment_counter: 0,
    };
    for field in Reader::new(metadata.unwrap_or_default()) {
        let field = field?;
        match field.number() {
            1 => insert_party(&mut contract.signatories, &field)?,
            2 => insert_party(&mut contract.observers, &field)?,
            3 => contract.key = Some(field.bytes()?.to_vec()),
            4 => insert_party(&mut contract.maintainers, &field)?,
            _ => return Err(field.unknown("Contract.Metadata").into()),
        }
    }
    Ok(contract)
}

/// An entry of a snapshot of the second major version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OldSnapshotContract {
    /// The protocol of its synchronizer.
    pub protocol_version: i32,
    /// Where the contract is active.
    pub synchronizer: String,
    /// The contract.
    pub contract: OldContract,
}

impl OldSnapshotContract {
    /// Reads the message.
    pub fn decode(data: &[u8]) -> Result<Self, AcsError> {
        let (mut protocol_version, mut synchronizer, mut contract) = (0, String::new(), None);
        for field in Reader::new(data) {
            let field = field?;
            match field.number() {
                1 => protocol_version = field.int32()?,
                2 => field.text()?.clone_into(&mut synchronizer),
                3 => contract = Some(OldContract::decode_serializable(field.bytes()?)?),
                _ => return Err(field.unknown("ActiveContract").into()),
            }
        }
        let missing = ProtoError::Missing { message: "ActiveContract", field: "contract" };
        Ok(Self { protocol_version, synchronizer, contract: contract.ok_or(missing)? })
    }
}

fn insert_party(parties: &mut BTreeSet<Party>, field: &Field<'_>) -> Result<(), AcsError> {
    if parties.len() >= STAKEHOLDERS_MAX {
        let what = "parties of a contract";
        return Err(ProtoError::TooMany { what, limit: STAKEHOLDERS_MAX }.into());
    }
    parties.insert(field.text()?.parse().map_err(BlobError::Party)?);
    Ok(())
}
