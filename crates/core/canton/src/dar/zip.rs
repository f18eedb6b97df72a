//! Zip files, as far as files of packages use them.
//!
//! Participants read a zip file from its beginning and never look at the directory at its end;
//! other programs read the directory. Both must see the same files here: entries lie one after the
//! other without gaps, and what an entry says of itself is what the directory says of it.

use std::collections::BTreeMap;

use flate2::{Crc, Decompress, FlushDecompress, Status};
use heirloom_model::limit::{
    DAR_BYTES_MAX, DAR_ENTRIES_MAX, DAR_ENTRY_BYTES_MAX, DAR_NAME_BYTES_MAX, DAR_UNPACKED_BYTES_MAX,
};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_BYTES: usize = 22;
/// In place of a number that does not fit: the file has 64-bit extensions.
const ELSEWHERE: u32 = u32::MAX;
/// Deflate cannot expand more than this (RFC 1951: 258 bytes from two bits), rounded up.
const EXPANSION_MAX: usize = 1_040;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

mod flag {
    pub(super) const ENCRYPTED: u16 = 1 << 0;
    /// Which effort the compression made: no meaning for readers.
    pub(super) const EFFORT: u16 = 1 << 1 | 1 << 2;
    /// Sizes and checksum follow the data.
    pub(super) const DESCRIPTOR: u16 = 1 << 3;
    pub(super) const STRONGLY_ENCRYPTED: u16 = 1 << 6;
    pub(super) const UTF_8: u16 = 1 << 11;
    pub(super) const MASKED: u16 = 1 << 13;
}

/// Why bytes are not a zip file that is read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ZipError {
    /// The file is too large.
    #[error("the file has {bytes} bytes; at most {DAR_BYTES_MAX} are read")]
    FileTooLarge {
        /// How many.
        bytes: usize,
    },
    /// It does not end as zip files without comment do.
    #[error("the file does not end with the directory of a zip file")]
    NoDirectory,
    /// It uses 64-bit extensions.
    #[error("the file has the 64-bit form of zip, which is for files that are too large here")]
    SixtyFourBit,
    /// It is one of several.
    #[error("the file is one volume of several")]
    Volumes,
    /// It has too many entries.
    #[error("the file has {entries} entries; at most {DAR_ENTRIES_MAX} are read")]
    TooManyEntries {
        /// How many.
        entries: usize,
    },
    /// A structure ends early or says what it is not.
    #[error("{what} is cut short or is something else")]
    Malformed {
        /// The structure.
        what: &'static str,
    },
    /// Bytes belong to no entry, or to two.
    #[error("an entry begins at byte {found}, and the one before ends at byte {expected}")]
    NotContiguous {
        /// Where the one before ends.
        expected: usize,
        /// Where it begins.
        found: usize,
    },
    /// A name is not one of a file in a package.
    #[error("the name {name:?} {problem}")]
    Name {
        /// The name, cut.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Two entries have one name.
    #[error("{name:?} is there twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// An entry is encrypted.
    #[error("{name:?} is encrypted")]
    Encrypted {
        /// The name.
        name: String,
    },
    /// An entry has a feature that participants do not read.
    #[error("{name:?} has flags {flags:#06x} and method {method}, which are not read")]
    Unsupported {
        /// The name.
        name: String,
        /// Its flags.
        flags: u16,
        /// Its compression.
        method: u16,
    },
    /// An entry and the directory disagree.
    #[error("{name:?} and the directory disagree on the {what}")]
    Disagreement {
        /// The name.
        name: String,
        /// On what.
        what: &'static str,
    },
    /// An entry is too large.
    #[error("{name:?} has {bytes} bytes; at most {DAR_ENTRY_BYTES_MAX} are read")]
    EntryTooLarge {
        /// The name.
        name: String,
        /// How many.
        bytes: usize,
    },
    /// All entries together are too large.
    #[error("all entries together have more than {DAR_UNPACKED_BYTES_MAX} bytes")]
    TooLarge,
    /// An entry says that it grows more than compression can make it.
    #[error("{name:?} says that {packed} bytes become {bytes}, more than compression can do")]
    Bomb {
        /// The name.
        name: String,
        /// Its bytes in the file.
        packed: usize,
        /// What they should become.
        bytes: usize,
    },
    /// An entry does not unpack to what it says.
    #[error("{name:?} is corrupt: {problem}")]
    Corrupt {
        /// The name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// One entry, not yet unpacked.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    packed_bytes: usize,
    bytes: usize,
    offset: usize,
    packed: &'a [u8],
}

/// All entries by name. What they hold is checked by [`Entry::unpack`].
pub(super) fn entries(file: &[u8]) -> Result<BTreeMap<String, Entry<'_>>, ZipError> {
    if file.len() > DAR_BYTES_MAX {
        return Err(ZipError::FileTooLarge { bytes: file.len() });
    }
    let (directory_at, directory, count) = directory(file)?;
    let mut rest = Bytes(directory);
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(Entry::central(&mut rest)?);
    }
    if !rest.0.is_empty() {
        return Err(ZipError::Malformed { what: "the directory" });
    }
    let unpacked: usize = entries.iter().map(|entry| entry.bytes).sum();
    if unpacked > DAR_UNPACKED_BYTES_MAX {
        return Err(ZipError::TooLarge);
    }
    entries.sort_by_key(|entry| entry.offset);
    let mut expected = 0;
    for entry in &mut entries {
        if entry.offset != expected {
            return Err(ZipError::NotContiguous { expected, found: entry.offset });
        }
        expected = entry.local(file.get(..directory_at).unwrap_or_default())?;
    }
    if expected != directory_at {
        return Err(ZipError::NotContiguous { expected, found: directory_at });
    }
    let mut by_name = BTreeMap::new();
    for entry in entries {
        let name = entry.name.clone();
        if by_name.insert(name.clone(), entry).is_some() {
            return Err(ZipError::Duplicate { name });
        }
    }
    Ok(by_name)
}

