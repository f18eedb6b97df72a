//! Sessions with holders, and the order in which holders are asked.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use heirloom_keeper::handshake::{NotAHolder, expect_server};
use heirloom_keeper::port::Platform;
use heirloom_model::admin::Source;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::policy::Sharing;
use heirloom_model::protocol::PeerRefusal;
use heirloom_registry::network::NetworkState;
use heirloom_session::context::SessionContext;
use heirloom_session::limit::PIPELINE_MAX;
use heirloom_session::session::{Session, connect_before};
use heirloom_session::stream::dial;
use heirloom_session::tls::Identity;

use crate::error::{AttemptError, Unanswered, WaitingFor};
use crate::follower::Shared;
use crate::key::Holder;
use crate::limit::{ATTEMPTS_MAX, pause};
use crate::round::{Round, View};

/// Who we are, and what about.
pub(crate) struct Own {
    pub(crate) network: NetworkId,
    pub(crate) domain: DomainId,
    pub(crate) identity: Identity,
    pub(crate) platform: Box<dyn Platform + Send>,
    pub(crate) attempt_time: Duration,
}

/// The holders of one domain, as one client knows them.
pub(crate) struct Holders {
    own: Own,
    sessions: BTreeMap<NodeId, Kept>,
    /// Who answered last is asked first.
    preferred: Option<NodeId>,
}

/// A session that is kept for the next call.
struct Kept {
    address: String,
    session: Session<TcpStream>,
}

impl Holders {
    pub(crate) fn new(own: Own) -> Self {
        Self { own, sessions: BTreeMap::new(), preferred: None }
    }

    pub(crate) fn domain(&self) -> &DomainId {
        &self.own.domain
    }

    /// Asks one holder after the other until every request of the round has an answer.
    pub(crate) fn answer(
        &mut self,
        round: &mut Round<'_>,
        known: &Shared,
    ) -> Result<(), Unanswered> {
        let mut failures = BTreeMap::new();
        let mut failing = None;
        let mut attempts = 0;
        loop {
            let (sources, waiting_for, changes) = self.candidates(known);
            for source in sources {
                attempts += 1;
                if round.is_complete() {
                    return Ok(());
                }
                if attempts > ATTEMPTS_MAX || Instant::now() >= round.deadline {
                    break;
                }
                match self.ask(&source, round, known) {
                    Ok(()) => self.preferred = Some(source.node),
                    Err(failure) => {
                        if !failure.leaves_session() {
                            self.sessions.remove(&source.node);
                        }
                        // That our own time ran out says less than what was wrong before.
                        if !(failure.is_our_deadline(round.deadline)
                            && failures.contains_key(&source.node))
                        {
                            failures.insert(source.node, failure);
                        }
                    }
                }
            }
            if round.is_complete() {
                return Ok(());
            }
            let left = round.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || attempts > ATTEMPTS_MAX {
                let registry = known.lock().problem().cloned();
                return Err(Unanswered { waiting_for, failures, registry });
            }
            // Who was there may have moved: the log and the directory say so before a pause ends.
            known.want_presence();
            let failing_for = failing.get_or_insert_with(Instant::now).elapsed();
            known.wait(changes, pause(failing_for).min(left));
        }
    }

    /// Whom to ask, in this order: who answered last, who has a session, anybody else. In an
    /// exclusive domain only where the active holder is: nobody else may answer.
    fn candidates(&mut self, known: &Shared) -> (Vec<Source>, WaitingFor, u64) {
        let followed = known.lock();
        let changes = followed.changes();
        let place = Place::of(&followed.network, &self.own.domain);
        let mut sources = followed.sources.clone();
        drop(followed);
        self.sessions.retain(|node, kept| {
            sources.iter().any(|source| source.node == *node && source.address == kept.address)
        });
        match place {
            Place::Unknown => return (Vec::new(), WaitingFor::Policy, changes),
            Place::Nowhere => return (Vec::new(), WaitingFor::Activation, changes),
            Place::At(active) => sources.retain(|source| source.node == active),
            Place::Anywhere => {}
        }
        sources.sort_by_key(|source| {
            let preferred = self.preferred.as_ref() == Some(&source.node);
            (!preferred, !self.sessions.contains_key(&source.node))
        });
        let waiting_for = if sources.is_empty() { WaitingFor::Holders } else { WaitingFor::Answer };
        (sources, waiting_for, changes)
    }

