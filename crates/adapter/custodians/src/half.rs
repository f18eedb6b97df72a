//! Private keys in the memory of this process: those of the software custodian, and those that
//! are on their way into another one.

use aws_lc_rs::encoding::{
    AsBigEndian, AsDer, Curve25519SeedBin, EcPrivateKeyBin, Pkcs8V1Der, PublicKeyX509Der,
};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256K1_SHA256_ASN1_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::CustodianError;
use heirloom_participant::custodian::key::{KeyScheme, PrivateKey, PublicKeyDer};
use heirloom_participant::custodian::spki;

/// The longest PKCS#8 that is read: RSA-2048 has 1.2 kB.
const PKCS8_BYTES_MAX: usize = 4_096;
/// The bits of an RSA key.
const RSA_BITS: usize = 2_048;

/// A private key and what it does. The types of the library inside wipe themselves.
pub(crate) struct PrivateHalf {
    scheme: KeyScheme,
    inner: Inner,
}

enum Inner {
    Ed25519(Ed25519KeyPair),
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(PrivateDecryptingKey),
}

impl PrivateHalf {
    pub(crate) fn generate(scheme: KeyScheme) -> Result<Self, CustodianError> {
        let inner = match scheme {
            KeyScheme::Ed25519 => Ed25519KeyPair::generate().map(Inner::Ed25519),
            KeyScheme::Rsa2048 => PrivateDecryptingKey::generate(KeySize::Rsa2048).map(Inner::Rsa),
            _ => EcdsaKeyPair::generate(curve(scheme)?).map(|pair| Inner::Ecdsa(Box::new(pair))),
        };
        Ok(Self { scheme, inner: inner.map_err(|_: Unspecified| broken("making a key failed"))? })
    }

    /// Takes a key of exactly this scheme.
    pub(crate) fn parse(scheme: KeyScheme, private: &PrivateKey) -> Result<Self, CustodianError> {
        private.expose_pkcs8(|der| Self::parse_der(scheme, der))
    }

    fn parse_der(scheme: KeyScheme, der: &[u8]) -> Result<Self, CustodianError> {
        if der.len() > PKCS8_BYTES_MAX {
            let (what, limit) = ("the private key", PKCS8_BYTES_MAX);
            return Err(CustodianError::TooLong { what, found: der.len(), limit });
        }
        let inner = match scheme {
            KeyScheme::Ed25519 => Ed25519KeyPair::from_pkcs8(der).map(Inner::Ed25519),
            KeyScheme::Rsa2048 => PrivateDecryptingKey::from_pkcs8(der).map(Inner::Rsa),
            _ => EcdsaKeyPair::from_pkcs8(curve(scheme)?, der)
                .map(|pair| Inner::Ecdsa(Box::new(pair))),
        };
        let refused = |_: KeyRejected| broken(&format!("it is no PKCS#8 key of scheme {scheme}"));
        let half = Self { scheme, inner: inner.map_err(refused)? };
        if matches!(&half.inner, Inner::Rsa(key) if key.key_size_bits() != RSA_BITS) {
            return Err(broken("the RSA key does not have 2048 bits"));
        }
        Ok(half)
    }

    /// The DER of the PKCS#8 `PrivateKeyInfo`, without the public half where the version allows it.
    pub(crate) fn pkcs8(&self) -> Result<SecretBytes, CustodianError> {
        let failed = |_: Unspecified| broken("it cannot be encoded");
        let bytes = match &self.inner {
            Inner::Ed25519(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Inner::Ecdsa(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Inner::Rsa(key) => {
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
                der.as_ref().to_vec()
            }
        };
        Ok(SecretBytes::new(bytes))
    }

    /// The scalar of a curve or the seed of Ed25519. Nothing for RSA.
    pub(crate) fn scalar(&self) -> Result<Option<SecretBytes>, CustodianError> {
        let failed = |_: Unspecified| broken("its scalar cannot be read");
        let bytes = match &self.inner {
            Inner::Ed25519(pair) => {
                let seed = pair.seed().map_err(failed)?;
                let bytes: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(failed)?;
                bytes.as_ref().to_vec()
            }
            Inner::Ecdsa(pair) => {
                let bytes: EcPrivateKeyBin<'_> =
                    pair.private_key().as_be_bytes().map_err(failed)?;
                bytes.as_ref().to_vec()
            }
            Inner::Rsa(_) => return Ok(None),
        };
        Ok(Some(SecretBytes::new(bytes)))
    }

    pub(crate) fn public(&self) -> Result<PublicKeyDer, CustodianError> {
        let public = match &self.inner {
            Inner::Ed25519(pair) => spki::compose(self.scheme, pair.public_key().as_ref()),
            Inner::Ecdsa(pair) => spki::compose(self.scheme, pair.public_key().as_ref()),
            Inner::Rsa(key) => {
                let der: PublicKeyX509Der<'_> =
                    key.public_key().as_der().map_err(|_| broken("its public half"))?;
                spki::parse(self.scheme, der.as_ref())
            }
        };
        public.map_err(|error| broken(&error.to_string()))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CustodianError> {
        let failed = |_: Unspecified| broken("it does not sign");
        match &self.inner {
            Inner::Ed25519(pair) => Ok(pair.try_sign(message).map_err(failed)?.as_ref().to_vec()),
            Inner::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Inner::Rsa(_) => Err(broken("it does not sign")),
        }
    }

    /// The plaintext. Nothing if the ciphertext was not made for this key.
    pub(crate) fn decrypt(&self, ciphertext: &[u8]) -> Option<SecretBytes> {
        let Inner::Rsa(key) = &self.inner else { return None };
        let key = OaepPrivateDecryptingKey::new(key.clone()).ok()?;
        let mut buffer = vec![0; key.min_output_size()];
        let plaintext = key
            .decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut buffer, None)
            .map(|bytes| bytes.len());
        let buffer = SecretBytes::new(buffer);
        let length = plaintext.ok()?;
        Some(SecretBytes::new(buffer.expose(|bytes| bytes[..length].to_vec())))
    }
}

fn curve(scheme: KeyScheme) -> Result<&'static EcdsaSigningAlgorithm, CustodianError> {
    match scheme {
        KeyScheme::P256 => Ok(&ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyScheme::P384 => Ok(&ECDSA_P384_SHA384_ASN1_SIGNING),
        KeyScheme::Secp256k1 => Ok(&ECDSA_P256K1_SHA256_ASN1_SIGNING),
        KeyScheme::Ed25519 | KeyScheme::Rsa2048 | KeyScheme::MlDsa65 | KeyScheme::EciesP256 => {
            Err(broken(&format!("{scheme} is no curve of ECDSA here")))
        }
    }
}

fn broken(why: &str) -> CustodianError {
    CustodianError::Corrupt { what: "a private key".to_owned(), why: why.to_owned() }
}
