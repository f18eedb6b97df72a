//! Real processes, launched and measured by a real daemon.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heirloom_conformance::platform::{PlatformWorld, Variant, run};
use heirloom_emulated::machine::BindError;
use heirloom_emulated::provisioning::DevelopmentRoot;
use heirloom_emulated::state::{HostDirectory, StateError};
use heirloom_keeper::port::{Platform as _, PlatformError};
use heirloom_launcher::bundle::{BINARY, Bundle, MANIFEST, SIGSTRUCT};
use heirloom_launcher::client::{ClientError, LaunchClient, PlatformClient};
use heirloom_launcher::daemon::{DaemonError, Stopper};
use heirloom_launcher::files::FileError;
use heirloom_launcher::protocol::{
    Answer, InstanceInfo, InstanceState, LABEL_BYTES_MAX, LaunchId, LaunchRequest, Refusal,
    Request, StopSignal, WireMode,
};
use heirloom_model::counter::Time;
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::frame::{receive, send};
use heirloom_model::sealed::{CpuSvn, SealPolicy, SealRecipe, SgxSealRecipe};
use tempfile::TempDir;

const PROBE: &str = env!("CARGO_BIN_EXE_heirloom-probe");
/// How long a process may take on a busy machine before a test gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A machine with its daemon in this process, so that a failing test takes it along.
struct Host {
    directory: TempDir,
    socket: PathBuf,
    daemon: Option<(Stopper, JoinHandle<Result<(), DaemonError>>)>,
    launches: u32,
}

