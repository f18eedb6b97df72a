//! What agents, keepers and applications say to each other.
//!
//! Two channels. The *session* channel is mutual TLS 1.3, ended inside the keeper, and attested:
//! [`Hello`], [`Introduction`], then [`PeerRequest`] and [`PeerResponse`]. The *admin* channel is
//! a local socket between an agent and its keeper: [`AdminRequest`] and [`AdminResponse`]. Nothing
//! on the admin channel is secret, and nothing that an agent says there is believed.
//!
//! Every message is one frame: four bytes of big-endian length, then canonical CBOR.

use minicbor::{Decode, Encode};
use zeroize::Zeroize;

use crate::counter::{Epoch, Generation, SecurityVersion, Serial};
use crate::digest::{Checksum, NetworkId, Nonce, PolicyDigest};
use crate::domain::{HoldingOrigin, LogPosition};
use crate::evidence::Evidence;
use crate::identifier::{ApplicationId, DomainId, KeyId, NodeId, PlatformId};
use crate::limit::{ADMIN_MESSAGE_BYTES_MAX, EVIDENCE_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::log::LogEntry;
use crate::measurement::Measurement;
use crate::sealed::CpuSvn;
use crate::signature::PublicKey;
use crate::wire;

/// The one version of the session protocol that this release speaks.
pub const SESSION_VERSION: u8 = 1;

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
        })
    }
}

/// What an agent asks of its own keeper.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum AdminRequest {
    /// Entries that follow what the keeper has. Answered with [`AdminResponse::Position`].
    #[n(0)]
    Follow(#[n(0)] Vec<LogEntry>),
    /// How are you? Answered with [`AdminResponse::Status`].
    #[n(1)]
    Status,
    /// Make a registration. Answered with [`AdminResponse::Statement`].
    #[n(2)]
    Register,
    /// Unseal everything once, without changing anything. Answered with [`AdminResponse::Done`].
    #[n(3)]
    Probe,
    /// Answer a challenge that is in the log, from durable state. Answered with a statement.
    #[n(4)]
    Prove {
        /// The challenge.
        #[n(0)]
        challenge: Nonce,
    },
    /// Carry out a generation order that names this node, or repeat what was carried out.
    /// Answered with a statement: the receipt.
    #[n(5)]
    CreateGeneration {
        /// The nonce of the order.
        #[n(0)]
        order: Nonce,
    },
    /// Receive the proposed generation from one of these holders. Answered with a statement.
    #[n(6)]
    ReceiveGeneration {
        /// The nonce of the order.
        #[n(0)]
        order: Nonce,
        /// Who may have it.
        #[n(1)]
        sources: Vec<Source>,
    },
    /// Receive every missing generation from these holders. Answered with [`AdminResponse::Done`].
    #[n(7)]
    Replicate {
        /// Who may have them.
        #[n(0)]
        sources: Vec<Source>,
    },
    /// Let running requests end and accept no new ones. Answered with [`AdminResponse::Done`].
    #[n(8)]
    Drain,
    /// Take part again after a drain. Answered with [`AdminResponse::Done`].
    #[n(9)]
    Resume,
    /// End the process in order. Answered with [`AdminResponse::Done`].
    #[n(10)]
    Shutdown,
}

/// Where a holder can be reached. Untrusted: whoever answers there must attest.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Source {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// `address:port`.
    #[n(1)]
    pub address: String,
}

