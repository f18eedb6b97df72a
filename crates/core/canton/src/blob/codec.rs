//! Reads and writes `FatContractInstance`.

use std::collections::BTreeSet;

use heirloom_model::limit::{CONTRACT_BYTES_MAX, STAKEHOLDERS_MAX};

use crate::blob::{BlobError, CreatedAt, FatContract, KeyWithMaintainers, SerializationVersion};
use crate::contract_id::ContractId;
use crate::key_hash::KeyHash;
use crate::name::Party;
use crate::proto::{Field, ProtoError, Reader, Writer, push, read_versioned, versioned};
use crate::types::{DottedName, TypeId, TypeName};
use crate::unicum::Salt;
use crate::value::Value;

/// The version around authentication data.
const AUTHENTICATION_VERSION: u32 = 30;
/// HMAC with SHA-256, the only one there is.
const SALT_HMAC_SHA256: i32 = 1;
/// The number of the key's field, far from the others: it came later.
const KEY_FIELD: u32 = 1001;

pub(super) fn decode(bytes: &[u8]) -> Result<FatContract, BlobError> {
    let limit = CONTRACT_BYTES_MAX;
    if bytes.len() > limit {
        return Err(BlobError::TooLarge { bytes: bytes.len(), limit });
    }
    let (mut version, mut payload): (&str, &[u8]) = ("", &[]);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => version = field.text()?,
            2 => payload = field.bytes()?,
            _ => return Err(field.unknown("Versioned").into()),
        }
    }
    let version = match version {
        "2.1" => SerializationVersion::V1,
        "2" => SerializationVersion::V2,
        found => return Err(BlobError::Version { found: found.chars().take(80).collect() }),
    };
    let contract = Parts::read(payload)?.into_contract(version)?;
    if contract.encode() == bytes { Ok(contract) } else { Err(BlobError::NotCanonical) }
}

/// The fields as they stand.
#[derive(Default)]
struct Parts<'a> {
    contract_id: &'a [u8],
    package_name: &'a str,
    template: Option<&'a [u8]>,
    create_arg: &'a [u8],
    non_maintainer_signatories: Vec<Party>,
    non_signatory_stakeholders: Vec<Party>,
    created_at: i64,
    authentication: &'a [u8],
    key: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, BlobError> {
        let mut parts = Self::default();
        for field in Reader::new(payload) {
            let field = field?;
            match field.number() {
                1 => parts.contract_id = field.bytes()?,
                2 => parts.package_name = field.text()?,
                3 => parts.template = Some(field.bytes()?),
                4 => parts.create_arg = field.bytes()?,
                5 => push_party(&mut parts.non_maintainer_signatories, &field)?,
                6 => push_party(&mut parts.non_signatory_stakeholders, &field)?,
                7 => parts.created_at = field.sfixed64()?,
                8 => parts.authentication = field.bytes()?,
                KEY_FIELD => parts.key = Some(field.bytes()?),
                _ => return Err(field.unknown("FatContractInstance").into()),
            }
        }
        Ok(parts)
    }

    fn into_contract(self, version: SerializationVersion) -> Result<FatContract, BlobError> {
        let missing = |field| ProtoError::Missing { message: "FatContractInstance", field };
        let key = self.key.map(read_key).transpose()?;
        check_key(version, key.as_ref())?;
        let mut signatories = strictly(self.non_maintainer_signatories, "signatories")?;
        let observers = strictly(self.non_signatory_stakeholders, "observers")?;
        for maintainer in key.iter().flat_map(|key| &key.maintainers) {
            if !signatories.insert(maintainer.clone()) {
                return Err(BlobError::Twice { party: maintainer.clone() });
            }
        }
        if signatories.is_empty() {
            return Err(BlobError::NoSignatory);
        }
        if let Some(party) = signatories.intersection(&observers).next() {
            return Err(BlobError::Twice { party: party.clone() });
        }
        Ok(FatContract {
            version,
            contract_id: ContractId::from_bytes(self.contract_id)?,
            package_name: self.package_name.parse()?,
            template: read_template(self.template.ok_or_else(|| missing("template_id"))?)?,
            create_arg: Value::decode(self.create_arg).map_err(BlobError::Argument)?,
            signatories,
            observers,
            created_at: CreatedAt::from_micros(self.created_at).ok_or(BlobError::CreatedNow)?,
            salt: read_authentication(self.authentication)?,
            key,
        })
    }
}

pub(super) fn encode(contract: &FatContract) -> Vec<u8> {
    let mut payload = Writer::default();
    payload
        .bytes(1, contract.contract_id.as_bytes())
        .text(2, contract.package_name.as_str())
        .message(3, |w| write_template(&contract.template, w))
        .bytes(4, &contract.create_arg.encode());
    let maintains =
        |party: &Party| contract.key.as_ref().is_some_and(|key| key.maintainers.contains(party));
    for party in contract.signatories.iter().filter(|party| !maintains(party)) {
        payload.text(5, party.as_str());
    }
    for party in &contract.observers {
        payload.text(6, party.as_str());
    }
    if contract.created_at.micros() != 0 {
        payload.sfixed64(7, contract.created_at.micros());
    }
    payload.bytes(8, &write_authentication(&contract.salt));
    if let Some(key) = &contract.key {
        payload.message(KEY_FIELD, |w| write_key(key, w));
    }
    let mut blob = Writer::default();
    blob.text(1, contract.version.as_str()).bytes(2, &payload.finish());
    blob.finish()
}

