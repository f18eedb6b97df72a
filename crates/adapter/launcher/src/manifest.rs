//! The manifest: what measured code is for, as part of its measurement.

use heirloom_model::context;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::{ApplicationId, DomainId, ReleaseName};
use heirloom_model::release::ReleaseKind;
use heirloom_model::wire;
use minicbor::{Decode, Encode};

/// What a bundle's code is for. It is measured with the code, so that the same binary made for
/// another network, domain or release is another enclave.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Manifest {
    /// The network: the digest of its first root.
    #[n(0)]
    pub network: NetworkId,
    /// The domain whose keys a keeper holds or an upgrader carries.
    #[n(1)]
    pub domain: Option<DomainId>,
    /// The application that asks for keys.
    #[n(2)]
    pub application: Option<ApplicationId>,
    /// The release that it belongs to.
    #[n(3)]
    pub release: ReleaseName,
    /// ISVPRODID.
    #[n(4)]
    pub product_id: u16,
    /// ISVSVN.
    #[n(5)]
    pub security_version: u16,
    /// What the code does. An instance cannot pretend to be of another kind.
    #[n(6)]
    pub kind: ReleaseKind,
}

/// Why a manifest makes no sense.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Code that holds keys belongs to a domain.
    #[error("the manifest of {} names no domain", with_article(*kind))]
    NoDomain {
        /// The code's kind.
        kind: ReleaseKind,
    },
    /// Code that asks for keys belongs to an application.
    #[error("the manifest of an application does not name it")]
    NoApplication,
    /// Code that holds keys asks for none.
    #[error("the manifest of {} names an application", with_article(*kind))]
    OtherKind {
        /// The code's kind.
        kind: ReleaseKind,
    },
}

fn with_article(kind: ReleaseKind) -> &'static str {
    match kind {
        ReleaseKind::Keeper => "a keeper",
        ReleaseKind::Application => "an application",
        ReleaseKind::Upgrader => "an upgrader",
    }
}

/// A manifest has two digests and two names.
pub const MANIFEST_BYTES_MAX: usize = 512;

impl Manifest {
    /// Checks that it says what code of its kind must know. An application may name the domain
    /// that it asks.
    pub fn check(&self) -> Result<(), ManifestError> {
        let kind = self.kind;
        match (kind, &self.domain, &self.application) {
            (ReleaseKind::Application, _, Some(_))
            | (ReleaseKind::Keeper | ReleaseKind::Upgrader, Some(_), None) => Ok(()),
            (ReleaseKind::Application, _, None) => Err(ManifestError::NoApplication),
            (ReleaseKind::Keeper | ReleaseKind::Upgrader, None, _) => {
                Err(ManifestError::NoDomain { kind })
            }
            (ReleaseKind::Keeper | ReleaseKind::Upgrader, Some(_), Some(_)) => {
                Err(ManifestError::OtherKind { kind })
            }
        }
    }

    /// What the measured pages behind the code begin with: a context, the length, the encoding.
    pub(crate) fn measured_bytes(&self) -> Vec<u8> {
        let encoded = wire::encode(self);
        let length = u64::try_from(encoded.len()).expect("a manifest is short");
        [context::MANIFEST, &length.to_le_bytes(), &encoded].concat()
    }
}

wire! { Manifest: "manifest", MANIFEST_BYTES_MAX; }
