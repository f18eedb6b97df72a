//! New ids of contracts that others refer to, each computed after those that it refers to itself.
//!
//! First in rounds over all cores: a round renames whatever has nothing left to wait for. Most
//! contracts are near the bottom, so rounds end soon. What is left then are long chains, and these
//! are followed one by one from the top to the bottom and back. The way back is noted in the
//! [`Table`], so that chains of any length take no memory.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;

use heirloom_canton::contract_id::ContractId;

use crate::error::{CYCLE_LISTED_MAX, SnapshotError};
use crate::pipeline;
use crate::scratch::{Scratch, Spill};
use crate::table::{Slot, State, TAIL_BYTES, Table};

/// Bytes of spilled contracts that one worker gets at once.
const BATCH_BYTES: usize = 256 * 1024;

/// What came of trying to rename a contract.
pub(crate) enum Attempt {
    /// Its new id ends like this.
    Renamed([u8; TAIL_BYTES]),
    /// It refers to one that has no new id yet.
    Waits(ContractId),
}

/// Contracts as the order sees them.
pub(crate) trait Contracts: Sync {
    /// The id of a spilled contract.
    fn id(&self, spilled: &[u8]) -> Result<ContractId, SnapshotError>;
    /// Renames a spilled contract if everything that it refers to has its new id.
    fn rename(&self, spilled: &[u8], table: &Table) -> Result<Attempt, SnapshotError>;
}

/// Contracts in a temporary file, each behind its length.
pub(crate) struct Spilled {
    /// Their bytes.
    pub(crate) file: File,
    /// Where they begin, each in eight bytes, in another file.
    pub(crate) offsets: File,
}

impl Spilled {
    fn read(&self, offset: u64) -> Result<Vec<u8>, SnapshotError> {
        let read = |bytes: &mut [u8], offset| {
            self.file
                .read_exact_at(bytes, offset)
                .map_err(|error| SnapshotError::scratch("read", &error))
        };
        let mut length = [0; 4];
        read(&mut length, offset)?;
        let length = usize::try_from(u32::from_be_bytes(length)).expect("a size has 32 bits");
        let mut bytes = vec![0; length];
        read(&mut bytes, offset.saturating_add(4))?;
        Ok(bytes)
    }
}

/// Appends a contract to the file that [`Spilled`] reads.
pub(crate) fn spill(to: &mut Spill<'_>, contract: &[u8]) -> Result<u64, SnapshotError> {
    let length = u32::try_from(contract.len()).expect("contracts are smaller than 4 GB");
    let offset = to.append(&length.to_be_bytes())?;
    to.append(contract)?;
    Ok(offset)
}

/// Reads a file from its beginning without moving anybody's position in it.
pub(crate) struct FromStart<'f> {
    file: &'f File,
    offset: u64,
}

impl<'f> FromStart<'f> {
    pub(crate) fn new(file: &'f File) -> std::io::BufReader<Self> {
        std::io::BufReader::with_capacity(64 * 1024, Self { file, offset: 0 })
    }
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset = self.offset.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

/// Gives every spilled contract its new id in the table. `advanced` hears how many have one, and
/// may stop it.
pub(crate) fn resolve<C: Contracts>(
    contracts: &C,
    spilled: &mut Spilled,
    table: &Table,
    scratch: &Scratch,
    workers: NonZeroUsize,
    advanced: &mut dyn FnMut(u64) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    let mut total = 0;
    loop {
        let round = round(contracts, spilled, table, scratch, workers)?;
        total += round.renamed;
        advanced(total)?;
        spilled.offsets = round.waiting;
        if round.left == 0 {
            return Ok(());
        }
        // As long as a round does as much as it leaves, all rounds together cost two passes.
        if round.renamed < round.left {
            break;
        }
    }
    let mut offsets = FromStart::new(&spilled.offsets);
    while let Some(offset) = next_offset(&mut offsets)? {
        let id = contracts.id(&spilled.read(offset)?)?;
        let (slot, _) = table.find(&id_bytes(&id))?.expect("what is spilled is in the table");
        total += follow(contracts, spilled, table, slot)?;
        advanced(total)?;
    }
    Ok(())
}

fn id_bytes(id: &ContractId) -> Vec<u8> {
    id.as_bytes().to_vec()
}

fn next_offset(offsets: &mut impl Read) -> Result<Option<u64>, SnapshotError> {
    let mut bytes = [0; 8];
    match offsets.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(u64::from_be_bytes(bytes))),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(SnapshotError::scratch("read", &error)),
    }
}

