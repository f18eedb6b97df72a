//! What services state on the way through a flag day.

use heirloom_launcher::report::LaunchMode;
use heirloom_model::counter::{Epoch, PlanNumber};
use heirloom_model::digest::{ConfigurationDigest, NetworkId, Nonce, PlanDigest};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Plan, ServiceAction, StepId};
use heirloom_model::root::Role;
use heirloom_model::service::{
    Admission, Height, KeyCustody, KeyShown, PeerSeen, SchemaVersion, Standing, Tip, Writing,
};
use heirloom_model::wire;
use heirloom_registry::refusal::Refusal;
use heirloom_registry::standing::Agreement;
use heirloom_testkit::service::{public, tip};

use crate::plan::abort;
use crate::service::{
    APP_NEW, APP_OLD, COMMIT, EQUIP, FREEZE, FROZEN, FlagDay, HALT, JOIN, LAUNCH, MUSTER, OPEN,
    WATCH, agreed, all_done, stated, without_new_service,
};
use crate::world::{Instance, NEW, OTHER_DOMAIN, Row, STRANGE, agent, check, key, name, signed};

/// Each change of one field of the statement for this step is refused for its reason.
fn check_standing(step: u32, rows: &[Row<Standing>]) {
    let mut day = FlagDay::at(step);
    let standing = day.standing(step);
    let node = standing.node.clone();
    let code = standing.measurement;
    let sign = |it: &Standing| Instance::new(node.as_str(), code).attest(it);
    check(&mut day.world, &standing, sign, rows);
}

fn peer(node: &str) -> PeerSeen {
    let configuration = heirloom_testkit::service::configuration();
    PeerSeen { node: name(node), measurement: APP_NEW, configuration }
}

#[test]
fn every_standing_is_of_the_asked_code_with_the_agreed_configuration_and_keys() {
    check_standing(
        MUSTER,
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("another domain", "other-domain", |it| it.domain = OTHER_DOMAIN),
            ("another node", "wrong-step", |it| it.node = name("n2")),
            ("a stranger", "unknown-node", |it| it.node = name("n9")),
            ("another plan", "unknown-plan", |it| it.step.plan = PlanDigest::new([1; 32])),
            ("no such step", "unknown-step", |it| it.step.step = StepId(1_000)),
            ("the step of another node", "wrong-step", |it| it.step.step = StepId(MUSTER + 1)),
            ("a step that is done", "already-recorded", |it| it.step.step = StepId(EQUIP)),
            ("a step that is not due", "too-early", |it| it.step.step = StepId(FREEZE)),
            ("another application", "standing-mismatch", |it| it.application = name("other")),
            ("other code", "standing-mismatch", |it| it.measurement = APP_NEW),
            ("another configuration", "standing-mismatch", |it| {
                it.configuration = ConfigurationDigest::new([1; 32]);
            }),
            ("a key less", "standing-mismatch", |it| drop(it.keys.pop())),
            ("another key", "standing-mismatch", |it| it.keys[0].key = name("ledger-other")),
            ("a key that nothing keeps", "standing-mismatch", |it| {
                it.keys[0].custody = KeyCustody::PerBoot;
            }),
            ("a long-lived key that is not there", "standing-mismatch", |it| {
                it.keys[0].public = None;
            }),
            ("a key that is declared new at each start", "accepted", |it| {
                it.keys[1].public = None;
            }),
            ("keys out of order", "shape", |it| it.keys.reverse()),
            ("peers out of order", "shape", |it| it.peers.reverse()),
            ("one key more", "standing-mismatch", |it| {
                let key = KeyShown { key: name("zz"), custody: KeyCustody::PerBoot, public: None };
                it.keys.push(key);
            }),
        ],
    );
}

#[test]
fn an_equipped_service_is_tried_without_data_and_without_keys() {
    check_standing(
        EQUIP,
        &[
            ("with data", "accepted", |it| it.loaded = Some(tip(1))),
            ("with its keys", "accepted", |it| it.keys[0].public = Some(public("x"))),
            ("the code before", "standing-mismatch", |it| it.measurement = APP_OLD),
            ("a key less", "standing-mismatch", |it| drop(it.keys.pop())),
            ("another configuration", "standing-mismatch", |it| {
                it.configuration = ConfigurationDigest::new([1; 32]);
            }),
        ],
    );
}

