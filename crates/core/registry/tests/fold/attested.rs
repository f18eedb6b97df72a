//! Registrations and proofs.

use heirloom_launcher::report::LaunchMode;
use heirloom_model::admin::Volatile;
use heirloom_model::counter::{Generation, LogIndex, Serial};
use heirloom_model::digest::{Checksum, LogHash, NetworkId, Nonce};
use heirloom_model::domain::{HoldingOrigin, PlanStep, PossessionProof, Registration};
use heirloom_model::envelope::Envelope;
use heirloom_model::plan::StepId;
use heirloom_model::policy::PlatformRule;
use heirloom_model::root::Role;
use heirloom_registry::domain::ProofFlaw;

use crate::world::{
    CHECKSUM, DOMAIN, END, Instance, NEW, OLD, OTHER_DOMAIN, STRANGE, World, agent, check, name,
    signed,
};

fn ask(world: &mut World, nonce: u8) {
    let challenge = world.challenge(nonce);
    world.accept(&Envelope::signed(&challenge, [&agent("n1")]));
}

#[test]
fn a_registration_follows_this_log_and_its_policy() {
    let mut world = World::with_genesis();
    let registration = world.registration("n1");
    let sign = |it: &Registration| Instance::new("n1", OLD).attest(it);
    check(
        &mut world,
        &registration,
        sign,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("another domain", "other-domain", |it| it.domain = OTHER_DOMAIN),
            ("an unknown node", "unknown-node", |it| it.node = name("n9")),
            ("a node of another domain", "other-domain", |it| it.node = name("n4")),
            ("another policy", "wrong-policy", |it| it.policy = Serial(2)),
            ("another history", "other-history", |it| it.as_of.head = LogHash::new([1; 32])),
            ("the future", "other-history", |it| {
                it.as_of.length = LogIndex(it.as_of.length.0 + 1);
            }),
        ],
    );
    world.accept(&sign(&registration));
    let registered = world.state.domain(&DOMAIN).unwrap().registration(&name("n1")).unwrap();
    assert_eq!(registered.statement().get(), &registration);
    assert_eq!(registered.result().measurement(), OLD);
}

#[test]
fn an_old_registration_is_not_a_new_one() {
    let mut world = World::with_genesis();
    let kept = Instance::new("n1", OLD).attest(&world.registration("n1"));
    world.accept(&kept);
    assert_eq!(world.code(&kept), "stale");
    let new = Instance::new("n1", NEW).attest(&world.registration("n1"));
    world.accept(&new);
    assert_eq!(world.code(&kept), "stale");
    let again = Instance::new("n1", OLD).attest(&world.registration("n1"));
    assert_eq!(world.code(&again), "accepted");
}

/// Each row differs from an accepted registration in what runs, or in who signs.
#[test]
fn only_code_that_the_policy_names_is_heard() {
    let mut world = World::with_genesis();
    let registration = world.registration("n1");
    let mut judge = |instance: &Instance| world.code(&instance.attest(&registration));
    let with = |code, isv_svn, mode| Instance::with("n1", code, isv_svn, mode);
    assert_eq!(judge(&with(OLD, 2, LaunchMode::Production)), "accepted");
    assert_eq!(judge(&with(NEW, 2, LaunchMode::Production)), "accepted");
    assert_eq!(judge(&with(STRANGE, 2, LaunchMode::Production)), "measurement-refused");
    assert_eq!(judge(&with(OLD, 1, LaunchMode::Production)), "security-version-too-low");
    assert_eq!(judge(&with(OLD, 2, LaunchMode::Debug)), "evidence-refused");
}

#[test]
fn evidence_vouches_for_one_statement_and_one_key() {
    let mut world = World::with_genesis();
    let instance = Instance::new("n1", OLD);
    let good = instance.attest(&world.registration("n1"));
    assert_eq!(world.code(&good), "accepted");
    // Evidence of the same instance for another statement.
    let mut other = instance.attest(&world.registration("n2"));
    std::mem::swap(&mut other.evidence, &mut good.clone().evidence);
    assert_eq!(world.code(&other), "evidence-refused");
    // The same statement and evidence, signed by another key.
    let mut stolen = Envelope::signed(&world.registration("n1"), [&agent("n1"), &agent("n2")]);
    stolen.evidence.clone_from(&good.evidence);
    assert_eq!(world.code(&stolen), "evidence-refused");
}

