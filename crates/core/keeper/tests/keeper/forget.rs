//! An upgrader gives up its copy, and nothing else ever does.

use heirloom_keeper::handover::NotAuthorised;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_model::domain::ActivationCause;
use heirloom_model::plan::{Action, Gate, Plan, Step, StepId};
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;
use heirloom_registry::plan::PlanStatus;
use heirloom_testkit::ceremony::Code;

use crate::seats::{
    ACTIVATE, ACTIVATE_BACK, ASK_AGAIN, ASK_BACK, FORGET, FORGET_BACK, Play, SUSPEND, TO_VIA,
};

fn refused(play: &Play, step: u32) -> KeeperError {
    let files = play.via.disk.stored();
    play.via.keeper.forget(play.step(step), &files).err().unwrap()
}

fn step_of(plan: &mut Plan, step: u32) -> &mut Step {
    let back = plan.rollback.iter_mut().map(|back| &mut back.step);
    plan.steps.iter_mut().chain(back).find(|found| found.id == StepId(step)).unwrap()
}

fn gates_of(plan: &mut Plan, step: u32) -> &mut Vec<Gate> {
    &mut step_of(plan, step).gates
}

fn wait(play: &mut Play, epochs: u32) {
    for _ in 0..epochs {
        play.world.epoch();
    }
    play.feed();
}

#[test]
fn an_upgrader_forgets_after_proof_and_delay() {
    let mut play = Play::moved();
    wait(&mut play, 2);
    let files = play.via.disk.stored();
    let intent = play.via.keeper.forget(play.step(FORGET), &files).unwrap();
    assert!(intent.writes().is_empty());
    assert_eq!(intent.removals().len(), 1);
    assert_eq!(play.via.keeper.state(), ServingState::Carrying, "nothing is gone yet");
    play.via.carry_out(intent);
    assert_eq!(play.via.keeper.state(), ServingState::Empty);
    assert!(play.via.status().holding.is_none());
    assert_eq!(play.via.disk.names("keyring").len(), 0);
    // Once more, and after a restart.
    let intent = play.via.keeper.forget(play.step(FORGET), &play.via.disk.stored()).unwrap();
    play.via.carry_out(intent);
    let code = play.world.via;
    play.restart(&code);
    assert_eq!(play.via.keeper.state(), ServingState::Empty);
    play.done(FORGET);
    let again = play.via.keeper.forget(play.step(FORGET), &play.via.disk.stored());
    assert!(again.is_ok(), "the plan is finished");
}

#[test]
fn an_upgrader_forgets_nothing_before_proof_and_delay() {
    let mut play = Play::prepared();
    let status = PlanStatus::Approved;
    assert_eq!(refused(&play, FORGET), NotAuthorised::Status { status }.into());
    let statement = play.old.keeper.suspend(&play.old.enclave, play.step(SUSPEND)).unwrap();
    play.world.accept_bytes(&statement);
    play.done(SUSPEND);
    assert_eq!(refused(&play, FORGET), NotAuthorised::Status { status }.into());
    let cause = ActivationCause::Planned(play.step(ACTIVATE));
    play.world.activate(&mut play.new, cause).unwrap();
    play.feed();
    // The new keeper has said that it is active; its proof is from before that.
    let measurement = play.world.new.measurement;
    assert_eq!(refused(&play, FORGET), NotAuthorised::NotProven { measurement }.into());
    play.done(ACTIVATE);
    assert_eq!(refused(&play, FORGET), NotAuthorised::TooEarly { epochs: 2 }.into());
    wait(&mut play, 2);
    let step = StepId(FORGET);
    assert_eq!(refused(&play, FORGET), NotAuthorised::NotOpen { step }.into());
    play.verify(ASK_AGAIN, |play| &mut play.new);
    assert!(play.via.keeper.forget(play.step(FORGET), &[]).is_ok());
    let (step, expected) = (StepId(SUSPEND), "forget");
    let other = NotAuthorised::OtherStep { step, expected };
    assert_eq!(refused(&play, SUSPEND), other.into());
}

/// A plan without these gates is a bad plan; the upgrader reads the log itself.
#[test]
fn an_upgrader_believes_no_plan_that_asks_for_less() {
    let mut play = Play::moved_with(|plan| plan.steps[FORGET as usize].gates.clear());
    let measurement = play.world.new.measurement;
    assert_eq!(refused(&play, FORGET), NotAuthorised::TooEarly { epochs: 2 }.into());
    wait(&mut play, 2);
    assert_eq!(refused(&play, FORGET), NotAuthorised::NotProven { measurement }.into());
    play.verify(ASK_AGAIN, |play| &mut play.new);
    assert!(play.via.keeper.forget(play.step(FORGET), &[]).is_ok());
}

#[test]
fn the_gates_of_the_plan_count_as_well() {
    let waits = |mut play: Play, gate: &'static str| {
        play.verify(ASK_AGAIN, |play| &mut play.new);
        wait(&mut play, 2);
        let step = StepId(FORGET);
        assert_eq!(refused(&play, FORGET), NotAuthorised::Closed { step, gate }.into());
    };
    let longer = |plan: &mut Plan| {
        let since = StepId(ACTIVATE);
        plan.steps[FORGET as usize].gates = vec![Gate::Waited { since, epochs: 9 }];
    };
    waits(Play::moved_with(longer), "for epochs to pass");
    let more = |plan: &mut Plan| {
        let (holders, since) = (plan.nodes.clone(), StepId(ASK_AGAIN));
        plan.steps[FORGET as usize].gates = vec![Gate::Proven { holders, need: 2, since }];
    };
    waits(Play::moved_with(more), "for proofs");
    let later = |plan: &mut Plan| {
        plan.steps[FORGET as usize].gates = vec![Gate::Epoch(heirloom_model::counter::Epoch(40))];
    };
    waits(Play::moved_with(later), "for an epoch");
}