#[test]
fn a_mustered_service_works_on_the_schema_before() {
    check_standing(
        MUSTER,
        &[
            ("frozen already", "standing-mismatch", |it| it.writing = Writing::Frozen),
            ("without a database", "standing-mismatch", |it| it.schema = None),
            ("on the next schema", "standing-mismatch", |it| {
                it.schema = Some(SchemaVersion(2));
            }),
            ("on a fork", "standing-mismatch", |it| it.fork = Some(tip(3))),
        ],
    );
}

#[test]
fn a_frozen_service_is_quiet_and_takes_nothing() {
    check_standing(
        FREEZE,
        &[
            ("still writing", "standing-mismatch", |it| it.writing = Writing::Active),
            ("with work", "standing-mismatch", |it| it.pending = 1),
            ("open", "standing-mismatch", |it| it.admission = Admission::Open),
            ("open at the side", "standing-mismatch", |it| it.admission = Admission::SideDoor),
            ("not quiet for long", "standing-mismatch", |it| it.quiet_milliseconds = 499),
            ("quiet for longer", "accepted", |it| it.quiet_milliseconds = 501),
            ("without a tip", "standing-mismatch", |it| it.tip = None),
            ("on a fork", "standing-mismatch", |it| it.fork = Some(tip(3))),
            ("on the next schema", "standing-mismatch", |it| {
                it.schema = Some(SchemaVersion(2));
            }),
        ],
    );
}

#[test]
fn a_launched_service_has_loaded_the_frozen_tip_and_the_same_keys() {
    check_standing(
        LAUNCH,
        &[
            ("nothing loaded", "standing-mismatch", |it| it.loaded = None),
            ("a lower ledger", "standing-mismatch", |it| it.loaded = Some(tip(FROZEN - 1))),
            ("a higher ledger", "standing-mismatch", |it| it.loaded = Some(tip(FROZEN + 1))),
            ("another block at that height", "standing-mismatch", |it| {
                it.loaded = Some(Tip { height: Height(FROZEN), ..tip(1) });
            }),
            ("the schema before", "standing-mismatch", |it| it.schema = Some(SchemaVersion(1))),
            ("open", "standing-mismatch", |it| it.admission = Admission::Open),
            ("open at the side", "accepted", |it| it.admission = Admission::SideDoor),
            ("another long-lived key", "standing-mismatch", |it| {
                it.keys[0].public = Some(public("another"));
            }),
            ("another key of this start", "accepted", |it| {
                it.keys[1].public = Some(public("another"));
            }),
            ("on a fork", "standing-mismatch", |it| it.fork = Some(tip(3))),
        ],
    );
}

#[test]
fn a_joined_service_has_exactly_the_other_nodes_as_peers() {
    check_standing(
        JOIN,
        &[
            ("one less", "standing-mismatch", |it| drop(it.peers.pop())),
            ("one more", "standing-mismatch", |it| it.peers.push(peer("n4"))),
            ("itself", "standing-mismatch", |it| it.peers.insert(0, peer("n1"))),
            ("another one", "standing-mismatch", |it| it.peers[1] = peer("n4")),
            ("one of other code", "standing-mismatch", |it| it.peers[1].measurement = APP_OLD),
            ("one configured otherwise", "standing-mismatch", |it| {
                it.peers[1].configuration = ConfigurationDigest::new([1; 32]);
            }),
            ("on a fork", "standing-mismatch", |it| it.fork = Some(tip(3))),
            ("another long-lived key", "standing-mismatch", |it| {
                it.keys[0].public = Some(public("another"));
            }),
        ],
    );
}

#[test]
fn a_watched_service_lets_clients_in_and_goes_on_from_the_frozen_tip() {
    check_standing(
        WATCH,
        &[
            ("further on", "accepted", |it| it.tip = Some(tip(FROZEN + 5))),
            ("further back", "standing-mismatch", |it| it.tip = Some(tip(FROZEN - 1))),
            ("without a tip", "standing-mismatch", |it| it.tip = None),
            ("closed", "standing-mismatch", |it| it.admission = Admission::Closed),
            ("on a fork", "standing-mismatch", |it| it.fork = Some(tip(3))),
            ("another long-lived key", "standing-mismatch", |it| {
                it.keys[0].public = Some(public("another"));
            }),
        ],
    );
}

