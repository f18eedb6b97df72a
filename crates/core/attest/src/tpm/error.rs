//! Why something of a TPM was refused.

use crate::chain::ChainError;

/// Why a quote, a key or a certificate was refused. One variant per reason.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TpmError {
    /// The bytes are not what they should be.
    #[error("the {part} is malformed: {fault}")]
    Malformed {
        /// Of what.
        part: &'static str,
        /// What is wrong with them.
        fault: &'static str,
    },
    /// The TPM did not make the signed bytes, or they are of another kind.
    #[error("the signed bytes are not a quote of a TPM")]
    NotAQuote,
    /// An algorithm that this release does not know, or not for this.
    #[error("algorithm {found:#06x} is not supported for the {part}")]
    UnsupportedAlgorithm {
        /// Of what.
        part: &'static str,
        /// The TPM's number for it.
        found: u16,
    },
    /// The quote was made for something else.
    #[error("the quote was made for other data")]
    QualifyingData,
    /// The quote covers other registers, or more than one bank.
    #[error("the quote does not cover exactly the registers that came with it")]
    RegisterSelection,
    /// The registers do not have these values.
    #[error("the registers that came with the quote are not those that were quoted")]
    RegisterDigest,
    /// The key and the signature are of different kinds.
    #[error("the signature is of another kind than the key")]
    KeyKind,
    /// The signature is not one of this key over this quote.
    #[error("the signature of the quote does not verify")]
    Signature,
    /// The key could be used for something else than the TPM's own statements, or outside of it.
    #[error("the key's attributes {found:#010x} are not those of {what}")]
    Attributes {
        /// What it should be.
        what: &'static str,
        /// In its public area.
        found: u32,
    },
    /// There are no certificates.
    #[error("the certificate of the key is missing")]
    MissingCertificate,
    /// More certificates than a chain has.
    #[error("there are {found} certificates, more than {limit}")]
    TooManyCertificates {
        /// How many there are.
        found: usize,
        /// How many are looked at.
        limit: usize,
    },
    /// The certificates make no path to a trust anchor.
    #[error("the key is not certified: {error}")]
    Chain {
        /// Why not.
        error: ChainError,
    },
    /// The certificate is not one of an attestation key of a TPM.
    #[error("the certificate is not one of an attestation key: {fault}")]
    NotAnAttestationKey {
        /// What it lacks.
        fault: &'static str,
    },
    /// The certificate is for something else, or for more.
    #[error("the certificate is not for this purpose and no other")]
    Purpose,
    /// A certificate of a manufacturer is not one.
    #[error("certificate {index} of the manufacturers is refused: {fault}")]
    Manufacturer {
        /// Which of them, from 0.
        index: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// No self-signed root among the manufacturers.
    #[error("there is no self-signed root among the certificates of manufacturers")]
    NoManufacturer,
    /// The certificate is of another key.
    #[error("the certificate is of another key")]
    OtherKey,
    /// A secret that does not fit into a credential.
    #[error("a credential holds 1 to 32 bytes, not {found}")]
    SecretLength {
        /// How many there are.
        found: usize,
    },
    /// No credential can be made for this key from this seed.
    #[error("the key or the seed is not usable for a credential")]
    Credential,
}

impl TpmError {
    /// Its stable code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed-tpm-data",
            Self::NotAQuote => "not-a-quote",
            Self::UnsupportedAlgorithm { .. } => "unsupported-algorithm",
            Self::QualifyingData => "qualifying-data",
            Self::RegisterSelection => "register-selection",
            Self::RegisterDigest => "register-digest",
            Self::KeyKind => "key-kind",
            Self::Signature => "quote-signature",
            Self::Attributes { .. } => "key-attributes",
            Self::MissingCertificate => "missing-certificate",
            Self::TooManyCertificates { .. } => "chain-too-long",
            Self::Chain { error } => error.reason(),
            Self::NotAnAttestationKey { .. } => "not-an-attestation-key",
            Self::Purpose => "certificate-purpose",
            Self::Manufacturer { .. } => "manufacturer-refused",
            Self::NoManufacturer => "no-manufacturer",
            Self::OtherKey => "other-key",
            Self::SecretLength { .. } => "secret-length",
            Self::Credential => "credential",
        }
    }
}
