//! Migrations on a copy, and the way back.
//!
//! The copy is made from the verified snapshot, beside its place. Each migration is one
//! transaction of the database, which changes the schema with the data, so that whatever stopped
//! it, the next attempt finds out where it is. Only a copy in which everything fits together is
//! made live, by replacing one link.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use heed::CommitOrAbort;
use heirloom_ledger::schema::{Migration, named_way, records_of_output, records_of_transaction};
use heirloom_ledger::transaction::Transaction;
use heirloom_model::digest::PlanDigest;
use heirloom_model::identifier::MigrationName;
use heirloom_model::service::{Height, SchemaVersion, Tip};
use heirloom_store::atomic;

use crate::copy;
use crate::database::{Database, live};
use crate::directory::{DATA_FILE, Directory, MIGRATED, ORIGINAL};
use crate::environment::{self, Access};
use crate::error::{JobError, LedgerError};
use crate::lock::Lock;
use crate::manifest::{LEDGER_DIRECTORY, Manifest};
use crate::records::{Head, Table, Tables, View, Writer, table_name};
use crate::snapshot::{self, Checkpoint, Progress};
use crate::verify::verify;

/// Says that the copy is whole, and what was live before: the name that the link had.
const COPIED_FILE: &str = "copied";
/// The longest name of a database: that of one that a plan made.
const NAME_BYTES_MAX: usize = 128;
/// The link that takes the place of the live one.
const NEW_LINK: &str = "live.new";

/// Makes the live database of a plan: a copy of its snapshot, migrated, checked, and swapped in.
/// Done once, it is done.
pub fn migrate(
    data: &Path,
    plan: &PlanDigest,
    expected: &Tip,
    to: SchemaVersion,
    names: &[MigrationName],
    progress: &mut dyn FnMut(Progress),
) -> Result<(), JobError> {
    let asked = Asked { plan, expected, to, names };
    let made = migrate_with(data, &asked, progress, &mut |_| Ok(()));
    if let Err(JobError::Full { .. }) = made {
        // What fills the disk now must not keep the node from going back.
        copy::remove_unfinished(&Directory::new(data).partial(plan))?;
    }
    made
}

/// What a migration is to come to.
pub(crate) struct Asked<'a> {
    pub(crate) plan: &'a PlanDigest,
    pub(crate) expected: &'a Tip,
    pub(crate) to: SchemaVersion,
    pub(crate) names: &'a [MigrationName],
}

pub(crate) fn migrate_with(
    data: &Path,
    asked: &Asked<'_>,
    progress: &mut dyn FnMut(Progress),
    checkpoint: Checkpoint<'_>,
) -> Result<(), JobError> {
    let places = Directory::new(data);
    let before = live(data)?;
    let _lock = Lock::take(&places.lock())?;
    let manifest = snapshot::verify(&places.snapshot(asked.plan), asked.plan, asked.expected)?;
    let way = named_way(manifest.schema, asked.to, asked.names)?;
    let (place, partial) = (places.migrated(asked.plan), places.partial(asked.plan));
    if !place.exists() {
        snapshot::flush_live(&before, asked.expected)?;
        if copied_from(&partial)?.is_none() {
            copy_snapshot(&places, asked, &manifest, &before, progress, checkpoint)?;
        }
        let migrated = migrate_copy(&partial, &manifest, &way, asked, checkpoint);
        if let Err(JobError::Corrupt { .. }) = &migrated {
            // Perhaps the copy only: the next attempt makes a new one.
            let _removed = fs::remove_file(partial.join(COPIED_FILE));
        }
        migrated?;
        atomic::move_to(&partial, &place)?;
        checkpoint("the copy has its name")?;
    }
    check_end(&place, asked)?;
    swap(&places, &format!("{MIGRATED}{}", asked.plan), checkpoint)
}

/// Makes the database live again that was so before a plan. Done once, it is done.
pub fn revert(data: &Path, plan: &PlanDigest, expected: &Tip) -> Result<(), JobError> {
    revert_with(data, plan, expected, &mut |_| Ok(()))
}

pub(crate) fn revert_with(
    data: &Path,
    plan: &PlanDigest,
    expected: &Tip,
    checkpoint: Checkpoint<'_>,
) -> Result<(), JobError> {
    let places = Directory::new(data);
    let live = live(data)?;
    let _lock = Lock::take(&places.lock())?;
    let name = link_name(&places)?;
    if name != format!("{MIGRATED}{plan}") {
        return check_tip(&live, expected);
    }
    let copied = places.migrated(plan).join(COPIED_FILE);
    let previous =
        copied_from(&places.migrated(plan))?.ok_or(JobError::Missing { path: copied })?;
    check_tip(&places.root().join(&previous), expected)?;
    swap(&places, &previous, checkpoint)
}

