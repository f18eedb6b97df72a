//! Every way of spoiling a handover, a move or a reseal is found, or does no harm.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{NEW, OLD, VIA, carried, handover, name, relocation, resealing, via};
use heirloom_model::counter::{PlanNumber, SecurityVersion, Serial, Time};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{
    Action, Gate, KeyringGround, Placement, Plan, RollbackStep, Step, StepId,
};
use heirloom_model::policy::{HolderRole, Sharing};
use heirloom_upgrade::checker::{Finding, check_from};
use heirloom_upgrade::inventory::Inventory;
use heirloom_upgrade::planner::{PlanRequest, plan_from};
use proptest::prelude::*;

const EXCLUSIVE: Sharing = Sharing::Exclusive;
const REPLICATED: Sharing = Sharing::Replicated;

fn sound(request: &PlanRequest, fleet: Inventory) -> (Plan, Inventory) {
    let (plan, _) = plan_from(request, &fleet).expect("the fleet is sound");
    assert_eq!(check_from(&plan, &fleet), Vec::new());
    (plan, fleet)
}

/// One plan of each kind.
fn plans() -> Vec<(&'static str, Plan, Inventory)> {
    let kinds: Vec<(&str, PlanRequest, Inventory)> = vec![
        ("exclusive", handover(None), carried(1, EXCLUSIVE, 1)),
        ("exclusive, withdrawing", handover(Some(Serial(5))), carried(2, EXCLUSIVE, 1)),
        ("replicated", handover(None), carried(1, REPLICATED, 1)),
        ("one of many", handover(Some(Serial(5))), carried(4, REPLICATED, 2)),
        ("move", relocation(), carried(2, EXCLUSIVE, 1)),
        ("replicated move", relocation(), carried(4, REPLICATED, 2)),
        ("reseal", resealing(), carried(1, EXCLUSIVE, 1)),
    ];
    let make = |(kind, request, fleet)| {
        let (plan, fleet) = sound(&request, fleet);
        (kind, plan, fleet)
    };
    kinds.into_iter().map(make).collect()
}

fn codes(plan: &Plan, fleet: &Inventory) -> BTreeSet<&'static str> {
    check_from(plan, fleet).iter().map(Finding::code).collect()
}

fn steps_mut(plan: &mut Plan) -> Vec<&mut Step> {
    let back = plan.rollback.iter_mut().map(|back| &mut back.step);
    plan.steps.iter_mut().chain(back).collect()
}

/// The plan without one step, as somebody would write it who never thought of that step.
fn without_step(plan: &Plan, gone: StepId) -> Plan {
    let mut plan = plan.clone();
    let before = plan.step(gone).expect("it is there").gates.iter().find_map(|gate| match gate {
        Gate::Done(before) => Some(*before),
        _ => None,
    });
    plan.steps.retain(|step| step.id != gone);
    plan.rollback.retain(|back| back.step.id != gone);
    let shift = |id: StepId| if id > gone { StepId(id.0 - 1) } else { id };
    for step in steps_mut(&mut plan) {
        step.id = shift(step.id);
        let gates = std::mem::take(&mut step.gates).into_iter().filter_map(|gate| match gate {
            Gate::Done(id) if id == gone => before.map(Gate::Done),
            Gate::Proven { since, .. } | Gate::Waited { since, .. } if since == gone => None,
            other => Some(other),
        });
        step.gates = gates.collect();
        for gate in &mut step.gates {
            if let Gate::Done(id)
            | Gate::Proven { since: id, .. }
            | Gate::Waited { since: id, .. } = gate
            {
                *id = shift(*id);
            }
        }
    }
    for back in &mut plan.rollback {
        back.undoes = shift(back.undoes);
    }
    plan.point_of_no_return = shift(plan.point_of_no_return);
    plan
}

