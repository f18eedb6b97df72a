//! The service of each simulated node: its ledger, its process, and the proxy in front of it.
//!
//! Ledgers are chains of block ids. Evidence, statements and everything that judges them are real.

pub mod clients;
pub mod driver;

use std::collections::{BTreeMap, BTreeSet};

use heirloom_keeper::port::Platform as _;
use heirloom_model::counter::Moment;
use heirloom_model::digest::{BlockId, ConfigurationDigest, PlanDigest, sha256};
use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::protocol::ServingState;
use heirloom_model::secret::Secret;
use heirloom_model::service::{
    Admission, Height, KeyCustody, KeyShown, PeerSeen, SchemaVersion, ServiceStatus, Standing, Tip,
    Writing,
};
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use heirloom_registry::plan::PlanState;
use heirloom_testkit::service;
use heirloom_upgrade::port::{DriverError, EdgeAdmission, ServiceObservation};

use crate::machine::SimEnclave;
use crate::service::clients::Market;
use crate::world::World;

/// What a block is for. Each has a number of its own, so no two blocks are alike by chance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    /// The ledger begins.
    First,
    /// A client pays.
    Payment(u64),
    /// An operator tries the service through its side door.
    Test(u64),
    /// The service itself writes something.
    Beat(u64),
}

/// A block, and through its id everything before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Block {
    /// What it is for.
    pub work: Work,
    /// Its id.
    pub id: BlockId,
}

/// A ledger.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Chain(Vec<Block>);

impl Chain {
    /// A ledger with its first block.
    pub fn first() -> Self {
        let mut chain = Self::default();
        chain.append(Work::First);
        chain
    }

    /// One block more.
    pub fn append(&mut self, work: Work) {
        let (kind, number) = match work {
            Work::First => (0_u8, 0),
            Work::Payment(number) => (1, number),
            Work::Test(number) => (2, number),
            Work::Beat(number) => (3, number),
        };
        let parent = self.tip().id;
        let id = sha256(&[b"sim block", parent.as_bytes(), &[kind], &number.to_be_bytes()]);
        self.0.push(Block { work, id: BlockId::new(id) });
    }

    /// Its end.
    pub fn tip(&self) -> Tip {
        let height = Height(u64::try_from(self.0.len()).unwrap_or(u64::MAX));
        Tip { height, id: self.0.last().map_or(BlockId::new([0; 32]), |block| block.id) }
    }

    /// The block of a height.
    pub fn at(&self, height: Height) -> Option<&Block> {
        self.0.get(usize::try_from(height.0.checked_sub(1)?).ok()?)
    }

    /// Whether it has exactly this block there, and so everything before it.
    pub fn has(&self, tip: &Tip) -> bool {
        self.at(tip.height).is_some_and(|block| block.id == tip.id)
    }

    /// Whether it goes on from another one, or is the same.
    pub fn continues(&self, other: &Self) -> bool {
        other.0.is_empty() || self.has(&other.tip())
    }

    /// Its blocks, in order.
    pub fn blocks(&self) -> &[Block] {
        &self.0
    }

    /// Somebody changed the last block behind its back.
    pub fn tamper(&mut self) {
        if let Some(last) = self.0.last_mut() {
            last.id = BlockId::new(sha256(&[b"tampered", last.id.as_bytes()]));
        }
    }
}

/// A ledger in its layout.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Database {
    /// The layout.
    pub schema: SchemaVersion,
    /// The ledger.
    pub chain: Chain,
}

/// What a node was last told to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Desired {
    /// The code that runs, if any.
    pub wanted: Option<Measurement>,
    /// How its ledger must end when it is started, until it was once.
    pub expected: Option<Tip>,
    /// Whose work it takes. Only with [`Admission::Open`] is the proxy open.
    pub admission: Admission,
    /// Whether it may append.
    pub writing: Writing,
    /// Whether blocks are distributed.
    pub distributes: bool,
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The installed service.
    pub installed: Measurement,
    /// What can be installed.
    pub staged: BTreeSet<Measurement>,
    /// What the node was last told to be.
    pub desired: Desired,
    /// Steps whose tests succeeded.
    pub exercised: BTreeSet<PlanStep>,
    /// The database that was there first.
    pub original: Database,
    /// What migrations made of it.
    pub copies: BTreeMap<PlanDigest, Database>,
    /// Whose copy is the database; none if the original is.
    pub live: Option<PlanDigest>,
    /// Copies that nobody touches.
    pub snapshots: BTreeMap<PlanDigest, Chain>,
}

impl Kept {
    /// The database.
    pub fn database(&self) -> &Database {
        let copy = self.live.as_ref().and_then(|plan| self.copies.get(plan));
        copy.unwrap_or(&self.original)
    }

