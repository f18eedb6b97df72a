//! The readable half of a snapshot's entry: a `CreatedEvent` of the Ledger API.
//!
//! Import reads the blob inside it and nothing else, but people read the rest. A rewrite therefore
//! changes what it understands of it, and carries every other field as it is:
//!
//! * rewritten: contract id, key, key hash, arguments, blob, interface views, witnesses,
//!   signatories, observers;
//! * carried: offset, node, template, time, package names, and whatever this release does not know.

pub mod value;

use std::collections::BTreeSet;

use crate::blob::FatContract;
use crate::ledger_event::value::{rewrite_record, rewrite_value, write_value};
use crate::name::{NotAParty, Party};
use crate::proto::{Field, ProtoError, Reader, Writer};
use crate::types::TypeId;
use crate::value::Value;
use crate::value::walk::{KeyCollision, Mapping, Path};

/// Why a readable event is not rewritten.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EventError {
    /// The message is none.
    #[error("the readable event: {0}")]
    Proto(#[from] ProtoError),
    /// A party is none.
    #[error("the readable event: {0}")]
    Party(#[from] NotAParty),
    /// Keys of a map collide.
    #[error("the readable event: {0}")]
    Collision(#[from] KeyCollision),
    /// Deeper than values may be.
    #[error("the readable event has more than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
}

/// What a readable event says that its contract does not say.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Disagreement {
    /// The id.
    ContractId,
    /// The time of creation.
    CreatedAt,
    /// Who sees it.
    Observers,
    /// The name of the package.
    PackageName,
    /// Who signed it.
    Signatories,
    /// The template.
    Template,
}

/// What a reader needs of an event.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needed<'a> {
    pub(crate) blob: &'a [u8],
    pub(crate) representative_package: &'a str,
}

pub(crate) fn needed(event: &[u8]) -> Result<Needed<'_>, ProtoError> {
    let mut needed = Needed::default();
    for field in Reader::new(event) {
        let field = field?;
        match field.number() {
            7 => needed.blob = field.bytes()?,
            15 => needed.representative_package = field.text()?,
            _ => {}
        }
    }
    Ok(needed)
}

/// The same event for the contract that it became.
pub fn rewrite(
    event: &[u8],
    contract: &FatContract,
    mapping: &dyn Mapping,
) -> Result<Vec<u8>, EventError> {
    let mut writer = Writer::default();
    let mut parties = Parties::default();
    for field in Reader::new(event) {
        let field = field?;
        match field.number() {
            3 => _ = writer.text(3, &contract.contract_id.to_string()),
            5 => _ = writer.bytes(5, &rewrite_value(field.bytes()?, mapping)?),
            6 => _ = writer.bytes(6, &rewrite_record(field.bytes()?, mapping)?),
            7 => _ = writer.bytes(7, &contract.encode()),
            8 => _ = writer.bytes(8, &rewrite_view(field.bytes()?, mapping)?),
            16 => match contract.key.as_ref().and_then(|key| key.hash) {
                Some(hash) => _ = writer.bytes(16, hash.as_bytes()),
                None => _ = writer.copy(field.raw()),
            },
            9..=11 => parties.add(&field, event, mapping, &mut writer)?,
            _ => _ = writer.copy(field.raw()),
        }
    }
    Ok(writer.finish())
}

/// Lists of parties are rewritten as a whole where their first element stands.
#[derive(Default)]
struct Parties {
    written: [bool; 3],
}

impl Parties {
    fn add(
        &mut self,
        field: &Field<'_>,
        event: &[u8],
        mapping: &dyn Mapping,
        writer: &mut Writer,
    ) -> Result<(), EventError> {
        let number = field.number();
        let index = usize::try_from(number - 9).expect("three lists");
        let written = self.written.get_mut(index).expect("three lists");
        if !std::mem::replace(written, true) {
            for party in read_parties(event, number, Some(mapping))? {
                writer.text(number, party.as_str());
            }
        }
        Ok(())
    }
}

/// The parties of one list, mapped. A list that was sorted is sorted again.
fn read_parties(
    event: &[u8],
    number: u32,
    mapping: Option<&dyn Mapping>,
) -> Result<Vec<Party>, EventError> {
    let mut parties = Vec::new();
    for field in Reader::new(event) {
        let field = field?;
        if field.number() == number {
            parties.push(field.text()?.parse::<Party>()?);
        }
    }
    let Some(mapping) = mapping else { return Ok(parties) };
    let was_sorted = parties.is_sorted();
    for party in &mut parties {
        if let Some(new) = mapping.party(party) {
            *party = new;
        }
    }
    if was_sorted {
        parties.sort();
    }
    Ok(parties)
}

