//! Public keys and signatures between the words of custodians and those of the wire.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256K1_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519,
    UnparsedPublicKey, VerificationAlgorithm,
};
use heirloom_canton::fingerprint::{Fingerprint, fingerprint_of_bytes};
use heirloom_canton::hash::Multihash;
use heirloom_canton_node::wire::crypto::public_key::Key;
use heirloom_canton_node::wire::crypto::{
    CryptoKeyFormat, EncryptionKeySpec, EncryptionPublicKey, PublicKey, Signature, SignatureFormat,
    SigningAlgorithmSpec, SigningKeySpec, SigningKeyUsage, SigningPublicKey,
};
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage, PublicKeyDer};
use heirloom_participant::custodian::spki;

/// Why a key or a signature is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CryptoError {
    /// The key is of no scheme that is known here.
    #[error("a public key has a specification or format that is not known here")]
    UnknownKey,
    /// The bytes are no key of the scheme that they claim.
    #[error("a public key is none of scheme {0}")]
    Malformed(KeyScheme),
    /// There is no key in the message.
    #[error("a public key is empty")]
    NoKey,
    /// The algorithm or the format belongs to another scheme.
    #[error("the signature of {0} has the algorithm or the format of another scheme")]
    Algorithm(String),
    /// The signature is not of this key and this message.
    #[error("the signature of {0} does not verify")]
    Signature(String),
}

/// The scheme of a signing key as the wire has it.
pub fn scheme_of_signing(number: i32) -> Option<KeyScheme> {
    match SigningKeySpec::try_from(number).ok()? {
        SigningKeySpec::EcCurve25519 => Some(KeyScheme::Ed25519),
        SigningKeySpec::EcP256 => Some(KeyScheme::P256),
        SigningKeySpec::EcP384 => Some(KeyScheme::P384),
        SigningKeySpec::EcSecp256k1 => Some(KeyScheme::Secp256k1),
        SigningKeySpec::MlDsa65 => Some(KeyScheme::MlDsa65),
        SigningKeySpec::Unspecified => None,
    }
}

/// The scheme of an encryption key as the wire has it.
pub fn scheme_of_encryption(number: i32) -> Option<KeyScheme> {
    match EncryptionKeySpec::try_from(number).ok()? {
        EncryptionKeySpec::EcP256 => Some(KeyScheme::EciesP256),
        EncryptionKeySpec::Rsa2048 => Some(KeyScheme::Rsa2048),
        EncryptionKeySpec::Unspecified => None,
    }
}

/// The wire's number of a scheme of signing keys.
pub fn signing_number(scheme: KeyScheme) -> i32 {
    let spec = match scheme {
        KeyScheme::Ed25519 => SigningKeySpec::EcCurve25519,
        KeyScheme::P256 => SigningKeySpec::EcP256,
        KeyScheme::P384 => SigningKeySpec::EcP384,
        KeyScheme::Secp256k1 => SigningKeySpec::EcSecp256k1,
        KeyScheme::MlDsa65 => SigningKeySpec::MlDsa65,
        KeyScheme::Rsa2048 | KeyScheme::EciesP256 => SigningKeySpec::Unspecified,
    };
    spec.into()
}

/// The wire's number of a scheme of encryption keys.
pub fn encryption_number(scheme: KeyScheme) -> i32 {
    let spec = match scheme {
        KeyScheme::Rsa2048 => EncryptionKeySpec::Rsa2048,
        KeyScheme::EciesP256 => EncryptionKeySpec::EcP256,
        _ => EncryptionKeySpec::Unspecified,
    };
    spec.into()
}

/// The wire's number of how keys of a signing specification sign.
pub fn algorithm_of_signing(specification: i32) -> Option<i32> {
    let (_, algorithm) = form_of(scheme_of_signing(specification)?)?;
    Some(algorithm.into())
}

/// The wire's number of how one encrypts to keys of an encryption specification. The numbers
/// changed when one algorithm was given up, after protocol version 33.
pub fn algorithm_of_encryption(specification: i32, protocol: u32) -> Option<i32> {
    match (scheme_of_encryption(specification)?, protocol) {
        (KeyScheme::EciesP256, ..=33) => Some(2),
        (KeyScheme::EciesP256, _) => Some(1),
        (KeyScheme::Rsa2048, ..=33) => Some(3),
        (KeyScheme::Rsa2048, _) => Some(2),
        _ => None,
    }
}

/// What a signing key may sign, as the wire has it: every key but the namespace's also proves that
/// its owner has it.
pub fn usages_of(usage: KeyUsage) -> Vec<i32> {
    let all: &[SigningKeyUsage] = match usage {
        KeyUsage::Namespace => &[SigningKeyUsage::Namespace],
        KeyUsage::SequencerAuthentication => {
            &[SigningKeyUsage::SequencerAuthentication, SigningKeyUsage::ProofOfOwnership]
        }
        KeyUsage::Protocol => &[SigningKeyUsage::Protocol, SigningKeyUsage::ProofOfOwnership],
        KeyUsage::Encryption => &[],
    };
    all.iter().map(|usage| (*usage).into()).collect()
}

/// The name of a key.
pub fn fingerprint(scheme: KeyScheme, key: &PublicKeyDer) -> Fingerprint {
    // Ed25519 keys are named by their 32 bytes, whatever form they are stored in.
    match spki::raw(scheme, key) {
        Ok(raw) if scheme == KeyScheme::Ed25519 => fingerprint_of_bytes(raw),
        _ => fingerprint_of_bytes(key.as_bytes()),
    }
}

