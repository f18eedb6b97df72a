//! Both sides of a session in one process. Each attack changes exactly one thing.

mod world;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use heirloom_attest::error::AppraiseError;
use heirloom_emulated::host::EmulatedEnclave;
use heirloom_keeper::handshake::HandshakeError;
use heirloom_keeper::port::Platform;
use heirloom_launcher::report::LaunchMode;
use heirloom_model::digest::NetworkId;
use heirloom_model::evidence::{ReportData, SessionRole};
use heirloom_model::identifier::DomainId;
use heirloom_model::protocol::{
    KeyKind, KeyPart, KeyPeriod, KeyRequest, PeerRequest, SESSION_VERSION,
};
use heirloom_model::secret::Secret;
use heirloom_model::signature::{PublicKey, SigningKey};
use heirloom_registry::refusal::Refusal;

use super::*;
use world::{APPLICATION, KEEPER, World, measurement};

const ROLES: [SessionRole; 2] = [SessionRole::Initiator, SessionRole::Responder];

fn identity(seed: u8) -> Identity {
    Identity::new(Arc::new(SigningKey::from_seed(Secret::new([seed; 32]))))
}

fn deadline() -> Instant {
    Instant::now() + HANDSHAKE_TIME_MAX
}

fn context<'a>(world: &'a World, platform: &'a EmulatedEnclave) -> SessionContext<'a> {
    SessionContext { network: world.network, domain: world.domain, platform, trust: &world.state }
}

fn opposite(role: SessionRole) -> SessionRole {
    match role {
        SessionRole::Initiator => SessionRole::Responder,
        SessionRole::Responder => SessionRole::Initiator,
    }
}

fn open<S: Stream>(
    role: SessionRole,
    stream: S,
    own: &Identity,
) -> Result<Channel<S>, SessionError> {
    match role {
        SessionRole::Initiator => Channel::initiate(stream, own, deadline()),
        SessionRole::Responder => Channel::respond(stream, own, deadline()),
    }
}

/// What the honest side of a session in `role` says when `other` is at the other end.
fn honest_against(
    role: SessionRole,
    world: &World,
    other: impl FnOnce(UnixStream) + Send,
) -> Result<Session<UnixStream>, SessionError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| other(theirs));
        let platform = world.launch(1, KEEPER);
        let own = identity(1);
        attest(open(role, ours, &own)?, &own, &context(world, &platform))
    })
}

fn key_request(name: usize) -> PeerRequest {
    PeerRequest::Key(KeyRequest {
        application: "wallet".parse().unwrap(),
        key: format!("key-{name}").parse().unwrap(),
        kind: KeyKind::Ed25519,
        period: KeyPeriod::Newest,
        part: KeyPart::Private,
    })
}

/// Two instances that accept each other: the application connects to the keeper.
fn meet<S: Stream + Send>(world: &World, initiator: S, responder: S) -> (Session<S>, Session<S>) {
    let (app, keeper) = (world.launch(2, APPLICATION), world.launch(1, KEEPER));
    let (app_key, keeper_key) = (identity(2), identity(1));
    thread::scope(|scope| {
        let accepted =
            scope.spawn(|| accept(responder, &keeper_key, &context(world, &keeper)).unwrap());
        let connected = connect(initiator, &app_key, &context(world, &app)).unwrap();
        (connected, accepted.join().unwrap())
    })
}

fn meet_over_sockets(world: &World) -> (Session<UnixStream>, Session<UnixStream>) {
    let (initiator, responder) = UnixStream::pair().unwrap();
    meet(world, initiator, responder)
}

#[test]
fn each_side_learns_code_and_key_of_the_other() {
    let world = World::new();
    let (connected, accepted) = meet_over_sockets(&world);
    assert_eq!(connected.peer().measurement(), measurement(KEEPER));
    assert_eq!(connected.peer().role(), SessionRole::Responder);
    assert_eq!(*connected.peer().key(), identity(1).public_key());
    assert_eq!(accepted.peer().measurement(), measurement(APPLICATION));
    assert_eq!(accepted.peer().role(), SessionRole::Initiator);
    assert_eq!(*accepted.peer().key(), identity(2).public_key());
}

/// What a handover is bound to: both ends name the same channel, and no two channels are the same.
#[test]
fn both_ends_and_nobody_else_name_the_channel() {
    let world = World::new();
    let (connected, accepted) = meet_over_sockets(&world);
    assert_eq!(connected.peer().channel(), accepted.peer().channel());
    // The same instances, the same keys; only connected once more.
    let (again, _accepted) = meet_over_sockets(&world);
    assert_eq!(again.peer().key(), connected.peer().key());
    assert_ne!(again.peer().channel(), connected.peer().channel());
}

