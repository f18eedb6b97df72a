//! The registry log of a small network, in one file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_model::digest::LogHash;
use heirloom_model::domain::LogPosition;
use heirloom_model::limit::{ENVELOPE_BYTES_MAX, LOG_BATCH_BYTES_MAX, LOG_ENTRIES_MAX};
use heirloom_model::log::LogEntry;
use heirloom_registry::port::{AppendError, LogStore, ReadError};

use crate::chain::{ChainFile, Format, Link, Place, TornTail, inspect};
use crate::error::StoreError;

/// The links of the file are the hashes of the log: whoever has the file can check it against
/// the head that anybody else has seen.
const FORMAT: Format = Format {
    mark: b"heirloom log  1\n",
    payload_bytes_max: ENVELOPE_BYTES_MAX,
    link_of: link_of_entry,
};

/// A registry log in one file, locked for this process.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    reader: File,
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug)]
struct State {
    chain: ChainFile,
    places: Vec<Place>,
}

impl LogFile {
    /// Begins a log. One that is there already is never touched.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Self::new(ChainFile::create(path, FORMAT)?, Vec::new())
    }

    /// Continues a log, and reports a torn tail. One that is missing is an error: absent is not
    /// new, and a registry that begins again forgets what its network decided.
    pub fn open(path: &Path) -> Result<(Self, Option<TornTail>), StoreError> {
        let mut places = Vec::new();
        let (chain, torn) = ChainFile::open(path, FORMAT, |_, place| places.push(place))?;
        Ok((Self::new(chain, places)?, torn))
    }

    /// The entry at the end that was never finished, if there is one: its append is going on now,
    /// or was cut off by a crash.
    pub fn torn_tail(path: &Path) -> Result<Option<TornTail>, StoreError> {
        inspect(path, FORMAT, |_, _| ())
    }

    /// Reads a whole log that a registry may be writing, without changing it.
    pub fn inspect(path: &Path) -> Result<Vec<LogEntry>, StoreError> {
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut position = LogPosition::START;
        inspect(path, FORMAT, |payload, place| {
            entries.push(LogEntry::following(&position, payload.to_vec()));
            position = position_after(entries.len(), &place);
        })?;
        Ok(entries)
    }

    fn new(chain: ChainFile, places: Vec<Place>) -> Result<Self, StoreError> {
        let (path, reader) = (chain.path().to_owned(), chain.reader()?);
        let state = Mutex::new(State { chain, places });
        Ok(Self { path, reader, state, grown: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A writer that panicked left places and chain as they were before or after an append.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The places of a batch, with the hash before each.
    fn batch(&self, from: LogIndex, max: usize) -> Vec<(LogPosition, Place)> {
        let state = self.state();
        let start = usize::try_from(from.0).unwrap_or(usize::MAX);
        let mut bytes = 0_usize;
        let mut batch: Vec<(LogPosition, Place)> = Vec::new();
        for index in start..state.places.len().min(start.saturating_add(max.min(LOG_ENTRIES_MAX))) {
            let Some(place) = state.places.get(index) else { break };
            bytes =
                bytes.saturating_add(usize::try_from(place.payload_bytes).unwrap_or(usize::MAX));
            // One entry always fits, or a reader would wait for ever.
            if bytes > LOG_BATCH_BYTES_MAX && !batch.is_empty() {
                break;
            }
            batch.push((state.position_at(index), *place));
        }
        batch
    }
}

impl State {
    /// The position when the log had `length` entries.
    fn position_at(&self, length: usize) -> LogPosition {
        match length.checked_sub(1).and_then(|last| self.places.get(last)) {
            None => LogPosition::START,
            Some(place) => position_after(length, place),
        }
    }

    fn head(&self) -> LogPosition {
        self.position_at(self.places.len())
    }
}

impl LogStore for LogFile {
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError> {
        let mut state = self.state();
        let head = state.head();
        if head.length != expected {
            return Err(AppendError::Conflict { head });
        }
        let place = state.chain.append(envelope).map_err(|error| append_error(&error))?;
        state.places.push(place);
        let head = state.head();
        self.grown.notify_all();
        Ok(head)
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        Ok(self.state().head())
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let batch = self.batch(from, max);
        let mut entries = Vec::with_capacity(batch.len());
        for (position, place) in batch {
            let mut envelope = vec![0; usize::try_from(place.payload_bytes).unwrap_or(usize::MAX)];
            self.reader.read_exact_at(&mut envelope, place.payload_offset).map_err(|error| {
                ReadError::Unreachable { reason: format!("{}: {error}", self.path.display()) }
            })?;
            let entry = LogEntry::following(&position, envelope);
            // Disks rot; the chain notices before a reader does.
            if entry.hash() != LogHash::new(place.link) {
                let path = self.path.display();
                let reason = format!("entry {} of {path} is not what was written", entry.index);
                return Err(ReadError::Corrupt { reason });
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn watch(&self, from: LogIndex, timeout: Duration) -> Result<LogPosition, ReadError> {
        let waiting = |state: &mut State| state.head().length <= from;
        let (state, _) = self
            .grown
            .wait_timeout_while(self.state(), timeout, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        Ok(state.head())
    }
}

fn position_after(length: usize, last: &Place) -> LogPosition {
    let length = LogIndex(u64::try_from(length).unwrap_or(u64::MAX));
    LogPosition { length, head: LogHash::new(last.link) }
}

fn link_of_entry(position: u64, before: &Link, payload: &[u8]) -> Link {
    let position = LogPosition { length: LogIndex(position), head: LogHash::new(*before) };
    *LogEntry::following(&position, payload.to_vec()).hash().as_bytes()
}

fn append_error(error: &StoreError) -> AppendError {
    let reason = error.to_string();
    match error {
        StoreError::Full { .. } => AppendError::Full { reason },
        StoreError::TooLarge { found, limit, .. } => AppendError::TooLarge {
            found: usize::try_from(*found).unwrap_or(usize::MAX),
            limit: usize::try_from(*limit).unwrap_or(usize::MAX),
        },
        StoreError::Corrupt { .. } => AppendError::Corrupt { reason },
        StoreError::Unknown { .. } | StoreError::Failed { .. } => AppendError::Unknown { reason },
        StoreError::Missing { .. }
        | StoreError::Exists { .. }
        | StoreError::Refused { .. }
        | StoreError::Locked { .. } => AppendError::Unreachable { reason },
    }
}
