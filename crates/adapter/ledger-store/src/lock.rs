//! The lock of the process that has a ledger.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::{LedgerError, OpenError};

/// The longest text that a lock is read for: `pid` and a number.
const HOLDER_BYTES_MAX: u64 = 64;

/// A ledger belongs to this process until this is dropped, or the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |error| LedgerError::from_io("lock", path, error);
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = options.map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&mut file);
                return Err(OpenError::Held { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(io(error).into()),
        }
        // For people only: the lock is what counts, so nothing is flushed.
        let written = file.set_len(0).and_then(|()| {
            file.rewind()?;
            write!(file, "pid {}", std::process::id())
        });
        written.map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// Who has the lock, for people; none if it is free. Takes it for a moment, shared, so that those
/// who look do not disturb each other.
pub(crate) fn holder(path: &Path) -> Result<Option<String>, LedgerError> {
    let io = |error| LedgerError::from_io("look at", path, error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(read_holder(&mut file))),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

fn read_holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(HOLDER_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => text,
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}