/// Makes a statement of an instance about a node.
type Make = fn(&World, &Instance, &str) -> Envelope;

/// Evidence says nothing about a node: its agent must sign, and nobody else may.
#[test]
fn an_instance_speaks_for_a_node_only_with_the_nodes_agent() {
    let mut world = World::with_genesis();
    ask(&mut world, 1);
    // One instance on one host, for its own node and for another one.
    let instance = Instance::new("n1", OLD);
    let rows: [(Make, &str); 2] = [
        (|world, instance, node| instance.attest_alone(&world.registration(node)), "registration"),
        (|world, instance, node| instance.attest_alone(&world.proof(node, 1)), "proof"),
    ];
    for (make, what) in rows {
        for (node, agents, expected) in [
            ("n1", &["n1"][..], "accepted"),
            ("n1", &[], "not-two-signatures"),
            ("n1", &["n2"], "unknown-signer"),
            ("n1", &["n1", "n2"], "not-two-signatures"),
            ("n2", &["n1"], "unknown-signer"),
            ("n2", &["n2"], "accepted"),
        ] {
            let mut envelope = make(&world, &instance, node);
            for name in agents {
                envelope.sign(&agent(name));
            }
            assert_eq!(world.code(&envelope), expected, "{what} of {node} with {agents:?}");
        }
    }
}

#[test]
fn an_agent_that_was_replaced_signs_for_no_instance() {
    let mut world = World::with_genesis();
    let mut fleet = world.fleet();
    fleet.nodes[0].agent = agent("n9").public_key();
    let registration = Instance::new("n1", OLD).attest(&world.registration("n1"));
    assert_eq!(world.code(&registration), "accepted");
    world.accept(&signed(&fleet, Role::Operator));
    assert_eq!(world.code(&registration), "unknown-signer");
}

#[test]
fn the_policy_in_force_decides_and_it_expires() {
    let mut world = World::with_genesis();
    let registration = |world: &World| Instance::new("n1", OLD).attest(&world.registration("n1"));
    let mut policy = world.policy();
    policy.not_after = world.state.now().unwrap();
    world.accept(&signed(&policy, Role::Policy));
    assert_eq!(world.code(&registration(&world)), "accepted");
    world.tick();
    assert_eq!(world.code(&registration(&world)), "expired");
    assert_eq!(world.code(&signed(&world.order(), Role::Operator)), "expired");
    let mut policy = world.policy();
    policy.not_after = END;
    policy.appraisal.platforms =
        PlatformRule::Only(vec![heirloom_model::identifier::PlatformId::new([1; 32])]);
    world.accept(&signed(&policy, Role::Policy));
    assert_eq!(world.code(&registration(&world)), "evidence-refused", "not its platform");
}

#[test]
fn a_policy_that_waits_lets_nobody_in() {
    let mut world = World::with_approved_plan();
    let mut policy = world.completing(&world.plan());
    policy.holders[0].measurement = STRANGE;
    world.accept(&signed(&policy, Role::Policy));
    let registration = world.registration("n1");
    let strange = Instance::new("n1", STRANGE).attest(&registration);
    assert_eq!(world.code(&strange), "measurement-refused");
}