#[test]
fn sessions_run_over_tcp() {
    let world = World::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let initiator = crate::stream::dial(&address, deadline()).unwrap();
    let (responder, _) = listener.accept().unwrap();
    let (mut connected, mut accepted) = meet(&world, initiator, responder);
    connected.send(&key_request(7)).unwrap();
    assert_eq!(accepted.receive::<PeerRequest>().unwrap(), key_request(7));
}

#[test]
fn an_address_where_nobody_listens_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = crate::stream::dial(&address, deadline()).unwrap_err();
    assert!(matches!(error, SessionError::Unreachable { .. }), "{error:?}");
}

#[test]
fn requests_that_arrive_together_are_read_without_asking_the_system_again() {
    let world = World::new();
    let (initiator, responder) = UnixStream::pair().unwrap();
    let (mut connected, mut accepted) =
        meet(&world, Counting::new(initiator), Counting::new(responder));
    let written = connected.stream().writes;
    for name in 0..100 {
        connected.queue(&key_request(name)).unwrap();
    }
    connected.flush().unwrap();
    assert_eq!(connected.stream().writes, written + 1);

    assert_eq!(accepted.receive::<PeerRequest>().unwrap(), key_request(0));
    let read = accepted.stream().reads;
    for name in 1..100 {
        assert_eq!(accepted.receive_ready::<PeerRequest>().unwrap(), Some(key_request(name)));
    }
    assert_eq!(accepted.receive_ready::<PeerRequest>().unwrap(), None);
    assert_eq!(accepted.stream().reads, read);
}

#[test]
fn a_side_that_waits_has_sent_what_it_queued() {
    let world = World::new();
    let (mut connected, mut accepted) = meet_over_sockets(&world);
    connected.queue(&key_request(1)).unwrap();
    connected.set_patience(Duration::from_millis(1)).unwrap();
    assert!(matches!(connected.receive::<PeerRequest>(), Err(SessionError::Timeout)));
    assert_eq!(accepted.receive::<PeerRequest>().unwrap(), key_request(1));
    accepted.send(&key_request(2)).unwrap();
    assert_eq!(connected.receive::<PeerRequest>().unwrap(), key_request(2), "nothing was lost");
}

#[test]
fn a_closed_session_says_so() {
    let world = World::new();
    let (connected, mut accepted) = meet_over_sockets(&world);
    connected.close();
    assert!(matches!(accepted.receive::<PeerRequest>(), Err(SessionError::Closed)));
    let (connected, mut accepted) = meet_over_sockets(&world);
    drop(connected);
    assert!(matches!(accepted.receive::<PeerRequest>(), Err(SessionError::Closed)));
}

