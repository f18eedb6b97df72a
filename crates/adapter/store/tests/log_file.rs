//! The log file: the suite of every log store, and what it does about every damage.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use heirloom_conformance::log_store::{self, Fixture};
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::LogPosition;
use heirloom_model::log::LogEntry;
use heirloom_registry::port::LogStore;
use heirloom_store::chain::TornTail;
use heirloom_store::error::StoreError;
use heirloom_store::log_file::LogFile;
use tempfile::TempDir;

struct InDirectory {
    directory: TempDir,
    log: LogFile,
}

impl Fixture for InDirectory {
    type Store = LogFile;

    fn create(_: NetworkId) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = LogFile::create(&directory.path().join("log")).unwrap();
        Self { directory, log }
    }

    fn store(&self) -> &LogFile {
        &self.log
    }

    fn restart(self) -> Self {
        let Self { directory, log } = self;
        drop(log);
        let (log, torn) = LogFile::open(&directory.path().join("log")).unwrap();
        assert_eq!(torn, None);
        Self { directory, log }
    }
}

#[test]
fn the_log_file_is_a_log_store() {
    log_store::run::<InDirectory>();
}

const ENVELOPES: [&[u8]; 3] = [b"one", b"", b"three"];
const MARK_BYTES: usize = 16;
/// Length, guard and link.
const FRAME_BYTES: usize = 4 + 4 + 32;

/// A directory with a small log, and the bytes of the log.
fn small_log() -> (TempDir, PathBuf, Vec<u8>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = LogFile::create(&path).unwrap();
    for (index, envelope) in (0..).zip(ENVELOPES) {
        log.append(LogIndex(index), envelope).unwrap();
    }
    drop(log);
    let bytes = fs::read(&path).unwrap();
    (directory, path, bytes)
}

/// Where each record ends.
fn ends() -> Vec<usize> {
    let mut end = MARK_BYTES;
    let mut ends = vec![end];
    for envelope in ENVELOPES {
        end += FRAME_BYTES + envelope.len();
        ends.push(end);
    }
    ends
}

fn envelopes(path: &Path) -> Vec<Vec<u8>> {
    LogFile::inspect(path).unwrap().into_iter().map(|entry| entry.envelope).collect()
}

/// A power failure while a record is written leaves any part of it.
#[test]
fn a_log_cut_at_any_byte_loses_only_what_was_never_finished() {
    let (_directory, path, bytes) = small_log();
    for cut in 0..=bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        if cut < MARK_BYTES {
            let found = LogFile::open(&path).map(|_| ());
            assert!(matches!(found, Err(StoreError::Corrupt { .. })), "cut at {cut}: {found:?}");
            continue;
        }
        let whole = ends().into_iter().filter(|end| *end <= cut).max().unwrap();
        let entries = ends().iter().filter(|end| **end <= cut).count() - 1;
        let (log, torn) = LogFile::open(&path).unwrap();
        let expected = TornTail { offset: whole as u64, bytes: (cut - whole) as u64 };
        assert_eq!(torn, (cut != whole).then_some(expected), "cut at {cut}");
        assert_eq!(log.head().unwrap().length, LogIndex(entries as u64), "cut at {cut}");
        // It goes on from there.
        log.append(LogIndex(entries as u64), b"next").unwrap();
        drop(log);
        let mut expected: Vec<Vec<u8>> =
            ENVELOPES.iter().take(entries).map(|envelope| envelope.to_vec()).collect();
        expected.push(b"next".to_vec());
        assert_eq!(envelopes(&path), expected, "cut at {cut}");
    }
}

/// No damage is taken for an append that never finished: everything was acknowledged.
#[test]
fn a_log_with_any_byte_changed_is_corrupt_and_stays_as_it_is() {
    let (_directory, path, bytes) = small_log();
    for at in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            fs::write(&path, &damaged).unwrap();
            let found = LogFile::open(&path).map(|_| ());
            let corrupt = matches!(found, Err(StoreError::Corrupt { .. }));
            assert!(corrupt, "byte {at} changed by {change:#x}: {found:?}");
            assert_eq!(fs::read(&path).unwrap(), damaged, "byte {at}: it was changed");
        }
    }
}

#[test]
fn records_that_change_places_are_corrupt() {
    let (_directory, path, bytes) = small_log();
    let [mark, first, second, _] = ends()[..] else { unreachable!() };
    let swapped = [&bytes[..mark], &bytes[first..second], &bytes[mark..first]].concat();
    fs::write(&path, swapped).unwrap();
    assert!(matches!(LogFile::open(&path), Err(StoreError::Corrupt { .. })));
}

#[test]
fn damage_is_noticed_while_the_log_is_open() {
    let (_directory, path, bytes) = small_log();
    let (log, _) = LogFile::open(&path).unwrap();
    let mut damaged = bytes;
    damaged[MARK_BYTES + 8] ^= 1;
    fs::write(&path, damaged).unwrap();
    let found = log.read(LogIndex(0), 9);
    assert!(matches!(found, Err(heirloom_registry::port::ReadError::Corrupt { .. })), "{found:?}");
}

#[test]
fn one_process_writes_and_others_may_look() {
    let (_directory, path, _) = small_log();
    let (log, _) = LogFile::open(&path).unwrap();
    assert_eq!(LogFile::open(&path).unwrap_err(), StoreError::Locked { path: path.clone() });
    assert_eq!(envelopes(&path), ENVELOPES);
    drop(log);
    assert!(LogFile::open(&path).is_ok());
}

#[test]
fn absent_is_not_new_and_what_is_there_is_not_begun_again() {
    let (directory, path, bytes) = small_log();
    let absent = directory.path().join("absent");
    assert_eq!(LogFile::open(&absent).unwrap_err(), StoreError::Missing { path: absent });
    assert_eq!(LogFile::create(&path).unwrap_err(), StoreError::Exists { path: path.clone() });
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn the_file_links_its_records_with_the_hashes_of_the_log() {
    let (_directory, path, bytes) = small_log();
    let mut position = LogPosition::START;
    for envelope in ENVELOPES {
        let entry = LogEntry::following(&position, envelope.to_vec());
        position = position.advance(&entry).unwrap();
    }
    assert!(bytes.ends_with(position.head.as_bytes()));
    assert_eq!(LogFile::open(&path).unwrap().0.head(), Ok(position));
}
