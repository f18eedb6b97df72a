//! A network of ledger nodes on emulated machines.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use heirloom_emulated::host::EmulatedHost;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_ledger::amount::Amount;
use heirloom_ledger::configuration::{Allocation, Configuration};
use heirloom_ledger::hint::ViewSecret;
use heirloom_ledger::output::PaymentPath;
use heirloom_ledger::transaction::Transaction;
use heirloom_ledger_shell::command::PeerAddress;
use heirloom_ledger_shell::control::{Subject, ask};
use heirloom_ledger_shell::keys::ViewKeys;
use heirloom_ledger_shell::run::{Begin, Place, RunError, Running, Settings, Surroundings, start};
use heirloom_ledger_shell::service::Service;
use heirloom_ledger_shell::tool::node_client::NodeClient;
use heirloom_ledger_shell::wallet::{Coin, Order, Wallet};
use heirloom_ledger_store::error::OpenError;
use heirloom_ledger_store::ledger::Ledger;
use heirloom_model::counter::{Epoch, LogIndex, Serial};
use heirloom_model::domain::LogPosition;
use heirloom_model::envelope::Envelope;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::secret::Secret;
use heirloom_model::service::{
    Admission, Height, SchemaVersion, ServiceRequest, ServiceResponse, Tip,
};
use heirloom_model::wire;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};

/// How long anything may take on a busy machine before a test gives up.
const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const SCHEMA: SchemaVersion = SchemaVersion(2);

pub(crate) struct World {
    pub(crate) ceremony: Ceremony,
    pub(crate) code: Code,
    pub(crate) other_code: Code,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) configuration: Configuration,
    pub(crate) wallets: Vec<Wallet>,
    pub(crate) directory: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
}

pub(crate) struct Node {
    pub(crate) control: PathBuf,
    pub(crate) running: Running,
}

/// What one node does differently.
pub(crate) struct Change {
    pub(crate) configuration: Configuration,
    pub(crate) code: Code,
    pub(crate) begin: Begin,
}

struct FixedKey;

impl ViewKeys for FixedKey {
    fn view(&mut self) -> Result<ViewSecret, String> {
        Ok(ViewSecret::new(Secret::new([7; 32])))
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let ceremony = Ceremony::new(&[4; 32]);
        let wallets =
            ["pay-1", "pay-2", "try-1", "try-2"].map(|name| Wallet::generate(name).unwrap());
        let allocation =
            |wallet: &Wallet| Allocation { owner: wallet.owner(), amount: Amount(1_000_000) };
        let allocations = wallets.iter().cycle().take(80).map(allocation).collect();
        let configuration = Configuration {
            name: "test".to_owned(),
            minimum_fee: Amount(1),
            tombstone_distance_max: 100,
            block_payments_max: 10,
            block_interval_milliseconds: 20,
            allocations,
            client_protocol_min: 1,
        };
        let free = |_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let world = Self {
            code: Code::application("ledger", 1),
            other_code: Code::application("ledger of tomorrow", 1),
            log: Arc::default(),
            configuration,
            wallets: wallets.into(),
            directory: tempfile::tempdir().unwrap(),
            addresses: (0..3).map(free).collect(),
            ceremony,
        };
        let ceremony = &world.ceremony;
        let keeper = Code::named("keeper", 1);
        let mut policy = ceremony.policy_of(Serial(1), &[keeper], &[]);
        Ceremony::admit(&mut policy, "ledger", &world.code);
        Ceremony::admit(&mut policy, "ledger", &world.other_code);
        for statement in [
            ceremony.root(),
            ceremony.epoch(Epoch(1)),
            ceremony.endorsements(),
            ceremony.fleet(Serial(1), ceremony.nodes(3)),
            ceremony.policy(&policy),
        ] {
            world.log.publish(&statement);
        }
        world
    }

