//! Handing the keyring over, and receiving it.
//!
//! Both sides derive the permission from the log at every message, and the donor judges the
//! receiver before it sends anything. See [`handover`](crate::handover) for what is permitted.

use heirloom_model::admin::Progress;
use heirloom_model::counter::Moment;
use heirloom_model::digest::{AuthorisationDigest, Nonce};
use heirloom_model::domain::PlanStep;
use heirloom_model::evidence::ReportData;
use heirloom_model::handover::{
    HandoverChallenge, HandoverProof, HandoverQuestion, HandoverRequest, HandoverRole,
};
use heirloom_model::limit::REPLICATION_BATCH_MAX;
use heirloom_model::protocol::{
    PeerRefusal, PeerRequest, PeerResponse, ReplicatedGeneration, ServingState,
};
use heirloom_model::signature::PublicKey;

use super::Keeper;
use super::error::KeeperError;
use crate::handover::{
    Answer, Authorised, Donor, DonorChallenge, DonorSession, NotAttested, NotAuthorised,
    ReceiverAsk, authorise, expect_peer, expect_report, expect_target,
};
use crate::handshake::{Peer, expect_holder};
use crate::intent::Intent;
use crate::keyring::Gap;
use crate::port::{Platform, PlatformError};

impl Keeper {
    /// Answers one request of a session, handovers included. `session` remembers the challenge
    /// that this side made in it.
    pub fn converse(
        &self,
        platform: &dyn Platform,
        peer: &Peer,
        session: &mut DonorSession,
        request: &PeerRequest,
        now: Moment,
    ) -> PeerResponse {
        let answer = match request {
            PeerRequest::HandOver(asked) => {
                session.challenge = None;
                self.challenge_receiver(platform, peer, asked).map(|(kept, sent)| {
                    session.challenge = Some(kept);
                    PeerResponse::HandoverChallenge(Box::new(sent))
                })
            }
            PeerRequest::ProveHandover(proof) => match &mut session.challenge {
                Some(challenge) => {
                    self.hand_over(platform, peer, challenge, proof).map(PeerResponse::Generations)
                }
                None => Err(NotAttested::NoChallenge.into()),
            },
            PeerRequest::Key(_)
            | PeerRequest::Replicate { .. }
            | PeerRequest::ReplicateProposed { .. } => return self.serve(peer, request, now),
        };
        answer.unwrap_or_else(PeerResponse::Refused)
    }

    /// Donor: answers a receiver's challenge and challenges it. Nothing secret is sent.
    pub fn challenge_receiver(
        &self,
        platform: &dyn Platform,
        peer: &Peer,
        request: &HandoverRequest,
    ) -> Result<(DonorChallenge, HandoverChallenge), PeerRefusal> {
        let authorised = self.expect_donor(peer, request.step)?;
        expect_target(&request.question, &authorised)?;
        let question = question(platform, &authorised).map_err(|error| own_platform(&error))?;
        let authorisation = authorised.digest();
        let data = ReportData::for_handover(
            HandoverRole::Donor,
            &request.question,
            &question,
            peer.channel(),
            &authorisation,
        );
        let report = request.question.target.map(|target| platform.report(&target, &data));
        let report = report.transpose().map_err(|error| own_platform(&error))?;
        let kept = DonorChallenge {
            request: request.clone(),
            question: question.clone(),
            channel: *peer.channel(),
            authorisation,
            answer: Answer::Awaited,
        };
        Ok((kept, HandoverChallenge { question, report }))
    }

