//! A whole network in one value: keys, root, fleet, releases and policies, made from a seed.
//!
//! What a ceremony makes is ordinary signed statements; nothing that reads them knows that they
//! come from a test.

use heirloom_emulated::provisioning::DevelopmentRoot;
use heirloom_model::appraisal::TpmRule;
use heirloom_model::counter::{Epoch, Generation, SecurityVersion, Serial, Time};
use heirloom_model::digest::{
    ArtifactDigest, DigestOf, JournalHash, NetworkId, Nonce, PlanDigest, ReleaseDigest, sha256,
};
use heirloom_model::domain::{
    Activation, Challenge, EpochStart, GenerationOrder, GenerationReceipt, PlanStep,
    PossessionProof, Registration, Suspension,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::TrustAnchor;
use heirloom_model::fleet::{Fleet, Node, OperatorKey};
use heirloom_model::identifier::{DomainId, NodeId, OperatorId, PlatformId};
use heirloom_model::measurement::{LaunchedCode, Measurement, MrEnclave, MrSigner};
use heirloom_model::plan::{
    Abort, Action, Approval, Plan, Proposal, StepId, StepOutcome, StepResult,
};
use heirloom_model::policy::{
    ApplicationRule, AppraisalPolicy, HolderRole, HolderRule, KeyScope, PlatformRule, Policy,
    Sharing, TcbLevel, UpdateMode,
};
use heirloom_model::release::{Artifact, Release, ReleaseKind};
use heirloom_model::root::{Role, RoleKeys, Root};
use heirloom_model::secret::Secret;
use heirloom_model::service::Standing;
use heirloom_model::signature::SigningKey;
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;

use crate::machine::AttestationCa;

/// When every ceremony takes place: 2026-11-20T00:00:00Z.
pub const BEGINNING: Time = Time(1_795_132_800);
/// How long everything that a ceremony signs is good for: a year.
pub const VALID_SECONDS: u64 = 365 * 86_400;
/// How long one epoch of a test network lasts.
pub const EPOCH_SECONDS: u64 = 60;

/// The keys and the statements of one network.
pub struct Ceremony {
    /// The manufacturer of its machines.
    pub manufacturer: DevelopmentRoot,
    /// Certifies its machines with a TPM, if its root names it.
    pub attestation_ca: AttestationCa,
    /// The network.
    pub network: NetworkId,
    /// Its only domain.
    pub domain: DomainId,
    /// Sign roots; two of three.
    pub root_keys: Vec<SigningKey>,
    /// Sign releases; two of three.
    pub release_keys: Vec<SigningKey>,
    /// Sign policies; two of three.
    pub policy_keys: Vec<SigningKey>,
    /// Propose, approve, order; two of three.
    pub operator_keys: Vec<SigningKey>,
    /// Advances epochs; one of one.
    pub timekeeper: SigningKey,
    root: Envelope,
}

/// How many operators there are, each with a key.
const OPERATORS: usize = 3;
/// How many epochs upgraders of test networks keep their copies, unless a test says otherwise.
pub const FORGET_AFTER_EPOCHS: u32 = 2;

/// Code of a test network: a measurement without a binary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Code {
    /// What it measures.
    pub measurement: Measurement,
    /// Its security version.
    pub security_version: SecurityVersion,
    /// What it is for.
    pub kind: ReleaseKind,
}

/// Who signs all code of test networks.
pub const CODE_SIGNER: MrSigner = MrSigner::new([0x51; 32]);

impl Code {
    /// The keeper of a name: other names are other code.
    pub fn named(name: &str, security_version: u64) -> Self {
        let digest = sha256(&[b"test code", name.as_bytes()]);
        Self {
            measurement: Measurement::Sgx(MrEnclave::new(digest)),
            security_version: SecurityVersion(security_version),
            kind: ReleaseKind::Keeper,
        }
    }

