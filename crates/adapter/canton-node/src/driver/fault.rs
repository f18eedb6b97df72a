//! What a failure of a participant, a custodian or a file means for the plan.

use std::fmt::Display;

use heirloom_model::causes::with_causes;
use heirloom_participant::custodian::{CustodianError, FailureKind};
use heirloom_store::error::StoreError;
use heirloom_upgrade::port::DriverError;

use crate::error::NodeError;
use crate::node::ContractsError;

/// A participant that was not reached is asked again; one that says no says it again.
pub(crate) fn node_error(error: NodeError) -> DriverError {
    match error {
        NodeError::Missing { node, what } => {
            DriverError::Missing { what: format!("{what} at {node}") }
        }
        NodeError::Corrupt { node, call, why } => {
            DriverError::Corrupt { what: format!("answer of {node} to {call}"), reason: why }
        }
        error @ NodeError::Refused { .. } => DriverError::Refused(error.to_string()),
        error @ (NodeError::Unreachable { .. } | NodeError::Unknown { .. }) => {
            DriverError::Unknown(error.to_string())
        }
    }
}

pub(crate) fn contracts_error(error: ContractsError) -> DriverError {
    match error {
        ContractsError::Node(error) => node_error(error),
        ContractsError::Missing { path } => {
            DriverError::Missing { what: path.display().to_string() }
        }
        ContractsError::Full { path } => DriverError::Full(path.display().to_string()),
        error @ (ContractsError::NoParties
        | ContractsError::Exists { .. }
        | ContractsError::File { .. }
        | ContractsError::TooLarge { .. }) => DriverError::Refused(error.to_string()),
    }
}

pub(crate) fn custodian_error(error: &CustodianError) -> DriverError {
    let text = with_causes(error);
    match error.kind() {
        FailureKind::Missing => DriverError::Missing { what: text },
        FailureKind::Corrupt => DriverError::Corrupt { what: "custodian".to_owned(), reason: text },
        FailureKind::Refused | FailureKind::Unsupported => DriverError::Refused(text),
        FailureKind::Unreachable | FailureKind::Unknown => DriverError::Unknown(text),
    }
}

pub(crate) fn store_error(error: StoreError) -> DriverError {
    match error {
        StoreError::Missing { path } => DriverError::Missing { what: path.display().to_string() },
        StoreError::Full { operation, path } => {
            DriverError::Full(format!("{operation} {}", path.display()))
        }
        StoreError::Corrupt { path, reason, .. } => {
            DriverError::Corrupt { what: path.display().to_string(), reason: reason.to_owned() }
        }
        error => DriverError::Refused(error.to_string()),
    }
}

/// What the system said about a file of the plan.
pub(crate) fn io_error(path: &std::path::Path, error: &std::io::Error) -> DriverError {
    let what = path.display().to_string();
    match error.kind() {
        std::io::ErrorKind::NotFound => DriverError::Missing { what },
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            DriverError::Full(what)
        }
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => {
            DriverError::Corrupt { what, reason: error.to_string() }
        }
        _ => DriverError::Refused(format!("{what}: {error}")),
    }
}

/// Something that must be as the plan says.
pub(crate) fn unexpected<T: PartialEq + Display>(
    what: &str,
    expected: &T,
    found: &T,
) -> Result<(), DriverError> {
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (format!("{what} {expected}"), found.to_string());
    Err(DriverError::Unexpected { expected, found })
}

impl From<NodeError> for DriverError {
    fn from(error: NodeError) -> Self {
        node_error(error)
    }
}
