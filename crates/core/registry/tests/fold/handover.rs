//! What handovers add to orders, challenges, plans and results.

use heirloom_model::counter::{Epoch, Generation, SecurityVersion, Serial, Time};
use heirloom_model::digest::{Nonce, ReleaseDigest};
use heirloom_model::domain::{ActivationCause, GenerationReceipt, PlanStep, PossessionProof};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::plan::{Action, Gate, KeyringGround, Placement, Plan, Proposal, StepId};
use heirloom_model::policy::{HolderRole, HolderRule, Policy, UpdateMode};
use heirloom_model::release::ReleaseKind;
use heirloom_model::root::Role;
use heirloom_model::wire;
use heirloom_registry::plan::{Consent, PlanStatus};

use crate::exclusive::{ACTIVATE, ACTIVATE_BACK, FORGET, SUSPEND, VERIFY_VIA};
use crate::plan::abort;
use crate::world::{
    DOMAIN, Instance, NEW, OLD, Row, STRANGE, UPGRADER, World, agent, name, signed,
};

#[test]
fn only_the_active_node_creates_generations_of_an_exclusive_domain() {
    let mut world = World::exclusive();
    let other = world.next_order("n2", 1);
    assert_eq!(world.code(&other), "accepted", "nobody is active yet");
    let activation = world.activation("n1", ActivationCause::First);
    world.accept(&Instance::new("n1", OLD).attest(&activation));
    assert_eq!(world.code(&other), "not-active-node");
    let own = world.next_order("n1", 2);
    world.accept(&own);
    let receipt = GenerationReceipt {
        order: Nonce::new([2; 32]),
        generation: Generation(1),
        ..world.receipt("n1")
    };
    let clone = Instance::started("n1", OLD, 1);
    assert_eq!(world.code(&clone.attest(&receipt)), "not-active-holder");
    world.accept(&Instance::new("n1", OLD).attest(&receipt));
    let committed = world.state.domain(&DOMAIN).unwrap().committed().unwrap();
    assert_eq!(committed.generation, Generation(1));
    assert_eq!(world.state.domain(&DOMAIN).unwrap().genesis_node(), Some(&name("n1")));
}

/// Its plan ended without saying who is next; nobody serves, so nobody rotates.
#[test]
fn a_suspended_holder_creates_no_generation() {
    let (mut world, _plan) = World::suspended_by_its_last_epoch();
    world.tick();
    let order = world.next_order("n1", 1);
    assert_eq!(world.code(&order), "not-active-node");
}

/// A replicated domain with an upgrader among its holders.
fn with_upgrader(world: &World) -> Policy {
    let mut policy = world.policy();
    policy.holders.push(HolderRule {
        measurement: UPGRADER,
        security_version: SecurityVersion(2),
        gives_to: vec![NEW],
        role: HolderRole::Upgrader,
    });
    policy
}

#[test]
fn an_upgrader_creates_and_acknowledges_no_generation() {
    let mut world = World::equipped_with(with_upgrader);
    world.accept(&signed(&world.order(), Role::Operator));
    let receipt = world.receipt("n1");
    let found = world.code(&Instance::new("n1", UPGRADER).attest(&receipt));
    assert_eq!(found, "role-refused");
    world.accept(&Instance::new("n1", OLD).attest(&receipt));
    let receipt = world.receipt("n2");
    let found = world.code(&Instance::new("n2", UPGRADER).attest(&receipt));
    assert_eq!(found, "role-refused");
    let registration = world.registration("n1");
    let found = world.code(&Instance::new("n1", UPGRADER).attest(&registration));
    assert_eq!(found, "accepted", "it may introduce itself");
}

