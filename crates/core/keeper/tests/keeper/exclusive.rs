//! An exclusive domain never has two instances that answer.

use heirloom_keeper::handover::NotAuthorised;
use heirloom_keeper::handshake::{NotAHolder, expect_holder, expect_server};
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_model::admin::Ticket;
use heirloom_model::counter::{Generation, Moment};
use heirloom_model::domain::ActivationCause;
use heirloom_model::limit::ATTENDANCE_MILLISECONDS;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::{PeerRefusal, PeerResponse, ServingState};
use heirloom_registry::plan::PlanStatus;

use crate::refusal::newest;
use crate::seats::{ACTIVATE, ACTIVATE_BACK, ASK_NEW, Play, SUSPEND};
use crate::world::{Node, World};

const RESTARTED: ActivationCause = ActivationCause::Restarted;

/// Whether a keeper answers an application at a moment.
fn answers(world: &World, node: &mut Node, now: Moment) -> Result<(), PeerRefusal> {
    let mut wallet = world.node(9, &world.application);
    world.feed(&mut wallet);
    let (peer, _) = world.session(&mut wallet, node);
    match node.keeper.serve(&peer, &newest(), now) {
        PeerResponse::Key(_) => Ok(()),
        PeerResponse::Refused(refusal) => Err(refusal),
        PeerResponse::Generations(_) | PeerResponse::HandoverChallenge(_) => {
            panic!("another answer")
        }
    }
}

fn not_serving(state: ServingState) -> Result<(), PeerRefusal> {
    Err(PeerRefusal::NotServing { state })
}

fn after(world: &World, milliseconds: u64) -> Moment {
    world.now.after(milliseconds)
}

fn active() -> (World, Node) {
    let mut world = World::new();
    world.publish_handover(2, |_| {});
    let node = world.first_active();
    (world, node)
}

/// A second start of the same files, on the same machine, while the first one still runs.
fn clone_of(world: &World, node: &Node) -> Node {
    let start = u64::try_from(world.log.len()).unwrap() + 1_000;
    world.seat(&node.name, &node.host, &world.old, node.disk.clone(), start)
}

#[test]
fn the_active_holder_serves_while_its_agent_looks() {
    let (world, mut node) = active();
    let last = after(&world, ATTENDANCE_MILLISECONDS - 1);
    assert_eq!(answers(&world, &mut node, last), Ok(()));
    let late = after(&world, ATTENDANCE_MILLISECONDS);
    assert_eq!(node.keeper.state_at(late), ServingState::Unattended);
    assert_eq!(node.keeper.status(late).state, ServingState::Unattended);
    assert_eq!(answers(&world, &mut node, late), not_serving(ServingState::Unattended));
    // Time does not go back.
    let intent = node.keeper.follow(&node.enclave, &[], None, late).unwrap();
    node.carry_out(intent);
    assert_eq!(node.keeper.state_at(world.now), ServingState::Unattended);
    assert_eq!(answers(&world, &mut node, world.now), not_serving(ServingState::Unattended));
    // It still holds, and says so.
    assert!(node.keeper.state().holds());
    let ticket = node.keeper.attend(late);
    let intent = node.keeper.follow(&node.enclave, &[], Some(ticket), late).unwrap();
    node.carry_out(intent);
    assert_eq!(answers(&world, &mut node, late), Ok(()));
}

/// What counts is when the agent began to look, not when it brought what it saw.
#[test]
fn a_look_counts_from_its_beginning() {
    let (world, mut node) = active();
    let begun = after(&world, 1_000);
    let ticket = node.keeper.attend(begun);
    let late = begun.after(ATTENDANCE_MILLISECONDS);
    let intent = node.keeper.follow(&node.enclave, &[], Some(ticket), late).unwrap();
    node.carry_out(intent);
    assert_eq!(node.keeper.state(), ServingState::Unattended);
    // A ticket that was never given is none, and neither is one that was given long before.
    for ticket in [Ticket(0), Ticket(ticket.0 + 1), ticket] {
        let intent = node.keeper.follow(&node.enclave, &[], Some(ticket), late).unwrap();
        node.carry_out(intent);
        assert_eq!(node.keeper.state(), ServingState::Unattended);
    }
    // Several looks at a time are good, and not any number of them.
    let first = node.keeper.attend(late);
    let second = node.keeper.attend(late);
    for _ in 0..7 {
        node.keeper.attend(late);
    }
    for (ticket, state) in [(first, ServingState::Unattended), (second, ServingState::Ready)] {
        let intent = node.keeper.follow(&node.enclave, &[], Some(ticket), late).unwrap();
        node.carry_out(intent);
        assert_eq!(node.keeper.state(), state);
    }
}

