//! Answering peers and applications.

use std::sync::atomic::Ordering;

use heirloom_model::counter::{Epoch, Generation, Moment};
use heirloom_model::limit::{EPHEMERAL_EPOCHS_MAX, REPLICATION_BATCH_MAX};
use heirloom_model::policy::{ApplicationRule, HolderRole, KeyScope, Policy, Sharing};
use heirloom_model::protocol::{
    KeyAnswer, KeyKind, KeyPart, KeyPeriod, KeyRequest, PeerRefusal, PeerRequest, PeerResponse,
    ReplicatedGeneration, ServingState, WireSecret,
};

use super::Keeper;
use crate::derive::{KeyName, Period, derive};
use crate::handover::NotAttested;
use crate::handshake::{NotAHolder, Peer, is_expired, permit_holder};

impl Keeper {
    /// Answers one request of an authenticated peer. The policy in force decides at each request,
    /// not when the session began.
    ///
    /// A handover takes more than one request: see [`Self::converse`].
    pub fn serve(&self, peer: &Peer, request: &PeerRequest, now: Moment) -> PeerResponse {
        let answer = match request {
            PeerRequest::Key(request) => self.key(peer, request, now).map(PeerResponse::Key),
            PeerRequest::Replicate { newest, count } => {
                self.replicate(peer, *newest, *count).map(PeerResponse::Generations)
            }
            PeerRequest::ReplicateProposed { order } => self
                .replicate_proposed(peer, order)
                .map(|proposed| PeerResponse::Generations(vec![proposed])),
            PeerRequest::HandOver(_) | PeerRequest::ProveHandover(_) => {
                Err(NotAttested::NoChallenge.into())
            }
        };
        if matches!(request, PeerRequest::Key(_)) {
            let counter = if answer.is_ok() { &self.served } else { &self.refused };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        answer.unwrap_or_else(PeerResponse::Refused)
    }

    fn key(
        &self,
        peer: &Peer,
        request: &KeyRequest,
        now: Moment,
    ) -> Result<KeyAnswer, PeerRefusal> {
        let policy = self.expect_session(peer)?;
        let state = self.state_at(now);
        if state != ServingState::Ready {
            return Err(PeerRefusal::NotServing { state });
        }
        expect_application(policy, peer, request)?;
        if request.kind == KeyKind::Symmetric && request.part == KeyPart::Public {
            return Err(PeerRefusal::NoPublicPart);
        }
        let (generation, period) = self.secret_of(policy, request.period)?;
        let name = KeyName {
            domain: self.config.domain,
            application: request.application.clone(),
            key: request.key.clone(),
            kind: request.kind,
            period,
        };
        let key = self.keyring.expose(generation, |master| derive(master, &name));
        let key = key.ok_or(PeerRefusal::NotHeld { generation })?;
        let secret = match request.part {
            KeyPart::Private => Some(key.secret.expose(WireSecret::new)),
            KeyPart::Public => None,
        };
        Ok(KeyAnswer { generation, secret, public: key.public, policy: policy.serial })
    }

    /// Which master secret a period means, and how it is named in the derivation.
    fn secret_of(
        &self,
        policy: &Policy,
        period: KeyPeriod,
    ) -> Result<(Generation, Period), PeerRefusal> {
        let newest = self.committed().map(|committed| committed.generation).unwrap_or_default();
        match period {
            KeyPeriod::Newest => Ok((newest, Period::Generation(newest))),
            KeyPeriod::Generation(generation) if generation <= newest => {
                Ok((generation, Period::Generation(generation)))
            }
            KeyPeriod::Generation(generation) => Err(PeerRefusal::NotHeld { generation }),
            KeyPeriod::Epoch(epoch) => {
                let generation = self.ephemeral_generation(policy, epoch)?;
                Ok((generation, Period::Epoch(epoch)))
            }
        }
    }

    /// The generation that was the newest committed one when an epoch began; the first, if none
    /// was. Every keeper that follows the log says the same, also after a rotation.
    fn ephemeral_generation(
        &self,
        policy: &Policy,
        epoch: Epoch,
    ) -> Result<Generation, PeerRefusal> {
        let newest = self.network.epoch();
        let limit = u32::try_from(EPHEMERAL_EPOCHS_MAX).unwrap_or(u32::MAX);
        let kept = u64::from(policy.ephemeral_epochs.min(limit));
        let oldest = Epoch(newest.0.saturating_sub(kept));
        let out_of_range = PeerRefusal::EpochOutOfRange { oldest, newest };
        if epoch < oldest || epoch > newest {
            return Err(out_of_range);
        }
        let committed = self.epochs.get(&epoch).ok_or(out_of_range)?;
        Ok(committed.unwrap_or_default())
    }

    fn replicate(
        &self,
        peer: &Peer,
        newest: Generation,
        count: u32,
    ) -> Result<Vec<ReplicatedGeneration>, PeerRefusal> {
        self.expect_receiver(peer)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count == 0 || count > REPLICATION_BATCH_MAX {
            return Err(PeerRefusal::OutOfLimits);
        }
        let not_held = PeerRefusal::NotHeld { generation: newest };
        let committed = self.committed().ok_or_else(|| not_held.clone())?;
        if newest > committed.generation {
            return Err(not_held);
        }
        let found = self.keyring.replicate(newest, count);
        if found.is_empty() { Err(not_held) } else { Ok(found) }
    }

    fn replicate_proposed(
        &self,
        peer: &Peer,
        order: &heirloom_model::digest::Nonce,
    ) -> Result<ReplicatedGeneration, PeerRefusal> {
        self.expect_session(peer)?;
        self.expect_edge(peer)?;
        let state = self.state();
        let is_first = self.committed().is_none();
        let holds = state.answers();
        let proposes = self.config.role == HolderRole::Keeper && is_first;
        if !(holds || proposes && state == ServingState::Empty) {
            return Err(PeerRefusal::NotServing { state });
        }
        let open = self.domain_state().and_then(|domain| domain.order());
        let is_open = open
            .is_some_and(|open| open.order().nonce == *order && open.is_open(self.network.epoch()));
        let proposal = self.proposals.get(order).filter(|_| is_open);
        let proposal = proposal.ok_or(PeerRefusal::NotProposed)?;
        Ok(ReplicatedGeneration {
            generation: proposal.generation,
            secret: proposal.secret.expose(WireSecret::new),
            previous: proposal.previous,
        })
    }

    /// The policy in force, if the session may still be used under it.
    pub(super) fn expect_session(&self, peer: &Peer) -> Result<&Policy, PeerRefusal> {
        let state = self.state();
        let policy = self.network.policy(&self.config.domain);
        let policy = policy.ok_or(PeerRefusal::NotServing { state })?;
        if is_expired(policy, &self.network) {
            return Err(PeerRefusal::PolicyExpired { policy: policy.serial });
        }
        if *peer.domain() != self.config.domain || !peer.is_fresh(&self.network) {
            return Err(PeerRefusal::EvidenceTooOld);
        }
        Ok(policy)
    }

    /// Judges forward: the policy names the edge from this code to the peer, which is new enough
    /// for its own rule. The keyring of an exclusive domain, and the copy of an upgrader, move
    /// only by a handover.
    fn expect_edge(&self, peer: &Peer) -> Result<(), PeerRefusal> {
        let policy = self.expect_session(peer)?;
        let (from, to) = (self.identity.measurement, peer.measurement());
        let serial = policy.serial;
        if policy.sharing == Sharing::Exclusive {
            return Err(PeerRefusal::Exclusive);
        }
        let no_edge = PeerRefusal::NoEdge { policy: serial, from, to };
        if !policy.names_edge(&from, &to) {
            return Err(no_edge);
        }
        match permit_holder(policy, &to, peer.result().security_version()) {
            Ok(receiver) if receiver.role() == HolderRole::Keeper => Ok(()),
            Err(NotAHolder::SecurityVersionTooLow { policy, measurement, required }) => {
                Err(PeerRefusal::SecurityVersionTooLow { policy, measurement, required })
            }
            Ok(_)
            | Err(
                NotAHolder::OtherDomain { .. }
                | NotAHolder::EvidenceTooOld
                | NotAHolder::NoPolicy
                | NotAHolder::PolicyExpired { .. }
                | NotAHolder::NotListed { .. }
                | NotAHolder::NotAKeeper { .. }
                | NotAHolder::NotActive { .. },
            ) => Err(no_edge),
        }
    }

    /// As [`Self::expect_edge`], from a keeper that holds everything and has not been withdrawn.
    fn expect_receiver(&self, peer: &Peer) -> Result<(), PeerRefusal> {
        let policy = self.expect_session(peer)?;
        if policy.sharing == Sharing::Exclusive {
            return Err(PeerRefusal::Exclusive);
        }
        match self.state() {
            ServingState::Ready | ServingState::Draining => self.expect_edge(peer),
            state @ (ServingState::Empty
            | ServingState::Starting
            | ServingState::Replicating
            | ServingState::Unreadable
            | ServingState::RolledBack
            | ServingState::Withdrawn
            | ServingState::Standby
            | ServingState::Suspended
            | ServingState::Superseded
            | ServingState::Unattended
            | ServingState::Carrying
            | ServingState::Uncounted) => Err(PeerRefusal::NotServing { state }),
        }
    }
}

/// Expects that the policy lets the peer's code ask for this key of this application.
fn expect_application(
    policy: &Policy,
    peer: &Peer,
    request: &KeyRequest,
) -> Result<(), PeerRefusal> {
    let measurement = peer.measurement();
    let application = &request.application;
    // Rules are sorted by application and measurement; the fold refuses policies that are not.
    let at = policy.applications.partition_point(|rule| {
        (&rule.application, &rule.measurement) < (application, &measurement)
    });
    let rule = policy.applications.get(at).filter(|rule| {
        rule.application == *application
            && rule.measurement == measurement
            && in_scope(rule, request)
    });
    let Some(rule) = rule else {
        let (policy, application) = (policy.serial, application.clone());
        return Err(PeerRefusal::ApplicationNotListed { policy, measurement, application });
    };
    if peer.result().security_version() < rule.security_version {
        let (policy, required) = (policy.serial, rule.security_version);
        return Err(PeerRefusal::SecurityVersionTooLow { policy, measurement, required });
    }
    Ok(())
}

fn in_scope(rule: &ApplicationRule, request: &KeyRequest) -> bool {
    match &rule.keys {
        KeyScope::All => true,
        KeyScope::Only(keys) => keys.contains(&request.key),
    }
}