impl Host {
    fn new(seed: u8) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = DevelopmentRoot::from_seed(&[1; 32], Time(0));
        let state = directory.path().join("state");
        let mut random = |bytes: &mut [u8]| bytes.fill(seed);
        HostDirectory::create(&state, "host-1".parse().unwrap(), &root, &mut random).unwrap();
        let socket = directory.path().join("platform");
        let mut host = Self { directory, socket, daemon: None, launches: 0 };
        host.start_daemon();
        host
    }

    fn start_daemon(&mut self) {
        let (daemon, stopper) =
            heirloom_emulated::machine::bind(&self.state(), &self.socket).unwrap();
        self.daemon = Some((stopper, std::thread::spawn(move || daemon.run())));
    }

    fn stop_daemon(&mut self) {
        if let Some((stopper, thread)) = self.daemon.take() {
            stopper.stop();
            thread.join().unwrap().unwrap();
        }
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn client(&self) -> LaunchClient {
        LaunchClient::connect(&self.socket).unwrap()
    }

    fn bundle(&self, release: &str, security_version: u16) -> PathBuf {
        let path = self.directory.path().join(format!("{release}-{security_version}"));
        if !path.exists() {
            let manifest = crate::shared::manifest(release, security_version);
            let probe = fs::read(PROBE).unwrap();
            let bundle = Bundle::sign(&crate::shared::test_key(), probe, &manifest, 0).unwrap();
            bundle.write(&path).unwrap();
        }
        path
    }

    fn request(&mut self, bundle: &Path) -> (LaunchRequest, PathBuf) {
        self.launches += 1;
        let listen = self.directory.path().join(format!("probe-{}", self.launches));
        let log = self.directory.path().join("log");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let request = LaunchRequest {
            bundle: text(bundle),
            arguments: vec![text(&listen)],
            log: text(&log),
            mode: WireMode::Production,
            label: format!("probe-{}", self.launches),
        };
        (request, listen)
    }

    /// Launches a probe and connects to its platform through it.
    fn probe(&mut self, bundle: &Path, mode: WireMode) -> (InstanceInfo, PlatformClient) {
        let (mut request, listen) = self.request(bundle);
        request.mode = mode;
        let label = request.label.clone();
        let instance = self.client().launch(request).unwrap();
        assert_eq!((&instance.label, instance.state), (&label, InstanceState::Running));
        (instance, connect(&listen))
    }

    fn state_of(&self, instance: LaunchId) -> InstanceState {
        let all = self.client().list().unwrap();
        all.into_iter().find(|info| info.instance == instance).unwrap().state
    }

    fn wait_for_end(&self, instance: LaunchId) -> InstanceState {
        wait(|| Some(self.state_of(instance)).filter(|state| *state != InstanceState::Running))
    }

    fn refusal(&self, request: LaunchRequest) -> Refusal {
        match self.client().launch(request) {
            Err(ClientError::Refused(refusal)) => refusal,
            other => panic!("not refused: {other:?}"),
        }
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
fn wait<T>(mut observe: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = observe() {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "nothing happened");
        std::thread::yield_now();
    }
}

fn connect(listen: &Path) -> PlatformClient {
    wait(|| PlatformClient::connect(listen).ok())
}

/// Two machines and what runs on them.
struct Processes {
    host: Host,
    other: Host,
    rolled_back: Host,
}

impl Processes {
    fn new() -> Self {
        // The same fuses, but an older microcode: what a copied state directory would be.
        let (host, other, rolled_back) = (Host::new(2), Host::new(3), Host::new(2));
        host.client().update_microcode().unwrap();
        Self { host, other, rolled_back }
    }
}

impl PlatformWorld for Processes {
    type Enclave = PlatformClient;

    fn start(&mut self, variant: Variant) -> PlatformClient {
        let (host, release, security_version) = match variant {
            Variant::Original | Variant::DebugTwin => (&mut self.host, "probe-1.0.0", 3),
            Variant::OtherMeasurement => (&mut self.host, "probe-2.0.0", 3),
            Variant::OtherCpu => (&mut self.other, "probe-1.0.0", 3),
            Variant::LowerSecurityVersion => (&mut self.host, "probe-0.9.0", 2),
            Variant::RolledBackCpu => (&mut self.rolled_back, "probe-1.0.0", 3),
        };
        let mode = match variant {
            Variant::DebugTwin => WireMode::Debug,
            _ => WireMode::Production,
        };
        let bundle = host.bundle(release, security_version);
        host.probe(&bundle, mode).1
    }

    fn update_microcode(&mut self) {
        self.host.client().update_microcode().unwrap();
    }

    fn report_data(&self, evidence: &Evidence) -> ReportData {
        crate::shared::report_data(evidence)
    }
}

#[test]
fn the_daemon_is_a_platform_for_what_it_launches() {
    run(Processes::new);
}

#[test]
fn a_measured_process_learns_who_it_is_and_what_it_was_measured_with() {
    let mut host = Host::new(2);
    let bundle = host.bundle("probe-1.0.0", 3);
    let (instance, platform) = host.probe(&bundle, WireMode::Production);
    let identity = platform.identity().unwrap();
    assert_eq!(identity.measurement, instance.measurement);
    assert_eq!(identity.signer, crate::shared::test_key().signer());
    assert_eq!(platform.manifest().unwrap(), crate::shared::manifest("probe-1.0.0", 3));
}

/// Frames that the client does not make: what a report is, its reader decides.
#[test]
fn reports_of_another_size_and_targets_of_another_cpu_are_refused() {
    let mut host = Host::new(2);
    let bundle = host.bundle("probe-1.0.0", 3);
    let (request, listen) = host.request(&bundle);
    host.client().launch(request).unwrap();
    let platform = connect(&listen);
    let target = platform.report_target().unwrap();
    let report = platform.report(&target, &ReportData::new([7; 64])).unwrap();
    // The probe forwards one connection after the other.
    drop(platform);
    let mut stream = std::os::unix::net::UnixStream::connect(&listen).unwrap();
    let mut ask = |request: Request| {
        send(&mut stream, &request).unwrap();
        receive::<Answer>(&mut stream).unwrap()
    };
    let whole = report.as_bytes().to_vec();
    assert!(matches!(ask(Request::VerifyReport(whole.clone())), Answer::ReportVerified));
    for wrong in [Vec::new(), whole[..431].to_vec(), [&whole[..], &[0]].concat()] {
        let size = wrong.len();
        let answer = ask(Request::VerifyReport(wrong));
        assert!(matches!(answer, Answer::Refused(Refusal::ForeignReport)), "{size} bytes");
    }
    // CET attributes, CONFIGSVN, CONFIGID and what is reserved: this CPU has none of them.
    for at in [48, 49, 50, 56, 63, 64, 127, 128, 511] {
        let mut other = *target.as_bytes();
        other[at] = 1;
        let target = Box::new(ReportTarget::new(other));
        let report_data = ReportData::new([7; 64]);
        let answer = ask(Request::Report { target, report_data });
        assert!(matches!(answer, Answer::Refused(Refusal::ReservedTarget)), "byte {at}");
    }
}

#[test]
fn a_node_runs_several_instances_beside_each_other() {
    let mut host = Host::new(2);
    // The longest name of a node, and what tells its seats apart.
    let node = "n".repeat(63);
    let labels = ["0123abcd", "ffffffff"].map(|seat| format!("{node}.{seat}"));
    for (label, release) in labels.iter().zip(["probe-1.0.0", "probe-2.0.0"]) {
        let bundle = host.bundle(release, 3);
        let (mut request, listen) = host.request(&bundle);
        request.label.clone_from(label);
        host.client().launch(request).unwrap();
        connect(&listen);
    }
    let running: Vec<_> = host.client().list().unwrap();
    assert!(running.iter().all(|one| one.state == InstanceState::Running));
    assert_eq!(running.into_iter().map(|one| one.label).collect::<Vec<_>>(), labels);
}

#[test]
fn a_microcode_that_became_durable_is_loaded_at_the_next_start() {
    let mut host = Host::new(2);
    let bundle = host.bundle("probe-1.0.0", 3);
    let (_, platform) = host.probe(&bundle, WireMode::Production);
    let before = platform.identity().unwrap().cpu_svn;
    let sealed = platform.seal_key(&recipe(before)).unwrap();
    let old = fs::read(host.state().join("host")).unwrap();

    let durable = HostDirectory::open(&host.state()).unwrap().update_microcode().unwrap();
    assert_eq!(platform.identity().unwrap().cpu_svn, before, "not while the machine runs");
    host.stop_daemon();
    host.start_daemon();
    let (_, platform) = host.probe(&bundle, WireMode::Production);
    assert_eq!(platform.identity().unwrap().cpu_svn, durable);
    assert_ne!(durable, before);
    assert!(platform.seal_key(&recipe(before)).unwrap().same_as(&sealed), "older blobs open");
    let resealed = platform.seal_key(&recipe(durable)).unwrap();
    assert!(!resealed.same_as(&sealed));

    // Somebody puts the machine back: what was sealed since then is out of its reach.
    host.stop_daemon();
    fs::write(host.state().join("host"), old).unwrap();
    host.start_daemon();
    let (_, platform) = host.probe(&bundle, WireMode::Production);
    assert!(platform.seal_key(&recipe(before)).unwrap().same_as(&sealed));
    let refused = platform.seal_key(&recipe(durable)).err();
    assert_eq!(refused, Some(PlatformError::CpuSvnTooHigh { asked: durable, own: before }));
}

#[test]
fn a_running_machine_never_takes_a_durable_microcode_back() {
    let mut host = Host::new(2);
    let first = host.client().host_info().unwrap().cpu_svn;
    let offline = HostDirectory::open(&host.state()).unwrap().update_microcode().unwrap();
    let live = host.client().update_microcode().unwrap();
    assert!(first < offline && offline < live);
    assert_eq!(host.client().host_info().unwrap().cpu_svn, live);
    host.stop_daemon();
    host.start_daemon();
    assert_eq!(host.client().host_info().unwrap().cpu_svn, live);
}

/// A seal key at a security version of the platform.
fn recipe(cpu_svn: CpuSvn) -> SealRecipe {
    SealRecipe::Sgx(SgxSealRecipe {
        policy: SealPolicy::Measurement,
        isv_svn: 3,
        cpu_svn,
        flags_mask: u64::MAX,
        xfrm_mask: 0,
        misc_mask: u32::MAX,
        key_id: Nonce::new([7; 32]),
    })
}

#[test]
fn a_process_that_the_daemon_did_not_launch_is_nobody() {
    let mut host = Host::new(2);
    let direct = PlatformClient::connect(&host.socket).unwrap();
    assert_eq!(direct.identity(), Err(PlatformError::NotMeasured), "this very process");
    let not_measured = Some(PlatformError::NotMeasured);
    assert_eq!(direct.evidence(&ReportData::new([0; 64])).err(), not_measured);
    assert_eq!(direct.random(&mut [0; 4]).err(), not_measured);
    assert_eq!(direct.manifest().err(), not_measured);
    assert_eq!(direct.report_target().err(), not_measured);
    let target = ReportTarget::new([0; 512]);
    assert_eq!(direct.report(&target, &ReportData::new([0; 64])).err(), not_measured);
    assert_eq!(direct.verify_report(&LocalReport::new([0; 432])).err(), not_measured);

    // The same user, the same file, the same arguments; only launched by somebody else.
    let bundle = host.bundle("probe-1.0.0", 3);
    let (instance, measured) = host.probe(&bundle, WireMode::Production);
    assert!(measured.identity().is_ok());
    let listen = host.directory.path().join("impostor");
    let from_bundle = impostor(&fs::canonicalize(PROBE).unwrap(), &host.socket, &listen);
    assert_eq!(connect(&listen).identity(), Err(PlatformError::NotMeasured), "the file");
    end(from_bundle);

    // Even the sealed file of a running instance, executed by somebody else.
    let listen = host.directory.path().join("impostor-2");
    let sealed = PathBuf::from(format!("/proc/{}/exe", instance.process));
    let from_memory = impostor(&sealed, &host.socket, &listen);
    assert_eq!(connect(&listen).identity(), Err(PlatformError::NotMeasured), "the sealed file");
    end(from_memory);
    assert!(measured.identity().is_ok());
}

fn impostor(binary: &Path, socket: &Path, listen: &Path) -> Child {
    Command::new(binary)
        .arg0("heirloom-enclave")
        .arg("--platform")
        .arg(socket)
        .args(["--manifest-fd", "3"])
        .arg(listen)
        .spawn()
        .unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The launched process itself, after it became another program: here the same binary, not sealed.
#[test]
fn a_launched_process_that_runs_another_program_is_nobody() {
    let mut host = Host::new(2);
    let bundle = host.bundle("probe-1.0.0", 3);
    let (mut request, listen) = host.request(&bundle);
    request.arguments.push(PROBE.to_owned());
    let instance = host.client().launch(request).unwrap();
    assert_eq!(connect(&listen).identity(), Err(PlatformError::NotMeasured));
    assert_eq!(host.state_of(instance.instance), InstanceState::Running);
    let executable = fs::canonicalize(format!("/proc/{}/exe", instance.process)).unwrap();
    assert_eq!(executable, fs::canonicalize(PROBE).unwrap());
}

#[test]
fn a_measured_process_cannot_act_as_agent() {
    let mut host = Host::new(2);
    let bundle = host.bundle("probe-1.0.0", 3);
    let (request, listen) = host.request(&bundle);
    host.client().launch(request.clone()).unwrap();
    connect(&listen);
    let through = LaunchClient::connect(&listen).unwrap();
    let refused = ClientError::Refused(Refusal::Measured);
    assert_eq!(through.list(), Err(refused.clone()));
    assert_eq!(through.host_info(), Err(refused.clone()));
    assert_eq!(through.update_microcode(), Err(refused.clone()));
    assert_eq!(through.stop(LaunchId(0), StopSignal::Kill), Err(refused.clone()));
    assert_eq!(through.launch(request), Err(refused));
}

#[test]
fn what_does_not_verify_does_not_run() {
    let mut host = Host::new(2);
    let bundle = host.bundle("probe-1.0.0", 3);
    for (name, at) in [(BINARY, 0x400), (MANIFEST, 5), (SIGSTRUCT, 1026)] {
        let path = bundle.join(name);
        let original = fs::read(&path).unwrap();
        let mut changed = original.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        let (request, _) = host.request(&bundle);
        assert!(matches!(host.refusal(request), Refusal::Bundle { .. }), "{name} changed");
        fs::remove_file(&path).unwrap();
        let (request, _) = host.request(&bundle);
        assert!(matches!(host.refusal(request), Refusal::Bundle { .. }), "{name} missing");
        fs::write(&path, &original).unwrap();
    }
    assert_eq!(host.client().list().unwrap(), []);
    let (request, _) = host.request(&bundle);
    assert!(host.client().launch(request).is_ok());
}

#[test]
fn requests_that_overreach_are_refused() {
    let mut host = Host::new(2);
    let bundle = host.bundle("probe-1.0.0", 3);
    for argument in ["--platform", "--platform=/tmp/fake", "--manifest-fd=9"] {
        let (mut request, _) = host.request(&bundle);
        request.arguments.push(argument.to_owned());
        let argument = argument.to_owned();
        assert_eq!(host.refusal(request), Refusal::ReservedArgument { argument });
    }
    let (mut request, _) = host.request(&bundle);
    request.arguments = vec![String::new(); 65];
    assert!(matches!(host.refusal(request), Refusal::TooMuch { found: 65, limit: 64, .. }));
    let (mut request, _) = host.request(&bundle);
    request.label = "x".repeat(LABEL_BYTES_MAX + 1);
    assert!(matches!(host.refusal(request), Refusal::TooMuch { .. }));
    let mut stream = std::os::unix::net::UnixStream::connect(&host.socket).unwrap();
    let (mut request, _) = host.request(&bundle);
    request.log = "log".to_owned();
    send(&mut stream, &Request::Launch(request)).unwrap();
    let answer = receive::<Answer>(&mut stream).unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal::RelativePath { .. })));
    let (mut request, _) = host.request(&bundle);
    request.log = "/nowhere/log".to_owned();
    assert!(matches!(host.refusal(request), Refusal::NotStarted { .. }));
    let unknown = host.client().stop(LaunchId(99), StopSignal::Kill);
    let instance = LaunchId(99);
    assert_eq!(unknown, Err(ClientError::Refused(Refusal::UnknownInstance { instance })));
}

