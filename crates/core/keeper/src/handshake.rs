//! How two sides of a session come to believe each other.
//!
//! Right after the TLS handshake each side sends a [`Hello`] with a nonce, then an
//! [`Introduction`] with evidence over the *other* side's nonce, this channel's exporter, its own
//! role, and the key that authenticated its end of the channel. Evidence that was made for
//! another session, the other direction, another key or another asker is therefore worthless
//! here. The same function judges in both directions and for applications.
//!
//! Authentication says who the peer is. What it may ask is decided at each request, by the policy
//! in force then.

use heirloom_attest::result::AttestationResult;
use heirloom_model::counter::{SecurityVersion, Serial, Time};
use heirloom_model::digest::{ChannelDigest, NetworkId, Nonce};
use heirloom_model::domain::LogPosition;
use heirloom_model::evidence::{ReportData, SessionRole};
use heirloom_model::identifier::DomainId;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::{HolderRole, Policy, Sharing};
use heirloom_model::protocol::{Hello, Introduction, SESSION_VERSION};
use heirloom_model::signature::PublicKey;
use heirloom_registry::activity::Activity;
use heirloom_registry::network::NetworkState;
use heirloom_registry::refusal::Refusal;

use crate::port::{Platform, PlatformError};

/// One side of a session that is being opened.
#[derive(Clone, Debug)]
pub struct Handshake {
    role: SessionRole,
    network: NetworkId,
    domain: DomainId,
    nonce: Nonce,
    key: PublicKey,
    exporter: [u8; 32],
}

/// A peer whose evidence was appraised for this very session.
///
/// Only [`Handshake::authenticate`] makes one:
///
/// ```compile_fail
/// let forged = heirloom_keeper::handshake::Peer {};
/// ```
///
/// ```compile_fail
/// fn forge(peer: heirloom_keeper::handshake::Peer) -> heirloom_keeper::handshake::Peer {
///     heirloom_keeper::handshake::Peer { ..peer }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Peer {
    role: SessionRole,
    domain: DomainId,
    key: PublicKey,
    channel: ChannelDigest,
    result: AttestationResult,
    authenticated_at: Time,
    trust: Trust,
    as_of: LogPosition,
}

/// The statements by which a peer was appraised. When one of them is replaced, the peer must
/// authenticate again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Trust {
    root: Serial,
    policy: Serial,
}

