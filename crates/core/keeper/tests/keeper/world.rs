//! A network of three nodes with old and new code, a log, machines and disks.

use std::collections::BTreeMap;

use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_keeper::handover::DonorSession;
use heirloom_keeper::handshake::{Handshake, Peer};
use heirloom_keeper::intent::{Intent, StoredFile};
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_keeper::keeper::{Keeper, KeeperConfig};
use heirloom_keeper::port::{Platform, StateStore, StoreError};
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::admin::KeeperStatus;
use heirloom_model::counter::{Epoch, Generation, LogIndex, Moment, Serial};
use heirloom_model::digest::{Nonce, sha256};
use heirloom_model::domain::{Challenge, LogPosition};
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::SessionRole;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::{HolderRole, HolderRule, Policy};
use heirloom_model::protocol::{PeerRequest, PeerResponse};
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};
use heirloom_testkit::machine;

/// What the machines with a TPM boot.
pub(crate) const BOOT: &[u8] = b"boot";

pub(crate) struct World {
    pub(crate) ceremony: Ceremony,
    pub(crate) old: Code,
    pub(crate) new: Code,
    pub(crate) via: Code,
    pub(crate) application: Code,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) state: NetworkState,
    /// What the clocks of all machines show.
    pub(crate) now: Moment,
}

/// A node: a machine, a disk, and what runs there.
pub(crate) struct Node {
    pub(crate) name: NodeId,
    pub(crate) host: EmulatedHost,
    pub(crate) enclave: EmulatedEnclave,
    pub(crate) disk: Disk,
    pub(crate) keeper: Keeper,
}

/// A directory. The next `failures` operations fail.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) failures: u32,
    /// Operations so far.
    pub(crate) operations: u32,
    /// At which operation power fails, and whether the operation still takes effect.
    pub(crate) crash: Option<(u32, Crash)>,
}

/// On which side of an operation power fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Crash {
    Before,
    After,
}

impl World {
    /// Root, time, endorsements, fleet, and a policy that lets the old code hold, and give to the
    /// new code.
    pub(crate) fn new() -> Self {
        Self::of(Ceremony::new(&[7; 32]))
    }

    /// As [`Self::new`], some of whose machines have a TPM: the old code on them may hold too, and
    /// receive from the old code elsewhere.
    pub(crate) fn mixed(change: impl FnOnce(&mut Policy)) -> Self {
        let mut world = Self::of(Ceremony::mixed(&[7; 32]));
        let old = world.old;
        world.publish(2, |policy| {
            let there = old.on_tpm().measurement;
            let here = policy.holders.iter_mut().find(|rule| rule.measurement == old.measurement);
            let here = here.expect("the old code may hold");
            here.gives_to.push(there);
            let rule =
                HolderRule { measurement: there, gives_to: vec![old.measurement], ..here.clone() };
            policy.holders.push(rule);
            policy.holders.sort_by_key(|rule| rule.measurement);
            Ceremony::accept_tpm(policy, machine::rule(&machine::registers(BOOT)));
            change(policy);
        });
        world
    }

    fn of(ceremony: Ceremony) -> Self {
        let state = NetworkState::new(ceremony.network);
        let (old, new) = (Code::named("old", 2), Code::named("new", 3));
        let (via, application) = (Code::upgrader("via", 1), Code::application("wallet", 1));
        let (log, now) = (Vec::new(), Moment(1_000_000));
        let mut world = Self { ceremony, old, new, via, application, log, state, now };
        world.accept(&world.ceremony.root());
        world.accept(&world.ceremony.epoch(Epoch(1)));
        world.accept(&world.ceremony.endorsements());
        world.accept(&world.ceremony.fleet(Serial(1), world.ceremony.nodes(3)));
        world.accept(&world.ceremony.release("old-1", &old).0);
        world.accept(&world.ceremony.release("new-1", &new).0);
        world.accept(&world.ceremony.release("via-1", &via).0);
        world.publish(1, |_| {});
        world
    }

