//! Agents and services that die anywhere: what was told last is what becomes of the node.

use heirloom_agent::service::state::{Desired, Distribution, Promise, Wanted};
use heirloom_model::service::{Admission, Writing};
use heirloom_upgrade::port::{DriverError, EdgeAdmission, ServiceDriver};

use crate::world::{PLAN, TIP, World, step, terms};

#[test]
fn a_service_that_dies_is_started_again_and_admits_whom_it_admitted() {
    let mut world = World::open();
    let first = world.processes();
    world.kill();
    assert!(world.seen().drift.is_some());
    let seen = world.settle();
    assert_eq!(seen.running.unwrap().admission, Admission::Open);
    assert_ne!(first, world.processes());
    // And it stays closed if that is what was told last.
    world.until_known(ServiceDriver::fence).unwrap();
    world.kill();
    world.settle();
    assert_eq!(world.status().admission, Admission::Closed);
    assert_eq!(world.seen().edge, Some(EdgeAdmission::Closed));
}

#[test]
fn what_an_agent_told_before_it_died_is_done_by_the_next_one() {
    let mut world = World::open();
    let old = world.old;
    // A fence.
    world.tell(|world| Desired {
        admission: Admission::Closed,
        distribution: Distribution::Stopped,
        ..world.told()
    });
    assert!(world.seen().drift.is_some());
    let seen = world.settle();
    assert_eq!(seen.edge, Some(EdgeAdmission::Closed));
    assert_eq!(seen.running.unwrap().admission, Admission::Closed);
    // Opening again.
    world.tell(|world| Desired {
        admission: Admission::Open,
        distribution: Distribution::Running,
        ..world.told()
    });
    let seen = world.settle();
    assert_eq!(seen.edge, Some(EdgeAdmission::Open));
    assert_eq!(seen.running.unwrap().admission, Admission::Open);
    // A halt.
    world.until_known(ServiceDriver::fence).unwrap();
    world.tell(|world| Desired { wanted: Wanted::Halted, ..world.told() });
    assert!(world.seen().drift.unwrap().contains("halted"));
    assert!(!world.settle().exists(&old));
    assert!(world.processes().is_empty());
    // A deploy is told and done in one.
    let new = world.new;
    world.tell(|world| Desired { installed: Some(world.new), ..world.told() });
    assert_eq!(world.seen().installed, Some(new));
    world.service.deploy(&old, &new).unwrap();
    // A launch.
    world.tell(|world| Desired {
        wanted: Wanted::Running { code: world.new, expected: Some(TIP) },
        admission: Admission::SideDoor,
        ..world.told()
    });
    let seen = world.settle();
    assert_eq!(seen.running_code(), Some(&new));
    assert_eq!(seen.running.unwrap().admission, Admission::SideDoor);
    world.until_known(|service| service.launch(&new, Some(&TIP))).unwrap();
    assert_eq!(world.processes().len(), 1, "it was not started twice");
    assert_eq!(world.told().wanted, Wanted::Running { code: new, expected: None });
}

#[test]
fn an_agent_that_dies_after_each_step_changes_nothing_about_the_next() {
    let mut world = World::open();
    let (old, new) = (world.old, world.new);
    world.until_known(ServiceDriver::fence).unwrap();
    world.restart_agent();
    world.until_known(|service| service.freeze(&old, std::time::Duration::ZERO)).unwrap();
    world.restart_agent();
    assert_eq!(world.seen().drift, None);
    world.until_known(|service| service.halt(&old)).unwrap();
    world.restart_agent();
    world.until_known(|service| service.snapshot(&PLAN, &TIP)).unwrap();
    world.restart_agent();
    world.until_known(|service| service.migrate(&PLAN, &TIP, &terms())).unwrap();
    world.restart_agent();
    assert_eq!((world.seen().migrated, world.seen().drift), (Some(PLAN), None));
    world.service.deploy(&old, &new).unwrap();
    world.restart_agent();
    world.until_known(|service| service.launch(&new, Some(&TIP))).unwrap();
    world.restart_agent();
    let tests = ["pay".parse().unwrap()];
    world.until_known(|service| service.exercise(step(11), &tests)).unwrap();
    world.restart_agent();
    assert!(world.seen().exercised.contains(&step(11)));
    world.until_known(ServiceDriver::open).unwrap();
    world.restart_agent();
    assert_eq!(world.seen().drift, None, "its distribution goes on, too");
}