    /// The database, to write.
    pub fn database_mut(&mut self) -> &mut Database {
        match self.live.as_ref().and_then(|plan| self.copies.get_mut(plan)) {
            Some(copy) => copy,
            None => &mut self.original,
        }
    }
}

/// A running process.
pub struct Instance {
    /// Its code.
    pub code: Measurement,
    /// What it read when it started.
    pub configuration: ConfigurationDigest,
    /// The end of its ledger when it started.
    pub loaded: Tip,
    /// Whether it appends.
    pub writing: Writing,
    /// Whose work it takes.
    pub admission: Admission,
    /// Whether a keeper gave it its keys.
    pub keyed: bool,
    /// Payments that it took and that are in no block yet.
    pub pending: Vec<u64>,
    /// Since when nothing happens.
    pub quiet_since: Moment,
    /// Since when it lets clients in.
    pub open_since: Option<Moment>,
    /// Another block than its own that a peer has.
    pub fork: Option<Tip>,
    /// Signs what it states; new with each start.
    pub key: SigningKey,
    /// Its platform.
    enclave: SimEnclave,
}

impl Instance {
    /// A statement with the evidence of this process, whatever it says.
    pub fn attested(&self, standing: &Standing) -> Vec<u8> {
        let mut envelope = Envelope::signed(standing, [&self.key]);
        let report_data = envelope.report_data(&self.key.public_key());
        let evidence = self.enclave.evidence(&report_data);
        envelope.evidence = Some(evidence.expect("an emulated enclave makes evidence"));
        wire::encode(&envelope)
    }
}

/// What is wrong with a node, until somebody repairs it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// Processes that start read another configuration than the others.
    Configuration,
    /// Its code states another tip than it has.
    Lies,
    /// Its database has a record that no migration can read.
    BadData,
    /// Somebody changes the copy while nothing runs.
    Tampers,
}

/// The service of one node.
pub struct SimService {
    /// What survives a crash.
    pub kept: Kept,
    /// What runs.
    pub instance: Option<Instance>,
    /// What the running proxy does. It forgets what it was told now and then.
    pub edge: EdgeAdmission,
    /// Whether blocks are being distributed.
    pub distributes: bool,
    /// A migration that goes on by itself, whatever becomes of the agent that began it.
    pub job: Option<Job>,
    /// What is wrong with it.
    pub flaw: Option<Flaw>,
}

/// A migration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Job {
    /// Whose.
    pub plan: PlanDigest,
    /// The layout that it makes.
    pub schema: SchemaVersion,
}

impl SimService {
    /// A node on which this code has been told to serve, and does not yet.
    pub fn new(code: Measurement) -> Self {
        let desired = Desired {
            wanted: Some(code),
            expected: None,
            admission: Admission::Open,
            writing: Writing::Active,
            distributes: true,
        };
        let kept = Kept {
            installed: code,
            staged: BTreeSet::from([code]),
            desired,
            exercised: BTreeSet::new(),
            original: Database { schema: SchemaVersion(1), chain: Chain::first() },
            copies: BTreeMap::new(),
            live: None,
            snapshots: BTreeMap::new(),
        };
        Self {
            kept,
            instance: None,
            edge: EdgeAdmission::Closed,
            distributes: false,
            job: None,
            flaw: None,
        }
    }

    /// The host lost power. Nobody knows what its proxy does when it comes back.
    pub fn power_failed(&mut self, edge: EdgeAdmission) {
        self.instance = None;
        self.distributes = false;
        self.job = None;
        self.edge = edge;
    }

    /// Whether a client that comes now is let in.
    pub fn lets_in(&self) -> bool {
        let instance = self.instance.as_ref();
        self.edge == EdgeAdmission::Open
            && instance.is_some_and(|it| it.admission == Admission::Open)
    }

    /// What is not as the node was last told to be.
    pub fn drift(&self) -> Option<String> {
        let desired = &self.kept.desired;
        let differs = match (&self.instance, desired.wanted) {
            (None, Some(_)) => (desired.writing == Writing::Active).then_some("it does not run"),
            (Some(_), None) => Some("it runs, although it was halted"),
            (Some(instance), Some(code)) if instance.code != code => Some("other code runs"),
            (Some(instance), Some(_)) if instance.admission != desired.admission => {
                Some("it admits others")
            }
            (Some(instance), Some(_)) => {
                let frozen = instance.writing == Writing::Frozen;
                (frozen && desired.writing == Writing::Active).then_some("it is frozen")
            }
            (None, None) => None,
        };
        let proxy = (self.edge != edge_for(desired.admission)).then_some("the proxy");
        let distribution = (self.distributes != desired.distributes).then_some("distribution");
        differs.or(proxy).or(distribution).map(str::to_owned)
    }
}