    /// Publishes the policy of a serial, changed in some way.
    pub(crate) fn publish(&mut self, serial: u64, change: impl FnOnce(&mut Policy)) {
        let (old, new) = (self.old, self.new);
        let mut policy = self.ceremony.policy_of(Serial(serial), &[old, new], &[(old, new)]);
        Ceremony::admit(&mut policy, "wallet", &self.application);
        change(&mut policy);
        self.accept(&self.ceremony.policy(&policy));
    }

    pub(crate) fn append(&mut self, envelope: &[u8]) -> Applied {
        let envelope = self.ceremony.countersigned(envelope);
        let entry = LogEntry::following(&self.state.position(), envelope);
        let applied = self.state.apply(&entry).unwrap();
        self.log.push(entry);
        applied
    }

    pub(crate) fn accept_bytes(&mut self, envelope: &[u8]) {
        let applied = self.append(envelope);
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
    }

    pub(crate) fn accept(&mut self, envelope: &Envelope) {
        self.accept_bytes(&wire::encode(envelope));
    }

    pub(crate) fn epoch(&mut self) {
        let next = self.state.epoch().next().unwrap();
        self.accept(&self.ceremony.epoch(next));
    }

    /// Orders a generation from a node and returns the order's nonce.
    pub(crate) fn order(&mut self, generation: u64, node: &Node) -> Nonce {
        let not_after = Epoch(self.state.epoch().0 + 5);
        self.accept(&self.ceremony.order(Generation(generation), &node.name, not_after));
        let domain = self.state.domain(&self.ceremony.domain).unwrap();
        domain.order().unwrap().order().nonce
    }

    /// Asks nodes for proofs and returns the challenge's nonce.
    pub(crate) fn challenge(&mut self, targets: &[&Node]) -> Nonce {
        let nonce = Nonce::new(sha256(&[b"challenge", &self.log.len().to_be_bytes()]));
        let mut targets: Vec<NodeId> = targets.iter().map(|node| node.name.clone()).collect();
        targets.sort();
        let verifier: NodeId = "node-3".parse().unwrap();
        let challenge = Challenge {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            nonce,
            verifier: verifier.clone(),
            targets,
            step: None,
            code: None,
        };
        self.accept(&Envelope::signed(&challenge, [&self.ceremony.agent_key(&verifier)]));
        nonce
    }

    /// A machine with an empty disk that runs this code.
    pub(crate) fn node(&self, number: u8, code: &Code) -> Node {
        let host = EmulatedHost::from_seed(&self.ceremony.manufacturer, &[number; 32]);
        let name: NodeId = format!("node-{number}").parse().unwrap();
        self.seat(&name, &host, code, Disk::default(), 0)
    }

    /// Another seat of a node: its own disk, the same machine. `start` tells starts apart.
    pub(crate) fn seat(
        &self,
        name: &NodeId,
        host: &EmulatedHost,
        code: &Code,
        disk: Disk,
        start: u64,
    ) -> Node {
        let (name, host) = (name.clone(), host.clone());
        let enclave = launch(&host, code, LaunchMode::Production, start);
        let config = self.config(&name, code);
        let keeper = Keeper::start(config, &enclave, &disk.stored()).unwrap();
        Node { name, host, enclave, disk, keeper }
    }

    /// An application is started as if it were a keeper: nothing in it holds.
    pub(crate) fn config(&self, node: &NodeId, code: &Code) -> KeeperConfig {
        let role = code.kind.role().unwrap_or(HolderRole::Keeper);
        let (network, domain) = (self.ceremony.network, self.ceremony.domain);
        KeeperConfig { network, domain, node: node.clone(), role }
    }

    /// Stops what runs on a node and starts this code with what is on disk.
    pub(crate) fn restart(&self, node: &mut Node, code: &Code) {
        self.restart_as(node, code, LaunchMode::Production);
    }

    pub(crate) fn restart_as(&self, node: &mut Node, code: &Code, mode: LaunchMode) {
        let generation = u64::try_from(self.log.len()).unwrap();
        node.enclave = launch(&node.host, code, mode, generation);
        let config = self.config(&node.name, code);
        node.keeper = Keeper::start(config, &node.enclave, &node.disk.stored()).unwrap();
    }

