//! `TPM2_MakeCredential` without a TPM (TPM 2.0 part 1, 24, and annexes B.10.4 and C.6.4).
//!
//! A credential is a secret that only one TPM opens, and only if it holds a key of a given name
//! too: its answer shows that endorsement key and attestation key live together.

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use heirloom_model::digest::sha256;
use zeroize::Zeroizing;

use super::error::TpmError;
use super::key::Key;
use super::public::{EkPublic, Name};

/// The digest of the endorsement key's name algorithm limits what it decrypts.
const SECRET_BYTES_MAX: usize = 32;
/// The label of what is encrypted for an endorsement key, with its final zero.
const IDENTITY: &[u8] = b"IDENTITY\0";

/// Fresh randomness for one credential. It is a secret until the credential is answered.
#[derive(zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct CredentialSeed([u8; 32]);

impl CredentialSeed {
    /// Takes random bytes, which must never be used again.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }
}

/// What `TPM2_ActivateCredential` takes: the contents of its two `TPM2B` structures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// `TPMS_ID_OBJECT`.
    pub id_object: Vec<u8>,
    /// `TPM2B_ENCRYPTED_SECRET`, without its length.
    pub encrypted_secret: Vec<u8>,
}

/// Wraps a secret so that only the endorsement key's TPM opens it, and only together with the
/// attestation key of this name.
///
/// For an RSA endorsement key the padding is random of its own: two calls give two credentials
/// for the same seed.
pub fn make_credential(
    endorsement_key: &EkPublic,
    name: &Name,
    secret: &[u8],
    seed: &CredentialSeed,
) -> Result<Credential, TpmError> {
    if secret.is_empty() || secret.len() > SECRET_BYTES_MAX {
        return Err(TpmError::SecretLength { found: secret.len() });
    }
    let (seed, encrypted_secret) = match &endorsement_key.key {
        Key::Rsa(_) => {
            let encrypted = encrypt(&endorsement_key.spki(), &seed.0)?;
            (Zeroizing::new(seed.0), encrypted)
        }
        Key::P256(point) => agree(point, &seed.0)?,
        Key::P384(_) => return Err(TpmError::Credential),
    };
    let bits = endorsement_key.symmetric_bits;
    let storage = kdfa(&seed, b"STORAGE\0", name.as_bytes(), bits);
    let identity = cfb(&storage, &sized(secret))?;
    let integrity = kdfa(&seed, b"INTEGRITY\0", &[], 256);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &integrity);
    let mac = hmac::sign(&key, &[identity.as_slice(), name.as_bytes()].concat());
    let id_object = [sized(mac.as_ref()).as_slice(), &identity].concat();
    Ok(Credential { id_object, encrypted_secret })
}

/// RSA: the seed itself, by OAEP with SHA-256.
fn encrypt(spki: &[u8], seed: &[u8; 32]) -> Result<Vec<u8>, TpmError> {
    let unusable = |_| TpmError::Credential;
    let key = PublicEncryptingKey::from_der(spki).map_err(|_| TpmError::Credential)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(unusable)?;
    let mut encrypted = vec![0; key.ciphertext_size()];
    let written = key
        .encrypt(&OAEP_SHA256_MGF1SHA256, seed, &mut encrypted, Some(IDENTITY))
        .map_err(unusable)?
        .len();
    encrypted.truncate(written);
    Ok(encrypted)
}

type Agreed = (Zeroizing<[u8; 32]>, Vec<u8>);

/// P-256: the seed is an ephemeral key, and what both derive from the agreed point is the seed of
/// the credential (`KDFe`, TPM 2.0 part 1, 11.4.10.3).
fn agree(point: &[u8; 65], seed: &[u8; 32]) -> Result<Agreed, TpmError> {
    let unusable = |_| TpmError::Credential;
    let ephemeral =
        PrivateKey::from_private_key(&ECDH_P256, seed).map_err(|_| TpmError::Credential)?;
    let public = ephemeral.compute_public_key().map_err(unusable)?;
    let (x, y) = coordinates(public.as_ref()).ok_or(TpmError::Credential)?;
    let (receiver, _) = coordinates(point).ok_or(TpmError::Credential)?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, point);
    let derived = agreement::agree(&ephemeral, peer, TpmError::Credential, |shared| {
        Ok(Zeroizing::new(sha256(&[&1_u32.to_be_bytes(), shared, IDENTITY, x, receiver])))
    })?;
    Ok((derived, [sized(x), sized(y)].concat()))
}

/// x and y of an uncompressed point.
fn coordinates(point: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, coordinates) = point.split_first()?;
    coordinates.split_at_checked(coordinates.len() / 2)
}

/// One block of `KDFa` (TPM 2.0 part 1, 11.4.10.2), which is enough for 256 bits. The label ends with
/// a zero.
fn kdfa(key: &[u8; 32], label: &[u8], context: &[u8], bits: u16) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut block = hmac::Context::with_key(&key);
    block.update(&1_u32.to_be_bytes());
    block.update(label);
    block.update(context);
    block.update(&u32::from(bits).to_be_bytes());
    let bytes = block.sign();
    Zeroizing::new(bytes.as_ref().iter().take(usize::from(bits / 8)).copied().collect())
}

/// AES in CFB mode from a zero vector: the key is used once.
fn cfb(key: &[u8], plain: &[u8]) -> Result<Vec<u8>, TpmError> {
    let unusable = |_| TpmError::Credential;
    let algorithm = if key.len() == 16 { &AES_128 } else { &AES_256 };
    let key = UnboundCipherKey::new(algorithm, key).map_err(unusable)?;
    let key = EncryptingKey::cfb128(key).map_err(unusable)?;
    let mut text = plain.to_vec();
    let zero = EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(&mut text, zero).map_err(unusable)?;
    Ok(text)
}

/// A `TPM2B`: its length, then its bytes.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let count = u16::try_from(bytes.len()).expect("digests, numbers and secrets are short");
    [&count.to_be_bytes(), bytes].concat()
}