/// What a proxy does while a node admits so much.
fn edge_for(admission: Admission) -> EdgeAdmission {
    match admission {
        Admission::Open => EdgeAdmission::Open,
        Admission::Closed | Admission::SideDoor => EdgeAdmission::Closed,
    }
}

impl World {
    /// The service of a node.
    pub fn service(&self, node: &NodeId) -> Option<&SimService> {
        self.nodes.get(node)?.service.as_ref()
    }

    /// The service of a node, to change.
    pub fn service_mut(&mut self, node: &NodeId) -> Result<&mut SimService, DriverError> {
        let missing = || DriverError::Missing { what: "a service on this node".to_owned() };
        self.node(node).service.as_mut().ok_or_else(missing)
    }

    /// Every service, with its node.
    pub fn services(&self) -> impl Iterator<Item = (&NodeId, &SimService)> {
        self.nodes.iter().filter_map(|(name, node)| Some((name, node.service.as_ref()?)))
    }

    /// The plan that changes the service, as the log has it.
    pub fn service_plan(&self) -> Option<&PlanState> {
        self.judge.plan(self.market.plan.as_ref()?)
    }

    /// What a node configures for processes that start now.
    fn configuration(&self, node: &NodeId) -> ConfigurationDigest {
        let other =
            self.service(node).is_some_and(|service| service.flaw == Some(Flaw::Configuration));
        let wrong = || ConfigurationDigest::new(sha256(&[b"another configuration"]));
        if other { wrong() } else { service::configuration() }
    }

    /// The layout with which code works.
    fn schema(&self, code: &Measurement) -> SchemaVersion {
        let Market { from, to, .. } = &self.market;
        SchemaVersion(if Some(code) == to.as_ref() && from != to { 2 } else { 1 })
    }

    /// Starts a process over the database as it is.
    pub fn start_service(
        &mut self,
        node: &NodeId,
        code: &Measurement,
        expected: Option<&Tip>,
    ) -> Result<(), DriverError> {
        let (schema, now) = (self.schema(code), self.now);
        let instance = self.new_instance(node, code)?;
        let service = self.service_mut(node)?;
        let database = service.kept.database();
        let loaded = database.chain.tip();
        if database.schema != schema {
            let (expected, found) = (format!("schema {schema}"), database.schema.to_string());
            return Err(DriverError::Unexpected { expected, found });
        }
        if let Some(expected) = expected.filter(|expected| **expected != loaded) {
            let (expected, found) = (expected.to_string(), loaded.to_string());
            return Err(DriverError::Unexpected { expected, found });
        }
        service.instance = Some(Instance { loaded, quiet_since: now, ..instance });
        self.note(|| format!("{node}: {code} starts at {loaded}"));
        Ok(())
    }

    /// An instance that has seen no data yet.
    pub fn new_instance(
        &mut self,
        node: &NodeId,
        code: &Measurement,
    ) -> Result<Instance, DriverError> {
        let staged = self.service_mut(node)?.kept.staged.contains(code);
        let Some(known) = self.code.get(code).copied().filter(|_| staged) else {
            return Err(DriverError::Missing { what: "the service's bundle".to_owned() });
        };
        let enclave = self.enclave(node, known).map_err(DriverError::Refused)?;
        let key = SigningKey::from_seed(Secret::new(*self.nonce().as_bytes()));
        Ok(Instance {
            code: *code,
            configuration: self.configuration(node),
            loaded: Tip { height: Height(0), id: BlockId::new([0; 32]) },
            writing: Writing::Active,
            admission: Admission::Closed,
            keyed: false,
            pending: Vec::new(),
            quiet_since: self.now,
            open_since: None,
            fork: None,
            key,
            enclave,
        })
    }

    /// What a running instance says of itself.
    fn service_status(&self, node: &NodeId, instance: &Instance) -> Option<ServiceStatus> {
        let service = self.service(node)?;
        let database = service.kept.database();
        let mut tip = database.chain.tip();
        if service.flaw == Some(Flaw::Lies) {
            tip.id = BlockId::new(sha256(&[b"a lie", tip.id.as_bytes()]));
        }
        let since = |moment: Moment| self.now.0.saturating_sub(moment.0);
        let quiet = instance.pending.is_empty().then(|| since(instance.quiet_since));
        Some(ServiceStatus {
            measurement: instance.code,
            instance: instance.key.public_key(),
            configuration: instance.configuration,
            schema: Some(database.schema),
            loaded: Some(instance.loaded),
            tip: Some(tip),
            writing: instance.writing,
            pending: u64::try_from(instance.pending.len()).unwrap_or(u64::MAX),
            admission: instance.admission,
            quiet_milliseconds: quiet.unwrap_or(0),
            peers: self.peers(node, instance),
            keys: keys(instance.keyed),
            fork: instance.fork,
            errors: 0,
            open_milliseconds: instance.open_since.map_or(0, since),
            waits_for: None,
        })
    }

