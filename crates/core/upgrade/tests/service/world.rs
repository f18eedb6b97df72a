//! A few nodes with a keeper and a service each: a log and journals in memory, services in a few
//! fields, and real evidence. What fails, and when, is under each test's control.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_keeper::port::Platform;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::admin::{FollowedPolicy, Holding, KeeperStatus, SealingAge};
use heirloom_model::counter::{Epoch, Generation, LogIndex, Serial};
use heirloom_model::digest::{Checksum, PlanDigest, sha256};
use heirloom_model::domain::{
    GenerationReceipt, HoldingOrigin, LogPosition, PlanStep, Registration,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;
use heirloom_model::release::Release;
use heirloom_model::secret::Secret;
use heirloom_model::service::{
    Admission, PeerSeen, SchemaVersion, ServiceStatus, Standing, Tip, Writing,
};
use heirloom_model::signature::SigningKey;
use heirloom_model::statement::{AttestedStatement, StatementKind};
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};
use heirloom_testkit::service::{self, tip};
use heirloom_upgrade::port::{DriverError, EdgeAdmission, Observation, ServiceObservation};

pub(crate) const CHECKSUM: Checksum = Checksum::new([0xc0; 32]);

/// Everything outside of the agents.
pub(crate) struct World {
    pub(crate) ceremony: Ceremony,
    pub(crate) entries: Vec<LogEntry>,
    /// What the log says after each number of entries.
    pub(crate) states: Vec<Arc<NetworkState>>,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    pub(crate) keeper: Release,
    pub(crate) from: Release,
    pub(crate) to: Release,
    /// How many appends of a kind do not reach the log.
    pub(crate) lost: BTreeMap<StatementKind, u32>,
    /// A process that dies.
    pub(crate) fault: Option<Fault>,
}

/// The process of one agent dies at its `left`th change of the world, before or after it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) node: NodeId,
    pub(crate) left: u32,
    pub(crate) after: bool,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Happens,
    DiesBefore,
    DiesAfter,
}

/// One node.
pub(crate) struct Host {
    pub(crate) node: NodeId,
    pub(crate) journal: Vec<Vec<u8>>,
    keeper: Instance,
    follows: LogIndex,
    machine: EmulatedHost,
    starts: u8,
    pub(crate) service: Service,
}

struct Instance {
    key: SigningKey,
    enclave: EmulatedEnclave,
}

/// The service of a node, and the proxy in front of it.
pub(crate) struct Service {
    pub(crate) installed: Measurement,
    pub(crate) process: Option<Process>,
    pub(crate) silent: BTreeSet<Measurement>,
    /// The end of the database.
    pub(crate) tip: Tip,
    pub(crate) migrated: Option<PlanDigest>,
    pub(crate) snapshots: BTreeMap<PlanDigest, Tip>,
    pub(crate) exercised: BTreeSet<PlanStep>,
    pub(crate) edge: EdgeAdmission,
    pub(crate) wanted: Option<(Measurement, Admission)>,
    pub(crate) fork: Option<Tip>,
    pub(crate) errors: u64,
    pub(crate) open_milliseconds: u64,
    /// Every call, in order.
    pub(crate) calls: Vec<String>,
    /// Calls that are answered with an error before anything happens.
    pub(crate) fail: BTreeMap<&'static str, DriverError>,
    /// Whether migrations go on by themselves after they were asked for.
    pub(crate) slow: bool,
    /// The plan for which one goes on.
    pub(crate) background: Option<PlanDigest>,
}

/// A running service.
pub(crate) struct Process {
    pub(crate) code: Measurement,
    instance: Instance,
    pub(crate) loaded: Tip,
    pub(crate) writing: Writing,
    pub(crate) admission: Admission,
}

pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn secs(code: Measurement) -> Secs {
    let Measurement::Sgx(measurement) = code else { panic!("it is of the kind SGX") };
    Secs {
        measurement,
        signer: CODE_SIGNER,
        product_id: 1,
        isv_svn: 1,
        attributes: LaunchMode::Production.attributes(),
        misc_select: 0,
    }
}

impl Host {
    fn instance(&mut self, code: Measurement) -> Instance {
        self.starts += 1;
        let mut seed = [0xaa; 32];
        seed[0] = self.starts;
        seed[1..=self.node.as_str().len()].copy_from_slice(self.node.as_str().as_bytes());
        Instance {
            key: SigningKey::from_seed(Secret::new(seed)),
            enclave: self.machine.launch(secs(code), Box::new(|bytes: &mut [u8]| bytes.fill(1))),
        }
    }

