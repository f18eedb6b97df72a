//! The journal file, and what it does about every damage.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;

use heirloom_store::error::StoreError;
use heirloom_store::journal_file::{JournalFile, OpenedJournal, RECORD_BYTES_MAX};
use tempfile::TempDir;

const RECORDS: [&[u8]; 3] = [b"adopted", b"started", b"succeeded"];

fn small_journal() -> (TempDir, PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut journal = JournalFile::create(&path).unwrap();
    for record in RECORDS {
        journal.append(record).unwrap();
    }
    drop(journal);
    let bytes = fs::read(&path).unwrap();
    (directory, path, bytes)
}

#[test]
fn a_journal_is_read_back_and_continued() {
    let (_directory, path, _) = small_journal();
    let OpenedJournal { records, mut journal, torn } = JournalFile::open(&path).unwrap();
    assert_eq!((records, torn), (RECORDS.map(<[u8]>::to_vec).to_vec(), None));
    let before = journal.head();
    journal.append(b"more").unwrap();
    assert_ne!(journal.head(), before);
    assert_eq!(JournalFile::inspect(&path).unwrap().last().unwrap(), b"more");
}

#[test]
fn a_journal_cut_at_any_byte_is_a_prefix_of_what_was_written() {
    let (_directory, path, bytes) = small_journal();
    for cut in 16..=bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let OpenedJournal { records, torn, .. } = JournalFile::open(&path).unwrap();
        assert!(records.len() <= RECORDS.len() && records == RECORDS[..records.len()]);
        let left = fs::metadata(&path).unwrap().len();
        assert_eq!(left + torn.map_or(0, |torn| torn.bytes), cut as u64, "cut at {cut}");
    }
}

#[test]
fn a_journal_with_any_byte_changed_is_corrupt_and_stays_as_it_is() {
    let (_directory, path, bytes) = small_journal();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let found = JournalFile::open(&path).map(|_| ());
        assert!(matches!(found, Err(StoreError::Corrupt { .. })), "byte {at}: {found:?}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

/// Also if each of them is whole: the guard of a record names the one before it.
#[test]
fn records_that_changed_places_are_corrupt() {
    let (_directory, path, bytes) = small_journal();
    let sizes: Vec<usize> = RECORDS.iter().map(|record| 4 + 4 + record.len() + 32).collect();
    let (head, rest) = bytes.split_at(16);
    let (first, rest) = rest.split_at(sizes[0]);
    let (second, third) = rest.split_at(sizes[1]);
    for order in [[second, first, third], [first, third, second], [first, first, second]] {
        fs::write(&path, [head, &order.concat()].concat()).unwrap();
        let found = JournalFile::open(&path).map(|_| ());
        assert!(matches!(found, Err(StoreError::Corrupt { .. })), "{found:?}");
    }
}

#[test]
fn a_journal_is_missing_taken_or_too_long_never_silently_new() {
    let (directory, path, _) = small_journal();
    let absent = directory.path().join("absent");
    assert_eq!(JournalFile::open(&absent).unwrap_err(), StoreError::Missing { path: absent });
    assert_eq!(JournalFile::create(&path).unwrap_err(), StoreError::Exists { path: path.clone() });
    let mut opened = JournalFile::open(&path).unwrap();
    assert_eq!(JournalFile::open(&path).unwrap_err(), StoreError::Locked { path: path.clone() });
    let too_long = vec![0; RECORD_BYTES_MAX + 1];
    assert!(matches!(opened.journal.append(&too_long), Err(StoreError::TooLarge { .. })));
    opened.journal.append(b"short").unwrap();
    assert_eq!(JournalFile::inspect(&path).unwrap().len(), RECORDS.len() + 1);
}

#[test]
fn a_log_file_is_no_journal() {
    let (_directory, path, mut bytes) = small_journal();
    bytes[..16].copy_from_slice(b"heirloom log  1\n");
    fs::write(&path, bytes).unwrap();
    let found = JournalFile::open(&path).unwrap_err();
    assert!(matches!(found, StoreError::Corrupt { offset: 0, .. }), "{found}");
}
