//! One call: its requests, and the answers that it has so far.

use std::time::Instant;

use heirloom_model::identifier::NodeId;
use heirloom_model::protocol::{KeyPeriod, KeyRequest, PeerRefusal, PeerRequest, PeerResponse};
use heirloom_registry::network::NetworkState;

use heirloom_model::identifier::DomainId;

use crate::error::{AttemptError, Refused};
use crate::key::{Holder, Key};

/// One call.
pub(crate) struct Round<'r> {
    requests: &'r [KeyRequest],
    answers: Vec<Option<Result<Key, Refused>>>,
    pub(crate) deadline: Instant,
}

/// What the own view of the log says about refusals: whether a holder lags behind it.
pub(crate) struct View {
    newest: Option<u64>,
    epoch: u64,
}

impl View {
    pub(crate) fn of(network: &NetworkState, domain: &DomainId) -> Self {
        let committed = network.domain(domain).and_then(|domain| domain.committed());
        Self { newest: committed.map(|committed| committed.generation.0), epoch: network.epoch().0 }
    }

    /// Whether another holder, or this one later, may answer differently.
    ///
    /// What a policy says is final: every holder follows the same one.
    fn is_passing(&self, request: &KeyRequest, refusal: &PeerRefusal) -> bool {
        match refusal {
            PeerRefusal::NotServing { .. } | PeerRefusal::EvidenceTooOld => true,
            PeerRefusal::NotHeld { generation } => self.newest >= Some(generation.0),
            PeerRefusal::EpochOutOfRange { newest, .. } => {
                matches!(request.period, KeyPeriod::Epoch(asked)
                    if asked > *newest && asked.0 <= self.epoch)
            }
            PeerRefusal::ApplicationNotListed { .. }
            | PeerRefusal::SecurityVersionTooLow { .. }
            | PeerRefusal::NoEdge { .. }
            | PeerRefusal::NotProposed
            | PeerRefusal::NoPublicPart
            | PeerRefusal::PolicyExpired { .. }
            | PeerRefusal::OutOfLimits
            | PeerRefusal::NotAuthorised { .. }
            | PeerRefusal::NotAttested { .. }
            | PeerRefusal::Exclusive => false,
        }
    }
}

impl<'r> Round<'r> {
    pub(crate) fn new(requests: &'r [KeyRequest], deadline: Instant) -> Self {
        Self { requests, answers: requests.iter().map(|_| None).collect(), deadline }
    }

    /// The requests that have no answer yet, with their positions.
    pub(crate) fn open(&self) -> Vec<(usize, PeerRequest)> {
        let unanswered = self.answers.iter().enumerate().filter(|(_, answer)| answer.is_none());
        unanswered
            .filter_map(|(at, _)| Some((at, PeerRequest::Key(self.requests.get(at)?.clone()))))
            .collect()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.answers.iter().all(Option::is_some)
    }

    /// Takes a holder's answer to the request at a position, or says why it does not count.
    pub(crate) fn take(
        &mut self,
        at: usize,
        node: &NodeId,
        holder: Holder,
        response: PeerResponse,
        view: &View,
    ) -> Result<(), AttemptError> {
        let request = self.requests.get(at).expect("only requests of this round are asked");
        let answer = match response {
            PeerResponse::Key(answer) => {
                Ok(Key::from_answer(request, &answer, holder).ok_or(AttemptError::WrongAnswer)?)
            }
            PeerResponse::Refused(refusal) if view.is_passing(request, &refusal) => {
                return Err(AttemptError::NotNow(refusal));
            }
            PeerResponse::Refused(reason) => Err(Refused { node: node.clone(), reason }),
            PeerResponse::Generations(_) | PeerResponse::HandoverChallenge(_) => {
                return Err(AttemptError::WrongAnswer);
            }
        };
        *self.answers.get_mut(at).expect("every request has a place for its answer") = Some(answer);
        Ok(())
    }

    pub(crate) fn into_answers(self) -> Vec<Result<Key, Refused>> {
        self.answers.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use heirloom_model::counter::{Epoch, Generation, Serial};
    use heirloom_model::protocol::{KeyKind, KeyPart, ServingState};

    use super::*;

    fn check(period: KeyPeriod, refusal: &PeerRefusal, expected: bool) {
        let view = View { newest: Some(4), epoch: 9 };
        let request = KeyRequest {
            application: "wallet".parse().unwrap(),
            key: "key".parse().unwrap(),
            kind: KeyKind::Symmetric,
            period,
            part: KeyPart::Private,
        };
        assert_eq!(view.is_passing(&request, refusal), expected, "{period:?}: {refusal}");
    }

    #[test]
    fn a_refusal_passes_only_if_the_holder_is_busy_or_behind() {
        let newest = KeyPeriod::Newest;
        check(newest, &PeerRefusal::NotServing { state: ServingState::Draining }, true);
        check(newest, &PeerRefusal::EvidenceTooOld, true);
        check(newest, &PeerRefusal::NotHeld { generation: Generation(4) }, true);
        check(newest, &PeerRefusal::NotHeld { generation: Generation(5) }, false);
        check(newest, &PeerRefusal::PolicyExpired { policy: Serial(1) }, false);
        check(newest, &PeerRefusal::NoPublicPart, false);
        let out = PeerRefusal::EpochOutOfRange { oldest: Epoch(5), newest: Epoch(8) };
        check(KeyPeriod::Epoch(Epoch(9)), &out, true);
        check(KeyPeriod::Epoch(Epoch(10)), &out, false);
        check(KeyPeriod::Epoch(Epoch(4)), &out, false);
    }
}