struct Round {
    renamed: u64,
    left: u64,
    waiting: File,
}

/// Tries every contract that waits, once.
fn round<C: Contracts>(
    contracts: &C,
    spilled: &Spilled,
    table: &Table,
    scratch: &Scratch,
    workers: NonZeroUsize,
) -> Result<Round, SnapshotError> {
    let mut offsets = FromStart::new(&spilled.offsets);
    let produce = || {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let Some(offset) = next_offset(&mut offsets)? else { break };
            let contract = spilled.read(offset)?;
            bytes += contract.len();
            batch.push((offset, contract));
        }
        Ok((!batch.is_empty()).then_some(batch))
    };
    let work = |batch: Vec<(u64, Vec<u8>)>| {
        let attempt =
            |(offset, contract): (u64, Vec<u8>)| match contracts.rename(&contract, table)? {
                Attempt::Waits(_) => Ok((offset, None)),
                Attempt::Renamed(tail) => {
                    let id = contracts.id(&contract)?;
                    let (slot, _) =
                        table.find(id.as_bytes())?.expect("what is spilled is in the table");
                    Ok((offset, Some((slot, tail))))
                }
            };
        batch.into_iter().map(attempt).collect::<Result<Vec<_>, SnapshotError>>()
    };
    let mut waiting = Spill::new(scratch)?;
    let (mut renamed, mut left) = (0, 0);
    pipeline::run(workers, produce, work, |results| {
        for (offset, result) in results {
            if let Some((slot, tail)) = result {
                table.set(slot, State::Resolved { tail })?;
                renamed += 1;
            } else {
                waiting.append(&offset.to_be_bytes())?;
                left += 1;
            }
        }
        Ok(())
    })?;
    Ok(Round { renamed, left, waiting: waiting.finish()? })
}

/// Renames a contract and everything that it waits for, the deepest first. Returns how many.
fn follow<C: Contracts>(
    contracts: &C,
    spilled: &Spilled,
    table: &Table,
    start: Slot,
) -> Result<u64, SnapshotError> {
    let mut renamed = 0;
    let mut current = start;
    // Each turn renames a contract or goes one step deeper; nobody is waited for twice.
    loop {
        let (offset, parent) = match table.state(current)? {
            State::Resolved { .. } => return Ok(renamed),
            State::Waiting { offset, parent } => (offset, parent),
            State::Spilled { offset } => {
                table.set(current, State::Waiting { offset, parent: None })?;
                (offset, None)
            }
            State::Known => unreachable!("a contract that waits was spilled"),
        };
        match contracts.rename(&spilled.read(offset)?, table)? {
            Attempt::Renamed(tail) => {
                table.set(current, State::Resolved { tail })?;
                renamed += 1;
                match parent {
                    Some(parent) => current = parent,
                    None => return Ok(renamed),
                }
            }
            Attempt::Waits(id) => {
                let (next, state) = table.find(id.as_bytes())?.expect("it waits for one inside");
                match state {
                    State::Spilled { offset } => {
                        let parent = Some(current);
                        table.set(next, State::Waiting { offset, parent })?;
                        current = next;
                    }
                    State::Waiting { .. } => {
                        return Err(cycle(contracts, spilled, table, current, next)?);
                    }
                    State::Known | State::Resolved { .. } => {
                        unreachable!("whoever is waited for was spilled and has no new id")
                    }
                }
            }
        }
    }
}

