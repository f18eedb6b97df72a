//! What goes back after a flag day was called off: what may have begun, and nothing else.

use heirloom_model::plan::{Action, Gate, ServiceAction, StepId};
use heirloom_model::service::{Height, SchemaVersion, Standing, Tip, Writing};
use heirloom_registry::plan::PlanStatus;
use heirloom_registry::standing::Agreement;
use heirloom_testkit::service::tip;

use crate::plan::abort;
use crate::service::{
    APP_NEW, APP_OLD, END_OF_PLAN, FENCE, FREEZE, FROZEN, FlagDay, HALT, agreed, stated,
};
use crate::standing::{frozen_with, launched_elsewhere};
use crate::world::{DOMAIN, Instance, Row, check, name};

fn call_off(day: &mut FlagDay) {
    let called_off = abort(&day.world, &day.plan);
    day.world.accept(&called_off);
    assert_eq!(day.status(), PlanStatus::RollingBack);
}

#[test]
fn the_way_back_launches_what_froze_or_finds_it_still_frozen() {
    let mut day = FlagDay::at(HALT + 1);
    let called_off = abort(&day.world, &day.plan);
    day.world.accept(&called_off);
    assert_eq!(day.status(), PlanStatus::RollingBack);
    let back = day
        .state()
        .rollback_needed()
        .find(|step| step.node == name("n2") && step.action.name() == "launch")
        .unwrap()
        .id;
    let standing = Standing { loaded: Some(tip(FROZEN)), ..day.standing(back.0) };
    let statement = stated(&standing);
    assert_eq!(day.world.code(&statement), "accepted", "started again");
    let rows: &[Row<Standing>] = &[
        ("as it is", "accepted", |_| {}),
        ("not frozen", "standing-mismatch", |it| it.writing = Writing::Active),
        ("gone on", "standing-mismatch", |it| it.tip = Some(tip(FROZEN + 1))),
    ];
    let kept = Standing { loaded: Some(tip(2)), writing: Writing::Frozen, ..day.standing(back.0) };
    for (change, expected, make) in rows {
        let mut changed = kept.clone();
        make(&mut changed);
        assert_eq!(day.world.code(&stated(&changed)), *expected, "{change}");
    }
    let other = Instance::started("n2", APP_OLD, 1).attest(&kept);
    assert_eq!(day.world.code(&other), "standing-mismatch", "another instance than the frozen one");
    assert_eq!(kept.domain, DOMAIN);
}

/// Whoever halted did so when all had stated the same, and that is final once all results are
/// there.
#[test]
fn nobody_goes_back_from_a_halt_that_never_was_allowed() {
    let mut day = frozen_with(|it| it.tip = Some(tip(FROZEN + 1)));
    let halts = || (HALT..HALT + 3).map(StepId);
    assert!(halts().all(|step| !day.state().may_have_started(step)));
    call_off(&mut day);
    assert!(halts().all(|step| !day.state().may_have_started(step)));
    let needed: Vec<&str> = day.state().rollback_needed().map(|step| step.action.name()).collect();
    assert_eq!(needed, ["open", "open", "open"]);
    assert_eq!(day.world.code(&day.result(HALT)), "plan-status", "nor does anybody say it did");
    for node in 0..3 {
        let result = day.result(END_OF_PLAN + 5 * node + 4);
        day.world.accept(&result);
    }
    assert_eq!(day.status(), PlanStatus::RolledBack);
}

#[test]
fn who_halted_after_all_agreed_goes_back() {
    let mut day = FlagDay::at(HALT);
    assert!(day.state().may_have_started(StepId(HALT + 2)));
    call_off(&mut day);
    assert!(day.state().may_have_started(StepId(HALT + 2)));
    assert_eq!(day.world.code(&day.result(HALT + 2)), "accepted", "it was under way");
}

