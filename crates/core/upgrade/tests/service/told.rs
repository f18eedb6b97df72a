//! What looks done and was never asked for, and ledgers that went on before anybody could say so.

use heirloom_model::plan::{Action, ServiceAction};
use heirloom_registry::plan::PlanStatus;
use heirloom_testkit::service::tip;
use heirloom_upgrade::port::{DriverError, EdgeAdmission};

use crate::day;
use crate::world::lock;

/// A service that died looks like one that was halted, and one that died behind a proxy that
/// turns clients away like one that was fenced. Whoever took it for that would have it put right.
#[test]
fn what_died_is_still_told_to_be_fenced_and_halted() {
    for (before, call) in [("muster", "fence"), ("freeze", "halt")] {
        let mut day = day(1);
        let node = day.nodes()[0].clone();
        let step = day.step(before, &node).id;
        day.run(|day| day.asked(|plan| plan.done_at(step).is_some()));
        {
            let mut world = lock(&day.world);
            let host = world.hosts.get_mut(&node).unwrap();
            host.power_failure();
            host.service.edge = EdgeAdmission::Closed;
            let silent = DriverError::Unknown("nobody answers".to_owned());
            host.service.fail.insert("keep", silent);
        }
        day.settle();
        let world = lock(&day.world);
        let calls = &world.hosts[&node].service.calls;
        assert!(calls.iter().any(|made| made == call), "{call}: {calls:?}");
    }
}

/// A migration that was asked for goes on by itself, and ends after the plan was called off. As
/// long as it does, the ledger looks as if there were nothing to put back.
#[test]
fn what_ends_after_the_plan_was_called_off_is_put_back_too() {
    let mut day = day(1);
    let node = day.nodes()[0].clone();
    lock(&day.world).hosts.get_mut(&node).unwrap().service.slow = true;
    day.run(|day| lock(&day.world).hosts[&node].service.background.is_some());
    day.abort();
    day.settle();
    let revert = {
        let is = |back: &&heirloom_model::plan::RollbackStep| {
            back.step.action == Action::Service(ServiceAction::Revert)
        };
        day.plan.rollback.iter().find(is).expect("the plan has such a step").step.id
    };
    assert_eq!(day.status(), PlanStatus::RollingBack);
    assert_eq!(lock(&day.world).hosts[&node].service.migrated, None, "nothing to put back yet");
    assert!(day.asked(|plan| plan.done_at(revert).is_none()), "and not found done");
    let plan = day.plan.digest();
    {
        let mut world = lock(&day.world);
        let service = &mut world.hosts.get_mut(&node).unwrap().service;
        service.background = None;
        service.migrated = Some(plan);
        service.calls.clear();
    }
    day.is_back();
    let calls = lock(&day.world).hosts[&node].service.calls.clone();
    assert!(calls.iter().any(|call| call == "revert"), "{calls:?}");
}

/// Peers that are open again give blocks to a service that has not stated anything yet. If it then
/// dies, it never loads the frozen tip again.
#[test]
fn a_node_whose_ledger_went_on_comes_back() {
    let mut day = day(2);
    let (here, late) = (day.nodes()[0].clone(), day.nodes()[1].clone());
    let exercise = day.step("exercise", &late).id;
    day.run(|day| day.asked(|plan| plan.done_at(exercise).is_some()));
    day.abort();
    let back = |name: &str| {
        let of = |back: &&heirloom_model::plan::RollbackStep| {
            back.step.node == late && back.step.action.name() == name
        };
        day.plan.rollback.iter().find(of).expect("the plan has such a step").step.id
    };
    let deploy = back("deploy");
    day.run(|day| day.asked(|plan| plan.done_at(deploy).is_some()));
    lock(&day.world).hosts.get_mut(&late).unwrap().service.tip = tip(11);
    day.run(|day| day.status() == PlanStatus::RolledBack);
    assert!(day.is_open(&[here, late], day.from()));
}
