//! Directories to work in, and a log of a whole network.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock};

use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_emulated::provisioning::DevelopmentRoot;
use heirloom_keeper::port::Platform as _;
use heirloom_launcher::bundle::Bundle;
use heirloom_launcher::manifest::Manifest;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_launcher::signer::EnclaveSigningKey;
use heirloom_model::counter::{Epoch, Generation, Serial, Time};
use heirloom_model::digest::{Checksum, Nonce};
use heirloom_model::domain::{
    Activation, ActivationCause, Challenge, GenerationOrder, GenerationReceipt, HoldingOrigin,
    LogPosition, PlanStep, PossessionProof, Registration, Suspension,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, Gate, Plan, Step};
use heirloom_model::policy::Policy;
use heirloom_model::release::ReleaseKind;
use heirloom_model::signature::SigningKey;
use heirloom_model::statement::AttestedStatement;
use heirloom_model::wire;
use heirloom_registry::port::LogStore as _;
use heirloom_store::key_file;
use heirloom_store::log_file::LogFile;
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};
use tempfile::TempDir;

/// An RSA key that signs enclaves of tests.
const ENCLAVE_KEY: &str =
    include_str!("../../../../adapter/launcher/tests/data/enclave-signing-test-key-not-secret.pem");
/// A program of a few hundred bytes.
const PROGRAM: &[u8] = include_bytes!("../../../../adapter/launcher/tests/data/tiny.elf");

/// What a command did.
pub(crate) struct Ended {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A process that is being started has every open file of this one for a moment, with its locks.
/// So nobody starts a process while somebody has a log open.
static OPEN: RwLock<()> = RwLock::new(());

/// Starts a process.
pub(crate) fn start(command: &mut Command) -> Child {
    let _alone = OPEN.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

/// A directory to work in.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A network that `heirloom init` made in `net`.
    pub(crate) fn with_network() -> Self {
        let place = Self::new();
        let anchor = DevelopmentRoot::from_seed(&[0xde; 32], Time(1_700_000_000)).anchor();
        place.write("anchor", &wire::encode(&anchor));
        place.ok("init net --anchor anchor");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Writes a key file.
    pub(crate) fn key(&self, name: &str, key: &SigningKey) {
        key_file::create(&self.path(name), key).unwrap();
    }

    /// Writes a bundle that launches.
    pub(crate) fn bundle(&self, name: &str, manifest: &Manifest) {
        let key = EnclaveSigningKey::from_pem(ENCLAVE_KEY).unwrap();
        let bundle = Bundle::sign(&key, PROGRAM.to_vec(), manifest, 0x2026_1120).unwrap();
        bundle.write(&self.path(name)).unwrap();
    }

    /// Copies a program here.
    pub(crate) fn copy_program(&self, from: &Path, name: &str) -> PathBuf {
        let _open = OPEN.read().unwrap_or_else(PoisonError::into_inner);
        let copy = self.path(name);
        fs::copy(from, &copy).unwrap();
        copy
    }

    /// Runs a command; words are separated by blanks.
    pub(crate) fn run(&self, words: &str) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
        command
            .args(words.split_whitespace())
            .current_dir(self.0.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = start(&mut command).wait_with_output().unwrap();
        Ended {
            exit: output.status.code().expect("it ended by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed, and returns its data.
    pub(crate) fn ok(&self, words: &str) -> String {
        let ended = self.run(words);
        assert_eq!(ended.exit, 0, "{words}\n{}{}", ended.out, ended.err);
        ended.out
    }

    /// Runs a command that must succeed with `--json`.
    pub(crate) fn json(&self, words: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&format!("--json {words}"))).unwrap()
    }

    /// Runs a command that must fail with an exit code and an error code, say what to do, and
    /// change nothing. Returns what it said.
    pub(crate) fn fails(&self, words: &str, exit: i32, code: &str) -> String {
        let before = self.content();
        let ended = self.run(words);
        let said = format!("{words}\n{}{}", ended.out, ended.err);
        assert_eq!(ended.exit, exit, "{said}");
        assert!(ended.err.contains(&format!("error[{code}]: ")), "{said}");
        assert!(ended.err.contains("hint: "), "{said}");
        assert_eq!(ended.out, "", "{said}");
        assert!(before == self.content(), "something was changed by {said}");
        ended.err
    }

    /// Begins the log in `log`.
    pub(crate) fn begin_log(&self) {
        let _open = OPEN.read().unwrap_or_else(PoisonError::into_inner);
        LogFile::create(&self.path("log")).unwrap();
    }

    /// Appends a statement to `log`, whatever it says. Returns the end of the log.
    pub(crate) fn append(&self, envelope: &Envelope) -> LogPosition {
        let _open = OPEN.read().unwrap_or_else(PoisonError::into_inner);
        let (log, _) = LogFile::open(&self.path("log")).unwrap();
        let end = log.head().unwrap().length;
        log.append(end, &wire::encode(envelope)).unwrap()
    }

    /// Every file and its bytes.
    fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.0.path(), &mut files);
        files
    }
}

fn collect(directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
            files.insert(path, Vec::new());
        } else {
            let bytes = fs::read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
}

/// What makes the instance and the machine of a node.
pub(crate) fn number(node: &NodeId) -> u8 {
    *node.as_str().as_bytes().last().unwrap()
}

/// The manifest of a keeper for a network of `heirloom init`.
pub(crate) fn keeper(network: &str, release: &str) -> Manifest {
    Manifest {
        network: network.parse().unwrap(),
        domain: Some(domain().parse().unwrap()),
        application: None,
        release: release.parse().unwrap(),
        product_id: 1,
        security_version: 2,
        kind: ReleaseKind::Keeper,
    }
}

/// The domain of networks of `heirloom init`.
pub(crate) fn domain() -> String {
    "d0".repeat(32)
}

/// A network with proven holders of generation 0, as files: `log`, and key files of operators and
/// agents.
pub(crate) struct Network {
    pub(crate) place: Place,
    pub(crate) ceremony: Ceremony,
    end: Cell<LogPosition>,
    old: Code,
    pub(crate) new: Code,
    upgrader: Code,
    size: usize,
    exclusive: bool,
    /// Whether an abort started the old keeper again: as another instance.
    restarted: Cell<bool>,
}

const CHECKSUM: Checksum = Checksum::new([0xc5; 32]);

impl Network {
    /// Three nodes of a replicated domain, in a network of its own for each seed.
    pub(crate) fn founded(seed: u8) -> Self {
        let network = Self { size: 3, ..Self::empty_of(seed) };
        network.begin();
        network.hold(&network.nodes());
        network.prove(&network.nodes());
        network
    }

