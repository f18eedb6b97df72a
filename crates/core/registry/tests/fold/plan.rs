//! Proposals, approvals, aborts and results.

use heirloom_model::counter::{Epoch, Generation, PlanNumber, Serial};
use heirloom_model::digest::{Checksum, NetworkId, Nonce, PlanDigest, ReleaseDigest};
use heirloom_model::domain::{HoldingOrigin, PlanStep};
use heirloom_model::envelope::Envelope;
use heirloom_model::plan::{Abort, Action, Approval, Gate, Plan, Proposal, StepId, StepResult};
use heirloom_model::root::Role;
use heirloom_model::wire;
use heirloom_registry::plan::PlanStatus;

use crate::world::{
    DOMAIN, Instance, OLD, OTHER_DOMAIN, Row, STRANGE, World, agent, check, key, name, role_keys,
    signed,
};

pub(crate) fn abort(world: &World, plan: &Plan) -> Envelope {
    let abort = Abort { network: world.network, plan: plan.digest(), node: None, reason: None };
    Envelope::signed(&abort, &role_keys(Role::Operator)[..1])
}

fn status(world: &World) -> PlanStatus {
    world.state.plan(&world.plan().digest()).unwrap().status()
}

fn result(world: &World, step: u32, node: &str) -> Envelope {
    Envelope::signed(&world.result(step, node), [&agent(node)])
}

/// Publishes the policy that completes the plan.
fn publish_completion(world: &mut World) {
    let policy = world.completing(&world.plan());
    world.accept(&signed(&policy, Role::Policy));
}

#[test]
fn a_plan_is_made_for_the_domain_as_it_is() {
    let mut world = World::with_genesis();
    let rows: &[Row<Plan>] = &[
        ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
        ("a domain without policy", "no-policy", |it| it.domain = OTHER_DOMAIN),
        ("a number left out", "not-next", |it| it.number = PlanNumber(2)),
        ("number zero", "not-next", |it| it.number = PlanNumber(0)),
        ("too late", "epoch-passed", |it| it.not_after = Epoch(0)),
        ("another policy", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").policy = Serial(2);
        }),
        ("another generation", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").generation = Generation(1);
        }),
        ("another checksum", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").checksum = Checksum::new([1; 32]);
        }),
        ("fewer holders than the policy", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").holders_min = 0;
        }),
        ("no nodes", "shape", |it| it.nodes.clear()),
        ("nodes out of order", "shape", |it| it.nodes.reverse()),
        ("a node of another domain", "other-domain", |it| it.nodes.push(name("n4"))),
        ("no steps", "shape", |it| it.steps.clear()),
        ("a step out of place", "shape", |it| it.steps[1].id = StepId(7)),
        ("a step of a stranger", "unknown-node", |it| it.steps[1].node = name("n9")),
        ("a gate that looks forward", "shape", |it| {
            it.steps[1].gates = vec![Gate::Done(StepId(2))];
        }),
        ("a gate on itself", "shape", |it| it.steps[1].gates = vec![Gate::Done(StepId(1))]),
        ("a proof from the future", "shape", |it| {
            it.steps[1].gates =
                vec![Gate::Proven { holders: vec![name("n1")], need: 1, since: StepId(3) }];
        }),
        ("a way back out of place", "shape", |it| it.rollback[0].step.id = StepId(0)),
        ("a way back for nothing", "shape", |it| it.rollback[0].undoes = StepId(5)),
        ("a point of no return on the way back", "shape", |it| it.point_of_no_return = StepId(5)),
        ("an unknown release", "unknown-release", |it| {
            it.keyring.as_mut().expect("it moves a keyring").to.release =
                ReleaseDigest::new([1; 32]);
        }),
        ("a release of other code", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").to.measurement = STRANGE;
        }),
    ];
    let plan = world.plan();
    assert_eq!(world.code(&world.proposal(&plan)), "accepted");
    for (change, expected, make) in rows {
        let mut changed = plan.clone();
        make(&mut changed);
        assert_eq!(world.code(&world.proposal(&changed)), *expected, "{change}");
    }
}

