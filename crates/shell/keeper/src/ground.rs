//! What a keeper runs on, and where its manifest comes from.
//!
//! Our launcher measures a manifest with the code and answers for it. In a TEE that a keeper speaks
//! to itself the manifest is a file at a fixed place, which whoever makes the enclave or the image
//! must put into what is measured. What can be enforced here is enforced: nothing that the agent
//! says moves the place; versions that the platform states are those of the manifest; and seal keys
//! are of exactly the manifest that was read, so that code which is given another one opens nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heirloom_hardware::bound::Bound;
use heirloom_hardware::find::Places;
use heirloom_hardware::tee::{NamedError, Tee, named};
use heirloom_keeper::port::{PlatformError, PlatformIdentity};
use heirloom_launcher::client::PlatformClient;
use heirloom_launcher::manifest::{MANIFEST_BYTES_MAX, Manifest, ManifestError};
use heirloom_model::evidence::Certificate;
use heirloom_model::wire::{self, WireError};
use heirloom_store::atomic;
use heirloom_store::error::StoreError;

use crate::limit::CERTIFICATE_BYTES_MAX;
use crate::service::SharedPlatform;

/// Where a keeper in a TEE finds its manifest, the same file as in a bundle.
pub const MANIFEST: &str = "/etc/heirloom/manifest";

/// Why a keeper has nothing to run on.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// The platform does not answer.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The TEE that was named is not the one that is here.
    #[error(transparent)]
    Tee(#[from] NamedError),
    /// A certificate that was handed in cannot be read.
    #[error("a certificate of this machine cannot be used")]
    Certificate(#[source] StoreError),
    /// There is no manifest where it must be.
    #[error("the manifest that must be measured with a keeper cannot be read")]
    NoManifest(#[source] StoreError),
    /// The file is no manifest.
    #[error("{MANIFEST} is no manifest")]
    Malformed(#[source] WireError),
    /// It makes no sense.
    #[error("{MANIFEST} cannot be used")]
    Manifest(#[from] ManifestError),
    /// The platform was told another version or product than the manifest says.
    #[error("the manifest says {what} {said}, and {tee} says {found}")]
    OtherVersion {
        /// Where it runs.
        tee: Tee,
        /// What differs.
        what: &'static str,
        /// In the manifest.
        said: u16,
        /// What the platform says.
        found: u16,
    },
}

/// A platform and the manifest that was measured with this code.
pub type Grounded = (Manifest, SharedPlatform);

/// The launcher's, which measured both.
pub fn launched(socket: &Path) -> Result<Grounded, GroundError> {
    let platform = PlatformClient::connect(socket)?;
    Ok((platform.manifest()?, Arc::new(platform)))
}

/// The TEE's that was named.
pub fn in_tee(tee: Tee, certificates: &[PathBuf]) -> Result<Grounded, GroundError> {
    let read = |path: &PathBuf| atomic::read(path, CERTIFICATE_BYTES_MAX).map(Certificate);
    let certificates: Result<Vec<_>, _> = certificates.iter().map(read).collect();
    let certificates = certificates.map_err(GroundError::Certificate)?;
    let platform = named(tee, &Places::default(), &certificates)?;
    let bytes = atomic::read(Path::new(MANIFEST), MANIFEST_BYTES_MAX);
    let bytes = bytes.map_err(GroundError::NoManifest)?;
    let manifest: Manifest = wire::decode(&bytes).map_err(GroundError::Malformed)?;
    manifest.check()?;
    expect_versions(tee, &manifest, &platform.identity()?)?;
    Ok((manifest, Arc::new(Bound::to(platform, &bytes))))
}

/// Refuses a manifest that says another version than the platform, where platforms have versions
/// of code.
fn expect_versions(
    tee: Tee,
    manifest: &Manifest,
    identity: &PlatformIdentity,
) -> Result<(), GroundError> {
    let product = ("product", manifest.product_id, identity.product_id);
    let version = ("security version", manifest.security_version, identity.isv_svn);
    let stated: &[_] = match tee {
        Tee::Gramine => &[product, version],
        Tee::Snp => &[version],
        Tee::Tdx | Tee::Nitro => &[],
    };
    match stated.iter().find(|(_, said, found)| said != found) {
        None => Ok(()),
        Some(&(what, said, found)) => Err(GroundError::OtherVersion { tee, what, said, found }),
    }
}

#[cfg(test)]
mod tests {
    use heirloom_model::digest::NetworkId;
    use heirloom_model::identifier::{DomainId, PlatformId};
    use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};
    use heirloom_model::release::ReleaseKind;
    use heirloom_model::sealed::CpuSvn;

    use super::*;

    #[test]
    fn each_version_that_a_platform_states_is_the_manifests() {
        let manifest = Manifest {
            network: NetworkId::new([1; 32]),
            domain: Some(DomainId::new([2; 32])),
            application: None,
            release: "keeper-1".parse().unwrap(),
            product_id: 7,
            security_version: 3,
            kind: ReleaseKind::Keeper,
        };
        let good = PlatformIdentity {
            measurement: Measurement::Sgx(MrEnclave::new([4; 32])),
            signer: MrSigner::new([5; 32]),
            product_id: 7,
            isv_svn: 3,
            cpu_svn: CpuSvn::new([0; 16]),
            debug: false,
            platform: PlatformId::new([6; 32]),
        };
        let product = PlatformIdentity { product_id: 8, ..good };
        let version = PlatformIdentity { isv_svn: 2, ..good };
        let refused = |tee, identity: &PlatformIdentity| {
            expect_versions(tee, &manifest, identity).err().map(|error| error.to_string())
        };
        for tee in Tee::ALL {
            assert_eq!(refused(tee, &good), None);
        }
        let other_product = "the manifest says product 7, and gramine says 8".to_owned();
        assert_eq!(refused(Tee::Gramine, &product), Some(other_product));
        for tee in [Tee::Gramine, Tee::Snp] {
            let other = format!("the manifest says security version 3, and {tee} says 2");
            assert_eq!(refused(tee, &version), Some(other));
        }
        // These have no version of the code: what they say is zero.
        for tee in [Tee::Tdx, Tee::Nitro] {
            assert_eq!(refused(tee, &version), None);
        }
    }
}