#[test]
fn a_drain_ends_with_the_attendance() {
    let (world, mut node) = active();
    node.keeper.drain();
    assert_eq!(node.keeper.state(), ServingState::Draining);
    let late = after(&world, ATTENDANCE_MILLISECONDS);
    assert_eq!(node.keeper.state_at(late), ServingState::Unattended);
}

/// A replicated domain asks nobody for the time.
#[test]
fn a_holder_of_a_replicated_domain_needs_no_attendance() {
    let (_, one, _) = crate::lifecycle::two_holders();
    assert_eq!(one.keeper.state_at(Moment(u64::MAX)), ServingState::Ready);
}

#[test]
fn a_clone_stays_on_standby() {
    let (mut world, mut node) = active();
    let mut clone = clone_of(&world, &node);
    world.feed(&mut clone);
    assert_ne!(clone.keeper.instance().public_key(), node.keeper.instance().public_key());
    assert_eq!(clone.keeper.state(), ServingState::Standby);
    assert_eq!(answers(&world, &mut clone, world.now), not_serving(ServingState::Standby));
    assert_eq!(answers(&world, &mut node, world.now), Ok(()));
    // Its agent makes it the active holder: it waits until the first one knows.
    world.activate(&mut clone, RESTARTED).unwrap();
    assert_eq!(clone.keeper.state(), ServingState::Unattended);
    assert_eq!(answers(&world, &mut node, world.now), Ok(()), "it does not know yet");
    let over = after(&world, ATTENDANCE_MILLISECONDS);
    assert_eq!(answers(&world, &mut node, over), not_serving(ServingState::Unattended));
    let before = Moment(over.0 - 1);
    for (now, state) in [(before, ServingState::Unattended), (over, ServingState::Ready)] {
        let ticket = clone.keeper.attend(now);
        let intent = clone.keeper.follow(&clone.enclave, &[], Some(ticket), now).unwrap();
        clone.carry_out(intent);
        assert_eq!(clone.keeper.state(), state);
    }
    world.now = over;
    world.feed(&mut node);
    assert_eq!(node.keeper.state(), ServingState::Superseded);
    assert_eq!(answers(&world, &mut node, over), not_serving(ServingState::Superseded));
    let refused = node.keeper.activate(&node.enclave, RESTARTED);
    let state = ServingState::Superseded;
    assert_eq!(refused, Err(KeeperError::State { state }), "it was active before");
    assert_eq!(answers(&world, &mut clone, over), Ok(()));
}

/// There is no moment at which both the instance before and the one after a restart serve, however
/// late the one before heard of the log.
#[test]
fn the_one_before_and_the_one_after_never_serve_together() {
    for look in [0, 1, ATTENDANCE_MILLISECONDS - 1] {
        let (mut world, mut node) = active();
        let mut clone = clone_of(&world, &node);
        // The last look of the one before ends just before the activation is in the log.
        world.now = after(&world, look);
        world.feed(&mut node);
        let ticket = node.keeper.attend(world.now);
        let intent = node.keeper.follow(&node.enclave, &[], Some(ticket), world.now).unwrap();
        node.carry_out(intent);
        world.activate(&mut clone, RESTARTED).unwrap();
        for milliseconds in 0..=2 * ATTENDANCE_MILLISECONDS {
            let now = after(&world, milliseconds);
            let ticket = clone.keeper.attend(now);
            let intent = clone.keeper.follow(&clone.enclave, &[], Some(ticket), now).unwrap();
            clone.carry_out(intent);
            let serves = |node: &Node| node.keeper.state_at(now) == ServingState::Ready;
            assert!(!(serves(&node) && serves(&clone)), "after {milliseconds} ms");
        }
    }
}

