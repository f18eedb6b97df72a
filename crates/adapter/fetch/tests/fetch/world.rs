//! One release of one or more files, and who watches its fetch.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heirloom_fetch::error::{Failure, FetchError, MirrorError};
use heirloom_fetch::fetch::{Fetched, fetch_within};
use heirloom_fetch::limit::Patience;
use heirloom_fetch::mirror::{Authorities, Mirror};
use heirloom_fetch::progress::{Advance, Progress};
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::{ArtifactDigest, DigestOf, NetworkId};
use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};
use heirloom_model::release::{Artifact, Release, ReleaseKind};

/// The file of the release: large enough for several reads, and with no two equal parts.
pub(crate) fn content() -> Vec<u8> {
    (0_u32..100_000).flat_map(u32::to_be_bytes).collect()
}

/// A file that differs in one byte.
pub(crate) fn other_content() -> Vec<u8> {
    let mut other = content();
    other[200_000] ^= 1;
    other
}

/// A release with these files, in order.
pub(crate) fn release(files: &[(&str, &[u8])]) -> Release {
    let artifact = |(name, bytes): &(&str, &[u8])| Artifact {
        name: name.parse().unwrap(),
        size: bytes.len() as u64,
        digest: ArtifactDigest::of(*bytes),
    };
    Release {
        network: NetworkId::new([1; 32]),
        name: "keeper-2.0.0".parse().unwrap(),
        kind: ReleaseKind::Keeper,
        security_version: SecurityVersion(2),
        measurements: vec![Measurement::Sgx(MrEnclave::new([2; 32]))],
        signer: MrSigner::new([3; 32]),
        artifacts: files.iter().map(artifact).collect(),
        not_after: Time(u64::MAX),
    }
}

/// Tests do not wait for long.
pub(crate) const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    silence: Duration::from_secs(5),
    window: Duration::from_secs(5),
    window_bytes: 1,
    file: Duration::from_secs(20),
};

/// What somebody saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// How far each step was.
    pub(crate) received: Vec<u64>,
    /// Mirrors that failed.
    pub(crate) failed: Vec<String>,
    /// After so many steps the fetch is ended.
    pub(crate) ends_after: Option<usize>,
}

impl Progress for Seen {
    fn advanced(&mut self, advance: Advance<'_>) -> ControlFlow<()> {
        self.received.push(advance.received);
        match self.ends_after {
            Some(steps) if self.received.len() >= steps => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn mirror_failed(&mut self, failure: &Failure) {
        self.failed.push(failure.mirror.clone());
    }
}

/// One directory to stage into.
pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) patience: Patience,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), patience: PATIENCE }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.path("staging")
    }

    /// Puts something into the staging directory.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.staging()).unwrap();
        std::fs::write(self.staging().join(name), bytes).unwrap();
    }

    /// What is in the staging directory under a name.
    pub(crate) fn staged(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.staging().join(name)).ok()
    }

    /// Fetches the one file of the usual release.
    pub(crate) fn fetch(&self, mirrors: &[&str]) -> Result<Fetched, FetchError> {
        self.fetch_watched(mirrors, &mut Seen::default())
    }

    pub(crate) fn fetch_watched(
        &self,
        mirrors: &[&str],
        seen: &mut Seen,
    ) -> Result<Fetched, FetchError> {
        let mirrors: Vec<Mirror> = mirrors.iter().map(|text| mirror(text)).collect();
        let content = content();
        let release = release(&[("binary", &content)]);
        fetch_within(&self.patience, &release, &mirrors, &self.staging(), seen)
    }

    /// Why the only mirror did not give the file.
    pub(crate) fn refused(&self, mirror: &str) -> MirrorError {
        only(self.fetch(&[mirror]).unwrap_err())
    }
}

/// The reason of the only mirror.
pub(crate) fn only(error: FetchError) -> MirrorError {
    match error {
        FetchError::Unavailable { mut failures, .. } if failures.len() == 1 => {
            failures.remove(0).error
        }
        other => panic!("{other}"),
    }
}

pub(crate) fn mirror(text: &str) -> Mirror {
    Mirror::parse(text, &Authorities::System).unwrap()
}

/// Makes a mirror out of a directory, and returns its text.
pub(crate) fn directory(path: &Path, bytes: &[u8]) -> String {
    let release = path.join("keeper-2.0.0");
    std::fs::create_dir_all(&release).unwrap();
    std::fs::write(release.join("binary"), bytes).unwrap();
    path.to_str().unwrap().to_owned()
}
