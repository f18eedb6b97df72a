//! A registry, two keepers and a machine with its daemon in this process, and nodes in processes
//! of their own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heirloom_emulated::host::EmulatedHost;
use heirloom_emulated::state::HostDirectory;
use heirloom_keeper::keeper::KeeperConfig;
use heirloom_keeper_shell::door::Door;
use heirloom_keeper_shell::run as keeper;
use heirloom_launcher::bundle::Bundle;
use heirloom_launcher::client::LaunchClient;
use heirloom_launcher::daemon::{DaemonError, Stopper};
use heirloom_launcher::manifest::Manifest;
use heirloom_launcher::protocol::{InstanceState, LaunchRequest, StopSignal, WireMode};
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_ledger_shell::command::Prepare;
use heirloom_ledger_shell::control::ask;
use heirloom_ledger_shell::tool::prepare::prepare;
use heirloom_model::admin::{AdminRequest, AdminResponse, Source};
use heirloom_model::counter::{Epoch, Generation, LogIndex, SecurityVersion, Serial};
use heirloom_model::envelope::Envelope;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::ReleaseKind;
use heirloom_model::service::{ServiceRequest, ServiceResponse, ServiceStatus};
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_registry::port::LogStore;
use heirloom_registry_shell::announcer::Announcer;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_registry_shell::server as registry;
use heirloom_store::log_file::LogFile;
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_heirloom-ledger");
const SIGNING_KEY: &str =
    include_str!("../../../../adapter/launcher/tests/data/enclave-signing-test-key-not-secret.pem");
/// How long a process may take on a busy machine before a test gives up.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct World {
    ceremony: Ceremony,
    pub(crate) measurement: Measurement,
    directory: tempfile::TempDir,
    registry: RegistryClient,
    registry_server: Option<(registry::Stopper, JoinHandle<()>)>,
    keepers: Vec<keeper::Running>,
    daemon: Option<(Stopper, JoinHandle<Result<(), DaemonError>>)>,
    /// Of each node: for clients, for peers, the side door.
    addresses: Vec<[SocketAddr; 3]>,
}

