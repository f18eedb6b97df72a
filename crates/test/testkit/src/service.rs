//! What a service says of itself on the way through a plan, and what operators agree on about it.

use heirloom_model::counter::Epoch;
use heirloom_model::digest::{
    BlockId, ConfigurationDigest, NetworkId, PlanDigest, TermsDigest, sha256,
};
use heirloom_model::domain::{LogPosition, PlanStep};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{ApplicationId, NodeId};
use heirloom_model::plan::{Abort, Action, Placement, Plan, ServiceAction, StepId};
use heirloom_model::release::Release;
use heirloom_model::secret::Secret;
use heirloom_model::service::{
    Admission, Height, KeyCustody, KeyShown, KeyTerm, PeerSeen, ProgramTerm, Rehearsal, Revocation,
    SchemaVersion, ServiceChange, Standing, Terms, Tip, Writing,
};
use heirloom_model::signature::{PublicKey, SigningKey};

use crate::ceremony::Ceremony;

/// The application of every test service.
pub const APPLICATION: &str = "ledger";
/// Its key that must outlive every instance.
pub const KEYRING_KEY: &str = "ledger-signing";
/// Its key that each start makes anew.
pub const PER_BOOT_KEY: &str = "view-tls";

/// The end of a test ledger of so many blocks.
pub fn tip(height: u64) -> Tip {
    let id = BlockId::new(sha256(&[b"test block", &height.to_be_bytes()]));
    Tip { height: Height(height), id }
}

/// The configuration of every test service.
pub fn configuration() -> ConfigurationDigest {
    ConfigurationDigest::new(sha256(&[b"test configuration"]))
}

/// The public half of a key of the test service, whichever instance shows it.
pub fn public(key: &str) -> PublicKey {
    SigningKey::from_seed(Secret::new(sha256(&[b"test service key", key.as_bytes()]))).public_key()
}

/// How the releases of a service are placed: with the only measurement that they launch to.
///
/// # Panics
///
/// If the release launches to none.
pub fn placement(release: &Release) -> Placement {
    let measurement = release.measurements.first().expect("releases have a measurement");
    Placement { release: release.digest(), measurement: *measurement }
}

/// Terms that lead from one release to another, from schema 1 to 2 with one migration, with one
/// test, one key of each custody, and half a second of quiet.
pub fn terms(from: &Release, to: &Release) -> Terms {
    let program = |release: &Release| ProgramTerm {
        release: release.name.clone(),
        program: release.artifacts.first().expect("releases have artifacts").digest,
    };
    let key = |key: &str, custody| KeyTerm { key: name(key), custody };
    let changes = from.measurements != to.measurements;
    Terms {
        from: program(from),
        to: program(to),
        configuration_from: configuration(),
        configuration_to: configuration(),
        schema_from: SchemaVersion(1),
        schema_to: SchemaVersion(if changes { 2 } else { 1 }),
        migrations: if changes { vec![name("outputs-by-owner")] } else { Vec::new() },
        tests: vec![name("transfer")],
        keys: vec![key(KEYRING_KEY, KeyCustody::Keyring), key(PER_BOOT_KEY, KeyCustody::PerBoot)],
        quiet_milliseconds: 500,
        watch_milliseconds: 1_000,
        errors_max: 0,
        clients_min: 1,
    }
}

/// The change from one release to another, in a window.
pub fn change(from: &Release, to: &Release, opens: Epoch, abort_after: Epoch) -> ServiceChange {
    ServiceChange {
        application: application(),
        from: placement(from),
        to: placement(to),
        terms: terms(from, to),
        opens,
        abort_after,
    }
}

/// The application of every test service.
pub fn application() -> ApplicationId {
    name(APPLICATION)
}

/// What the service of a step's node states for this step if all is well: its ledger ends at
/// `tip`, where it froze if the plan freezes it.
///
/// # Panics
///
/// If the plan changes no service, has no such step, or the step asks for no statement.
pub fn standing(network: NetworkId, plan: &Plan, step: StepId, tip: Tip) -> Standing {
    let change = plan.service.as_ref().expect("the plan changes a service");
    let asking = plan.step(step).expect("tests name steps of their plans");
    let code = match &asking.action {
        Action::Service(
            ServiceAction::Equip(code)
            | ServiceAction::Muster(code)
            | ServiceAction::Freeze(code)
            | ServiceAction::Launch(code)
            | ServiceAction::Join(code)
            | ServiceAction::Watch(code),
        ) => code,
        other => panic!("step {step} ({}) asks for no statement", other.name()),
    };
    let schema = if code.measurement == change.to.measurement {
        change.terms.schema_to
    } else {
        change.terms.schema_from
    };
    let configuration = change.configuration_of(&code.measurement);
    let shown = |term: &KeyTerm| KeyShown {
        key: term.key.clone(),
        custody: term.custody,
        public: Some(public(term.key.as_str())),
    };
    let peer = |node: &NodeId| PeerSeen {
        node: node.clone(),
        measurement: code.measurement,
        configuration,
    };
    let others = plan.nodes.iter().filter(|node| **node != asking.node);
    let mut standing = Standing {
        network,
        domain: plan.domain,
        node: asking.node.clone(),
        step: PlanStep { plan: plan.digest(), step },
        application: change.application.clone(),
        measurement: code.measurement,
        configuration,
        schema: Some(schema),
        loaded: Some(tip),
        tip: Some(tip),
        writing: Writing::Active,
        pending: 0,
        admission: Admission::Closed,
        quiet_milliseconds: change.terms.quiet_milliseconds,
        peers: others.map(peer).collect(),
        keys: change.terms.keys.iter().map(shown).collect(),
        fork: None,
    };
    match &asking.action {
        // It is tried without data, and without keys.
        Action::Service(ServiceAction::Equip(_)) => {
            (standing.schema, standing.loaded, standing.tip) = (None, None, None);
            standing.peers.clear();
            standing.keys.iter_mut().for_each(|shown| shown.public = None);
        }
        Action::Service(ServiceAction::Muster(_) | ServiceAction::Watch(_)) => {
            standing.admission = Admission::Open;
        }
        Action::Service(ServiceAction::Freeze(_)) => standing.writing = Writing::Frozen,
        // Peers come later.
        Action::Service(ServiceAction::Launch(_)) => standing.peers.clear(),
        _ => {}
    }
    standing
}

impl Ceremony {
    /// The agent of a node calls off a plan with a service.
    pub fn abort_of_agent(&self, plan: PlanDigest, node: &NodeId, reason: &str) -> Envelope {
        let (node, reason) = (Some(node.clone()), Some(reason.to_owned()));
        let agent = self.agent_key(node.as_ref().expect("it was just made"));
        let abort = Abort { network: self.network, plan, node, reason };
        Envelope::signed(&abort, [&agent])
    }

    /// The operator of this index takes consent back.
    pub fn revocation(&self, plan: PlanDigest, operator: usize) -> Envelope {
        let revocation = Revocation { network: self.network, plan };
        Envelope::signed(&revocation, self.operator_keys.get(operator))
    }

    /// The operator of this index records that these terms were rehearsed on another network.
    pub fn rehearsal(&self, terms: TermsDigest, operator: usize) -> Envelope {
        let rehearsal = Rehearsal {
            network: self.network,
            terms,
            rehearsed_on: NetworkId::new(sha256(&[b"test rehearsal"])),
            plan: PlanDigest::new(sha256(&[b"test rehearsal plan"])),
            seen: LogPosition::START,
        };
        Envelope::signed(&rehearsal, self.operator_keys.get(operator))
    }
}

fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("it is a name")
}
