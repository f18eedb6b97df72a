//! How long an active holder believes that it is the one.

use std::time::{Duration, Instant};

use heirloom_model::admin::AdminRequest;
use heirloom_model::counter::{Epoch, Generation};
use heirloom_model::domain::ActivationCause;
use heirloom_model::limit::ATTENDANCE_MILLISECONDS;
use heirloom_model::protocol::ServingState;

use crate::world::{Node, World, requests};

const ATTENDANCE: Duration = Duration::from_millis(ATTENDANCE_MILLISECONDS);

/// A keeper with the keyring, which it recovered.
fn holder(world: &mut World) -> Node {
    let mut one = world.node(1, &world.old);
    world.accept(&world.ceremony.order(Generation(0), &one.name, Epoch(5)));
    world.feed(&one);
    let order = world.state.domain(&world.ceremony.domain).unwrap().order().unwrap().order().nonce;
    world.accept_bytes(&one.statement(&AdminRequest::CreateGeneration { order }));
    world.feed(&one);
    world.restart(&mut one, &world.old);
    world.feed(&one);
    one
}

fn activate(world: &mut World, node: &Node, cause: ActivationCause) {
    let activation = node.statement(&AdminRequest::Activate(cause));
    world.accept_bytes(&activation);
}

fn key(world: &World, node: &Node) -> Result<[u8; 32], String> {
    world.keys(node, &requests(1)).pop().unwrap()
}

/// Observes until it is so.
fn wait(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_mins(1), "nothing happened");
        std::thread::yield_now();
    }
}

#[test]
fn an_active_holder_that_nobody_attends_serves_no_more() {
    let mut world = World::exclusive();
    let one = holder(&mut world);
    let early = one.ticket();
    activate(&mut world, &one, ActivationCause::First);
    world.feed(&one);
    assert_eq!(one.status().state, ServingState::Unattended, "nobody has looked for it yet");
    world.attend(&one);
    let before = key(&world, &one).unwrap();
    wait(|| one.status().state == ServingState::Unattended);
    let refused = Err("this keeper is not serving: unattended".to_owned());
    assert_eq!(key(&world, &one), refused);
    // What was read before the ticket's time ran out is no news.
    world.feed_with(&one, Some(early));
    assert_eq!(key(&world, &one), refused);
    world.attend(&one);
    assert_eq!(key(&world, &one), Ok(before));
}

#[test]
fn a_holder_that_starts_anew_waits_for_the_one_before_it() {
    let mut world = World::exclusive();
    let mut one = holder(&mut world);
    activate(&mut world, &one, ActivationCause::First);
    world.attend(&one);
    let before = key(&world, &one).unwrap();

    world.restart(&mut one, &world.old);
    world.feed(&one);
    assert_eq!(one.status().state, ServingState::Standby);
    activate(&mut world, &one, ActivationCause::Restarted);
    let begin = Instant::now();
    world.attend(&one);
    assert_eq!(one.status().state, ServingState::Unattended);
    wait(|| {
        world.attend(&one);
        one.status().state == ServingState::Ready
    });
    // Moments are whole milliseconds.
    assert!(begin.elapsed() + Duration::from_millis(1) >= ATTENDANCE);
    assert_eq!(key(&world, &one), Ok(before));
}
