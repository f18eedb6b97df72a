//! What can go wrong with a ledger on disk.

use std::io;
use std::path::{Path, PathBuf};

use heirloom_ledger::block::BadMetadata;
use heirloom_ledger::configuration::ConfigurationFault;
use heirloom_ledger::schema::NoWay;
use heirloom_ledger::state::Unreadable;
use heirloom_model::digest::BlockId;
use heirloom_model::service::{Height, SchemaVersion, Tip};
use heirloom_store::error::StoreError;

/// Why a ledger was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A record is not what was written, or does not fit to the others. Nothing was changed.
    #[error("{path} is corrupt: {record}: {reason}")]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// The record, for people.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk or the map is full. Nothing was changed.
    #[error("no space is left to {operation} {path}")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The block is not the next one.
    #[error("block {block} at height {height} does not follow {tip}")]
    NotNext {
        /// The block.
        block: BlockId,
        /// Its height.
        height: Height,
        /// The end of the ledger.
        tip: Tip,
    },
    /// The block spends what is not there to be spent, though it was checked: against another
    /// state, then.
    #[error("block {block} was checked against another state: {reason}")]
    OtherState {
        /// The block.
        block: BlockId,
        /// How it shows.
        reason: String,
    },
    /// The block's proposer did not sign it.
    #[error(transparent)]
    Metadata(#[from] BadMetadata),
    /// The schema of this ledger has no such index.
    #[error("schema {found} cannot answer this; schema {needed} can")]
    NotInSchema {
        /// What the ledger has.
        found: SchemaVersion,
        /// What would answer.
        needed: SchemaVersion,
    },
    /// Anything else that the system said.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Why a ledger was not opened or created.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none. Whether that is expected is for the caller to know.
    #[error("there is no ledger at {path}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Something is there, where a ledger was to be created.
    #[error("{path} is not empty: a ledger is never created over anything")]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// It has another layout. Nothing was changed.
    #[error("the ledger has schema {found}, and schema {wanted} is wanted")]
    WrongSchema {
        /// What it has.
        found: SchemaVersion,
        /// What was expected.
        wanted: SchemaVersion,
    },
    /// Another process has it.
    #[error("{path} is held by {holder}")]
    Held {
        /// The lock.
        path: PathBuf,
        /// Who, for people: `pid 123`.
        holder: String,
    },
    /// No network runs with this configuration.
    #[error("the configuration cannot be used")]
    Configuration(#[from] ConfigurationFault),
    /// It was opened and cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Why a snapshot, a migration or another change of a whole ledger did not happen.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// What the job begins with is not there.
    #[error("{path} does not exist")]
    Missing {
        /// What.
        path: PathBuf,
    },
    /// It is there and not what was written. Nothing was swapped.
    #[error("{path} is corrupt: {record}: {reason}")]
    Corrupt {
        /// The file or directory.
        path: PathBuf,
        /// The record, for people.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The job would do something that it must not do.
    #[error("refused: {reason}")]
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// The ledger does not end where it should.
    #[error("the ledger ends with {found}, and {expected} is expected")]
    OtherTip {
        /// What was agreed on.
        expected: Tip,
        /// What is there.
        found: Tip,
    },
    /// There is no such way from one schema to the other.
    #[error(transparent)]
    NoWay(#[from] NoWay),
    /// Another process has the ledger. Later it may not.
    #[error("{path} is held by {holder}")]
    Held {
        /// The lock.
        path: PathBuf,
        /// Who, for people: `pid 123`.
        holder: String,
    },
    /// The disk is full. What was begun is resumed or replaced when the job is run again.
    #[error("no space is left to {operation} {path}")]
    Full {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// Anything else that the system said.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl LedgerError {
    /// A record that is not what was written.
    pub(crate) fn corrupt(
        path: &Path,
        record: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Corrupt { path: path.to_owned(), record: record.into(), reason: reason.into() }
    }

    /// Sorts what the system said.
    pub(crate) fn from_io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) {
            return Self::Full { operation, path };
        }
        Self::Io { operation, path, source }
    }

    /// Sorts what LMDB said.
    pub(crate) fn from_heed(operation: &'static str, path: &Path, error: heed::Error) -> Self {
        use heed::MdbError;
        match error {
            heed::Error::Io(source) if is_cut_short(&source, path) => {
                Self::Full { operation, path: path.to_owned() }
            }
            heed::Error::Io(source) => Self::from_io(operation, path, source),
            heed::Error::Mdb(MdbError::MapFull) => Self::Full { operation, path: path.to_owned() },
            heed::Error::Mdb(
                reason @ (MdbError::Corrupted
                | MdbError::PageNotFound
                | MdbError::Invalid
                | MdbError::VersionMismatch
                | MdbError::Panic
                | MdbError::Incompatible),
            ) => Self::corrupt(path, operation, reason.to_string()),
            heed::Error::Decoding(reason) => Self::corrupt(path, operation, reason.to_string()),
            other => Self::Io { operation, path: path.to_owned(), source: io::Error::other(other) },
        }
    }
}

impl From<LedgerError> for Unreadable {
    fn from(error: LedgerError) -> Self {
        Self { reason: heirloom_model::causes::with_causes(&error) }
    }
}

impl JobError {
    /// A file that is not what was written.
    pub(crate) fn corrupt(
        path: &Path,
        record: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Corrupt { path: path.to_owned(), record: record.into(), reason: reason.into() }
    }

    /// Something that a job must not do.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    /// Sorts what the system said.
    pub(crate) fn from_io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) {
            return Self::Full { operation, path };
        }
        if source.kind() == io::ErrorKind::NotFound {
            return Self::Missing { path };
        }
        Self::Io { operation, path, source }
    }
}

impl From<LedgerError> for JobError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Corrupt { path, record, reason } => Self::Corrupt { path, record, reason },
            LedgerError::Full { operation, path } => Self::Full { operation, path },
            LedgerError::Io { operation, path, source } => Self::Io { operation, path, source },
            other => Self::Refused { reason: heirloom_model::causes::with_causes(&other) },
        }
    }
}

impl From<OpenError> for JobError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Missing { path } => Self::Missing { path },
            OpenError::Held { path, holder } => Self::Held { path, holder },
            OpenError::Ledger(error) => error.into(),
            other => Self::Refused { reason: heirloom_model::causes::with_causes(&other) },
        }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing { path } => Self::Missing { path },
            StoreError::Full { operation, path } => Self::Full { operation, path },
            StoreError::Corrupt { path, offset, reason } => {
                Self::corrupt(&path, format!("byte {offset}"), reason)
            }
            StoreError::TooLarge { path, .. } => Self::corrupt(&path, "size", "it is too large"),
            other => Self::Refused { reason: other.to_string() },
        }
    }
}

/// A disk with less than this is full for whoever writes pages.
const ROOM_MIN: u64 = 64 * 1024;

/// Whether a write ended early because the disk is full: LMDB says the same as for a broken disk.
fn is_cut_short(error: &io::Error, path: &Path) -> bool {
    let room = || {
        nix::sys::statvfs::statvfs(path)
            .map(|seen| seen.blocks_available().saturating_mul(seen.fragment_size()))
    };
    error.raw_os_error() == Some(nix::errno::Errno::EIO as i32)
        && room().is_ok_and(|room| room < ROOM_MIN)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
