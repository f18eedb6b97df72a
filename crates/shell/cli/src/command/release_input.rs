//! A bundle directory as the release that it is, on each kind of platform that is asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use heirloom_launcher::bundle::{BINARY_BYTES_MAX, Bundle};
use heirloom_launcher::report::LaunchMode;
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::{ArtifactDigest, DigestOf as _};
use heirloom_model::limit::ARTIFACTS_MAX;
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::release::{Artifact, Release};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::{file, input};

/// A platform whose launcher measures bundles.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
pub(crate) enum Platform {
    /// The emulated CPU: measurements are `sgx:…`
    Emulated,
    /// A machine with a TPM: measurements are `tpm:…`
    Tpm,
}

impl Platform {
    fn kind(self) -> TeeKind {
        match self {
            Self::Emulated => TeeKind::Sgx,
            Self::Tpm => TeeKind::Tpm,
        }
    }
}

/// The kinds of these platforms, each once. If nothing says where a release runs, it is the
/// emulated CPU.
pub(crate) fn kinds(platforms: &[Platform], measurements: &[Measurement]) -> Vec<TeeKind> {
    if platforms.is_empty() && measurements.is_empty() {
        return vec![Platform::Emulated.kind()];
    }
    let kinds: BTreeSet<TeeKind> = platforms.iter().map(|platform| platform.kind()).collect();
    kinds.into_iter().collect()
}

/// Measures a bundle and says which release it is: with one measurement for each of these kinds of
/// platform, with these that the tools of other platforms computed, and with no other.
pub(crate) fn release(
    bundle: &Path,
    kinds: &[TeeKind],
    known: &[Measurement],
    not_after: Time,
) -> Result<Release, Diagnostic> {
    fs::metadata(bundle).map_err(|error| file::failed("look into", bundle, &error))?;
    // As the platform will do: what does not launch is not worth a signature.
    let verified = Bundle::read(bundle)
        .and_then(|found| found.verify(LaunchMode::Production))
        .map_err(|error| {
            let message = format!("{} is not a bundle that launches", bundle.display());
            Diagnostic::new(Code::BundleMalformed, message).because(&error)
        })?;
    let on_kind = |kind: &TeeKind| {
        verified.measurement_on(*kind).ok_or_else(|| {
            let message = format!("a bundle has no measurement on {kind}");
            let cause = "no launcher runs there: --measurement says what its own tools computed";
            Diagnostic::new(Code::BundleOther, message).cause(cause)
        })
    };
    let mut measurements = kinds.iter().map(on_kind).collect::<Result<Vec<_>, _>>()?;
    measurements.extend(known);
    // One for each kind: two would be two programs under one name.
    input::sorted("measurement", measurements.clone(), Measurement::kind)?;
    let (secs, manifest) = (verified.secs(), verified.manifest());
    Ok(Release {
        network: manifest.network,
        name: manifest.release.clone(),
        kind: manifest.kind,
        security_version: SecurityVersion(u64::from(secs.isv_svn)),
        measurements: input::sorted("measurement", measurements, |found| *found)?,
        signer: secs.signer,
        artifacts: artifacts(bundle)?,
        not_after,
    })
}

/// Every file of the directory, by name.
fn artifacts(bundle: &Path) -> Result<Vec<Artifact>, Diagnostic> {
    let failed = |error: std::io::Error| file::failed("look into", bundle, &error);
    let mut artifacts = Vec::new();
    for entry in fs::read_dir(bundle).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let shown = entry.path();
        let name = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let is_file = entry.file_type().map_err(failed)?.is_file();
        let Some(name) = name.filter(|_| is_file && artifacts.len() < ARTIFACTS_MAX) else {
            let message = format!("{} does not belong into a bundle", shown.display());
            return Err(Diagnostic::new(Code::BundleMalformed, message));
        };
        let bytes = file::read(&shown, BINARY_BYTES_MAX)?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        artifacts.push(Artifact { name, size, digest: ArtifactDigest::of(bytes.as_slice()) });
    }
    artifacts.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(artifacts)
}
