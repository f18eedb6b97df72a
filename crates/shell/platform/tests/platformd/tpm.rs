//! A machine with a TPM in software, from its making to evidence that a verifier accepts, all of
//! it with the commands that people type.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::error::AppraiseError;
use heirloom_attest::tpm::EkKind;
use heirloom_launcher::daemon::MachineLock;
use heirloom_launcher::files::FileError;
use heirloom_launcher::machine::Machine as _;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::appraisal::{PcrRule, Reference, RevocationDemand, TpmRule};
use heirloom_model::counter::Time;
use heirloom_model::digest::HostAuthority;
use heirloom_model::evidence::{Certificate, Endorsements, Evidence, ReportData, TrustAnchor};
use heirloom_model::measurement::{LaunchedCode, Measurement, MrEnclave, MrSigner};
use heirloom_model::policy::{AppraisalPolicy, PlatformRule, TcbLevel};
use heirloom_model::wire;
use heirloom_platform::attestation_ca::{self, CertifyError, EndorsementKeys};
use heirloom_platform::error::PlatformdError;
use heirloom_platform::tpm;
use heirloom_testkit::swtpm::Swtpm;
use heirloom_testkit::users;
use heirloom_tpm::machine::TpmMachine;
use heirloom_tpm::machine::address::TpmAddress;
use heirloom_tpm::machine::enrolment::{EnrolmentAnswer, EnrolmentRequest, EnrolmentSecret};
use heirloom_tpm::machine::state::CertificateChain;

struct World {
    folder: tempfile::TempDir,
    swtpm: Swtpm,
}

impl World {
    /// None if this host has no `swtpm`, which was said aloud.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let swtpm = Swtpm::start(&folder.path().join("tpm"))?;
        Some(Self { folder, swtpm })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn address(&self) -> String {
        format!("unix:{}", self.swtpm.socket().display())
    }

