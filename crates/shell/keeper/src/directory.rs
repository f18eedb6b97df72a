//! Sealed files in one directory, which one process at a time may use.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use heirloom_keeper::file::SUFFIX;
use heirloom_keeper::intent::StoredFile;
use heirloom_keeper::port::{StateStore, StoreError};
use heirloom_model::causes::with_causes;
use heirloom_model::limit::SEALED_BYTES_MAX;
use heirloom_store::atomic::{self, Readers};
use nix::fcntl::{Flock, FlockArg};

use crate::log::event;

/// A directory with a keeper's sealed files.
pub struct StateDirectory {
    path: PathBuf,
    /// Where the agent is another user, the directory is their group's, and so are files in it.
    readers: Readers,
    /// None when closed: nothing is read or written any more.
    lock: Option<Flock<File>>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It was closed: the keeper is ending.
    #[error("the keeper is ending")]
    Closed,
    /// Another keeper uses it.
    #[error("{path} is in use by another keeper")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It could not be created.
    #[error("the directory for sealed state cannot be created")]
    Create(#[source] heirloom_store::error::StoreError),
    /// Something in it could not be read. That is not the same as that it is not there.
    #[error("{path} cannot be read")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateDirectory {
    /// Opens a directory, creates it if it is not there, and keeps others out. What interrupted
    /// writes left is removed.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        atomic::create_directory(path).map_err(DirectoryError::Create)?;
        let unreadable = |source| DirectoryError::Read { path: path.to_owned(), source };
        let directory = File::open(path).map_err(unreadable)?;
        let lock = Flock::lock(directory, FlockArg::LockExclusiveNonblock)
            .map_err(|_| DirectoryError::InUse { path: path.to_owned() })?;
        let readers =
            if is_shared(path).map_err(unreadable)? { Readers::Group } else { Readers::Owner };
        let opened = Self { path: path.to_owned(), readers, lock: Some(lock) };
        if let Err(error) = opened.remove_unfinished() {
            // Nothing is wrong with what was written. Whoever gives its copy up tries again, and
            // does not succeed before it is gone.
            event("unfinished", error);
        }
        Ok(opened)
    }

    /// Lets others in. Whoever still has this can do nothing with it any more.
    pub fn close(&mut self) {
        self.lock = None;
    }

    /// Removes what an interrupted write left: sealed secrets, it may be, that
    /// [`load`](Self::load) does not show.
    pub fn remove_unfinished(&self) -> Result<(), StoreError> {
        let name = ".";
        expect_open(self, name)?;
        atomic::remove_unfinished(&self.path, SUFFIX).map_err(|error| failed(name, &error))
    }

    /// Makes removals durable, too: nothing that was removed comes back after a power failure.
    pub fn flush(&self) -> Result<(), StoreError> {
        let name = ".";
        expect_open(self, name)?;
        atomic::sync_directory(&self.path).map_err(|error| failed(name, &error))
    }

