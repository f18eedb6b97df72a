//! One node with a platform daemon, two releases of a service, and a fence in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heirloom_agent::bundles::Bundles;
use heirloom_agent::service::state::{Desired, Distribution, Promise, StateFile, Wanted};
use heirloom_agent::service::{Service, Setup};
use heirloom_emulated::provisioning::DevelopmentRoot;
use heirloom_emulated::state::HostDirectory;
use heirloom_fetch::mirror::Mirror;
use heirloom_launcher::bundle::Bundle;
use heirloom_launcher::client::LaunchClient;
use heirloom_launcher::daemon::{DaemonError, Stopper};
use heirloom_launcher::manifest::Manifest;
use heirloom_launcher::protocol::{InstanceInfo, InstanceState, StopSignal};
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_model::counter::Time;
use heirloom_model::digest::{
    ArtifactDigest, BlockId, ConfigurationDigest, DigestOf as _, PlanDigest,
};
use heirloom_model::domain::PlanStep;
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::plan::StepId;
use heirloom_model::release::ReleaseKind;
use heirloom_model::service::{
    Admission, Height, ProgramTerm, SchemaVersion, ServiceStatus, Terms, Tip,
};
use heirloom_proxy::edge::{Edge, EdgeAdmission, EdgeError, EdgeState};
use heirloom_testkit::ceremony::Ceremony;
use heirloom_upgrade::port::{DriverError, ServiceDriver, ServiceObservation};
use tempfile::TempDir;

const STAND_IN: &str = env!("CARGO_BIN_EXE_heirloom-stand-in");
/// An RSA key that signs enclaves of tests.
const ENCLAVE_KEY: &str =
    include_str!("../../../../adapter/launcher/tests/data/enclave-signing-test-key-not-secret.pem");
/// How long something may take on a busy machine before a test gives up.
const PATIENCE: Duration = Duration::from_mins(2);

/// The plan that every test carries out.
pub(crate) const PLAN: PlanDigest = PlanDigest::new([7; 32]);
/// How the ledger of a new node ends.
pub(crate) const TIP: Tip = Tip { height: Height(1), id: BlockId::new([9; 32]) };

/// A fence in memory. Clones are the same fence.
#[derive(Clone)]
pub(crate) struct Fence(pub(crate) Arc<Mutex<FenceState>>);

pub(crate) struct FenceState {
    pub(crate) admission: EdgeAdmission,
    pub(crate) connections: u64,
    pub(crate) is_gone: bool,
    /// What it was told, in order.
    pub(crate) told: Vec<EdgeAdmission>,
}

impl Fence {
    fn ask<T>(&self, answer: impl FnOnce(&mut FenceState) -> T) -> Result<T, EdgeError> {
        let mut state = self.0.lock().unwrap();
        if state.is_gone {
            let (what, reason) = ("the fence".to_owned(), "it is gone".to_owned());
            return Err(EdgeError::Unreachable { what, reason });
        }
        Ok(answer(&mut state))
    }

    fn tell(&self, admission: EdgeAdmission) -> Result<(), EdgeError> {
        self.ask(|state| {
            state.admission = admission;
            state.told.push(admission);
        })
    }
}

impl Edge for Fence {
    fn observe(&mut self) -> Result<EdgeState, EdgeError> {
        self.ask(|state| EdgeState { admission: state.admission, connections: state.connections })
    }

    fn close(&mut self) -> Result<(), EdgeError> {
        self.tell(EdgeAdmission::Closed)
    }

    fn open(&mut self) -> Result<(), EdgeError> {
        self.tell(EdgeAdmission::Open)
    }
}

/// One node.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) ceremony: Ceremony,
    pub(crate) old: Measurement,
    pub(crate) new: Measurement,
    pub(crate) fence: Fence,
    pub(crate) service: Service,
    daemon: Option<(Stopper, JoinHandle<Result<(), DaemonError>>)>,
}

