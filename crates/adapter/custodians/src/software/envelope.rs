//! The text of a key file: what it holds, how its encryption key is derived, and the ciphertext.
//!
//! Everything above the ciphertext is authenticated with it. A text has one meaning, and a
//! meaning one text.

use std::fmt::Write as _;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use heirloom_model::secret::{Secret, SecretBytes};
use heirloom_participant::custodian::CustodianError;
use heirloom_participant::custodian::key::{
    KeyHandle, KeyId, KeyScheme, KeyUsage, Label, PrivateKey,
};

use crate::half::PrivateHalf;

/// The first line: what this is, and in which version.
const FIRST_LINE: &str = "heirloom software key 1";
/// In front of the last line.
const CIPHERTEXT: &str = "ciphertext ";
const CIPHER: &str = "aes-256-gcm";
/// What the derived bytes are for.
const FOR_ENCRYPTION: &[u8] = b"heirloom software key 1: encryption";
const FOR_CHECK: &[u8] = b"heirloom software key 1: check";
/// A file that asks for more than this is no file of ours, and would only exhaust the machine.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
/// New files use 3; with more than this one password takes minutes.
const ITERATIONS_MAX: u32 = 64;
/// New files use one lane; no machine of ours gains anything by more than this.
const LANES_MAX: u32 = 16;

/// Random, of one file.
pub(super) type Salt = [u8; 16];

/// How the encryption key of a file follows from the secret.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kdf {
    /// From a password.
    Argon2id { memory_kib: u32, iterations: u32, lanes: u32 },
    /// From random bytes.
    Hkdf,
}

impl Kdf {
    /// For new files with a password: RFC 9106 §4, second recommended option, with one lane.
    pub(super) const PASSWORD: Self =
        Self::Argon2id { memory_kib: 64 * 1024, iterations: 3, lanes: 1 };

    pub(super) fn has_kind_of(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Hkdf, Self::Hkdf) | (Self::Argon2id { .. }, Self::Argon2id { .. })
        )
    }

    fn to_text(self) -> String {
        match self {
            Self::Hkdf => "hkdf-sha256".to_owned(),
            Self::Argon2id { memory_kib, iterations, lanes } => {
                format!("argon2id {memory_kib} {iterations} {lanes}")
            }
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |word: &str, limit: u32| {
            word.parse().ok().filter(|n| (1..=limit).contains(n)).ok_or("its cost is out of range")
        };
        match words.as_slice() {
            ["hkdf-sha256"] => Ok(Self::Hkdf),
            ["argon2id", memory, iterations, lanes] => Ok(Self::Argon2id {
                memory_kib: number(memory, MEMORY_KIB_MAX)?,
                iterations: number(iterations, ITERATIONS_MAX)?,
                lanes: number(lanes, LANES_MAX)?,
            }),
            _ => Err(format!("the derivation {text:?} is not known")),
        }
    }
}

/// What a secret becomes for one file.
pub(super) struct Unlocked {
    encryption: Secret<32>,
    /// Tells a wrong password from an altered file. Says nothing else about either.
    check: [u8; 16],
}

/// A file that was read and not yet opened.
pub(super) struct Sealed {
    pub(super) label: Label,
    pub(super) kdf: Kdf,
    pub(super) salt: Salt,
    usage: KeyUsage,
    scheme: KeyScheme,
    public: Vec<u8>,
    check: [u8; 16],
    nonce: [u8; 12],
    head: String,
    ciphertext: Vec<u8>,
}

/// A file that was opened.
pub(super) struct Opened {
    pub(super) key: KeyHandle,
    pub(super) half: PrivateHalf,
}

pub(super) fn fresh_salt() -> Result<Salt, CustodianError> {
    let mut salt = Salt::default();
    rand::fill(&mut salt).map_err(|_| no_randomness())?;
    Ok(salt)
}

pub(super) fn derive(kdf: Kdf, salt: &Salt, secret: &SecretBytes) -> Result<Unlocked, String> {
    let mut stretched = [0; 32];
    secret.expose(|secret| stretch(kdf, salt, secret, &mut stretched))?;
    let stretched = Secret::new(stretched);
    let expand = |purpose: &[u8], into: &mut [u8]| {
        stretched.expose(|bytes| {
            let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(bytes);
            let length = Length(into.len());
            let expanded = key.expand(&[purpose], length).and_then(|okm| okm.fill(into));
            expanded.map_err(|_| "its encryption key cannot be derived".to_owned())
        })
    };
    let (mut encryption, mut check) = ([0; 32], [0; 16]);
    expand(FOR_ENCRYPTION, &mut encryption)?;
    expand(FOR_CHECK, &mut check)?;
    Ok(Unlocked { encryption: Secret::new(encryption), check })
}

