//! The synchronizer's process: calls in, log out.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use heirloom_canton::hash::{Multihash, Purpose, canton_hash};
use heirloom_canton_node::wire::crypto::SigningKeyUsage;
use heirloom_canton_node::wire::sequencer::sequencer_connect_service_server::SequencerConnectServiceServer;
use heirloom_model::causes::with_causes;
use heirloom_model::party::ParticipantId;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::limit::{FOLLOWER_QUEUE, FOLLOWERS_MAX, READ_CONTRACTS, SYNCHRONIZER_MESSAGE_BYTES_MAX};
use crate::log::event;
use crate::synchronizer::admission::{check, key_of};
use crate::synchronizer::connect::Connect;
use crate::synchronizer::sequencer::{Sequencer, SubmitError};
use crate::synchronizer::wire::service::synchronizer_server::{Synchronizer, SynchronizerServer};
use crate::synchronizer::wire::{
    Ballot, DescribeRequest, FollowReply, FollowRequest, FollowerSays, Parameters, SubmitReply,
    SubmitRequest, SynchronizerSays,
};

/// Bytes of a challenge.
const CHALLENGE_BYTES: usize = 32;

type Replies = mpsc::Sender<Result<FollowReply, Status>>;

/// Serves until `until` is done.
pub async fn serve(
    sequencer: Arc<Sequencer>,
    listener: TcpListener,
    until: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let connect = Connect { sequencer: Arc::clone(&sequencer) };
    let service = SynchronizerServer::new(Service { sequencer })
        .max_decoding_message_size(SYNCHRONIZER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(SYNCHRONIZER_MESSAGE_BYTES_MAX);
    // One address for both, as a real sequencer has one for participants and for who asks first.
    Server::builder()
        .add_service(service)
        .add_service(SequencerConnectServiceServer::new(connect))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), until)
        .await
}

/// Listens at an address.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// What a participant signs to follow.
pub fn challenge_hash(synchronizer: &str, participant: &str, challenge: &[u8]) -> Multihash {
    let mut message = Vec::new();
    for part in [synchronizer.as_bytes(), participant.as_bytes(), challenge] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    canton_hash(Purpose::AuthenticationToken, &message)
}

struct Service {
    sequencer: Arc<Sequencer>,
}

