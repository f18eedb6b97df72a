//! A small network: three keys for each role, two of which must sign; three nodes of one domain
//! and one of another; one old and one new release; instances on emulated machines.

use heirloom_emulated::host::{EmulatedEnclave, EmulatedHost};
use heirloom_emulated::provisioning::DevelopmentRoot;
use heirloom_keeper::port::Platform;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::counter::{
    Epoch, Generation, LogIndex, PlanNumber, SecurityVersion, Serial, Time,
};
use heirloom_model::digest::{ArtifactDigest, Checksum, DigestOf, JournalHash, NetworkId, Nonce};
use heirloom_model::domain::{
    Challenge, EpochStart, GenerationOrder, GenerationReceipt, HoldingOrigin, PlanStep,
    PossessionProof, Registration,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::fleet::{Fleet, Node};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::{Measurement, MrEnclave, MrSigner};
use heirloom_model::plan::{
    Action, Approval, Gate, KeyringGround, Placement, Plan, Proposal, RollbackStep, Step, StepId,
    StepOutcome, StepResult, Strategy,
};
use heirloom_model::policy::{
    AppraisalPolicy, HolderRole, HolderRule, PlatformRule, Policy, Sharing, TcbLevel, UpdateMode,
};
use heirloom_model::release::{Artifact, Release, ReleaseKind};
use heirloom_model::root::{Role, RoleKeys, Root};
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_model::statement::{AttestedStatement, Statement, StatementKind};
use heirloom_model::wire;
use heirloom_registry::domain::DomainState;
use heirloom_registry::network::{Applied, NetworkState};

/// When the world begins.
pub(crate) const BEGIN: Time = Time(1_800_000_000);
/// When everything in it ends.
pub(crate) const END: Time = Time(1_900_000_000);
pub(crate) const DOMAIN: DomainId = DomainId::new([0xd0; 32]);
pub(crate) const OTHER_DOMAIN: DomainId = DomainId::new([0xd1; 32]);
pub(crate) const OLD: Measurement = Measurement::Sgx(MrEnclave::new([0x01; 32]));
pub(crate) const NEW: Measurement = Measurement::Sgx(MrEnclave::new([0x02; 32]));
/// Code that carries a keyring, and that only the policies of exclusive domains name.
pub(crate) const UPGRADER: Measurement = Measurement::Sgx(MrEnclave::new([0x04; 32]));
/// Code that no policy names.
pub(crate) const STRANGE: Measurement = Measurement::Sgx(MrEnclave::new([0x03; 32]));
pub(crate) const CHECKSUM: Checksum = Checksum::new([0xc0; 32]);

pub(crate) struct World {
    pub(crate) state: NetworkState,
    pub(crate) log: Vec<LogEntry>,
    pub(crate) network: NetworkId,
}

/// A key of its own for each purpose and number.
pub(crate) fn key(purpose: u8, number: u8) -> SigningKey {
    let mut seed = [purpose; 32];
    seed[31] = number;
    SigningKey::from_seed(Secret::new(seed))
}

/// The three keys of a role.
pub(crate) fn role_keys(role: Role) -> Vec<SigningKey> {
    (0..3).map(|number| key(role as u8, number)).collect()
}

/// The key of a node's agent.
pub(crate) fn agent(node: &str) -> SigningKey {
    key(0xa0, *node.as_bytes().last().unwrap())
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// A statement signed by two keys of a role.
pub(crate) fn signed<T: Statement>(statement: &T, role: Role) -> Envelope {
    Envelope::signed(statement, &role_keys(role)[..2])
}

pub(crate) fn development_root() -> DevelopmentRoot {
    DevelopmentRoot::from_seed(&[0xde; 32], BEGIN)
}

/// The host of a node, its identity key, and one instance on it.
pub(crate) struct Instance {
    enclave: EmulatedEnclave,
    pub(crate) key: SigningKey,
}

impl Instance {
    /// New code on its node, at security version 2.
    pub(crate) fn new(node: &str, measurement: Measurement) -> Self {
        Self::with(node, measurement, 2, LaunchMode::Production)
    }

    /// The same code on the same node, started once more: with another identity key.
    pub(crate) fn started(node: &str, measurement: Measurement, start: u8) -> Self {
        let mut instance = Self::new(node, measurement);
        let Measurement::Sgx(digest) = measurement else { panic!("it is of the kind SGX") };
        let number = *node.as_bytes().last().unwrap();
        instance.key = key(0xb0 + digest.as_bytes()[0], number.wrapping_add(0x40 * start));
        instance
    }

    pub(crate) fn with(node: &str, code: Measurement, isv_svn: u16, mode: LaunchMode) -> Self {
        let Measurement::Sgx(measurement) = code else { panic!("it is of the kind SGX") };
        let number = *node.as_bytes().last().unwrap();
        let host = EmulatedHost::from_seed(&development_root(), &[number; 32]);
        let secs = Secs {
            measurement,
            signer: MrSigner::new([9; 32]),
            product_id: 0,
            isv_svn,
            attributes: mode.attributes(),
            misc_select: 0,
        };
        let enclave = host.launch(secs, Box::new(|bytes: &mut [u8]| bytes.fill(1)));
        let Measurement::Sgx(digest) = code else { panic!("it is of the kind SGX") };
        let key = key(0xb0 + digest.as_bytes()[0], number);
        Self { enclave, key }
    }

    /// A statement of this instance, with evidence for exactly this statement, signed by the
    /// agent of the node that it names too.
    pub(crate) fn attest<T: AttestedStatement>(&self, statement: &T) -> Envelope {
        let mut envelope = self.attest_alone(statement);
        envelope.sign(&agent(statement.node().as_str()));
        envelope
    }

    /// As [`Self::attest`], before an agent signs.
    pub(crate) fn attest_alone<T: AttestedStatement>(&self, statement: &T) -> Envelope {
        let mut envelope = Envelope::signed(statement, [&self.key]);
        let report_data = envelope.report_data(&self.key.public_key());
        envelope.evidence = Some(self.enclave.evidence(&report_data).unwrap());
        envelope
    }
}

pub(crate) fn first_root() -> Root {
    let role = |role| {
        let mut keys: Vec<_> = role_keys(role).iter().map(SigningKey::public_key).collect();
        keys.sort();
        RoleKeys { role, keys, threshold: 2 }
    };
    Root {
        network: None,
        serial: Serial(1),
        roles: Role::ALL.into_iter().map(role).collect(),
        anchors: vec![development_root().anchor()],
        not_after: END,
    }
}

impl World {
    /// A network whose log is empty.
    pub(crate) fn empty() -> Self {
        let network = NetworkId::of(wire::encode(&first_root()).as_slice());
        Self { state: NetworkState::new(network), log: Vec::new(), network }
    }

    /// A network with a root and its first epoch.
    pub(crate) fn begun() -> Self {
        let mut world = Self::empty();
        world.accept(&signed(&first_root(), Role::Root));
        world.accept(&signed(&world.epoch(), Role::Timekeeper));
        world
    }

    /// A network with nodes, endorsements, releases and a policy.
    pub(crate) fn equipped() -> Self {
        Self::equipped_with(Self::policy)
    }

    /// As before, with another first policy.
    pub(crate) fn equipped_with(policy: fn(&Self) -> Policy) -> Self {
        let mut world = Self::begun();
        world.accept(&signed(&world.fleet(), Role::Operator));
        let endorsements = development_root().endorsements(BEGIN);
        world.accept(&Envelope::signed(&endorsements, &role_keys(Role::Operator)[..1]));
        world.accept(&signed(&world.release("keeper-1", OLD), Role::Release));
        world.accept(&signed(&world.release("keeper-2", NEW), Role::Release));
        world.accept(&signed(&policy(&world), Role::Policy));
        world
    }

    /// A network whose domain has generation 0 on two nodes.
    pub(crate) fn with_genesis() -> Self {
        let mut world = Self::equipped();
        world.accept(&signed(&world.order(), Role::Operator));
        for node in ["n1", "n2"] {
            let receipt = world.receipt(node);
            world.accept(&Instance::new(node, OLD).attest(&receipt));
        }
        assert!(world.state.domain(&DOMAIN).unwrap().committed().is_some());
        world
    }

    /// As before, with a plan that enough operators approved.
    pub(crate) fn with_approved_plan() -> Self {
        let mut world = Self::with_genesis();
        world.accept(&world.proposal(&world.plan()));
        let approval = world.approval(&world.plan());
        world.accept(&signed(&approval, Role::Operator));
        world
    }

    /// Appends a statement, whatever becomes of it.
    pub(crate) fn push(&mut self, envelope: &Envelope) -> Applied {
        let bytes = wire::encode(envelope);
        let judged = self.state.judge(&bytes);
        let entry = LogEntry::following(&self.state.position(), bytes);
        let applied = self.state.apply(&entry).unwrap();
        let expected = match judged {
            Ok(kind) => Applied::Accepted(kind),
            Err(refusal) => Applied::Refused(refusal),
        };
        assert_eq!(applied, expected, "judging and applying agree");
        self.log.push(entry);
        applied
    }

    /// Appends a statement that counts.
    pub(crate) fn accept(&mut self, envelope: &Envelope) -> StatementKind {
        match self.push(envelope) {
            Applied::Accepted(kind) => kind,
            Applied::Refused(refusal) => {
                panic!("{} is refused: {refusal:?}", envelope.kind.name())
            }
        }
    }

    /// The code of the refusal, or that there is none.
    pub(crate) fn code(&mut self, envelope: &Envelope) -> &'static str {
        match self.state.judge(&wire::encode(envelope)) {
            Ok(_) => "accepted",
            Err(refusal) => refusal.code(),
        }
    }

    /// Lets the network's clock advance by one epoch and a minute.
    pub(crate) fn tick(&mut self) {
        let start = self.epoch();
        self.accept(&signed(&start, Role::Timekeeper));
    }

    pub(crate) fn epoch(&self) -> EpochStart {
        let time = self.state.now().map_or(BEGIN, |now| now.after(60));
        EpochStart { network: self.network, epoch: self.state.epoch().next().unwrap(), time }
    }

    pub(crate) fn second_root(&self) -> Root {
        Root { network: Some(self.network), serial: Serial(2), ..first_root() }
    }

    pub(crate) fn fleet(&self) -> Fleet {
        let node = |text: &str, domain| Node {
            node: name(text),
            domain,
            host: name(&format!("host-{text}")),
            failure_domain: name(&format!("rack-{text}")),
            operator: name("alice"),
            agent: agent(text).public_key(),
        };
        let nodes = vec![
            node("n1", DOMAIN),
            node("n2", DOMAIN),
            node("n3", DOMAIN),
            node("n4", OTHER_DOMAIN),
        ];
        let serial = self.state.fleet().map_or(Serial(1), |fleet| fleet.serial.next().unwrap());
        Fleet { network: self.network, serial, nodes, not_after: END, operators: Vec::new() }
    }

    pub(crate) fn release(&self, text: &str, measurement: Measurement) -> Release {
        Release {
            network: self.network,
            name: name(text),
            kind: ReleaseKind::Keeper,
            security_version: SecurityVersion(1),
            measurements: vec![measurement],
            signer: MrSigner::new([9; 32]),
            artifacts: vec![Artifact {
                name: name("keeper"),
                size: 1,
                digest: ArtifactDigest::new([1; 32]),
            }],
            not_after: END,
        }
    }

    pub(crate) fn policy(&self) -> Policy {
        let rule = |measurement, to| HolderRule {
            measurement,
            security_version: SecurityVersion(2),
            gives_to: vec![to],
            role: HolderRole::Keeper,
        };
        let published = self.state.domain(&DOMAIN).map(DomainState::published);
        Policy {
            network: self.network,
            domain: DOMAIN,
            serial: published.map_or(Serial(1), |serial| serial.next().unwrap()),
            sharing: Sharing::Replicated,
            holders_min: 1,
            holders: vec![rule(OLD, NEW), rule(NEW, OLD)],
            applications: Vec::new(),
            appraisal: AppraisalPolicy {
                platforms: PlatformRule::Any,
                tcb: vec![TcbLevel::UpToDate],
                advisories_accepted: Vec::new(),
                tcb_evaluation_min: 0,
                collateral_grace_seconds: 0,
                tdx: None,
                snp: None,
                nitro: None,
                tpm: None,
                vtpm: None,
                tcb_grace: Vec::new(),
            },
            session_seconds_max: 3600,
            ephemeral_epochs: 5,
            not_after: END,
            completes: None,
            forget_after_epochs: 2,
            update: UpdateMode::Ask,
        }
    }

    /// The policy that completes the plan: only new code.
    pub(crate) fn completing(&self, plan: &Plan) -> Policy {
        let mut policy = self.policy();
        policy.holders.retain(|rule| rule.measurement == NEW);
        policy.holders[0].gives_to.clear();
        policy.completes = Some(plan.digest());
        policy
    }

    pub(crate) fn order(&self) -> GenerationOrder {
        let committed = self.state.domain(&DOMAIN).and_then(|domain| domain.committed());
        GenerationOrder {
            network: self.network,
            domain: DOMAIN,
            generation: committed.map_or(Generation(0), |old| old.generation.next().unwrap()),
            node: name("n1"),
            not_after: Epoch(self.state.epoch().0 + 1),
            nonce: Nonce::new([0x0e; 32]),
        }
    }

    pub(crate) fn receipt(&self, node: &str) -> GenerationReceipt {
        let domain = self.state.domain(&DOMAIN).unwrap();
        let generation = domain.order().map_or(Generation(0), |open| open.order().generation);
        GenerationReceipt {
            network: self.network,
            domain: DOMAIN,
            node: name(node),
            order: Nonce::new([0x0e; 32]),
            generation,
            checksum: CHECKSUM,
        }
    }

    pub(crate) fn registration(&self, node: &str) -> Registration {
        Registration {
            network: self.network,
            domain: DOMAIN,
            node: name(node),
            as_of: self.state.position(),
            policy: self.state.policy(&DOMAIN).unwrap().serial,
            volatile: None,
        }
    }

    pub(crate) fn challenge(&self, nonce: u8) -> Challenge {
        Challenge {
            network: self.network,
            domain: DOMAIN,
            nonce: Nonce::new([nonce; 32]),
            verifier: name("n1"),
            targets: vec![name("n1"), name("n2")],
            step: None,
            code: None,
        }
    }

    pub(crate) fn proof(&self, node: &str, challenge: u8) -> PossessionProof {
        PossessionProof {
            network: self.network,
            domain: DOMAIN,
            node: name(node),
            challenge: Nonce::new([challenge; 32]),
            generation: Generation(0),
            checksum: CHECKSUM,
            origin: HoldingOrigin::Recovered,
            as_of: self.state.position(),
            policy: self.state.policy(&DOMAIN).unwrap().serial,
            measurement: OLD,
        }
    }

    /// Prepare and verify on n1, then stop and start on n2, then withdraw on n1; one way back.
    pub(crate) fn plan(&self) -> Plan {
        let placement = |text, measurement| Placement {
            release: self.release(text, measurement).digest(),
            measurement,
        };
        let (from, to) = (placement("keeper-1", OLD), placement("keeper-2", NEW));
        let step = |id: u32, node: &str, action, after: &[u32]| Step {
            id: StepId(id),
            node: name(node),
            wave: 0,
            action,
            gates: after.iter().map(|before| Gate::Done(StepId(*before))).collect(),
        };
        let targets: Vec<NodeId> = vec![name("n1"), name("n2")];
        Plan {
            network: self.network,
            keyring: Some(KeyringGround {
                from,
                to,
                via: None,
                policy: Serial(1),
                generation: Generation(0),
                checksum: CHECKSUM,
                holders_min: 1,
                others: Vec::new(),
            }),
            domain: DOMAIN,
            number: PlanNumber(1),
            strategy: Strategy::Rolling,
            nodes: vec![name("n1"), name("n2"), name("n3")],
            steps: vec![
                step(0, "n1", Action::Prepare(to), &[]),
                step(1, "n1", Action::Verify { targets, need: 1, code: None }, &[0]),
                step(2, "n2", Action::Stop(from), &[1]),
                step(3, "n2", Action::Start(to), &[2]),
                step(4, "n1", Action::Withdraw(Serial(2)), &[3]),
            ],
            rollback: vec![
                RollbackStep { step: step(5, "n2", Action::Start(from), &[]), undoes: StepId(2) },
                RollbackStep { step: step(6, "n2", Action::Stop(to), &[5]), undoes: StepId(3) },
            ],
            point_of_no_return: StepId(4),
            not_after: Epoch(100),
            nonce: Nonce::new([1; 32]),
            service: None,
            participant: None,
        }
    }

    pub(crate) fn proposal(&self, plan: &Plan) -> Envelope {
        let proposal = Proposal { network: self.network, plan: wire::encode(plan) };
        Envelope::signed(&proposal, &role_keys(Role::Operator)[..1])
    }

    pub(crate) fn approval(&self, plan: &Plan) -> Approval {
        Approval { network: self.network, plan: plan.digest(), not_after: Epoch(50) }
    }

    pub(crate) fn result(&self, step: u32, node: &str) -> StepResult {
        let plan = self.plan();
        StepResult {
            network: self.network,
            plan: plan.digest(),
            number: plan.number,
            step: StepId(step),
            node: name(node),
            outcome: StepOutcome::Done,
            journal: JournalHash::new([1; 32]),
        }
    }

    /// Lets every target of a verifying step prove that it recovered the keyring.
    pub(crate) fn prove_step(&mut self, plan: &Plan, step: u32) {
        let Some(Action::Verify { targets, code, .. }) =
            plan.step(StepId(step)).map(|it| it.action.clone())
        else {
            return;
        };
        let nonce = u8::try_from(step).unwrap() + 200;
        let mut challenge = self.challenge(nonce);
        challenge.targets.clone_from(&targets);
        challenge.code = code;
        challenge.step = Some(PlanStep { plan: plan.digest(), step: StepId(step) });
        self.accept(&Envelope::signed(&challenge, [&agent("n1")]));
        for target in targets {
            let mut proof = self.proof(target.as_str(), nonce);
            proof.measurement = code.unwrap_or(OLD);
            self.accept(&Instance::new(target.as_str(), proof.measurement).attest(&proof));
        }
    }

    /// Records good results of these steps.
    pub(crate) fn finish(&mut self, steps: &[(u32, &str)]) {
        let plan = self.plan();
        for (step, node) in steps {
            self.finish_of(&plan, *step, node);
        }
    }

    /// Records a good result of one step of this plan.
    pub(crate) fn finish_of(&mut self, plan: &Plan, step: u32, node: &str) {
        self.prove_step(plan, step);
        let result = self.result_of(plan, step, node);
        self.accept(&result);
    }

    /// A good result of a step of this plan, signed by the agent of its node.
    pub(crate) fn result_of(&self, plan: &Plan, step: u32, node: &str) -> Envelope {
        let result =
            StepResult { plan: plan.digest(), number: plan.number, ..self.result(step, node) };
        Envelope::signed(&result, [&agent(node)])
    }

    /// The entry that comes next.
    pub(crate) fn next(&self) -> LogIndex {
        self.state.position().length
    }
}

/// What changes, the code of the refusal, and the change.
pub(crate) type Row<T> = (&'static str, &'static str, fn(&mut T));

/// Checks that a statement counts, and that each change of one field is refused for its reason.
pub(crate) fn check<T: Statement + Clone>(
    world: &mut World,
    statement: &T,
    sign: impl Fn(&T) -> Envelope,
    rows: &[Row<T>],
) {
    let found = world.code(&sign(statement));
    assert_eq!(found, "accepted", "the unchanged statement counts");
    for (change, expected, make) in rows {
        let mut changed = statement.clone();
        make(&mut changed);
        let found = world.code(&sign(&changed));
        assert_eq!(found, *expected, "{change}");
    }
}
