//! The real binary in TEEs that it speaks to itself: behind fake files and devices, in a mount
//! namespace where these are in the places of the real ones.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use heirloom_keeper_shell::admin::ask;
use heirloom_launcher::manifest::Manifest;
use heirloom_model::admin::{
    AdminRefusal, AdminRequest, AdminResponse, KeeperStatus, Unreadable, Volatile,
};
use heirloom_model::counter::{Generation, LogIndex, SecurityVersion, Serial};
use heirloom_model::digest::{NetworkId, Nonce};
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::protocol::ServingState;
use heirloom_model::release::ReleaseKind;
use heirloom_model::wire;
use heirloom_testkit::ceremony::{Ceremony, Code};
use heirloom_testkit::tee::cage::Cage;
use heirloom_testkit::tee::devices::{Devices, SnpFirmware};
use heirloom_testkit::tee::fuse::{Mounted, skipped};
use heirloom_testkit::tee::gramine_files::{GramineFiles, SECS};
use heirloom_testkit::tee::nitro::NitroModule;
use heirloom_testkit::tee::tsm_files::TsmFiles;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{KEEPER, wait};
use crate::world::{World, requests};

const GRAMINE: &str = "/dev/attestation";
const TSM: &str = "/sys/kernel/config/tsm/report";
const NSM: &str = "/dev/nsm";
const SEV_GUEST: &str = "/dev/sev-guest";

/// A keeper's process in a cage, and what it needs besides.
struct Caged {
    folder: tempfile::TempDir,
    cage: Cage,
    tee: &'static str,
    state: String,
    /// Where it is reached, if not by a socket in the file system.
    address: Option<SocketAddr>,
    child: Option<Child>,
}

/// What is asked over.
trait Way: Read + Write {}
impl<T: Read + Write> Way for T {}

/// What a keeper of this network is given, at these versions.
fn manifest(world: &World, product_id: u16, security_version: u16) -> Manifest {
    Manifest {
        network: world.ceremony.network,
        domain: Some(world.ceremony.domain),
        application: None,
        kind: ReleaseKind::Keeper,
        release: "keeper-tee".parse().unwrap(),
        product_id,
        security_version,
    }
}

impl Caged {
    fn new(cage: Cage, tee: &'static str, manifest: Option<&Manifest>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut caged =
            Self { folder, cage, tee, state: "state".to_owned(), address: None, child: None };
        if let Some(manifest) = manifest {
            caged.give(manifest);
        }
        caged
    }

