//! What participants and the synchronizer say to each other.

use std::fmt;

use prost::{Message, Oneof};

/// The generated client and server.
pub mod service {
    #![allow(clippy::pedantic, clippy::too_many_lines, reason = "generated code")]

    tonic::include_proto!("heirloom.synchronizer.v1.Synchronizer");
}

/// Asks which synchronizer this is.
#[derive(Clone, PartialEq, Message)]
pub struct DescribeRequest {}

/// What a synchronizer is and demands. It never changes.
#[derive(Clone, PartialEq, Message)]
pub struct Parameters {
    /// Its name.
    #[prost(string, tag = "1")]
    pub synchronizer_id: String,
    /// The serial of the physical synchronizer.
    #[prost(uint32, tag = "2")]
    pub serial: u32,
    /// The protocol version.
    #[prost(uint32, tag = "3")]
    pub protocol_version: u32,
    /// Signing keys that members may have, as numbers of the real format.
    #[prost(int32, repeated, tag = "4")]
    pub signing_keys: Vec<i32>,
    /// Encryption keys that members may have.
    #[prost(int32, repeated, tag = "5")]
    pub encryption_keys: Vec<i32>,
}

impl Parameters {
    /// The name with protocol version and serial.
    pub fn physical_id(&self) -> String {
        format!("{}::{}-{}", self.synchronizer_id, self.protocol_version, self.serial)
    }
}

/// Something that should stand in the log.
#[derive(Clone, PartialEq, Message)]
pub struct SubmitRequest {
    /// What.
    #[prost(oneof = "Proposal", tags = "1, 2")]
    pub proposal: Option<Proposal>,
}

/// What may stand in the log.
#[derive(Clone, PartialEq, Oneof)]
pub enum Proposal {
    /// A signed topology transaction, with its version wrapper.
    #[prost(bytes, tag = "1")]
    Topology(Vec<u8>),
    /// A transaction of contracts.
    #[prost(message, tag = "2")]
    Transaction(SignedSubmission),
}

/// A submission with its signature. The bytes are what was signed.
#[derive(Clone, PartialEq, Message)]
pub struct SignedSubmission {
    /// A [`Submission`].
    #[prost(bytes = "vec", tag = "1")]
    pub submission: Vec<u8>,
    /// The fingerprint of the key that signed.
    #[prost(string, tag = "2")]
    pub signed_by: String,
    /// The signature of the hash of the submission.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

/// Contracts that come and go together.
#[derive(Clone, PartialEq, Message)]
pub struct Submission {
    /// Where.
    #[prost(string, tag = "1")]
    pub synchronizer_id: String,
    /// The participant that submits.
    #[prost(string, tag = "2")]
    pub participant: String,
    /// The parties that want it.
    #[prost(string, repeated, tag = "3")]
    pub act_as: Vec<String>,
    /// The user's name for it.
    #[prost(string, tag = "4")]
    pub command_id: String,
    /// Who asked for it.
    #[prost(string, tag = "5")]
    pub user_id: String,
    /// The name of what the commands belong to.
    #[prost(string, tag = "6")]
    pub workflow_id: String,
    /// What happens, in order.
    #[prost(message, repeated, tag = "7")]
    pub nodes: Vec<Node>,
}

/// One thing that happens.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// What.
    #[prost(oneof = "Happening", tags = "1, 2")]
    pub happening: Option<Happening>,
}

/// What can happen.
#[derive(Clone, PartialEq, Oneof)]
pub enum Happening {
    /// A contract is made: its blob.
    #[prost(bytes, tag = "1")]
    Create(Vec<u8>),
    /// A contract ends.
    #[prost(message, tag = "2")]
    Archive(Archive),
}

/// A contract that ends.
#[derive(Clone, PartialEq, Message)]
pub struct Archive {
    /// Which.
    #[prost(bytes = "vec", tag = "1")]
    pub contract_id: Vec<u8>,
    /// Who signed it. Participants that confirm compare.
    #[prost(string, repeated, tag = "2")]
    pub signatories: Vec<String>,
    /// Who else sees it.
    #[prost(string, repeated, tag = "3")]
    pub observers: Vec<String>,
}

