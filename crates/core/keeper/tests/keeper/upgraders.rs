//! Upgraders come and go as keepers do, and need nothing of each other.

use heirloom_keeper::handover::NotAttested;
use heirloom_keeper::handshake::NotAHolder;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_model::counter::{Generation, PlanNumber, Serial};
use heirloom_model::digest::{Checksum, Nonce};
use heirloom_model::protocol::{PeerRefusal, ServingState};
use heirloom_model::wire;
use heirloom_registry::network::Applied;
use heirloom_registry::plan::PlanStatus;
use heirloom_registry::refusal::Refusal;
use heirloom_testkit::ceremony::{Code, FORGET_AFTER_EPOCHS};

use crate::seats::{ASK_AGAIN, Answered, FORGET, Play, TO_NEW, TO_VIA};
use crate::world::{Node, World};

/// The newest generation that a seat has, and the checksum of the chain up to it.
fn keyring(node: &Node) -> (Generation, Checksum) {
    let holding = node.status().holding.unwrap();
    (holding.generation, holding.checksum)
}

/// The last steps of a plan: the new keeper proves once more, and the upgrader gives up its copy.
fn finish(play: &mut Play) {
    play.verify(ASK_AGAIN, |play| &mut play.new);
    for _ in 0..FORGET_AFTER_EPOCHS {
        play.world.epoch();
    }
    play.feed();
    let files = play.via.disk.stored();
    let intent = play.via.keeper.forget(play.step(FORGET), &files).unwrap();
    play.via.carry_out(intent);
    play.done(FORGET);
    assert_eq!(play.via.keeper.state(), ServingState::Empty);
    let plan = play.world.state.plan(&play.plan.digest()).unwrap();
    assert_eq!(plan.status(), PlanStatus::Finished);
}

/// There by way of one upgrader, and back by way of another, which nobody knew when the first was
/// used. Neither has an edge to the other, and when the second one carries, the first has nothing
/// and receives nothing.
#[test]
fn an_upgrader_is_replaced_by_another_release_between_two_handovers() {
    let mut world = World::new();
    let (first, second) = (world.via, Code::upgrader("via-next", 1));
    // No older than what it replaces, so that the way back is open.
    world.new = Code::named("next", world.old.security_version.0);
    world.accept(&world.ceremony.release("next-1", &world.new).0);
    let mut there = Play::first(world, |_| {}).carry().prepare().switch();
    let moved = keyring(&there.new);
    finish(&mut there);

    let Play { mut world, via: mut retired, new: active, plan, .. } = there;
    std::mem::swap(&mut world.old, &mut world.new);
    world.accept(&world.ceremony.release("via-next-1", &second).0);
    world.via = second;
    world.publish_handover(3, |_| {});
    world.feed(&mut retired);
    assert_eq!(retired.keeper.state(), ServingState::Withdrawn, "the policy names it no more");

    // No plan goes by way of it any more.
    let mut stale = crate::seats::plan(&world, &active);
    stale.number = PlanNumber(2);
    stale.keyring.as_mut().expect("it moves a keyring").via = Some(world.placement(&first));
    let refused = world.append(&wire::encode(&world.ceremony.proposal(&stale)));
    let is_edge =
        |refused: &Refusal| matches!(refused, Refusal::PlanMismatch { what } if *what == "edge");
    assert!(matches!(&refused, Applied::Refused(reason) if is_edge(reason)), "{refused:?}");

    let mut back = Play::begin(world, active, |next| {
        (next.number, next.nonce) = (PlanNumber(2), Nonce::new([0x71; 32]));
        assert_ne!(
            next.keyring.as_ref().expect("it moves a keyring").via,
            plan.keyring.as_ref().expect("it moves a keyring").via
        );
    });
    back.world.feed(&mut retired);
    expect_refused_as_receiver(&mut back, &mut retired);
    let mut back = back.carry();
    back.world.feed(&mut retired);
    expect_refused_as_donor(&mut back, &mut retired);
    let mut back = back.prepare().switch();
    assert_eq!(back.new.keeper.state(), ServingState::Ready);
    assert_eq!(keyring(&back.new), moved, "the same keyring as before");
    finish(&mut back);
}

/// An upgrader of the time before does not even ask, and what it repeats of the other's words is
/// not about it.
fn expect_refused_as_receiver(play: &mut Play, retired: &mut Node) {
    let step = play.step(TO_VIA);
    let asked = retired.keeper.request_handover(&retired.enclave, step);
    let state = ServingState::Withdrawn;
    assert_eq!(asked.err(), Some(KeeperError::State { state }));
    let (_, request) = play.via.keeper.request_handover(&play.via.enclave, step).unwrap();
    let (receiver, _) = play.world.session(retired, &mut play.old);
    let refused = play.old.keeper.challenge_receiver(&play.old.enclave, &receiver, &request);
    let (expected, found) = (play.via.identity().measurement, retired.identity().measurement);
    let other = NotAttested::OtherCode { expected, found };
    assert_eq!(refused.err(), Some(PeerRefusal::from(other)));
}

/// Nor would anybody take a keyring from it.
fn expect_refused_as_donor(play: &mut Play, retired: &mut Node) {
    let Answered { ask, challenge, .. } = play.answered(TO_NEW).unwrap();
    let (_, donor) = play.world.session(&mut play.new, retired);
    let judged = play.new.keeper.prove_to_donor(&play.new.enclave, &donor, &ask, &challenge);
    let (policy, measurement) = (Serial(3), retired.identity().measurement);
    let not_listed = NotAHolder::NotListed { policy, measurement };
    assert_eq!(judged.err(), Some(not_listed.into()));
}