    /// Donor: verifies the receiver's answer, and only then sends generations.
    ///
    /// The first answer decides. One that is wrong uses the challenge up; one that is right is
    /// repeated with each further request, in the same session.
    pub fn hand_over(
        &self,
        platform: &dyn Platform,
        peer: &Peer,
        challenge: &mut DonorChallenge,
        proof: &HandoverProof,
    ) -> Result<Vec<ReplicatedGeneration>, PeerRefusal> {
        let authorised = self.expect_donor(peer, challenge.request.step)?;
        if challenge.channel != *peer.channel() {
            return Err(NotAttested::OtherSession.into());
        }
        if challenge.authorisation != authorised.digest() {
            return Err(NotAttested::OtherHandover.into());
        }
        match std::mem::replace(&mut challenge.answer, Answer::Spent) {
            Answer::Spent => return Err(NotAttested::NoChallenge.into()),
            Answer::Given(given) if given.as_deref() != proof.report.as_ref() => {
                return Err(NotAttested::OtherAnswer.into());
            }
            Answer::Given(_) => {}
            Answer::Awaited => {
                let expected = ReportData::for_handover(
                    HandoverRole::Receiver,
                    &challenge.question,
                    &challenge.request.question,
                    &challenge.channel,
                    &challenge.authorisation,
                );
                let report = proof.report.as_ref();
                expect_report(platform, peer, report, &expected, &authorised)?;
            }
        }
        challenge.answer = Answer::Given(proof.report.map(Box::new));
        let count = usize::try_from(proof.count).unwrap_or(usize::MAX);
        if count == 0 || count > REPLICATION_BATCH_MAX {
            return Err(PeerRefusal::OutOfLimits);
        }
        let not_held = PeerRefusal::NotHeld { generation: proof.newest };
        if proof.newest > authorised.generation {
            return Err(not_held);
        }
        let found = self.keyring.replicate(proof.newest, count);
        if found.is_empty() { Err(not_held) } else { Ok(found) }
    }

    /// Receiver: asks for the keyring, by a step of a plan.
    pub fn request_handover(
        &self,
        platform: &dyn Platform,
        step: PlanStep,
    ) -> Result<(ReceiverAsk, HandoverRequest), KeeperError> {
        let authorised = self.expect_receiving(step)?;
        let question = question(platform, &authorised)?;
        let request = HandoverRequest { step, question };
        let authorisation = authorised.digest();
        Ok((ReceiverAsk { request: request.clone(), authorisation }, request))
    }

    /// Receiver: verifies what the donor attested in answer to `ask`, and attests in answer to its
    /// challenge. Ask [`Self::handover_next`] what to send.
    pub fn prove_to_donor(
        &self,
        platform: &dyn Platform,
        peer: &Peer,
        ask: &ReceiverAsk,
        challenge: &HandoverChallenge,
    ) -> Result<Donor, KeeperError> {
        let ReceiverAsk { request, authorisation } = ask;
        let authorised = self.expect_giver_of(peer, request.step, authorisation)?;
        expect_target(&challenge.question, &authorised)?;
        let (channel, asked) = (peer.channel(), &request.question);
        let expected = ReportData::for_handover(
            HandoverRole::Donor,
            asked,
            &challenge.question,
            channel,
            authorisation,
        );
        expect_report(platform, peer, challenge.report.as_ref(), &expected, &authorised)?;
        let data = ReportData::for_handover(
            HandoverRole::Receiver,
            &challenge.question,
            asked,
            channel,
            authorisation,
        );
        let report = challenge.question.target.map(|target| platform.report(&target, &data));
        let (report, authorisation) = (report.transpose()?, *authorisation);
        Ok(Donor { peer: peer.clone(), step: request.step, authorisation, report })
    }

    /// Receiver: what to send to the donor next; none if nothing is missing, or if this keeper
    /// may not hold keys now.
    pub fn handover_next(&self, donor: &Donor) -> Option<HandoverProof> {
        let gap = self.handover_gap().ok()?;
        Some(donor.ask(gap.newest, gap.request_count()))
    }

    /// Receiver: takes what the donor sent for [`Self::handover_next`], newest first. The chain
    /// is computed from it and compared with what the log committed before anything is written.
    /// Fewer than were asked for are welcome; if one is wrong, none is taken.
    pub fn accept_handed_over(
        &self,
        platform: &dyn Platform,
        donor: &Donor,
        sent: &[ReplicatedGeneration],
    ) -> Result<Intent<Option<Progress>>, KeeperError> {
        self.expect_giver_of(&donor.peer, donor.step, &donor.authorisation)?;
        self.take_batch(platform, self.handover_gap()?, sent)
    }

    /// Judges as a donor, forward: this is the seat that gives, and the peer the one that
    /// receives.
    fn expect_donor(&self, peer: &Peer, step: PlanStep) -> Result<Authorised, PeerRefusal> {
        self.expect_session(peer)?;
        let state = self.state();
        if !state.holds() || self.expect_writable().is_err() {
            return Err(PeerRefusal::NotServing { state });
        }
        let authorised = self.authorised(step, HandoverRole::Donor)?;
        expect_peer(&self.identity, peer, HandoverRole::Receiver, &authorised)?;
        self.expect_registered(&authorised, HandoverRole::Receiver, peer.key())?;
        Ok(authorised)
    }

