//! Power fails at every durable operation, before it and after it. After a restart the same step is
//! taken again; nothing that was said to anybody may be lost, and no key may be replaced.

use heirloom_keeper::intent::Intent;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_model::counter::Moment;
use heirloom_model::domain::LogPosition;
use heirloom_model::protocol::{PeerRequest, PeerResponse, ServingState};

use crate::world::{Crash, Node, World};

/// The most operations that the story below may take on one disk.
const OPERATIONS_MAX: u32 = 40;

/// Carries out what `make` makes, and starts the node again when power fails on the way.
fn persist<T>(
    world: &World,
    node: &mut Node,
    mut make: impl FnMut(&World, &mut Node) -> Result<Intent<T>, KeeperError>,
) -> T {
    loop {
        let intent = make(world, node).unwrap();
        if let Ok(receipt) = intent.persist(&mut node.disk) {
            return node.keeper.complete(intent, receipt);
        }
        drop(intent);
        node.disk.crash = None;
        let code = world.old;
        world.restart(node, &code);
        follow(world, node);
    }
}

fn follow(world: &World, node: &mut Node) {
    let position: LogPosition = persist(world, node, |world, node| {
        let seen = usize::try_from(node.keeper.position().length.0).unwrap();
        node.keeper.follow(&node.enclave, &world.log[seen..], None, Moment(0))
    });
    assert_eq!(position, world.state.position());
}

/// Two generations are created on node 1 and received by node 2.
fn story(world: &mut World, one: &mut Node, two: &mut Node) {
    follow(world, one);
    follow(world, two);
    for generation in 0..2 {
        let order = world.order(generation, one);
        follow(world, one);
        let receipt =
            persist(world, one, |_, node| node.keeper.create_generation(&node.enclave, order));
        world.accept_bytes(&receipt);
        follow(world, one);
        follow(world, two);
        let receipt = persist(world, two, |world, node| {
            let (initiator, responder) = world.session(node, one);
            let asked = PeerRequest::ReplicateProposed { order };
            let PeerResponse::Generations(sent) = one.serve(&initiator, &asked) else {
                panic!("the holder of the proposal lost it")
            };
            node.keeper.accept_proposed(&node.enclave, &responder, order, &sent[0])
        });
        world.accept_bytes(&receipt);
        follow(world, one);
        follow(world, two);
    }
}

/// Runs the story with one crash, and says whether it came to it.
fn run(victim: usize, at: u32, crash: Crash) -> bool {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old), world.node(2, &world.old));
    let disk = if victim == 0 { &mut one.disk } else { &mut two.disk };
    disk.crash = Some((at, crash));
    story(&mut world, &mut one, &mut two);
    let reached = if victim == 0 { one.disk.crash.is_none() } else { two.disk.crash.is_none() };
    let committed = *world.state.domain(&world.ceremony.domain).unwrap().committed().unwrap();
    for node in [&mut one, &mut two] {
        let code = world.old;
        node.disk.crash = None;
        world.restart(node, &code);
        follow(&world, node);
        // Once more, so that what a crash left behind is gone.
        follow(&world, node);
        let status = node.status();
        assert_eq!(status.state, ServingState::Ready, "{crash:?} {at}");
        let holding = status.holding.unwrap();
        assert_eq!(holding.generation, committed.generation);
        assert_eq!(holding.checksum, committed.checksum);
        assert_eq!(node.disk.names("keyring").len(), 2);
        assert_eq!(node.disk.names("proposed").len(), 0);
        assert!(node.disk.names("witness").len() <= 2);
    }
    reached
}

#[test]
fn power_may_fail_at_every_operation() {
    let mut crashes = 0;
    for victim in 0..2 {
        for crash in [Crash::Before, Crash::After] {
            // A removal that fails is no failure, so not every operation stops the story.
            let reached = (0..OPERATIONS_MAX).filter(|at| run(victim, *at, crash)).count();
            assert!(reached >= 6, "each of the writes");
            crashes += reached;
        }
    }
    assert!(crashes >= 24);
}