#[test]
fn a_standing_is_attested_by_the_code_that_it_names() {
    let mut day = FlagDay::at(MUSTER);
    let standing = day.standing(MUSTER);
    let with = |version, mode| Instance::with("n1", APP_OLD, version, mode).attest(&standing);
    assert_eq!(day.world.code(&with(2, LaunchMode::Production)), "accepted");
    assert_eq!(day.world.code(&with(1, LaunchMode::Production)), "security-version-too-low");
    assert_eq!(day.world.code(&with(2, LaunchMode::Debug)), "evidence-refused");
    for other in [APP_NEW, NEW, STRANGE] {
        let found = day.world.code(&Instance::new("n1", other).attest(&standing));
        assert_eq!(found, "measurement-mismatch", "{other}");
    }
    let mut bare = stated(&standing);
    bare.evidence = None;
    assert_eq!(day.world.code(&bare), "evidence-missing");
    let mut other = standing.clone();
    other.quiet_milliseconds += 1;
    let mut borrowed = stated(&standing);
    borrowed.evidence = stated(&other).evidence;
    assert_eq!(day.world.code(&borrowed), "evidence-refused", "evidence of another statement");
}

/// The keepers' policy can change once the last epoch of the plan has passed.
#[test]
fn a_standing_is_of_code_that_the_policy_names_now() {
    let mut day = FlagDay::at(WATCH);
    day.tick_to(Epoch(7));
    let statement = stated(&day.standing(WATCH));
    assert_eq!(day.world.code(&statement), "accepted");
    let policy = without_new_service(&day.world);
    day.world.accept(&signed(&policy, Role::Policy));
    assert_eq!(day.world.code(&statement), "application-refused");
}

#[test]
fn a_standing_has_the_signature_of_the_agent_of_its_node() {
    let mut day = FlagDay::at(MUSTER);
    let standing = day.standing(MUSTER);
    let instance = Instance::new("n1", APP_OLD);
    let mut envelope = instance.attest_alone(&standing);
    assert_eq!(day.world.code(&envelope), "not-two-signatures");
    envelope.sign(&agent("n2"));
    assert_eq!(day.world.code(&envelope), "unknown-signer");
    let mut envelope = instance.attest_alone(&standing);
    envelope.sign(&agent("n1"));
    assert_eq!(day.world.code(&envelope), "accepted");
}

#[test]
fn one_platform_states_the_same_for_one_node_only() {
    let mut day = FlagDay::at(MUSTER);
    day.carry_out(MUSTER);
    let standing = day.standing(MUSTER + 1);
    let posing = Instance::started("n1", APP_OLD, 3).attest(&standing);
    assert_eq!(day.world.code(&posing), "same-platform");
    let statement = stated(&standing);
    assert_eq!(day.world.code(&statement), "accepted");
}

/// What a platform stated for another action says nothing about this one: nodes move.
#[test]
fn one_platform_may_state_different_things_for_different_nodes() {
    let mut day = FlagDay::at(FREEZE);
    let standing = day.standing(FREEZE + 1);
    let moved = Instance::started("n1", APP_OLD, 3).attest(&standing);
    day.world.accept(&moved);
    let statement = stated(&day.standing(FREEZE));
    assert_eq!(day.world.code(&statement), "same-platform");
}

#[test]
fn a_step_remembers_so_many_instances_and_no_more() {
    let mut day = FlagDay::at(EQUIP);
    let standing = day.standing(EQUIP);
    let mut instance = Instance::new("n1", APP_NEW);
    // One that counts, and 1024 before it.
    for number in 0..=1_024_u16 {
        let [high, low] = number.to_be_bytes();
        instance.key = key(0x20 + high, low);
        let statement = instance.attest(&standing);
        day.world.accept(&statement);
    }
    instance.key = key(0x30, 0);
    assert_eq!(day.world.code(&instance.attest(&standing)), "limit");
    let result = day.result(EQUIP);
    assert_eq!(day.world.code(&result), "accepted", "the step goes on with the last");
}

#[test]
fn a_step_remembers_so_many_statements_of_an_instance_and_no_more() {
    let mut day = FlagDay::at(MUSTER);
    let mut standing = day.standing(MUSTER);
    for height in 0..1_024 {
        standing.tip = Some(tip(height));
        let statement = stated(&standing);
        day.world.accept(&statement);
    }
    standing.tip = Some(tip(1_024));
    assert_eq!(day.world.code(&stated(&standing)), "limit");
    let next = Instance::started("n1", APP_OLD, 1).attest(&standing);
    assert_eq!(day.world.code(&next), "accepted", "another start begins anew");
    let result = day.result(MUSTER);
    assert_eq!(day.world.code(&result), "accepted", "the step goes on with the last");
}