/// What a keeper answers its agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum AdminResponse {
    /// It is done, and durable where it has to be.
    #[n(0)]
    Done,
    /// How far the keeper has followed the log.
    #[n(1)]
    Position(#[n(0)] LogPosition),
    /// Its status.
    #[n(2)]
    Status(#[n(0)] Box<KeeperStatus>),
    /// The encoding of a signed envelope, to be appended to the log.
    #[n(3)]
    Statement(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// No, and why.
    #[n(4)]
    Refused(#[n(0)] AdminRefusal),
}

/// Why a keeper did not do what its agent asked.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq, thiserror::Error)]
pub enum AdminRefusal {
    /// The request does not fit the keeper's state.
    #[n(0)]
    #[error("the keeper is {state}")]
    State {
        /// Its state.
        #[n(0)]
        state: ServingState,
    },
    /// Sealed state cannot be opened.
    #[n(1)]
    #[error("sealed state cannot be opened: {0}")]
    Unreadable(#[n(0)] Unreadable),
    /// The log entries do not continue what the keeper has seen.
    #[n(2)]
    #[error("the log does not continue what this keeper has seen: {0}")]
    Log(#[n(0)] String),
    /// The log does not contain what the request refers to.
    #[n(3)]
    #[error("the log does not contain what this request refers to")]
    NotInLog,
    /// No source gave what was missing. The text names the last reason of each.
    #[n(4)]
    #[error("no source gave the missing generations: {0}")]
    NotReplicated(#[n(0)] String),
    /// Writing sealed state failed. Nothing was lost; try again.
    #[n(5)]
    #[error("sealed state could not be written: {0}")]
    Storage(#[n(0)] String),
    /// The platform did not do its part.
    #[n(6)]
    #[error("the platform did not do its part: {0}")]
    Platform(#[n(0)] String),
    /// The platform says that this code can be read from outside.
    #[n(7)]
    #[error("debug code never holds keys")]
    Debug,
}

/// Why a sealed file cannot be opened. The file is kept.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq, thiserror::Error)]
pub enum Unreadable {
    /// Other code sealed it: upgrade by replication, or start that code again.
    #[n(0)]
    #[error("{file} was sealed by {sealed_by}, this code is {own}")]
    WrongMeasurement {
        /// The file.
        #[n(0)]
        file: String,
        /// Who sealed it.
        #[n(1)]
        sealed_by: Measurement,
        /// Who wants to open it.
        #[n(2)]
        own: Measurement,
    },
    /// Another machine sealed it: replicate, or move the disk back.
    #[n(1)]
    #[error("{file} was sealed on platform {sealed_on}, this is {own}")]
    OtherPlatform {
        /// The file.
        #[n(0)]
        file: String,
        /// Where it was sealed.
        #[n(1)]
        sealed_on: PlatformId,
        /// Where it should be opened.
        #[n(2)]
        own: PlatformId,
    },
    /// The platform's firmware is older than when it was sealed: update it again.
    #[n(2)]
    #[error("{file} was sealed at CPUSVN {sealed_at}, the platform stands at {own}")]
    PlatformRolledBack {
        /// The file.
        #[n(0)]
        file: String,
        /// CPUSVN then.
        #[n(1)]
        sealed_at: CpuSvn,
        /// CPUSVN now.
        #[n(2)]
        own: CpuSvn,
    },
    /// The code's security version is lower than when it was sealed.
    #[n(3)]
    #[error("{file} was sealed at security version {sealed_at}, this code has {own}")]
    CodeRolledBack {
        /// The file.
        #[n(0)]
        file: String,
        /// ISVSVN then.
        #[n(1)]
        sealed_at: u16,
        /// ISVSVN now.
        #[n(2)]
        own: u16,
    },
    /// It belongs to another domain.
    #[n(4)]
    #[error("{file} belongs to domain {found}")]
    OtherDomain {
        /// The file.
        #[n(0)]
        file: String,
        /// Whose it is.
        #[n(1)]
        found: DomainId,
    },
    /// The bytes are not what was written.
    #[n(5)]
    #[error("{file} is corrupt")]
    Corrupt {
        /// The file.
        #[n(0)]
        file: String,
    },
    /// The generations do not form one chain that ends in the committed checksum.
    #[n(6)]
    #[error("the generations up to {newest} do not form one chain")]
    BrokenChain {
        /// The newest generation on disk.
        #[n(0)]
        newest: Generation,
    },
}

/// What a keeper says about itself.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct KeeperStatus {
    /// What it is doing.
    #[n(0)]
    pub state: ServingState,
    /// Where it runs, as it was told.
    #[n(1)]
    pub node: NodeId,
    /// Its network.
    #[n(2)]
    pub network: NetworkId,
    /// Its domain.
    #[n(3)]
    pub domain: DomainId,
    /// Identity key of this instance; new at every start.
    #[n(4)]
    pub instance: PublicKey,
    /// Its code.
    #[n(5)]
    pub measurement: Measurement,
    /// The newest generation that it holds, with the checksum.
    #[n(6)]
    pub holding: Option<Holding>,
    /// How many generations it holds of how many it wants, while it replicates.
    #[n(7)]
    pub progress: Option<Progress>,
    /// The policy that it follows.
    #[n(8)]
    pub policy: Option<FollowedPolicy>,
    /// How far it has followed the log.
    #[n(9)]
    pub position: LogPosition,
    /// Why sealed state cannot be opened, if it cannot.
    #[n(10)]
    pub unreadable: Option<Unreadable>,
    /// Whether the policy and the log let it carry out generation orders.
    #[n(11)]
    pub may_generate: bool,
    /// CBOR of `{init_response, signature}`, as Oasis nodes publish it; none before a policy.
    #[n(12)]
    pub extra_info: Option<ExtraInfo>,
    /// Key requests answered since it started.
    #[n(13)]
    pub requests_served: u64,
    /// Key requests refused since it started.
    #[n(14)]
    pub requests_refused: u64,
}

/// What a keeper holds.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Holding {
    /// Newest committed generation.
    #[n(0)]
    pub generation: Generation,
    /// Checksum of the keyring.
    #[n(1)]
    pub checksum: Checksum,
    /// How the instance came to it.
    #[n(2)]
    pub origin: HoldingOrigin,
}

/// How far replication is.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Progress {
    /// Generations received and sealed.
    #[n(0)]
    pub received: u64,
    /// Generations wanted.
    #[n(1)]
    pub wanted: u64,
}

/// A policy that a keeper follows.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct FollowedPolicy {
    /// Its serial.
    #[n(0)]
    pub serial: Serial,
    /// Its digest.
    #[n(1)]
    pub digest: PolicyDigest,
}

/// A signed init response in the encoding that Oasis nodes publish.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(transparent)]
pub struct ExtraInfo(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub Vec<u8>,
);

wire! {
    Hello: "session hello", 256;
    Introduction: "session introduction", EVIDENCE_BYTES_MAX + 256;
    PeerRequest: "request", MESSAGE_BYTES_MAX;
    PeerResponse: "response", MESSAGE_BYTES_MAX;
    AdminRequest: "admin request", ADMIN_MESSAGE_BYTES_MAX;
    AdminResponse: "admin response", ADMIN_MESSAGE_BYTES_MAX;
    KeeperStatus: "keeper status", MESSAGE_BYTES_MAX;
}
