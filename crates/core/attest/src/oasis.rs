//! What an Oasis key manager says about itself when it registers (`extra_info`).
//!
//! The keeper of an Oasis network must answer in this format, and the operator's tools compare
//! what the nodes of both versions answered: equal checksums mean equal master secrets.
//!
//! The encoding is Oasis' own canonical CBOR: maps with text keys, shorter keys first. Whatever
//! does not encode to the bytes that it was decoded from is refused, unknown fields first.

use aws_lc_rs::digest::{SHA512_256, digest};
use heirloom_model::digest::Checksum;
use heirloom_model::signature::{PublicKey, Signature, SigningKey};
use minicbor::{Decoder, Encoder};

/// Real values have 200 to 300 bytes.
pub const EXTRA_INFO_BYTES_MAX: usize = 1024;

/// Oasis' context of signatures over init responses.
const SIGNATURE_CONTEXT: &[u8] = b"oasis-core/keymanager: init response";

/// What a key manager enclave answers to its initialisation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InitResponse {
    /// Whether it is a production build that enforces its policy.
    pub is_secure: bool,
    /// The checksum of the newest master secret that it holds; none if it holds nothing.
    pub checksum: Option<Checksum>,
    /// The checksum if the proposed master secret were accepted.
    pub next_checksum: Option<Checksum>,
    /// The checksum of the policy that it follows; none if it follows none.
    pub policy_checksum: Option<Checksum>,
    /// The runtime signing key.
    pub rsk: Option<PublicKey>,
    /// The runtime signing key if the proposed master secret were accepted.
    pub next_rsk: Option<PublicKey>,
}

/// An init response with a signature that nobody verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedInitResponse {
    /// What is signed.
    pub response: InitResponse,
    /// By the runtime attestation key, or so it should be.
    pub signature: Signature,
}

/// An init response that the runtime attestation key signed. Only
/// [`SignedInitResponse::verify`] makes one.
///
/// Whether that key belongs to an enclave is for the evidence in the node's descriptor to show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedInitResponse {
    response: InitResponse,
    rak: PublicKey,
}

/// Why bytes are no signed init response.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OasisError {
    /// More bytes than any key manager sends.
    #[error("extra info has {found} bytes, more than the {EXTRA_INFO_BYTES_MAX} allowed")]
    TooLarge {
        /// How many.
        found: usize,
    },
    /// Not CBOR, or not of the expected shape.
    #[error("extra info cannot be decoded: {fault}")]
    Malformed {
        /// The position and kind of the fault, for people.
        fault: String,
    },
    /// A field that this release does not know. Key managers refuse it too.
    #[error("extra info has an unknown field {name:?}")]
    UnknownField {
        /// Its name.
        name: String,
    },
    /// A value of a length that it cannot have.
    #[error("{name} has {found} bytes")]
    Length {
        /// The field.
        name: &'static str,
        /// How many bytes it has.
        found: usize,
    },
    /// A second spelling: trailing bytes, another order, a field twice.
    #[error("extra info is not in canonical form")]
    NotCanonical,
    /// The key did not sign this.
    #[error("the init response is not signed by {rak}")]
    Signature {
        /// The key that should have.
        rak: PublicKey,
    },
}

impl From<minicbor::decode::Error> for OasisError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed { fault: error.to_string() }
    }
}

impl SignedInitResponse {
    /// Decodes `extra_info` (the bytes, not their base64 text).
    pub fn decode(bytes: &[u8]) -> Result<Self, OasisError> {
        if bytes.len() > EXTRA_INFO_BYTES_MAX {
            return Err(OasisError::TooLarge { found: bytes.len() });
        }
        let mut decoder = Decoder::new(bytes);
        let mut response = None;
        let mut signature = None;
        for _ in 0..fields(&mut decoder)? {
            match decoder.str()? {
                "init_response" => response = Some(InitResponse::decode(&mut decoder)?),
                "signature" => signature = Some(fixed("signature", decoder.bytes()?)?),
                unknown => return Err(OasisError::UnknownField { name: unknown.to_owned() }),
            }
        }
        let (Some(response), Some(signature)) = (response, signature) else {
            return Err(OasisError::Malformed { fault: "a field is missing".to_owned() });
        };
        let decoded = Self { response, signature: Signature::new(signature) };
        if decoded.encode() != bytes {
            return Err(OasisError::NotCanonical);
        }
        Ok(decoded)
    }

