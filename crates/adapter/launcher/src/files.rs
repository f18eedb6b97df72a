//! Small files that survive a power failure, or are not there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use heirloom_model::digest::sha256;
use heirloom_model::wire::{self, Wire};
use zeroize::Zeroizing;

/// Why a file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there.
    #[error("{path} is not there")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is there already, and is never overwritten.
    #[error("{path} is there already and is not overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It is there, but is not what it should be.
    #[error("{path} is corrupt: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is larger than it may be.
    #[error("{path} has more than the {limit} bytes allowed")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes allowed.
        limit: usize,
    },
    /// The system did not do it.
    #[error("{path} cannot be used")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FileError {
    fn failed(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Failed { path, source },
        }
    }

    fn corrupt(path: &Path, reason: &impl ToString) -> Self {
        Self::Corrupt { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// Creates a directory for this user alone, if it is not there.
pub fn create_private_directory(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(FileError::failed(path))
}

/// Replaces a file: written beside it, made durable, renamed, directory made durable.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = temporary_of(path);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::failed(&temporary)(error));
        }
        // What a crash left half written.
        _ => {}
    }
    let mut file = private_file(&temporary).map_err(FileError::failed(&temporary))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(FileError::failed(&temporary))?;
    rename(&temporary, path)
}

/// Where a file is made before it takes its place: under a name that no operator gives a file of
/// their own, beside it.
fn temporary_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Gives a file another name, durably, in the same directory. What had that name is gone.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::failed(to))?;
    sync_directory_of(to)
}

/// Removes a file that is there, durably.
pub fn remove(path: &Path) -> Result<(), FileError> {
    fs::remove_file(path).map_err(FileError::failed(path))?;
    sync_directory_of(path)
}

fn sync_directory_of(path: &Path) -> Result<(), FileError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::failed(directory))
}

/// Writes a file that must not be there yet.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    refuse_present(path)?;
    replace(path, bytes)
}

/// Fails if a file is there.
pub fn refuse_present(path: &Path) -> Result<(), FileError> {
    match path.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(FileError::Exists { path: path.to_owned() }),
        Err(error) => Err(FileError::failed(path)(error)),
    }
}

/// Reads a whole file of at most `limit` bytes.
pub fn read(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let mut file = File::open(path).map_err(FileError::failed(path))?;
    let mut bytes = Zeroizing::new(Vec::new());
    let take = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    (&mut file).take(take).read_to_end(&mut bytes).map_err(FileError::failed(path))?;
    if bytes.len() > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Reads a file that has one encoded value.
pub fn read_value<T: Wire>(path: &Path) -> Result<T, FileError> {
    wire::decode(&read(path, T::BYTES_MAX)?).map_err(|error| FileError::corrupt(path, &error))
}

/// Reads a file of text.
pub fn read_text(path: &Path, limit: usize) -> Result<Zeroizing<String>, FileError> {
    match std::str::from_utf8(&read(path, limit)?) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(error) => Err(FileError::corrupt(path, &error)),
    }
}

/// Stores secret bytes under a kind, with a digest that tells damage from another secret. A
/// secret that is there is never overwritten.
pub fn create_secret(path: &Path, kind: [u8; 16], secret: &[u8]) -> Result<(), FileError> {
    let bytes = Zeroizing::new([&kind[..], secret, &sha256(&[&kind, secret])].concat());
    create(path, &bytes)
}

/// Reads secret bytes of a kind.
pub fn read_secret<const N: usize>(
    path: &Path,
    kind: [u8; 16],
) -> Result<Zeroizing<[u8; N]>, FileError> {
    let bytes = read(path, kind.len() + N + 32)?;
    let parts = bytes.strip_prefix(&kind).and_then(|rest| rest.split_at_checked(N));
    let Some((secret, digest)) = parts else {
        return Err(FileError::corrupt(path, &"it has another kind or size"));
    };
    if digest != sha256(&[&kind, secret]) {
        return Err(FileError::corrupt(path, &"its digest does not belong to its content"));
    }
    let secret = secret.try_into().expect("the secret was split off at its length");
    Ok(Zeroizing::new(secret))
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KIND: [u8; 16] = *b"heirloom test  \n";

    #[test]
    fn a_damaged_secret_is_corrupt_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(matches!(read_secret::<8>(&path, KIND), Err(FileError::Missing { .. })));
        create_secret(&path, KIND, &[7; 8]).unwrap();
        assert_eq!(*read_secret::<8>(&path, KIND).unwrap(), [7; 8]);
        let whole = fs::read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(
                matches!(read_secret::<8>(&path, KIND), Err(FileError::Corrupt { .. })),
                "{at}"
            );
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(read_secret::<8>(&path, KIND), Err(FileError::Corrupt { .. })));
        assert!(matches!(create_secret(&path, KIND, &[8; 8]), Err(FileError::Exists { .. })));
    }

    #[test]
    fn a_file_left_by_a_crash_does_not_stop_the_next_write() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(directory.path().join(".file.new"), b"half").unwrap();
        replace(&path, b"whole").unwrap();
        assert_eq!(**read(&path, 5).unwrap(), *b"whole");
        assert!(matches!(read(&path, 4), Err(FileError::TooLarge { .. })));
    }

    #[test]
    fn a_file_that_is_replaced_takes_no_other_file_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let named = |name: &str| directory.path().join(name);
        for name in ["host.new", "host.request.new", "host"] {
            fs::write(named(name), name).unwrap();
        }
        replace(&named("host.request"), b"request").unwrap();
        for name in ["host.new", "host.request.new", "host"] {
            assert_eq!(fs::read_to_string(named(name)).unwrap(), name);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
    }
}
