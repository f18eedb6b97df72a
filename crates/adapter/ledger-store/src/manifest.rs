//! What a verified snapshot says of itself, and the state file of the distribution.

use std::path::Path;

use heirloom_ledger::amount::Amount;
use heirloom_model::digest::{NetworkId, PlanDigest};
use heirloom_model::fixed_bytes;
use heirloom_model::service::{Height, SchemaVersion, Tip};
use heirloom_store::atomic;
use heirloom_store::error::StoreError;
use serde::{Deserialize, Serialize};

use crate::database::Totals;
use crate::error::JobError;

/// The name of the manifest of a snapshot.
pub(crate) const MANIFEST_FILE: &str = "manifest.json";
/// The name of the copy of the distribution's state file.
pub(crate) const DISTRIBUTION_FILE: &str = "distribution.json";
/// The directory of the copy of the database.
pub(crate) const LEDGER_DIRECTORY: &str = "ledger";
/// The one format of manifests.
const MANIFEST_FORMAT: u32 = 1;
/// A manifest has some 600 bytes.
const MANIFEST_BYTES_MAX: usize = 16 * 1024;
/// The state file has one number.
const STATE_BYTES_MAX: usize = 1024;

fixed_bytes! {
    /// SHA-256 of the file of a database.
    FileDigest[32];
}

/// What a verified snapshot says of itself. Written last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The plan for which it was made.
    pub plan: PlanDigest,
    /// The network.
    pub network: NetworkId,
    /// The layout.
    pub schema: SchemaVersion,
    /// The end of the ledger.
    pub tip: Tip,
    /// What it has, all together.
    pub totals: Totals,
    /// The size of the database's file.
    pub bytes: u64,
    /// Its digest.
    pub digest: FileDigest,
    /// The next block that the distribution would archive; none if there was no state file.
    pub next: Option<u64>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: u32,
    plan: String,
    network: String,
    schema: u32,
    height: u64,
    tip: String,
    blocks: u64,
    outputs: u64,
    unspent: u64,
    fees: u64,
    bytes: u64,
    sha256: String,
    next: Option<u64>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct StateText {
    next: u64,
}

impl Manifest {
    /// Reads the manifest in a snapshot's directory.
    pub fn read(directory: &Path) -> Result<Self, JobError> {
        let path = directory.join(MANIFEST_FILE);
        let bytes = atomic::read(&path, MANIFEST_BYTES_MAX)?;
        let corrupt = |reason: String| JobError::corrupt(&path, "manifest", reason);
        let text: Text =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if text.format != MANIFEST_FORMAT {
            return Err(corrupt(format!("format {} is not known", text.format)));
        }
        let id = text.tip.parse().map_err(|_| corrupt("the tip is no block id".to_owned()))?;
        Ok(Self {
            plan: text.plan.parse().map_err(|_| corrupt("the plan is no digest".to_owned()))?,
            network: text
                .network
                .parse()
                .map_err(|_| corrupt("the network is no digest".to_owned()))?,
            schema: SchemaVersion(text.schema),
            tip: Tip { height: Height(text.height), id },
            totals: Totals {
                blocks: text.blocks,
                outputs: text.outputs,
                unspent: Amount(text.unspent),
                fees: Amount(text.fees),
            },
            bytes: text.bytes,
            digest: text.sha256.parse().map_err(|_| corrupt("the digest is none".to_owned()))?,
            next: text.next,
        })
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), JobError> {
        let text = Text {
            format: MANIFEST_FORMAT,
            plan: self.plan.to_string(),
            network: self.network.to_string(),
            schema: self.schema.0,
            height: self.tip.height.0,
            tip: self.tip.id.to_string(),
            blocks: self.totals.blocks,
            outputs: self.totals.outputs,
            unspent: self.totals.unspent.0,
            fees: self.totals.fees.0,
            bytes: self.bytes,
            sha256: self.digest.to_string(),
            next: self.next,
        };
        let mut bytes = serde_json::to_vec_pretty(&text).expect("a manifest is plain data");
        bytes.push(b'\n');
        Ok(atomic::write(&directory.join(MANIFEST_FILE), &bytes)?)
    }
}

/// The next block that the distribution will archive, from its state file; none if there is no
/// such file.
pub fn read_state(path: &Path) -> Result<Option<u64>, JobError> {
    let bytes = match atomic::read(path, STATE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(StoreError::Missing { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let corrupt = |reason: String| JobError::corrupt(path, "state", reason);
    let text: StateText =
        serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if text.next == 0 {
        return Err(corrupt("the first block is 1".to_owned()));
    }
    Ok(Some(text.next))
}

/// Writes the state file, whole or not at all.
pub(crate) fn write_state(path: &Path, next: u64) -> Result<(), JobError> {
    let bytes = serde_json::to_vec(&StateText { next }).expect("a number is plain data");
    Ok(atomic::write(path, &bytes)?)
}

/// Refuses a state file that is ahead of its ledger.
pub(crate) fn check_pair(next: Option<u64>, tip: &Tip) -> Result<(), JobError> {
    let end = tip.height.0.saturating_add(1);
    match next {
        Some(next) if next > end => Err(JobError::refused(format!(
            "the distribution would archive block {next} next, and the ledger ends with block \
             {}: they are no pair. Blocks {end} to {} were archived from a ledger that is not \
             this one; restore the ledger and the state file of the same snapshot, or have the \
             ledger catch up with its peers first",
            tip.height,
            next.saturating_sub(1),
        ))),
        Some(_) | None => Ok(()),
    }
}