/// Who answers a challenge, with the code that it asks for.
#[test]
fn a_challenge_is_answered_by_the_code_that_it_asks() {
    for (nonce, asked, code, expected) in [
        (1, None, OLD, "accepted"),
        (2, None, NEW, "accepted"),
        (3, None, UPGRADER, "role-refused"),
        (4, Some(OLD), OLD, "accepted"),
        (5, Some(OLD), NEW, "other-code-asked"),
        (6, Some(UPGRADER), UPGRADER, "accepted"),
        (7, Some(UPGRADER), OLD, "other-code-asked"),
    ] {
        let mut world = World::served();
        let mut challenge = world.challenge(nonce);
        challenge.code = asked;
        world.accept(&Envelope::signed(&challenge, [&agent("n1")]));
        let proof = PossessionProof { measurement: code, ..world.proof("n1", nonce) };
        let found = world.code(&Instance::new("n1", code).attest(&proof));
        assert_eq!(found, expected, "{asked:?} asked, {code} answers");
    }
    let mut world = World::served();
    let mut challenge = world.challenge(1);
    challenge.code = Some(Measurement::Sgx(MrEnclave::new([0; 32])));
    assert_eq!(world.code(&Envelope::signed(&challenge, [&agent("n1")])), "shape");
}

/// Answers of the old seat must not open what waits for the new one.
#[test]
fn a_challenge_for_a_step_asks_the_code_of_the_step() {
    let mut world = World::served();
    let plan = world.handover();
    world.accept(&world.proposal(&plan));
    world.accept(&signed(&world.approval(&plan), Role::Operator));
    let mut challenge = world.challenge(1);
    challenge.targets = vec![name("n1")];
    challenge.step = Some(world.at_step(VERIFY_VIA));
    for (code, expected) in
        [(Some(UPGRADER), "accepted"), (Some(OLD), "shape"), (Some(NEW), "shape"), (None, "shape")]
    {
        challenge.code = code;
        let found = world.code(&Envelope::signed(&challenge, [&agent("n1")]));
        assert_eq!(found, expected, "{code:?}");
    }
}

#[test]
fn an_upgrader_forgets_only_after_the_epochs_of_the_plan() {
    let mut world = World::suspended();
    world.proceed([SUSPEND]);
    let activation = world.planned();
    world.accept(&Instance::new("n1", NEW).attest(&activation));
    let plan = world.handover();
    let forgotten = world.result_of(&plan, FORGET, "n1");
    assert_eq!(world.code(&forgotten), "too-early");
    let epoch = world.state.epoch();
    world.proceed([ACTIVATE]);
    world.tick();
    world.proceed([7]);
    assert_eq!(world.code(&forgotten), "not-waited", "one epoch of two");
    {
        let state = world.state.plan(&plan.digest()).unwrap();
        assert_eq!(state.epoch_of(StepId(ACTIVATE)), Some(epoch));
        assert_eq!(state.epoch_of(StepId(FORGET)), None);
        assert!(state.is_open(plan.step(StepId(FORGET)).unwrap()));
        let now = world.state.epoch();
        for (since, epochs, expected) in
            [(ACTIVATE, 0, true), (ACTIVATE, 1, true), (ACTIVATE, 2, false), (FORGET, 0, false)]
        {
            let found = state.has_waited(StepId(since), epochs, now);
            assert_eq!(found, expected, "{epochs} since {since}");
        }
        assert!(!state.has_waited(StepId(ACTIVATE), u32::MAX, now));
        assert!(state.has_waited(StepId(ACTIVATE), u32::MAX, Epoch(u64::MAX)));
        assert!(!state.has_waited(StepId(ACTIVATE), 1, Epoch(0)), "time never goes back");
    }
    world.tick();
    world.accept(&forgotten);
    assert_eq!(world.handover_status(), PlanStatus::Finished, "without any withdrawal");
}

#[test]
fn a_handover_is_made_of_known_code_in_known_roles() {
    let mut world = World::served();
    let rows: &[Row<Plan>] = &[
        ("no upgrader", "shape", |it| it.keyring.as_mut().expect("it moves a keyring").via = None),
        ("a keeper as upgrader", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").via =
                Some(it.keyring.as_ref().expect("it moves a keyring").to);
        }),
        ("an upgrader as the new code", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").to =
                it.keyring.as_ref().expect("it moves a keyring").via.unwrap();
        }),
        ("an upgrader as the old code", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").from =
                it.keyring.as_ref().expect("it moves a keyring").via.unwrap();
        }),
        ("an unknown upgrader", "unknown-release", |it| {
            it.keyring.as_mut().expect("it moves a keyring").via.as_mut().unwrap().release =
                ReleaseDigest::new([1; 32]);
        }),
    ];
    refused(&mut world, rows);
}