    pub(crate) fn data(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("data-{number}"))
    }

    /// Makes the same first ledger for a node.
    pub(crate) fn create(&self, number: usize) {
        let network = self.ceremony.network;
        Ledger::create(&self.data(number), network, &self.configuration, SCHEMA).unwrap();
    }

    /// Puts a copy of the original in use, as a plan does; the original itself is its own.
    pub(crate) fn put_in_use(&self, number: usize, name: &str) {
        let (data, copy) = (self.data(number), self.data(number).join(name));
        if !copy.exists() {
            std::fs::create_dir(&copy).unwrap();
            std::fs::copy(data.join("original/data.mdb"), copy.join("data.mdb")).unwrap();
        }
        std::fs::remove_file(data.join("live")).unwrap();
        std::os::unix::fs::symlink(name, data.join("live")).unwrap();
    }

    /// Starts all three, and waits until they have a leader.
    pub(crate) fn start_all(&self) -> Vec<Node> {
        let nodes: Vec<Node> = (0..3).map(|number| self.start(number)).collect();
        for node in &nodes {
            wait("every peer is attested", || node.service().status().peers.len() == 2);
            wait("there is a leader", || node.service().status().waits_for.is_none());
        }
        nodes
    }

    pub(crate) fn unchanged(&self) -> Change {
        let configuration = self.configuration.clone();
        Change { configuration, code: self.code, begin: Begin::Anywhere }
    }

    pub(crate) fn try_start(&self, number: usize, change: Change) -> Result<Node, RunError> {
        let name = |number: usize| format!("node-{}", number + 1).parse().unwrap();
        let others = (0..3).filter(|other| *other != number);
        let peers = others.map(|other| PeerAddress {
            node: name(other),
            address: self.addresses[other].to_string(),
        });
        let path = self.directory.path();
        let control = path.join(format!("control-{number}"));
        let free = "127.0.0.1:0".parse().unwrap();
        let settings = Settings {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            application: "ledger".parse().unwrap(),
            node: name(number),
            configuration: change.configuration,
            control: control.clone(),
            place: Some(Place {
                data: self.data(number),
                votes: path.join(format!("votes-{number}")),
                schema: SCHEMA,
                begin: change.begin,
                client_listen: free,
                peer_listen: self.addresses[number],
                door_listen: free,
                peers: peers.collect(),
            }),
        };
        let Measurement::Sgx(measurement) = change.code.measurement else {
            panic!("it is of the kind SGX")
        };
        let secs = Secs {
            measurement,
            signer: CODE_SIGNER,
            product_id: 1,
            isv_svn: 1,
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        let machine = u8::try_from(number + 1).unwrap();
        let host = EmulatedHost::from_seed(&self.ceremony.manufacturer, &[machine; 32]);
        let random = |bytes: &mut [u8]| {
            use std::io::Read;
            std::fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
        };
        let around = Surroundings {
            platform: Arc::new(host.launch(secs, Box::new(random))),
            log: Arc::clone(&self.log) as Arc<dyn LogStore>,
            keys: Box::new(FixedKey),
        };
        Ok(Node { control, running: start(&settings, around)? })
    }

    /// Starts a node. One that has just been stopped in this process may hold its ledger a moment
    /// longer.
    pub(crate) fn start(&self, number: usize) -> Node {
        self.start_as(number, Begin::Anywhere)
    }

    /// As [`Self::start`], with another beginning.
    pub(crate) fn start_as(&self, number: usize, begin: Begin) -> Node {
        let mut started = None;
        let change = || Change { begin, ..self.unchanged() };
        wait("the ledger is free", || match self.try_start(number, change()) {
            Ok(node) => {
                started = Some(node);
                true
            }
            Err(RunError::Open(OpenError::Held { .. })) => false,
            Err(error) => panic!("{error:?}"),
        });
        started.unwrap()
    }

    /// Three nodes that have attested each other, let clients in, and have a leader.
    pub(crate) fn open(&self) -> Vec<Node> {
        for number in 0..3 {
            self.create(number);
        }
        let nodes = self.start_all();
        admit(&nodes, Admission::Open);
        nodes
    }

    /// Pays at one node, and waits until another one says that it counts.
    pub(crate) fn pay(
        &self,
        (from, to): (usize, usize),
        path: PaymentPath,
        at: &NodeClient,
        seen_at: &NodeClient,
    ) -> Transaction {
        let known = at.info().unwrap();
        let wallet = &self.wallets[from];
        let coins = at.coins(wallet).unwrap();
        let coin: &Coin = &coins.iter().max_by_key(|(coin, _)| coin.amount).unwrap().0;
        let order = Order {
            network: known.network,
            to: self.wallets[to].owner(),
            amount: Amount(5),
            path,
            view: known.view,
            fee: Amount(1),
            tombstone: Height(known.said.tip.height + 50),
        };
        let transaction = wallet.pay(coin, &order).unwrap();
        at.submit(&transaction).unwrap();
        let id = transaction.id();
        wait("the payment counts", || {
            let receipt = seen_at.receipt(&id, Duration::from_secs(1)).unwrap();
            receipt.status == "settled"
        });
        transaction
    }
}

