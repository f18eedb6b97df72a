//! Sessions that this node opens: one with each other node, opened again whenever it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heirloom_model::causes::with_causes;
use heirloom_session::error::SessionError;
use heirloom_session::session::{Session, connect_before};
use heirloom_session::stream::dial;
use tokio::sync::oneshot;

use crate::command::PeerAddress;
use crate::limit::{
    PEER_ANSWER_MAX, PEER_CONNECT_MAX, PEER_EXCHANGE, PEER_QUEUE_MAX, PEER_REFUSED_REST, PEER_REST,
};
use crate::log::event;
use crate::peer::admission::{PeerRefusal, SECOND_INSTANCE};
use crate::peer::living::Present;
use crate::peer::message::{Greeting, PeerAnswer, PeerQuestion, Welcome};
use crate::raft::types::number;
use crate::service::{PeerPosition, Service};

/// The sessions with all other nodes.
#[derive(Default)]
pub struct Links {
    by_number: BTreeMap<u64, Arc<Link>>,
}

/// The session with one other node.
pub struct Link {
    peer: PeerAddress,
    jobs: SyncSender<Job>,
    /// Whether there is a session.
    is_up: AtomicBool,
}

struct Job {
    question: PeerQuestion,
    answer: oneshot::Sender<Result<PeerAnswer, LinkError>>,
}

/// Why a peer gave no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LinkError {
    /// There is no session with it.
    #[error("there is no session with the peer")]
    Down,
    /// Too many questions wait for it.
    #[error("too many questions wait for the peer")]
    Full,
    /// The session ended before the answer. Whether the question was heard is not known.
    #[error("the session with the peer ended before its answer")]
    Lost,
}

/// Why a session could not be opened or went on no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TalkError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Refused(#[from] PeerRefusal),
    #[error("the peer refuses this node: {0}")]
    RefusedByPeer(String),
    #[error("the peer says {0:?} and is expected to be another node")]
    OtherNode(heirloom_model::identifier::NodeId),
    #[error("what the session rests on was replaced or has expired")]
    Stale,
}

impl Links {
    /// Opens a session with each peer, and keeps it open until the service ends.
    pub fn start(
        service: &Arc<Service>,
        peers: &[PeerAddress],
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (mut by_number, mut threads) = (BTreeMap::new(), Vec::new());
        for peer in peers {
            let (jobs, queue) = sync_channel(PEER_QUEUE_MAX);
            let link = Arc::new(Link { peer: peer.clone(), jobs, is_up: AtomicBool::new(false) });
            by_number.insert(number(&peer.node), Arc::clone(&link));
            let service = Arc::clone(service);
            let named = thread::Builder::new().name(format!("peer {}", peer.node));
            threads.push(named.spawn(move || link.run(&service, &queue))?);
        }
        Ok((Self { by_number }, threads))
    }

    /// The session with the node of a number.
    pub fn by_number(&self, number: u64) -> Option<Arc<Link>> {
        self.by_number.get(&number).cloned()
    }

    /// All other nodes.
    pub fn count(&self) -> usize {
        self.by_number.len()
    }
}

impl Link {
    /// Asks the peer.
    pub async fn ask(&self, question: PeerQuestion) -> Result<PeerAnswer, LinkError> {
        if !self.is_up.load(Ordering::Acquire) {
            return Err(LinkError::Down);
        }
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job { question, answer }).map_err(|error| match error {
            TrySendError::Full(_) => LinkError::Full,
            TrySendError::Disconnected(_) => LinkError::Down,
        })?;
        answered.await.unwrap_or(Err(LinkError::Lost))
    }

    fn run(&self, service: &Service, queue: &Receiver<Job>) {
        let mut said = String::new();
        while !service.is_over() {
            let ended = self.talk(service, queue, &mut said);
            self.is_up.store(false, Ordering::Release);
            let is_refused = match &ended {
                Err(TalkError::Refused(refusal)) => refusal.code() != SECOND_INSTANCE,
                Err(TalkError::RefusedByPeer(code)) => code != SECOND_INSTANCE,
                Err(TalkError::OtherNode(_)) => true,
                Err(TalkError::Session(_) | TalkError::Stale) | Ok(()) => false,
            };
            if let Err(error) = ended {
                let reason = with_causes(&error);
                if reason != said && !service.is_over() {
                    event("peer-away", format_args!("{}: {reason}", self.peer.node));
                    said = reason;
                }
            }
            rest(queue, if is_refused { PEER_REFUSED_REST } else { PEER_REST });
        }
    }

    fn talk(
        &self,
        service: &Service,
        queue: &Receiver<Job>,
        said: &mut String,
    ) -> Result<(), TalkError> {
        let deadline = Instant::now() + PEER_CONNECT_MAX;
        let stream = dial(&self.peer.address, deadline)?;
        let context = service.session_context();
        let mut session = connect_before(deadline, stream, service.identity(), &context)?;
        session.set_patience(PEER_ANSWER_MAX)?;
        session.send(&service.greeting())?;
        let greeting: Greeting = session.receive()?;
        // The peer is seen until the session ends.
        let present = service.judge(session.peer(), &greeting)?;
        if present.seen().node != self.peer.node {
            return Err(TalkError::OtherNode(present.seen().node.clone()));
        }
        if let Welcome::Refused { code } = session.receive()? {
            return Err(TalkError::RefusedByPeer(code));
        }
        event("peer", format_args!("{} is attested", self.peer.node));
        said.clear();
        self.is_up.store(true, Ordering::Release);
        let ended = Self::serve(service, queue, &mut session, &present);
        drop(present);
        ended
    }

    fn serve<S: heirloom_session::stream::Stream>(
        service: &Service,
        queue: &Receiver<Job>,
        session: &mut Session<S>,
        peer: &Present,
    ) -> Result<(), TalkError> {
        let mut compared = Instant::now();
        while !service.is_over() {
            if !service.is_current(session.peer()) {
                return Err(TalkError::Stale);
            }
            let left = PEER_EXCHANGE.saturating_sub(compared.elapsed());
            match queue.recv_timeout(left) {
                Ok(Job { question, answer }) => {
                    let result = exchange(session, &question);
                    let failed = result.is_err();
                    let told = result.as_ref().map_err(|_| LinkError::Lost).cloned();
                    // Whoever asked may have gone.
                    answer.send(told).ok();
                    if failed {
                        return result.map(drop);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if compared.elapsed() >= PEER_EXCHANGE {
                compared = Instant::now();
                let PeerPosition { tip, pending } = service.position();
                if let PeerAnswer::At { tip: theirs, there, pending } =
                    exchange(session, &PeerQuestion::Compare { tip, pending })?
                {
                    let theirs = PeerPosition { tip: theirs, pending };
                    service.compared(peer, tip, theirs, there);
                }
            }
        }
        Ok(())
    }
}

fn exchange<S: heirloom_session::stream::Stream>(
    session: &mut Session<S>,
    question: &PeerQuestion,
) -> Result<PeerAnswer, TalkError> {
    session.send(question)?;
    Ok(session.receive()?)
}

/// Waits, and tells whoever asks meanwhile that nobody is there.
fn rest(queue: &Receiver<Job>, time: Duration) {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match queue.recv_timeout(left) {
            Ok(job) => drop(job.answer.send(Err(LinkError::Down))),
            Err(_) => return,
        }
    }
}
