//! One question to the kernel: a directory of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use heirloom_keeper::port::PlatformError;
use heirloom_model::evidence::ReportData;

use crate::limit::{AUXBLOB_BYTES_MAX, OUTBLOB_BYTES_MAX};
use crate::{derive, file};

/// What the kernel answered.
pub(super) struct Answer {
    /// The report or quote.
    pub(super) blob: Vec<u8>,
    /// What came along; empty if nothing did.
    pub(super) auxiliary: Vec<u8>,
}

/// Who answers here.
pub(super) fn provider(root: &Path) -> Result<String, PlatformError> {
    Request::new(root)?.provider()
}

/// Asks for a report with this report data, of this provider.
pub(super) fn ask(root: &Path, provider: &str, data: &ReportData) -> Result<Answer, PlatformError> {
    let request = Request::new(root)?;
    let found = request.provider()?;
    if found != provider {
        let what = format!("is {found:?} now, and was {provider:?}");
        return Err(file::corrupt(&request.at("provider"), &what));
    }
    let mut writes = 0;
    if let Some(floor) = request.privilege_floor()? {
        file::write(&request.at("privlevel"), floor.to_string().as_bytes())?;
        writes += 1;
    }
    file::write(&request.at("inblob"), data.as_bytes())?;
    writes += 1;
    request.expect_generation(writes)?;
    let blob = file::read(&request.at("outblob"), OUTBLOB_BYTES_MAX)?;
    let auxiliary = file::read_or_absent(&request.at("auxblob"), AUXBLOB_BYTES_MAX)?;
    // What a service module below the machine says about itself. Nothing here is decided by it; a
    // host that floods it is noticed all the same.
    file::read_or_absent(&request.at("manifestblob"), OUTBLOB_BYTES_MAX)?;
    request.expect_generation(writes)?;
    if blob.is_empty() {
        return Err(file::corrupt(&request.at("outblob"), "is empty"));
    }
    let auxiliary = auxiliary.map_or_else(Vec::new, |bytes| bytes.to_vec());
    Ok(Answer { blob: blob.to_vec(), auxiliary })
}

/// The highest privilege level's number that a machine can have.
const PRIVILEGE_LEVEL_MAX: u8 = 3;

/// A directory that goes when the question is over.
struct Request(PathBuf);

impl Request {
    fn new(root: &Path) -> Result<Self, PlatformError> {
        let mut name = [0; 16];
        derive::system_random(&mut name)?;
        let path = root.join(format!("heirloom-{}", hex::encode(name)));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            // What the kernel says if no module for a TEE is loaded.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                Err(PlatformError::Unreachable(format!("{}: no provider", root.display())))
            }
            Err(error) => Err(file::unreachable(&path, &error)),
        }
    }

    fn provider(&self) -> Result<String, PlatformError> {
        file::read_word(&self.at("provider"))
    }

    /// The least level that reports may be asked for, on machines that have levels: whoever runs
    /// below a service module must not ask for the module's.
    fn privilege_floor(&self) -> Result<Option<u8>, PlatformError> {
        let path = self.at("privlevel_floor");
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file::unreachable(&path, &error)),
            Ok(_) => {}
        }
        let word = file::read_word(&path)?;
        match word.parse() {
            Ok(level @ 0..=PRIVILEGE_LEVEL_MAX) => Ok(Some(level)),
            _ => Err(file::corrupt(&path, &format!("is {word:?}, which is no privilege level"))),
        }
    }

    /// Every write counts one, and only ours may have been taken.
    fn expect_generation(&self, writes: u64) -> Result<(), PlatformError> {
        let path = self.at("generation");
        let found = file::read_word(&path)?;
        if found.parse() == Ok(writes) {
            return Ok(());
        }
        let what = format!("is {found:?} instead of {writes}: a write was refused or not ours");
        Err(file::corrupt(&path, &what))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Request {
    /// A directory that stays costs a page of memory and is in nobody's way: the answer counts all
    /// the same.
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.0));
    }
}
