//! Files of participants: what they are is told by their bytes, never by their names.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::MultiGzDecoder;
use heirloom_canton::acs::{AcsError, FrameReader};
use heirloom_canton::blob::FatContract;
use heirloom_canton::dar::types::Packages;
use heirloom_canton::dar::{self, Dar, Package};
use heirloom_canton::instance1::OldContract;
use heirloom_canton::topology::SignedTransaction;
use heirloom_canton::topology::snapshot::{Item, read_list, read_stream};
use heirloom_model::limit::{DAR_BYTES_MAX, TOPOLOGY_SNAPSHOT_BYTES_MAX};
use heirloom_participant::map::{self, PartyMap};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::{file, participant_error};

/// What a file of a participant is.
pub(crate) enum Found {
    /// One contract.
    Contract(Box<FatContract>),
    /// Old and new contract ids. It is read line by line.
    ContractMap,
    /// Packages.
    Dar(Box<Dar>),
    /// One contract of the second major version.
    OldContract(Box<OldContract>),
    /// One package.
    Package(Box<Package>),
    /// Old and new parties.
    PartyMap(PartyMap),
    /// What a rewrite left as it is.
    Report(String),
    /// Compressed contracts. They are read one by one.
    Snapshot,
    /// Topology transactions, in their order.
    Topology(Vec<Item>),
    /// One topology transaction.
    Transaction(Box<SignedTransaction>),
}

/// How files begin that are told by their first bytes.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZIP: &[u8] = b"PK";
const PARTY_MAP: &[u8] = b"heirloom party map ";
const CONTRACT_MAP: &[u8] = b"heirloom contract map ";
const REPORT: &[u8] = b"heirloom rewrite report ";
/// As much as the longest of them.
const HEAD_BYTES: u64 = 32;
/// A report lists at most so many texts and parties that it fits in here.
const REPORT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What is read of a compressed file at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Files of packages that one command reads: a participant has some dozens.
const DARS_MAX: usize = 1_024;

/// Says what a file is, and reads it if it is one that fits into memory.
pub(crate) fn open(path: &Path) -> Result<Found, Diagnostic> {
    let head = head(path)?;
    if head.starts_with(GZIP) {
        return Ok(Found::Snapshot);
    }
    if head.starts_with(ZIP) {
        return read_dar(path).map(|dar| Found::Dar(Box::new(dar)));
    }
    if head.starts_with(PARTY_MAP) {
        return read_map(path).map(Found::PartyMap);
    }
    if head.starts_with(CONTRACT_MAP) {
        return Ok(Found::ContractMap);
    }
    if head.starts_with(REPORT) {
        return file::read_text(path, REPORT_BYTES_MAX).map(Found::Report);
    }
    message(path)
}

/// Reads a party map.
pub(crate) fn read_map(path: &Path) -> Result<PartyMap, Diagnostic> {
    let text = file::read_text(path, map::TEXT_BYTES_MAX)?;
    PartyMap::parse(&text).map_err(|error| participant_error::map_text(path, &error))
}

/// Reads one file of packages.
pub(crate) fn read_dar(path: &Path) -> Result<Dar, Diagnostic> {
    let bytes = file::read(path, DAR_BYTES_MAX)?;
    dar::read(&bytes).map_err(|error| participant_error::dar(path, &error))
}

/// The types of several files of packages.
pub(crate) fn read_types(paths: &[PathBuf]) -> Result<Packages, Diagnostic> {
    if paths.len() > DARS_MAX {
        let message = format!("{} files of packages, more than {DARS_MAX}", paths.len());
        return Err(Diagnostic::new(Code::InputValue, message));
    }
    let mut types = Packages::new();
    for path in paths {
        types.add(&read_dar(path)?);
    }
    Ok(types)
}

/// The entries of a compressed snapshot, one after the other.
pub(crate) type Entries = FrameReader<BufReader<MultiGzDecoder<BufReader<File>>>>;