impl World {
    pub(crate) fn new() -> Self {
        let ceremony = Ceremony::new(&[6; 32]);
        let directory = tempfile::tempdir().unwrap();
        let log = LogFile::create(&directory.path().join("log file")).unwrap();
        log.append(LogIndex(0), &wire::encode(&ceremony.root())).unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = registry::Server::bind(log, ceremony.network, listen).unwrap();
        let registry = RegistryClient::new(&format!("http://{}", server.address()));
        let stopper = server.stopper();
        let serving = thread::spawn(move || server.run().unwrap());
        let free = |_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut world = Self {
            measurement: sign(&ceremony, &directory.path().join("bundle")),
            directory,
            registry,
            registry_server: Some((stopper, serving)),
            keepers: Vec::new(),
            daemon: None,
            addresses: (0..3).map(|_| [0, 1, 2].map(free)).collect(),
            ceremony,
        };
        world.found();
        world.start_daemon();
        world.prepare();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn publish(&self, envelope: &[u8]) {
        let envelope = self.ceremony.countersigned(envelope);
        let head = self.registry.head().unwrap();
        self.registry.append(head.length, &envelope).unwrap();
    }

    fn publish_envelope(&self, envelope: &Envelope) {
        self.publish(&wire::encode(envelope));
    }

    /// Everything up to a first key with two keepers.
    fn found(&mut self) {
        let code = Code::named("keeper", 1);
        let (security_version, kind) = (SecurityVersion(1), ReleaseKind::Application);
        let ledger = Code { measurement: self.measurement, security_version, kind };
        let mut policy = self.ceremony.policy_of(Serial(1), &[code], &[]);
        Ceremony::admit(&mut policy, "ledger", &ledger);
        self.publish_envelope(&self.ceremony.epoch(Epoch(1)));
        self.publish_envelope(&self.ceremony.endorsements());
        self.publish_envelope(&self.ceremony.fleet(Serial(1), self.ceremony.nodes(2)));
        self.publish_envelope(&self.ceremony.policy(&policy));
        self.keepers = (1..=2).map(|number| self.start_keeper(number, &code)).collect();
        let sources: Vec<Source> = (1..=2)
            .zip(&self.keepers)
            .map(|(number, keeper)| Source {
                node: format!("node-{number}").parse().unwrap(),
                address: keeper.address().to_string(),
            })
            .collect();
        let first = &sources[0].node;
        self.publish_envelope(&self.ceremony.order(Generation(0), first, Epoch(9)));
        self.feed();
        let mut state = NetworkState::new(self.ceremony.network);
        for entry in self.registry.read(LogIndex(0), 100).unwrap() {
            assert!(matches!(state.apply(&entry).unwrap(), Applied::Accepted(_)));
        }
        let domain = state.domain(&self.ceremony.domain).unwrap();
        let order = domain.order().unwrap().order().nonce;
        let made = self.statement(0, &AdminRequest::CreateGeneration { order });
        self.publish(&made);
        self.feed();
        let receive = AdminRequest::ReceiveGeneration { order, sources: sources.clone() };
        let received = self.statement(1, &receive);
        self.publish(&received);
        self.feed();
        for source in sources {
            let key = Arc::new(self.ceremony.agent_key(&source.node));
            Announcer::new(self.registry.clone(), self.ceremony.network, source.node, key)
                .announce(&source.address, PATIENCE)
                .unwrap();
        }
    }

    fn start_keeper(&self, number: u8, code: &Code) -> keeper::Running {
        let Measurement::Sgx(measurement) = code.measurement else {
            panic!("it is of the kind SGX")
        };
        let secs = Secs {
            measurement,
            signer: CODE_SIGNER,
            product_id: 0,
            isv_svn: 1,
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        let random = |bytes: &mut [u8]| {
            use std::io::Read;
            fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
        };
        let host = EmulatedHost::from_seed(&self.ceremony.manufacturer, &[number; 32]);
        let settings = keeper::Settings {
            config: KeeperConfig {
                network: self.ceremony.network,
                domain: self.ceremony.domain,
                node: format!("node-{number}").parse().unwrap(),
                role: code.kind.role().unwrap(),
            },
            state: self.path(&format!("keeper-{number}")),
            admin: Door::File(self.path(&format!("keeper-{number}.sock"))),
            listen: "127.0.0.1:0".parse().unwrap(),
        };
        keeper::start(settings, Arc::new(host.launch(secs, Box::new(random)))).unwrap()
    }

    fn statement(&self, keeper: usize, request: &AdminRequest) -> Vec<u8> {
        match self.keepers[keeper].service().admin(request) {
            AdminResponse::Statement(statement) => statement,
            other => panic!("{other:?}"),
        }
    }

    fn feed(&self) {
        for keeper in &self.keepers {
            let seen = keeper.service().status().position.length;
            let entries = self.registry.read(seen, 100).unwrap();
            let answer = keeper.service().admin(&AdminRequest::Follow { entries, attended: None });
            assert!(matches!(answer, AdminResponse::Position(_)), "{answer:?}");
        }
    }

    fn start_daemon(&mut self) {
        let state = self.path("machine");
        let mut random = |bytes: &mut [u8]| bytes.fill(9);
        let manufacturer = &self.ceremony.manufacturer;
        HostDirectory::create(&state, "host-9".parse().unwrap(), manufacturer, &mut random)
            .unwrap();
        let (daemon, stopper) =
            heirloom_emulated::machine::bind(&state, &self.path("platform")).unwrap();
        self.daemon = Some((stopper, thread::spawn(move || daemon.run())));
    }

    /// The same first ledger for all nodes.
    fn prepare(&self) {
        let asked = Prepare {
            out: self.path("made"),
            name: "test".to_owned(),
            network: self.ceremony.network,
            blocks: 20,
            schema: 2,
            wallets: 2,
            amount: 1_000_000,
            outputs: 16,
            minimum_fee: 1,
            tombstone_distance_max: 1_000,
            block_payments_max: 10,
            block_interval_ms: 20,
        };
        prepare(&asked).unwrap();
        for number in 0..3 {
            let (from, to) = (self.path("made").join("data"), self.path(&format!("data-{number}")));
            fs::create_dir_all(to.join("original")).unwrap();
            fs::copy(from.join("original/data.mdb"), to.join("original/data.mdb")).unwrap();
            std::os::unix::fs::symlink("original", to.join("live")).unwrap();
        }
    }

    fn client(&self) -> LaunchClient {
        LaunchClient::connect(&self.path("platform")).unwrap()
    }

    fn common(&self, number: usize) -> Vec<String> {
        let configuration = self.path("made").join("ledger.toml");
        [
            ["--node", &format!("n{number}")],
            ["--network", &self.ceremony.network.to_string()],
            ["--domain", &self.ceremony.domain.to_string()],
            ["--application", "ledger"],
            ["--registry", self.registry.base()],
            ["--control", &self.text(&format!("control-{number}"))],
            ["--configuration", configuration.to_str().unwrap()],
        ]
        .into_iter()
        .flatten()
        .map(str::to_owned)
        .collect()
    }

    /// Launches a node as its agent does.
    pub(crate) fn launch(&self, number: usize, more: &[&str]) {
        let [front, peers, side] = self.addresses[number].map(|address| address.to_string());
        let mut arguments = self.common(number);
        for [flag, value] in [
            ["--data", &self.text(&format!("data-{number}"))],
            ["--votes", &self.text(&format!("votes-{number}"))],
            ["--client-listen", &front],
            ["--peer-listen", &peers],
            ["--door-listen", &side],
        ] {
            arguments.extend([flag.to_owned(), value.to_owned()]);
        }
        for other in (0..3).filter(|other| *other != number) {
            let address = self.addresses[other][1];
            arguments.extend(["--peer".to_owned(), format!("n{other}={address}")]);
        }
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        self.start(number, arguments);
    }

    /// Launches code to be tried.
    pub(crate) fn launch_trial(&self) {
        let mut arguments = self.common(0);
        arguments.push("--try".to_owned());
        self.start(0, arguments);
    }

    fn start(&self, number: usize, arguments: Vec<String>) {
        let request = LaunchRequest {
            label: format!("n{number}"),
            bundle: self.text("bundle"),
            arguments,
            log: self.text(&format!("log-{number}")),
            mode: WireMode::Production,
        };
        self.client().launch(request).unwrap();
    }

    /// The newest instance of a node.
    pub(crate) fn state(&self, number: usize) -> InstanceState {
        let list = self.client().list().unwrap();
        list.iter().rfind(|found| found.label == format!("n{number}")).unwrap().state
    }

    pub(crate) fn kill(&self, number: usize) {
        let list = self.client().list().unwrap();
        let found = list.iter().rfind(|found| found.label == format!("n{number}")).unwrap();
        self.client().stop(found.instance, StopSignal::Kill).unwrap();
        wait("it is gone", || self.state(number) != InstanceState::Running);
    }

    pub(crate) fn log(&self, number: usize) -> String {
        fs::read_to_string(self.path(&format!("log-{number}"))).unwrap_or_default()
    }

    pub(crate) fn ask(&self, number: usize, request: &ServiceRequest) -> Option<ServiceResponse> {
        let mut stream = UnixStream::connect(self.path(&format!("control-{number}"))).ok()?;
        ask(&mut stream, request).ok()
    }

    pub(crate) fn status(&self, number: usize) -> Option<ServiceStatus> {
        match self.ask(number, &ServiceRequest::Status)? {
            ServiceResponse::Status(status) => Some(*status),
            other => panic!("{other:?}"),
        }
    }

    /// Where clients of a node come in.
    pub(crate) fn front(&self, number: usize) -> String {
        self.addresses[number][0].to_string()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            for number in 0..3 {
                let log = format!("node {number}:\n{}\n", self.log(number));
                std::io::Write::write_all(&mut std::io::stderr(), log.as_bytes()).ok();
            }
        }
        if let Some((stopper, thread)) = self.daemon.take() {
            stopper.stop();
            thread.join().unwrap().unwrap();
        }
        self.keepers.drain(..).for_each(keeper::Running::stop);
        if let Some((stopper, thread)) = self.registry_server.take() {
            stopper.stop();
            thread.join().unwrap();
        }
    }
}

/// Makes the bundle, and says what code it is.
fn sign(ceremony: &Ceremony, directory: &Path) -> Measurement {
    let manifest = Manifest {
        network: ceremony.network,
        domain: Some(ceremony.domain),
        application: Some("ledger".parse().unwrap()),
        kind: ReleaseKind::Application,
        release: "ledger-1.0.0".parse().unwrap(),
        product_id: 1,
        security_version: 1,
    };
    let key = EnclaveSigningKey::from_pem(SIGNING_KEY).unwrap();
    let program = fs::read(PROGRAM).unwrap();
    let bundle = Bundle::sign(&key, program, &manifest, 0x2026_1120).unwrap();
    bundle.write(directory).unwrap();
    let verified = bundle.verify(LaunchMode::Production).unwrap();
    Measurement::Sgx(verified.secs().measurement)
}

/// Asks again and again until it is so.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it takes too long until {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}
