//! Errors of custodians, as the command line says them.

use heirloom_custodians::config::ConfigError;
use heirloom_participant::custodian::probe::ProbeError;
use heirloom_participant::custodian::{CustodianError, FailureKind};

use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// A custodian that was not opened.
pub(crate) fn config(error: &ConfigError) -> Diagnostic {
    match error {
        ConfigError::Custodian(error) => custodian(error),
        ConfigError::Unreadable { .. }
        | ConfigError::Malformed { .. }
        | ConfigError::OneOf { .. } => Diagnostic::new(Code::CustodianConfig, error.to_string()),
    }
}

/// A probe that ended.
pub(crate) fn probe(error: &ProbeError) -> Diagnostic {
    match error {
        ProbeError::Custodian(error) => custodian(error),
        ProbeError::Label(error) => Diagnostic::new(Code::CustodianConfig, error.to_string()),
    }
}

/// A custodian that did not do what it was asked.
pub(crate) fn custodian(error: &CustodianError) -> Diagnostic {
    let code = match error.kind() {
        FailureKind::Missing => Code::CustodianMissing,
        FailureKind::Corrupt => Code::CustodianCorrupt,
        FailureKind::Refused => Code::CustodianRefused,
        FailureKind::Unreachable => Code::CustodianUnreachable,
        FailureKind::Unknown => Code::CustodianUnknown,
        FailureKind::Unsupported => Code::CustodianUnsupported,
    };
    Diagnostic::new(code, error.to_string())
}
