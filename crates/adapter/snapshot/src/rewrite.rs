//! A snapshot under its new parties.

use std::collections::BTreeMap;
use std::io::Write;

use heirloom_canton::acs::write_frame;
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::types::TypeStore;
use heirloom_model::digest::{ContractSetDigest, SnapshotDigest};
use heirloom_model::identifier::NodeId;
use heirloom_model::participant::{ContractSetHasher, SnapshotHasher};
use heirloom_participant::contract_map::{ContractMapDigest, ContractMapText};
use heirloom_participant::report::{Notes, Report};
use heirloom_participant::rewrite::{Moves, Reference};

use crate::batch::{Batch, Frame, Frames};
use crate::error::{SnapshotError, io_error};
use crate::gzip::{Assembler, Block};
use crate::pipeline;
use crate::place::Unfinished;
use crate::progress::Pass;
use crate::renames::{Known, Renames, rewrite_one};
use crate::run::{Change, Outputs, Run};
use crate::sort::{Sorted, Sorter};
use crate::verify::{Major, VerifiedSnapshot};

/// Contracts that another node has as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shared {
    /// How many.
    pub contracts: u64,
    /// The digest of their new ids, sorted.
    pub ids: ContractSetDigest,
}

/// What a rewrite made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RewriteOutcome {
    /// Of the new snapshot's bytes, before compression.
    pub snapshot: SnapshotDigest,
    /// How many bytes these are.
    pub bytes: u64,
    /// Of the new ids, sorted.
    pub ids: ContractSetDigest,
    /// Of the map of contract ids.
    pub contract_map: ContractMapDigest,
    /// What was left as it is.
    pub report: Report,
    /// For each other node what is shared with it, also if that is nothing.
    pub shared: BTreeMap<NodeId, Shared>,
}

/// Writes a snapshot with other parties, in the order of the one that was verified, the map of
/// contract ids, and the report.
///
/// The results depend on the snapshot and the change only. Nothing takes its place before all of
/// it is on the disk; after a crash there is the old file or the new one in each place.
pub fn rewrite(
    verified: &VerifiedSnapshot,
    change: &Change,
    outputs: &Outputs,
    run: &mut Run<'_>,
) -> Result<RewriteOutcome, SnapshotError> {
    let mut files = Files::create(outputs)?;
    let outcome = rewrite_to(verified, change, &mut files, run)?;
    files.take_places(&outcome.report)?;
    Ok(outcome)
}

fn rewrite_to(
    verified: &VerifiedSnapshot,
    change: &Change,
    files: &mut Files,
    run: &mut Run<'_>,
) -> Result<RewriteOutcome, SnapshotError> {
    let nodes: Vec<NodeId> = match &change.sharing {
        Some(sharing) => sharing.hosting.nodes_except(&sharing.own).into_iter().collect(),
        None => Vec::new(),
    };
    let mut ids = Sorter::new(run.scratch, run.sort_bytes);
    let mut shared = Sorter::new(run.scratch, run.sort_bytes);
    let mut hasher = SnapshotHasher::default();
    let (mut report, mut bytes) = (Report::default(), 0_u64);
    let mut map = ContractMapText::default();
    files.write_map(map.begin())?;
    pass(verified, change, &nodes, Pass::Rewrite, run, |written| {
        hasher.update(&written.content);
        bytes = bytes.saturating_add(u64::try_from(written.content.len()).unwrap_or(u64::MAX));
        files.append(written.block.as_ref().expect("blocks are compressed for files"))?;
        let contracts = u64::try_from(written.ids.len()).unwrap_or(u64::MAX);
        map.wrote(&written.lines, contracts);
        files.write_map(&written.lines)?;
        for id in &written.ids {
            ids.push(id.as_bytes())?;
        }
        for record in &written.shared {
            shared.push(record)?;
        }
        for (renamed, notes) in written.notes {
            report.add(renamed, notes);
        }
        Ok(())
    })?;
    let (end, contract_map) = map.end();
    files.write_map(&end)?;
    let snapshot = hasher.finish();
    let ids = digest_ids(&mut ids.finish()?)?;
    let shared = digest_shared(shared.finish()?, &nodes)?;
    Ok(RewriteOutcome { snapshot, bytes, ids, contract_map, report, shared })
}

