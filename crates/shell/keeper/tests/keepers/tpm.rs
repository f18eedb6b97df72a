//! The real binary, launched and measured above a TPM in software.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use heirloom_keeper_shell::admin::ask;
use heirloom_launcher::bundle::Bundle;
use heirloom_launcher::client::LaunchClient;
use heirloom_launcher::daemon::{DaemonError, Stopper};
use heirloom_launcher::manifest::Manifest;
use heirloom_launcher::protocol::{InstanceState, LaunchId, LaunchRequest, StopSignal, WireMode};
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_launcher::users::BundleUsers;
use heirloom_model::admin::{AdminRequest, AdminResponse, KeeperStatus, WitnessGap};
use heirloom_model::counter::Serial;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::TeeKind;
use heirloom_model::protocol::ServingState;
use heirloom_model::release::ReleaseKind;
use heirloom_testkit::swtpm::Swtpm;
use heirloom_testkit::users::{bundle_users, let_pass, share};
use heirloom_tpm::client::Tpm;
use heirloom_tpm::machine::approved::ApprovalRecords;
use heirloom_tpm::machine::error::MachineError;
use heirloom_tpm::machine::setup::{AuthorityKey, Earlier, init, install, request};
use heirloom_tpm::machine::{BindError, bind};
use heirloom_tpm::transport::Socket;

use crate::process::{KEEPER, SIGNING_KEY, wait};
use crate::world::World;

/// A machine with a TPM, whose authority is at hand, and one keeper on it.
struct Host {
    folder: tempfile::TempDir,
    swtpm: Swtpm,
    users: BundleUsers,
    authority: AuthorityKey,
    daemon: Option<(Stopper, JoinHandle<Result<(), DaemonError>>)>,
}

