//! Manufacturers of the tests' own: keys, certificates and lists that nobody else would sign.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA384, RsaKeyPair,
};
use heirloom_model::counter::Time;
use x509_cert::der::asn1::{ObjectIdentifier, UtcTime};
use x509_cert::der::{Encode, oid};

/// A day on which everything here is valid.
pub(crate) const NOW: Time = Time(1_780_000_000);
/// From then until then certificates are valid, unless a test says otherwise.
pub(crate) const SINCE: Time = Time(1_770_000_000);
pub(crate) const UNTIL: Time = Time(1_790_000_000);

/// A private key.
pub(crate) enum Key {
    P256(Vec<u8>),
    P384(Vec<u8>),
    Rsa(RsaKeyPair),
}

impl Key {
    pub(crate) fn p256() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        Self::P256(pair.to_pkcs8v1().unwrap().as_ref().to_vec())
    }

    pub(crate) fn p384() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
        Self::P384(pair.to_pkcs8v1().unwrap().as_ref().to_vec())
    }

    pub(crate) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    /// A point, or an `RSAPublicKey`.
    pub(crate) fn public(&self) -> Vec<u8> {
        match self {
            Self::P256(pkcs8) => pair(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8),
            Self::P384(pkcs8) => pair(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8),
            Self::Rsa(pair) => return pair.public_key().as_ref().to_vec(),
        }
        .public_key()
        .as_ref()
        .to_vec()
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        let algorithm = match self {
            Self::P256(_) => [named("1.2.840.10045.2.1"), named("1.2.840.10045.3.1.7")].concat(),
            Self::P384(_) => [named("1.2.840.10045.2.1"), named("1.3.132.0.34")].concat(),
            Self::Rsa(_) => [named("1.2.840.113549.1.1.1"), vec![5, 0]].concat(),
        };
        sequence(&[tlv(0x30, &algorithm), bits(&self.public())])
    }

    /// As certificates carry it: ECDSA as DER, RSA as AMD pads.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(pkcs8) => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, message),
            Self::P384(pkcs8) => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8, message),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PSS_SHA384, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// As evidence carries it: r and s, or RSA as TPMs pad.
    pub(crate) fn sign_evidence(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(pkcs8) => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, message),
            Self::P384(pkcs8) => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8, message),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    fn algorithm(&self) -> Vec<u8> {
        match self {
            Self::P256(_) => tlv(0x30, &named("1.2.840.10045.4.3.2")),
            Self::P384(_) => tlv(0x30, &named("1.2.840.10045.4.3.3")),
            Self::Rsa(_) => {
                let sha384 = sequence(&[named("2.16.840.1.101.3.4.2.2"), vec![5, 0]]);
                let mgf1 = sequence(&[named("1.2.840.113549.1.1.8"), sha384.clone()]);
                let parameters = [
                    tlv(0xa0, &sha384),
                    tlv(0xa1, &mgf1),
                    tlv(0xa2, &[2, 1, 48]),
                    tlv(0xa3, &[2, 1, 1]),
                ];
                sequence(&[named("1.2.840.113549.1.1.10"), sequence(&parameters)])
            }
        }
    }
}

/// A certificate to be signed.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) issuer: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) serial: u8,
    pub(crate) since: Time,
    pub(crate) until: Time,
    pub(crate) spki: Vec<u8>,
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Request {
    pub(crate) fn leaf(issuer: &'static str, subject: &'static str, key: &Key) -> Self {
        let spki = key.spki();
        Self { issuer, subject, serial: 1, since: SINCE, until: UNTIL, spki, extensions: vec![] }
    }

    pub(crate) fn authority(issuer: &'static str, subject: &'static str, key: &Key) -> Self {
        // Basic constraints: an authority. Key usage: certificates and lists.
        let basic = extension("2.5.29.19", true, &sequence(&[vec![1, 1, 0xff]]));
        let usage = extension("2.5.29.15", true, &[3, 2, 1, 6]);
        Self { serial: 2, extensions: vec![basic, usage], ..Self::leaf(issuer, subject, key) }
    }

    pub(crate) fn signed(&self, key: &Key) -> Vec<u8> {
        let content = sequence(&[
            tlv(0xa0, &[2, 1, 2]),
            vec![2, 1, self.serial],
            key.algorithm(),
            name(self.issuer),
            sequence(&[time(self.since), time(self.until)]),
            name(self.subject),
            self.spki.clone(),
            tlv(0xa3, &sequence(&self.extensions)),
        ]);
        signed(key, content)
    }
}

/// A list of revoked certificates.
pub(crate) fn list(
    key: &Key,
    issuer: &'static str,
    since: Time,
    until: Time,
    serials: &[u8],
) -> Vec<u8> {
    let entries: Vec<_> =
        serials.iter().map(|serial| sequence(&[vec![2, 1, *serial], time(since)])).collect();
    let revoked = if entries.is_empty() { Vec::new() } else { sequence(&entries) };
    let number = extension("2.5.29.20", false, &[2, 1, 1]);
    let content = sequence(&[
        vec![2, 1, 1],
        key.algorithm(),
        name(issuer),
        time(since),
        time(until),
        revoked,
        tlv(0xa0, &sequence(&[number])),
    ]);
    signed(key, content)
}

/// An extension with this value.
pub(crate) fn extension(name: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { vec![1, 1, 0xff] } else { Vec::new() };
    sequence(&[named(name), critical, tlv(4, value)])
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    let [high, low] = length.to_be_bytes();
    let head = match length {
        0..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head.as_slice(), content].concat()
}

/// An object identifier.
pub(crate) fn named(text: &str) -> Vec<u8> {
    ObjectIdentifier::new(text).unwrap().to_der().unwrap()
}

fn bits(content: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], content].concat())
}

fn name(common: &str) -> Vec<u8> {
    let text = tlv(0x0c, common.as_bytes());
    let common_name = oid::db::rfc4519::CN.to_der().unwrap();
    sequence(&[tlv(0x31, &sequence(&[common_name, text]))])
}

fn time(time: Time) -> Vec<u8> {
    UtcTime::from_unix_duration(Duration::from_secs(time.0)).unwrap().to_der().unwrap()
}

fn signed(key: &Key, content: Vec<u8>) -> Vec<u8> {
    let signature = key.sign(&content);
    sequence(&[content, key.algorithm(), bits(&signature)])
}

fn pair(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8]) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).unwrap()
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8], message: &[u8]) -> Vec<u8> {
    pair(algorithm, pkcs8).sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}