/// Names the contracts between one that waits and the one that it waits for.
fn cycle<C: Contracts>(
    contracts: &C,
    spilled: &Spilled,
    table: &Table,
    last: Slot,
    first: Slot,
) -> Result<SnapshotError, SnapshotError> {
    let mut circle = Vec::new();
    let mut next = Some(last);
    while let Some(slot) = next.filter(|_| circle.len() < CYCLE_LISTED_MAX) {
        let State::Waiting { offset, parent } = table.state(slot)? else {
            unreachable!("a circle consists of contracts that wait")
        };
        circle.push(contracts.id(&spilled.read(offset)?)?);
        next = parent.filter(|_| slot != first);
    }
    // From the one that is waited for to the one that waits.
    circle.reverse();
    Ok(SnapshotError::Cycle { contracts: circle })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A contract is its number, and the numbers of those that it refers to.
    struct Numbers;

    fn numbered(number: u8) -> ContractId {
        format!("00{}", format!("{number:02x}").repeat(32)).parse().unwrap()
    }

    impl Contracts for Numbers {
        fn id(&self, spilled: &[u8]) -> Result<ContractId, SnapshotError> {
            Ok(numbered(spilled[0]))
        }

        fn rename(&self, spilled: &[u8], table: &Table) -> Result<Attempt, SnapshotError> {
            let mut sum = spilled[0];
            for parent in &spilled[1..] {
                let id = numbered(*parent);
                match table.find(id.as_bytes())? {
                    Some((_, State::Resolved { tail })) => sum = sum.wrapping_add(tail[0]),
                    _ => return Ok(Attempt::Waits(id)),
                }
            }
            Ok(Attempt::Renamed([sum; TAIL_BYTES]))
        }
    }

    fn resolved(contracts: &[&[u8]]) -> Result<Vec<u8>, SnapshotError> {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(directory.path());
        let table = Table::new(&scratch, 16).unwrap();
        let mut file = Spill::new(&scratch).unwrap();
        let mut offsets = Spill::new(&scratch).unwrap();
        for contract in contracts {
            let id = numbered(contract[0]);
            table.insert(id.as_bytes()).unwrap();
            let (slot, _) = table.find(id.as_bytes()).unwrap().unwrap();
            let offset = spill(&mut file, contract).unwrap();
            offsets.append(&offset.to_be_bytes()).unwrap();
            table.set(slot, State::Spilled { offset }).unwrap();
        }
        let mut spilled =
            Spilled { file: file.finish().unwrap(), offsets: offsets.finish().unwrap() };
        let workers = NonZeroUsize::new(2).unwrap();
        resolve(&Numbers, &mut spilled, &table, &scratch, workers, &mut |_| Ok(()))?;
        let state = |contract: &&[u8]| match table.find(numbered(contract[0]).as_bytes()) {
            Ok(Some((_, State::Resolved { tail }))) => tail[0],
            other => panic!("{other:?}"),
        };
        Ok(contracts.iter().map(state).collect())
    }

    #[test]
    fn contracts_are_renamed_after_those_that_they_refer_to() {
        assert_eq!(resolved(&[&[1, 2], &[2, 3], &[3, 4], &[4]]).unwrap(), [10, 9, 7, 4]);
        assert_eq!(resolved(&[&[1, 2, 3], &[2, 4], &[3, 4], &[4]]).unwrap(), [14, 6, 7, 4]);
        assert_eq!(resolved(&[&[4], &[3, 4]]).unwrap(), [4, 7]);
    }

    #[test]
    fn a_circle_is_refused_and_its_contracts_are_named() {
        let cycle = |contracts: &[&[u8]]| match resolved(contracts).unwrap_err() {
            SnapshotError::Cycle { contracts } => contracts,
            other => panic!("{other:?}"),
        };
        assert_eq!(cycle(&[&[1, 1]]), [numbered(1)]);
        // The first one only leads to the circle.
        let found = cycle(&[&[9, 1], &[1, 2], &[2, 3], &[3, 1], &[7]]);
        assert_eq!(found, [numbered(1), numbered(2), numbered(3)]);
    }
}
