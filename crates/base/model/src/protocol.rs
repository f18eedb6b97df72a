//! What keepers and applications say to each other.
//!
//! The channel is mutual TLS 1.3, ended inside the keeper, and attested: [`Hello`],
//! [`Introduction`], then [`PeerRequest`] and [`PeerResponse`]. What a keeper and its own agent
//! say to each other is in [`admin`](crate::admin).
//!
//! Every message is one frame: four bytes of big-endian length, then canonical CBOR.

use minicbor::{Decode, Encode};
use zeroize::Zeroize;

use crate::counter::{Epoch, Generation, SecurityVersion, Serial};
use crate::digest::{Checksum, NetworkId, Nonce};
use crate::domain::LogPosition;
use crate::evidence::Evidence;
use crate::handover::{HandoverChallenge, HandoverProof, HandoverRequest};
use crate::identifier::{ApplicationId, DomainId, KeyId};
use crate::limit::{EVIDENCE_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::measurement::Measurement;
use crate::wire;

/// The one version of the session protocol that this release speaks.
pub const SESSION_VERSION: u8 = 2;

/// First message of each side of a session, right after the TLS handshake.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Hello {
    /// [`SESSION_VERSION`].
    #[n(0)]
    pub version: u8,
    /// Which network the session is about.
    #[n(1)]
    pub network: NetworkId,
    /// Which domain the session is about.
    #[n(2)]
    pub domain: DomainId,
    /// The other side's evidence must repeat it.
    #[n(3)]
    pub nonce: Nonce,
}

/// Second message of each side: evidence over the other side's nonce, this channel's exporter and
/// the key that authenticated it.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Introduction {
    /// The evidence.
    #[n(0)]
    pub evidence: Evidence,
    /// How far the sender has followed the log, so that both can say who is behind.
    #[n(1)]
    pub as_of: LogPosition,
}

/// What an initiator asks of a holder.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum PeerRequest {
    /// A key of the application that asks.
    #[n(0)]
    Key(#[n(0)] KeyRequest),
    /// Committed generations, from `newest` downwards, at most `count` of them.
    #[n(1)]
    Replicate {
        /// The first one to send.
        #[n(0)]
        newest: Generation,
        /// The most to send in one answer.
        #[n(1)]
        count: u32,
    },
    /// The generation that this order proposed and that is not committed yet.
    #[n(2)]
    ReplicateProposed {
        /// The nonce of the order.
        #[n(0)]
        order: Nonce,
    },
    /// The keyring, handed over by a step of a plan.
    #[n(3)]
    HandOver(#[n(0)] HandoverRequest),
    /// The answer to the donor's challenge, and what is missing. May be repeated in one session
    /// with the same report, for the generations that follow.
    #[n(4)]
    ProveHandover(#[n(0)] HandoverProof),
}

/// Which key, of which application, from when.
#[derive(Clone, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeyRequest {
    /// Whose key; the asker's measurement must be listed for it.
    #[n(0)]
    pub application: ApplicationId,
    /// Its name.
    #[n(1)]
    pub key: KeyId,
    /// Its kind. Keys of different kinds have nothing in common.
    #[n(2)]
    pub kind: KeyKind,
    /// From which secret.
    #[n(3)]
    pub period: KeyPeriod,
    /// Which half.
    #[n(4)]
    pub part: KeyPart,
}

/// A kind of key.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum KeyKind {
    /// 32 random-looking bytes.
    #[n(0)]
    Symmetric,
    /// X25519 (RFC 7748): 32-byte private key, 32-byte public key.
    #[n(1)]
    X25519,
    /// Ed25519 (RFC 8032): 32-byte seed, 32-byte public key.
    #[n(2)]
    Ed25519,
    /// ECDSA or ECDH on P-256 (FIPS 186-5): 32-byte scalar, 33-byte compressed point.
    #[n(3)]
    P256,
    /// secp256k1 (SEC 2): 32-byte scalar, 33-byte compressed point.
    #[n(4)]
    Secp256k1,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Symmetric, Self::X25519, Self::Ed25519, Self::P256, Self::Secp256k1];

    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Symmetric => "symmetric",
            Self::X25519 => "x25519",
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
            Self::Secp256k1 => "secp256k1",
        }
    }
}

/// From which secret a key is derived.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub enum KeyPeriod {
    /// The newest committed generation. The answer says which.
    #[n(0)]
    Newest,
    /// Exactly this generation.
    #[n(1)]
    Generation(#[n(0)] Generation),
    /// The ephemeral secret of this epoch, while it is kept.
    #[n(2)]
    Epoch(#[n(0)] Epoch),
}

/// Which half of a key.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum KeyPart {
    /// The secret.
    #[n(0)]
    Private,
    /// The public key only. Symmetric keys have none.
    #[n(1)]
    Public,
}

