//! One node of an exclusive domain: a log in memory, a journal in memory, and keepers that do what
//! their agent asks, with real evidence. What survives what is under each test's control.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_keeper::port::Platform;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::admin::{FollowedPolicy, Holding, KeeperStatus, SealingAge, Ticket};
use heirloom_model::counter::{Epoch, Generation, LogIndex, Serial};
use heirloom_model::digest::{Checksum, Nonce, ReleaseDigest};
use heirloom_model::domain::{
    Activation, ActivationCause, GenerationReceipt, HoldingOrigin, LogPosition, PlanStep,
    PossessionProof, Registration, Suspension,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;
use heirloom_model::release::Release;
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_model::statement::{AttestedStatement, StatementKind};
use heirloom_model::wire;
use heirloom_registry::activity::Activity;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};
use heirloom_upgrade::journal::Durable;
use heirloom_upgrade::port::{DriverError, JournalError, JournalStore, NodeDriver, Observation};

pub(crate) const CHECKSUM: Checksum = Checksum::new([0xc0; 32]);

/// Everything outside of the agent.
pub(crate) struct World {
    pub(crate) ceremony: Ceremony,
    pub(crate) node: NodeId,
    pub(crate) entries: Vec<LogEntry>,
    /// What the log says after each number of entries.
    pub(crate) states: Vec<Arc<NetworkState>>,
    pub(crate) journal: Vec<Vec<u8>>,
    pub(crate) installed: Measurement,
    pub(crate) processes: BTreeMap<Measurement, Process>,
    /// Who has the keyring sealed.
    pub(crate) live: BTreeSet<Measurement>,
    pub(crate) quarantined: BTreeSet<Measurement>,
    pub(crate) silent: BTreeSet<Measurement>,
    /// Every call of the driver and every read of the log, in order.
    pub(crate) calls: Vec<String>,
    /// Calls that are answered with an error before anything happens, by their beginning.
    pub(crate) refuse: BTreeMap<String, DriverError>,
    /// How many appends of a kind do not reach the log.
    pub(crate) lost: BTreeMap<StatementKind, u32>,
    pub(crate) releases: BTreeMap<Measurement, (Code, ReleaseDigest)>,
    host: EmulatedHost,
    starts: u8,
}

/// A keeper in a few fields.
pub(crate) struct Process {
    code: Code,
    key: SigningKey,
    enclave: EmulatedEnclave,
    pub(crate) follows: LogIndex,
    pub(crate) holding: Option<HoldingOrigin>,
    pub(crate) suspended: bool,
    ticket: u64,
    pub(crate) attended: bool,
}

pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// A network with one node on which `codes[0]` is installed and nothing runs.
    pub(crate) fn new(codes: &[Code]) -> Self {
        let ceremony = Ceremony::new(&[7; 32]);
        let host = EmulatedHost::from_seed(&ceremony.manufacturer, &[1; 32]);
        let mut releases = BTreeMap::new();
        let mut statements = vec![
            ceremony.root(),
            ceremony.epoch(Epoch(1)),
            ceremony.endorsements(),
            ceremony.fleet(Serial(1), ceremony.nodes(1)),
        ];
        for (number, code) in codes.iter().enumerate() {
            let (release, digest) = ceremony.release(&format!("release-{number}"), code);
            statements.push(release);
            releases.insert(code.measurement, (*code, digest));
        }
        let edges: Vec<_> = codes.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let mut world = Self {
            node: ceremony.nodes(1)[0].node.clone(),
            states: vec![Arc::new(NetworkState::new(ceremony.network))],
            entries: Vec::new(),
            journal: Vec::new(),
            installed: codes[0].measurement,
            processes: BTreeMap::new(),
            live: BTreeSet::new(),
            quarantined: BTreeSet::new(),
            silent: BTreeSet::new(),
            calls: Vec::new(),
            refuse: BTreeMap::new(),
            lost: BTreeMap::new(),
            releases,
            host,
            starts: 0,
            ceremony,
        };
        let mut policy = world.ceremony.policy_of(Serial(1), codes, &edges);
        let platform = world.launch(codes[0].measurement).enclave.identity().unwrap().platform;
        Ceremony::make_exclusive(&mut policy, vec![platform]);
        statements.push(world.ceremony.policy(&policy));
        statements.push(world.ceremony.order(Generation(0), &world.node, Epoch(9)));
        for statement in statements {
            world.accept(&statement);
        }
        world
    }

    pub(crate) fn state(&self) -> &NetworkState {
        self.states.last().unwrap()
    }

    /// Puts a statement into the log, which must accept it.
    pub(crate) fn accept(&mut self, envelope: &Envelope) {
        let applied = self.push(&wire::encode(envelope));
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
    }

    fn push(&mut self, envelope: &[u8]) -> Applied {
        let mut state = (**self.states.last().unwrap()).clone();
        let entry = LogEntry::following(&state.position(), envelope.to_vec());
        let applied = state.apply(&entry).unwrap();
        self.states.push(Arc::new(state));
        self.entries.push(entry);
        applied
    }

    fn launch(&mut self, code: Measurement) -> Process {
        self.starts += 1;
        let (code, _) = self.releases[&code];
        let Measurement::Sgx(measurement) = code.measurement else {
            panic!("it is of the kind SGX")
        };
        let secs = Secs {
            measurement,
            signer: CODE_SIGNER,
            product_id: 1,
            isv_svn: u16::try_from(code.security_version.0).unwrap(),
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        let mut seed = [0xaa; 32];
        seed[0] = self.starts;
        Process {
            code,
            key: SigningKey::from_seed(Secret::new(seed)),
            enclave: self.host.launch(secs, Box::new(|bytes: &mut [u8]| bytes.fill(1))),
            follows: LogIndex(0),
            holding: self.live.contains(&code.measurement).then_some(HoldingOrigin::Recovered),
            suspended: false,
            ticket: 0,
            attended: false,
        }
    }

    /// Starts a code by hand.
    pub(crate) fn run(&mut self, code: Measurement) {
        let process = self.launch(code);
        self.processes.insert(code, process);
    }

    /// Everything that runs is gone.
    pub(crate) fn power_failure(&mut self) {
        self.processes.clear();
        self.silent.clear();
    }

    pub(crate) fn status(&self, process: &Process) -> KeeperStatus {
        let state = &self.states[usize::try_from(process.follows.0).unwrap()];
        let policy = state.policy(&self.ceremony.domain);
        KeeperStatus {
            state: self.serving(process, state),
            node: self.node.clone(),
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            instance: process.key.public_key(),
            measurement: process.code.measurement,
            holding: process.holding.map(|origin| Holding {
                generation: Generation(0),
                checksum: CHECKSUM,
                origin,
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
            role: process.code.kind.role().unwrap(),
            address: String::new(),
            sealing: SealingAge::Current,
            volatile: None,
            behind: None,
            uncounted: None,
        }
    }

    fn serving(&self, process: &Process, state: &NetworkState) -> ServingState {
        let Some(domain) = state.domain(&self.ceremony.domain) else {
            return ServingState::Starting;
        };
        let own = process.key.public_key();
        if process.holding.is_none() || domain.committed().is_none() {
            return ServingState::Empty;
        }
        if process.code.kind.role() == Some(HolderRole::Upgrader) {
            return ServingState::Carrying;
        }
        if process.suspended {
            return ServingState::Suspended;
        }
        match domain.activity() {
            Activity::Active(active) if *active.instance() == own => {
                if process.attended {
                    ServingState::Ready
                } else {
                    ServingState::Unattended
                }
            }
            Activity::None | Activity::Active(_) | Activity::Suspended(_) => {
                if domain.activated_at(&own).is_some() {
                    ServingState::Superseded
                } else {
                    ServingState::Standby
                }
            }
        }
    }

    /// What the node looks like.
    pub(crate) fn observation(&self) -> Observation {
        let answers = self.processes.iter().filter(|(code, _)| !self.silent.contains(*code));
        Observation {
            installed: Some(self.installed),
            running: answers
                .map(|(code, process)| (*code, Box::new(self.status(process))))
                .collect(),
            silent: self.silent.clone(),
            live: self.live.clone(),
            quarantined: self.quarantined.clone(),
            service: None,
            participant: None,
        }
    }

    /// The codes whose instances answer key requests.
    pub(crate) fn serve(&self) -> Vec<Measurement> {
        let seen = self.observation();
        let ready = seen.running.values().filter(|status| status.state == ServingState::Ready);
        ready.map(|status| status.measurement).collect()
    }
}

/// The journal of the node.
pub(crate) struct Journal(pub(crate) Shared);

impl JournalStore for Journal {
    fn append(&mut self, record: &[u8]) -> Result<Durable, JournalError> {
        lock(&self.0).journal.push(record.to_vec());
        Ok(Durable::assertion())
    }
}

/// The registry.
pub(crate) struct Log(pub(crate) Shared);

impl LogStore for Log {
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError> {
        let mut world = lock(&self.0);
        let head = world.state().position();
        if head.length != expected {
            return Err(AppendError::Conflict { head });
        }
        let kind = wire::decode::<Envelope>(envelope).unwrap().kind;
        if let Some(left) = world.lost.get_mut(&kind).filter(|left| **left > 0) {
            *left -= 1;
            return Err(AppendError::Unknown { reason: "no answer".to_owned() });
        }
        let applied = world.push(envelope);
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
        Ok(world.state().position())
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        Ok(lock(&self.0).state().position())
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let mut world = lock(&self.0);
        world.calls.push(format!("read {from}"));
        let from = usize::try_from(from.0).unwrap();
        Ok(world.entries.iter().skip(from).take(max).cloned().collect())
    }

    fn watch(&self, _: LogIndex, _: Duration) -> Result<LogPosition, ReadError> {
        self.head()
    }
}

/// The driver of the node.
pub(crate) struct Driver(pub(crate) Shared);

/// A word for a code in the record of calls.
pub(crate) fn word(code: &Measurement) -> String {
    code.to_string().chars().take(12).collect()
}

impl Driver {
    /// Records a call, and refuses it if the test says so.
    fn call(&self, what: &str, code: &Measurement) -> Result<MutexGuard<'_, World>, DriverError> {
        let mut world = lock(&self.0);
        let call = format!("{what} {}", word(code));
        world.calls.push(call.clone());
        let refused = world.refuse.iter().find(|(start, _)| call.starts_with(start.as_str()));
        if let Some((_, error)) = refused {
            return Err(error.clone());
        }
        Ok(world)
    }

    /// A statement of the instance of a code.
    fn attest<T: AttestedStatement>(
        &self,
        what: &str,
        code: &Measurement,
        make: impl FnOnce(&World, &Process, LogPosition) -> T,
    ) -> Result<Vec<u8>, DriverError> {
        let world = self.call(what, code)?;
        let Some(process) = world.processes.get(code) else {
            return Err(DriverError::Unknown("nothing runs".to_owned()));
        };
        let position = world.status(process).position;
        Ok(attested(process, &make(&world, process, position)))
    }
}

fn attested<T: AttestedStatement>(process: &Process, statement: &T) -> Vec<u8> {
    let mut envelope = Envelope::signed(statement, [&process.key]);
    let report_data = envelope.report_data(&process.key.public_key());
    envelope.evidence = Some(process.enclave.evidence(&report_data).unwrap());
    wire::encode(&envelope)
}

fn registration(world: &World, as_of: LogPosition) -> Registration {
    Registration {
        network: world.ceremony.network,
        domain: world.ceremony.domain,
        node: world.node.clone(),
        as_of,
        policy: Serial(1),
        volatile: None,
    }
}

impl NodeDriver for Driver {
    fn observe(&mut self) -> Result<Observation, DriverError> {
        Ok(lock(&self.0).observation())
    }

    fn stage(&mut self, _: &Release, code: &Measurement) -> Result<Vec<u8>, DriverError> {
        let mut world = self.call("stage", code)?;
        let trial = world.launch(*code);
        Ok(attested(&trial, &registration(&world, world.state().position())))
    }

    fn prepare(&mut self, release: &Release, code: &Measurement) -> Result<Vec<u8>, DriverError> {
        self.stage(release, code)
    }

    fn drain(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.call("drain", code).map(|_| ())
    }

    fn resume(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.call("resume", code).map(|_| ())
    }

    fn stop(&mut self, code: &Measurement) -> Result<(), DriverError> {
        let mut world = self.call("stop", code)?;
        world.silent.remove(code);
        world.processes.remove(code);
        Ok(())
    }

    fn quarantine(&mut self, code: &Measurement) -> Result<(), DriverError> {
        let mut world = self.call("quarantine", code)?;
        assert!(!world.processes.contains_key(code));
        world.live.remove(code);
        world.quarantined.insert(*code);
        Ok(())
    }

    fn restore(&mut self, code: &Measurement) -> Result<(), DriverError> {
        let mut world = self.call("restore", code)?;
        world.live.insert(*code);
        Ok(())
    }

    fn install(&mut self, expect: &Measurement, code: &Measurement) -> Result<(), DriverError> {
        let mut world = self.call("install", code)?;
        assert!([*expect, *code].contains(&world.installed));
        world.installed = *code;
        Ok(())
    }

    fn start(&mut self, code: &Measurement) -> Result<(), DriverError> {
        let mut world = self.call("start", code)?;
        if !world.processes.contains_key(code) {
            world.run(*code);
        }
        Ok(())
    }

    fn replicate(&mut self, code: &Measurement, _: &[NodeId]) -> Result<(), DriverError> {
        drop(self.call("replicate", code)?);
        Err(DriverError::Refused("the domain is exclusive".to_owned()))
    }

    fn attend(&mut self, code: &Measurement) -> Result<Ticket, DriverError> {
        let mut world = self.call("attend", code)?;
        let Some(process) = world.processes.get_mut(code) else {
            return Err(DriverError::Unknown("nothing runs".to_owned()));
        };
        process.ticket += 1;
        Ok(Ticket(process.ticket))
    }

    fn follow(
        &mut self,
        code: &Measurement,
        entries: &[LogEntry],
        attended: Option<Ticket>,
    ) -> Result<LogPosition, DriverError> {
        let what = if attended.is_some() { "renew" } else { "follow" };
        let mut world = self.call(what, code)?;
        let Some(process) = world.processes.get_mut(code) else {
            return Err(DriverError::Unknown("nothing runs".to_owned()));
        };
        for entry in entries {
            assert_eq!(entry.index, process.follows);
            process.follows = LogIndex(entry.index.0 + 1);
        }
        if let Some(ticket) = attended {
            assert_eq!(ticket, Ticket(process.ticket), "a ticket of another instance");
            process.attended = true;
        }
        let follows = process.follows;
        Ok(world.states[usize::try_from(follows.0).unwrap()].position())
    }

    fn register(&mut self, code: &Measurement) -> Result<Vec<u8>, DriverError> {
        self.attest("register", code, |world, _, as_of| registration(world, as_of))
    }

    fn prove(&mut self, code: &Measurement, challenge: &Nonce) -> Result<Vec<u8>, DriverError> {
        self.attest("prove", code, |world, process, as_of| PossessionProof {
            network: world.ceremony.network,
            domain: world.ceremony.domain,
            node: world.node.clone(),
            challenge: *challenge,
            generation: Generation(0),
            checksum: CHECKSUM,
            origin: process.holding.unwrap(),
            as_of,
            policy: Serial(1),
            measurement: process.code.measurement,
        })
    }

    fn create_generation(
        &mut self,
        code: &Measurement,
        order: &Nonce,
    ) -> Result<Vec<u8>, DriverError> {
        let made = self.attest("create", code, |world, _, _| GenerationReceipt {
            network: world.ceremony.network,
            domain: world.ceremony.domain,
            node: world.node.clone(),
            order: *order,
            generation: Generation(0),
            checksum: CHECKSUM,
        })?;
        let mut world = lock(&self.0);
        world.live.insert(*code);
        world.processes.get_mut(code).unwrap().holding = Some(HoldingOrigin::Received);
        Ok(made)
    }

    fn receive_generation(
        &mut self,
        code: &Measurement,
        _: &Nonce,
        _: &[NodeId],
    ) -> Result<Vec<u8>, DriverError> {
        drop(self.call("receive", code)?);
        Err(DriverError::Refused("the domain is exclusive".to_owned()))
    }

    fn hand_over(
        &mut self,
        to: &Measurement,
        _: PlanStep,
        _: &NodeId,
        from: &Measurement,
    ) -> Result<(), DriverError> {
        let mut world = self.call("hand-over", to)?;
        let gives = world.processes.get(from).is_some_and(|donor| donor.holding.is_some());
        if !gives || !world.processes.contains_key(to) {
            return Err(DriverError::Unknown("nothing runs".to_owned()));
        }
        world.live.insert(*to);
        world.processes.get_mut(to).unwrap().holding = Some(HoldingOrigin::Received);
        Ok(())
    }

    fn suspend(&mut self, code: &Measurement, step: PlanStep) -> Result<Vec<u8>, DriverError> {
        let made = self.attest("suspend", code, |world, _, as_of| Suspension {
            network: world.ceremony.network,
            domain: world.ceremony.domain,
            node: world.node.clone(),
            step,
            generation: Generation(0),
            checksum: CHECKSUM,
            as_of,
        })?;
        lock(&self.0).processes.get_mut(code).unwrap().suspended = true;
        Ok(made)
    }

    fn activate(
        &mut self,
        code: &Measurement,
        cause: ActivationCause,
    ) -> Result<Vec<u8>, DriverError> {
        self.attest("activate", code, |world, process, as_of| Activation {
            network: world.ceremony.network,
            domain: world.ceremony.domain,
            node: world.node.clone(),
            cause,
            generation: Generation(0),
            checksum: CHECKSUM,
            origin: process.holding.unwrap(),
            as_of,
        })
    }

    fn forget(&mut self, code: &Measurement, _: PlanStep) -> Result<(), DriverError> {
        let mut world = self.call("forget", code)?;
        let Some(process) = world.processes.get_mut(code) else {
            return Err(DriverError::Unknown("nothing runs".to_owned()));
        };
        process.holding = None;
        world.live.remove(code);
        Ok(())
    }

    fn preserve(&mut self, code: &Measurement) -> Result<(), DriverError> {
        let mut world = self.call("preserve", code)?;
        world.quarantined.insert(*code);
        Ok(())
    }

    fn reseal(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.call("reseal", code).map(|_| ())
    }
}