#[tonic::async_trait]
impl Synchronizer for Service {
    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<Parameters>, Status> {
        Ok(Response::new(self.sequencer.parameters().clone()))
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitReply>, Status> {
        let proposal = request.into_inner().proposal;
        let proposal = proposal.ok_or_else(|| status(&SubmitError::Nothing))?;
        // A caller that goes away does not stop what others already confirm.
        let sequencer = Arc::clone(&self.sequencer);
        let submitted = tokio::spawn(async move { sequencer.submit(proposal).await });
        let submitted = submitted.await.map_err(|error| Status::internal(error.to_string()))?;
        let position = submitted.map_err(|error| status(&error))?;
        Ok(Response::new(SubmitReply { position }))
    }

    type FollowStream = Pin<Box<dyn Stream<Item = Result<FollowReply, Status>> + Send>>;

    async fn follow(
        &self,
        request: Request<Streaming<FollowRequest>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        if self.sequencer.followers() >= FOLLOWERS_MAX {
            return Err(Status::resource_exhausted("too many participants"));
        }
        let (replies, stream) = mpsc::channel(FOLLOWER_QUEUE);
        let sequencer = Arc::clone(&self.sequencer);
        tokio::spawn(async move {
            if let Err(status) = follow(sequencer, request.into_inner(), &replies).await {
                event("follower-ended", status.message());
                // The participant may have gone.
                replies.send(Err(status)).await.ok();
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

async fn follow(
    sequencer: Arc<Sequencer>,
    mut said: Streaming<FollowRequest>,
    replies: &Replies,
) -> Result<(), Status> {
    let (participant, from) = introduce(&sequencer, &mut said, replies).await?;
    let (ballots, asked) = mpsc::channel(FOLLOWER_QUEUE);
    sequencer.join(&participant, ballots.clone());
    event("follower", &participant);
    let votes = async {
        while let Some(request) = said.next().await {
            match request?.says {
                Some(FollowerSays::Vote(vote)) => {
                    sequencer.vote(&participant, vote.ballot, vote.refusal);
                }
                _ => return Err(Status::invalid_argument("only votes are expected")),
            }
        }
        Ok(())
    };
    let sent = tell(&sequencer, &participant, from, asked, replies);
    let ended = tokio::select! {
        ended = votes => ended,
        ended = sent => ended,
    };
    sequencer.leave(&participant, &ballots);
    ended
}

/// Who it is, and the proof of that.
async fn introduce(
    sequencer: &Sequencer,
    said: &mut Streaming<FollowRequest>,
    replies: &Replies,
) -> Result<(ParticipantId, u64), Status> {
    let Some(FollowerSays::Hello(hello)) = next(said).await? else {
        return Err(Status::invalid_argument("a participant says first who it is"));
    };
    let participant: ParticipantId =
        hello.participant.parse().map_err(|error| Status::invalid_argument(with_causes(&error)))?;
    let mut challenge = [0; CHALLENGE_BYTES];
    aws_lc_rs::rand::fill(&mut challenge).map_err(|_| Status::internal("no randomness"))?;
    tell_one(replies, SynchronizerSays::Challenge(challenge.to_vec())).await?;
    let Some(FollowerSays::Proof(proof)) = next(said).await? else {
        return Err(Status::invalid_argument("a participant proves then who it is"));
    };
    let synchronizer = &sequencer.parameters().synchronizer_id;
    let hash = challenge_hash(synchronizer, participant.as_str(), &challenge);
    sequencer
        .with_topology(|topology| {
            let usage = SigningKeyUsage::SequencerAuthentication;
            let key = key_of(topology, &participant, &proof.signed_by, usage)?;
            check(key, &hash, &proof.signed_by, &proof.signature)
        })
        .map_err(|error| Status::unauthenticated(with_causes(&error)))?;
    let head = *sequencer.head().borrow();
    if hello.from > head {
        let found = hello.from;
        return Err(Status::data_loss(format!(
            "the participant has {found} entries, and the log {head}"
        )));
    }
    tell_one(replies, SynchronizerSays::Welcome(head)).await?;
    Ok((participant, hello.from))
}

async fn next(said: &mut Streaming<FollowRequest>) -> Result<Option<FollowerSays>, Status> {
    match said.next().await {
        Some(request) => Ok(request?.says),
        None => Err(Status::cancelled("the participant has gone")),
    }
}

/// Entries in order, and a ballot only when every entry before it is told.
async fn tell(
    sequencer: &Sequencer,
    participant: &ParticipantId,
    from: u64,
    mut asked: mpsc::Receiver<Ballot>,
    replies: &Replies,
) -> Result<(), Status> {
    let mut head: watch::Receiver<u64> = sequencer.head();
    let mut from = from;
    loop {
        from = tell_entries(sequencer, participant, from, replies).await?;
        tokio::select! {
            changed = head.changed() => {
                changed.map_err(|_| Status::unavailable("the synchronizer ends"))?;
            }
            ballot = asked.recv() => {
                let Some(ballot) = ballot else {
                    return Err(Status::aborted("another connection took this one's place"));
                };
                from = tell_entries(sequencer, participant, from, replies).await?;
                tell_one(replies, SynchronizerSays::Ballot(ballot)).await?;
            }
        }
    }
}

async fn tell_entries(
    sequencer: &Sequencer,
    participant: &ParticipantId,
    from: u64,
    replies: &Replies,
) -> Result<u64, Status> {
    let mut from = from;
    while from < *sequencer.head().borrow() {
        let entries = sequencer.entries(participant, from, READ_CONTRACTS);
        let entries = entries.map_err(|error| Status::internal(with_causes(&error)))?;
        for entry in entries {
            from = entry.position + 1;
            tell_one(replies, SynchronizerSays::Entry(entry)).await?;
        }
    }
    Ok(from)
}

async fn tell_one(replies: &Replies, says: SynchronizerSays) -> Result<(), Status> {
    let reply = FollowReply { says: Some(says) };
    replies.send(Ok(reply)).await.map_err(|_| Status::cancelled("the participant has gone"))
}

fn status(error: &SubmitError) -> Status {
    let message = with_causes(error);
    match error {
        SubmitError::Store(_) => Status::internal(message),
        SubmitError::Nothing | SubmitError::Malformed(_) => Status::invalid_argument(message),
        SubmitError::Topology(_) | SubmitError::Submission(_) | SubmitError::Rejected { .. } => {
            Status::failed_precondition(message)
        }
        SubmitError::NoConfirmation { .. } => Status::unavailable(message),
    }
}
