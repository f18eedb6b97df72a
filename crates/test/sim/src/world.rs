//! Nodes, disks, processes, the registry, and where faults strike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heirloom_keeper::handshake::{Handshake, HandshakeError, Peer};
use heirloom_keeper::intent::{Intent, StoredFile};
use heirloom_keeper::keeper::{Keeper, KeeperConfig};
use heirloom_keeper::port::{Platform, StateStore, StoreError};
use heirloom_launcher::randomness::Randomness;
use heirloom_model::appraisal::TpmRule;
use heirloom_model::counter::{LogIndex, Moment};
use heirloom_model::digest::{Nonce, sha256};
use heirloom_model::evidence::SessionRole;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::HolderRole;
use heirloom_model::sealed::SealedEnvelope;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_testkit::ceremony::{Ceremony, Code};
use heirloom_testkit::machine::rule;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::machine::{SimEnclave, SimHost};
use crate::participant::{Exchange, Pair};
use crate::service::SimService;
use crate::service::clients::Market;

/// How likely each fault is at each operation, in thousandths.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    /// The agent dies.
    pub agent: u32,
    /// The keeper dies.
    pub keeper: u32,
    /// The host loses power: agent, keeper, and what was not durable.
    pub host: u32,
    /// The registry cannot be reached.
    pub unreachable: u32,
    /// The registry's answer is lost; what was asked may have happened.
    pub lost_answer: u32,
    /// A request to the registry arrives late, when nobody waits for its answer any more.
    pub late: u32,
    /// A request to the registry arrives twice.
    pub twice: u32,
    /// A peer does not answer.
    pub peer: u32,
    /// The disk has no space left for one write.
    pub full: u32,
}

impl Faults {
    /// No faults at all.
    pub const NONE: Self = Self {
        agent: 0,
        keeper: 0,
        host: 0,
        unreachable: 0,
        lost_answer: 0,
        late: 0,
        twice: 0,
        peer: 0,
        full: 0,
    };

    /// A mix of its own for each run: some runs have much of one fault, some a little of all.
    pub fn draw(world: &mut World) -> Self {
        let mut some = |most: u32| if world.chance(400) { 0 } else { world.below(most) };
        Self {
            agent: some(25),
            keeper: some(15),
            host: some(10),
            unreachable: some(120),
            lost_answer: some(80),
            late: some(60),
            twice: some(60),
            peer: some(120),
            full: some(40),
        }
    }
}

/// The agent's process is gone: what it was doing ends here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Crashed;

/// Everything that exists.
pub struct World {
    /// Keys and statements of the network.
    pub ceremony: Arc<Ceremony>,
    /// Nodes by name.
    pub nodes: BTreeMap<NodeId, SimNode>,
    /// The registry's file.
    pub entries: Vec<LogEntry>,
    /// The registry's own fold.
    pub judge: NetworkState,
    /// Requests on their way to the registry that nobody waits for.
    pub delayed: Vec<(LogIndex, Vec<u8>)>,
    /// Which faults strike.
    pub faults: Faults,
    /// Operations so far.
    pub operations: u64,
    /// Crashes so far.
    pub crashes: u64,
    /// What happened last, for a failing run.
    pub trace: Vec<String>,
    /// The code that exists, by measurement.
    pub code: BTreeMap<Measurement, Code>,
    /// What every clock in this world shows.
    pub now: Moment,
    /// Instances that somebody started from copied files.
    pub clones: Vec<Process>,
    /// Clients of a service, if the nodes run one.
    pub market: Market,
    /// Clients of the participants, if the nodes run any.
    pub exchange: Exchange,
    rng: ChaCha8Rng,
    sessions: u64,
}

/// One host with its node.
pub struct SimNode {
    /// The machine.
    pub host: SimHost,
    /// What survives a crash.
    pub disk: Disk,
    /// The instances that run, by their code.
    pub processes: BTreeMap<Measurement, Process>,
    /// Whether the agent's process died and was not started again.
    pub agent_down: bool,
    /// Whether the node is cut off from registry and peers.
    pub partitioned: bool,
    /// Whether nobody looks after the node: its agent does nothing.
    pub absent: bool,
    /// The service that the node runs beside its keeper.
    pub service: Option<SimService>,
    /// The participants that it runs instead of a keeper.
    pub pair: Option<Pair>,
}

/// The files of one directory.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Live sealed state, by the code whose seat it is.
    pub live: BTreeMap<Measurement, Files>,
    /// Quarantined sealed state, oldest first.
    pub quarantine: Vec<(Measurement, Files)>,
    /// The installed bundle.
    pub installed: Option<Measurement>,
    /// Staged bundles.
    pub staged: BTreeSet<Measurement>,
    /// The agent's journal.
    pub journal: Vec<Vec<u8>>,
}