/// Leaving out any step is found, but for those that only make things nicer.
#[test]
fn no_step_can_be_left_out() {
    for (kind, plan, fleet) in plans() {
        let total = u32::try_from(plan.steps.len() + plan.rollback.len()).unwrap();
        for id in (0..total).map(StepId) {
            let spoilt = without_step(&plan, id);
            let found = !check_from(&spoilt, &fleet).is_empty();
            let step = plan.step(id).unwrap();
            let nicer = match &step.action {
                // Requests that run are cut off: the old keeper stops anyway. And old code that
                // keeps its rights is the operator's wish.
                Action::Drain(_) | Action::Withdraw(_) => true,
                // One of the two questions of a move is enough for custody.
                Action::Verify { .. } if kind.ends_with("move") => {
                    [StepId(3), StepId(4)].contains(&id)
                }
                _ => false,
            };
            assert!(found || nicer, "{kind}: without {step:?}");
        }
    }
}

/// Leaving out any gate is found, but for one of two that say the same.
#[test]
fn no_gate_can_be_left_out() {
    for (kind, plan, fleet) in plans() {
        let total = plan.steps.len() + plan.rollback.len();
        for place in 0..total {
            let step = plan.step(StepId(u32::try_from(place).unwrap())).unwrap().clone();
            for index in 0..step.gates.len() {
                let mut spoilt = plan.clone();
                let gone = steps_mut(&mut spoilt)[place].gates.remove(index);
                let proofs = step.gates.iter().filter(|gate| matches!(gate, Gate::Proven { .. }));
                let twice = proofs.count() > 1 && matches!(gone, Gate::Proven { .. });
                let begins = matches!(
                    step.action,
                    Action::Start(_)
                        | Action::HandOver { .. }
                        | Action::Drain(_)
                        | Action::Preserve(_)
                        | Action::Withdraw(_)
                );
                // What takes nothing away has its proofs by the step before.
                let early = begins && matches!(gone, Gate::Proven { .. });
                let found = !check_from(&spoilt, &fleet).is_empty();
                assert!(found || twice || early, "{kind}: without {gone:?} of {step:?}");
            }
        }
    }
}

/// Two neighbours in the other order, each in the other one's place.
#[test]
fn no_two_steps_can_change_places() {
    for (kind, plan, fleet) in plans() {
        for place in 1..plan.steps.len() {
            let mut spoilt = plan.clone();
            let (left, right) = (plan.steps[place - 1].clone(), plan.steps[place].clone());
            spoilt.steps[place - 1].action = right.action.clone();
            spoilt.steps[place - 1].node = right.node.clone();
            spoilt.steps[place].action = left.action.clone();
            spoilt.steps[place].node = left.node.clone();
            // What is prepared or installed one step sooner or later runs no sooner or later, and
            // a question that is asked one step later still comes in time.
            let harmless = matches!(
                (&left.action, &right.action),
                (Action::Prepare(_) | Action::Install { .. }, _)
                    | (_, Action::Prepare(_) | Action::Install { .. })
                    | (Action::Verify { .. }, Action::Verify { .. } | Action::Start(_))
                    | (Action::Verify { .. }, Action::Drain(_))
                    | (Action::Drain(_), Action::Verify { .. })
            );
            let found = !check_from(&spoilt, &fleet).is_empty();
            assert!(found || harmless, "{kind}: {:?} before {:?}", right.action, left.action);
        }
    }
}

/// Wherever a step names code, the other code of the plan is found.
#[test]
fn no_other_code_can_be_named() {
    for (kind, plan, fleet) in plans() {
        let all: Vec<Placement> = [
            plan.keyring.as_ref().expect("it moves a keyring").from,
            plan.keyring.as_ref().expect("it moves a keyring").to,
        ]
        .into_iter()
        .chain(plan.keyring.as_ref().expect("it moves a keyring").via)
        .collect();
        let total = plan.steps.len() + plan.rollback.len();
        for place in 0..total {
            for other in &all {
                let mut spoilt = plan.clone();
                let step = steps_mut(&mut spoilt).swap_remove(place);
                let before = step.action.clone();
                rename(&mut step.action, *other);
                if step.action == before {
                    continue;
                }
                // Drain changes nothing that is not stopped soon.
                let harmless = matches!(before, Action::Drain(_));
                let changed = format!("{kind}: {:?} instead of {before:?}", step.action);
                let found = !check_from(&spoilt, &fleet).is_empty();
                assert!(found || harmless, "{changed}");
            }
        }
    }
}

