//! Receiving a keyring from whoever has it.
//!
//! Sources are asked one after the other. What one of them gave is sealed before more is asked
//! for, so that an interrupted run resumes where it ended, with the next source or after a
//! restart. While a batch is sealed, the next one is on its way.

use std::net::TcpStream;
use std::time::Instant;

use heirloom_keeper::keeper::error::KeeperError;
use heirloom_keeper::keeper::replicate::ReplicationRequest;
use heirloom_model::admin::{AdminRefusal, Source};
use heirloom_model::causes::with_causes;
use heirloom_model::digest::Nonce;
use heirloom_model::policy::Sharing;
use heirloom_model::protocol::{
    PeerRefusal, PeerRequest, PeerResponse, ReplicatedGeneration, ServingState,
};
use heirloom_session::error::SessionError;
use heirloom_session::session::{Session, connect_before};
use heirloom_session::stream::dial;

use crate::clock;
use crate::limit::{OVERTAKEN_MAX, REASON_BYTES_MAX, SOURCE_TIME_MAX, SOURCES_MAX};
use crate::log::event;
use crate::service::{Service, refused};

/// Why one source did not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{}", with_causes(.0))]
    Session(#[from] SessionError),
    #[error("{0}")]
    Refused(PeerRefusal),
    #[error("it answered another question")]
    OtherAnswer,
    #[error("what it sent is not accepted: {0}")]
    NotAccepted(KeeperError),
    #[error("the log went on too often while it answered")]
    Overtaken,
}

/// Why a source was left: because of it, or because of us. Only the first means the next one.
pub(crate) enum Left {
    Source(SourceError),
    Own(AdminRefusal),
}

impl<E: Into<SourceError>> From<E> for Left {
    fn from(error: E) -> Self {
        Self::Source(error.into())
    }
}

impl Service {
    /// Receives every missing generation, from as many sources as it takes.
    pub(crate) fn replicate(&self, sources: &[Source]) -> Result<(), AdminRefusal> {
        self.each_source(sources, || self.expect_replicating(), |session| self.receive_all(session))
    }

    /// Receives the proposed generation of an order, and returns the receipt.
    pub(crate) fn receive_generation(
        &self,
        order: Nonce,
        sources: &[Source],
    ) -> Result<Vec<u8>, AdminRefusal> {
        let held = || {
            let mut directory = self.quiesce();
            let intent = self.keeper().repeat_receipt(self.platform(), order)?;
            intent.map(|intent| self.carry_out(&mut directory, intent)).transpose()
        };
        self.each_source(sources, held, |session| self.receive_proposed(session, order))
    }

    /// Tries `receive` with one source after the other until `done` has an answer or one of them
    /// gives it.
    pub(crate) fn each_source<T>(
        &self,
        sources: &[Source],
        done: impl Fn() -> Result<Option<T>, AdminRefusal>,
        receive: impl Fn(&mut Session<TcpStream>) -> Result<T, Left>,
    ) -> Result<T, AdminRefusal> {
        let mut reasons = Vec::new();
        for source in sources.iter().take(SOURCES_MAX) {
            if let Some(answer) = done()? {
                return Ok(answer);
            }
            let left = match self.open(source).and_then(|mut session| receive(&mut session)) {
                Ok(answer) => return Ok(answer),
                Err(left) => left,
            };
            match left {
                Left::Own(refusal) => return Err(refusal),
                Left::Source(error) => {
                    let mut reason = format!("{}: {error}", source.node);
                    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
                    event("source-failed", &reason);
                    reasons.push(reason);
                }
            }
        }
        match done()? {
            Some(answer) => Ok(answer),
            None => Err(AdminRefusal::NotReplicated(reasons.join("; "))),
        }
    }

    fn open(&self, source: &Source) -> Result<Session<TcpStream>, Left> {
        let deadline = Instant::now() + SOURCE_TIME_MAX;
        let stream = dial(&source.address, deadline)?;
        let context = self.session_context();
        let mut session = connect_before(deadline, stream, self.identity(), &context)?;
        session.set_patience(SOURCE_TIME_MAX)?;
        Ok(session)
    }

    /// Whether nothing is missing, or why nothing can be received.
    fn expect_replicating(&self) -> Result<Option<()>, AdminRefusal> {
        let keeper = self.keeper();
        if keeper.replication_next().is_some() {
            return Ok(None);
        }
        let state = keeper.state_at(clock::now());
        let nothing_committed = keeper.progress().is_none();
        if state.holds() || (state == ServingState::Empty && nothing_committed) {
            return Ok(Some(()));
        }
        drop(keeper);
        Err(self.stuck(state))
    }

