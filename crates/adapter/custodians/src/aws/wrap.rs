//! A private key on its way to the KMS, so that nobody on the way reads it.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_sdk_kms::types::AlgorithmSpec;
use heirloom_model::secret::{Secret, SecretBytes};
use heirloom_participant::custodian::key::KeyScheme;

/// RSA keys are longer than what OAEP takes.
pub(super) fn algorithm(scheme: KeyScheme) -> AlgorithmSpec {
    if scheme == KeyScheme::Rsa2048 {
        AlgorithmSpec::RsaAesKeyWrapSha256
    } else {
        AlgorithmSpec::RsaesOaepSha256
    }
}

/// The material under the import key of the KMS. Nothing if that is no RSA key.
pub(super) fn wrap(
    scheme: KeyScheme,
    import_key: &[u8],
    material: &SecretBytes,
) -> Option<Vec<u8>> {
    let import_key = PublicEncryptingKey::from_der(import_key).ok()?;
    let import_key = OaepPublicEncryptingKey::new(import_key).ok()?;
    if scheme != KeyScheme::Rsa2048 {
        return material.expose(|material| encrypt(&import_key, material));
    }
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok()?;
    let key = Secret::new(bytes);
    let wrapped_key = key.expose(|key| encrypt(&import_key, key))?;
    let key = key.expose(|key| AesKek::new(&AES_256, key)).ok()?;
    material.expose(|material| {
        // Padded to eight bytes, and eight more: RFC 5649.
        let mut wrapped = vec![0; material.len() + 16];
        let wrapped = key.wrap_with_padding(material, &mut wrapped).ok()?;
        Some([wrapped_key.as_slice(), wrapped].concat())
    })
}

fn encrypt(key: &OaepPublicEncryptingKey, plaintext: &[u8]) -> Option<Vec<u8>> {
    let mut ciphertext = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(&OAEP_SHA256_MGF1SHA256, plaintext, &mut ciphertext, None).ok()?;
    Some(encrypted.to_vec())
}
