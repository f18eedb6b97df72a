//! What one start of a node has, with or without a ledger: code, keys, and what it believes.

use std::sync::{Arc, PoisonError};

use heirloom_keeper::handshake::Peer;
use heirloom_keeper::port::{Platform, PlatformError};
use heirloom_ledger::hint::ViewSecret;
use heirloom_model::counter::SecurityVersion;
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{ApplicationId, DomainId, KeyId};
use heirloom_model::measurement::Measurement;
use heirloom_model::secret::Secret;
use heirloom_model::service::{
    Admission, KeyCustody, KeyShown, PeerSeen, ServiceStatus, Standing, Writing,
};
use heirloom_model::signature::{PublicKey, SigningKey};
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_session::context::SessionContext;
use heirloom_session::tls::Identity;
use zeroize::Zeroizing;

use crate::follow::Followed;
use crate::peer::admission::{AcceptedPeer, OwnSide, PeerRefusal, PeerSide, Rule, accept_peer};
use crate::peer::message::Greeting;

/// A platform that every thread may ask.
pub type SharedPlatform = Arc<dyn Platform + Send + Sync>;

/// The key that signs what an instance states, new with each start.
pub const INSTANCE_KEY: &str = "instance";
/// The key by which private outputs are found, as long as there is a ledger.
pub const VIEW_KEY: &str = "view";

/// What one start of a node has.
pub struct Instance {
    own: OwnSide,
    domain: DomainId,
    key: Arc<SigningKey>,
    identity: Identity,
    platform: SharedPlatform,
    followed: Followed,
    view: Option<ViewSecret>,
    door: Secret<32>,
}

impl Instance {
    /// Makes the keys of this start.
    pub fn new(
        own: OwnSide,
        domain: DomainId,
        platform: SharedPlatform,
        followed: Followed,
        view: Option<ViewSecret>,
    ) -> Result<Self, PlatformError> {
        let key = Arc::new(SigningKey::from_seed(random(&*platform)?));
        let identity = Identity::new(Arc::clone(&key));
        let door = random(&*platform)?;
        Ok(Self { own, domain, key, identity, platform, followed, view, door })
    }

    /// What it knows about itself.
    pub fn own(&self) -> &OwnSide {
        &self.own
    }

    /// The domain whose keys it uses.
    pub fn domain(&self) -> DomainId {
        self.domain
    }

    /// Its code.
    pub fn measurement(&self) -> Measurement {
        self.own.measurement
    }

    /// The network.
    pub fn network(&self) -> NetworkId {
        self.own.network
    }

    /// The key that signs statements and blocks.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Its public half.
    pub fn public_key(&self) -> PublicKey {
        self.identity.public_key()
    }

    /// The same key, for sessions.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The platform.
    pub fn platform(&self) -> &SharedPlatform {
        &self.platform
    }

    /// The key by which private outputs are found, once it is there.
    pub fn view(&self) -> Option<&ViewSecret> {
        self.view.as_ref()
    }

    /// The secret to which clients seal what no host may read.
    pub fn door(&self) -> &Secret<32> {
        &self.door
    }

    /// What the log says.
    pub fn followed(&self) -> &Followed {
        &self.followed
    }

    /// How sessions are opened and judged.
    pub fn session_context(&self) -> SessionContext<'_> {
        SessionContext {
            network: self.own.network,
            domain: self.domain,
            platform: &*self.platform,
            trust: &*self.followed,
        }
    }

    /// What it says to every peer.
    pub fn greeting(&self) -> Greeting {
        Greeting {
            node: self.own.node.clone(),
            network: self.own.network,
            application: self.own.application.clone(),
            configuration: self.own.configuration,
        }
    }

    /// Decides whether the other end of a session is a peer.
    pub fn judge(&self, peer: &Peer, said: &Greeting) -> Result<AcceptedPeer, PeerRefusal> {
        let seen = PeerSide {
            measurement: peer.measurement(),
            rule: self.rule_of(peer),
            node: said.node.clone(),
            network: said.network,
            application: said.application.clone(),
            configuration: said.configuration,
        };
        accept_peer(&self.own, &seen)
    }

    /// Whether a session still rests on what is in force.
    pub fn is_current(&self, peer: &Peer) -> bool {
        let network = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        peer.is_fresh(&network)
            && rule(&network, &self.domain, &self.own.application, peer) == Rule::Named
    }

    fn rule_of(&self, peer: &Peer) -> Rule {
        let network = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        rule(&network, &self.domain, &self.own.application, peer)
    }

    /// Every key, sorted by name.
    pub fn keys(&self) -> Vec<KeyShown> {
        let name = |name: &str| name.parse::<KeyId>().expect("it is a name");
        let view = self.view.as_ref().map(|view| PublicKey::new(*view.public().as_bytes()));
        vec![
            KeyShown {
                key: name(INSTANCE_KEY),
                custody: KeyCustody::PerBoot,
                public: Some(self.public_key()),
            },
            KeyShown { key: name(VIEW_KEY), custody: KeyCustody::Keyring, public: view },
        ]
    }

    /// The status of an instance without a ledger.
    pub fn status(&self) -> ServiceStatus {
        ServiceStatus {
            measurement: self.own.measurement,
            instance: self.public_key(),
            configuration: self.own.configuration,
            schema: None,
            loaded: None,
            tip: None,
            writing: Writing::Active,
            pending: 0,
            admission: Admission::Closed,
            quiet_milliseconds: 0,
            peers: Vec::<PeerSeen>::new(),
            keys: self.keys(),
            fork: None,
            errors: 0,
            open_milliseconds: 0,
            waits_for: None,
        }
    }

    /// States for a step of a plan how this instance is: signed by its key, with evidence for
    /// exactly this statement.
    pub fn state(&self, step: PlanStep, status: &ServiceStatus) -> Result<Vec<u8>, PlatformError> {
        let standing = Standing {
            network: self.own.network,
            domain: self.domain,
            node: self.own.node.clone(),
            step,
            application: self.own.application.clone(),
            measurement: status.measurement,
            configuration: status.configuration,
            schema: status.schema,
            loaded: status.loaded,
            tip: status.tip,
            writing: status.writing,
            pending: status.pending,
            admission: status.admission,
            quiet_milliseconds: status.quiet_milliseconds,
            peers: status.peers.clone(),
            keys: status.keys.clone(),
            fork: status.fork,
        };
        let mut envelope = Envelope::signed(&standing, [self.key.as_ref()]);
        let expected = envelope.report_data(&self.public_key());
        envelope.evidence = Some(self.platform.evidence(&expected)?);
        Ok(wire::encode(&envelope))
    }
}

/// What the policy in force says about the code of a peer.
fn rule(
    network: &NetworkState,
    domain: &DomainId,
    application: &ApplicationId,
    peer: &Peer,
) -> Rule {
    let Some(policy) = network.policy(domain) else { return Rule::NoPolicy };
    if network.now().is_none_or(|now| now > policy.not_after) {
        return Rule::NoPolicy;
    }
    let found: SecurityVersion = peer.result().security_version();
    match policy.application(application, &peer.measurement()) {
        None => Rule::Unnamed,
        Some(rule) if found < rule.security_version => Rule::TooOld,
        Some(_) => Rule::Named,
    }
}

/// A secret from the platform's generator.
pub fn random(platform: &dyn Platform) -> Result<Secret<32>, PlatformError> {
    let mut bytes = Zeroizing::new([0; 32]);
    platform.random(bytes.as_mut_slice())?;
    Ok(Secret::new(*bytes))
}
