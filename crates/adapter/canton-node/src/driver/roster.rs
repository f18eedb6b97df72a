//! Ids and stakeholders of many contracts, sorted, on disk.
//!
//! A record is the id and a digest of the stakeholders: fixed bytes, ascending by id. Sorting
//! keeps one run in memory; runs are merged from disk. So the memory does not grow with the
//! number of contracts.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use heirloom_canton::contract_id::ContractId;
use heirloom_canton::hash::Preimage;
use heirloom_model::digest::ContractSetDigest;
use heirloom_model::participant::ContractSetHasher;
use heirloom_store::atomic;
use heirloom_upgrade::port::DriverError;

use crate::driver::fault::{io_error, store_error};

/// An id of the third major version: its first byte, discriminator and suffix.
const ID_BYTES: usize = 69;
/// A record.
const RECORD_BYTES: usize = ID_BYTES + 32;
/// Records of a run that is sorted in memory: 20 MB.
const RUN_RECORDS: usize = 200_000;
/// Runs: together they hold a billion contracts.
const RUNS_MAX: usize = 5_000;
/// Contracts are confidential.
const FILE_MODE: u32 = 0o600;

/// One contract.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Record([u8; RECORD_BYTES]);

impl Record {
    /// A contract with these stakeholders.
    pub(crate) fn new(
        id: &ContractId,
        signatories: &BTreeSet<String>,
        observers: &BTreeSet<String>,
    ) -> Result<Self, DriverError> {
        let bytes: &[u8; ID_BYTES] = id.as_bytes().try_into().map_err(|_| {
            DriverError::Corrupt { what: format!("contract {id}"), reason: "its length".to_owned() }
        })?;
        let mut preimage = Preimage::default();
        preimage.texts(signatories.iter());
        // The ledger lists signatories among the observers or does not; who signs is not asked
        // twice.
        let others: Vec<_> = observers.difference(signatories).collect();
        preimage.texts(others.iter());
        let mut record = [0; RECORD_BYTES];
        record[..ID_BYTES].copy_from_slice(bytes);
        record[ID_BYTES..].copy_from_slice(&preimage.sha256());
        Ok(Self(record))
    }

    /// The bytes of its id.
    pub(crate) fn id(&self) -> &[u8] {
        &self.0[..ID_BYTES]
    }

    /// Its id.
    pub(crate) fn contract(&self) -> Result<ContractId, DriverError> {
        ContractId::from_bytes(self.id()).map_err(|error| DriverError::Corrupt {
            what: "roster".to_owned(),
            reason: error.to_string(),
        })
    }
}

/// Gathers contracts in any order.
pub(crate) struct Gathering {
    folder: PathBuf,
    name: &'static str,
    run: Vec<Record>,
    runs: Vec<PathBuf>,
}

impl Gathering {
    /// Nothing yet. Runs are written to the folder under this name, over those that an interrupted
    /// gathering left.
    pub(crate) fn new(folder: &Path, name: &'static str) -> Self {
        Self { folder: folder.to_owned(), name, run: Vec::new(), runs: Vec::new() }
    }

    /// One more contract.
    pub(crate) fn push(&mut self, record: Record) -> Result<(), DriverError> {
        self.run.push(record);
        if self.run.len() < RUN_RECORDS { Ok(()) } else { self.spill() }
    }

    fn spill(&mut self) -> Result<(), DriverError> {
        if self.runs.len() >= RUNS_MAX {
            return Err(DriverError::Refused(format!("more than {RUNS_MAX} runs of contracts")));
        }
        self.run.sort_unstable();
        let path = self.folder.join(format!(".{}-{}.run", self.name, self.runs.len()));
        let failed = |error| io_error(&path, &error);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let mut file = BufWriter::new(options.open(&path).map_err(failed)?);
        for record in self.run.drain(..) {
            file.write_all(&record.0).map_err(failed)?;
        }
        file.flush().map_err(failed)?;
        self.runs.push(path);
        Ok(())
    }

    /// All of them, ascending. A contract that is there twice is refused.
    pub(crate) fn sorted(mut self) -> Result<Sorted, DriverError> {
        self.run.sort_unstable();
        let mut heads = BinaryHeap::new();
        let mut readers = Vec::new();
        for path in &self.runs {
            readers.push(Some(Records::open(path)?));
        }
        let memory = std::mem::take(&mut self.run).into_iter();
        for (index, reader) in readers.iter_mut().enumerate() {
            if let Some(record) = reader.as_mut().and_then(Iterator::next) {
                heads.push(Reverse((record?, index)));
            }
        }
        let mut sorted = Sorted { _files: self, readers, memory, heads, last: None };
        sorted.refill_from_memory();
        Ok(sorted)
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        for path in &self.runs {
            // The next gathering writes over it.
            let _removed = std::fs::remove_file(path);
        }
    }
}