#[test]
fn a_proof_answers_a_challenge_that_it_has_seen() {
    let mut world = World::with_genesis();
    let before = world.state.position();
    ask(&mut world, 1);
    let sign = |it: &PossessionProof| Instance::new("n1", OLD).attest(it);
    let proof = world.proof("n1", 1);
    check(
        &mut world,
        &proof,
        sign,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("another domain", "other-domain", |it| it.domain = OTHER_DOMAIN),
            ("a node that was not asked", "not-asked", |it| it.node = name("n3")),
            ("an unknown challenge", "unknown-challenge", |it| it.challenge = Nonce::new([2; 32])),
            ("another policy", "wrong-policy", |it| it.policy = Serial(2)),
            ("other code than attested", "measurement-mismatch", |it| it.measurement = NEW),
            ("another history", "other-history", |it| it.as_of.head = LogHash::new([1; 32])),
            ("the future", "other-history", |it| {
                it.as_of.length = LogIndex(it.as_of.length.0 + 1);
            }),
        ],
    );
    let early = PossessionProof { as_of: before, ..proof.clone() };
    assert_eq!(world.code(&sign(&early)), "stale", "made before the challenge was in the log");
    world.accept(&sign(&proof));
    assert_eq!(world.code(&sign(&proof)), "already-recorded");
    let domain = world.state.domain(&DOMAIN).unwrap();
    let proven = domain.latest_proof(&name("n1")).unwrap();
    assert_eq!(proven.flaw(Generation(0), &CHECKSUM), None);
    assert_eq!(domain.challenge(&Nonce::new([1; 32])).unwrap().proofs().len(), 1);
}

/// A bad answer is a fact that people must see; it only never counts.
#[test]
fn a_bad_proof_is_recorded_and_does_not_count() {
    type Change = fn(&mut PossessionProof);
    let rows: [(Change, ProofFlaw); 3] = [
        (
            |it| it.generation = Generation(1),
            ProofFlaw::Generation { expected: Generation(0), found: Generation(1) },
        ),
        (
            |it| it.checksum = Checksum::new([1; 32]),
            ProofFlaw::Checksum { expected: CHECKSUM, found: Checksum::new([1; 32]) },
        ),
        (|it| it.origin = HoldingOrigin::Received, ProofFlaw::NotRecovered),
    ];
    for (change, expected) in rows {
        let mut world = World::with_genesis();
        ask(&mut world, 1);
        let mut proof = world.proof("n2", 1);
        change(&mut proof);
        world.accept(&Instance::new("n2", OLD).attest(&proof));
        let proven = world.state.domain(&DOMAIN).unwrap().latest_proof(&name("n2")).unwrap();
        assert_eq!(proven.flaw(Generation(0), &CHECKSUM), Some(expected));
    }
}

#[test]
fn the_holders_proven_since_a_step_are_those_with_good_answers() {
    let mut world = World::with_approved_plan();
    let asking = PlanStep { plan: world.plan().digest(), step: StepId(1) };
    ask(&mut world, 1);
    let mut challenge = world.challenge(2);
    challenge.step = Some(asking);
    world.accept(&Envelope::signed(&challenge, [&agent("n1")]));
    // n1 answers the challenge of nobody's plan well, n2 that of the step badly.
    let proof = world.proof("n1", 1);
    world.accept(&Instance::new("n1", OLD).attest(&proof));
    let mut bad = world.proof("n2", 2);
    bad.checksum = Checksum::new([1; 32]);
    world.accept(&Instance::new("n2", OLD).attest(&bad));
    let proven = |world: &World| {
        let domain = world.state.domain(&DOMAIN).unwrap();
        domain.proven_since(asking, Generation(0), &CHECKSUM).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(proven(&world), []);
    let proof = world.proof("n1", 2);
    world.accept(&Instance::new("n1", OLD).attest(&proof));
    assert_eq!(proven(&world), [name("n1")]);
}

/// A proof says that durable state was opened, and nothing is durable where nothing is sealed.
#[test]
fn whoever_registered_that_it_seals_nothing_proves_nothing() {
    for (volatile, expected) in [
        (None, None),
        (Some(Volatile::UntilUpdate), None),
        (Some(Volatile::Memory), Some("holds-in-memory")),
    ] {
        let mut world = World::with_genesis();
        let instance = Instance::new("n1", OLD);
        let registration = Registration { volatile, ..world.registration("n1") };
        world.accept(&instance.attest(&registration));
        ask(&mut world, 1);
        let proof = instance.attest(&world.proof("n1", 1));
        match expected {
            None => {
                world.accept(&proof);
            }
            Some(code) => assert_eq!(world.code(&proof), code),
        }
    }
}
