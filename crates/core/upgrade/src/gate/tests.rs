use std::collections::BTreeMap;

use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::{
    ArtifactDigest, BlockId, Checksum, ConfigurationDigest, DigestOf, NetworkId, Nonce,
    ReleaseDigest,
};
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::identifier::DomainId;
use heirloom_model::measurement::MrEnclave;
use heirloom_model::plan::{Action, KeyringGround, Placement, ServiceAction, Step, Strategy};
use heirloom_model::policy::{
    AppraisalPolicy, HolderRole, HolderRule, PlatformRule, Sharing, UpdateMode,
};
use heirloom_model::service::{Height, ProgramTerm, SchemaVersion, ServiceChange, Terms};

use super::*;

const CODE: Measurement = Measurement::Sgx(MrEnclave::new([1; 32]));
const STRANGER: Measurement = Measurement::Sgx(MrEnclave::new([2; 32]));
const ASKED: StepId = StepId(0);

/// A log in a few fields. Each test changes one.
#[derive(Clone)]
struct Fake {
    policy: Option<Policy>,
    settled: BTreeSet<StepId>,
    proofs: Vec<Proof>,
    registered: BTreeSet<(NodeId, Measurement)>,
    epoch: Epoch,
    epochs: BTreeMap<StepId, Epoch>,
    published: BTreeSet<Serial>,
    stated: BTreeMap<StepId, Tip>,
    rehearsed: BTreeMap<TermsDigest, usize>,
    disagreeing: BTreeSet<OperatorId>,
    concord: Option<Concord>,
}

impl Facts for Fake {
    fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    fn failure_domain(&self, node: &NodeId) -> Option<FailureDomain> {
        // node-1 and node-2 share a failure domain; "lost" is not in the fleet.
        match node.as_str() {
            "node-1" | "node-2" => Some("a".parse().unwrap()),
            "lost" => None,
            other => Some(other.parse().unwrap()),
        }
    }

    fn is_settled(&self, step: StepId) -> bool {
        self.settled.contains(&step)
    }

    fn proofs(&self, step: StepId) -> Vec<Proof> {
        if step == ASKED { self.proofs.clone() } else { Vec::new() }
    }