    /// Why a keeper that does not hold everything cannot receive it in this way.
    pub(crate) fn stuck(&self, state: ServingState) -> AdminRefusal {
        let keeper = self.keeper();
        let domain = keeper.config().domain;
        let policy = keeper.network().policy(&domain);
        if let Some(unreadable) = keeper.status(clock::now()).unreadable {
            return AdminRefusal::Unreadable(unreadable);
        }
        match policy.map(|policy| policy.sharing) {
            Some(Sharing::Exclusive) if state.lacks() => KeeperError::Exclusive.into(),
            Some(Sharing::Exclusive | Sharing::Replicated) | None => AdminRefusal::State { state },
        }
    }

    /// Receives from one source until nothing is missing.
    fn receive_all(&self, session: &mut Session<TcpStream>) -> Result<(), Left> {
        let mut overtaken = 0;
        let mut on_its_way: Option<ReplicationRequest> = None;
        loop {
            let Some(request) = self.keeper().replication_next() else {
                return self.expect_replicating().map(|_| ()).map_err(Left::Own);
            };
            match on_its_way.take() {
                Some(asked) if asked == request => {}
                None => session.send(&request.message())?,
                // The log went on: the answer that comes is for a question of the past.
                Some(_) => {
                    let _past: PeerResponse = session.receive()?;
                    overtaken += 1;
                    if overtaken > OVERTAKEN_MAX {
                        return Err(SourceError::Overtaken.into());
                    }
                    continue;
                }
            }
            let sent = generations(session.receive()?)?;
            on_its_way = request.after(&sent);
            if let Some(next) = &on_its_way {
                session.send(&next.message())?;
            }
            if !self.accept(session, &request, &sent)? {
                overtaken += 1;
            }
            if overtaken > OVERTAKEN_MAX {
                return Err(SourceError::Overtaken.into());
            }
        }
    }

    /// Seals one batch. False if the log went on meanwhile, so that something else is wanted.
    fn accept(
        &self,
        session: &Session<TcpStream>,
        request: &ReplicationRequest,
        sent: &[ReplicatedGeneration],
    ) -> Result<bool, Left> {
        let mut directory = self.quiesce();
        if self.keeper().replication_next().as_ref() != Some(request) {
            return Ok(false);
        }
        let accepted = self.keeper().accept_generations(self.platform(), session.peer(), sent);
        let intent = accepted.map_err(blame)?;
        let progress = self.carry_out(&mut directory, intent).map_err(Left::Own)?;
        if let Some(progress) = progress {
            event("replicated", format_args!("{} of {}", progress.received, progress.wanted));
        }
        Ok(true)
    }

    fn receive_proposed(
        &self,
        session: &mut Session<TcpStream>,
        order: Nonce,
    ) -> Result<Vec<u8>, Left> {
        session.send(&PeerRequest::ReplicateProposed { order })?;
        let sent = generations(session.receive()?)?;
        let [proposed] = sent.as_slice() else { return Err(SourceError::OtherAnswer.into()) };
        let mut directory = self.quiesce();
        let accepted =
            self.keeper().accept_proposed(self.platform(), session.peer(), order, proposed);
        let intent = accepted.map_err(blame)?;
        self.carry_out(&mut directory, intent).map_err(Left::Own)
    }
}

pub(crate) fn generations(
    response: PeerResponse,
) -> Result<Vec<ReplicatedGeneration>, SourceError> {
    match response {
        PeerResponse::Generations(sent) => Ok(sent),
        PeerResponse::Refused(refusal) => Err(SourceError::Refused(refusal)),
        PeerResponse::Key(_) | PeerResponse::HandoverChallenge(_) => Err(SourceError::OtherAnswer),
    }
}

/// Whether it is the source's fault that something is not accepted, or ours.
pub(crate) fn blame(error: KeeperError) -> Left {
    match error {
        KeeperError::NotAHolder(_)
        | KeeperError::NoEdge { .. }
        | KeeperError::BadGenerations(_)
        | KeeperError::NotAttested(_)
        | KeeperError::OtherDomain { .. } => Left::Source(SourceError::NotAccepted(error)),
        KeeperError::State { .. }
        | KeeperError::Unreadable(_)
        | KeeperError::Log(_)
        | KeeperError::NotInLog
        | KeeperError::ProposalLost { .. }
        | KeeperError::NotOnDisk { .. }
        | KeeperError::Role { .. }
        | KeeperError::OtherCode { .. }
        | KeeperError::Exclusive
        | KeeperError::NotExclusive
        | KeeperError::NotRecovered
        | KeeperError::NotAuthorised(_)
        | KeeperError::Platform(_)
        | KeeperError::Debug => Left::Own(refused(error)),
    }
}