/// Proposes the handover with each of these changes.
fn refused(world: &mut World, rows: &[Row<Plan>]) {
    let plan = world.handover();
    assert_eq!(world.code(&world.proposal(&plan)), "accepted");
    for (change, expected, make) in rows {
        let mut changed = plan.clone();
        make(&mut changed);
        assert_eq!(world.code(&world.proposal(&changed)), *expected, "{change}");
    }
}

#[test]
fn each_step_of_a_handover_is_about_code_in_its_role() {
    let mut world = World::served();
    let rows: &[Row<Plan>] = &[
        ("a step about unknown code", "shape", |it| {
            let mut strange = moved(it).from;
            strange.measurement = STRANGE;
            it.steps[7].action = Action::Stop(strange);
        }),
        ("a step about an unknown release", "shape", |it| {
            let mut strange = moved(it).to;
            strange.release = ReleaseDigest::new([1; 32]);
            it.steps[0].action = Action::Prepare(strange);
        }),
        ("a quarantine of unknown code", "shape", |it| {
            it.steps[7].action = Action::Quarantine(STRANGE);
        }),
        ("a question to unknown code", "shape", |it| {
            let targets = vec![name("n1")];
            it.steps[4].action = Action::Verify { targets, need: 1, code: Some(STRANGE) };
        }),
        ("an upgrader that suspends itself", "shape", |it| {
            it.steps[SUSPEND as usize].action = Action::Suspend(via(it));
        }),
        ("an upgrader that becomes active", "shape", |it| {
            it.steps[ACTIVATE as usize].action = Action::Activate(via(it));
        }),
        ("a keeper that forgets", "shape", |it| {
            it.steps[FORGET as usize].action = Action::Forget(moved(it).from);
        }),
        ("an upgrader that is installed", "shape", |it| {
            it.steps[7].action = Action::Install { expect: moved(it).from, install: via(it) };
        }),
        ("an upgrader that is replicated to", "shape", |it| {
            let sources = vec![name("n1")];
            it.steps[7].action = Action::Replicate { sources, to: via(it) };
        }),
        ("a hop from a seat to itself", "shape", |it| {
            let from_node = name("n1");
            it.steps[1].action =
                Action::HandOver { from_node, from: moved(it).from, to: moved(it).from };
        }),
        ("a donor on an unknown node", "unknown-node", |it| {
            let (from, to) = (moved(it).from, via(it));
            it.steps[1].action = Action::HandOver { from_node: name("n9"), from, to };
        }),
        ("a hop that no rule names", "plan-mismatch", |it| {
            let from_node = name("n1");
            it.steps[1].action =
                Action::HandOver { from_node, from: moved(it).from, to: moved(it).to };
        }),
        ("a way back after the next holder is active", "shape", |it| {
            it.point_of_no_return = StepId(7);
        }),
        ("epochs after a later step", "shape", |it| {
            it.steps[7].gates.push(Gate::Waited { since: StepId(FORGET), epochs: 1 });
        }),
        ("replication without the edges for it", "plan-mismatch", |it| {
            it.steps[7].action = Action::Replicate { sources: vec![name("n1")], to: moved(it).to };
        }),
    ];
    refused(&mut world, rows);
}

/// What the plan says about the keyring.
fn moved(plan: &Plan) -> &KeyringGround {
    plan.keyring.as_ref().expect("it moves a keyring")
}

/// Its upgrader.
fn via(plan: &Plan) -> Placement {
    moved(plan).via.expect("a handover has an upgrader")
}

/// A handover of nothing but hops: without them it is a replication, which needs both edges.
#[test]
fn without_any_hop_the_policy_must_name_both_ways() {
    let mut world = World::served();
    let mut plan = world.handover();
    let to = plan.keyring.as_ref().expect("it moves a keyring").to;
    for step in [1, 3] {
        plan.steps[step].action = Action::Prepare(to);
    }
    assert_eq!(world.code(&world.proposal(&plan)), "plan-mismatch");
}

