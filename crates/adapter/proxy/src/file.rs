//! Files that the proxy reads and we replace as a whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::edge::EdgeError;

/// There is no secret in it, and the proxy may run as somebody else.
const FILE_MODE: u32 = 0o644;

/// Replaces a file, or creates it. After a crash there is the old content or the new, whole.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), EdgeError> {
    let temporary = temporary_of(path);
    if let Err(error) = write_new(&temporary, text) {
        // A part of the text helps nobody. That it cannot be removed changes nothing about why.
        let _removed = fs::remove_file(&temporary);
        return Err(error);
    }
    fs::rename(&temporary, path).map_err(|error| EdgeError::at_file("replace", path, &error))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let opened = File::open(directory).map_err(|error| at("open", directory, &error))?;
    opened.sync_all().map_err(|error| at("flush", directory, &error))
}

/// Reads a text of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<String, EdgeError> {
    let file = File::open(path).map_err(|error| at("open", path, &error))?;
    let mut bytes = Vec::new();
    let mut limited = file.take(limit.saturating_add(1));
    limited.read_to_end(&mut bytes).map_err(|error| at("read", path, &error))?;
    let corrupt = |reason: String| EdgeError::Corrupt { path: path.to_owned(), reason };
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(corrupt(format!("it has more than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_error| corrupt("it is no text".to_owned()))
}

fn write_new(path: &Path, text: &str) -> Result<(), EdgeError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(path).map_err(|error| at("create", path, &error))?;
    file.write_all(text.as_bytes()).map_err(|error| at("write", path, &error))?;
    file.sync_all().map_err(|error| at("flush", path, &error))
}

/// A name that no pattern such as `*.conf` in a configuration finds.
fn temporary_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn at(operation: &str, path: &Path, error: &std::io::Error) -> EdgeError {
    EdgeError::at_file(operation, path, error)
}
