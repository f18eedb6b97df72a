//! Receiving a keyring that a donor hands over by a step of a plan.
//!
//! Both sides attest for this one step in this one session before a secret is sent; the core
//! judges. What was received is sealed before more is asked for, so that an interrupted handover
//! resumes where it ended: in a new session, with new challenges.

use std::net::TcpStream;
use std::slice;

use heirloom_model::admin::{AdminRefusal, Source};
use heirloom_model::domain::PlanStep;
use heirloom_model::handover::HandoverChallenge;
use heirloom_model::protocol::{PeerRequest, PeerResponse, ServingState};
use heirloom_session::session::Session;

use crate::clock;
use crate::log::event;
use crate::replicate::{Left, SourceError, blame, generations};
use crate::service::Service;

impl Service {
    /// Receives the keyring from this donor by this step, if it is not held already.
    pub(crate) fn hand_over(&self, step: PlanStep, source: &Source) -> Result<(), AdminRefusal> {
        let donor = slice::from_ref(source);
        self.each_source(donor, || self.is_received(), |session| self.receive(session, step))
    }

    /// Whether everything is held, or why nothing can be received.
    fn is_received(&self) -> Result<Option<()>, AdminRefusal> {
        // The lock is not held any longer than for this look.
        let state = self.keeper().state_at(clock::now());
        match state {
            state if state.holds() => Ok(Some(())),
            ServingState::Empty | ServingState::Replicating => Ok(None),
            state => Err(self.stuck(state)),
        }
    }

    fn receive(&self, session: &mut Session<TcpStream>, step: PlanStep) -> Result<(), Left> {
        let (ask, request) =
            self.keeper().request_handover(self.platform(), step).map_err(blame)?;
        session.send(&PeerRequest::HandOver(request))?;
        let challenge = challenge(session.receive()?)?;
        let donor = self
            .keeper()
            .prove_to_donor(self.platform(), session.peer(), &ask, &challenge)
            .map_err(blame)?;
        // Each round takes at least one generation, or ends with an error.
        loop {
            let Some(proof) = self.keeper().handover_next(&donor) else {
                let state = self.keeper().state_at(clock::now());
                let missing = || Left::Own(AdminRefusal::State { state });
                return state.holds().then_some(()).ok_or_else(missing);
            };
            session.send(&PeerRequest::ProveHandover(proof))?;
            let sent = generations(session.receive()?)?;
            let mut directory = self.quiesce();
            let accepted = self.keeper().accept_handed_over(self.platform(), &donor, &sent);
            let intent = accepted.map_err(blame)?;
            let progress = self.carry_out(&mut directory, intent).map_err(Left::Own)?;
            if let Some(progress) = progress {
                event("handed-over", format_args!("{} of {}", progress.received, progress.wanted));
            }
        }
    }
}

fn challenge(response: PeerResponse) -> Result<Box<HandoverChallenge>, SourceError> {
    match response {
        PeerResponse::HandoverChallenge(challenge) => Ok(challenge),
        PeerResponse::Refused(refusal) => Err(SourceError::Refused(refusal)),
        PeerResponse::Key(_) | PeerResponse::Generations(_) => Err(SourceError::OtherAnswer),
    }
}
