//! The real binary, launched and measured by a real daemon.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heirloom_emulated::provisioning::DevelopmentRoot;
use heirloom_emulated::state::HostDirectory;
use heirloom_keeper_shell::admin::ask;
use heirloom_launcher::bundle::Bundle;
use heirloom_launcher::client::LaunchClient;
use heirloom_launcher::daemon::{DaemonError, Stopper};
use heirloom_launcher::manifest::Manifest;
use heirloom_launcher::protocol::{InstanceState, LaunchId, LaunchRequest, StopSignal, WireMode};
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_model::admin::{AdminRequest, AdminResponse, KeeperStatus};
use heirloom_model::counter::Time;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::DomainId;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;
use heirloom_model::release::ReleaseKind;

pub(crate) const KEEPER: &str = env!("CARGO_BIN_EXE_heirloom-keeper");
pub(crate) const SIGNING_KEY: &str =
    include_str!("../../../../adapter/launcher/tests/data/enclave-signing-test-key-not-secret.pem");
const NETWORK: NetworkId = NetworkId::new([1; 32]);
const DOMAIN: DomainId = DomainId::new([2; 32]);
/// How long a process may take on a busy machine before a test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

struct Host {
    directory: tempfile::TempDir,
    daemon: Option<(Stopper, JoinHandle<Result<(), DaemonError>>)>,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = DevelopmentRoot::from_seed(&[1; 32], Time(0));
        let state = directory.path().join("host");
        let mut random = |bytes: &mut [u8]| bytes.fill(7);
        HostDirectory::create(&state, "host-1".parse().unwrap(), &root, &mut random).unwrap();
        let (daemon, stopper) =
            heirloom_emulated::machine::bind(&state, &directory.path().join("platform")).unwrap();
        let daemon = Some((stopper, std::thread::spawn(move || daemon.run())));
        Self { directory, daemon }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn client(&self) -> LaunchClient {
        LaunchClient::connect(&self.path("platform")).unwrap()
    }

    fn bundle(&self, name: &str, kind: ReleaseKind) -> PathBuf {
        let is_application = kind == ReleaseKind::Application;
        let manifest = Manifest {
            network: NETWORK,
            domain: Some(DOMAIN),
            application: is_application.then(|| "wallet".parse().unwrap()),
            kind,
            release: "keeper-1".parse().unwrap(),
            product_id: 1,
            security_version: 2,
        };
        let key = EnclaveSigningKey::from_pem(SIGNING_KEY).unwrap();
        let path = self.path(name);
        Bundle::sign(&key, fs::read(KEEPER).unwrap(), &manifest, 0).unwrap().write(&path).unwrap();
        path
    }

    fn launch(&self, bundle: &Path, more: &[&str]) -> LaunchId {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let (state, admin) = (text(self.path("state")), text(self.path("admin")));
        let mut arguments: Vec<String> = ["--node", "node-1", "--state", &state, "--admin", &admin]
            .into_iter()
            .chain(["--listen", "127.0.0.1:0"])
            .map(str::to_owned)
            .collect();
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let request = LaunchRequest {
            bundle: text(bundle.to_owned()),
            arguments,
            log: text(self.path("log")),
            mode: WireMode::Production,
            label: "keeper".to_owned(),
        };
        self.client().launch(request).unwrap().instance
    }

    fn ask(&self, request: &AdminRequest) -> AdminResponse {
        let mut stream = wait(|| UnixStream::connect(self.path("admin")).ok());
        ask(&mut stream, request).unwrap()
    }

    fn status(&self) -> Box<KeeperStatus> {
        match self.ask(&AdminRequest::Status) {
            AdminResponse::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn end_of(&self, instance: LaunchId) -> InstanceState {
        wait(|| {
            let all = self.client().list().unwrap();
            let info = all.into_iter().find(|info| info.instance == instance)?;
            Some(info.state).filter(|state| *state != InstanceState::Running)
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((stopper, thread)) = self.daemon.take() {
            stopper.stop();
            thread.join().ok();
        }
    }
}

/// Asks again and again until there is an answer; what is awaited is an observable state.
pub(crate) fn wait<T>(mut observe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = observe() {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "nothing happened");
        std::thread::yield_now();
    }
}

#[test]
fn a_measured_keeper_takes_its_network_from_its_manifest_and_ends_in_order() {
    let host = Host::new();
    let bundle = host.bundle("bundle", ReleaseKind::Keeper);
    let verified = Bundle::read(&bundle).unwrap();
    let instance = host.launch(&bundle, &[]);
    let status = host.status();
    assert_eq!((status.network, status.domain), (NETWORK, DOMAIN));
    assert_eq!(status.node.as_str(), "node-1");
    assert_eq!(status.role, HolderRole::Keeper);
    assert_eq!(status.state, ServingState::Starting);
    let secs = *verified.verify(heirloom_launcher::report::LaunchMode::Production).unwrap().secs();
    let measured = heirloom_model::measurement::Measurement::Sgx(secs.measurement);
    assert_eq!(status.measurement, measured);

    host.client().stop(instance, StopSignal::Terminate).unwrap();
    assert_eq!(host.end_of(instance), InstanceState::Exited(0));
    assert!(host.log().contains("ended: Signal"), "{}", host.log());

    let instance = host.launch(&bundle, &[]);
    assert_ne!(host.status().instance, status.instance, "a new identity key at every start");
    assert_eq!(host.ask(&AdminRequest::Shutdown), AdminResponse::Done);
    assert_eq!(host.end_of(instance), InstanceState::Exited(0));
}

/// Keepers and upgraders are the same binary.
#[test]
fn the_measured_manifest_makes_an_upgrader_and_nothing_else_does() {
    let host = Host::new();
    host.launch(&host.bundle("bundle", ReleaseKind::Upgrader), &[]);
    let status = host.status();
    assert_eq!(status.role, HolderRole::Upgrader);
    let address: std::net::SocketAddr = status.address.parse().unwrap();
    assert_ne!(address.port(), 0, "it says where it listens");
    std::net::TcpStream::connect(address).unwrap();
}

#[test]
fn nothing_but_a_keepers_manifest_and_a_keepers_arguments_start_it() {
    let host = Host::new();
    let instance = host.launch(&host.bundle("application", ReleaseKind::Application), &[]);
    assert_eq!(host.end_of(instance), InstanceState::Exited(1));
    assert!(host.log().contains("of an application"), "{}", host.log());
    let bundle = host.bundle("keeper", ReleaseKind::Keeper);
    let instance = host.launch(&bundle, &["--domain", "02"]);
    assert_eq!(host.end_of(instance), InstanceState::Exited(2));
    assert!(!host.path("state").exists());
}

#[test]
fn a_keeper_without_a_platform_ends() {
    let mut host = Host::new();
    host.launch(&host.bundle("bundle", ReleaseKind::Keeper), &[]);
    host.status();
    let (stopper, thread) = host.daemon.take().unwrap();
    stopper.stop();
    thread.join().unwrap().unwrap();
    wait(|| UnixStream::connect(host.path("admin")).err());
}
