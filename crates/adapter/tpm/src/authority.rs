//! An authority approves policies that did not exist when a key was made.
//!
//! A key under `PolicyAuthorize` can be used under every policy that the authority signed. So an
//! upgrade of the machine, which changes its registers, needs a signature and no new key. The
//! key is P-256 with ECDSA over SHA-256, because TPMs know no Ed25519.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use heirloom_model::digest::{DigestOf as _, HostAuthority};

use crate::limit::POLICY_REFERENCE_BYTES_MAX;
use crate::policy::{Policy, PolicyDigest};
use crate::public::{Point, PublicArea, Template};
use crate::structure::Name;

/// The public key of an authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Authority {
    point: Point,
}

impl Authority {
    /// From an uncompressed point (SEC 1); none if it has not that form. One that is not on the
    /// curve approves nothing.
    pub fn from_sec1(bytes: &[u8]) -> Option<Self> {
        Point::from_sec1(bytes).map(|point| Self { point })
    }

    /// As an uncompressed point.
    pub fn to_sec1(&self) -> [u8; 65] {
        self.point.to_sec1()
    }

    /// What evidence and appraisal policies call it.
    pub fn id(&self) -> HostAuthority {
        HostAuthority::of(self.to_sec1().as_slice())
    }

    /// What a TPM's policies call it.
    pub fn name(&self) -> Name {
        self.public().name()
    }

    pub(crate) fn public(&self) -> PublicArea {
        Template::authority().with_point(&self.point)
    }
}

/// What an approval is for, so that it is not taken for one with another purpose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyReference(Vec<u8>);

impl PolicyReference {
    /// At most [`POLICY_REFERENCE_BYTES_MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= POLICY_REFERENCE_BYTES_MAX).then(|| Self(bytes.to_vec()))
    }

    /// As it is signed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A policy that an authority approved. Whether it did is for the TPM to say, or for
/// [`Approval::verify`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Approval {
    /// The policy.
    pub policy: Policy,
    /// Both halves of the signature over [`approval_message`].
    pub signature: [u8; 64],
}

impl Approval {
    /// Verifies the signature without a TPM, and gives out the policy that it approves.
    pub fn verify(&self, authority: &Authority, reference: &PolicyReference) -> Option<&Policy> {
        let message = approval_message(&self.policy.digest(), reference);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, authority.to_sec1())
            .verify(&message, &self.signature)
            .ok()
            .map(|()| &self.policy)
    }
}

/// What an authority signs, with ECDSA over the SHA-256 digest of it (part 3, 23.16).
pub fn approval_message(policy: &PolicyDigest, reference: &PolicyReference) -> Vec<u8> {
    [policy.as_bytes().as_slice(), reference.as_bytes()].concat()
}