#[test]
fn no_session_resumes_another() {
    let world = World::new();
    for _ in 0..2 {
        let (connected, accepted) = meet_over_sockets(&world);
        for channel in [&connected.channel, &accepted.channel] {
            assert_eq!(channel.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    }
}

#[test]
fn a_frame_larger_than_its_kind_may_be_is_refused_before_it_arrives() {
    let world = World::new();
    for role in ROLES {
        let outcome = honest_against(role, &world, |stream| {
            let mut channel = open(opposite(role), stream, &identity(2)).unwrap();
            channel.queue_raw(&257_u32.to_be_bytes());
            channel.flush().unwrap();
            while channel.receive::<Hello>().is_ok() {}
        });
        let error = outcome.err().unwrap();
        let too_large = matches!(error, SessionError::TooLarge { found: 257, limit: 256, .. });
        assert!(too_large, "{role:?}: {error:?}");
    }
}

#[test]
fn a_frame_that_is_no_message_is_refused() {
    let world = World::new();
    for role in ROLES {
        let outcome = honest_against(role, &world, |stream| {
            let mut channel = open(opposite(role), stream, &identity(2)).unwrap();
            channel.queue_raw(b"\0\0\0\x01\xff");
            channel.flush().unwrap();
            while channel.receive::<Hello>().is_ok() {}
        });
        let error = outcome.err().unwrap();
        assert!(matches!(error, SessionError::Malformed(_)), "{role:?}: {error:?}");
    }
}

#[test]
fn a_silent_peer_does_not_hold_us_up() {
    let world = World::new();
    let platform = world.launch(1, KEEPER);
    let own = identity(1);
    let soon = || Instant::now() + Duration::from_millis(20);
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let connected = connect_before(soon(), ours, &own, &context(&world, &platform));
    assert!(matches!(connected, Err(SessionError::Timeout)));
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert!(matches!(Channel::respond(ours, &own, soon()), Err(SessionError::Timeout)));
}

/// One thing that a rogue peer does differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Change {
    Nothing,
    Version,
    Network,
    Domain,
    NonceSentBack,
    EvidenceOfOtherRole,
    EvidenceForOtherNonce,
    EvidenceForOtherChannel,
    EvidenceForOtherKey,
    EvidenceOfEarlierSession,
    OurOwnKey,
    DebugMode,
}

const CHANGES: [Change; 12] = [
    Change::Nothing,
    Change::Version,
    Change::Network,
    Change::Domain,
    Change::NonceSentBack,
    Change::EvidenceOfOtherRole,
    Change::EvidenceForOtherNonce,
    Change::EvidenceForOtherChannel,
    Change::EvidenceForOtherKey,
    Change::EvidenceOfEarlierSession,
    Change::OurOwnKey,
    Change::DebugMode,
];

/// An instance of the right code on a genuine machine that changes one thing.
struct Rogue {
    change: Change,
    role: SessionRole,
    platform: EmulatedEnclave,
    earlier: Option<Introduction>,
}

impl Rogue {
    fn new(world: &World, role: SessionRole, change: Change) -> Self {
        let mode =
            if change == Change::DebugMode { LaunchMode::Debug } else { LaunchMode::Production };
        Self { change, role, platform: world.launch_in(mode, 2, KEEPER), earlier: None }
    }

    /// Meets the honest side. How that ends is for the honest side to say.
    fn meet(&mut self, world: &World, stream: UnixStream) {
        self.run(world, stream).ok();
    }

    fn identity(&self) -> Identity {
        identity(if self.change == Change::OurOwnKey { 1 } else { 2 })
    }

    /// Runs one session, as far as the honest side goes along.
    fn run(&mut self, world: &World, stream: UnixStream) -> Result<(), SessionError> {
        let mut channel = open(self.role, stream, &self.identity())?;
        let mut hello = Hello {
            version: SESSION_VERSION,
            network: world.network,
            domain: world.domain,
            nonce: Nonce::new([5; 32]),
        };
        match self.change {
            Change::Version => hello.version = SESSION_VERSION + 1,
            Change::Network => hello.network = NetworkId::new(flipped(world.network.as_bytes())),
            Change::Domain => hello.domain = DomainId::new(flipped(world.domain.as_bytes())),
            _ => {}
        }
        let theirs = if self.change == Change::NonceSentBack {
            let theirs: Hello = channel.receive()?;
            hello.nonce = theirs.nonce;
            channel.queue(&hello)?;
            channel.flush()?;
            theirs
        } else {
            channel.queue(&hello)?;
            channel.flush()?;
            channel.receive()?
        };
        let made = self.introduction(world, &channel, &theirs);
        let sent = match (self.change, self.earlier.take()) {
            (Change::EvidenceOfEarlierSession, Some(earlier)) => earlier,
            _ => made.clone(),
        };
        self.earlier = Some(made);
        channel.queue(&sent)?;
        channel.flush()?;
        channel.receive::<Introduction>().map(|_| ())
    }

    fn introduction(
        &self,
        world: &World,
        channel: &Channel<UnixStream>,
        theirs: &Hello,
    ) -> Introduction {
        let (mut role, mut nonce) = (self.role, *theirs.nonce.as_bytes());
        let (mut exporter, mut key) = (*channel.exporter(), self.identity().public_key());
        match self.change {
            Change::EvidenceOfOtherRole => role = opposite(role),
            Change::EvidenceForOtherNonce => nonce = flipped(&nonce),
            Change::EvidenceForOtherChannel => exporter = flipped(&exporter),
            Change::EvidenceForOtherKey => key = identity(3).public_key(),
            _ => {}
        }
        let data = ReportData::for_session(role, &Nonce::new(nonce), &exporter, &key);
        let evidence = self.platform.evidence(&data).unwrap();
        Introduction { evidence, as_of: world.state.lock().unwrap().position() }
    }
}

fn flipped(bytes: &[u8; 32]) -> [u8; 32] {
    let mut flipped = *bytes;
    flipped[31] ^= 1;
    flipped
}

#[test]
fn one_difference_is_enough_to_be_refused_in_both_roles() {
    let world = World::new();
    for role in ROLES {
        for change in CHANGES {
            let mut rogue = Rogue::new(&world, opposite(role), change);
            let first = honest_against(role, &world, |stream| rogue.meet(&world, stream));
            let outcome = if change == Change::EvidenceOfEarlierSession {
                assert!(first.is_ok(), "the earlier session was good");
                honest_against(role, &world, |stream| rogue.meet(&world, stream))
            } else {
                first
            };
            let refused = match outcome {
                Ok(_) => None,
                Err(SessionError::Refused(error)) => Some(error),
                Err(error) => panic!("{role:?} against {change:?}: {error:?}"),
            };
            assert!(is_expected(change, refused.as_ref()), "{role:?}, {change:?}: {refused:?}");
        }
    }
}

fn is_expected(change: Change, refused: Option<&HandshakeError>) -> bool {
    match change {
        Change::Nothing => refused.is_none(),
        Change::Version => {
            matches!(refused, Some(HandshakeError::Version { found }) if *found == SESSION_VERSION + 1)
        }
        Change::Network => matches!(refused, Some(HandshakeError::OtherNetwork { .. })),
        Change::Domain => matches!(refused, Some(HandshakeError::OtherDomain { .. })),
        Change::NonceSentBack | Change::OurOwnKey => {
            matches!(refused, Some(HandshakeError::Reflected))
        }
        Change::EvidenceOfOtherRole
        | Change::EvidenceForOtherNonce
        | Change::EvidenceForOtherChannel
        | Change::EvidenceForOtherKey
        | Change::EvidenceOfEarlierSession => is_other_report_data(refused),
        Change::DebugMode => {
            matches!(appraisal(refused), Some(AppraiseError::DebugEnclave))
        }
    }
}

fn is_other_report_data(refused: Option<&HandshakeError>) -> bool {
    matches!(appraisal(refused), Some(AppraiseError::ReportDataMismatch { .. }))
}

fn appraisal(refused: Option<&HandshakeError>) -> Option<&AppraiseError> {
    match refused {
        Some(HandshakeError::Evidence(Refusal::Evidence(error))) => Some(error),
        _ => None,
    }
}

/// Somebody between two honest sides has a key of their own and passes every message on.
#[test]
fn evidence_that_is_relayed_between_two_channels_is_refused_by_both_sides() {
    let world = World::new();
    let (application, to_application) = UnixStream::pair().unwrap();
    let (keeper, to_keeper) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        let accepted = scope.spawn(|| {
            let platform = world.launch(1, KEEPER);
            accept(keeper, &identity(1), &context(&world, &platform)).err()
        });
        scope.spawn(|| {
            let middle = identity(3);
            let mut front = Channel::respond(to_application, &middle, deadline()).unwrap();
            let mut back = Channel::initiate(to_keeper, &middle, deadline()).unwrap();
            relay::<Hello>(&mut front, &mut back);
            relay::<Introduction>(&mut front, &mut back);
        });
        let platform = world.launch(2, APPLICATION);
        let connected = connect(application, &identity(2), &context(&world, &platform)).err();
        for outcome in [connected, accepted.join().unwrap()] {
            let Some(SessionError::Refused(error)) = outcome else {
                panic!("not refused for its evidence: {outcome:?}");
            };
            assert!(is_other_report_data(Some(&error)), "{error:?}");
        }
    });
}

