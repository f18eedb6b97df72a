//! The journal of one agent, in one file.
//!
//! Each record names the hash of the one before it, and the file repeats that very hash behind
//! each record: there is one chain. Whoever folds the records follows it; the file sees damage
//! without understanding them, and its guards tie every record to the place where it stands.

use std::path::Path;

use heirloom_model::context;
use heirloom_model::digest::{JournalHash, sha256};

use crate::chain::{ChainFile, Format, Link, TornTail, inspect};
use crate::error::StoreError;

/// One record of a journal. Records name a step and its outcome; they carry no content.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

const FORMAT: Format = Format {
    mark: b"heirloom jrnl 1\n",
    payload_bytes_max: RECORD_BYTES_MAX,
    link_of: link_of_record,
};

/// The journal of one agent, locked for this process.
#[derive(Debug)]
pub struct JournalFile {
    chain: ChainFile,
}

/// A journal as it was found.
#[derive(Debug)]
pub struct OpenedJournal {
    /// Every record, in order.
    pub records: Vec<Vec<u8>>,
    /// The journal, for more.
    pub journal: JournalFile,
    /// A record whose append never finished, and which is gone.
    pub torn: Option<TornTail>,
}

impl JournalFile {
    /// Begins a journal. One that is there already is never touched.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        ChainFile::create(path, FORMAT).map(|chain| Self { chain })
    }

    /// Continues a journal. One that is missing is an error: absent is not new.
    pub fn open(path: &Path) -> Result<OpenedJournal, StoreError> {
        let mut records = Vec::new();
        let keep = |payload: &[u8], _| records.push(payload.to_vec());
        let (chain, torn) = ChainFile::open(path, FORMAT, keep)?;
        Ok(OpenedJournal { records, journal: Self { chain }, torn })
    }

    /// Reads a journal that an agent may be writing, without changing it.
    pub fn inspect(path: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut records = Vec::new();
        inspect(path, FORMAT, |payload, _| records.push(payload.to_vec()))?;
        Ok(records)
    }

    /// The record at the end that was never finished, if there is one: its append is going on
    /// now, or was cut off by a crash.
    pub fn torn_tail(path: &Path) -> Result<Option<TornTail>, StoreError> {
        inspect(path, FORMAT, |_, _| ())
    }

    /// Appends a record. When this returns, it survives a power failure.
    pub fn append(&mut self, record: &[u8]) -> Result<(), StoreError> {
        self.chain.append(record).map(|_| ())
    }

    /// Hash of the last record, and through what it names of all before it.
    pub fn head(&self) -> JournalHash {
        JournalHash::new(*self.chain.head())
    }
}

/// Position and link before are in the record already.
fn link_of_record(_position: u64, _before: &Link, payload: &[u8]) -> Link {
    sha256(&[context::JOURNAL_RECORD, payload])
}