fn rename(action: &mut Action, other: Placement) {
    match action {
        Action::Prepare(at)
        | Action::Drain(at)
        | Action::Stop(at)
        | Action::Start(at)
        | Action::Restart(at)
        | Action::Suspend(at)
        | Action::Activate(at)
        | Action::Forget(at)
        | Action::Reseal(at)
        | Action::Install { install: at, .. }
        | Action::HandOver { to: at, .. } => *at = other,
        Action::Quarantine(code) | Action::Restore(code) | Action::Preserve(code) => {
            *code = other.measurement;
        }
        Action::Verify { code: Some(code), .. } => *code = other.measurement,
        _ => {}
    }
}

#[test]
fn every_other_point_of_no_return_is_found() {
    for (kind, plan, fleet) in plans() {
        let total = u32::try_from(plan.steps.len()).unwrap();
        for id in (0..total).map(StepId).filter(|id| *id != plan.point_of_no_return) {
            let mut spoilt = plan.clone();
            spoilt.point_of_no_return = id;
            let stop = plan.steps.iter().find(|step| matches!(step.action, Action::Stop(_)));
            // Where nobody is the active one, the way back may close when the old keeper stops.
            let also = fleet.policy.sharing == REPLICATED && stop.is_some_and(|stop| stop.id <= id);
            let found = codes(&spoilt, &fleet);
            assert!(!found.is_empty() || also, "{kind}: {id}");
        }
    }
}

/// One thing that is spoilt.
type Change = fn(&mut Plan, &mut Inventory);