    /// The upgrader of a name.
    pub fn upgrader(name: &str, security_version: u64) -> Self {
        Self { kind: ReleaseKind::Upgrader, ..Self::named(name, security_version) }
    }

    /// The application of a name.
    pub fn application(name: &str, security_version: u64) -> Self {
        Self { kind: ReleaseKind::Application, ..Self::named(name, security_version) }
    }

    /// What its release is on machines with a TPM: there it measures something else.
    #[must_use]
    pub fn on_tpm(self) -> Self {
        match self.measurement {
            Measurement::Tpm(_) => self,
            other => {
                let other = other.to_string();
                let digest = sha256(&[b"test code on a TPM", other.as_bytes()]);
                Self { measurement: Measurement::Tpm(LaunchedCode::new(digest)), ..self }
            }
        }
    }

    /// What a policy lets it do with a keyring.
    fn role(&self) -> HolderRole {
        match self.kind {
            ReleaseKind::Keeper => HolderRole::Keeper,
            ReleaseKind::Upgrader => HolderRole::Upgrader,
            ReleaseKind::Application => panic!("applications hold no keyring"),
        }
    }
}

fn operator_name(index: usize) -> OperatorId {
    format!("operator-{index}").parse().expect("it is a name")
}

impl Ceremony {
    /// The network of a seed, all of whose machines are of one manufacturer.
    pub fn new(seed: &[u8; 32]) -> Self {
        Self::trusting(seed, |manufacturer, _| vec![manufacturer.anchor()])
    }

    /// The network of a seed, some of whose machines have a TPM.
    pub fn mixed(seed: &[u8; 32]) -> Self {
        Self::trusting(seed, |manufacturer, ca| vec![manufacturer.anchor(), ca.anchor()])
    }

    fn trusting(
        seed: &[u8; 32],
        anchors: impl FnOnce(&DevelopmentRoot, &AttestationCa) -> Vec<TrustAnchor>,
    ) -> Self {
        let keys = |purpose: &str, count: u8| -> Vec<SigningKey> {
            (0..count).map(|index| key(seed, purpose, index)).collect()
        };
        let manufacturer =
            DevelopmentRoot::from_seed(&sha256(&[b"test manufacturer", seed]), BEGINNING);
        let attestation_ca =
            AttestationCa::from_seed(&sha256(&[b"test attestation CA", seed]), BEGINNING);
        let mut anchors = anchors(&manufacturer, &attestation_ca);
        anchors.sort();
        let (root_keys, release_keys) = (keys("root", 3), keys("release", 3));
        let (policy_keys, operator_keys) = (keys("policy", 3), keys("operator", 3));
        let timekeeper = key(seed, "timekeeper", 0);
        let role = |role, keys: &[SigningKey], threshold| {
            let mut keys: Vec<_> = keys.iter().map(SigningKey::public_key).collect();
            keys.sort();
            RoleKeys { role, keys, threshold }
        };
        let root = Root {
            network: None,
            serial: Serial(1),
            roles: vec![
                role(Role::Root, &root_keys, 2),
                role(Role::Release, &release_keys, 2),
                role(Role::Policy, &policy_keys, 2),
                role(Role::Operator, &operator_keys, 2),
                role(Role::Timekeeper, std::slice::from_ref(&timekeeper), 1),
            ],
            anchors,
            not_after: BEGINNING.after(VALID_SECONDS),
        };
        let root = Envelope::signed(&root, root_keys.iter().take(2));
        Self {
            network: NetworkId::of(root.payload.as_slice()),
            domain: DomainId::new(sha256(&[b"test domain", seed])),
            manufacturer,
            attestation_ca,
            root_keys,
            release_keys,
            policy_keys,
            operator_keys,
            timekeeper,
            root,
        }
    }

    /// The first root.
    pub fn root(&self) -> Envelope {
        self.root.clone()
    }

