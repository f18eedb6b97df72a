//! Orders, receipts and challenges.

use heirloom_model::counter::{Epoch, Generation};
use heirloom_model::digest::{Checksum, NetworkId, Nonce, PlanDigest};
use heirloom_model::domain::{Challenge, GenerationOrder, GenerationReceipt, PlanStep};
use heirloom_model::envelope::Envelope;
use heirloom_model::plan::StepId;
use heirloom_model::policy::Sharing;
use heirloom_model::root::Role;

use crate::world::{
    CHECKSUM, DOMAIN, Instance, OLD, OTHER_DOMAIN, Row, World, agent, check, key, name, role_keys,
    signed,
};

#[test]
fn a_generation_is_ordered_by_operators_one_at_a_time() {
    let mut world = World::equipped();
    let order = world.order();
    let sign = |order: &GenerationOrder| signed(order, Role::Operator);
    check(
        &mut world,
        &order,
        sign,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("a domain without policy", "no-policy", |it| it.domain = OTHER_DOMAIN),
            ("not genesis", "not-next", |it| it.generation = Generation(1)),
            ("a node of another domain", "other-domain", |it| it.node = name("n4")),
            ("an unknown node", "unknown-node", |it| it.node = name("n9")),
            ("too late", "epoch-passed", |it| it.not_after = Epoch(0)),
        ],
    );
    let one = Envelope::signed(&order, &role_keys(Role::Operator)[..1]);
    assert_eq!(world.code(&one), "threshold-not-met");
    world.accept(&sign(&order));
    let again = GenerationOrder { nonce: Nonce::new([2; 32]), ..order };
    assert_eq!(world.code(&sign(&again)), "rotation-under-way");
}

#[test]
fn genesis_happens_once() {
    let mut world = World::with_genesis();
    let genesis = GenerationOrder { generation: Generation(0), ..world.order() };
    assert_eq!(world.code(&signed(&genesis, Role::Operator)), "not-next");
    let rotation = world.order();
    assert_eq!(rotation.generation, Generation(1));
    assert_eq!(world.code(&signed(&rotation, Role::Operator)), "accepted");
}

#[test]
fn an_order_that_lapsed_is_replaced_and_its_receipts_come_too_late() {
    let mut world = World::equipped();
    let order = world.order();
    world.accept(&signed(&order, Role::Operator));
    let receipt = world.receipt("n1");
    world.accept(&Instance::new("n1", OLD).attest(&receipt));
    world.tick();
    assert_eq!(world.state.epoch(), order.not_after);
    let receipt = Instance::new("n2", OLD).attest(&world.receipt("n2"));
    assert_eq!(world.code(&receipt), "accepted", "in its last epoch");
    world.tick();
    assert_eq!(world.code(&receipt), "epoch-passed");
    assert_eq!(world.code(&signed(&order, Role::Operator)), "epoch-passed");
    let repeated = signed(&world.order(), Role::Operator);
    assert_eq!(world.code(&repeated), "already-recorded", "the nonce of the order that lapsed");
    let again = GenerationOrder { nonce: Nonce::new([2; 32]), ..world.order() };
    world.accept(&signed(&again, Role::Operator));
    assert_eq!(world.code(&receipt), "no-order", "it belongs to the order that lapsed");
    let open = world.state.domain(&DOMAIN).unwrap().order().unwrap();
    assert!(open.receipts().is_empty() && open.proposed().is_none());
}

#[test]
fn no_rotation_while_a_plan_is_under_way() {
    let mut world = World::with_genesis();
    world.accept(&world.proposal(&world.plan()));
    let order = signed(&world.order(), Role::Operator);
    assert_eq!(world.code(&order), "accepted", "a proposal alone holds up nothing");
    world.accept(&signed(&world.approval(&world.plan()), Role::Operator));
    assert_eq!(world.code(&order), "plan-under-way");
}

#[test]
fn the_ordered_node_proposes_and_the_others_agree() {
    let mut world = World::equipped();
    world.accept(&signed(&world.order(), Role::Operator));
    let sign =
        |receipt: &GenerationReceipt| Instance::new(receipt.node.as_str(), OLD).attest(receipt);
    let second = world.receipt("n2");
    assert_eq!(world.code(&sign(&second)), "no-order", "only n1 was ordered to propose");
    let first = world.receipt("n1");
    let rows: &[Row<GenerationReceipt>] = &[
        ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
        ("another domain", "other-domain", |it| it.domain = OTHER_DOMAIN),
        ("another order", "no-order", |it| it.order = Nonce::new([1; 32])),
        ("another generation", "no-order", |it| it.generation = Generation(1)),
    ];
    check(&mut world, &first, sign, rows);
    world.accept(&sign(&first));
    assert_eq!(world.code(&sign(&first)), "already-recorded");
    check(&mut world, &second, sign, rows);
    check(
        &mut world,
        &second,
        sign,
        &[
            ("another keyring", "checksum-mismatch", |it| it.checksum = Checksum::new([1; 32])),
            ("a node of another domain", "other-domain", |it| it.node = name("n4")),
        ],
    );
    assert!(world.state.domain(&DOMAIN).unwrap().committed().is_none());
    world.accept(&sign(&second));
    let committed = *world.state.domain(&DOMAIN).unwrap().committed().unwrap();
    assert_eq!((committed.generation, committed.checksum), (Generation(0), CHECKSUM));
    assert_eq!(committed.at.next().unwrap(), world.next());
    let third = world.receipt("n3");
    assert_eq!(world.code(&sign(&third)), "no-order", "it is committed already");
}

