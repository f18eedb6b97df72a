//! Temporary files without names: they vanish with the process, also when it is killed.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{SnapshotError, io_error};

/// What is read or written of a temporary file at once.
const BUFFER_BYTES: usize = 64 * 1024;
/// Contracts are confidential: nobody else reads them while they are spilled.
const FILE_MODE: u32 = 0o600;
/// How often a name is tried that somebody else may have taken.
const NAMES_TRIED_MAX: u64 = 1_000;

/// A directory for temporary files.
///
/// Each file loses its name as soon as it is open, so that nothing has to be removed: the system
/// takes the space back when the file is closed or the process ends, whichever way it ends. A
/// crash between the two leaves an empty file, which nobody ever reads.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
    next: AtomicU64,
}

impl Scratch {
    /// Temporary files in `directory`, which exists. It needs room for the references between
    /// contracts, and for the contracts that others refer to.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), next: AtomicU64::new(0) }
    }

    /// Where they are made.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// An empty file that can be read and written.
    pub(crate) fn file(&self) -> Result<File, SnapshotError> {
        let process = std::process::id();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        for _ in 0..NAMES_TRIED_MAX {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let path = self.directory.join(format!(".heirloom-{process}-{number}.spill"));
            match options.open(&path) {
                Ok(file) => {
                    fs::remove_file(&path)
                        .map_err(|error| io_error("remove", &self.directory, &error))?;
                    return Ok(file);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("create", &self.directory, &error)),
            }
        }
        let error = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
        Err(io_error("create", &self.directory, &error))
    }

    /// What the system said about one of the files. They have no names, so the directory stands
    /// for them.
    pub(crate) fn error(&self, operation: &'static str, error: &std::io::Error) -> SnapshotError {
        io_error(operation, &self.directory, error)
    }
}

/// Appends to a temporary file.
pub(crate) struct Spill<'s> {
    scratch: &'s Scratch,
    file: BufWriter<File>,
    length: u64,
}

impl<'s> Spill<'s> {
    pub(crate) fn new(scratch: &'s Scratch) -> Result<Self, SnapshotError> {
        let file = BufWriter::with_capacity(BUFFER_BYTES, scratch.file()?);
        Ok(Self { scratch, file, length: 0 })
    }

    /// Appends bytes and returns where they begin.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<u64, SnapshotError> {
        let offset = self.length;
        self.file.write_all(bytes).map_err(|error| self.scratch.error("write", &error))?;
        self.length = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(offset)
    }

    /// The file, with everything in it.
    pub(crate) fn finish(self) -> Result<File, SnapshotError> {
        let scratch = self.scratch;
        self.file.into_inner().map_err(|error| scratch.error("write", error.error()))
    }

    /// A reader of everything, from the beginning.
    pub(crate) fn rewind(self) -> Result<BufReader<File>, SnapshotError> {
        let scratch = self.scratch;
        let mut file = self.finish()?;
        file.seek(SeekFrom::Start(0)).map_err(|error| scratch.error("rewind", &error))?;
        Ok(BufReader::with_capacity(BUFFER_BYTES, file))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_temporary_file_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(directory.path());
        let mut spill = Spill::new(&scratch).unwrap();
        assert_eq!(spill.append(b"one").unwrap(), 0);
        assert_eq!(spill.append(b"two").unwrap(), 3);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let mut text = String::new();
        spill.rewind().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetwo");
    }
}