    /// Feeds a node everything that it has not seen.
    pub(crate) fn feed(&self, node: &mut Node) {
        let LogIndex(seen) = node.keeper.position().length;
        let rest = self.log[usize::try_from(seen).unwrap()..].to_vec();
        let ticket = node.keeper.attend(self.now);
        let intent = node.keeper.follow(&node.enclave, &rest, Some(ticket), self.now).unwrap();
        let position: LogPosition = node.carry_out(intent);
        assert_eq!(position, self.state.position());
    }

    /// A session between two nodes: how the second sees the first, and the first the second.
    pub(crate) fn session(&self, from: &mut Node, to: &mut Node) -> (Peer, Peer) {
        let exporter = sha256(&[from.name.as_str().as_bytes(), to.name.as_str().as_bytes()]);
        self.session_over(from, to, exporter)
    }

    /// As [`Self::session`], over a channel of its own.
    pub(crate) fn session_over(
        &self,
        from: &mut Node,
        to: &mut Node,
        exporter: [u8; 32],
    ) -> (Peer, Peer) {
        let side = |node: &Node, role, nonce: u8| {
            let key = node.keeper.instance().public_key();
            let (network, domain) = (self.ceremony.network, self.ceremony.domain);
            Handshake::new(role, network, domain, Nonce::new([nonce; 32]), key, exporter)
        };
        let initiator = side(from, SessionRole::Initiator, 1);
        let responder = side(to, SessionRole::Responder, 2);
        let as_of = from.keeper.position();
        let of_initiator =
            initiator.introduction(&responder.hello(), &from.enclave, as_of).unwrap();
        let of_responder = responder.introduction(&initiator.hello(), &to.enclave, as_of).unwrap();
        let (from_key, to_key) =
            (from.keeper.instance().public_key(), to.keeper.instance().public_key());
        let network = to.keeper.network_for_appraisal();
        let seen_from =
            responder.authenticate(&initiator.hello(), &from_key, &of_initiator, network).unwrap();
        let network = from.keeper.network_for_appraisal();
        let seen_to =
            initiator.authenticate(&responder.hello(), &to_key, &of_responder, network).unwrap();
        (seen_from, seen_to)
    }

    /// Node 1 creates a generation, node 2 receives it, both say so, everybody hears of it.
    pub(crate) fn rotate(&mut self, generation: u64, one: &mut Node, two: &mut Node) {
        let order = self.order(generation, one);
        self.feed(one);
        let intent = one.keeper.create_generation(&one.enclave, order).unwrap();
        let receipt = one.carry_out(intent);
        self.accept_bytes(&receipt);
        self.feed(one);
        self.feed(two);
        let receipt = self.receive(order, one, two).unwrap();
        self.accept_bytes(&receipt);
        self.feed(one);
        self.feed(two);
    }

    /// Node `to` receives the proposal of an order from node `from`.
    pub(crate) fn receive(
        &self,
        order: Nonce,
        from: &mut Node,
        to: &mut Node,
    ) -> Result<Vec<u8>, KeeperError> {
        let (initiator, responder) = self.session(to, from);
        let request = PeerRequest::ReplicateProposed { order };
        let sent = match from.serve(&initiator, &request) {
            PeerResponse::Generations(sent) => sent,
            PeerResponse::Refused(refusal) => panic!("{refusal}"),
            PeerResponse::Key(_) | PeerResponse::HandoverChallenge(_) => panic!("another answer"),
        };
        let intent = to.keeper.accept_proposed(&to.enclave, &responder, order, &sent[0])?;
        Ok(to.carry_out(intent))
    }

    /// Node `to` receives everything that it misses from node `from`, and says how often it
    /// asked.
    pub(crate) fn replicate(&self, from: &mut Node, to: &mut Node) -> usize {
        let (initiator, responder) = self.session(to, from);
        let mut asked = 0;
        while let Some(request) = to.keeper.replication_next() {
            let PeerResponse::Generations(sent) = from.serve(&initiator, &request.message()) else {
                panic!("the donor refuses")
            };
            let intent = to.keeper.accept_generations(&to.enclave, &responder, &sent).unwrap();
            to.carry_out(intent);
            asked += 1;
        }
        asked
    }
}

