//! The snapshot of the source under the new names, made and verified without either participant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use heirloom_canton::dar;
use heirloom_canton::dar::types::Packages;
use heirloom_model::causes::with_causes;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::DAR_BYTES_MAX;
use heirloom_model::participant::{Exported, PartyKind, PartyMove, Rewritten, SharedContracts};
use heirloom_model::party::{ParticipantId, PartyId};
use heirloom_participant::map::PartyMap;
use heirloom_participant::shared::Hosting;
use heirloom_snapshot::check::{check_inverse, verify_after};
use heirloom_snapshot::error::SnapshotError;
use heirloom_snapshot::rewrite;
use heirloom_snapshot::run::{Change, Outputs, Run, Sharing};
use heirloom_snapshot::scratch::Scratch;
use heirloom_snapshot::verify::verify;
use heirloom_store::atomic;
use heirloom_upgrade::port::{DriverError, ParticipantCall};

use crate::driver::carry::{build_roster, read_snapshot};
use crate::driver::fault::{io_error, store_error, unexpected};
use crate::driver::survey::{hosted, hosts};
use crate::driver::work::{Work, is_there, keep};
use crate::driver::{Driver, ready};

/// Package files of one participant.
const FILES_MAX: usize = 10_000;
/// Parties without a new name that are looked up, one question each.
const OTHERS_MAX: usize = 10_000;

/// Verifies what was exported, rewrites it, and verifies what was written.
pub(crate) fn rewrite(
    driver: &Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    exported: &Exported,
    parts: &BTreeMap<NodeId, Vec<PartyMove>>,
) -> Result<Rewritten, DriverError> {
    driver.expect_settings(task)?;
    let change = change(driver, task, parts)?;
    keep(&work.party_map(), change.map().to_text().as_bytes())?;
    expect_nobody_else(driver, task, work, change.map())?;
    let types = types(work)?;
    let scratch = Scratch::new(work.folder());
    let mut run = Run::new(&types, &scratch);
    let source = verify(&work.source_snapshot(), &mut run).map_err(snapshot_error)?;
    unexpected("exported snapshot", &exported.snapshot, &source.digest())?;
    unexpected("exported contracts:", &exported.contracts, &source.contents().contracts)?;
    // Made beside the place where it belongs: something else may be there already.
    let folder = work.folder().join("rewriting");
    atomic::create_directory(&folder).map_err(store_error)?;
    let outputs = Outputs {
        snapshot: folder.join("target-snapshot.gz"),
        contract_map: folder.join("contracts.map"),
        report: folder.join("report.txt"),
    };
    let outcome = rewrite::rewrite(&source, &change, &outputs, &mut run).map_err(snapshot_error)?;
    let written = verify_after(&source, &outcome, &change, &outputs, &mut run);
    let written = written.map_err(snapshot_error)?;
    check_inverse(&source, &written, &change, &mut run).map_err(snapshot_error)?;
    place(&outputs.contract_map, &work.contract_map())?;
    place(&outputs.report, &work.report())?;
    place_snapshot(&outputs.snapshot, &work.target_snapshot())?;
    let (contracts, ids) = build_roster(work)?;
    unexpected("contracts of the new snapshot:", &exported.contracts, &contracts)?;
    unexpected("ids of the new snapshot", &outcome.ids, &ids)?;
    let shared = outcome.shared.into_iter().map(|(node, shared)| SharedContracts {
        node,
        contracts: shared.contracts,
        ids: shared.ids,
    });
    Ok(Rewritten {
        source: exported.snapshot,
        map: change.map().digest(),
        snapshot: outcome.snapshot,
        contracts,
        ids,
        shared: shared.collect(),
    })
}