/// Where the directory begins, its bytes, and how many entries it has.
fn directory(file: &[u8]) -> Result<(usize, &[u8], usize), ZipError> {
    let end_at = file.len().checked_sub(END_BYTES).ok_or(ZipError::NoDirectory)?;
    let (before, end) = file.split_at(end_at);
    let mut end = Bytes(end);
    let what = "the end of the directory";
    if end.u32(what)? != END {
        return Err(ZipError::NoDirectory);
    }
    let (disk, directory_disk) = (end.u16(what)?, end.u16(what)?);
    let (here, count) = (end.u16(what)?, end.u16(what)?);
    let (size, at) = (end.u32(what)?, end.u32(what)?);
    if end.u16(what)? != 0 {
        return Err(ZipError::NoDirectory);
    }
    if here == u16::MAX || count == u16::MAX || size == ELSEWHERE || at == ELSEWHERE {
        return Err(ZipError::SixtyFourBit);
    }
    if disk != 0 || directory_disk != 0 || here != count {
        return Err(ZipError::Volumes);
    }
    let count = usize::from(count);
    if count > DAR_ENTRIES_MAX {
        return Err(ZipError::TooManyEntries { entries: count });
    }
    let at = index(at)?;
    let directory = before.get(at..).ok_or(ZipError::NoDirectory)?;
    if directory.len() != index(size)? {
        return Err(ZipError::NoDirectory);
    }
    Ok((at, directory, count))
}

impl<'a> Entry<'a> {
    /// Reads what the directory says of an entry.
    fn central(directory: &mut Bytes<'_>) -> Result<Self, ZipError> {
        let what = "an entry of the directory";
        if directory.u32(what)? != CENTRAL {
            return Err(ZipError::Malformed { what });
        }
        directory.take(4, what)?; // versions of the writer and of the format
        let (flags, method) = (directory.u16(what)?, directory.u16(what)?);
        directory.take(4, what)?; // time and date
        let crc = directory.u32(what)?;
        let (packed_bytes, bytes) = (directory.u32(what)?, directory.u32(what)?);
        let name_bytes = usize::from(directory.u16(what)?);
        let extra_bytes = usize::from(directory.u16(what)?);
        let comment_bytes = usize::from(directory.u16(what)?);
        let disk = directory.u16(what)?;
        directory.take(6, what)?; // attributes
        let offset = directory.u32(what)?;
        let name = check_name(directory.take(name_bytes, what)?)?;
        directory.take(extra_bytes, what)?;
        directory.take(comment_bytes, what)?;
        if [packed_bytes, bytes, offset].contains(&ELSEWHERE) {
            return Err(ZipError::SixtyFourBit);
        }
        if disk != 0 {
            return Err(ZipError::Volumes);
        }
        let (packed_bytes, bytes, offset) = (index(packed_bytes)?, index(bytes)?, index(offset)?);
        let entry = Self {
            name,
            flags,
            method,
            crc,
            packed_bytes,
            bytes,
            offset,
            packed: Default::default(),
        };
        entry.check()?;
        Ok(entry)
    }

