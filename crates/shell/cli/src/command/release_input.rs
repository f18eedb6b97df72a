//! A bundle directory as the release that it is.

use std::fs;
use std::path::Path;

use heirloom_launcher::bundle::{BINARY_BYTES_MAX, Bundle};
use heirloom_launcher::report::LaunchMode;
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::{ArtifactDigest, DigestOf as _};
use heirloom_model::limit::ARTIFACTS_MAX;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::{Artifact, Release};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::file;

/// Measures a bundle and says which release it is.
pub(crate) fn release(bundle: &Path, not_after: Time) -> Result<Release, Diagnostic> {
    fs::metadata(bundle).map_err(|error| file::failed("look into", bundle, &error))?;
    // As the platform will do: what does not launch is not worth a signature.
    let verified = Bundle::read(bundle)
        .and_then(|found| found.verify(LaunchMode::Production))
        .map_err(|error| {
            let message = format!("{} is not a bundle that launches", bundle.display());
            Diagnostic::new(Code::BundleMalformed, message).because(&error)
        })?;
    let (secs, manifest) = (verified.secs(), verified.manifest());
    Ok(Release {
        network: manifest.network,
        name: manifest.release.clone(),
        kind: manifest.kind,
        security_version: SecurityVersion(u64::from(secs.isv_svn)),
        measurements: vec![Measurement::Sgx(secs.measurement)],
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
