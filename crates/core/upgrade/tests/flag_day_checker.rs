//! What the checker finds when a plan for a service is spoilt in exactly one place.

mod common;

use common::{
    LEDGER_NEW, LEDGER_OLD, NEW, flag_day, ledger_new, ledger_old, ledger_same, name, new, old,
    restart, served, via, wish,
};
use heirloom_model::counter::{Epoch, SecurityVersion, Serial, Time};
use heirloom_model::digest::{ArtifactDigest, ConfigurationDigest};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, Placement, Plan, ServiceAction, Step, StepId};
use heirloom_model::policy::KeyScope;
use heirloom_model::service::{SchemaVersion, ServiceChange};
use heirloom_upgrade::checker::{Fault, Finding, Severity, check_from};
use heirloom_upgrade::inventory::Inventory;
use heirloom_upgrade::planner::{FlagDayRequest, WaveSize, plan_from};

/// A flag day with everything that a plan can have, on three nodes.
fn day() -> (Plan, Inventory) {
    let fleet = served(3, 2);
    let request = flag_day(FlagDayRequest { withdraw: Some(Serial(5)), ..wish() });
    let (plan, _) = plan_from(&request, &fleet).expect("the fleet is sound");
    assert_eq!(check_from(&plan, &fleet), Vec::new());
    (plan, fleet)
}

/// A rolling restart of three nodes.
fn turn() -> (Plan, Inventory) {
    let fleet = served(3, 2);
    let wish = FlagDayRequest { withdraw: Some(Serial(5)), ..restart(&ledger_same()) };
    let (plan, _) = plan_from(&flag_day(wish), &fleet).expect("the fleet is sound");
    assert_eq!(check_from(&plan, &fleet), Vec::new());
    (plan, fleet)
}

fn step_mut(plan: &mut Plan, id: StepId) -> &mut Step {
    let at = id.0 as usize;
    match at.checked_sub(plan.steps.len()) {
        None => &mut plan.steps[at],
        Some(back) => &mut plan.rollback[back].step,
    }
}

fn all(plan: &Plan) -> Vec<StepId> {
    let total = u32::try_from(plan.steps.len() + plan.rollback.len()).expect("a small plan");
    (0..total).map(StepId).collect()
}

fn codes(plan: &Plan, fleet: &Inventory) -> Vec<&'static str> {
    check_from(plan, fleet).iter().map(Finding::code).collect()
}

/// The place of the step of this kind on the first node.
fn first(plan: &Plan, action: &str) -> StepId {
    plan.steps.iter().find(|step| step.action.name() == action).expect("the plan has one").id
}

/// Every gate of both plans is there for a reason that the checker knows.
#[test]
fn no_gate_can_be_left_out() {
    for (plan, fleet) in [day(), turn()] {
        for id in all(&plan) {
            for place in 0..plan.step(id).unwrap().gates.len() {
                let mut spoilt = plan.clone();
                let gate = step_mut(&mut spoilt, id).gates.remove(place);
                let step = plan.step(id).unwrap();
                let found = codes(&spoilt, &fleet);
                assert!(!found.is_empty(), "without {gate:?} of {step:?}");
            }
        }
    }
}

/// The same gate taken from a whole block: no step differs from its neighbours.
#[test]
fn no_gate_can_be_left_out_on_all_nodes() {
    let (plan, fleet) = day();
    let mut kinds = plan.steps.iter().map(|step| step.action.name()).collect::<Vec<_>>();
    kinds.dedup();
    for kind in kinds.into_iter().filter(|kind| *kind != "verify") {
        let gates = plan.step(first(&plan, kind)).unwrap().gates.clone();
        for gate in gates {
            let mut spoilt = plan.clone();
            for step in spoilt.steps.iter_mut().filter(|step| step.action.name() == kind) {
                step.gates.retain(|found| *found != gate);
            }
            let found = codes(&spoilt, &fleet);
            let expected: &[&str] = match (kind, &gate) {
                // Proofs that answer a question need no result of the step that asks.
                ("muster", Gate::Done(_)) => &[],
                ("muster", Gate::Epoch(_)) => &["F-811"],
                ("muster", Gate::Rehearsed { .. }) => &["F-813"],
                ("halt" | "join", Gate::Agreed { .. }) => &["F-809"],
                ("muster" | "commit", Gate::Proven { .. }) => &["F-810"],
                ("commit", Gate::AllDone { .. }) => &["F-818"],
                ("withdraw", Gate::PolicyPublished(_)) => &["F-504"],
                ("withdraw", _) => &["F-503"],
                _ => &["F-808"],
            };
            for code in expected {
                assert!(found.contains(code), "{kind} without {gate:?}: {found:?}");
            }
            if expected.is_empty() {
                // The later verification waits for the whole window, and the commit for that.
                assert!(found.contains(&"F-808") || found.is_empty(), "{kind}: {found:?}");
            }
        }
    }
}