/// `InterfaceView`: its value is a record of the interface's view type.
fn rewrite_view(view: &[u8], mapping: &dyn Mapping) -> Result<Vec<u8>, EventError> {
    let mut writer = Writer::default();
    for field in Reader::new(view) {
        let field = field?;
        match field.number() {
            3 => _ = writer.bytes(3, &rewrite_record(field.bytes()?, mapping)?),
            _ => _ = writer.copy(field.raw()),
        }
    }
    Ok(writer.finish())
}

/// What the readable event says otherwise than its contract. A field that it lacks says nothing,
/// but a list that it lacks is empty.
pub fn disagreements(
    event: &[u8],
    contract: &FatContract,
) -> Result<Vec<Disagreement>, EventError> {
    let mut found = BTreeSet::new();
    let lists = [
        (10, &contract.signatories, Disagreement::Signatories),
        (11, &contract.observers, Disagreement::Observers),
    ];
    for (number, parties, what) in lists {
        if !parties.iter().eq(&sorted(read_parties(event, number, None)?)) {
            found.insert(what);
        }
    }
    for field in Reader::new(event) {
        let field = field?;
        let (agrees, what) = match field.number() {
            3 => (field.text()? == contract.contract_id.to_string(), Disagreement::ContractId),
            4 => {
                let template = read_identifier(field.bytes()?)?;
                (template == contract.template.to_string(), Disagreement::Template)
            }
            12 => {
                let time = read_time(field.bytes()?)?;
                (time == contract.created_at.seconds_and_nanos(), Disagreement::CreatedAt)
            }
            13 => (field.text()? == contract.package_name.as_str(), Disagreement::PackageName),
            _ => continue,
        };
        if !agrees {
            found.insert(what);
        }
    }
    Ok(found.into_iter().collect())
}

fn sorted(mut parties: Vec<Party>) -> Vec<Party> {
    parties.sort();
    parties
}

/// `Identifier` of the Ledger API, as text: its names have dots.
fn read_identifier(bytes: &[u8]) -> Result<String, ProtoError> {
    let (mut package, mut module, mut entity) = ("", "", "");
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => package = field.text()?,
            2 => module = field.text()?,
            3 => entity = field.text()?,
            _ => {}
        }
    }
    Ok(format!("{package}:{module}:{entity}"))
}

fn read_time(bytes: &[u8]) -> Result<(i64, i32), ProtoError> {
    let mut time = (0, 0);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => time.0 = field.int64()?,
            2 => time.1 = field.int32()?,
            _ => {}
        }
    }
    Ok(time)
}

/// A readable event of this contract, as a participant without labels writes it.
pub fn write(contract: &FatContract, witnesses: &[Party]) -> Vec<u8> {
    let mut event = Writer::default();
    let (seconds, nanos) = contract.created_at.seconds_and_nanos();
    event.text(3, &contract.contract_id.to_string());
    event.message(4, |w| write_identifier(&contract.template, w));
    if let Some(key) = &contract.key {
        event.message(5, |w| write_value(&key.key, w));
    }
    event.message(6, |w| {
        if let Value::Record(fields) = &contract.create_arg {
            value::write_fields(fields, w);
        }
    });
    event.bytes(7, &contract.encode());
    for party in witnesses {
        event.text(9, party.as_str());
    }
    for party in &contract.signatories {
        event.text(10, party.as_str());
    }
    for party in &contract.observers {
        event.text(11, party.as_str());
    }
    event.message(12, |w| {
        w.varint_if_set(1, seconds.cast_unsigned());
        w.varint_if_set(2, i64::from(nanos).cast_unsigned());
    });
    event.text(13, contract.package_name.as_str());
    event.text(15, contract.template.package.as_str());
    if let Some(hash) = contract.key.as_ref().and_then(|key| key.hash) {
        event.bytes(16, hash.as_bytes());
    }
    event.finish()
}

fn write_identifier(template: &TypeId, w: &mut Writer) {
    w.text(1, template.package.as_str())
        .text(2, &template.name.module.to_string())
        .text(3, &template.name.entity.to_string());
}

pub(crate) fn collision() -> KeyCollision {
    KeyCollision { path: Path::default() }
}
