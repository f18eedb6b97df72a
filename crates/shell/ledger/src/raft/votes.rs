//! Vote and log: what this node has promised to the others. It is on disk before it is answered,
//! and belongs to one measurement: it is never part of the ledger, of a copy of it or of a way
//! back, because who forgets a vote may vote twice.
//!
//! ```text
//! file   = record*
//! record = length (4 bytes, big-endian), guard (4 bytes), link (8 bytes), payload
//! guard  = first 4 bytes of SHA-256(link before, length)
//! link   = first 8 bytes of SHA-256(link before, payload)
//! ```
//!
//! A record that was cut off by a crash was never answered, and is cut off; any other damage stops
//! the node. The guard makes the difference certain: a damaged length cannot make a promise in the
//! middle look like one that was never finished. The file of `heirloom-store` does the same for
//! single records; consensus appends many at once, with one flush.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heirloom_model::digest::sha256;
use heirloom_store::atomic;
use heirloom_store::error::StoreError as FileError;
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogId, RaftLogReader, StorageError, StorageIOError, Vote};
use serde::{Deserialize, Serialize};

use crate::limit::{RECORD_BYTES_MAX, VOTES_BYTES_MAX};
use crate::raft::types::{Entry, LedgerRaft, LogId, Membership};

/// The file's name.
const FILE: &str = "votes";
/// Bytes of a length.
const LENGTH_BYTES: usize = 4;
/// Bytes of what shows that a length is the one that was written.
const GUARD_BYTES: usize = 4;
/// Bytes of what links a record to all before it: enough to see damage.
const LINK_BYTES: usize = 8;

/// Shows all records up to one.
type Link = [u8; LINK_BYTES];

/// One change.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Record {
    Voted(Vote<u64>),
    Appended(Entry),
    Truncated(u64),
    Purged(LogId),
    Noted(Noted),
}

/// Up to where the log needs not to be applied again.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Noted {
    /// The last entry whose effect is surely in the ledger.
    pub applied: Option<LogId>,
    /// Who took part then.
    pub membership: Membership,
}

/// Why votes cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VotesError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] FileError),
    /// The file cannot be read or written.
    #[error("{path} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is damaged: a promise may be lost, so that this node must not take part.
    #[error("{path} is damaged at byte {at}: {what}")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Promises were made here, and are not here any more.
    #[error(
        "{path} is missing, though this node has taken part with this copy of the ledger: who \
         forgets a vote may vote twice. Restore the file, and never start without it"
    )]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("{path} is in use by another process")]
    InUse {
        /// Which.
        path: PathBuf,
    },
}

/// Vote and log. Clones share one file.
#[derive(Clone)]
pub struct Votes(Arc<Mutex<Kept>>);

struct Kept {
    file: nix::fcntl::Flock<File>,
    vote: Option<Vote<u64>>,
    log: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    noted: Noted,
    /// Links the next record to all before it.
    link: Link,
    /// Set while the end of the file is not known: nothing is promised any more.
    is_broken: bool,
}

/// Whether promises were made before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Before {
    /// Nobody knows of any: a file is begun if there is none.
    Unknown,
    /// This node has taken part: there is a file, or it was lost.
    TookPart,
}

impl Votes {
    /// Opens the file in a directory, or begins one.
    pub fn open(directory: &Path, before: Before) -> Result<Self, VotesError> {
        let path = directory.join(FILE);
        // A file is begun with a record, so that one without any was never whole.
        let is_there = std::fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        if before == Before::TookPart && !is_there {
            return Err(VotesError::Missing { path });
        }
        atomic::create_directory(directory)?;
        let failed = |source| VotesError::File { path: path.clone(), source };
        let open = || OpenOptions::new().read(true).append(true).create(true).open(&path);
        let lock = |file| {
            nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
                .map_err(|_| VotesError::InUse { path: path.clone() })
        };
        let mut file = lock(open().map_err(failed)?)?;
        atomic::sync_directory(directory)?;
        let mut kept = Content::read(&mut file, &path)?;
        if file.metadata().map_err(failed)?.len() > VOTES_BYTES_MAX {
            // What is superseded goes; what stands is written whole or not at all.
            atomic::write(&path, &kept.bytes())?;
            file = lock(open().map_err(failed)?)?;
            kept = Content::read(&mut file, &path)?;
        }
        let is_empty = kept.link == Link::default();
        if is_empty && before == Before::TookPart {
            return Err(VotesError::Missing { path });
        }
        let Content { vote, log, purged, noted, link } = kept;
        let mut kept = Kept { file, vote, log, purged, noted, link, is_broken: false };
        if is_empty {
            let begun = Record::Noted(kept.noted.clone());
            kept.write(&[begun]).map_err(failed)?;
        }
        Ok(Self(Arc::new(Mutex::new(kept))))
    }

