//! Fetching releases beside everything else: a download takes minutes, and a keeper of an
//! exclusive domain must hear from its agent every other second.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use heirloom_fetch::error::Failure;
use heirloom_fetch::mirror::Mirror;
use heirloom_fetch::progress::{Advance, Progress};
use heirloom_model::identifier::ReleaseName;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::Release;

use crate::bundles::{BundleError, Bundles};

/// Downloads at the same time: the next keeper and what carries the keyring to it, and some more.
pub const DOWNLOADS_MAX: usize = 4;

/// The downloads of one node. Clones share them.
#[derive(Clone)]
pub struct Downloads {
    bundles: Bundles,
    mirrors: Arc<[Mirror]>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    under_way: Mutex<BTreeMap<Measurement, Download>>,
    ended: Condvar,
}

enum Download {
    Running(Received),
    Ended(Result<(), BundleError>),
}

/// How far a download is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Received {
    /// Bytes that are there.
    pub received: u64,
    /// Bytes of the whole release.
    pub wanted: u64,
}

/// What became of a download so far.
#[derive(Debug)]
pub enum Fetching {
    /// The bundle is staged, and measures as it should.
    Staged,
    /// It is not complete yet.
    UnderWay(Received),
    /// It did not work. The next call begins again, with what is there.
    Failed(BundleError),
}

impl Downloads {
    /// Nothing is under way yet.
    pub fn new(bundles: Bundles, mirrors: Vec<Mirror>) -> Self {
        Self { bundles, mirrors: mirrors.into(), shared: Arc::new(Shared::default()) }
    }

    /// Begins to fetch a release, or looks what became of it, and waits for it at most this long.
    pub fn fetch(
        &self,
        release: &Release,
        measurement: &Measurement,
        patience: Duration,
    ) -> Fetching {
        let wanted = release.bytes();
        let mut under_way = self.shared.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if !under_way.contains_key(measurement) {
            // What ended and was never asked for again must not keep others out.
            under_way.retain(|_, download| matches!(download, Download::Running(_)));
            if under_way.len() >= DOWNLOADS_MAX {
                return Fetching::UnderWay(Received { received: 0, wanted });
            }
            under_way.insert(*measurement, Download::Running(Received { received: 0, wanted }));
            if let Err(error) = self.spawn(release.clone(), *measurement) {
                under_way.remove(measurement);
                return Fetching::Failed(BundleError::NoThread(error));
            }
        }
        let is_running = |under_way: &mut BTreeMap<Measurement, Download>| {
            matches!(under_way.get(measurement), Some(Download::Running(_)))
        };
        let waited = self.shared.ended.wait_timeout_while(under_way, patience, is_running);
        let mut under_way = waited.unwrap_or_else(PoisonError::into_inner).0;
        match under_way.remove(measurement) {
            Some(Download::Running(received)) => {
                under_way.insert(*measurement, Download::Running(received));
                Fetching::UnderWay(received)
            }
            Some(Download::Ended(Ok(()))) => Fetching::Staged,
            Some(Download::Ended(Err(error))) => Fetching::Failed(error),
            // Somebody else took the result; the next call begins again and finds it staged.
            None => Fetching::UnderWay(Received { received: wanted, wanted }),
        }
    }

    fn spawn(&self, release: Release, measurement: Measurement) -> std::io::Result<()> {
        let (bundles, mirrors) = (self.bundles.clone(), Arc::clone(&self.mirrors));
        let shared = Arc::clone(&self.shared);
        let download = move || {
            let mut watcher = Watcher::new(&release, measurement, &shared);
            let ended = bundles.stage(&release, &measurement, &mirrors, &mut watcher);
            shared.set(measurement, Download::Ended(ended));
        };
        thread::Builder::new().name("fetch".to_owned()).spawn(download).map(drop)
    }
}

impl Shared {
    fn set(&self, measurement: Measurement, download: Download) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(measurement, download);
        self.ended.notify_all();
    }
}

/// Sizes are what somebody signed, and may be absurd: a sum ends at what fits.
fn total(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// Adds up what is there of each file.
struct Watcher<'a> {
    release: &'a Release,
    measurement: Measurement,
    files: BTreeMap<ReleaseName, u64>,
    shared: &'a Shared,
}

impl<'a> Watcher<'a> {
    fn new(release: &'a Release, measurement: Measurement, shared: &'a Shared) -> Self {
        Self { release, measurement, files: BTreeMap::new(), shared }
    }
}

impl Progress for Watcher<'_> {
    fn advanced(&mut self, advance: Advance<'_>) -> ControlFlow<()> {
        self.files.insert(advance.artifact.clone(), advance.received);
        let received = total(self.files.values().copied());
        let wanted = self.release.bytes();
        let mut under_way = self.shared.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(self.measurement, Download::Running(Received { received, wanted }));
        ControlFlow::Continue(())
    }

    fn mirror_failed(&mut self, failure: &Failure) {
        let (release, artifact, mirror) = (&self.release.name, &failure.artifact, &failure.mirror);
        tracing::warn!(%release, %artifact, %mirror, error = %failure.error, "a mirror failed");
    }
}