/// A running keeper.
pub struct Process {
    /// The state machine.
    pub keeper: Keeper,
    /// Its platform.
    pub enclave: SimEnclave,
}

/// What is said of a keeper that dies while it is asked something.
pub const DIED: &str = "died";
/// Lines of the trace that are kept.
const TRACE_LINES_MAX: usize = 400;

/// A world that ports share.
pub type Shared = Arc<Mutex<World>>;

/// Looks into a shared world. A panic in a run ends the run, not the lock.
pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// A world of `count` nodes on which `first` is installed and nothing runs.
    pub fn new(seed: u64, ceremony: Arc<Ceremony>, hosts: &[SimHost], first: Code) -> Self {
        let nodes = ceremony.nodes(hosts.len());
        let make = |(node, host): (heirloom_model::fleet::Node, &SimHost)| {
            let here = host.code(first).measurement;
            let disk =
                Disk { installed: Some(here), staged: BTreeSet::from([here]), ..Disk::default() };
            let sim = SimNode {
                host: host.clone(),
                disk,
                processes: BTreeMap::new(),
                agent_down: false,
                partitioned: false,
                absent: false,
                service: None,
                pair: None,
            };
            (node.node, sim)
        };
        Self {
            nodes: nodes.into_iter().zip(hosts).map(make).collect(),
            entries: Vec::new(),
            judge: NetworkState::new(ceremony.network),
            delayed: Vec::new(),
            faults: Faults::NONE,
            operations: 0,
            crashes: 0,
            trace: Vec::new(),
            code: [first, first.on_tpm()].map(|code| (code.measurement, code)).into(),
            now: Moment(0),
            clones: Vec::new(),
            market: Market::default(),
            exchange: Exchange::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            sessions: 0,
            ceremony,
        }
    }

    /// Builds some code, for machines of every kind.
    pub fn build(&mut self, code: Code) {
        for built in [code, code.on_tpm()] {
            self.code.insert(built.measurement, built);
        }
    }

    /// What these releases are on the kinds of machines that there are here.
    pub fn on_all(&self, code: &[Code]) -> Vec<Code> {
        let made = |node: &SimNode| code.iter().map(|code| node.host.code(*code)).collect();
        let made: Vec<Vec<Code>> = self.nodes.values().map(made).collect();
        let by_measurement = made.into_iter().flatten().map(|code| (code.measurement, code));
        by_measurement.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// What the machines with a TPM have in their registers, if there are any.
    pub fn tpm_rule(&self) -> Option<TpmRule> {
        self.nodes.values().find_map(|node| match &node.host {
            SimHost::Tpm(machine) => Some(rule(machine.registers())),
            SimHost::Emulated(_) => None,
        })
    }

    /// Whether some code is an upgrader.
    pub fn is_upgrader(&self, measurement: &Measurement) -> bool {
        let role = self.code.get(measurement).and_then(|code| code.kind.role());
        role == Some(HolderRole::Upgrader)
    }

    /// Whether something happens that has this many chances in a thousand.
    pub fn chance(&mut self, thousandths: u32) -> bool {
        self.below(1_000) < thousandths
    }

    /// A number below `limit`, or 0 if that is 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.rng.next_u32().checked_rem(limit).unwrap_or(0)
    }

    /// Random bytes of this world.
    pub fn nonce(&mut self) -> Nonce {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        Nonce::new(bytes)
    }

    /// Remembers a line for whoever reads about a failing run.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() >= TRACE_LINES_MAX {
            self.trace.drain(..TRACE_LINES_MAX / 2);
        }
        let line = format!("{:>6} {}", self.operations, line());
        self.trace.push(line);
    }

    /// A node, which exists.
    pub fn node(&mut self, node: &NodeId) -> &mut SimNode {
        self.nodes.get_mut(node).expect("agents run on nodes of this world")
    }

    /// An operation that changes something, by the agent of a node: a crash may strike right
    /// before it, or right after.
    pub fn operate<R>(
        &mut self,
        node: &NodeId,
        what: &'static str,
        effect: impl FnOnce(&mut Self) -> R,
    ) -> Result<R, Crashed> {
        self.point(node, what, "before")?;
        let done = effect(self);
        self.point(node, what, "after")?;
        Ok(done)
    }

    /// A point at which a crash may strike.
    pub fn point(&mut self, node: &NodeId, what: &str, when: &str) -> Result<(), Crashed> {
        self.operations = self.operations.saturating_add(1);
        if self.node(node).agent_down {
            return Err(Crashed);
        }
        let Faults { agent, keeper, host, .. } = self.faults;
        if self.chance(host) {
            self.note(|| format!("{node}: power fails {when} {what}"));
            self.crash(node, true, true);
        } else if self.chance(agent) {
            self.note(|| format!("{node}: the agent dies {when} {what}"));
            self.crash(node, true, false);
        } else if self.chance(keeper) {
            self.note(|| format!("{node}: a keeper dies {when} {what}"));
            self.kill_one(node);
        }
        if self.node(node).agent_down { Err(Crashed) } else { Ok(()) }
    }

    fn crash(&mut self, node: &NodeId, agent: bool, keepers: bool) {
        self.crashes = self.crashes.saturating_add(1);
        let edge = self.service(node).is_some().then(|| self.any_edge());
        if keepers && self.pair(node).is_some() {
            self.kill_participants(node);
        }
        let node = self.node(node);
        node.agent_down |= agent;
        if keepers {
            node.processes.clear();
            if let Some((service, edge)) = node.service.as_mut().zip(edge) {
                service.power_failed(edge);
            }
        }
    }

    /// Kills any of the instances of a node.
    pub fn kill_one(&mut self, node: &NodeId) {
        self.crashes = self.crashes.saturating_add(1);
        if self.pair(node).is_some() {
            self.kill_participant(node);
            return;
        }
        if self.service(node).is_some() && self.chance(500) {
            self.kill_service(node);
            return;
        }
        let count = u32::try_from(self.node(node).processes.len()).unwrap_or(u32::MAX);
        let index = usize::try_from(self.below(count)).unwrap_or(0);
        let victim = self.node(node).processes.keys().nth(index).copied();
        if let Some(victim) = victim {
            self.node(node).processes.remove(&victim);
        }
    }

    /// Starts a keeper of this code on a node, over these files.
    pub fn launch(
        &mut self,
        node: &NodeId,
        measurement: &Measurement,
        files: &Files,
    ) -> Result<Process, String> {
        let Some(code) = self.code.get(measurement).copied() else {
            return Err("no such code".to_owned());
        };
        let enclave = self.enclave(node, code)?;
        self.start(node, code, enclave, files)
    }

    /// Starts a keeper in a process that was launched, over these files.
    pub fn start(
        &self,
        node: &NodeId,
        code: Code,
        enclave: SimEnclave,
        files: &Files,
    ) -> Result<Process, String> {
        let config = KeeperConfig {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            node: node.clone(),
            role: code.kind.role().unwrap_or(HolderRole::Keeper),
        };
        let files = stored(files);
        let keeper = Keeper::start(config, &enclave, &files).map_err(|error| error.to_string())?;
        Ok(Process { keeper, enclave })
    }

    /// A platform for code that starts on a node.
    pub fn enclave(&mut self, node: &NodeId, code: Code) -> Result<SimEnclave, String> {
        let randomness = self.randomness();
        self.node(node).host.clone().launch(code, randomness)
    }

    /// A generator of its own for a process.
    pub fn randomness(&mut self) -> Randomness {
        let mut randomness = ChaCha8Rng::seed_from_u64(self.rng.next_u64());
        Box::new(move |bytes| randomness.fill_bytes(bytes))
    }

    /// Makes an intent of a node's keeper durable, unless a fault strikes, and completes it.
    pub fn commit<T>(
        &mut self,
        node: &NodeId,
        process: &mut Process,
        intent: Intent<T>,
    ) -> Result<T, String> {
        if intent.writes().is_empty() && intent.removals().is_empty() {
            let mut nothing = SimStore { files: &mut BTreeMap::new(), fate: Fate::Lives };
            let receipt = intent.persist(&mut nothing).map_err(|error| error.to_string())?;
            return Ok(process.keeper.complete(intent, receipt));
        }
        self.operations = self.operations.saturating_add(1);
        let (full, dies) = (self.faults.full, self.faults.keeper.max(self.faults.host));
        let fate = match () {
            () if self.chance(full) => Fate::Full,
            () if self.chance(dies) => Fate::DiesBefore,
            () if self.chance(dies) => Fate::DiesAfter,
            () => Fate::Lives,
        };
        let code = identity(process);
        let files = self.node(node).disk.live.entry(code).or_default();
        let mut store = SimStore { files, fate };
        let persisted = intent.persist(&mut store);
        match (persisted, fate) {
            (Ok(receipt), Fate::Lives) => Ok(process.keeper.complete(intent, receipt)),
            (Ok(_) | Err(_), Fate::DiesBefore | Fate::DiesAfter) => {
                self.note(|| format!("{node}: the keeper dies while it writes"));
                self.crashes = self.crashes.saturating_add(1);
                Err(DIED.to_owned())
            }
            (Ok(_), Fate::Full) => Err("the write was lost".to_owned()),
            (Err(error), Fate::Full | Fate::Lives) => Err(error.to_string()),
        }
    }

    /// Counts what a keeper has witnessed, if its platform counts, and no fault strikes before.
    pub fn count(&mut self, node: &NodeId, process: &mut Process) -> Result<(), String> {
        let counts = matches!(self.node(node).host, SimHost::Tpm(_));
        let dies = self.faults.keeper.max(self.faults.host);
        if counts && self.chance(dies) {
            self.note(|| format!("{node}: the keeper dies before it counts"));
            self.crashes = self.crashes.saturating_add(1);
            return Err(DIED.to_owned());
        }
        process.keeper.count_witness(&process.enclave).map_err(|error| error.to_string())
    }

    /// Completes an intent of a keeper on trial: its directory is thrown away with it. It counts
    /// as every keeper does.
    pub fn try_out<T>(process: &mut Process, intent: Intent<T>) -> Result<T, String> {
        let mut elsewhere = SimStore { files: &mut BTreeMap::new(), fate: Fate::Lives };
        let receipt = intent.persist(&mut elsewhere).map_err(|error| error.to_string())?;
        let done = process.keeper.complete(intent, receipt);
        process.keeper.count_witness(&process.enclave).map_err(|error| error.to_string())?;
        Ok(done)
    }

    /// A session from the keeper of one node to that of another: each as the other sees it.
    pub fn session(
        &mut self,
        initiator: &mut Process,
        responder: &mut Process,
    ) -> Result<(Peer, Peer), HandshakeError> {
        self.sessions = self.sessions.saturating_add(1);
        let exporter = sha256(&[b"channel", &self.sessions.to_be_bytes()]);
        let nonces = [self.nonce(), self.nonce()];
        let side = |role, nonce, process: &Process| {
            let config = process.keeper.config();
            let key = process.keeper.instance().public_key();
            Handshake::new(role, config.network, config.domain, nonce, key, exporter)
        };
        let [first, second] = nonces;
        let ours = side(SessionRole::Initiator, first, initiator);
        let theirs = side(SessionRole::Responder, second, responder);
        let introduction =
            ours.introduction(&theirs.hello(), &initiator.enclave, initiator.keeper.position())?;
        let answer =
            theirs.introduction(&ours.hello(), &responder.enclave, responder.keeper.position())?;
        let keys =
            (initiator.keeper.instance().public_key(), responder.keeper.instance().public_key());
        let seen_by_responder = theirs.authenticate(
            &ours.hello(),
            &keys.0,
            &introduction,
            responder.keeper.network_for_appraisal(),
        )?;
        let seen_by_initiator = ours.authenticate(
            &theirs.hello(),
            &keys.1,
            &answer,
            initiator.keeper.network_for_appraisal(),
        )?;
        Ok((seen_by_initiator, seen_by_responder))
    }
}

