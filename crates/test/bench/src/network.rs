//! A network whose log is in this process, made from a seed: every process makes the same one.

use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_launcher::randomness::system_randomness;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::counter::{Epoch, Generation, Serial};
use heirloom_model::digest::Nonce;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};

/// The name of the application that may ask for keys.
pub(crate) const APPLICATION: &str = "wallet";

/// A network, its log, and what the log says.
pub(crate) struct Network {
    pub(crate) ceremony: Ceremony,
    /// Code that holds keys first.
    pub(crate) old: Code,
    /// Code that receives them.
    pub(crate) new: Code,
    /// Code that asks for them.
    pub(crate) application: Code,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) state: NetworkState,
}

impl Network {
    /// Root, epoch, endorsements, one node, two releases, and a policy that one holder satisfies.
    pub(crate) fn new() -> Self {
        let ceremony = Ceremony::new(&[0xbe; 32]);
        let (old, new) = (Code::named("old", 2), Code::named("new", 3));
        let application = Code::named(APPLICATION, 1);
        let state = NetworkState::new(ceremony.network);
        let mut network = Self { ceremony, old, new, application, log: Vec::new(), state };
        network.accept(&network.ceremony.root());
        network.accept(&network.ceremony.epoch(Epoch(1)));
        network.accept(&network.ceremony.endorsements());
        network.accept(&network.ceremony.fleet(Serial(1), network.ceremony.nodes(1)));
        network.accept(&network.ceremony.release("old-1", &old).0);
        network.accept(&network.ceremony.release("new-1", &new).0);
        let mut policy = network.ceremony.policy_of(Serial(1), &[old, new], &[(old, new)]);
        policy.holders_min = 1;
        Ceremony::admit(&mut policy, APPLICATION, &application);
        network.accept(&network.ceremony.policy(&policy));
        network
    }

    /// Appends a statement.
    pub(crate) fn accept(&mut self, envelope: &Envelope) {
        self.accept_bytes(&wire::encode(envelope));
    }

    /// Appends a statement as it was sent.
    pub(crate) fn accept_bytes(&mut self, envelope: &[u8]) {
        let envelope = self.ceremony.countersigned(envelope);
        let entry = LogEntry::following(&self.state.position(), envelope);
        let applied = self.state.apply(&entry).expect("an entry follows its position");
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
        self.log.push(entry);
    }

    /// Orders a generation of `node`, and returns the order's nonce.
    pub(crate) fn order(&mut self, generation: Generation, node: &NodeId) -> Nonce {
        let not_after = Epoch(self.state.epoch().0.saturating_add(5));
        self.accept(&self.ceremony.order(generation, node, not_after));
        let domain = self.state.domain(&self.ceremony.domain).expect("the domain has a policy");
        domain.order().expect("it was ordered just now").order().nonce
    }

    /// An enclave with some code on a machine of its own.
    pub(crate) fn enclave(&self, machine: u8, code: &Code) -> EmulatedEnclave {
        let host = EmulatedHost::from_seed(&self.ceremony.manufacturer, &[machine; 32]);
        let Measurement::Sgx(measurement) = code.measurement else {
            panic!("it is of the kind SGX")
        };
        let secs = Secs {
            measurement,
            signer: CODE_SIGNER,
            product_id: 0,
            isv_svn: u16::try_from(code.security_version.0).expect("test code has small versions"),
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        host.launch(secs, system_randomness())
    }
}

/// The name of the node with this number.
pub(crate) fn node_name(number: u8) -> NodeId {
    format!("node-{number}").parse().expect("it is a name")
}
