//! All files of a release, and the value that says that they are there.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use heirloom_model::digest::ReleaseDigest;
use heirloom_model::identifier::ReleaseName;
use heirloom_model::release::{Artifact, Release};

use crate::error::{Ended, Failure, FetchError, MirrorError, storage};
use crate::limit::{ARTIFACT_BYTES_MAX, MIRRORS_MAX, Patience, RESUMES_MAX};
use crate::mirror::{Mirror, Place, address};
use crate::part::{Part, is_complete, sync_parent};
use crate::progress::{Advance, Progress};
use crate::source::{Source, pump};
use crate::{directory, http};

/// Every file of a release is in this directory, with the size and digest that the release names.
///
/// Only [`fetch`] makes one.
///
/// ```compile_fail
/// # use heirloom_fetch::fetch::Fetched;
/// # let release = heirloom_model::digest::ReleaseDigest::new([0; 32]);
/// let forged = Fetched { directory: "/tmp".into(), release };
/// ```
#[derive(Debug)]
pub struct Fetched {
    directory: PathBuf,
    release: ReleaseDigest,
}

impl Fetched {
    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The release that they belong to.
    pub fn release(&self) -> &ReleaseDigest {
        &self.release
    }
}

/// Fetches every file of a release into `staging`, which is made if its parent exists.
///
/// What is there and has its digest is not fetched again; what is there in part is continued; what
/// is there and corrupt is set aside. Each mirror is asked in turn.
pub fn fetch(
    release: &Release,
    mirrors: &[Mirror],
    staging: &Path,
    observer: &mut dyn Progress,
) -> Result<Fetched, FetchError> {
    fetch_within(&Patience::default(), release, mirrors, staging, observer)
}

/// Fetches with another patience than usual.
pub fn fetch_within(
    patience: &Patience,
    release: &Release,
    mirrors: &[Mirror],
    staging: &Path,
    observer: &mut dyn Progress,
) -> Result<Fetched, FetchError> {
    check(release)?;
    prepare(staging)?;
    for artifact in &release.artifacts {
        let file = OneFile { release: &release.name, artifact, mirrors, staging, patience };
        file.fetch(observer)?;
    }
    Ok(Fetched { directory: staging.to_path_buf(), release: release.digest() })
}

/// Refuses what would not fit, before anything is fetched.
fn check(release: &Release) -> Result<(), FetchError> {
    let mut previous: Option<&ReleaseName> = None;
    for artifact in &release.artifacts {
        if artifact.size > ARTIFACT_BYTES_MAX {
            let (artifact, size) = (artifact.name.clone(), artifact.size);
            return Err(FetchError::TooLarge { artifact, size });
        }
        if previous.is_some_and(|previous| *previous >= artifact.name) {
            return Err(FetchError::Order { artifact: artifact.name.clone() });
        }
        previous = Some(&artifact.name);
    }
    Ok(())
}

fn prepare(staging: &Path) -> Result<(), FetchError> {
    if staging.is_dir() {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).create(staging).map_err(storage(staging))?;
    sync_parent(staging)
}

/// One file and where it may come from.
struct OneFile<'a> {
    release: &'a ReleaseName,
    artifact: &'a Artifact,
    mirrors: &'a [Mirror],
    staging: &'a Path,
    patience: &'a Patience,
}

impl OneFile<'_> {
    fn fetch(&self, observer: &mut dyn Progress) -> Result<(), FetchError> {
        let artifact = self.artifact;
        let whole =
            Advance { artifact: &artifact.name, received: artifact.size, size: artifact.size };
        if is_complete(self.staging, artifact)? {
            return proceed(observer, whole);
        }
        let mut part = Part::open(self.staging, artifact)?;
        let mut failures = Vec::new();
        if part.length() < artifact.size || part.digest() != artifact.digest {
            // Whatever is there that was whole and wrong is of no use to any mirror.
            if part.length() == artifact.size {
                part.restart()?;
            }
            if !self.ask_all(&mut part, &mut failures, observer)? {
                return Err(FetchError::Unavailable { artifact: artifact.name.clone(), failures });
            }
        }
        part.finish(&self.staging.join(artifact.name.as_str()))?;
        proceed(observer, whole)
    }

    /// Asks one mirror after the other, and returns whether the part is the file now.
    fn ask_all(
        &self,
        part: &mut Part,
        failures: &mut Vec<Failure>,
        observer: &mut dyn Progress,
    ) -> Result<bool, FetchError> {
        for mirror in self.mirrors.iter().take(MIRRORS_MAX) {
            let error = match self.ask(mirror, part, observer) {
                Ok(()) => return Ok(true),
                Err(Ended::Here(error)) => return Err(error),
                Err(Ended::Mirror(error)) => error,
            };
            let artifact = self.artifact.name.clone();
            let failure = Failure { artifact, mirror: mirror.to_string(), error };
            observer.mirror_failed(&failure);
            failures.push(failure);
        }
        Ok(false)
    }

    /// Asks one mirror until the part is the file, or the mirror has shown that it does not have
    /// it.
    fn ask(
        &self,
        mirror: &Mirror,
        part: &mut Part,
        observer: &mut dyn Progress,
    ) -> Result<(), Ended> {
        // A file that is wrong is this mirror's fault only if all of it came from there.
        let mut is_all_its_own = part.length() == 0;
        let mut resumes = 0;
        loop {
            let before = part.length();
            match self.transfer(mirror, part, observer) {
                Ok(()) => {}
                Err(Ended::Mirror(MirrorError::Cut { .. }))
                    if part.length() > before && resumes < RESUMES_MAX =>
                {
                    resumes = resumes.saturating_add(1);
                    continue;
                }
                Err(ended) => return Err(ended),
            }
            let found = part.digest();
            if found == self.artifact.digest {
                return Ok(());
            }
            part.restart()?;
            if is_all_its_own {
                return Err(MirrorError::Digest { found }.into());
            }
            is_all_its_own = true;
        }
    }

    /// One stream, from where the part ends.
    fn transfer(
        &self,
        mirror: &Mirror,
        part: &mut Part,
        observer: &mut dyn Progress,
    ) -> Result<(), Ended> {
        let source = self.open(mirror, part.length())?;
        pump(source, part, self.artifact, self.patience, observer)
    }

    fn open(&self, mirror: &Mirror, offset: u64) -> Result<Source, MirrorError> {
        let (release, artifact) = (self.release, self.artifact);
        match mirror.place() {
            Place::Directory(path) => directory::open(path, release, artifact, offset),
            Place::Web { base, authorities } => {
                let address = address(base, release, &artifact.name);
                http::open(&address, authorities.as_ref(), artifact, offset, self.patience)
            }
        }
    }
}

fn proceed(observer: &mut dyn Progress, advance: Advance<'_>) -> Result<(), FetchError> {
    if observer.advanced(advance).is_break() { Err(FetchError::Stopped) } else { Ok(()) }
}