#[test]
fn the_policy_names_the_edge_and_the_way_back() {
    for (rule, expected) in [(0, "plan-mismatch"), (1, "plan-mismatch"), (2, "accepted")] {
        let mut world = World::with_genesis();
        let mut policy = world.policy();
        if let Some(rule) = policy.holders.get_mut(rule) {
            rule.gives_to.clear();
        }
        world.accept(&signed(&policy, Role::Policy));
        let mut plan = world.plan();
        plan.keyring.as_mut().expect("it moves a keyring").policy = Serial(2);
        assert_eq!(world.code(&world.proposal(&plan)), expected, "without edge {rule}");
    }
}

#[test]
fn one_operator_proposes_exact_bytes() {
    let mut world = World::with_genesis();
    let plan = world.plan();
    let mut proposal = Proposal { network: world.network, plan: wire::encode(&plan) };
    let sign = |it: &Proposal| Envelope::signed(it, &role_keys(Role::Operator)[..1]);
    check(
        &mut world,
        &proposal,
        sign,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("a trailing byte", "malformed", |it| it.plan.push(0)),
            ("no plan", "malformed", |it| it.plan.clear()),
        ],
    );
    assert_eq!(world.code(&signed(&proposal, Role::Operator)), "not-one-signature");
    assert_eq!(world.code(&Envelope::signed(&proposal, [&agent("n1")])), "unknown-signer");
    world.accept(&sign(&proposal));
    let other = Plan { number: PlanNumber(2), nonce: Nonce::new([2; 32]), ..plan };
    proposal.plan = wire::encode(&other);
    assert_eq!(world.code(&sign(&proposal)), "plan-under-way", "one at a time");
}

#[test]
fn approval_counts_distinct_operators_over_one_digest() {
    let mut world = World::with_genesis();
    let plan = world.plan();
    let approval = world.approval(&plan);
    let operators = role_keys(Role::Operator);
    assert_eq!(world.code(&signed(&approval, Role::Operator)), "unknown-plan");
    world.accept(&world.proposal(&plan));
    let sign = |it: &Approval| signed(it, Role::Operator);
    check(
        &mut world,
        &approval,
        sign,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("another plan", "unknown-plan", |it| it.plan = PlanDigest::new([1; 32])),
            ("too late", "epoch-passed", |it| it.not_after = Epoch(0)),
        ],
    );
    assert_eq!(world.code(&signed(&approval, Role::Policy)), "unknown-signer");
    assert_eq!(world.code(&Envelope::unsigned(&approval)), "threshold-not-met");
    let by = |operator: usize| Envelope::signed(&approval, [&operators[operator]]);
    world.accept(&by(0));
    world.accept(&by(0));
    assert_eq!(status(&world), PlanStatus::Proposed, "the same operator twice is one");
    assert_eq!(world.code(&result(&world, 0, "n1")), "plan-status");
    world.accept(&by(2));
    assert_eq!(status(&world), PlanStatus::Approved);
    assert_eq!(world.code(&result(&world, 0, "n1")), "accepted");
}

#[test]
fn consent_ends_with_its_epoch_and_can_be_given_again() {
    let mut world = World::with_genesis();
    let plan = world.plan();
    world.accept(&world.proposal(&plan));
    let until = |epoch| Approval { not_after: epoch, ..world.approval(&plan) };
    let (short, long) = (until(Epoch(2)), until(Epoch(50)));
    let operators = role_keys(Role::Operator);
    world.accept(&Envelope::signed(&long, &operators[..1]));
    world.accept(&Envelope::signed(&short, &operators[1..2]));
    world.finish(&[(0, "n1")]);
    world.tick();
    assert_eq!((world.state.epoch(), status(&world)), (Epoch(2), PlanStatus::Approved));
    // An old, shorter consent that somebody repeats shortens nothing.
    world.accept(&Envelope::signed(&short, &operators[..1]));
    world.tick();
    assert_eq!(status(&world), PlanStatus::ApprovalLapsed);
    assert_eq!(world.code(&result(&world, 1, "n1")), "plan-status");
    assert_eq!(world.code(&Envelope::signed(&short, &operators[1..2])), "epoch-passed");
    world.accept(&Envelope::signed(&long, &operators[1..2]));
    assert_eq!(status(&world), PlanStatus::Approved);
    world.finish(&[(1, "n1")]);
}

