//! Sealed state on disk: one live directory, and a quarantine that nothing here ever deletes
//! from.
//!
//! ```text
//! state/live/                         what the running keeper reads and writes
//! state/quarantine/<measurement>.<n>/ what was replaced, newest with the highest n
//! ```
//!
//! Every move is one rename, made durable before it is reported.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use heirloom_model::limit::SEALED_BYTES_MAX;
use heirloom_model::measurement::Measurement;
use heirloom_model::sealed::SealedEnvelope;
use heirloom_model::wire;

/// Files of one state directory: a keyring of the largest size, one file per generation.
pub const STATE_FILES_MAX: usize = 1_000_000;
/// Times that state of one measurement is quarantined.
pub const QUARANTINES_MAX: u32 = 10_000;

/// The sealed state of one node.
#[derive(Clone, Debug)]
pub struct StateDirectory {
    root: PathBuf,
}

/// Why sealed state was not moved. It is where it was.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Live state belongs to other code than expected.
    #[error("the live state was sealed by {found}, not by {expected}")]
    OtherCode {
        /// What was expected.
        expected: Measurement,
        /// What is there.
        found: Measurement,
    },
    /// More files or quarantines than there can be.
    #[error("{} holds more than {limit} entries", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
}

impl StateDirectory {
    /// Opens the directory, and makes it if its parent exists and it does not.
    pub fn open(root: PathBuf) -> Result<Self, StateError> {
        let state = Self { root };
        for path in [state.live_path(), state.quarantine_path()] {
            fs::create_dir_all(&path).map_err(io_error(&path))?;
            sync_directory(&path)?;
        }
        sync_directory(&state.root)?;
        Ok(state)
    }

    /// Where the keeper's files are.
    pub fn live_path(&self) -> PathBuf {
        self.root.join("live")
    }

    /// The measurements that sealed the live files. A file that does not say is counted for
    /// nobody: it stays where it is, and the keeper says what is wrong with it.
    pub fn live(&self) -> Result<BTreeSet<Measurement>, StateError> {
        sealers(&self.live_path())
    }

