//! The check of one signature.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256K1_SHA256_ASN1,
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey,
    VerificationAlgorithm,
};

use crate::fingerprint::Fingerprint;
use crate::key::{Signature, SignatureFormat, SigningAlgorithm, SigningPublicKey, SigningScheme};

/// Why a signature is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// It was made by another key.
    #[error("the signature names {signed_by}, not {key}")]
    OtherKey {
        /// Who is said to have signed.
        signed_by: Fingerprint,
        /// The key at hand.
        key: Fingerprint,
    },
    /// A key of this scheme does not sign like that.
    #[error("a key of {scheme:?} does not sign with {algorithm:?}")]
    Algorithm {
        /// The scheme.
        scheme: SigningScheme,
        /// The algorithm.
        algorithm: SigningAlgorithm,
    },
    /// The bytes have another form.
    #[error("a signature by a key of {scheme:?} is not stored as {format:?}")]
    Format {
        /// The scheme.
        scheme: SigningScheme,
        /// The format.
        format: SignatureFormat,
    },
    /// This release cannot check such signatures.
    #[error("signatures by keys of {scheme:?} cannot be checked by this release")]
    Unsupported {
        /// The scheme.
        scheme: SigningScheme,
    },
    /// It does not verify.
    #[error("the signature by {key} does not verify")]
    Bad {
        /// The key.
        key: Fingerprint,
    },
}

impl SigningPublicKey {
    /// Succeeds if the signature is this key's over exactly `message`.
    pub fn verify_bytes(
        &self,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        let (scheme, key) = (self.scheme(), self.fingerprint().clone());
        if signature.signed_by != key {
            let signed_by = signature.signed_by.clone();
            return Err(SignatureError::OtherKey { signed_by, key });
        }
        let format = signature.format;
        let expected = match scheme {
            SigningScheme::Ed25519 => SignatureFormat::Concat,
            _ => SignatureFormat::Der,
        };
        // Old ledgers call every form "raw".
        if format != expected && format != SignatureFormat::Raw {
            return Err(SignatureError::Format { scheme, format });
        }
        let algorithm = signature.algorithm.unwrap_or(default_algorithm(scheme));
        let (algorithm, spki) = (algorithm_of(scheme, algorithm)?, self.spki());
        let bytes = if scheme == SigningScheme::Ed25519 { last_32(&spki) } else { &spki };
        UnparsedPublicKey::new(algorithm, bytes)
            .verify(message, &signature.bytes)
            .map_err(|_| SignatureError::Bad { key })
    }
}

/// What a key signs with if the signature does not say it.
pub fn default_algorithm(scheme: SigningScheme) -> SigningAlgorithm {
    match scheme {
        SigningScheme::Ed25519 => SigningAlgorithm::Ed25519,
        SigningScheme::P256 | SigningScheme::Secp256k1 => SigningAlgorithm::EcdsaSha256,
        SigningScheme::P384 => SigningAlgorithm::EcdsaSha384,
        SigningScheme::MlDsa65 => SigningAlgorithm::MlDsa65,
    }
}

fn algorithm_of(
    scheme: SigningScheme,
    algorithm: SigningAlgorithm,
) -> Result<&'static dyn VerificationAlgorithm, SignatureError> {
    Ok(match (scheme, algorithm) {
        (SigningScheme::Ed25519, SigningAlgorithm::Ed25519) => &ED25519,
        (SigningScheme::P256, SigningAlgorithm::EcdsaSha256) => &ECDSA_P256_SHA256_ASN1,
        (SigningScheme::P256, SigningAlgorithm::EcdsaSha384) => &ECDSA_P256_SHA384_ASN1,
        (SigningScheme::P384, SigningAlgorithm::EcdsaSha256) => &ECDSA_P384_SHA256_ASN1,
        (SigningScheme::P384, SigningAlgorithm::EcdsaSha384) => &ECDSA_P384_SHA384_ASN1,
        (SigningScheme::Secp256k1, SigningAlgorithm::EcdsaSha256) => &ECDSA_P256K1_SHA256_ASN1,
        (SigningScheme::MlDsa65, SigningAlgorithm::MlDsa65) => {
            return Err(SignatureError::Unsupported { scheme });
        }
        (scheme, algorithm) => return Err(SignatureError::Algorithm { scheme, algorithm }),
    })
}

/// The point behind the X.509 header of an Ed25519 key.
fn last_32(spki: &[u8]) -> &[u8] {
    let (_, point) = spki.split_at(spki.len().saturating_sub(32));
    point
}
