//! The journal of one agent, in one file.
//!
//! The file has a hash chain of its own, under what the records say about each other.

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

    /// Appends a record. When this returns, it survives a power failure.
    pub fn append(&mut self, record: &[u8]) -> Result<(), StoreError> {
        self.chain.append(record).map(|_| ())
    }

    /// Hash of the last record in its file, and of all before it.
    pub fn head(&self) -> JournalHash {
        JournalHash::new(*self.chain.head())
    }
}

fn link_of_record(position: u64, before: &Link, payload: &[u8]) -> Link {
    sha256(&[context::JOURNAL_RECORD, &position.to_be_bytes(), before, payload])
}
