//! Copies of large files, checked.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};

use crate::error::JobError;
use crate::manifest::FileDigest;
use crate::snapshot::Progress;

/// Bytes that are copied at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// How a copy was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// Byte by byte.
    Bytes,
    /// The filesystem shares the blocks until one of the two files changes.
    Reflink,
}

/// A copy that was read back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Copied {
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub digest: FileDigest,
    /// How it was made.
    pub method: Method,
}

/// Copies a file that nobody changes to a place where nothing is, onto the disk, and reads it
/// back. Shares blocks where the filesystem can.
pub fn copy(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Copied, JobError> {
    if reflink_copy::reflink(from, to).is_ok() {
        flush(to)?;
        let (bytes, digest) = digest(to, progress)?;
        return Ok(Copied { bytes, digest, method: Method::Reflink });
    }
    let written = copy_bytes(from, to, progress)?;
    let (bytes, digest) = digest(to, &mut |_| ())?;
    if (bytes, digest) != written {
        return Err(JobError::corrupt(to, "copy", "it does not read as it was written"));
    }
    Ok(Copied { bytes, digest, method: Method::Bytes })
}

/// The size and digest of a file.
pub(crate) fn digest(
    path: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(u64, FileDigest), JobError> {
    each_chunk(path, progress, &mut |_| Ok(()))
}

fn copy_bytes(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<(u64, FileDigest), JobError> {
    let io = |operation, error| JobError::from_io(operation, to, error);
    let mut options = OpenOptions::new();
    let created = options.write(true).create_new(true).mode(0o600).open(to);
    let mut file = created.map_err(|error| io("create", error))?;
    let written = each_chunk(from, progress, &mut |chunk| {
        file.write_all(chunk).map_err(|error| io("write", error))
    })?;
    file.sync_all().map_err(|error| io("flush", error))?;
    Ok(written)
}

fn each_chunk(
    path: &Path,
    progress: &mut dyn FnMut(Progress),
    take: &mut dyn FnMut(&[u8]) -> Result<(), JobError>,
) -> Result<(u64, FileDigest), JobError> {
    let io = |error| JobError::from_io("read", path, error);
    let mut file = File::open(path).map_err(io)?;
    let of = file.metadata().map_err(io)?.len();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut context = Context::new(&SHA256);
    let mut bytes = 0;
    loop {
        let read = file.read(&mut chunk).map_err(io)?;
        if read == 0 {
            break;
        }
        let (filled, _) = chunk.split_at(read);
        context.update(filled);
        take(filled)?;
        bytes += u64::try_from(read).unwrap_or(u64::MAX);
        progress(Progress { bytes, of });
    }
    let digest = <[u8; 32]>::try_from(context.finish().as_ref()).expect("SHA-256 has 32 bytes");
    Ok((bytes, FileDigest::new(digest)))
}

fn flush(path: &Path) -> Result<(), JobError> {
    let flushed = File::open(path).and_then(|file| file.sync_all());
    flushed.map_err(|error| JobError::from_io("flush", path, error))
}

/// Removes a directory of our own that was not finished, if it is there.
pub(crate) fn remove_unfinished(path: &Path) -> Result<(), JobError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(JobError::from_io("remove", path, error)),
    }
}