    /// Starts the service with the database as it is.
    pub(crate) fn run(&mut self, code: Measurement, admission: Admission) {
        let instance = self.instance(code);
        let loaded = self.service.tip;
        let writing = Writing::Active;
        self.service.process = Some(Process { code, instance, loaded, writing, admission });
    }

    pub(crate) fn power_failure(&mut self) {
        self.service.process = None;
    }
}

fn attested<T: AttestedStatement>(instance: &Instance, statement: &T) -> Vec<u8> {
    let mut envelope = Envelope::signed(statement, [&instance.key]);
    let report_data = envelope.report_data(&instance.key.public_key());
    envelope.evidence = Some(instance.enclave.evidence(&report_data).unwrap());
    wire::encode(&envelope)
}

impl World {
    /// A network with so many nodes. Keepers hold generation 0 and have proven it; the old service
    /// runs everywhere and is open. With the same name, old and new service have the same code.
    pub(crate) fn new(nodes: usize, new: &str) -> Self {
        let ceremony = Ceremony::new(&[7; 32]);
        let keeper = Code::named("keeper", 1);
        let (old, new_code) = (Code::application("ledger-1", 1), Code::application(new, 1));
        let fleet = ceremony.nodes(nodes);
        let mut statements = vec![
            ceremony.root(),
            ceremony.epoch(Epoch(1)),
            ceremony.endorsements(),
            ceremony.fleet(Serial(1), fleet.clone()),
        ];
        for (name, code) in
            [("keeper-1.0.0", keeper), ("ledger-1.0.0", old), ("ledger-2.0.0", new_code)]
        {
            statements.push(ceremony.release(name, &code).0);
        }
        let mut policy = ceremony.policy_of(Serial(1), &[keeper], &[]);
        policy.holders_min = u32::try_from(nodes.min(2)).unwrap();
        Ceremony::admit(&mut policy, service::APPLICATION, &old);
        if old != new_code {
            Ceremony::admit(&mut policy, service::APPLICATION, &new_code);
        }
        statements.push(ceremony.policy(&policy));
        let first = fleet[0].node.clone();
        statements.push(ceremony.order(Generation(0), &first, Epoch(9)));
        let mut world = Self {
            states: vec![Arc::new(NetworkState::new(ceremony.network))],
            entries: Vec::new(),
            hosts: BTreeMap::new(),
            keeper: ceremony.release_of("keeper-1.0.0", &keeper),
            from: ceremony.release_of("ledger-1.0.0", &old),
            to: ceremony.release_of("ledger-2.0.0", &new_code),
            lost: BTreeMap::new(),
            fault: None,
            ceremony,
        };
        for statement in statements {
            world.accept(&wire::encode(&statement));
        }
        for (number, node) in (1_u8..).zip(fleet) {
            let host = world.host(number, node.node.clone());
            world.hosts.insert(node.node, host);
        }
        world.genesis();
        world
    }

    fn host(&self, number: u8, node: NodeId) -> Host {
        let machine = EmulatedHost::from_seed(&self.ceremony.manufacturer, &[number; 32]);
        let from = service::placement(&self.from).measurement;
        let code = service::placement(&self.keeper).measurement;
        let keeper = Instance {
            key: SigningKey::from_seed(Secret::new(sha256(&[b"test keeper", &[number]]))),
            enclave: machine.launch(secs(code), Box::new(|bytes: &mut [u8]| bytes.fill(1))),
        };
        let service = Service {
            installed: from,
            process: None,
            silent: BTreeSet::new(),
            tip: tip(10),
            migrated: None,
            snapshots: BTreeMap::new(),
            exercised: BTreeSet::new(),
            edge: EdgeAdmission::Open,
            wanted: Some((from, Admission::Open)),
            fork: None,
            errors: 0,
            open_milliseconds: 0,
            calls: Vec::new(),
            fail: BTreeMap::new(),
            slow: false,
            background: None,
        };
        let (journal, follows) = (Vec::new(), LogIndex(0));
        let mut host = Host { node, journal, keeper, follows, machine, starts: 0, service };
        host.run(from, Admission::Open);
        // It has been running for a while.
        host.service.process.as_mut().unwrap().loaded = tip(3);
        host
    }

