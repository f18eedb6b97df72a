//! What was written is read again, and nothing about it is taken from memory.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use heirloom_model::participant::SnapshotHasher;
use heirloom_participant::contract_map::ContractMapReader;

use crate::error::{SnapshotError, io_error};
use crate::progress::Pass;
use crate::rewrite::{RewriteOutcome, pass};
use crate::run::{Change, Outputs, Run};
use crate::verify::{VerifiedSnapshot, verify_pass};

/// A snapshot that was rewritten, read again and found to be what it should be. Only
/// [`verify_after`] makes it.
#[derive(Debug)]
pub struct RewrittenSnapshot {
    snapshot: VerifiedSnapshot,
}

impl RewrittenSnapshot {
    /// The new snapshot.
    pub fn snapshot(&self) -> &VerifiedSnapshot {
        &self.snapshot
    }
}

/// The inverse change gave the source again, byte for byte. Only [`check_inverse`] makes it.
#[derive(Clone, Copy, Debug)]
pub struct Inverted {
    _made_here: (),
}

/// Reads the outputs of a rewrite: every contract reproduces its new id, there are as many, their
/// ids are those that were computed, each reference leads to as many contracts inside and outside
/// as before, no party has its old name, and no namespace that was left is mentioned where nothing
/// was reported.
pub fn verify_after(
    source: &VerifiedSnapshot,
    outcome: &RewriteOutcome,
    change: &Change,
    outputs: &Outputs,
    run: &mut Run<'_>,
) -> Result<RewrittenSnapshot, SnapshotError> {
    let path = &outputs.snapshot;
    let snapshot = verify_pass(path, run, Pass::VerifyAfter, Some(&change.map))?;
    let (before, after) = (source.contents(), snapshot.contents());
    let checks = [
        ("bytes with digest", outcome.snapshot.to_string(), snapshot.digest().to_string()),
        ("contracts", before.contracts.to_string(), after.contracts.to_string()),
        ("ids with digest", outcome.ids.to_string(), snapshot.ids().to_string()),
        ("referenced contracts", before.referenced.to_string(), after.referenced.to_string()),
        ("references outside", before.missing.to_string(), after.missing.to_string()),
        (
            "texts with an old namespace",
            outcome.report.texts_moved.to_string(),
            after.texts_moved.to_string(),
        ),
        ("moved contracts", before.reassigned.to_string(), after.reassigned.to_string()),
    ];
    for (what, expected, found) in checks {
        if expected != found {
            return Err(SnapshotError::Differs { path: path.clone(), what, expected, found });
        }
    }
    check_contract_map(&outputs.contract_map, outcome)?;
    Ok(RewrittenSnapshot { snapshot })
}

fn check_contract_map(path: &Path, outcome: &RewriteOutcome) -> Result<(), SnapshotError> {
    let file = File::open(path).map_err(|error| io_error("open", path, &error))?;
    let failed = |source| SnapshotError::ContractMap { path: path.to_owned(), source };
    let mut map = ContractMapReader::new(BufReader::new(file)).map_err(failed)?;
    let mut contracts = 0_u64;
    while map.read().map_err(failed)?.is_some() {
        contracts = contracts.saturating_add(1);
    }
    let checks = [
        ("contracts", outcome.report.contracts.to_string(), contracts.to_string()),
        ("lines with digest", outcome.contract_map.to_string(), map.digest().to_string()),
    ];
    for (what, expected, found) in checks {
        if expected != found {
            return Err(SnapshotError::Differs { path: path.to_owned(), what, expected, found });
        }
    }
    Ok(())
}

/// Applies the inverse change to what was written and compares the result with the source. Nothing
/// is written.
pub fn check_inverse(
    source: &VerifiedSnapshot,
    written: &RewrittenSnapshot,
    change: &Change,
    run: &mut Run<'_>,
) -> Result<Inverted, SnapshotError> {
    let mut hasher = SnapshotHasher::default();
    pass(&written.snapshot, &change.invert(), &[], Pass::Invert, run, |written| {
        hasher.update(&written.content);
        Ok(())
    })?;
    let (expected, found) = (source.digest(), hasher.finish());
    if expected == found {
        return Ok(Inverted { _made_here: () });
    }
    Err(SnapshotError::Differs {
        path: written.snapshot.path().to_owned(),
        what: "an inverse with digest",
        expected: expected.to_string(),
        found: found.to_string(),
    })
}