#[test]
fn instances_are_stopped_reaped_and_listed() {
    let mut host = Host::new(2);
    let bundle = host.bundle("probe-1.0.0", 3);
    let (first, platform) = host.probe(&bundle, WireMode::Production);
    let (second, _) = host.probe(&bundle, WireMode::Production);
    host.client().stop(first.instance, StopSignal::Terminate).unwrap();
    assert_eq!(host.wait_for_end(first.instance), InstanceState::Killed(15));
    host.client().stop(second.instance, StopSignal::Kill).unwrap();
    assert_eq!(host.wait_for_end(second.instance), InstanceState::Killed(9));
    assert!(!Path::new(&format!("/proc/{}", first.process)).exists(), "reaped");
    host.client().stop(first.instance, StopSignal::Kill).unwrap();
    assert!(matches!(platform.identity(), Err(PlatformError::Unreachable(_))));
    let all: Vec<_> = host.client().list().unwrap().into_iter().map(|one| one.instance).collect();
    assert_eq!(all, [first.instance, second.instance]);
}

#[test]
fn a_daemon_takes_its_instances_along_and_begins_anew() {
    let mut host = Host::new(2);
    let bundle = host.bundle("probe-1.0.0", 3);
    let (instance, platform) = host.probe(&bundle, WireMode::Production);
    let before = platform.identity().unwrap();
    let updated = host.client().update_microcode().unwrap();
    host.stop_daemon();
    assert!(!Path::new(&format!("/proc/{}", instance.process)).exists());
    assert!(!host.socket.exists());
    host.start_daemon();
    assert_eq!(host.client().list().unwrap(), []);
    assert_eq!(host.client().host_info().unwrap().cpu_svn, updated, "microcode is durable");
    let (_, platform) = host.probe(&bundle, WireMode::Production);
    let after = platform.identity().unwrap();
    assert_eq!(after.platform, before.platform);
    assert_ne!(after.cpu_svn, before.cpu_svn);
}

#[test]
fn one_machine_has_one_daemon_and_its_own_fuses() {
    let mut host = Host::new(2);
    let second =
        heirloom_emulated::machine::bind(&host.state(), &host.directory.path().join("second"));
    assert!(matches!(second, Err(BindError::Daemon(DaemonError::AlreadyServed { .. }))));
    host.stop_daemon();
    let fuses = host.state().join("fuses");
    let original = fs::read(&fuses).unwrap();
    let mut damaged = original.clone();
    damaged[20] ^= 1;
    fs::write(&fuses, &damaged).unwrap();
    let corrupt = heirloom_emulated::machine::bind(&host.state(), &host.socket);
    assert!(matches!(corrupt, Err(BindError::State(StateError::File(FileError::Corrupt { .. })))));
    assert_eq!(fs::read(&fuses).unwrap(), damaged, "what is damaged stays for diagnosis");
    fs::remove_file(&fuses).unwrap();
    let missing = heirloom_emulated::machine::bind(&host.state(), &host.socket);
    assert!(matches!(missing, Err(BindError::State(StateError::File(FileError::Missing { .. })))));
    assert!(!fuses.exists(), "fuses are never made anew");
    fs::write(&fuses, &original).unwrap();
    host.start_daemon();
}