/// Until a step has its result its standing can change, so a plan whose gate does not wait for
/// results may have let somebody start before services disagreed.
#[test]
fn who_may_have_seen_services_agree_goes_back() {
    for (what, gates) in [
        ("no result", vec![agreed(FREEZE)]),
        ("the result of the first", vec![agreed(FREEZE), Gate::Done(StepId(FREEZE))]),
        (
            "another range",
            vec![agreed(FREEZE), Gate::AllDone { first: StepId(FENCE), last: StepId(FREEZE + 1) }],
        ),
        (
            "a later range",
            vec![
                agreed(FREEZE),
                Gate::AllDone { first: StepId(FREEZE + 1), last: StepId(FREEZE + 1) },
            ],
        ),
    ] {
        let mut day = FlagDay::approved_with(|plan| {
            for step in &mut plan.steps[13..16] {
                step.gates.clone_from(&gates);
            }
        });
        day.advance(0, FREEZE + 2);
        let statement = stated(&day.standing(FREEZE + 2));
        day.world.accept(&statement);
        let agreement = |day: &FlagDay| day.state().agreement(StepId(FREEZE), StepId(FREEZE + 2));
        assert_eq!(agreement(&day), Agreement::Agreed(tip(FROZEN)), "{what}");
        let mut standing = day.standing(FREEZE + 2);
        standing.tip = Some(tip(FROZEN + 1));
        let again = Instance::started("n3", APP_OLD, 1).attest(&standing);
        day.world.accept(&again);
        let result = day.result(FREEZE + 2);
        day.world.accept(&result);
        assert!(matches!(agreement(&day), Agreement::Disagreed { .. }), "{what}");
        assert!(day.state().may_have_started(StepId(HALT)), "{what}");
        call_off(&mut day);
        assert!(day.state().may_have_started(StepId(HALT)), "{what}");
    }
}

#[test]
fn nobody_goes_back_from_a_join_of_what_loaded_something_else() {
    let day = launched_elsewhere();
    assert!(day.state().may_have_started(StepId(2)));
    assert!(!day.state().may_have_started(StepId(3)));
}

/// The step of the second node's way back that launches.
fn launch_back(day: &FlagDay) -> StepId {
    let is_launch = |action: &Action| matches!(action, Action::Service(ServiceAction::Launch(_)));
    let mut needed = day.state().rollback_needed();
    needed.find(|step| step.node == name("n2") && is_launch(&step.action)).unwrap().id
}

/// Its peers may be open again, and it has what they wrote since.
#[test]
fn who_launches_late_on_the_way_back_may_have_loaded_more() {
    let mut day = FlagDay::at(HALT + 3);
    call_off(&mut day);
    let back = launch_back(&day);
    let standing = Standing { loaded: Some(tip(FROZEN)), ..day.standing(back.0) };
    let sign = |it: &Standing| stated(it);
    let rows: &[Row<Standing>] = &[
        ("more", "accepted", |it| it.loaded = Some(tip(FROZEN + 9))),
        ("less", "standing-mismatch", |it| it.loaded = Some(tip(FROZEN - 1))),
        ("nothing", "standing-mismatch", |it| it.loaded = None),
        ("another block at that height", "standing-mismatch", |it| {
            it.loaded = Some(Tip { height: Height(FROZEN), ..tip(1) });
        }),
        ("on a fork", "standing-mismatch", |it| it.fork = Some(tip(3))),
    ];
    check(&mut day.world, &standing, sign, rows);
}

/// Nobody may have written anything with the code that comes after, whichever step starts it.
#[test]
fn code_that_comes_after_loads_exactly_what_froze() {
    let mut day = FlagDay::approved_with(|plan| {
        let to = plan.service.as_ref().unwrap().to;
        plan.rollback[8].step.action = Action::Service(ServiceAction::Launch(to));
    });
    day.advance(0, HALT + 3);
    call_off(&mut day);
    let back = launch_back(&day);
    let standing = day.standing(back.0);
    assert_eq!((standing.measurement, standing.schema), (APP_NEW, Some(SchemaVersion(2))));
    let sign = |it: &Standing| stated(it);
    let rows: &[Row<Standing>] =
        &[("more", "standing-mismatch", |it| it.loaded = Some(tip(FROZEN + 1)))];
    check(&mut day.world, &standing, sign, rows);
}
