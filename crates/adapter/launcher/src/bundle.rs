//! Bundles: a directory with a binary, its manifest, and the signature over both.

use std::path::Path;

use heirloom_model::measurement::{LaunchedCode, Measurement, TeeKind};
use heirloom_model::wire;

use crate::files::{self, FileError};
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest, ManifestError};
use crate::measure::{MeasureError, measure};
use crate::report::{LaunchMode, Secs};
use crate::signer::EnclaveSigningKey;
use crate::sigstruct::{self, SIGSTRUCT_BYTES, SigstructContent, SigstructError};

/// File name of the ELF binary in a bundle.
pub const BINARY: &str = "binary";
/// File name of the encoded manifest in a bundle.
pub const MANIFEST: &str = "manifest";
/// File name of the SIGSTRUCT in a bundle.
pub const SIGSTRUCT: &str = "sigstruct";
/// Debug builds of keepers have some 100 MB.
pub const BINARY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// A bundle in memory. Nothing in it is verified yet.
pub struct Bundle {
    /// The ELF binary.
    pub binary: Vec<u8>,
    /// The encoded manifest.
    pub manifest: Vec<u8>,
    /// The SIGSTRUCT.
    pub sigstruct: Vec<u8>,
}

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The manifest is not one.
    #[error("the bundle's manifest cannot be understood")]
    Manifest(#[source] wire::WireError),
    /// The manifest makes no sense.
    #[error("the bundle's manifest makes no sense")]
    Inconsistent(#[from] ManifestError),
    /// The binary cannot be measured.
    #[error("the bundle's binary cannot be measured")]
    Measure(#[from] MeasureError),
    /// The signature does not hold.
    #[error("the bundle's SIGSTRUCT is refused")]
    Sigstruct(#[from] SigstructError),
    /// Manifest and SIGSTRUCT contradict each other.
    #[error("the manifest says {field} {manifest}, the SIGSTRUCT says {sigstruct}")]
    Contradiction {
        /// What they disagree about.
        field: &'static str,
        /// In the manifest.
        manifest: u16,
        /// In the SIGSTRUCT.
        sigstruct: u16,
    },
}

impl Bundle {
    /// Signs a binary with its manifest. `date` is `0xYYYYMMDD`.
    pub fn sign(
        key: &EnclaveSigningKey,
        binary: Vec<u8>,
        manifest: &Manifest,
        date: u32,
    ) -> Result<Self, BundleError> {
        manifest.check()?;
        let content = SigstructContent {
            measurement: measure(&binary, manifest)?,
            product_id: manifest.product_id,
            isv_svn: manifest.security_version,
            date,
        };
        let sigstruct = sigstruct::sign(key, &content).to_vec();
        Ok(Self { binary, manifest: wire::encode(manifest), sigstruct })
    }

    /// Reads a bundle from its directory.
    pub fn read(directory: &Path) -> Result<Self, BundleError> {
        let file = |name: &str, limit| files::read(&directory.join(name), limit);
        Ok(Self {
            binary: file(BINARY, BINARY_BYTES_MAX)?.to_vec(),
            manifest: file(MANIFEST, MANIFEST_BYTES_MAX)?.to_vec(),
            sigstruct: file(SIGSTRUCT, SIGSTRUCT_BYTES)?.to_vec(),
        })
    }

    /// Writes a bundle to a directory, replacing what is there.
    pub fn write(&self, directory: &Path) -> Result<(), BundleError> {
        files::create_private_directory(directory)?;
        files::replace(&directory.join(BINARY), &self.binary)?;
        files::replace(&directory.join(MANIFEST), &self.manifest)?;
        files::replace(&directory.join(SIGSTRUCT), &self.sigstruct)?;
        Ok(())
    }

    /// Measures and verifies everything; what launches is exactly what is returned.
    pub fn verify(&self, mode: LaunchMode) -> Result<VerifiedBundle, BundleError> {
        let manifest: Manifest = wire::decode(&self.manifest).map_err(BundleError::Manifest)?;
        manifest.check()?;
        let measurement = measure(&self.binary, &manifest)?;
        let secs = sigstruct::verify(&self.sigstruct)?.launch(measurement, mode)?;
        let pairs = [
            ("product", manifest.product_id, secs.product_id),
            ("security version", manifest.security_version, secs.isv_svn),
        ];
        for (field, manifest, sigstruct) in pairs {
            if manifest != sigstruct {
                return Err(BundleError::Contradiction { field, manifest, sigstruct });
            }
        }
        Ok(VerifiedBundle { secs, manifest })
    }
}

/// Who a bundle launches to. Only [`Bundle::verify`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedBundle {
    secs: Secs,
    manifest: Manifest,
}

impl VerifiedBundle {
    /// The enclave's identity.
    pub fn secs(&self) -> &Secs {
        &self.secs
    }

    /// Its measurement on a kind of platform; none where no launcher of ours runs. The digest is the
    /// same everywhere, and whoever admits one of these measurements does not admit the others.
    pub fn measurement_on(&self, kind: TeeKind) -> Option<Measurement> {
        let code = self.secs.measurement;
        match kind {
            TeeKind::Sgx => Some(Measurement::Sgx(code)),
            TeeKind::Tpm => Some(Measurement::Tpm(LaunchedCode::new(*code.as_bytes()))),
            TeeKind::Tdx | TeeKind::Snp | TeeKind::Nitro | TeeKind::Vtpm => None,
        }
    }

    /// What the code is for.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

#[cfg(test)]
mod tests;