    /// Who runs the same code with the same configuration, and can be reached.
    fn peers(&self, node: &NodeId, own: &Instance) -> Vec<PeerSeen> {
        let cut = |name: &NodeId| self.nodes.get(name).is_none_or(|it| it.partitioned);
        if cut(node) {
            return Vec::new();
        }
        let alike = |(name, service): (&NodeId, &SimService)| {
            let other = service.instance.as_ref()?;
            let same = other.code == own.code && other.configuration == own.configuration;
            (name != node && same && !cut(name)).then(|| PeerSeen {
                node: name.clone(),
                measurement: other.code,
                configuration: other.configuration,
            })
        };
        self.services().filter_map(alike).collect()
    }

    /// What a host shows of its service.
    pub fn service_observation(&self, node: &NodeId) -> Option<ServiceObservation> {
        let service = self.service(node)?;
        let instance = service.instance.as_ref();
        let running = instance.and_then(|it| self.service_status(node, it)).map(Box::new);
        let kept = &service.kept;
        let snapshots = kept.snapshots.iter().map(|(plan, chain)| (*plan, chain.tip()));
        Some(ServiceObservation {
            installed: Some(kept.installed),
            database_held: running.as_ref().map(|_| "its process".to_owned()),
            running,
            silent: BTreeSet::new(),
            edge: Some(service.edge),
            snapshots: snapshots.collect(),
            migrated: kept.live,
            exercised: kept.exercised.clone(),
            drift: service.drift(),
            under_way: service.job.map(|_| "a migration".to_owned()),
        })
    }

    /// What the running instance of this code states for a step.
    fn stated(
        &self,
        node: &NodeId,
        code: &Measurement,
        step: PlanStep,
    ) -> Result<Vec<u8>, DriverError> {
        let instance = self.service(node).and_then(|service| service.instance.as_ref());
        let down = || DriverError::Unknown("nothing runs".to_owned());
        let instance = instance.ok_or_else(down)?;
        if instance.code != *code {
            let (expected, found) = (code.to_string(), instance.code.to_string());
            return Err(DriverError::Unexpected { expected, found });
        }
        let status = self.service_status(node, instance).ok_or_else(down)?;
        Ok(self.signed(node, step, instance, status))
    }

    /// What code states that is tried without data.
    fn stated_in_trial(
        &mut self,
        node: &NodeId,
        code: &Measurement,
        step: PlanStep,
    ) -> Result<Vec<u8>, DriverError> {
        let instance = self.new_instance(node, code)?;
        let down = || DriverError::Unknown("nothing runs".to_owned());
        let status = self.service_status(node, &instance).ok_or_else(down)?;
        let (schema, loaded, tip) = (None, None, None);
        let peers = Vec::new();
        let status = ServiceStatus { schema, loaded, tip, peers, ..status };
        Ok(self.signed(node, step, &instance, status))
    }

    fn signed(
        &self,
        node: &NodeId,
        step: PlanStep,
        instance: &Instance,
        status: ServiceStatus,
    ) -> Vec<u8> {
        let standing = Standing {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            node: node.clone(),
            step,
            application: service::application(),
            measurement: status.measurement,
            configuration: status.configuration,
            schema: status.schema,
            loaded: status.loaded,
            tip: status.tip,
            writing: status.writing,
            pending: status.pending,
            admission: status.admission,
            quiet_milliseconds: status.quiet_milliseconds,
            peers: status.peers,
            keys: status.keys,
            fork: status.fork,
        };
        instance.attested(&standing)
    }

    /// Whether some keeper that this node reaches gives keys to applications.
    fn keys_are_given(&self, node: &NodeId) -> bool {
        let serves = |name: &NodeId| {
            self.nodes.get(name).is_some_and(|it| {
                let ready = |process: &crate::world::Process| {
                    process.keeper.state_at(self.now) == ServingState::Ready
                };
                it.processes.values().any(ready)
            })
        };
        let cut = |name: &NodeId| self.nodes.get(name).is_none_or(|it| it.partitioned);
        serves(node) || (!cut(node) && self.nodes.keys().any(|name| !cut(name) && serves(name)))
    }
}

/// The keys of the service, shown once it has them.
fn keys(keyed: bool) -> Vec<KeyShown> {
    let shown = |key: &str, custody| KeyShown {
        key: key.parse().expect("it is a name"),
        custody,
        public: keyed.then(|| service::public(key)),
    };
    vec![
        shown(service::KEYRING_KEY, KeyCustody::Keyring),
        shown(service::PER_BOOT_KEY, KeyCustody::PerBoot),
    ]
}