#[test]
fn an_operator_whom_a_root_drops_consents_no_more() {
    let mut world = World::with_approved_plan();
    let mut root = world.second_root();
    let operators = root.roles.iter_mut().find(|keys| keys.role == Role::Operator).unwrap();
    let dropped = role_keys(Role::Operator)[0].public_key();
    operators.keys.retain(|key| *key != dropped);
    world.accept(&signed(&root, Role::Root));
    assert_eq!(status(&world), PlanStatus::ApprovalLapsed);
}

#[test]
fn a_plan_is_approved_only_while_its_ground_is_the_same() {
    let mut world = World::with_genesis();
    let plan = world.plan();
    world.accept(&world.proposal(&plan));
    let approval = signed(&world.approval(&plan), Role::Operator);
    let mut rotating = World::with_genesis();
    rotating.accept(&rotating.proposal(&plan));
    rotating.accept(&signed(&rotating.order(), Role::Operator));
    assert_eq!(rotating.code(&approval), "rotation-under-way");
    for node in ["n1", "n2"] {
        let receipt = rotating.receipt(node);
        rotating.accept(&Instance::new(node, OLD).attest(&receipt));
    }
    assert_eq!(rotating.code(&approval), "plan-mismatch", "the keyring has grown");
    world.accept(&signed(&world.policy(), Role::Policy));
    assert_eq!(world.code(&approval), "plan-mismatch", "the policy has changed");
}

#[test]
fn a_result_comes_from_the_agent_whose_step_it_is() {
    let mut world = World::with_approved_plan();
    let first = world.result(0, "n1");
    let sign = |it: &StepResult| Envelope::signed(it, [&agent(it.node.as_str())]);
    check(
        &mut world,
        &first,
        sign,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("another plan", "unknown-plan", |it| it.plan = PlanDigest::new([1; 32])),
            ("another number", "not-next", |it| it.number = PlanNumber(2)),
            ("another node's step", "wrong-step", |it| it.node = name("n2")),
            ("a node of another domain", "other-domain", |it| it.node = name("n4")),
            ("an unknown node", "unknown-node", |it| it.node = name("n9")),
            ("no such step", "unknown-step", |it| it.step = StepId(7)),
            ("a step before its time", "too-early", |it| it.step = StepId(1)),
            ("a step of the way back", "plan-status", |it| {
                (it.step, it.node) = (StepId(5), name("n2"));
            }),
        ],
    );
    for stranger in [agent("n2"), key(1, 9)] {
        assert_eq!(world.code(&Envelope::signed(&first, [&stranger])), "unknown-signer");
    }
    world.accept(&sign(&first));
    assert_eq!(world.code(&sign(&first)), "already-recorded");
}

/// An agent that says so is not enough: the proofs must be in the log, and good.
#[test]
fn a_verification_is_done_only_with_the_proofs_that_it_asked_for() {
    let mut world = World::with_approved_plan();
    world.finish(&[(0, "n1")]);
    let verified = result(&world, 1, "n1");
    assert_eq!(world.code(&verified), "not-proven");
    let mut challenge = world.challenge(99);
    let digest = world.plan().digest();
    challenge.step = Some(PlanStep { plan: digest, step: StepId(1) });
    world.accept(&Envelope::signed(&challenge, [&agent("n1")]));
    assert_eq!(world.code(&verified), "not-proven", "asked, and nobody answered");
    let Some(Action::Verify { targets, .. }) =
        world.plan().step(StepId(1)).map(|step| step.action.clone())
    else {
        panic!("step 1 verifies");
    };
    let target = targets.first().unwrap().as_str().to_owned();
    let mut flawed = world.proof(&target, 99);
    flawed.origin = HoldingOrigin::Received;
    world.accept(&Instance::new(&target, OLD).attest(&flawed));
    assert_eq!(world.code(&verified), "not-proven", "answered, but not from durable state");
    world.prove_step(&world.plan(), 1);
    assert_eq!(world.code(&verified), "accepted");
}

