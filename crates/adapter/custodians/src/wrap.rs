//! A private key on its way to a service, so that nobody on the way reads it.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use heirloom_model::secret::{Secret, SecretBytes};

/// The key of a service under which material travels. Nothing if the DER is no RSA key.
pub(crate) fn import_key(der: &[u8]) -> Option<OaepPublicEncryptingKey> {
    OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(der).ok()?).ok()
}

/// Short material, by OAEP alone.
pub(crate) fn by_oaep(key: &OaepPublicEncryptingKey, material: &SecretBytes) -> Option<Vec<u8>> {
    material.expose(|material| encrypt(key, material))
}

/// Material of any length: under a fresh AES key, which goes in front under OAEP. AWS calls this
/// `RSA_AES_KEY_WRAP_SHA_256`, Vault its import format, PKCS#11 `CKM_RSA_AES_KEY_WRAP`.
pub(crate) fn by_aes(key: &OaepPublicEncryptingKey, material: &SecretBytes) -> Option<Vec<u8>> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).ok()?;
    let fresh = Secret::new(bytes);
    let wrapped_key = fresh.expose(|fresh| encrypt(key, fresh))?;
    let fresh = fresh.expose(|fresh| AesKek::new(&AES_256, fresh)).ok()?;
    material.expose(|material| {
        // Padded to eight bytes, and eight more: RFC 5649.
        let mut wrapped = vec![0; material.len() + 16];
        let wrapped = fresh.wrap_with_padding(material, &mut wrapped).ok()?;
        Some([wrapped_key.as_slice(), wrapped].concat())
    })
}

fn encrypt(key: &OaepPublicEncryptingKey, plaintext: &[u8]) -> Option<Vec<u8>> {
    let mut ciphertext = vec![0; key.ciphertext_size()];
    let encrypted = key.encrypt(&OAEP_SHA256_MGF1SHA256, plaintext, &mut ciphertext, None).ok()?;
    Some(encrypted.to_vec())
}
