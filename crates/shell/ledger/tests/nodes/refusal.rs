//! Who is no peer, and what is not served.

use heirloom_ledger_shell::raft::votes::VotesError;
use heirloom_ledger_shell::run::{Begin, RunError};
use heirloom_ledger_shell::tool::outcome::{Ending, ToolError};
use heirloom_model::digest::BlockId;
use heirloom_model::service::{Height, Tip, Writing};

use crate::world::{Change, World, stop, wait};

/// Two nodes as they should be, and one that differs in one way.
fn is_refused(change: impl FnOnce(&World) -> Change, expected: &str) {
    let world = World::new();
    for number in 0..3 {
        world.create(number);
    }
    let good: Vec<_> = (0..2).map(|number| world.start(number)).collect();
    let other = world.try_start(2, change(&world)).unwrap();
    for node in &good {
        wait("it is refused for this reason", || node.service().refused().contains_key(expected));
        let peers = || node.service().status().peers;
        wait("the others are peers", || peers().len() == 1);
        assert!(peers().iter().all(|peer| peer.node.as_str() != "node-3"));
    }
    assert!(other.service().status().peers.is_empty());
    assert!(other.service().refused().contains_key(expected), "it refuses them as well");
    other.stop();
    stop(good);
}

#[test]
fn a_node_with_another_configuration_is_refused_for_that_reason() {
    let change = |world: &World| {
        let mut change = world.unchanged();
        change.configuration.block_interval_milliseconds += 1;
        change
    };
    is_refused(change, "other-configuration");
}

/// The policy names both; that is not enough.
#[test]
fn a_node_with_another_measurement_is_refused_for_that_reason() {
    let change = |world: &World| Change { code: world.other_code, ..world.unchanged() };
    is_refused(change, "other-measurement");
}

#[test]
fn a_node_whose_ledger_is_not_the_expected_one_refuses_to_serve() {
    let world = World::new();
    world.create(0);
    let found = {
        let node = world.start(0);
        let tip = node.tip();
        node.stop();
        tip
    };
    let beginning = |begin: Begin| Change { begin, ..world.unchanged() };
    for wrong in [
        Tip { height: Height(found.height.0 + 1), ..found },
        Tip { id: BlockId::new([9; 32]), ..found },
    ] {
        for begin in [Begin::At(wrong), Begin::Frozen(wrong)] {
            let refused = world.try_start(0, beginning(begin)).err().unwrap();
            assert!(matches!(refused, RunError::OtherTip { .. }), "{refused}");
        }
    }
    let node = world.try_start(0, beginning(Begin::At(found))).unwrap();
    assert_eq!(node.service().status().writing, Writing::Active);
    node.stop();
    let node = world.start_as(0, Begin::Frozen(found));
    assert_eq!(node.service().status().writing, Writing::Frozen);
    node.stop();
}

/// Who forgets a vote may vote twice: what is lost is never begun anew.
#[test]
fn a_node_whose_votes_are_missing_refuses_to_start() {
    let world = World::new();
    world.create(0);
    world.start(0).stop();
    world.start(0).stop();
    let votes = world.directory.path().join("votes-0");
    let kept = world.directory.path().join("kept");
    std::fs::rename(&votes, &kept).unwrap();
    for _ in 0..2 {
        let refused = world.try_start(0, world.unchanged()).err().unwrap();
        assert!(matches!(refused, RunError::Votes(VotesError::Missing { .. })), "{refused}");
        assert_eq!(ToolError::from(refused).ending(), Ending::Missing);
    }
    // Other code has promised nothing with this copy, nor has this code with another one.
    let other = Change { code: world.other_code, ..world.unchanged() };
    world.try_start(0, other).unwrap().stop();
    std::fs::remove_dir_all(&votes).unwrap();
    world.put_in_use(0, "migrated-01");
    world.start(0).stop();
    world.put_in_use(0, "original");
    assert!(world.try_start(0, world.unchanged()).is_err());
    std::fs::remove_dir_all(&votes).unwrap();
    std::fs::rename(&kept, &votes).unwrap();
    world.start(0).stop();
}
