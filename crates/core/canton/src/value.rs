//! Values of the third major version: what a contract says, without labels and type names.
//!
//! [`codec`] reads and writes them, [`walk`] visits and rewrites the parties and contract ids in
//! them.

pub mod codec;
pub mod numeric;
pub mod order;
pub mod walk;

use std::ops::RangeInclusive;

use crate::contract_id::ContractId;
use crate::name::Party;
use crate::value::numeric::Numeric;

/// Days since 1970 that a date can have: of the years 1 to 9999.
pub const DATE_DAYS: RangeInclusive<i32> = -719_162..=2_932_896;
/// Microseconds since 1970 that a time can have: of the years 1 to 9999.
pub const TIMESTAMP_MICROS: RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A value. Entries of maps stand in the order of their keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A reference to a contract.
    ContractId(ContractId),
    /// Days since 1970.
    Date(i32),
    /// A constructor without argument.
    Enum(String),
    /// A map from any ordered type.
    GenMap(Vec<(Value, Value)>),
    /// A signed integer.
    Int64(i64),
    /// Elements.
    List(Vec<Value>),
    /// A decimal number.
    Numeric(Numeric),
    /// One value or none.
    Optional(Option<Box<Value>>),
    /// Somebody who signs or sees.
    Party(Party),
    /// Fields in order, without trailing fields that are `None`.
    Record(Vec<Value>),
    /// UTF-8.
    Text(String),
    /// A map from text.
    TextMap(Vec<(String, Value)>),
    /// Microseconds since 1970.
    Timestamp(i64),
    /// The only value of its type.
    Unit,
    /// A constructor with an argument.
    Variant {
        /// The constructor.
        constructor: String,
        /// The argument.
        value: Box<Value>,
    },
}

impl Value {
    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::ContractId(_) => "a contract id",
            Self::Date(_) => "a date",
            Self::Enum(_) => "an enumeration",
            Self::GenMap(_) => "a map",
            Self::Int64(_) => "an integer",
            Self::List(_) => "a list",
            Self::Numeric(_) => "a decimal number",
            Self::Optional(_) => "an optional",
            Self::Party(_) => "a party",
            Self::Record(_) => "a record",
            Self::Text(_) => "a text",
            Self::TextMap(_) => "a text map",
            Self::Timestamp(_) => "a time",
            Self::Unit => "the unit",
            Self::Variant { .. } => "a variant",
        }
    }
}
