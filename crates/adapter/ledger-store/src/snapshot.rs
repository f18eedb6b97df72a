//! Snapshots.

use std::path::Path;

use heirloom_model::digest::PlanDigest;
use heirloom_model::service::Tip;

use crate::error::JobError;

/// How far a job is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// What is done, in bytes.
    pub bytes: u64,
    /// How much it is.
    pub of: u64,
}

/// Copies the live database and the distribution's state file, as a pair.
pub fn snapshot(
    data: &Path,
    state_file: &Path,
    plan: &PlanDigest,
    expected: &Tip,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), JobError> {
    let _ = (data, state_file, plan, expected, progress);
    unimplemented!()
}