/// The policy with one change, and what is then said to the handover.
#[test]
fn the_policy_names_each_hop_and_each_role() {
    type Change = fn(&mut Policy);
    let rows: [(&str, &str, Change); 8] = [
        ("as it is", "accepted", |_| {}),
        ("no edge to the upgrader", "plan-mismatch", |it| it.holders[0].gives_to.clear()),
        ("no edge from the upgrader", "plan-mismatch", |it| {
            it.holders[2].gives_to.retain(|to| *to != NEW);
        }),
        ("no way back of the new code", "accepted", |it| it.holders[1].gives_to.clear()),
        ("an upgrader that is a keeper", "plan-mismatch", |it| {
            it.holders[2].role = HolderRole::Keeper;
        }),
        ("a new keeper that is an upgrader", "plan-mismatch", |it| {
            it.holders[1].role = HolderRole::Upgrader;
        }),
        ("an old keeper that is an upgrader", "plan-mismatch", |it| {
            it.holders[0].role = HolderRole::Upgrader;
        }),
        ("new code that may not hold", "plan-mismatch", |it| {
            it.holders[2].gives_to.retain(|to| *to != NEW);
            it.holders.remove(1);
        }),
    ];
    for (what, expected, change) in rows {
        let mut world = World::served();
        let mut policy = world.exclusive_policy();
        change(&mut policy);
        world.accept(&signed(&policy, Role::Policy));
        let mut plan = world.handover();
        plan.keyring.as_mut().expect("it moves a keyring").policy = world.serial();
        assert_eq!(world.code(&world.proposal(&plan)), expected, "{what}");
    }
}

/// Another release of the upgrader, of its kind or not, in time or not.
#[test]
fn an_upgrader_is_a_release_of_its_kind_that_has_not_expired() {
    for (kind, seconds, expected) in [
        (ReleaseKind::Upgrader, 3600, "accepted"),
        (ReleaseKind::Keeper, 3600, "plan-mismatch"),
        (ReleaseKind::Application, 3600, "plan-mismatch"),
        (ReleaseKind::Upgrader, 0, "expired"),
    ] {
        let mut world = World::served();
        let mut release = world.release("upgrader-2", UPGRADER);
        release.kind = kind;
        release.not_after = Time(world.state.now().unwrap().0 + seconds);
        world.accept(&signed(&release, Role::Release));
        world.tick();
        let plan = with_via(&world, release.digest());
        assert_eq!(world.code(&world.proposal(&plan)), expected, "{kind:?} for {seconds} s");
    }
}

/// The handover by way of another release of the upgrader.
fn with_via(world: &World, release: ReleaseDigest) -> Plan {
    let mut plan = world.handover();
    let old = plan.keyring.as_ref().expect("it moves a keyring").via.unwrap();
    let mut via = old;
    via.release = release;
    plan.keyring.as_mut().expect("it moves a keyring").via = Some(via);
    for step in &mut plan.steps {
        match &mut step.action {
            Action::HandOver { from, to, .. } => {
                for placement in [from, to] {
                    if *placement == old {
                        *placement = via;
                    }
                }
            }
            Action::Forget(placement) => *placement = via,
            _ => {}
        }
    }
    plan
}

#[test]
fn no_plan_leads_to_an_older_security_version() {
    for (version, expected) in [(0, "plan-mismatch"), (1, "accepted"), (2, "accepted")] {
        let mut world = World::with_genesis();
        let mut release = world.release("keeper-3", NEW);
        release.security_version = SecurityVersion(version);
        world.accept(&signed(&release, Role::Release));
        let mut plan = world.plan();
        let mut to = plan.keyring.as_ref().expect("it moves a keyring").to;
        to.release = release.digest();
        plan.keyring.as_mut().expect("it moves a keyring").to = to;
        plan.steps[0].action = Action::Prepare(to);
        plan.steps[3].action = Action::Start(to);
        plan.rollback[1].step.action = Action::Stop(to);
        assert_eq!(world.code(&world.proposal(&plan)), expected, "version {version}");
    }
}

