//! Three keepers in one process, over real sockets and files, on emulated machines.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_emulated::report::{LaunchMode, Secs};
use heirloom_keeper::keeper::KeeperConfig;
use heirloom_keeper_shell::admin::ask;
use heirloom_keeper_shell::run::{End, Running, Settings, start};
use heirloom_model::counter::{Epoch, Generation, LogIndex, Serial};
use heirloom_model::digest::Nonce;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::protocol::{
    AdminRefusal, AdminRequest, AdminResponse, KeeperStatus, KeyKind, KeyPart, KeyPeriod,
    KeyRequest, PeerRequest, PeerResponse, ServingState, Source, Unreadable,
};
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_session::context::SessionContext;
use heirloom_session::session::connect;
use heirloom_session::stream::dial;
use heirloom_session::tls::Identity;
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};

struct World {
    ceremony: Ceremony,
    old: Code,
    new: Code,
    application: Code,
    log: Vec<LogEntry>,
    state: NetworkState,
    directory: tempfile::TempDir,
}

struct Node {
    name: NodeId,
    number: u8,
    running: Option<Running>,
    admin: PathBuf,
    state: PathBuf,
}

impl World {
    fn new() -> Self {
        let ceremony = Ceremony::new(&[9; 32]);
        let state = NetworkState::new(ceremony.network);
        let (old, new) = (Code::named("old", 2), Code::named("new", 3));
        let mut world = Self {
            ceremony,
            old,
            new,
            application: Code::named("wallet", 1),
            log: Vec::new(),
            state,
            directory: tempfile::tempdir().unwrap(),
        };
        world.accept(world.ceremony.root());
        world.accept(world.ceremony.epoch(Epoch(1)));
        world.accept(world.ceremony.endorsements());
        world.accept(world.ceremony.fleet(Serial(1), world.ceremony.nodes(3)));
        world.accept(world.ceremony.release("old-1", &old).0);
        world.accept(world.ceremony.release("new-1", &new).0);
        let mut policy = world.ceremony.policy_of(Serial(1), &[old, new], &[(old, new)]);
        Ceremony::admit(&mut policy, "wallet", &world.application);
        world.accept(world.ceremony.policy(&policy));
        world
    }

    fn accept_bytes(&mut self, envelope: Vec<u8>) {
        let entry = LogEntry::following(&self.state.position(), envelope);
        let applied = self.state.apply(&entry).unwrap();
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
        self.log.push(entry);
    }

    fn accept(&mut self, envelope: Envelope) {
        self.accept_bytes(wire::encode(&envelope));
    }