impl Host {
    /// None if this host has no `swtpm`, or if this is not root: both were said aloud.
    fn new() -> Option<Self> {
        let users = bundle_users()?;
        let folder = tempfile::tempdir().unwrap();
        let_pass(folder.path());
        let swtpm = Swtpm::start(&folder.path().join("tpm"))?;
        let key = AuthorityKey::generate().unwrap();
        let authority = AuthorityKey::from_pkcs8(&key).unwrap();
        let host = Self { folder, swtpm, users, authority, daemon: None };
        share(&host.path("state"));
        share(&host.path("run"));
        let name = "host-1".parse().unwrap();
        init(&host.path("machine"), &host.tpm(), name, &host.authority.authority().unwrap())
            .unwrap();
        host.approve();
        Some(host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tpm(&self) -> Tpm {
        let tpm = Tpm::new(Socket::unix(self.swtpm.socket()));
        tpm.startup().unwrap();
        tpm
    }

    /// The authority approves the host as it is.
    fn approve(&self) {
        let asked = request(&self.path("machine"), &self.tpm()).unwrap();
        let records = ApprovalRecords::beside(&self.folder.path().join("authority"));
        let admitted = records.admit(asked, Earlier::Hold).unwrap();
        let approval = self.authority.approve(&admitted).unwrap();
        install(&self.path("machine"), &self.tpm(), &approval).unwrap();
    }

    fn start(&mut self) -> Result<(), BindError> {
        let (machine, socket) = (self.path("machine"), self.path("platform"));
        let (daemon, stopper) = bind(&machine, self.tpm(), &socket, self.users)?;
        self.daemon = Some((stopper, std::thread::spawn(move || daemon.run())));
        Ok(())
    }

    fn stop(&mut self) {
        if let Some((stopper, thread)) = self.daemon.take() {
            stopper.stop();
            thread.join().unwrap().unwrap();
        }
    }

    fn client(&self) -> LaunchClient {
        LaunchClient::connect(&self.path("platform")).unwrap()
    }

    fn bundle(&self, world: &World) -> PathBuf {
        let manifest = Manifest {
            network: world.ceremony.network,
            domain: Some(world.ceremony.domain),
            application: None,
            kind: ReleaseKind::Keeper,
            release: "keeper-1".parse().unwrap(),
            product_id: 1,
            security_version: 2,
        };
        let key = EnclaveSigningKey::from_pem(SIGNING_KEY).unwrap();
        let path = self.path("bundle");
        Bundle::sign(&key, fs::read(KEEPER).unwrap(), &manifest, 0).unwrap().write(&path).unwrap();
        path
    }

    fn launch(&self, bundle: &Path) -> LaunchId {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let (state, admin) = (text(self.path("state")), text(self.path("run/admin")));
        let arguments = ["--node", "node-1", "--state", &state, "--admin", &admin]
            .into_iter()
            .chain(["--listen", "127.0.0.1:0"])
            .map(str::to_owned)
            .collect();
        let request = LaunchRequest {
            bundle: text(bundle.to_owned()),
            arguments,
            log: text(self.path("log")),
            mode: WireMode::Production,
            label: "keeper".to_owned(),
        };
        self.client().launch(request).unwrap().instance
    }

    /// Ends a keeper and waits for its end.
    fn end(&self, instance: LaunchId) {
        self.client().stop(instance, StopSignal::Terminate).unwrap();
        wait(|| {
            let all = self.client().list().unwrap();
            all.into_iter()
                .find(|info| info.instance == instance)
                .filter(|info| info.state != InstanceState::Running)
        });
    }

    fn ask(&self, request: &AdminRequest) -> AdminResponse {
        let mut stream = wait(|| UnixStream::connect(self.path("run/admin")).ok());
        ask(&mut stream, request).unwrap()
    }

    /// Feeds the keeper a log from its beginning, and asks how it is.
    fn follow(&self, log: &[LogEntry]) -> Box<KeeperStatus> {
        let entries = log.to_vec();
        let followed = self.ask(&AdminRequest::Follow { entries, attended: None });
        assert!(matches!(followed, AdminResponse::Position(_)), "{followed:?}");
        match self.ask(&AdminRequest::Status) {
            AdminResponse::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// The names of the keeper's sealed files.
    fn sealed(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("state")).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sealed"))
            .collect();
        names.sort();
        names
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

fn copy(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    share(to);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copy = to.join(entry.file_name());
        fs::copy(entry.path(), &copy).unwrap();
        // It is ours now, and in the group by the directory.
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o660)).unwrap();
    }
}

/// No policy of this network names the code above a TPM: it holds nothing, and witnesses all the
/// same, sealed as everything is.
#[test]
fn a_keeper_opens_what_it_sealed_above_a_tpm_and_refuses_an_old_directory() {
    let Some(mut host) = Host::new() else { return };
    let mut world = World::new();
    host.start().unwrap();
    let bundle = host.bundle(&world);
    let instance = host.launch(&bundle);
    let old_log = world.log.clone();
    let status = host.follow(&old_log);
    assert_eq!((status.state, status.measurement.kind()), (ServingState::Withdrawn, TeeKind::Tpm));
    assert_eq!((status.volatile, status.behind), (None, None));
    assert_eq!(host.sealed().len(), 1, "it witnessed");
    host.end(instance);
    copy(&host.path("state"), &host.path("old"));

    // It opens what it sealed, and goes on.
    let instance = host.launch(&bundle);
    let (old, new) = (world.old, world.new);
    let policy = world.ceremony.policy_of(Serial(2), &[old, new], &[(old, new)]);
    world.accept(&world.ceremony.policy(&policy));
    let status = host.follow(&world.log);
    assert_eq!((status.state, status.unreadable), (ServingState::Withdrawn, None));
    assert_eq!(host.sealed().len(), 2, "it witnessed again");
    host.end(instance);

    // The host's disk is put back: directory and log fit each other.
    copy(&host.path("state"), &host.path("present"));
    copy(&host.path("old"), &host.path("state"));
    let instance = host.launch(&bundle);
    let status = host.follow(&old_log);
    assert_eq!(status.state, ServingState::RolledBack);
    assert_eq!(status.behind, Some(WitnessGap { counter: 2, newest: Some(1) }));
    host.end(instance);
    copy(&host.path("present"), &host.path("state"));
    host.launch(&bundle);
    assert_eq!(host.follow(&world.log).state, ServingState::Withdrawn);
}

#[test]
fn a_keeper_comes_back_after_an_approved_update_of_its_host_and_not_before() {
    let Some(mut host) = Host::new() else { return };
    let world = World::new();
    host.start().unwrap();
    let bundle = host.bundle(&world);
    host.launch(&bundle);
    assert_eq!(host.follow(&world.log).unreadable, None);
    let sealed = host.sealed();
    host.stop();

    // Other firmware: the machine's secret stays where it is, and so does everything else.
    host.swtpm.lose_power();
    host.tpm().extend(0, &[3; 32]).unwrap();
    let refused = host.start();
    let expected = |registers: &[u8]| registers == [0];
    assert!(
        matches!(&refused, Err(BindError::Machine(MachineError::HostChanged { registers }))
            if expected(registers)),
        "{refused:?}"
    );
    assert_eq!(host.sealed(), sealed);
    host.approve();
    host.start().unwrap();
    host.launch(&bundle);
    let status = host.follow(&world.log);
    assert_eq!((status.state, status.unreadable), (ServingState::Withdrawn, None));
    assert_eq!(host.sealed(), sealed, "there is nothing new to witness");
}