/// An instance that has just taken over must not hand over before the one before it knows.
#[test]
fn nobody_suspends_itself_before_it_has_taken_over() {
    let mut play = Play::prepared();
    let mut clone = clone_of(&play.world, &play.old);
    play.world.activate(&mut clone, RESTARTED).unwrap();
    let step = play.step(SUSPEND);
    let state = ServingState::Unattended;
    let early = clone.keeper.suspend(&clone.enclave, step);
    assert_eq!(early, Err(KeeperError::State { state }));
    play.world.now = after(&play.world, ATTENDANCE_MILLISECONDS);
    play.world.feed(&mut clone);
    assert_eq!(clone.keeper.state(), ServingState::Ready);
    let statement = clone.keeper.suspend(&clone.enclave, step).unwrap();
    play.world.accept_bytes(&statement);
}

#[test]
fn a_restarted_holder_of_another_seat_gets_nothing() {
    let mut play = Play::prepared();
    let refused = play.new.keeper.activate(&play.new.enclave, RESTARTED);
    assert_eq!(refused, Err(KeeperError::NotInLog), "another code");
    let refused = play.new.keeper.activate(&play.new.enclave, ActivationCause::First);
    assert_eq!(refused, Err(KeeperError::NotInLog), "somebody is active");
    let planned = ActivationCause::Planned(play.step(ACTIVATE));
    let refused = play.new.keeper.activate(&play.new.enclave, planned);
    assert_eq!(refused, Err(KeeperError::NotInLog), "nobody is suspended");
    let refused = play.via.keeper.activate(&play.via.enclave, planned);
    let role = HolderRole::Upgrader;
    assert_eq!(refused, Err(KeeperError::Role { role }));
    let refused = play.via.keeper.suspend(&play.via.enclave, play.step(SUSPEND));
    assert_eq!(refused, Err(KeeperError::Role { role }));
    let refused = play.old.keeper.activate(&play.old.enclave, RESTARTED);
    let state = ServingState::Ready;
    assert_eq!(refused, Err(KeeperError::State { state }), "it is the active one");
}

/// What an instance received since it started may not be on disk as it believes.
#[test]
fn only_an_instance_that_recovered_becomes_active() {
    let mut world = World::new();
    world.publish_handover(2, |_| {});
    let mut node = world.node(1, &world.old);
    let order = world.order(0, &node);
    world.feed(&mut node);
    let intent = node.keeper.create_generation(&node.enclave, order).unwrap();
    let receipt = node.carry_out(intent);
    world.accept_bytes(&receipt);
    world.feed(&mut node);
    let refused = node.keeper.activate(&node.enclave, ActivationCause::First);
    assert_eq!(refused, Err(KeeperError::NotRecovered));
    // A node that did not carry out genesis is not the first one, whatever it has.
    let mut two = world.node(2, &world.old);
    world.feed(&mut two);
    let refused = two.keeper.activate(&two.enclave, ActivationCause::First);
    let state = ServingState::Empty;
    assert_eq!(refused, Err(KeeperError::State { state }));
}

#[test]
fn a_replicated_domain_has_no_active_holder() {
    let (world, mut one, _) = crate::lifecycle::two_holders();
    world.restart(&mut one, &world.old.clone());
    world.feed(&mut one);
    let refused = one.keeper.activate(&one.enclave, ActivationCause::First);
    assert_eq!(refused, Err(KeeperError::NotExclusive));
}

#[test]
fn nobody_suspends_itself_but_by_an_open_step_for_it() {
    let mut play = Play::carried();
    let id = |step| heirloom_model::plan::StepId(step);
    let expected = "suspend";
    let cases = [
        (SUSPEND, NotAuthorised::NotOpen { step: id(SUSPEND) }),
        (ACTIVATE, NotAuthorised::OtherStep { step: id(ACTIVATE), expected }),
        (ASK_NEW, NotAuthorised::OtherStep { step: id(ASK_NEW), expected }),
        (99, NotAuthorised::OtherStep { step: id(99), expected }),
    ];
    for (step, reason) in cases {
        let refused = play.old.keeper.suspend(&play.old.enclave, play.step(step));
        assert_eq!(refused, Err(KeeperError::NotAuthorised(reason)));
        assert_eq!(play.old.keeper.state(), ServingState::Ready, "nothing has changed");
    }
    let mut play = Play::prepared();
    let step = play.step(SUSPEND);
    // Those who are not the active holder.
    let refused = play.new.keeper.suspend(&play.new.enclave, step);
    let state = ServingState::Standby;
    assert_eq!(refused, Err(KeeperError::State { state }));
    let mut clone = clone_of(&play.world, &play.old);
    play.world.feed(&mut clone);
    let refused = clone.keeper.suspend(&clone.enclave, step);
    assert_eq!(refused, Err(KeeperError::State { state }));
    // A plan that was called off.
    let abort = play.world.ceremony.abort(play.plan.digest());
    play.world.accept(&abort);
    play.feed();
    let status = PlanStatus::RollingBack;
    let refused = play.old.keeper.suspend(&play.old.enclave, step);
    assert_eq!(refused, Err(NotAuthorised::Status { status }.into()));
    assert_eq!(play.old.keeper.state(), ServingState::Ready);
}

