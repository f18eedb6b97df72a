//! Sealed state on disk: one live directory for each seat, and a quarantine that nothing here ever
//! deletes from.
//!
//! ```text
//! state/live/<measurement>/           what the instance of this code reads and writes
//! state/quarantine/<measurement>.<n>/ what was replaced or preserved, newest with the highest n
//! ```
//!
//! Every move is one rename, made durable before it is reported.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use heirloom_model::limit::SEALED_BYTES_MAX;
use heirloom_model::measurement::Measurement;
use heirloom_model::sealed::SealedEnvelope;
use heirloom_model::wire;
use heirloom_store::atomic;
use heirloom_store::error::StoreError;

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
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Live state belongs to other code than expected.
    #[error("the live state was sealed by {found}, not by {expected}")]
    OtherCode {
        /// What was expected.
        expected: Measurement,
        /// What is there.
        found: Measurement,
    },
    /// A file lies outside of every seat.
    #[error(
        "{} lies outside of every seat: put it where it came from, beside the files of the same code",
        path.display()
    )]
    Unclaimed {
        /// The file.
        path: PathBuf,
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
    /// Opens the directory, and makes it if it does not exist.
    pub fn open(root: PathBuf) -> Result<Self, StateError> {
        let state = Self { root };
        atomic::create_directory(&state.live_path())?;
        atomic::create_directory(&state.quarantine_path())?;
        state.expect_no_strays()?;
        Ok(state)
    }

    /// Where the files of the instance of this code are, or will be.
    pub fn seat_path(&self, measurement: &Measurement) -> PathBuf {
        self.live_path().join(measurement.to_string())
    }

    /// Makes the directory of a seat, so that an instance can start there.
    pub fn make_seat(&self, measurement: &Measurement) -> Result<(), StateError> {
        Ok(atomic::create_directory(&self.seat_path(measurement))?)
    }

    /// The code whose seat has sealed files, readable or not, finished or not: whatever a keeper
    /// left there counts until it is moved.
    pub fn live(&self) -> Result<BTreeSet<Measurement>, StateError> {
        let mut live = BTreeSet::new();
        for path in entries(&self.live_path(), STATE_FILES_MAX)? {
            let Some(code) = measurement_of(&path) else { continue };
            if path.is_dir() && has_sealed(&path)? {
                live.insert(code);
            }
        }
        Ok(live)
    }

    /// Whether no keeper ever left anything here, not even a file that nobody can read.
    pub fn is_untouched(&self) -> Result<bool, StateError> {
        for seat in entries(&self.live_path(), STATE_FILES_MAX)? {
            if !seat.is_dir() || !entries(&seat, STATE_FILES_MAX)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(entries(&self.quarantine_path(), QUARANTINES_MAX as usize)?.is_empty())
    }

    /// The measurements that have quarantined state.
    pub fn quarantined(&self) -> Result<BTreeSet<Measurement>, StateError> {
        let named = entries(&self.quarantine_path(), QUARANTINES_MAX as usize)?;
        Ok(named.iter().filter_map(|path| quarantined_by(path)).map(|(by, _)| by).collect())
    }

    /// Moves the seat of this measurement into quarantine, with everything in it, also what nobody
    /// can read. A seat with files of other code is refused; no sealed state is nothing to do.
    pub fn quarantine(&self, measurement: &Measurement) -> Result<(), StateError> {
        let seat = self.seat_path(measurement);
        if !seat.is_dir() || !has_sealed(&seat)? {
            return Ok(());
        }
        refuse_others(&seat, measurement)?;
        Ok(atomic::move_to(&seat, &self.next_quarantine(measurement)?)?)
    }

    /// Copies the seat of this measurement into quarantine, and leaves it in place. No sealed state
    /// is nothing to do, and neither is key material of which the newest copy has every byte: an
    /// agent that is killed again and again makes one copy.
    pub fn preserve(&self, measurement: &Measurement) -> Result<(), StateError> {
        let seat = self.seat_path(measurement);
        if !seat.is_dir() || !has_sealed(&seat)? {
            return Ok(());
        }
        if let Some(number) = self.numbers_of(measurement)?.pop_last() {
            let newest = self.quarantine_path().join(format!("{measurement}.{number}"));
            if has_all_keys_of(&newest, &seat)? {
                return Ok(());
            }
        }
        let target = self.next_quarantine(measurement)?;
        Ok(atomic::copy_directory(&seat, &target, STATE_FILES_MAX, SEALED_BYTES_MAX)?)
    }

    /// Moves the newest quarantined state of this measurement back. A seat with files of other
    /// code is refused; live state of this code, or no quarantined state, is nothing to do.
    pub fn restore(&self, measurement: &Measurement) -> Result<(), StateError> {
        let seat = self.seat_path(measurement);
        if seat.is_dir() {
            if has_file_of(&seat, measurement)? {
                return Ok(());
            }
            refuse_others(&seat, measurement)?;
        }
        let Some(number) = self.numbers_of(measurement)?.pop_last() else { return Ok(()) };
        if seat.is_dir() {
            // Fails if there is anything in it: nothing that somebody left is ever replaced.
            fs::remove_dir(&seat).map_err(|error| failed("make room in", &seat, &error))?;
        }
        let source = self.quarantine_path().join(format!("{measurement}.{number}"));
        Ok(atomic::move_to(&source, &seat)?)
    }

    /// Refuses files that lie directly in the live directory: no seat would open them, and nobody
    /// may take for absent what is there.
    fn expect_no_strays(&self) -> Result<(), StateError> {
        let live = self.live_path();
        match entries(&live, STATE_FILES_MAX)?.into_iter().find(|path| !path.is_dir()) {
            None => Ok(()),
            Some(path) => Err(StateError::Unclaimed { path }),
        }
    }

    fn live_path(&self) -> PathBuf {
        self.root.join("live")
    }

    fn quarantine_path(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    fn next_quarantine(&self, measurement: &Measurement) -> Result<PathBuf, StateError> {
        let last = self.numbers_of(measurement)?.pop_last();
        let number = last.map_or(1, |last| last.saturating_add(1));
        Ok(self.quarantine_path().join(format!("{measurement}.{number}")))
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

/// Whether a directory has a sealed file, or one that was being written when its keeper ended.
fn has_sealed(directory: &Path) -> Result<bool, StateError> {
    let is_sealed = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".sealed") || (name.starts_with('.') && name.contains(".sealed"))
    };
    Ok(entries(directory, STATE_FILES_MAX)?.iter().any(is_sealed))
}

/// Whether a copy has every file with keys of a seat, byte for byte. Witnesses change while a
/// keeper runs, and hold no key.
fn has_all_keys_of(copy: &Path, seat: &Path) -> Result<bool, StateError> {
    for path in entries(seat, STATE_FILES_MAX)? {
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with("witness-") {
            continue;
        }
        let ours = atomic::read_regular(&path, SEALED_BYTES_MAX)?;
        match atomic::read_regular(&copy.join(name), SEALED_BYTES_MAX) {
            Ok(theirs) if theirs == ours => {}
            Ok(_) | Err(StoreError::Missing { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Whether a directory has a file that this code sealed. One is enough: this is asked often.
fn has_file_of(directory: &Path, measurement: &Measurement) -> Result<bool, StateError> {
    for path in entries(directory, STATE_FILES_MAX)? {
        if sealed_by(&path)?.as_ref() == Some(measurement) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses a directory in which other code sealed a file.
fn refuse_others(directory: &Path, expected: &Measurement) -> Result<(), StateError> {
    for path in entries(directory, STATE_FILES_MAX)? {
        if let Some(found) = sealed_by(&path)?.filter(|found| found != expected) {
            return Err(StateError::OtherCode { expected: *expected, found });
        }
    }
    Ok(())
}

/// Who sealed a file, if it says so. One that is gone meanwhile says nothing, and neither does what
/// is no regular file: whoever writes in a seat may leave there what it likes.
fn sealed_by(path: &Path) -> Result<Option<Measurement>, StateError> {
    if path.extension().is_none_or(|extension| extension != "sealed") {
        return Ok(None);
    }
    let bytes = match atomic::read_regular(path, SEALED_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(
            StoreError::TooLarge { .. } | StoreError::Missing { .. } | StoreError::Corrupt { .. },
        ) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let envelope = wire::decode::<SealedEnvelope>(&bytes).ok();
    Ok(envelope.map(|envelope| envelope.header.measurement))
}

/// The code whose seat a directory is, by its name.
fn measurement_of(path: &Path) -> Option<Measurement> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Who sealed a quarantined directory, and its number, by its name.
fn quarantined_by(path: &Path) -> Option<(Measurement, u32)> {
    let (measurement, number) = path.file_name()?.to_str()?.rsplit_once('.')?;
    Some((measurement.parse().ok()?, number.parse().ok()?))
}

fn entries(directory: &Path, limit: usize) -> Result<Vec<PathBuf>, StateError> {
    let unreadable = |error: std::io::Error| failed("list", directory, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        found.push(entry.map_err(unreadable)?.path());
        if found.len() > limit {
            return Err(StateError::TooMany { path: directory.to_path_buf(), limit });
        }
    }
    found.sort();
    Ok(found)
}

fn failed(operation: &'static str, path: &Path, error: &std::io::Error) -> StateError {
    let (path, message) = (path.to_path_buf(), error.to_string());
    StateError::Store(StoreError::Failed { operation, path, message })
}

#[cfg(test)]
mod tests;
