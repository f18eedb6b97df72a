//! A network whose keepers run in this process, over real sockets and files.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_keeper::keeper::KeeperConfig;
use heirloom_keeper_shell::admin::ask;
use heirloom_keeper_shell::door::Door;
use heirloom_keeper_shell::run::{Running, Settings, start};
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::admin::{AdminRequest, AdminResponse, KeeperStatus, Source, Ticket};
use heirloom_model::counter::{Epoch, Generation, LogIndex, Serial};
use heirloom_model::envelope::Envelope;
use heirloom_model::fleet::Node as Member;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::Sharing;
use heirloom_model::protocol::{
    KeyKind, KeyPart, KeyPeriod, KeyRequest, PeerRequest, PeerResponse,
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

/// Where the application runs.
const APPLICATION_MACHINE: u8 = 9;

pub(crate) struct World {
    pub(crate) ceremony: Ceremony,
    pub(crate) old: Code,
    pub(crate) new: Code,
    /// Carries the keyring from old to new, in an exclusive domain.
    pub(crate) via: Code,
    pub(crate) application: Code,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) state: NetworkState,
    pub(crate) directory: tempfile::TempDir,
}

/// A keeper of a node. A node has more than one while a keyring is handed over.
pub(crate) struct Node {
    pub(crate) name: NodeId,
    /// The machine.
    pub(crate) number: u8,
    pub(crate) running: Option<Running>,
    pub(crate) admin: PathBuf,
    pub(crate) state: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|ceremony| ceremony.nodes(3), 2)
    }

    /// A network with this fleet, whose policy asks for this many proven holders.
    pub(crate) fn with(fleet: fn(&Ceremony) -> Vec<Member>, holders_min: u32) -> Self {
        let mut world = Self::founded(fleet);
        let (old, new) = (world.old, world.new);
        let mut policy = world.ceremony.policy_of(Serial(1), &[old, new], &[(old, new)]);
        policy.holders_min = holders_min;
        Ceremony::admit(&mut policy, "wallet", &world.application);
        world.accept(&world.ceremony.policy(&policy));
        world
    }

    /// Two nodes, one of which may be the active holder; its keyring can go from old by way of an
    /// upgrader to new, and back.
    pub(crate) fn exclusive() -> Self {
        let mut world = Self::founded(|ceremony| ceremony.nodes(2));
        let (old, via, new) = (world.old, world.via, world.new);
        let edges = [(old, via), (via, new), (new, via), (via, old)];
        let mut policy = world.ceremony.policy_of(Serial(1), &[old, via, new], &edges);
        let machines = [1, 2, APPLICATION_MACHINE].map(|number| world.host(number).platform());
        Ceremony::make_exclusive(&mut policy, machines.to_vec());
        Ceremony::admit(&mut policy, "wallet", &world.application);
        world.accept(&world.ceremony.policy(&policy));
        world
    }

    /// A network without a policy.
    fn founded(fleet: fn(&Ceremony) -> Vec<Member>) -> Self {
        let ceremony = Ceremony::new(&[9; 32]);
        let state = NetworkState::new(ceremony.network);
        let (old, new) = (Code::named("old", 2), Code::named("new", 3));
        let via = Code::upgrader("via", 1);
        let mut world = Self {
            ceremony,
            old,
            new,
            via,
            application: Code::application("wallet", 1),
            log: Vec::new(),
            state,
            directory: tempfile::tempdir().unwrap(),
        };
        world.accept(&world.ceremony.root());
        world.accept(&world.ceremony.epoch(Epoch(1)));
        world.accept(&world.ceremony.endorsements());
        world.accept(&world.ceremony.fleet(Serial(1), fleet(&world.ceremony)));
        for (name, code) in [("old-1", old), ("new-1", new), ("via-1", via)] {
            world.accept(&world.ceremony.release(name, &code).0);
        }
        world
    }

    pub(crate) fn accept_bytes(&mut self, envelope: &[u8]) {
        let envelope = self.ceremony.countersigned(envelope);
        let entry = LogEntry::following(&self.state.position(), envelope);
        let applied = self.state.apply(&entry).unwrap();
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
        self.log.push(entry);
    }

    pub(crate) fn accept(&mut self, envelope: &Envelope) {
        self.accept_bytes(&wire::encode(envelope));
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        let policy = self.state.policy(&self.ceremony.domain);
        policy.is_some_and(|policy| policy.sharing == Sharing::Exclusive)
    }

    pub(crate) fn host(&self, number: u8) -> EmulatedHost {
        EmulatedHost::from_seed(&self.ceremony.manufacturer, &[number; 32])
    }

    pub(crate) fn enclave(&self, number: u8, code: &Code) -> EmulatedEnclave {
        let host = self.host(number);
        let Measurement::Sgx(measurement) = code.measurement else {
            panic!("it is of the kind SGX")
        };
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

    pub(crate) fn node(&self, number: u8, code: &Code) -> Node {
        let name = format!("node-{number}");
        self.seat(&name, &number.to_string(), number, code)
    }

    /// A keeper that says that it belongs to this node, with files of its own, on this machine.
    pub(crate) fn seat(&self, node: &str, label: &str, machine: u8, code: &Code) -> Node {
        let path = self.directory.path();
        let mut node = Node {
            name: node.parse().unwrap(),
            number: machine,
            running: None,
            admin: path.join(format!("{label}.sock")),
            state: path.join(label),
        };
        self.start(&mut node, code);
        node
    }

    pub(crate) fn start(&self, node: &mut Node, code: &Code) {
        let settings = Settings {
            config: KeeperConfig {
                network: self.ceremony.network,
                domain: self.ceremony.domain,
                node: node.name.clone(),
                role: code.kind.role().unwrap(),
            },
            state: node.state.clone(),
            admin: Door::File(node.admin.clone()),
            listen: "127.0.0.1:0".parse().unwrap(),
        };
        let enclave = Arc::new(self.enclave(node.number, code));
        node.running = Some(start(settings, enclave).unwrap());
    }

    pub(crate) fn restart(&self, node: &mut Node, code: &Code) {
        node.running.take().unwrap().stop();
        self.start(node, code);
    }

    pub(crate) fn feed(&self, node: &Node) {
        self.feed_with(node, None);
    }

    /// As an agent that has just read the log to its end.
    pub(crate) fn attend(&self, node: &Node) {
        self.feed_with(node, Some(node.ticket()));
    }

    pub(crate) fn feed_with(&self, node: &Node, attended: Option<Ticket>) {
        let LogIndex(seen) = node.status().position.length;
        let entries = self.log[usize::try_from(seen).unwrap()..].to_vec();
        let expected = AdminResponse::Position(self.state.position());
        assert_eq!(node.ask(&AdminRequest::Follow { entries, attended }), expected);
    }

    pub(crate) fn rotate(&mut self, generation: u64, one: &Node, two: &Node) {
        let not_after = Epoch(self.state.epoch().0 + 5);
        self.accept(&self.ceremony.order(Generation(generation), &one.name, not_after));
        let domain = self.state.domain(&self.ceremony.domain).unwrap();
        let order = domain.order().unwrap().order().nonce;
        self.feed(one);
        self.accept_bytes(&one.statement(&AdminRequest::CreateGeneration { order }));
        self.feed(one);
        self.feed(two);
        let sources = vec![nobody(), one.source()];
        self.accept_bytes(&two.statement(&AdminRequest::ReceiveGeneration { order, sources }));
        self.feed(one);
        self.feed(two);
    }

    /// Asks a keeper as an application, all requests at once.
    pub(crate) fn keys(
        &self,
        node: &Node,
        requests: &[KeyRequest],
    ) -> Vec<Result<[u8; 32], String>> {
        self.keys_at(&node.source().address, requests)
    }

    /// The same of whoever listens there.
    pub(crate) fn keys_at(
        &self,
        address: &str,
        requests: &[KeyRequest],
    ) -> Vec<Result<[u8; 32], String>> {
        let enclave = self.enclave(APPLICATION_MACHINE, &self.application);
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
        let stream = dial(address, deadline).unwrap();
        let mut session = connect(stream, &identity, &context).unwrap();
        for request in requests {
            session.queue(&PeerRequest::Key(request.clone())).unwrap();
        }
        session.flush().unwrap();
        let answer = |_| match session.receive::<PeerResponse>().unwrap() {
            PeerResponse::Key(answer) => Ok(answer.secret.unwrap().expose(|bytes| *bytes)),
            PeerResponse::Refused(refusal) => Err(refusal.to_string()),
            PeerResponse::Generations(_) | PeerResponse::HandoverChallenge(_) => {
                panic!("another answer")
            }
        };
        requests.iter().map(answer).collect()
    }
}

