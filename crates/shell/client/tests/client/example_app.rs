//! The example application as a measured process: launched by a platform's daemon, following a
//! registry over HTTP, while the holder that it uses stops.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heirloom_emulated::state::HostDirectory;
use heirloom_keeper::derive::key_check;
use heirloom_launcher::bundle::Bundle;
use heirloom_launcher::client::LaunchClient;
use heirloom_launcher::daemon::{DaemonError, Stopper};
use heirloom_launcher::manifest::Manifest;
use heirloom_launcher::protocol::{InstanceState, LaunchRequest, WireMode};
use heirloom_launcher::report::LaunchMode;
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_model::counter::{LogIndex, SecurityVersion, Serial};
use heirloom_model::measurement::Measurement;
use heirloom_model::protocol::{KeyKind, KeyRequest};
use heirloom_model::release::ReleaseKind;
use heirloom_registry::port::LogStore;
use heirloom_registry_shell::announcer::Announcer;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_registry_shell::server as registry;
use heirloom_store::log_file::LogFile;
use heirloom_testkit::ceremony::Code;
use serde_json::Value;
use tempfile::TempDir;

use crate::network::{APPLICATION, Network, key_of, request, serve};

const APP: &str = env!("CARGO_BIN_EXE_heirloom-example-app");
const SIGNING_KEY: &str =
    include_str!("../../../../adapter/launcher/tests/data/enclave-signing-test-key-not-secret.pem");
/// How long a process may take on a busy machine before a test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A machine with its daemon in this process, so that a failing test takes it along.
struct Host {
    directory: TempDir,
    daemon: Option<(Stopper, JoinHandle<Result<(), DaemonError>>)>,
}

impl Host {
    fn new(network: &Network) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let mut random = |bytes: &mut [u8]| bytes.fill(7);
        let manufacturer = &network.ceremony.manufacturer;
        HostDirectory::create(&state, "host-9".parse().unwrap(), manufacturer, &mut random)
            .unwrap();
        let (daemon, stopper) =
            heirloom_emulated::machine::bind(&state, &directory.path().join("platform")).unwrap();
        let daemon = Some((stopper, thread::spawn(move || daemon.run())));
        Self { directory, daemon }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn client(&self) -> LaunchClient {
        LaunchClient::connect(&self.path("platform")).unwrap()
    }

    /// Makes the application's bundle, and says what code it is.
    fn bundle(&self, network: &Network) -> Code {
        let manifest = Manifest {
            network: network.ceremony.network,
            domain: Some(network.ceremony.domain),
            application: Some(APPLICATION.parse().unwrap()),
            kind: ReleaseKind::Application,
            release: "example-app-1.0.0".parse().unwrap(),
            product_id: 1,
            security_version: 1,
        };
        let key = EnclaveSigningKey::from_pem(SIGNING_KEY).unwrap();
        let bundle = Bundle::sign(&key, fs::read(APP).unwrap(), &manifest, 0x2026_1120).unwrap();
        bundle.write(&self.path("bundle")).unwrap();
        let verified = bundle.verify(LaunchMode::Production).unwrap();
        let measurement = Measurement::Sgx(verified.secs().measurement);
        let kind = ReleaseKind::Application;
        Code { measurement, security_version: SecurityVersion(1), kind }
    }

    fn launch(&self, registry: &str) {
        let arguments = ["--registry", registry, "--keys", "2", "--pause-ms", "0"];
        let mut arguments = arguments.map(str::to_owned).to_vec();
        let files = [("--report", "report"), ("--until-file", "stop")];
        arguments
            .extend(files.into_iter().flat_map(|(flag, file)| [flag.to_owned(), self.text(file)]));
        let request = LaunchRequest {
            bundle: self.text("bundle"),
            arguments,
            log: self.text("log"),
            mode: WireMode::Production,
            label: "example-app".to_owned(),
        };
        self.client().launch(request).unwrap();
    }

    fn app(&self) -> InstanceState {
        self.client().list().unwrap().first().unwrap().state
    }

    /// The report, as soon as it counts this many requests.
    fn report(&self, requests: u64) -> Value {
        wait(|| {
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert_eq!(self.app(), InstanceState::Running, "{}", log());
            let report = read(&self.path("report"))?;
            (report["requests"].as_u64()? >= requests).then_some(report)
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((stopper, thread)) = self.daemon.take() {
            stopper.stop();
            thread.join().unwrap().unwrap();
        }
    }
}

/// Asks again and again until there is an answer.
fn wait<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it takes too long");
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn read(report: &Path) -> Option<Value> {
    let text = fs::read(report).ok()?;
    Some(serde_json::from_slice(&text).expect("a report is replaced as a whole"))
}

/// Serves a copy of the network's log over HTTP until the test ends.
struct RegistryServer {
    address: String,
    stopper: registry::Stopper,
    thread: Option<JoinHandle<()>>,
}

impl RegistryServer {
    fn start(network: &Network, path: &Path) -> Self {
        let log = LogFile::create(path).unwrap();
        for entry in network.log.read(LogIndex(0), usize::MAX).unwrap() {
            log.append(entry.index, &entry.envelope).unwrap();
        }
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = registry::Server::bind(log, network.ceremony.network, listen).unwrap();
        let address = format!("http://{}", server.address());
        let stopper = server.stopper();
        let thread = Some(thread::spawn(move || server.run().unwrap()));
        Self { address, stopper, thread }
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_measured_application_loses_no_request_when_its_holder_stops() {
    let mut network = Network::without_policy();
    let host = Host::new(&network);
    network.wallet = host.bundle(&network);
    network.publish(&network.ceremony.policy(&network.policy(Serial(1))));
    let registry = RegistryServer::start(&network, &host.path("log file"));
    let directory = RegistryClient::new(&registry.address);
    let (first, second) = (network.holder(1, serve), network.holder(2, serve));
    for holder in [&first, &second] {
        let source = holder.source();
        let key = Arc::new(network.ceremony.agent_key(&source.node));
        let node = source.node.clone();
        Announcer::new(directory.clone(), network.ceremony.network, node, key)
            .announce(&source.address, PATIENCE)
            .unwrap();
    }

    host.launch(&registry.address);
    host.report(100);
    let (used, other) = if first.requests() > 0 { (first, second) } else { (second, first) };
    used.stop();
    let before = other.requests();
    wait(|| (other.requests() > before + 100).then_some(()));
    fs::write(host.path("stop"), []).unwrap();
    let ended = wait(|| Some(host.app()).filter(|state| *state != InstanceState::Running));

    let report = read(&host.path("report")).unwrap();
    assert_eq!(ended, InstanceState::Exited(0), "{report:#}");
    assert_eq!(report["finished"], true);
    assert_eq!((&report["failures"], &report["contradictions"]), (&0.into(), &0.into()));
    assert_eq!(report["measurement"], network.wallet.measurement.to_string());
    let keys = report["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2 * KeyKind::ALL.len());
    for key in keys {
        let name = key["key"].as_str().unwrap().parse().unwrap();
        let kind = KeyKind::ALL.into_iter().find(|kind| key["kind"] == kind.name()).unwrap();
        let expected = key_of(&KeyRequest { key: name, kind, ..request(0) });
        assert_eq!(key["check"], expected.secret.expose(key_check).to_string());
    }
}
