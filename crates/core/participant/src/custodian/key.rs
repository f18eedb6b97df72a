//! Keys as the callers of a custodian see them.

use std::fmt;
use std::str::FromStr;

use heirloom_model::participant::CustodianKind;
use heirloom_model::secret::SecretBytes;

/// The longest label: what labels of GCP take, the shortest limit of all.
pub const LABEL_CHARACTERS_MAX: usize = 63;
/// The longest identifier of a key: what Canton takes.
pub const KEY_ID_CHARACTERS_MAX: usize = 300;

/// Why text is no name of a key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseKeyError {
    /// Not a label.
    #[error(
        "label {found:?} must be 1 to 63 lowercase letters, digits and '-', and begin with a letter"
    )]
    Label {
        /// The text.
        found: String,
    },
    /// Not an identifier of a key.
    #[error("key identifier {found:?} must be 1 to 300 printable characters")]
    Id {
        /// The text.
        found: String,
    },
    /// Not one of the words of a type.
    #[error("{what} {found:?} is none of: {words}")]
    Word {
        /// The type.
        what: &'static str,
        /// The text.
        found: String,
        /// What it may be.
        words: String,
    },
}

/// The name that the owner gave a key: letters, digits and `-`, so that every product takes it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Label(String);

impl Label {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins || text.len() > LABEL_CHARACTERS_MAX || !text.chars().all(is_allowed) {
            let found = text.chars().take(LABEL_CHARACTERS_MAX).collect();
            return Err(ParseKeyError::Label { found });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name that the custodian gave a key: an ARN, a resource name, the hex of a `CKA_ID`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId(String);

impl KeyId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_printable = text.chars().all(|c| c.is_ascii_graphic());
        if text.is_empty() || text.len() > KEY_ID_CHARACTERS_MAX || !is_printable {
            let found = text.chars().take(KEY_ID_CHARACTERS_MAX).collect();
            return Err(ParseKeyError::Id { found });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $what:literal {
        $($(#[$variant_doc:meta])* $variant:ident => $word:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word for it in files, labels and messages.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(ParseKeyError::Word {
                        what: $what,
                        found: text.chars().take(LABEL_CHARACTERS_MAX).collect(),
                        words: [$($word,)+].join(", "),
                    }),
                }
            }
        }
    };
}

words! {
    /// What a key is for. Fixed when it is made: Canton registers a key with one usage, and a key
    /// registered with the wrong one is dead.
    KeyUsage: "usage" {
        /// Signs topology: it *is* the identity.
        Namespace => "namespace",
        /// Proves to a sequencer who asks.
        SequencerAuthentication => "sequencer-authentication",
        /// Signs submissions and confirmations.
        Protocol => "protocol",
        /// Opens what other participants encrypted to this one.
        Encryption => "encryption",
    }
}

impl KeyUsage {
    /// Whether a key of this usage signs or decrypts.
    pub fn operation(self) -> Operation {
        match self {
            Self::Namespace | Self::SequencerAuthentication | Self::Protocol => Operation::Sign,
            Self::Encryption => Operation::Decrypt,
        }
    }
}

words! {
    /// The mathematics of a key.
    KeyScheme: "scheme" {
        /// Ed25519. The default of a Canton node whose keys are in its database.
        Ed25519 => "ed25519",
        /// ECDSA on NIST P-256. The default of a Canton node whose keys are in a KMS.
        P256 => "p256",
        /// ECDSA on NIST P-384.
        P384 => "p384",
        /// ECDSA on secp256k1.
        Secp256k1 => "secp256k1",
        /// RSA of 2048 bits, for decryption.
        Rsa2048 => "rsa2048",
        /// ML-DSA-65. Stands in the table only: no custodian here makes such keys.
        MlDsa65 => "ml-dsa65",
        /// ECIES on P-256. Stands in the table only: no key store has it.
        EciesP256 => "ecies-p256",
    }
}

impl KeyScheme {
    /// Whether keys of this scheme sign or decrypt.
    pub fn operation(self) -> Operation {
        match self {
            Self::Rsa2048 | Self::EciesP256 => Operation::Decrypt,
            Self::Ed25519 | Self::P256 | Self::P384 | Self::Secp256k1 | Self::MlDsa65 => {
                Operation::Sign
            }
        }
    }

    /// The algorithm that Canton uses with this scheme. Nothing for schemes that stand in the
    /// table only.
    pub fn algorithm(self) -> Option<Algorithm> {
        match self {
            Self::Ed25519 => Some(Algorithm::Ed25519),
            Self::P256 | Self::Secp256k1 => Some(Algorithm::EcdsaSha256),
            Self::P384 => Some(Algorithm::EcdsaSha384),
            Self::Rsa2048 => Some(Algorithm::RsaOaepSha256),
            Self::MlDsa65 | Self::EciesP256 => None,
        }
    }
}

words! {
    /// How a key is used.
    Algorithm: "algorithm" {
        /// RFC 8032, of the message itself.
        Ed25519 => "ed25519",
        /// ECDSA of the SHA-256 of the message.
        EcdsaSha256 => "ecdsa-sha256",
        /// ECDSA of the SHA-384 of the message.
        EcdsaSha384 => "ecdsa-sha384",
        /// RSA OAEP with SHA-256 for the label and for MGF1.
        RsaOaepSha256 => "rsa-oaep-sha256",
    }
}

impl Algorithm {
    /// Whether it signs or decrypts.
    pub fn operation(self) -> Operation {
        match self {
            Self::Ed25519 | Self::EcdsaSha256 | Self::EcdsaSha384 => Operation::Sign,
            Self::RsaOaepSha256 => Operation::Decrypt,
        }
    }
}

