//! Keys that sign enclaves: RSA-3072 with exponent 3.
//!
//! They name who built an enclave and authorise nothing: keepers accept measurements, never
//! signers.

use heirloom_model::digest::sha256;
use heirloom_model::measurement::MrSigner;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rsa::rand_core::{CryptoRng, Error, RngCore};
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, RsaPrivateKey};
use zeroize::Zeroizing;

use crate::sigstruct::{EXPONENT_VALUE, KEY_BYTES, padding};

/// A key that signs enclaves. Wiped when dropped; it does not print, clone or compare.
pub struct EnclaveSigningKey(RsaPrivateKey);

/// Why a signing key was not made or read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SigningKeyError {
    /// Not the PKCS#8 PEM of an RSA key.
    #[error("the enclave signing key is not an RSA key in PKCS#8 PEM: {0}")]
    NotPkcs8(String),
    /// An RSA key of another kind.
    #[error("the enclave signing key is not RSA-3072 with exponent 3")]
    WrongKind,
    /// No key was found.
    #[error("an RSA key could not be generated: {0}")]
    NotGenerated(String),
}

impl EnclaveSigningKey {
    /// Makes a key from random bytes. Takes seconds.
    pub fn generate(random: &mut dyn FnMut(&mut [u8])) -> Result<Self, SigningKeyError> {
        let exponent = BigUint::from(EXPONENT_VALUE);
        RsaPrivateKey::new_with_exp(&mut Source(random), KEY_BYTES * 8, &exponent)
            .map(Self)
            .map_err(|error| SigningKeyError::NotGenerated(error.to_string()))
    }

    /// Reads a key from PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, SigningKeyError> {
        let key = RsaPrivateKey::from_pkcs8_pem(pem)
            .map_err(|error| SigningKeyError::NotPkcs8(error.to_string()))?;
        if key.n().bits() != KEY_BYTES * 8 || *key.e() != BigUint::from(EXPONENT_VALUE) {
            return Err(SigningKeyError::WrongKind);
        }
        Ok(Self(key))
    }

    /// The key as PKCS#8 PEM, to store it.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.0.to_pkcs8_pem(LineEnding::LF).expect("encoding into memory cannot fail")
    }

    /// MRSIGNER: SHA-256 of the modulus, little-endian.
    pub fn signer(&self) -> MrSigner {
        let mut modulus = self.0.n().to_bytes_le();
        modulus.resize(KEY_BYTES, 0);
        MrSigner::new(sha256(&[&modulus]))
    }

    /// The signature over a digest, as a number.
    pub(crate) fn sign_digest(&self, digest: &[u8; 32]) -> BigUint {
        let signature = self.0.sign(padding(), digest);
        BigUint::from_bytes_be(&signature.expect("an RSA-3072 key has room for a digest"))
    }

    pub(crate) fn modulus(&self) -> &BigUint {
        self.0.n()
    }
}

/// Gives the RSA crate the random bytes of the caller.
struct Source<'a>(&'a mut dyn FnMut(&mut [u8]));

impl RngCore for Source<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        (self.0)(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Source<'_> {}
