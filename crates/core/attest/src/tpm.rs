//! Quotes of a TPM 2.0, its keys, and the certificates of its keys (Trusted Platform Module
//! Library, Family 2.0).
//!
//! A quote says that a key signed the digest of registers, and a few bytes that the caller chose.
//! It says nothing about the key: that the key lives in a TPM, in which one, and signs nothing
//! but what the TPM itself made, is what the certificate of an attestation CA says, which saw the
//! key's public area ([`AkPublic`]) and let the TPM prove that it holds the key and the one of its
//! manufacturer together ([`make_credential`]).

mod certificate;
mod credential;
mod error;
mod key;
mod public;
mod quote;
mod reader;

pub(crate) use certificate::{AIK_CERTIFICATE, EK_CERTIFICATE};
pub use certificate::{
    AIK_CERTIFICATE_OID, AK_IDENTITY_OID, AkIdentity, CertifiedKey, Manufacturers, VerifiedEk,
    verify_ak_certificate, verify_ek_certificate,
};
pub use credential::{Credential, CredentialSeed, make_credential};
pub use error::TpmError;
pub use key::AttestationKey;
pub use public::{AkPublic, EkKind, EkPublic, Name};
pub use quote::{Clock, Quote, QuoteClaims, verify_quote};
