//! The certificate that carries an instance's key through TLS, and nothing else.
//!
//! It has exactly one form: a fixed X.509 certificate (RFC 5280) with 32 bytes of key and 64 bytes
//! of signature in fixed places. There is no parser: a certificate is compared with the form.

use heirloom_model::signature::{PublicKey, SigningKey};

/// What the form has in the place of names: a certificate says nothing but its key.
const NAME: &[u8] = b"\x30\x13\x31\x11\x30\x0f\x06\x03\x55\x04\x03\x0c\x08heirloom";
/// Ed25519 as an algorithm identifier (RFC 8410 §3).
const ED25519: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";
/// An outer sequence of 212 bytes.
const CERTIFICATE: &[u8] = b"\x30\x81\xd4";
/// The signed part has 135 bytes: version 3, serial number 1.
const SIGNED_PART: &[u8] = b"\x30\x81\x87\xa0\x03\x02\x01\x02\x02\x01\x01";
/// From 1970 to the date that says "no date" (RFC 5280 §4.1.2.5): instances end, keys do not.
const VALIDITY: &[u8] = b"\x30\x20\x17\x0d700101000000Z\x18\x0f99991231235959Z";
/// Subject public key info up to the key (RFC 8410 §4).
const KEY_INFO: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
/// The signature, a bit string of 64 bytes.
const SIGNATURE: &[u8] = b"\x03\x41\x00";
/// Size of the signature itself.
const SIGNATURE_BYTES: usize = 64;

/// The certificate of a key, signed by itself.
pub(crate) fn make(key: &SigningKey) -> Vec<u8> {
    let signed_part = signed_part(&key.public_key());
    let made = key.sign(&signed_part);
    [CERTIFICATE, &signed_part, ED25519, SIGNATURE, made.signature.as_bytes()].concat()
}

/// The key in a certificate, or none if it does not have the form.
///
/// The signature inside proves nothing and is not checked: that the peer has the key is proven by
/// its signature over the handshake.
pub(crate) fn key(certificate: &[u8]) -> Option<PublicKey> {
    let after_name = certificate
        .strip_prefix(CERTIFICATE)?
        .strip_prefix(SIGNED_PART)?
        .strip_prefix(ED25519)?
        .strip_prefix(NAME)?
        .strip_prefix(VALIDITY)?
        .strip_prefix(NAME)?
        .strip_prefix(KEY_INFO)?;
    let (key, after_key) = after_name.split_first_chunk::<{ PublicKey::BYTES }>()?;
    let signature = after_key.strip_prefix(ED25519)?.strip_prefix(SIGNATURE)?;
    (signature.len() == SIGNATURE_BYTES).then(|| PublicKey::new(*key))
}

fn signed_part(key: &PublicKey) -> Vec<u8> {
    [SIGNED_PART, ED25519, NAME, VALIDITY, NAME, KEY_INFO, key.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use heirloom_model::secret::Secret;
    use heirloom_model::signature::Signature;
    use rustls::pki_types::CertificateDer;
    use rustls::server::ParsedCertificate;

    use super::*;

    fn signing_key() -> SigningKey {
        SigningKey::from_seed(Secret::new([7; 32]))
    }

    #[test]
    fn the_form_is_a_certificate_that_a_general_parser_reads() {
        let bytes = make(&signing_key());
        let der = CertificateDer::from(bytes.as_slice());
        let parsed = ParsedCertificate::try_from(&der).unwrap();
        let info = parsed.subject_public_key_info();
        assert!(info.ends_with(signing_key().public_key().as_bytes()));
    }

    #[test]
    fn the_certificate_is_signed_by_its_own_key() {
        let bytes = make(&signing_key());
        let (rest, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>().unwrap();
        let signed = &rest[CERTIFICATE.len()..rest.len() - ED25519.len() - SIGNATURE.len()];
        let public = signing_key().public_key();
        assert_eq!(public.verify_bytes(signed, &Signature::new(*signature)), Ok(()));
    }

    #[test]
    fn only_the_exact_form_is_read() {
        let good = make(&signing_key());
        assert_eq!(key(&good), Some(signing_key().public_key()));
        let key_at = CERTIFICATE.len() + signed_part(&signing_key().public_key()).len() - 32;
        for at in 0..good.len() - SIGNATURE_BYTES {
            let mut other = good.clone();
            other[at] ^= 1;
            let in_key = (key_at..key_at + 32).contains(&at);
            assert_eq!(key(&other).is_some(), in_key, "byte {at}");
            assert_ne!(key(&other), Some(signing_key().public_key()), "byte {at}");
        }
        assert_eq!(key(&good[..good.len() - 1]), None);
        assert_eq!(key(&[good.as_slice(), &[0]].concat()), None);
        assert_eq!(key(&[]), None);
    }
}
