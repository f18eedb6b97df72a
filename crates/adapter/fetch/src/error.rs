//! Why a release is not there: what a mirror did, and what went wrong on this machine.

use std::io;
use std::path::{Path, PathBuf};

use heirloom_model::digest::ArtifactDigest;
use heirloom_model::identifier::ReleaseName;

/// Why the files of a release are not all there. What was received stays and is resumed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The release cannot be fetched at all.
    #[error("{artifact} has {size} bytes, more than the {limit} allowed", limit = crate::limit::ARTIFACT_BYTES_MAX)]
    TooLarge {
        /// The file.
        artifact: ReleaseName,
        /// In the release.
        size: u64,
    },
    /// Two files of the release would be one.
    #[error("the release names {artifact} twice, or not in order")]
    Order {
        /// The file.
        artifact: ReleaseName,
    },
    /// No mirror gave a file.
    #[error("no mirror gave {artifact}{}", listed(failures))]
    Unavailable {
        /// The file.
        artifact: ReleaseName,
        /// What each mirror did, in the order in which they were asked.
        failures: Vec<Failure>,
    },
    /// The disk is full. What was received stays.
    #[error("no space is left for {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A file on this machine cannot be used.
    #[error("{} cannot be used", path.display())]
    Storage {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Whoever watched ended it.
    #[error("the fetch was stopped")]
    Stopped,
}

/// What one mirror did instead of giving a file.
#[derive(Debug)]
pub struct Failure {
    /// The file.
    pub artifact: ReleaseName,
    /// The mirror.
    pub mirror: String,
    /// What it did.
    pub error: MirrorError,
}

/// Why a mirror did not give a file.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// It does not have the file.
    #[error("it does not have the file")]
    Missing,
    /// It answers something else than the file.
    #[error("it answers with status {0}")]
    Status(u16),
    /// It sends us elsewhere; the configuration names every place.
    #[error("it redirects to {location:?}, which nobody configured")]
    Redirected {
        /// Where to.
        location: String,
    },
    /// It sends the file in another form, which is never unpacked.
    #[error("it sends the file encoded as {encoding:?}; only the plain bytes are taken")]
    Encoded {
        /// The encoding.
        encoding: String,
    },
    /// It answers with another part of the file than was asked for.
    #[error("it does not continue at byte {offset}: {answer:?}")]
    Range {
        /// Where the file should continue.
        offset: u64,
        /// What it says instead.
        answer: String,
    },
    /// Its file has another size.
    #[error("its file has {found} bytes, the release says {expected}")]
    Size {
        /// In the release.
        expected: u64,
        /// At the mirror.
        found: u64,
    },
    /// Its file goes on after its last byte.
    #[error("its file does not end after {expected} bytes")]
    Endless {
        /// In the release.
        expected: u64,
    },
    /// Its file has another content.
    #[error("its file is not the one that was signed: the digest is {found}")]
    Digest {
        /// What was received.
        found: ArtifactDigest,
    },
    /// Its file ended too early.
    #[error("it ended after {received} of {expected} bytes")]
    Cut {
        /// What is there.
        received: u64,
        /// In the release.
        expected: u64,
    },
    /// It sends too little in the time that it has.
    #[error("it is too slow: {received} of {expected} bytes in the time that it had")]
    Slow {
        /// What is there.
        received: u64,
        /// In the release.
        expected: u64,
    },
    /// Nobody answers there.
    #[error("it cannot be reached: {reason}")]
    Unreachable {
        /// What the system or the protocol said.
        reason: String,
    },
    /// Whoever answers there is not vouched for.
    #[error("it cannot show that it is the one: {reason}")]
    Untrusted {
        /// What TLS said.
        reason: String,
    },
    /// The certificate authorities cannot be used.
    #[error("the certificate authorities in {} cannot be used: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It has something else under the name of the file.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Its file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What ends an attempt: the mirror's fault, or something that no other mirror changes.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The next mirror may do better.
    Mirror(MirrorError),
    /// None will.
    Here(FetchError),
}

impl From<MirrorError> for Ended {
    fn from(error: MirrorError) -> Self {
        Self::Mirror(error)
    }
}

impl From<FetchError> for Ended {
    fn from(error: FetchError) -> Self {
        Self::Here(error)
    }
}

/// Names the file on this machine that cannot be used.
pub(crate) fn storage(path: &Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FetchError::Full { path },
        _ => FetchError::Storage { path, source },
    }
}

/// The mirrors' reasons as the end of a sentence.
fn listed(failures: &[Failure]) -> String {
    if failures.is_empty() {
        return ": none is configured".to_owned();
    }
    let each = failures.iter().map(|failure| format!("{}: {}", failure.mirror, failure.error));
    format!(" ({})", each.collect::<Vec<_>>().join("; "))
}
