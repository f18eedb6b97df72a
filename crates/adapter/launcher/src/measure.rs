//! MRENCLAVE of a binary and its manifest (SDM volume 3D, 38.4.1.1).
//!
//! The enclave that is measured has, from address zero up:
//!
//! 1. the pages of the ELF load segments, at their addresses and with their permissions;
//! 2. the ELF header and program header table as the file has them, read-only: they decide where
//!    execution starts and how the pages are used, which in SGX the thread control structure does;
//! 3. the manifest, read-only.
//!
//! Each page is added with EADD and extended in 16 chunks with EEXTEND. Sections that are not
//! loaded (symbols, debug information) are not measured.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use aws_lc_rs::digest::{Context, SHA256};
use heirloom_model::measurement::MrEnclave;
use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD, ProgramHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use crate::manifest::Manifest;

/// The measurement that a binary and its manifest launch to.
pub fn measure(binary: &[u8], manifest: &Manifest) -> Result<MrEnclave, MeasureError> {
    let mut pages = Pages::default();
    let elf = Elf::parse(binary)?;
    for segment in elf.load_segments()? {
        pages.load(&segment)?;
    }
    pages.append(&elf.headers()?)?;
    pages.append(&manifest.measured_bytes())?;
    Ok(pages.measure())
}

/// Why a binary cannot be measured.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MeasureError {
    /// Not a 64-bit ELF file, or one that contradicts itself.
    #[error("the binary cannot be read as a 64-bit ELF file: {0}")]
    NotElf(object::read::Error),
    /// The binary has nothing to load.
    #[error("the binary has no load segments")]
    Empty,
    /// The binary has more load segments than any linker makes.
    #[error("the binary has {found} load segments, more than the {SEGMENTS_MAX} allowed")]
    TooManySegments {
        /// In the file.
        found: usize,
    },
    /// The binary asks for addresses beyond the largest enclave.
    #[error(
        "the binary asks for address {address:#x}; the largest enclave ends at {ENCLAVE_BYTES_MAX:#x}"
    )]
    TooLarge {
        /// The end of the segment.
        address: u64,
    },
}

/// Load segments of one binary. Linkers make four to eight.
pub const SEGMENTS_MAX: usize = 64;
/// Addresses of one enclave: debug builds of keepers have some 100 MB.
pub const ENCLAVE_BYTES_MAX: u64 = 1 << 30;

const PAGE_BYTES: usize = 4096;
const PAGE_STEP: u64 = 4096;
const CHUNK_BYTES: usize = 256;
const CHUNK_STEP: u64 = 256;
/// Frames of state save area that ECREATE is told.
const SSA_FRAME_SIZE: u32 = 1;
/// SECINFO.FLAGS (SDM volume 3D, 37.12): R, W, X, and `PT_REG` as page type.
const SECINFO_R: u64 = 1;
const SECINFO_W: u64 = 2;
const SECINFO_X: u64 = 4;
const SECINFO_PT_REG: u64 = 2 << 8;
/// The smallest enclave: two pages, since its size is a power of two.
const ENCLAVE_BYTES_MIN: u64 = 8192;

/// An ELF file with its parts that are measured.
struct Elf<'data> {
    data: &'data [u8],
    header: &'data FileHeader64<Endianness>,
    endian: Endianness,
    program_headers: &'data [ProgramHeader64<Endianness>],
}

/// One load segment.
struct Segment<'data> {
    address: u64,
    memory_bytes: u64,
    secinfo: u64,
    content: &'data [u8],
}

impl<'data> Elf<'data> {
    fn parse(data: &'data [u8]) -> Result<Self, MeasureError> {
        let header = FileHeader64::<Endianness>::parse(data).map_err(MeasureError::NotElf)?;
        let endian = header.endian().map_err(MeasureError::NotElf)?;
        let program_headers = header.program_headers(endian, data).map_err(MeasureError::NotElf)?;
        Ok(Self { data, header, endian, program_headers })
    }

    fn load_segments(&self) -> Result<Vec<Segment<'data>>, MeasureError> {
        let loads: Vec<_> =
            self.program_headers.iter().filter(|one| one.p_type(self.endian) == PT_LOAD).collect();
        if loads.is_empty() {
            return Err(MeasureError::Empty);
        }
        if loads.len() > SEGMENTS_MAX {
            return Err(MeasureError::TooManySegments { found: loads.len() });
        }
        loads.into_iter().map(|load| self.segment(load)).collect()
    }

    fn segment(&self, load: &ProgramHeader64<Endianness>) -> Result<Segment<'data>, MeasureError> {
        let content = load
            .data(self.endian, self.data)
            .map_err(|()| MeasureError::NotElf(truncated_file()))?;
        let (address, memory_bytes) = (load.p_vaddr(self.endian), load.p_memsz(self.endian));
        match address.checked_add(memory_bytes) {
            Some(end) if end <= ENCLAVE_BYTES_MAX => {}
            end => return Err(MeasureError::TooLarge { address: end.unwrap_or(u64::MAX) }),
        }
        Ok(Segment {
            address,
            memory_bytes,
            secinfo: secinfo(load.p_flags(self.endian).0),
            content,
        })
    }

    /// The ELF header and the program header table, as the file has them.
    fn headers(&self) -> Result<Vec<u8>, MeasureError> {
        let header_bytes = usize::from(self.header.e_ehsize(self.endian));
        let table = usize::try_from(self.header.e_phoff(self.endian)).ok().and_then(|start| {
            let entry = usize::from(self.header.e_phentsize(self.endian));
            let length = entry.checked_mul(self.program_headers.len())?;
            self.data.get(start..start.checked_add(length)?)
        });
        match (self.data.get(..header_bytes), table) {
            (Some(header), Some(table)) => Ok([header, table].concat()),
            _ => Err(MeasureError::NotElf(truncated_file())),
        }
    }
}

