//! Bundles on disk: staged ones by measurement, and which one is installed.
//!
//! ```text
//! bundles/<measurement>/{binary,manifest,sigstruct}   staged, complete, digests checked
//! bundles/.staging-<measurement>/                     being fetched; never started
//! installed                                           one line: the measurement
//! ```

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use heirloom_emulated::bundle::{BINARY, Bundle, MANIFEST, SIGSTRUCT};
use heirloom_emulated::report::LaunchMode;
use heirloom_model::digest::ArtifactDigest;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::{Artifact, Release};

/// The three files of a bundle.
pub const FILES: [&str; 3] = [BINARY, MANIFEST, SIGSTRUCT];
/// The largest file of a bundle in bytes.
pub const FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The bundles of one node.
#[derive(Clone, Debug)]
pub struct Bundles {
    root: PathBuf,
}

/// Why a bundle was not staged or installed. What was installed still is.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file operation failed.
    #[error("{} cannot be used", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file has another size than the release says.
    #[error("{} has {found} bytes, the release says {expected}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// In the release.
        expected: u64,
        /// Read.
        found: u64,
    },
    /// A file has another digest than the release says.
    #[error("{} is not the file that was signed: its digest is {found}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What was read.
        found: ArtifactDigest,
    },
    /// The release does not have the files of a bundle.
    #[error("the release names {found} files; a bundle has binary, manifest and sigstruct")]
    Files {
        /// How many it names.
        found: usize,
    },
    /// The bundle launches to another measurement than its release or place says.
    #[error("the bundle measures {found}, not {expected}")]
    Measurement {
        /// What was said.
        expected: String,
        /// What was computed.
        found: Measurement,
    },
    /// The bundle cannot be measured.
    #[error("the bundle in {} cannot be measured: {reason}", path.display())]
    Unmeasurable {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The record of what is installed cannot be understood.
    #[error("{} does not name a measurement", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// No staged bundle has this measurement.
    #[error("no bundle with measurement {0} is staged")]
    NotStaged(Measurement),
}

impl Bundles {
    /// Opens the directory, which is made if it does not exist.
    pub fn open(root: PathBuf) -> Result<Self, BundleError> {
        fs::create_dir_all(root.join("bundles")).map_err(io_error(&root))?;
        Ok(Self { root })
    }

    /// Where the bundle of a measurement is, or will be.
    pub fn path(&self, measurement: &Measurement) -> PathBuf {
        self.root.join("bundles").join(measurement.to_string())
    }

    /// What is installed; none if nothing ever was.
    pub fn installed(&self) -> Result<Option<Measurement>, BundleError> {
        let path = self.root.join("installed");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim_end().parse() {
                Ok(measurement) => Ok(Some(measurement)),
                Err(_) => Err(BundleError::Corrupt { path }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BundleError::Io { path, source }),
        }
    }

    /// Stages a release from a directory: copies each file while checking size and digest, then
    /// measures the copy, and only then gives it its place.
    pub fn stage(
        &self,
        release: &Release,
        measurement: &Measurement,
        artifacts: &Path,
    ) -> Result<(), BundleError> {
        let target = self.path(measurement);
        if target.exists() && measured(&target).is_ok_and(|found| found == *measurement) {
            return Ok(());
        }
        let names = release.artifacts.iter().map(|artifact| artifact.name.as_str());
        if !names.eq(FILES) {
            return Err(BundleError::Files { found: release.artifacts.len() });
        }
        let source = artifacts.join(release.name.as_str());
        self.place(measurement, |staging| {
            release.artifacts.iter().try_for_each(|artifact| copy(artifact, &source, staging))
        })
    }

    /// Stages the bundle of a directory that no release vouches for yet: the first one of a node.
    pub fn stage_first(&self, source: &Path) -> Result<Measurement, BundleError> {
        let measurement = measured(source)?;
        if !self.path(&measurement).exists() {
            self.place(&measurement, |staging| {
                FILES.iter().try_for_each(|name| {
                    let (from, to) = (source.join(name), staging.join(name));
                    fs::copy(&from, &to).map_err(io_error(&from))?;
                    sync(&to)
                })
            })?;
        }
        Ok(measurement)
    }

    /// Makes a staged bundle the installed one.
    pub fn install(&self, measurement: &Measurement) -> Result<(), BundleError> {
        if !self.path(measurement).exists() {
            return Err(BundleError::NotStaged(*measurement));
        }
        let path = self.root.join("installed");
        let temporary = self.root.join(".installed");
        let mut file = fs::File::create(&temporary).map_err(io_error(&temporary))?;
        file.write_all(format!("{measurement}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io_error(&temporary))?;
        fs::rename(&temporary, &path).map_err(io_error(&path))?;
        sync(&self.root)
    }

    /// Fills a staging directory, measures it, and renames it to its place.
    fn place(
        &self,
        measurement: &Measurement,
        fill: impl FnOnce(&Path) -> Result<(), BundleError>,
    ) -> Result<(), BundleError> {
        let bundles = self.root.join("bundles");
        let staging = bundles.join(format!(".staging-{measurement}"));
        if staging.exists() {
            // Never started, and about to be fetched again: only here something is removed.
            fs::remove_dir_all(&staging).map_err(io_error(&staging))?;
        }
        fs::create_dir(&staging).map_err(io_error(&staging))?;
        fill(&staging)?;
        let found = measured(&staging)?;
        if found != *measurement {
            let expected = measurement.to_string();
            return Err(BundleError::Measurement { expected, found });
        }
        sync(&staging)?;
        let target = self.path(measurement);
        fs::rename(&staging, &target).map_err(io_error(&target))?;
        sync(&bundles)
    }
}

/// Measures the bundle in a directory and verifies its signature, as the platform will.
pub fn measured(directory: &Path) -> Result<Measurement, BundleError> {
    let unmeasurable = |error: heirloom_emulated::bundle::BundleError| BundleError::Unmeasurable {
        path: directory.to_path_buf(),
        reason: error.to_string(),
    };
    let bundle = Bundle::read(directory).map_err(unmeasurable)?;
    let verified = bundle.verify(LaunchMode::Production).map_err(unmeasurable)?;
    Ok(Measurement::Sgx(verified.secs().measurement))
}

/// Copies one artifact while checking its size and digest.
fn copy(artifact: &Artifact, source: &Path, staging: &Path) -> Result<(), BundleError> {
    let from = source.join(artifact.name.as_str());
    let to = staging.join(artifact.name.as_str());
    let file = fs::File::open(&from).map_err(io_error(&from))?;
    // One byte more than promised is enough to know that it is too much.
    let limit = artifact.size.min(FILE_BYTES_MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(io_error(&from))?;
    let found = bytes.len() as u64;
    if found != artifact.size {
        return Err(BundleError::Size { path: from, expected: artifact.size, found });
    }
    let digest = ArtifactDigest::new(heirloom_model::digest::sha256(&[&bytes]));
    if digest != artifact.digest {
        return Err(BundleError::Digest { path: from, found: digest });
    }
    fs::write(&to, &bytes).map_err(io_error(&to))?;
    sync(&to)
}

fn sync(path: &Path) -> Result<(), BundleError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(io_error(path))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_path_buf();
    move |source| BundleError::Io { path, source }
}
