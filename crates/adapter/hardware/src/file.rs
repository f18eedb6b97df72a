//! Files that are questions and answers: never created, never truncated, read to their end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use heirloom_keeper::port::PlatformError;
use zeroize::Zeroizing;

use crate::limit::WORD_BYTES_MAX;

/// Reads a file to its end. More than `bytes_max` is no answer.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, PlatformError> {
    read_or_absent(path, bytes_max)?
        .ok_or_else(|| unreachable(path, &io::ErrorKind::NotFound.into()))
}

/// The same for a file that not every kernel has.
pub(crate) fn read_or_absent(
    path: &Path,
    bytes_max: usize,
) -> Result<Option<Zeroizing<Vec<u8>>>, PlatformError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreachable(path, &error)),
    };
    let at_most = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    // Never grows: what was a key in a buffer that moved would stay behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max.saturating_add(64)));
    file.take(at_most).read_to_end(&mut bytes).map_err(|error| unreachable(path, &error))?;
    if bytes.len() > bytes_max {
        return Err(corrupt(path, &format!("has more than {bytes_max} bytes")));
    }
    Ok(Some(bytes))
}

/// Reads a file that has exactly `N` bytes.
pub(crate) fn read_exactly<const N: usize>(
    path: &Path,
) -> Result<Zeroizing<[u8; N]>, PlatformError> {
    let bytes = read(path, N)?;
    let exact = <[u8; N]>::try_from(bytes.as_slice());
    exact
        .map(Zeroizing::new)
        .map_err(|_| corrupt(path, &format!("has {} bytes instead of {N}", bytes.len())))
}

/// Reads a word, without the line end.
pub(crate) fn read_word(path: &Path) -> Result<String, PlatformError> {
    let bytes = read(path, WORD_BYTES_MAX)?;
    let text = str::from_utf8(&bytes).map_err(|_| corrupt(path, "is not text"))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a whole answer in one piece, which is what such files take.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), PlatformError> {
    let mut file =
        OpenOptions::new().write(true).open(path).map_err(|error| unreachable(path, &error))?;
    let written = file.write(bytes).map_err(|error| unreachable(path, &error))?;
    if written != bytes.len() {
        return Err(corrupt(path, &format!("took {written} of {} bytes", bytes.len())));
    }
    Ok(())
}

/// The system did not do it.
pub(crate) fn unreachable(path: &Path, error: &io::Error) -> PlatformError {
    PlatformError::Unreachable(format!("{}: {error}", path.display()))
}

/// The file's content is no answer.
pub(crate) fn corrupt(path: &Path, what: &str) -> PlatformError {
    PlatformError::Corrupt(format!("{} {what}", path.display()))
}
