//! Suspensions and activations: never two active holders.

use heirloom_launcher::report::LaunchMode;
use heirloom_model::counter::{Epoch, Generation, LogIndex, PlanNumber};
use heirloom_model::digest::{Checksum, LogHash, NetworkId, PlanDigest};
use heirloom_model::domain::{Activation, ActivationCause, HoldingOrigin, PlanStep, Suspension};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, Plan, StepId};
use heirloom_model::root::Role;
use heirloom_model::statement::AttestedStatement;
use heirloom_registry::activity::Activity;
use heirloom_registry::plan::PlanStatus;

use crate::exclusive::{ACTIVATE, ACTIVATE_BACK, RESTART_BACK, SUSPEND};
use crate::plan::abort;
use crate::world::{
    DOMAIN, Instance, NEW, OLD, OTHER_DOMAIN, Row, STRANGE, UPGRADER, World, agent, check, name,
    signed,
};

/// The first start of old code on n1, which is active in every world here that serves.
fn first() -> Instance {
    Instance::new("n1", OLD)
}

/// Old code on n1, started again.
fn second() -> Instance {
    Instance::started("n1", OLD, 1)
}

fn restarted(world: &World) -> Activation {
    world.activation("n1", ActivationCause::Restarted)
}

#[test]
fn only_the_node_of_genesis_becomes_the_first_active_holder() {
    let mut world = World::exclusive();
    let genesis = world.state.domain(&DOMAIN).unwrap().genesis_node();
    assert_eq!((genesis, world.activity()), (Some(&name::<NodeId>("n1")), &Activity::None));
    let activation = world.activation("n1", ActivationCause::First);
    let sign = |it: &Activation| Instance::new(it.node.as_str(), OLD).attest(it);
    let rows: &[Row<Activation>] = &[
        ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
        ("another domain", "other-domain", |it| it.domain = OTHER_DOMAIN),
        ("another node", "not-genesis-node", |it| it.node = name("n2")),
        ("a node of another domain", "other-domain", |it| it.node = name("n4")),
        ("an unknown node", "unknown-node", |it| it.node = name("n9")),
        ("a restart of nobody", "nobody-active", |it| it.cause = ActivationCause::Restarted),
        ("a plan that nobody made", "not-suspended", |it| {
            let plan = PlanDigest::new([1; 32]);
            it.cause = ActivationCause::Planned(PlanStep { plan, step: StepId(0) });
        }),
        ("another generation", "keyring-mismatch", |it| it.generation = Generation(1)),
        ("another checksum", "keyring-mismatch", |it| it.checksum = Checksum::new([1; 32])),
        ("keys that it only received", "not-recovered", |it| it.origin = HoldingOrigin::Received),
        ("another history", "other-history", |it| it.as_of.head = LogHash::new([1; 32])),
        ("the future", "other-history", |it| it.as_of.length = LogIndex(it.as_of.length.0 + 1)),
    ];
    check(&mut world, &activation, sign, rows);
    let early = Activation { as_of: world.earlier(1), ..activation.clone() };
    assert_eq!(world.code(&sign(&early)), "stale", "made before the keyring was committed");
    world.accept(&sign(&activation));
    let active = world.activity().active().unwrap();
    assert_eq!((active.node(), active.measurement()), (&name("n1"), OLD));
    assert_eq!(active.cause(), ActivationCause::First);
    assert_eq!(active.at().next().unwrap(), world.next());
    assert!(world.is_active(&first()));
    let again = second().attest(&world.activation("n1", ActivationCause::First));
    assert_eq!(world.code(&again), "already-active");
}

#[test]
fn nobody_is_active_before_genesis() {
    let mut world = World::equipped_with(World::exclusive_policy);
    let activation = first().attest(&world.activation("n1", ActivationCause::First));
    assert_eq!(world.code(&activation), "keyring-mismatch");
}

/// Each row differs from the accepted instance in what runs.
#[test]
fn only_keeper_code_that_the_policy_names_becomes_active() {
    let mut world = World::exclusive();
    let activation = world.activation("n1", ActivationCause::First);
    for (code, isv_svn, mode, expected) in [
        (OLD, 2, LaunchMode::Production, "accepted"),
        (NEW, 2, LaunchMode::Production, "accepted"),
        (UPGRADER, 2, LaunchMode::Production, "role-refused"),
        (STRANGE, 2, LaunchMode::Production, "measurement-refused"),
        (OLD, 1, LaunchMode::Production, "security-version-too-low"),
        (OLD, 2, LaunchMode::Debug, "evidence-refused"),
    ] {
        let instance = Instance::with("n1", code, isv_svn, mode);
        assert_eq!(world.code(&instance.attest(&activation)), expected, "{code}");
    }
}

