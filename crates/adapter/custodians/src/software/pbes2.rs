//! PKCS#8 `EncryptedPrivateKeyInfo`: PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC, RFC 8018
//! §6.2.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{pbkdf2, rand};
use heirloom_model::secret::{Secret, SecretBytes};
use heirloom_participant::custodian::CustodianError;

use crate::software::envelope::with_room;

/// What OWASP recommends for PBKDF2-HMAC-SHA256.
const ITERATIONS: u32 = 600_000;
/// What padding adds at most.
const BLOCK_BYTES: usize = 16;
/// Shorter passwords are guessed.
const PASSWORD_BYTES_MIN: usize = 12;

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c];
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09];
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

pub(super) fn encrypt(
    pkcs8: &SecretBytes,
    password: &SecretBytes,
) -> Result<Vec<u8>, CustodianError> {
    if password.expose(<[u8]>::len) < PASSWORD_BYTES_MIN {
        return Err(CustodianError::Refused {
            place: "the export".to_owned(),
            what: "the password".to_owned(),
            why: format!("it has less than {PASSWORD_BYTES_MIN} bytes"),
        });
    }
    let mut salt = [0; 16];
    rand::fill(&mut salt).map_err(|_| failed())?;
    let iterations = NonZeroU32::new(ITERATIONS).ok_or_else(failed)?;
    let mut key = [0; 32];
    password.expose(|password| {
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut key);
    });
    let key = Secret::new(key);
    let unbound = key.expose(|key| UnboundCipherKey::new(&AES_256, key)).map_err(|_| failed())?;
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(unbound).map_err(|_| failed())?;
    let mut bytes = pkcs8.expose(|bytes| with_room(bytes, BLOCK_BYTES));
    let context = cipher.encrypt(&mut bytes).map_err(|_| failed())?;
    let DecryptionContext::Iv128(iv) = context else { return Err(failed()) };
    Ok(structure(&salt, &iv, &bytes))
}

fn structure(salt: &[u8; 16], iv: &FixedLength<16>, ciphertext: &[u8]) -> Vec<u8> {
    let hash = sequence(&[&der(OBJECT, HMAC_SHA256), &der(NULL, &[])]);
    let iterations = [&[0][..], &ITERATIONS.to_be_bytes()[1..]].concat();
    let iterations = if iterations[1] & 0x80 == 0 { &iterations[1..] } else { &iterations[..] };
    let parameters = sequence(&[&der(OCTETS, salt), &der(INTEGER, iterations), &hash]);
    let derivation = sequence(&[&der(OBJECT, PBKDF2), &parameters]);
    let cipher = sequence(&[&der(OBJECT, AES_256_CBC), &der(OCTETS, iv.as_ref())]);
    let scheme = sequence(&[&der(OBJECT, PBES2), &sequence(&[&derivation, &cipher])]);
    sequence(&[&scheme, &der(OCTETS, ciphertext)])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(SEQUENCE, &parts.concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let head = match significant.as_slice() {
        [] => vec![tag, 0],
        [short] if *short < 0x80 => vec![tag, *short],
        long => {
            let count = u8::try_from(long.len()).expect("a length has at most eight bytes");
            [&[tag, 0x80 | count], long].concat()
        }
    };
    [head.as_slice(), content].concat()
}

fn failed() -> CustodianError {
    CustodianError::Corrupt {
        what: "a private key".to_owned(),
        why: "it cannot be encrypted for export".to_owned(),
    }
}
