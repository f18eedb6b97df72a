//! The order of values that keys of maps stand in.

use std::cmp::Ordering;

use crate::value::Value;

/// Compares two values of one type. None if only their type could tell: constructors are ordered
/// by rank, which a value does not have.
pub fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    use Value::{
        Bool, ContractId, Date, Enum, GenMap, Int64, List, Numeric, Optional, Party, Record, Text,
        TextMap, Timestamp, Unit, Variant,
    };
    match (left, right) {
        (Bool(l), Bool(r)) => Some(l.cmp(r)),
        (ContractId(l), ContractId(r)) => Some(l.cmp(r)),
        (Date(l), Date(r)) => Some(l.cmp(r)),
        (Enum(l), Enum(r)) => (l == r).then_some(Ordering::Equal),
        (Int64(l), Int64(r)) | (Timestamp(l), Timestamp(r)) => Some(l.cmp(r)),
        // Scales of one type are equal.
        (Numeric(l), Numeric(r)) => Some(l.unscaled().cmp(&r.unscaled())),
        (Party(l), Party(r)) => Some(l.cmp(r)),
        (Text(l), Text(r)) => Some(l.cmp(r)),
        (Unit, Unit) => Some(Ordering::Equal),
        (Optional(l), Optional(r)) => match (l, r) {
            (None, None) => Some(Ordering::Equal),
            (None, Some(_)) => Some(Ordering::Less),
            (Some(_), None) => Some(Ordering::Greater),
            (Some(l), Some(r)) => compare(l, r),
        },
        // Of records, a field that is absent is a `None`, and the last one that is present is a `Some`: the
        // longer record is the greater one.
        (List(l), List(r)) | (Record(l), Record(r)) => compare_lists(l, r),
        (Variant { constructor: l, value: lv }, Variant { constructor: r, value: rv }) => {
            if l == r { compare(lv, rv) } else { None }
        }
        (GenMap(l), GenMap(r)) => compare_entries(l, r, compare),
        (TextMap(l), TextMap(r)) => compare_entries(l, r, |l, r| Some(l.cmp(r))),
        _ => None,
    }
}

fn compare_lists(left: &[Value], right: &[Value]) -> Option<Ordering> {
    for (l, r) in left.iter().zip(right) {
        match compare(l, r)? {
            Ordering::Equal => {}
            decided => return Some(decided),
        }
    }
    Some(left.len().cmp(&right.len()))
}

/// Daml-LF, `svalue/Ordering.scala`: key and value of each entry in turn; the shorter map is less.
fn compare_entries<K>(
    left: &[(K, Value)],
    right: &[(K, Value)],
    compare_keys: impl Fn(&K, &K) -> Option<Ordering>,
) -> Option<Ordering> {
    for ((left_key, left_value), (right_key, right_value)) in left.iter().zip(right) {
        match compare_keys(left_key, right_key)? {
            Ordering::Equal => {}
            decided => return Some(decided),
        }
        match compare(left_value, right_value)? {
            Ordering::Equal => {}
            decided => return Some(decided),
        }
    }
    Some(left.len().cmp(&right.len()))
}