    fn registered(&self, node: &NodeId, measurement: &Measurement) -> bool {
        self.registered.contains(&(node.clone(), *measurement))
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn epoch_of(&self, step: StepId) -> Option<Epoch> {
        self.epochs.get(&step).copied()
    }

    fn completes_this_plan(&self, serial: Serial) -> bool {
        self.published.contains(&serial)
    }

    fn unsettled_in(&self, first: StepId, last: StepId) -> Option<StepId> {
        (first.0..=last.0).map(StepId).find(|step| !self.settled.contains(step))
    }

    fn agreement(&self, first: StepId, last: StepId) -> Agreement {
        let all = || (first.0..=last.0).map(StepId);
        if let Some(silent) = all().find(|step| !self.stated.contains_key(step)) {
            return Agreement::Open(silent);
        }
        let tip = self.stated[&first];
        match all().find(|step| self.stated[step] != tip) {
            Some(b) => Agreement::Disagreed { a: first, b, what: "tip" },
            None => Agreement::Agreed(tip),
        }
    }

    fn is_stated(&self, step: StepId) -> bool {
        self.stated.contains_key(&step)
    }

    fn disagreeing(&self) -> BTreeSet<OperatorId> {
        self.disagreeing.clone()
    }

    fn concord(&self, first: StepId, _: StepId) -> Concord {
        self.concord.clone().unwrap_or(Concord::Open(first))
    }

    fn rehearsals(&self, terms: &TermsDigest) -> usize {
        self.rehearsed.get(terms).copied().unwrap_or(0)
    }
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn proof(name: &str) -> Proof {
    Proof {
        node: node(name),
        platform: None,
        measurement: CODE,
        generation: Generation(3),
        checksum: Checksum::new([7; 32]),
        origin: HoldingOrigin::Recovered,
        asked_at: LogIndex(5),
    }
}

fn fake() -> Fake {
    let rule = |measurement| HolderRule {
        measurement,
        security_version: SecurityVersion(1),
        gives_to: Vec::new(),
        role: HolderRole::Keeper,
    };
    Fake {
        policy: Some(Policy {
            network: NetworkId::new([9; 32]),
            domain: DomainId::new([8; 32]),
            serial: Serial(4),
            sharing: Sharing::Replicated,
            holders_min: 1,
            holders: vec![rule(CODE)],
            applications: Vec::new(),
            appraisal: AppraisalPolicy {
                platforms: PlatformRule::Any,
                tcb: Vec::new(),
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
            session_seconds_max: 60,
            ephemeral_epochs: 1,
            not_after: Time(1_000),
            completes: None,
            forget_after_epochs: 2,
            update: UpdateMode::Ask,
        }),
        settled: BTreeSet::new(),
        proofs: vec![proof("node-1"), proof("node-2"), proof("node-3")],
        registered: BTreeSet::new(),
        epoch: Epoch(7),
        epochs: BTreeMap::new(),
        published: BTreeSet::new(),
        stated: BTreeMap::new(),
        rehearsed: BTreeMap::new(),
        disagreeing: BTreeSet::new(),
        concord: None,
    }
}

fn plan() -> Plan {
    let placement =
        Placement { release: ReleaseDigest::of(b"release".as_slice()), measurement: CODE };
    Plan {
        network: NetworkId::new([9; 32]),
        keyring: Some(KeyringGround {
            from: placement,
            to: placement,
            via: None,
            policy: Serial(4),
            generation: Generation(3),
            checksum: Checksum::new([7; 32]),
            holders_min: 1,
            others: Vec::new(),
        }),
        domain: DomainId::new([8; 32]),
        number: PlanNumber(1),
        strategy: Strategy::Rolling,
        nodes: vec![node("node-1")],
        steps: vec![Step {
            id: ASKED,
            node: node("node-1"),
            wave: 0,
            action: Action::Drain(placement),
            gates: Vec::new(),
        }],
        rollback: Vec::new(),
        point_of_no_return: ASKED,
        not_after: Epoch(9),
        nonce: Nonce::new([0; 32]),
        service: None,
        participant: None,
    }
}

fn asked(targets: &[NodeId], need: u32) -> Asked<'_> {
    Asked { step: ASKED, targets, need, code: None }
}

fn proven_gate(names: &[&str], need: u32) -> Gate {
    Gate::Proven { holders: names.iter().map(|name| node(name)).collect(), need, since: ASKED }
}

fn waits(gate: &Gate, log: &Fake) -> String {
    holds_in(gate, &plan(), log).expect_err("the gate must be closed").to_string()
}

#[test]
fn a_step_gate_waits_for_the_result() {
    let mut log = fake();
    assert_eq!(waits(&Gate::Done(ASKED), &log), "step 0 (drain on node-1)");
    log.settled.insert(ASKED);
    assert_eq!(holds_in(&Gate::Done(ASKED), &plan(), &log), Ok(()));
}

#[test]
fn a_proof_gate_counts_failure_domains_and_says_who_is_missing() {
    let log = fake();
    let all = ["node-1", "node-2", "node-3"];
    assert_eq!(holds_in(&proven_gate(&all, 2), &plan(), &log), Ok(()));
    // Three nodes have proven, in two failure domains.
    assert!(holds_in(&proven_gate(&all, 3), &plan(), &log).is_err());
    let log = Fake { proofs: vec![proof("node-1")], ..fake() };
    let text = "proof of generation 3 from node-3, node-4 (1 of 2)";
    assert_eq!(waits(&proven_gate(&["node-1", "node-3", "node-4"], 2), &log), text);
    assert!(holds_in(&proven_gate(&["lost"], 1), &plan(), &fake()).is_err());
}

#[test]
fn a_proof_with_any_one_fault_does_not_open_a_gate() {
    let faulty = [
        Proof { measurement: STRANGER, ..proof("node-3") },
        Proof { generation: Generation(2), ..proof("node-3") },
        Proof { checksum: Checksum::new([6; 32]), ..proof("node-3") },
        Proof { origin: HoldingOrigin::Received, ..proof("node-3") },
    ];
    let gate = proven_gate(&["node-3"], 1);
    assert_eq!(holds_in(&gate, &plan(), &fake()), Ok(()));
    for fault in faulty {
        let log = Fake { proofs: vec![fault], ..fake() };
        assert!(holds_in(&gate, &plan(), &log).is_err());
        assert!(proven_in(&plan(), &asked(&[node("node-3")], 1), &log).is_err());
    }
    let other_step = Gate::Proven { holders: vec![node("node-3")], need: 1, since: StepId(1) };
    assert!(holds_in(&other_step, &plan(), &fake()).is_err());
}

#[test]
fn the_policy_in_force_raises_the_number_that_a_gate_needs() {
    let mut log = fake();
    log.policy.as_mut().unwrap().holders_min = 3;
    assert!(waits(&proven_gate(&["node-1", "node-3"], 1), &log).ends_with("(2 of 3)"));
    let log = Fake { policy: None, ..fake() };
    assert_eq!(waits(&proven_gate(&["node-1"], 1), &log), "a policy in force");
}

#[test]
fn a_verification_counts_nodes_not_failure_domains() {
    let targets = [node("node-1"), node("node-2"), node("node-3"), node("node-1")];
    assert_eq!(proven_in(&plan(), &asked(&targets, 3), &fake()), Ok(()));
    let log = Fake { proofs: vec![proof("node-1"), proof("node-3")], ..fake() };
    let waiting = proven_in(&plan(), &asked(&targets, 3), &log).unwrap_err();
    assert_eq!(waiting.to_string(), "proof of generation 3 from node-2 (2 of 3)");
}

#[test]
fn the_other_gates_wait_for_exactly_what_they_name() {
    let mut log = fake();
    let registration = Gate::Registered { node: node("node-1"), measurement: CODE };
    assert!(waits(&registration, &log).starts_with("a registration of sgx:0101"));
    log.registered.insert((node("node-2"), CODE));
    log.registered.insert((node("node-1"), STRANGER));
    assert!(holds_in(&registration, &plan(), &log).is_err());
    log.registered.insert((node("node-1"), CODE));
    assert_eq!(holds_in(&registration, &plan(), &log), Ok(()));

    assert_eq!(holds_in(&Gate::Epoch(Epoch(7)), &plan(), &log), Ok(()));
    assert_eq!(waits(&Gate::Epoch(Epoch(8)), &log), "epoch 8 (it is 7)");

    let published = Gate::PolicyPublished(Serial(5));
    assert!(waits(&published, &log).starts_with("policy serial 5"));
    log.published.insert(Serial(5));
    assert_eq!(holds_in(&published, &plan(), &log), Ok(()));
}

#[test]
fn a_verification_of_one_code_counts_no_other_code() {
    let targets = [node("node-1")];
    let of = |code| Asked { code: Some(code), ..asked(&targets, 1) };
    assert_eq!(proven_in(&plan(), &of(CODE), &fake()), Ok(()));
    let waiting = proven_in(&plan(), &of(STRANGER), &fake()).unwrap_err();
    assert_eq!(waiting.to_string(), "proof of generation 3 from node-1 (0 of 1)");
}

#[test]
fn a_waiting_gate_counts_epochs_from_the_result_of_its_step() {
    let gate = Gate::Waited { since: ASKED, epochs: 2 };
    let at = |result, epoch| {
        let epochs = BTreeMap::from([(ASKED, Epoch(result))]);
        Fake { epoch: Epoch(epoch), epochs, ..fake() }
    };
    assert_eq!(waits(&gate, &fake()), "step 0 (drain on node-1)");
    assert_eq!(waits(&gate, &at(7, 7)), "epoch 9 (it is 7)");
    assert_eq!(waits(&gate, &at(7, 8)), "epoch 9 (it is 8)");
    assert_eq!(holds_in(&gate, &plan(), &at(7, 9)), Ok(()));
    // The result of another step opens nothing.
    let other = Gate::Waited { since: StepId(1), epochs: 0 };
    assert!(holds_in(&other, &plan(), &at(7, 9)).is_err());
    // Without any epoch to wait for, the result alone does.
    let none = Gate::Waited { since: ASKED, epochs: 0 };
    assert_eq!(holds_in(&none, &plan(), &at(7, 7)), Ok(()));
    assert!(holds_in(&none, &plan(), &fake()).is_err());
}

/// A plan with steps of this action on so many nodes, from step 0 on.
fn wide(nodes: u32, action: &Action) -> Plan {
    let step = |id| Step {
        id: StepId(id),
        node: node(&format!("node-{id}")),
        wave: 0,
        action: action.clone(),
        gates: Vec::new(),
    };
    Plan { steps: (0..nodes).map(step).collect(), ..plan() }
}

fn frozen(plan: &Plan) -> Action {
    Action::Service(ServiceAction::Freeze(plan.keyring.as_ref().expect("it moves a keyring").from))
}

#[test]
fn a_gate_over_steps_names_the_first_that_are_open() {
    let plan = wide(8, &frozen(&plan()));
    let all = Gate::AllDone { first: StepId(1), last: StepId(6) };
    let mut log = fake();
    log.settled = (1..=6).map(StepId).collect();
    assert_eq!(holds_in(&all, &plan, &log), Ok(()));
    log.settled.remove(&StepId(3));
    let waits = |log: &Fake| holds_in(&all, &plan, log).unwrap_err().to_string();
    assert_eq!(waits(&log), "step 3 (freeze on node-3)");
    log.settled.remove(&StepId(6));
    assert_eq!(waits(&log), "step 3 (freeze on node-3), step 6 (freeze on node-6)");
    log.settled.clear();
    assert!(waits(&log).starts_with("step 1 (freeze on node-1), step 2 "));
    assert!(waits(&log).ends_with("step 5 (freeze on node-5) and more"));
    // Those outside of the range do not matter.
    log.settled = (1..=6).map(StepId).collect();
    assert_eq!(holds_in(&all, &plan, &log), Ok(()));
}

#[test]
fn a_gate_of_agreement_waits_for_statements_and_never_for_those_that_differ() {
    let plan = wide(8, &frozen(&plan()));
    let gate = Gate::Agreed { first: StepId(1), last: StepId(7) };
    let tip = |height| Tip { height: Height(height), id: BlockId::new([1; 32]) };
    let mut log = fake();
    let waits = |log: &Fake| holds_in(&gate, &plan, log).unwrap_err();
    assert!(matches!(waits(&log), Waiting::Standings { more: true, open } if open.len() == 5));
    log.stated = (1..=7).map(|step| (StepId(step), tip(9))).collect();
    assert_eq!(holds_in(&gate, &plan, &log), Ok(()));
    log.stated.remove(&StepId(4));
    assert_eq!(waits(&log).to_string(), "what services state at step 4 (freeze on node-4)");
    log.stated.insert(StepId(4), tip(10));
    let text = "nothing: the services at step 1 (freeze on node-1) and step 4 (freeze on node-4) \
                differ in their tip";
    assert_eq!(waits(&log).to_string(), text);
}

#[test]
fn a_gate_of_rehearsals_counts_those_of_exactly_these_terms() {
    let term = |digit| ProgramTerm {
        release: format!("ledger-{digit}").parse().unwrap(),
        program: ArtifactDigest::new([digit; 32]),
    };
    let configuration = ConfigurationDigest::new([5; 32]);
    let terms = Terms {
        from: term(1),
        to: term(2),
        configuration_from: configuration,
        configuration_to: configuration,
        schema_from: SchemaVersion(1),
        schema_to: SchemaVersion(1),
        migrations: Vec::new(),
        tests: Vec::new(),
        keys: Vec::new(),
        quiet_milliseconds: 1,
        watch_milliseconds: 1,
        errors_max: 0,
        clients_min: 0,
    };
    let (from, to) = (
        plan().keyring.as_ref().expect("it moves a keyring").from,
        plan().keyring.as_ref().expect("it moves a keyring").to,
    );
    let change = ServiceChange {
        application: "ledger".parse().unwrap(),
        from,
        to,
        terms: terms.clone(),
        opens: Epoch(1),
        abort_after: Epoch(2),
    };
    let gate = Gate::Rehearsed { need: 2 };
    let with = Plan { service: Some(change), ..plan() };
    let mut log = fake();
    let other = Terms { errors_max: 1, ..terms.clone() };
    log.rehearsed = BTreeMap::from([(terms.digest(), 1), (other.digest(), 7)]);
    let text = "rehearsals of these terms by 2 operators (there are 1)";
    assert_eq!(holds_in(&gate, &with, &log).unwrap_err().to_string(), text);
    log.rehearsed.insert(terms.digest(), 2);
    assert_eq!(holds_in(&gate, &with, &log), Ok(()));
    assert!(holds_in(&gate, &plan(), &log).is_err(), "a plan without a service opens no such gate");
}
