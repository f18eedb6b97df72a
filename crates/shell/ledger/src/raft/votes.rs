//! Vote and log: what this node has promised to the others. It is on disk before it is answered,
//! and belongs to one measurement: it is never part of the ledger, of a copy of it or of a way
//! back, because who forgets a vote may vote twice.
//!
//! One file of records, each with its length and digest. A record that was cut off by a crash was
//! never answered, and is cut off; any other damage stops the node.

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
/// Bytes of a digest: enough to see damage.
const DIGEST_BYTES: usize = 8;

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
}

impl Votes {
    /// Opens the file in a directory, or begins one.
    pub fn open(directory: &Path) -> Result<Self, VotesError> {
        atomic::create_directory(directory)?;
        let path = directory.join(FILE);
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
        let Content { vote, log, purged, noted } = kept;
        Ok(Self(Arc::new(Mutex::new(Kept { file, vote, log, purged, noted }))))
    }

    /// Whether nothing was ever promised here.
    pub fn is_new(&self) -> bool {
        let kept = self.lock();
        kept.vote.is_none() && kept.log.is_empty() && kept.purged.is_none()
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
        let mut bytes = Vec::new();
        for record in records {
            frame(record, &mut bytes)?;
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }
}

fn frame(record: &Record, bytes: &mut Vec<u8>) -> io::Result<()> {
    let payload = serde_json::to_vec(record)?;
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= RECORD_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&short_digest(&payload));
    bytes.extend_from_slice(&payload);
    Ok(())
}

fn short_digest(payload: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut short = [0; DIGEST_BYTES];
    for (byte, from) in short.iter_mut().zip(sha256(&[payload])) {
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
            let Some((payload, digest, after)) = split(rest) else {
                file.set_len(at).and_then(|()| file.sync_all()).map_err(failed)?;
                break;
            };
            if payload.len() > RECORD_BYTES_MAX {
                return Err(corrupt("a record is too large"));
            }
            if short_digest(payload) != digest {
                return Err(corrupt("a record does not have its digest"));
            }
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
        let mut bytes = Vec::new();
        for record in &records {
            frame(record, &mut bytes).expect("what was read from the file fits into it");
        }
        bytes
    }
}

/// The first record's payload, its digest, and what follows; none if it is not all there.
fn split(bytes: &[u8]) -> Option<(&[u8], [u8; DIGEST_BYTES], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    let (digest, rest) = rest.split_first_chunk::<DIGEST_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((payload, *digest, rest))
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
        let votes = Votes::open(directory.path()).unwrap();
        assert!(votes.is_new());
        assert!(matches!(Votes::open(directory.path()), Err(VotesError::InUse { .. })));
        let log: Vec<Record> = (1..=5).map(|index| Record::Appended(entry(index))).collect();
        append(&votes, &log);
        append(&votes, &[Record::Voted(Vote::new(3, 7)), Record::Truncated(5)]);
        append(&votes, &[Record::Purged(entry(2).log_id)]);
        drop(votes);
        let votes = Votes::open(directory.path()).unwrap();
        assert!(!votes.is_new());
        let kept = votes.lock();
        assert_eq!(kept.vote, Some(Vote::new(3, 7)));
        assert_eq!(kept.log.keys().copied().collect::<Vec<_>>(), [3, 4]);
        assert_eq!(kept.purged, Some(entry(2).log_id));
    }

    #[test]
    fn a_torn_record_is_cut_off_and_damage_stops() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let votes = Votes::open(directory.path()).unwrap();
        append(&votes, &[Record::Voted(Vote::new(3, 7)), Record::Voted(Vote::new(4, 7))]);
        drop(votes);
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..whole.len() / 2 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let votes = Votes::open(directory.path()).unwrap();
            assert_eq!(votes.lock().vote, Some(Vote::new(3, 7)), "cut by {cut}");
        }
        for at in LENGTH_BYTES..whole.len() / 2 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let opened = Votes::open(directory.path());
            assert!(matches!(opened, Err(VotesError::Corrupt { at: 0, .. })), "byte {at}");
        }
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
        let votes = Votes::open(directory.path()).unwrap();
        let kept = votes.lock();
        assert_eq!((kept.vote, kept.purged), (content.vote, content.purged));
        assert_eq!(kept.log, content.log);
    }
}
