//! The exact DER of public keys. One key has one encoding, so that its fingerprint is one.
//!
//! RFC 5280 §4.1.2.7, RFC 5480 §2 (named curve, uncompressed point), RFC 8410 §4, RFC 8017 A.1.1.
//! A point is not checked to be on its curve here: whoever verifies with it does.

use crate::custodian::key::{KeyScheme, PublicKeyDer};

/// Everything before the point or key.
const ED25519: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P384: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
const SECP256K1: &[u8] = &[
    0x30, 0x56, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x0a, 0x03, 0x42, 0x00,
];
/// Up to the modulus of 256 bytes whose highest bit is set.
const RSA2048: &[u8] = &[
    0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01,
    0x01, 0x05, 0x00, 0x03, 0x82, 0x01, 0x0f, 0x00, 0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01,
    0x00,
];
/// The exponent 65537, which every product uses.
const RSA_EXPONENT: &[u8] = &[0x02, 0x03, 0x01, 0x00, 0x01];
/// The tag of an uncompressed point.
const UNCOMPRESSED: u8 = 0x04;

/// Why bytes are no public key of a scheme.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SpkiError {
    /// Another scheme, another encoding of it, or no key at all.
    #[error("the public key is not the DER of a {0} key with an uncompressed point")]
    Malformed(KeyScheme),
    /// The scheme stands in the table only.
    #[error("public keys of scheme {0} are not known here")]
    Unsupported(KeyScheme),
}

/// Takes the DER of a public key of this scheme, and nothing else.
pub fn parse(scheme: KeyScheme, der: &[u8]) -> Result<PublicKeyDer, SpkiError> {
    let raw = split(scheme, der)?;
    // Composing again proves that nothing else is in there.
    compose(scheme, raw)
}

/// The DER around a point (with its `04`), an Ed25519 key of 32 bytes or an RSA modulus of 256.
pub fn compose(scheme: KeyScheme, raw: &[u8]) -> Result<PublicKeyDer, SpkiError> {
    let (head, length) = shape(scheme)?;
    let is_right = raw.len() == length
        && match scheme {
            KeyScheme::P256 | KeyScheme::P384 | KeyScheme::Secp256k1 => {
                raw.first() == Some(&UNCOMPRESSED)
            }
            KeyScheme::Rsa2048 => raw.first().is_some_and(|byte| byte & 0x80 != 0),
            KeyScheme::Ed25519 | KeyScheme::MlDsa65 | KeyScheme::EciesP256 => true,
        };
    if !is_right {
        return Err(SpkiError::Malformed(scheme));
    }
    Ok(PublicKeyDer::new([head, raw, tail(scheme)].concat()))
}

/// The scheme of a public key, if it is one that we know.
pub fn scheme_of(der: &[u8]) -> Option<KeyScheme> {
    KeyScheme::ALL.iter().copied().find(|scheme| parse(*scheme, der).is_ok())
}

/// The point with its `04`, the 32 bytes of Ed25519, or the modulus of 256 bytes.
pub fn raw(scheme: KeyScheme, key: &PublicKeyDer) -> Result<&[u8], SpkiError> {
    split(scheme, key.as_bytes())
}

fn split(scheme: KeyScheme, der: &[u8]) -> Result<&[u8], SpkiError> {
    let (head, _) = shape(scheme)?;
    der.strip_prefix(head)
        .and_then(|rest| rest.strip_suffix(tail(scheme)))
        .ok_or(SpkiError::Malformed(scheme))
}

/// What stands in front, and how long the rest is.
fn shape(scheme: KeyScheme) -> Result<(&'static [u8], usize), SpkiError> {
    match scheme {
        KeyScheme::Ed25519 => Ok((ED25519, 32)),
        KeyScheme::P256 => Ok((P256, 65)),
        KeyScheme::P384 => Ok((P384, 97)),
        KeyScheme::Secp256k1 => Ok((SECP256K1, 65)),
        KeyScheme::Rsa2048 => Ok((RSA2048, 256)),
        KeyScheme::MlDsa65 | KeyScheme::EciesP256 => Err(SpkiError::Unsupported(scheme)),
    }
}

fn tail(scheme: KeyScheme) -> &'static [u8] {
    if scheme == KeyScheme::Rsa2048 { RSA_EXPONENT } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [(KeyScheme, usize, u8); 5] = [
        (KeyScheme::Ed25519, 32, 0x11),
        (KeyScheme::P256, 65, 0x04),
        (KeyScheme::P384, 97, 0x04),
        (KeyScheme::Secp256k1, 65, 0x04),
        (KeyScheme::Rsa2048, 256, 0x91),
    ];

    #[test]
    fn a_public_key_has_one_encoding() {
        for (scheme, length, first) in SCHEMES {
            let key = compose(scheme, &vec![first; length]).unwrap();
            assert_eq!(parse(scheme, key.as_bytes()).as_ref(), Ok(&key));
            assert_eq!(scheme_of(key.as_bytes()), Some(scheme));
            let mut longer = key.as_bytes().to_vec();
            longer.push(0);
            assert_eq!(parse(scheme, &longer), Err(SpkiError::Malformed(scheme)));
            let mut other = key.as_bytes().to_vec();
            other[1] ^= 1;
            assert_eq!(parse(scheme, &other), Err(SpkiError::Malformed(scheme)));
        }
    }

    #[test]
    fn a_compressed_point_and_a_short_modulus_are_refused() {
        let mut point = [4; 65];
        point[0] = 2;
        assert_eq!(compose(KeyScheme::P256, &point), Err(SpkiError::Malformed(KeyScheme::P256)));
        let short = [0x11; 256];
        let refused = Err(SpkiError::Malformed(KeyScheme::Rsa2048));
        assert_eq!(compose(KeyScheme::Rsa2048, &short), refused);
    }
}
