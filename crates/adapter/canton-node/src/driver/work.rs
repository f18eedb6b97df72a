//! The folder of a plan on this host: what was exported, made and noted.
//!
//! A file takes its name when it is whole, and keeps its content from then on. Where a step finds
//! a file of its name, it is the one that an earlier run of the step made, and is checked.

use std::path::{Path, PathBuf};

use heirloom_model::digest::PlanDigest;
use heirloom_store::atomic;
use heirloom_store::error::StoreError;
use heirloom_upgrade::port::DriverError;
use minicbor::{Decode, Encode};

use crate::driver::fault::{io_error, store_error};

/// A record of some hundred synchronizers at most.
const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// The mark of a copy that is whole.
const MARK: &[u8] = b"whole\n";
/// The mark of an import that was sent to the target.
const IMPORT_BEGUN: &[u8] = b"begun\n";
/// The mark of contracts that were taken out again, for good.
const PURGED: &[u8] = b"purged\n";

/// The folder of a plan.
pub(crate) struct Work {
    folder: PathBuf,
}

/// How the source was connected before the plan.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct Connections {
    /// Each synchronizer that it knew.
    #[n(0)]
    pub(crate) each: Vec<ConnectionBefore>,
}

/// How the source was connected to one synchronizer.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub(crate) struct ConnectionBefore {
    /// What the source calls it.
    #[n(0)]
    pub(crate) alias: String,
    /// Whether it connected only when told to.
    #[n(1)]
    pub(crate) is_manual: bool,
    /// Whether it was connected.
    #[n(2)]
    pub(crate) is_connected: bool,
}