/// Contracts in ascending order.
pub(crate) struct Sorted {
    /// Removed with this.
    _files: Gathering,
    readers: Vec<Option<Records>>,
    memory: std::vec::IntoIter<Record>,
    heads: BinaryHeap<Reverse<(Record, usize)>>,
    last: Option<Record>,
}

impl Sorted {
    fn refill_from_memory(&mut self) {
        if let Some(record) = self.memory.next() {
            self.heads.push(Reverse((record, self.readers.len())));
        }
    }
}

impl Iterator for Sorted {
    type Item = Result<Record, DriverError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((record, from)) = self.heads.pop()?;
        match self.readers.get_mut(from) {
            None => self.refill_from_memory(),
            Some(reader) => match reader.as_mut().and_then(Iterator::next) {
                Some(Ok(next)) => self.heads.push(Reverse((next, from))),
                Some(Err(error)) => return Some(Err(error)),
                None => *reader = None,
            },
        }
        if self.last.is_some_and(|last| last.id() == record.id()) {
            let what = format!("contract {}", hex::encode(record.id()));
            return Some(Err(DriverError::Corrupt {
                what,
                reason: "it is there twice".to_owned(),
            }));
        }
        self.last = Some(record);
        Some(Ok(record))
    }
}

/// The records of a file, ascending as they were written.
pub(crate) struct Records {
    path: PathBuf,
    file: BufReader<File>,
}

impl Records {
    pub(crate) fn open(path: &Path) -> Result<Self, DriverError> {
        let file = File::open(path).map_err(|error| io_error(path, &error))?;
        Ok(Self { path: path.to_owned(), file: BufReader::new(file) })
    }
}

impl Iterator for Records {
    type Item = Result<Record, DriverError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut record = [0; RECORD_BYTES];
        let mut filled = 0;
        while filled < RECORD_BYTES {
            match self.file.read(&mut record[filled..]) {
                Ok(0) if filled == 0 => return None,
                Ok(0) => {
                    let what = self.path.display().to_string();
                    let reason = "it ends inside a record".to_owned();
                    return Some(Err(DriverError::Corrupt { what, reason }));
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Some(Err(io_error(&self.path, &error))),
            }
        }
        Some(Ok(Record(record)))
    }
}

/// Writes sorted records to a file that takes its name when it is whole, and digests the ids.
pub(crate) fn write(
    records: impl Iterator<Item = Result<Record, DriverError>>,
    path: &Path,
) -> Result<(u64, ContractSetDigest), DriverError> {
    let temporary = path.with_extension("part");
    let failed = |error| io_error(&temporary, &error);
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = BufWriter::new(options.open(&temporary).map_err(failed)?);
    let mut hasher = ContractSetHasher::default();
    for record in records {
        let record = record?;
        add(&mut hasher, &record)?;
        file.write_all(&record.0).map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    file.get_ref().sync_all().map_err(failed)?;
    drop(file);
    let (count, digest) = (hasher.count(), hasher.finish());
    // The same contracts make the same bytes, so replacing changes nothing.
    std::fs::rename(&temporary, path).map_err(|error| io_error(path, &error))?;
    atomic::sync_directory(path.parent().unwrap_or(Path::new("."))).map_err(store_error)?;
    Ok((count, digest))
}

fn add(hasher: &mut ContractSetHasher, record: &Record) -> Result<(), DriverError> {
    hasher.push(record.id()).map_err(|error| DriverError::Corrupt {
        what: "roster".to_owned(),
        reason: error.to_string(),
    })
}

/// What two sets of contracts have in common.
pub(crate) struct Comparison {
    /// How many of the expected ones were found.
    pub(crate) found: u64,
    /// Their ids.
    pub(crate) ids: ContractSetDigest,
    /// The first one that was not found.
    pub(crate) missing: Option<ContractId>,
    /// The first one that has other stakeholders.
    pub(crate) differing: Option<ContractId>,
    /// What was found and not expected.
    pub(crate) extra: Extra,
}

/// Contracts that nobody expected.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Extra {
    /// How many.
    pub(crate) count: u64,
    /// The first one.
    pub(crate) first: Option<ContractId>,
}

impl Extra {
    fn add(&mut self, record: &Record) -> Result<(), DriverError> {
        self.count = self.count.saturating_add(1);
        if self.first.is_none() {
            self.first = Some(record.contract()?);
        }
        Ok(())
    }
}