    fn genesis(&mut self) {
        let order = {
            let domain = self.state().domain(&self.ceremony.domain).unwrap();
            domain.order().unwrap().order().nonce
        };
        let nodes: Vec<NodeId> = self.hosts.keys().cloned().collect();
        // With enough holders a generation is committed, and takes no more receipts.
        for node in &nodes {
            if self.state().domain(&self.ceremony.domain).unwrap().committed().is_some() {
                break;
            }
            let receipt = GenerationReceipt {
                network: self.ceremony.network,
                domain: self.ceremony.domain,
                node: node.clone(),
                order,
                generation: Generation(0),
                checksum: CHECKSUM,
            };
            let made = attested(&self.hosts[node].keeper, &receipt);
            let signed = self.ceremony.countersigned(&made);
            self.accept(&signed);
        }
        for node in &nodes {
            let made = attested(&self.hosts[node].keeper, &self.registration(node));
            let signed = self.ceremony.countersigned(&made);
            self.accept(&signed);
        }
    }

    pub(crate) fn registration(&self, node: &NodeId) -> Registration {
        Registration {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            node: node.clone(),
            as_of: self.state().position(),
            policy: Serial(1),
            volatile: None,
        }
    }

    pub(crate) fn state(&self) -> &NetworkState {
        self.states.last().unwrap()
    }

    /// Puts a statement into the log, which must accept it.
    pub(crate) fn accept(&mut self, envelope: &[u8]) {
        let applied = self.push(envelope);
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
    }

    pub(crate) fn push(&mut self, envelope: &[u8]) -> Applied {
        let mut state = (**self.states.last().unwrap()).clone();
        let entry = LogEntry::following(&state.position(), envelope.to_vec());
        let applied = state.apply(&entry).unwrap();
        self.states.push(Arc::new(state));
        self.entries.push(entry);
        applied
    }

    /// The kinds of all entries.
    pub(crate) fn count(&self, kind: StatementKind) -> usize {
        let envelopes =
            self.entries.iter().filter_map(|entry| wire::decode::<Envelope>(&entry.envelope).ok());
        envelopes.filter(|envelope| envelope.kind == kind).count()
    }

    /// A change of the world by the agent of a node.
    pub(crate) fn fate(&mut self, node: &NodeId) -> Fate {
        let Some(fault) = self.fault.as_mut().filter(|fault| fault.node == *node) else {
            return Fate::Happens;
        };
        fault.left = fault.left.saturating_sub(1);
        if fault.left > 0 {
            return Fate::Happens;
        }
        let after = fault.after;
        self.fault = None;
        if after { Fate::DiesAfter } else { Fate::DiesBefore }
    }

    pub(crate) fn follow(&mut self, node: &NodeId, entries: &[LogEntry]) -> LogPosition {
        let host = self.hosts.get_mut(node).unwrap();
        for entry in entries {
            assert_eq!(entry.index, host.follows);
            host.follows = LogIndex(entry.index.0 + 1);
        }
        self.states[usize::try_from(host.follows.0).unwrap()].position()
    }

    pub(crate) fn keeper_states<T: AttestedStatement>(&self, node: &NodeId, said: &T) -> Vec<u8> {
        attested(&self.hosts[node].keeper, said)
    }

    /// The keeper of a node that goes on serving, whatever becomes of the service.
    fn keeper_status(&self, host: &Host) -> KeeperStatus {
        let state = &self.states[usize::try_from(host.follows.0).unwrap()];
        let policy = state.policy(&self.ceremony.domain);
        KeeperStatus {
            state: ServingState::Ready,
            node: host.node.clone(),
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            instance: host.keeper.key.public_key(),
            measurement: service::placement(&self.keeper).measurement,
            holding: Some(Holding {
                generation: Generation(0),
                checksum: CHECKSUM,
                origin: HoldingOrigin::Recovered,
            }),
            progress: None,
            policy: policy
                .map(|policy| FollowedPolicy { serial: policy.serial, digest: policy.digest() }),
            position: state.position(),
            unreadable: None,
            may_generate: true,
            extra_info: None,
            requests_served: 0,
            requests_refused: 0,
            role: HolderRole::Keeper,
            address: String::new(),
            sealing: SealingAge::Current,
            volatile: None,
            behind: None,
            uncounted: None,
        }
    }