/// A gate that names the step before or after the one that it should name.
#[test]
fn no_gate_can_name_another_step() {
    for (plan, fleet) in [day(), turn()] {
        for id in all(&plan) {
            for place in 0..plan.step(id).unwrap().gates.len() {
                for moved in moved(&plan.step(id).unwrap().gates[place]) {
                    let mut spoilt = plan.clone();
                    step_mut(&mut spoilt, id).gates[place] = moved.clone();
                    let found = codes(&spoilt, &fleet);
                    let step = plan.step(id).unwrap();
                    // Other stages are another wish and no mistake: a node that opens waits for
                    // the commit, or for one that did.
                    let opens = |id: &StepId| {
                        let named = plan.step(*id).map(|step| &step.action);
                        matches!(
                            named,
                            Some(Action::Commit | Action::Service(ServiceAction::Open(_)))
                        )
                    };
                    let together = matches!(step.action, Action::Service(ServiceAction::Open(_)))
                        && plan.service.as_ref().unwrap().changes_code()
                        && !plan.is_rollback(id)
                        && matches!(&moved, Gate::Done(id) if opens(id));
                    assert!(together || !found.is_empty(), "{moved:?} in {step:?}");
                }
            }
        }
    }
}

fn moved(gate: &Gate) -> Vec<Gate> {
    let less = |id: &StepId| id.0.checked_sub(1).map(StepId);
    let more = |id: &StepId| StepId(id.0 + 1);
    match gate.clone() {
        Gate::Done(id) => {
            [less(&id), Some(more(&id))].into_iter().flatten().map(Gate::Done).collect()
        }
        Gate::AllDone { first, last } => vec![
            // Too few on either side; one more at the end waits for itself or for what follows.
            Gate::AllDone { first, last: StepId(last.0 - 1) },
            Gate::AllDone { first: more(&first), last },
        ],
        Gate::Agreed { first, last } => vec![
            Gate::Agreed { first, last: StepId(last.0 - 1) },
            Gate::Agreed { first: more(&first), last },
            Gate::Agreed { first: StepId(first.0 - 1), last },
            Gate::Agreed { first, last: more(&last) },
        ],
        Gate::Proven { holders, need, since } => vec![
            Gate::Proven { holders: holders.clone(), need, since: more(&since) },
            Gate::Proven { holders: holders[1..].to_vec(), need: need - 1, since },
            Gate::Proven { holders: Vec::new(), need, since },
            Gate::Proven { holders, need: 0, since },
        ],
        Gate::Epoch(epoch) => vec![Gate::Epoch(Epoch(epoch.0 - 1)), Gate::Epoch(Epoch(99))],
        Gate::PolicyPublished(serial) => vec![Gate::PolicyPublished(Serial(serial.0 + 1))],
        Gate::Rehearsed { .. } => vec![Gate::Rehearsed { need: 0 }],
        Gate::Registered { .. }
        | Gate::Waited { .. }
        | Gate::Consented { .. }
        | Gate::Concordant { .. } => Vec::new(),
    }
}

/// No step can stand in for another one of its node.
#[test]
fn no_two_steps_of_a_node_can_be_exchanged() {
    for (plan, fleet) in [day(), turn()] {
        let node = plan.nodes[1].clone();
        let own = |step: &&Step| step.node == node && step.action.concerns_service();
        let forward: Vec<StepId> = plan.steps.iter().filter(own).map(|step| step.id).collect();
        let back = plan.rollback.iter().map(|back| &back.step).filter(own);
        let back: Vec<StepId> = back.map(|step| step.id).collect();
        for own in [forward, back] {
            for (at, left) in own.iter().enumerate() {
                for right in &own[at + 1..] {
                    let mut spoilt = plan.clone();
                    let left_action = plan.step(*left).unwrap().action.clone();
                    let right_action = plan.step(*right).unwrap().action.clone();
                    step_mut(&mut spoilt, *left).action = right_action.clone();
                    step_mut(&mut spoilt, *right).action = left_action.clone();
                    let found = codes(&spoilt, &fleet);
                    assert!(!found.is_empty(), "{left_action:?} for {right_action:?}");
                }
            }
        }
    }
}

