//! Services: measured applications that run one instance on each node, and accept only their own
//! kind as peers. A flag day moves all of them to new code at once.

use minicbor::{Decode, Encode};

use crate::counter::Epoch;
use crate::digest::{
    ArtifactDigest, BlockId, ConfigurationDigest, DigestOf, NetworkId, PlanDigest, TermsDigest,
};
use crate::domain::{LogPosition, PlanStep};
use crate::identifier::{
    ApplicationId, DomainId, KeyId, MigrationName, NodeId, ReleaseName, TestName,
};
use crate::limit::PAYLOAD_BYTES_MAX;
use crate::measurement::Measurement;
use crate::plan::{Action, Placement, Plan, ServiceAction};
use crate::signature::PublicKey;
use crate::wire;

/// What a plan does with a service.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ServiceChange {
    /// Whose keys the service asks for.
    #[n(0)]
    pub application: ApplicationId,
    /// What runs before.
    #[n(1)]
    pub from: Placement,
    /// What runs after. The same measurement means that nothing but the host's side changes.
    #[n(2)]
    pub to: Placement,
    /// What the operators agree on, whatever the network.
    #[n(3)]
    pub terms: Terms,
    /// The epoch in which the window opens: nothing that clients notice happens before.
    #[n(4)]
    pub opens: Epoch,
    /// After this epoch the plan is called off by itself, unless it is past the point of no
    /// return.
    #[n(5)]
    pub abort_after: Epoch,
}

/// What operators agree on, and what a rehearsal on a test network shows: the same words there as
/// here, so it names no network and no measurement, which a network is part of.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Terms {
    /// The program before.
    #[n(0)]
    pub from: ProgramTerm,
    /// The program after.
    #[n(1)]
    pub to: ProgramTerm,
    /// What peers must have configured alike, before.
    #[n(2)]
    pub configuration_from: ConfigurationDigest,
    /// What peers must have configured alike, after.
    #[n(3)]
    pub configuration_to: ConfigurationDigest,
    /// The schema of the database, before.
    #[n(4)]
    pub schema_from: SchemaVersion,
    /// The schema of the database, after; never lower.
    #[n(5)]
    pub schema_to: SchemaVersion,
    /// The forward migrations, in the order in which they are applied.
    #[n(6)]
    pub migrations: Vec<MigrationName>,
    /// What is tried through the side door before clients are let in; never empty.
    #[n(7)]
    pub tests: Vec<TestName>,
    /// Every long-lived or replaceable key of the service, sorted by name.
    #[n(8)]
    pub keys: Vec<KeyTerm>,
    /// How long a service must have been quiet before it freezes.
    #[n(9)]
    pub quiet_milliseconds: u64,
    /// How long clients are watched before the event is closed.
    #[n(10)]
    pub watch_milliseconds: u64,
    /// Failed requests of a node that the watch tolerates.
    #[n(11)]
    pub errors_max: u64,
    /// The oldest client protocol that the new version serves.
    #[n(12)]
    pub clients_min: u32,
}

/// A program as every network knows it: what is measured around it names the network.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ProgramTerm {
    /// The name and version of its release.
    #[n(0)]
    pub release: ReleaseName,
    /// Its file, which is one of the release's artifacts.
    #[n(1)]
    pub program: ArtifactDigest,
}

/// A key of a service, and what keeps it alive.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct KeyTerm {
    /// Its name.
    #[n(0)]
    pub key: KeyId,
    /// What keeps it alive.
    #[n(1)]
    pub custody: KeyCustody,
}

/// What keeps a key of a service alive.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum KeyCustody {
    /// The domain's keyring: it must outlive every instance, with as many holders as the policy
    /// asks for.
    #[n(0)]
    Keyring,
    /// Nothing, said aloud: each start makes a new one, and whoever relies on it asks again.
    #[n(1)]
    PerBoot,
}

/// The version of a database's layout.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(transparent)]
pub struct SchemaVersion(#[n(0)] pub u32);

impl std::fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// How many blocks a ledger has. The block at height 1 is the first.
#[derive(Clone, Copy, Debug, Decode, Default, Encode, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[cbor(transparent)]
pub struct Height(#[n(0)] pub u64);

impl std::fmt::Display for Height {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// The end of a ledger, and through the id everything before it.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tip {
    /// How many blocks there are.
    #[n(0)]
    pub height: Height,
    /// The last one; all zero for none.
    #[n(1)]
    pub id: BlockId,
}

impl std::fmt::Display for Tip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.height, self.id)
    }
}