impl Node {
    /// Makes an intent durable and completes it.
    pub(crate) fn carry_out<T>(&mut self, intent: Intent<T>) -> T {
        let receipt = intent.persist(&mut self.disk).unwrap();
        self.keeper.complete(intent, receipt)
    }

    /// What it says about itself at the latest moment that it was told.
    pub(crate) fn status(&self) -> KeeperStatus {
        self.keeper.status(Moment(0))
    }

    /// Answers at the latest moment that it was told.
    pub(crate) fn serve(&self, peer: &Peer, request: &PeerRequest) -> PeerResponse {
        self.keeper.serve(peer, request, Moment(0))
    }

    /// Answers in a session that may hand over, at the latest moment that it was told.
    pub(crate) fn converse(
        &self,
        peer: &Peer,
        session: &mut DonorSession,
        request: &PeerRequest,
    ) -> PeerResponse {
        self.keeper.converse(&self.enclave, peer, session, request, Moment(0))
    }

    pub(crate) fn identity(&self) -> heirloom_keeper::port::PlatformIdentity {
        self.enclave.identity().unwrap()
    }
}

impl Disk {
    pub(crate) fn stored(&self) -> Vec<StoredFile> {
        let file = |(name, bytes): (&String, &Vec<u8>)| StoredFile {
            name: name.clone(),
            bytes: bytes.clone(),
        };
        self.files.iter().map(file).collect()
    }

    pub(crate) fn names(&self, prefix: &str) -> Vec<&str> {
        self.files.keys().map(String::as_str).filter(|name| name.starts_with(prefix)).collect()
    }

    fn operate(
        &mut self,
        name: &str,
        operation: impl FnOnce(&mut BTreeMap<String, Vec<u8>>),
    ) -> Result<(), StoreError> {
        let failed = || Err(StoreError::Full { file: name.to_owned() });
        if self.failures > 0 {
            self.failures -= 1;
            return failed();
        }
        self.operations += 1;
        match self.crash {
            Some((at, Crash::Before)) if at < self.operations => failed(),
            Some((at, Crash::After)) if at + 1 < self.operations => failed(),
            Some((at, Crash::After)) if at < self.operations => {
                operation(&mut self.files);
                failed()
            }
            Some(_) | None => {
                operation(&mut self.files);
                Ok(())
            }
        }
    }
}

impl StateStore for Disk {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.operate(name, |files| {
            files.insert(name.to_owned(), bytes.to_vec());
        })
    }

    fn remove(&mut self, name: &str) -> Result<(), StoreError> {
        self.operate(name, |files| {
            files.remove(name);
        })
    }
}

pub(crate) fn launch(
    host: &EmulatedHost,
    code: &Code,
    mode: LaunchMode,
    start: u64,
) -> EmulatedEnclave {
    launch_as(host, secs(code, mode), start)
}

/// What this code is launched as.
pub(crate) fn secs(code: &Code, mode: LaunchMode) -> Secs {
    let Measurement::Sgx(measurement) = code.measurement else { panic!("it is of the kind SGX") };
    Secs {
        measurement,
        signer: CODE_SIGNER,
        product_id: 0,
        isv_svn: u16::try_from(code.security_version.0).unwrap(),
        attributes: mode.attributes(),
        misc_select: 0,
    }
}

pub(crate) fn launch_as(host: &EmulatedHost, secs: Secs, start: u64) -> EmulatedEnclave {
    let measurement = secs.measurement;
    // Random enough for a test: no two calls on one machine give the same.
    let (mut count, platform) = (0_u64, host.platform());
    host.launch(
        secs,
        Box::new(move |bytes: &mut [u8]| {
            for chunk in bytes.chunks_mut(32) {
                count += 1;
                let parts = [start.to_be_bytes(), count.to_be_bytes()].concat();
                let block = sha256(&[platform.as_bytes(), measurement.as_bytes(), &parts]);
                chunk.copy_from_slice(&block[..chunk.len()]);
            }
        }),
    )
}