    /// Whether nothing was ever promised here.
    pub fn is_new(&self) -> bool {
        let kept = self.lock();
        kept.vote.is_none() && kept.log.is_empty() && kept.purged.is_none()
    }

    /// Whether the log has this very entry, or let it go after its effect was in the ledger.
    pub fn holds(&self, entry: &LogId) -> bool {
        let kept = self.lock();
        kept.purged.is_some_and(|purged| entry.index <= purged.index)
            || kept.log.get(&entry.index).is_some_and(|own| own.log_id == *entry)
    }

    /// Where the log ends.
    pub fn last_index(&self) -> Option<u64> {
        let kept = self.lock();
        let last = kept.log.last_key_value().map(|(index, _)| *index);
        last.or(kept.purged.map(|purged| purged.index))
    }

    /// Up to where the log needs not to be applied again.
    pub fn noted(&self) -> Noted {
        self.lock().noted.clone()
    }

    /// Notes that the ledger surely has the effect of the log up to here.
    pub fn note(&self, noted: Noted) -> io::Result<()> {
        let mut kept = self.lock();
        kept.write(&[Record::Noted(noted.clone())])?;
        kept.noted = noted;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Appends records. When this returns, they survive a power failure.
    fn write(&mut self, records: &[Record]) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("a write failed before: nobody knows where it ends"));
        }
        let (mut link, mut bytes) = (self.link, Vec::new());
        for record in records {
            frame(record, &mut link, &mut bytes)?;
        }
        self.is_broken = true;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.is_broken = false;
        self.link = link;
        Ok(())
    }
}

fn frame(record: &Record, link: &mut Link, bytes: &mut Vec<u8>) -> io::Result<()> {
    let payload = serde_json::to_vec(record)?;
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= RECORD_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?.to_be_bytes();
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&short_digest::<GUARD_BYTES>(*link, &length));
    *link = short_digest(*link, &payload);
    bytes.extend_from_slice(link);
    bytes.extend_from_slice(&payload);
    Ok(())
}

fn short_digest<const BYTES: usize>(before: Link, of: &[u8]) -> [u8; BYTES] {
    let mut short = [0; BYTES];
    for (byte, from) in short.iter_mut().zip(sha256(&[&before, of])) {
        *byte = from;
    }
    short
}

/// What the file says.
#[derive(Default)]
struct Content {
    vote: Option<Vote<u64>>,
    log: BTreeMap<u64, Entry>,
    purged: Option<LogId>,
    noted: Noted,
    link: Link,
}

impl Content {
    /// Reads all records, and cuts off one that was never finished.
    fn read(file: &mut File, path: &Path) -> Result<Self, VotesError> {
        let failed = |source| VotesError::File { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.read_to_end(&mut bytes).map_err(failed)?;
        let mut content = Self::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let at = u64::try_from(bytes.len().saturating_sub(rest.len())).unwrap_or(u64::MAX);
            let corrupt = |what| VotesError::Corrupt { path: path.to_owned(), at, what };
            let Some((payload, after)) = split(rest, &mut content.link).map_err(corrupt)? else {
                file.set_len(at).and_then(|()| file.sync_all()).map_err(failed)?;
                break;
            };
            let record = serde_json::from_slice(payload).map_err(|_| corrupt("it is no record"))?;
            content.apply(record);
            rest = after;
        }
        Ok(content)
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Voted(vote) => self.vote = Some(vote),
            Record::Appended(entry) => {
                self.log.insert(entry.log_id.index, entry);
            }
            Record::Truncated(from) => drop(self.log.split_off(&from)),
            Record::Purged(upto) => purge(&mut self.log, &mut self.purged, upto),
            Record::Noted(noted) => self.noted = noted,
        }
    }

    /// The shortest file that says the same.
    fn bytes(&self) -> Vec<u8> {
        let mut records = vec![Record::Noted(self.noted.clone())];
        records.extend(self.vote.map(Record::Voted));
        records.extend(self.purged.map(Record::Purged));
        records.extend(self.log.values().cloned().map(Record::Appended));
        let (mut link, mut bytes) = (Link::default(), Vec::new());
        for record in &records {
            frame(record, &mut link, &mut bytes).expect("what was read from the file fits into it");
        }
        bytes
    }
}