    /// Asks one holder, over the kept session or a new one. A session that has become too old is
    /// replaced once.
    fn ask(
        &mut self,
        source: &Source,
        round: &mut Round<'_>,
        known: &Shared,
    ) -> Result<(), AttemptError> {
        let deadline = round.deadline.min(Instant::now() + self.own.attempt_time);
        if let Some(kept) = self.sessions.get_mut(&source.node) {
            match exchange(
                &mut kept.session,
                &self.own.domain,
                &source.node,
                round,
                known,
                deadline,
            ) {
                Err(
                    AttemptError::NotAHolder(NotAHolder::EvidenceTooOld)
                    | AttemptError::NoLonger(NotAHolder::EvidenceTooOld)
                    | AttemptError::NotNow(PeerRefusal::EvidenceTooOld)
                    | AttemptError::Session(_),
                ) => {}
                outcome => return outcome,
            }
        }
        let session = self.connect(&source.address, known, deadline)?;
        let kept = Kept { address: source.address.clone(), session };
        self.sessions.insert(source.node.clone(), kept);
        let kept = self.sessions.get_mut(&source.node).expect("it was inserted");
        exchange(&mut kept.session, &self.own.domain, &source.node, round, known, deadline)
    }

    fn connect(
        &self,
        address: &str,
        known: &Shared,
        deadline: Instant,
    ) -> Result<Session<TcpStream>, AttemptError> {
        let stream = dial(address, deadline).map_err(AttemptError::Session)?;
        let context = SessionContext {
            network: self.own.network,
            domain: self.own.domain,
            platform: self.own.platform.as_ref(),
            trust: known,
        };
        connect_before(deadline, stream, &self.own.identity, &context)
            .map_err(AttemptError::Session)
    }
}

/// Where holders can be that may answer.
enum Place {
    /// The log names no policy yet.
    Unknown,
    /// The domain is exclusive and has no active holder now.
    Nowhere,
    /// The domain is exclusive: on this node.
    At(NodeId),
    /// The domain is replicated.
    Anywhere,
}

impl Place {
    fn of(network: &NetworkState, domain: &DomainId) -> Self {
        let Some(policy) = network.policy(domain) else { return Self::Unknown };
        if policy.sharing == Sharing::Replicated {
            return Self::Anywhere;
        }
        let active = network.domain(domain).and_then(|domain| domain.activity().active());
        active.map_or(Self::Nowhere, |active| Self::At(active.node().clone()))
    }
}

/// Sends every open request and takes the answers, if the peer may serve now: when it is asked,
/// and again when it has answered, because the log goes on in between.
///
/// The whole batch is read even if the holder stops serving within it, so that the answers that it
/// gave are not lost.
fn exchange(
    session: &mut Session<TcpStream>,
    domain: &DomainId,
    node: &NodeId,
    round: &mut Round<'_>,
    known: &Shared,
    deadline: Instant,
) -> Result<(), AttemptError> {
    session.set_deadline(deadline);
    for batch in round.open().chunks(PIPELINE_MAX) {
        judge(session, domain, known).map_err(AttemptError::NotAHolder)?;
        let peer = session.peer();
        let holder = Holder { instance: *peer.key(), measurement: peer.measurement() };
        for (_, request) in batch {
            session.queue(request).map_err(AttemptError::Session)?;
        }
        let mut failure = None;
        for (at, _) in batch {
            let response = session.receive().map_err(AttemptError::Session)?;
            let view = judge(session, domain, known).map_err(AttemptError::NoLonger)?;
            if let Err(error) = round.take(*at, node, holder, response, &view) {
                failure = Some(error);
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    Ok(())
}

/// Expects that the peer may serve now. Returns what the log says now about refusals.
fn judge(
    session: &Session<TcpStream>,
    domain: &DomainId,
    known: &Shared,
) -> Result<View, NotAHolder> {
    let followed = known.lock();
    expect_server(session.peer(), &followed.network, domain)?;
    Ok(View::of(&followed.network, domain))
}