/// Every stakeholder gets a new name, or keeps its name with the consent of whoever hosts it: it
/// signs for itself on this source, or it is hosted by sources of the plan alone. Contracts that
/// came after the survey may have others.
fn expect_nobody_else(
    driver: &Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    map: &PartyMap,
) -> Result<(), DriverError> {
    let mut others = BTreeSet::new();
    // Asked when there is somebody to look for: the source may be away while it is rewritten.
    let mut own: Option<BTreeMap<PartyId, PartyKind>> = None;
    let path = work.source_snapshot();
    read_snapshot(&path, |entry| {
        let corrupt = |error: &dyn std::error::Error| DriverError::Corrupt {
            what: path.display().to_string(),
            reason: with_causes(error),
        };
        let contract = entry.contract().map_err(|error| corrupt(&error))?;
        for party in contract.signatories.iter().chain(&contract.observers) {
            let party = party.as_party_id().map_err(|error| corrupt(&error))?;
            if map.get(&party).is_some() {
                continue;
            }
            let own = match &mut own {
                Some(own) => own,
                none => {
                    let (source, _) = ready(&driver.source)?;
                    unexpected("source", &task.moved.source, &source)?;
                    none.insert(hosted(&driver.source, &source)?)
                }
            };
            if own.get(&party) != Some(&PartyKind::External) {
                others.insert(party);
            }
            if others.len() > OTHERS_MAX {
                let why = format!("more than {OTHERS_MAX} stakeholders have no new name");
                return Err(DriverError::Refused(why));
            }
        }
        Ok(())
    })?;
    if others.is_empty() {
        return Ok(());
    }
    let hosts = hosts(driver, &others)?;
    for party in others {
        let hosts = hosts.get(&party).map(Vec::as_slice).unwrap_or_default();
        let outside = |host: &&ParticipantId| !is_in_plan(host, &task.moved.source, map);
        let host = match hosts.iter().find(outside) {
            Some(host) => host.to_string(),
            None if hosts.is_empty() => "nobody that is known".to_owned(),
            None => continue,
        };
        return Err(DriverError::Refused(format!(
            "party {party} has a stake in contracts and no new name: its operator must take part \
             and agree (hosted by {host})"
        )));
    }
    Ok(())
}

/// Whether a host is a source of the plan. The plan names this node's source; of the sources of
/// other nodes their parties' namespaces are known here, which are theirs.
fn is_in_plan(host: &ParticipantId, source: &ParticipantId, map: &PartyMap) -> bool {
    let namespace = host.namespace();
    if namespace == source.namespace() {
        return host == source;
    }
    map.old_namespaces().contains(&namespace)
}

/// The whole map, and who hosts whom under the new names.
fn change(
    driver: &Driver,
    task: ParticipantCall<'_>,
    parts: &BTreeMap<NodeId, Vec<PartyMove>>,
) -> Result<Change, DriverError> {
    let refused = |error: &dyn std::error::Error| DriverError::Refused(with_causes(error));
    let own = parts.get(&task.moved.node).into_iter().flatten().map(|one| &one.from);
    if !own.eq(&task.moved.parties) {
        return Err(DriverError::Unexpected {
            expected: "the parties of the plan in this node's part of the map".to_owned(),
            found: "others".to_owned(),
        });
    }
    let moves = parts.values().flatten().map(|one| (one.from.clone(), one.to.clone()));
    let map = PartyMap::from_moves(moves).map_err(|error| refused(&error))?;
    let mut hosting = Hosting::new();
    for (node, moves) in parts {
        for one in moves {
            hosting.host(&one.to, node.clone());
        }
    }
    let routes = driver.settings.routes.iter().filter(|route| route.from != route.to);
    let renamed = routes.map(|route| (route.from.clone(), route.to.clone())).collect();
    let change = Change::new(map, renamed).map_err(|error| refused(&error))?;
    Ok(change.shared_with(Sharing { own: task.moved.node.clone(), hosting }))
}