/// The same code before and after: a host that moves, or one that seals anew.
#[test]
fn a_plan_that_keeps_its_code_installs_nothing() {
    let mut world = World::served();
    let mut plan = world.handover();
    (
        plan.keyring.as_mut().expect("it moves a keyring").to,
        plan.keyring.as_mut().expect("it moves a keyring").via,
        plan.rollback,
    ) = (plan.keyring.as_ref().expect("it moves a keyring").from, None, Vec::new());
    plan.steps.truncate(3);
    let from = plan.keyring.as_ref().expect("it moves a keyring").from;
    plan.steps[0].action = Action::Preserve(OLD);
    plan.steps[1].action = Action::Reseal(from);
    plan.steps[2].action = Action::Restart(from);
    plan.point_of_no_return = StepId(2);
    assert_eq!(world.code(&world.proposal(&plan)), "accepted");
    plan.steps[2].action = Action::Install { expect: from, install: from };
    assert_eq!(world.code(&world.proposal(&plan)), "plan-mismatch");
}

#[test]
fn a_replicated_domain_suspends_and_activates_nobody() {
    let mut world = World::with_genesis();
    for (action, expected) in [
        (
            Action::Suspend(world.plan().keyring.as_ref().expect("it moves a keyring").from),
            "not-exclusive",
        ),
        (
            Action::Activate(world.plan().keyring.as_ref().expect("it moves a keyring").from),
            "not-exclusive",
        ),
        (
            Action::Drain(world.plan().keyring.as_ref().expect("it moves a keyring").from),
            "accepted",
        ),
    ] {
        let mut plan = world.plan();
        plan.steps[2].action = action.clone();
        assert_eq!(world.code(&world.proposal(&plan)), expected, "{}", action.name());
        let mut plan = world.plan();
        plan.rollback[0].step.action = action;
        assert_eq!(world.code(&world.proposal(&plan)), expected, "on the way back");
    }
}

/// A domain whose policy consents in advance.
fn automatic(update: UpdateMode) -> World {
    let mut world = World::served();
    let policy = Policy { update, ..world.exclusive_policy() };
    world.accept(&signed(&policy, Role::Policy));
    world
}

fn proposal_by(world: &World, plan: &Plan, node: &str) -> Envelope {
    let proposal = Proposal { network: world.network, plan: wire::encode(plan) };
    Envelope::signed(&proposal, [&agent(node)])
}

#[test]
fn an_agent_proposes_for_its_own_node_if_the_policy_consents() {
    let mut world = automatic(UpdateMode::Ask);
    let mut plan = world.handover();
    plan.keyring.as_mut().expect("it moves a keyring").policy = world.serial();
    let found = proposal_by(&world, &plan, "n1");
    assert_eq!(world.code(&found), "unknown-signer", "operators are asked");
    let mut world = automatic(UpdateMode::Auto);
    let rows: &[Row<Plan>] = &[
        ("as it is", "accepted", |_| {}),
        ("another node's", "plan-mismatch", |it| it.nodes = vec![name("n2")]),
        ("another node that proves", "accepted", |it| it.nodes.push(name("n2"))),
        ("no node", "plan-mismatch", |it| it.nodes.clear()),
        ("a step of another node", "plan-mismatch", |it| it.steps[7].node = name("n2")),
        ("a way back of another node", "plan-mismatch", |it| {
            it.rollback[1].step.node = name("n2");
        }),
        ("a donor on another node", "plan-mismatch", |it| {
            let (from, to) = (
                it.keyring.as_ref().expect("it moves a keyring").from,
                it.keyring.as_ref().expect("it moves a keyring").via.unwrap(),
            );
            it.steps[1].action = Action::HandOver { from_node: name("n2"), from, to };
        }),
        ("another policy", "plan-mismatch", |it| {
            it.keyring.as_mut().expect("it moves a keyring").policy = Serial(9);
        }),
        ("a hop that no rule names", "plan-mismatch", |it| {
            let from_node: NodeId = name("n1");
            it.steps[1].action = Action::HandOver {
                from_node,
                from: it.keyring.as_ref().expect("it moves a keyring").from,
                to: it.keyring.as_ref().expect("it moves a keyring").to,
            };
        }),
    ];
    for (change, expected, make) in rows {
        let mut changed = plan.clone();
        make(&mut changed);
        let found = world.code(&proposal_by(&world, &changed, "n1"));
        assert_eq!(found, *expected, "{change}");
    }
    for (stranger, expected) in
        [("n2", "plan-mismatch"), ("n4", "unknown-signer"), ("n9", "unknown-signer")]
    {
        let found = world.code(&proposal_by(&world, &plan, stranger));
        assert_eq!(found, expected, "{stranger}");
        // A node that only proves is not the one that changes.
        let mut joined = plan.clone();
        joined.nodes = vec![name("n1"), name("n2")];
        let found = world.code(&proposal_by(&world, &joined, stranger));
        assert_eq!(found, expected, "{stranger}, as a node of the plan");
    }
    let mut twice = proposal_by(&world, &plan, "n1");
    twice.sign(&agent("n2"));
    assert_eq!(world.code(&twice), "not-one-signature");
}

