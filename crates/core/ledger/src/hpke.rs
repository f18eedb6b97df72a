//! One message to one key: HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256 and AES-128-GCM, one message for each encapsulated key.
//!
//! The ephemeral key is an argument: this crate draws no random numbers.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// Bytes of an X25519 key, of either half.
pub(crate) const KEY_BYTES: usize = 32;
/// Bytes by which a sealed message is longer, after the encapsulated key.
pub(crate) const TAG_BYTES: usize = 16;

/// RFC 9180 §4.1: "KEM" and the number of DHKEM(X25519, HKDF-SHA256).
const KEM_SUITE: &[u8] = b"KEM\x00\x20";
/// RFC 9180 §5.1: "HPKE" and the numbers of the KEM, the KDF and the AEAD.
const HPKE_SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x01";
const MODE_BASE: u8 = 0;

type Block = Zeroizing<[u8; 32]>;

/// The message cannot be opened with this key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotForThisKey;

/// The public half of a secret.
pub(crate) fn public_of(secret: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let public = private(secret).compute_public_key();
    let public = public.expect("every X25519 private key has a public key");
    <[u8; KEY_BYTES]>::try_from(public.as_ref()).expect("an X25519 public key has 32 bytes")
}

/// Seals a message. Returns the encapsulated key and the sealed message.
pub(crate) fn seal(
    recipient: &[u8; KEY_BYTES],
    ephemeral: &[u8; KEY_BYTES],
    info: &[u8],
    aad: &[u8],
    message: &[u8],
) -> Result<([u8; KEY_BYTES], Vec<u8>), NotForThisKey> {
    let encapsulated = public_of(ephemeral);
    let shared = shared_secret(ephemeral, recipient, &encapsulated, recipient)?;
    let (key, nonce) = schedule(&shared, info);
    let mut sealed = message.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed).map_err(|_| NotForThisKey)?;
    Ok((encapsulated, sealed))
}

/// Opens a message.
pub(crate) fn open(
    secret: &[u8; KEY_BYTES],
    encapsulated: &[u8; KEY_BYTES],
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, NotForThisKey> {
    let shared = shared_secret(secret, encapsulated, encapsulated, &public_of(secret))?;
    let (key, nonce) = schedule(&shared, info);
    let mut message = Zeroizing::new(sealed.to_vec());
    let length =
        key.open_in_place(nonce, Aad::from(aad), &mut message).map_err(|_| NotForThisKey)?.len();
    message.truncate(length);
    Ok(message)
}

fn private(secret: &[u8; KEY_BYTES]) -> PrivateKey {
    PrivateKey::from_private_key(&X25519, secret)
        .expect("every 32-byte string is an X25519 private key")
}

/// RFC 9180 §4.1: `ExtractAndExpand(DH(…), enc || pkR)`.
fn shared_secret(
    secret: &[u8; KEY_BYTES],
    peer: &[u8; KEY_BYTES],
    encapsulated: &[u8; KEY_BYTES],
    recipient: &[u8; KEY_BYTES],
) -> Result<Block, NotForThisKey> {
    let peer = UnparsedPublicKey::new(&X25519, peer);
    let context = [encapsulated.as_slice(), recipient].concat();
    // An all-zero result, which a peer of small order forces, is an error (§7.1.4).
    agree(&private(secret), peer, NotForThisKey, |dh| {
        let prk = extract(KEM_SUITE, &[], b"eae_prk", dh);
        Ok(expand(&prk, KEM_SUITE, b"shared_secret", &context, 32))
    })
}

/// RFC 9180 §5.1 in base mode. One message follows, so its nonce is the base nonce.
fn schedule(shared: &Block, info: &[u8]) -> (LessSafeKey, Nonce) {
    let psk_id_hash = extract(HPKE_SUITE, &[], b"psk_id_hash", &[]);
    let info_hash = extract(HPKE_SUITE, &[], b"info_hash", info);
    let context = [&[MODE_BASE], psk_id_hash.as_slice(), info_hash.as_slice()].concat();
    let secret = extract(HPKE_SUITE, shared.as_slice(), b"secret", &[]);
    let key = expand(&secret, HPKE_SUITE, b"key", &context, 16);
    let nonce = expand(&secret, HPKE_SUITE, b"base_nonce", &context, 12);
    let key = UnboundKey::new(&AES_128_GCM, key.split_at(16).0).expect("the key has 16 bytes");
    let nonce = Nonce::try_assume_unique_for_key(nonce.split_at(12).0);
    (LessSafeKey::new(key), nonce.expect("the nonce has 12 bytes"))
}

/// RFC 9180 §4: `LabeledExtract`.
fn extract(suite: &[u8], salt: &[u8], label: &[u8], input: &[u8]) -> Block {
    mac(salt, &[b"HPKE-v1", suite, label, input])
}

/// RFC 9180 §4: `LabeledExpand`, of at most one block (RFC 5869 §2.3).
fn expand(prk: &Block, suite: &[u8], label: &[u8], info: &[u8], length: u16) -> Block {
    mac(prk.as_slice(), &[&length.to_be_bytes(), b"HPKE-v1", suite, label, info, &[1]])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Block {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(context.sign().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        heirloom_model::digest::parse_hex("test vector", text).unwrap()
    }

    /// RFC 9180, A.1.1: the first message in base mode.
    #[test]
    fn messages_match_the_standard() {
        let info = bytes::<20>("4f6465206f6e2061204772656369616e2055726e");
        let ephemeral = bytes("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736");
        let secret = bytes("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8");
        let message = b"Beauty is truth, truth beauty";
        let aad = b"Count-0";
        let (encapsulated, sealed) =
            seal(&public_of(&secret), &ephemeral, &info, aad, message).unwrap();
        assert_eq!(
            hex::encode(encapsulated),
            "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
        );
        assert_eq!(
            hex::encode(&sealed),
            "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a9\
             6d8770ac83d07bea87e13c512a"
        );
        let opened = open(&secret, &encapsulated, &info, aad, &sealed).unwrap();
        assert_eq!(opened.as_slice(), message);
        assert!(open(&secret, &encapsulated, &info, b"Count-1", &sealed).is_err());
        assert!(open(&secret, &encapsulated, b"", aad, &sealed).is_err());
        assert!(open(&ephemeral, &encapsulated, &info, aad, &sealed).is_err());
        assert!(open(&secret, &[0; 32], &info, aad, &sealed).is_err(), "small order");
    }
}
