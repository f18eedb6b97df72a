//! The hashes of V10 and V11, and of contracts of the second major version: values without types.

use crate::contract_hash::{CONTRACT_PURPOSE, ContractHash, write_name};
use crate::hash::Preimage;
use crate::types::{PackageName, TypeId};
use crate::value::Value;

/// The hash of V10: every value with its length. The package's id is hashed.
pub fn legacy(package_name: &PackageName, template: &TypeId, argument: &Value) -> ContractHash {
    let mut preimage = Preimage::default();
    preimage.byte(0).byte(CONTRACT_PURPOSE).text(package_name.as_str());
    write_template(template, &mut preimage);
    write_legacy(argument, &mut preimage);
    ContractHash(preimage.sha256())
}

/// The hash of contracts of the second major version: like [`legacy`], without package name.
pub fn legacy_unnamed(template: &TypeId, argument: &Value) -> ContractHash {
    let mut preimage = Preimage::default();
    preimage.byte(0).byte(CONTRACT_PURPOSE);
    write_template(template, &mut preimage);
    write_legacy(argument, &mut preimage);
    ContractHash(preimage.sha256())
}

/// The hash of V11: fields with default values are left out.
///
/// It writes maps in records without their index, so different contracts can have one hash; that is
/// how ledgers compute it. Nobody should choose this version for a contract that may be V12.
pub fn upgrade_friendly(
    package_name: &PackageName,
    template: &TypeId,
    argument: &Value,
) -> ContractHash {
    let mut preimage = Preimage::default();
    preimage.byte(1).byte(CONTRACT_PURPOSE).text(package_name.as_str());
    write_template(template, &mut preimage);
    write_upgrade_friendly(argument, &mut preimage);
    ContractHash(preimage.sha256())
}

fn write_template(template: &TypeId, preimage: &mut Preimage) {
    preimage.text(template.package.as_str());
    write_name(&template.name, preimage);
}

/// What both hashes write alike.
fn write_leaf(value: &Value, preimage: &mut Preimage) {
    match value {
        Value::Unit => _ = preimage.byte(0),
        Value::Bool(value) => _ = preimage.byte(u8::from(*value)),
        Value::Int64(number) | Value::Timestamp(number) => _ = preimage.int64(*number),
        Value::Date(days) => _ = preimage.int32(*days),
        Value::Numeric(number) => _ = preimage.bytes(&number.unscaled_bytes()),
        Value::Party(party) => _ = preimage.text(party.as_str()),
        Value::Text(text) | Value::Enum(text) => _ = preimage.text(text),
        Value::ContractId(id) => _ = preimage.bytes(id.as_bytes()),
        Value::GenMap(_)
        | Value::List(_)
        | Value::Optional(_)
        | Value::Record(_)
        | Value::TextMap(_)
        | Value::Variant { .. } => unreachable!("callers write what has parts"),
    }
}

/// V10.
pub(crate) fn write_legacy(value: &Value, preimage: &mut Preimage) {
    match value {
        Value::Optional(None) => _ = preimage.int32(0),
        Value::Optional(Some(inner)) => write_legacy(inner, preimage.int32(1)),
        Value::List(values) | Value::Record(values) => {
            preimage.count(values.len());
            for value in values {
                write_legacy(value, preimage);
            }
        }
        Value::GenMap(entries) => {
            preimage.count(entries.len());
            for (key, value) in entries {
                write_legacy(key, preimage);
                write_legacy(value, preimage);
            }
        }
        Value::TextMap(entries) => {
            preimage.count(entries.len());
            for (key, value) in entries {
                write_legacy(value, preimage.text(key));
            }
        }
        Value::Variant { constructor, value } => write_legacy(value, preimage.text(constructor)),
        leaf => write_leaf(leaf, preimage),
    }
}

/// V11.
pub(crate) fn write_upgrade_friendly(value: &Value, preimage: &mut Preimage) {
    match value {
        Value::Optional(None) => _ = preimage.byte(0),
        Value::Optional(Some(inner)) => write_upgrade_friendly(inner, preimage.byte(1)),
        Value::List(values) => {
            preimage.count(values.len());
            for value in values {
                write_upgrade_friendly(value, preimage);
            }
        }
        Value::Record(fields) => {
            for (index, field) in fields.iter().enumerate() {
                write_field(index, field, preimage);
            }
            preimage.byte(0xff);
        }
        Value::GenMap(entries) => {
            preimage.count(entries.len());
            for (key, value) in entries {
                write_upgrade_friendly(key, preimage);
                write_upgrade_friendly(value, preimage);
            }
        }
        Value::TextMap(entries) => {
            preimage.count(entries.len());
            for (key, value) in entries {
                write_upgrade_friendly(value, preimage.text(key));
            }
        }
        Value::Variant { constructor, value } => {
            write_upgrade_friendly(value, preimage.text(constructor));
        }
        leaf => write_leaf(leaf, preimage),
    }
}

/// V11, fields: defaults are left out, a `Some` has no tag, and a map has no index.
fn write_field(index: usize, field: &Value, preimage: &mut Preimage) {
    match field {
        field if is_default(field) => {}
        Value::GenMap(_) | Value::TextMap(_) => write_upgrade_friendly(field, preimage),
        Value::Optional(Some(inner)) => write_upgrade_friendly(inner, preimage.count(index)),
        field => write_upgrade_friendly(field, preimage.count(index)),
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Unit | Value::Bool(false) | Value::Optional(None) => true,
        Value::Int64(number) | Value::Timestamp(number) => *number == 0,
        Value::Date(days) => *days == 0,
        Value::Numeric(number) => number.unscaled() == 0,
        Value::Text(text) => text.is_empty(),
        Value::List(values) => values.is_empty(),
        Value::GenMap(entries) => entries.is_empty(),
        Value::TextMap(entries) => entries.is_empty(),
        Value::Bool(true)
        | Value::ContractId(_)
        | Value::Enum(_)
        | Value::Optional(Some(_))
        | Value::Party(_)
        | Value::Record(_)
        | Value::Variant { .. } => false,
    }
}