    /// Puts this manifest into its place.
    fn give(&mut self, manifest: &Manifest) {
        fs::write(self.path("manifest"), wire::encode(manifest)).unwrap();
        self.cage = self.cage.clone().with_manifest(&self.path("manifest"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.cage.command(Path::new(KEEPER));
        command.args(["--tee", self.tee, "--node", "node-3", "--listen", "127.0.0.1:0"]);
        command.arg("--state").arg(self.path(&self.state));
        match self.address {
            Some(address) => command.arg("--admin").arg(address.to_string()),
            None => command.arg("--admin").arg(self.path("admin")),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts it, and waits until it answers.
    fn start(&mut self) {
        self.spawn();
        let mut child = self.child.take().unwrap();
        wait(|| {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{}", self.log());
            self.connect().ok()
        });
        self.child = Some(child);
    }

    /// Ends it in order.
    fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let number = i32::try_from(child.id()).unwrap();
        kill(Pid::from_raw(number), Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success(), "{}", self.log());
    }

    /// Starts one that ends by itself, and returns what it said last.
    fn refuse(&mut self) -> (ExitStatus, String) {
        self.spawn();
        let ended = self.child.take().unwrap().wait().unwrap();
        (ended, self.log().lines().last().unwrap_or_default().to_owned())
    }

    fn connect(&self) -> io::Result<Box<dyn Way>> {
        Ok(match self.address {
            Some(address) => Box::new(TcpStream::connect(address)?),
            None => Box::new(UnixStream::connect(self.path("admin"))?),
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn ask(&self, request: &AdminRequest) -> AdminResponse {
        ask(&mut self.connect().unwrap(), request).unwrap()
    }

    fn status(&self) -> Box<KeeperStatus> {
        match self.ask(&AdminRequest::Status) {
            AdminResponse::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// Feeds it what it has not seen of the log, and asks how it is.
    fn follow(&self, world: &World) -> Box<KeeperStatus> {
        let LogIndex(seen) = self.status().position.length;
        let entries = world.log[usize::try_from(seen).unwrap()..].to_vec();
        let followed = self.ask(&AdminRequest::Follow { entries, attended: None });
        assert_eq!(followed, AdminResponse::Position(world.state.position()));
        self.status()
    }

    fn sealed(&self) -> usize {
        let names = fs::read_dir(self.path(&self.state)).unwrap();
        names.filter(|entry| entry.as_ref().unwrap().path().extension().is_some()).count()
    }
}

impl Drop for Caged {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn vector(name: &str) -> Option<Vec<u8>> {
    let found = heirloom_testkit::vectors::find(name);
    if found.is_none() {
        skipped(&format!("{name} is not here"));
    }
    fs::read(found?).ok()
}

/// A network whose policy lets an enclave of Gramine hold what emulated machines hold.
fn gramine_world() -> World {
    let mut world = World::new();
    let (old, new) = (world.old, world.new);
    let gramine = Code {
        measurement: Measurement::Sgx(SECS.measurement),
        security_version: SecurityVersion(SECS.isv_svn.into()),
        kind: ReleaseKind::Keeper,
    };
    world.accept(&world.ceremony.release("gramine-1", &gramine).0);
    let (holders, edges) = ([old, new, gramine], [(old, new), (old, gramine)]);
    let mut policy = world.ceremony.policy_of(Serial(2), &holders, &edges);
    let application = world.application;
    Ceremony::admit(&mut policy, "wallet", &application);
    world.accept(&world.ceremony.policy(&policy));
    world
}

/// The whole life of a keeper under Gramine: admitted by its quote, given the keyring, restarted,
/// and left behind by an update of the machine.
#[test]
fn a_keeper_under_gramine_holds_until_the_microcode_is_updated() {
    let Some(cage) = Cage::new() else { return };
    let mut world = gramine_world();
    let maker = &world.ceremony.manufacturer;
    let Some(files) = Mounted::new(GramineFiles::certified(maker, &[3; 32])) else { return };
    let (one, two) = (world.node(1, &world.old), world.node(2, &world.old));
    for generation in 0..2 {
        world.rotate(generation, &one, &two);
    }
    let expected = world.keys(&one, &requests(20));
    let sources = || AdminRequest::Replicate { sources: vec![one.source()] };

    let said = manifest(&world, SECS.product_id, SECS.isv_svn);
    let mut three = Caged::new(cage.with(files.root(), GRAMINE), "gramine", Some(&said));
    three.start();
    let status = three.follow(&world);
    assert_eq!(status.measurement, Measurement::Sgx(SECS.measurement));
    assert_eq!((status.network, status.domain), (world.ceremony.network, world.ceremony.domain));
    assert_eq!(status.state, ServingState::Empty);
    assert_eq!(status.volatile, Some(Volatile::UntilUpdate));
    assert_eq!(three.ask(&sources()), AdminResponse::Done);
    let status = three.status();
    assert_eq!(status.state, ServingState::Ready);
    assert_eq!(world.keys_at(&status.address, &requests(20)), expected);
    let AdminResponse::Statement(registration) = three.ask(&AdminRequest::Register) else {
        panic!("it registers")
    };
    world.accept_bytes(&registration);

    // It opens what it sealed.
    three.stop();
    three.start();
    let status = three.follow(&world);
    let holding = status.holding.unwrap();
    assert_eq!((status.state, holding.origin), (ServingState::Ready, HoldingOrigin::Recovered));
    assert_eq!(holding.checksum, one.status().holding.unwrap().checksum);
    assert_eq!(world.keys_at(&status.address, &requests(20)), expected);
    three.stop();

    // The machine is updated, and certified as it is now.
    files.world(|gramine| {
        gramine.update_microcode();
        gramine.certify_again(&world.ceremony.manufacturer);
    });
    three.start();
    let status = three.follow(&world);
    assert_eq!(status.state, ServingState::Unreadable);
    let Some(Unreadable::OtherCircumstances { reason, .. }) = &status.unreadable else {
        panic!("{:?}", status.unreadable)
    };
    assert!(reason.contains("take the keyring from another holder"), "{reason}");
    let refused = three.ask(&sources());
    assert!(matches!(&refused, AdminResponse::Refused(AdminRefusal::Unreadable(_))), "{refused:?}");
    three.stop();

    // The way out: a fresh directory, and another holder.
    three.state = "fresh".to_owned();
    three.start();
    assert_eq!(three.follow(&world).state, ServingState::Empty);
    assert_eq!(three.ask(&sources()), AdminResponse::Done);
    let status = three.status();
    assert_eq!(status.state, ServingState::Ready);
    assert_eq!(world.keys_at(&status.address, &requests(20)), expected);
    three.stop();
    three.start();
    let holding = three.follow(&world).holding.unwrap();
    assert_eq!((holding.generation, holding.origin), (Generation(1), HoldingOrigin::Recovered));
}

/// What a host gains by another manifest, should nobody have measured it: nothing.
#[test]
fn another_manifest_under_the_same_code_opens_nothing() {
    let Some(cage) = Cage::new() else { return };
    let world = gramine_world();
    let maker = &world.ceremony.manufacturer;
    let Some(files) = Mounted::new(GramineFiles::certified(maker, &[3; 32])) else { return };
    let said = manifest(&world, SECS.product_id, SECS.isv_svn);
    let mut three = Caged::new(cage.with(files.root(), GRAMINE), "gramine", Some(&said));
    three.start();
    assert_eq!(three.follow(&world).unreadable, None);
    three.stop();
    assert_eq!(three.sealed(), 1, "it witnessed");
    three.give(&Manifest { network: NetworkId::new([9; 32]), ..said.clone() });
    three.start();
    let status = three.status();
    assert_eq!(status.state, ServingState::Unreadable, "{status:?}");
    three.stop();
    three.give(&said);
    three.start();
    assert_eq!(three.follow(&world).unreadable, None);
}

#[test]
fn a_keeper_in_a_tee_needs_a_measured_manifest_of_its_version() {
    let Some(cage) = Cage::new() else { return };
    let world = World::new();
    let Some(files) = Mounted::new(GramineFiles::new()) else { return };
    let mut three = Caged::new(cage.with(files.root(), GRAMINE), "gramine", None);
    let refused = |three: &mut Caged, why: &str| {
        let (ended, said) = three.refuse();
        assert_eq!(ended.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!three.path("state").exists());
    };
    refused(&mut three, "the manifest that must be measured with a keeper cannot be read");
    fs::write(three.path("manifest"), b"network").unwrap();
    three.cage = three.cage.clone().with_manifest(&three.path("manifest"));
    refused(&mut three, "/etc/heirloom/manifest is no manifest");
    three.give(&manifest(&world, SECS.product_id + 1, SECS.isv_svn));
    refused(&mut three, "the manifest says product 8, and gramine says 7");
    three.give(&manifest(&world, SECS.product_id, SECS.isv_svn + 1));
    refused(&mut three, "the manifest says security version 4, and gramine says 3");
    let good = manifest(&world, SECS.product_id, SECS.isv_svn);
    three.give(&Manifest { domain: None, ..good.clone() });
    refused(&mut three, "/etc/heirloom/manifest cannot be used");
    let application = Some("wallet".parse().unwrap());
    three.give(&Manifest { kind: ReleaseKind::Application, application, ..good.clone() });
    refused(&mut three, "of an application");
    three.give(&good);
    for other in ["tdx", "snp", "nitro"] {
        three.tee = other;
        refused(&mut three, &format!("{other} was named, and what is here is sgx by gramine"));
    }
    three.tee = "gramine";
    three.start();
}

/// None of these policies names the image: it holds nothing, and witnesses what it can.
#[test]
fn a_guest_of_snp_opens_what_it_sealed_with_its_firmware() {
    let Some(report) = vector("tee/snp/report_milan.bin") else { return };
    let Some(cage) = Cage::new() else { return };
    let world = World::new();
    let firmware = Some(SnpFirmware::of(&report));
    let Some(files) = Mounted::new(TsmFiles::snp(report, Vec::new())) else { return };
    let Some(devices) = Mounted::new(Devices { firmware, ..Devices::default() }) else { return };
    let cage = cage.with(files.root(), TSM).with(&devices.root().join("sev-guest"), SEV_GUEST);
    let mut three = Caged::new(cage, "snp", Some(&manifest(&world, 1, 0)));
    three.start();
    let status = three.follow(&world);
    assert_eq!((status.state, status.measurement.kind()), (ServingState::Withdrawn, TeeKind::Snp));
    assert_eq!((status.volatile, three.sealed()), (None, 1));
    three.stop();
    three.start();
    assert_eq!(three.follow(&world).unreadable, None);
    assert_eq!(three.sealed(), 1, "there is nothing new to witness");
    three.stop();
    devices.world(|devices| devices.firmware.as_mut().unwrap().chip = [2; 32]);
    three.start();
    assert_eq!(three.follow(&world).state, ServingState::Unreadable, "another chip");
}

/// Starts, follows, has nothing to seal with, and can prove nothing.
fn holds_and_does_not_last(mut three: Caged, world: &World, kind: TeeKind) {
    three.start();
    let status = three.follow(world);
    assert_eq!((status.state, status.measurement.kind()), (ServingState::Withdrawn, kind));
    let volatile = status.volatile.unwrap();
    assert_eq!(volatile.to_string(), "holds, not durable: the platform seals nothing");
    assert!(!status.may_generate);
    assert_eq!(three.sealed(), 0);
    let challenge = Nonce::new([7; 32]);
    let proof = three.ask(&AdminRequest::Prove { challenge });
    assert!(matches!(proof, AdminResponse::Refused(_)), "{proof:?}");
    three.stop();
}

#[test]
fn a_trust_domain_holds_for_as_long_as_it_runs() {
    let Some(quote) = vector("tee/tdx/tdx_quote_v4.bin") else { return };
    let Some(cage) = Cage::new() else { return };
    let world = World::new();
    let Some(files) = Mounted::new(TsmFiles::tdx(&quote, 8000)) else { return };
    let cage = cage.with(files.root(), TSM);
    let three = Caged::new(cage, "tdx", Some(&manifest(&world, 1, 2)));
    holds_and_does_not_last(three, &world, TeeKind::Tdx);
}

#[test]
fn an_enclave_of_nitro_holds_for_as_long_as_it_runs() {
    let Some(document) = vector("tee/nitro/nitro_attest_fixture.cose") else { return };
    let Some(cage) = Cage::new() else { return };
    let world = World::new();
    let nitro = Some(NitroModule::with(document));
    let Some(devices) = Mounted::new(Devices { nitro, ..Devices::default() }) else { return };
    let cage = cage.with(&devices.root().join("nsm"), NSM);
    let mut three = Caged::new(cage, "nitro", Some(&manifest(&world, 1, 2)));
    // An enclave shares no files with its host: what carries bytes in comes to an address.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    three.address = free.local_addr().ok();
    drop(free);
    holds_and_does_not_last(three, &world, TeeKind::Nitro);
}

/// Another TEE that answers, too, is refused, whichever is named.
#[test]
fn of_two_tees_none_is_used() {
    let Some(quote) = vector("tee/tdx/tdx_quote_v4.bin") else { return };
    let Some(cage) = Cage::new() else { return };
    let world = World::new();
    let Some(gramine) = Mounted::new(GramineFiles::new()) else { return };
    let Some(domain) = Mounted::new(TsmFiles::tdx(&quote, 0)) else { return };
    let cage = cage.with(gramine.root(), GRAMINE).with(domain.root(), TSM);
    let said = manifest(&world, SECS.product_id, SECS.isv_svn);
    let mut three = Caged::new(cage, "gramine", Some(&said));
    for tee in ["gramine", "tdx"] {
        three.tee = tee;
        let (_, said) = three.refuse();
        assert!(said.contains(&format!("{tee} was named, and cannot be used")), "{said}");
        assert!(said.contains("more than one TEE is here: gramine and tsm"), "{said}");
    }
}
