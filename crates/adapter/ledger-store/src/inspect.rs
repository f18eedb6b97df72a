//! What a data directory has.

use std::collections::BTreeMap;
use std::path::Path;

use heirloom_model::digest::PlanDigest;
use heirloom_model::service::{SchemaVersion, Tip};

use crate::error::JobError;

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
    let _ = (data, state_file);
    unimplemented!()
}