/// Two whole blocks, one for the other.
#[test]
fn no_two_blocks_can_be_exchanged() {
    let (plan, fleet) = day();
    let kinds = ["equip", "muster", "fence", "freeze", "halt", "snapshot", "migrate", "deploy"];
    let kinds: Vec<&str> =
        kinds.into_iter().chain(["launch", "join", "exercise", "open", "watch"]).collect();
    for (at, left) in kinds.iter().enumerate() {
        for right in &kinds[at + 1..] {
            let (left, right) = (first(&plan, left).0, first(&plan, right).0);
            let mut spoilt = plan.clone();
            for place in 0..3 {
                let (left, right) = ((left + place) as usize, (right + place) as usize);
                let action = spoilt.steps[left].action.clone();
                spoilt.steps[left].action = spoilt.steps[right].action.clone();
                spoilt.steps[right].action = action;
            }
            assert!(!codes(&spoilt, &fleet).is_empty(), "{left} for {right}");
        }
    }
}

/// A step that does something of another kind, or belongs to another node.
#[test]
fn no_step_can_be_left_out() {
    for (plan, fleet) in [day(), turn()] {
        for id in all(&plan) {
            let step = plan.step(id).unwrap();
            let mut idle = plan.clone();
            let targets = vec![step.node.clone()];
            step_mut(&mut idle, id).action = Action::Verify { targets, need: 1, code: None };
            // A withdrawal is a wish.
            let found = !codes(&idle, &fleet).is_empty();
            let extra = matches!(step.action, Action::Withdraw(_));
            assert!(found || extra, "without {step:?}");
            let mut foreign = plan.clone();
            let other = if step.node == name(0) { name(1) } else { name(0) };
            step_mut(&mut foreign, id).node = other;
            // It does not matter who asks, nor who says that it is over.
            let anybody =
                matches!(step.action, Action::Verify { .. } | Action::Withdraw(_) | Action::Commit);
            assert!(anybody || !codes(&foreign, &fleet).is_empty(), "elsewhere {step:?}");
        }
    }
}

fn spoilt_by(change: impl FnOnce(&mut Plan, &mut Inventory)) -> Vec<&'static str> {
    let (mut plan, mut fleet) = day();
    change(&mut plan, &mut fleet);
    codes(&plan, &fleet)
}

fn spoilt_change(change: impl FnOnce(&mut ServiceChange)) -> Vec<&'static str> {
    spoilt_by(|plan, _| change(plan.service.as_mut().expect("the plan changes a service")))
}

#[test]
fn the_ground_of_a_service_is_checked() {
    assert!(spoilt_change(|change| change.opens = Epoch(16)).contains(&"F-806"));
    assert!(spoilt_change(|change| change.abort_after = Epoch(21)).contains(&"F-806"));
    assert!(spoilt_change(|change| change.from.release = new()).contains(&"F-803"));
    assert!(spoilt_change(|change| change.to.measurement = LEDGER_OLD).contains(&"F-803"));
    assert!(spoilt_change(|change| change.to.measurement = NEW).contains(&"F-803"));
    let found = spoilt_change(|change| change.application = "wallet".parse().unwrap());
    assert_eq!(found, ["F-804", "F-804"]);
    let found = spoilt_by(|_, fleet| fleet.policy.applications.truncate(1));
    assert_eq!(found, ["F-804"]);
    let found = spoilt_by(|_, fleet| {
        fleet.policy.applications[0].keys = KeyScope::Only(vec!["view".parse().unwrap()]);
    });
    assert_eq!(found, ["F-804"]);
    let found = spoilt_by(|_, fleet| {
        fleet.policy.applications[1].security_version = SecurityVersion(2);
    });
    assert_eq!(found, ["F-804"]);
    let found = spoilt_by(|_, fleet| {
        fleet.releases.get_mut(&ledger_new().digest()).unwrap().not_after = Time(999);
    });
    assert_eq!(found, ["F-109"]);
    let found = spoilt_by(|_, fleet| {
        let release = fleet.releases.get_mut(&ledger_old().digest()).unwrap();
        release.security_version = SecurityVersion(2);
    });
    assert_eq!(found, ["F-110"]);
    let found = spoilt_by(|plan, _| {
        plan.keyring.as_mut().expect("it moves a keyring").to =
            Placement { release: new(), measurement: NEW };
    });
    assert_eq!(found, ["F-802"]);
    let found = spoilt_by(|plan, _| {
        plan.keyring.as_mut().expect("it moves a keyring").via =
            Some(Placement { release: via(), measurement: NEW });
    });
    assert_eq!(found, ["F-802"]);
    assert_eq!(spoilt_by(|_, fleet| drop(fleet.releases.remove(&old()))), ["F-108"]);
    assert!(spoilt_by(|plan, _| drop(plan.nodes.pop())).contains(&"F-107"));
}