    /// Four nodes of a replicated domain.
    pub(crate) fn new() -> Self {
        let network = Self::unproven();
        network.prove(&network.nodes());
        network
    }

    /// An exclusive domain whose first node is active; the other ones have nothing.
    pub(crate) fn exclusive(size: usize) -> Self {
        let network = Self { exclusive: true, size, ..Self::empty() };
        network.begin();
        let nodes = network.nodes();
        network.hold(&nodes[..1]);
        for node in &nodes[1..] {
            network.register(node);
        }
        let (id, domain) = (network.ceremony.network, network.ceremony.domain);
        let activation = Activation {
            network: id,
            domain,
            node: nodes[0].clone(),
            cause: ActivationCause::First,
            generation: Generation(0),
            checksum: CHECKSUM,
            origin: HoldingOrigin::Recovered,
            as_of: network.position(),
        };
        network.attest(&nodes[0], &activation);
        network.prove(&nodes[..1]);
        network
    }

    /// The same network before anybody was asked for proof.
    pub(crate) fn unproven() -> Self {
        let network = Self::empty();
        network.begin();
        network.hold(&network.nodes());
        network
    }

    /// Keys, and an empty log.
    fn empty() -> Self {
        Self::empty_of(7)
    }

    /// The same for the network of a seed.
    fn empty_of(seed: u8) -> Self {
        let place = Place::new();
        place.begin_log();
        let end = Cell::new(LogPosition::START);
        let ceremony = Ceremony::new(&[seed; 32]);
        for (number, key) in (1..).zip(&ceremony.operator_keys) {
            place.key(&format!("operator-{number}.key"), key);
        }
        for (number, key) in (1..).zip(&ceremony.policy_keys) {
            place.key(&format!("policy-{number}.key"), key);
        }
        let (old, new) = (Code::named("keeper 1", 1), Code::named("keeper 2", 2));
        let upgrader = Code::upgrader("upgrader 1", 1);
        let (size, exclusive, restarted) = (4, false, Cell::new(false));
        let network = Self { place, ceremony, end, old, new, upgrader, size, exclusive, restarted };
        for node in network.nodes() {
            network.place.key(&format!("{node}.key"), &network.ceremony.agent_key(&node));
        }
        network
    }

    /// The arguments that name this network and its log.
    pub(crate) fn log(&self) -> String {
        format!("--network {} --log log", self.ceremony.network)
    }

