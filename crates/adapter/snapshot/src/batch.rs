//! Entries of a snapshot file, a megabyte at a time.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use heirloom_canton::acs::{AcsError, ActiveContract, Entry, FrameReader};
use heirloom_canton::blob::FatContract;
use heirloom_canton::instance1::OldContract;
use heirloom_model::digest::SnapshotDigest;

use crate::error::{Place, SnapshotError};
use crate::gzip::Source;

/// Content of one batch, if no entry is larger. A batch of an input is a block of an output, so
/// this number is part of what makes outputs the same everywhere.
const BATCH_BYTES: usize = 1024 * 1024;
/// What is decompressed at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// One entry, as it stands in the file.
pub(crate) struct Frame {
    pub(crate) place: Place,
    pub(crate) bytes: Vec<u8>,
}

/// Entries that follow each other.
pub(crate) struct Batch {
    pub(crate) frames: Vec<Frame>,
    /// Where the last one ends.
    pub(crate) end: u64,
}

/// Reads a file batch by batch.
pub(crate) struct Frames {
    path: PathBuf,
    reader: FrameReader<BufReader<Source>>,
    number: u64,
}

impl Frames {
    pub(crate) fn open(path: &Path) -> Result<Self, SnapshotError> {
        let source = BufReader::with_capacity(BUFFER_BYTES, Source::open(path)?);
        Ok(Self { path: path.to_owned(), reader: FrameReader::new(source), number: 0 })
    }

    pub(crate) fn batch(&mut self) -> Result<Option<Batch>, SnapshotError> {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH_BYTES {
            let offset = self.reader.offset();
            let place = Place { number: self.number.saturating_add(1), offset };
            match self.reader.next() {
                None => break,
                Some(Ok(frame)) => {
                    bytes += frame.len();
                    frames.push(Frame { place, bytes: frame });
                    self.number = place.number;
                }
                Some(Err(error)) => return Err(self.error(place, error)),
            }
        }
        let end = self.reader.offset();
        Ok((!frames.is_empty()).then_some(Batch { frames, end }))
    }

    /// The digest and the number of bytes of everything that was read.
    pub(crate) fn finish(self) -> (SnapshotDigest, u64) {
        let source = self.reader.into_inner().into_inner();
        (source.digest(), source.content_bytes())
    }

    fn error(&self, place: Place, error: AcsError) -> SnapshotError {
        let path = self.path.clone();
        match error {
            AcsError::Read { offset, source } => crate::gzip::read_error(&path, offset, &source),
            AcsError::Truncated { offset, .. } => SnapshotError::Truncated { path, offset },
            other => SnapshotError::Entry { place, source: Box::new(other) },
        }
    }
}

/// What an entry has, of either major version.
pub(crate) enum Opened {
    Third(Third),
    Second(OldContract),
}

/// An entry of the third major version.
pub(crate) struct Third {
    pub(crate) active: ActiveContract,
    pub(crate) contract: FatContract,
}

impl Frame {
    pub(crate) fn open(&self) -> Result<Opened, SnapshotError> {
        let place = self.place;
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| SnapshotError::Entry {
            place,
            source,
        };
        match Entry::decode(&self.bytes).map_err(|error| refused(Box::new(error)))? {
            Entry::Current(active) => {
                let contract = active.contract().map_err(|error| refused(Box::new(error)))?;
                Ok(Opened::Third(Third { active, contract }))
            }
            Entry::Old(_) => Err(SnapshotError::OlderExport { place }),
            Entry::Second(entry) => Ok(Opened::Second(entry.contract)),
        }
    }

    /// Opens an entry of a file that was verified to have entries of the third major version only.
    pub(crate) fn open_third(&self, path: &Path) -> Result<Third, SnapshotError> {
        match self.open()? {
            Opened::Third(third) => Ok(third),
            Opened::Second(_) => Err(SnapshotError::Changed { path: path.to_owned() }),
        }
    }
}
