//! Sessions with holders, and the order in which holders are asked.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use heirloom_keeper::handshake::{NotAHolder, expect_holder};
use heirloom_keeper::port::Platform;
use heirloom_model::admin::Source;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::protocol::PeerRefusal;
use heirloom_session::context::SessionContext;
use heirloom_session::limit::PIPELINE_MAX;
use heirloom_session::session::{Session, connect_before};
use heirloom_session::stream::dial;
use heirloom_session::tls::Identity;

use crate::error::{AttemptError, Unanswered, WaitingFor};
use crate::follower::Shared;
use crate::limit::{ATTEMPTS_MAX, PAUSE_FIRST, PAUSE_MAX};
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
        let mut pause = PAUSE_FIRST;
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
                        self.sessions.remove(&source.node);
                        failures.insert(source.node, failure);
                    }
                }
            }
            if round.is_complete() {
                return Ok(());
            }
            let left = round.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || attempts > ATTEMPTS_MAX {
                let registry = known.lock().problem.clone();
                return Err(Unanswered { waiting_for, failures, registry });
            }
            known.wait(changes, pause.min(left));
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    /// Whom to ask, in this order: who answered last, who has a session, anybody else.
    fn candidates(&mut self, known: &Shared) -> (Vec<Source>, WaitingFor, u64) {
        let followed = known.lock();
        let changes = followed.changes();
        if followed.network.policy(&self.own.domain).is_none() {
            return (Vec::new(), WaitingFor::Policy, changes);
        }
        let mut sources = followed.sources.clone();
        drop(followed);
        self.sessions.retain(|node, kept| {
            sources.iter().any(|source| source.node == *node && source.address == kept.address)
        });
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

/// Sends every open request and takes the answers, if the peer may hold keys now.
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
        let view = {
            let followed = known.lock();
            expect_holder(session.peer(), &followed.network, domain)
                .map_err(AttemptError::NotAHolder)?;
            View::of(&followed.network, domain)
        };
        for (_, request) in batch {
            session.queue(request).map_err(AttemptError::Session)?;
        }
        let mut failure = None;
        for (at, _) in batch {
            let response = session.receive().map_err(AttemptError::Session)?;
            if let Err(error) = round.take(*at, node, response, &view) {
                failure = Some(error);
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    Ok(())
}