    /// Lets somebody else write the log.
    pub(crate) fn release(self) -> (Place, Ceremony) {
        (self.place, self.ceremony)
    }

    /// A policy with both edges; in an exclusive domain with those through the upgrader.
    pub(crate) fn policy(&self, serial: u64) -> Policy {
        let (old, new, via) = (self.old, self.new, self.upgrader);
        if !self.exclusive {
            return self.ceremony.policy_of(Serial(serial), &[old, new], &[(old, new), (new, old)]);
        }
        let edges = [(old, via), (via, new), (new, via), (via, old)];
        let mut policy = self.ceremony.policy_of(Serial(serial), &[old, new, via], &edges);
        let platform = |node: &NodeId| self.enclave(number(node), old).identity().unwrap().platform;
        let platforms = self.nodes().iter().map(platform).collect();
        Ceremony::make_exclusive(&mut policy, platforms);
        policy
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.ceremony.nodes(self.size).into_iter().map(|node| node.node).collect()
    }

    fn begin(&self) {
        let ceremony = &self.ceremony;
        self.append(&ceremony.root());
        self.append(&ceremony.epoch(Epoch(1)));
        self.append(&ceremony.fleet(Serial(1), ceremony.nodes(self.size)));
        self.append(&ceremony.endorsements());
        self.append(&ceremony.release("keeper-1.0.0", &self.old).0);
        self.append(&ceremony.release("keeper-2.0.0", &self.new).0);
        self.append(&ceremony.release("upgrader-1.0.0", &self.upgrader).0);
        self.append(&ceremony.policy(&self.policy(1)));
    }

    fn register(&self, node: &NodeId) {
        let (network, domain) = (self.ceremony.network, self.ceremony.domain);
        let (as_of, policy) = (self.position(), Serial(1));
        let node = node.clone();
        self.attest(
            &node.clone(),
            &Registration { network, domain, node, as_of, policy, volatile: None },
        );
    }

    /// These nodes register and hold generation 0.
    fn hold(&self, nodes: &[NodeId]) {
        let (network, domain) = (self.ceremony.network, self.ceremony.domain);
        for node in nodes {
            self.register(node);
        }
        let order = self.ceremony.order(Generation(0), &nodes[0], Epoch(100));
        self.append(&order);
        let order = order.unverified::<GenerationOrder>().unwrap();
        for node in nodes {
            let receipt = GenerationReceipt {
                network,
                domain,
                node: node.clone(),
                order: order.nonce,
                generation: Generation(0),
                checksum: CHECKSUM,
            };
            self.attest(node, &receipt);
        }
    }

    /// These nodes prove generation 0 from their durable state.
    fn prove(&self, nodes: &[NodeId]) {
        let challenge = Challenge {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            nonce: Nonce::new([0x77; 32]),
            verifier: nodes[0].clone(),
            targets: nodes.to_vec(),
            step: None,
            code: None,
        };
        let agent = self.ceremony.agent_key(&nodes[0]);
        self.answer(&Envelope::signed(&challenge, [&agent]), Serial(1));
    }

    /// Asks something, and whoever is asked proves generation 0 under this policy.
    pub(crate) fn answer(&self, asked: &Envelope, policy: Serial) {
        let (network, domain) = (self.ceremony.network, self.ceremony.domain);
        self.append(asked);
        let challenge = asked.unverified::<Challenge>().unwrap();
        for node in &challenge.targets {
            let proof = PossessionProof {
                network,
                domain,
                node: node.clone(),
                challenge: challenge.nonce,
                generation: Generation(0),
                checksum: CHECKSUM,
                origin: HoldingOrigin::Recovered,
                as_of: self.position(),
                policy,
                measurement: self.old.measurement,
            };
            self.attest(node, &proof);
        }
    }

    fn position(&self) -> LogPosition {
        self.end.get()
    }

    pub(crate) fn append(&self, envelope: &Envelope) {
        self.end.set(self.place.append(envelope));
    }

    /// Carries out the forward steps of a plan up to the first one of this kind.
    pub(crate) fn carry_out(&self, plan: &Plan, until: impl Fn(&Action) -> bool) {
        for step in plan.steps.iter().take_while(|step| !until(&step.action)) {
            self.carry_out_step(plan, step);
        }
    }

    /// Carries out the forward steps of a plan from the first one that stops an instance.
    pub(crate) fn carry_out_rest(&self, plan: &Plan) {
        for step in plan.steps.iter().skip_while(|step| !matches!(step.action, Action::Stop(_))) {
            self.carry_out_step(plan, step);
        }
    }