/// One batch under its new parties.
pub(crate) struct Written {
    /// Entries, each behind its length.
    pub(crate) content: Vec<u8>,
    /// The same, compressed, if it goes to a file.
    block: Option<Block>,
    lines: String,
    ids: Vec<ContractId>,
    shared: Vec<Vec<u8>>,
    notes: Vec<(bool, Notes)>,
    end: u64,
}

/// Rewrites every contract, in order. The nodes are those that `shared` counts.
pub(crate) fn pass(
    verified: &VerifiedSnapshot,
    change: &Change,
    nodes: &[NodeId],
    pass: Pass,
    run: &mut Run<'_>,
    mut consume: impl FnMut(Written) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let path = verified.path();
    if verified.contents().major == Some(Major::Second) {
        return Err(SnapshotError::SecondMajorVersion { path: path.to_owned() });
    }
    let renames = Renames::compute(verified, &change.map, run)?;
    let mut frames = Frames::open(path)?;
    let compress = pass == Pass::Rewrite;
    let rewriter = Rewriter { verified, change, nodes, renames: &renames, types: run.types };
    let work = |batch: Batch| rewriter.rewrite(&batch, compress);
    let mut contracts = 0_u64;
    pipeline::run(
        run.workers,
        || frames.batch(),
        work,
        |written: Written| {
            contracts =
                contracts.saturating_add(u64::try_from(written.ids.len()).unwrap_or(u64::MAX));
            let end = written.end;
            consume(written)?;
            run.advanced(pass, contracts, end)
        },
    )?;
    // What was verified is what was read now, or none of this counts.
    let (digest, _) = frames.finish();
    if digest != verified.digest() {
        return Err(SnapshotError::Changed { path: path.to_owned() });
    }
    Ok(())
}

struct Rewriter<'r> {
    verified: &'r VerifiedSnapshot,
    change: &'r Change,
    nodes: &'r [NodeId],
    renames: &'r Renames,
    types: &'r (dyn TypeStore + Sync),
}

impl Rewriter<'_> {
    fn rewrite(&self, batch: &Batch, compress: bool) -> Result<Written, SnapshotError> {
        let mut written = Written {
            content: Vec::new(),
            block: None,
            lines: String::new(),
            ids: Vec::with_capacity(batch.frames.len()),
            shared: Vec::new(),
            notes: Vec::with_capacity(batch.frames.len()),
            end: batch.end,
        };
        for frame in &batch.frames {
            self.rewrite_frame(frame, &mut written)?;
        }
        written.block = compress.then(|| Block::compress(&written.content));
        Ok(written)
    }

    fn rewrite_frame(&self, frame: &Frame, to: &mut Written) -> Result<(), SnapshotError> {
        let place = frame.place;
        let path = self.verified.path();
        let third = frame.open_third(path)?;
        let Known::All(known) = self.renames.of(&third.contract)? else {
            // Everything that was referred to when it was verified has its new id.
            return Err(SnapshotError::Changed { path: path.to_owned() });
        };
        let map = &self.change.map;
        let rewritten = rewrite_one(place, &third.contract, map, &known, self.types)?;
        let resolve = |id: &ContractId| known.get(id).cloned().unwrap_or(Reference::Outside);
        let synchronizer = self.change.synchronizers.get(third.active.synchronizer());
        let entry = third
            .active
            .rewritten(&rewritten.contract, &Moves::new(map, &resolve), synchronizer)
            .map_err(|error| SnapshotError::Entry { place, source: Box::new(error) })?;
        write_frame(&mut to.content, entry.encode());
        let (old, new) = (&third.contract.contract_id, &rewritten.contract.contract_id);
        to.lines.push_str(&ContractMapText::line(old, new));
        to.notes.push((old != new, rewritten.notes));
        if let Some(sharing) = &self.change.sharing {
            let stakeholders = rewritten.contract.stakeholders();
            for node in sharing.hosting.sharers(&sharing.own, &stakeholders) {
                let index = self.nodes.binary_search(node).expect("every other node is listed");
                let index = u32::try_from(index).expect("nodes of a network are few");
                to.shared.push([&index.to_be_bytes(), new.as_bytes()].concat());
            }
        }
        to.ids.push(new.clone());
        Ok(())
    }
}

