//! One contract of the second major version: read, and its id computed again.
//!
//! Such contracts come in two forms: in snapshots as `SerializableContract`, on the Ledger API as a
//! blob. The third major version imports neither as it is.

use std::collections::BTreeSet;

use heirloom_model::limit::{CONTRACT_BYTES_MAX, STAKEHOLDERS_MAX};

use crate::blob::codec::{read_any_salt, read_template};
use crate::blob::{BlobError, CreatedAt};
use crate::contract_hash::plain::{legacy_unnamed, write_legacy, write_upgrade_friendly};
use crate::contract_hash::write_name;
use crate::contract_id::{ContractId, ContractIdVersion, OldContractIdVersion};
use crate::hash::{Preimage, Purpose, canton_hash};
use crate::key_hash::KeyHash;
use crate::name::Party;
use crate::proto::{Field, ProtoError, Reader, read_versioned};
use crate::types::{PackageName, TypeId};
use crate::unicum::{Salt, write_created_at, write_parties};
use crate::value::Value;
use crate::value1;

/// A key and who maintains it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OldKey {
    /// The key.
    pub key: Value,
    /// Who maintains it.
    pub maintainers: BTreeSet<Party>,
    /// Whose name is hashed with it, since Daml-LF 1.17.
    pub package_name: Option<PackageName>,
}

/// A contract of the second major version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OldContract {
    /// Its id.
    pub contract_id: ContractId,
    /// The version of its transaction: "14", "15", "17".
    pub version: String,
    /// Its template.
    pub template: TypeId,
    /// The name of its package, if it has one.
    pub package_name: Option<PackageName>,
    /// What it says.
    pub create_arg: Value,
    /// Who signed it.
    pub signatories: BTreeSet<Party>,
    /// Who sees it and did not sign it.
    pub observers: BTreeSet<Party>,
    /// When it was created.
    pub created_at: CreatedAt,
    /// The random bytes in its id. The first snapshots have none.
    pub salt: Option<Salt>,
    /// Its key.
    pub key: Option<OldKey>,
}

/// Why the id of an old contract is not confirmed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OldAuthenticateError {
    /// The id says nothing about the contract.
    #[error("{id} is of a version that says nothing about its contract")]
    NotAuthenticated {
        /// The id.
        id: ContractId,
    },
    /// The id is of the third major version, or of none.
    #[error("{id} is no id of the second major version")]
    OtherVersion {
        /// The id.
        id: ContractId,
    },
    /// There is no salt.
    #[error("{id} cannot be computed again without its salt")]
    NoSalt {
        /// The id.
        id: ContractId,
    },
}

impl OldContract {
    /// Reads `SerializableContract` with its version around it.
    pub fn decode_serializable(bytes: &[u8]) -> Result<Self, BlobError> {
        check_size(bytes)?;
        let (_, data) = read_versioned(bytes)?;
        let mut parts = OldParts::default();
        let mut id = "";
        for field in Reader::new(data) {
            let field = field?;
            match field.number() {
                1 => id = field.text()?,
                2 => parts.read_instance(field.bytes()?)?,
                3 => parts.read_metadata(field.bytes()?)?,
                4 => parts.created_at = read_timestamp(field.bytes()?)?,
                5 => parts.salt = Some(read_salt(field.bytes()?)?),
                _ => return Err(field.unknown("SerializableContract").into()),
            }
        }
        parts.contract_id = Some(id.parse()?);
        parts.into_contract()
    }

