//! Keys as the ledger writes them (`crypto.proto`), and the check of a signature.

use heirloom_model::limit::LEDGER_KEY_BYTES_MAX;

use crate::fingerprint::{
    ED25519_SPKI_PREFIX, Fingerprint, FingerprintError, fingerprint_of_bytes, fingerprint_of_spki,
};
use crate::name::ParsePartyError;
use crate::proto::ProtoError;

pub mod codec;
pub mod verify;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident: $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Its number in messages.
            pub fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)+
                }
            }

            /// The one with this number.
            pub fn from_number(number: u32) -> Result<Self, ProtoError> {
                match number {
                    $($number => Ok(Self::$variant),)+
                    found => Err(ProtoError::Number { what: $what, found: u64::from(found) }),
                }
            }
        }
    };
}
pub(crate) use numbered;

numbered! {
    /// What a signing key is (`SigningKeySpec`).
    SigningScheme: "signing key scheme" {
        /// Ed25519.
        Ed25519 = 1,
        /// ECDSA on P-256.
        P256 = 2,
        /// ECDSA on P-384.
        P384 = 3,
        /// ECDSA on secp256k1.
        Secp256k1 = 4,
        /// ML-DSA-65.
        MlDsa65 = 5,
    }
}

numbered! {
    /// What an encryption key is (`EncryptionKeySpec`).
    EncryptionScheme: "encryption key scheme" {
        /// ECIES on P-256: no KMS has it.
        P256 = 1,
        /// RSA-OAEP with 2048 bits.
        Rsa2048 = 2,
    }
}

numbered! {
    /// How a signature is made (`SigningAlgorithmSpec`).
    SigningAlgorithm: "signing algorithm" {
        /// Ed25519.
        Ed25519 = 1,
        /// ECDSA with SHA-256.
        EcdsaSha256 = 2,
        /// ECDSA with SHA-384.
        EcdsaSha384 = 3,
        /// ML-DSA-65.
        MlDsa65 = 4,
    }
}

numbered! {
    /// What a signing key may sign (`SigningKeyUsage`).
    SigningKeyUsage: "usage of a signing key" {
        /// Topology.
        Namespace = 1,
        /// Once: topology, for somebody else.
        IdentityDelegation = 2,
        /// Logins at a sequencer.
        SequencerAuthentication = 3,
        /// Messages of the protocol.
        Protocol = 4,
        /// That its owner has it.
        ProofOfOwnership = 5,
    }
}

numbered! {
    /// How the bytes of a key are to be read (`CryptoKeyFormat`).
    KeyFormat: "format of a key" {
        /// X.509, as it was once called.
        Der = 2,
        /// 32 bytes.
        Raw = 3,
        /// X.509 `SubjectPublicKeyInfo`.
        DerX509Spki = 4,
        /// PKCS#8.
        DerPkcs8 = 5,
    }
}

numbered! {
    /// How the bytes of a signature are to be read (`SignatureFormat`).
    SignatureFormat: "format of a signature" {
        /// As the algorithm has it, once.
        Raw = 1,
        /// DER, for ECDSA.
        Der = 2,
        /// 64 bytes, for Ed25519.
        Concat = 3,
    }
}

/// Why bytes are not a key or a signature.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// The message is none.
    #[error(transparent)]
    Proto(#[from] ProtoError),
    /// A fingerprint is none.
    #[error(transparent)]
    Name(#[from] ParsePartyError),
    /// A key has no fingerprint.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    /// Neither the scheme nor the older number for it is set.
    #[error("a key says no scheme")]
    NoScheme,
    /// The bytes do not have the form that the key says.
    #[error("a key of {scheme:?} is not stored as {format:?}")]
    Form {
        /// The scheme.
        scheme: SigningScheme,
        /// The format.
        format: KeyFormat,
    },
    /// A key says another name than it has.
    #[error("the key {computed} says that it is {stated:?}")]
    OtherName {
        /// What it says.
        stated: String,
        /// Its name.
        computed: Fingerprint,
    },
    /// More bytes than any key has.
    #[error("a key of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

/// A public key that verifies signatures.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SigningPublicKey {
    scheme: SigningScheme,
    format: KeyFormat,
    bytes: Vec<u8>,
    usages: Vec<SigningKeyUsage>,
    fingerprint: Fingerprint,
}

impl SigningPublicKey {
    /// A key in X.509 form, as new ledgers write it.
    pub fn from_spki(
        scheme: SigningScheme,
        spki: &[u8],
        usages: &[SigningKeyUsage],
    ) -> Result<Self, KeyError> {
        Self::new(scheme, KeyFormat::DerX509Spki, spki, usages)
    }

    /// A key in the form that it was read in.
    pub fn new(
        scheme: SigningScheme,
        format: KeyFormat,
        bytes: &[u8],
        usages: &[SigningKeyUsage],
    ) -> Result<Self, KeyError> {
        let (length, limit) = (bytes.len(), LEDGER_KEY_BYTES_MAX);
        if length > limit {
            return Err(KeyError::TooLarge { bytes: length, limit });
        }
        let fingerprint = match (scheme, format) {
            (SigningScheme::Ed25519, KeyFormat::Raw) if length == 32 => fingerprint_of_bytes(bytes),
            (_, KeyFormat::Der | KeyFormat::DerX509Spki) => fingerprint_of_spki(scheme, bytes)?,
            _ => return Err(KeyError::Form { scheme, format }),
        };
        let mut usages = usages.to_vec();
        usages.sort_unstable();
        usages.dedup();
        Ok(Self { scheme, format, bytes: bytes.to_vec(), usages, fingerprint })
    }

    /// What it is.
    pub fn scheme(&self) -> SigningScheme {
        self.scheme
    }

    /// How its bytes are to be read.
    pub fn format(&self) -> KeyFormat {
        self.format
    }

    /// Its bytes in that format.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it may sign. Keys of old ledgers say nothing.
    pub fn usages(&self) -> &[SigningKeyUsage] {
        &self.usages
    }

    /// Its name.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The X.509 form.
    pub fn spki(&self) -> Vec<u8> {
        match self.format {
            KeyFormat::Raw => [ED25519_SPKI_PREFIX.as_slice(), &self.bytes].concat(),
            KeyFormat::Der | KeyFormat::DerX509Spki | KeyFormat::DerPkcs8 => self.bytes.clone(),
        }
    }
}

/// A public key that messages are encrypted for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EncryptionPublicKey {
    /// What it is.
    pub scheme: EncryptionScheme,
    /// How its bytes are to be read.
    pub format: KeyFormat,
    /// Its bytes in that format.
    pub bytes: Vec<u8>,
}

impl EncryptionPublicKey {
    /// Its name.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint_of_bytes(&self.bytes)
    }
}

/// A key of a member.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PublicKey {
    /// For messages to it.
    Encryption(EncryptionPublicKey),
    /// For signatures by it.
    Signing(SigningPublicKey),
}

impl PublicKey {
    /// Its name.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Encryption(key) => key.fingerprint(),
            Self::Signing(key) => key.fingerprint().clone(),
        }
    }
}

/// A signature with the name of the key that made it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signature {
    /// How its bytes are to be read.
    pub format: SignatureFormat,
    /// DER for ECDSA, 64 bytes for Ed25519.
    pub bytes: Vec<u8>,
    /// The key.
    pub signed_by: Fingerprint,
    /// How it was made; signatures of old ledgers say nothing.
    pub algorithm: Option<SigningAlgorithm>,
}