/// Reads an `Identifier` whose names are lists of segments.
pub(crate) fn read_template(bytes: &[u8]) -> Result<TypeId, BlobError> {
    let (mut package, mut module, mut entity) = ("", Vec::new(), Vec::new());
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => package = field.text()?,
            2 => module.push(field.text()?),
            3 => entity.push(field.text()?),
            _ => return Err(field.unknown("Identifier").into()),
        }
    }
    let name = TypeName {
        module: DottedName::from_segments(module)?,
        entity: DottedName::from_segments(entity)?,
    };
    Ok(TypeId { package: package.parse()?, name })
}

fn write_template(template: &TypeId, w: &mut Writer) {
    w.text(1, template.package.as_str());
    for segment in template.name.module.segments() {
        w.text(2, segment);
    }
    for segment in template.name.entity.segments() {
        w.text(3, segment);
    }
}

fn read_key(bytes: &[u8]) -> Result<KeyWithMaintainers, BlobError> {
    let (mut key, mut maintainers, mut hash): (&[u8], _, &[u8]) = (&[], Vec::new(), &[]);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => key = field.bytes()?,
            2 => push_party(&mut maintainers, &field)?,
            3 => hash = field.bytes()?,
            _ => return Err(field.unknown("KeyWithMaintainers").into()),
        }
    }
    if maintainers.is_empty() {
        return Err(BlobError::NoMaintainer);
    }
    let hash = match hash {
        [] => None,
        bytes => {
            let error = BlobError::KeyHashLength { bytes: bytes.len() };
            Some(KeyHash::from_bytes(bytes.try_into().map_err(|_| error)?))
        }
    };
    Ok(KeyWithMaintainers {
        key: Value::decode(key).map_err(BlobError::Key)?,
        maintainers: strictly(maintainers, "maintainers")?,
        hash,
    })
}

fn write_key(key: &KeyWithMaintainers, w: &mut Writer) {
    w.bytes(1, &key.key.encode());
    for maintainer in &key.maintainers {
        w.text(2, maintainer.as_str());
    }
    if let Some(hash) = &key.hash {
        w.bytes(3, hash.as_bytes());
    }
}

/// The newer form is written exactly if there is a key, and it always has the key's hash.
fn check_key(
    version: SerializationVersion,
    key: Option<&KeyWithMaintainers>,
) -> Result<(), BlobError> {
    let problem = match (version, key.map(|key| key.hash.is_some())) {
        (SerializationVersion::V1, None) | (SerializationVersion::V2, Some(true)) => return Ok(()),
        (SerializationVersion::V1, Some(_)) => "has no key",
        (SerializationVersion::V2, Some(false)) => "has the hash of its key",
        (SerializationVersion::V2, None) => "has a key",
    };
    Err(BlobError::KeyAndVersion { version: version.as_str(), problem })
}

fn read_authentication(bytes: &[u8]) -> Result<Salt, BlobError> {
    let (found, data) = read_versioned(bytes)?;
    if found != AUTHENTICATION_VERSION {
        return Err(BlobError::AuthenticationVersion { found });
    }
    let missing = ProtoError::Missing { message: "ContractAuthenticationData", field: "salt" };
    let mut salt = None;
    for field in Reader::new(data) {
        let field = field?;
        match field.number() {
            1 => salt = Some(read_salt(field.bytes()?)?),
            _ => return Err(field.unknown("ContractAuthenticationData").into()),
        }
    }
    salt.ok_or(missing.into())
}

/// Reads a salt that says how it was made.
pub(crate) fn read_salt(bytes: &[u8]) -> Result<Salt, BlobError> {
    let (algorithm, salt) = read_any_salt(bytes)?;
    if algorithm != SALT_HMAC_SHA256 {
        return Err(BlobError::Salt { algorithm, bytes: salt.as_bytes().len() });
    }
    Ok(salt)
}

/// Reads a salt, and the number of the algorithm that made it.
pub(crate) fn read_any_salt(bytes: &[u8]) -> Result<(i32, Salt), BlobError> {
    let (mut algorithm, mut salt): (i32, &[u8]) = (0, &[]);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => algorithm = field.int32()?,
            2 => salt = field.bytes()?,
            _ => return Err(field.unknown("Salt").into()),
        }
    }
    let error = BlobError::Salt { algorithm, bytes: salt.len() };
    salt.try_into().map(|salt| (algorithm, Salt::from_bytes(salt))).map_err(|_| error)
}

/// The same, written.
pub(crate) fn write_salt(salt: &Salt, w: &mut Writer) {
    w.int32(1, SALT_HMAC_SHA256).bytes(2, salt.as_bytes());
}

fn write_authentication(salt: &Salt) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.message(1, |w| write_salt(salt, w));
    versioned(AUTHENTICATION_VERSION, &writer.finish())
}

fn push_party(parties: &mut Vec<Party>, field: &Field<'_>) -> Result<(), BlobError> {
    push(parties, field.text()?.parse()?, "parties of a contract", STAKEHOLDERS_MAX)?;
    Ok(())
}

fn strictly(parties: Vec<Party>, list: &'static str) -> Result<BTreeSet<Party>, BlobError> {
    let sorted = parties.windows(2).all(|pair| matches!(pair, [l, r] if l < r));
    if sorted { Ok(parties.into_iter().collect()) } else { Err(BlobError::Unsorted { list }) }
}