impl Work {
    pub(crate) fn open(root: &Path, plan: PlanDigest) -> Result<Self, DriverError> {
        let folder = root.join(plan.to_string());
        atomic::create_directory(&folder).map_err(store_error)?;
        Ok(Self { folder })
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The snapshot of the source.
    pub(crate) fn source_snapshot(&self) -> PathBuf {
        self.folder.join("source-snapshot.gz")
    }

    /// Where the source's ledger ended when the snapshot was taken.
    pub(crate) fn source_end(&self) -> PathBuf {
        self.folder.join("source-end.txt")
    }

    /// The snapshot for the target.
    pub(crate) fn target_snapshot(&self) -> PathBuf {
        self.folder.join("target-snapshot.gz")
    }

    /// Old ids and new ids.
    pub(crate) fn contract_map(&self) -> PathBuf {
        self.folder.join("contracts.map")
    }

    /// Old names and new names.
    pub(crate) fn party_map(&self) -> PathBuf {
        self.folder.join("parties.map")
    }

    /// What a rewrite left as it was.
    pub(crate) fn report(&self) -> PathBuf {
        self.folder.join("report.txt")
    }

    /// Ids and stakeholders of the snapshot for the target.
    pub(crate) fn roster(&self) -> PathBuf {
        self.folder.join("roster")
    }

    /// The labels of the keys that are this plan's.
    pub(crate) fn labels(&self) -> PathBuf {
        self.folder.join("labels.txt")
    }

    /// The users that the source had when it became quiet.
    pub(crate) fn noted_users(&self) -> PathBuf {
        self.folder.join("source-users")
    }

    /// What could not be done for users.
    pub(crate) fn users(&self) -> PathBuf {
        self.folder.join("users.txt")
    }

    /// A package file.
    pub(crate) fn dar(&self, main: &str) -> PathBuf {
        self.packages().join(format!("{main}.dar"))
    }

    /// The folder of package files.
    pub(crate) fn packages(&self) -> PathBuf {
        self.folder.join("packages")
    }

    /// The copy of the target's store.
    pub(crate) fn safeguard(&self) -> PathBuf {
        self.folder.join("safeguard")
    }

    fn safeguard_mark(&self) -> PathBuf {
        self.folder.join("safeguard-whole")
    }

    /// Whether the copy of the target's store is whole. A mark that cannot be read says neither.
    pub(crate) fn is_safeguarded(&self) -> Result<bool, DriverError> {
        is_marked(&self.safeguard_mark(), MARK)
    }

    /// Says that the copy of the target's store is whole.
    pub(crate) fn mark_safeguarded(&self) -> Result<(), DriverError> {
        keep(&self.safeguard_mark(), MARK)
    }

    /// Whether contracts were sent to the target, as far as this folder knows. From then on they
    /// may come at any moment, whatever became of the call.
    pub(crate) fn is_import_begun(&self) -> Result<bool, DriverError> {
        is_marked(&self.folder.join("import-begun"), IMPORT_BEGUN)
    }

    /// Says that contracts are about to be sent to the target.
    pub(crate) fn mark_import_begun(&self) -> Result<(), DriverError> {
        keep(&self.folder.join("import-begun"), IMPORT_BEGUN)
    }

    /// Whether the contracts of the plan were taken out, and none came after that.
    pub(crate) fn is_purged(&self) -> Result<bool, DriverError> {
        is_marked(&self.folder.join("purged"), PURGED)
    }

    /// Says that the contracts of the plan were taken out, and none came after that.
    pub(crate) fn mark_purged(&self) -> Result<(), DriverError> {
        keep(&self.folder.join("purged"), PURGED)
    }

    /// How the source was connected; none if that was not noted yet.
    pub(crate) fn connections(&self) -> Result<Option<Connections>, DriverError> {
        let path = self.folder.join("connections");
        let bytes = match atomic::read(&path, RECORD_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(StoreError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(store_error(error)),
        };
        let read = minicbor::decode(&bytes).map_err(|error| DriverError::Corrupt {
            what: path.display().to_string(),
            reason: error.to_string(),
        })?;
        Ok(Some(read))
    }

    /// Notes how the source is connected. What was noted before stays.
    pub(crate) fn note_connections(&self, found: &Connections) -> Result<(), DriverError> {
        let bytes = minicbor::to_vec(found).expect("encoding into memory cannot fail");
        atomic::create(&self.folder.join("connections"), &bytes).map_err(store_error)
    }
}

/// Whether a mark was left. One that says something else is somebody else's, and not absent.
fn is_marked(path: &Path, mark: &[u8]) -> Result<bool, DriverError> {
    match atomic::read(path, mark.len()) {
        Ok(found) if found == mark => Ok(true),
        Ok(_) | Err(StoreError::TooLarge { .. }) => Err(DriverError::Corrupt {
            what: path.display().to_string(),
            reason: "it is not the mark that is left there".to_owned(),
        }),
        Err(StoreError::Missing { .. }) => Ok(false),
        Err(error) => Err(store_error(error)),
    }
}

/// Whether something has this name. What cannot be looked at is not absent.
pub(crate) fn is_there(path: &Path) -> Result<bool, DriverError> {
    path.try_exists().map_err(|error| io_error(path, &error))
}

/// Writes a file that is not there. One with the same content is left; one with another
/// content is refused.
pub(crate) fn keep(path: &Path, bytes: &[u8]) -> Result<(), DriverError> {
    match atomic::create(path, bytes) {
        Ok(()) => Ok(()),
        Err(StoreError::Exists { .. }) => {
            let found = atomic::read(path, bytes.len()).map_err(store_error);
            if found.is_ok_and(|found| found == bytes) {
                return Ok(());
            }
            let what = path.display();
            Err(DriverError::Refused(format!("{what} has another content and is kept")))
        }
        Err(error) => Err(store_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_cannot_be_read_is_an_error_and_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let work = Work::open(folder.path(), PlanDigest::new([1; 32])).unwrap();
        assert!(!work.is_safeguarded().unwrap());
        work.mark_safeguarded().unwrap();
        assert!(work.is_safeguarded().unwrap());
        for other in [&b"whole?"[..], b"", b"whole\nand more"] {
            std::fs::write(work.safeguard_mark(), other).unwrap();
            let error = work.is_safeguarded().unwrap_err();
            assert!(matches!(error, DriverError::Corrupt { .. }), "{error:?}");
        }
        std::fs::remove_file(work.safeguard_mark()).unwrap();
        std::fs::create_dir(work.safeguard_mark()).unwrap();
        assert!(work.is_safeguarded().is_err());
    }
}