fn relay<T: Wire>(front: &mut Channel<UnixStream>, back: &mut Channel<UnixStream>) {
    let from_front: T = front.receive().unwrap();
    let from_back: T = back.receive().unwrap();
    front.queue(&from_back).unwrap();
    front.flush().unwrap();
    back.queue(&from_front).unwrap();
    back.flush().unwrap();
}

/// Even if both sides would accept the evidence, the middle cannot have the key of either side.
#[test]
fn the_key_of_the_channel_is_the_key_that_the_peer_signed_with() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let keys: (PublicKey, PublicKey) = thread::scope(|scope| {
        let responder =
            scope.spawn(|| *Channel::respond(theirs, &identity(2), deadline()).unwrap().peer_key());
        let initiator = Channel::initiate(ours, &identity(1), deadline()).unwrap();
        (*initiator.peer_key(), responder.join().unwrap())
    });
    assert_eq!(keys, (identity(2).public_key(), identity(1).public_key()));
}

/// A socket that counts what the system is asked.
struct Counting {
    stream: UnixStream,
    reads: usize,
    writes: usize,
}

impl Counting {
    fn new(stream: UnixStream) -> Self {
        Self { stream, reads: 0, writes: 0 }
    }
}

impl Read for Counting {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        self.stream.read(bytes)
    }
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        self.stream.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.writes += 1;
        self.stream.write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for Counting {
    fn set_read_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_patience(patience)
    }

    fn set_write_patience(&mut self, patience: Duration) -> io::Result<()> {
        self.stream.set_write_patience(patience)
    }
}
