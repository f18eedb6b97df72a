//! Ed25519 keys and signatures (RFC 8032).
//!
//! [`PublicKey::verify_bytes`] is the only place in the workspace that checks a signature of a
//! statement. It answers with an error or nothing; the crates that verify statements turn that
//! into a value.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use minicbor::{Decode, Encode};

use crate::fixed_bytes;
use crate::secret::Secret;

fixed_bytes! {
    /// An Ed25519 public key.
    PublicKey[32];
    /// An Ed25519 signature.
    Signature[64];
}

/// The signature does not belong to these bytes and this key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the signature by {key} does not verify")]
pub struct BadSignature {
    /// The key that was said to have signed.
    pub key: PublicKey,
}

/// One signature and the key that made it.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeySignature {
    /// The signer.
    #[n(0)]
    pub key: PublicKey,
    /// What it made.
    #[n(1)]
    pub signature: Signature,
}

impl PublicKey {
    /// Succeeds if `signature` is this key's signature over exactly `message`.
    pub fn verify_bytes(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        UnparsedPublicKey::new(&ED25519, self.as_bytes())
            .verify(message, signature.as_bytes())
            .map_err(|_| BadSignature { key: *self })
    }
}

/// An Ed25519 signing key. Wiped when dropped; it does not print, clone or compare.
pub struct SigningKey {
    seed: Secret<32>,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A new key, out of 32 random bytes.
    pub fn generate(random: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        random(seed.as_mut_slice());
        Self::from_seed(Secret::new(*seed))
    }

    /// The key of a 32-byte seed (RFC 8032 §5.1.5).
    pub fn from_seed(seed: Secret<32>) -> Self {
        let pair = seed
            .expose(|bytes| Ed25519KeyPair::from_seed_unchecked(bytes))
            .expect("every 32-byte string is an Ed25519 seed");
        Self { seed, pair }
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        let bytes = <[u8; 32]>::try_from(self.pair.public_key().as_ref())
            .expect("an Ed25519 public key has 32 bytes");
        PublicKey::new(bytes)
    }

    /// Signs exactly these bytes.
    pub fn sign(&self, message: &[u8]) -> KeySignature {
        let bytes = <[u8; 64]>::try_from(self.pair.sign(message).as_ref())
            .expect("an Ed25519 signature has 64 bytes");
        KeySignature { key: self.public_key(), signature: Signature::new(bytes) }
    }

    /// Lends the seed, to store it.
    pub fn expose_seed<R>(&self, use_seed: impl FnOnce(&[u8; 32]) -> R) -> R {
        self.seed.expose(use_seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1, test 2.
    #[test]
    fn signatures_match_the_standard() {
        let seed = crate::digest::parse_hex(
            "seed",
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        )
        .unwrap();
        let key = SigningKey::from_seed(Secret::new(seed));
        let made = key.sign(&[0x72]);
        assert_eq!(
            made.key.to_string(),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        assert!(made.signature.to_string().starts_with("92a009a9f0d4cab8720e820b5f642540"));
        assert_eq!(made.key.verify_bytes(&[0x72], &made.signature), Ok(()));
        assert!(made.key.verify_bytes(&[0x73], &made.signature).is_err());
    }
}
