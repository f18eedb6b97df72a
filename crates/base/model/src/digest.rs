//! Digests: one newtype per meaning, so that a plan is never compared with a policy.

use std::fmt;
use std::str::FromStr;

/// Why text is not a fixed-size hexadecimal value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} is {expected} hexadecimal digits, not {found:?}")]
pub struct ParseHexError {
    /// The type that was expected.
    pub what: &'static str,
    /// How many digits it has.
    pub expected: usize,
    /// The text.
    pub found: String,
}

/// SHA-256 of the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Defines fixed-size byte newtypes with hexadecimal text and CBOR byte-string forms.
#[macro_export]
macro_rules! fixed_bytes {
    ($($(#[$doc:meta])* $name:ident[$size:literal];)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; $size]);

        impl $name {
            /// How many bytes it has.
            pub const BYTES: usize = $size;

            /// Wraps bytes.
            pub const fn new(bytes: [u8; $size]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $size] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let (head, _) = self.0.split_at($size.min(6));
                write!(f, "{}({}…)", stringify!($name), hex::encode(head))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::digest::ParseHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::digest::parse_hex(stringify!($name), text).map(Self)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                <[u8; $size]>::try_from(d.bytes()?).map(Self).map_err(|_| {
                    minicbor::decode::Error::message(concat!(
                        stringify!($name), " must have ", stringify!($size), " bytes"
                    ))
                })
            }
        }
    )+};
}

/// Parses exactly `N` bytes of hexadecimal text, in either case.
pub fn parse_hex<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], ParseHexError> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseHexError {
        what,
        expected: N.saturating_mul(2),
        found: text.to_owned(),
    })?;
    Ok(bytes)
}

fixed_bytes! {
    /// A counter of some code on a platform: SHA-256 over what it is for.
    CounterName[32];
    /// SHA-256 of an artifact's bytes.
    ArtifactDigest[32];
    /// SHA-256 over the context and the exact bytes of evidence.
    EvidenceDigest[32];
    /// A network: SHA-256 of the payload of its first root statement.
    NetworkId[32];
    /// A plan: SHA-256 of its encoding.
    PlanDigest[32];
    /// A policy: SHA-256 of its encoding.
    PolicyDigest[32];
    /// A release: SHA-256 of its encoding.
    ReleaseDigest[32];
    /// A log entry, and through its hash chain everything before it.
    LogHash[32];
    /// A journal record, and through its hash chain everything before it.
    JournalHash[32];
    /// The checksum of a keyring: the end of the hash chain over its generations.
    Checksum[32];
    /// SHA-256 of the certificate of an attestation root, in DER.
    AnchorId[32];
    /// Who approves what a machine with a TPM may boot: SHA-256 of the authority's key, as an
    /// uncompressed point (SEC 1).
    HostAuthority[32];
    /// A handover that a plan allows: SHA-256 of the encoding of its authorisation.
    AuthorisationDigest[32];
    /// One channel between two instances: SHA-256 of its exporter and both identity keys.
    ChannelDigest[32];
    /// What operators agree on for a flag day: SHA-256 of the encoding of its terms.
    TermsDigest[32];
    /// What the nodes of a service must have configured alike, hashed by the service.
    ConfigurationDigest[32];
    /// A block of a service's ledger, and through it everything before.
    BlockId[32];
    /// The old and new names of all parties that move: of its moves, sorted.
    PartyMapDigest[32];
    /// A set of contract ids.
    ContractSetDigest[32];
    /// A snapshot of contracts: of its bytes before compression.
    SnapshotDigest[32];
    /// A random or derived value that makes one answer fresh.
    Nonce[32];
}

impl CounterName {
    /// The counter of a node's witness in a domain.
    pub fn of_witness(
        domain: &crate::identifier::DomainId,
        node: &crate::identifier::NodeId,
    ) -> Self {
        let node = node.as_str().as_bytes();
        Self::new(sha256(&[crate::context::COUNTER_WITNESS, domain.as_bytes(), node]))
    }
}

/// A digest that hashes one encoded value under one context string.
pub trait DigestOf<T: ?Sized>: FromStr + fmt::Display {
    /// Digests exact bytes.
    fn of(bytes: &T) -> Self;
}

/// Gives digest newtypes a constructor that hashes bytes under a context of their own.
macro_rules! digest_of {
    ($($name:ident: $context:expr;)+) => {$(
        impl DigestOf<[u8]> for $name {
            fn of(bytes: &[u8]) -> Self {
                Self::new(sha256(&[$context, bytes]))
            }
        }
    )+};
}

digest_of! {
    ArtifactDigest: b"";
    AuthorisationDigest: crate::context::HANDOVER_AUTHORISATION;
    EvidenceDigest: crate::context::EVIDENCE_DIGEST;
    HostAuthority: crate::context::TPM_AUTHORITY;
    NetworkId: crate::context::NETWORK_ID;
    PartyMapDigest: crate::context::PARTY_MAP_DIGEST;
    PlanDigest: crate::context::PLAN_DIGEST;
    PolicyDigest: crate::context::POLICY_DIGEST;
    ReleaseDigest: crate::context::RELEASE_DIGEST;
    ConfigurationDigest: crate::context::CONFIGURATION_DIGEST;
    TermsDigest: crate::context::TERMS_DIGEST;
}
