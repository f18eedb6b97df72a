//! The shape of lists in statements: sorted, distinct, not empty, not too long.

use crate::refusal::{Fault, Refusal};

/// Refuses a list that is not strictly ascending by `key`, or longer than `limit`.
pub(crate) fn ascending<T, K: Ord>(
    field: &'static str,
    list: &[T],
    limit: usize,
    key: impl Fn(&T) -> K,
) -> Result<(), Refusal> {
    if list.len() > limit {
        let fault = Fault::TooLong { found: list.len(), limit };
        return Err(Refusal::Shape { field, fault });
    }
    let keys: Vec<K> = list.iter().map(key).collect();
    if keys.windows(2).any(|pair| matches!(pair, [left, right] if left >= right)) {
        return Err(Refusal::Shape { field, fault: Fault::NotSorted });
    }
    Ok(())
}

/// Refuses an empty list.
pub(crate) fn not_empty<T>(field: &'static str, list: &[T]) -> Result<(), Refusal> {
    if list.is_empty() {
        return Err(Refusal::Shape { field, fault: Fault::Empty });
    }
    Ok(())
}

/// Refuses a value unless `holds`.
pub(crate) fn require(holds: bool, field: &'static str, fault: Fault) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Shape { field, fault }) }
}