/// Two thirds of three nodes are two; the policy's minimum may ask for more.
#[test]
fn a_generation_is_committed_by_two_thirds_and_the_policys_minimum() {
    for (holders_min, needed) in [(1, 2), (2, 2), (3, 3)] {
        let mut world = World::equipped();
        let mut policy = world.policy();
        policy.holders_min = holders_min;
        world.accept(&signed(&policy, Role::Policy));
        world.accept(&signed(&world.order(), Role::Operator));
        for (count, node) in (1..).zip(["n1", "n2", "n3"]).take(needed) {
            let receipt = world.receipt(node);
            world.accept(&Instance::new(node, OLD).attest(&receipt));
            let committed = world.state.domain(&DOMAIN).unwrap().committed().is_some();
            assert_eq!(committed, count == needed, "{count} of a minimum of {holders_min}");
        }
    }
}

/// Two agents that share a machine are two nodes, and one holder.
#[test]
fn two_nodes_on_one_platform_are_one_holder_for_the_policys_minimum() {
    for (second, expected) in [("n1", false), ("n2", true)] {
        let mut world = World::equipped();
        let mut policy = world.policy();
        policy.holders_min = 2;
        world.accept(&signed(&policy, Role::Policy));
        world.accept(&signed(&world.order(), Role::Operator));
        for (node, machine) in [("n1", "n1"), ("n2", second)] {
            let receipt = world.receipt(node);
            world.accept(&Instance::new(machine, OLD).attest(&receipt));
        }
        let committed = world.state.domain(&DOMAIN).unwrap().committed().is_some();
        assert_eq!(committed, expected, "n2 on the machine of {second}");
        if !expected {
            let receipt = world.receipt("n3");
            world.accept(&Instance::new("n3", OLD).attest(&receipt));
            assert!(world.state.domain(&DOMAIN).unwrap().committed().is_some());
        }
    }
}

#[test]
fn an_exclusive_domain_has_one_holder() {
    let mut world = World::equipped();
    let mut policy = world.policy();
    policy.sharing = Sharing::Exclusive;
    world.accept(&signed(&policy, Role::Policy));
    world.accept(&signed(&world.order(), Role::Operator));
    let receipt = world.receipt("n1");
    world.accept(&Instance::new("n1", OLD).attest(&receipt));
    assert!(world.state.domain(&DOMAIN).unwrap().committed().is_some());
}

#[test]
fn a_challenge_comes_from_an_agent_of_the_domain() {
    let mut world = World::with_genesis();
    let challenge = world.challenge(1);
    let sign = |challenge: &Challenge| Envelope::signed(challenge, [&agent("n1")]);
    check(
        &mut world,
        &challenge,
        sign,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("another domain", "other-domain", |it| it.domain = OTHER_DOMAIN),
            ("another verifier", "unknown-signer", |it| it.verifier = name("n2")),
            ("an unknown verifier", "unknown-node", |it| it.verifier = name("n9")),
            ("nobody asked", "shape", |it| it.targets.clear()),
            ("targets out of order", "shape", |it| it.targets.reverse()),
            ("a target of another domain", "other-domain", |it| it.targets = vec![name("n4")]),
            ("an unknown target", "unknown-node", |it| it.targets = vec![name("n9")]),
            ("an unknown plan", "unknown-plan", |it| {
                it.step = Some(PlanStep { plan: PlanDigest::new([1; 32]), step: StepId(1) });
            }),
        ],
    );
    assert_eq!(world.code(&Envelope::signed(&challenge, [&key(1, 9)])), "unknown-signer");
    world.accept(&sign(&challenge));
    let again = Challenge { targets: vec![name("n3")], ..challenge };
    assert_eq!(world.code(&sign(&again)), "already-recorded", "a nonce is used once");
}

#[test]
fn a_challenge_for_a_plan_comes_from_the_step_that_verifies() {
    let mut world = World::with_approved_plan();
    let plan = world.plan().digest();
    let challenge =
        Challenge { step: Some(PlanStep { plan, step: StepId(1) }), ..world.challenge(1) };
    let sign = |challenge: &Challenge| Envelope::signed(challenge, [&agent("n1")]);
    check(
        &mut world,
        &challenge,
        sign,
        &[
            ("fewer targets", "accepted", |it| it.targets = vec![name("n2")]),
            ("a target that the step does not name", "shape", |it| it.targets = vec![name("n3")]),
            ("a step that does not verify", "wrong-step", |it| {
                it.step.as_mut().unwrap().step = StepId(0);
            }),
            ("a step of another node", "wrong-step", |it| {
                it.step.as_mut().unwrap().step = StepId(2);
            }),
            ("no such step", "unknown-step", |it| it.step.as_mut().unwrap().step = StepId(9)),
        ],
    );
    let other = Challenge { nonce: Nonce::new([2; 32]), step: None, ..challenge.clone() };
    world.accept(&sign(&challenge));
    world.accept(&sign(&other));
    let domain = world.state.domain(&DOMAIN).unwrap();
    assert_eq!(domain.challenges_of(PlanStep { plan, step: StepId(1) }).count(), 1);
}

#[test]
fn a_plan_that_is_not_approved_asks_nobody() {
    let mut world = World::with_genesis();
    let plan = world.plan();
    world.accept(&world.proposal(&plan));
    let step = Some(PlanStep { plan: plan.digest(), step: StepId(1) });
    let challenge = Challenge { step, ..world.challenge(1) };
    assert_eq!(world.code(&Envelope::signed(&challenge, [&agent("n1")])), "plan-status");
}