fn stretch(kdf: Kdf, salt: &Salt, secret: &[u8], into: &mut [u8; 32]) -> Result<(), String> {
    let failed = |_| "its derivation cannot be done".to_owned();
    match kdf {
        Kdf::Argon2id { memory_kib, iterations, lanes } => {
            let params = Params::new(memory_kib, iterations, lanes, None).map_err(failed)?;
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            argon2.hash_password_into(secret, salt, into).map_err(failed)
        }
        Kdf::Hkdf => {
            let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
            let expanded = key.expand(&[b"key file"], Length(into.len()));
            let filled = expanded.and_then(|okm| okm.fill(into));
            filled.map_err(|_| "its derivation cannot be done".to_owned())
        }
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The text of a new file.
pub(super) fn seal(
    key: &KeyHandle,
    half: &PrivateHalf,
    kdf: Kdf,
    salt: &Salt,
    unlocked: &Unlocked,
) -> Result<String, CustodianError> {
    let mut nonce = [0; 12];
    rand::fill(&mut nonce).map_err(|_| no_randomness())?;
    let head = head_of(&Head {
        label: &key.label,
        usage: key.usage,
        scheme: key.scheme,
        public: half.public()?.as_bytes(),
        kdf,
        salt,
        check: &unlocked.check,
        nonce: &nonce,
    });
    let plaintext = half.pkcs8()?;
    // Room for the tag: a buffer that moves leaves a copy of the key behind.
    let mut bytes = plaintext.expose(|bytes| with_room(bytes, AES_256_GCM.tag_len()));
    aead(unlocked)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(head.as_bytes()),
            &mut bytes,
        )
        .map_err(|_| CustodianError::Corrupt {
            what: "a private key".to_owned(),
            why: "it cannot be encrypted".to_owned(),
        })?;
    Ok(format!("{head}{CIPHERTEXT}{}\n", hex::encode(bytes)))
}

struct Head<'a> {
    label: &'a Label,
    usage: KeyUsage,
    scheme: KeyScheme,
    public: &'a [u8],
    kdf: Kdf,
    salt: &'a Salt,
    check: &'a [u8; 16],
    nonce: &'a [u8; 12],
}

fn head_of(head: &Head<'_>) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name} {value}").expect("text grows");
    };
    line("label", head.label.as_str());
    line("usage", head.usage.as_str());
    line("scheme", head.scheme.as_str());
    line("public", &hex::encode(head.public));
    line("derivation", &head.kdf.to_text());
    line("salt", &hex::encode(head.salt));
    line("check", &hex::encode(head.check));
    line("cipher", CIPHER);
    line("nonce", &hex::encode(head.nonce));
    text
}

pub(super) fn parse(text: &str) -> Result<Sealed, String> {
    let head_length = text.rfind(CIPHERTEXT).ok_or("it has no ciphertext")?;
    let (head, last) = text.split_at(head_length);
    let mut lines = head.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err("it does not begin as a key file of version 1".to_owned());
    }
    let mut value = |name: &str| {
        let line = lines.next().ok_or_else(|| format!("it has no {name}"))?;
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
        value.ok_or_else(|| format!("{name} does not stand where it should"))
    };
    let sealed = Sealed {
        label: word(value("label")?)?,
        usage: word(value("usage")?)?,
        scheme: word(value("scheme")?)?,
        public: bytes(value("public")?)?,
        kdf: Kdf::from_text(value("derivation")?)?,
        salt: array(value("salt")?)?,
        check: array(value("check")?)?,
        nonce: {
            let cipher = value("cipher")?;
            if cipher != CIPHER {
                return Err(format!("the cipher {cipher:?} is not known"));
            }
            array(value("nonce")?)?
        },
        head: head.to_owned(),
        ciphertext: bytes(
            last.strip_prefix(CIPHERTEXT).unwrap_or_default().trim_end_matches('\n'),
        )?,
    };
    if sealed.to_text() != text {
        return Err("it is not written as a key file is".to_owned());
    }
    Ok(sealed)
}

impl Sealed {
    /// Whether the secret is the one of this file.
    pub(super) fn is_for(&self, unlocked: &Unlocked) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.check[..], &unlocked.check[..]).into()
    }

    pub(super) fn open(&self, unlocked: &Unlocked, id: KeyId) -> Result<Opened, String> {
        let mut buffer = self.ciphertext.clone();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let opened = aead(unlocked)
            .open_in_place(nonce, Aad::from(self.head.as_bytes()), &mut buffer)
            .map(|plaintext| plaintext.len());
        let buffer = SecretBytes::new(buffer);
        let length = opened.map_err(|_| "it was altered".to_owned())?;
        let plaintext = buffer.expose(|bytes| bytes[..length].to_vec());
        let private = PrivateKey::from_pkcs8(SecretBytes::new(plaintext));
        let half = PrivateHalf::parse(self.scheme, &private).map_err(|error| error.to_string())?;
        let public = half.public().map_err(|error| error.to_string())?;
        if public.as_bytes() != self.public {
            return Err("its public half belongs to another key".to_owned());
        }
        let Self { label, usage, scheme, .. } = self;
        let key = KeyHandle { id, label: label.clone(), usage: *usage, scheme: *scheme };
        Ok(Opened { key, half })
    }

    fn to_text(&self) -> String {
        let Self { label, usage, scheme, public, kdf, salt, check, nonce, .. } = self;
        let (usage, scheme, kdf) = (*usage, *scheme, *kdf);
        let head = head_of(&Head { label, usage, scheme, public, kdf, salt, check, nonce });
        format!("{head}{CIPHERTEXT}{}\n", hex::encode(&self.ciphertext))
    }
}

fn aead(unlocked: &Unlocked) -> LessSafeKey {
    let key = unlocked.encryption.expose(|key| UnboundKey::new(&AES_256_GCM, key));
    LessSafeKey::new(key.expect("the key has 32 bytes"))
}

/// A copy that can grow by so many bytes in its place.
pub(super) fn with_room(bytes: &[u8], room: usize) -> Vec<u8> {
    let mut copy = Vec::with_capacity(bytes.len() + room);
    copy.extend_from_slice(bytes);
    copy
}

fn word<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text).map_err(|error| format!("it has no hex where it should: {error}"))
}

fn array<const N: usize>(text: &str) -> Result<[u8; N], String> {
    bytes(text)?.try_into().map_err(|_| format!("it has no {N} bytes where it should"))
}

fn no_randomness() -> CustodianError {
    let place = "the generator of this machine".to_owned();
    CustodianError::Unreachable { place, why: "it gave no bytes".to_owned() }
}
