//! Topology snapshots: many signed transactions, with the times at which they hold.
//!
//! There are two forms: one versioned list, and a stream of items with their lengths in front.

use heirloom_model::limit::{TOPOLOGY_ITEMS_MAX, TOPOLOGY_SNAPSHOT_BYTES_MAX};

use crate::proto::{ProtoError, Reader, push, read_varint, read_versioned};
use crate::topology::codec::{check_size, unwrap};
use crate::topology::{SignedTransaction, TOPOLOGY_VERSION, TopologyError};

/// One transaction of a snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// The transaction with its signatures.
    pub transaction: SignedTransaction,
    /// When it took effect (a protobuf timestamp, unread).
    pub valid_from: Option<Vec<u8>>,
    /// When another one replaced it (a protobuf timestamp, unread).
    pub valid_until: Option<Vec<u8>>,
    /// When it was ordered (a protobuf timestamp, unread).
    pub sequenced: Option<Vec<u8>>,
    /// Why it was refused, if it was.
    pub rejection: Option<String>,
}

/// Reads the older form: a versioned list.
pub fn read_list(bytes: &[u8]) -> Result<Vec<Item>, TopologyError> {
    let what = "a topology snapshot";
    check_size(what, bytes, TOPOLOGY_SNAPSHOT_BYTES_MAX)?;
    let mut items = Vec::new();
    for field in Reader::new(unwrap(what, bytes)?) {
        let field = field?;
        match field.number() {
            1 => push(&mut items, read_item(field.bytes()?)?, "transactions", TOPOLOGY_ITEMS_MAX)?,
            _ => return Err(field.unknown("TopologyTransactions").into()),
        }
    }
    Ok(items)
}

/// Reads the newer form: items, each versioned, with their lengths in front.
pub fn read_stream(mut bytes: &[u8]) -> Result<Vec<Item>, TopologyError> {
    check_size("a topology snapshot", bytes, TOPOLOGY_SNAPSHOT_BYTES_MAX)?;
    let mut items = Vec::new();
    while !bytes.is_empty() {
        let length = read_varint(&mut bytes)?;
        let length = usize::try_from(length).map_err(|_| ProtoError::Truncated)?;
        let (message, rest) = bytes.split_at_checked(length).ok_or(ProtoError::Truncated)?;
        bytes = rest;
        let item = match read_versioned(message) {
            Ok((TOPOLOGY_VERSION, data)) => read_item(data)?,
            Ok((found, _)) => {
                return Err(TopologyError::Version { what: "an item of a snapshot", found });
            }
            Err(error) => return Err(error.into()),
        };
        push(&mut items, item, "transactions", TOPOLOGY_ITEMS_MAX)?;
    }
    Ok(items)
}

fn read_item(bytes: &[u8]) -> Result<Item, TopologyError> {
    let (mut transaction, mut valid_from, mut valid_until) = (None, None, None);
    let (mut sequenced, mut rejection) = (None, None);
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => valid_from = Some(field.bytes()?.to_vec()),
            2 => valid_until = Some(field.bytes()?.to_vec()),
            3 => transaction = Some(SignedTransaction::decode(field.bytes()?)?),
            4 => sequenced = Some(field.bytes()?.to_vec()),
            5 => rejection = Some(read_rejection(field.bytes()?)?),
            _ => return Err(field.unknown("TopologyTransactions.Item").into()),
        }
    }
    let missing = ProtoError::Missing { message: "an item", field: "transaction" };
    let transaction = transaction.ok_or(missing)?;
    Ok(Item { transaction, valid_from, valid_until, sequenced, rejection })
}

fn read_rejection(bytes: &[u8]) -> Result<String, ProtoError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtoError::NotUtf8 { number: 5 })
}