#[test]
fn a_plan_with_the_policys_consent_runs_at_once_and_can_be_called_off() {
    let mut world = automatic(UpdateMode::Auto);
    let mut plan = world.handover();
    plan.keyring.as_mut().expect("it moves a keyring").policy = world.serial();
    world.accept(&proposal_by(&world, &plan, "n1"));
    let state = world.state.plan(&plan.digest()).unwrap();
    assert_eq!((state.status(), state.consent()), (PlanStatus::Approved, Consent::Policy));
    assert_eq!(state.approved_at(), Some(state.proposed_at()));
    assert_eq!(*state.proposed_by(), agent("n1").public_key());
    assert!(state.approvals().is_empty());
    world.finish_of(&plan, 0, "n1");
    for _ in 0..60 {
        world.tick();
    }
    let state = world.state.plan(&plan.digest()).unwrap();
    assert_eq!(state.status(), PlanStatus::Approved, "consent of a policy does not lapse");
    world.accept(&abort(&world, &plan));
    let state = world.state.plan(&plan.digest()).unwrap();
    assert_eq!(state.status(), PlanStatus::RolledBack, "nothing had begun that needs undoing");
}

#[test]
fn a_plan_of_operators_waits_for_them_also_where_agents_need_not() {
    let mut world = automatic(UpdateMode::Auto);
    let mut plan = world.handover();
    plan.keyring.as_mut().expect("it moves a keyring").policy = world.serial();
    world.accept(&world.proposal(&plan));
    let state = world.state.plan(&plan.digest()).unwrap();
    assert_eq!((state.status(), state.consent()), (PlanStatus::Proposed, Consent::Operators));
}

#[test]
fn no_agent_starts_a_plan_while_a_generation_is_ordered() {
    let mut world = automatic(UpdateMode::Auto);
    let mut plan = world.handover();
    plan.keyring.as_mut().expect("it moves a keyring").policy = world.serial();
    let order = world.next_order("n1", 1);
    world.accept(&order);
    let found = world.code(&proposal_by(&world, &plan, "n1"));
    assert_eq!(found, "rotation-under-way");
    assert_eq!(world.code(&world.proposal(&plan)), "accepted", "operators decide later");
}

/// The plan is being rolled back, but not because of the step that this activation would undo.
#[test]
fn a_way_back_that_is_not_needed_activates_nobody() {
    for (undoes, expected) in [(SUSPEND, "accepted"), (7, "plan-status")] {
        let mut world = World::served();
        let mut plan = world.handover();
        plan.rollback[1].undoes = StepId(undoes);
        plan.rollback[1].step.gates.clear();
        world.accept(&world.proposal(&plan));
        world.accept(&signed(&world.approval(&plan), Role::Operator));
        for step in 0..SUSPEND {
            world.finish_of(&plan, step, "n1");
        }
        let mut suspension = world.suspension("n1");
        suspension.step.plan = plan.digest();
        world.accept(&Instance::new("n1", OLD).attest(&suspension));
        let step = PlanStep { plan: plan.digest(), step: StepId(ACTIVATE_BACK) };
        let cause = ActivationCause::Planned(step);
        let activation =
            |world: &World| Instance::started("n1", OLD, 1).attest(&world.activation("n1", cause));
        let found = activation(&world);
        assert_eq!(world.code(&found), "plan-status", "nobody called the plan off");
        world.accept(&abort(&world, &plan));
        let status = world.state.plan(&plan.digest()).unwrap().status();
        assert_eq!(status, PlanStatus::RollingBack);
        let found = activation(&world);
        assert_eq!(world.code(&found), expected, "it undoes step {undoes}");
    }
}
