//! Reads and writes topology transactions.

use crate::topology::mapping::Mapping;
use crate::topology::{Operation, SignedTransaction, TopologyError, Transaction};

pub(super) fn read_transaction(bytes: &[u8]) -> Result<Transaction, TopologyError> {
    let _ = bytes;
    Err(TopologyError::Hash)
}

pub(super) fn write_transaction(operation: Operation, serial: u32, mapping: &Mapping) -> Vec<u8> {
    let _ = (operation, serial, mapping);
    Vec::new()
}

pub(super) fn read_signed(bytes: &[u8]) -> Result<SignedTransaction, TopologyError> {
    let _ = bytes;
    Err(TopologyError::Hash)
}

pub(super) fn write_signed(signed: &SignedTransaction) -> Vec<u8> {
    let _ = signed;
    Vec::new()
}