    /// Reads the blob of the Ledger API.
    pub fn decode_blob(bytes: &[u8]) -> Result<Self, BlobError> {
        check_size(bytes)?;
        let mut parts = OldParts::default();
        let mut payload: &[u8] = &[];
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => field.text()?.clone_into(&mut parts.version),
                2 => payload = field.bytes()?,
                _ => return Err(field.unknown("Versioned").into()),
            }
        }
        if !["14", "15", "17"].contains(&parts.version.as_str()) {
            return Err(BlobError::Version { found: parts.version.chars().take(80).collect() });
        }
        for field in Reader::new(payload) {
            let field = field?;
            match field.number() {
                1 => parts.contract_id = Some(ContractId::from_bytes(field.bytes()?)?),
                2 => parts.template = Some(read_template(field.bytes()?)?),
                3 => {
                    let value = value1::decode(field.bytes()?).map_err(BlobError::Argument)?;
                    parts.create_arg = Some(value);
                }
                4 => parts.read_key_with_maintainers(field.bytes()?)?,
                5 => push_party(&mut parts.signatories, &field)?,
                6 => push_party(&mut parts.observers, &field)?,
                7 => parts.created_at = field.sfixed64()?,
                8 => parts.salt = read_driver_metadata(field.bytes()?)?,
                9 => parts.package_name = read_package_name(&field)?,
                _ => return Err(field.unknown("FatContractInstance").into()),
            }
        }
        parts.into_contract()
    }

    /// The id that the contract should have.
    pub fn recompute(&self) -> Result<ContractId, OldAuthenticateError> {
        let id = || self.contract_id.clone();
        let version = match self.contract_id.version() {
            Some(ContractIdVersion::Old(OldContractIdVersion::NonAuthenticated)) => {
                return Err(OldAuthenticateError::NotAuthenticated { id: id() });
            }
            Some(ContractIdVersion::Old(version)) => version,
            _ => return Err(OldAuthenticateError::OtherVersion { id: id() }),
        };
        let salt = self.salt.ok_or_else(|| OldAuthenticateError::NoSalt { id: id() })?;
        let mut preimage = Preimage::default();
        preimage.raw(salt.as_bytes());
        write_created_at(self.created_at, &mut preimage);
        if version != OldContractIdVersion::V1 {
            self.write_stakeholders(&mut preimage);
        }
        if version == OldContractIdVersion::V3 {
            let mut name = Preimage::default();
            match &self.package_name {
                Some(package) => _ = name.byte(1).text(package.as_str()),
                None => _ = name.byte(0),
            }
            preimage.bytes(name.as_bytes());
        }
        preimage.raw(legacy_unnamed(&self.template, &self.create_arg).as_bytes());
        let unicum = canton_hash(Purpose::Unicum, preimage.as_bytes());
        let version = ContractIdVersion::Old(version);
        Ok(ContractId::new(version, self.contract_id.discriminator(), &unicum))
    }

    /// The hash of its key.
    pub fn key_hash(&self) -> Option<KeyHash> {
        self.key.as_ref().map(|key| old_key_hash(&self.template, key))
    }

    fn write_stakeholders(&self, preimage: &mut Preimage) {
        write_parties(&self.signatories, preimage);
        write_parties(&self.observers, preimage);
        let mut maintainers = Preimage::default();
        if let Some(key) = &self.key {
            preimage.byte(1).raw(old_key_hash(&self.template, key).as_bytes());
            maintainers.byte(1).texts(key.maintainers.iter());
        } else {
            preimage.byte(0);
            maintainers.byte(0);
        }
        preimage.bytes(maintainers.as_bytes());
    }
}

/// Keys of contracts: with the package's name since Daml-LF 1.17, with its id before.
fn old_key_hash(template: &TypeId, key: &OldKey) -> KeyHash {
    let mut preimage = Preimage::default();
    if let Some(name) = &key.package_name {
        preimage.raw(&[1, 2]).text(&format!("#{name}"));
        write_name(&template.name, &mut preimage);
        write_upgrade_friendly(&key.key, &mut preimage);
    } else {
        preimage.raw(&[0, 2]).text(template.package.as_str());
        write_name(&template.name, &mut preimage);
        write_legacy(&key.key, &mut preimage);
    }
    KeyHash::from_bytes(preimage.sha256())
}

#[derive(Default)]
struct OldParts {
    contract_id: Option<ContractId>,
    version: String,
    template: Option<TypeId>,
    package_name: Option<PackageName>,
    create_arg: Option<Value>,
    signatories: BTreeSet<Party>,
    observers: BTreeSet<Party>,
    created_at: i64,
    salt: Option<Salt>,
    key: Option<Value>,
    key_package: Option<PackageName>,
    maintainers: BTreeSet<Party>,
}