    /// The root that follows, with the same keys.
    pub fn next_root(&self, serial: Serial) -> Envelope {
        let first: Root = self.root.unverified().expect("a ceremony makes well-formed roots");
        let next = Root { network: Some(self.network), serial, ..first };
        Envelope::signed(&next, self.root_keys.iter().take(2))
    }

    /// An epoch, at the time that it has in every test network.
    pub fn epoch(&self, epoch: Epoch) -> Envelope {
        let time = BEGINNING.after(epoch.0.saturating_mul(EPOCH_SECONDS));
        let start = EpochStart { network: self.network, epoch, time };
        Envelope::signed(&start, [&self.timekeeper])
    }

    /// The manufacturer's endorsements, handed in by an operator.
    pub fn endorsements(&self) -> Envelope {
        let endorsements = self.manufacturer.endorsements(BEGINNING);
        Envelope::signed(&endorsements, self.operator_keys.first())
    }

    /// The agent key of a node.
    pub fn agent_key(&self, node: &NodeId) -> SigningKey {
        key(self.network.as_bytes(), node.as_str(), 0)
    }

    /// A statement of a keeper or a service as the agent of its node hands it in: with both signatures. Other
    /// statements stay as they are.
    pub fn countersigned(&self, statement: &[u8]) -> Vec<u8> {
        let Ok(mut envelope) = wire::decode::<Envelope>(statement) else {
            return statement.to_vec();
        };
        let node = match envelope.kind {
            StatementKind::Registration => envelope.unverified::<Registration>().map(|it| it.node),
            StatementKind::GenerationReceipt => {
                envelope.unverified::<GenerationReceipt>().map(|it| it.node)
            }
            StatementKind::PossessionProof => {
                envelope.unverified::<PossessionProof>().map(|it| it.node)
            }
            StatementKind::Suspension => envelope.unverified::<Suspension>().map(|it| it.node),
            StatementKind::Activation => envelope.unverified::<Activation>().map(|it| it.node),
            StatementKind::Standing => envelope.unverified::<Standing>().map(|it| it.node),
            _ => return statement.to_vec(),
        };
        envelope.sign(&self.agent_key(&node.expect("instances make well-formed statements")));
        wire::encode(&envelope)
    }

    /// A fleet of `count` nodes, `node-1` and so on: each on a host and in a failure domain of
    /// its own, run by three operators in turn.
    pub fn nodes(&self, count: usize) -> Vec<Node> {
        let mut nodes: Vec<Node> = (1..=count).map(|index| self.node(index)).collect();
        nodes.sort_by(|left, right| left.node.cmp(&right.node));
        nodes
    }

    fn node(&self, index: usize) -> Node {
        let name = |what: &str, index: usize| format!("{what}-{index}");
        let operator = index % OPERATORS;
        let node: NodeId = name("node", index).parse().expect("it is a name");
        Node {
            domain: self.domain,
            host: name("host", index).parse().expect("it is a name"),
            failure_domain: name("zone", index).parse().expect("it is a name"),
            operator: operator_name(operator),
            agent: self.agent_key(&node).public_key(),
            node,
        }
    }

    /// The key with which one of the three operators speaks for itself.
    pub fn operator_key(&self, operator: &OperatorId) -> Option<&SigningKey> {
        let keys = (0..OPERATORS).map(operator_name).zip(&self.operator_keys);
        keys.into_iter().find(|(name, _)| name == operator).map(|(_, key)| key)
    }

    /// What the fleet of these nodes says: it names the key of each operator.
    pub fn fleet_of(&self, serial: Serial, nodes: Vec<Node>) -> Fleet {
        let operators = (0..OPERATORS).map(operator_name).zip(&self.operator_keys);
        Fleet {
            network: self.network,
            serial,
            nodes,
            not_after: BEGINNING.after(VALID_SECONDS),
            operators: operators
                .map(|(operator, key)| OperatorKey { operator, key: key.public_key() })
                .collect(),
        }
    }

