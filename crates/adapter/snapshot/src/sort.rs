//! Sorting of more records than fit in memory: sorted runs in temporary files, merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};

use crate::error::SnapshotError;
use crate::scratch::{Scratch, Spill};

/// The longest record: a contract id and what is noted about it.
pub(crate) const RECORD_BYTES_MAX: usize = 1024;
/// As many runs are merged into one, which belongs to the next level. Each has an open file and a
/// buffer of 64 kB.
const RUNS_MERGED: usize = 32;
/// What the bookkeeping of one record takes beside its bytes.
const ENTRY_BYTES: usize = 16;

/// One record in the arena, with its first bytes for quick comparison.
#[derive(Clone, Copy)]
struct Entry {
    prefix: u64,
    offset: u32,
    length: u32,
}

/// Takes records in any order.
pub(crate) struct Sorter<'s> {
    scratch: &'s Scratch,
    memory: usize,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    levels: Vec<Vec<Run>>,
}

impl<'s> Sorter<'s> {
    /// Keeps about `memory` bytes of records, and the rest in files.
    pub(crate) fn new(scratch: &'s Scratch, memory: usize) -> Self {
        // Offsets have 32 bits.
        let memory = memory.clamp(2 * RECORD_BYTES_MAX, 1 << 30);
        Self { scratch, memory, arena: Vec::new(), entries: Vec::new(), levels: Vec::new() }
    }

    pub(crate) fn push(&mut self, record: &[u8]) -> Result<(), SnapshotError> {
        assert!(record.len() <= RECORD_BYTES_MAX, "records of a snapshot are short");
        let used = self.arena.len() + self.entries.len() * ENTRY_BYTES;
        if used + record.len() + ENTRY_BYTES > self.memory {
            self.spill()?;
        }
        let offset = u32::try_from(self.arena.len()).expect("the memory is bounded");
        let length = u32::try_from(record.len()).expect("the length was checked");
        self.entries.push(Entry { prefix: prefix(record), offset, length });
        self.arena.extend_from_slice(record);
        Ok(())
    }

    /// All records in ascending order, each as often as it was pushed.
    pub(crate) fn finish(mut self) -> Result<Sorted, SnapshotError> {
        self.sort();
        let mut runs: Vec<Run> = Vec::new();
        for level in std::mem::take(&mut self.levels) {
            runs.extend(level);
        }
        while runs.len() > RUNS_MERGED {
            let rest = runs.split_off(RUNS_MERGED);
            let merged = merge_to_run(self.scratch, runs)?;
            runs = rest;
            runs.push(merged);
        }
        if runs.is_empty() {
            let memory = Memory { arena: self.arena, entries: self.entries, next: 0 };
            return Ok(Sorted { current: Vec::new(), source: Source::Memory(memory) });
        }
        self.spill_sorted(&mut runs)?;
        Ok(Sorted { current: Vec::new(), source: Source::Merge(Merge::new(runs)?) })
    }

    fn sort(&mut self) {
        let arena = &self.arena;
        self.entries.sort_unstable_by(|a, b| {
            a.prefix.cmp(&b.prefix).then_with(|| slice(arena, *a).cmp(slice(arena, *b)))
        });
    }

    fn spill(&mut self) -> Result<(), SnapshotError> {
        self.sort();
        let mut runs = Vec::new();
        self.spill_sorted(&mut runs)?;
        let mut level = 0;
        // Each level has fewer runs than are merged; a full one becomes one run of the next.
        while let Some(run) = runs.pop() {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(run);
            if self.levels[level].len() == RUNS_MERGED {
                let full = std::mem::take(&mut self.levels[level]);
                runs.push(merge_to_run(self.scratch, full)?);
                level += 1;
            }
        }
        Ok(())
    }

    fn spill_sorted(&mut self, runs: &mut Vec<Run>) -> Result<(), SnapshotError> {
        let mut spill = Spill::new(self.scratch)?;
        for entry in &self.entries {
            append(&mut spill, slice(&self.arena, *entry))?;
        }
        runs.push(Run { file: spill.rewind()? });
        self.arena.clear();
        self.entries.clear();
        Ok(())
    }
}

