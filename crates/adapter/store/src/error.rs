//! What can go wrong with a file.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file was not read or written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// It does not exist. Whether that is expected is for the caller to know.
    #[error("{path} does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Something exists where nothing may be overwritten.
    #[error("{path} exists already")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It exists and is not what was written. It stays as it is.
    #[error("{path} is corrupt at byte {offset}: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where it shows.
        offset: u64,
        /// How it shows.
        reason: &'static str,
    },
    /// The system does not permit the access.
    #[error("no permission to {operation} {path}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Another process writes it.
    #[error("{path} is in use by another process")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// No space is left, or a quota is used up.
    #[error("no space is left to {operation} {path}")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// More bytes than allowed.
    #[error("{path} would have {found} bytes in one piece, more than the {limit} allowed")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes present.
        found: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// An earlier write failed in a way that leaves the file's end unknown. Opening it again
    /// finds out.
    #[error("an earlier write to {path} failed: it must be opened again before the next one")]
    Unknown {
        /// The file.
        path: PathBuf,
    },
    /// Anything else that the system said.
    #[error("cannot {operation} {path}: {message}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
}

impl StoreError {
    /// Sorts what the system said.
    pub(crate) fn from_io(operation: &'static str, path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Refused { operation, path }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { operation, path }
            }
            _ => Self::Failed { operation, path, message: error.to_string() },
        }
    }
}

/// Adds the operation and the file to what the system said.
pub(crate) trait Context<T> {
    /// Names what was tried.
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::from_io(operation, path, &error))
    }
}
