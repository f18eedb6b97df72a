//! Snapshots of active contracts: messages with their lengths in front, one for each contract.
//!
//! A snapshot has no header, no count and no checksum. [`FrameReader`] finds where it was cut, as
//! far as that can be found; a manifest of its own is the caller's business.

pub mod old;

use std::io::{self, Read};

use heirloom_model::limit::SNAPSHOT_FRAME_BYTES_MAX;

use crate::acs::old::{OldActiveContract, OldSnapshotContract};
use crate::blob::{BlobError, FatContract};
use crate::ledger_event::{self, EventError};
use crate::name::{ParsePartyError, SynchronizerId};
use crate::proto::{ProtoError, Reader, Writer, read_versioned, versioned, write_varint};
use crate::types::{PackageId, ParseNameError};
use crate::value::walk::Mapping;

/// The version around entries of the third major version.
const ENTRY_VERSION: u32 = 30;
/// A length of a frame has at most this many bytes.
const LENGTH_BYTES_MAX: u32 = 5;

/// Why a snapshot is not read.
#[derive(Debug, thiserror::Error)]
pub enum AcsError {
    /// Its bytes do not come.
    #[error("cannot read the snapshot behind byte {offset}")]
    Read {
        /// How many bytes were read.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ends inside a frame.
    #[error("the snapshot ends inside entry {entry}, behind byte {offset}")]
    Truncated {
        /// The entry, counted from zero.
        entry: u64,
        /// How many bytes it has.
        offset: u64,
    },
    /// A frame's length is no number.
    #[error("entry {entry} at byte {offset} has no length")]
    Length {
        /// The entry.
        entry: u64,
        /// Where it starts.
        offset: u64,
    },
    /// A frame is too large.
    #[error("entry {entry} has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// The entry.
        entry: u64,
        /// How many it has.
        bytes: u64,
        /// The limit.
        limit: usize,
    },
    /// An entry is of a version that this release does not know.
    #[error("an entry of a snapshot has version 30 or 0, not {found}")]
    Version {
        /// What was found.
        found: u32,
    },
    /// An entry's message is none.
    #[error(transparent)]
    Proto(#[from] ProtoError),
    /// An entry's contract is none.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// An entry's readable half is none.
    #[error(transparent)]
    Event(#[from] EventError),
    /// An entry's synchronizer is none.
    #[error(transparent)]
    Synchronizer(#[from] ParsePartyError),
    /// An entry's package is none.
    #[error(transparent)]
    Package(#[from] ParseNameError),
    /// The entry has no blob, so it was not exported with one.
    #[error("the entry has no blob of its contract")]
    NoBlob,
}

/// Reads frame after frame. One frame is in memory at a time.
#[derive(Debug)]
pub struct FrameReader<R> {
    input: R,
    entry: u64,
    offset: u64,
    ended: bool,
}

impl<R: Read> FrameReader<R> {
    /// Over an uncompressed snapshot. The reader should have a buffer.
    pub fn new(input: R) -> Self {
        Self { input, entry: 0, offset: 0, ended: false }
    }

    /// Bytes that were read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Gives the input back.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn frame(&mut self) -> Result<Option<Vec<u8>>, AcsError> {
        let Some(length) = self.length()? else { return Ok(None) };
        let (entry, limit) = (self.entry, SNAPSHOT_FRAME_BYTES_MAX);
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= limit);
        let bytes = bytes.ok_or(AcsError::TooLarge { entry, bytes: length, limit })?;
        let mut frame = Vec::new();
        // Reads what is there: a wrong length does not make this allocate.
        let read = (&mut self.input).take(length).read_to_end(&mut frame);
        let read = read.map_err(|source| AcsError::Read { offset: self.offset, source })?;
        self.offset += read as u64;
        if read < bytes {
            return Err(AcsError::Truncated { entry, offset: self.offset });
        }
        self.entry += 1;
        Ok(Some(frame))
    }

    /// The length in front of a frame; none at the end of the snapshot.
    fn length(&mut self) -> Result<Option<u64>, AcsError> {
        let (entry, start) = (self.entry, self.offset);
        let mut length = 0_u64;
        for index in 0..LENGTH_BYTES_MAX {
            let Some(byte) = self.byte()? else {
                let offset = self.offset;
                return if index == 0 {
                    Ok(None)
                } else {
                    Err(AcsError::Truncated { entry, offset })
                };
            };
            length |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok(Some(length));
            }
        }
        Err(AcsError::Length { entry, offset: start })
    }

    fn byte(&mut self) -> Result<Option<u8>, AcsError> {
        let mut byte = [0];
        loop {
            match self.input.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => {
                    self.offset += 1;
                    let [byte] = byte;
                    return Ok(Some(byte));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(AcsError::Read { offset: self.offset, source }),
            }
        }
    }
}

impl<R: Read> Iterator for FrameReader<R> {
    type Item = Result<Vec<u8>, AcsError>;

    /// Nothing comes behind an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let frame = self.frame().transpose();
        self.ended = !matches!(frame, Some(Ok(_)));
        frame
    }
}

/// Appends a frame with its length.
pub fn write_frame(out: &mut Vec<u8>, frame: &[u8]) {
    write_varint(out, frame.len() as u64);
    out.extend_from_slice(frame);
}