/// Both kinds are attested statements: by one instance and the agent of its node.
#[test]
fn an_instance_and_its_agent_sign_together() {
    let mut world = World::handing_over();
    let rows = [
        (first().attest_alone(&world.suspension("n1")), "accepted"),
        (second().attest_alone(&restarted(&world)), "accepted"),
    ];
    for (envelope, expected) in rows {
        assert_eq!(world.code(&envelope), "not-two-signatures");
        let mut strange = envelope.clone();
        strange.sign(&agent("n2"));
        assert_eq!(world.code(&strange), "unknown-signer");
        let mut signed = envelope;
        signed.sign(&agent("n1"));
        assert_eq!(world.code(&signed), expected);
        signed.evidence = None;
        assert_eq!(world.code(&signed), "evidence-missing");
    }
}

/// Evidence vouches for one statement: what an instance said about one step says nothing about
/// another one.
#[test]
fn evidence_of_another_statement_suspends_and_activates_nobody() {
    let mut world = World::handing_over();
    let mut suspension = first().attest(&world.suspension("n1"));
    suspension.evidence = first().attest(&world.registration("n1")).evidence;
    assert_eq!(world.code(&suspension), "evidence-refused");
    let mut activation = second().attest(&restarted(&world));
    activation.evidence = second().attest(&world.planned()).evidence;
    assert_eq!(world.code(&activation), "evidence-refused");
}

#[test]
fn a_replicated_domain_has_no_active_holder() {
    let mut world = World::with_approved_plan();
    let suspension = first().attest(&world.suspension("n1"));
    assert_eq!(world.code(&suspension), "not-exclusive");
    for cause in [ActivationCause::First, ActivationCause::Restarted] {
        let activation = first().attest(&world.activation("n1", cause));
        assert_eq!(world.code(&activation), "not-exclusive");
    }
}

#[test]
fn the_active_holder_suspends_itself_for_one_step() {
    let mut world = World::handing_over();
    let suspension = world.suspension("n1");
    let sign = |it: &Suspension| first().attest(it);
    let rows: &[Row<Suspension>] = &[
        ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
        ("another domain", "other-domain", |it| it.domain = OTHER_DOMAIN),
        ("another node", "other-seat", |it| it.node = name("n2")),
        ("a node of another domain", "other-domain", |it| it.node = name("n4")),
        ("an unknown node", "unknown-node", |it| it.node = name("n9")),
        ("another plan", "unknown-plan", |it| it.step.plan = PlanDigest::new([1; 32])),
        ("no such step", "unknown-step", |it| it.step.step = StepId(11)),
        ("a step that is done", "already-recorded", |it| it.step.step = StepId(1)),
        ("a step that activates", "wrong-step", |it| it.step.step = StepId(ACTIVATE)),
        ("a step of the way back", "plan-status", |it| it.step.step = StepId(ACTIVATE_BACK)),
        ("another generation", "keyring-mismatch", |it| it.generation = Generation(1)),
        ("another checksum", "keyring-mismatch", |it| it.checksum = Checksum::new([1; 32])),
        ("another history", "other-history", |it| it.as_of.head = LogHash::new([1; 32])),
        ("the future", "other-history", |it| it.as_of.length = LogIndex(it.as_of.length.0 + 1)),
    ];
    check(&mut world, &suspension, sign, rows);
    let plan = world.handover().digest();
    let approved_at = world.state.plan(&plan).unwrap().approved_at().unwrap();
    let as_of = world.earlier(world.next().0 - approved_at.0);
    let early = Suspension { as_of, ..suspension.clone() };
    assert_eq!(world.code(&sign(&early)), "stale", "made before the plan was approved");
    world.accept(&sign(&suspension));
    let suspended = world.activity().suspended().unwrap();
    assert_eq!((suspended.node(), suspended.measurement()), (&name("n1"), OLD));
    assert_eq!(suspended.instance(), &first().key.public_key());
    assert_eq!(suspended.step(), world.at_step(SUSPEND));
    assert_eq!(suspended.at().next().unwrap(), world.next());
    let witnessed = world.state.plan(&plan).unwrap().witnessed_at(StepId(SUSPEND));
    assert_eq!(witnessed, Some(suspended.at()));
    assert_eq!(world.code(&sign(&suspension)), "not-active-holder", "a replay");
}

