//! Files that hold one signing key, in the format of [`heirloom_model::key_file`].

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use heirloom_model::key_file::{self, KEY_FILE_BYTES_MAX};
use heirloom_model::signature::SigningKey;
use zeroize::Zeroizing;

use crate::atomic;
use crate::error::{Context, StoreError};

/// Why there is no key. The text of the file is never quoted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyFileError {
    /// The file was not read or written.
    #[error("the key file is not there, or not usable")]
    Store(#[from] StoreError),
    /// Others can read it, so it may not be secret any more.
    #[error("{path} can be read by others (mode {mode:03o})")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Who may do what with it.
        mode: u32,
    },
    /// It is not a key.
    #[error("{path} is not a signing key")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        #[source]
        source: key_file::KeyFileError,
    },
}

/// Writes a new key file that only its owner can read. One that is there is never touched.
pub fn create(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    Ok(key_file::to_text(key).expose(|text| atomic::create(path, text))?)
}

/// Reads a key file, which nobody but its owner may be able to read.
pub fn read(path: &Path) -> Result<SigningKey, KeyFileError> {
    let found = fs::metadata(path).context("inspect", path)?;
    let mode = found.permissions().mode() & 0o777;
    // A pipe of the caller has the mode that the shell gave it, and is gone afterwards.
    if found.is_file() && mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let bytes = Zeroizing::new(atomic::read(path, KEY_FILE_BYTES_MAX)?);
    let malformed = |source| KeyFileError::Malformed { path: path.to_owned(), source };
    let text =
        std::str::from_utf8(&bytes).map_err(|_| malformed(key_file::KeyFileError::Header))?;
    key_file::from_text(text).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> (tempfile::TempDir, PathBuf, SigningKey) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one.key");
        let key = SigningKey::generate(&mut |bytes| bytes.fill(7));
        create(&path, &key).unwrap();
        (directory, path, key)
    }

    #[test]
    fn a_key_is_written_once_for_its_owner_only() {
        let (directory, path, key) = written();
        assert_eq!(read(&path).unwrap().public_key(), key.public_key());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = create(&path, &key);
        assert!(matches!(again, Err(KeyFileError::Store(StoreError::Exists { .. }))));
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, 1, "no second copy of a secret stays behind");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_directory, path, _) = written();
        for mode in [0o640, 0o604, 0o610, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read(&path), Err(KeyFileError::Exposed { .. })), "{mode:o}");
        }
    }

    #[test]
    fn a_missing_and_a_damaged_key_are_different() {
        let (_directory, path, _) = written();
        let missing = read(&path.with_extension("gone"));
        assert!(matches!(missing, Err(KeyFileError::Store(StoreError::Missing { .. }))));
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 2);
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(read(&path), Err(KeyFileError::Malformed { .. })));
    }
}