/// An entry of a snapshot, of whatever version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// Of the third major version.
    Current(ActiveContract),
    /// Of its older export, which 3.5 does not import any more.
    Old(OldActiveContract),
    /// Of the second major version.
    Second(Box<OldSnapshotContract>),
}

impl Entry {
    /// Reads a frame.
    pub fn decode(frame: &[u8]) -> Result<Self, AcsError> {
        let (version, data) = read_versioned(frame)?;
        match version {
            0 => OldSnapshotContract::decode(data).map(Box::new).map(Self::Second),
            ENTRY_VERSION if is_old(data)? => OldActiveContract::decode(data).map(Self::Old),
            ENTRY_VERSION => ActiveContract::decode(frame).map(Self::Current),
            found => Err(AcsError::Version { found }),
        }
    }
}

/// Only the older export has more than one field.
fn is_old(data: &[u8]) -> Result<bool, ProtoError> {
    for field in Reader::new(data) {
        if field?.number() == 2 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One entry of a snapshot of the third major version. It keeps its bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActiveContract {
    frame: Vec<u8>,
    event: Vec<u8>,
    blob: Vec<u8>,
    synchronizer: SynchronizerId,
    reassignment_counter: u64,
    representative_package: Option<PackageId>,
}

impl ActiveContract {
    /// Reads a frame.
    pub fn decode(frame: &[u8]) -> Result<Self, AcsError> {
        let (version, data) = read_versioned(frame)?;
        if version != ENTRY_VERSION {
            return Err(AcsError::Version { found: version });
        }
        let inner = only_field(data, "ActiveContract", 1)?;
        let (mut event, mut synchronizer, mut reassignment_counter) = (None, "", 0);
        for field in Reader::new(inner) {
            let field = field?;
            match field.number() {
                1 => event = Some(field.bytes()?),
                2 => synchronizer = field.text()?,
                3 => reassignment_counter = field.varint()?,
                // What import ignores is carried.
                _ => {}
            }
        }
        let missing = ProtoError::Missing { message: "ActiveContract", field: "created_event" };
        let event = event.ok_or(missing)?;
        let needed = ledger_event::needed(event)?;
        if needed.blob.is_empty() {
            return Err(AcsError::NoBlob);
        }
        let representative_package = match needed.representative_package {
            "" => None,
            text => Some(text.parse()?),
        };
        Ok(Self {
            frame: frame.to_vec(),
            event: event.to_vec(),
            blob: needed.blob.to_vec(),
            synchronizer: synchronizer.parse()?,
            reassignment_counter,
            representative_package,
        })
    }

    /// An entry for an event that has a blob.
    pub fn new(
        event: &[u8],
        synchronizer: &SynchronizerId,
        reassignment_counter: u64,
    ) -> Result<Self, AcsError> {
        let mut inner = Writer::default();
        inner.bytes(1, event).text(2, synchronizer.as_str());
        inner.varint_if_set(3, reassignment_counter);
        let mut outer = Writer::default();
        outer.bytes(1, &inner.finish());
        Self::decode(&versioned(ENTRY_VERSION, &outer.finish()))
    }

    /// Its frame, without the length: the bytes that it was read from.
    pub fn encode(&self) -> &[u8] {
        &self.frame
    }

    /// Reads the contract out of its blob.
    pub fn contract(&self) -> Result<FatContract, BlobError> {
        FatContract::decode(&self.blob)
    }

    /// The blob.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The readable half ([`ledger_event`]).
    pub fn event(&self) -> &[u8] {
        &self.event
    }

    /// Where the contract is active.
    pub fn synchronizer(&self) -> &SynchronizerId {
        &self.synchronizer
    }

    /// How often it moved from one synchronizer to another.
    pub fn reassignment_counter(&self) -> u64 {
        self.reassignment_counter
    }

    /// The package that its participant interprets it with. None: that of its template.
    pub fn representative_package(&self) -> Option<&PackageId> {
        self.representative_package.as_ref()
    }

    /// The entry of the contract that this one became, in both halves. `synchronizer` replaces the
    /// one that it has.
    pub fn rewritten(
        &self,
        contract: &FatContract,
        mapping: &dyn Mapping,
        synchronizer: Option<&SynchronizerId>,
    ) -> Result<Self, AcsError> {
        let (version, data) = read_versioned(&self.frame)?;
        let inner = only_field(data, "ActiveContract", 1)?;
        let mut writer = Writer::default();
        for field in Reader::new(inner) {
            let field = field?;
            match (field.number(), synchronizer) {
                (1, _) => {
                    writer.bytes(1, &ledger_event::rewrite(field.bytes()?, contract, mapping)?);
                }
                (2, Some(synchronizer)) => _ = writer.text(2, synchronizer.as_str()),
                _ => _ = writer.copy(field.raw()),
            }
        }
        let mut outer = Writer::default();
        outer.bytes(1, &writer.finish());
        Self::decode(&versioned(version, &outer.finish()))
    }
}

/// The content of a message that has one field.
fn only_field<'a>(
    bytes: &'a [u8],
    message: &'static str,
    number: u32,
) -> Result<&'a [u8], ProtoError> {
    let mut content = None;
    for field in Reader::new(bytes) {
        let field = field?;
        if field.number() != number {
            return Err(field.unknown(message));
        }
        content = Some(field.bytes()?);
    }
    content.ok_or(ProtoError::Missing { message, field: "content" })
}