#[test]
fn a_proxy_that_forgets_is_told_again() {
    let mut world = World::open();
    world.fence.0.lock().unwrap().admission = heirloom_proxy::edge::EdgeAdmission::Closed;
    assert_eq!(world.settle().edge, Some(EdgeAdmission::Open));
    world.until_known(ServiceDriver::fence).unwrap();
    world.fence.0.lock().unwrap().admission = heirloom_proxy::edge::EdgeAdmission::Open;
    assert_eq!(world.settle().edge, Some(EdgeAdmission::Closed));
}

#[test]
fn a_frozen_service_that_dies_keeps_its_promise() {
    let mut world = World::open();
    let old = world.old;
    world.until_known(ServiceDriver::fence).unwrap();
    world.until_known(|service| service.freeze(&old, std::time::Duration::ZERO)).unwrap();
    assert_eq!(world.told().promise, Promise::Given { tip: TIP });
    world.kill();
    assert!(world.seen().drift.unwrap().contains("does not run"));
    // Also by an agent that did not see it freeze.
    world.restart_agent();
    let seen = world.settle().running.unwrap();
    assert_eq!((seen.writing, seen.admission), (Writing::Frozen, Admission::Closed));
    // It had not stated it yet, and states it once it has been quiet again for as long.
    let quiet = std::time::Duration::from_millis(300);
    world.until_known(|service| service.freeze(&old, quiet)).unwrap();
    assert!(world.status().quiet_milliseconds >= 300);
    assert_eq!(world.told().promise, Promise::Given { tip: TIP });
    world.kill();
    // The plan was called off.
    world.until_known(ServiceDriver::open).unwrap();
    assert_eq!(
        (world.status().writing, world.status().admission),
        (Writing::Active, Admission::Open)
    );
}

/// Whether it had promised before it died nobody knows: it is never started as if it had.
#[test]
fn a_service_that_dies_while_it_is_asked_to_freeze_is_asked_again() {
    let mut world = World::open();
    let old = world.old;
    world.until_known(ServiceDriver::fence).unwrap();
    world.tell(|world| Desired { promise: Promise::Asked, ..world.told() });
    world.kill();
    assert_eq!(world.seen().drift, None, "the plan says how it goes on");
    world.service.keep().unwrap();
    assert!(world.processes().is_empty());
    world.misbehave("pending", "1");
    let waits = world.service.freeze(&old, std::time::Duration::ZERO);
    assert!(matches!(waits, Err(DriverError::Unknown(_))), "{waits:?}");
    assert_eq!(world.status().writing, Writing::Active);
    assert_eq!(world.told().promise, Promise::Asked);
    world.behave("pending");
    world.until_known(|service| service.freeze(&old, std::time::Duration::ZERO)).unwrap();
    assert_eq!(world.told().promise, Promise::Given { tip: TIP });
}

#[test]
fn a_frozen_service_is_not_started_with_another_end_of_its_ledger() {
    let mut world = World::open();
    let old = world.old;
    world.until_known(ServiceDriver::fence).unwrap();
    world.until_known(|service| service.freeze(&old, std::time::Duration::ZERO)).unwrap();
    world.kill();
    let file = world.path("data/service/ledger/live/tip");
    let tip = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, tip.replacen('1', "2", 1)).unwrap();
    let kept = world.until_known(ServiceDriver::keep);
    assert!(matches!(kept, Err(DriverError::Unexpected { .. })), "{kept:?}");
    assert!(world.processes().is_empty());
    std::fs::write(&file, tip).unwrap();
    assert_eq!(world.settle().running.unwrap().writing, Writing::Frozen);
}

#[test]
fn distribution_outlives_no_fence_whoever_started_it() {
    let mut world = World::open();
    world.restart_agent();
    assert_eq!(world.seen().drift, None, "it was started by an agent that is gone");
    world.until_known(ServiceDriver::fence).unwrap();
    let network = heirloom_registry::network::NetworkState::new(world.ceremony.network);
    assert_eq!(world.service.json(None, &network)["distribution"], "stopped");
}