/// A holder's answer. It has no `Clone`, `Debug` or `PartialEq`, because it may carry secrets.
#[derive(Decode, Encode)]
pub enum PeerResponse {
    /// The key.
    #[n(0)]
    Key(#[n(0)] KeyAnswer),
    /// Generations, newest first.
    #[n(1)]
    Generations(#[n(0)] Vec<ReplicatedGeneration>),
    /// No, and why.
    #[n(2)]
    Refused(#[n(0)] PeerRefusal),
    /// The donor's answer to a handover request.
    #[n(3)]
    HandoverChallenge(#[n(0)] Box<HandoverChallenge>),
}

/// A derived key.
#[derive(Decode, Encode)]
pub struct KeyAnswer {
    /// The generation that it was derived from.
    #[n(0)]
    pub generation: Generation,
    /// The secret, if it was asked for.
    #[n(1)]
    pub secret: Option<WireSecret>,
    /// The public key, for kinds that have one.
    #[n(2)]
    pub public: Option<PublicPart>,
    /// The policy that permitted it.
    #[n(3)]
    pub policy: Serial,
}

/// The public half of a derived key: 32 or 33 bytes.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(transparent)]
pub struct PublicPart(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub Vec<u8>,
);

/// One generation on its way to a replica.
#[derive(Decode, Encode)]
pub struct ReplicatedGeneration {
    /// Which.
    #[n(0)]
    pub generation: Generation,
    /// Its master secret.
    #[n(1)]
    pub secret: WireSecret,
    /// The checksum of the keyring before it, which the receiver verifies through the chain.
    #[n(2)]
    pub previous: Checksum,
}

/// 32 secret bytes inside a message. Wiped when dropped; no `Clone`, `Debug` or `PartialEq`.
pub struct WireSecret([u8; 32]);

impl WireSecret {
    /// Copies secret bytes into a message.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// Lends the bytes.
    pub fn expose<R>(&self, use_bytes: impl FnOnce(&[u8; 32]) -> R) -> R {
        use_bytes(&self.0)
    }
}

impl Drop for WireSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<C> Encode<C> for WireSecret {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for WireSecret {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let bytes = <[u8; 32]>::try_from(d.bytes()?)
            .map_err(|_| minicbor::decode::Error::message("a secret has 32 bytes"))?;
        Ok(Self(bytes))
    }
}

/// Why a holder refuses a peer. Codes and identifiers only.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq, thiserror::Error)]
pub enum PeerRefusal {
    /// The application's measurement is not listed for what it asks.
    #[n(0)]
    #[error("policy serial {policy} does not let {measurement} ask for this key of {application}")]
    ApplicationNotListed {
        /// The policy in force.
        #[n(0)]
        policy: Serial,
        /// Who asked.
        #[n(1)]
        measurement: Measurement,
        /// For whose keys.
        #[n(2)]
        application: ApplicationId,
    },
    /// The asker's code is too old for its own rule.
    #[n(1)]
    #[error("policy serial {policy} demands security version {required} of {measurement}")]
    SecurityVersionTooLow {
        /// The policy in force.
        #[n(0)]
        policy: Serial,
        /// Who asked.
        #[n(1)]
        measurement: Measurement,
        /// What the rule demands.
        #[n(2)]
        required: SecurityVersion,
    },
    /// The policy does not name the edge from the holder to the asker.
    #[n(2)]
    #[error("policy serial {policy} names no edge from {from} to {to}")]
    NoEdge {
        /// The policy in force.
        #[n(0)]
        policy: Serial,
        /// The holder.
        #[n(1)]
        from: Measurement,
        /// The asker.
        #[n(2)]
        to: Measurement,
    },
    /// The holder does not hold what is asked for.
    #[n(3)]
    #[error("this keeper does not hold generation {generation}")]
    NotHeld {
        /// What was asked for.
        #[n(0)]
        generation: Generation,
    },
    /// The epoch's secret is not served: too old, or in the future.
    #[n(4)]
    #[error("ephemeral keys are served from epoch {oldest} to {newest}")]
    EpochOutOfRange {
        /// Oldest epoch served.
        #[n(0)]
        oldest: Epoch,
        /// Newest epoch served.
        #[n(1)]
        newest: Epoch,
    },
    /// The order is not known, or not the one in hand.
    #[n(5)]
    #[error("no such generation is proposed")]
    NotProposed,
    /// The kind of key has no public half.
    #[n(6)]
    #[error("a symmetric key has no public part")]
    NoPublicPart,
    /// The keeper is not serving now.
    #[n(7)]
    #[error("this keeper is not serving: {state}")]
    NotServing {
        /// Its state.
        #[n(0)]
        state: ServingState,
    },
    /// The session's evidence is older than the policy allows.
    #[n(8)]
    #[error("the session's evidence is too old: connect again")]
    EvidenceTooOld,
    /// The policy expired, or the network's time is not known.
    #[n(9)]
    #[error("policy serial {policy} permits nothing now: it expired")]
    PolicyExpired {
        /// The policy.
        #[n(0)]
        policy: Serial,
    },
    /// The request asks for more than one answer may carry, or for nothing.
    #[n(10)]
    #[error("the request is outside its limits")]
    OutOfLimits,
    /// No approved plan allows this handover now.
    #[n(11)]
    #[error("no plan allows this handover: {reason}")]
    NotAuthorised {
        /// What stands in the way.
        #[n(0)]
        reason: String,
    },
    /// What the receiver attested is not what this handover demands.
    #[n(12)]
    #[error("the receiver did not attest for this handover: {reason}")]
    NotAttested {
        /// What is wrong with it.
        #[n(0)]
        reason: String,
    },
    /// The keyring of an exclusive domain moves only by a handover.
    #[n(13)]
    #[error("the domain is exclusive: its keyring moves only by a handover")]
    Exclusive,
}

/// What a keeper is doing.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum ServingState {
    /// It has not followed the log far enough to know its policy.
    #[n(0)]
    Starting,
    /// It holds no key and waits to receive or create one.
    #[n(1)]
    Empty,
    /// It is receiving the keyring.
    #[n(2)]
    Replicating,
    /// It holds the keyring and serves.
    #[n(3)]
    Ready,
    /// It holds the keyring and lets running requests end.
    #[n(4)]
    Draining,
    /// It found sealed state that it cannot open, keeps it, and says why.
    #[n(5)]
    Unreadable,
    /// The log or the sealed state is older than what this keeper has seen before.
    #[n(6)]
    RolledBack,
    /// The policy in force does not let this code hold keys.
    #[n(7)]
    Withdrawn,
    /// It holds the keyring of an exclusive domain and is not its active holder.
    #[n(8)]
    Standby,
    /// It was the active holder of an exclusive domain and has said that it serves no more.
    #[n(9)]
    Suspended,
    /// It was the active holder of an exclusive domain, and another instance took its place.
    #[n(10)]
    Superseded,
    /// It is the active holder of an exclusive domain and does not know whether it still is: its
    /// agent has not shown it the end of the log in time, or it has just taken the place of an
    /// instance that may not know yet.
    #[n(11)]
    Unattended,
    /// It is an upgrader that holds the keyring and serves nobody.
    #[n(12)]
    Carrying,
    /// Its platform counts, and the counter can be neither read nor raised: it does not know
    /// whether what it has is the newest.
    #[n(13)]
    Uncounted,
}

impl ServingState {
    /// Whether whoever may have a key is answered, if only because its request runs already.
    pub fn answers(self) -> bool {
        matches!(self, Self::Ready | Self::Draining)
    }

    /// Whether policy lets the keyring be held, and nothing or not everything of it is here.
    pub fn lacks(self) -> bool {
        matches!(self, Self::Empty | Self::Replicating)
    }

    /// Whether everything that is committed is held, and policy lets it be held.
    pub fn holds(self) -> bool {
        match self {
            Self::Ready
            | Self::Draining
            | Self::Standby
            | Self::Suspended
            | Self::Superseded
            | Self::Unattended
            | Self::Carrying => true,
            Self::Starting
            | Self::Empty
            | Self::Replicating
            | Self::Unreadable
            | Self::RolledBack
            | Self::Withdrawn
            | Self::Uncounted => false,
        }
    }
}

impl std::fmt::Display for ServingState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Empty => "empty",
            Self::Replicating => "replicating",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Unreadable => "unreadable",
            Self::RolledBack => "rolled-back",
            Self::Withdrawn => "withdrawn",
            Self::Standby => "standby",
            Self::Suspended => "suspended",
            Self::Superseded => "superseded",
            Self::Unattended => "unattended",
            Self::Carrying => "carrying",
            Self::Uncounted => "uncounted",
        })
    }
}

wire! {
    Hello: "session hello", 256;
    Introduction: "session introduction", EVIDENCE_BYTES_MAX + 256;
    PeerRequest: "request", MESSAGE_BYTES_MAX;
    PeerResponse: "response", MESSAGE_BYTES_MAX;
}
