//! Releases: artifacts, their digests, and the measurement that they launch to.

use minicbor::{Decode, Encode};

use crate::counter::{SecurityVersion, Time};
use crate::digest::{ArtifactDigest, DigestOf, NetworkId, ReleaseDigest};
use crate::identifier::ReleaseName;
use crate::limit::PAYLOAD_BYTES_MAX;
use crate::measurement::{Measurement, MrSigner};
use crate::policy::HolderRole;
use crate::wire;

/// One release of measured code.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Release {
    /// The network that it is made for: the digest of its first root is in the measured manifest.
    #[n(0)]
    pub network: NetworkId,
    /// Name and version, unique within the network.
    #[n(1)]
    pub name: ReleaseName,
    /// What the code is for.
    #[n(2)]
    pub kind: ReleaseKind,
    /// Security version (SGX: ISVSVN).
    #[n(3)]
    pub security_version: SecurityVersion,
    /// One measurement per kind of platform, sorted.
    #[n(4)]
    pub measurements: Vec<Measurement>,
    /// Who signed the code for the platform; for diagnosis, never for authorisation.
    #[n(5)]
    pub signer: MrSigner,
    /// The files of its bundle, sorted by name.
    #[n(6)]
    pub artifacts: Vec<Artifact>,
    /// After this time it is not installed any more.
    #[n(7)]
    pub not_after: Time,
}

/// What measured code is for.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum ReleaseKind {
    /// Holds a keyring.
    #[n(0)]
    Keeper,
    /// Asks for keys.
    #[n(1)]
    Application,
    /// Carries a keyring from one keeper to the next on its host, and serves nobody.
    #[n(2)]
    Upgrader,
}

impl ReleaseKind {
    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keeper => "keeper",
            Self::Application => "application",
            Self::Upgrader => "upgrader",
        }
    }

    /// What code of this kind does with a keyring. Applications hold none.
    pub fn role(self) -> Option<HolderRole> {
        match self {
            Self::Keeper => Some(HolderRole::Keeper),
            Self::Application => None,
            Self::Upgrader => Some(HolderRole::Upgrader),
        }
    }
}

/// One file of a bundle.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Artifact {
    /// Its file name, without any directory.
    #[n(0)]
    pub name: ReleaseName,
    /// Its size in bytes.
    #[n(1)]
    pub size: u64,
    /// Its digest.
    #[n(2)]
    pub digest: ArtifactDigest,
}

impl Release {
    /// The digest by which plans and policies name it.
    pub fn digest(&self) -> ReleaseDigest {
        ReleaseDigest::of(wire::encode(self).as_slice())
    }

    /// The bytes of all its artifacts. Sizes are claims until the log has accepted the release,
    /// so the sum ends at what fits.
    pub fn bytes(&self) -> u64 {
        self.artifacts.iter().fold(0, |sum: u64, artifact| sum.saturating_add(artifact.size))
    }
}

wire! { Release: "release", PAYLOAD_BYTES_MAX; }
