//! Values of the second major version (`value.proto` of Daml-LF 1).
//!
//! They are only read. Labels and type names, which no hash of that version has, are dropped; a
//! record keeps all its fields.

use heirloom_model::limit::{VALUE_NESTING_MAX, VALUE_NODES_MAX};

use crate::contract_id::ContractId;
use crate::proto::{Field, ProtoError, Reader};
use crate::types::is_identifier;
use crate::value::Value;
use crate::value::codec::{ValueError, date, timestamp};

/// Reads a value of Daml-LF 1.
pub fn decode(bytes: &[u8]) -> Result<Value, ValueError> {
    Decoder { nodes: 0 }.value(bytes, 0)
}

/// Reads a value with the version of its transaction in front.
pub fn decode_versioned(bytes: &[u8]) -> Result<(String, Value), ValueError> {
    let (mut version, mut value): (&str, &[u8]) = ("", &[]);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => version = field.text()?,
            2 => value = field.bytes()?,
            _ => return Err(field.unknown("VersionedValue").into()),
        }
    }
    Ok((version.to_owned(), decode(value)?))
}

struct Decoder {
    nodes: usize,
}

/// The parts of a message that has at most a name and a value.
struct Named<'a> {
    name: &'a str,
    value: Option<Value>,
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
        let value = self.content(&field?, depth + 1)?;
        match fields.count() {
            0 => Ok(value),
            more => Err(ValueError::Contents { members: 1 + more }),
        }
    }

    fn content(&mut self, field: &Field<'_>, depth: usize) -> Result<Value, ValueError> {
        Ok(match field.number() {
            1 => Value::Record(self.record(field, depth)?),
            2 => {
                let named = self.named(field, "Variant", (2, 3), depth)?;
                let constructor = constructor(named.name)?;
                Value::Variant { constructor, value: Box::new(present(named.value, "Variant")?) }
            }
            4 => Value::List(self.list(field, depth)?),
            5 => Value::Int64(field.sint64()?),
            6 => Value::Numeric(field.text()?.parse()?),
            8 => Value::Text(text(field)?),
            9 => Value::Timestamp(timestamp(field.sfixed64()?)?),
            10 => Value::Party(field.text()?.parse()?),
            11 => Value::Bool(field.boolean()?),
            12 => field.bytes().map(|_| Value::Unit)?,
            13 => Value::Date(date(field.int32()?)?),
            14 => {
                let named = self.named(field, "Optional", (0, 1), depth)?;
                Value::Optional(named.value.map(Box::new))
            }
            15 => Value::ContractId(contract_id(field)?),
            16 => Value::TextMap(self.text_map(field, depth)?),
            17 => {
                let named = self.named(field, "Enum", (2, 0), depth)?;
                Value::Enum(constructor(named.name)?)
            }
            18 => Value::GenMap(self.gen_map(field, depth)?),
            _ => return Err(field.unknown("Value").into()),
        })
    }

    /// Reads a message with a name and a value under these numbers. Field 1 is the id of a type
    /// where it is neither.
    fn named<'a>(
        &mut self,
        field: &Field<'a>,
        message: &'static str,
        (name_field, value_field): (u32, u32),
        depth: usize,
    ) -> Result<Named<'a>, ValueError> {
        let mut named = Named { name: "", value: None };
        for part in Reader::new(field.bytes()?) {
            let part = part?;
            match part.number() {
                number if number == name_field => named.name = part.text()?,
                number if number == value_field => {
                    named.value = Some(self.value(part.bytes()?, depth)?);
                }
                1 => _ = part.bytes()?,
                _ => return Err(part.unknown(message).into()),
            }
        }
        Ok(named)
    }

    fn record(&mut self, field: &Field<'_>, depth: usize) -> Result<Vec<Value>, ValueError> {
        let mut values = Vec::new();
        for part in Reader::new(field.bytes()?) {
            let part = part?;
            match part.number() {
                1 => _ = part.bytes()?,
                2 => {
                    let named = self.named(&part, "RecordField", (1, 2), depth)?;
                    values.push(present(named.value, "RecordField")?);
                }
                _ => return Err(part.unknown("Record").into()),
            }
        }
        Ok(values)
    }

    fn list(&mut self, field: &Field<'_>, depth: usize) -> Result<Vec<Value>, ValueError> {
        let mut values = Vec::new();
        for part in Reader::new(field.bytes()?) {
            let part = part?;
            match part.number() {
                1 => values.push(self.value(part.bytes()?, depth)?),
                _ => return Err(part.unknown("List").into()),
            }
        }
        Ok(values)
    }

    fn text_map(
        &mut self,
        field: &Field<'_>,
        depth: usize,
    ) -> Result<Vec<(String, Value)>, ValueError> {
        let mut entries = Vec::new();
        for part in Reader::new(field.bytes()?) {
            let part = part?;
            if part.number() != 1 {
                return Err(part.unknown("Map").into());
            }
            let named = self.named(&part, "Map.Entry", (1, 2), depth)?;
            entries.push((named.name.to_owned(), present(named.value, "Map.Entry")?));
        }
        Ok(entries)
    }

    fn gen_map(
        &mut self,
        field: &Field<'_>,
        depth: usize,
    ) -> Result<Vec<(Value, Value)>, ValueError> {
        let mut entries = Vec::new();
        for part in Reader::new(field.bytes()?) {
            let part = part?;
            if part.number() != 1 {
                return Err(part.unknown("GenMap").into());
            }
            let (mut key, mut value) = (None, None);
            for side in Reader::new(part.bytes()?) {
                let side = side?;
                match side.number() {
                    1 => key = Some(self.value(side.bytes()?, depth)?),
                    2 => value = Some(self.value(side.bytes()?, depth)?),
                    _ => return Err(side.unknown("GenMap.Entry").into()),
                }
            }
            entries.push((present(key, "GenMap.Entry")?, present(value, "GenMap.Entry")?));
        }
        Ok(entries)
    }
}

fn present(value: Option<Value>, message: &'static str) -> Result<Value, ValueError> {
    value.ok_or_else(|| ProtoError::Missing { message, field: "value" }.into())
}

fn contract_id(field: &Field<'_>) -> Result<ContractId, ValueError> {
    let mut id = "";
    for part in Reader::new(field.bytes()?) {
        let part = part?;
        match part.number() {
            1 => id = part.text()?,
            _ => return Err(part.unknown("ContractId").into()),
        }
    }
    Ok(id.parse()?)
}

fn text(field: &Field<'_>) -> Result<String, ValueError> {
    let text = field.text()?;
    if text.contains('\0') { Err(ValueError::Nul) } else { Ok(text.to_owned()) }
}

fn constructor(name: &str) -> Result<String, ValueError> {
    let found = || name.chars().take(80).collect();
    if is_identifier(name) {
        Ok(name.to_owned())
    } else {
        Err(ValueError::Constructor { found: found() })
    }
}