impl World {
    /// A node on which nothing is installed; both bundles lie beside it.
    pub(crate) fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = DevelopmentRoot::from_seed(&[1; 32], Time(0));
        let host = directory.path().join("host");
        let mut random = |bytes: &mut [u8]| bytes.fill(3);
        HostDirectory::create(&host, "host-1".parse().unwrap(), &root, &mut random).unwrap();
        let socket = directory.path().join("platform");
        let (daemon, stopper) = heirloom_emulated::machine::bind(&host, &socket).unwrap();
        let daemon = Some((stopper, std::thread::spawn(move || daemon.run())));
        let ceremony = Ceremony::new(&[7; 32]);
        let old = sign(&ceremony, directory.path(), "ledger-1.0.0", "ledger");
        let new = sign(&ceremony, directory.path(), "ledger-2.0.0", "ledger");
        for name in ["ledger.toml", "next.toml"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let fence = Fence(Arc::new(Mutex::new(FenceState {
            admission: EdgeAdmission::Closed,
            connections: 0,
            is_gone: false,
            told: Vec::new(),
        })));
        let service = open(directory.path(), &ceremony, &fence);
        Self { directory, ceremony, old, new, fence, service, daemon }
    }

    /// A node whose service was installed and lets clients in; the new code is staged.
    pub(crate) fn open() -> Self {
        let mut world = Self::empty();
        let bundles = Bundles::open(world.path("data/service")).unwrap();
        for name in ["ledger-1.0.0", "ledger-2.0.0"] {
            bundles.stage_first(&world.path(name), TeeKind::Sgx).unwrap();
        }
        world.tell(|world| Desired {
            installed: Some(world.old),
            wanted: Wanted::Running { code: world.old, expected: None },
            admission: Admission::Open,
            promise: Promise::Absent,
            distribution: Distribution::Running,
            exercised: Vec::new(),
        });
        world.settle();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file that makes the service behave badly, beside its data or its configuration.
    pub(crate) fn misbehave(&self, word: &str, text: &str) {
        fs::write(self.path("data/service").join(word), text).unwrap();
    }

    pub(crate) fn behave(&self, word: &str) {
        fs::remove_file(self.path("data/service").join(word)).unwrap();
    }

    /// What was last told, durably.
    pub(crate) fn told(&self) -> Desired {
        StateFile::open(self.path("data/service/service.state")).unwrap().now().clone()
    }

    /// An agent that told its node something, and was killed before it did anything about it; and
    /// the agent that comes after it.
    pub(crate) fn tell(&mut self, next: impl FnOnce(&Self) -> Desired) {
        let next = next(self);
        let path = self.path("data/service/service.state");
        StateFile::open(path).unwrap().set(next).unwrap();
        self.restart_agent();
    }

    /// The agent is killed where it stands, and starts again.
    pub(crate) fn restart_agent(&mut self) {
        let next = open(self.directory.path(), &self.ceremony, &self.fence);
        std::mem::forget(std::mem::replace(&mut self.service, next));
    }

    /// Repeats a call until it is no longer unknown how it ended.
    pub(crate) fn until_known<T>(
        &mut self,
        mut call: impl FnMut(&mut Service) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match call(&mut self.service) {
                Err(DriverError::Unknown(text)) if Instant::now() > until => panic!("{text}"),
                Err(DriverError::Unknown(_)) => {}
                found => return found,
            }
        }
    }

    /// Lets the agent keep its service until nothing is left to be put right.
    pub(crate) fn settle(&mut self) -> ServiceObservation {
        let until = Instant::now() + PATIENCE;
        loop {
            let kept = self.service.keep();
            let seen = self.service.observe().unwrap();
            let is_up = seen.silent.is_empty();
            if kept.is_ok() && seen.drift.is_none() && is_up {
                return seen;
            }
            assert!(Instant::now() < until, "{kept:?} {seen:?}");
        }
    }

    pub(crate) fn seen(&self) -> ServiceObservation {
        self.service.observe().unwrap()
    }

    pub(crate) fn status(&self) -> Box<ServiceStatus> {
        self.seen().running.expect("it runs and answers")
    }

    pub(crate) fn processes(&self) -> Vec<InstanceInfo> {
        let mut list = LaunchClient::connect(&self.path("platform")).unwrap().list().unwrap();
        list.retain(|found| found.state == InstanceState::Running);
        list
    }

    /// Kills the service from outside.
    pub(crate) fn kill(&self) {
        let client = LaunchClient::connect(&self.path("platform")).unwrap();
        let process = self.processes().pop().expect("it runs");
        client.stop(process.instance, StopSignal::Kill).unwrap();
        while self.processes().iter().any(|found| found.instance == process.instance) {}
    }

