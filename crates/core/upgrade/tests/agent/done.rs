//! When an action is done: for each action what it looks like before and after, and that nothing
//! but the one fact that counts makes the difference.

use std::collections::BTreeSet;

use heirloom_model::admin::{Holding, KeeperStatus, Progress as Replicated, SealingAge};
use heirloom_model::counter::Generation;
use heirloom_model::digest::Checksum;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::plan::{Action, Placement, Plan, Step, StepId};
use heirloom_model::protocol::ServingState;
use heirloom_upgrade::engine::{Situation, is_done, leaves_a_mark};
use heirloom_upgrade::journal::Progress;
use heirloom_upgrade::port::Observation;

use crate::world::{CHECKSUM, World, lock};
use crate::{finish, measurements, planned, run, step};

/// Each in the order of [`measurements`].
fn placements(plan: &Plan) -> [Placement; 3] {
    [
        plan.keyring.as_ref().expect("it moves a keyring").from,
        plan.keyring.as_ref().expect("it moves a keyring").via.unwrap(),
        plan.keyring.as_ref().expect("it moves a keyring").to,
    ]
}

fn judge(world: &World, plan: &Plan, step: &Step, observed: &Observation) -> bool {
    let progress = Progress::default();
    let situation = Situation { node: &world.node, state: world.state(), progress: &progress };
    is_done(&situation, plan, step, observed)
}

fn done(world: &World, plan: &Plan, action: Action, observed: &Observation) -> bool {
    let step = Step { id: StepId(0), node: world.node.clone(), wave: 0, action, gates: Vec::new() };
    judge(world, plan, &step, observed)
}

/// The old keeper and the upgrader run, each with its keyring recovered.
fn side_by_side(world: &World) -> Observation {
    let [from, via, _] = measurements();
    let mut observed = world.observation();
    let old = observed.running[&from].clone();
    let mut carrier = KeeperStatus { measurement: via, ..*old };
    carrier.state = ServingState::Carrying;
    observed.running.insert(via, Box::new(carrier));
    observed.live.insert(via);
    observed
}

fn with(
    observed: &Observation,
    code: heirloom_model::measurement::Measurement,
    change: impl FnOnce(&mut KeeperStatus),
) -> Observation {
    let mut changed = observed.clone();
    change(changed.running.get_mut(&code).unwrap());
    changed
}

#[test]
fn actions_on_processes_look_at_exactly_their_own_code() {
    let (world, _, plan) = planned();
    let world = lock(&world);
    let [from, via, to] = placements(&plan);
    let seen = side_by_side(&world);
    for (action, expected) in [
        (Action::Start(from), true),
        (Action::Start(via), true),
        (Action::Start(to), false),
        (Action::Stop(via), false),
        (Action::Stop(to), true),
        (Action::Drain(from), false),
        (Action::Drain(via), true),
        (Action::Drain(to), true),
    ] {
        assert_eq!(done(&world, &plan, action.clone(), &seen), expected, "{action:?}");
    }
    // What exists and does not answer neither runs well nor is gone.
    let mut silent = seen.clone();
    silent.running.remove(&via.measurement);
    silent.silent.insert(via.measurement);
    for action in [Action::Start(via), Action::Stop(via), Action::Drain(via), Action::Forget(via)] {
        assert!(!done(&world, &plan, action.clone(), &silent), "{action:?}");
    }
    let drained = with(&seen, from.measurement, |it| it.state = ServingState::Draining);
    assert!(done(&world, &plan, Action::Drain(from), &drained));
}

#[test]
fn actions_on_files_look_at_exactly_their_own_code() {
    let (world, _, plan) = planned();
    let world = lock(&world);
    let [from, via, to] = placements(&plan);
    let mut seen = side_by_side(&world);
    seen.quarantined = BTreeSet::from([to.measurement]);
    let install = |expect, install| Action::Install { expect, install };
    for (action, expected) in [
        (Action::Quarantine(from.measurement), false),
        (Action::Quarantine(to.measurement), true),
        (Action::Restore(from.measurement), true),
        (Action::Restore(to.measurement), false),
        (Action::Preserve(from.measurement), false),
        (Action::Preserve(to.measurement), true),
        (install(to, from), true),
        (install(from, to), false),
        (install(from, via), false),
    ] {
        assert_eq!(done(&world, &plan, action.clone(), &seen), expected, "{action:?}");
    }
    let older = with(&seen, from.measurement, |it| it.sealing = SealingAge::Older);
    assert!(done(&world, &plan, Action::Reseal(from), &seen));
    assert!(!done(&world, &plan, Action::Reseal(from), &older));
    assert!(!done(&world, &plan, Action::Reseal(to), &seen));
}

