//! What a step refuses, because the node is not as the step expects.

use std::fs;

use heirloom_agent::service::state::Desired;
use heirloom_model::digest::BlockId;
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::service::{Admission, Height, Tip};
use heirloom_upgrade::port::{DriverError, ServiceDriver};

use crate::world::{PLAN, TIP, World, step, terms};

const NOBODY: Measurement = Measurement::Sgx(MrEnclave::new([0xee; 32]));

fn is_unexpected<T: std::fmt::Debug>(found: &Result<T, DriverError>) -> bool {
    matches!(found, Err(DriverError::Unexpected { .. }))
}

#[test]
fn a_service_that_lets_clients_in_is_neither_frozen_nor_halted_nor_copied() {
    let mut world = World::open();
    let (old, new) = (world.old, world.new);
    let before = world.told();
    let found = [
        world.service.freeze(&old, std::time::Duration::ZERO),
        world.service.halt(&old),
        world.service.snapshot(&PLAN, &TIP),
        world.service.migrate(&PLAN, &TIP, &terms()),
        world.service.revert(&PLAN, &TIP),
        world.service.deploy(&old, &new),
        world.service.launch(&new, None),
        world.service.launch(&old, None),
    ];
    assert!(found.iter().all(is_unexpected), "{found:?}");
    assert_eq!(world.told(), before, "nothing was told");
    assert_eq!(world.settle().running.unwrap().admission, Admission::Open);
}

#[test]
fn only_what_is_expected_is_replaced_and_only_by_what_is_at_hand() {
    let mut world = World::open();
    let (old, new) = (world.old, world.new);
    world.close();
    assert!(is_unexpected(&world.service.deploy(&NOBODY, &new)));
    let missing = world.service.deploy(&old, &NOBODY);
    assert!(matches!(missing, Err(DriverError::Missing { .. })), "{missing:?}");
    assert!(is_unexpected(&world.service.launch(&new, Some(&TIP))), "it is not installed");
    assert!(is_unexpected(&world.service.open()), "nothing runs");
    let tests = ["pay".parse().unwrap()];
    assert!(is_unexpected(&world.service.exercise(step(1), &tests)));
    assert_eq!(world.told().installed, Some(old));
    world.service.deploy(&old, &new).unwrap();
    world.service.deploy(&old, &new).unwrap();
}

#[test]
fn a_ledger_that_ends_elsewhere_is_not_served() {
    let mut world = World::open();
    let old = world.old;
    world.close();
    let other = [Tip { id: BlockId::new([8; 32]), ..TIP }, Tip { height: Height(2), ..TIP }];
    for tip in other {
        let refused = world.until_known(|service| service.snapshot(&PLAN, &tip));
        assert!(matches!(refused, Err(DriverError::Refused(_))), "{refused:?}");
        let found = world.until_known(|service| service.launch(&old, Some(&tip)));
        assert!(is_unexpected(&found), "{found:?}");
        assert!(found.unwrap_err().to_string().contains("the ledger ends at 1"));
        assert!(world.processes().is_empty());
        world.until_known(|service| service.halt(&old)).unwrap();
    }
    world.until_known(|service| service.launch(&old, Some(&TIP))).unwrap();
    // What runs is judged by what it loaded.
    let found = world.until_known(|service| service.launch(&old, Some(&other[0])));
    assert!(is_unexpected(&found), "{found:?}");
}

#[test]
fn an_instance_that_loaded_less_is_started_again() {
    let mut world = World::open();
    let old = world.old;
    world.until_known(ServiceDriver::fence).unwrap();
    let before = world.processes();
    let tip = Tip { height: Height(2), id: BlockId::new([8; 32]) };
    let live = world.path("data/service/ledger/live/tip");
    fs::write(live, format!("{} {}", tip.height, tip.id)).unwrap();
    world.until_known(|service| service.launch(&old, Some(&tip))).unwrap();
    assert_ne!(world.processes(), before);
    assert_eq!(world.status().loaded, Some(tip));
}

#[test]
fn tests_that_fail_leave_no_mark() {
    let mut world = World::open();
    world.change();
    world.misbehave("failing", "");
    let tests = ["pay".parse().unwrap()];
    let failed = world.until_known(|service| service.exercise(step(11), &tests));
    assert!(matches!(failed, Err(DriverError::Refused(_))), "{failed:?}");
    assert!(world.seen().exercised.is_empty());
    assert_eq!(world.status().admission, Admission::SideDoor);
}

#[test]
fn halting_other_code_leaves_alone_what_runs() {
    let mut world = World::open();
    let new = world.new;
    let before = world.processes();
    world.service.halt(&new).unwrap();
    assert_eq!(world.processes(), before);
    assert_eq!(world.settle().running.unwrap().admission, Admission::Open);
}

#[test]
fn a_proxy_that_is_gone_is_unknown_and_never_taken_for_closed() {
    let mut world = World::open();
    world.fence.0.lock().unwrap().is_gone = true;
    assert_eq!(world.seen().edge, None);
    assert!(matches!(world.service.fence(), Err(DriverError::Unknown(_))));
    assert_eq!(world.status().admission, Admission::Closed, "the service closes all the same");
    world.fence.0.lock().unwrap().is_gone = false;
    world.until_known(ServiceDriver::fence).unwrap();
}

#[test]
fn a_bundle_that_is_gone_is_missing_and_a_damaged_one_is_not_started() {
    let mut world = World::open();
    let old = world.old;
    world.until_known(ServiceDriver::fence).unwrap();
    world.until_known(|service| service.halt(&old)).unwrap();
    let bundle = world.path("data/service/bundles").join(old.to_string());
    fs::write(bundle.join("sigstruct"), b"damaged").unwrap();
    let refused = world.until_known(|service| service.launch(&old, None));
    assert!(matches!(refused, Err(DriverError::Refused(_))), "{refused:?}");
    fs::remove_dir_all(&bundle).unwrap();
    let missing = world.until_known(|service| service.launch(&old, None));
    assert!(matches!(missing, Err(DriverError::Missing { .. })), "{missing:?}");
    world.tell(|world| Desired {
        wanted: heirloom_agent::service::state::Wanted::Halted,
        ..world.told()
    });
    assert_eq!(world.seen().drift, None);
}
