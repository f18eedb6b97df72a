//! A file that is not complete yet, and what becomes of it.
//!
//! ```text
//! <staging>/<artifact>                  complete: it had its size and digest
//! <staging>/.<artifact>.part            its beginning; its length says where to go on
//! <staging>/.<artifact>.corrupt.<n>     was complete once and is not what was signed any more
//! ```
//!
//! No artifact's name begins with a dot, so none is ever taken for one of the others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use heirloom_model::digest::ArtifactDigest;
use heirloom_model::identifier::ReleaseName;
use heirloom_model::release::Artifact;

use crate::error::{FetchError, storage};
use crate::limit::{CHUNK_BYTES, CORRUPT_MAX};

/// The beginning of a file, and the digest of what is there: every byte is hashed when it arrives,
/// and what an earlier fetch left is hashed once, before anything is added.
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    hashed: Context,
}

impl Part {
    /// Opens what is there of a file, or begins it.
    pub(crate) fn open(staging: &Path, artifact: &Artifact) -> Result<Self, FetchError> {
        let path = staging.join(format!(".{}.part", artifact.name));
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = options.open(&path).map_err(storage(&path))?;
        let length = file.metadata().map_err(storage(&path))?.len();
        let mut part = Self { path, file, length, hashed: Context::new(&SHA256) };
        if length > artifact.size {
            part.restart()?;
        }
        // Not more than that: not every file ends.
        let mut kept = (&part.file).take(part.length);
        part.length = hash(&mut kept, &mut part.hashed).map_err(storage(&part.path))?;
        Ok(part)
    }

    /// How many bytes are there.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes at the end. What the disk took of them before it was full stays.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(bytes).map_err(storage(&self.path))?;
        self.length = self.length.saturating_add(bytes.len() as u64);
        self.hashed.update(bytes);
        Ok(())
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self) -> Result<(), FetchError> {
        if self.length > 0 {
            self.file.set_len(0).map_err(storage(&self.path))?;
            self.length = 0;
            self.hashed = Context::new(&SHA256);
        }
        Ok(())
    }

    /// The digest of everything that is there.
    pub(crate) fn digest(&self) -> ArtifactDigest {
        digest(self.hashed.clone())
    }

    /// Gives the file its name, durably.
    pub(crate) fn finish(self, target: &Path) -> Result<(), FetchError> {
        self.file.sync_all().map_err(storage(&self.path))?;
        fs::rename(&self.path, target).map_err(storage(target))?;
        sync_parent(target)
    }
}

/// Whether a file of that name is there and is the one that was signed. One that is not is set
/// aside: it must neither be used nor stand in the way.
pub(crate) fn is_complete(staging: &Path, artifact: &Artifact) -> Result<bool, FetchError> {
    let path = staging.join(artifact.name.as_str());
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(storage(&path)(error)),
    };
    if found.is_file() && found.len() == artifact.size {
        let mut file = File::open(&path).map_err(storage(&path))?;
        if digest_of(&mut file).map_err(storage(&path))? == artifact.digest {
            return Ok(true);
        }
    }
    set_aside(staging, &artifact.name)?;
    Ok(false)
}

/// Renames a corrupt file, so that somebody can look at it.
fn set_aside(staging: &Path, name: &ReleaseName) -> Result<(), FetchError> {
    let aside = |number: u32| staging.join(format!(".{name}.corrupt.{number}"));
    // The newest has number 0; the others move up by one, and the oldest gives way.
    for number in (1..CORRUPT_MAX).rev() {
        let (from, to) = (aside(number.saturating_sub(1)), aside(number));
        remove(&to).map_err(storage(&to))?;
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(storage(&from)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let path = staging.join(name.as_str());
    fs::rename(&path, aside(0)).map_err(storage(&path))?;
    sync_parent(&path)
}

/// Removes what was set aside, whatever it is, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn digest_of(file: &mut impl Read) -> io::Result<ArtifactDigest> {
    let mut context = Context::new(&SHA256);
    hash(file, &mut context)?;
    Ok(digest(context))
}

/// Hashes everything that is left to read, and returns how much it was.
fn hash(file: &mut impl Read, context: &mut Context) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut length: u64 = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(read) => {
                context.update(buffer.get(..read).unwrap_or_default());
                length = length.saturating_add(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn digest(context: Context) -> ArtifactDigest {
    let mut bytes = [0; ArtifactDigest::BYTES];
    bytes.copy_from_slice(context.finish().as_ref());
    ArtifactDigest::new(bytes)
}

/// Makes names in the directory of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), FetchError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory).and_then(|opened| opened.sync_all()).map_err(storage(directory))
}

#[cfg(test)]
mod tests {
    use heirloom_model::digest::DigestOf;

    use super::*;

    fn opened(staging: &Path) -> Part {
        let artifact = Artifact {
            name: "binary".parse().unwrap(),
            size: 12,
            digest: ArtifactDigest::of(&b"unused"[..]),
        };
        Part::open(staging, &artifact).unwrap()
    }

    #[test]
    fn the_digest_is_of_what_was_kept_and_of_what_arrived_since() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".binary.part");
        fs::write(&path, b"what ").unwrap();
        let mut part = opened(directory.path());
        assert_eq!(part.length(), 5);
        assert_eq!(part.digest(), ArtifactDigest::of(&b"what "[..]));
        part.append(b"was ").unwrap();
        part.append(b"kept").unwrap();
        assert_eq!((part.length(), part.digest()), (13, ArtifactDigest::of(&b"what was kept"[..])));
        part.restart().unwrap();
        assert_eq!((part.length(), part.digest()), (0, ArtifactDigest::of(&b""[..])));
        part.append(b"anew").unwrap();
        assert_eq!(part.digest(), ArtifactDigest::of(&b"anew"[..]));
        assert_eq!(fs::read(&path).unwrap(), b"anew");
    }

    #[test]
    fn what_is_too_long_is_not_hashed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".binary.part"), b"thirteen byte").unwrap();
        let part = opened(directory.path());
        assert_eq!((part.length(), part.digest()), (0, ArtifactDigest::of(&b""[..])));
    }
}
