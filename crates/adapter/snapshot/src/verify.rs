//! Whether every contract of a snapshot is what its id says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use heirloom_canton::authenticate::authenticate;
use heirloom_canton::contract_id::{ContractId, ContractIdVersion};
use heirloom_canton::instance1::OldAuthenticateError;
use heirloom_canton::name::SynchronizerId;
use heirloom_canton::types::{PackageId, TypeStore};
use heirloom_model::digest::{ContractSetDigest, SnapshotDigest};
use heirloom_model::participant::ContractSetHasher;
use heirloom_participant::map::PartyMap;
use heirloom_participant::report::Mention;
use heirloom_participant::rewrite::{references, text_notes};

use crate::absent::check_absent;
use crate::batch::{Batch, Frame, Frames, Opened, Third};
use crate::error::{Place, SnapshotError};
use crate::pipeline;
use crate::progress::Pass;
use crate::run::Run;
use crate::scratch::{Scratch, Spill};
use crate::sort::{Sorted, Sorter};

/// Which major version a snapshot is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Major {
    /// The second one. It is verified only.
    Second,
    /// The third one.
    Third,
}

/// What a snapshot has, gathered while it was verified.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Contents {
    /// Which major version; none of an empty snapshot.
    pub major: Option<Major>,
    /// How many contracts.
    pub contracts: u64,
    /// How many of each version of ids.
    pub versions: BTreeMap<ContractIdVersion, u64>,
    /// Contracts of the second major version whose ids say nothing about them.
    pub unauthenticated: u64,
    /// Contracts that moved between synchronizers before.
    pub reassigned: u64,
    /// Where they are active.
    pub synchronizers: BTreeMap<SynchronizerId, u64>,
    /// The packages that interpret them.
    pub packages: BTreeMap<PackageId, u64>,
    /// Contracts of the snapshot that others in it refer to.
    pub referenced: u64,
    /// Contracts that are not in the snapshot and that others in it refer to.
    pub missing: u64,
    /// Texts that mention a namespace that parties left; only where that was asked for.
    pub texts_moved: u64,
}

/// A snapshot whose contracts all reproduced their own ids. Only [`verify`] makes it.
///
/// It speaks of the bytes that were read: whoever reads the file again compares the digest.
#[derive(Debug)]
pub struct VerifiedSnapshot {
    path: PathBuf,
    digest: SnapshotDigest,
    bytes: u64,
    ids: ContractSetDigest,
    contents: Contents,
    /// The ids that others refer to, sorted.
    pub(crate) referenced: File,
}

impl VerifiedSnapshot {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of its bytes after decompression.
    pub fn digest(&self) -> SnapshotDigest {
        self.digest
    }

    /// How many bytes it has after decompression.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of its contract ids, sorted.
    pub fn ids(&self) -> ContractSetDigest {
        self.ids
    }

    /// What it has.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }
}

/// Reads a snapshot to its end and computes every id again.
///
/// Stops at the first contract, in the order of the file, that is not what its id says: types are
/// wrong or missing, the version is unknown, or somebody changed it.
pub fn verify(path: &Path, run: &mut Run<'_>) -> Result<VerifiedSnapshot, SnapshotError> {
    verify_pass(path, run, Pass::Verify, None)
}

/// The same, and the old names of a map are gone.
pub(crate) fn verify_pass(
    path: &Path,
    run: &mut Run<'_>,
    pass: Pass,
    absent: Option<&PartyMap>,
) -> Result<VerifiedSnapshot, SnapshotError> {
    let mut frames = Frames::open(path)?;
    let (types, workers) = (run.types, run.workers);
    let mut ids = Sorter::new(run.scratch, run.sort_bytes);
    let mut references = Sorter::new(run.scratch, run.sort_bytes);
    let mut contents = Contents::default();
    let check = |batch: Batch| check_batch(&batch, types, absent);
    pipeline::run(
        workers,
        || frames.batch(),
        check,
        |checked: Checked| {
            for id in &checked.ids {
                ids.push(id.as_bytes())?;
            }
            for id in &checked.references {
                references.push(id.as_bytes())?;
            }
            contents.add(&checked)?;
            run.advanced(pass, contents.contracts, checked.end)
        },
    )?;
    let (digest, bytes) = frames.finish();
    let joined = join(ids.finish()?, references.finish()?, run.scratch)?;
    contents.referenced = joined.inside;
    contents.missing = joined.outside;
    let (path, referenced) = (path.to_owned(), joined.referenced);
    Ok(VerifiedSnapshot { path, digest, bytes, ids: joined.ids, contents, referenced })
}

/// What one batch has.
#[derive(Default)]
struct Checked {
    ids: Vec<ContractId>,
    references: Vec<ContractId>,
    contents: Contents,
    first: Option<Place>,
    end: u64,
}

impl Contents {
    fn add(&mut self, checked: &Checked) -> Result<(), SnapshotError> {
        let more = &checked.contents;
        if let (Some(major), Some(place)) = (more.major, checked.first)
            && *self.major.get_or_insert(major) != major
        {
            return Err(SnapshotError::Mixed { place });
        }
        self.contracts += more.contracts;
        self.unauthenticated += more.unauthenticated;
        self.reassigned += more.reassigned;
        self.texts_moved += more.texts_moved;
        add_counts(&mut self.versions, &more.versions);
        add_counts(&mut self.synchronizers, &more.synchronizers);
        add_counts(&mut self.packages, &more.packages);
        Ok(())
    }
}

