//! A connection to a synchronizer: entries in, votes out, again and again until it is cut.

use std::sync::{Arc, Weak};

use heirloom_model::causes::with_causes;
use heirloom_model::party::{ParticipantId, SynchronizerId};
use heirloom_participant::custodian::key::KeyUsage;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::limit::{
    CONNECT_MAX, OBSERVATION_MAX, RECONNECT_REST, STREAM_QUEUE, SYNCHRONIZER_MESSAGE_BYTES_MAX,
};
use crate::log::event;
use crate::node::Node;
use crate::node::error::NodeError;
use crate::synchronizer::server::challenge_hash;
use crate::synchronizer::wire::service::synchronizer_client::SynchronizerClient;
use crate::synchronizer::wire::{
    DescribeRequest, FollowRequest, FollowerSays, Hello, Parameters, Proof, Proposal,
    SubmitRequest, SynchronizerSays, Vote,
};

type Client = SynchronizerClient<Channel>;

/// What a connection is doing.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Standing {
    /// It is being made, or was lost.
    Apart,
    /// Everything that the synchronizer had when it was made was taken up.
    Following,
    /// It cannot go on: an entry was refused.
    Broken(String),
}

/// A connection to a synchronizer.
pub struct Link {
    synchronizer: SynchronizerId,
    physical: String,
    client: Client,
    standing: watch::Receiver<Standing>,
    position: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Link {
    /// Starts to follow.
    pub fn start(
        node: &Arc<Node>,
        client: Client,
        parameters: &Parameters,
    ) -> Result<Self, NodeError> {
        let synchronizer: SynchronizerId = parameters.synchronizer_id.parse()?;
        let participant = node.required_id()?;
        let (standing, is_standing) = watch::channel(Standing::Apart);
        let next = node.with_known(&synchronizer, |known| known.position.next).unwrap_or(0);
        let (position, at_position) = watch::channel(next);
        let (stop, stopped) = watch::channel(false);
        let follower = Follower {
            node: Arc::downgrade(node),
            participant,
            synchronizer: synchronizer.clone(),
            client: client.clone(),
            standing,
            position,
        };
        let task = tokio::spawn(follower.run(stopped));
        Ok(Self {
            synchronizer,
            physical: parameters.physical_id(),
            client,
            standing: is_standing,
            position: at_position,
            stop,
            task: std::sync::Mutex::new(Some(task)),
        })
    }

    /// To which synchronizer.
    pub fn synchronizer(&self) -> &SynchronizerId {
        &self.synchronizer
    }

    /// To which synchronizer, with protocol version and serial.
    pub fn physical(&self) -> &str {
        &self.physical
    }

    /// Whether it follows now.
    pub fn is_healthy(&self) -> bool {
        *self.standing.borrow() == Standing::Following
    }

    /// Waits until it follows.
    pub async fn wait_until_following(&self) -> Result<(), NodeError> {
        let mut standing = self.standing.clone();
        let settled = standing.wait_for(|standing| *standing != Standing::Apart);
        match tokio::time::timeout(OBSERVATION_MAX, settled).await {
            Ok(Ok(found)) => match &*found {
                Standing::Broken(reason) => Err(NodeError::Rejected(reason.clone())),
                _ => Ok(()),
            },
            _ => Err(NodeError::Unreachable(format!("{} does not answer", self.synchronizer))),
        }
    }

    /// Puts something into the log, and waits until this participant has seen it there.
    pub async fn submit(&self, proposal: Proposal) -> Result<u64, NodeError> {
        let request = SubmitRequest { proposal: Some(proposal) };
        let reply = self.client.clone().submit(request).await;
        let position = reply.map_err(|status| refused(&status))?.into_inner().position;
        let mut at = self.position.clone();
        let seen = at.wait_for(|next| *next > position);
        match tokio::time::timeout(OBSERVATION_MAX, seen).await {
            Ok(Ok(_)) => Ok(position),
            _ => Err(NodeError::Unknown(format!(
                "the synchronizer has accepted it at {position}, and this participant has not \
                 seen it there"
            ))),
        }
    }

    /// Cuts it, and waits until nothing comes in any more.
    pub async fn cut(&self) {
        self.stop.send_replace(true);
        let task = crate::node::lock(&self.task).take();
        if let Some(task) = task {
            // A task that panicked has ended too.
            task.await.ok();
        }
    }
}

/// Asks a synchronizer what it is.
pub async fn describe(address: &str) -> Result<(Client, Parameters), NodeError> {
    let unreachable = |why: String| NodeError::Unreachable(format!("{address}: {why}"));
    let url =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(url);
    let endpoint = endpoint.map_err(|error| NodeError::Invalid(with_causes(&error)))?;
    let channel = endpoint.connect_timeout(CONNECT_MAX).connect().await;
    let channel = channel.map_err(|error| unreachable(with_causes(&error)))?;
    let mut client = SynchronizerClient::new(channel)
        .max_decoding_message_size(SYNCHRONIZER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(SYNCHRONIZER_MESSAGE_BYTES_MAX);
    let described = client.describe(DescribeRequest {}).await;
    let parameters = described.map_err(|status| unreachable(status.message().to_owned()))?;
    Ok((client, parameters.into_inner()))
}

/// Proposes something over a connection that is not followed.
pub async fn submit_once(client: &Client, proposal: Proposal) -> Result<u64, NodeError> {
    let request = SubmitRequest { proposal: Some(proposal) };
    let reply = client.clone().submit(request).await;
    Ok(reply.map_err(|status| refused(&status))?.into_inner().position)
}

fn refused(status: &Status) -> NodeError {
    let message = status.message().to_owned();
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument => NodeError::Rejected(message),
        // The synchronizer says this itself: nothing was accepted.
        Code::Unavailable if message.contains("must confirm") => NodeError::Unreachable(message),
        _ => NodeError::Unknown(message),
    }
}

struct Follower {
    node: Weak<Node>,
    participant: ParticipantId,
    synchronizer: SynchronizerId,
    client: Client,
    standing: watch::Sender<Standing>,
    position: watch::Sender<u64>,
}

impl Follower {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        loop {
            let ended = self.follow(&mut stopped).await;
            let Err(error) = ended else { break };
            event("link", format_args!("{}: {}", self.synchronizer, with_causes(&error)));
            match error {
                NodeError::Unreachable(_) | NodeError::Unknown(_) => {
                    self.standing.send_replace(Standing::Apart);
                }
                other => {
                    self.standing.send_replace(Standing::Broken(with_causes(&other)));
                    break;
                }
            }
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(RECONNECT_REST) => {}
            }
        }
    }

    /// Returns without an error when it is told to stop, and then nothing is half done.
    async fn follow(&self, stopped: &mut watch::Receiver<bool>) -> Result<(), NodeError> {
        let (requests, outgoing) = mpsc::channel(STREAM_QUEUE);
        let from = *self.position.borrow();
        let hello = Hello { participant: self.participant.to_string(), from };
        say(&requests, FollowerSays::Hello(hello)).await?;
        let mut client = self.client.clone();
        let followed = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
            followed = client.follow(ReceiverStream::new(outgoing)) => followed,
        };
        let mut replies = followed.map_err(|status| lost(&status))?.into_inner();
        let mut until = None;
        loop {
            let reply = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
                reply = replies.next() => reply,
            };
            let Some(reply) = reply else { break };
            let says = reply.map_err(|status| lost(&status))?.says;
            match says {
                Some(SynchronizerSays::Challenge(challenge)) => {
                    let proof = self.prove(challenge).await?;
                    say(&requests, FollowerSays::Proof(proof)).await?;
                }
                Some(SynchronizerSays::Welcome(head)) => until = Some(head),
                Some(SynchronizerSays::Entry(entry)) => {
                    let next = entry.position + 1;
                    let synchronizer = self.synchronizer.clone();
                    self.with_node(move |node| node.process(&synchronizer, &entry)).await?;
                    self.position.send_replace(next);
                }
                Some(SynchronizerSays::Ballot(ballot)) => {
                    let synchronizer = self.synchronizer.clone();
                    let asked =
                        self.with_node(move |node| node.confirm(&synchronizer, &ballot.submission));
                    let refusal = asked.await.err().map(|error| with_causes(&error));
                    let vote = Vote { ballot: ballot.number, refusal };
                    say(&requests, FollowerSays::Vote(vote)).await?;
                }
                None => return Err(NodeError::Rejected("an unknown message".to_owned())),
            }
            if until.is_some_and(|head| *self.position.borrow() >= head) && !self.is_following() {
                self.standing.send_replace(Standing::Following);
            }
        }
        Err(NodeError::Unreachable("the synchronizer has closed the connection".to_owned()))
    }

    fn is_following(&self) -> bool {
        *self.standing.borrow() == Standing::Following
    }

    async fn prove(&self, challenge: Vec<u8>) -> Result<Proof, NodeError> {
        let (synchronizer, participant) = (self.synchronizer.clone(), self.participant.clone());
        self.with_node(move |node| {
            let key = node.key_for(KeyUsage::SequencerAuthentication)?;
            let hash = challenge_hash(synchronizer.as_str(), participant.as_str(), &challenge);
            let signed = node.sign(&key, &hash)?;
            Ok(Proof { signed_by: signed.signed_by, signature: signed.signature })
        })
        .await
    }

    async fn with_node<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Node) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let gone = || NodeError::Unreachable("the participant ends".to_owned());
        let node = self.node.upgrade().ok_or_else(gone)?;
        let acted = tokio::task::spawn_blocking(move || act(&node)).await;
        acted.map_err(|error| NodeError::Rejected(error.to_string()))?
    }
}

async fn say(requests: &mpsc::Sender<FollowRequest>, says: FollowerSays) -> Result<(), NodeError> {
    let request = FollowRequest { says: Some(says) };
    let sent = requests.send(request).await;
    sent.map_err(|_| NodeError::Unreachable("the synchronizer has gone".to_owned()))
}

fn lost(status: &Status) -> NodeError {
    let message = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated | Code::DataLoss | Code::InvalidArgument | Code::Aborted => {
            NodeError::Rejected(message)
        }
        _ => NodeError::Unreachable(message),
    }
}