    /// Reads every sealed file. One that is larger than any may be is cut off after its limit,
    /// and will be found corrupt.
    pub fn load(&self) -> Result<Vec<StoredFile>, DirectoryError> {
        let unreadable =
            |path: &Path, source| DirectoryError::Read { path: path.to_owned(), source };
        if self.lock.is_none() {
            return Err(DirectoryError::Closed);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|error| unreadable(&self.path, error))? {
            let entry = entry.map_err(|error| unreadable(&self.path, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.ends_with(SUFFIX) || name.starts_with('.') {
                continue;
            }
            let path = entry.path();
            let bytes = read(&path).map_err(|error| unreadable(&path, error))?;
            files.push(StoredFile { name, bytes });
        }
        Ok(files)
    }
}

/// Refuses if the directory was closed.
fn expect_open(directory: &StateDirectory, name: &str) -> Result<(), StoreError> {
    if directory.lock.is_some() {
        return Ok(());
    }
    let reason = DirectoryError::Closed.to_string();
    Err(StoreError::Failed { file: name.to_owned(), reason })
}

fn failed(name: &str, error: &heirloom_store::error::StoreError) -> StoreError {
    let file = name.to_owned();
    match error {
        heirloom_store::error::StoreError::Full { .. } => StoreError::Full { file },
        other => StoreError::Failed { file, reason: with_causes(other) },
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(SEALED_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl StateStore for StateDirectory {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        expect_open(self, name)?;
        let path = self.path.join(name);
        atomic::write_for(self.readers, &path, bytes).map_err(|error| failed(name, &error))
    }

    fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        expect_open(self, name)?;
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Failed { file: name.to_owned(), reason: error.to_string() })
            }
            // That the removal itself is durable matters only for a copy that is given up, and
            // then the directory is flushed: anything else that comes back is removed again.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A directory in which the group writes is shared with the agent, which is another user there.
pub(crate) fn is_shared(directory: &Path) -> io::Result<bool> {
    Ok(fs::metadata(directory)?.permissions().mode() & 0o020 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_groups_where_the_directory_is() {
        let directory = tempfile::tempdir().unwrap();
        for (mode, expected) in [(0o700, 0o600), (0o770, 0o640)] {
            let shared = fs::Permissions::from_mode(mode);
            fs::set_permissions(directory.path(), shared).unwrap();
            let mut state = StateDirectory::open(directory.path()).unwrap();
            state.write("a.sealed", b"one").unwrap();
            let found = fs::metadata(directory.path().join("a.sealed")).unwrap();
            // What tests leave to the group is up to who runs them.
            assert_eq!(found.permissions().mode() & 0o740, expected & 0o740, "{mode:o}");
            assert_eq!(found.permissions().mode() & 0o007, 0);
        }
    }

    #[test]
    fn a_directory_belongs_to_one_keeper() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = StateDirectory::open(&path).unwrap();
        assert!(matches!(StateDirectory::open(&path), Err(DirectoryError::InUse { .. })));
        drop(first);
        let mut second = StateDirectory::open(&path).unwrap();
        second.close();
        assert!(StateDirectory::open(&path).is_ok());
        assert!(second.write("a.sealed", b"one").is_err());
        assert!(second.remove("a.sealed").is_err());
        assert!(second.flush().is_err());
        assert!(matches!(second.load(), Err(DirectoryError::Closed)));
    }

    #[test]
    fn what_an_interrupted_write_left_is_gone_when_the_directory_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let unfinished = directory.path().join(".a.sealed.new");
        let is_there = || unfinished.exists();
        fs::write(&unfinished, b"one").unwrap();
        let mut state = StateDirectory::open(directory.path()).unwrap();
        assert!(!is_there());
        state.write("a.sealed", b"one").unwrap();
        fs::write(&unfinished, b"two").unwrap();
        let second = StateDirectory::open(directory.path());
        assert!(second.is_err() && is_there(), "who does not have the directory removes nothing");
        state.remove_unfinished().unwrap();
        assert!(!is_there());
        assert_eq!(state.load().unwrap().len(), 1);
        state.close();
        assert!(state.remove_unfinished().is_err());
    }

    #[test]
    fn only_sealed_files_are_read_and_none_is_read_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = StateDirectory::open(directory.path()).unwrap();
        state.write("a.sealed", b"one").unwrap();
        state.write("a.sealed", b"two").unwrap();
        fs::write(directory.path().join("notes.txt"), b"").unwrap();
        fs::write(directory.path().join(".b.sealed.new"), b"").unwrap();
        fs::write(directory.path().join("large.sealed"), vec![0; SEALED_BYTES_MAX + 9]).unwrap();
        let mut files = state.load().unwrap();
        files.sort_by(|left, right| left.name.cmp(&right.name));
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].bytes, b"two");
        assert_eq!(files[1].bytes.len(), SEALED_BYTES_MAX + 1);
        state.remove("a.sealed").unwrap();
        state.remove("a.sealed").unwrap();
        state.flush().unwrap();
        assert_eq!(state.load().unwrap().len(), 1);
    }
}