impl Node {
    pub(crate) fn ask(&self, request: &AdminRequest) -> AdminResponse {
        let mut stream = UnixStream::connect(&self.admin).unwrap();
        ask(&mut stream, request).unwrap()
    }

    pub(crate) fn status(&self) -> Box<KeeperStatus> {
        match self.ask(&AdminRequest::Status) {
            AdminResponse::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        match self.ask(&AdminRequest::Attend) {
            AdminResponse::Ticket(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn statement(&self, request: &AdminRequest) -> Vec<u8> {
        match self.ask(request) {
            AdminResponse::Statement(statement) => statement,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn source(&self) -> Source {
        let address = self.running.as_ref().unwrap().address().to_string();
        Source { node: self.name.clone(), address }
    }
}

pub(crate) fn random(bytes: &mut [u8]) {
    use std::io::Read;
    fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
}

/// A source where nobody listens.
pub(crate) fn nobody() -> Source {
    let address = "127.0.0.1:1".to_owned();
    Source { node: "nobody".parse().unwrap(), address }
}

pub(crate) fn requests(count: usize) -> Vec<KeyRequest> {
    let request = |index: usize| KeyRequest {
        application: "wallet".parse().unwrap(),
        key: format!("key-{}", index % 7).parse().unwrap(),
        kind: KeyKind::Symmetric,
        period: KeyPeriod::Newest,
        part: KeyPart::Private,
    };
    (0..count).map(request).collect()
}