    /// Brings the node to the middle of the window: fenced, frozen, halted, copied.
    pub(crate) fn close(&mut self) {
        let old = self.old;
        self.until_known(ServiceDriver::fence).unwrap();
        self.until_known(|service| service.freeze(&old, Duration::from_millis(1))).unwrap();
        self.until_known(|service| service.halt(&old)).unwrap();
        self.until_known(|service| service.snapshot(&PLAN, &TIP)).unwrap();
    }

    /// And on to the new code behind the side door.
    pub(crate) fn change(&mut self) {
        let (old, new) = (self.old, self.new);
        self.close();
        self.until_known(|service| service.migrate(&PLAN, &TIP, &terms())).unwrap();
        self.until_known(|service| service.deploy(&old, &new)).unwrap();
        self.until_known(|service| service.launch(&new, Some(&TIP))).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.service.end_children();
        if let Some((stopper, thread)) = self.daemon.take() {
            stopper.stop();
            // A daemon that failed has failed the test already.
            thread.join().ok();
        }
    }
}

/// A step of the plan.
pub(crate) fn step(number: u32) -> PlanStep {
    PlanStep { plan: PLAN, step: StepId(number) }
}

/// Terms with one migration.
pub(crate) fn terms() -> Terms {
    let term = |name: &str| ProgramTerm {
        release: name.parse().unwrap(),
        program: ArtifactDigest::of(b"program".as_slice()),
    };
    Terms {
        from: term("ledger-1.0.0"),
        to: term("ledger-2.0.0"),
        configuration_from: ConfigurationDigest::new([2; 32]),
        configuration_to: ConfigurationDigest::new([2; 32]),
        schema_from: SchemaVersion(2),
        schema_to: SchemaVersion(3),
        migrations: vec!["height-of-transaction".parse().unwrap()],
        tests: vec!["pay".parse().unwrap()],
        keys: Vec::new(),
        quiet_milliseconds: 1,
        watch_milliseconds: 1,
        errors_max: 0,
        clients_min: 1,
    }
}

/// Signs the stand-in as a release and returns what it measures.
pub(crate) fn sign(
    ceremony: &Ceremony,
    directory: &Path,
    release: &str,
    application: &str,
) -> Measurement {
    let manifest = Manifest {
        network: ceremony.network,
        domain: Some(ceremony.domain),
        application: Some(application.parse().unwrap()),
        release: release.parse().unwrap(),
        product_id: 7,
        security_version: 1,
        kind: ReleaseKind::Application,
    };
    let key = EnclaveSigningKey::from_pem(ENCLAVE_KEY).unwrap();
    let program = fs::read(STAND_IN).unwrap();
    let bundle = Bundle::sign(&key, program, &manifest, 0x2026_1120).unwrap();
    bundle.write(&directory.join(release)).unwrap();
    heirloom_agent::bundles::measured(&directory.join(release), TeeKind::Sgx).unwrap()
}

/// The agent's part for the service, as it starts.
fn open(directory: &Path, ceremony: &Ceremony, fence: &Fence) -> Service {
    let text = format!(
        r#"
application = "ledger"
tool = "{STAND_IN}"
bundle = "{0}/ledger-1.0.0"
configuration = "{0}/data/service/ledger.toml"
configuration_next = {{ release = "ledger-2.0.0", path = "{0}/data/service/next.toml" }}
client_listen = "127.0.0.1:1"
peer_listen = "127.0.0.1:2"
door_listen = "127.0.0.1:3"
peers = ["node-2=127.0.0.1:4"]
archive = "{0}/archive"
edge = {{ kind = "haproxy", master_socket = "m", backend = "b", state_file = "s" }}
"#,
        directory.display()
    );
    let setup = Setup {
        network: ceremony.network,
        registry: "http://127.0.0.1:9".to_owned(),
        directory: directory.join("data/service"),
        free_bytes_min: 1,
        config: toml::from_str(&text).unwrap(),
    };
    let mirrors = vec![Mirror::directory(directory.join("mirror"))];
    let platform = directory.join("platform");
    let node = "node-1".parse().unwrap();
    Service::open(setup, node, platform, mirrors, Box::new(fence.clone())).unwrap()
}
