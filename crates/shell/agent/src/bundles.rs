//! Bundles on disk: staged ones by measurement, and which one is installed.
//!
//! ```text
//! bundles/<measurement>/{binary,manifest,sigstruct}   staged, complete, measured
//! bundles/.staging-<measurement>/                     being fetched; never started
//! bundles/.corrupt-<measurement>/                     was staged and does not measure so any more
//! installed                                           one line: the measurement
//! ```
//!
//! Where operators put code into its place themselves, nothing is staged, and only what is
//! installed is recorded here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom_fetch::error::FetchError;
use heirloom_fetch::fetch::fetch;
use heirloom_fetch::mirror::Mirror;
use heirloom_fetch::progress::Progress;
use heirloom_launcher::bundle::{BINARY, Bundle, MANIFEST, SIGSTRUCT, VerifiedBundle};
use heirloom_launcher::manifest::{MANIFEST_BYTES_MAX, Manifest};
use heirloom_launcher::report::LaunchMode;
use heirloom_model::causes::with_causes;
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_model::wire;
use heirloom_store::atomic;
use heirloom_store::error::StoreError;

/// The three files of a bundle.
pub const FILES: [&str; 3] = [BINARY, MANIFEST, SIGSTRUCT];
/// The record of what is installed has one line of some seventy characters.
const INSTALLED_BYTES_MAX: usize = 256;

/// The bundles of one node.
#[derive(Clone, Debug)]
pub struct Bundles {
    root: PathBuf,
    /// What operators put into its place; none where bundles are staged.
    placed: Option<Arc<BTreeSet<Measurement>>>,
}