/// Compares what is there with what is expected; `both` is told of each that is in both.
pub(crate) fn compare(
    expected: impl Iterator<Item = Result<Record, DriverError>>,
    found: impl Iterator<Item = Result<Record, DriverError>>,
    mut both: impl FnMut(&Record) -> Result<(), DriverError>,
) -> Result<Comparison, DriverError> {
    let (mut expected, mut found) = (expected.peekable(), found.peekable());
    let mut hasher = ContractSetHasher::default();
    let (mut missing, mut differing, mut extra) = (None, None, Extra::default());
    while let Some(wanted) = expected.next().transpose()? {
        while let Some(other) =
            found.next_if(|other| other.as_ref().map_or(true, |other| other.id() < wanted.id()))
        {
            extra.add(&other?)?;
        }
        let same =
            found.next_if(|other| other.as_ref().map_or(true, |other| other.id() == wanted.id()));
        match same.transpose()? {
            None => missing = missing.or(Some(wanted.contract()?)),
            Some(other) => {
                add(&mut hasher, &wanted)?;
                both(&wanted)?;
                if other != wanted {
                    differing = differing.or(Some(wanted.contract()?));
                }
            }
        }
    }
    for other in found {
        extra.add(&other?)?;
    }
    let (found, ids) = (hasher.count(), hasher.finish());
    Ok(Comparison { found, ids, missing, differing, extra })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u8, signatory: &str) -> Record {
        let mut id = [number; ID_BYTES];
        id[0] = 0;
        id[33..35].copy_from_slice(&[0xca, 0x12]);
        id[35..37].copy_from_slice(&[0x12, 0x20]);
        let id = ContractId::from_bytes(&id).unwrap();
        Record::new(&id, &[signatory.to_owned()].into(), &BTreeSet::new()).unwrap()
    }

    #[test]
    fn sets_are_compared_by_id_and_stakeholders() {
        let expected = [record(2, "a"), record(4, "a"), record(6, "a")];
        let found = [record(1, "x"), record(2, "a"), record(4, "b"), record(7, "x")];
        let mut both = Vec::new();
        let comparison = compare(expected.map(Ok).into_iter(), found.map(Ok).into_iter(), |one| {
            both.push(one.id()[1]);
            Ok(())
        })
        .unwrap();
        assert_eq!(both, [2, 4]);
        assert_eq!(comparison.found, 2);
        assert_eq!(comparison.missing, Some(expected[2].contract().unwrap()));
        assert_eq!(comparison.differing, Some(expected[1].contract().unwrap()));
        let first = Some(record(1, "x").contract().unwrap());
        assert_eq!(comparison.extra, Extra { count: 2, first });
    }

    #[test]
    fn nothing_is_extra_where_everything_was_expected() {
        let both = || [record(2, "a"), record(4, "a")].map(Ok).into_iter();
        let comparison = compare(both(), both(), |_| Ok(())).unwrap();
        assert_eq!(comparison.extra, Extra::default());
        let more = both().chain([Ok(record(9, "a"))]);
        let comparison = compare(both(), more, |_| Ok(())).unwrap();
        let first = Some(record(9, "a").contract().unwrap());
        assert_eq!(comparison.extra, Extra { count: 1, first });
    }

    #[test]
    fn what_is_gathered_in_any_order_comes_out_sorted_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut gathering = Gathering::new(folder.path(), "test");
        for (index, number) in [9, 3, 7, 1, 5].into_iter().enumerate() {
            gathering.push(record(number, "a")).unwrap();
            if index % 2 == 1 {
                gathering.spill().unwrap();
            }
        }
        let path = folder.path().join("roster");
        let (count, _) = write(gathering.sorted().unwrap(), &path).unwrap();
        assert_eq!(count, 5);
        let read: Vec<u8> = Records::open(&path).unwrap().map(|r| r.unwrap().id()[1]).collect();
        assert_eq!(read, [1, 3, 5, 7, 9]);
        // No run is left.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        let mut gathering = Gathering::new(folder.path(), "test");
        gathering.push(record(1, "a")).unwrap();
        gathering.spill().unwrap();
        gathering.push(record(1, "b")).unwrap();
        let error = write(gathering.sorted().unwrap(), &path).unwrap_err();
        assert!(matches!(error, DriverError::Corrupt { .. }), "{error:?}");
    }

    #[test]
    fn a_roster_that_ends_inside_a_record_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roster");
        write([record(1, "a"), record(2, "a")].map(Ok).into_iter(), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let last = Records::open(&path).unwrap().last().unwrap();
        assert!(matches!(last, Err(DriverError::Corrupt { .. })));
    }
}
