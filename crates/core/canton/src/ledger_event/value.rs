//! Values of the Ledger API: the same values with labels and type names, in other fields.
//!
//! They are rewritten as messages, not as values, so that labels and unknown fields survive.

use std::cmp::Ordering;

use heirloom_model::limit::VALUE_NESTING_MAX;

use crate::contract_id::ContractId;
use crate::ledger_event::{EventError, collision};
use crate::name::Party;
use crate::proto::{Reader, Writer};
use crate::value::Value;
use crate::value::order::compare;
use crate::value::walk::Mapping;

/// A value with other parties and contract ids.
pub(super) fn rewrite_value(bytes: &[u8], mapping: &dyn Mapping) -> Result<Vec<u8>, EventError> {
    Rewriter { mapping }.value(bytes, 0)
}

/// A record with other parties and contract ids.
pub(super) fn rewrite_record(bytes: &[u8], mapping: &dyn Mapping) -> Result<Vec<u8>, EventError> {
    Rewriter { mapping }.parts(bytes, 0, &[(2, &[2])])
}

struct Rewriter<'a> {
    mapping: &'a dyn Mapping,
}

/// In which fields of a message stand messages, and in which of their fields stand values.
type Places<'a> = &'a [(u32, &'a [u32])];

impl Rewriter<'_> {
    fn value(&self, bytes: &[u8], depth: usize) -> Result<Vec<u8>, EventError> {
        if depth > VALUE_NESTING_MAX {
            return Err(EventError::TooDeep { limit: VALUE_NESTING_MAX });
        }
        let mut writer = Writer::default();
        for field in Reader::new(bytes) {
            let field = field?;
            let number = field.number();
            match number {
                7 => _ = writer.text(7, &self.party(field.text()?)),
                9 => _ = writer.text(9, &self.contract_id(field.text()?)),
                // Optional and list: values in field 1. Variant: in field 3.
                10 | 11 => _ = writer.bytes(number, &self.members(field.bytes()?, depth, &[1])?),
                15 => _ = writer.bytes(15, &self.members(field.bytes()?, depth, &[3])?),
                12 => _ = writer.bytes(12, &self.parts(field.bytes()?, depth, &[(1, &[2])])?),
                13 => _ = writer.bytes(13, &self.gen_map(field.bytes()?, depth)?),
                14 => _ = writer.bytes(14, &self.parts(field.bytes()?, depth, &[(2, &[2])])?),
                _ => _ = writer.copy(field.raw()),
            }
        }
        Ok(writer.finish())
    }

    /// A message with values in these fields.
    fn members(&self, bytes: &[u8], depth: usize, values: &[u32]) -> Result<Vec<u8>, EventError> {
        let mut writer = Writer::default();
        for field in Reader::new(bytes) {
            let field = field?;
            if values.contains(&field.number()) {
                writer.bytes(field.number(), &self.value(field.bytes()?, depth + 1)?);
            } else {
                writer.copy(field.raw());
            }
        }
        Ok(writer.finish())
    }

    fn parts(&self, bytes: &[u8], depth: usize, places: Places<'_>) -> Result<Vec<u8>, EventError> {
        let mut writer = Writer::default();
        for field in Reader::new(bytes) {
            let field = field?;
            match places.iter().find(|(number, _)| *number == field.number()) {
                Some((number, values)) => {
                    writer.bytes(*number, &self.members(field.bytes()?, depth, values)?);
                }
                None => _ = writer.copy(field.raw()),
            }
        }
        Ok(writer.finish())
    }

    /// Entries are sorted again, as in the contract. Where a key cannot be compared, they keep
    /// their order: this half is for people.
    fn gen_map(&self, bytes: &[u8], depth: usize) -> Result<Vec<u8>, EventError> {
        let mut others = Writer::default();
        let mut entries: Vec<(Option<Value>, Vec<u8>)> = Vec::new();
        for field in Reader::new(bytes) {
            let field = field?;
            if field.number() == 1 {
                let entry = self.members(field.bytes()?, depth, &[1, 2])?;
                entries.push((entry_key(&entry, depth)?, entry));
            } else {
                others.copy(field.raw());
            }
        }
        let sorted = sort_entries(entries)?;
        let mut writer = Writer::default();
        for entry in sorted {
            writer.bytes(1, &entry);
        }
        writer.copy(&others.finish());
        Ok(writer.finish())
    }

    fn party(&self, text: &str) -> String {
        let new = text.parse::<Party>().ok().and_then(|party| self.mapping.party(&party));
        new.map_or_else(|| text.to_owned(), |party| party.to_string())
    }

    fn contract_id(&self, text: &str) -> String {
        let new = text.parse::<ContractId>().ok().and_then(|id| self.mapping.contract_id(&id));
        new.map_or_else(|| text.to_owned(), |id| id.to_string())
    }
}

fn entry_key(entry: &[u8], depth: usize) -> Result<Option<Value>, EventError> {
    for field in Reader::new(entry) {
        let field = field?;
        if field.number() == 1 {
            return read(field.bytes()?, depth);
        }
    }
    Ok(None)
}

/// Insertion sort: an order that contradicts itself must not panic, and maps are small.
fn sort_entries(entries: Vec<(Option<Value>, Vec<u8>)>) -> Result<Vec<Vec<u8>>, EventError> {
    let mut sorted: Vec<(Option<Value>, Vec<u8>)> = Vec::with_capacity(entries.len());
    for (key, entry) in entries {
        let order = |other: &Option<Value>| compare(other.as_ref()?, key.as_ref()?);
        let mut at = sorted.len();
        while let Some((before, _)) = at.checked_sub(1).and_then(|index| sorted.get(index)) {
            match order(before) {
                Some(Ordering::Greater) => at -= 1,
                Some(Ordering::Equal) => return Err(collision().into()),
                Some(Ordering::Less) | None => break,
            }
        }
        sorted.insert(at, (key, entry));
    }
    Ok(sorted.into_iter().map(|(_, entry)| entry).collect())
}

/// Reads a value without its labels. None if it has a form that this release does not compare.
fn read(bytes: &[u8], depth: usize) -> Result<Option<Value>, EventError> {
    if depth > VALUE_NESTING_MAX {
        return Err(EventError::TooDeep { limit: VALUE_NESTING_MAX });
    }
    let Some(field) = Reader::new(bytes).next() else { return Ok(None) };
    let field = field?;
    Ok(match field.number() {
        1 => Some(Value::Unit),
        2 => Some(Value::Bool(field.boolean()?)),
        3 => Some(Value::Int64(field.sint64()?)),
        4 => Some(Value::Date(field.int32()?)),
        5 => Some(Value::Timestamp(field.sfixed64()?)),
        6 => field.text()?.parse().ok().map(Value::Numeric),
        7 => field.text()?.parse().ok().map(Value::Party),
        8 => Some(Value::Text(field.text()?.to_owned())),
        9 => field.text()?.parse().ok().map(Value::ContractId),
        10 => read_all(field.bytes()?, 1, depth)?
            .map(|mut values| Value::Optional(values.pop().map(Box::new))),
        11 => read_all(field.bytes()?, 1, depth)?.map(Value::List),
        14 => read_record(field.bytes()?, depth)?.map(Value::Record),
        15 => {
            let mut constructor = "";
            for part in Reader::new(field.bytes()?) {
                let part = part?;
                if part.number() == 2 {
                    constructor = part.text()?;
                }
            }
            let argument = read_all(field.bytes()?, 3, depth)?.and_then(|mut values| values.pop());
            let constructor = constructor.to_owned();
            argument.map(|value| Value::Variant { constructor, value: Box::new(value) })
        }
        16 => {
            let mut constructor = "";
            for part in Reader::new(field.bytes()?) {
                let part = part?;
                if part.number() == 2 {
                    constructor = part.text()?;
                }
            }
            Some(Value::Enum(constructor.to_owned()))
        }
        _ => None,
    })
}

fn read_all(bytes: &[u8], number: u32, depth: usize) -> Result<Option<Vec<Value>>, EventError> {
    let mut values = Vec::new();
    for field in Reader::new(bytes) {
        let field = field?;
        if field.number() == number {
            match read(field.bytes()?, depth + 1)? {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
    }
    Ok(Some(values))
}

fn read_record(bytes: &[u8], depth: usize) -> Result<Option<Vec<Value>>, EventError> {
    let mut fields = Vec::new();
    for field in Reader::new(bytes) {
        let field = field?;
        if field.number() == 2 {
            match read_all(field.bytes()?, 2, depth)?.and_then(|mut values| values.pop()) {
                Some(value) => fields.push(value),
                None => return Ok(None),
            }
        }
    }
    // As in a contract.
    while matches!(fields.last(), Some(Value::Optional(None))) {
        fields.pop();
    }
    Ok(Some(fields))
}

/// Writes a value without labels.
pub(super) fn write_value(value: &Value, w: &mut Writer) {
    match value {
        Value::Unit => _ = w.bytes(1, &[]),
        Value::Bool(value) => _ = w.varint(2, u64::from(*value)),
        Value::Int64(number) => _ = w.sint64(3, *number),
        Value::Date(days) => _ = w.int32(4, *days),
        Value::Timestamp(micros) => _ = w.sfixed64(5, *micros),
        Value::Numeric(number) => _ = w.text(6, &number.to_string()),
        Value::Party(party) => _ = w.text(7, party.as_str()),
        Value::Text(text) => _ = w.text(8, text),
        Value::ContractId(id) => _ = w.text(9, &id.to_string()),
        Value::Optional(inner) => {
            w.message(10, |w| {
                if let Some(inner) = inner {
                    w.message(1, |w| write_value(inner, w));
                }
            });
        }
        Value::List(values) => {
            w.message(11, |w| {
                for value in values {
                    w.message(1, |w| write_value(value, w));
                }
            });
        }
        Value::TextMap(entries) => {
            w.message(12, |w| {
                for (key, value) in entries {
                    w.message(1, |w| {
                        w.text_if_set(1, key).message(2, |w| write_value(value, w));
                    });
                }
            });
        }
        Value::GenMap(entries) => {
            w.message(13, |w| {
                for (key, value) in entries {
                    w.message(1, |w| {
                        w.message(1, |w| write_value(key, w)).message(2, |w| write_value(value, w));
                    });
                }
            });
        }
        Value::Record(fields) => _ = w.message(14, |w| write_fields(fields, w)),
        Value::Variant { constructor, value } => {
            w.message(15, |w| {
                w.text(2, constructor).message(3, |w| write_value(value, w));
            });
        }
        Value::Enum(constructor) => _ = w.message(16, |w| _ = w.text(2, constructor)),
    }
}

/// Writes the fields of a record.
pub(super) fn write_fields(fields: &[Value], w: &mut Writer) {
    for field in fields {
        w.message(2, |w| _ = w.message(2, |w| write_value(field, w)));
    }
}
