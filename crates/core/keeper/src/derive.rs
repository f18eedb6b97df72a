//! Application keys, derived from one generation of a keyring.
//!
//! Every key is KMAC256 of a master secret over a canonical label that names domain, application,
//! key, kind, and generation or epoch, under a customization string of its own. Two keys that
//! differ in any of these have nothing in common.
//!
//! Keys of a curve of prime order take 48 bytes and reduce them (FIPS 186-5, A.2.1), so that the
//! bias is below 2^-128.
//!
//! **What ephemeral keys are not.** They are derived from a master secret and the number of an
//! epoch. A keeper serves them for a few epochs only, so an application that loses one loses it
//! for everybody who asks later. But whoever has the keyring can derive all of them again, those
//! of the past too: they give no forward secrecy against a compromise of the keyring.

use aws_lc_rs::agreement::{self, X25519};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use heirloom_model::context;
use heirloom_model::counter::{Epoch, Generation};
use heirloom_model::digest::sha256;
use heirloom_model::fixed_bytes;
use heirloom_model::identifier::{ApplicationId, DomainId, KeyId};
use heirloom_model::protocol::{KeyKind, PublicPart};
use heirloom_model::secret::Secret;
use k256::elliptic_curve::bigint::{NonZero, U384};
use minicbor::Encode;
use zeroize::{Zeroize, Zeroizing};

use crate::kmac::kmac256;

fixed_bytes! {
    /// Digest of a derived key, so that keys can be compared without being shown.
    KeyDigest[32];
}

/// Which key to derive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyName {
    /// Whose keyring.
    pub domain: DomainId,
    /// Whose key.
    pub application: ApplicationId,
    /// Its name.
    pub key: KeyId,
    /// Its kind.
    pub kind: KeyKind,
    /// From when.
    pub period: Period,
}

/// From when a key is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Period {
    /// A long-term key of this generation.
    Generation(Generation),
    /// An ephemeral key of this epoch.
    Epoch(Epoch),
}

/// A derived key: 32 secret bytes, and the public half for kinds that have one.
pub struct DerivedKey {
    /// The secret half.
    pub secret: Secret<32>,
    /// The public half.
    pub public: Option<PublicPart>,
}

/// What is hashed for a key.
#[derive(Encode)]
struct Label<'a> {
    #[n(0)]
    domain: &'a DomainId,
    #[n(1)]
    application: &'a ApplicationId,
    #[n(2)]
    key: &'a KeyId,
    #[n(3)]
    kind: KeyKind,
    #[n(4)]
    number: u64,
}

/// Derives a key from the master secret of a generation.
pub fn derive(master: &[u8; 32], name: &KeyName) -> DerivedKey {
    let (custom, number) = match name.period {
        Period::Generation(generation) => (context::DERIVE, generation.0),
        Period::Epoch(epoch) => (context::DERIVE_EPHEMERAL, epoch.0),
    };
    let label = minicbor::to_vec(Label {
        domain: &name.domain,
        application: &name.application,
        key: &name.key,
        kind: name.kind,
        number,
    })
    .expect("encoding into memory cannot fail");
    match name.kind {
        KeyKind::Symmetric => DerivedKey {
            secret: Secret::new(*kmac256::<32>(master, &[&label], custom)),
            public: None,
        },
        KeyKind::X25519 => with_public(&kmac256::<32>(master, &[&label], custom), x25519_public),
        KeyKind::Ed25519 => with_public(&kmac256::<32>(master, &[&label], custom), ed25519_public),
        KeyKind::P256 => {
            let wide = kmac256::<48>(master, &[&label], custom);
            with_public(&reduce(&wide, P256_ORDER_MINUS_ONE), p256_public)
        }
        KeyKind::Secp256k1 => {
            let wide = kmac256::<48>(master, &[&label], custom);
            with_public(&reduce(&wide, SECP256K1_ORDER_MINUS_ONE), secp256k1_public)
        }
    }
}

/// A digest by which two parties can compare a key without showing it.
pub fn key_check(secret: &[u8; 32]) -> KeyDigest {
    KeyDigest::new(sha256(&[context::KEY_CHECK, secret]))
}

fn with_public(secret: &[u8; 32], public: fn(&[u8; 32]) -> Vec<u8>) -> DerivedKey {
    let public = Some(PublicPart(public(secret)));
    DerivedKey { secret: Secret::new(*secret), public }
}

fn x25519_public(secret: &[u8; 32]) -> Vec<u8> {
    agreement::PrivateKey::from_private_key(&X25519, secret)
        .expect("every 32-byte string is an X25519 private key")
        .compute_public_key()
        .expect("every X25519 private key has a public key")
        .as_ref()
        .to_vec()
}

fn ed25519_public(secret: &[u8; 32]) -> Vec<u8> {
    Ed25519KeyPair::from_seed_unchecked(secret)
        .expect("every 32-byte string is an Ed25519 seed")
        .public_key()
        .as_ref()
        .to_vec()
}

fn p256_public(secret: &[u8; 32]) -> Vec<u8> {
    let key = p256::SecretKey::from_slice(secret).expect("a reduced scalar is in range");
    p256::CompressedPoint::from(key.public_key()).to_vec()
}

fn secp256k1_public(secret: &[u8; 32]) -> Vec<u8> {
    let key = k256::SecretKey::from_slice(secret).expect("a reduced scalar is in range");
    k256::CompressedPoint::from(key.public_key()).to_vec()
}

/// The order of P-256 less one (FIPS 186-5, 3.2.1.3 of SP 800-186).
const P256_ORDER_MINUS_ONE: &str = "00000000000000000000000000000000\
     ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550";

/// The order of secp256k1 less one (SEC 2, 2.4.1).
const SECP256K1_ORDER_MINUS_ONE: &str = "00000000000000000000000000000000\
     fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";

/// `(wide mod (n - 1)) + 1`, in time that does not depend on `wide`.
fn reduce(wide: &[u8; 48], order_minus_one: &str) -> Zeroizing<[u8; 32]> {
    let modulus = NonZero::new(U384::from_be_hex(order_minus_one))
        .expect("the order of a curve is larger than one");
    let mut number = U384::from_be_slice(wide);
    let mut scalar = number.rem(&modulus).wrapping_add(&U384::ONE);
    number.zeroize();
    let mut bytes = Zeroizing::new([0; 48]);
    bytes.copy_from_slice(scalar.to_be_bytes().as_ref());
    scalar.zeroize();
    let mut low = Zeroizing::new([0; 32]);
    low.copy_from_slice(bytes.split_at(16).1);
    low
}

#[cfg(test)]
mod tests;