#[test]
fn no_keeper_ever_forgets() {
    let mut play = Play::moved();
    wait(&mut play, 2);
    let role = HolderRole::Keeper;
    for node in [&play.old, &play.new] {
        let refused = node.keeper.forget(play.step(FORGET), &node.disk.stored()).err();
        assert_eq!(refused, Some(KeeperError::Role { role }));
    }
}

/// What cannot be removed is not forgotten: the step is repeated.
#[test]
fn a_file_that_cannot_be_removed_is_no_success() {
    let mut play = Play::moved();
    wait(&mut play, 2);
    let files = play.via.disk.stored();
    let intent = play.via.keeper.forget(play.step(FORGET), &files).unwrap();
    play.via.disk.failures = 1;
    assert!(intent.persist(&mut play.via.disk).is_err());
    drop(intent);
    assert_eq!(play.via.disk.names("keyring").len(), 1);
    assert_eq!(play.via.keeper.state(), ServingState::Carrying);
    let intent = play.via.keeper.forget(play.step(FORGET), &files).unwrap();
    play.via.carry_out(intent);
    assert_eq!(play.via.disk.names("keyring").len(), 0);
}

/// On the way back the keeper that gave the keyring away has it, and has proven so.
#[test]
fn an_upgrader_forgets_on_the_way_back() {
    let mut play = Play::carried();
    let status = PlanStatus::Approved;
    assert_eq!(refused(&play, FORGET_BACK), NotAuthorised::Status { status }.into());
    play.abort();
    let status = PlanStatus::RollingBack;
    assert_eq!(refused(&play, FORGET), NotAuthorised::Status { status }.into());
    let (step, expected) = (StepId(ACTIVATE_BACK), "forget");
    let other = NotAuthorised::OtherStep { step, expected };
    assert_eq!(refused(&play, ACTIVATE_BACK), other.into());
    let step = StepId(FORGET_BACK);
    assert_eq!(refused(&play, FORGET_BACK), NotAuthorised::NotOpen { step }.into());
    play.verify(ASK_BACK, |play| &mut play.old);
    let files = play.via.disk.stored();
    let intent = play.via.keeper.forget(play.step(FORGET_BACK), &files).unwrap();
    play.via.carry_out(intent);
    assert_eq!(play.via.keeper.state(), ServingState::Empty);
    assert_eq!(play.old.keeper.state(), ServingState::Ready);
}

/// Before the abort the plan changed things: what was proven then, with whatever gates, is no
/// reason to give up a copy that may be the only good one.
#[test]
fn an_upgrader_forgets_nothing_on_the_way_back_without_a_proof_since_the_abort() {
    let mut play = Play::with(|plan| gates_of(plan, FORGET_BACK).clear());
    play.hand_over(TO_VIA).unwrap();
    play.abort();
    let measurement = play.world.old.measurement;
    assert_eq!(refused(&play, FORGET_BACK), NotAuthorised::NotProven { measurement }.into());
    play.verify(ASK_BACK, |play| &mut play.old);
    assert!(play.via.keeper.forget(play.step(FORGET_BACK), &[]).is_ok());
}

/// The same code elsewhere may hold the same keyring, and is not the seat that this copy was
/// taken from or given to.
#[test]
fn only_the_seat_beside_the_upgrader_is_a_reason_to_forget() {
    let two_are_asked = |plan: &mut Plan, ask: u32, forget: u32| {
        plan.nodes = ["node-1", "node-2"].map(|node| node.parse().unwrap()).to_vec();
        let nodes = plan.nodes.clone();
        gates_of(plan, forget).clear();
        match &mut step_of(plan, ask).action {
            Action::Verify { targets, .. } => *targets = nodes,
            other => panic!("{other:?}"),
        }
    };
    let elsewhere = |play: &mut Play, ask: u32, forget: u32, code: Code| {
        let not_proven = NotAuthorised::NotProven { measurement: code.measurement };
        for (node, machine) in [("node-2", 2), ("node-2", 1), ("node-1", 2)] {
            let nonce = play.ask(ask);
            play.proof_of(nonce, node, machine, &code);
            assert_eq!(refused(play, forget), not_proven.clone().into(), "{node} on {machine}");
        }
        let nonce = play.ask(ask);
        play.proof_of(nonce, "node-1", 1, &code);
        assert!(play.via.keeper.forget(play.step(forget), &[]).is_ok());
    };
    let mut play = Play::with(|plan| two_are_asked(plan, ASK_BACK, FORGET_BACK));
    play.hand_over(TO_VIA).unwrap();
    play.abort();
    let code = play.world.old;
    elsewhere(&mut play, ASK_BACK, FORGET_BACK, code);
    let mut play = Play::moved_with(|plan| two_are_asked(plan, ASK_AGAIN, FORGET));
    wait(&mut play, 2);
    let code = play.world.new;
    elsewhere(&mut play, ASK_AGAIN, FORGET, code);
}
