//! Snapshots: the database and the distribution's state file, as a pair.
//!
//! Made beside their place, read back, opened once more, and only then given their name. A crash
//! leaves a `.partial` directory at most, which the next attempt replaces.

use std::path::{Path, PathBuf};

use heirloom_model::digest::PlanDigest;
use heirloom_model::service::Tip;
use heirloom_store::atomic;

use crate::copy;
use crate::database::{Database, live};
use crate::directory::{DATA_FILE, Directory};
use crate::environment::Access;
use crate::error::JobError;
use crate::lock::Lock;
use crate::manifest::{
    DISTRIBUTION_FILE, LEDGER_DIRECTORY, Manifest, check_pair, read_state, write_state,
};

/// How far a job is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// What is done, in bytes.
    pub bytes: u64,
    /// How much it is.
    pub of: u64,
}

/// Is told what a job has done, and may stop it there, as a crash would.
pub(crate) type Checkpoint<'a> = &'a mut dyn FnMut(&'static str) -> Result<(), JobError>;

/// Copies the live database and the distribution's state file, as a pair. Done once, it is done.
pub fn snapshot(
    data: &Path,
    state_file: &Path,
    plan: &PlanDigest,
    expected: &Tip,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), JobError> {
    let made = snapshot_with(data, state_file, plan, expected, progress, &mut |_| Ok(()));
    if let Err(JobError::Full { .. }) = made {
        // What fills the disk now must not keep the node from going back.
        copy::remove_unfinished(&unfinished(&Directory::new(data), plan))?;
    }
    made
}

fn unfinished(places: &Directory, plan: &PlanDigest) -> PathBuf {
    places.snapshots().join(format!("{plan}.partial"))
}

pub(crate) fn snapshot_with(
    data: &Path,
    state_file: &Path,
    plan: &PlanDigest,
    expected: &Tip,
    progress: &mut dyn FnMut(Progress),
    checkpoint: Checkpoint<'_>,
) -> Result<(), JobError> {
    let places = Directory::new(data);
    let live = live(data)?;
    let _lock = Lock::take(&places.lock())?;
    let place = places.snapshot(plan);
    if place.exists() {
        return verify(&place, plan, expected).map(|_| ());
    }
    let next = read_state(state_file)?;
    flush_live(&live, expected)?;
    check_pair(next, expected)?;
    let partial = unfinished(&places, plan);
    copy::remove_unfinished(&partial)?;
    checkpoint("nothing is there")?;
    let ledger = partial.join(LEDGER_DIRECTORY);
    atomic::create_directory(&ledger)?;
    checkpoint("the directory is there")?;
    let copied = copy::copy(&live.join(DATA_FILE), &ledger.join(DATA_FILE), progress)?;
    checkpoint("the database is copied")?;
    if let Some(next) = next {
        write_state(&partial.join(DISTRIBUTION_FILE), next)?;
    }
    checkpoint("the state file is copied")?;
    let copy = Database::open_at(&ledger, Access::ReadAlone)?;
    let found = copy.tip()?;
    if found != *expected {
        return Err(JobError::OtherTip { expected: *expected, found });
    }
    let manifest = Manifest {
        plan: *plan,
        network: copy.network(),
        schema: copy.schema(),
        tip: found,
        totals: copy.totals()?,
        bytes: copied.bytes,
        digest: copied.digest,
        next,
    };
    drop(copy);
    atomic::sync_directory(&ledger)?;
    manifest.write(&partial)?;
    checkpoint("the manifest is written")?;
    atomic::move_to(&partial, &place)?;
    checkpoint("it has its name")?;
    Ok(())
}

/// Reads the manifest of a finished snapshot and compares: the plan, the tip, the pair, and the
/// size of the file. Its digest is compared whenever it is copied.
pub(crate) fn verify(
    place: &Path,
    plan: &PlanDigest,
    expected: &Tip,
) -> Result<Manifest, JobError> {
    let manifest = Manifest::read(place)?;
    let corrupt = |record: &str, reason: &str| JobError::corrupt(place, record, reason);
    if manifest.plan != *plan {
        return Err(corrupt("manifest", "it is of another plan"));
    }
    if manifest.tip != *expected {
        return Err(JobError::OtherTip { expected: *expected, found: manifest.tip });
    }
    let file = place.join(LEDGER_DIRECTORY).join(DATA_FILE);
    let found = std::fs::metadata(&file);
    let found = found.map_err(|error| JobError::from_io("look at", &file, error))?.len();
    if found != manifest.bytes {
        return Err(corrupt("database", "it has not the size that the manifest says"));
    }
    let next = read_state(&place.join(DISTRIBUTION_FILE))?;
    if next != manifest.next {
        return Err(corrupt("state file", "it is not the one that the manifest says"));
    }
    check_pair(next, expected)?;
    Ok(manifest)
}

/// Compares the tip of a closed database, and puts what it has on disk.
pub(crate) fn flush_live(live: &Path, expected: &Tip) -> Result<(), JobError> {
    let database = Database::open_at(live, Access::Append)?;
    let found = database.tip()?;
    if found != *expected {
        return Err(JobError::OtherTip { expected: *expected, found });
    }
    Ok(database.flush()?)
}

#[cfg(test)]
mod tests;
