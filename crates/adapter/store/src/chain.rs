//! Files that only grow, record by record, with a hash chain.
//!
//! ```text
//! file   = mark (16 bytes), record*
//! record = length (4 bytes, big-endian), guard (4 bytes), payload, link (32 bytes)
//! guard  = first 4 bytes of SHA-256(link before, length)
//! link   = hash over the link before, the position and the payload, as the kind of file defines
//! ```
//!
//! A crash while a record is appended leaves a file that ends within that record: a *torn tail*.
//! Nobody was told that the record is durable, so opening the file cuts it off and says so. The
//! guard makes the difference certain: a damaged length cannot make a record in the middle look
//! like one that was never finished. Everything else that does not fit is corruption. It is
//! reported, never repaired.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use heirloom_model::digest::sha256;

use crate::atomic;
use crate::error::{Context, StoreError};

/// The first bytes of a file.
pub(crate) type Mark = [u8; 16];
/// The hash of a record and all before it.
pub(crate) type Link = [u8; 32];
/// How a kind of file links a record: position, link before, payload.
pub(crate) type LinkOf = fn(u64, &Link, &[u8]) -> Link;

const MARK_BYTES: u64 = 16;
const HEADER_BYTES: u64 = 8;
const LINK_BYTES: u64 = 32;

/// One kind of file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) mark: &'static Mark,
    pub(crate) payload_bytes_max: usize,
    pub(crate) link_of: LinkOf,
}

/// A record that was cut off because its append never finished.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TornTail {
    /// Where it began.
    pub offset: u64,
    /// How much of it there was.
    pub bytes: u64,
}

/// Where a record is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) payload_offset: u64,
    pub(crate) payload_bytes: u32,
    pub(crate) link: Link,
}

/// A growing file, locked for this process.
#[derive(Debug)]
pub(crate) struct ChainFile {
    path: PathBuf,
    file: File,
    format: Format,
    end: u64,
    records: u64,
    head: Link,
    /// Set while the end of the file is not known.
    broken: bool,
}

impl ChainFile {
    /// Begins a file. One that is there already is never touched.
    pub(crate) fn create(path: &Path, format: Format) -> Result<Self, StoreError> {
        atomic::create(path, format.mark)?;
        Self::open(path, format, |_, _| ()).map(|(file, _)| file)
    }

    /// Opens a file for appending, shows every record to `visit`, and cuts off a torn tail.
    pub(crate) fn open(
        path: &Path,
        format: Format,
        visit: impl FnMut(&[u8], Place),
    ) -> Result<(Self, Option<TornTail>), StoreError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(path).context("open", path)?;
        lock(&file, path)?;
        let scanned = scan(&file, path, format, visit)?;
        if scanned.torn.is_some() {
            file.set_len(scanned.end).context("cut the torn tail of", path)?;
            file.sync_all().context("flush", path)?;
        }
        let Scanned { end, records, head, torn } = scanned;
        let path = path.to_owned();
        Ok((Self { path, file, format, end, records, head, broken: false }, torn))
    }

    /// Appends a record. When this returns, the record survives a power failure. If it fails, the
    /// record is not there, unless the error is [`StoreError::Unknown`].
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<Place, StoreError> {
        if self.broken {
            return Err(StoreError::Unknown { path: self.path.clone() });
        }
        let payload_bytes = self.checked_length(payload)?;
        let link = (self.format.link_of)(self.records, &self.head, payload);
        let length = payload_bytes.to_be_bytes();
        let record = [&length, &guard(&self.head, length)[..], payload, &link].concat();
        if let Err(error) = self.write_record(&record) {
            self.take_back();
            return Err(error);
        }
        let payload_offset = self.end.saturating_add(HEADER_BYTES);
        self.end = payload_offset.saturating_add(u64::from(payload_bytes)) + LINK_BYTES;
        self.records = self.records.saturating_add(1);
        self.head = link;
        Ok(Place { payload_offset, payload_bytes, link })
    }

    /// A second handle for reading beside the writer.
    pub(crate) fn reader(&self) -> Result<File, StoreError> {
        File::open(&self.path).context("open", &self.path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn head(&self) -> &Link {
        &self.head
    }

    fn checked_length(&self, payload: &[u8]) -> Result<u32, StoreError> {
        let limit = self.format.payload_bytes_max;
        match u32::try_from(payload.len()) {
            Ok(length) if payload.len() <= limit => Ok(length),
            _ => Err(StoreError::TooLarge {
                path: self.path.clone(),
                found: u64::try_from(payload.len()).unwrap_or(u64::MAX),
                limit: u64::try_from(limit).unwrap_or(u64::MAX),
            }),
        }
    }

    fn write_record(&mut self, record: &[u8]) -> Result<(), StoreError> {
        self.file.seek(SeekFrom::Start(self.end)).context("append to", &self.path)?;
        self.file.write_all(record).context("append to", &self.path)?;
        // After a failed flush the system may forget that the pages were dirty: nothing can be
        // said about the end of the file until it is read again.
        self.broken = true;
        let flushed = self.file.sync_data();
        flushed.map_err(|_| StoreError::Unknown { path: self.path.clone() })?;
        self.broken = false;
        Ok(())
    }

    /// Removes what a failed append left, so that the next one finds a clean end.
    fn take_back(&mut self) {
        let cut = self.file.set_len(self.end).and_then(|()| self.file.sync_all());
        self.broken = self.broken || cut.is_err();
    }
}

/// Reads a file that somebody else may be writing, without changing it.
pub(crate) fn inspect(
    path: &Path,
    format: Format,
    visit: impl FnMut(&[u8], Place),
) -> Result<Option<TornTail>, StoreError> {
    let file = File::open(path).context("open", path)?;
    scan(&file, path, format, visit).map(|scanned| scanned.torn)
}

fn lock(file: &File, path: &Path) -> Result<(), StoreError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => StoreError::Locked { path: path.to_owned() },
        TryLockError::Error(error) => StoreError::from_io("lock", path, &error),
    })
}

