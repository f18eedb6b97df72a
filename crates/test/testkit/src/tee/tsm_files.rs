//! The kernel's directory for questions, with recorded answers.
//!
//! Generations count as in `drivers/virt/coco/tsm.c`: one for each write that was taken; a refused
//! write of a binary file is not told to the writer.

use std::collections::BTreeMap;

use super::fuse::{Files, Node};

/// What the kernel or the host does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// The write of the report data is not taken, and nobody is told.
    LostWrite,
    /// Somebody else writes to our directory before the report is read.
    WriteBefore,
    /// Somebody else writes to our directory after the report is read.
    WriteAfter,
    /// The report is about other report data.
    OtherReport,
    /// The host does not answer.
    Busy,
    /// No module for a TEE is loaded.
    NoProvider,
    /// The root belongs to somebody else.
    Denied,
    /// The report cannot be read.
    DeniedReport,
    /// The report is too large.
    Flood,
    /// The table of certificates is too large.
    FloodBeside,
    /// The report is cut.
    Short,
    /// The report is empty.
    Empty,
    /// The module is replaced by that of another TEE.
    OtherProvider,
    /// The write takes only half.
    HalfWrite,
}

#[derive(Default)]
struct Question {
    generation: u64,
    data: Vec<u8>,
    level: u8,
}

/// The directory, and who answers in it.
pub struct TsmFiles {
    /// The module that answers.
    pub provider: String,
    /// The least privilege level, on machines that have levels.
    pub floor: Option<u8>,
    /// A recorded answer, into which the report data of the question is written.
    pub blob: Vec<u8>,
    data_at: usize,
    /// What the host supplies besides.
    pub beside: Option<Vec<u8>>,
    /// What goes wrong.
    pub trouble: Option<Trouble>,
    /// Reports that were made.
    pub asked: u64,
    /// Levels that were asked for.
    pub levels: Vec<u8>,
    questions: BTreeMap<String, Question>,
}

impl TsmFiles {
    /// A SEV-SNP guest.
    pub fn snp(report: Vec<u8>, table: Vec<u8>) -> Self {
        Self::new("sev_guest", Some(0), report, 0x50, Some(table))
    }

    /// A trust domain, whose quotes the kernel pads.
    pub fn tdx(quote: &[u8], padded: usize) -> Self {
        let mut blob = quote.to_vec();
        blob.resize(padded.max(quote.len()), 0);
        Self::new("tdx_guest", None, blob, 48 + 520, None)
    }

    fn new(
        provider: &str,
        floor: Option<u8>,
        blob: Vec<u8>,
        data_at: usize,
        beside: Option<Vec<u8>>,
    ) -> Self {
        Self {
            provider: provider.to_owned(),
            floor,
            blob,
            data_at,
            beside,
            trouble: None,
            asked: 0,
            levels: Vec::new(),
            questions: BTreeMap::new(),
        }
    }

    /// Questions whose directory is still there.
    pub fn open_questions(&self) -> usize {
        self.questions.len()
    }

    fn has(&self, trouble: Trouble) -> bool {
        self.trouble == Some(trouble)
    }

    fn report(&mut self, name: &str) -> Result<Vec<u8>, i32> {
        if self.has(Trouble::DeniedReport) {
            return Err(libc::EACCES);
        }
        if self.has(Trouble::Busy) {
            return Err(libc::EBUSY);
        }
        let (floor, before) = (self.floor.unwrap_or(0), self.has(Trouble::WriteBefore));
        let question = self.questions.get_mut(name).ok_or(libc::ENOENT)?;
        if before {
            question.generation += 1;
            question.data = vec![0xee; 64];
        }
        if question.data.is_empty() || question.level < floor {
            return Err(libc::EINVAL);
        }
        let mut blob = self.blob.clone();
        let data = question.data.clone();
        blob[self.data_at..self.data_at + 64].copy_from_slice(&data);
        if self.trouble == Some(Trouble::WriteAfter) {
            question.generation += 1;
        }
        match self.trouble {
            Some(Trouble::OtherReport) => blob[self.data_at] ^= 1,
            Some(Trouble::Flood) => blob.resize(64 * 1024, 0),
            Some(Trouble::Short) => blob.truncate(1183),
            Some(Trouble::Empty) => blob.clear(),
            _ => {}
        }
        self.asked += 1;
        Ok(blob)
    }
}

impl Files for TsmFiles {
    fn node(&mut self, path: &str) -> Result<Node, i32> {
        let Some((name, file)) = path.split_once('/') else {
            return if self.questions.contains_key(path) {
                Ok(Node::Directory)
            } else {
                Err(libc::ENOENT)
            };
        };
        if !self.questions.contains_key(name) {
            return Err(libc::ENOENT);
        }
        match file {
            "provider" | "generation" | "inblob" | "outblob" => Ok(Node::File),
            "privlevel" | "privlevel_floor" if self.floor.is_some() => Ok(Node::File),
            "auxblob" if self.beside.is_some() => Ok(Node::File),
            _ => Err(libc::ENOENT),
        }
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, i32> {
        let (name, file) = path.split_once('/').ok_or(libc::EISDIR)?;
        let generation = self.questions.get(name).ok_or(libc::ENOENT)?.generation;
        match file {
            "provider" if self.has(Trouble::OtherProvider) => Ok(b"arm_cca_guest\n".to_vec()),
            "provider" => Ok(format!("{}\n", self.provider).into_bytes()),
            "generation" => Ok(format!("{generation}\n").into_bytes()),
            "privlevel_floor" => Ok(format!("{}\n", self.floor.unwrap_or(0)).into_bytes()),
            "outblob" => self.report(name),
            "auxblob" if self.has(Trouble::FloodBeside) => Ok(vec![0; 17 * 1024]),
            "auxblob" => Ok(self.beside.clone().unwrap_or_default()),
            _ => Err(libc::EACCES),
        }
    }

    fn write(&mut self, path: &str, data: &[u8]) -> Result<usize, i32> {
        let (name, file) = path.split_once('/').ok_or(libc::EISDIR)?;
        let (trouble, floor) = (self.trouble, self.floor.unwrap_or(0));
        let question = self.questions.get_mut(name).ok_or(libc::ENOENT)?;
        match file {
            "inblob" if data.len() > 64 => return Err(libc::EINVAL),
            "inblob" if trouble == Some(Trouble::HalfWrite) => return Ok(32),
            "inblob" if trouble == Some(Trouble::LostWrite) => return Ok(data.len()),
            "inblob" => question.data = data.to_vec(),
            "privlevel" => {
                let level = str::from_utf8(data).ok().and_then(|word| word.trim().parse().ok());
                question.level =
                    level.filter(|level| (floor..=3).contains(level)).ok_or(libc::EINVAL)?;
                self.levels.push(question.level);
            }
            _ => return Err(libc::EACCES),
        }
        question.generation += 1;
        Ok(data.len())
    }

    fn make(&mut self, path: &str) -> Result<(), i32> {
        match self.trouble {
            Some(Trouble::NoProvider) => Err(libc::ENXIO),
            Some(Trouble::Denied) => Err(libc::EACCES),
            _ if self.questions.contains_key(path) => Err(libc::EEXIST),
            _ => {
                self.questions.insert(path.to_owned(), Question::default());
                Ok(())
            }
        }
    }

    fn remove(&mut self, path: &str) -> Result<(), i32> {
        self.questions.remove(path).map(drop).ok_or(libc::ENOENT)
    }
}
