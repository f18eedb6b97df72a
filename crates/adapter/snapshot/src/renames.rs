//! What becomes of the contracts that others refer to.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::Path;

use heirloom_canton::authenticate::authenticate;
use heirloom_canton::blob::FatContract;
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::types::TypeStore;
use heirloom_participant::map::PartyMap;
use heirloom_participant::rewrite::{Reference, Rewritten, references, rewrite};

use crate::batch::{Batch, Frames};
use crate::error::{Place, SnapshotError};
use crate::order::{Attempt, Contracts, FromStart, Spilled, resolve, spill};
use crate::pipeline;
use crate::progress::Pass;
use crate::run::Run;
use crate::scratch::Spill;
use crate::table::{Slot, State, TAIL_BYTES, Table};
use crate::verify::VerifiedSnapshot;

/// Number and offset of a contract, in front of its blob.
const PLACE_BYTES: usize = 16;

/// The new ids of contracts that others refer to. Of all others nobody asks.
pub(crate) struct Renames {
    table: Option<Table>,
}

/// What a contract may learn about those that it refers to.
pub(crate) enum Known {
    /// About all of them.
    All(BTreeMap<ContractId, Reference>),
    /// This one has no new id yet.
    Waits(ContractId),
}

impl Renames {
    /// Computes them all, each after those that it refers to itself.
    pub(crate) fn compute(
        verified: &VerifiedSnapshot,
        map: &PartyMap,
        run: &mut Run<'_>,
    ) -> Result<Self, SnapshotError> {
        if verified.contents().referenced == 0 {
            return Ok(Self { table: None });
        }
        let table = Table::new(run.scratch, verified.contents().referenced)?;
        let mut ids = FromStart::new(&verified.referenced);
        while let Some(id) = next_id(&mut ids)? {
            table.insert(&id)?;
        }
        let mut spilled = gather(verified, &table, run)?;
        let contracts = Blobs { path: verified.path(), map, types: run.types };
        let (scratch, workers) = (run.scratch, run.workers);
        let mut advanced = |renamed| run.advanced(Pass::Order, renamed, 0);
        resolve(&contracts, &mut spilled, &table, scratch, workers, &mut advanced)?;
        Ok(Self { table: Some(table) })
    }

    /// What a contract refers to.
    pub(crate) fn of(&self, contract: &FatContract) -> Result<Known, SnapshotError> {
        known(self.table.as_ref(), contract)
    }
}

fn known(table: Option<&Table>, contract: &FatContract) -> Result<Known, SnapshotError> {
    let mut all = BTreeMap::new();
    for id in references(contract) {
        let found = table.map(|table| table.find(id.as_bytes())).transpose()?.flatten();
        let reference = match found {
            None => Reference::Outside,
            Some((_, State::Resolved { tail })) => Reference::Inside(with_tail(&id, &tail)),
            Some(_) => return Ok(Known::Waits(id)),
        };
        all.insert(id, reference);
    }
    Ok(Known::All(all))
}

/// The part of an id that depends on the contract.
fn tail(id: &ContractId) -> [u8; TAIL_BYTES] {
    *id.as_bytes().last_chunk().expect("an id is longer than its unicum")
}

fn with_tail(id: &ContractId, tail: &[u8; TAIL_BYTES]) -> ContractId {
    let kept = id.as_bytes().len().saturating_sub(TAIL_BYTES);
    let (kept, _) = id.as_bytes().split_at(kept);
    ContractId::from_bytes(&[kept, tail].concat()).expect("only the end of an id changes")
}

fn next_id(ids: &mut impl Read) -> Result<Option<Vec<u8>>, SnapshotError> {
    let failed = |error: std::io::Error| SnapshotError::scratch("read", &error);
    let mut length = [0; 2];
    match ids.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let mut id = vec![0; usize::from(u16::from_be_bytes(length))];
    ids.read_exact(&mut id).map_err(failed)?;
    Ok(Some(id))
}

