//! A served machine, bundles of a program that tries everything, and an agent that is not root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heirloom_launcher::bundle::Bundle;
use heirloom_launcher::client::{ClientError, LaunchClient};
use heirloom_launcher::daemon::{DaemonError, Stopper};
use heirloom_launcher::manifest::Manifest;
use heirloom_launcher::protocol::{InstanceInfo, LaunchRequest, WireMode};
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_launcher::users::BundleUsers;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::DomainId;
use heirloom_model::release::ReleaseKind;
use heirloom_tpm::client::Tpm;
use heirloom_tpm::machine::approved::ApprovalRecords;
use heirloom_tpm::machine::setup::{AuthorityKey, Earlier, init, install, request};
use heirloom_tpm::machine::{BindError, bind};
use heirloom_tpm::transport::Socket;
use tempfile::TempDir;

use crate::swtpm::Swtpm;
use crate::users::{GROUP, bundle_users, let_pass, share};

/// An agent of a host is nobody else there.
pub(crate) const AGENT: u32 = 1_900_002_000;
const TRESPASSER: &str = env!("CARGO_BIN_EXE_trespasser");
/// A busy machine takes a while.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct World {
    pub(crate) swtpm: Swtpm,
    pub(crate) users: BundleUsers,
    folder: TempDir,
    daemon: Option<(Stopper, JoinHandle<Result<(), DaemonError>>)>,
    reports: u32,
}

impl World {
    /// A machine that is served. None if this is not root, or the host has no `swtpm`: both were
    /// said aloud.
    pub(crate) fn new() -> Option<Self> {
        let users = bundle_users()?;
        let folder = tempfile::tempdir().unwrap();
        let swtpm = Swtpm::start(&folder.path().join("tpm"))?;
        let_pass(folder.path());
        let mut world = Self { swtpm, users, folder, daemon: None, reports: 0 };
        let authority = AuthorityKey::from_pkcs8(&AuthorityKey::generate().unwrap()).unwrap();
        let (state, tpm) = (world.path("machine"), world.tpm());
        init(&state, &tpm, "host-1".parse().unwrap(), &authority.authority().unwrap()).unwrap();
        let asked = request(&state, &tpm).unwrap();
        let records = ApprovalRecords::beside(&world.path("authority"));
        let admitted = records.admit(asked, Earlier::Hold).unwrap();
        install(&state, &tpm, &authority.approve(&admitted).unwrap()).unwrap();
        // A TPM in software serves one connection at a time.
        drop(tpm);
        share(&world.path("shared"));
        fs::create_dir(world.path("agent")).unwrap();
        std::os::unix::fs::chown(world.path("agent"), Some(AGENT), Some(GROUP)).unwrap();
        fs::copy(TRESPASSER, world.path("trespasser")).unwrap();
        world.start().unwrap();
        Some(world)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn tpm(&self) -> Tpm {
        let tpm = Tpm::new(Socket::unix(self.swtpm.socket()));
        tpm.startup().unwrap();
        tpm
    }

    pub(crate) fn start(&mut self) -> Result<(), BindError> {
        let (machine, socket) = (self.path("machine"), self.path("platform"));
        let (daemon, stopper) = bind(&machine, self.tpm(), &socket, self.users)?;
        self.daemon = Some((stopper, std::thread::spawn(move || daemon.run())));
        Ok(())
    }

    pub(crate) fn stop(&mut self) {
        if let Some((stopper, thread)) = self.daemon.take() {
            stopper.stop();
            thread.join().unwrap().unwrap();
        }
    }

    /// Code of its own for each name.
    pub(crate) fn bundle(&self, release: &str) -> PathBuf {
        let path = self.path(release);
        let manifest = Manifest {
            network: NetworkId::new([1; 32]),
            domain: Some(DomainId::new([2; 32])),
            application: None,
            release: release.parse().unwrap(),
            product_id: 7,
            security_version: 1,
            kind: ReleaseKind::Keeper,
        };
        let pem =
            include_str!("../../../launcher/tests/data/enclave-signing-test-key-not-secret.pem");
        let key = EnclaveSigningKey::from_pem(pem).unwrap();
        let program = fs::read(TRESPASSER).unwrap();
        Bundle::sign(&key, program, &manifest, 0).unwrap().write(&path).unwrap();
        // Who is not root reads what it launches.
        for (path, mode) in
            [("", 0o755), ("binary", 0o644), ("manifest", 0o644), ("sigstruct", 0o644)]
        {
            let path = self.path(release).join(path);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        path
    }

    pub(crate) fn launch(&self, request: LaunchRequest) -> Result<InstanceInfo, ClientError> {
        LaunchClient::connect(&self.path("platform")).unwrap().launch(request)
    }

    fn next_report(&mut self) -> String {
        self.reports += 1;
        self.text(&format!("shared/report-{}", self.reports))
    }

    /// Launches code that tries this, and returns how each attempt went, once all have ended.
    pub(crate) fn launched(
        &mut self,
        release: &str,
        attempts: &[String],
    ) -> (InstanceInfo, Vec<String>) {
        let report = self.next_report();
        let bundle = self.bundle(release).display().to_string();
        let mut arguments = vec![report.clone()];
        arguments.extend_from_slice(attempts);
        let request = LaunchRequest {
            bundle,
            arguments,
            log: self.text("log"),
            mode: WireMode::Production,
            label: release.to_owned(),
        };
        let info = self.launch(request).unwrap();
        let lines = await_report(Path::new(&report));
        (info, lines)
    }

    /// The same attempts by a process that nobody launched, of this user and group.
    pub(crate) fn other(&mut self, user: u32, group: u32, attempts: &[String]) -> Vec<String> {
        let directory = self.path("other");
        drop(fs::create_dir(&directory));
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o1777)).unwrap();
        self.reports += 1;
        let report = self.text(&format!("other/report-{}", self.reports));
        let mut command = Command::new(self.path("trespasser"));
        command.args(["--platform", &self.text("platform"), "--manifest-fd", "0", &report]);
        command.args(attempts).uid(user).gid(group).current_dir("/");
        assert!(command.status().unwrap().success());
        await_report(Path::new(&report))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((stopper, thread)) = self.daemon.take() {
            stopper.stop();
            thread.join().ok();
        }
    }
}

fn await_report(path: &Path) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = fs::read_to_string(path) {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(Instant::now() < deadline, "no report {}", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What the kernel says about a process.
pub(crate) fn status(process: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field}")).split_whitespace().collect::<Vec<_>>().join(" ")
}