    fn enclave(&self, number: u8, code: &Code) -> EmulatedEnclave {
        let host = EmulatedHost::from_seed(&self.ceremony.manufacturer, &[number; 32]);
        let Measurement::Sgx(measurement) = code.measurement;
        let secs = Secs {
            measurement,
            signer: CODE_SIGNER,
            product_id: 0,
            isv_svn: u16::try_from(code.security_version.0).unwrap(),
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        host.launch(secs, Box::new(random))
    }

    fn node(&self, number: u8, code: &Code) -> Node {
        let path = self.directory.path();
        let mut node = Node {
            name: format!("node-{number}").parse().unwrap(),
            number,
            running: None,
            admin: path.join(format!("{number}.sock")),
            state: path.join(format!("{number}")),
        };
        self.start(&mut node, code);
        node
    }

    fn start(&self, node: &mut Node, code: &Code) {
        let settings = Settings {
            config: KeeperConfig {
                network: self.ceremony.network,
                domain: self.ceremony.domain,
                node: node.name.clone(),
            },
            state: node.state.clone(),
            admin: node.admin.clone(),
            listen: "127.0.0.1:0".parse().unwrap(),
        };
        let enclave = Arc::new(self.enclave(node.number, code));
        node.running = Some(start(settings, enclave).unwrap());
    }

    fn restart(&self, node: &mut Node, code: &Code) {
        node.running.take().unwrap().stop();
        self.start(node, code);
    }

    fn feed(&self, node: &Node) {
        let LogIndex(seen) = node.status().position.length;
        let rest = self.log[usize::try_from(seen).unwrap()..].to_vec();
        let expected = AdminResponse::Position(self.state.position());
        assert_eq!(node.ask(AdminRequest::Follow(rest)), expected);
    }

    fn rotate(&mut self, generation: u64, one: &Node, two: &Node) {
        let not_after = Epoch(self.state.epoch().0 + 5);
        self.accept(self.ceremony.order(Generation(generation), &one.name, not_after));
        let domain = self.state.domain(&self.ceremony.domain).unwrap();
        let order = domain.order().unwrap().order().nonce;
        self.feed(one);
        self.accept_bytes(one.statement(AdminRequest::CreateGeneration { order }));
        self.feed(one);
        self.feed(two);
        let sources = vec![nobody(), one.source()];
        self.accept_bytes(two.statement(AdminRequest::ReceiveGeneration { order, sources }));
        self.feed(one);
        self.feed(two);
    }

    /// Asks a keeper as an application, all requests at once.
    fn keys(&self, node: &Node, requests: &[KeyRequest]) -> Vec<Result<[u8; 32], String>> {
        let enclave = self.enclave(9, &self.application);
        let mut seed = [0; 32];
        random(&mut seed);
        let identity = Identity::new(Arc::new(SigningKey::from_seed(Secret::new(seed))));
        let trust = Mutex::new(self.state.clone());
        let context = SessionContext {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            platform: &enclave,
            trust: &trust,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let stream = dial(&node.source().address, deadline).unwrap();
        let mut session = connect(stream, &identity, &context).unwrap();
        for request in requests {
            session.queue(&PeerRequest::Key(request.clone())).unwrap();
        }
        session.flush().unwrap();
        let answer = |_| match session.receive::<PeerResponse>().unwrap() {
            PeerResponse::Key(answer) => Ok(answer.secret.unwrap().expose(|bytes| *bytes)),
            PeerResponse::Refused(refusal) => Err(refusal.to_string()),
            PeerResponse::Generations(_) => panic!("another answer"),
        };
        requests.iter().map(answer).collect()
    }
}

impl Node {
    fn ask(&self, request: AdminRequest) -> AdminResponse {
        let mut stream = UnixStream::connect(&self.admin).unwrap();
        ask(&mut stream, &request).unwrap()
    }

    fn status(&self) -> Box<KeeperStatus> {
        match self.ask(AdminRequest::Status) {
            AdminResponse::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn statement(&self, request: AdminRequest) -> Vec<u8> {
        match self.ask(request) {
            AdminResponse::Statement(statement) => statement,
            other => panic!("{other:?}"),
        }
    }

    fn source(&self) -> Source {
        let address = self.running.as_ref().unwrap().address().to_string();
        Source { node: self.name.clone(), address }
    }
}

fn random(bytes: &mut [u8]) {
    use std::io::Read;
    fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
}

/// A source where nobody listens.
fn nobody() -> Source {
    let address = "127.0.0.1:1".to_owned();
    Source { node: "nobody".parse().unwrap(), address }
}

fn requests(count: usize) -> Vec<KeyRequest> {
    let request = |index: usize| KeyRequest {
        application: "wallet".parse().unwrap(),
        key: format!("key-{}", index % 7).parse().unwrap(),
        kind: KeyKind::Symmetric,
        period: KeyPeriod::Newest,
        part: KeyPart::Private,
    };
    (0..count).map(request).collect()
}

/// The whole way of a rolling upgrade, as an agent would take it.
#[test]
fn a_keyring_survives_processes_and_moves_to_new_code() {
    let mut world = World::new();
    let (mut one, two) = (world.node(1, &world.old), world.node(2, &world.old));
    assert_eq!(one.status().state, ServingState::Starting);
    for generation in 0..3 {
        world.rotate(generation, &one, &two);
    }
    assert_eq!(one.status().state, ServingState::Ready);
    let before = world.keys(&one, &requests(300));
    assert_eq!(before, world.keys(&two, &requests(300)));
    assert!(before.iter().all(Result::is_ok));

    world.restart(&mut one, &world.old);
    world.feed(&one);
    let holding = one.status().holding.unwrap();
    assert_eq!(holding.origin, HoldingOrigin::Recovered);
    assert_eq!(one.ask(AdminRequest::Probe), AdminResponse::Done);

    let mut three = world.node(3, &world.new);
    world.feed(&three);
    // Nobody is there; the new code itself holds nothing; the third source has it.
    let sources = vec![nobody(), three.source(), two.source()];
    assert_eq!(three.ask(AdminRequest::Replicate { sources }), AdminResponse::Done);
    world.restart(&mut three, &world.new);
    world.feed(&three);
    let received = three.status().holding.unwrap();
    assert_eq!(received.checksum, holding.checksum);
    assert_eq!(received.origin, HoldingOrigin::Recovered);
    assert_eq!(before, world.keys(&three, &requests(300)));
    let registration = three.statement(AdminRequest::Register);
    world.accept_bytes(registration);
}

#[test]
fn a_drained_keeper_refuses_and_a_resumed_one_serves() {
    let mut world = World::new();
    let (one, two) = (world.node(1, &world.old), world.node(2, &world.old));
    world.rotate(0, &one, &two);
    assert_eq!(one.ask(AdminRequest::Drain), AdminResponse::Done);
    assert_eq!(one.status().state, ServingState::Draining);
    let refused = world.keys(&one, &requests(1));
    assert_eq!(refused, [Err("this keeper is not serving: draining".to_owned())]);
    assert_eq!(one.ask(AdminRequest::Resume), AdminResponse::Done);
    assert!(world.keys(&one, &requests(1)).iter().all(Result::is_ok));
}

#[test]
fn every_refusal_of_an_agent_has_its_own_name() {
    let mut world = World::new();
    let (mut one, two) = (world.node(1, &world.old), world.node(2, &world.old));
    world.rotate(0, &one, &two);
    let three = world.node(3, &world.new);
    let starting = AdminRefusal::State { state: ServingState::Starting };
    let sources = vec![one.source()];
    let replicate = AdminRequest::Replicate { sources };
    assert_eq!(three.ask(replicate), AdminResponse::Refused(starting));
    world.feed(&three);
    let none = AdminRequest::Replicate { sources: vec![nobody(), nobody()] };
    match three.ask(none) {
        AdminResponse::Refused(AdminRefusal::NotReplicated(reasons)) => {
            assert_eq!(reasons.matches("nobody: ").count(), 2, "{reasons}");
        }
        other => panic!("{other:?}"),
    }
    let unknown = AdminRequest::Prove { challenge: Nonce::new([9; 32]) };
    assert_eq!(one.ask(unknown), AdminResponse::Refused(AdminRefusal::NotInLog));
    let again = AdminRequest::Follow(world.log[..1].to_vec());
    let refused = one.ask(again);
    assert!(matches!(refused, AdminResponse::Refused(AdminRefusal::Log(_))), "{refused:?}");

    world.restart(&mut one, &world.new);
    world.feed(&one);
    let replicate = AdminRequest::Replicate { sources: vec![two.source()] };
    match one.ask(replicate) {
        AdminResponse::Refused(AdminRefusal::Unreadable(Unreadable::WrongMeasurement {
            sealed_by,
            ..
        })) => assert_eq!(sealed_by, world.old.measurement),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_agent_can_end_it_in_order() {
    let world = World::new();
    let mut one = world.node(1, &world.old);
    assert_eq!(one.ask(AdminRequest::Shutdown), AdminResponse::Done);
    let running = one.running.take().unwrap();
    assert_eq!(running.wait(), End::Shutdown);
    running.stop();
    assert!(!one.admin.exists());
    assert!(UnixStream::connect(&one.admin).is_err());
    // The directory is free again.
    world.start(&mut one, &world.old);
    assert_eq!(one.status().state, ServingState::Starting);
}

/// A frame that announces more than it may ends its connection and nothing else.
#[test]
fn junk_on_a_socket_ends_that_connection_only() {
    use std::io::{Read, Write};
    let world = World::new();
    let one = world.node(1, &world.old);
    for junk in [[0xff; 64].as_slice(), &[0, 0, 0, 1, 0x00], &[0, 0, 0, 9, 1]] {
        let mut stream = UnixStream::connect(&one.admin).unwrap();
        stream.write_all(junk).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        // The keeper closes without an answer; it may do so before it has read everything.
        stream.read_to_end(&mut rest).ok();
        assert!(rest.is_empty());
        let address = one.running.as_ref().unwrap().address();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(junk).unwrap();
        drop(stream);
    }
    assert_eq!(one.status().state, ServingState::Starting);
}