/// Whose work a service takes.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum Admission {
    /// Nobody's.
    #[n(0)]
    Closed,
    /// Only that of its own operator's tests.
    #[n(1)]
    SideDoor,
    /// That of clients.
    #[n(2)]
    Open,
}

impl Admission {
    /// The word that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::SideDoor => "side door",
            Self::Open => "open",
        }
    }
}

/// A peer that a service is connected to and has attested.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct PeerSeen {
    /// The node that it says it is.
    #[n(0)]
    pub node: NodeId,
    /// What its evidence says.
    #[n(1)]
    pub measurement: Measurement,
    /// What it has configured.
    #[n(2)]
    pub configuration: ConfigurationDigest,
}

/// What a service can show of one of its keys.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct KeyShown {
    /// Its name.
    #[n(0)]
    pub key: KeyId,
    /// What keeps it alive.
    #[n(1)]
    pub custody: KeyCustody,
    /// Its public half, once the service has the key.
    #[n(2)]
    pub public: Option<PublicKey>,
}

/// What a service says of itself, on the way through a plan. Attested.
///
/// In a freeze it says too that this very instance appends no block before its agent thaws it. An
/// agent may do so at any time, and the next instance knows nothing of it: what counts later is
/// that a launch is at the frozen tip.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Standing {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The domain whose keys it uses.
    #[n(1)]
    pub domain: DomainId,
    /// Where it runs.
    #[n(2)]
    pub node: NodeId,
    /// The step that asks.
    #[n(3)]
    pub step: PlanStep,
    /// Whose keys it asks for.
    #[n(4)]
    pub application: ApplicationId,
    /// The code, as it knows itself; the evidence must agree.
    #[n(5)]
    pub measurement: Measurement,
    /// What it has configured.
    #[n(6)]
    pub configuration: ConfigurationDigest,
    /// The schema of its database, if it has opened one.
    #[n(7)]
    pub schema: Option<SchemaVersion>,
    /// The end of its ledger when it opened it.
    #[n(8)]
    pub loaded: Option<Tip>,
    /// The end of its ledger now.
    #[n(9)]
    pub tip: Option<Tip>,
    /// Whether it appends nothing before it is thawed.
    #[n(10)]
    pub writing: Writing,
    /// Work that it accepted and has not finished.
    #[n(11)]
    pub pending: u64,
    /// Whose work it takes.
    #[n(12)]
    pub admission: Admission,
    /// For how long its tip has not moved and nothing was pending.
    #[n(13)]
    pub quiet_milliseconds: u64,
    /// Everybody that it is connected to as a peer, sorted by node.
    #[n(14)]
    pub peers: Vec<PeerSeen>,
    /// Every key that it has or makes, sorted by name.
    #[n(15)]
    pub keys: Vec<KeyShown>,
    /// Another block than its own, which a peer has at the height of one of its own.
    #[n(16)]
    pub fork: Option<Tip>,
}

/// Whether a service appends blocks.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum Writing {
    /// It takes part in consensus.
    #[n(0)]
    Active,
    /// It appends nothing before it is thawed.
    #[n(1)]
    Frozen,
}

/// An operator says that the same terms were carried out on a test network, to the end.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Rehearsal {
    /// The network for which it counts.
    #[n(0)]
    pub network: NetworkId,
    /// The terms.
    #[n(1)]
    pub terms: TermsDigest,
    /// The test network.
    #[n(2)]
    pub rehearsed_on: NetworkId,
    /// The plan that was finished there.
    #[n(3)]
    pub plan: PlanDigest,
    /// The log of the test network, in which everybody can see it.
    #[n(4)]
    pub seen: LogPosition,
}

/// An operator takes consent to a plan back. Once a step was carried out only an abort stops it.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Revocation {
    /// The network.
    #[n(0)]
    pub network: NetworkId,
    /// The plan.
    #[n(1)]
    pub plan: PlanDigest,
}