/// A record's payload, and what follows.
type First<'a> = (&'a [u8], &'a [u8]);

/// The first record; none if its end was never written.
fn split<'a>(bytes: &'a [u8], link: &mut Link) -> Result<Option<First<'a>>, &'static str> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let Some((guard, rest)) = rest.split_first_chunk::<GUARD_BYTES>() else { return Ok(None) };
    if short_digest(*link, length) != *guard {
        return Err("the length of a record is damaged");
    }
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > RECORD_BYTES_MAX {
        return Err("a record is too large");
    }
    let Some((linked, rest)) = rest.split_first_chunk::<LINK_BYTES>() else { return Ok(None) };
    let Some((payload, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    if short_digest(*link, payload) != *linked {
        return Err("a record does not continue the chain before it");
    }
    *link = *linked;
    Ok(Some((payload, rest)))
}

fn purge(log: &mut BTreeMap<u64, Entry>, purged: &mut Option<LogId>, upto: LogId) {
    let after = log.split_off(&upto.index.saturating_add(1));
    *log = after;
    *purged = Some(upto);
}

impl RaftLogReader<LedgerRaft> for Votes {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError<u64>> {
        Ok(self.lock().log.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<LedgerRaft> for Votes {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<LedgerRaft>, StorageError<u64>> {
        let kept = self.lock();
        let last = kept.log.last_key_value().map(|(_, entry)| *entry.get_log_id());
        Ok(LogState { last_purged_log_id: kept.purged, last_log_id: last.or(kept.purged) })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let mut kept = self.lock();
        kept.write(&[Record::Voted(*vote)]).map_err(|error| StorageIOError::write_vote(&error))?;
        kept.vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        Ok(self.lock().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<LedgerRaft>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let written = {
            let entries: Vec<Entry> = entries.into_iter().collect();
            let records: Vec<Record> = entries.iter().cloned().map(Record::Appended).collect();
            let mut kept = self.lock();
            let written = kept.write(&records);
            if written.is_ok() {
                kept.log.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
            }
            written
        };
        callback.log_io_completed(written);
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError<u64>> {
        let mut kept = self.lock();
        kept.write(&[Record::Truncated(from.index)])
            .map_err(|error| StorageIOError::write_logs(&error))?;
        drop(kept.log.split_off(&from.index));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError<u64>> {
        let mut kept = self.lock();
        kept.write(&[Record::Purged(upto)]).map_err(|error| StorageIOError::write_logs(&error))?;
        let Kept { log, purged, .. } = &mut *kept;
        purge(log, purged, upto);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use openraft::entry::FromAppData;

    use super::*;
    use crate::raft::types::Proposed;

    fn entry(index: u64) -> Entry {
        let mut entry = Entry::from_app_data(Proposed(vec![1, 2, 3]));
        entry.log_id = LogId::new(openraft::CommittedLeaderId::new(1, 7), index);
        entry
    }

    fn append(votes: &Votes, records: &[Record]) {
        votes.lock().write(records).unwrap();
    }

    #[test]
    fn what_was_promised_is_there_after_a_start() {
        let directory = tempfile::tempdir().unwrap();
        let votes = Votes::open(directory.path(), Before::Unknown).unwrap();
        assert!(votes.is_new());
        assert!(matches!(
            Votes::open(directory.path(), Before::Unknown),
            Err(VotesError::InUse { .. })
        ));
        let log: Vec<Record> = (1..=5).map(|index| Record::Appended(entry(index))).collect();
        append(&votes, &log);
        append(&votes, &[Record::Voted(Vote::new(3, 7)), Record::Truncated(5)]);
        append(&votes, &[Record::Purged(entry(2).log_id)]);
        drop(votes);
        let votes = Votes::open(directory.path(), Before::Unknown).unwrap();
        assert!(!votes.is_new());
        let kept = votes.lock();
        assert_eq!(kept.vote, Some(Vote::new(3, 7)));
        assert_eq!(kept.log.keys().copied().collect::<Vec<_>>(), [3, 4]);
        assert_eq!(kept.purged, Some(entry(2).log_id));
    }

    #[test]
    fn only_the_very_entry_is_held_until_it_was_let_go() {
        let mut content = Content::default();
        (1..=4).for_each(|index| content.apply(Record::Appended(entry(index))));
        content.apply(Record::Purged(entry(2).log_id));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), content.bytes()).unwrap();
        let votes = Votes::open(directory.path(), Before::Unknown).unwrap();
        let held: Vec<u64> = (0..=6).filter(|index| votes.holds(&entry(*index).log_id)).collect();
        assert_eq!(held, [0, 1, 2, 3, 4]);
        assert_eq!(votes.last_index(), Some(4));
        let of = |index| LogId::new(openraft::CommittedLeaderId::new(2, 7), index);
        assert!(!votes.holds(&of(4)), "another leader's entry at that place");
        assert!(votes.holds(&of(2)), "what is settled is not compared again");
    }

    /// A file with two votes after its first record, and where they begin and end.
    fn two_votes(directory: &Path) -> (Vec<u8>, [usize; 3]) {
        let path = directory.join(FILE);
        let size = || std::fs::read(&path).unwrap().len();
        let votes = Votes::open(directory, Before::Unknown).unwrap();
        let first = size();
        append(&votes, &[Record::Voted(Vote::new(3, 7))]);
        let second = size();
        append(&votes, &[Record::Voted(Vote::new(4, 7))]);
        (std::fs::read(&path).unwrap(), [first, second, size()])
    }

    #[test]
    fn what_was_never_finished_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let (whole, [first, second, end]) = two_votes(directory.path());
        for length in 0..=end {
            std::fs::write(&path, &whole[..length]).unwrap();
            let votes = Votes::open(directory.path(), Before::Unknown).unwrap();
            let expected = match length {
                _ if length < second => None,
                _ if length < end => Some(Vote::new(3, 7)),
                _ => Some(Vote::new(4, 7)),
            };
            assert_eq!(votes.lock().vote, expected, "cut at {length}");
            // What is promised next is there after the next start.
            append(&votes, &[Record::Voted(Vote::new(5, 7))]);
            drop(votes);
            let votes = Votes::open(directory.path(), Before::TookPart).unwrap();
            assert_eq!(votes.lock().vote, Some(Vote::new(5, 7)), "cut at {length} of {first}");
        }
    }

    #[test]
    fn any_damaged_byte_stops_and_nothing_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let (whole, [first, second, _]) = two_votes(directory.path());
        for at in 0..whole.len() {
            for flip in [1, 0x80] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                std::fs::write(&path, &damaged).unwrap();
                let opened = Votes::open(directory.path(), Before::Unknown).err();
                let begins = [second, first, 0].into_iter().find(|begin| *begin <= at);
                let begins = begins.map(|begin| u64::try_from(begin).unwrap());
                let Some(VotesError::Corrupt { at: found, .. }) = opened else {
                    panic!("byte {at}: {opened:?}")
                };
                assert_eq!(Some(found), begins, "byte {at}");
                assert_eq!(std::fs::read(&path).unwrap(), damaged, "byte {at}");
            }
        }
        // Whole records that do not follow each other are no file either.
        let without = [&whole[..first], &whole[second..]].concat();
        std::fs::write(&path, without).unwrap();
        let opened = Votes::open(directory.path(), Before::Unknown);
        assert!(matches!(opened, Err(VotesError::Corrupt { .. })));
    }

    #[test]
    fn promises_that_were_lost_are_missed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let (whole, [first, ..]) = two_votes(directory.path());
        Votes::open(directory.path(), Before::TookPart).unwrap();
        std::fs::write(&path, &whole[..first]).unwrap();
        Votes::open(directory.path(), Before::TookPart).unwrap();
        let is_missed = || {
            let opened = Votes::open(directory.path(), Before::TookPart);
            matches!(opened, Err(VotesError::Missing { .. }))
        };
        std::fs::write(&path, &whole[..first - 1]).unwrap();
        assert!(is_missed(), "no record is whole");
        std::fs::write(&path, []).unwrap();
        assert!(is_missed(), "it is empty");
        std::fs::remove_file(&path).unwrap();
        assert!(is_missed(), "it is gone");
        assert!(!path.exists(), "none is begun in its place");
        Votes::open(directory.path(), Before::Unknown).unwrap();
    }

    #[test]
    fn the_shortest_file_says_the_same() {
        let mut content = Content::default();
        for index in 1..=4 {
            content.apply(Record::Appended(entry(index)));
        }
        content.apply(Record::Voted(Vote::new(3, 7)));
        content.apply(Record::Purged(entry(2).log_id));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), content.bytes()).unwrap();
        let votes = Votes::open(directory.path(), Before::Unknown).unwrap();
        let kept = votes.lock();
        assert_eq!((kept.vote, kept.purged), (content.vote, content.purged));
        assert_eq!(kept.log, content.log);
    }
}