/// Why a peer is not believed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer speaks another version of the protocol.
    #[error("the peer speaks session version {found}, this release {SESSION_VERSION}")]
    Version {
        /// What it speaks.
        found: u8,
    },
    /// The peer belongs to another network.
    #[error("the peer belongs to network {found}")]
    OtherNetwork {
        /// Which.
        found: NetworkId,
    },
    /// The peer wants to talk about another domain.
    #[error("the peer asks about domain {found}")]
    OtherDomain {
        /// Which.
        found: DomainId,
    },
    /// The peer authenticated the channel with our own key, or sent our own nonce back.
    #[error("the peer is a reflection of ourselves")]
    Reflected,
    /// The log that was followed so far names no policy for the domain.
    #[error("no policy of the domain is known yet")]
    NoPolicy,
    /// The evidence was refused, or nothing permits to judge it.
    #[error("the peer's evidence is refused: {0}")]
    Evidence(#[from] Refusal),
    /// Our own platform did not make evidence.
    #[error("no evidence of our own: {0}")]
    Platform(#[from] PlatformError),
}

impl Handshake {
    /// One side of the channel whose exporter (label
    /// [`SESSION_EXPORTER`](heirloom_model::context::SESSION_EXPORTER)) is `exporter` and which
    /// this side authenticated with `key`. The nonce must be random and never used before.
    pub fn new(
        role: SessionRole,
        network: NetworkId,
        domain: DomainId,
        nonce: Nonce,
        key: PublicKey,
        exporter: [u8; 32],
    ) -> Self {
        Self { role, network, domain, nonce, key, exporter }
    }

    /// The first message of this side.
    pub fn hello(&self) -> Hello {
        Hello {
            version: SESSION_VERSION,
            network: self.network,
            domain: self.domain,
            nonce: self.nonce,
        }
    }

    /// The second message of this side, made for the peer that sent `peer_hello`.
    pub fn introduction(
        &self,
        peer_hello: &Hello,
        platform: &dyn Platform,
        as_of: LogPosition,
    ) -> Result<Introduction, HandshakeError> {
        self.expect(peer_hello)?;
        let report =
            ReportData::for_session(self.role, &peer_hello.nonce, &self.exporter, &self.key);
        Ok(Introduction { evidence: platform.evidence(&report)?, as_of })
    }

    /// Judges the second message of the peer, whose end of the channel `peer_key` authenticated.
    ///
    /// The evidence must be made by the peer in its role, for our nonce, this channel and its key.
    pub fn authenticate(
        &self,
        peer_hello: &Hello,
        peer_key: &PublicKey,
        introduction: &Introduction,
        network: &mut NetworkState,
    ) -> Result<Peer, HandshakeError> {
        self.expect(peer_hello)?;
        if *peer_key == self.key {
            return Err(HandshakeError::Reflected);
        }
        if network.network() != self.network {
            return Err(HandshakeError::OtherNetwork { found: network.network() });
        }
        let trust = Trust::of(network, &self.domain).ok_or(HandshakeError::NoPolicy)?;
        let now = network.now().ok_or(HandshakeError::NoPolicy)?;
        let role = opposite(self.role);
        let expected = ReportData::for_session(role, &self.nonce, &self.exporter, peer_key);
        let result = network.appraise_in(&self.domain, &introduction.evidence, &expected)?;
        Ok(Peer {
            role,
            domain: self.domain,
            key: *peer_key,
            channel: self.channel(peer_key),
            result,
            authenticated_at: now,
            trust,
            as_of: introduction.as_of,
        })
    }

    /// The channel, as both ends know it.
    fn channel(&self, peer_key: &PublicKey) -> ChannelDigest {
        let (initiator, responder) = match self.role {
            SessionRole::Initiator => (&self.key, peer_key),
            SessionRole::Responder => (peer_key, &self.key),
        };
        ChannelDigest::of_channel(&self.exporter, initiator, responder)
    }

    fn expect(&self, peer: &Hello) -> Result<(), HandshakeError> {
        if peer.version != SESSION_VERSION {
            return Err(HandshakeError::Version { found: peer.version });
        }
        if peer.network != self.network {
            return Err(HandshakeError::OtherNetwork { found: peer.network });
        }
        if peer.domain != self.domain {
            return Err(HandshakeError::OtherDomain { found: peer.domain });
        }
        if peer.nonce == self.nonce {
            return Err(HandshakeError::Reflected);
        }
        Ok(())
    }
}

impl Peer {
    /// Which side it is.
    pub fn role(&self) -> SessionRole {
        self.role
    }

    /// The domain that the session is about.
    pub fn domain(&self) -> &DomainId {
        &self.domain
    }

    /// The key that authenticated its end of the channel.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The channel that this session runs in: equal at both ends, and nowhere else.
    pub fn channel(&self) -> &ChannelDigest {
        &self.channel
    }

    /// What its evidence showed.
    pub fn result(&self) -> &AttestationResult {
        &self.result
    }

    /// Its code.
    pub fn measurement(&self) -> Measurement {
        self.result.measurement()
    }

    /// The network's time when it was authenticated.
    pub fn authenticated_at(&self) -> Time {
        self.authenticated_at
    }

    /// The policy by which it was appraised.
    pub fn policy(&self) -> Serial {
        self.trust.policy
    }

    /// How far it says that it has followed the log. Untrusted; for diagnosis.
    pub fn as_of(&self) -> LogPosition {
        self.as_of
    }

    /// Whether the session can still be used: nothing that it rests on has expired or was
    /// replaced, and its evidence is not older than the policy allows. If not, connect again.
    pub fn is_fresh(&self, network: &NetworkState) -> bool {
        let Some(policy) = network.policy(&self.domain) else { return false };
        let Some(now) = network.now() else { return false };
        Trust::of(network, &self.domain) == Some(self.trust)
            && now < self.result.expires()
            && now <= self.authenticated_at.after(policy.session_seconds_max)
    }
}

impl Trust {
    fn of(network: &NetworkState, domain: &DomainId) -> Option<Self> {
        let policy = network.policy(domain)?.serial;
        Some(Self { root: network.root()?.serial, policy })
    }
}

fn opposite(role: SessionRole) -> SessionRole {
    match role {
        SessionRole::Initiator => SessionRole::Responder,
        SessionRole::Responder => SessionRole::Initiator,
    }
}

/// A peer that the policy in force lets hold the domain's keyring.
///
/// Only [`expect_holder`] makes one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Holder {
    measurement: Measurement,
    role: HolderRole,
    policy: Serial,
}

/// A peer that may answer applications of the domain: a keeper, and in an exclusive domain the
/// one instance that the log names as the active holder.
///
/// Only [`expect_server`] makes one. An application that has one may believe the keys that this
/// peer sends:
///
/// ```compile_fail
/// fn forge(server: heirloom_keeper::handshake::Server) -> heirloom_keeper::handshake::Server {
///     heirloom_keeper::handshake::Server { ..server }
/// }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Server {
    measurement: Measurement,
    policy: Serial,
}