/// Opens a compressed snapshot.
pub(crate) fn entries(path: &Path) -> Result<Entries, Diagnostic> {
    let file = File::open(path).map_err(|error| file::failed("read", path, &error))?;
    let inflated = MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, file));
    Ok(FrameReader::new(BufReader::with_capacity(BUFFER_BYTES, inflated)))
}

/// An entry that was not read.
pub(crate) fn entry_error(path: &Path, number: u64, error: &AcsError) -> Diagnostic {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let shown = path.display();
    let ends_early = |offset: u64| {
        let message = format!("{shown} ends too early, after {offset} bytes of content");
        Diagnostic::new(Code::ParticipantTruncated, message)
    };
    match error {
        AcsError::Truncated { offset, .. } => ends_early(*offset),
        AcsError::Read { offset, source } => match source.kind() {
            UnexpectedEof => ends_early(*offset),
            InvalidData | InvalidInput => {
                let message = format!("{shown} is damaged or not gzip, after {offset} bytes");
                let damaged = Diagnostic::new(Code::ParticipantDamaged, message).because(source);
                not_a_snapshot(path, damaged)
            }
            _ => file::failed("read", path, source),
        },
        other => {
            let message = format!("entry {number} of {shown} is no contract of a snapshot");
            Diagnostic::new(Code::ParticipantFile, message).because(other)
        }
    }
}

/// Says what to do if a file of packages was given where a snapshot belongs.
pub(crate) fn not_a_snapshot(path: &Path, error: Diagnostic) -> Diagnostic {
    // What cannot be read is not known to be one.
    if head(path).is_ok_and(|head| head.starts_with(ZIP)) {
        let shown = path.display();
        return error.instead(format!(
            "{shown} is a file of packages (DAR): give it with --dar, and the snapshot in its place"
        ));
    }
    error
}

fn head(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let failed = |error: std::io::Error| file::failed("read", path, &error);
    let mut head = Vec::new();
    File::open(path).map_err(failed)?.take(HEAD_BYTES).read_to_end(&mut head).map_err(failed)?;
    Ok(head)
}

/// A message of its own: the bytes, or base64 or hexadecimal text of them.
fn message(path: &Path) -> Result<Found, Diagnostic> {
    let bytes = file::read(path, TOPOLOGY_SNAPSHOT_BYTES_MAX)?;
    let bytes = std::str::from_utf8(&bytes).ok().and_then(spelled).unwrap_or(bytes);
    let message = format!("{} is no file of a participant that is known here", path.display());
    let unknown = Diagnostic::new(Code::ParticipantFile, message);
    if bytes.is_empty() {
        return Err(unknown.cause("it is empty"));
    }
    let contract = match FatContract::decode(&bytes) {
        Ok(contract) => return Ok(Found::Contract(Box::new(contract))),
        Err(error) => error,
    };
    if let Ok(contract) = OldContract::decode_blob(&bytes) {
        return Ok(Found::OldContract(Box::new(contract)));
    }
    if let Ok(transaction) = SignedTransaction::decode(&bytes) {
        return Ok(Found::Transaction(Box::new(transaction)));
    }
    if let Some(items) = read_list(&bytes).ok().filter(|items| !items.is_empty()) {
        return Ok(Found::Topology(items));
    }
    let topology = match read_stream(&bytes) {
        Ok(items) => return Ok(Found::Topology(items)),
        Err(error) => error,
    };
    match dar::read_package(&bytes) {
        Ok(package) => Ok(Found::Package(Box::new(package))),
        Err(package) => Err(unknown
            .cause(format!("as a contract: {contract}"))
            .cause(format!("as topology: {topology}"))
            .cause(format!("as a package: {package}"))),
    }
}

/// Bytes in hexadecimal or base64, also on several lines. Hexadecimal first: its digits are base64
/// digits too.
fn spelled(text: &str) -> Option<Vec<u8>> {
    let text: String = text.trim().trim_matches('"').split_whitespace().collect();
    if text.is_empty() {
        return None;
    }
    hex::decode(&text).ok().or_else(|| STANDARD.decode(&text).ok())
}