fn guard(before: &Link, length: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[before, &length]);
    [a, b, c, d]
}

/// What a scan found.
struct Scanned {
    end: u64,
    records: u64,
    head: Link,
    torn: Option<TornTail>,
}

fn scan(
    file: &File,
    path: &Path,
    format: Format,
    mut visit: impl FnMut(&[u8], Place),
) -> Result<Scanned, StoreError> {
    let size = file.metadata().context("inspect", path)?.len();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let corrupt =
        |offset, reason| Err(StoreError::Corrupt { path: path.to_owned(), offset, reason });
    let mut mark = [0; 16];
    match reader.read_exact(&mut mark) {
        Ok(()) if mark == *format.mark => {}
        Ok(()) => return corrupt(0, "it is not a file of this kind"),
        // The mark was written before the file got its name.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return corrupt(0, "it ends within its first bytes");
        }
        Err(error) => return Err(StoreError::from_io("read", path, &error)),
    }
    let mut found = Scanned { end: MARK_BYTES, records: 0, head: [0; 32], torn: None };
    let mut payload = Vec::new();
    while found.end < size {
        let rest = size.saturating_sub(found.end);
        let torn = Some(TornTail { offset: found.end, bytes: rest });
        if rest < HEADER_BYTES {
            return Ok(Scanned { torn, ..found });
        }
        let (mut length, mut guarded, mut link) = ([0; 4], [0; 4], [0; 32]);
        reader.read_exact(&mut length).context("read", path)?;
        reader.read_exact(&mut guarded).context("read", path)?;
        if guarded != guard(&found.head, length) {
            return corrupt(found.end, "the length of a record is damaged");
        }
        let payload_bytes = u32::from_be_bytes(length);
        let whole = HEADER_BYTES + u64::from(payload_bytes) + LINK_BYTES;
        if usize::try_from(payload_bytes).map_or(true, |bytes| bytes > format.payload_bytes_max) {
            return corrupt(found.end, "a record is larger than any that was written");
        }
        if rest < whole {
            return Ok(Scanned { torn, ..found });
        }
        payload.resize(usize::try_from(payload_bytes).unwrap_or(usize::MAX), 0);
        reader.read_exact(&mut payload).context("read", path)?;
        reader.read_exact(&mut link).context("read", path)?;
        if link != (format.link_of)(found.records, &found.head, &payload) {
            return corrupt(found.end, "a record does not continue the chain before it");
        }
        let payload_offset = found.end.saturating_add(HEADER_BYTES);
        visit(&payload, Place { payload_offset, payload_bytes, link });
        found.end = found.end.saturating_add(whole);
        found.records = found.records.saturating_add(1);
        found.head = link;
    }
    Ok(found)
}