/// What becomes of the keeper while it writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Lives,
    Full,
    DiesBefore,
    DiesAfter,
}

/// The keeper's directory.
struct SimStore<'d> {
    files: &'d mut Files,
    fate: Fate,
}

impl StateStore for SimStore<'_> {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let file = name.to_owned();
        match self.fate {
            Fate::Full => Err(StoreError::Full { file }),
            Fate::DiesBefore => Err(StoreError::Failed { file, reason: "died".to_owned() }),
            Fate::Lives => {
                self.files.insert(file, bytes.to_vec());
                Ok(())
            }
            Fate::DiesAfter => {
                self.files.insert(file.clone(), bytes.to_vec());
                Err(StoreError::Failed { file, reason: "died".to_owned() })
            }
        }
    }

    fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        let died = || StoreError::Failed { file: name.to_owned(), reason: "died".to_owned() };
        match self.fate {
            Fate::DiesBefore => Err(died()),
            Fate::Full | Fate::Lives => {
                self.files.remove(name);
                Ok(())
            }
            Fate::DiesAfter => {
                self.files.remove(name);
                Err(died())
            }
        }
    }
}

impl Disk {
    /// The measurements that sealed live files.
    pub fn sealers(&self) -> BTreeSet<Measurement> {
        self.live.values().flat_map(sealers).collect()
    }

    /// The live files of one seat.
    pub fn seat(&self, code: &Measurement) -> Files {
        self.live.get(code).cloned().unwrap_or_default()
    }
}

/// The measurements that sealed some files.
pub fn sealers(files: &Files) -> BTreeSet<Measurement> {
    files
        .values()
        .filter_map(|bytes| wire::decode::<SealedEnvelope>(bytes).ok())
        .map(|envelope| envelope.header.measurement)
        .collect()
}

/// Files as a keeper is given them.
pub fn stored(files: &Files) -> Vec<StoredFile> {
    files
        .iter()
        .map(|(name, bytes)| StoredFile { name: name.clone(), bytes: bytes.clone() })
        .collect()
}

/// Who the platform says some code is: for reading what an enclave would say.
pub fn identity(process: &Process) -> Measurement {
    process.enclave.identity().expect("a launched process has an identity").measurement
}
