//! The log as a whole.

use heirloom_model::counter::LogIndex;
use heirloom_model::digest::LogHash;
use heirloom_model::envelope::Envelope;
use heirloom_model::log::{BrokenChain, LogEntry};
use heirloom_model::root::Role;
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_registry::refusal::Refusal;

use crate::world::{DOMAIN, World, agent, signed};

/// A network with a finished upgrade.
fn finished() -> World {
    let mut world = World::with_approved_plan();
    let policy = world.completing(&world.plan());
    world.accept(&signed(&policy, Role::Policy));
    world.finish(&[(0, "n1"), (1, "n1"), (2, "n2"), (3, "n2"), (4, "n1")]);
    world
}

/// Everything that two observers could disagree about.
fn picture(state: &NetworkState) -> String {
    format!("{state:?}")
}

#[test]
fn equal_logs_give_equal_states() {
    let world = finished();
    let mut state = NetworkState::new(world.network);
    for entry in &world.log {
        assert!(matches!(state.apply(entry), Ok(Applied::Accepted(_))));
    }
    assert_eq!(state.position(), world.state.position());
    assert_eq!(picture(&state), picture(&world.state));
}

#[test]
fn an_entry_that_does_not_follow_changes_nothing() {
    let mut world = World::begun();
    let envelope = wire::encode(&signed(&world.epoch(), Role::Timekeeper));
    let good = LogEntry::following(&world.state.position(), envelope);
    let before = picture(&world.state);
    let gap = LogEntry { index: LogIndex(9), ..good.clone() };
    let expected = BrokenChain::Index { expected: good.index, found: LogIndex(9) };
    assert_eq!(world.state.apply(&gap), Err(expected));
    let fork = LogEntry { previous: LogHash::new([1; 32]), ..good.clone() };
    assert_eq!(world.state.apply(&fork), Err(BrokenChain::Hash { index: good.index }));
    assert_eq!(picture(&world.state), before);
    assert!(matches!(world.state.apply(&good), Ok(Applied::Accepted(_))));
    assert!(world.state.apply(&good).is_err(), "an entry is followed once");
}

/// A registry may store any entry again, in any place.
#[test]
fn a_log_replayed_behind_itself_changes_no_decision() {
    let mut world = finished();
    let domain = format!("{:?}", world.state.domain(&DOMAIN).unwrap().committed());
    let summary = |world: &World| {
        let domain = world.state.domain(&DOMAIN).unwrap();
        (
            world.state.root().unwrap().serial,
            world.state.fleet().unwrap().serial,
            world.state.epoch(),
            domain.policy().unwrap().serial,
            domain.published(),
            domain.plan_number(),
            world.state.plans().map(|plan| (*plan.digest(), plan.status())).collect::<Vec<_>>(),
        )
    };
    let before = summary(&world);
    for entry in world.log.clone() {
        let envelope: Envelope = wire::decode(&entry.envelope).unwrap();
        drop(world.push(&envelope));
    }
    assert_eq!(summary(&world), before);
    let after = format!("{:?}", world.state.domain(&DOMAIN).unwrap().committed());
    assert_eq!(after, domain);
}

#[test]
fn asking_changes_nothing_that_counts() {
    let mut world = World::begun();
    let before = picture(&world.state);
    let good = signed(&world.epoch(), Role::Timekeeper);
    assert_eq!(world.code(&good), "accepted");
    assert_eq!(world.code(&good), "accepted");
    assert_eq!(picture(&world.state), before);
}

#[test]
fn a_refused_statement_moves_the_log_and_nothing_else() {
    let mut world = World::with_approved_plan();
    let before = world.state.clone();
    let stranger = Envelope::signed(&world.fleet(), [&agent("n1")]);
    assert!(matches!(world.push(&stranger), Applied::Refused(Refusal::UnknownSigner { .. })));
    assert_eq!(world.state.position().length, before.position().length.next().unwrap());
    assert_eq!(world.state.fleet(), before.fleet());
    let domain = |state: &NetworkState| format!("{:?}", state.domain(&DOMAIN));
    assert_eq!(domain(&world.state), domain(&before));
    let plans = |state: &NetworkState| format!("{:?}", state.plans().collect::<Vec<_>>());
    assert_eq!(plans(&world.state), plans(&before));
}

#[test]
fn codes_are_not_used_twice() {
    let distinct: std::collections::BTreeSet<_> = Refusal::CODES.iter().collect();
    assert_eq!(distinct.len(), Refusal::CODES.len());
}