/// Each row spoils one thing in the plan of an exclusive domain and names what must be found.
#[test]
fn each_fault_is_found_by_its_code() {
    let rows: Vec<(&str, Change)> = vec![
        ("F-102", |plan, _| plan.number = PlanNumber(9)),
        ("F-106", |plan, _| ground_mut(plan).holders_min = 0),
        ("F-107", |plan, _| plan.nodes.push(name(0))),
        ("F-107", |plan, _| plan.nodes.push("stranger".parse().unwrap())),
        ("F-109", |_, fleet| fleet.releases.get_mut(&via()).unwrap().not_after = Time(999)),
        ("F-110", |plan, fleet| {
            let to = fleet.releases.get_mut(&ground(plan).to.release).unwrap();
            to.security_version = SecurityVersion(0);
        }),
        ("F-111", |_, fleet| fleet.policy.holders[0].gives_to.clear()),
        ("F-111", |_, fleet| fleet.policy.holders[2].gives_to.clear()),
        ("F-111", |_, fleet| fleet.policy.holders[2].gives_to = vec![OLD]),
        ("F-111", |_, fleet| fleet.policy.not_after = Time(999)),
        ("F-111", |_, fleet| fleet.policy.holders[1].security_version = SecurityVersion(3)),
        ("F-114", |plan, _| {
            ground_mut(plan).via = Some(ground(plan).to);
        }),
        ("F-202", |plan, _| plan.nodes = vec![name(1)]),
        ("F-205", |plan, _| plan.steps[5].gates.clear()),
        ("F-205", |plan, _| drop(plan.rollback[3].step.gates.remove(0))),
        ("F-206", |plan, _| plan.rollback[3].step.wave = 1),
        ("F-301", |plan, _| plan.steps[6].action = ask(NEW, 1)),
        ("F-304", |plan, _| {
            plan.steps[14].action = swap(ground(plan).from, ground(plan).via.unwrap());
        }),
        ("F-402", |plan, _| reask(plan, 16, 10)),
        ("F-402", |plan, _| reask(plan, 17, 10)),
        ("F-602", |plan, _| {
            plan.rollback[1].step.action = Action::Activate(ground(plan).to);
        }),
        ("F-603", |plan, _| {
            plan.rollback[2].step.action = Action::Prepare(ground(plan).to);
        }),
        ("F-606", |plan, _| plan.rollback[7].undoes = StepId(13)),
    ];
    let mut wrong = Vec::new();
    for (place, (code, change)) in rows.into_iter().chain(rows_of_seats()).enumerate() {
        let (mut plan, mut fleet) = sound(&handover(None), carried(2, EXCLUSIVE, 1));
        change(&mut plan, &mut fleet);
        let found = codes(&plan, &fleet);
        if !found.contains(code) {
            wrong.push(format!("row {place}: expected {code}, found {found:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// What concerns seats and who is active.
fn rows_of_seats() -> Vec<(&'static str, Change)> {
    vec![
        ("F-701", |_, fleet| fleet.active = None),
        ("F-701", |_, fleet| fleet.active = Some((name(0), NEW))),
        ("F-702", |plan, fleet| {
            drop(fleet.releases.remove(&ground(plan).via.expect("the release is known").release));
        }),
        ("F-702", |plan, _| {
            ground_mut(plan).via = Some(Placement { measurement: VIA, ..ground(plan).to });
        }),
        ("F-703", |_, fleet| fleet.policy.holders[2].role = HolderRole::Keeper),
        ("F-703", |_, fleet| fleet.policy.holders[1].role = HolderRole::Upgrader),
        ("F-704", |plan, _| {
            plan.steps[2].action = Action::Drain(ground(plan).from);
        }),
        ("F-704", |plan, _| {
            plan.steps[6].action = Action::Drain(ground(plan).from);
        }),
        ("F-705", |plan, _| plan.steps[11].gates.truncate(1)),
        ("F-705", |plan, _| {
            plan.steps[17].gates.retain(|gate| !matches!(gate, Gate::Proven { .. }));
        }),
        ("F-706", |_, fleet| fleet.policy.forget_after_epochs = 3),
        ("F-706", |plan, _| {
            plan.steps[17].gates.retain(|gate| !matches!(gate, Gate::Waited { .. }));
        }),
        ("F-707", |plan, _| plan.steps.swap_actions(12, 13)),
        ("F-708", |plan, _| plan.steps[19].action = ask(NEW, 1)),
        ("F-709", |plan, _| plan.point_of_no_return = StepId(11)),
        ("F-709", |plan, _| plan.point_of_no_return = StepId(13)),
    ]
}

/// What the plan says about the keyring.
fn ground(plan: &Plan) -> KeyringGround {
    plan.keyring.clone().expect("it moves a keyring")
}

fn ground_mut(plan: &mut Plan) -> &mut KeyringGround {
    plan.keyring.as_mut().expect("it moves a keyring")
}

/// Small words for the rows above.
trait Swap {
    fn swap_actions(&mut self, left: usize, right: usize);
}

impl Swap for Vec<Step> {
    fn swap_actions(&mut self, left: usize, right: usize) {
        let action = self[left].action.clone();
        self[left].action = std::mem::replace(&mut self[right].action, action);
    }
}

fn ask(code: Measurement, need: u32) -> Action {
    Action::Verify { targets: vec![name(0)], need, code: Some(code) }
}

fn swap(expect: Placement, install: Placement) -> Action {
    Action::Install { expect, install }
}

/// Lets a step rest on the answers to another question.
fn reask(plan: &mut Plan, step: usize, question: u32) {
    for gate in &mut plan.steps[step].gates {
        if let Gate::Proven { since, .. } = gate {
            *since = StepId(question);
        }
    }
}

/// Another reading of plans, small enough to be seen to be right: which seats can use the
/// keyring, and who is the active one. It asks for less than the checker.
#[derive(Clone, Default)]
struct Reading {
    running: BTreeSet<(NodeId, Measurement)>,
    keys: BTreeSet<(NodeId, Measurement)>,
    /// Keys that a restart showed to be durable.
    durable: BTreeSet<(NodeId, Measurement)>,
    ended: BTreeSet<(NodeId, Measurement)>,
    active: Option<(NodeId, Measurement)>,
}

impl Reading {
    /// How many seats can use the keyring whatever happens to processes.
    fn usable(&self) -> usize {
        self.keys.intersection(&self.durable).count()
    }

    fn run(&mut self, step: &Step) {
        let at = |placement: &Placement| (step.node.clone(), placement.measurement);
        match &step.action {
            Action::Start(found) => drop(self.running.insert(at(found))),
            Action::Restart(found) => {
                self.ended.remove(&at(found));
                self.running.insert(at(found));
                self.durable.insert(at(found));
            }
            Action::Stop(found) => {
                self.running.remove(&at(found));
                assert!(self.active.as_ref() != Some(&at(found)), "the active one was stopped");
            }
            Action::Quarantine(code) => drop(self.keys.remove(&(step.node.clone(), *code))),
            Action::Forget(found) => drop(self.keys.remove(&at(found))),
            Action::HandOver { from_node, from, to } => {
                let donor = (from_node.clone(), from.measurement);
                assert!(self.running.contains(&donor) && self.keys.contains(&donor));
                if self.keys.insert(at(to)) {
                    self.durable.remove(&at(to));
                }
            }
            Action::Suspend(found) => {
                assert_eq!(self.active.take(), Some(at(found)), "another one was active");
                self.ended.insert(at(found));
            }
            Action::Activate(found) => {
                let found = at(found);
                assert!(self.active.as_ref().is_none_or(|active| *active == found));
                assert!(self.keys.contains(&found) && !self.ended.contains(&found));
                self.active = Some(found);
            }
            _ => {}
        }
        assert!(self.usable() > 0, "the keyring was lost at {step:?}");
    }
}

/// Reads a plan to its end, and back from every step before its point of no return.
fn read(plan: &Plan, fleet: &Inventory) {
    let first = (name(0), plan.keyring.as_ref().expect("it moves a keyring").from.measurement);
    let mut now = Reading::default();
    now.running.insert(first.clone());
    now.keys.insert(first.clone());
    now.durable.insert(first.clone());
    now.active.clone_from(&fleet.active);
    for step in &plan.steps {
        if step.id < plan.point_of_no_return {
            let mut after = now.clone();
            after.run(step);
            for mut world in [now.clone(), after] {
                let undone = |back: &&RollbackStep| back.undoes <= step.id;
                for back in plan.rollback.iter().filter(undone) {
                    world.run(&back.step);
                }
                assert_eq!(world.active, fleet.active, "back from {}", step.id);
                assert!(world.running.contains(&first) && world.keys.contains(&first));
                assert!(!world.ended.contains(&first), "it ended its service");
            }
        }
        now.run(step);
    }
    let last = plan.steps.iter().rev().find_map(|step| match &step.action {
        Action::HandOver { to, .. } => Some((step.node.clone(), to.measurement)),
        _ => None,
    });
    let heir = last.unwrap_or(first);
    assert!(now.running.contains(&heir) && now.durable.contains(&heir));
    assert_eq!(now.keys, BTreeSet::from([heir.clone()]), "copies stay where they should not");
    assert!(fleet.active.is_none() || now.active == Some(heir));
}

#[test]
fn the_other_reading_agrees_with_sound_plans() {
    for (_, plan, fleet) in plans() {
        read(&plan, &fleet);
    }
}

/// One random change.
#[derive(Clone, Debug)]
enum Mutation {
    Drop(prop::sample::Index),
    DropGate(prop::sample::Index, prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Rename(prop::sample::Index, prop::sample::Index),
    Node(prop::sample::Index, prop::sample::Index),
    Undoes(prop::sample::Index, prop::sample::Index),
    NoReturn(prop::sample::Index),
    Since(prop::sample::Index, prop::sample::Index),
    Twice(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        index().prop_map(Mutation::Drop),
        (index(), index()).prop_map(|(step, gate)| Mutation::DropGate(step, gate)),
        (index(), index()).prop_map(|(left, right)| Mutation::Swap(left, right)),
        (index(), index()).prop_map(|(step, code)| Mutation::Rename(step, code)),
        (index(), index()).prop_map(|(step, node)| Mutation::Node(step, node)),
        (index(), index()).prop_map(|(back, step)| Mutation::Undoes(back, step)),
        index().prop_map(Mutation::NoReturn),
        (index(), index()).prop_map(|(step, since)| Mutation::Since(step, since)),
        (index(), index()).prop_map(|(step, place)| Mutation::Twice(step, place)),
    ]
}

fn id_of(index: prop::sample::Index, count: usize) -> StepId {
    StepId(u32::try_from(index.index(count)).expect("plans are short"))
}

fn mutate(plan: &mut Plan, fleet: &Inventory, mutation: &Mutation) {
    let (forward, total) = (plan.steps.len(), plan.steps.len() + plan.rollback.len());
    match mutation {
        Mutation::Drop(step) => *plan = without_step(plan, id_of(*step, total)),
        Mutation::DropGate(step, gate) => {
            let step = steps_mut(plan).swap_remove(step.index(total));
            if !step.gates.is_empty() {
                step.gates.remove(gate.index(step.gates.len()));
            }
        }
        Mutation::Swap(left, right) => {
            plan.steps.swap_actions(left.index(forward), right.index(forward));
        }
        Mutation::Rename(step, code) => {
            let all: Vec<Placement> = [
                plan.keyring.as_ref().expect("it moves a keyring").from,
                plan.keyring.as_ref().expect("it moves a keyring").to,
            ]
            .into_iter()
            .chain(plan.keyring.as_ref().expect("it moves a keyring").via)
            .collect();
            let step = steps_mut(plan).swap_remove(step.index(total));
            rename(&mut step.action, all[code.index(all.len())]);
        }
        Mutation::Node(step, node) => {
            let step = steps_mut(plan).swap_remove(step.index(total));
            step.node = fleet.nodes[node.index(fleet.nodes.len())].node.clone();
        }
        Mutation::Undoes(back, step) if !plan.rollback.is_empty() => {
            let back = back.index(plan.rollback.len());
            plan.rollback[back].undoes = id_of(*step, forward);
        }
        Mutation::NoReturn(step) => plan.point_of_no_return = id_of(*step, forward),
        Mutation::Since(step, new) => {
            let new = id_of(*new, total);
            for gate in &mut steps_mut(plan).swap_remove(step.index(total)).gates {
                if let Gate::Proven { since, .. } | Gate::Waited { since, .. } = gate {
                    *since = new;
                }
            }
        }
        Mutation::Twice(step, place) => {
            let action = plan.steps[step.index(forward)].action.clone();
            plan.steps[place.index(forward)].action = action;
        }
        Mutation::Undoes(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the checker lets pass loses nothing, never makes two active, and leads back.
    #[test]
    fn what_the_checker_lets_pass_does_no_harm(
        kind in 0_usize..7,
        mutations in proptest::collection::vec(mutation(), 1..4),
    ) {
        let (_, mut plan, fleet) = plans().swap_remove(kind);
        for mutation in &mutations {
            mutate(&mut plan, &fleet, mutation);
        }
        if check_from(&plan, &fleet).is_empty() {
            read(&plan, &fleet);
        }
    }
}

#[test]
fn a_plan_without_a_handover_or_a_reseal_changes_nothing() {
    let (mut plan, fleet) = sound(&resealing(), carried(1, EXCLUSIVE, 1));
    plan.steps.truncate(1);
    plan.point_of_no_return = StepId(0);
    assert!(codes(&plan, &fleet).contains("F-114"));
    let by_node: BTreeMap<_, _> = fleet.registered.iter().collect();
    assert_eq!(by_node.len(), 1);
}