    /// The fleet of these nodes.
    pub fn fleet(&self, serial: Serial, nodes: Vec<Node>) -> Envelope {
        self.signed_fleet(&self.fleet_of(serial, nodes))
    }

    /// A fleet, signed by enough operators.
    pub fn signed_fleet(&self, fleet: &Fleet) -> Envelope {
        Envelope::signed(fleet, self.operator_keys.iter().take(2))
    }

    /// What a release of some code says.
    pub fn release_of(&self, name: &str, code: &Code) -> Release {
        let artifact = |file: &str| Artifact {
            name: file.parse().expect("it is a name"),
            size: 1,
            digest: ArtifactDigest::new(sha256(&[file.as_bytes(), name.as_bytes()])),
        };
        Release {
            network: self.network,
            name: name.parse().expect("tests name releases well"),
            kind: code.kind,
            security_version: code.security_version,
            measurements: vec![code.measurement],
            signer: CODE_SIGNER,
            artifacts: ["binary", "manifest", "sigstruct"].map(artifact).to_vec(),
            not_after: BEGINNING.after(VALID_SECONDS),
        }
    }

    /// A signed release that is this code, on one kind of machine each, and the digest that names
    /// it.
    pub fn release_on_all(&self, name: &str, kinds: &[Code]) -> (Envelope, ReleaseDigest) {
        let first = kinds.first().expect("tests release something");
        let mut release = self.release_of(name, first);
        release.measurements = kinds.iter().map(|code| code.measurement).collect();
        release.measurements.sort();
        (Envelope::signed(&release, self.release_keys.iter().take(2)), release.digest())
    }

    /// A signed release of some code, and the digest that names it.
    pub fn release(&self, name: &str, code: &Code) -> (Envelope, ReleaseDigest) {
        let release = self.release_of(name, code);
        (Envelope::signed(&release, self.release_keys.iter().take(2)), release.digest())
    }

    /// A policy that lets this code hold, with these edges, for two proven holders.
    pub fn policy_of(&self, serial: Serial, code: &[Code], edges: &[(Code, Code)]) -> Policy {
        let mut holders: Vec<HolderRule> = code
            .iter()
            .map(|code| {
                let from = edges.iter().filter(|(from, _)| from == code);
                let mut gives_to: Vec<_> = from.map(|(_, to)| to.measurement).collect();
                gives_to.sort();
                HolderRule {
                    measurement: code.measurement,
                    security_version: code.security_version,
                    gives_to,
                    role: code.role(),
                }
            })
            .collect();
        holders.sort_by_key(|rule| rule.measurement);
        Policy {
            network: self.network,
            domain: self.domain,
            serial,
            sharing: Sharing::Replicated,
            holders_min: 2,
            holders,
            applications: Vec::new(),
            appraisal: AppraisalPolicy {
                platforms: PlatformRule::Any,
                tcb: vec![TcbLevel::UpToDate],
                advisories_accepted: Vec::new(),
                tcb_evaluation_min: 1,
                collateral_grace_seconds: 0,
                tdx: None,
                snp: None,
                nitro: None,
                tpm: None,
                vtpm: None,
                tcb_grace: Vec::new(),
            },
            session_seconds_max: 3_600,
            ephemeral_epochs: 3,
            not_after: BEGINNING.after(VALID_SECONDS),
            completes: None,
            forget_after_epochs: FORGET_AFTER_EPOCHS,
            update: UpdateMode::Ask,
        }
    }

    /// Makes the domain of a policy exclusive: one active holder, on these machines only.
    pub fn make_exclusive(policy: &mut Policy, mut platforms: Vec<PlatformId>) {
        policy.sharing = Sharing::Exclusive;
        policy.holders_min = 1;
        platforms.sort();
        policy.appraisal.platforms = PlatformRule::Only(platforms);
    }

    /// Lets a policy accept evidence of machines with a TPM, by this rule.
    pub fn accept_tpm(policy: &mut Policy, rule: TpmRule) {
        policy.appraisal.tpm = Some(rule);
    }

