//! Why a Nitro document was refused.

use crate::chain::ChainError;

/// Why a document was refused. One variant per reason.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NitroError {
    /// The bytes are not a document.
    #[error("the document is malformed: {fault}")]
    Malformed {
        /// What is wrong with them.
        fault: &'static str,
    },
    /// The document, or one of its fields, is larger than AWS makes it.
    #[error("the document's {field} has {found} bytes or elements, more than {limit}")]
    TooLarge {
        /// Which.
        field: &'static str,
        /// How many there are.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// Not ECDSA with P-384 and SHA-384, or another header says how to read it.
    #[error("the document's protected header is not the one of ES384")]
    Algorithm,
    /// The document carries another root than the trust anchors.
    #[error("the document's root certificate is not a trust anchor")]
    UnknownAnchor,
    /// The certificates make no path.
    #[error("the document's key is not certified: {error}")]
    Chain {
        /// Why not.
        error: ChainError,
    },
    /// The path that is remembered is not the document's.
    #[error("the verified certificates are not the document's")]
    OtherChain,
    /// The signature is not one of the certified key over this document.
    #[error("the signature of the document does not verify")]
    Signature,
    /// The enclave runs in debug mode.
    #[error("register {index} is zero: the enclave runs in debug mode")]
    ZeroRegister {
        /// Which.
        index: u8,
    },
    /// The document lacks a register.
    #[error("the document has no register {index}")]
    MissingRegister {
        /// Which.
        index: u8,
    },
}

impl NitroError {
    /// Its stable code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed-document",
            Self::TooLarge { .. } => "document-too-large",
            Self::Algorithm => "unsupported-signature-algorithm",
            Self::UnknownAnchor => "unknown-anchor",
            Self::Chain { error } => error.reason(),
            Self::OtherChain => "other-certificates",
            Self::Signature => "document-signature",
            Self::ZeroRegister { .. } => "debug-enclave",
            Self::MissingRegister { .. } => "missing-register",
        }
    }
}
