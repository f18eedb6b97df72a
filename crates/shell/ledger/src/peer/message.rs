//! What peers say to each other, inside attested sessions.

use heirloom_model::digest::{BlockId, ConfigurationDigest, NetworkId};
use heirloom_model::identifier::{ApplicationId, NodeId};
use heirloom_model::service::Tip;
use heirloom_model::wire;
use minicbor::{Decode, Encode};

use crate::limit::PEER_MESSAGE_BYTES_MAX;

/// The first message of both sides: what the session's evidence does not say.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Greeting {
    /// Who speaks.
    #[n(0)]
    pub node: NodeId,
    /// Its network.
    #[n(1)]
    pub network: NetworkId,
    /// Whose keys it uses.
    #[n(2)]
    pub application: ApplicationId,
    /// What it has configured.
    #[n(3)]
    pub configuration: ConfigurationDigest,
}

/// The second message of the side that accepted.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Welcome {
    /// It is a peer.
    #[n(0)]
    Peer,
    /// It is none.
    #[n(1)]
    Refused {
        /// The word for why.
        #[n(0)]
        code: String,
    },
}

/// What a peer asks.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum PeerQuestion {
    /// A message of consensus: a vote.
    #[n(0)]
    Vote(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// A message of consensus: entries of the log, or none to show that the leader is there.
    #[n(1)]
    Append(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// A message of consensus: the log is followed from here on.
    #[n(2)]
    Install(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Committed blocks, in order, for a peer that lags.
    #[n(3)]
    Blocks(#[n(0)] Vec<EncodedBlock>),
    /// Transactions for whoever leads.
    #[n(4)]
    Submit(#[n(0)] Vec<EncodedTransaction>),
    /// Where does your ledger end, and which block do you have here?
    #[n(5)]
    Compare {
        /// Where ours ends.
        #[n(0)]
        tip: Tip,
        /// What is not settled here.
        #[n(1)]
        pending: u64,
    },
}

/// What a peer answers.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum PeerAnswer {
    /// An answer of consensus.
    #[n(0)]
    Raft(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Where the ledger ends now.
    #[n(1)]
    At {
        /// The end.
        #[n(0)]
        tip: Tip,
        /// The block at the height that was asked about, if there is one.
        #[n(1)]
        there: Option<BlockId>,
        /// What is not settled there.
        #[n(2)]
        pending: u64,
    },
    /// It is not done.
    #[n(2)]
    Refused {
        /// Why, for people.
        #[n(0)]
        reason: String,
    },
    /// How many were taken.
    #[n(3)]
    Taken {
        /// How many.
        #[n(0)]
        count: u32,
    },
}

/// The encoding of a block with its metadata.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(transparent)]
pub struct EncodedBlock(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

/// The encoding of a transaction.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(transparent)]
pub struct EncodedTransaction(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

wire! {
    Greeting: "greeting of a peer", 512;
    Welcome: "welcome of a peer", 256;
    PeerQuestion: "question of a peer", PEER_MESSAGE_BYTES_MAX;
    PeerAnswer: "answer of a peer", PEER_MESSAGE_BYTES_MAX;
}
