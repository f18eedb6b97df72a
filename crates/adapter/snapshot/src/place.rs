//! Files that take their place only when they are whole.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use heirloom_store::atomic::sync_directory;

use crate::error::{SnapshotError, io_error};

/// Contracts are confidential.
const FILE_MODE: u32 = 0o600;
/// What is written of a file at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file under a temporary name beside its place. Dropped, it is removed.
///
/// The temporary name is fixed, so that interrupted runs leave at most one such file, which the
/// next run overwrites.
pub(crate) struct Unfinished {
    place: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Unfinished {
    pub(crate) fn create(place: &Path) -> Result<Self, SnapshotError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(place.file_name().unwrap_or_default());
        name.push(".new");
        let temporary = place.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let file =
            options.open(&temporary).map_err(|error| io_error("create", &temporary, &error))?;
        let file = Some(BufWriter::with_capacity(BUFFER_BYTES, file));
        Ok(Self { place: place.to_owned(), temporary, file })
    }

    /// Writes everything to the disk; it still has its temporary name.
    pub(crate) fn flush(mut self) -> Result<Whole, SnapshotError> {
        let mut file = self.file.take().expect("a file is flushed once");
        file.flush().map_err(|error| io_error("write", &self.place, &error))?;
        let file = file.get_ref();
        file.sync_all().map_err(|error| io_error("flush", &self.place, &error))?;
        Ok(Whole(self))
    }
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.as_mut().expect("it is not flushed").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.as_mut().expect("it is not flushed").flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // The buffer is not worth writing any more.
        if let Some(file) = self.file.take() {
            drop(file.into_parts());
        }
        // That it stays changes nothing about why: its name says that it is unfinished.
        let _removed = fs::remove_file(&self.temporary);
    }
}

/// A file that is on the disk as a whole, under its temporary name.
pub(crate) struct Whole(Unfinished);

impl Whole {
    /// Gives it its name, durably. What had that name before is replaced.
    pub(crate) fn take_place(self) -> Result<(), SnapshotError> {
        let place = &self.0.place;
        fs::rename(&self.0.temporary, place).map_err(|error| io_error("replace", place, &error))?;
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(sync_directory(parent.unwrap_or(Path::new(".")))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_the_old_file_or_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        fs::write(&path, "old").unwrap();
        let mut file = Unfinished::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let mut file = Unfinished::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        let whole = file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        whole.take_place().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
