//! A network in this process: a log, a directory, and holders that answer from a script.

mod holder;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use heirloom_client::client::Client;
use heirloom_client::port::Presence;
use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::admin::Source;
use heirloom_model::counter::{Epoch, Generation, LogIndex, Serial};
use heirloom_model::digest::{Checksum, sha256};
use heirloom_model::domain::{
    Activation, ActivationCause, GenerationReceipt, HoldingOrigin, LogPosition,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::Policy;
use heirloom_model::protocol::{KeyKind, KeyPart, KeyPeriod, KeyRequest};
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};

pub(crate) use holder::{Holder, Script, key_of, serve};

pub(crate) const APPLICATION: &str = "wallet";
/// Where it runs.
const WALLET_MACHINE: u8 = 100;
/// Of the keyring that every holder of an exclusive domain says that it has.
const CHECKSUM: Checksum = Checksum::new([5; 32]);

/// A network whose policy lets the keeper's code hold, and the wallet's code ask.
pub(crate) struct Network {
    pub(crate) ceremony: Ceremony,
    pub(crate) keeper: Code,
    pub(crate) wallet: Code,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) directory: Arc<Directory>,
}

impl Network {
    pub(crate) fn new() -> Self {
        let network = Self::without_policy();
        network.publish(&network.ceremony.policy(&network.policy(Serial(1))));
        network
    }

    /// A network whose domain is exclusive, and whose node-1 has made the first key. Nobody is
    /// active yet.
    pub(crate) fn exclusive() -> Self {
        let network = Self::without_policy();
        let mut policy = network.policy(Serial(1));
        let machines = [1, 2, WALLET_MACHINE].map(|number| network.machine(number).platform());
        Ceremony::make_exclusive(&mut policy, machines.to_vec());
        network.publish(&network.ceremony.policy(&policy));
        let node: NodeId = "node-1".parse().unwrap();
        let (generation, not_after) = (Generation(0), Epoch(9));
        network.publish(&network.ceremony.order(generation, &node, not_after));
        let state = network.state();
        let order = state.domain(&network.ceremony.domain).unwrap().order().unwrap();
        let receipt = GenerationReceipt {
            network: network.ceremony.network,
            domain: network.ceremony.domain,
            node,
            order: order.order().nonce,
            generation,
            checksum: CHECKSUM,
        };
        let maker = Holder::start(&network, (1, 99), network.keeper, serve);
        network.publish(&maker.attest(&network, &receipt));
        network
    }

    /// An instance on node-1 that nobody knows of yet. `seed` makes its identity key.
    pub(crate) fn instance(&self, seed: u8, script: Script) -> Holder {
        Holder::start(self, (1, seed), self.keeper, script)
    }

    /// The log names this instance as the active one, from now on.
    pub(crate) fn activate(&self, holder: &Holder, cause: ActivationCause) {
        let activation = Activation {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            node: holder.source().node,
            cause,
            generation: Generation(0),
            checksum: CHECKSUM,
            origin: HoldingOrigin::Recovered,
            as_of: self.state().position(),
        };
        self.publish(&holder.attest(self, &activation));
        // That it was accepted.
        self.state();
    }

    pub(crate) fn without_policy() -> Self {
        let network = Self {
            ceremony: Ceremony::new(&[7; 32]),
            keeper: Code::named("keeper", 1),
            wallet: Code::application("wallet", 1),
            log: Arc::default(),
            directory: Arc::default(),
        };
        network.publish(&network.ceremony.root());
        network.publish(&network.ceremony.epoch(Epoch(1)));
        network.publish(&network.ceremony.endorsements());
        network.publish(&network.ceremony.fleet(Serial(1), network.ceremony.nodes(2)));
        network
    }

    pub(crate) fn policy(&self, serial: Serial) -> Policy {
        let mut policy = self.ceremony.policy_of(serial, &[self.keeper], &[]);
        Ceremony::admit(&mut policy, APPLICATION, &self.wallet);
        policy
    }

    pub(crate) fn publish(&self, envelope: &Envelope) {
        let head = self.log.head().unwrap();
        self.log.append(head.length, &wire::encode(envelope)).unwrap();
    }

    /// The state that the log gives now.
    pub(crate) fn state(&self) -> NetworkState {
        let mut state = NetworkState::new(self.ceremony.network);
        for entry in self.log.read(LogIndex(0), usize::MAX).unwrap() {
            let applied = state.apply(&entry).unwrap();
            let accepted = matches!(applied, heirloom_registry::network::Applied::Accepted(_));
            assert!(accepted, "{applied:?}");
        }
        state
    }

    fn machine(&self, number: u8) -> EmulatedHost {
        EmulatedHost::from_seed(&self.ceremony.manufacturer, &[number; 32])
    }