    /// Refuses what is not read, by what the directory says.
    fn check(&self) -> Result<(), ZipError> {
        let name = self.name.clone();
        let encrypted = flag::ENCRYPTED | flag::STRONGLY_ENCRYPTED | flag::MASKED;
        if self.flags & encrypted != 0 {
            return Err(ZipError::Encrypted { name });
        }
        let known = flag::EFFORT | flag::DESCRIPTOR | flag::UTF_8;
        let stored = self.method == STORED && self.flags & flag::DESCRIPTOR == 0;
        if self.flags & !known != 0 || !(stored || self.method == DEFLATED) {
            let (flags, method) = (self.flags, self.method);
            return Err(ZipError::Unsupported { name, flags, method });
        }
        let bytes = self.bytes;
        if bytes > DAR_ENTRY_BYTES_MAX {
            return Err(ZipError::EntryTooLarge { name, bytes });
        }
        let packed = self.packed_bytes;
        if bytes > packed.saturating_mul(EXPANSION_MAX) {
            return Err(ZipError::Bomb { name, packed, bytes });
        }
        Ok(())
    }

    /// Reads the entry itself, compares it with the directory, and returns where it ends.
    fn local(&mut self, file: &'a [u8]) -> Result<usize, ZipError> {
        let what = "an entry";
        let mut rest = Bytes(file.get(self.offset..).ok_or(ZipError::Malformed { what })?);
        if rest.u32(what)? != LOCAL {
            return Err(ZipError::Malformed { what });
        }
        rest.take(2, what)?; // version of the format
        let (flags, method) = (rest.u16(what)?, rest.u16(what)?);
        rest.take(4, what)?; // time and date
        let (crc, packed_bytes, bytes) = (rest.u32(what)?, rest.u32(what)?, rest.u32(what)?);
        let name_bytes = usize::from(rest.u16(what)?);
        let extra_bytes = usize::from(rest.u16(what)?);
        let name = rest.take(name_bytes, what)?;
        rest.take(extra_bytes, what)?;
        self.agree("name", name == self.name.as_bytes())?;
        self.agree("flags", flags == self.flags)?;
        self.agree("method", method == self.method)?;
        let follows = flags & flag::DESCRIPTOR != 0;
        if !(follows && (crc, packed_bytes, bytes) == (0, 0, 0)) {
            self.agree_sizes(crc, packed_bytes, bytes)?;
        }
        self.packed = rest.take(self.packed_bytes, what)?;
        if follows {
            let first = rest.u32(what)?;
            // The signature of a descriptor is optional.
            let crc = if first == DESCRIPTOR { rest.u32(what)? } else { first };
            let (packed_bytes, bytes) = (rest.u32(what)?, rest.u32(what)?);
            self.agree_sizes(crc, packed_bytes, bytes)?;
        }
        Ok(file.len() - rest.0.len())
    }

    fn agree_sizes(&self, crc: u32, packed_bytes: u32, bytes: u32) -> Result<(), ZipError> {
        self.agree("checksum", crc == self.crc)?;
        self.agree("packed size", index(packed_bytes)? == self.packed_bytes)?;
        self.agree("size", index(bytes)? == self.bytes)
    }

    fn agree(&self, what: &'static str, agrees: bool) -> Result<(), ZipError> {
        if agrees {
            return Ok(());
        }
        Err(ZipError::Disagreement { name: self.name.clone(), what })
    }

    /// What the entry holds.
    pub(super) fn unpack(&self) -> Result<Vec<u8>, ZipError> {
        let unpacked = match self.method {
            STORED => self.packed.to_vec(),
            _ => self.inflate()?,
        };
        if unpacked.len() != self.bytes {
            return Err(self.corrupt("its size differs"));
        }
        let mut crc = Crc::new();
        crc.update(&unpacked);
        if crc.sum() != self.crc {
            return Err(self.corrupt("its checksum differs"));
        }
        Ok(unpacked)
    }