fn prefix(record: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(record) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

fn slice(arena: &[u8], entry: Entry) -> &[u8] {
    let start = usize::try_from(entry.offset).expect("an index has 32 bits");
    let length = usize::try_from(entry.length).expect("an index has 32 bits");
    &arena[start..start + length]
}

fn append(spill: &mut Spill<'_>, record: &[u8]) -> Result<(), SnapshotError> {
    let length = u16::try_from(record.len()).expect("the length was checked");
    spill.append(&length.to_be_bytes())?;
    spill.append(record)?;
    Ok(())
}

fn merge_to_run(scratch: &Scratch, runs: Vec<Run>) -> Result<Run, SnapshotError> {
    let mut merge = Merge::new(runs)?;
    let mut spill = Spill::new(scratch)?;
    let mut record = Vec::new();
    while merge.next(&mut record)? {
        append(&mut spill, &record)?;
    }
    Ok(Run { file: spill.rewind()? })
}

/// Sorted records in a file, each behind its length.
pub(crate) struct Run {
    file: BufReader<File>,
}

impl Run {
    /// Reads the next record; `false` at the end.
    pub(crate) fn next(&mut self, record: &mut Vec<u8>) -> Result<bool, SnapshotError> {
        let mut length = [0; 2];
        match self.file.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(SnapshotError::scratch("read", &error)),
        }
        record.resize(usize::from(u16::from_be_bytes(length)), 0);
        self.file.read_exact(record).map_err(|error| SnapshotError::scratch("read", &error))?;
        Ok(true)
    }
}

/// Records in ascending order.
pub(crate) struct Sorted {
    current: Vec<u8>,
    source: Source,
}

enum Source {
    Memory(Memory),
    Merge(Merge),
}

struct Memory {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    next: usize,
}

impl Sorted {
    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, SnapshotError> {
        match &mut self.source {
            Source::Memory(memory) => {
                let entry = memory.entries.get(memory.next);
                memory.next += 1;
                Ok(entry.map(|entry| slice(&memory.arena, *entry)))
            }
            Source::Merge(merge) => {
                let found = merge.next(&mut self.current)?;
                Ok(found.then_some(self.current.as_slice()))
            }
        }
    }
}

/// Several runs, read as one.
struct Merge {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
}

impl Merge {
    fn new(mut runs: Vec<Run>) -> Result<Self, SnapshotError> {
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (index, run) in runs.iter_mut().enumerate() {
            let mut record = Vec::new();
            if run.next(&mut record)? {
                heads.push(Reverse((record, index)));
            }
        }
        Ok(Self { runs, heads })
    }

    fn next(&mut self, record: &mut Vec<u8>) -> Result<bool, SnapshotError> {
        let Some(mut head) = self.heads.peek_mut() else { return Ok(false) };
        let Reverse((bytes, index)) = &mut *head;
        std::mem::swap(record, bytes);
        let run = self.runs.get_mut(*index).expect("heads name runs");
        if !run.next(bytes)? {
            drop(std::collections::binary_heap::PeekMut::pop(head));
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(records: &[Vec<u8>], memory: usize) -> Vec<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(directory.path());
        let mut sorter = Sorter::new(&scratch, memory);
        for record in records {
            sorter.push(record).unwrap();
        }
        let mut sorted = sorter.finish().unwrap();
        let mut found = Vec::new();
        while let Some(record) = sorted.next().unwrap() {
            found.push(record.to_vec());
        }
        found
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn runs_in_files_give_the_order_of_memory(
            records in prop::collection::vec(prop::collection::vec(0u8..3, 0..40), 0..2_000),
        ) {
            let mut expected = records.clone();
            expected.sort();
            prop_assert_eq!(sorted(&records, 0), expected.clone());
            prop_assert_eq!(sorted(&records, 1 << 20), expected);
        }
    }

    #[test]
    fn more_runs_than_are_merged_at_once_are_merged_in_levels() {
        // Two records of 1000 bytes fit: 1,200 runs are more than 32 times 32.
        let records: Vec<Vec<u8>> = (0..2_400u32)
            .map(|number| {
                let mut record = number.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
                record.resize(1_000, 7);
                record
            })
            .collect();
        let mut expected = records.clone();
        expected.sort();
        assert_eq!(sorted(&records, 0), expected);
    }
}