#[test]
fn rights_are_withdrawn_last_and_by_a_published_policy() {
    let mut world = World::with_approved_plan();
    world.finish(&[(0, "n1"), (1, "n1"), (2, "n2")]);
    assert_eq!(world.code(&result(&world, 4, "n1")), "too-early");
    world.finish(&[(3, "n2")]);
    assert_eq!(world.code(&result(&world, 4, "n1")), "policy-not-pending");
    publish_completion(&mut world);
    world.finish(&[(4, "n1")]);
    assert_eq!(status(&world), PlanStatus::Finished);
    assert_eq!(world.state.policy(&DOMAIN).unwrap().serial, Serial(2));
    assert!(world.state.active_plan(&DOMAIN).is_none());
    assert_eq!(world.code(&abort(&world, &world.plan())), "plan-status");
}

/// Also if the steps' gates do not ask for the order.
#[test]
fn a_withdrawal_needs_every_other_step() {
    let mut world = World::with_genesis();
    let mut plan = world.plan();
    plan.steps[4].gates.clear();
    world.accept(&world.proposal(&plan));
    world.accept(&signed(&world.approval(&plan), Role::Operator));
    let policy = world.completing(&plan);
    world.accept(&signed(&policy, Role::Policy));
    let result = StepResult { plan: plan.digest(), ..world.result(4, "n1") };
    assert_eq!(world.code(&Envelope::signed(&result, [&agent("n1")])), "too-early");
}

#[test]
fn a_withdrawal_of_another_serial_is_refused() {
    let mut world = World::with_genesis();
    let mut plan = world.plan();
    plan.steps[4].action = Action::Withdraw(Serial(3));
    world.accept(&world.proposal(&plan));
    world.accept(&signed(&world.approval(&plan), Role::Operator));
    let policy = world.completing(&plan);
    world.accept(&signed(&policy, Role::Policy));
    for (step, node) in [(0, "n1"), (1, "n1"), (2, "n2"), (3, "n2")] {
        world.prove_step(&plan, step);
        let result = StepResult { plan: plan.digest(), ..world.result(step, node) };
        world.accept(&Envelope::signed(&result, [&agent(node)]));
    }
    let result = StepResult { plan: plan.digest(), ..world.result(4, "n1") };
    let found = world.code(&Envelope::signed(&result, [&agent("n1")]));
    assert_eq!(found, "policy-not-pending");
}

#[test]
fn an_abort_lets_what_runs_end_and_puts_back_what_may_have_started() {
    let mut world = World::with_approved_plan();
    let plan = world.plan();
    world.finish(&[(0, "n1"), (1, "n1")]);
    assert_eq!(world.code(&result(&world, 5, "n2")), "plan-status", "nothing to put back yet");
    world.accept(&abort(&world, &plan));
    assert_eq!(status(&world), PlanStatus::RollingBack);
    let state = world.state.plan(&plan.digest()).unwrap();
    assert!(state.may_have_started(StepId(2)) && !state.may_have_started(StepId(3)));
    let needed: Vec<StepId> = state.rollback_needed().map(|step| step.id).collect();
    assert_eq!(needed, [StepId(5)]);
    // Step 2 was under way and ends; what would have come after it never starts.
    world.finish(&[(2, "n2")]);
    assert_eq!(world.code(&result(&world, 3, "n2")), "plan-status");
    assert_eq!(world.code(&abort(&world, &plan)), "plan-status", "an abort is made once");
    assert_eq!(world.code(&signed(&world.policy(), Role::Policy)), "plan-under-way");
    world.finish(&[(5, "n2")]);
    assert_eq!(status(&world), PlanStatus::RolledBack);
    assert_eq!(world.code(&signed(&world.policy(), Role::Policy)), "accepted");
    let next = Plan { number: PlanNumber(2), ..plan };
    assert_eq!(world.code(&world.proposal(&next)), "accepted");
}