/// Why a bundle was not staged or installed. What was installed still is.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file operation failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The release could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
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
        expected: Measurement,
        /// What was computed.
        found: Measurement,
    },
    /// No launcher runs on this kind of platform, so that bundles have no measurement there.
    #[error("a bundle has no measurement on {0}: no launcher runs there")]
    NoLauncher(TeeKind),
    /// The bundle is made for something else than its release says.
    #[error("the bundle is {found}, its release says {expected}", found = .found.name(), expected = .expected.name())]
    Kind {
        /// In the release.
        expected: ReleaseKind,
        /// In the measured manifest.
        found: ReleaseKind,
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
    /// The system did not give a thread to fetch it.
    #[error("no thread fetches it")]
    NoThread(#[source] std::io::Error),
    /// Bundles are not staged here, and no operator put this code into its place.
    #[error("no `[[tee.code]]` of the agent's configuration starts {0}")]
    NotPlaced(Measurement),
    /// No staged bundle has this measurement.
    #[error("no bundle with measurement {0} is staged")]
    NotStaged(Measurement),
}

impl Bundles {
    /// Opens the directory, which is made if it does not exist.
    pub fn open(root: PathBuf) -> Result<Self, BundleError> {
        let bundles = Self { root, placed: None };
        atomic::create_directory(&bundles.directory())?;
        Ok(bundles)
    }

    /// The record of what is installed, on a node where an operator put this code into its place.
    pub fn placed(root: PathBuf, codes: BTreeSet<Measurement>) -> Result<Self, BundleError> {
        atomic::create_directory(&root)?;
        Ok(Self { root, placed: Some(Arc::new(codes)) })
    }

    /// Where the bundle of a measurement is, or will be.
    pub fn path(&self, measurement: &Measurement) -> PathBuf {
        self.directory().join(measurement.to_string())
    }

    /// Whether a bundle has its place. It measured as its place says when it got there.
    pub fn is_staged(&self, measurement: &Measurement) -> bool {
        match &self.placed {
            Some(codes) => codes.contains(measurement),
            None => self.path(measurement).is_dir(),
        }
    }

    /// Bytes of a release that are there already, although it is not complete.
    pub fn begun(&self, measurement: &Measurement) -> u64 {
        let Ok(listed) = fs::read_dir(self.staging(measurement)) else { return 0 };
        let sizes = listed.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
        sizes.fold(0, u64::saturating_add)
    }

    /// What is installed; none if nothing ever was.
    pub fn installed(&self) -> Result<Option<Measurement>, BundleError> {
        let path = self.root.join("installed");
        let bytes = match atomic::read(&path, INSTALLED_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(StoreError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let named = str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok());
        named.map_or(Err(BundleError::Corrupt { path }), |measurement| Ok(Some(measurement)))
    }

    /// What the code of a staged bundle is for, by its manifest.
    pub fn kind(&self, measurement: &Measurement) -> Result<ReleaseKind, BundleError> {
        if self.placed.is_some() {
            // Upgraders work by local reports, which none of these TEEs can check.
            return self.expect_placed(measurement).map(|()| ReleaseKind::Keeper);
        }
        let directory = self.path(measurement);
        if !directory.is_dir() {
            return Err(BundleError::NotStaged(*measurement));
        }
        let bytes = atomic::read(&directory.join(MANIFEST), MANIFEST_BYTES_MAX)?;
        let manifest: Manifest =
            wire::decode(&bytes).map_err(|error| unmeasurable(&directory, &error))?;
        Ok(manifest.kind)
    }

    /// Stages a release: fetches what is missing, measures it, and only then gives it its place.
    /// Something that has the place and does not measure so any more is set aside.
    pub fn stage(
        &self,
        release: &Release,
        measurement: &Measurement,
        mirrors: &[Mirror],
        observer: &mut dyn Progress,
    ) -> Result<(), BundleError> {
        if self.placed.is_some() {
            return self.expect_placed(measurement);
        }
        if self.holds(measurement)? {
            return Ok(());
        }
        // Fetched first, measured then: nothing of it was ever executed or interpreted before.
        let names = release.artifacts.iter().map(|artifact| artifact.name.as_str());
        if !names.eq(FILES) {
            return Err(BundleError::Files { found: release.artifacts.len() });
        }
        let fetched = fetch(release, mirrors, &self.staging(measurement), observer)?;
        let verified = verified(fetched.directory())?;
        let found = verified.manifest().kind;
        if found != release.kind {
            return Err(BundleError::Kind { expected: release.kind, found });
        }
        self.place(measurement, &verified)
    }

    /// Stages the bundle of a directory that no release vouches for yet: the first one of a node,
    /// whose platform is of this kind.
    pub fn stage_first(&self, source: &Path, kind: TeeKind) -> Result<Measurement, BundleError> {
        let bundle = Bundle::read(source).map_err(|error| unmeasurable(source, &error))?;
        let verified =
            bundle.verify(LaunchMode::Production).map_err(|error| unmeasurable(source, &error))?;
        let measurement = measurement_on(&verified, kind)?;
        if !self.holds(&measurement)? {
            let staging = self.staging(&measurement);
            bundle.write(&staging).map_err(|error| unmeasurable(&staging, &error))?;
            self.place(&measurement, &verified)?;
        }
        Ok(measurement)
    }

    /// Makes a staged bundle the installed one.
    pub fn install(&self, measurement: &Measurement) -> Result<(), BundleError> {
        if !self.is_staged(measurement) {
            return Err(BundleError::NotStaged(*measurement));
        }
        let line = format!("{measurement}\n");
        Ok(atomic::write(&self.root.join("installed"), line.as_bytes())?)
    }

    /// Whether the place of a measurement has what it should. What is there and measures otherwise
    /// is set aside, in place of what was set aside before.
    fn holds(&self, measurement: &Measurement) -> Result<bool, BundleError> {
        let path = self.path(measurement);
        if !path.exists() {
            return Ok(false);
        }
        if measured(&path, measurement.kind()).is_ok_and(|found| found == *measurement) {
            return Ok(true);
        }
        let aside = self.directory().join(format!(".corrupt-{measurement}"));
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(|error| StoreError::Failed {
                operation: "remove",
                path: aside.clone(),
                message: error.to_string(),
            })?;
        }
        atomic::move_to(&path, &aside)?;
        Ok(false)
    }

    /// Gives what was fetched its place, if it measures so.
    fn place(
        &self,
        measurement: &Measurement,
        verified: &VerifiedBundle,
    ) -> Result<(), BundleError> {
        let found = measurement_on(verified, measurement.kind())?;
        if found != *measurement {
            return Err(BundleError::Measurement { expected: *measurement, found });
        }
        Ok(atomic::move_to(&self.staging(measurement), &self.path(measurement))?)
    }

    fn expect_placed(&self, measurement: &Measurement) -> Result<(), BundleError> {
        let is_placed = self.is_staged(measurement);
        is_placed.then_some(()).ok_or(BundleError::NotPlaced(*measurement))
    }

    fn directory(&self) -> PathBuf {
        self.root.join("bundles")
    }

    fn staging(&self, measurement: &Measurement) -> PathBuf {
        self.directory().join(format!(".staging-{measurement}"))
    }
}

/// Measures the bundle in a directory and verifies its signature, as a platform of this kind will.
pub fn measured(directory: &Path, kind: TeeKind) -> Result<Measurement, BundleError> {
    measurement_on(&verified(directory)?, kind)
}

fn measurement_on(bundle: &VerifiedBundle, kind: TeeKind) -> Result<Measurement, BundleError> {
    bundle.measurement_on(kind).ok_or(BundleError::NoLauncher(kind))
}

fn verified(directory: &Path) -> Result<VerifiedBundle, BundleError> {
    let bundle = Bundle::read(directory).map_err(|error| unmeasurable(directory, &error))?;
    bundle.verify(LaunchMode::Production).map_err(|error| unmeasurable(directory, &error))
}

fn unmeasurable(path: &Path, error: &dyn std::error::Error) -> BundleError {
    BundleError::Unmeasurable { path: path.to_path_buf(), reason: with_causes(error) }
}

#[cfg(test)]
mod tests;