/// The types of the package files that were fetched from the source.
fn types(work: &Work) -> Result<Packages, DriverError> {
    let mut packages = Packages::new();
    let folder = work.packages();
    let failed = |error| io_error(&folder, &error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // What an interrupted write left has another ending.
        if path.extension().is_some_and(|ending| ending == "dar") {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(DriverError::Refused(format!("more than {FILES_MAX} package files")));
        }
    }
    paths.sort();
    for path in paths {
        let bytes = atomic::read(&path, DAR_BYTES_MAX).map_err(store_error)?;
        let read = dar::read(&bytes).map_err(|error| DriverError::Corrupt {
            what: path.display().to_string(),
            reason: with_causes(&error),
        })?;
        packages.add(&read);
    }
    Ok(packages)
}

/// Gives a file its place, unless the same bytes are there already. Others are never replaced.
fn place(from: &Path, to: &Path) -> Result<(), DriverError> {
    if !is_there(to)? {
        return atomic::move_to(from, to).map_err(store_error);
    }
    let same = same_bytes(from, to)?;
    replace_only_if(same, from, to)
}

fn place_snapshot(from: &Path, to: &Path) -> Result<(), DriverError> {
    if !is_there(to)? {
        return atomic::move_to(from, to).map_err(store_error);
    }
    // Two compressions may differ where the content does not.
    let same = read_snapshot(from, |_| Ok(()))? == read_snapshot(to, |_| Ok(()))?;
    replace_only_if(same, from, to)
}

fn replace_only_if(same: bool, from: &Path, to: &Path) -> Result<(), DriverError> {
    if same {
        return std::fs::remove_file(from).map_err(|error| io_error(from, &error));
    }
    let to = to.display();
    Err(DriverError::Refused(format!("{to} has another content and is kept")))
}

fn same_bytes(one: &Path, other: &Path) -> Result<bool, DriverError> {
    use std::io::Read;
    const PIECE: usize = 64 * 1024;
    let open = |path: &Path| {
        let file = std::fs::File::open(path).map_err(|error| io_error(path, &error))?;
        Ok::<_, DriverError>(std::io::BufReader::new(file))
    };
    let (mut a, mut b) = (open(one)?, open(other)?);
    loop {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        let limit = PIECE as u64;
        a.by_ref().take(limit).read_to_end(&mut x).map_err(|error| io_error(one, &error))?;
        b.by_ref().take(limit).read_to_end(&mut y).map_err(|error| io_error(other, &error))?;
        if x != y {
            return Ok(false);
        }
        if x.is_empty() {
            return Ok(true);
        }
    }
}

fn snapshot_error(error: SnapshotError) -> DriverError {
    let text = with_causes(&error);
    match error {
        SnapshotError::Missing { path } => {
            DriverError::Missing { what: path.display().to_string() }
        }
        SnapshotError::Full { path, .. } => DriverError::Full(path.display().to_string()),
        SnapshotError::Cancelled => DriverError::Stopping,
        SnapshotError::Truncated { .. }
        | SnapshotError::NotGzip { .. }
        | SnapshotError::Entry { .. }
        | SnapshotError::NotAuthentic { .. }
        | SnapshotError::Twice { .. }
        | SnapshotError::Changed { .. }
        | SnapshotError::Differs { .. }
        | SnapshotError::OldParty { .. }
        | SnapshotError::OldNamespace { .. } => {
            DriverError::Corrupt { what: "snapshot".to_owned(), reason: text }
        }
        _ => DriverError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_beside_the_source_in_its_namespace_is_not_in_the_plan() {
        let party = |text: &str| text.parse::<PartyId>().unwrap();
        let moves =
            [(party("a::1220aa"), party("a::1220bb")), (party("c::1220cc"), party("c::1220dd"))];
        let map = PartyMap::from_moves(moves).unwrap();
        let participant = |text: &str| text.parse::<ParticipantId>().unwrap();
        let source = participant("alpha::1220aa");
        assert!(is_in_plan(&source, &source, &map));
        assert!(!is_in_plan(&participant("beta::1220aa"), &source, &map));
        assert!(is_in_plan(&participant("gamma::1220cc"), &source, &map));
        assert!(!is_in_plan(&participant("alpha::1220ee"), &source, &map));
    }
}