#[test]
fn a_standing_counts_for_one_plan_only() {
    let mut day = FlagDay::at(MUSTER);
    let statement = stated(&day.standing(MUSTER));
    let called_off = abort(&day.world, &day.plan);
    day.world.accept(&called_off);
    // The same steps once more, in another plan.
    let digest = day.plan.digest();
    day.tick_to(Epoch(7));
    let next = Plan {
        number: PlanNumber(2),
        nonce: Nonce::new([2; 32]),
        not_after: Epoch(60),
        ..day.plan.clone()
    };
    day.plan = next;
    let change = day.plan.service.as_mut().unwrap();
    (change.opens, change.abort_after) = (Epoch(8), Epoch(50));
    let proposal = day.world.proposal(&day.plan);
    day.world.accept(&proposal);
    let approval = day.world.approval(&day.plan);
    day.world.accept(&signed(&approval, Role::Operator));
    day.tick_to(Epoch(8));
    assert_ne!(day.plan.digest(), digest);
    assert_eq!(day.world.code(&statement), "stale-plan");
}

#[test]
fn a_plan_that_may_not_run_asks_for_no_standing() {
    let mut day = FlagDay::proposed();
    let statement = stated(&day.standing(EQUIP));
    assert_eq!(day.world.code(&statement), "plan-status");
    let mut day = FlagDay::at(MUSTER);
    let statement = stated(&day.standing(MUSTER));
    let called_off = abort(&day.world, &day.plan);
    day.world.accept(&called_off);
    assert_eq!(day.world.code(&statement), "plan-status");
}

#[test]
fn steps_that_ask_for_nothing_get_no_standing() {
    let mut day = FlagDay::at(HALT);
    let mut standing = day.standing(FREEZE);
    standing.step.step = StepId(HALT);
    let statement = stated(&standing);
    assert_eq!(day.world.code(&statement), "wrong-step");
}

#[test]
fn a_plan_without_a_service_asks_for_no_standing() {
    let day = FlagDay::planned();
    let mut world = crate::world::World::with_approved_plan();
    let mut standing = day.standing(EQUIP);
    standing.step.plan = world.plan().digest();
    let statement = stated(&standing);
    assert_eq!(world.code(&statement), "no-service");
}

#[test]
fn the_newest_standing_counts_until_the_step_is_done() {
    let mut day = FlagDay::at(MUSTER);
    assert_eq!(day.world.code(&day.result(MUSTER)), "not-stated");
    let first = stated(&day.standing(MUSTER));
    day.world.accept(&first);
    let mut standing = day.standing(MUSTER);
    standing.tip = Some(tip(FROZEN + 1));
    let second = Instance::started("n1", APP_OLD, 1).attest(&standing);
    day.world.accept(&second);
    let seen = day.state().standing(StepId(MUSTER)).unwrap();
    assert_eq!(seen.standing().get(), &standing);
    assert_eq!(seen.instance(), &Instance::started("n1", APP_OLD, 1).key.public_key());
    assert_eq!(seen.result().measurement(), APP_OLD);
    assert_eq!(seen.at().0 + 1, day.world.next().0);
    assert_eq!(day.world.code(&first), "superseded", "whoever kept it gains nothing");
    assert_eq!(day.world.code(&second), "already-recorded", "it counts already");
    // The same instance says something new, and nobody makes it take that back.
    standing.tip = Some(tip(FROZEN + 2));
    let third = Instance::started("n1", APP_OLD, 1).attest(&standing);
    day.world.accept(&third);
    let seen = day.state().standing(StepId(MUSTER)).unwrap();
    assert_eq!(seen.standing().get(), &standing);
    assert_eq!(day.world.code(&second), "already-recorded", "whoever kept it gains nothing");
    let result = day.result(MUSTER);
    day.world.accept(&result);
    assert_eq!(day.world.code(&second), "already-recorded");
}

#[test]
fn every_step_of_a_service_that_asks_for_a_standing_needs_it() {
    for step in [EQUIP, MUSTER, FREEZE, LAUNCH, JOIN, WATCH] {
        let mut day = FlagDay::at(step);
        assert_eq!(day.world.code(&day.result(step)), "not-stated", "step {step}");
        let statement = stated(&day.standing(step));
        day.world.accept(&statement);
        assert_eq!(day.world.code(&day.result(step)), "accepted", "step {step}");
    }
}

