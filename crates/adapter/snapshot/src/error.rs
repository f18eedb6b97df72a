//! What can go wrong with a snapshot file.

use std::io;
use std::path::{Path, PathBuf};

use heirloom_canton::authenticate::AuthenticateError;
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::instance1::OldAuthenticateError;
use heirloom_canton::name::{Party, SynchronizerId};
use heirloom_participant::contract_map::ContractMapError;
use heirloom_participant::rewrite::RewriteError;
use heirloom_store::error::StoreError;

/// How many contracts of a cycle are named.
pub const CYCLE_LISTED_MAX: usize = 16;

/// Where in a snapshot a contract stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Which one, counted from 1.
    pub number: u64,
    /// Where its entry begins, in bytes after decompression.
    pub offset: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "contract number {} at byte {}", self.number, self.offset)
    }
}

/// Why a snapshot was not read, verified or written. No output has taken its place then.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file or directory does not exist.
    #[error("{path} does not exist")]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// The system does not permit the access.
    #[error("no permission to {operation} {path}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What with.
        path: PathBuf,
    },
    /// No space is left, or a quota is used up.
    #[error(
        "no space is left to {operation} {path}: nothing was changed; make room there or choose \
         another directory, and run again"
    )]
    Full {
        /// What was tried.
        operation: &'static str,
        /// What with; a directory stands for a temporary file in it.
        path: PathBuf,
    },
    /// Anything else that the system said.
    #[error("cannot {operation} {path}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// What with.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A name was not made durable.
    #[error("an output is written, but it may lose its name when power fails now")]
    Directory(#[from] StoreError),
    /// A map of contracts that was written is not read again.
    #[error("{path} is not the map of contracts that was written")]
    ContractMap {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ContractMapError,
    },
    /// The file ends in the middle: it was not exported or copied to its end.
    #[error("{path} ends too early, after {offset} bytes of content")]
    Truncated {
        /// Which.
        path: PathBuf,
        /// How many bytes came out before.
        offset: u64,
    },
    /// The file is not gzip, or its content is not what was compressed.
    #[error("{path} is damaged or not gzip, after {offset} bytes of content: {message}")]
    NotGzip {
        /// Which.
        path: PathBuf,
        /// How many bytes came out before.
        offset: u64,
        /// What is wrong.
        message: String,
    },
    /// What is in it is not the entry of a contract.
    #[error("{place} is not an entry of a snapshot")]
    Entry {
        /// Which.
        place: Place,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A contract does not reproduce its own id: wrong types, an unknown version, or tampering.
    #[error("{place} is not what its id {id} says")]
    NotAuthentic {
        /// Which.
        place: Place,
        /// Its id.
        id: ContractId,
        /// Why.
        #[source]
        source: Box<AuthenticateError>,
    },
    /// A contract is there twice.
    #[error("contract {id} is in the snapshot twice")]
    Twice {
        /// Its id.
        id: ContractId,
    },
    /// A contract of the second major version does not reproduce its own id.
    #[error("{place} should have the id {computed}, and has {id}")]
    OldNotAuthentic {
        /// Which.
        place: Place,
        /// Its id.
        id: ContractId,
        /// What it should be.
        computed: ContractId,
    },
    /// An id of the second major version that cannot be computed again.
    #[error("{place} cannot be verified")]
    OldNotVerifiable {
        /// Which.
        place: Place,
        /// Why.
        #[source]
        source: OldAuthenticateError,
    },
    /// An entry of the older export of 3.3 and 3.4, which later versions do not import.
    #[error(
        "{place} was exported through the older endpoint: export again through the current one"
    )]
    OlderExport {
        /// Which.
        place: Place,
    },
    /// Entries of two major versions in one file.
    #[error("{place} is of another major version than the contracts before it")]
    Mixed {
        /// Which.
        place: Place,
    },
    /// A snapshot of the second major version is verified and not rewritten.
    #[error(
        "{path} is of the second major version: its own console rewrites it, and the third one does \
         not import its contracts"
    )]
    SecondMajorVersion {
        /// Which.
        path: PathBuf,
    },
    /// Two synchronizers would become one, which cannot be inverted.
    #[error("two synchronizers would become {to}: export and rewrite them one by one")]
    Synchronizers {
        /// Their new name.
        to: SynchronizerId,
    },
    /// A contract has no equivalent under the new parties.
    #[error("{place}, {id}, cannot be rewritten")]
    Rewrite {
        /// Which.
        place: Place,
        /// Its id.
        id: ContractId,
        /// Why.
        #[source]
        source: Box<RewriteError>,
    },
    /// Contracts refer to each other in a circle, so that none of them has an id before another.
    #[error("contracts refer to each other in a circle: {}", circle(contracts))]
    Cycle {
        /// The circle; of a long one the first [`CYCLE_LISTED_MAX`].
        contracts: Vec<ContractId>,
    },
    /// The file is not the one that was verified.
    #[error("{path} has changed since it was verified")]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// What was written has another property than what it was made of.
    #[error("{path} was written and has {found} {what} instead of {expected}")]
    Differs {
        /// Which.
        path: PathBuf,
        /// Which property.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A party that should have another name is still there.
    #[error("{place}, {id}, still has {party}")]
    OldParty {
        /// Which.
        place: Place,
        /// Its id.
        id: ContractId,
        /// Who.
        party: Party,
    },
    /// A namespace that was left is still mentioned where nothing was reported.
    #[error("{place}, {id}, still mentions the namespace {namespace}")]
    OldNamespace {
        /// Which.
        place: Place,
        /// Its id.
        id: ContractId,
        /// Which namespace.
        namespace: String,
    },
    /// Somebody stopped it.
    #[error("stopped")]
    Cancelled,
}

impl SnapshotError {
    /// What the system said about a temporary file.
    pub(crate) fn scratch(operation: &'static str, error: &io::Error) -> Self {
        io_error(operation, Path::new("a temporary file"), error)
    }
}

/// Sorts what the system said.
pub(crate) fn io_error(operation: &'static str, path: &Path, error: &io::Error) -> SnapshotError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => SnapshotError::Missing { path },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            SnapshotError::Refused { operation, path }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            SnapshotError::Full { operation, path }
        }
        kind => {
            let source = error.raw_os_error().map_or_else(
                || io::Error::new(kind, error.to_string()),
                io::Error::from_raw_os_error,
            );
            SnapshotError::Failed { operation, path, source }
        }
    }
}

fn circle(contracts: &[ContractId]) -> String {
    let ids: Vec<String> = contracts.iter().map(ToString::to_string).collect();
    ids.join(" -> ")
}