/// From the statement on there is no answer, whether the log ever has it or not.
#[test]
fn a_suspended_holder_never_serves_again() {
    let mut play = Play::prepared();
    let step = play.step(SUSPEND);
    let now = play.world.now;
    assert_eq!(answers(&play.world, &mut play.old, now), Ok(()));
    let statement = play.old.keeper.suspend(&play.old.enclave, step).unwrap();
    let suspended = not_serving(ServingState::Suspended);
    assert_eq!(answers(&play.world, &mut play.old, now), suspended, "before the log has it");
    play.old.keeper.resume();
    play.feed();
    assert_eq!(answers(&play.world, &mut play.old, now), suspended, "the log says: active");
    assert!(play.old.keeper.suspend(&play.old.enclave, step).is_ok(), "it is repeated");
    play.world.accept_bytes(&statement);
    play.feed();
    assert_eq!(answers(&play.world, &mut play.old, now), suspended);
    assert!(play.old.keeper.suspend(&play.old.enclave, step).is_ok(), "and repeated");
    let state = ServingState::Suspended;
    let refused = play.old.keeper.activate(&play.old.enclave, RESTARTED);
    assert_eq!(refused, Err(KeeperError::State { state }));
    // It still proves what it holds.
    assert!(play.old.keeper.state().holds());
    // A clone of it gets nothing either: the plan decides who is next.
    let mut clone = clone_of(&play.world, &play.old);
    play.world.feed(&mut clone);
    for cause in [
        RESTARTED,
        ActivationCause::First,
        ActivationCause::Planned(play.step(ACTIVATE)),
        ActivationCause::Planned(play.step(ACTIVATE_BACK)),
    ] {
        assert!(clone.keeper.activate(&clone.enclave, cause).is_err(), "{cause:?}");
    }
    // The next one is active at once, and only it.
    play.done(SUSPEND);
    let cause = ActivationCause::Planned(play.step(ACTIVATE));
    play.world.activate(&mut play.new, cause).unwrap();
    play.feed();
    assert_eq!(answers(&play.world, &mut play.new, now), Ok(()));
    let superseded = not_serving(ServingState::Superseded);
    assert_eq!(answers(&play.world, &mut play.old, now), superseded);
    let code = play.world.old;
    play.restart(&code);
    assert_eq!(play.old.keeper.state(), ServingState::Standby);
    for cause in [RESTARTED, ActivationCause::First, cause] {
        assert!(play.old.keeper.activate(&play.old.enclave, cause).is_err(), "{cause:?}");
    }
}

/// On the way back the old seat becomes active again, as another instance.
#[test]
fn an_abort_puts_a_new_instance_of_the_old_seat_back() {
    let mut play = Play::prepared();
    let statement = play.old.keeper.suspend(&play.old.enclave, play.step(SUSPEND)).unwrap();
    play.world.accept_bytes(&statement);
    play.feed();
    let back = ActivationCause::Planned(play.step(ACTIVATE_BACK));
    let forth = ActivationCause::Planned(play.step(ACTIVATE));
    let abort = play.world.ceremony.abort(play.plan.digest());
    play.world.accept(&abort);
    play.feed();
    let status = PlanStatus::RollingBack;
    let refused = play.new.keeper.activate(&play.new.enclave, forth);
    assert_eq!(refused, Err(NotAuthorised::Status { status }.into()));
    let state = ServingState::Suspended;
    let refused = play.old.keeper.activate(&play.old.enclave, back);
    assert_eq!(refused, Err(KeeperError::State { state }));
    let code = play.world.old;
    play.restart(&code);
    play.world.activate(&mut play.old, back).unwrap();
    assert_eq!(play.old.keeper.state(), ServingState::Ready);
    play.feed();
    assert_eq!(play.new.keeper.state(), ServingState::Standby);
}