#[test]
fn a_keyring_has_arrived_only_with_the_checksum_of_the_plan() {
    let (world, _, plan) = planned();
    let world = lock(&world);
    let [from, via, to] = placements(&plan);
    let seen = side_by_side(&world);
    let hand = |from, to| Action::HandOver { from_node: world.node.clone(), from, to };
    let copy = |to| Action::Replicate { sources: Vec::new(), to };
    let holding = |change: fn(&mut Holding)| {
        with(&seen, via.measurement, |it| change(it.holding.as_mut().unwrap()))
    };
    let received = holding(|it| it.origin = HoldingOrigin::Received);
    let other = holding(|it| it.checksum = Checksum::new([0; 32]));
    let newer = holding(|it| it.generation = Generation(1));
    let nothing = with(&seen, via.measurement, |it| it.holding = None);
    for (observed, holds, recovered) in [
        (&seen, true, true),
        (&received, true, false),
        (&other, false, false),
        (&newer, true, true),
        (&nothing, false, false),
    ] {
        assert_eq!(done(&world, &plan, hand(from, via), observed), holds);
        assert_eq!(done(&world, &plan, copy(via), observed), holds);
        assert_eq!(done(&world, &plan, Action::Restart(via), observed), recovered);
    }
    assert!(!done(&world, &plan, hand(via, to), &seen));
    // An instance that said that it serves no more has not been restarted.
    for state in [ServingState::Suspended, ServingState::Superseded] {
        let spent = with(&seen, from.measurement, |it| it.state = state);
        assert!(!done(&world, &plan, Action::Restart(from), &spent));
    }
    let standby = with(&seen, from.measurement, |it| it.state = ServingState::Standby);
    assert!(done(&world, &plan, Action::Restart(from), &standby));
}

#[test]
fn a_copy_is_given_up_only_when_nothing_of_it_is_left() {
    let (world, _, plan) = planned();
    let world = lock(&world);
    let [_, via, to] = placements(&plan);
    let seen = side_by_side(&world);
    let forget = |observed: &Observation| done(&world, &plan, Action::Forget(via), observed);
    assert!(!forget(&seen));
    let empty = with(&seen, via.measurement, |it| {
        it.holding = None;
        it.state = ServingState::Empty;
    });
    assert!(forget(&empty));
    let partly = with(&empty, via.measurement, |it| {
        it.progress = Some(Replicated { received: 1, wanted: 2 });
    });
    assert!(!forget(&partly));
    // Files that nobody can read may still be the keyring.
    for state in [ServingState::Unreadable, ServingState::Starting, ServingState::RolledBack] {
        let dark = with(&empty, via.measurement, |it| it.state = state);
        assert!(!forget(&dark), "{state}");
        let mut gone = dark;
        gone.live.remove(&via.measurement);
        assert!(forget(&gone), "{state}");
    }
    let mut down = seen.clone();
    down.running.remove(&via.measurement);
    assert!(!forget(&down));
    down.live.remove(&via.measurement);
    assert!(forget(&down));
    assert!(done(&world, &plan, Action::Forget(to), &seen));
}

#[test]
fn who_is_active_is_what_the_log_says_about_the_running_instance() {
    let (world, mut agent, plan) = planned();
    let [from, _, to] = measurements();
    let (suspend, activate) = (step(&plan, "suspend", from), step(&plan, "activate", to));
    let is = |step: &Step| {
        let seen = lock(&world);
        judge(&seen, &plan, step, &seen.observation())
    };
    run(&mut agent, |world| world.processes.contains_key(&to));
    assert!(!is(suspend) && !is(activate));
    run(&mut agent, |world| {
        let domain = world.state().domain(&world.ceremony.domain).unwrap();
        domain.activity().suspended().is_some()
    });
    assert!(is(suspend) && !is(activate));
    run(&mut agent, |world| world.serve() == [to]);
    assert!(is(suspend) && is(activate));
    // Another instance of the same code is not the one that the log names, and neither is none.
    let seat = lock(&world).processes.remove(&to).unwrap();
    assert!(!is(activate));
    lock(&world).run(to);
    assert!(!is(activate));
    lock(&world).processes.insert(to, seat);
    assert!(is(activate));
    finish(&mut agent, &plan);
}

#[test]
fn what_leaves_no_mark_is_carried_out_by_whoever_finds_it_begun() {
    let (world, _, mut plan) = planned();
    let node = lock(&world).node.clone();
    let [from, via, _] = placements(&plan);
    let step =
        |action| Step { id: StepId(0), node: node.clone(), wave: 0, action, gates: Vec::new() };
    assert!(!leaves_a_mark(&plan, &step(Action::Preserve(from.measurement))));
    assert!(leaves_a_mark(&plan, &step(Action::Restart(from))));
    plan.steps.push(step(Action::Reseal(from)));
    assert!(!leaves_a_mark(&plan, &step(Action::Restart(from))));
    assert!(leaves_a_mark(&plan, &step(Action::Restart(via))));
    assert!(leaves_a_mark(&plan, &step(Action::Reseal(from))));
    assert_eq!(plan.keyring.as_ref().expect("it moves a keyring").checksum, CHECKSUM);
}