    /// The bytes of `extra_info`.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut e = Encoder::new(&mut bytes);
        e.map(2)
            .and_then(|e| {
                e.str("signature")?.bytes(self.signature.as_bytes())?.str("init_response")
            })
            .expect(INTO_MEMORY);
        bytes.extend(self.response.encode());
        bytes
    }

    /// Succeeds if the runtime attestation key signed the response.
    pub fn verify(&self, rak: &PublicKey) -> Result<VerifiedInitResponse, OasisError> {
        rak.verify_bytes(&self.response.signing_bytes(), &self.signature)
            .map_err(|_| OasisError::Signature { rak: *rak })?;
        Ok(VerifiedInitResponse { response: self.response.clone(), rak: *rak })
    }
}

/// Signs a response with the runtime attestation key and encodes both as `extra_info`.
pub fn encode_signed(response: &InitResponse, rak: &SigningKey) -> Vec<u8> {
    let signature = rak.sign(&response.signing_bytes()).signature;
    SignedInitResponse { response: response.clone(), signature }.encode()
}

impl VerifiedInitResponse {
    /// What the enclave said.
    pub fn response(&self) -> &InitResponse {
        &self.response
    }

    /// The key that signed it.
    pub fn rak(&self) -> PublicKey {
        self.rak
    }
}

impl InitResponse {
    /// Its canonical encoding: what the signature is about.
    pub fn encode(&self) -> Vec<u8> {
        let checksum = |sum: &Option<Checksum>| {
            sum.as_ref().map_or_else(Vec::new, |sum| sum.as_bytes().to_vec())
        };
        let bytes = |name, value: Vec<u8>| (name, Value::Bytes(value));
        let key = |name, key: &Option<PublicKey>| {
            key.as_ref().map(|key| bytes(name, key.as_bytes().to_vec()))
        };
        // In canonical order: shorter names first. Two fields are always there, even if empty.
        let fields: Vec<(&str, Value)> = [
            key("rsk", &self.rsk),
            Some(bytes("checksum", checksum(&self.checksum))),
            key("next_rsk", &self.next_rsk),
            Some(("is_secure", Value::Flag(self.is_secure))),
            self.next_checksum
                .as_ref()
                .map(|_| bytes("next_checksum", checksum(&self.next_checksum))),
            Some(bytes("policy_checksum", checksum(&self.policy_checksum))),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut e = Encoder::new(Vec::new());
        e.map(fields.len() as u64).expect(INTO_MEMORY);
        for (name, value) in fields {
            e.str(name).expect(INTO_MEMORY);
            match value {
                Value::Bytes(bytes) => e.bytes(&bytes).expect(INTO_MEMORY),
                Value::Flag(flag) => e.bool(flag).expect(INTO_MEMORY),
            };
        }
        e.into_writer()
    }

    fn decode(d: &mut Decoder<'_>) -> Result<Self, OasisError> {
        let mut response = Self::default();
        for _ in 0..fields(d)? {
            match d.str()? {
                "checksum" => response.checksum = checksum("checksum", d)?,
                "is_secure" => response.is_secure = d.bool()?,
                "next_checksum" => response.next_checksum = checksum("next_checksum", d)?,
                "next_rsk" => response.next_rsk = Some(key("next_rsk", d)?),
                "policy_checksum" => response.policy_checksum = checksum("policy_checksum", d)?,
                "rsk" => response.rsk = Some(key("rsk", d)?),
                unknown => return Err(OasisError::UnknownField { name: unknown.to_owned() }),
            }
        }
        Ok(response)
    }

    /// Oasis signs SHA-512/256 of context and message.
    fn signing_bytes(&self) -> Vec<u8> {
        let message = [SIGNATURE_CONTEXT, &self.encode()].concat();
        digest(&SHA512_256, &message).as_ref().to_vec()
    }
}

/// A value in an init response.
enum Value {
    Bytes(Vec<u8>),
    Flag(bool),
}

const INTO_MEMORY: &str = "encoding into memory cannot fail";

fn fields(d: &mut Decoder<'_>) -> Result<u64, OasisError> {
    d.map()?.ok_or(OasisError::NotCanonical)
}

fn checksum(name: &'static str, d: &mut Decoder<'_>) -> Result<Option<Checksum>, OasisError> {
    let bytes = d.bytes()?;
    if bytes.is_empty() {
        return Ok(None);
    }
    fixed(name, bytes).map(Checksum::new).map(Some)
}

fn key(name: &'static str, d: &mut Decoder<'_>) -> Result<PublicKey, OasisError> {
    fixed(name, d.bytes()?).map(PublicKey::new)
}

fn fixed<const N: usize>(name: &'static str, bytes: &[u8]) -> Result<[u8; N], OasisError> {
    <[u8; N]>::try_from(bytes).map_err(|_| OasisError::Length { name, found: bytes.len() })
}
