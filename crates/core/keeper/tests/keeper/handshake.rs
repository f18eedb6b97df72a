//! Sessions: each test changes one thing that the evidence binds.

use heirloom_keeper::handshake::{Handshake, HandshakeError, expect_holder};
use heirloom_model::counter::Serial;
use heirloom_model::digest::{NetworkId, Nonce};
use heirloom_model::evidence::SessionRole;
use heirloom_model::identifier::DomainId;
use heirloom_model::protocol::{Hello, Introduction};
use heirloom_model::secret::Secret;
use heirloom_model::signature::{PublicKey, SigningKey};
use heirloom_registry::network::NetworkState;
use heirloom_registry::refusal::Refusal;

use crate::world::World;

/// What the judging side has in front of it.
struct Case {
    world: World,
    role: SessionRole,
    judge: Handshake,
    hello: Hello,
    peer_key: PublicKey,
    introduction: Introduction,
}

const EXPORTER: [u8; 32] = [0xe0; 32];

fn key(number: u8) -> PublicKey {
    SigningKey::from_seed(Secret::new([number; 32])).public_key()
}

impl Case {
    /// A judge in this role, and a peer that does everything right but for the changes.
    fn new(role: SessionRole, change: impl FnOnce(&mut Offer)) -> Self {
        let world = World::new();
        let node = world.node(1, &world.old);
        let (network, domain) = (world.ceremony.network, world.ceremony.domain);
        let judge = Handshake::new(role, network, domain, Nonce::new([1; 32]), key(1), EXPORTER);
        let mut offer = Offer {
            role: match role {
                SessionRole::Initiator => SessionRole::Responder,
                SessionRole::Responder => SessionRole::Initiator,
            },
            answered: judge.hello(),
            key: key(2),
            exporter: EXPORTER,
        };
        change(&mut offer);
        let maker = Handshake::new(
            offer.role,
            network,
            domain,
            Nonce::new([2; 32]),
            offer.key,
            offer.exporter,
        );
        let as_of = world.state.position();
        let introduction = maker.introduction(&offer.answered, &node.enclave, as_of).unwrap();
        Self { world, role, judge, hello: maker.hello(), peer_key: key(2), introduction }
    }

    fn judge(mut self) -> Result<(), HandshakeError> {
        let state: &mut NetworkState = &mut self.world.state;
        let judged =
            self.judge.authenticate(&self.hello, &self.peer_key, &self.introduction, state);
        judged.map(|peer| {
            assert_ne!(peer.role(), self.role);
            assert_eq!(*peer.key(), self.peer_key);
            assert_eq!(peer.measurement(), self.world.old.measurement);
            assert!(peer.is_fresh(&self.world.state));
        })
    }
}

/// What the peer's evidence is made for.
struct Offer {
    role: SessionRole,
    answered: Hello,
    key: PublicKey,
    exporter: [u8; 32],
}

const ROLES: [SessionRole; 2] = [SessionRole::Initiator, SessionRole::Responder];

fn expect_other_evidence(result: &Result<(), HandshakeError>) {
    assert!(matches!(result, Err(HandshakeError::Evidence(Refusal::Evidence(_)))), "{result:?}");
}

#[test]
fn evidence_for_this_very_session_is_believed_in_both_roles() {
    for role in ROLES {
        assert_eq!(Case::new(role, |_| {}).judge(), Ok(()));
    }
}

#[test]
fn evidence_for_anything_else_is_worthless() {
    for role in ROLES {
        let reflected = Case::new(role, |offer| offer.role = role);
        expect_other_evidence(&reflected.judge());
        let other_nonce = Case::new(role, |offer| offer.answered.nonce = Nonce::new([9; 32]));
        expect_other_evidence(&other_nonce.judge());
        let other_key = Case::new(role, |offer| offer.key = key(3));
        expect_other_evidence(&other_key.judge());
        let other_channel = Case::new(role, |offer| offer.exporter = [9; 32]);
        expect_other_evidence(&other_channel.judge());
    }
}

#[test]
fn a_hello_about_something_else_is_refused() {
    for role in ROLES {
        let with = |change: fn(&mut Hello)| {
            let mut case = Case::new(role, |_| {});
            change(&mut case.hello);
            case.judge().unwrap_err()
        };
        let found = NetworkId::new([9; 32]);
        assert_eq!(with(|hello| hello.version = 9), HandshakeError::Version { found: 9 });
        assert_eq!(
            with(|hello| hello.network = NetworkId::new([9; 32])),
            HandshakeError::OtherNetwork { found }
        );
        let found = DomainId::new([9; 32]);
        assert_eq!(
            with(|hello| hello.domain = DomainId::new([9; 32])),
            HandshakeError::OtherDomain { found }
        );
        let reflected = with(|hello| hello.nonce = Nonce::new([1; 32]));
        assert_eq!(reflected, HandshakeError::Reflected);
        let mut own_key = Case::new(role, |offer| offer.key = key(1));
        own_key.peer_key = key(1);
        assert_eq!(own_key.judge(), Err(HandshakeError::Reflected));
    }
}

#[test]
fn no_introduction_is_made_for_another_network() {
    let world = World::new();
    let node = world.node(1, &world.old);
    let (network, domain) = (world.ceremony.network, world.ceremony.domain);
    let own = Handshake::new(ROLES[0], network, domain, Nonce::new([1; 32]), key(1), EXPORTER);
    let found = NetworkId::new([9; 32]);
    let peer = Hello { network: found, nonce: Nonce::new([2; 32]), ..own.hello() };
    let made = own.introduction(&peer, &node.enclave, world.state.position());
    assert_eq!(made.unwrap_err(), HandshakeError::OtherNetwork { found });
}

#[test]
fn nobody_is_believed_before_the_log_is_known() {
    let case = Case::new(ROLES[0], |_| {});
    let mut nothing = NetworkState::new(case.world.ceremony.network);
    let judged =
        case.judge.authenticate(&case.hello, &case.peer_key, &case.introduction, &mut nothing);
    assert_eq!(judged.err(), Some(HandshakeError::NoPolicy));
    let mut elsewhere = NetworkState::new(NetworkId::new([9; 32]));
    let judged =
        case.judge.authenticate(&case.hello, &case.peer_key, &case.introduction, &mut elsewhere);
    let found = NetworkId::new([9; 32]);
    assert_eq!(judged.err(), Some(HandshakeError::OtherNetwork { found }));
}

#[test]
fn an_application_accepts_only_holders() {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old), world.node(2, &world.application));
    world.feed(&mut one);
    world.feed(&mut two);
    let (application, keeper) = world.session(&mut two, &mut one);
    let domain = world.ceremony.domain;
    let holder = expect_holder(&keeper, &world.state, &domain).unwrap();
    assert_eq!(holder.measurement(), world.old.measurement);
    assert_eq!(holder.policy(), Serial(1));
    assert!(expect_holder(&application, &world.state, &domain).is_err());
    let other = DomainId::new([9; 32]);
    assert!(expect_holder(&keeper, &world.state, &other).is_err());
    world.publish(2, |_| {});
    assert!(expect_holder(&keeper, &world.state, &domain).is_err(), "judged by an old policy");
}
