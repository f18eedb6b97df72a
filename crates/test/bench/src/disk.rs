//! The fewest system calls by which a file becomes durable under its name.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

/// Writes a file beside its place, flushes it, gives it its name, and flushes the directory.
pub(crate) fn write_durably(directory: &Path, name: &str, bytes: &[u8]) {
    let temporary = directory.join("bare.new");
    let mut file = File::create(&temporary).expect("the directory can be written");
    file.write_all(bytes).expect("the disk has room");
    file.sync_all().expect("the disk can be flushed");
    fs::rename(&temporary, directory.join(name)).expect("the directory can be written");
    let directory = File::open(directory).expect("the directory can be read");
    directory.sync_all().expect("the disk can be flushed");
}

/// Bytes of every keyring file in a directory.
pub(crate) fn keyring_files(directory: &Path) -> Vec<usize> {
    let entries = fs::read_dir(directory).expect("a keeper has a directory");
    entries
        .map(|entry| entry.expect("the directory can be read"))
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("keyring-"))
        .map(|entry| entry.metadata().expect("a file that is listed exists").len())
        .map(|bytes| usize::try_from(bytes).expect("a sealed file fits into memory"))
        .collect()
}