/// Sets aside the contracts that others refer to.
fn gather(
    verified: &VerifiedSnapshot,
    table: &Table,
    run: &mut Run<'_>,
) -> Result<Spilled, SnapshotError> {
    let path = verified.path();
    let mut frames = Frames::open(path)?;
    let mut file = Spill::new(run.scratch)?;
    let mut offsets = Spill::new(run.scratch)?;
    let (mut gathered, mut seen) = (0, 0);
    let pick = |batch: Batch| {
        let mut picked: Vec<(Slot, Vec<u8>)> = Vec::new();
        let count = u64::try_from(batch.frames.len()).unwrap_or(u64::MAX);
        for frame in &batch.frames {
            let third = frame.open_third(path)?;
            let Some((slot, _)) = table.find(third.contract.contract_id.as_bytes())? else {
                continue;
            };
            let Place { number, offset } = frame.place;
            let blob = third.active.blob();
            picked.push((slot, [&number.to_be_bytes(), &offset.to_be_bytes(), blob].concat()));
        }
        Ok((picked, count, batch.end))
    };
    pipeline::run(
        run.workers,
        || frames.batch(),
        pick,
        |(picked, count, end)| {
            for (slot, contract) in picked {
                let offset = spill(&mut file, &contract)?;
                offsets.append(&offset.to_be_bytes())?;
                table.set(slot, State::Spilled { offset })?;
                gathered += 1;
            }
            seen += count;
            run.advanced(Pass::Gather, seen, end)
        },
    )?;
    let (digest, _) = frames.finish();
    if digest != verified.digest() || gathered != verified.contents().referenced {
        return Err(SnapshotError::Changed { path: path.to_owned() });
    }
    Ok(Spilled { file: file.finish()?, offsets: offsets.finish()? })
}

/// Contracts that were set aside: place and blob.
struct Blobs<'b> {
    path: &'b Path,
    map: &'b PartyMap,
    types: &'b (dyn TypeStore + Sync),
}

impl Blobs<'_> {
    fn decode(&self, spilled: &[u8]) -> Result<(Place, FatContract), SnapshotError> {
        let changed = || SnapshotError::Changed { path: self.path.to_owned() };
        let (head, blob) = spilled.split_first_chunk::<PLACE_BYTES>().ok_or_else(changed)?;
        let number = u128::from_be_bytes(*head);
        let half = |number: u128| u64::try_from(number).expect("half of it has 64 bits");
        let place =
            Place { number: half(number >> 64), offset: half(number & u128::from(u64::MAX)) };
        Ok((place, FatContract::decode(blob).map_err(|_| changed())?))
    }
}

impl Contracts for Blobs<'_> {
    fn id(&self, spilled: &[u8]) -> Result<ContractId, SnapshotError> {
        Ok(self.decode(spilled)?.1.contract_id)
    }

    fn rename(&self, spilled: &[u8], table: &Table) -> Result<Attempt, SnapshotError> {
        let (place, contract) = self.decode(spilled)?;
        match known(Some(table), &contract)? {
            Known::Waits(id) => Ok(Attempt::Waits(id)),
            Known::All(all) => {
                let rewritten = rewrite_one(place, &contract, self.map, &all, self.types)?;
                Ok(Attempt::Renamed(tail(&rewritten.contract.contract_id)))
            }
        }
    }
}

/// Rewrites a contract, whose references are known.
pub(crate) fn rewrite_one(
    place: Place,
    contract: &FatContract,
    map: &PartyMap,
    known: &BTreeMap<ContractId, Reference>,
    types: &dyn TypeStore,
) -> Result<Rewritten, SnapshotError> {
    let id = || contract.contract_id.clone();
    let authentic = authenticate(contract, types).map_err(|source| {
        SnapshotError::NotAuthentic { place, id: id(), source: Box::new(source) }
    })?;
    let resolve = |id: &ContractId| known.get(id).cloned().unwrap_or(Reference::Outside);
    rewrite(&authentic, map, &resolve, types).map_err(|source| SnapshotError::Rewrite {
        place,
        id: id(),
        source: Box::new(source),
    })
}