/// Each row is another instance than the active one, or the active one with another face.
#[test]
fn nobody_suspends_the_active_holder_but_itself() {
    let mut world = World::handing_over();
    let suspension = world.suspension("n1");
    for (instance, what) in [
        (second(), "a second start of the same files"),
        (Instance::new("n1", NEW), "the code that comes next"),
        (Instance::new("n1", UPGRADER), "the upgrader"),
        (Instance::new("n2", OLD), "another machine"),
    ] {
        let found = world.code(&instance.attest(&suspension));
        assert_eq!(found, "not-active-holder", "{what}");
    }
    let mut disguised = Instance::new("n1", NEW);
    disguised.key = first().key;
    assert_eq!(world.code(&disguised.attest(&suspension)), "other-seat");
}

/// A handover with one change, and what is then said to its suspension.
#[test]
fn a_suspension_needs_the_step_as_the_plan_has_it() {
    type Change = fn(&mut Plan);
    let rows: [(&str, &str, Change); 5] = [
        ("as it is", "accepted", |_| {}),
        ("other code", "wrong-step", |it| {
            it.steps[SUSPEND as usize].action =
                Action::Suspend(it.keyring.as_ref().expect("it moves a keyring").to);
        }),
        ("another node", "wrong-step", |it| it.steps[SUSPEND as usize].node = name("n2")),
        ("a step before it that is not done", "too-early", |it| {
            it.steps[SUSPEND as usize].gates.clear();
            it.steps[SUSPEND as usize].gates.push(Gate::Done(StepId(4)));
            it.steps[4].gates.push(Gate::Done(StepId(3)));
        }),
        ("epochs to wait for", "not-waited", |it| {
            let gate = Gate::Waited { since: StepId(0), epochs: 1 };
            it.steps[SUSPEND as usize].gates.push(gate);
        }),
    ];
    for (what, expected, change) in rows {
        let mut world = World::served();
        let mut plan = world.handover();
        change(&mut plan);
        world.accept(&world.proposal(&plan));
        world.accept(&signed(&world.approval(&plan), Role::Operator));
        let last = if expected == "too-early" { 4 } else { 5 };
        for step in 0..last {
            world.finish_of(&plan, step, "n1");
        }
        let mut suspension = world.suspension("n1");
        suspension.step.plan = plan.digest();
        let found = world.code(&first().attest(&suspension));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_plan_that_does_not_run_suspends_nobody() {
    let mut world = World::served();
    let plan = world.handover();
    world.accept(&world.proposal(&plan));
    let suspension = |world: &World| first().attest(&world.suspension("n1"));
    let found = suspension(&world);
    assert_eq!(world.code(&found), "plan-status", "nobody approved it");
    let mut world = World::handing_over();
    let kept = suspension(&world);
    assert_eq!(world.code(&kept), "accepted");
    world.accept(&abort(&world, &plan));
    assert_eq!(world.code(&kept), "plan-status", "it was called off");
    let found = suspension(&world);
    assert_eq!(world.code(&found), "plan-status");
    assert!(world.is_active(&first()));
}

/// The kill comes after the statement was made and before the log had it.
#[test]
fn a_suspension_that_comes_after_a_restart_suspends_nobody() {
    let mut world = World::handing_over();
    let late = first().attest(&world.suspension("n1"));
    assert_eq!(world.code(&late), "accepted");
    let activation = restarted(&world);
    world.accept(&second().attest(&activation));
    assert_eq!(world.code(&late), "not-active-holder");
    assert!(world.is_active(&second()));
    let suspension = world.suspension("n1");
    let early = Suspension { as_of: world.earlier(1), ..suspension.clone() };
    assert_eq!(world.code(&second().attest(&early)), "stale", "before it was active");
    let found = world.code(&second().attest(&suspension));
    assert_eq!(found, "accepted", "the one that is active now can");
}

#[test]
fn a_restart_is_the_same_code_on_the_same_node_and_machine() {
    let mut world = World::served();
    let activation = restarted(&world);
    assert_eq!(world.code(&second().attest(&activation)), "accepted");
    let elsewhere = world.activation("n2", ActivationCause::Restarted);
    for (instance, activation, expected, what) in [
        (first(), &activation, "activated-before", "the active instance itself"),
        (Instance::new("n1", NEW), &activation, "other-seat", "other code"),
        (Instance::started("n2", OLD, 1), &activation, "other-platform", "another machine"),
        (Instance::started("n2", OLD, 1), &elsewhere, "other-seat", "another node and machine"),
        (second(), &elsewhere, "other-seat", "another node"),
    ] {
        assert_eq!(world.code(&instance.attest(activation)), expected, "{what}");
    }
    let early = Activation { as_of: world.earlier(1), ..activation.clone() };
    assert_eq!(world.code(&second().attest(&early)), "stale", "before anybody was active");
    world.accept(&second().attest(&activation));
    assert!(world.is_active(&second()));
    let cause = world.activity().active().unwrap().cause();
    assert_eq!(cause, ActivationCause::Restarted);
}

/// A state directory that is copied and started a second time: the log names one of both, and
/// whoever was named before is never named again.
#[test]
fn of_two_clones_one_is_active_and_the_other_never_comes_back() {
    let mut world = World::served();
    let original = first().attest(&world.activation("n1", ActivationCause::First));
    // A third start that never became active had its statement ready all the time.
    let third = Instance::started("n1", OLD, 2);
    let kept = third.attest(&restarted(&world));
    assert_eq!(world.code(&kept), "accepted");
    world.accept(&second().attest(&restarted(&world)));
    assert!(world.is_active(&second()) && !world.is_active(&first()));
    assert_eq!(world.code(&kept), "stale", "it was made for the world before");
    assert_eq!(world.code(&original), "activated-before", "a replay");
    let again = first().attest(&restarted(&world));
    assert_eq!(world.code(&again), "activated-before");
    let suspension = first().attest(&world.suspension("n1"));
    assert_eq!(world.code(&suspension), "not-active-holder");
    let domain = world.state.domain(&DOMAIN).unwrap();
    for instance in [first(), second()] {
        assert!(domain.activated_at(&instance.key.public_key()).is_some());
    }
    assert_eq!(domain.activated_at(&third.key.public_key()), None);
}

#[test]
fn the_next_holder_needs_the_suspension_of_the_one_before() {
    let mut world = World::handing_over();
    let planned = Instance::new("n1", NEW).attest(&world.planned());
    assert_eq!(world.code(&planned), "not-suspended");
    let early = world.planned();
    let suspension = world.suspension("n1");
    world.accept(&first().attest(&suspension));
    assert_eq!(world.code(&planned), "stale", "made before the suspension was in the log");
    let activation = Activation { as_of: world.state.position(), ..early };
    let found = world.code(&Instance::new("n1", NEW).attest(&activation));
    assert_eq!(found, "accepted", "the holder has said it; the agent may say so later");
    world.accept(&world.result_of(&world.handover(), SUSPEND, "n1"));
    let found = world.code(&Instance::new("n1", NEW).attest(&activation));
    assert_eq!(found, "accepted");
}

#[test]
fn the_plan_names_the_next_holder_and_nobody_else() {
    let mut world = World::suspended();
    world.proceed([SUSPEND]);
    let activation = world.planned();
    let sign = |it: &Activation| Instance::new("n1", NEW).attest(it);
    let rows: &[Row<Activation>] = &[
        ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
        ("another domain", "other-domain", |it| it.domain = OTHER_DOMAIN),
        ("another node", "wrong-step", |it| it.node = name("n2")),
        ("as if it was the first", "already-active", |it| it.cause = ActivationCause::First),
        ("as if it was restarted", "nobody-active", |it| it.cause = ActivationCause::Restarted),
        ("another plan", "unknown-plan", |it| in_cause(it).plan = PlanDigest::new([1; 32])),
        ("no such step", "unknown-step", |it| in_cause(it).step = StepId(11)),
        ("a step that stops", "wrong-step", |it| in_cause(it).step = StepId(7)),
        ("a step that is done", "already-recorded", |it| in_cause(it).step = StepId(SUSPEND)),
        ("a step of the way back", "plan-status", |it| {
            in_cause(it).step = StepId(ACTIVATE_BACK);
        }),
        ("another generation", "keyring-mismatch", |it| it.generation = Generation(1)),
        ("another checksum", "keyring-mismatch", |it| it.checksum = Checksum::new([1; 32])),
        ("keys that it only received", "not-recovered", |it| it.origin = HoldingOrigin::Received),
        ("another history", "other-history", |it| it.as_of.head = LogHash::new([1; 32])),
    ];
    check(&mut world, &activation, sign, rows);
    for (instance, expected, what) in [
        (second(), "wrong-step", "old code that started again"),
        (first(), "activated-before", "the suspended instance"),
        (Instance::new("n1", UPGRADER), "role-refused", "the upgrader"),
    ] {
        assert_eq!(world.code(&instance.attest(&activation)), expected, "{what}");
    }
    let restarted = second().attest(&restarted(&world));
    assert_eq!(world.code(&restarted), "nobody-active", "a suspended holder stays suspended");
}

/// The step that a planned activation names.
fn in_cause(activation: &mut Activation) -> &mut PlanStep {
    match &mut activation.cause {
        ActivationCause::Planned(step) => step,
        ActivationCause::First | ActivationCause::Restarted => panic!("it is planned"),
    }
}

#[test]
fn of_two_activations_for_one_suspension_the_first_counts() {
    let mut world = World::suspended();
    world.proceed([SUSPEND]);
    let activation = world.planned();
    let (one, other) = (Instance::new("n1", NEW), Instance::started("n1", NEW, 1));
    let (one_signed, other_signed) = (one.attest(&activation), other.attest(&activation));
    assert_eq!(world.code(&other_signed), "accepted", "as good as the first");
    world.accept(&one_signed);
    assert!(world.is_active(&one));
    assert_eq!(world.code(&other_signed), "stale");
    let again = other.attest(&world.planned());
    assert_eq!(world.code(&again), "already-active");
    assert_eq!(world.code(&one_signed), "activated-before", "a replay");
    // The clone can still follow as a restart, and then it is the one.
    let follows = other.attest(&world.activation("n1", ActivationCause::Restarted));
    world.accept(&follows);
    assert!(world.is_active(&other) && !world.is_active(&one));
}

/// Whether or not the agent has recorded the step: the next holder serves from here on.
#[test]
fn an_activation_is_the_point_of_no_return_before_its_result() {
    let mut world = World::suspended();
    world.proceed([SUSPEND]);
    let off = abort(&world, &world.handover());
    assert_eq!(world.code(&off), "accepted");
    let activation = world.planned();
    world.accept(&Instance::new("n1", NEW).attest(&activation));
    assert_eq!(world.handover_status(), PlanStatus::PastNoReturn);
    assert_eq!(world.code(&off), "plan-status");
    let back = world.activation("n1", ActivationCause::Planned(world.at_step(ACTIVATE_BACK)));
    let found = world.code(&second().attest(&back));
    assert_eq!(found, "not-suspended");
    world.proceed([ACTIVATE, 7]);
    assert_eq!(world.handover_status(), PlanStatus::PastNoReturn);
}

/// The next holder dies before its agent recorded that it is active, and starts again.
#[test]
fn a_next_holder_that_restarts_is_still_the_one_that_the_step_asked_for() {
    let mut world = World::suspended();
    world.proceed([SUSPEND]);
    let activation = world.planned();
    world.accept(&Instance::new("n1", NEW).attest(&activation));
    let follows = world.activation("n1", ActivationCause::Restarted);
    world.accept(&Instance::started("n1", NEW, 1).attest(&follows));
    world.proceed([ACTIVATE]);
}

#[test]
fn after_an_abort_only_the_way_back_activates_anybody() {
    let mut world = World::suspended();
    world.proceed([SUSPEND]);
    let ready = Instance::new("n1", NEW).attest(&world.planned());
    assert_eq!(world.code(&ready), "accepted");
    world.accept(&abort(&world, &world.handover()));
    assert_eq!(world.code(&ready), "plan-status", "the next holder comes too late");
    let back = |world: &World| {
        world.activation("n1", ActivationCause::Planned(world.at_step(ACTIVATE_BACK)))
    };
    let found = world.code(&second().attest(&back(&world)));
    assert_eq!(found, "too-early", "it must have restarted");
    let found = world.result_of(&world.handover(), ACTIVATE_BACK, "n1");
    assert_eq!(world.code(&found), "too-early");
    world.proceed([RESTART_BACK]);
    let found = world.result_of(&world.handover(), ACTIVATE_BACK, "n1");
    assert_eq!(world.code(&found), "not-witnessed");
    for (instance, expected, what) in [
        (first(), "activated-before", "the suspended instance"),
        (Instance::new("n1", NEW), "wrong-step", "the next holder"),
        (second(), "accepted", "old code that started again"),
    ] {
        assert_eq!(world.code(&instance.attest(&back(&world))), expected, "{what}");
    }
    let activation = back(&world);
    world.accept(&second().attest(&activation));
    assert_eq!(world.handover_status(), PlanStatus::RollingBack);
    world.proceed([ACTIVATE_BACK]);
    assert_eq!(world.handover_status(), PlanStatus::RolledBack);
    assert!(world.is_active(&second()));
    assert_eq!(world.code(&ready), "stale", "and never again");
}

/// The abort comes before the suspension, which may have been made already: the old process is
/// restarted in any case, and follows itself.
#[test]
fn a_way_back_finds_a_holder_that_never_ceased_to_be_active() {
    let mut world = World::handing_over();
    world.accept(&abort(&world, &world.handover()));
    world.accept(&second().attest(&restarted(&world)));
    world.proceed([RESTART_BACK]);
    let third = Instance::started("n1", OLD, 2);
    let back = world.activation("n1", ActivationCause::Planned(world.at_step(ACTIVATE_BACK)));
    assert_eq!(world.code(&third.attest(&back)), "already-active");
    world.proceed([ACTIVATE_BACK]);
    assert_eq!(world.handover_status(), PlanStatus::RolledBack);
}

/// Whoever is active on the way back stays it, whatever the plan says.
#[test]
fn nobody_suspends_itself_on_the_way_back() {
    let mut world = World::served();
    let mut plan = world.handover();
    let from = plan.keyring.as_ref().expect("it moves a keyring").from;
    plan.rollback[0].step.action = Action::Suspend(from);
    world.accept(&world.proposal(&plan));
    world.accept(&signed(&world.approval(&plan), Role::Operator));
    for step in 0..SUSPEND {
        world.finish_of(&plan, step, "n1");
    }
    let mut suspension = world.suspension("n1");
    suspension.step = PlanStep { plan: plan.digest(), step: StepId(RESTART_BACK) };
    assert_eq!(world.code(&first().attest(&suspension)), "plan-status", "nobody called it off");
    world.accept(&abort(&world, &plan));
    suspension.as_of = world.state.position();
    let known = world.state.plan(&plan.digest()).unwrap();
    assert!(known.allows(StepId(RESTART_BACK)) && !known.allows(StepId(SUSPEND)));
    assert_eq!(world.code(&first().attest(&suspension)), "wrong-step");
}

#[test]
fn a_plan_that_expired_while_the_holder_was_suspended_is_put_back() {
    let (mut world, plan) = World::suspended_by_its_last_epoch();
    world.finish_of(&plan, SUSPEND, "n1");
    world.tick();
    let at = |step| PlanStep { plan: plan.digest(), step: StepId(step) };
    let planned = world.activation("n1", ActivationCause::Planned(at(ACTIVATE)));
    let found = world.code(&Instance::new("n1", NEW).attest(&planned));
    assert_eq!(found, "plan-status", "its last epoch has passed");
    // Another plan takes its place only if it says who is next.
    let mut next = Plan { not_after: Epoch(100), ..plan.clone() };
    next.number = PlanNumber(2);
    assert_eq!(world.code(&world.proposal(&next)), "accepted");
    next.steps.retain(|step| !matches!(step.action, Action::Activate(_)));
    next.steps.truncate(ACTIVATE as usize);
    next.rollback.clear();
    next.point_of_no_return = StepId(0);
    assert_eq!(world.code(&world.proposal(&next)), "plan-mismatch");
    world.accept(&abort(&world, &plan));
    world.finish_of(&plan, RESTART_BACK, "n1");
    let back = world.activation("n1", ActivationCause::Planned(at(ACTIVATE_BACK)));
    world.accept(&second().attest(&back));
    assert!(world.is_active(&second()));
}

/// That an agent says so is not enough: the holder must have said it.
#[test]
fn a_suspension_and_an_activation_are_done_only_with_the_holders_word() {
    let mut world = World::handing_over();
    let plan = world.handover();
    let done = |world: &World, step| world.result_of(&plan, step, "n1");
    let result = done(&world, SUSPEND);
    assert_eq!(world.code(&result), "not-witnessed");
    assert_eq!(world.code(&done(&world, ACTIVATE)), "too-early");
    let suspension = world.suspension("n1");
    world.accept(&first().attest(&suspension));
    world.accept(&result);
    let result = done(&world, ACTIVATE);
    assert_eq!(world.code(&result), "not-witnessed");
    let activation = world.planned();
    world.accept(&Instance::new("n1", NEW).attest(&activation));
    world.accept(&result);
}

/// What was made for a plan that was replaced says nothing in the next one.
#[test]
fn a_statement_for_a_stale_plan_counts_nowhere() {
    let mut world = World::handing_over();
    let plan = world.handover();
    let kept = first().attest(&world.suspension("n1"));
    world.accept(&abort(&world, &plan));
    world.accept(&second().attest(&restarted(&world)));
    world.proceed([RESTART_BACK, ACTIVATE_BACK]);
    let number = PlanNumber(2);
    let next = Plan { number, ..plan };
    world.accept(&world.proposal(&next));
    world.accept(&signed(&world.approval(&next), Role::Operator));
    assert_eq!(world.code(&kept), "not-active-holder");
    let stale = second().attest(&world.suspension("n1"));
    assert_eq!(world.code(&stale), "stale-plan");
}

/// Every attested statement about a node that left is refused.
#[test]
fn a_node_that_left_the_fleet_activates_nobody() {
    fn left<T: AttestedStatement>(world: &mut World, instance: &Instance, statement: &T) {
        let envelope: Envelope = instance.attest(statement);
        assert_eq!(world.code(&envelope), "unknown-node");
    }
    let mut world = World::served();
    let activation = restarted(&world);
    let suspension = world.suspension("n1");
    let mut fleet = world.fleet();
    fleet.nodes.retain(|node| node.node != name("n1"));
    world.accept(&signed(&fleet, Role::Operator));
    left(&mut world, &second(), &activation);
    left(&mut world, &first(), &suspension);
}

/// The same code on another machine: the log, not the machine, says which one is active.
#[test]
fn a_move_activates_the_same_code_on_another_node() {
    let mut world = World::served();
    let mut plan = world.handover();
    (
        plan.keyring.as_mut().expect("it moves a keyring").to,
        plan.keyring.as_mut().expect("it moves a keyring").via,
    ) = (plan.keyring.as_ref().expect("it moves a keyring").from, None);
    plan.nodes = vec![name("n1"), name("n2")];
    let from = plan.keyring.as_ref().expect("it moves a keyring").from;
    plan.steps.truncate(4);
    plan.steps[0].node = name("n2");
    plan.steps[0].action = Action::HandOver { from_node: name("n1"), from, to: from };
    plan.steps[1].action = Action::Suspend(from);
    plan.steps[2].node = name("n2");
    plan.steps[2].action = Action::Activate(from);
    plan.steps[3].action = Action::Stop(from);
    for (step, before) in [(2, 1), (3, 2)] {
        plan.steps[step].gates = vec![Gate::Done(StepId(before))];
    }
    plan.rollback.clear();
    plan.point_of_no_return = StepId(2);
    world.accept(&world.proposal(&plan));
    world.accept(&signed(&world.approval(&plan), Role::Operator));
    world.finish_of(&plan, 0, "n2");
    let at = |step| PlanStep { plan: plan.digest(), step: StepId(step) };
    let mut suspension = world.suspension("n1");
    suspension.step = at(1);
    world.accept(&first().attest(&suspension));
    world.finish_of(&plan, 1, "n1");
    let activation = world.activation("n2", ActivationCause::Planned(at(2)));
    let back = world.activation("n1", ActivationCause::Planned(at(2)));
    assert_eq!(world.code(&second().attest(&back)), "wrong-step", "the old node");
    let moved = Instance::new("n2", OLD);
    world.accept(&moved.attest(&activation));
    world.finish_of(&plan, 2, "n2");
    assert!(world.is_active(&moved));
    let old = world.activation("n1", ActivationCause::Restarted);
    assert_eq!(world.code(&second().attest(&old)), "other-seat", "the old node comes back");
}
