//! The manifest: what measured code is for, as part of its measurement.

use heirloom_model::context;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::{ApplicationId, DomainId, ReleaseName};
use heirloom_model::wire;
use minicbor::{Decode, Encode};

/// What a bundle's code is for. It is measured with the code, so that the same binary made for
/// another network, domain or release is another enclave.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Manifest {
    /// The network: the digest of its first root.
    #[n(0)]
    pub network: NetworkId,
    /// The domain whose keys a keeper holds.
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
}

/// A manifest has two digests and two names.
pub const MANIFEST_BYTES_MAX: usize = 512;

impl Manifest {
    /// What the measured pages behind the code begin with: a context, the length, the encoding.
    pub(crate) fn measured_bytes(&self) -> Vec<u8> {
        let encoded = wire::encode(self);
        let length = u64::try_from(encoded.len()).expect("a manifest is short");
        [context::MANIFEST, &length.to_le_bytes(), &encoded].concat()
    }
}

wire! { Manifest: "manifest", MANIFEST_BYTES_MAX; }