/// The name of what was live when the copy in a directory was made; none if it is not whole.
fn copied_from(directory: &Path) -> Result<Option<String>, JobError> {
    let path = directory.join(COPIED_FILE);
    let bytes = match atomic::read(&path, NAME_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(heirloom_store::error::StoreError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let name = String::from_utf8(bytes).ok().filter(|name| is_database_name(name));
    let corrupt = || JobError::corrupt(&path, "name", "it is no name of a database");
    name.map(Some).ok_or_else(corrupt)
}

fn is_database_name(name: &str) -> bool {
    let plan = name.strip_prefix(MIGRATED).map(str::parse::<PlanDigest>);
    name == ORIGINAL || matches!(plan, Some(Ok(_)))
}

/// The name that the live link has.
pub(crate) fn link_name(places: &Directory) -> Result<String, JobError> {
    let live = places.live();
    let target = fs::read_link(&live);
    let target = target.map_err(|error| JobError::from_io("read", &live, error))?;
    let name = target.to_str().filter(|name| is_database_name(name)).map(str::to_owned);
    name.ok_or_else(|| JobError::corrupt(&live, "link", "it is no name of a database"))
}

fn copy_snapshot(
    places: &Directory,
    asked: &Asked<'_>,
    manifest: &Manifest,
    before: &Path,
    progress: &mut dyn FnMut(Progress),
    checkpoint: Checkpoint<'_>,
) -> Result<(), JobError> {
    let previous = link_name(places)?;
    if fs::canonicalize(places.root().join(&previous)).ok().as_deref() != Some(before) {
        return Err(JobError::refused("the live link changed while the migration began"));
    }
    let partial = places.partial(asked.plan);
    copy::remove_unfinished(&partial)?;
    checkpoint("nothing is copied")?;
    atomic::create_directory(&partial)?;
    let from = places.snapshot(asked.plan).join(LEDGER_DIRECTORY).join(DATA_FILE);
    let copied = copy::copy(&from, &partial.join(DATA_FILE), progress)?;
    checkpoint("the snapshot is copied")?;
    if (copied.bytes, copied.digest) != (manifest.bytes, manifest.digest) {
        let reason = "its digest is not the one in the manifest";
        return Err(JobError::corrupt(&from, "database", reason));
    }
    atomic::write(&partial.join(COPIED_FILE), previous.as_bytes())?;
    checkpoint("the copy is marked as whole")
}

fn migrate_copy(
    partial: &Path,
    manifest: &Manifest,
    way: &[Migration],
    asked: &Asked<'_>,
    checkpoint: Checkpoint<'_>,
) -> Result<(), JobError> {
    let mut database = Database::open_at(partial, Access::Append)?;
    check_invariants(&database, manifest)?;
    checkpoint("the copy fits together")?;
    for migration in way {
        if migration.from() < database.schema() {
            continue;
        }
        drop(database);
        apply(partial, *migration)?;
        checkpoint("one migration is done")?;
        database = Database::open_at(partial, Access::Append)?;
    }
    if database.schema() != asked.to {
        let reason = format!("it has schema {} after all migrations", database.schema());
        return Err(JobError::corrupt(partial, "schema", reason));
    }
    check_invariants(&database, manifest)?;
    database.flush()?;
    drop(database);
    atomic::sync_directory(partial)?;
    checkpoint("all migrations are done")
}

/// Tip, numbers and sums are those of the snapshot, and every record fits to the others.
fn check_invariants(database: &Database, manifest: &Manifest) -> Result<(), JobError> {
    let head = verify(database)?;
    let same = head.tip == manifest.tip
        && head.totals == manifest.totals
        && head.network == manifest.network;
    if !same {
        let reason = "tip, numbers or sums are not those of the snapshot";
        return Err(JobError::corrupt(database.path(), "head", reason));
    }
    Ok(())
}

/// Applies one migration: its table, its records and the schema, all of it or nothing.
fn apply(path: &Path, migration: Migration) -> Result<(), LedgerError> {
    let env = environment::open(path, Access::Append)?;
    let heed = |error| LedgerError::from_heed("migrate", path, error);
    let txn = env.write_txn().map_err(heed)?;
    let mut failed = None;
    let applied = env.create_databases_and_commit(txn, |opener, txn| {
        let index = match migration {
            Migration::OutputsByOwner => heirloom_ledger::schema::Index::OutputsByOwner,
            Migration::HeightOfTransaction => heirloom_ledger::schema::Index::HeightOfTransaction,
        };
        let created: Table<'_> = opener.create_database(txn, Some(table_name(index)))?;
        let filled = Tables::open(opener, txn, path)
            .and_then(|tables| fill(&mut Writer { tables: &tables, txn, path }, migration));
        match filled {
            Ok(()) => Ok(CommitOrAbort::Commit(created)),
            Err(error) => {
                failed = Some(error);
                Ok(CommitOrAbort::Abort(()))
            }
        }
    });
    applied.map_err(heed)?;
    failed.map_or(Ok(()), Err)
}

fn fill(writer: &mut Writer<'_, '_, '_>, migration: Migration) -> Result<(), LedgerError> {
    let head = writer.view().head()?;
    if head.schema != migration.from() {
        let reason = format!("it has schema {}, not {}", head.schema, migration.from());
        return Err(LedgerError::corrupt(writer.path, "schema", reason));
    }
    for height in (1..=head.tip.height.0).map(Height) {
        let records = new_records(&writer.view(), migration, height)?;
        for record in &records {
            writer.put_index(Some(record))?;
        }
    }
    writer.put_head(&Head { schema: migration.to(), ..head })
}

/// The new records of one block.
fn new_records(
    view: &View<'_, '_>,
    migration: Migration,
    height: Height,
) -> Result<Vec<heirloom_ledger::schema::IndexRecord>, LedgerError> {
    use heirloom_ledger::output::OutputId;
    let missing = || LedgerError::corrupt(view.path, format!("block {height}"), "it is missing");
    let block = view.block(height)?.ok_or_else(missing)?.block;
    let to = migration.to();
    match migration {
        Migration::HeightOfTransaction => {
            let ids = block.transactions.iter().map(Transaction::id);
            Ok(ids.filter_map(|id| records_of_transaction(to, &id, height)).collect())
        }
        Migration::OutputsByOwner => {
            let allocated = (0..block.allocations.len()).map(|index| {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                OutputId::of_allocation(&block.network, index)
            });
            let created = block
                .transactions
                .iter()
                .flat_map(heirloom_ledger::transaction::Transaction::created);
            let ids: Vec<_> = allocated.chain(created.map(|(id, _)| id)).collect();
            let record = |id: OutputId| {
                let record = format!("output {id}");
                let missing = || LedgerError::corrupt(view.path, record, "it is missing");
                let output = view.output(&id)?.ok_or_else(missing)?;
                Ok(records_of_output(to, &id, &output))
            };
            ids.into_iter().filter_map(|id| record(id).transpose()).collect()
        }
    }
}

fn check_tip(path: &Path, expected: &Tip) -> Result<(), JobError> {
    let found = Database::open_at(path, Access::Read)?.tip()?;
    if found != *expected {
        return Err(JobError::OtherTip { expected: *expected, found });
    }
    Ok(())
}

fn check_end(place: &Path, asked: &Asked<'_>) -> Result<(), JobError> {
    check_tip(place, asked.expected)?;
    let found = Database::open_at(place, Access::Read)?.schema();
    if found != asked.to {
        let reason = format!("it has schema {found}, and the plan says {}", asked.to);
        return Err(JobError::refused(format!("{}: {reason}", place.display())));
    }
    Ok(())
}

/// Replaces the live link. After a crash it is the old one or the new one.
fn swap(places: &Directory, name: &str, checkpoint: Checkpoint<'_>) -> Result<(), JobError> {
    if link_name(places)? == name {
        return Ok(atomic::sync_directory(places.root())?);
    }
    let new = places.root().join(NEW_LINK);
    match fs::remove_file(&new) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(JobError::from_io("remove", &new, error)),
    }
    symlink(name, &new).map_err(|error| JobError::from_io("link", &new, error))?;
    checkpoint("the new link is there")?;
    fs::rename(&new, places.live()).map_err(|error| JobError::from_io("replace", &new, error))?;
    checkpoint("the live link is replaced")?;
    Ok(atomic::sync_directory(places.root())?)
}

#[cfg(test)]
mod tests;