fn digest_ids(sorted: &mut Sorted) -> Result<ContractSetDigest, SnapshotError> {
    let mut hasher = ContractSetHasher::default();
    while let Some(id) = sorted.next()? {
        push(&mut hasher, id)?;
    }
    Ok(hasher.finish())
}

fn push(hasher: &mut ContractSetHasher, id: &[u8]) -> Result<(), SnapshotError> {
    hasher.push(id).map_err(|_| SnapshotError::Twice {
        id: ContractId::from_bytes(id).expect("only ids were pushed"),
    })
}

/// Records are sorted by node and then by id, so that one pass digests one node after the other.
fn digest_shared(
    mut sorted: Sorted,
    nodes: &[NodeId],
) -> Result<BTreeMap<NodeId, Shared>, SnapshotError> {
    let mut hashers: Vec<ContractSetHasher> = vec![ContractSetHasher::default(); nodes.len()];
    while let Some(record) = sorted.next()? {
        let (index, id) = record.split_first_chunk::<4>().expect("a record begins with a node");
        let index = usize::try_from(u32::from_be_bytes(*index)).expect("an index has 32 bits");
        push(hashers.get_mut(index).expect("only these nodes were pushed"), id)?;
    }
    let digest =
        |hasher: ContractSetHasher| Shared { contracts: hasher.count(), ids: hasher.finish() };
    Ok(nodes.iter().cloned().zip(hashers.into_iter().map(digest)).collect())
}

/// The outputs, none of which has taken its place.
struct Files {
    snapshot: Assembler<Unfinished>,
    contract_map: Unfinished,
    report: Unfinished,
    places: Outputs,
}

impl Files {
    fn create(outputs: &Outputs) -> Result<Self, SnapshotError> {
        let snapshot = Unfinished::create(&outputs.snapshot)?;
        let snapshot = Assembler::new(snapshot)
            .map_err(|error| io_error("write", &outputs.snapshot, &error))?;
        Ok(Self {
            snapshot,
            contract_map: Unfinished::create(&outputs.contract_map)?,
            report: Unfinished::create(&outputs.report)?,
            places: outputs.clone(),
        })
    }

    fn append(&mut self, block: &Block) -> Result<(), SnapshotError> {
        self.snapshot
            .append(block)
            .map_err(|error| io_error("write", &self.places.snapshot, &error))
    }

    fn write_map(&mut self, text: &str) -> Result<(), SnapshotError> {
        self.contract_map
            .write_all(text.as_bytes())
            .map_err(|error| io_error("write", &self.places.contract_map, &error))
    }

    fn take_places(self, report: &Report) -> Result<(), SnapshotError> {
        let Self { snapshot, contract_map, report: mut report_file, places } = self;
        report_file
            .write_all(report.to_text().as_bytes())
            .map_err(|error| io_error("write", &places.report, &error))?;
        let snapshot =
            snapshot.finish().map_err(|error| io_error("write", &places.snapshot, &error))?;
        // All are on the disk before the first has its name.
        let whole = [report_file.flush()?, contract_map.flush()?, snapshot.flush()?];
        whole.into_iter().try_for_each(crate::place::Whole::take_place)
    }
}