/// States this for the third node's freeze, after the two others froze as they should.
pub(crate) fn frozen_with(make: fn(&mut Standing)) -> FlagDay {
    let mut day = FlagDay::at(FREEZE + 2);
    let mut standing = day.standing(FREEZE + 2);
    make(&mut standing);
    let statement = stated(&standing);
    day.world.accept(&statement);
    let result = day.result(FREEZE + 2);
    day.world.accept(&result);
    day
}

#[test]
fn nobody_halts_before_all_froze_at_the_same_tip_with_the_same_keys() {
    let (first, last) = (StepId(FREEZE), StepId(FREEZE + 2));
    let day = FlagDay::at(FREEZE + 2);
    assert_eq!(day.state().agreement(first, last), Agreement::Open(last));
    let mut day = FlagDay::at(HALT);
    assert_eq!(day.state().agreement(first, last), Agreement::Agreed(tip(FROZEN)));
    assert_eq!(day.state().frozen_tip(&name::<NodeId>("n2")), Some(tip(FROZEN)));
    assert_eq!(day.world.code(&day.result(HALT)), "accepted");
    let rows: [Row<Standing>; 2] = [
        ("tip", "disagreed", |it| it.tip = Some(tip(FROZEN + 1))),
        ("keys", "disagreed", |it| it.keys[0].public = Some(public("another"))),
    ];
    for (what, code, make) in rows {
        let mut day = frozen_with(make);
        let expected = Agreement::Disagreed { a: first, b: last, what };
        assert_eq!(day.state().agreement(first, last), expected);
        let refusal = day.world.state.judge(&wire::encode(&day.result(HALT))).unwrap_err();
        let expected = Refusal::Disagreed { step: StepId(HALT), a: first, b: last, what };
        assert_eq!((refusal.code(), &refusal), (code, &expected));
    }
}

/// A payment through a side door right after the launch reaches some before they state anything.
#[test]
fn what_was_appended_since_a_launch_is_no_disagreement() {
    let mut day = FlagDay::at(LAUNCH + 2);
    let mut standing = day.standing(LAUNCH + 2);
    assert_eq!(standing.loaded, Some(tip(FROZEN)));
    standing.tip = Some(tip(FROZEN + 1));
    let statement = stated(&standing);
    day.world.accept(&statement);
    let result = day.result(LAUNCH + 2);
    day.world.accept(&result);
    let agreement = day.state().agreement(StepId(LAUNCH), StepId(LAUNCH + 2));
    assert_eq!(agreement, Agreement::Agreed(tip(FROZEN)));
    let joined = stated(&day.standing(JOIN));
    assert_eq!(day.world.code(&joined), "accepted");
}

/// Without a freeze nothing but the agreement says where services must have started: steps 0 to 2
/// launch, and one of them elsewhere; steps 3 to 5 join.
pub(crate) fn launched_elsewhere() -> FlagDay {
    let mut day = FlagDay::approved_with(|plan| {
        plan.steps.retain(|step| (LAUNCH..JOIN + 3).contains(&step.id.0) || step.id.0 == COMMIT);
        for (id, step) in (0..).zip(&mut plan.steps) {
            step.id = StepId(id);
            step.gates = match step.action {
                Action::Service(ServiceAction::Join(_)) => vec![all_done(0), agreed(0)],
                _ => Vec::new(),
            };
        }
        plan.rollback.clear();
        plan.point_of_no_return = StepId(6);
    });
    day.advance(0, 2);
    let mut standing = day.standing(2);
    standing.loaded = Some(tip(FROZEN + 1));
    let statement = stated(&standing);
    day.world.accept(&statement);
    let result = day.result(2);
    day.world.accept(&result);
    day
}

#[test]
fn a_launch_from_another_tip_is_a_disagreement() {
    let mut day = launched_elsewhere();
    let (first, last) = (StepId(0), StepId(2));
    let expected = Agreement::Disagreed { a: first, b: last, what: "loaded tip" };
    assert_eq!(day.state().agreement(first, last), expected);
    let joined = stated(&day.standing(3));
    assert_eq!(day.world.code(&joined), "disagreed");
}

#[test]
fn a_key_that_each_start_makes_anew_may_differ() {
    let day = frozen_with(|it| it.keys[1].public = Some(public("another")));
    let agreement = day.state().agreement(StepId(FREEZE), StepId(FREEZE + 2));
    assert_eq!(agreement, Agreement::Agreed(tip(FROZEN)));
}

#[test]
fn nothing_runs_before_the_commit_that_must_come_after() {
    let mut day = FlagDay::at(COMMIT);
    assert_eq!(day.world.code(&day.result(OPEN)), "too-early");
}