    /// Whether no keeper ever left anything here, not even a file that nobody can read.
    pub fn is_untouched(&self) -> Result<bool, StateError> {
        for path in [self.live_path(), self.quarantine_path()] {
            if fs::read_dir(&path).map_err(io_error(&path))?.next().is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The measurements that have quarantined state.
    pub fn quarantined(&self) -> Result<BTreeSet<Measurement>, StateError> {
        let named = entries(&self.quarantine_path(), QUARANTINES_MAX as usize)?;
        Ok(named.iter().filter_map(|path| quarantined_by(path)).map(|(by, _)| by).collect())
    }

    /// Moves live state of this measurement into quarantine. State of other code is refused; no
    /// state of it is nothing to do.
    pub fn quarantine(&self, measurement: &Measurement) -> Result<(), StateError> {
        let live = self.live()?;
        if !live.contains(measurement) {
            return Ok(());
        }
        if let Some(found) = live.iter().find(|found| *found != measurement) {
            return Err(StateError::OtherCode { expected: *measurement, found: *found });
        }
        let taken = self.numbers_of(measurement)?;
        let number = taken.last().map_or(1, |last| last.saturating_add(1));
        let target = self.quarantine_path().join(format!("{measurement}.{number}"));
        rename(&self.live_path(), &target)?;
        sync_directory(&self.quarantine_path())?;
        fs::create_dir_all(self.live_path()).map_err(io_error(&self.live_path()))?;
        sync_directory(&self.root)
    }

    /// Moves the newest quarantined state of this measurement back. Live state of other code is
    /// refused; live state of this code, or no quarantined state, is nothing to do.
    pub fn restore(&self, measurement: &Measurement) -> Result<(), StateError> {
        let live = self.live()?;
        if live.contains(measurement) {
            return Ok(());
        }
        if let Some(found) = live.first() {
            return Err(StateError::OtherCode { expected: *measurement, found: *found });
        }
        let taken = self.numbers_of(measurement)?;
        let Some(number) = taken.last() else { return Ok(()) };
        let source = self.quarantine_path().join(format!("{measurement}.{number}"));
        // The live directory is empty here; a rename replaces an empty directory at once.
        rename(&source, &self.live_path())?;
        sync_directory(&self.quarantine_path())?;
        sync_directory(&self.root)
    }

    fn quarantine_path(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    fn numbers_of(&self, measurement: &Measurement) -> Result<BTreeSet<u32>, StateError> {
        let named = entries(&self.quarantine_path(), QUARANTINES_MAX as usize)?;
        Ok(named
            .iter()
            .filter_map(|path| quarantined_by(path))
            .filter(|(by, _)| by == measurement)
            .map(|(_, number)| number)
            .collect())
    }
}

/// The measurements that sealed the files of a directory.
fn sealers(directory: &Path) -> Result<BTreeSet<Measurement>, StateError> {
    let mut found = BTreeSet::new();
    for path in entries(directory, STATE_FILES_MAX)? {
        let sealed = path.extension().is_some_and(|extension| extension == "sealed");
        let size = fs::metadata(&path).map_err(io_error(&path))?.len();
        if !sealed || size > SEALED_BYTES_MAX as u64 {
            continue;
        }
        let bytes = fs::read(&path).map_err(io_error(&path))?;
        if let Ok(envelope) = wire::decode::<SealedEnvelope>(&bytes) {
            found.insert(envelope.header.measurement);
        }
    }
    Ok(found)
}

/// Who sealed a quarantined directory, and its number, by its name.
fn quarantined_by(path: &Path) -> Option<(Measurement, u32)> {
    let (measurement, number) = path.file_name()?.to_str()?.rsplit_once('.')?;
    Some((measurement.parse().ok()?, number.parse().ok()?))
}

fn entries(directory: &Path, limit: usize) -> Result<Vec<PathBuf>, StateError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error(directory))? {
        found.push(entry.map_err(io_error(directory))?.path());
        if found.len() > limit {
            return Err(StateError::TooMany { path: directory.to_path_buf(), limit });
        }
    }
    found.sort();
    Ok(found)
}

fn rename(from: &Path, to: &Path) -> Result<(), StateError> {
    fs::rename(from, to).map_err(io_error(from))
}

fn sync_directory(path: &Path) -> Result<(), StateError> {
    fs::File::open(path).and_then(|directory| directory.sync_all()).map_err(io_error(path))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_path_buf();
    move |source| StateError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use heirloom_model::counter::Generation;
    use heirloom_model::digest::Nonce;
    use heirloom_model::identifier::{DomainId, PlatformId};
    use heirloom_model::measurement::{MrEnclave, MrSigner};
    use heirloom_model::sealed::{
        CpuSvn, SEALED_FORMAT, SealPolicy, SealRecipe, SealedHeader, SealedPurpose, SgxSealRecipe,
    };

    use super::*;

    const OLD: Measurement = Measurement::Sgx(MrEnclave::new([1; 32]));
    const NEW: Measurement = Measurement::Sgx(MrEnclave::new([2; 32]));

    fn seal_as(state: &StateDirectory, measurement: Measurement, content: u8) {
        let header = SealedHeader {
            format: SEALED_FORMAT,
            purpose: SealedPurpose::Keyring,
            domain: DomainId::new([4; 32]),
            first: Generation(0),
            last: Generation(0),
            sequence: 0,
            platform: PlatformId::new([5; 32]),
            measurement,
            signer: MrSigner::new([6; 32]),
            recipe: SealRecipe::Sgx(SgxSealRecipe {
                policy: SealPolicy::Measurement,
                isv_svn: 1,
                cpu_svn: CpuSvn::new([0; 16]),
                flags_mask: u64::MAX,
                xfrm_mask: u64::MAX,
                misc_mask: u32::MAX,
                key_id: Nonce::new([7; 32]),
            }),
            nonce: [8; 12],
        };
        let bytes = wire::encode(&SealedEnvelope { header, ciphertext: vec![content] });
        fs::write(state.live_path().join("keyring-0.sealed"), bytes).unwrap();
    }

    fn content(state: &StateDirectory) -> Vec<u8> {
        let bytes = fs::read(state.live_path().join("keyring-0.sealed")).unwrap();
        wire::decode::<SealedEnvelope>(&bytes).unwrap().ciphertext
    }

    #[test]
    fn state_comes_back_from_quarantine_the_newest_first_and_nothing_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(directory.path().join("state")).unwrap();
        seal_as(&state, OLD, 1);
        state.quarantine(&OLD).unwrap();
        state.quarantine(&OLD).unwrap();
        assert!(state.live().unwrap().is_empty());
        seal_as(&state, OLD, 2);
        state.quarantine(&OLD).unwrap();
        seal_as(&state, NEW, 3);
        assert!(matches!(state.restore(&OLD), Err(StateError::OtherCode { found: NEW, .. })));
        assert!(matches!(state.quarantine(&OLD), Ok(())), "no live state of the old code");
        state.quarantine(&NEW).unwrap();
        state.restore(&OLD).unwrap();
        state.restore(&OLD).unwrap();
        assert_eq!(content(&state), [2]);
        assert_eq!(state.quarantined().unwrap(), BTreeSet::from([OLD, NEW]));
    }

    #[test]
    fn state_of_two_sealers_is_not_quarantined_as_one() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(directory.path().join("state")).unwrap();
        seal_as(&state, OLD, 1);
        fs::rename(
            state.live_path().join("keyring-0.sealed"),
            state.live_path().join("keyring-9.sealed"),
        )
        .unwrap();
        seal_as(&state, NEW, 3);
        assert!(matches!(state.quarantine(&OLD), Err(StateError::OtherCode { found: NEW, .. })));
    }
}