impl OldParts {
    fn read_instance(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => self.template = Some(read_template(field.bytes()?)?),
                2 => {
                    let (version, value) =
                        value1::decode_versioned(field.bytes()?).map_err(BlobError::Argument)?;
                    (self.version, self.create_arg) = (version, Some(value));
                }
                // The agreement text is in no hash.
                3 => _ = field.text()?,
                4 => self.package_name = read_package_name(&field)?,
                _ => return Err(field.unknown("ContractInstance").into()),
            }
        }
        Ok(())
    }

    fn read_metadata(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => push_party(&mut self.signatories, &field)?,
                2 => push_party(&mut self.observers, &field)?,
                3 => self.read_global_key(field.bytes()?)?,
                4 => push_party(&mut self.maintainers, &field)?,
                _ => return Err(field.unknown("SerializableContract.Metadata").into()),
            }
        }
        Ok(())
    }

    fn read_global_key(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => drop(read_template(field.bytes()?)?),
                2 => {
                    let (_, key) =
                        value1::decode_versioned(field.bytes()?).map_err(BlobError::Key)?;
                    self.key = Some(key);
                }
                3 => self.key_package = read_package_name(&field)?,
                _ => return Err(field.unknown("GlobalKey").into()),
            }
        }
        Ok(())
    }

    fn read_key_with_maintainers(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => {
                    self.key = Some(value1::decode(field.bytes()?).map_err(BlobError::Key)?);
                }
                2 => push_party(&mut self.maintainers, &field)?,
                _ => return Err(field.unknown("KeyWithMaintainers").into()),
            }
        }
        Ok(())
    }

    fn into_contract(self) -> Result<OldContract, BlobError> {
        let missing = |field| ProtoError::Missing { message: "a contract", field };
        let mut signatories = self.signatories;
        signatories.extend(self.maintainers.iter().cloned());
        if signatories.is_empty() {
            return Err(BlobError::NoSignatory);
        }
        if let Some(party) = signatories.intersection(&self.observers).next() {
            return Err(BlobError::Twice { party: party.clone() });
        }
        // A blob names the package once; a snapshot once more in its key.
        let key_package = self.key_package.or_else(|| self.package_name.clone());
        let (maintainers, package_name) = (self.maintainers, key_package);
        let key = self.key.map(|key| OldKey { key, maintainers, package_name });
        if key.as_ref().is_some_and(|key| key.maintainers.is_empty()) {
            return Err(BlobError::NoMaintainer);
        }
        Ok(OldContract {
            contract_id: self.contract_id.ok_or_else(|| missing("contract_id"))?,
            version: self.version,
            template: self.template.ok_or_else(|| missing("template_id"))?,
            package_name: self.package_name,
            create_arg: self.create_arg.ok_or_else(|| missing("argument"))?,
            signatories,
            observers: self.observers,
            created_at: CreatedAt::from_micros(self.created_at).ok_or(BlobError::CreatedNow)?,
            salt: self.salt,
            key,
        })
    }
}

fn check_size(bytes: &[u8]) -> Result<(), BlobError> {
    let (bytes, limit) = (bytes.len(), CONTRACT_BYTES_MAX);
    if bytes > limit { Err(BlobError::TooLarge { bytes, limit }) } else { Ok(()) }
}

fn read_package_name(field: &Field<'_>) -> Result<Option<PackageName>, BlobError> {
    match field.text()? {
        "" => Ok(None),
        text => Ok(Some(text.parse()?)),
    }
}

/// A protobuf `Timestamp`, as microseconds.
pub(crate) fn read_timestamp(bytes: &[u8]) -> Result<i64, BlobError> {
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => seconds = field.int64()?,
            2 => nanos = field.int32()?,
            _ => return Err(field.unknown("Timestamp").into()),
        }
    }
    let micros = seconds.checked_mul(1_000_000);
    micros.and_then(|m| m.checked_add(i64::from(nanos / 1_000))).ok_or(BlobError::CreatedNow)
}

/// The algorithm has another number than in the third version, and there is only one.
fn read_salt(bytes: &[u8]) -> Result<Salt, BlobError> {
    read_any_salt(bytes).map(|(_, salt)| salt)
}

fn read_driver_metadata(bytes: &[u8]) -> Result<Option<Salt>, BlobError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (_, data) = read_versioned(bytes)?;
    let mut salt = None;
    for field in Reader::new(data) {
        let field = field?;
        match field.number() {
            1 => salt = Some(read_salt(field.bytes()?)?),
            _ => return Err(field.unknown("DriverContractMetadata").into()),
        }
    }
    Ok(salt)
}

fn push_party(parties: &mut BTreeSet<Party>, field: &Field<'_>) -> Result<(), BlobError> {
    if parties.len() >= STAKEHOLDERS_MAX {
        let what = "parties of a contract";
        return Err(ProtoError::TooMany { what, limit: STAKEHOLDERS_MAX }.into());
    }
    parties.insert(field.text()?.parse()?);
    Ok(())
}
