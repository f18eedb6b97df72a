//! A table on disk: contract ids that others refer to, and what becomes of them.
//!
//! A hash table of slots of one size in a temporary file, filled to at most half. It takes no
//! memory of its own; what is read often stays in the system's cache.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use heirloom_model::digest::sha256;

use crate::error::{SnapshotError, io_error};
use crate::scratch::Scratch;

/// Key 32, state 1, where the contract was spilled 8, who waits for it 8, the end of its new id 32.
const SLOT_BYTES: usize = 88;
const SLOT_BYTES_64: u64 = 88;
const STATE: usize = 32;
const OFFSET: usize = 40;
const PARENT: usize = 48;
const TAIL: usize = 56;

/// How many bytes of a contract id change.
pub(crate) const TAIL_BYTES: usize = 32;

/// Which slot of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slot(u64);

/// What is known about a contract that others refer to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    /// It is in the snapshot.
    Known,
    /// Its entry was spilled at this offset.
    Spilled {
        /// Where.
        offset: u64,
    },
    /// It waits for one that it refers to; whoever asked for it waits as well.
    Waiting {
        /// Where its entry was spilled.
        offset: u64,
        /// Who waits for it.
        parent: Option<Slot>,
    },
    /// Its new id ends like this.
    Resolved {
        /// The end.
        tail: [u8; TAIL_BYTES],
    },
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    directory: PathBuf,
    file: File,
    slots: u64,
}

impl Table {
    /// Room for `count` ids.
    pub(crate) fn new(scratch: &Scratch, count: u64) -> Result<Self, SnapshotError> {
        let slots = count.max(8).saturating_mul(2);
        let file = scratch.file()?;
        file.set_len(slots.saturating_mul(SLOT_BYTES_64))
            .map_err(|error| scratch.error("enlarge", &error))?;
        Ok(Self { directory: scratch.directory().to_owned(), file, slots })
    }

    /// Adds an id.
    pub(crate) fn insert(&self, id: &[u8]) -> Result<(), SnapshotError> {
        let key = sha256(&[id]);
        let (slot, mut bytes) = self.probe(&key)?;
        if bytes[STATE] == 0 {
            bytes[..STATE].copy_from_slice(&key);
            encode(&mut bytes, State::Known);
            self.write(slot, &bytes)?;
        }
        Ok(())
    }

    /// Finds an id.
    pub(crate) fn find(&self, id: &[u8]) -> Result<Option<(Slot, State)>, SnapshotError> {
        let (slot, bytes) = self.probe(&sha256(&[id]))?;
        Ok(decode(&bytes).map(|state| (slot, state)))
    }

    /// Reads a slot that was found before.
    pub(crate) fn state(&self, slot: Slot) -> Result<State, SnapshotError> {
        Ok(decode(&self.read(slot)?).expect("only slots that were found are read"))
    }

    /// Notes what is known now.
    pub(crate) fn set(&self, slot: Slot, state: State) -> Result<(), SnapshotError> {
        let mut bytes = self.read(slot)?;
        encode(&mut bytes, state);
        self.write(slot, &bytes)
    }

    /// The slot of a key, or the empty one where it belongs.
    fn probe(&self, key: &[u8; 32]) -> Result<(Slot, [u8; SLOT_BYTES]), SnapshotError> {
        let mut first = [0; 8];
        first.copy_from_slice(&key[..8]);
        let mut number = u64::from_be_bytes(first) % self.slots;
        // At most half of the slots are in use, so an empty one is always found.
        for _ in 0..self.slots {
            let bytes = self.read(Slot(number))?;
            if bytes[STATE] == 0 || bytes[..STATE] == *key {
                return Ok((Slot(number), bytes));
            }
            number = (number + 1) % self.slots;
        }
        unreachable!("the table has room for every id that was counted")
    }

    fn read(&self, slot: Slot) -> Result<[u8; SLOT_BYTES], SnapshotError> {
        let mut bytes = [0; SLOT_BYTES];
        self.file
            .read_exact_at(&mut bytes, slot.0 * SLOT_BYTES_64)
            .map_err(|error| SnapshotError::scratch("read", &error))?;
        Ok(bytes)
    }

    fn write(&self, slot: Slot, bytes: &[u8; SLOT_BYTES]) -> Result<(), SnapshotError> {
        self.file
            .write_all_at(bytes, slot.0 * SLOT_BYTES_64)
            .map_err(|error| io_error("write", &self.directory, &error))
    }
}

fn encode(bytes: &mut [u8; SLOT_BYTES], state: State) {
    let (number, offset, parent, tail) = match state {
        State::Known => (1, 0, None, None),
        State::Spilled { offset } => (2, offset, None, None),
        State::Waiting { offset, parent } => (3, offset, parent, None),
        State::Resolved { tail } => (4, 0, None, Some(tail)),
    };
    bytes[STATE] = number;
    bytes[OFFSET..PARENT].copy_from_slice(&offset.to_be_bytes());
    // Zero is nobody, so that slots are counted from one here.
    let parent = parent.map_or(0, |slot| slot.0 + 1);
    bytes[PARENT..TAIL].copy_from_slice(&parent.to_be_bytes());
    bytes[TAIL..].copy_from_slice(&tail.unwrap_or_default());
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<State> {
    let number = |from: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[from..from + 8]);
        u64::from_be_bytes(eight)
    };
    match bytes[STATE] {
        0 => None,
        1 => Some(State::Known),
        2 => Some(State::Spilled { offset: number(OFFSET) }),
        3 => {
            let parent = number(PARENT).checked_sub(1).map(Slot);
            Some(State::Waiting { offset: number(OFFSET), parent })
        }
        _ => {
            let mut tail = [0; TAIL_BYTES];
            tail.copy_from_slice(&bytes[TAIL..]);
            Some(State::Resolved { tail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_about_an_id_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let table = Table::new(&Scratch::new(directory.path()), 1_000).unwrap();
        for number in 0..1_000u32 {
            table.insert(&number.to_be_bytes()).unwrap();
        }
        let states = |number: u64, slot| match number % 4 {
            0 => State::Known,
            1 => State::Spilled { offset: number },
            2 => State::Waiting { offset: number, parent: Some(slot) },
            _ => State::Resolved { tail: [7; 32] },
        };
        for number in 0..1_000u32 {
            let (slot, state) = table.find(&number.to_be_bytes()).unwrap().unwrap();
            assert_eq!(state, State::Known);
            table.set(slot, states(number.into(), slot)).unwrap();
        }
        for number in 0..1_000u32 {
            let (slot, state) = table.find(&number.to_be_bytes()).unwrap().unwrap();
            assert_eq!(state, states(number.into(), slot));
            assert_eq!(table.state(slot).unwrap(), state);
        }
        assert_eq!(table.find(b"absent").unwrap(), None);
    }
}