fn secinfo(segment_flags: u32) -> u64 {
    let bit = |flag: u32, secinfo: u64| if segment_flags & flag == 0 { 0 } else { secinfo };
    bit(4, SECINFO_R) | bit(2, SECINFO_W) | bit(1, SECINFO_X) | SECINFO_PT_REG
}

/// The parser's own error for a file that ends too early.
fn truncated_file() -> object::read::Error {
    FileHeader64::<Endianness>::parse(&[][..]).expect_err("no header fits into nothing")
}

/// The pages of an enclave, by address.
#[derive(Default)]
struct Pages(BTreeMap<u64, Page>);

struct Page {
    secinfo: u64,
    content: Box<[u8; PAGE_BYTES]>,
}

impl Pages {
    /// Adds a segment; what two segments share has the permissions of both.
    fn load(&mut self, segment: &Segment<'_>) -> Result<(), MeasureError> {
        let too_large = MeasureError::TooLarge { address: segment.address };
        let end = segment.address.checked_add(segment.memory_bytes).ok_or(too_large.clone())?;
        let mut page = segment.address & !(PAGE_STEP - 1);
        while page < end {
            let content = self.page(page, segment.secinfo);
            let skip = segment.address.saturating_sub(page);
            let from = page.saturating_sub(segment.address);
            let (skip, from) = (index(skip)?, index(from)?);
            let room = PAGE_BYTES.saturating_sub(skip);
            let rest = segment.content.get(from..).unwrap_or_default();
            let present = rest.get(..room.min(rest.len())).unwrap_or_default();
            let target = content.get_mut(skip..).and_then(|tail| tail.get_mut(..present.len()));
            target.ok_or(too_large.clone())?.copy_from_slice(present);
            page = page.saturating_add(PAGE_STEP);
        }
        Ok(())
    }

    /// Adds read-only pages behind everything else.
    fn append(&mut self, content: &[u8]) -> Result<(), MeasureError> {
        let segment = Segment {
            address: self.end(),
            memory_bytes: u64::try_from(content.len()).unwrap_or(u64::MAX),
            secinfo: SECINFO_R | SECINFO_PT_REG,
            content,
        };
        self.load(&segment)
    }

    fn page(&mut self, address: u64, secinfo: u64) -> &mut [u8; PAGE_BYTES] {
        let page = match self.0.entry(address) {
            Entry::Occupied(present) => present.into_mut(),
            Entry::Vacant(free) => {
                free.insert(Page { secinfo: 0, content: Box::new([0; PAGE_BYTES]) })
            }
        };
        page.secinfo |= secinfo;
        &mut page.content
    }

    fn end(&self) -> u64 {
        self.0.keys().next_back().map_or(0, |last| last.saturating_add(PAGE_STEP))
    }

    fn measure(&self) -> MrEnclave {
        let size = self.end().next_power_of_two().max(ENCLAVE_BYTES_MIN);
        let mut hash = Context::new(&SHA256);
        let ssa = SSA_FRAME_SIZE.to_le_bytes();
        hash.update(&record(*b"ECREATE\0", &[&ssa, &size.to_le_bytes()]));
        for (address, page) in &self.0 {
            let secinfo = page.secinfo.to_le_bytes();
            hash.update(&record(*b"EADD\0\0\0\0", &[&address.to_le_bytes(), &secinfo]));
            let mut chunk_address = *address;
            for chunk in page.content.chunks_exact(CHUNK_BYTES) {
                hash.update(&record(*b"EEXTEND\0", &[&chunk_address.to_le_bytes()]));
                hash.update(chunk);
                chunk_address = chunk_address.saturating_add(CHUNK_STEP);
            }
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        MrEnclave::new(digest)
    }
}

/// A 64-byte record: a tag, fields, zeros.
fn record(tag: [u8; 8], fields: &[&[u8]]) -> [u8; 64] {
    let mut bytes = [0; 64];
    let filled = bytes.iter_mut().zip(tag.iter().chain(fields.iter().copied().flatten()));
    filled.for_each(|(byte, value)| *byte = *value);
    bytes
}

fn index(offset: u64) -> Result<usize, MeasureError> {
    usize::try_from(offset).map_err(|_| MeasureError::TooLarge { address: offset })
}

#[cfg(test)]
mod tests;
