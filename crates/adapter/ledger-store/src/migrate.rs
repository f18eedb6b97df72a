//! Migrations on a copy, and the way back.

use std::path::Path;

use heirloom_model::digest::PlanDigest;
use heirloom_model::identifier::MigrationName;
use heirloom_model::service::{SchemaVersion, Tip};

use crate::error::JobError;
use crate::snapshot::Progress;

/// Makes the live database of a plan: a copy, migrated, checked, and swapped in.
pub fn migrate(
    data: &Path,
    plan: &PlanDigest,
    expected: &Tip,
    to: SchemaVersion,
    names: &[MigrationName],
    progress: &mut dyn FnMut(Progress),
) -> Result<(), JobError> {
    let _ = (data, plan, expected, to, names, progress);
    unimplemented!()
}

/// Makes the database live again that was so before a plan.
pub fn revert(data: &Path, plan: &PlanDigest, expected: &Tip) -> Result<(), JobError> {
    let _ = (data, plan, expected);
    unimplemented!()
}
