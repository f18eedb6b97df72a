//! The client: asks holders for keys until one answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use heirloom_keeper::port::Platform;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::{ApplicationId, DomainId, KeyId};
use heirloom_model::protocol::{KeyKind, KeyPart, KeyPeriod, KeyRequest};
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_registry::port::LogStore;
use heirloom_session::tls::Identity;
use zeroize::Zeroizing;

use crate::error::{ClientError, Refused};
use crate::follower::Follower;
use crate::holders::{Holders, Own};
use crate::key::Key;
use crate::limit::ATTEMPT_TIME;
use crate::port::Presence;
use crate::round::Round;

/// Gets keys for one application.
///
/// A call ends with an answer of the network, or when its deadline is over; nodes that drain,
/// stop or start meanwhile are the client's business.
pub struct Client {
    application: ApplicationId,
    follower: Follower,
    holders: Holders,
}

/// What a client is about, and how patient it is.
#[derive(Clone, Debug)]
pub struct Builder {
    network: NetworkId,
    domain: DomainId,
    application: ApplicationId,
    attempt_time: Duration,
}

impl Builder {
    /// How long one holder may take before the next one is asked.
    #[must_use]
    pub fn attempt_time(self, attempt_time: Duration) -> Self {
        Self { attempt_time, ..self }
    }

    /// Makes an identity key and starts to follow the log. Nothing is asked yet.
    pub fn start(
        self,
        platform: Box<dyn Platform + Send>,
        log: Arc<dyn LogStore>,
        presence: Arc<dyn Presence>,
    ) -> Result<Client, ClientError> {
        let mut seed = Zeroizing::new([0; 32]);
        platform.random(seed.as_mut_slice())?;
        let key = Arc::new(SigningKey::from_seed(Secret::new(*seed)));
        let own = Own {
            network: self.network,
            domain: self.domain,
            identity: Identity::new(key),
            platform,
            attempt_time: self.attempt_time,
        };
        Ok(Client {
            application: self.application,
            follower: Follower::start(self.network, self.domain, log, presence),
            holders: Holders::new(own),
        })
    }
}

impl Client {
    /// A client for the keys of `application` in one domain of a network.
    pub fn builder(network: NetworkId, domain: DomainId, application: ApplicationId) -> Builder {
        Builder { network, domain, application, attempt_time: ATTEMPT_TIME }
    }

    /// Names a key of this client's application.
    pub fn request(
        &self,
        key: KeyId,
        kind: KeyKind,
        period: KeyPeriod,
        part: KeyPart,
    ) -> KeyRequest {
        KeyRequest { application: self.application.clone(), key, kind, period, part }
    }

    /// Gets one key.
    pub fn get(&mut self, request: &KeyRequest, deadline: Instant) -> Result<Key, ClientError> {
        let mut answers = self.get_many(std::slice::from_ref(request), deadline)?;
        let answer = answers.pop().expect("every request has its answer");
        Ok(answer?)
    }

    /// Gets many keys, asking for them all at once. The answers are in the order of the requests:
    /// a key, or a refusal. Fails if not all of them are answered.
    pub fn get_many(
        &mut self,
        requests: &[KeyRequest],
        deadline: Instant,
    ) -> Result<Vec<Result<Key, Refused>>, ClientError> {
        let mut round = Round::new(requests, deadline);
        match self.holders.answer(&mut round, self.follower.shared()) {
            Ok(()) => Ok(round.into_answers()),
            Err(unanswered) => Err(ClientError::Unanswered(Box::new(unanswered))),
        }
    }

    /// The newest committed generation that the log names, as far as it was followed.
    pub fn newest_generation(&self) -> Option<heirloom_model::counter::Generation> {
        let followed = self.follower.shared().lock();
        let committed = followed.network.domain(self.holders.domain())?.committed()?;
        Some(committed.generation)
    }
}