    /// Adds an application to a policy: this code may ask for all of its keys.
    pub fn admit(policy: &mut Policy, application: &str, code: &Code) {
        policy.applications.push(ApplicationRule {
            application: application.parse().expect("tests name applications well"),
            measurement: code.measurement,
            security_version: code.security_version,
            keys: KeyScope::All,
        });
        policy.applications.sort_by(|left, right| {
            (&left.application, left.measurement).cmp(&(&right.application, right.measurement))
        });
    }

    /// Signs a policy.
    pub fn policy(&self, policy: &Policy) -> Envelope {
        Envelope::signed(policy, self.policy_keys.iter().take(2))
    }

    /// Orders a generation.
    pub fn order(&self, generation: Generation, node: &NodeId, not_after: Epoch) -> Envelope {
        let nonce =
            sha256(&[b"test order", &generation.0.to_be_bytes(), &not_after.0.to_be_bytes()]);
        let order = GenerationOrder {
            network: self.network,
            domain: self.domain,
            generation,
            node: node.clone(),
            not_after,
            nonce: Nonce::new(nonce),
        };
        Envelope::signed(&order, self.operator_keys.iter().take(2))
    }

    /// Proposes a plan.
    pub fn proposal(&self, plan: &Plan) -> Envelope {
        let proposal = Proposal { network: self.network, plan: wire::encode(plan) };
        Envelope::signed(&proposal, self.operator_keys.first())
    }

    /// A plan that the agent of a node proposes itself, in a domain whose policy lets it.
    pub fn proposal_of_agent(&self, plan: &Plan, node: &NodeId) -> Envelope {
        let proposal = Proposal { network: self.network, plan: wire::encode(plan) };
        Envelope::signed(&proposal, [&self.agent_key(node)])
    }

    /// Asks what a Verify step of a plan asks.
    ///
    /// # Panics
    ///
    /// If the step is none.
    pub fn challenge(&self, plan: &Plan, step: StepId, nonce: Nonce) -> Envelope {
        let asking = plan.step(step).expect("tests name steps of their plans");
        let Action::Verify { targets, code, .. } = &asking.action else {
            panic!("step {step} of the plan asks nothing");
        };
        let challenge = Challenge {
            network: self.network,
            domain: self.domain,
            nonce,
            verifier: asking.node.clone(),
            targets: targets.clone(),
            step: Some(PlanStep { plan: plan.digest(), step }),
            code: *code,
        };
        Envelope::signed(&challenge, [&self.agent_key(&asking.node)])
    }

    /// A step of a plan is done, says the agent of its node.
    ///
    /// # Panics
    ///
    /// If the plan does not have the step.
    pub fn result(&self, plan: &Plan, step: StepId) -> Envelope {
        let done = plan.step(step).expect("tests name steps of their plans");
        let result = StepResult {
            network: self.network,
            plan: plan.digest(),
            number: plan.number,
            step,
            node: done.node.clone(),
            outcome: StepOutcome::Done,
            journal: JournalHash::new(sha256(&[b"test journal", &step.0.to_be_bytes()])),
        };
        Envelope::signed(&result, [&self.agent_key(&done.node)])
    }

    /// Approves a plan, by the operator of this index.
    pub fn approval(&self, plan: PlanDigest, operator: usize, not_after: Epoch) -> Envelope {
        let approval = Approval { network: self.network, plan, not_after };
        Envelope::signed(&approval, self.operator_keys.get(operator))
    }

    /// Calls a plan off.
    pub fn abort(&self, plan: PlanDigest) -> Envelope {
        let abort = Abort { network: self.network, plan, node: None, reason: None };
        Envelope::signed(&abort, self.operator_keys.first())
    }
}

fn key(seed: &[u8; 32], purpose: &str, index: u8) -> SigningKey {
    SigningKey::from_seed(Secret::new(sha256(&[b"test key", seed, purpose.as_bytes(), &[index]])))
}
