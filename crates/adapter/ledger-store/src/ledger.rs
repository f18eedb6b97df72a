//! The one process that appends.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use heed::CommitOrAbort;
use heirloom_ledger::block::BlockMetadata;
use heirloom_ledger::chain::{CheckedBlock, first_block};
use heirloom_ledger::configuration::Configuration;
use heirloom_ledger::schema;
use heirloom_model::digest::NetworkId;
use heirloom_model::service::{SchemaVersion, Tip};
use heirloom_store::atomic;

use crate::database::{Database, live};
use crate::directory::{Directory, ORIGINAL};
use crate::environment::{self, Access};
use crate::error::{LedgerError, OpenError};
use crate::lock::Lock;
use crate::records::{Head, Tables, Writer};

/// A ledger that this process has, and no other. Reads are those of [`Database`].
pub struct Ledger {
    database: Database,
    // After the database, so that the next holder finds it closed.
    _lock: Lock,
}

impl Ledger {
    /// Opens a ledger of exactly this schema. What is absent is not created.
    pub fn open(directory: &Path, expected: SchemaVersion) -> Result<Self, OpenError> {
        live(directory)?;
        let lock = Lock::take(&Directory::new(directory).lock())?;
        // Once more: only now nobody swaps it.
        let database = Database::open_at(&live(directory)?, Access::Append)?;
        let found = database.schema();
        if found != expected {
            return Err(OpenError::WrongSchema { found, wanted: expected });
        }
        Ok(Self { database, _lock: lock })
    }

    /// Creates the ledger of a network, with its first block, in a directory that is absent or
    /// empty.
    pub fn create(
        directory: &Path,
        network: NetworkId,
        configuration: &Configuration,
        schema: SchemaVersion,
    ) -> Result<Self, OpenError> {
        create_with(directory, network, configuration, schema, &mut |_| Ok(()))?;
        Self::open(directory, schema)
    }

    /// Appends the next block, and returns the new end, which is on disk.
    pub fn append(
        &self,
        block: &CheckedBlock,
        metadata: &BlockMetadata,
    ) -> Result<Tip, LedgerError> {
        metadata.check(&block.id())?;
        self.database.write(|writer| {
            let head = writer.view().head()?;
            Ok(writer.append(&head, block, Some(metadata))?.tip)
        })
    }
}

impl std::ops::Deref for Ledger {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

/// Creates a ledger, except for the lock. `fill` may append blocks before it counts.
pub(crate) fn create_with(
    directory: &Path,
    network: NetworkId,
    configuration: &Configuration,
    schema: SchemaVersion,
    fill: &mut dyn FnMut(&Database) -> Result<(), LedgerError>,
) -> Result<(), OpenError> {
    configuration.check()?;
    let known = schema::way(schema, schema);
    known.map_err(|_| OpenError::WrongSchema {
        found: schema,
        wanted: schema::SCHEMA_TRANSACTIONS,
    })?;
    let places = Directory::new(directory);
    let io = |error: io::Error| LedgerError::from_io("create", directory, error);
    let store = |error: heirloom_store::error::StoreError| io(io::Error::other(error));
    refuse_unless_empty(&places)?;
    atomic::create_directory(directory).map_err(store)?;
    let _lock = Lock::take(&places.lock())?;
    // Under the lock once more: another one may have created it meanwhile.
    refuse_unless_empty(&places)?;
    let unfinished = directory.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(io)?;
    }
    atomic::create_directory(&unfinished).map_err(store)?;
    let env = environment::open(&unfinished, Access::Bulk)?;
    let database = create_records(env, &unfinished, network, configuration, schema)?;
    fill(&database)?;
    database.flush()?;
    drop(database);
    if !places.live().is_symlink() {
        symlink(ORIGINAL, places.live()).map_err(io)?;
    }
    atomic::sync_directory(&unfinished).map_err(store)?;
    // The link shows the way to nothing until this.
    atomic::move_to(&unfinished, &places.original()).map_err(store)?;
    Ok(())
}

/// The name of a database that is being created.
const UNFINISHED: &str = "original.partial";

fn refuse_unless_empty(places: &Directory) -> Result<(), OpenError> {
    let path = places.root();
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(LedgerError::from_io("list", path, error).into()),
    };
    for entry in entries {
        let entry = entry.map_err(|error| LedgerError::from_io("list", path, error))?;
        let name = entry.file_name();
        // What an interrupted creation left: the link shows the way to nothing.
        let ours = name == UNFINISHED
            || entry.path() == places.lock()
            || (entry.path() == places.live() && !places.live().exists());
        if !ours {
            return Err(OpenError::Exists { path: path.to_owned() });
        }
    }
    Ok(())
}

fn create_records(
    env: heed::Env<heed::WithoutTls>,
    path: &Path,
    network: NetworkId,
    configuration: &Configuration,
    schema: SchemaVersion,
) -> Result<Database, LedgerError> {
    let heed = |error| LedgerError::from_heed("create", path, error);
    let txn = env.write_txn().map_err(heed)?;
    let mut failed = None;
    let created = env.create_databases_and_commit(txn, |opener, txn| {
        let tables = Tables::create(opener, txn, schema)?;
        let mut writer = Writer { tables: &tables, txn, path };
        let first = first_block(network, configuration);
        match writer.append(&Head::empty(network, schema), &first, None) {
            Ok(_) => Ok(CommitOrAbort::Commit(tables)),
            Err(error) => {
                failed = Some(error);
                Ok(CommitOrAbort::Abort(()))
            }
        }
    });
    created.map_err(heed)?;
    if let Some(error) = failed {
        return Err(error);
    }
    Database::of(env, path)
}

#[cfg(test)]
mod tests;