#[test]
fn the_terms_are_checked() {
    let spoilt = |change: fn(&mut ServiceChange)| spoilt_change(change);
    for change in [
        (|change| change.terms.from.release = "ledger-3.0.0".parse().unwrap())
            as fn(&mut ServiceChange),
        |change| change.terms.to.program = ArtifactDigest::new([1; 32]),
        |change| change.terms.schema_to = SchemaVersion(1),
        |change| change.terms.tests.clear(),
        |change| change.terms.migrations.clear(),
        |change| change.terms.quiet_milliseconds = 0,
        |change| change.terms.keys.reverse(),
        |change| change.terms.tests = vec![change.terms.tests[0].clone(); 2],
        |change| change.terms.migrations = vec![change.terms.migrations[0].clone(); 2],
    ] {
        assert_eq!(spoilt(change), ["F-805"]);
    }
    let (mut plan, fleet) = turn();
    let terms = &mut plan.service.as_mut().unwrap().terms;
    terms.configuration_to = ConfigurationDigest::new([43; 32]);
    assert_eq!(codes(&plan, &fleet), ["F-805"]);
}

#[test]
fn the_point_of_no_return_is_the_commit() {
    for other in [0, 1] {
        let found = spoilt_by(|plan, _| {
            let commit = plan.point_of_no_return;
            plan.point_of_no_return = StepId(commit.0 + 2 * other - 1);
        });
        assert!(found.contains(&"F-709"), "{found:?}");
    }
    let found = spoilt_by(|plan, _| {
        let commit = plan.point_of_no_return;
        let open = first(plan, "open");
        plan.rollback[0].undoes = open;
        assert!(open > commit);
    });
    assert!(found.contains(&"F-606"), "{found:?}");
    let found = spoilt_by(|plan, _| {
        let commit = plan.point_of_no_return.0 as usize;
        plan.steps[commit - 1].action = Action::Commit;
    });
    assert!(found.contains(&"F-814"), "{found:?}");
}

/// The way back of one node waits for no other node, and for nothing else.
#[test]
fn nobody_waits_for_others_on_the_way_back() {
    let last = |plan: &Plan| plan.rollback[4].step.id;
    for gate in [
        (|last: StepId, _: &[NodeId]| Gate::Done(last)) as fn(StepId, &[NodeId]) -> Gate,
        |last, _| Gate::AllDone { first: last, last },
        |last, nodes| Gate::Proven { holders: nodes.to_vec(), need: 2, since: last },
        |_, _| Gate::Epoch(Epoch(13)),
        |_, _| Gate::Rehearsed { need: 1 },
    ] {
        let found = spoilt_by(|plan, _| {
            let (last, nodes) = (last(plan), plan.nodes.clone());
            plan.rollback[5].step.gates.push(gate(last, &nodes));
        });
        assert_eq!(found, ["F-816"]);
    }
}

/// An abort at every step finds a way back that fits, and what is missing from it is named.
#[test]
fn every_step_of_the_way_back_is_needed() {
    let (plan, fleet) = day();
    for place in 0..5 {
        let mut spoilt = plan.clone();
        // As if the step undid something that comes after the commit's last preparation.
        spoilt.rollback[place].undoes = first(&plan, "exercise");
        let found = check_from(&spoilt, &fleet);
        let fault = found.iter().map(|finding| &finding.fault);
        let mut fault = fault.filter(|fault| {
            matches!(fault, Fault::NoWayBack { .. } | Fault::BackUnexpected { .. })
        });
        assert!(fault.next().is_some(), "{:?}: {found:?}", plan.rollback[place]);
    }
}