/// Why a peer may not hold the keyring.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAHolder {
    /// The session is about another domain.
    #[error("the session is about domain {found}")]
    OtherDomain {
        /// Which.
        found: DomainId,
    },
    /// The session rests on something that expired or was replaced.
    #[error("the peer's evidence is too old: connect again")]
    EvidenceTooOld,
    /// No policy is known.
    #[error("no policy of the domain is known yet")]
    NoPolicy,
    /// The policy's last second has passed.
    #[error("policy serial {policy} expired")]
    PolicyExpired {
        /// The policy.
        policy: Serial,
    },
    /// The policy does not name the code.
    #[error("policy serial {policy} does not let {measurement} hold keys")]
    NotListed {
        /// The policy in force.
        policy: Serial,
        /// The code.
        measurement: Measurement,
    },
    /// The code is too old for its own rule.
    #[error("policy serial {policy} demands security version {required} of {measurement}")]
    SecurityVersionTooLow {
        /// The policy in force.
        policy: Serial,
        /// The code.
        measurement: Measurement,
        /// What the rule demands.
        required: SecurityVersion,
    },
    /// The code only carries keyrings from one keeper to the next.
    #[error("policy serial {policy} lets {measurement} carry keys and not serve them")]
    NotAKeeper {
        /// The policy in force.
        policy: Serial,
        /// The code.
        measurement: Measurement,
    },
    /// The domain is exclusive, and the log names another active holder or none.
    #[error("the instance {instance} is not the active holder of an exclusive domain")]
    NotActive {
        /// The peer's instance.
        instance: PublicKey,
    },
}

impl Holder {
    /// Its code.
    pub fn measurement(&self) -> Measurement {
        self.measurement
    }

    /// What the policy lets it do with the keyring.
    pub fn role(&self) -> HolderRole {
        self.role
    }

    /// The policy that names it.
    pub fn policy(&self) -> Serial {
        self.policy
    }
}

impl Server {
    /// Its code.
    pub fn measurement(&self) -> Measurement {
        self.measurement
    }

    /// The policy that names it.
    pub fn policy(&self) -> Serial {
        self.policy
    }
}

/// Expects that the peer may answer applications of `domain` now.
pub fn expect_server(
    peer: &Peer,
    network: &NetworkState,
    domain: &DomainId,
) -> Result<Server, NotAHolder> {
    let Holder { measurement, role, policy } = expect_holder(peer, network, domain)?;
    match role {
        HolderRole::Keeper => {}
        HolderRole::Upgrader => return Err(NotAHolder::NotAKeeper { policy, measurement }),
    }
    let known = network.domain(domain).ok_or(NotAHolder::NoPolicy)?;
    let in_force = known.policy().ok_or(NotAHolder::NoPolicy)?;
    let is_server = match in_force.sharing {
        Sharing::Replicated => true,
        Sharing::Exclusive => is_active(known.activity(), &peer.key),
    };
    if is_server {
        return Ok(Server { measurement, policy });
    }
    Err(NotAHolder::NotActive { instance: peer.key })
}

/// Whether the log names this instance as the active holder of an exclusive domain.
pub(crate) fn is_active(activity: &Activity, instance: &PublicKey) -> bool {
    match activity {
        Activity::Active(active) => active.instance() == instance,
        Activity::None | Activity::Suspended(_) => false,
    }
}

/// Expects that the peer may hold the keyring of `domain` now.
pub fn expect_holder(
    peer: &Peer,
    network: &NetworkState,
    domain: &DomainId,
) -> Result<Holder, NotAHolder> {
    if peer.domain != *domain {
        return Err(NotAHolder::OtherDomain { found: peer.domain });
    }
    let policy = network.policy(domain).ok_or(NotAHolder::NoPolicy)?;
    if is_expired(policy, network) {
        return Err(NotAHolder::PolicyExpired { policy: policy.serial });
    }
    if !peer.is_fresh(network) {
        return Err(NotAHolder::EvidenceTooOld);
    }
    permit_holder(policy, &peer.measurement(), peer.result.security_version())
}

/// Whether the last second of a policy has passed, or the network's time is not known.
pub(crate) fn is_expired(policy: &Policy, network: &NetworkState) -> bool {
    network.now().is_none_or(|now| now > policy.not_after)
}

/// Expects that a policy lets this code, at this security version, hold the keyring.
pub(crate) fn permit_holder(
    policy: &Policy,
    measurement: &Measurement,
    found: SecurityVersion,
) -> Result<Holder, NotAHolder> {
    let (serial, measurement) = (policy.serial, *measurement);
    let Some(rule) = policy.holder(&measurement) else {
        return Err(NotAHolder::NotListed { policy: serial, measurement });
    };
    if found < rule.security_version {
        let required = rule.security_version;
        return Err(NotAHolder::SecurityVersionTooLow { policy: serial, measurement, required });
    }
    Ok(Holder { measurement, role: rule.role, policy: serial })
}