/// What an agent asks of its node's service, over a local socket. Nothing here is secret.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum ServiceRequest {
    /// How are you? Answered with [`ServiceResponse::Status`].
    #[n(0)]
    Status,
    /// Take this work from now on, and no other. Answered with [`ServiceResponse::Done`].
    #[n(1)]
    Admit(#[n(0)] Admission),
    /// If nothing is pending and the tip has not moved for so long, append nothing any more.
    /// Answered with [`ServiceResponse::Done`], or refused with what is not quiet yet.
    #[n(2)]
    Freeze {
        /// How long it must have been quiet.
        #[n(0)]
        quiet_milliseconds: u64,
    },
    /// Take part again. The agent says so when the plan is called off, and is not asked for a
    /// proof. Answered with [`ServiceResponse::Done`].
    #[n(3)]
    Thaw,
    /// Make a [`Standing`] for this step. Answered with [`ServiceResponse::Statement`].
    #[n(4)]
    State {
        /// The step.
        #[n(0)]
        step: PlanStep,
    },
    /// End the process in order. Answered with [`ServiceResponse::Done`].
    #[n(5)]
    Shutdown,
}

/// What a service answers its agent.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum ServiceResponse {
    /// It is done.
    #[n(0)]
    Done,
    /// Its status.
    #[n(1)]
    Status(#[n(0)] Box<ServiceStatus>),
    /// The encoding of a signed envelope, for the agent to sign and append to the log.
    #[n(2)]
    Statement(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// Not now; the same request may be answered differently a moment later.
    #[n(3)]
    NotYet {
        /// Why, for people.
        #[n(0)]
        reason: String,
    },
    /// No.
    #[n(4)]
    Refused {
        /// Why, for people.
        #[n(0)]
        reason: String,
    },
}

/// How a service is.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct ServiceStatus {
    /// Its code, as the platform says.
    #[n(0)]
    pub measurement: Measurement,
    /// The key that signs its statements; new with each start.
    #[n(1)]
    pub instance: PublicKey,
    /// What it has configured.
    #[n(2)]
    pub configuration: ConfigurationDigest,
    /// The schema of its database, if it has opened one.
    #[n(3)]
    pub schema: Option<SchemaVersion>,
    /// The end of its ledger when it opened it.
    #[n(4)]
    pub loaded: Option<Tip>,
    /// The end of its ledger now.
    #[n(5)]
    pub tip: Option<Tip>,
    /// Whether it appends blocks.
    #[n(6)]
    pub writing: Writing,
    /// Work that it accepted and has not finished.
    #[n(7)]
    pub pending: u64,
    /// Whose work it takes.
    #[n(8)]
    pub admission: Admission,
    /// For how long its tip has not moved and nothing was pending.
    #[n(9)]
    pub quiet_milliseconds: u64,
    /// Everybody that it is connected to as a peer, sorted by node.
    #[n(10)]
    pub peers: Vec<PeerSeen>,
    /// Every key that it has or makes, sorted by name.
    #[n(11)]
    pub keys: Vec<KeyShown>,
    /// Another block than its own, which a peer has at the height of one of its own.
    #[n(12)]
    pub fork: Option<Tip>,
    /// Requests of clients that it answered with an error of its own since clients were let in.
    #[n(13)]
    pub errors: u64,
    /// For how long clients have been let in.
    #[n(14)]
    pub open_milliseconds: u64,
    /// What it still waits for before it is ready, if anything, for people.
    #[n(15)]
    pub waits_for: Option<String>,
}

impl Terms {
    /// The digest that a rehearsal names.
    pub fn digest(&self) -> TermsDigest {
        TermsDigest::of(wire::encode(self).as_slice())
    }
}

impl ServiceChange {
    /// The configuration that code of this measurement must have.
    pub fn configuration_of(&self, measurement: &Measurement) -> ConfigurationDigest {
        if *measurement == self.to.measurement {
            self.terms.configuration_to
        } else {
            self.terms.configuration_from
        }
    }

    /// Whether the code that peers compare changes. If not, nobody needs a flag day.
    pub fn changes_code(&self) -> bool {
        self.from.measurement != self.to.measurement
    }
}

impl Plan {
    /// The step with which the service of a node freezes, if the plan freezes it.
    pub fn freeze_of(&self, node: &NodeId) -> Option<crate::plan::StepId> {
        let freezes = |step: &&crate::plan::Step| {
            step.node == *node && matches!(step.action, Action::Service(ServiceAction::Freeze(_)))
        };
        self.steps.iter().find(freezes).map(|step| step.id)
    }
}

wire! {
    Terms: "terms", 64 * 1024;
    Standing: "standing", 128 * 1024;
    Rehearsal: "rehearsal", 1024;
    Revocation: "revocation", 1024;
    ServiceRequest: "service request", 4 * 1024;
    ServiceResponse: "service response", PAYLOAD_BYTES_MAX;
}