/// Another generation of the same number would be one too many.
#[test]
fn only_the_active_holder_creates_generations() {
    let (mut world, mut node) = active();
    let mut clone = clone_of(&world, &node);
    let order = world.order(1, &node);
    world.feed(&mut node);
    world.feed(&mut clone);
    let state = ServingState::Standby;
    assert!(!clone.status().may_generate);
    let refused = clone.keeper.create_generation(&clone.enclave, order).err();
    assert_eq!(refused, Some(KeeperError::State { state }));
    let intent = node.keeper.create_generation(&node.enclave, order).unwrap();
    let receipt = node.carry_out(intent);
    world.accept_bytes(&receipt);
    world.feed(&mut node);
    assert_eq!(node.keeper.state(), ServingState::Ready);
    assert_eq!(node.status().holding.unwrap().generation, Generation(1));
    world.feed(&mut clone);
    assert_eq!(clone.keeper.state(), ServingState::Replicating);
    assert!(clone.keeper.replication_next().is_none(), "a copy is made by a plan only");
}

#[test]
fn a_challenge_for_one_seat_is_not_answered_by_another() {
    let mut play = Play::prepared();
    let nonce = play.ask(ASK_NEW);
    let files = play.old.disk.stored();
    let (asked, own) = (play.world.new.measurement, play.world.old.measurement);
    let refused = play.old.keeper.prove(&play.old.enclave, nonce, &files);
    assert_eq!(refused, Err(KeeperError::OtherCode { asked, own }));
    let files = play.new.disk.stored();
    assert!(play.new.keeper.prove(&play.new.enclave, nonce, &files).is_ok(), "on standby");
    // A challenge that names no code is for the node's keeper.
    let nonce = play.world.challenge(&[&play.old]);
    play.feed();
    let files = play.via.disk.stored();
    let refused = play.via.keeper.prove(&play.via.enclave, nonce, &files);
    assert_eq!(refused, Err(KeeperError::Role { role: HolderRole::Upgrader }));
    let files = play.old.disk.stored();
    assert!(play.old.keeper.prove(&play.old.enclave, nonce, &files).is_ok());
}

/// An application believes the one instance that the log names, and nobody else that holds.
#[test]
fn an_application_accepts_only_the_active_holder() {
    let mut play = Play::prepared();
    let mut wallet = play.world.node(9, &play.world.application);
    play.world.feed(&mut wallet);
    let (domain, state) = (play.world.ceremony.domain, play.world.state.clone());
    let (_, old) = play.world.session(&mut wallet, &mut play.old);
    let server = expect_server(&old, &state, &domain).unwrap();
    assert_eq!(server.measurement(), play.world.old.measurement);
    let (_, via) = play.world.session(&mut wallet, &mut play.via);
    assert!(expect_holder(&via, &state, &domain).is_ok());
    let measurement = play.world.via.measurement;
    let policy = server.policy();
    let refused = expect_server(&via, &state, &domain);
    assert_eq!(refused, Err(NotAHolder::NotAKeeper { policy, measurement }));
    let mut clone = clone_of(&play.world, &play.old);
    play.world.feed(&mut clone);
    for node in [&mut play.new, &mut clone] {
        let (_, peer) = play.world.session(&mut wallet, node);
        let instance = node.keeper.instance().public_key();
        let refused = expect_server(&peer, &state, &domain);
        assert_eq!(refused, Err(NotAHolder::NotActive { instance }));
    }
    let statement = play.old.keeper.suspend(&play.old.enclave, play.step(SUSPEND)).unwrap();
    play.world.accept_bytes(&statement);
    let state = play.world.state.clone();
    let instance = play.old.keeper.instance().public_key();
    assert_eq!(expect_server(&old, &state, &domain), Err(NotAHolder::NotActive { instance }));
}