#[test]
fn keepers_are_left_alone() {
    for action in [
        Action::Stop(Placement { release: old(), measurement: common::OLD }),
        Action::Prepare(Placement { release: new(), measurement: NEW }),
        Action::Restart(Placement { release: old(), measurement: common::OLD }),
    ] {
        let found = spoilt_by(|plan, _| plan.steps[0].action = action);
        assert!(found.contains(&"F-802"), "{found:?}");
    }
    // And services, where keepers change.
    let fleet = served(4, 2);
    let (plan, _) = plan_from(&common::request(WaveSize::Half), &fleet).unwrap();
    let mut spoilt = plan.clone();
    spoilt.steps[0].gates.push(Gate::Rehearsed { need: 1 });
    assert_eq!(codes(&spoilt, &fleet), ["F-801"]);
    let mut spoilt = plan;
    let at = Placement { release: ledger_old().digest(), measurement: LEDGER_OLD };
    spoilt.steps[0].action = Action::Service(ServiceAction::Fence(at));
    assert!(codes(&spoilt, &fleet).contains(&"F-801"));
}

/// The old code is never opened for clients on the way forward, nor the new one on the way back.
#[test]
fn each_release_has_its_place() {
    let (plan, fleet) = day();
    let change = plan.service.clone().unwrap();
    for id in all(&plan) {
        let exchange = |at: &Placement| if *at == change.from { change.to } else { change.from };
        let mut spoilt = plan.clone();
        let step = step_mut(&mut spoilt, id);
        match &mut step.action {
            Action::Service(
                ServiceAction::Equip(at)
                | ServiceAction::Muster(at)
                | ServiceAction::Fence(at)
                | ServiceAction::Freeze(at)
                | ServiceAction::Halt(at)
                | ServiceAction::Launch(at)
                | ServiceAction::Join(at)
                | ServiceAction::Exercise(at)
                | ServiceAction::Open(at)
                | ServiceAction::Watch(at),
            ) => *at = exchange(at),
            Action::Service(ServiceAction::Deploy { expect, install }) => {
                std::mem::swap(expect, install);
            }
            _ => continue,
        }
        assert!(codes(&spoilt, &fleet).contains(&"F-304"), "{:?}", plan.step(id));
    }
    assert_eq!(change.to.measurement, LEDGER_NEW);
}

/// One node after the other: two that overlap are found, whichever and whichever way.
#[test]
fn a_restart_never_closes_two_nodes() {
    let (plan, fleet) = turn();
    for node in [1, 2] {
        let mut spoilt = plan.clone();
        let own = spoilt.nodes[node].clone();
        let begin = plan.steps.iter().find(|step| step.node == own && step.wave > 0).unwrap().id;
        let after = plan.steps.iter().find(|step| step.wave == 1).unwrap().gates.clone();
        step_mut(&mut spoilt, begin).gates = after;
        assert!(codes(&spoilt, &fleet).contains(&"F-817"));
    }
    let mut spoilt = plan.clone();
    spoilt.rollback[5].step.gates.clear();
    assert_eq!(codes(&spoilt, &fleet), ["F-817"]);
}

#[test]
fn a_plan_without_a_rehearsal_is_weak_and_not_wrong() {
    let fleet = served(3, 2);
    let unrehearsed = FlagDayRequest { rehearsals: 0, ..wish() };
    let (plan, _) = plan_from(&flag_day(unrehearsed), &fleet).unwrap();
    let findings = check_from(&plan, &fleet);
    let severities: Vec<_> = findings.iter().map(Finding::severity).collect();
    assert_eq!(severities, [Severity::Warning]);
}

#[test]
fn a_plan_with_too_many_steps_is_not_walked() {
    let (mut plan, fleet) = day();
    let template = plan.rollback[0].clone();
    for more in 0..3_000 {
        let mut back = template.clone();
        back.step.id = StepId(u32::try_from(plan.steps.len() + 15 + more).unwrap());
        plan.rollback.push(back);
    }
    assert_eq!(codes(&plan, &fleet), ["F-116"]);
}
