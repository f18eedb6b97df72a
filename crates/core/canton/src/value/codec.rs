//! Reads and writes values (`value.proto` of the third major version).

use std::cmp::Ordering;

use heirloom_model::limit::{VALUE_NESTING_MAX, VALUE_NODES_MAX};

use crate::contract_id::{ContractId, ContractIdError};
use crate::name::NotAParty;
use crate::proto::{Field, ProtoError, Reader, Writer};
use crate::types::is_identifier;
use crate::value::numeric::NotANumeric;
use crate::value::order::compare;
use crate::value::{DATE_DAYS, TIMESTAMP_MICROS, Value};

/// Why bytes are not a value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// The message is none.
    #[error(transparent)]
    Proto(#[from] ProtoError),
    /// A party is none.
    #[error(transparent)]
    Party(#[from] NotAParty),
    /// A contract id is none.
    #[error(transparent)]
    ContractId(#[from] ContractIdError),
    /// A number is none.
    #[error(transparent)]
    Numeric(#[from] NotANumeric),
    /// A text has a NUL character, which ledgers refuse.
    #[error("a text has a NUL character")]
    Nul,
    /// A date or a time is of no year between 1 and 9999.
    #[error("{found} is no date or time of the years 1 to 9999")]
    Time {
        /// The days or microseconds.
        found: i64,
    },
    /// A constructor is no identifier.
    #[error("{found:?} is no constructor")]
    Constructor {
        /// What was found.
        found: String,
    },
    /// A sum has no member, or more than one.
    #[error("a value has {members} contents instead of one")]
    Contents {
        /// How many it has.
        members: usize,
    },
    /// Keys of a text map or of a map are not in order, or twice the same.
    #[error("keys of a map are not in strict order")]
    Unsorted,
    /// Deeper than the engine takes.
    #[error("a value has more than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// More nodes than a contract can have.
    #[error("a value has more than {limit} parts")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It would have other bytes when it is written again.
    #[error("the bytes are not the canonical ones of their value")]
    NotCanonical,
}

impl Value {
    /// Reads a value. The bytes must be the ones that [`Self::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        let value = Decoder { nodes: 0 }.value(bytes, 0)?;
        if value.encode() == bytes { Ok(value) } else { Err(ValueError::NotCanonical) }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        write(self, &mut writer);
        writer.finish()
    }
}

/// Counts what it reads, so that no value is larger than a contract.
struct Decoder {
    nodes: usize,
}

impl Decoder {
    fn value(&mut self, bytes: &[u8], depth: usize) -> Result<Value, ValueError> {
        if depth > VALUE_NESTING_MAX {
            return Err(ValueError::TooDeep { limit: VALUE_NESTING_MAX });
        }
        self.nodes += 1;
        if self.nodes > VALUE_NODES_MAX {
            return Err(ValueError::TooLarge { limit: VALUE_NODES_MAX });
        }
        let mut fields = Reader::new(bytes);
        let Some(field) = fields.next() else {
            return Err(ValueError::Contents { members: 0 });
        };
        let value = self.content(&field?, depth)?;
        match fields.count() {
            0 => Ok(value),
            more => Err(ValueError::Contents { members: 1 + more }),
        }
    }

    fn content(&mut self, field: &Field<'_>, depth: usize) -> Result<Value, ValueError> {
        Ok(match field.number() {
            1 => empty(field).map(|()| Value::Unit)?,
            2 => Value::Bool(field.boolean()?),
            3 => Value::Int64(field.sint64()?),
            4 => Value::Date(date(field.int32()?)?),
            5 => Value::Timestamp(timestamp(field.sfixed64()?)?),
            6 => Value::Numeric(field.text()?.parse()?),
            7 => Value::Party(field.text()?.parse()?),
            8 => Value::Text(text(field)?),
            9 => Value::ContractId(ContractId::from_bytes(field.bytes()?)?),
            10 => Value::Optional(self.optional(field, depth)?),
            11 => Value::List(self.elements(field, "List", depth)?),
            12 => Value::GenMap(self.gen_map(field, depth)?),
            13 => Value::Record(self.record(field, depth)?),
            14 => self.variant(field, depth)?,
            15 => Value::Enum(enumeration(field)?),
            16 => Value::TextMap(self.text_map(field, depth)?),
            _ => return Err(field.unknown("Value").into()),
        })
    }

    fn optional(
        &mut self,
        field: &Field<'_>,
        depth: usize,
    ) -> Result<Option<Box<Value>>, ValueError> {
        let mut inner = None;
        for member in Reader::new(field.bytes()?) {
            let member = member?;
            match member.number() {
                1 => inner = Some(Box::new(self.value(member.bytes()?, depth + 1)?)),
                _ => return Err(member.unknown("Optional").into()),
            }
        }
        Ok(inner)
    }

    fn elements(
        &mut self,
        field: &Field<'_>,
        message: &'static str,
        depth: usize,
    ) -> Result<Vec<Value>, ValueError> {
        let mut elements = Vec::new();
        for member in Reader::new(field.bytes()?) {
            let member = member?;
            match member.number() {
                1 => elements.push(self.value(member.bytes()?, depth + 1)?),
                _ => return Err(member.unknown(message).into()),
            }
        }
        Ok(elements)
    }

    fn record(&mut self, field: &Field<'_>, depth: usize) -> Result<Vec<Value>, ValueError> {
        let mut fields = Vec::new();
        for member in Reader::new(field.bytes()?) {
            let member = member?;
            match member.number() {
                1 => fields.push(self.only(&member, "RecordField", depth)?),
                _ => return Err(member.unknown("Record").into()),
            }
        }
        Ok(fields)
    }

    /// A message whose only field is a value.
    fn only(
        &mut self,
        field: &Field<'_>,
        message: &'static str,
        depth: usize,
    ) -> Result<Value, ValueError> {
        let mut values = self.elements(field, message, depth)?;
        match (values.pop(), values.len()) {
            (Some(value), 0) => Ok(value),
            (_, more) => Err(ValueError::Contents { members: more }),
        }
    }

    fn variant(&mut self, field: &Field<'_>, depth: usize) -> Result<Value, ValueError> {
        let (mut name, mut argument) = ("", None);
        for member in Reader::new(field.bytes()?) {
            let member = member?;
            match member.number() {
                1 => name = member.text()?,
                2 => argument = Some(self.value(member.bytes()?, depth + 1)?),
                _ => return Err(member.unknown("Variant").into()),
            }
        }
        let value = argument.ok_or(ProtoError::Missing { message: "Variant", field: "value" })?;
        Ok(Value::Variant { constructor: constructor(name)?, value: Box::new(value) })
    }

    fn gen_map(
        &mut self,
        field: &Field<'_>,
        depth: usize,
    ) -> Result<Vec<(Value, Value)>, ValueError> {
        let mut entries: Vec<(Value, Value)> = Vec::new();
        for member in Reader::new(field.bytes()?) {
            let member = member?;
            if member.number() != 1 {
                return Err(member.unknown("GenMap").into());
            }
            let (mut key, mut value) = (None, None);
            for part in Reader::new(member.bytes()?) {
                let part = part?;
                match part.number() {
                    1 => key = Some(self.value(part.bytes()?, depth + 1)?),
                    2 => value = Some(self.value(part.bytes()?, depth + 1)?),
                    _ => return Err(part.unknown("GenMap.Entry").into()),
                }
            }
            let missing = |field| ProtoError::Missing { message: "GenMap.Entry", field };
            let key = key.ok_or_else(|| missing("key"))?;
            if let Some((last, _)) = entries.last()
                && !matches!(compare(last, &key), None | Some(Ordering::Less))
            {
                return Err(ValueError::Unsorted);
            }
            entries.push((key, value.ok_or_else(|| missing("value"))?));
        }
        Ok(entries)
    }

    fn text_map(
        &mut self,
        field: &Field<'_>,
        depth: usize,
    ) -> Result<Vec<(String, Value)>, ValueError> {
        let mut entries: Vec<(String, Value)> = Vec::new();
        for member in Reader::new(field.bytes()?) {
            let member = member?;
            if member.number() != 1 {
                return Err(member.unknown("TextMap").into());
            }
            let (mut key, mut value) = (String::new(), None);
            for part in Reader::new(member.bytes()?) {
                let part = part?;
                match part.number() {
                    1 => key = text(&part)?,
                    2 => value = Some(self.value(part.bytes()?, depth + 1)?),
                    _ => return Err(part.unknown("TextMap.Entry").into()),
                }
            }
            if entries.last().is_some_and(|(last, _)| *last >= key) {
                return Err(ValueError::Unsorted);
            }
            let value =
                value.ok_or(ProtoError::Missing { message: "TextMap.Entry", field: "value" })?;
            entries.push((key, value));
        }
        Ok(entries)
    }
}

fn empty(field: &Field<'_>) -> Result<(), ValueError> {
    match Reader::new(field.bytes()?).next() {
        None => Ok(()),
        Some(inside) => Err(inside?.unknown("Empty").into()),
    }
}

fn text(field: &Field<'_>) -> Result<String, ValueError> {
    let text = field.text()?;
    if text.contains('\0') { Err(ValueError::Nul) } else { Ok(text.to_owned()) }
}

fn enumeration(field: &Field<'_>) -> Result<String, ValueError> {
    let mut name = "";
    for member in Reader::new(field.bytes()?) {
        let member = member?;
        match member.number() {
            1 => name = member.text()?,
            _ => return Err(member.unknown("Enum").into()),
        }
    }
    constructor(name)
}

pub(crate) fn date(days: i32) -> Result<i32, ValueError> {
    let found = i64::from(days);
    if DATE_DAYS.contains(&days) { Ok(days) } else { Err(ValueError::Time { found }) }
}

pub(crate) fn timestamp(found: i64) -> Result<i64, ValueError> {
    if TIMESTAMP_MICROS.contains(&found) { Ok(found) } else { Err(ValueError::Time { found }) }
}

fn constructor(name: &str) -> Result<String, ValueError> {
    if is_identifier(name) {
        Ok(name.to_owned())
    } else {
        Err(ValueError::Constructor { found: name.chars().take(80).collect() })
    }
}

fn write(value: &Value, w: &mut Writer) {
    match value {
        Value::Unit => _ = w.bytes(1, &[]),
        Value::Bool(value) => _ = w.varint(2, u64::from(*value)),
        Value::Int64(number) => _ = w.sint64(3, *number),
        Value::Date(days) => _ = w.int32(4, *days),
        Value::Timestamp(micros) => _ = w.sfixed64(5, *micros),
        Value::Numeric(number) => _ = w.text(6, &number.to_string()),
        Value::Party(party) => _ = w.text(7, party.as_str()),
        Value::Text(text) => _ = w.text(8, text),
        Value::ContractId(id) => _ = w.bytes(9, id.as_bytes()),
        Value::Optional(None) => _ = w.bytes(10, &[]),
        Value::Optional(Some(inner)) => {
            w.message(10, |w| _ = w.message(1, |w| write(inner, w)));
        }
        Value::List(elements) => _ = w.message(11, |w| each(elements, w)),
        Value::GenMap(entries) => {
            w.message(12, |w| {
                for (key, value) in entries {
                    w.message(1, |w| {
                        w.message(1, |w| write(key, w)).message(2, |w| write(value, w));
                    });
                }
            });
        }
        Value::Record(fields) => {
            w.message(13, |w| {
                for field in fields {
                    w.message(1, |w| _ = w.message(1, |w| write(field, w)));
                }
            });
        }
        Value::Variant { constructor, value } => {
            w.message(14, |w| _ = w.text(1, constructor).message(2, |w| write(value, w)));
        }
        Value::Enum(constructor) => _ = w.message(15, |w| _ = w.text(1, constructor)),
        Value::TextMap(entries) => {
            w.message(16, |w| {
                for (key, value) in entries {
                    w.message(1, |w| _ = w.text_if_set(1, key).message(2, |w| write(value, w)));
                }
            });
        }
    }
}

fn each(elements: &[Value], w: &mut Writer) {
    for element in elements {
        w.message(1, |w| write(element, w));
    }
}
