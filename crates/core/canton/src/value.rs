//! Values of the third major version: what a contract says, without labels and type names.
//!
//! [`codec`] reads and writes them, [`walk`] visits and rewrites the parties and contract ids in
//! them.

pub mod codec;
pub mod numeric;
pub mod order;
pub mod walk;

use crate::contract_id::ContractId;
use crate::name::Party;
use crate::value::numeric::Numeric;

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
