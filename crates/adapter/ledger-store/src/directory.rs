//! Where everything of one ledger stands.
//!
//! ```text
//! DIR/lock                    held by the process that has the ledger; names it
//! DIR/live                    link to the database in use: `original` or `migrated-<plan>`
//! DIR/original/               the database as it was created
//! DIR/migrated-<plan>/        what a plan made of it
//! DIR/migrated-<plan>.partial/  unfinished
//! DIR/snapshots/<plan>/       ledger/, distribution.json, manifest.json
//! ```

use std::path::{Path, PathBuf};

use heirloom_model::digest::PlanDigest;

/// Where everything of one ledger stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The paths below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock of the process that has the ledger.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The link to the database in use.
    pub fn live(&self) -> PathBuf {
        self.root.join("live")
    }

    /// The database as it was created.
    pub fn original(&self) -> PathBuf {
        self.root.join(ORIGINAL)
    }

    /// The database that a plan made.
    pub fn migrated(&self, plan: &PlanDigest) -> PathBuf {
        self.root.join(format!("{MIGRATED}{plan}"))
    }

    /// The same, unfinished.
    pub fn partial(&self, plan: &PlanDigest) -> PathBuf {
        self.root.join(format!("{MIGRATED}{plan}.partial"))
    }

    /// All snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// The snapshot of a plan.
    pub fn snapshot(&self, plan: &PlanDigest) -> PathBuf {
        self.snapshots().join(plan.to_string())
    }
}

/// The name of the database as it was created.
pub(crate) const ORIGINAL: &str = "original";
/// How the names of databases begin that plans made.
pub(crate) const MIGRATED: &str = "migrated-";
/// The file in a database's directory in which LMDB has everything.
pub(crate) const DATA_FILE: &str = "data.mdb";
