//! Attestation documents of AWS Nitro enclaves ("Nitro Enclaves Attestation Process").
//!
//! A document is a `COSE_Sign1` (RFC 9052 §4.2) over a map with the enclave's registers and the
//! certificates of the key that signed it. Its leaf certificate lives for three hours: what is
//! verified is verified at receipt, and a path that is remembered is forgotten soon.
//!
//! Documents of enclaves in debug mode are genuine documents, whose registers are zero:
//! [`NitroClaims::measurement`] refuses those, so nobody gets a measurement out of one.

mod document;
mod error;

pub use document::Document;
pub use error::NitroError;

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use heirloom_model::counter::Time;
use heirloom_model::evidence::TrustAnchor;
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{ImageMeasurement, Register48};

use crate::chain::{self, Profile, VerifiedChain};

/// What a verified document says.
///
/// Only [`verify`] makes one.
///
/// ```compile_fail
/// let forged = heirloom_attest::nitro::NitroClaims {};
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NitroClaims {
    module_id: String,
    timestamp: Time,
    registers: BTreeMap<u8, Register48>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
}

/// Verifies the path of the key that signed a document.
///
/// The root that the document carries must be a trust anchor byte for byte; only the trust anchors
/// for Nitro count.
pub fn verify_chain(
    document: &Document<'_>,
    anchors: &[TrustAnchor],
    now: Time,
) -> Result<VerifiedChain, NitroError> {
    let (root, between) = document.bundle().split_first().ok_or(NitroError::UnknownAnchor)?;
    let known = |anchor: &&TrustAnchor| {
        matches!(anchor, TrustAnchor::Nitro(_)) && anchor.certificate() == *root
    };
    let anchor = anchors.iter().find(known).ok_or(NitroError::UnknownAnchor)?;
    let roots = [anchor.certificate()];
    chain::verify(Profile::Nitro, &roots, document.certificate(), between, now)
        .map_err(|error| NitroError::Chain { error })
}

/// Verifies a document under a path that [`verify_chain`] verified, now or earlier, for a document
/// with the same certificates.
pub fn verify(
    document: &Document<'_>,
    chain: &VerifiedChain,
    now: Time,
) -> Result<NitroClaims, NitroError> {
    chain.holds_at(now).map_err(|error| NitroError::Chain { error })?;
    let root = document.bundle().first();
    if chain.leaf() != document.certificate() || root != Some(&chain.anchor()) {
        return Err(NitroError::OtherChain);
    }
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, chain.public_key())
        .verify(&document.signed(), document.signature())
        .map_err(|_| NitroError::Signature)?;
    Ok(NitroClaims {
        module_id: document.module_id().to_owned(),
        timestamp: document.timestamp(),
        registers: document.registers().clone(),
        public_key: document.public_key().map(<[u8]>::to_vec),
        user_data: document.user_data().map(<[u8]>::to_vec),
        nonce: document.nonce().map(<[u8]>::to_vec),
    })
}

impl NitroClaims {
    /// The enclave's module: that of its instance, and a part of its own.
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// The instance on which the enclave runs.
    pub fn platform(&self) -> PlatformId {
        let id = &self.module_id;
        PlatformId::of_module(id.split_once("-enc").map_or(id, |(instance, _)| instance))
    }

    /// When the hypervisor made the document.
    pub fn timestamp(&self) -> Time {
        self.timestamp
    }

    /// All registers.
    pub fn registers(&self) -> &BTreeMap<u8, Register48> {
        &self.registers
    }

    /// One register.
    pub fn register(&self, index: u8) -> Result<Register48, NitroError> {
        self.registers.get(&index).copied().ok_or(NitroError::MissingRegister { index })
    }

    /// What the enclave was built from. A zero register means debug mode, which shows the enclave's
    /// console to the host, and makes every image look like every other.
    pub fn measurement(&self) -> Result<ImageMeasurement, NitroError> {
        let measured = |index| match self.register(index)? {
            register if register.as_bytes().iter().all(|byte| *byte == 0) => {
                Err(NitroError::ZeroRegister { index })
            }
            register => Ok(register),
        };
        Ok(ImageMeasurement::of(&[measured(0)?, measured(1)?, measured(2)?]))
    }

    /// What the attester put in as a public key.
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// What the attester put in as data.
    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }

    /// What the attester put in as a nonce.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }
}
