//! When an action of a service is done: only after its effect, whatever else is the case.

use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Placement, ServiceAction, Step, StepId};
use heirloom_model::service::{Admission, ServiceStatus, Writing};
use heirloom_registry::plan::PlanStatus;
use heirloom_testkit::service::tip;
use heirloom_upgrade::engine::{Situation, is_done, leaves_a_mark};
use heirloom_upgrade::journal::Progress;
use heirloom_upgrade::port::{EdgeAdmission, Observation};

use crate::world::lock;
use crate::{Day, day, is_forward};

fn done(day: &Day, step: &Step, observed: &Observation) -> bool {
    let world = lock(&day.world);
    let progress = Progress::default();
    let situation = Situation { node: &step.node, state: world.state(), progress: &progress };
    is_done(&situation, &day.plan, step, observed)
}

fn seen(day: &Day, node: &NodeId) -> Observation {
    lock(&day.world).observation(node)
}

/// At every moment of a flag day, a step is found done only if its result was near.
#[test]
fn every_action_is_done_only_after_its_effect() {
    let mut day = day(2);
    day.watched();
    let node = day.nodes()[0].clone();
    let own = |step: &&Step| step.node == node && is_forward(&step.action);
    let steps: Vec<Step> = day.plan.steps.iter().filter(own).cloned().collect();
    let mut before: Vec<StepId> = Vec::new();
    while day.status() != PlanStatus::Finished {
        let observed = seen(&day, &node);
        for step in &steps {
            let begun = day.agents[&node].progress().step(step.id).is_some();
            let is_done = done(&day, step, &observed);
            // Commit is nothing but its result; the old service was open before the new one.
            if !begun && step.action != Action::Commit {
                assert!(!is_done, "step {} ({})", step.id, step.action.name());
                before.push(step.id);
            }
            let ended = day.asked(|plan| plan.done_at(step.id).is_some());
            if ended && matches!(day.last.get(&node), Some(Ok(_))) && lasts(&step.action) {
                assert!(is_done, "step {} ({})", step.id, step.action.name());
            }
        }
        day.tick(&node);
        let rest: Vec<NodeId> = day.nodes().into_iter().skip(1).collect();
        day.round(&rest);
    }
    assert!(steps.iter().all(|it| it.action == Action::Commit || before.contains(&it.id)));
}

/// Effects that no later step of the way forward takes away.
fn lasts(action: &Action) -> bool {
    !matches!(action, Action::Service(ServiceAction::Fence(_) | ServiceAction::Halt(_)))
}

/// What makes one observation differ from another.
type Edit = fn(&mut heirloom_upgrade::port::ServiceObservation);

#[test]
fn nothing_but_the_one_fact_that_counts_makes_the_difference() {
    let mut day = day(1);
    let node = day.nodes()[0].clone();
    // Everything is done but the watch.
    let open = day.step("open", &node).id;
    day.run(|day| day.asked(|plan| plan.done_at(open).is_some()));
    let change = day.plan.service.clone().unwrap();
    let (from, to) = (change.from, change.to);
    let plain = seen(&day, &node);
    let at = |action: &Action| {
        let is = |step: &&Step| step.action == *action;
        day.plan.steps.iter().find(is).map_or(StepId(0), |step| step.id)
    };
    let does = Action::Service;
    let table: Vec<(Action, bool, Edit)> = vec![
        (does(ServiceAction::Open(to)), true, |_| {}),
        (does(ServiceAction::Open(from)), false, |_| {}),
        (does(ServiceAction::Open(to)), false, |it| it.edge = None),
        (does(ServiceAction::Open(to)), false, |it| it.edge = Some(EdgeAdmission::Closed)),
        (does(ServiceAction::Open(to)), false, |it| it.running = None),
        (does(ServiceAction::Open(to)), false, |it| running(it).admission = Admission::SideDoor),
        (does(ServiceAction::Open(to)), false, |it| running(it).writing = Writing::Frozen),
        (does(ServiceAction::Fence(to)), false, |_| {}),
        (does(ServiceAction::Fence(to)), false, |it| it.edge = Some(EdgeAdmission::Closed)),
        (does(ServiceAction::Fence(to)), true, fenced),
        (does(ServiceAction::Fence(to)), false, |it| {
            fenced(it);
            it.edge = None;
        }),
        (does(ServiceAction::Fence(to)), false, |it| {
            fenced(it);
            running(it).pending = 1;
        }),
        (does(ServiceAction::Fence(to)), false, |it| {
            fenced(it);
            let code = it.running.take().unwrap().measurement;
            it.silent.insert(code);
        }),
        (does(ServiceAction::Halt(to)), false, |_| {}),
        (does(ServiceAction::Halt(from)), false, |_| {}),
        (does(ServiceAction::Halt(from)), true, |it| it.database_held = None),
        (does(ServiceAction::Halt(to)), false, |it| it.running = None),
        (does(ServiceAction::Halt(to)), true, |it| (it.running, it.database_held) = (None, None)),
        (does(ServiceAction::Snapshot), true, |_| {}),
        (does(ServiceAction::Snapshot), false, |it| it.snapshots.clear()),
        (does(ServiceAction::Snapshot), false, |it| {
            it.snapshots.values_mut().for_each(|copy| *copy = tip(9));
        }),
        (does(ServiceAction::Migrate), true, |_| {}),
        (does(ServiceAction::Migrate), false, |it| it.migrated = None),
        (does(ServiceAction::Revert), false, |_| {}),
        (does(ServiceAction::Revert), true, |it| it.migrated = None),
        (deploy(from, to), true, |_| {}),
        (deploy(to, from), false, |_| {}),
        (deploy(from, to), false, |it| it.installed = None),
        (does(ServiceAction::Exercise(to)), true, |_| {}),
        (does(ServiceAction::Exercise(to)), false, |it| it.exercised.clear()),
        (Action::Commit, true, |_| {}),
    ];
    for (number, (action, expected, edit)) in table.into_iter().enumerate() {
        let mut observed = plain.clone();
        edit(observed.service.as_mut().unwrap());
        let (id, node) = (at(&action), node.clone());
        let step = Step { id, node, wave: 0, action, gates: Vec::new() };
        assert_eq!(done(&day, &step, &observed), expected, "row {number}: {step:?}");
        // A node without a service shows nothing.
        observed.service = None;
        let nothing = step.action == Action::Commit;
        assert_eq!(done(&day, &step, &observed), nothing, "row {number}");
    }
}

fn running(it: &mut heirloom_upgrade::port::ServiceObservation) -> &mut ServiceStatus {
    it.running.as_mut().unwrap()
}

fn fenced(it: &mut heirloom_upgrade::port::ServiceObservation) {
    it.edge = Some(EdgeAdmission::Closed);
    it.running.as_mut().unwrap().admission = Admission::Closed;
}

fn deploy(expect: Placement, install: Placement) -> Action {
    Action::Service(ServiceAction::Deploy { expect, install })
}

#[test]
fn another_release_of_the_same_code_leaves_no_mark() {
    let day = day(1);
    let node = day.nodes()[0].clone();
    let change = day.plan.service.clone().unwrap();
    let of = |action| Step { id: StepId(0), node: node.clone(), wave: 0, action, gates: vec![] };
    assert!(leaves_a_mark(&day.plan, &of(deploy(change.from, change.to))));
    let other = Placement { release: change.to.release, measurement: change.from.measurement };
    assert!(!leaves_a_mark(&day.plan, &of(deploy(change.from, other))));
}
