//! ECDSA P-256 keys of the emulated manufacturer and its machines.
//!
//! They are derived from secrets and sign deterministically (RFC 6979), so that a simulated world
//! is the same world each time.

use heirloom_model::context;
use heirloom_model::digest::sha256;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use zeroize::Zeroize;

/// A P-256 signing key. Wiped when dropped; it does not print, clone or compare.
pub(crate) struct EcdsaKey {
    key: SigningKey,
    /// The public point, uncompressed, as in SEC 1.
    point: [u8; 65],
}

impl EcdsaKey {
    /// The key that belongs to a secret and a purpose.
    pub(crate) fn derive(secret: &[u8; 32], purpose: &str) -> Self {
        // All but one in 2^32 digests are scalars of the curve.
        let key = (0..=u8::MAX).find_map(|attempt| {
            let mut scalar = derive(secret, purpose, &[attempt]);
            let key = SigningKey::from_slice(&scalar).ok();
            scalar.zeroize();
            key
        });
        let key = key.expect("256 digests in a row cannot all miss the curve's order");
        let mut point = [0; 65];
        point.copy_from_slice(key.verifying_key().to_sec1_point(false).as_bytes());
        Self { key, point }
    }

    /// r and s, each 32 bytes, big-endian.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.key.sign(message);
        signature.to_bytes().into()
    }

    /// x and y, each 32 bytes, big-endian.
    pub(crate) fn public_raw(&self) -> [u8; 64] {
        let (_, coordinates) = self.point.split_at(1);
        <[u8; 64]>::try_from(coordinates).expect("a point has two coordinates of 32 bytes")
    }
}

/// 32 secret bytes that belong to a secret, a purpose and a detail.
pub(crate) fn derive(secret: &[u8; 32], purpose: &str, detail: &[u8]) -> [u8; 32] {
    sha256(&[context::EMULATED_KEY, secret, purpose.as_bytes(), b"\0", detail])
}

impl rcgen::PublicKeyData for EcdsaKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for EcdsaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Signature = self.key.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// A public key without its private half, to be certified.
pub(crate) struct PublicPoint([u8; 65]);

impl PublicPoint {
    pub(crate) fn of(coordinates: &[u8; 64]) -> Self {
        let mut point = [4; 65];
        let (_, tail) = point.split_at_mut(1);
        tail.copy_from_slice(coordinates);
        Self(point)
    }
}

impl rcgen::PublicKeyData for PublicPoint {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
