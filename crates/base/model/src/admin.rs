//! What an agent and its keeper say to each other, over a local socket.
//!
//! Nothing here is secret, and nothing that an agent says is believed. Every message is one frame:
//! four bytes of big-endian length, then canonical CBOR.

use minicbor::{Decode, Encode};

use crate::counter::{Generation, Serial};
use crate::digest::{Checksum, NetworkId, Nonce, PolicyDigest};
use crate::domain::{ActivationCause, HoldingOrigin, LogPosition, PlanStep};
use crate::identifier::{DomainId, NodeId, PlatformId};
use crate::limit::{ADMIN_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX};
use crate::log::LogEntry;
use crate::measurement::Measurement;
use crate::policy::HolderRole;
use crate::protocol::ServingState;
use crate::sealed::CpuSvn;
use crate::signature::PublicKey;
use crate::wire;

/// What an agent asks of its own keeper.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum AdminRequest {
    /// Entries that follow what the keeper has; none if there are none. Answered with
    /// [`AdminResponse::Position`].
    #[n(0)]
    Follow {
        /// The entries.
        #[n(0)]
        entries: Vec<LogEntry>,
        /// These entries are the end of the log, read after this ticket was given.
        #[n(1)]
        attended: Option<Ticket>,
    },
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
    /// The agent is about to read the log to its end. Answered with [`AdminResponse::Ticket`].
    #[n(11)]
    Attend,
    /// Receive the keyring from this donor by this step. Answered with [`AdminResponse::Done`].
    #[n(12)]
    HandOver {
        /// The step of a plan.
        #[n(0)]
        step: PlanStep,
        /// The donor.
        #[n(1)]
        source: Source,
    },
    /// Serve no more, by this step. Answered with a statement: the suspension.
    #[n(13)]
    Suspend(#[n(0)] PlanStep),
    /// Become the active holder. Answered with a statement: the activation.
    #[n(14)]
    Activate(#[n(0)] ActivationCause),
    /// Give up the copy, by this step. Answered with [`AdminResponse::Done`].
    #[n(15)]
    Forget(#[n(0)] PlanStep),
    /// Seal everything again as platform and code are now. Answered with [`AdminResponse::Done`].
    #[n(16)]
    Reseal,
}

/// A keeper's note of when its agent began to look. Means nothing to anybody else.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(transparent)]
pub struct Ticket(#[n(0)] pub u64);

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
    /// The keeper has noted that its agent looks.
    #[n(5)]
    Ticket(#[n(0)] Ticket),
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
    /// No plan allows this step now.
    #[n(8)]
    #[error("no plan allows this: {0}")]
    NotAuthorised(#[n(0)] String),
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
    /// A newer secret of the machine sealed it than the machine has: somebody put older state of
    /// the machine back.
    #[n(7)]
    #[error("{file} was sealed with machine secret {sealed_with}, the machine's newest is {own}")]
    MachineSecretMissing {
        /// The file.
        #[n(0)]
        file: String,
        /// The number of the secret then.
        #[n(1)]
        sealed_with: u32,
        /// The number of the newest now.
        #[n(2)]
        own: u32,
    },
    /// The platform's keys depend on circumstances that are other ones now: restore them, or take
    /// the keyring from another holder.
    #[n(8)]
    #[error(
        "{file} was sealed under other circumstances, and this platform has no key for them: {reason}"
    )]
    OtherCircumstances {
        /// The file.
        #[n(0)]
        file: String,
        /// What differs, for people.
        #[n(1)]
        reason: String,
    },
    /// The keeper of another node sealed it: somebody put that node's directory here, or started
    /// this one under another name.
    #[n(9)]
    #[error("{file} was sealed by the keeper of node {found}, this is the one of node {own}")]
    OtherNode {
        /// The file.
        #[n(0)]
        file: String,
        /// Whose it is.
        #[n(1)]
        found: NodeId,
        /// Who wants to open it.
        #[n(2)]
        own: NodeId,
    },
    /// It has another format than this code writes: start the release that sealed it, or take the
    /// keyring from another holder.
    #[n(10)]
    #[error("{file} is of format version {found}, this code reads version {own}")]
    OtherFormat {
        /// The file.
        #[n(0)]
        file: String,
        /// The version of the file.
        #[n(1)]
        found: u8,
        /// The version that this code reads and writes.
        #[n(2)]
        own: u8,
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
    /// What its code does with the keyring.
    #[n(15)]
    pub role: HolderRole,
    /// `address:port` where peers and applications reach it; empty while it is not known.
    #[n(16)]
    pub address: String,
    /// Whether some sealed file was made at lower security versions than the present ones.
    #[n(17)]
    pub sealing: SealingAge,
    /// Why what it holds does not last, if it does not. Its registration says the same to plans.
    #[n(18)]
    pub volatile: Option<Volatile>,
    /// By how much its newest witness is behind the platform's counter, if it is.
    #[n(19)]
    pub behind: Option<WitnessGap>,
    /// Why the platform's counter can be neither read nor raised, if that is so. Until it can, the
    /// keeper does nothing.
    #[n(20)]
    pub uncounted: Option<String>,
}

/// Why what a keeper holds does not last.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Volatile {
    /// Its platform seals nothing: it holds for as long as it runs.
    #[n(0)]
    Memory,
    /// Its platform's keys change with each update: it holds until the next one.
    #[n(1)]
    UntilUpdate,
}

impl std::fmt::Display for Volatile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Memory => "holds, not durable: the platform seals nothing",
            Self::UntilUpdate => "holds until the platform is updated",
        })
    }
}

/// An old directory: the platform has counted further than the newest witness in it.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq, thiserror::Error)]
#[error("the platform's counter stands at {counter}, the newest witness is {}", shown(*.newest))]
pub struct WitnessGap {
    /// Where the platform's counter stands.
    #[n(0)]
    pub counter: u64,
    /// The number of the newest witness that opens; none if there is none.
    #[n(1)]
    pub newest: Option<u64>,
}

fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| "missing".to_owned(), |number| number.to_string())
}

/// Whether sealed files were made by platform and code as they are now.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum SealingAge {
    /// All of them were.
    #[n(0)]
    Current,
    /// Some were made before platform or code were updated.
    #[n(1)]
    Older,
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
    AdminRequest: "admin request", ADMIN_MESSAGE_BYTES_MAX;
    AdminResponse: "admin response", ADMIN_MESSAGE_BYTES_MAX;
    KeeperStatus: "keeper status", MESSAGE_BYTES_MAX;
}
