//! Files: read within a limit, written whole or not at all, never overwritten by accident.

use std::io;
use std::path::Path;

use heirloom_store::atomic;
use heirloom_store::error::StoreError;

use crate::code::Code;
use crate::diagnostic::Diagnostic;

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Vec<u8>, Diagnostic> {
    atomic::read(path, limit).map_err(|error| store_error(&error))
}

/// Reads a text file of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, Diagnostic> {
    String::from_utf8(read(path, limit)?).map_err(|error| {
        let message = format!("{} is not a text file", path.display());
        Diagnostic::new(Code::InputMalformed, message).because(&error.utf8_error())
    })
}

/// Makes a new file durable. A file of this name is an error, and stays as it is.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    atomic::create(path, bytes).map_err(|error| store_error(&error))
}

/// Replaces a file that was read before, whole or not at all.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Diagnostic> {
    atomic::write(path, bytes).map_err(|error| store_error(&error))
}

/// Makes a directory that only its owner may look into, if it is not there.
pub(crate) fn create_directory(path: &Path) -> Result<(), Diagnostic> {
    atomic::create_directory(path).map_err(|error| store_error(&error))
}

/// The error of the system as ours.
pub(crate) fn failed(verb: &str, path: &Path, error: &io::Error) -> Diagnostic {
    let shown = path.display();
    let (code, message) = match error.kind() {
        io::ErrorKind::NotFound => (Code::FileMissing, format!("{shown} does not exist")),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (Code::FileDenied, format!("no permission to {verb} {shown}"))
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            (Code::FileExists, format!("{shown} exists already"))
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Code::FileFull, format!("no space is left for {shown}"))
        }
        _ => (Code::FileFailed, format!("cannot {verb} {shown}")),
    };
    Diagnostic::new(code, message).because(error)
}

/// The error of a durable file as ours.
pub(crate) fn store_error(error: &StoreError) -> Diagnostic {
    let code = match error {
        StoreError::Missing { .. } => Code::FileMissing,
        StoreError::Exists { .. } => Code::FileExists,
        StoreError::Corrupt { .. } => Code::FileCorrupt,
        StoreError::Refused { .. } => Code::FileDenied,
        StoreError::Locked { .. } => Code::FileLocked,
        StoreError::Full { .. } => Code::FileFull,
        StoreError::TooLarge { .. } => Code::FileTooLarge,
        StoreError::Unknown { .. } | StoreError::Failed { .. } => Code::FileFailed,
    };
    Diagnostic::new(code, error.to_string())
}
