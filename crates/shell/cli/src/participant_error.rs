//! Errors of files of participants, as the command line says them.

use std::error::Error;
use std::path::Path;

use heirloom_canton::authenticate::AuthenticateError;
use heirloom_canton::contract_hash::typed::HashError;
use heirloom_canton::dar::DarError;
use heirloom_canton::types::TypeId;
use heirloom_participant::map::{MapError, ParseMapError};
use heirloom_participant::rewrite::RewriteError;
use heirloom_snapshot::error::SnapshotError;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::{file, participant_file};

/// A snapshot that was not read, verified or written.
pub(crate) fn snapshot(error: &SnapshotError) -> Diagnostic {
    let code = match error {
        SnapshotError::Cancelled => return interrupted(),
        SnapshotError::Directory(error) => return file::store_error(error),
        SnapshotError::Missing { .. } => Code::FileMissing,
        SnapshotError::Refused { .. } => Code::FileDenied,
        SnapshotError::Full { .. } => Code::FileFull,
        SnapshotError::Failed { .. } => Code::FileFailed,
        SnapshotError::Truncated { .. } => Code::ParticipantTruncated,
        SnapshotError::NotGzip { path, .. } => {
            return participant_file::not_a_snapshot(path, caused(Code::ParticipantDamaged, error));
        }
        SnapshotError::Entry { .. } => Code::ParticipantFile,
        SnapshotError::NotAuthentic { source, .. } => match unknown_type(source) {
            Some(id) => return package_missing(id).because(error),
            None => Code::ParticipantContract,
        },
        SnapshotError::Rewrite { source, .. } => match lacking(source) {
            Some(id) => return package_missing(id).because(error),
            None => Code::ParticipantRewrite,
        },
        SnapshotError::Twice { .. }
        | SnapshotError::OldNotAuthentic { .. }
        | SnapshotError::OldNotVerifiable { .. } => Code::ParticipantContract,
        SnapshotError::OlderExport { .. }
        | SnapshotError::Mixed { .. }
        | SnapshotError::SecondMajorVersion { .. } => Code::ParticipantVersion,
        SnapshotError::Synchronizers { .. } | SnapshotError::Cycle { .. } => {
            Code::ParticipantRewrite
        }
        SnapshotError::Changed { .. } => Code::ParticipantChanged,
        SnapshotError::ContractMap { .. }
        | SnapshotError::Differs { .. }
        | SnapshotError::OldParty { .. }
        | SnapshotError::OldNamespace { .. } => Code::ParticipantResult,
    };
    caused(code, error)
}

/// Somebody pressed Ctrl-C while files were made.
pub(crate) fn interrupted() -> Diagnostic {
    Diagnostic::new(Code::Interrupted, "stopped; nothing was written")
        .instead("give the same command again: it starts from the beginning")
}

/// A file of packages that is not read.
pub(crate) fn dar(path: &Path, error: &DarError) -> Diagnostic {
    let message = format!("{} is not a file of packages", path.display());
    Diagnostic::new(Code::ParticipantFile, message).because(error)
}

/// Text that is not a party map.
pub(crate) fn map_text(path: &Path, error: &ParseMapError) -> Diagnostic {
    let code = match error {
        ParseMapError::Map(_) => Code::ParticipantMap,
        ParseMapError::Header
        | ParseMapError::Line { .. }
        | ParseMapError::Party { .. }
        | ParseMapError::End
        | ParseMapError::NotCanonical { .. }
        | ParseMapError::TooLong { .. } => Code::ParticipantFile,
    };
    let message = format!("{} is not a party map", path.display());
    Diagnostic::new(code, message).because(error)
}

/// A party map that is not possible.
pub(crate) fn map(error: &MapError) -> Diagnostic {
    let diagnostic = caused(Code::ParticipantMap, error);
    match error {
        MapError::External { party, .. } => diagnostic
            .hint(format!("if {party} keeps its name and its keys, give --external \"{party}\"")),
        MapError::Unchanged { .. } => {
            diagnostic.hint("give the namespace of the new keys, not that of the old ones")
        }
        MapError::Collision { .. }
        | MapError::Conflict { .. }
        | MapError::Chain { .. }
        | MapError::Name { .. }
        | MapError::TooMany { .. } => diagnostic,
    }
}

/// The error in one sentence, and what is behind it.
pub(crate) fn caused(code: Code, error: &dyn Error) -> Diagnostic {
    let diagnostic = Diagnostic::new(code, error.to_string());
    match error.source() {
        Some(cause) => diagnostic.because(cause),
        None => diagnostic,
    }
}

/// The type that no given package declares, if that is what is wrong.
fn unknown_type(error: &AuthenticateError) -> Option<&TypeId> {
    match error {
        AuthenticateError::Hash(
            HashError::UnknownType { id } | HashError::UnknownKey { template: id },
        ) => Some(id),
        _ => None,
    }
}

/// The same for what a rewrite computes.
fn lacking(error: &RewriteError) -> Option<&TypeId> {
    match error {
        RewriteError::Id(error) => unknown_type(error),
        RewriteError::Collision { .. } | RewriteError::Occurs { .. } | RewriteError::Key(_) => None,
    }
}

fn package_missing(id: &TypeId) -> Diagnostic {
    let package = &id.package;
    let message = format!("the contracts need package {package}, which no --dar has");
    Diagnostic::new(Code::ParticipantPackage, message)
}