#[test]
fn a_rollback_step_waits_for_those_before_it_that_are_needed() {
    let mut world = World::with_approved_plan();
    world.finish(&[(0, "n1"), (1, "n1"), (2, "n2")]);
    world.accept(&abort(&world, &world.plan()));
    assert_eq!(world.code(&result(&world, 6, "n2")), "too-early");
    world.finish(&[(5, "n2"), (6, "n2")]);
    assert_eq!(status(&world), PlanStatus::RolledBack);
}

/// Even if everything before it was done when the plan was called off.
#[test]
fn the_point_of_no_return_is_never_passed_after_an_abort() {
    let mut world = World::with_approved_plan();
    world.finish(&[(0, "n1"), (1, "n1"), (2, "n2"), (3, "n2")]);
    publish_completion(&mut world);
    world.accept(&abort(&world, &world.plan()));
    assert_eq!(world.code(&result(&world, 4, "n1")), "plan-status");
    assert_eq!(world.state.policy(&DOMAIN).unwrap().serial, Serial(1));
}

#[test]
fn an_abort_comes_from_an_operator_and_before_the_point_of_no_return() {
    let mut world = World::with_genesis();
    let mut plan = world.plan();
    // The point of no return comes before the last step.
    plan.point_of_no_return = StepId(2);
    world.accept(&world.proposal(&plan));
    let envelope = abort(&world, &plan);
    assert_eq!(world.code(&envelope), "accepted");
    let abort = Abort { network: world.network, plan: plan.digest(), node: None, reason: None };
    let sign = |it: &Abort| Envelope::signed(it, &role_keys(Role::Operator)[..1]);
    check(
        &mut world,
        &abort,
        sign,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("another plan", "unknown-plan", |it| it.plan = PlanDigest::new([1; 32])),
        ],
    );
    assert_eq!(world.code(&Envelope::signed(&abort, [&agent("n1")])), "unknown-signer");
    world.accept(&signed(&world.approval(&plan), Role::Operator));
    for (step, node) in [(0, "n1"), (1, "n1"), (2, "n2")] {
        world.prove_step(&plan, step);
        let result = StepResult { plan: plan.digest(), ..world.result(step, node) };
        world.accept(&Envelope::signed(&result, [&agent(node)]));
    }
    assert_eq!(world.code(&envelope), "plan-status");
    let found = world.state.plan(&plan.digest()).unwrap().status();
    assert_eq!(found, PlanStatus::PastNoReturn);
}

#[test]
fn a_proposal_that_nobody_approved_is_called_off_at_once() {
    let mut world = World::with_genesis();
    let plan = world.plan();
    world.accept(&world.proposal(&plan));
    world.accept(&abort(&world, &plan));
    assert_eq!(status(&world), PlanStatus::RolledBack);
    assert_eq!(world.code(&world.proposal(&plan)), "not-next", "a number is used once");
    let approval = signed(&world.approval(&plan), Role::Operator);
    assert_eq!(world.code(&approval), "plan-status");
}

#[test]
fn a_plan_ends_with_its_last_epoch_and_a_new_one_makes_it_stale() {
    let mut world = World::with_genesis();
    let plan = Plan { not_after: world.state.epoch(), ..world.plan() };
    world.accept(&world.proposal(&plan));
    world.accept(&signed(&world.approval(&plan), Role::Operator));
    let first = StepResult { plan: plan.digest(), ..world.result(0, "n1") };
    let first = Envelope::signed(&first, [&agent("n1")]);
    assert_eq!(world.code(&first), "accepted");
    let next = Plan { number: PlanNumber(2), not_after: Epoch(100), ..plan.clone() };
    assert_eq!(world.code(&world.proposal(&next)), "plan-under-way");
    world.tick();
    let found = world.state.plan(&plan.digest()).unwrap().status();
    assert_eq!(found, PlanStatus::Expired);
    assert_eq!(world.code(&first), "plan-status");
    assert_eq!(world.code(&signed(&world.approval(&plan), Role::Operator)), "plan-status");
    assert_eq!(world.code(&abort(&world, &plan)), "accepted", "it may be put back");
    world.accept(&world.proposal(&next));
    assert_eq!(world.code(&first), "stale-plan");
    assert_eq!(world.code(&abort(&world, &plan)), "stale-plan");
}
