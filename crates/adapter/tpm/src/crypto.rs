//! The key derivations and the cipher of TPMs (TPM 2.0 part 1, 11.4.10 and annex C).

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, digest, hmac, rand};
use zeroize::Zeroizing;

use crate::public::Point;
use crate::structure::ALG_SHA256;
use crate::wire::Writer;

/// Bytes of a SHA-256 digest, and of everything derived here.
pub(crate) const DIGEST: usize = 32;
const AES_KEY: usize = 16;

/// What is derived, which is mostly secret.
pub(crate) type Derived = Zeroizing<[u8; DIGEST]>;

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

pub(crate) fn equal(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// `KDFa` with SHA-256 for 256 bits, which are one block of it.
pub(crate) fn kdfa(key: &[u8], label: &str, one: &[u8], other: &[u8]) -> Derived {
    let counter = 1_u32.to_be_bytes();
    let bits = 256_u32.to_be_bytes();
    Zeroizing::new(hmac(key, &[&counter, label.as_bytes(), &[0], one, other, &bits]))
}

/// `KDFe` with SHA-256 for 256 bits.
pub(crate) fn kdfe(shared: &[u8], label: &str, one: &[u8], other: &[u8]) -> Derived {
    let counter = 1_u32.to_be_bytes();
    Zeroizing::new(sha256(&[&counter, shared, label.as_bytes(), &[0], one, other]))
}

/// AES-128 in CFB mode, forwards. Key and first block of the key stream are one derived value.
pub(crate) fn encrypt(derived: &Derived, bytes: &mut [u8]) {
    let (key, start) = halves(derived);
    let context = EncryptionContext::Iv128(FixedLength::from(start));
    EncryptingKey::cfb128(key)
        .and_then(|key| key.less_safe_encrypt(bytes, context))
        .expect("CFB takes any length");
}

/// AES-128 in CFB mode, backwards.
pub(crate) fn decrypt(derived: &Derived, bytes: &mut [u8]) {
    let (key, start) = halves(derived);
    let context = DecryptionContext::Iv128(FixedLength::from(start));
    DecryptingKey::cfb128(key)
        .and_then(|key| key.decrypt(bytes, context).map(|_| ()))
        .expect("CFB takes any length");
}

fn halves(derived: &Derived) -> (UnboundCipherKey, [u8; AES_KEY]) {
    let (key, start) = derived.split_at(AES_KEY);
    let key = UnboundCipherKey::new(&AES_128, key).expect("the first half is an AES-128 key");
    (key, start.try_into().expect("the second half is one block"))
}

/// A secret shared with the owner of a P-256 key: the secret, and the point that lets the owner
/// derive it too (TPM 2.0 part 1, C.6.1). None if the key is no point of the curve.
pub(crate) fn share(peer: &Point, label: &str) -> Option<(Derived, Vec<u8>)> {
    let own = PrivateKey::generate(&ECDH_P256).expect("P-256 keys can be made");
    let public = own.compute_public_key().expect("a private key has a public key");
    let own_point = Point::from_sec1(public.as_ref()).expect("it is an uncompressed point");
    let peer_key = UnparsedPublicKey::new(&ECDH_P256, peer.to_sec1());
    let secret = agreement::agree(&own, peer_key, (), |shared| {
        Ok(kdfe(shared, label, &own_point.x, &peer.x))
    });
    let point = Writer::new().sized(&own_point.x).sized(&own_point.y).to_vec();
    secret.ok().map(|secret| (secret, point))
}

/// The algorithm of a digest, and the digest (`TPMT_HA`).
pub(crate) fn write_digest(writer: Writer, digest: &[u8; DIGEST]) -> Writer {
    writer.u16(ALG_SHA256).bytes(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cipher_goes_both_ways_for_every_length() {
        let key = kdfa(b"key", "CFB", b"one", b"other");
        for length in [0, 1, 15, 16, 17, 32, 100] {
            let mut bytes = vec![7; length];
            encrypt(&key, &mut bytes);
            assert!(length < 8 || bytes != vec![7; length]);
            decrypt(&key, &mut bytes);
            assert_eq!(bytes, vec![7; length]);
        }
    }

    #[test]
    fn every_input_of_a_derivation_counts() {
        let inputs = [("k", "l", "a", "b"), ("K", "l", "a", "b"), ("k", "L", "a", "b")];
        let more = [("k", "l", "A", "b"), ("k", "l", "a", "B")];
        let derived: std::collections::BTreeSet<_> = inputs
            .iter()
            .chain(&more)
            .flat_map(|(key, label, one, other)| {
                let (key, one, other) = (key.as_bytes(), one.as_bytes(), other.as_bytes());
                [*kdfa(key, label, one, other), *kdfe(key, label, one, other)]
            })
            .collect();
        assert_eq!(derived.len(), 10);
    }
}