    /// Runs a command in the folder; `MACHINE` stands for directory and TPM of the machine.
    fn run(&self, command: &str) -> Output {
        let machine = format!("--state state --tpm {}", self.address());
        let command = command.replace("MACHINE", &machine);
        Command::new(env!("CARGO_BIN_EXE_heirloom-platformd"))
            .args(command.split_whitespace())
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    fn must(&self, command: &str) -> String {
        let done = self.run(command);
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{command}: {error}");
        String::from_utf8(done.stdout).unwrap()
    }

    fn must_not(&self, command: &str) -> String {
        let done = self.run(command);
        assert!(!done.status.success(), "{command}");
        String::from_utf8(done.stderr).unwrap()
    }

    /// Both certificates of the authority that certified the TPM.
    fn manufacturers(&self) {
        let issuers = self.swtpm.issuers().map(|path| fs::read_to_string(path).unwrap());
        fs::write(self.path("manufacturers"), issuers.concat()).unwrap();
    }

    /// What firmware, boot loader and kernel of a real host measure; a machine that measured nothing
    /// is refused.
    fn boot(&self) {
        let address: TpmAddress = self.address().parse().unwrap();
        let tpm = address.connect().unwrap();
        tpm.startup().unwrap();
        for register in 0..16 {
            tpm.extend(register, &[register; 32]).unwrap();
        }
    }

    fn make_and_approve(&self) {
        self.boot();
        self.must("tpm authority-key --out authority --public authority.pub");
        self.must("tpm init MACHINE --host host-1 --authority authority.pub");
        self.must("tpm request MACHINE --out host.request");
        self.must("tpm approve --key authority --request host.request --out host.approval");
        self.must("tpm install-approval MACHINE --approval host.approval");
    }

    fn enrol(&self) -> TrustAnchor {
        self.manufacturers();
        self.must("attestation-ca found --dir ca --anchor anchor --endorsement-keys rsa");
        self.must("tpm enrol-request MACHINE --out key.request");
        let show = "--dir ca --request key.request --manufacturers manufacturers";
        self.must(&format!("attestation-ca challenge {show} --out challenge"));
        self.must("tpm enrol-answer MACHINE --challenge challenge --out answer");
        self.must(&format!("attestation-ca certify {show} --answer answer --out certificates"));
        self.must("tpm enrol-install MACHINE --certificates certificates");
        read(&self.path("anchor"))
    }

    fn machine(&self) -> TpmMachine {
        let address: TpmAddress = self.address().parse().unwrap();
        let lock = MachineLock::take(&self.path("state")).unwrap();
        TpmMachine::open(&self.path("state"), address.connect().unwrap(), &lock).unwrap()
    }
}

fn read<T: wire::Wire>(path: &Path) -> T {
    wire::decode(&fs::read(path).unwrap()).unwrap()
}

fn now() -> Time {
    Time(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

fn secs(mode: LaunchMode) -> Secs {
    Secs {
        measurement: MrEnclave::new([4; 32]),
        signer: MrSigner::new([5; 32]),
        product_id: 7,
        isv_svn: 3,
        attributes: mode.attributes(),
        misc_select: 0,
    }
}

const DATA: ReportData = ReportData::new([9; ReportData::BYTES]);

/// Accepts exactly the registers that this evidence shows.
fn policy(machine: &TpmMachine, evidence: &Evidence) -> AppraisalPolicy {
    let Evidence::Tpm(evidence) = evidence else { panic!("other evidence") };
    let authority = evidence.launch.authority;
    let registers = evidence.registers.iter();
    let registers = registers
        .map(|one| PcrRule { index: one.index, value: Reference::Match(vec![one.value]) })
        .collect();
    AppraisalPolicy {
        platforms: PlatformRule::Only(vec![machine.platform()]),
        tcb: vec![TcbLevel::UpToDate],
        advisories_accepted: Vec::new(),
        tcb_evaluation_min: 0,
        collateral_grace_seconds: 0,
        tdx: None,
        snp: None,
        nitro: None,
        tpm: Some(TpmRule {
            registers,
            revocation: RevocationDemand::IfPresent,
            authorities: Reference::Match(vec![authority]),
        }),
        vtpm: None,
        tcb_grace: Vec::new(),
    }
}

#[test]
fn evidence_of_an_enrolled_machine_is_accepted_and_of_no_other() {
    let Some(world) = World::new() else { return };
    world.make_and_approve();
    let anchor = world.enrol();
    let machine = world.machine();
    let evidence = machine.evidence(&secs(LaunchMode::Production), &DATA).unwrap();
    let policy = policy(&machine, &evidence);
    let appraise = |evidence: &Evidence, data: &ReportData, policy: &AppraisalPolicy| {
        Appraiser::new(vec![anchor.clone()]).appraise(evidence, data, policy, now())
    };
    let result = appraise(&evidence, &DATA, &policy).unwrap();
    assert_eq!(result.measurement(), Measurement::Tpm(LaunchedCode::new([4; 32])));
    assert_eq!(result.signer(), Some(MrSigner::new([5; 32])));
    assert_eq!(result.platform(), machine.platform());

    let other = ReportData::new([8; ReportData::BYTES]);
    assert!(appraise(&evidence, &other, &policy).is_err(), "made for something else");
    let mut changed = policy.clone();
    if let Some(rule) = &mut changed.tpm {
        rule.registers[3].value = Reference::Match(vec![[1; 32].into_register()]);
    }
    assert!(appraise(&evidence, &DATA, &changed).is_err(), "another host");
    let mut changed = policy.clone();
    if let Some(rule) = &mut changed.tpm {
        rule.authorities = Reference::Match(vec![HostAuthority::new([1; 32])]);
    }
    assert!(appraise(&evidence, &DATA, &changed).is_err(), "another authority");
    let debug = machine.evidence(&secs(LaunchMode::Debug), &DATA).unwrap();
    let refused = appraise(&debug, &DATA, &policy);
    assert!(matches!(refused, Err(AppraiseError::DebugEnclave)), "{refused:?}");
    let nobody = Appraiser::new(Vec::new()).appraise(&evidence, &DATA, &policy, now());
    assert!(nobody.is_err(), "without the anchor");
}

trait IntoRegister {
    fn into_register(self) -> heirloom_model::measurement::Register32;
}

impl IntoRegister for [u8; 32] {
    fn into_register(self) -> heirloom_model::measurement::Register32 {
        heirloom_model::measurement::Register32::new(self)
    }
}

#[test]
fn nothing_is_certified_without_an_answer_from_the_very_tpm() {
    let Some(world) = World::new() else { return };
    world.make_and_approve();
    let _anchor = world.enrol();
    let show = "--dir ca --request key.request --manufacturers manufacturers";
    let certify = format!("attestation-ca certify {show} --answer answer --out other");
    // The same answer once more: its challenge is used up.
    world.must_not(&certify);
    assert!(!world.path("other").exists());
    world.must(&format!("attestation-ca challenge {show} --out challenge"));
    // The answer to the challenge before.
    assert!(world.must_not(&certify).contains("not in one TPM"));
    let wrong = EnrolmentAnswer { secret: EnrolmentSecret::new([0; 32]) };
    fs::write(world.path("answer"), wire::encode(&wrong)).unwrap();
    assert!(world.must_not(&certify).contains("not in one TPM"));

    // Another TPM cannot answer.
    let Some(other) = World::new() else { return };
    other.make_and_approve();
    fs::copy(world.path("challenge"), other.path("challenge")).unwrap();
    other.must_not("tpm enrol-answer MACHINE --challenge challenge --out answer");
    // Nor is its certificate of use to this one.
    other.enrol();
    fs::copy(other.path("certificates"), world.path("foreign")).unwrap();
    let refused = world.must_not("tpm enrol-install MACHINE --certificates foreign");
    assert!(refused.contains("another attestation key"), "{refused}");
    // A manufacturer that the CA does not know.
    fs::copy(other.path("key.request"), world.path("key.request")).unwrap();
    world.must_not(&format!("attestation-ca challenge {show} --out challenge"));
}

#[test]
fn what_is_missing_is_said_with_the_way_out() {
    let Some(world) = World::new() else { return };
    let serve = "tpm serve MACHINE --socket socket";
    let refused = world.must_not(serve);
    assert!(refused.contains("--bundle-users FIRST-LAST"), "{refused}");
    let refused = world.must_not(&format!("{serve} --bundle-users 1900000000-1900000255"));
    assert!(refused.contains("--agent-group GROUP"), "{refused}");
    let refused = world.must_not(&format!("{serve} --bundle-users 1900000000-1900000007"));
    assert!(refused.contains("16 to 4096"), "{refused}");
    let refused = world.must_not(&format!("{serve} --agent-group no-such-group"));
    assert!(refused.contains("groupadd"), "{refused}");
    let serve = &format!("{serve} {}", users::arguments());
    if users::bundle_users().is_none() {
        let refused = world.must_not(serve);
        assert!(refused.contains("run it as root"), "{refused}");
        return;
    }
    let refused = world.must_not(serve);
    assert!(refused.contains("tpm init"), "{refused}");
    world.must("tpm authority-key --out authority --public authority.pub");
    world.must("tpm init MACHINE --host host-1 --authority authority.pub");
    let refused = world.must_not(serve);
    assert!(refused.contains("tpm request"), "{refused}");
    let twice = world.must_not("tpm init MACHINE --host host-1 --authority authority.pub");
    assert!(twice.contains("is there already"), "{twice}");
    let request = world.must("tpm request MACHINE --out host.request");
    assert!(request.contains("\"pcr\":15"), "{request}");
    world.must("tpm approve --key authority --request host.request --out host.approval");
    world.must("tpm install-approval MACHINE --approval host.approval");
    let machine = world.machine();
    let refused = machine.evidence(&secs(LaunchMode::Production), &DATA).unwrap_err();
    assert!(refused.to_string().contains("enrol-request"), "{refused}");
}

/// Whatever its surroundings allow.
#[test]
fn who_serves_a_machine_leaves_no_core_dump() {
    let Some(world) = World::new() else { return };
    if users::bundle_users().is_none() {
        return;
    }
    world.make_and_approve();
    let serve = format!(
        "ulimit -c unlimited; exec {} tpm serve --state state --tpm {} --socket socket {}",
        env!("CARGO_BIN_EXE_heirloom-platformd"),
        world.address(),
        users::arguments()
    );
    let mut served =
        Command::new("sh").args(["-c", &serve]).current_dir(world.folder.path()).spawn().unwrap();
    let socket = world.path("socket");
    let begun = std::time::Instant::now();
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(served.try_wait().unwrap().is_none(), "it serves");
        assert!(begun.elapsed().as_secs() < 60, "it begins to serve");
        std::thread::yield_now();
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", served.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let core: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    served.kill().unwrap();
    served.wait().unwrap();
    assert_eq!(core, ["0", "0"], "neither limit can be raised again");
}

/// A machine that has answered a challenge made at [`now`], and what the CA was shown.
struct Asked {
    request: EnrolmentRequest,
    makers: Vec<Certificate>,
    made: Time,
}

impl World {
    fn ask(&self) -> Asked {
        self.make_and_approve();
        self.manufacturers();
        self.must("tpm enrol-request MACHINE --out key.request");
        let made = now();
        attestation_ca::found(&self.path("ca"), EndorsementKeys::Rsa, made).unwrap();
        let makers = attestation_ca::read_manufacturers(&self.path("manufacturers")).unwrap();
        let asked = Asked { request: read(&self.path("key.request")), makers, made };
        self.challenge(&asked);
        asked
    }

    fn challenge(&self, Asked { request, makers, made }: &Asked) {
        let challenge = attestation_ca::challenge(&self.path("ca"), request, makers, *made);
        fs::write(self.path("challenge"), wire::encode(&challenge.unwrap())).unwrap();
        self.must("tpm enrol-answer MACHINE --challenge challenge --out answer");
    }

    fn certify(&self, asked: &Asked, at: Time) -> Result<CertificateChain, PlatformdError> {
        let answer = read(&self.path("answer"));
        let Asked { request, makers, .. } = asked;
        attestation_ca::certify(&self.path("ca"), request, makers, &answer, at)
    }
}

const DAY: u64 = 24 * 60 * 60;

/// Whatever a crash left of the founding of a CA, the same command founds it.
#[test]
fn a_ca_that_was_half_founded_is_founded_and_one_that_was_founded_stays() {
    let folder = tempfile::tempdir().unwrap();
    let found = || attestation_ca::found(folder.path(), EndorsementKeys::Rsa, now());
    found().unwrap();
    // The key comes last.
    for left in [["ca", "anchor"].as_slice(), &["ca"], &[]] {
        for name in ["ca", "anchor", "key.pem"] {
            if !left.contains(&name) {
                drop(fs::remove_file(folder.path().join(name)));
            }
        }
        let anchor = found().unwrap();
        assert_eq!(read::<TrustAnchor>(&folder.path().join("anchor")), anchor);
    }
    let key = fs::read(folder.path().join("key.pem")).unwrap();
    assert!(matches!(found(), Err(PlatformdError::File(FileError::Exists { .. }))));
    assert_eq!(fs::read(folder.path().join("key.pem")).unwrap(), key);
}

/// What machines are made with is there before the key is, which is never overwritten.
#[test]
fn an_authority_that_was_half_made_is_made_by_the_same_command() {
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = (folder.path().join("key"), folder.path().join("new/public"));
    assert!(tpm::generate_authority(&key, &public).is_err());
    assert!(!key.exists(), "a key without its public half");
    fs::create_dir(folder.path().join("new")).unwrap();
    tpm::generate_authority(&key, &public).unwrap();
    let made = fs::read(&public).unwrap();
    assert!(tpm::generate_authority(&key, &public).is_err());
    let another = folder.path().join("another");
    assert!(tpm::generate_authority(&another, &public).is_err());
    assert!(!another.exists(), "a key without its public half");
    assert_eq!(fs::read(&public).unwrap(), made, "nothing is overwritten");
}

#[test]
fn an_answer_is_good_for_a_day_and_once() {
    let Some(world) = World::new() else { return };
    let asked = world.ask();
    for at in [asked.made.after(DAY + 1), asked.made.previous().unwrap()] {
        let late = world.certify(&asked, at);
        let expired = CertifyError::ChallengeExpired { made: asked.made, now: at };
        let expired = PlatformdError::Certify(expired);
        assert_eq!(late.err().unwrap().with_causes(), expired.with_causes());
    }
    // Too late is not used up; in time is.
    world.certify(&asked, asked.made.after(DAY)).unwrap();
    let again = world.certify(&asked, asked.made).err().unwrap();
    assert!(matches!(again, PlatformdError::Certify(CertifyError::NotChallenged)), "{again}");
    assert_eq!(attestation_ca::certified(&world.path("ca")).unwrap().len(), 1);
}

#[test]
fn a_tpm_is_one_machine_because_a_ca_takes_one_kind_of_endorsement_key() {
    let Some(world) = World::new() else { return };
    let Asked { request, makers, made } = world.ask();
    attestation_ca::found(&world.path("other"), EndorsementKeys::P256, made).unwrap();
    let refused = attestation_ca::challenge(&world.path("other"), &request, &makers, made);
    let refused = refused.err().unwrap();
    let kind = PlatformdError::Certify(CertifyError::EndorsementKind {
        demanded: EndorsementKeys::P256,
        found: EkKind::Rsa,
    });
    assert_eq!(refused.with_causes(), kind.with_causes());
    // A maker that did not sign its own certificate is none.
    let between: Vec<_> = makers.iter().take(1).cloned().collect();
    let refused = attestation_ca::challenge(&world.path("ca"), &request, &between, made);
    assert!(refused.err().unwrap().with_causes().contains("no self-signed root"));
}

#[test]
fn a_machine_that_is_given_up_is_taken_back_by_its_ca() {
    let Some(world) = World::new() else { return };
    world.make_and_approve();
    let anchor = world.enrol();
    let machine = world.machine();
    let evidence = machine.evidence(&secs(LaunchMode::Production), &DATA).unwrap();
    let mut policy = policy(&machine, &evidence);
    policy.tpm.as_mut().unwrap().revocation = RevocationDemand::Demanded;
    let appraise = |list: Option<&str>, at: Time| {
        let mut appraiser = Appraiser::new(vec![anchor.clone()]);
        if let Some(list) = list {
            appraiser.endorse(read::<Endorsements>(&world.path(list))).unwrap();
        }
        appraiser.appraise(&evidence, &DATA, &policy, at).map_err(|error| error.reason())
    };
    assert_eq!(appraise(None, now()), Err("missing-revocations"));
    world.must("attestation-ca revocations --dir ca --out list");
    let result = appraise(Some("list"), now()).unwrap();
    assert!(result.expires() <= now().after(30 * DAY));
    assert_eq!(appraise(Some("list"), now().after(30 * DAY)), Err("expired-endorsements"));

    let nobody = "11".repeat(32);
    let refused =
        world.must_not(&format!("attestation-ca revoke --dir ca --platform {nobody} --out no"));
    assert!(refused.contains("certified no key"), "{refused}");
    let platform = machine.platform();
    let revoke = format!("attestation-ca revoke --dir ca --platform {platform} --out revoked");
    // Twice is once.
    for _ in 0..2 {
        assert!(!world.must(&revoke).contains("\"revoked\":null"));
        assert_eq!(appraise(Some("revoked"), now()), Err("certificate-revoked"));
    }
    world.must("attestation-ca revocations --dir ca --out list");
    assert_eq!(appraise(Some("list"), now()), Err("certificate-revoked"));

    // It is given up for ever: whoever asks anew gets no other certificate.
    let again = "attestation-ca challenge --dir ca --request key.request \
                 --manufacturers manufacturers --out again";
    let refused = world.must_not(again);
    assert!(refused.contains("was given up"), "{refused}");
}