words! {
    /// What is done with a key.
    Operation: "operation" {
        /// It is made inside.
        Create => "create",
        /// It is brought in from outside.
        Import => "import",
        /// It signs.
        Sign => "sign",
        /// It decrypts.
        Decrypt => "decrypt",
        /// It comes out again.
        Export => "export",
    }
}

/// Which place a custodian is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Description {
    /// What kind.
    pub kind: CustodianKind,
    /// Which one, for people: a folder, a token and its module, a region, an address. No secret.
    pub place: String,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.place)
    }
}

/// A key that shall exist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRequest {
    /// Its name.
    pub label: Label,
    /// What it is for.
    pub usage: KeyUsage,
    /// Its mathematics.
    pub scheme: KeyScheme,
}

/// A key that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyHandle {
    /// The custodian's name of it.
    pub id: KeyId,
    /// Ours.
    pub label: Label,
    /// What it is for.
    pub usage: KeyUsage,
    /// Its mathematics.
    pub scheme: KeyScheme,
}

impl KeyHandle {
    /// Whether this is the key that was asked for.
    pub fn answers(&self, request: &KeyRequest) -> bool {
        let KeyRequest { label, usage, scheme } = request;
        self.label == *label && self.usage == *usage && self.scheme == *scheme
    }
}

/// Whether a key may be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyState {
    /// It may.
    Enabled,
    /// Somebody switched it off.
    Disabled,
    /// It will be destroyed. Only its owner, with the product's own tools, can still save it.
    PendingDeletion {
        /// When, in seconds since 1970, if the product says so.
        at_seconds: Option<u64>,
    },
    /// Its material was never brought in.
    PendingImport,
    /// The product cannot use it now, or says something that we do not know.
    Unavailable,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enabled => f.pad("enabled"),
            Self::Disabled => f.pad("disabled"),
            Self::PendingDeletion { at_seconds: Some(at) } => {
                write!(f, "pending deletion at {at} seconds since 1970")
            }
            Self::PendingDeletion { at_seconds: None } => f.pad("pending deletion"),
            Self::PendingImport => f.pad("pending import"),
            Self::Unavailable => f.pad("unavailable"),
        }
    }
}

/// A public key: the DER of an X.509 `SubjectPublicKeyInfo`, elliptic points uncompressed.
#[derive(Clone, Eq, PartialEq)]
pub struct PublicKeyDer(Vec<u8>);

impl PublicKeyDer {
    /// Takes bytes that [`crate::custodian::spki`] has looked at.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The DER.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PublicKeyDer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKeyDer({} bytes)", self.0.len())
    }
}

/// A signature in the form that Canton takes: DER for ECDSA, 64 bytes for Ed25519.
#[derive(Clone, Eq, PartialEq)]
pub struct Signature(Vec<u8>);

impl Signature {
    /// Takes the bytes of a signature.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} bytes)", self.0.len())
    }
}

/// A private key on its way into a custodian: the DER of a PKCS#8 `PrivateKeyInfo`. Wiped when
/// dropped; it cannot be printed, copied, compared or encoded.
///
/// ```compile_fail
/// use heirloom_model::secret::SecretBytes;
/// use heirloom_participant::custodian::key::PrivateKey;
/// let key = PrivateKey::from_pkcs8(SecretBytes::new(vec![1]));
/// println!("{key:?}");
/// ```
///
/// ```compile_fail
/// use heirloom_model::secret::SecretBytes;
/// use heirloom_participant::custodian::key::PrivateKey;
/// let key = PrivateKey::from_pkcs8(SecretBytes::new(vec![1]));
/// let copy = key.clone();
/// ```
///
/// ```compile_fail
/// use heirloom_model::secret::SecretBytes;
/// use heirloom_participant::custodian::key::PrivateKey;
/// let key = PrivateKey::from_pkcs8(SecretBytes::new(vec![1]));
/// assert!(key == key);
/// ```
pub struct PrivateKey(SecretBytes);

impl PrivateKey {
    /// Takes over the DER.
    pub fn from_pkcs8(der: SecretBytes) -> Self {
        Self(der)
    }

    /// Lends the DER to `use_der`.
    pub fn expose_pkcs8<R>(&self, use_der: impl FnOnce(&[u8]) -> R) -> R {
        self.0.expose(use_der)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_what_every_product_takes() {
        assert!("participant1-namespace".parse::<Label>().is_ok());
        let long = "a".repeat(LABEL_CHARACTERS_MAX + 1);
        for refused in ["", "1a", "-a", "Alice", "a_b", "a.b", "a/b", "ä", long.as_str()] {
            assert!(refused.parse::<Label>().is_err(), "{refused}");
        }
    }

    #[test]
    fn an_identifier_has_at_most_three_hundred_printable_characters() {
        assert!("arn:aws:kms:eu-west-1:1:key/2".parse::<KeyId>().is_ok());
        for refused in [String::new(), "a b".to_owned(), "a".repeat(301)] {
            assert!(refused.parse::<KeyId>().is_err(), "{refused}");
        }
    }

    #[test]
    fn every_word_is_read_back() {
        for scheme in KeyScheme::ALL {
            assert_eq!(scheme.as_str().parse(), Ok(*scheme));
        }
        for usage in KeyUsage::ALL {
            assert_eq!(usage.as_str().parse(), Ok(*usage));
        }
        assert!("P256".parse::<KeyScheme>().is_err());
    }

    #[test]
    fn an_algorithm_does_what_its_scheme_does() {
        for scheme in KeyScheme::ALL {
            let algorithm = scheme.algorithm();
            assert!(algorithm.is_none_or(|found| found.operation() == scheme.operation()));
        }
    }
}