/// It stands in the log.
#[derive(Clone, PartialEq, Message)]
pub struct SubmitReply {
    /// Where.
    #[prost(uint64, tag = "1")]
    pub position: u64,
}

/// A participant on its connection.
#[derive(Clone, PartialEq, Message)]
pub struct FollowRequest {
    /// What it says.
    #[prost(oneof = "FollowerSays", tags = "1, 2, 3")]
    pub says: Option<FollowerSays>,
}

/// What a participant says.
#[derive(Clone, PartialEq, Oneof)]
pub enum FollowerSays {
    /// First: who it is.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Second: that it is who it says.
    #[prost(message, tag = "2")]
    Proof(Proof),
    /// Then: what it thinks of a transaction.
    #[prost(message, tag = "3")]
    Vote(Vote),
}

/// Who wants to follow.
#[derive(Clone, PartialEq, Message)]
pub struct Hello {
    /// The participant.
    #[prost(string, tag = "1")]
    pub participant: String,
    /// The first position that it does not have.
    #[prost(uint64, tag = "2")]
    pub from: u64,
}

/// The signature of the challenge.
#[derive(Clone, PartialEq, Message)]
pub struct Proof {
    /// The fingerprint of the key for this purpose.
    #[prost(string, tag = "1")]
    pub signed_by: String,
    /// The signature.
    #[prost(bytes = "vec", tag = "2")]
    pub signature: Vec<u8>,
}

/// What a participant thinks of a transaction.
#[derive(Clone, PartialEq, Message)]
pub struct Vote {
    /// Which question is answered.
    #[prost(uint64, tag = "1")]
    pub ballot: u64,
    /// Why not; nothing if it confirms.
    #[prost(string, optional, tag = "2")]
    pub refusal: Option<String>,
}

/// The synchronizer on a participant's connection.
#[derive(Clone, PartialEq, Message)]
pub struct FollowReply {
    /// What it says.
    #[prost(oneof = "SynchronizerSays", tags = "1, 2, 3, 4")]
    pub says: Option<SynchronizerSays>,
}

/// What the synchronizer says.
#[derive(Clone, PartialEq, Oneof)]
pub enum SynchronizerSays {
    /// First: what to sign.
    #[prost(bytes, tag = "1")]
    Challenge(Vec<u8>),
    /// Second: the proof was right, and the log has so many entries.
    #[prost(uint64, tag = "2")]
    Welcome(u64),
    /// Then: the next entry.
    #[prost(message, tag = "3")]
    Entry(Entry),
    /// And: whether this transaction may stand in the log.
    #[prost(message, tag = "4")]
    Ballot(Ballot),
}

/// A question to a participant.
#[derive(Clone, PartialEq, Message)]
pub struct Ballot {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// A [`Submission`].
    #[prost(bytes = "vec", tag = "2")]
    pub submission: Vec<u8>,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Where it stands; positions have no gaps.
    #[prost(uint64, tag = "1")]
    pub position: u64,
    /// When it was accepted, in microseconds since 1970.
    #[prost(int64, tag = "2")]
    pub time_micros: i64,
    /// What it is; nothing if it does not concern whoever reads it.
    #[prost(oneof = "Accepted", tags = "3, 4")]
    pub accepted: Option<Accepted>,
    /// The participants that a transaction concerns. Only the synchronizer's own log has them.
    #[prost(string, repeated, tag = "5")]
    pub informees: Vec<String>,
}

/// What stands in the log.
#[derive(Clone, PartialEq, Oneof)]
pub enum Accepted {
    /// A signed topology transaction.
    #[prost(bytes, tag = "3")]
    Topology(Vec<u8>),
    /// A [`Submission`].
    #[prost(bytes, tag = "4")]
    Transaction(Vec<u8>),
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.physical_id())
    }
}