impl Node {
    pub(crate) fn service(&self) -> &Arc<Service> {
        match self.running.subject() {
            Subject::Live(service) => service,
            Subject::Trial(_) => panic!("it has a ledger"),
        }
    }

    pub(crate) fn ask(&self, request: &ServiceRequest) -> ServiceResponse {
        let mut stream = UnixStream::connect(&self.control).unwrap();
        ask(&mut stream, request).unwrap()
    }

    pub(crate) fn admit(&self, admission: Admission) {
        assert_eq!(self.ask(&ServiceRequest::Admit(admission)), ServiceResponse::Done);
    }

    pub(crate) fn client(&self) -> NodeClient {
        NodeClient::new(&self.running.addresses().unwrap().0.to_string())
    }

    pub(crate) fn door(&self) -> NodeClient {
        NodeClient::new(&self.running.addresses().unwrap().1.to_string())
    }

    pub(crate) fn tip(&self) -> Tip {
        self.service().chain().tip()
    }

    pub(crate) fn stop(self) {
        self.running.stop();
    }
}

/// Stops them all.
pub(crate) fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.stop();
    }
}

/// All of them take this work from now on.
pub(crate) fn admit(nodes: &[Node], admission: Admission) {
    for node in nodes {
        node.admit(admission);
    }
}

/// Asks again and again until it is so.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it takes too long until {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// A log in memory.
#[derive(Default)]
pub(crate) struct MemoryLog {
    entries: Mutex<Vec<LogEntry>>,
    grown: Condvar,
}

impl MemoryLog {
    pub(crate) fn publish(&self, envelope: &Envelope) {
        let head = self.head().unwrap();
        self.append(head.length, &wire::encode(envelope)).unwrap();
    }
}

impl LogStore for MemoryLog {
    fn append(&self, _: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError> {
        let mut entries = self.entries.lock().unwrap();
        let entry = LogEntry::following(&head(&entries), envelope.to_vec());
        entries.push(entry);
        self.grown.notify_all();
        Ok(head(&entries))
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        Ok(head(&self.entries.lock().unwrap()))
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let from = usize::try_from(from.0).unwrap();
        Ok(self.entries.lock().unwrap().iter().skip(from).take(max).cloned().collect())
    }

    fn watch(&self, from: LogIndex, timeout: Duration) -> Result<LogPosition, ReadError> {
        let short = |entries: &mut Vec<LogEntry>| head(entries).length <= from;
        let entries = self.entries.lock().unwrap();
        let (entries, _) = self.grown.wait_timeout_while(entries, timeout, short).unwrap();
        Ok(head(&entries))
    }
}

fn head(entries: &[LogEntry]) -> LogPosition {
    entries.last().map_or(LogPosition::START, |last| LogPosition {
        length: last.index.next().unwrap(),
        head: last.hash(),
    })
}
