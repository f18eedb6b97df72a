//! Compressed files: one gzip member, made of blocks that are compressed on all cores.
//!
//! Each block is deflated by itself and ends at a byte boundary with an empty stored block, as a
//! "sync flush" does, so that blocks can be put one behind the other. Readers see one member of
//! one stream: some of them stop behind the first member of several. Header, level and the places
//! where blocks end do not depend on the machine, the time or the number of cores, and neither do
//! the bytes of the file.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use heirloom_model::digest::SnapshotDigest;
use heirloom_model::participant::SnapshotHasher;

use crate::error::{SnapshotError, io_error};

/// No name, no time, no flags, no operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// A last, empty block of the static kind.
const END: [u8; 2] = [3, 0];
/// Ids are random and do not compress; the rest does at once. Higher levels take twice as long for
/// two percent.
const LEVEL: u32 = 3;
/// What is read of a compressed file at once.
const FILE_BUFFER_BYTES: usize = 256 * 1024;

/// A snapshot file, decompressed while it is read.
pub(crate) struct Source {
    decoder: MultiGzDecoder<BufReader<File>>,
    hasher: SnapshotHasher,
    /// How many bytes came out.
    read: u64,
}

impl Source {
    pub(crate) fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::open(path).map_err(|error| io_error("open", path, &error))?;
        let file = BufReader::with_capacity(FILE_BUFFER_BYTES, file);
        Ok(Self { decoder: MultiGzDecoder::new(file), hasher: SnapshotHasher::default(), read: 0 })
    }

    /// The digest of everything that was read.
    pub(crate) fn digest(&self) -> SnapshotDigest {
        self.hasher.clone().finish()
    }

    /// How many bytes came out.
    pub(crate) fn content_bytes(&self) -> u64 {
        self.read
    }
}

/// Sorts an error of reading a compressed file.
pub(crate) fn read_error(path: &Path, offset: u64, error: &std::io::Error) -> SnapshotError {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        UnexpectedEof => SnapshotError::Truncated { path: path.to_owned(), offset },
        InvalidData | InvalidInput => {
            let (path, message) = (path.to_owned(), error.to_string());
            SnapshotError::NotGzip { path, offset, message }
        }
        _ => io_error("read", path, error),
    }
}

impl Read for Source {
    /// Reads some bytes; none at the end, which is only where the trailer fits to the content.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        let (new, _) = buffer.split_at(count);
        self.hasher.update(new);
        self.read = self.read.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

/// A block that was compressed by itself.
pub(crate) struct Block {
    bytes: Vec<u8>,
    crc: Crc,
    length: usize,
}

impl Block {
    pub(crate) fn compress(content: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(content);
        let mut compress = Compress::new(Compression::new(LEVEL), false);
        // Stored blocks, at worst, and what a flush adds.
        let mut bytes = Vec::with_capacity(content.len() / 2 + 1024);
        loop {
            let done = usize::try_from(compress.total_in()).expect("a block is in memory");
            let (_, rest) = content.split_at(done);
            let status = compress
                .compress_vec(rest, &mut bytes, FlushCompress::Sync)
                .expect("deflating memory into memory cannot fail");
            let all = usize::try_from(compress.total_in()) == Ok(content.len());
            // A flush is complete only if there was room behind it.
            if all && (bytes.len() < bytes.capacity() || matches!(status, Status::StreamEnd)) {
                return Self { bytes, crc, length: content.len() };
            }
            bytes.reserve(content.len() / 2 + 1024);
        }
    }
}

/// Puts blocks one behind the other.
pub(crate) struct Assembler<W> {
    to: W,
    crc: Crc,
    /// Modulo 2^32, as the trailer has it.
    length: u32,
}

impl<W: Write> Assembler<W> {
    pub(crate) fn new(mut to: W) -> std::io::Result<Self> {
        to.write_all(&HEADER)?;
        Ok(Self { to, crc: Crc::new(), length: 0 })
    }

    pub(crate) fn append(&mut self, block: &Block) -> std::io::Result<()> {
        self.crc.combine(&block.crc);
        let length = u32::try_from(block.length).expect("a block is smaller than 4 GB");
        self.length = self.length.wrapping_add(length);
        self.to.write_all(&block.bytes)
    }

    /// The file, with its trailer.
    pub(crate) fn finish(mut self) -> std::io::Result<W> {
        self.to.write_all(&END)?;
        self.to.write_all(&self.crc.sum().to_le_bytes())?;
        self.to.write_all(&self.length.to_le_bytes())?;
        Ok(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressed(blocks: &[&[u8]]) -> Vec<u8> {
        let mut assembler = Assembler::new(Vec::new()).unwrap();
        for block in blocks {
            assembler.append(&Block::compress(block)).unwrap();
        }
        assembler.finish().unwrap()
    }

    #[test]
    fn blocks_one_behind_the_other_are_one_stream() {
        let noise: Vec<u8> = (0..300_000u32)
            .map(|n| n.wrapping_mul(2_654_435_761).rotate_left(11).to_be_bytes()[0])
            .collect();
        let blocks: [&[u8]; 4] = [b"one", b"", &[7; 10_000], &noise];
        let mut text = Vec::new();
        let bytes = compressed(&blocks);
        // A reader of exactly one member: it must see everything.
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, blocks.concat());
        assert_eq!(bytes, compressed(&blocks));
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_refused_at_its_offset() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("acs.gz");
        let whole = compressed(&[b"one", b"two"]);
        let read_all = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let mut source = Source::open(&path).unwrap();
            let mut buffer = [0; 64];
            loop {
                match source.read(&mut buffer) {
                    Ok(0) => return Ok(source.content_bytes()),
                    Ok(_) => {}
                    Err(error) => return Err(read_error(&path, source.content_bytes(), &error)),
                }
            }
        };
        assert_eq!(read_all(&whole).unwrap(), 6);
        for length in 0..whole.len() {
            let error = read_all(&whole[..length]).unwrap_err();
            assert!(matches!(error, SnapshotError::Truncated { .. }), "{length}: {error:?}");
        }
        let mut changed = whole.clone();
        let crc = changed.len() - 8;
        changed[crc] ^= 1;
        let error = read_all(&changed).unwrap_err();
        assert!(matches!(error, SnapshotError::NotGzip { .. }), "{error:?}");
        let mut longer = whole;
        longer.push(b'x');
        read_all(&longer).unwrap_err();
    }
}