    /// Judges as a receiver, about itself: this is the seat that receives, and something is
    /// missing.
    fn expect_receiving(&self, step: PlanStep) -> Result<Authorised, KeeperError> {
        self.expect_writable()?;
        self.handover_gap()?;
        Ok(self.authorised(step, HandoverRole::Receiver)?)
    }

    /// Judges as a receiver, backward: the peer is the seat that gives, and the log still allows
    /// what it allowed when this side asked.
    fn expect_giver_of(
        &self,
        peer: &Peer,
        step: PlanStep,
        asked: &AuthorisationDigest,
    ) -> Result<Authorised, KeeperError> {
        let authorised = self.expect_receiving(step)?;
        expect_holder(peer, &self.network, &self.config.domain)?;
        if authorised.digest() != *asked {
            return Err(NotAttested::OtherHandover.into());
        }
        expect_peer(&self.identity, peer, HandoverRole::Donor, &authorised)?;
        self.expect_registered(&authorised, HandoverRole::Donor, peer.key())?;
        Ok(authorised)
    }

    /// What the log allows by this step, if this instance is registered at the seat on that side.
    fn authorised(&self, step: PlanStep, own: HandoverRole) -> Result<Authorised, NotAuthorised> {
        let authorised = authorise(&self.network, step)?;
        let (node, measurement, needed) = authorised.seat(own);
        let is_own = authorised.domain == self.config.domain
            && *node == self.config.node
            && measurement == self.identity.measurement
            && self.security_version() >= needed;
        if !is_own {
            let expected = "hand-over";
            return Err(NotAuthorised::OtherStep { step: step.step, expected });
        }
        self.expect_registered(&authorised, own, &self.instance.public_key())?;
        Ok(authorised)
    }

    /// Expects that the log says that exactly this instance runs at a seat: evidence says nothing
    /// about nodes, but a registration is signed by the node's agent, too.
    fn expect_registered(
        &self,
        authorised: &Authorised,
        role: HandoverRole,
        instance: &PublicKey,
    ) -> Result<(), NotAuthorised> {
        let (node, measurement, _) = authorised.seat(role);
        let domain = self.network.domain(&self.config.domain);
        let known = domain.and_then(|domain| domain.registration_with(node, &measurement));
        if known.is_some_and(|known| known.instance() == instance) {
            return Ok(());
        }
        Err(NotAuthorised::NotRegistered { node: node.clone(), measurement })
    }

    /// What is missing of what the log committed, in a state in which it may be received.
    fn handover_gap(&self) -> Result<Gap, KeeperError> {
        match self.state() {
            ServingState::Empty | ServingState::Replicating => {
                self.gap().ok_or(KeeperError::NotInLog)
            }
            state @ (ServingState::Starting
            | ServingState::Ready
            | ServingState::Draining
            | ServingState::Unreadable
            | ServingState::RolledBack
            | ServingState::Withdrawn
            | ServingState::Standby
            | ServingState::Suspended
            | ServingState::Superseded
            | ServingState::Unattended
            | ServingState::Carrying
            | ServingState::Uncounted) => Err(KeeperError::State { state }),
        }
    }
}

/// A fresh challenge of this side, with the address for a local report if one is due.
fn question(
    platform: &dyn Platform,
    authorised: &Authorised,
) -> Result<HandoverQuestion, PlatformError> {
    let mut nonce = [0; 32];
    platform.random(&mut nonce)?;
    let target = authorised.is_local().then(|| platform.report_target()).transpose()?;
    Ok(HandoverQuestion { nonce: Nonce::new(nonce), target })
}

fn own_platform(error: &PlatformError) -> PeerRefusal {
    PeerRefusal::NotAttested { reason: error.to_string() }
}

impl From<NotAuthorised> for PeerRefusal {
    fn from(error: NotAuthorised) -> Self {
        Self::NotAuthorised { reason: error.to_string() }
    }
}

impl From<NotAttested> for PeerRefusal {
    fn from(error: NotAttested) -> Self {
        Self::NotAttested { reason: heirloom_model::causes::with_causes(&error) }
    }
}