/// A public key as the wire has it.
pub fn public_key(scheme: KeyScheme, usages: &[i32], key: &[u8]) -> PublicKey {
    let key = match scheme {
        KeyScheme::Rsa2048 | KeyScheme::EciesP256 => {
            Key::EncryptionPublicKey(encryption_key(scheme, key))
        }
        _ => Key::SigningPublicKey(signing_key(scheme, usages, key)),
    };
    PublicKey { key: Some(key) }
}

/// A signing key as the wire has it.
pub fn signing_key(scheme: KeyScheme, usages: &[i32], key: &[u8]) -> SigningPublicKey {
    SigningPublicKey {
        format: CryptoKeyFormat::DerX509SubjectPublicKeyInfo.into(),
        public_key: key.to_vec(),
        usage: usages.to_vec(),
        key_spec: signing_number(scheme),
        ..SigningPublicKey::default()
    }
}

/// An encryption key as the wire has it.
pub fn encryption_key(scheme: KeyScheme, key: &[u8]) -> EncryptionPublicKey {
    EncryptionPublicKey {
        format: CryptoKeyFormat::DerX509SubjectPublicKeyInfo.into(),
        public_key: key.to_vec(),
        key_spec: encryption_number(scheme),
        ..EncryptionPublicKey::default()
    }
}

/// Scheme, bytes and name of a signing key of the wire.
pub fn read_signing(
    key: &SigningPublicKey,
) -> Result<(KeyScheme, PublicKeyDer, Fingerprint), CryptoError> {
    let scheme = scheme_of_signing(key.key_spec).ok_or(CryptoError::UnknownKey)?;
    let malformed = |_| CryptoError::Malformed(scheme);
    let der = match CryptoKeyFormat::try_from(key.format) {
        Ok(CryptoKeyFormat::DerX509SubjectPublicKeyInfo | CryptoKeyFormat::Der) => {
            spki::parse(scheme, &key.public_key).map_err(malformed)?
        }
        Ok(CryptoKeyFormat::Raw) if scheme == KeyScheme::Ed25519 => {
            spki::compose(scheme, &key.public_key).map_err(malformed)?
        }
        _ => return Err(CryptoError::UnknownKey),
    };
    let name = fingerprint(scheme, &der);
    Ok((scheme, der, name))
}

/// The scheme and name of any key of the wire.
pub fn read_public(key: &PublicKey) -> Result<(KeyScheme, Fingerprint), CryptoError> {
    match key.key.as_ref().ok_or(CryptoError::NoKey)? {
        Key::SigningPublicKey(key) => {
            let (scheme, _, name) = read_signing(key)?;
            Ok((scheme, name))
        }
        Key::EncryptionPublicKey(key) => {
            let scheme = scheme_of_encryption(key.key_spec).ok_or(CryptoError::UnknownKey)?;
            let der = match scheme {
                KeyScheme::Rsa2048 => spki::parse(scheme, &key.public_key),
                // The DER is that of a P-256 key.
                _ => spki::parse(KeyScheme::P256, &key.public_key),
            };
            let der = der.map_err(|_| CryptoError::Malformed(scheme))?;
            Ok((scheme, fingerprint_of_bytes(der.as_bytes())))
        }
    }
}

/// A signature as the wire has it.
pub fn signature(scheme: KeyScheme, signed_by: &str, bytes: &[u8]) -> Option<Signature> {
    let (format, algorithm) = form_of(scheme)?;
    Some(Signature {
        format: format.into(),
        signature: bytes.to_vec(),
        signed_by: signed_by.to_owned(),
        signing_algorithm_spec: algorithm.into(),
        signature_delegation: None,
    })
}

/// Verifies the signature of a hash.
pub fn verify(
    key: &SigningPublicKey,
    hash: &Multihash,
    signature: &Signature,
) -> Result<(), CryptoError> {
    let (scheme, der, name) = read_signing(key)?;
    let (format, algorithm) = form_of(scheme).ok_or(CryptoError::UnknownKey)?;
    let is_formed = signature.format == i32::from(format)
        && signature.signing_algorithm_spec == i32::from(algorithm)
        && signature.signature_delegation.is_none();
    if !is_formed {
        return Err(CryptoError::Algorithm(name.to_string()));
    }
    let algorithm: &'static dyn VerificationAlgorithm = match scheme {
        KeyScheme::Ed25519 => &ED25519,
        KeyScheme::P256 => &ECDSA_P256_SHA256_ASN1,
        KeyScheme::P384 => &ECDSA_P384_SHA384_ASN1,
        KeyScheme::Secp256k1 => &ECDSA_P256K1_SHA256_ASN1,
        _ => return Err(CryptoError::UnknownKey),
    };
    let raw = spki::raw(scheme, &der).map_err(|_| CryptoError::Malformed(scheme))?;
    UnparsedPublicKey::new(algorithm, raw)
        .verify(hash.as_bytes(), &signature.signature)
        .map_err(|_| CryptoError::Signature(name.to_string()))
}

fn form_of(scheme: KeyScheme) -> Option<(SignatureFormat, SigningAlgorithmSpec)> {
    match scheme {
        KeyScheme::Ed25519 => Some((SignatureFormat::Concat, SigningAlgorithmSpec::Ed25519)),
        KeyScheme::P256 | KeyScheme::Secp256k1 => {
            Some((SignatureFormat::Der, SigningAlgorithmSpec::EcDsaSha256))
        }
        KeyScheme::P384 => Some((SignatureFormat::Der, SigningAlgorithmSpec::EcDsaSha384)),
        KeyScheme::Rsa2048 | KeyScheme::MlDsa65 | KeyScheme::EciesP256 => None,
    }
}
