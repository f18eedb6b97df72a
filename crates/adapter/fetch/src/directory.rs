//! One file of a mirror that is a directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use heirloom_model::identifier::ReleaseName;
use heirloom_model::release::Artifact;

use crate::error::MirrorError;
use crate::source::{Begins, Source};

/// Opening a pipe would otherwise wait for somebody to write into it. The value is the same on
/// every Linux that is built for.
const O_NONBLOCK: i32 = 0o4000;

/// Opens the file where the part ends.
pub(crate) fn open(
    directory: &Path,
    release: &ReleaseName,
    artifact: &Artifact,
    offset: u64,
) -> Result<Source, MirrorError> {
    let path = directory.join(release.as_str()).join(artifact.name.as_str());
    let mut file = open_plain(&path)?;
    let unreadable = |source| MirrorError::Unreadable { path: path.clone(), source };
    let found = file.metadata().map_err(unreadable)?.len();
    let expected = artifact.size;
    if found != expected {
        return Err(MirrorError::Size { expected, found });
    }
    file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
    Ok(Source { reader: Box::new(file), begins: Begins::WhereAsked })
}

fn open_plain(path: &PathBuf) -> Result<File, MirrorError> {
    let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path);
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => MirrorError::Missing,
        _ => MirrorError::Unreadable { path: path.clone(), source },
    };
    let file = opened.map_err(unreadable)?;
    let kind = file.metadata().map_err(unreadable)?;
    if kind.is_file() { Ok(file) } else { Err(MirrorError::NotAFile { path: path.clone() }) }
}
