//! Signing and measuring bundles.

use std::path::Path;

use heirloom_launcher::bundle::{BINARY_BYTES_MAX, Bundle, VerifiedBundle};
use heirloom_launcher::files;
use heirloom_launcher::manifest::Manifest;
use heirloom_launcher::randomness::system_randomness;
use heirloom_launcher::report::LaunchMode;
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_launcher::sigstruct;
use heirloom_model::counter::Time;
use heirloom_model::measurement::{LaunchedCode, Measurement, MrSigner};
use serde_json::{Value, json};

use crate::error::PlatformdError;

/// An RSA-3072 key in PEM has some 2.5 kB.
const KEY_BYTES_MAX: usize = 16 * 1024;

/// Makes a key that signs enclaves and writes it to a file that is not there yet. Takes seconds.
pub fn generate_key(out: &Path) -> Result<MrSigner, PlatformdError> {
    files::refuse_present(out)?;
    let key = EnclaveSigningKey::generate(&mut system_randomness())?;
    files::create(out, key.to_pem().as_bytes())?;
    Ok(key.signer())
}

/// Signs a binary with its manifest and writes the bundle to a directory.
pub fn sign(
    key: &Path,
    binary: &Path,
    manifest: &Manifest,
    out: &Path,
    now: Time,
) -> Result<VerifiedBundle, PlatformdError> {
    let key = EnclaveSigningKey::from_pem(&files::read_text(key, KEY_BYTES_MAX)?)?;
    let binary = files::read(binary, BINARY_BYTES_MAX)?.to_vec();
    Bundle::sign(&key, binary, manifest, sigstruct::date(now))?.write(out)?;
    measure(out)
}

/// Measures and verifies a bundle.
pub fn measure(directory: &Path) -> Result<VerifiedBundle, PlatformdError> {
    Ok(Bundle::read(directory)?.verify(LaunchMode::Production)?)
}

/// A bundle as JSON, for scripts.
pub fn describe(bundle: &VerifiedBundle) -> Value {
    let (secs, manifest) = (bundle.secs(), bundle.manifest());
    // The same digest of another kind: who admits one does not admit the other.
    let above_a_tpm = Measurement::Tpm(LaunchedCode::new(*secs.measurement.as_bytes()));
    json!({
        "schema": "heirloom.bundle.v1",
        "release": manifest.release.as_str(),
        "kind": manifest.kind.name(),
        "measurement": Measurement::Sgx(secs.measurement).to_string(),
        "measurement_above_a_tpm": above_a_tpm.to_string(),
        "signer": secs.signer.to_string(),
        "product_id": secs.product_id,
        "security_version": secs.isv_svn,
        "network": manifest.network.to_string(),
        "domain": manifest.domain.map(|domain| domain.to_string()),
        "application": manifest.application.as_ref().map(|one| one.as_str().to_owned()),
    })
}