    /// Who runs the same code, elsewhere.
    fn peers(&self, host: &Host, code: Measurement) -> Vec<PeerSeen> {
        let runs = |other: &&Host| {
            other.node != host.node
                && other.service.process.as_ref().is_some_and(|process| process.code == code)
        };
        let peer = |other: &Host| PeerSeen {
            node: other.node.clone(),
            measurement: code,
            configuration: service::configuration(),
        };
        self.hosts.values().filter(runs).map(peer).collect()
    }

    fn status(&self, host: &Host, process: &Process) -> ServiceStatus {
        let service = &host.service;
        let terms = service::terms(&self.from, &self.to);
        let shown = |term: &heirloom_model::service::KeyTerm| heirloom_model::service::KeyShown {
            key: term.key.clone(),
            custody: term.custody,
            public: Some(service::public(term.key.as_str())),
        };
        ServiceStatus {
            measurement: process.code,
            instance: process.instance.key.public_key(),
            configuration: service::configuration(),
            schema: Some(SchemaVersion(if service.migrated.is_some() { 2 } else { 1 })),
            loaded: Some(process.loaded),
            tip: Some(service.tip),
            writing: process.writing,
            pending: 0,
            admission: process.admission,
            quiet_milliseconds: 1_000,
            peers: self.peers(host, process.code),
            keys: terms.keys.iter().map(shown).collect(),
            fork: service.fork,
            errors: service.errors,
            open_milliseconds: service.open_milliseconds,
            waits_for: None,
        }
    }

    /// What a service states for a step.
    pub(crate) fn standing(&self, node: &NodeId, step: PlanStep) -> Option<Vec<u8>> {
        let host = &self.hosts[node];
        let process = host.service.process.as_ref()?;
        let plan = self.state().plan(&step.plan).unwrap().plan();
        let usual = service::standing(self.ceremony.network, plan, step.step, host.service.tip);
        let status = self.status(host, process);
        let standing = Standing {
            measurement: status.measurement,
            schema: status.schema,
            loaded: status.loaded,
            writing: status.writing,
            admission: status.admission,
            quiet_milliseconds: status.quiet_milliseconds,
            peers: status.peers,
            fork: status.fork,
            ..usual
        };
        Some(attested(&process.instance, &standing))
    }

    /// What code states that is tried without data.
    pub(crate) fn trial(&mut self, node: &NodeId, code: Measurement, step: PlanStep) -> Vec<u8> {
        let plan = self.state().plan(&step.plan).unwrap().plan();
        let standing = service::standing(self.ceremony.network, plan, step.step, tip(0));
        let instance = self.hosts.get_mut(node).unwrap().instance(code);
        attested(&instance, &standing)
    }

    pub(crate) fn observation(&self, node: &NodeId) -> Observation {
        let host = &self.hosts[node];
        let keeper = service::placement(&self.keeper).measurement;
        let service = &host.service;
        let running = service.process.as_ref().map(|process| Box::new(self.status(host, process)));
        Observation {
            installed: Some(keeper),
            running: BTreeMap::from([(keeper, Box::new(self.keeper_status(host)))]),
            silent: BTreeSet::new(),
            live: BTreeSet::from([keeper]),
            quarantined: BTreeSet::new(),
            participant: None,
            service: Some(ServiceObservation {
                installed: Some(service.installed),
                running,
                silent: service.silent.clone(),
                database_held: service.process.as_ref().map(|_| "pid 1".to_owned()),
                edge: Some(service.edge),
                snapshots: service.snapshots.clone(),
                migrated: service.migrated,
                exercised: service.exercised.clone(),
                drift: service.drift(),
                under_way: service.background.map(|_| "a migration".to_owned()),
            }),
        }
    }
}

impl Service {
    /// What is not as it was last told to be.
    pub(crate) fn drift(&self) -> Option<String> {
        let running = self.process.as_ref().map(|process| process.code);
        let edge = match self.wanted {
            Some((_, Admission::Open)) => EdgeAdmission::Open,
            Some((_, Admission::Closed | Admission::SideDoor)) | None => EdgeAdmission::Closed,
        };
        if running != self.wanted.map(|(code, _)| code) {
            return Some("the process".to_owned());
        }
        (self.edge != edge).then(|| "the proxy".to_owned())
    }
}
