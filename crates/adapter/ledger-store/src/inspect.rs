//! What a data directory has.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use heirloom_model::digest::PlanDigest;
use heirloom_model::service::{SchemaVersion, Tip};

use crate::database::Database;
use crate::directory::{Directory, MIGRATED};
use crate::error::JobError;
use crate::lock;
use crate::manifest::{Manifest, read_state};
use crate::migrate::link_name;
use crate::snapshot;

/// Snapshots that are looked at: one for each flag day.
const SNAPSHOTS_MAX: usize = 4_096;

/// What a data directory has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inspection {
    /// The end of the live ledger.
    pub tip: Tip,
    /// Its layout.
    pub schema: SchemaVersion,
    /// The plan whose copy is live; none if it is the original.
    pub migrated: Option<PlanDigest>,
    /// Verified snapshots, by plan.
    pub snapshots: BTreeMap<PlanDigest, Tip>,
    /// Who has the ledger, for people: `pid 123`.
    pub held: Option<String>,
    /// The next block that the distribution would archive; none without a state file.
    pub next: Option<u64>,
}

/// Looks at a data directory. Changes nothing.
pub fn inspect(data: &Path, state_file: &Path) -> Result<Inspection, JobError> {
    let places = Directory::new(data);
    let held = lock::holder(&places.lock())?;
    let database = Database::open(data)?;
    let migrated = link_name(&places)?.strip_prefix(MIGRATED).and_then(|plan| plan.parse().ok());
    Ok(Inspection {
        tip: database.tip()?,
        schema: database.schema(),
        migrated,
        snapshots: snapshots(&places)?,
        held,
        next: read_state(state_file)?,
    })
}

/// The snapshots that are whole. Others are none: a plan that needs one makes it again, or says
/// what is wrong with it.
fn snapshots(places: &Directory) -> Result<BTreeMap<PlanDigest, Tip>, JobError> {
    let path = places.snapshots();
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(JobError::from_io("list", &path, error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries.take(SNAPSHOTS_MAX) {
        let entry = entry.map_err(|error| JobError::from_io("list", &path, error))?;
        let Some(plan) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let whole = Manifest::read(&entry.path())
            .and_then(|manifest| snapshot::verify(&entry.path(), &plan, &manifest.tip));
        if let Ok(manifest) = whole {
            found.insert(plan, manifest.tip);
        }
    }
    Ok(found)
}
