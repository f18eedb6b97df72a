//! LMDB environments: the one place that maps a database into memory.

use std::path::Path;

use heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};

use crate::directory::DATA_FILE;
use crate::error::LedgerError;

/// How much of the address space a database may take. The file grows with what is in it; when it
/// reaches this, the ledger is full.
const MAP_BYTES_MAX: usize = 64 << 30;
/// Named tables: seven, and room for those of later schemas.
const TABLES_MAX: u32 = 16;
/// Readers at one time, of all processes.
const READERS_MAX: u32 = 256;

/// What is done with an environment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    /// Write, and have each commit on disk when it returns.
    Append,
    /// Write much, and flush at the end. For databases that nobody relies on yet.
    Bulk,
    /// Read what another process may be writing.
    Read,
    /// Read what nobody writes, and leave no lock file beside it.
    ReadAlone,
}

/// Opens the environment in a directory. Its file must be there unless it is written in bulk.
pub(crate) fn open(path: &Path, access: Access) -> Result<Env<WithoutTls>, LedgerError> {
    open_with_room(path, access, MAP_BYTES_MAX)
}

/// As [`open`], with room for so many bytes.
#[expect(unsafe_code, reason = "heed says what a memory map asks of whoever opens it")]
pub(crate) fn open_with_room(
    path: &Path,
    access: Access,
    bytes_max: usize,
) -> Result<Env<WithoutTls>, LedgerError> {
    let file = path.join(DATA_FILE);
    if access != Access::Bulk {
        // LMDB would create it.
        let found = std::fs::metadata(&file);
        found.map_err(|error| LedgerError::from_io("open", &file, error))?;
    }
    let flags = match access {
        Access::Append => EnvFlags::empty(),
        Access::Bulk => EnvFlags::NO_SYNC,
        Access::Read => EnvFlags::READ_ONLY,
        Access::ReadAlone => EnvFlags::READ_ONLY | EnvFlags::NO_LOCK,
    };
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(bytes_max).max_dbs(TABLES_MAX).max_readers(READERS_MAX);
    // SAFETY: the file is changed through LMDB only: the directory belongs to the node, every
    // writer holds the lock beside it, and copies are made before they are opened and replaced
    // by renaming. Without syncing, a crash can only spoil a database that nobody relies on yet;
    // without locking, nobody writes.
    let opened = unsafe { options.flags(flags).open(path) };
    opened.map_err(|error| LedgerError::from_heed("open", path, error))
}
