//! How messages of consensus reach the other nodes: over the one attested session with each.

use std::error::Error;
use std::sync::Arc;

use heirloom_model::service::{Height, Tip};
use openraft::error::{
    Fatal, NetworkError, PayloadTooLarge, RPCError, RaftError, RemoteError, ReplicationClosed,
    StreamingError, Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, Snapshot, SnapshotMeta, Vote};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::limit::PEER_MESSAGE_BYTES_MAX;
use crate::peer::link::{Link, LinkError, Links};
use crate::peer::message::{PeerAnswer, PeerQuestion};
use crate::raft::types::{LedgerRaft, SnapshotNote};

/// Room for what is around the text of one message.
const AROUND_BYTES: usize = 64;
/// Messages with blocks to one peer for one snapshot.
const ROUNDS_MAX: usize = 1_000_000;

type RpcError<E = RaftError<u64>> = RPCError<u64, BasicNode, E>;

/// Finds the session with each node.
pub struct Network {
    /// All sessions.
    pub links: Arc<Links>,
    /// What peers that lag are sent.
    pub chain: Arc<Chain>,
}

/// The session with one node.
pub struct Client {
    link: Option<Arc<Link>>,
    chain: Arc<Chain>,
    target: u64,
}

/// A peer that lagged has all blocks, and follows the log from here on.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Install {
    /// Who leads.
    pub vote: Vote<u64>,
    /// Up to where the log is in the ledger.
    pub meta: SnapshotMeta<u64, BasicNode>,
    /// Where the ledger stood then.
    pub note: SnapshotNote,
}

/// Why a message did not do what it should.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("nobody knows the node")]
    Unknown,
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the peer refuses: {0}")]
    Refused(String),
    #[error("the peer's answer is none of consensus")]
    Malformed,
    #[error("own blocks cannot be read: {0}")]
    Unreadable(String),
}

impl RaftNetworkFactory<LedgerRaft> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _: &BasicNode) -> Client {
        Client { link: self.links.by_number(target), chain: Arc::clone(&self.chain), target }
    }
}

impl Client {
    async fn ask(&self, question: PeerQuestion) -> Result<PeerAnswer, SendError> {
        let link = self.link.as_ref().ok_or(SendError::Unknown)?;
        match link.ask(question).await? {
            PeerAnswer::Refused { reason } => Err(SendError::Refused(reason)),
            answer => Ok(answer),
        }
    }

    async fn ask_raft<T: DeserializeOwned>(&self, question: PeerQuestion) -> Result<T, SendError> {
        match self.ask(question).await? {
            PeerAnswer::Raft(text) => {
                serde_json::from_slice(&text).map_err(|_| SendError::Malformed)
            }
            PeerAnswer::At { .. } | PeerAnswer::Refused { .. } | PeerAnswer::Taken { .. } => {
                Err(SendError::Malformed)
            }
        }
    }

    /// Where the peer's ledger ends, after a message.
    async fn height(&self, question: PeerQuestion) -> Result<Height, SendError> {
        match self.ask(question).await? {
            PeerAnswer::At { tip, .. } => Ok(tip.height),
            PeerAnswer::Raft(_) | PeerAnswer::Refused { .. } | PeerAnswer::Taken { .. } => {
                Err(SendError::Malformed)
            }
        }
    }

    /// Sends a peer that lags what it does not have, up to a height.
    async fn catch_up(&self, upto: u64, own: Tip) -> Result<(), SendError> {
        let pending = self.chain.pending();
        let mut has = self.height(PeerQuestion::Compare { tip: own, pending }).await?;
        for _ in 0..ROUNDS_MAX {
            if has.0 >= upto {
                return Ok(());
            }
            let chain = Arc::clone(&self.chain);
            let read = tokio::task::spawn_blocking(move || chain.blocks_after(has)).await;
            let blocks = read.map_err(|error| SendError::Unreadable(error.to_string()))?;
            let blocks = blocks.map_err(|error| SendError::Unreadable(error.to_string()))?;
            has = self.height(PeerQuestion::Blocks(blocks)).await?;
        }
        Err(SendError::Refused("it takes blocks and does not get on".to_owned()))
    }

    async fn send_snapshot(
        &self,
        vote: Vote<u64>,
        snapshot: Snapshot<LedgerRaft>,
    ) -> Result<Vote<u64>, SendError> {
        self.catch_up(snapshot.snapshot.height, self.chain.tip()).await?;
        let install = Install { vote, meta: snapshot.meta, note: *snapshot.snapshot };
        let answer: Result<SnapshotResponse<u64>, Fatal<u64>> =
            self.ask_raft(PeerQuestion::Install(text(&install))).await?;
        answer.map(|answer| answer.vote).map_err(|error| SendError::Refused(error.to_string()))
    }
}

fn text<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages of consensus have a text")
}

impl RaftNetwork<LedgerRaft> for Client {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<LedgerRaft>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let bytes = text(&rpc);
        if bytes.len() > PEER_MESSAGE_BYTES_MAX.saturating_sub(AROUND_BYTES) {
            let half = u64::try_from(rpc.entries.len() / 2).unwrap_or(1).max(1);
            return Err(PayloadTooLarge::new_entries_hint(half).into());
        }
        let answer: Result<AppendEntriesResponse<u64>, RaftError<u64>> =
            self.ask_raft(PeerQuestion::Append(bytes)).await.map_err(|error| failed(&error))?;
        answer.map_err(|error| RemoteError::new(self.target, error).into())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError> {
        let question = PeerQuestion::Vote(text(&rpc));
        let answer: Result<VoteResponse<u64>, RaftError<u64>> =
            self.ask_raft(question).await.map_err(|error| failed(&error))?;
        answer.map_err(|error| RemoteError::new(self.target, error).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<LedgerRaft>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<LedgerRaft, Fatal<u64>>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(error) => Err(StreamingError::Unreachable(Unreachable::new(&error))),
            },
        }
    }

    fn backoff(&self) -> openraft::network::Backoff {
        openraft::network::Backoff::new(std::iter::repeat(crate::limit::PEER_REST))
    }
}

fn failed<E: Error + 'static>(error: &SendError) -> RPCError<u64, BasicNode, E> {
    match error {
        SendError::Link(LinkError::Full) => RPCError::Network(NetworkError::new(error)),
        SendError::Link(_)
        | SendError::Malformed
        | SendError::Refused(_)
        | SendError::Unknown
        | SendError::Unreadable(_) => RPCError::Unreachable(Unreachable::new(error)),
    }
}