fn add_counts<K: Clone + Ord>(counts: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, count) in more {
        if let Some(known) = counts.get_mut(key) {
            *known += count;
        } else {
            counts.insert(key.clone(), *count);
        }
    }
}

fn count<K: Clone + Ord>(counts: &mut BTreeMap<K, u64>, key: &K) {
    if let Some(known) = counts.get_mut(key) {
        *known += 1;
    } else {
        counts.insert(key.clone(), 1);
    }
}

fn check_batch(
    batch: &Batch,
    types: &(dyn TypeStore + Sync),
    absent: Option<&PartyMap>,
) -> Result<Checked, SnapshotError> {
    let mut checked = Checked { end: batch.end, ..Checked::default() };
    for frame in &batch.frames {
        let opened = frame.open()?;
        let major = match opened {
            Opened::Third(_) => Major::Third,
            Opened::Second(_) => Major::Second,
        };
        if *checked.contents.major.get_or_insert(major) != major {
            return Err(SnapshotError::Mixed { place: frame.place });
        }
        checked.first.get_or_insert(frame.place);
        checked.contents.contracts += 1;
        match opened {
            Opened::Third(third) => check_third(frame, &third, types, absent, &mut checked)?,
            Opened::Second(contract) => {
                let id = contract.contract_id.clone();
                match contract.recompute() {
                    Ok(computed) if computed == id => {}
                    Ok(computed) => {
                        return Err(SnapshotError::OldNotAuthentic {
                            place: frame.place,
                            id,
                            computed,
                        });
                    }
                    Err(OldAuthenticateError::NotAuthenticated { .. }) => {
                        checked.contents.unauthenticated += 1;
                    }
                    Err(source) => {
                        return Err(SnapshotError::OldNotVerifiable { place: frame.place, source });
                    }
                }
                checked.contents.versions_of(&id);
                count(&mut checked.contents.packages, &contract.template.package);
                checked.ids.push(id);
            }
        }
    }
    Ok(checked)
}

impl Contents {
    fn versions_of(&mut self, id: &ContractId) {
        if let Some(version) = id.version() {
            count(&mut self.versions, &version);
        }
    }
}

fn check_third(
    frame: &Frame,
    third: &Third,
    types: &dyn TypeStore,
    absent: Option<&PartyMap>,
    checked: &mut Checked,
) -> Result<(), SnapshotError> {
    let Third { active, contract } = third;
    authenticate(contract, types).map_err(|source| {
        let id = contract.contract_id.clone();
        SnapshotError::NotAuthentic { place: frame.place, id, source: Box::new(source) }
    })?;
    if let Some(map) = absent {
        let notes = text_notes(contract, map);
        check_absent(frame, third, map, &notes)?;
        let moved = notes.iter().filter(|note| note.mention == Mention::Moved).count();
        checked.contents.texts_moved += u64::try_from(moved).unwrap_or(u64::MAX);
    }
    let contents = &mut checked.contents;
    contents.versions_of(&contract.contract_id);
    contents.reassigned += u64::from(active.reassignment_counter() > 0);
    count(&mut contents.synchronizers, active.synchronizer());
    let package = active.representative_package().unwrap_or(&contract.template.package);
    count(&mut contents.packages, package);
    checked.references.extend(references(contract));
    checked.ids.push(contract.contract_id.clone());
    Ok(())
}

/// What sorted ids and sorted references say together.
struct Joined {
    ids: ContractSetDigest,
    referenced: File,
    inside: u64,
    outside: u64,
}

/// Finds which references lead where, and refuses an id that is there twice.
fn join(
    mut ids: Sorted,
    mut references: Sorted,
    scratch: &Scratch,
) -> Result<Joined, SnapshotError> {
    let mut hasher = ContractSetHasher::default();
    let mut referenced = Spill::new(scratch)?;
    let (mut inside, mut outside) = (0, 0);
    let mut reference = next_different(&mut references, None)?;
    while let Some(id) = ids.next()? {
        if hasher.push(id).is_err() {
            let id = ContractId::from_bytes(id).expect("only ids were pushed");
            return Err(SnapshotError::Twice { id });
        }
        while let Some(known) = reference.take_if(|reference| reference.as_slice() <= id) {
            if known == id {
                let length = u16::try_from(id.len()).expect("ids are short");
                referenced.append(&length.to_be_bytes())?;
                referenced.append(id)?;
                inside += 1;
            } else {
                outside += 1;
            }
            reference = next_different(&mut references, Some(&known))?;
        }
    }
    while let Some(known) = reference {
        outside += 1;
        reference = next_different(&mut references, Some(&known))?;
    }
    Ok(Joined { ids: hasher.finish(), referenced: referenced.finish()?, inside, outside })
}

/// The next record that is not the last one.
fn next_different(
    sorted: &mut Sorted,
    last: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, SnapshotError> {
    while let Some(record) = sorted.next()? {
        if Some(record) != last {
            return Ok(Some(record.to_vec()));
        }
    }
    Ok(None)
}

/// Packages that a snapshot needs and that are not among those of a participant.
pub fn missing_packages(
    snapshot: &VerifiedSnapshot,
    present: &BTreeSet<PackageId>,
) -> Vec<PackageId> {
    let needed = snapshot.contents.packages.keys();
    needed.filter(|package| !present.contains(*package)).cloned().collect()
}