    /// Lets the instances and the agent of a step say what they say when it is carried out.
    pub(crate) fn carry_out_step(&self, plan: &Plan, step: &Step) {
        let (network, domain) = (self.ceremony.network, self.ceremony.domain);
        for gate in &step.gates {
            let Gate::Waited { epochs, .. } = gate else { continue };
            (1..=*epochs).for_each(|passed| {
                self.append(&self.ceremony.epoch(Epoch(1 + u64::from(passed))));
            });
        }
        let (node, as_of) = (step.node.clone(), self.position());
        let (generation, checksum) = (Generation(0), CHECKSUM);
        let origin = HoldingOrigin::Recovered;
        let this = PlanStep { plan: plan.digest(), step: step.id };
        match &step.action {
            Action::Prepare(placement) => {
                let code = self.code(placement.measurement);
                let policy = Serial(1);
                let said = Registration { network, domain, node, as_of, policy, volatile: None };
                self.attest_as(&step.node, code, &said);
            }
            Action::Verify { code: Some(code), targets, .. } => {
                let node = targets[0].clone();
                let challenge = Nonce::new([u8::try_from(step.id.0).unwrap(); 32]);
                self.append(&self.ceremony.challenge(plan, step.id, challenge));
                let (as_of, policy, measurement) = (self.position(), Serial(1), *code);
                let said = PossessionProof {
                    network,
                    domain,
                    node,
                    challenge,
                    generation,
                    checksum,
                    origin,
                    as_of,
                    policy,
                    measurement,
                };
                self.attest_as(&said.node, self.code(*code), &said);
            }
            Action::Restart(_) if plan.is_rollback(step.id) => self.restarted.set(true),
            Action::Suspend(placement) => {
                let step = this;
                let said = Suspension { network, domain, node, step, generation, checksum, as_of };
                self.attest_as(&said.node, self.code(placement.measurement), &said);
            }
            Action::Activate(placement) => {
                let cause = ActivationCause::Planned(this);
                let said = Activation {
                    network,
                    domain,
                    node,
                    cause,
                    generation,
                    checksum,
                    origin,
                    as_of,
                };
                self.attest_as(&said.node, self.code(placement.measurement), &said);
            }
            _ => {}
        }
        self.append(&self.ceremony.result(plan, step.id));
    }

    fn code(&self, measurement: Measurement) -> Code {
        let known = [self.old, self.upgrader, self.new];
        known.into_iter().find(|code| code.measurement == measurement).unwrap()
    }

    /// Appends a statement of the keeper on a node, with evidence.
    fn attest<T: AttestedStatement>(&self, node: &NodeId, statement: &T) {
        self.attest_as(node, self.old, statement);
    }

    /// Appends a statement of the instance of some code on a node, with evidence.
    fn attest_as<T: AttestedStatement>(&self, node: &NodeId, code: Code, statement: &T) {
        let number = number(node);
        let seat = match code {
            _ if code == self.old && self.restarted.get() => number ^ 0x20,
            _ if code == self.old => number,
            _ if code == self.new => number | 0x80,
            _ => number | 0x40,
        };
        self.attest_from(seat, node, code, statement);
    }

    /// Appends a statement of the instance in some seat of a node, with evidence.
    pub(crate) fn attest_from<T: AttestedStatement>(
        &self,
        seat: u8,
        node: &NodeId,
        code: Code,
        statement: &T,
    ) {
        self.append(&self.attested(seat, node, code, statement));
    }

    /// The same, without appending it.
    pub(crate) fn attested<T: AttestedStatement>(
        &self,
        seat: u8,
        node: &NodeId,
        code: Code,
        statement: &T,
    ) -> Envelope {
        let number = number(node);
        let key = SigningKey::generate(&mut |bytes| bytes.fill(seat));
        let mut envelope = Envelope::signed(statement, [&key]);
        let report_data = envelope.report_data(&key.public_key());
        envelope.evidence = Some(self.enclave(number, code).evidence(&report_data).unwrap());
        envelope.sign(&self.ceremony.agent_key(node));
        envelope
    }

    fn enclave(&self, number: u8, code: Code) -> EmulatedEnclave {
        let Measurement::Sgx(measurement) = code.measurement else {
            panic!("it is of the kind SGX")
        };
        let host = EmulatedHost::from_seed(&self.ceremony.manufacturer, &[number; 32]);
        let secs = Secs {
            measurement,
            signer: CODE_SIGNER,
            product_id: 1,
            isv_svn: u16::try_from(code.security_version.0).unwrap(),
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        host.launch(secs, Box::new(|bytes: &mut [u8]| bytes.fill(1)))
    }
}