#[cfg(test)]
mod tests {
    use heirloom_model::counter::{SecurityVersion, Time};
    use heirloom_model::digest::{ArtifactDigest, DigestOf, NetworkId};
    use heirloom_model::measurement::{MrEnclave, MrSigner};
    use heirloom_model::release::{Artifact, ReleaseKind};

    use super::*;
    use crate::bundles::FILES;

    const CODE: Measurement = Measurement::Sgx(MrEnclave::new([2; 32]));

    fn release(bytes: &[u8]) -> Release {
        let artifact = |name: &&str| Artifact {
            name: name.parse().unwrap(),
            size: bytes.len() as u64,
            digest: ArtifactDigest::of(bytes),
        };
        Release {
            network: NetworkId::new([1; 32]),
            name: "keeper-2.0.0".parse().unwrap(),
            kind: ReleaseKind::Keeper,
            security_version: SecurityVersion(2),
            measurements: vec![CODE],
            signer: MrSigner::new([3; 32]),
            artifacts: FILES.iter().map(artifact).collect(),
            not_after: Time(u64::MAX),
        }
    }

    #[test]
    fn a_download_ends_with_its_reason_and_begins_again_when_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let mirror = directory.path().join("mirror");
        let bundles = Bundles::open(directory.path().join("data")).unwrap();
        let downloads = Downloads::new(bundles, vec![Mirror::directory(mirror.clone())]);
        let release = release(b"no bundle");
        let long = Duration::from_mins(1);
        let ended = downloads.fetch(&release, &CODE, long);
        assert!(matches!(ended, Fetching::Failed(BundleError::Fetch(_))), "{ended:?}");
        std::fs::create_dir_all(mirror.join("keeper-2.0.0")).unwrap();
        for name in FILES {
            std::fs::write(mirror.join("keeper-2.0.0").join(name), b"no bundle").unwrap();
        }
        let ended = downloads.fetch(&release, &CODE, long);
        // Every file is the one that was signed, and still nobody would start it.
        let is_refused = matches!(ended, Fetching::Failed(BundleError::Unmeasurable { .. }));
        assert!(is_refused, "{ended:?}");
        assert!(!directory.path().join("data/bundles").join(CODE.to_string()).exists());
    }

    #[test]
    fn downloads_that_nobody_asks_for_again_keep_no_other_out() {
        let directory = tempfile::tempdir().unwrap();
        let bundles = Bundles::open(directory.path().join("data")).unwrap();
        let downloads = Downloads::new(bundles, Vec::new());
        let release = release(b"a file");
        let all_ended = || {
            let under_way = downloads.shared.under_way.lock().unwrap();
            under_way.values().all(|download| matches!(download, Download::Ended(_)))
        };
        for number in 0..2 * DOWNLOADS_MAX {
            let code = Measurement::Sgx(MrEnclave::new([u8::try_from(number).unwrap(); 32]));
            let begun = downloads.fetch(&release, &code, Duration::ZERO);
            assert!(matches!(begun, Fetching::UnderWay(_) | Fetching::Failed(_)), "{begun:?}");
            while !all_ended() {
                std::thread::yield_now();
            }
            assert!(downloads.shared.under_way.lock().unwrap().len() <= DOWNLOADS_MAX);
        }
        let ended = downloads.fetch(&release, &CODE, Duration::from_mins(1));
        assert!(matches!(ended, Fetching::Failed(_)), "{ended:?}");
    }

    #[test]
    fn sizes_that_nobody_can_have_are_refused_and_never_overflow() {
        let directory = tempfile::tempdir().unwrap();
        let bundles = Bundles::open(directory.path().join("data")).unwrap();
        let downloads = Downloads::new(bundles, Vec::new());
        let mut release = release(b"a file");
        for artifact in &mut release.artifacts {
            artifact.size = u64::MAX;
        }
        let ended = downloads.fetch(&release, &CODE, Duration::from_mins(1));
        assert!(matches!(ended, Fetching::Failed(BundleError::Fetch(_))), "{ended:?}");
        let shared = Shared::default();
        let mut watcher = Watcher::new(&release, CODE, &shared);
        for artifact in &release.artifacts {
            let (received, size) = (u64::MAX, artifact.size);
            let advance = Advance { artifact: &artifact.name, received, size };
            assert!(watcher.advanced(advance).is_continue());
        }
        let under_way = shared.under_way.lock().unwrap();
        let all = Received { received: u64::MAX, wanted: u64::MAX };
        assert!(matches!(under_way.get(&CODE), Some(Download::Running(seen)) if *seen == all));
    }

    #[test]
    fn a_release_with_other_files_than_a_bundle_is_not_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let bundles = Bundles::open(directory.path().join("data")).unwrap();
        let downloads = Downloads::new(bundles, Vec::new());
        let mut release = release(b"a file");
        release.artifacts.pop();
        let ended = downloads.fetch(&release, &CODE, Duration::from_mins(1));
        assert!(matches!(ended, Fetching::Failed(BundleError::Files { found: 2 })), "{ended:?}");
    }
}