    /// Launches code on a machine of its own.
    pub(crate) fn launch(&self, machine: u8, code: Code) -> EmulatedEnclave {
        let host = self.machine(machine);
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
        let mut count = 0_u64;
        let randomness = move |bytes: &mut [u8]| {
            for chunk in bytes.chunks_mut(32) {
                count += 1;
                let block = sha256(&[&[machine], &count.to_be_bytes()]);
                chunk.copy_from_slice(&block[..chunk.len()]);
            }
        };
        host.launch(secs, Box::new(randomness))
    }

    /// Starts a holder and makes it known.
    pub(crate) fn holder(&self, machine: u8, script: Script) -> Holder {
        self.holder_of(machine, self.keeper, script)
    }

    /// Starts a holder that runs some other code.
    pub(crate) fn holder_of(&self, machine: u8, code: Code, script: Script) -> Holder {
        let holder = Holder::start(self, (machine, machine), code, script);
        self.directory.0.lock().unwrap().push(holder.source());
        holder
    }

    pub(crate) fn client(&self) -> Client {
        self.client_of(self.wallet)
    }

    pub(crate) fn client_of(&self, code: Code) -> Client {
        self.client_with(code, Duration::from_millis(500))
    }

    /// A client that leaves a holder as much time as it likes.
    pub(crate) fn patient_client(&self) -> Client {
        self.client_with(self.wallet, Duration::from_secs(20))
    }

    fn client_with(&self, code: Code, attempt_time: Duration) -> Client {
        let application = APPLICATION.parse().unwrap();
        Client::builder(self.ceremony.network, self.ceremony.domain, application)
            .attempt_time(attempt_time)
            .start(
                Box::new(self.launch(WALLET_MACHINE, code)),
                Arc::clone(&self.log) as Arc<dyn LogStore>,
                Arc::clone(&self.directory) as Arc<dyn Presence>,
            )
            .unwrap()
    }
}

/// The request for the wallet's key of a name.
pub(crate) fn request(key: usize) -> KeyRequest {
    KeyRequest {
        application: APPLICATION.parse().unwrap(),
        key: format!("key-{key}").parse().unwrap(),
        kind: KeyKind::ALL[key % KeyKind::ALL.len()],
        period: KeyPeriod::Newest,
        part: KeyPart::Private,
    }
}

/// Long enough that only a fault reaches it.
pub(crate) fn ample() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Just long enough to try what is known.
pub(crate) fn short() -> Instant {
    Instant::now() + Duration::from_millis(700)
}

/// A log in memory.
#[derive(Default)]
pub(crate) struct MemoryLog {
    entries: Mutex<Vec<LogEntry>>,
    grown: Condvar,
    /// How far whoever follows has come.
    followed: Mutex<LogIndex>,
    advanced: Condvar,
}

impl MemoryLog {
    /// Waits until everything has been followed.
    pub(crate) fn wait_for_follower(&self) {
        let LogPosition { length, .. } = self.head().unwrap();
        let (followed, patience) = (self.followed.lock().unwrap(), Duration::from_secs(20));
        let behind = |followed: &mut LogIndex| *followed < length;
        let (followed, _) = self.advanced.wait_timeout_while(followed, patience, behind).unwrap();
        assert_eq!(*followed, length, "nobody follows the log");
    }
}

impl LogStore for MemoryLog {
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError> {
        let head = self.head().unwrap();
        assert_eq!(head.length, expected);
        let entry = LogEntry::following(&head, envelope.to_vec());
        self.entries.lock().unwrap().push(entry);
        self.grown.notify_all();
        Ok(self.head().unwrap())
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        Ok(head(&self.entries.lock().unwrap()))
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let from = usize::try_from(from.0).unwrap();
        Ok(self.entries.lock().unwrap().iter().skip(from).take(max).cloned().collect())
    }

    fn watch(&self, from: LogIndex, timeout: Duration) -> Result<LogPosition, ReadError> {
        *self.followed.lock().unwrap() = from;
        self.advanced.notify_all();
        let short = |entries: &mut Vec<LogEntry>| head(entries).length <= from;
        let entries = self.entries.lock().unwrap();
        let (entries, _) = self.grown.wait_timeout_while(entries, timeout, short).unwrap();
        Ok(head(&entries))
    }
}

fn head(entries: &[LogEntry]) -> LogPosition {
    entries.last().map_or(LogPosition::START, |last| LogPosition {
        length: last.index.next().unwrap(),
        head: last.hash(),
    })
}

/// Who is where, and how often somebody asked.
#[derive(Default)]
pub(crate) struct Directory(pub(crate) Mutex<Vec<Source>>, pub(crate) AtomicUsize);

impl Presence for Directory {
    fn sources(&self, _: &DomainId) -> Result<Vec<Source>, ReadError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Ok(self.0.lock().unwrap().clone())
    }
}