    /// Inflates into exactly as much room as the entry says. That it is plausible was checked.
    fn inflate(&self) -> Result<Vec<u8>, ZipError> {
        let mut unpacked = vec![0; self.bytes];
        let mut state = Decompress::new(false);
        let status = state
            .decompress(self.packed, &mut unpacked, FlushDecompress::Finish)
            .map_err(|_| self.corrupt("it is not a deflate stream"))?;
        if status != Status::StreamEnd {
            return Err(self.corrupt("its stream does not end where it says"));
        }
        let same = |count: u64, length: usize| usize::try_from(count) == Ok(length);
        if !same(state.total_in(), self.packed.len()) {
            return Err(self.corrupt("bytes follow its stream"));
        }
        if !same(state.total_out(), unpacked.len()) {
            return Err(self.corrupt("its size differs"));
        }
        Ok(unpacked)
    }

    fn corrupt(&self, problem: &'static str) -> ZipError {
        ZipError::Corrupt { name: self.name.clone(), problem }
    }
}

/// Takes names of files below the place where somebody might unpack them, and of nothing else.
fn check_name(bytes: &[u8]) -> Result<String, ZipError> {
    let shown = || String::from_utf8_lossy(bytes).chars().take(80).collect::<String>();
    let refuse = |problem| Err(ZipError::Name { name: shown(), problem });
    if bytes.len() > DAR_NAME_BYTES_MAX {
        return refuse("is too long");
    }
    let Ok(name) = std::str::from_utf8(bytes) else {
        return refuse("is not UTF-8");
    };
    if name.is_empty() {
        return refuse("is empty");
    }
    if name.chars().any(char::is_control) {
        return refuse("has a control character");
    }
    let drive = name.as_bytes().get(1) == Some(&b':');
    if name.starts_with('/') || name.contains('\\') || drive {
        return refuse("is absolute or of another system");
    }
    // A folder ends with a slash.
    let path = name.strip_suffix('/').unwrap_or(name);
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("leads elsewhere");
    }
    Ok(name.to_owned())
}

fn index(value: u32) -> Result<usize, ZipError> {
    usize::try_from(value).map_err(|_| ZipError::SixtyFourBit)
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], ZipError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(ZipError::Malformed { what })?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ZipError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(ZipError::Malformed { what })?;
        self.0 = tail;
        Ok(*head)
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, ZipError> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, ZipError> {
        self.array(what).map(u32::from_le_bytes)
    }
}

/// Writes a zip file whose bytes depend on nothing but names and contents: nothing is compressed,
/// and every file is of the first day that zip knows.
pub(super) fn write(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let offset = length(file.len());
        file.extend(LOCAL.to_le_bytes());
        file.extend(common(name, content));
        file.extend(name.as_bytes());
        file.extend(content);
        directory.extend(CENTRAL.to_le_bytes());
        directory.extend(20_u16.to_le_bytes());
        directory.extend(common(name, content));
        // No comment, first volume, no attributes.
        directory.extend([0; 2 + 2 + 2 + 4]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = u16::try_from(files.len()).expect("the builder writes a handful of files");
    let (at, size) = (length(file.len()), length(directory.len()));
    file.extend(directory);
    file.extend(END.to_le_bytes());
    file.extend([0; 2 + 2]);
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend(size.to_le_bytes());
    file.extend(at.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// What an entry and the directory both say of a file.
fn common(name: &str, content: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(content);
    let mut bytes = Vec::new();
    bytes.extend(20_u16.to_le_bytes());
    bytes.extend(flag::UTF_8.to_le_bytes());
    bytes.extend(STORED.to_le_bytes());
    // Midnight, 1 January 1980.
    bytes.extend(0_u16.to_le_bytes());
    bytes.extend(0x0021_u16.to_le_bytes());
    bytes.extend(crc.sum().to_le_bytes());
    bytes.extend(length(content.len()).to_le_bytes());
    bytes.extend(length(content.len()).to_le_bytes());
    bytes.extend(u16::try_from(name.len()).expect("the builder's names are short").to_le_bytes());
    bytes.extend(0_u16.to_le_bytes());
    bytes
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("the builder writes small files")
}
