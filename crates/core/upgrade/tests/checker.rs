//! Every plan that the planner makes passes the checker, and every way of spoiling one is found.

mod common;

use std::collections::BTreeSet;

use common::{OLD, apart, inventory, request};
use heirloom_model::counter::{Epoch, Generation, PlanNumber, Serial, Time};
use heirloom_model::digest::{Checksum, NetworkId, PlanDigest};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, Plan, Step, StepId};
use heirloom_upgrade::checker::{Fault, Severity, check_from};
use heirloom_upgrade::inventory::Inventory;
use heirloom_upgrade::planner::{WaveSize, plan_from};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_plan_of_the_planner_passes_the_checker(
        domains in proptest::collection::vec(0_usize..6, 2..24),
        operators in proptest::collection::vec(0_usize..3, 1..5),
        holders_min in 1_u32..4,
        size in prop_oneof![
            Just(WaveSize::Half),
            Just(WaveSize::OneByOne),
            (0_u32..9).prop_map(WaveSize::Count),
        ],
    ) {
        let fleet = inventory(&domains, &operators, holders_min);
        if let Ok((plan, report)) = plan_from(&request(size), &fleet) {
            prop_assert_eq!(check_from(&plan, &fleet), Vec::new());
            let changed: BTreeSet<&NodeId> = report.waves.iter().flatten().collect();
            prop_assert_eq!(changed.len(), domains.len());
        } else {
            // Only custody stands in the way of these fleets, so few failure domains are left.
            let distinct: BTreeSet<usize> = domains.iter().copied().collect();
            prop_assert!(distinct.len() <= holders_min as usize);
        }
    }

    /// Taking any forward or rollback step out of a plan is found, wherever it stands. A step
    /// back that only catches up is no part of the safety argument.
    #[test]
    fn no_step_can_be_left_out(
        count in 2_usize..7,
        holders_min in 1_u32..3,
        chosen in any::<prop::sample::Index>(),
    ) {
        let fleet = apart(count, holders_min);
        let Ok((plan, _)) = plan_from(&request(WaveSize::Half), &fleet) else { return Ok(()) };
        let total = plan.steps.len() + plan.rollback.len();
        let id = StepId(u32::try_from(chosen.index(total)).unwrap());
        let step = plan.step(id).unwrap();
        let catches_up =
            plan.is_rollback(id) && matches!(step.action, Action::Replicate { .. });
        let spoilt = without_step(&plan, id);
        let findings = check_from(&spoilt, &fleet);
        prop_assert!(catches_up || !findings.is_empty(), "left out {:?}", step);
    }
}

/// Dropping any one gate is found, except the few that only add to others.
#[test]
fn no_gate_can_be_left_out() {
    for (count, holders_min, size) in
        [(2, 1, WaveSize::Half), (4, 2, WaveSize::Half), (5, 2, WaveSize::OneByOne)]
    {
        let fleet = apart(count, holders_min);
        let (plan, _) = plan_from(&request(size), &fleet).unwrap();
        let total = u32::try_from(plan.steps.len() + plan.rollback.len()).unwrap();
        for id in (0..total).map(StepId) {
            let step = plan.step(id).unwrap();
            for (place, gate) in step.gates.iter().enumerate() {
                let mut spoilt = plan.clone();
                let forward = spoilt.steps.len();
                let gates = match (id.0 as usize).checked_sub(forward) {
                    None => &mut spoilt.steps[id.0 as usize].gates,
                    Some(back) => &mut spoilt.rollback[back].step.gates,
                };
                gates.remove(place);
                let is_extra = match gate {
                    // The epoch is the operator's wish, not a matter of safety.
                    Gate::Epoch(_) => true,
                    // The last proofs are asked for, and their step must be done, besides.
                    Gate::Proven { .. } => matches!(step.action, Action::Withdraw(_)),
                    Gate::Done(_)
                    | Gate::Waited { .. }
                    | Gate::Registered { .. }
                    | Gate::PolicyPublished(_)
                    | Gate::AllDone { .. }
                    | Gate::Agreed { .. }
                    | Gate::Rehearsed { .. }
                    | Gate::Consented { .. }
                    | Gate::Concordant { .. } => false,
                };
                let found = !check_from(&spoilt, &fleet).is_empty();
                assert!(found || is_extra, "{count} nodes: without {gate:?} of {step:?}");
            }
        }
    }
}

/// The plan without one step. What waited for the step waits for what the step waited for.
fn without_step(plan: &Plan, gone: StepId) -> Plan {
    let heirs: Vec<Gate> = plan
        .step(gone)
        .expect("the plan is sound")
        .gates
        .iter()
        .filter(|gate| matches!(gate, Gate::Done(_)))
        .cloned()
        .collect();
    let shift = |id: StepId| if id > gone { StepId(id.0 - 1) } else { id };
    let mut plan = plan.clone();
    plan.steps.retain(|step| step.id != gone);
    plan.rollback.retain(|back| back.step.id != gone && back.undoes != gone);
    let back = plan.rollback.iter_mut().map(|back| &mut back.step);
    for step in plan.steps.iter_mut().chain(back) {
        step.id = shift(step.id);
        let gates = std::mem::take(&mut step.gates);
        for gate in gates {
            match gate {
                Gate::Done(id) if id == gone => step.gates.extend(heirs.iter().cloned()),
                Gate::Proven { since, .. } if since == gone => {}
                other => step.gates.push(other),
            }
        }
        for gate in &mut step.gates {
            if let Gate::Done(id) | Gate::Proven { since: id, .. } = gate {
                *id = shift(*id);
            }
        }
    }
    renumber_back(&mut plan);
    for back in &mut plan.rollback {
        back.undoes = shift(back.undoes);
    }
    plan.point_of_no_return = shift(plan.point_of_no_return);
    plan
}

/// Dropping what undid a missing step can leave gaps; the numbers are made to fit again.
fn renumber_back(plan: &mut Plan) {
    let start = u32::try_from(plan.steps.len()).expect("the plan is sound");
    let old: Vec<StepId> = plan.rollback.iter().map(|back| back.step.id).collect();
    let renamed = |id: StepId| {
        let place = old.iter().position(|found| *found == id);
        place.map(|place| StepId(start + u32::try_from(place).expect("the plan is sound")))
    };
    for back in &mut plan.rollback {
        back.step.id = renamed(back.step.id).expect("the plan is sound");
        back.step.gates.retain_mut(|gate| match gate {
            Gate::Done(id) | Gate::Proven { since: id, .. } => {
                renamed(*id).map(|new| *id = new).is_some()
            }
            _ => true,
        });
    }
}

fn sound(count: usize) -> (Plan, Inventory) {
    let fleet = apart(count, 2);
    let (plan, _) = plan_from(&request(WaveSize::Half), &fleet).expect("the plan is sound");
    assert_eq!(check_from(&plan, &fleet), Vec::new());
    (plan, fleet)
}

/// Spoils a sound plan in one way and returns the codes of what is found.
fn spoil(change: impl Fn(&mut Plan)) -> BTreeSet<&'static str> {
    let (mut plan, fleet) = sound(4);
    change(&mut plan);
    codes(&plan, &fleet)
}

fn codes(plan: &Plan, fleet: &Inventory) -> BTreeSet<&'static str> {
    let findings = check_from(plan, fleet);
    assert!(findings.iter().all(|finding| !finding.to_string().is_empty()));
    findings.iter().map(heirloom_upgrade::checker::Finding::code).collect()
}

fn assert_found(expected: &str, change: impl Fn(&mut Plan)) {
    let found = spoil(change);
    assert!(found.contains(expected), "expected {expected}, found {found:?}");
}

/// The steps that do something, in a wave.
fn in_wave(plan: &mut Plan, wave: u32, name: &str) -> Vec<usize> {
    let fits = |(_, step): &(usize, &Step)| step.wave == wave && step.action.name() == name;
    plan.steps.iter().enumerate().filter(fits).map(|(place, _)| place).collect()
}

fn first_stop(plan: &mut Plan) -> &mut Step {
    let place = in_wave(plan, 1, "stop")[0];
    &mut plan.steps[place]
}

#[test]
fn a_plan_for_another_world_is_found() {
    assert_found("F-101", |plan| plan.network = NetworkId::new([0; 32]));
    assert_found("F-102", |plan| plan.number = PlanNumber(8));
    assert_found("F-104", |plan| {
        plan.keyring.as_mut().expect("it moves a keyring").policy = Serial(3);
    });
    assert_found("F-105", |plan| {
        plan.keyring.as_mut().expect("it moves a keyring").generation = Generation(2);
    });
    assert_found("F-105", |plan| {
        plan.keyring.as_mut().expect("it moves a keyring").checksum = Checksum::new([0; 32]);
    });
    assert_found("F-106", |plan| {
        plan.keyring.as_mut().expect("it moves a keyring").holders_min = 1;
    });
    assert_found("F-107", |plan| drop(plan.nodes.pop()));
    assert_found("F-107", |plan| plan.nodes.swap(0, 1));
    assert_found("F-108", |plan| {
        plan.keyring.as_mut().expect("it moves a keyring").to.measurement = OLD;
    });
    assert_found("F-114", |plan| {
        plan.keyring.as_mut().expect("it moves a keyring").to =
            plan.keyring.as_ref().expect("it moves a keyring").from;
    });
    assert_found("F-112", |plan| plan.not_after = Epoch(9));
    assert_found("F-204", |plan| plan.not_after = Epoch(11));
}

#[test]
fn a_world_that_moved_on_is_found() {
    let moved = |change: &dyn Fn(&mut Inventory)| {
        let (plan, mut fleet) = sound(4);
        change(&mut fleet);
        codes(&plan, &fleet)
    };
    let other_plan = |fleet: &mut Inventory| fleet.holding_plan = Some(PlanDigest::new([1; 32]));
    assert!(moved(&other_plan).contains("F-103"));
    assert!(moved(&|fleet| fleet.now = Time(10_001)).contains("F-109"));
    assert!(moved(&|fleet| fleet.now = Time(20_001)).contains("F-111"));
    assert!(moved(&|fleet| fleet.policy.holders[0].gives_to.clear()).contains("F-111"));
    assert!(moved(&|fleet| fleet.policy.holders[1].gives_to.clear()).contains("F-111"));
    assert!(moved(&|fleet| fleet.rotation = Some(Generation(4))).contains("F-113"));
    assert!(moved(&|fleet| fleet.policy.holders_min = 3).contains("F-106"));
    assert!(moved(&|fleet| drop(fleet.nodes.remove(0))).contains("F-107"));
    // The proposed plan itself is no other plan.
    let (plan, mut fleet) = sound(4);
    (fleet.holding_plan, fleet.plan_number) = (Some(plan.digest()), plan.number);
    assert_eq!(check_from(&plan, &fleet), Vec::new());
    fleet.published = Serial(5);
    assert_eq!(check_from(&plan, &fleet), Vec::new());
}

#[test]
fn references_that_lead_nowhere_are_found() {
    assert_found("F-201", |plan| plan.steps.swap(3, 4));
    assert_found("F-202", |plan| plan.steps[2].node = "stranger".parse().unwrap());
    assert_found("F-203", |plan| plan.steps[2].gates.push(Gate::Done(StepId(2))));
    assert_found("F-203", |plan| plan.steps[2].gates.push(Gate::Done(StepId(9_999))));
    assert_found("F-207", |plan| {
        let Action::Verify { need, .. } = &mut plan.steps[4].action else { panic!() };
        *need = 5;
    });
    assert_found("F-208", |plan| plan.rollback[0].undoes = StepId(9_999));
    assert_found("F-209", |plan| plan.rollback[1].step.gates.push(Gate::Done(StepId(0))));
}

#[test]
fn a_stop_without_fresh_proofs_of_others_is_found() {
    assert_found("F-401", |plan| {
        first_stop(plan).gates.retain(|gate| !matches!(gate, Gate::Proven { .. }));
    });
    assert_found("F-402", |plan| {
        // The baseline proof of wave 0 is not this node's own question, before this very stop.
        for gate in &mut first_stop(plan).gates {
            if let Gate::Proven { since, .. } = gate {
                *since = StepId(4);
            }
        }
    });
    assert_found("F-106", |plan| {
        for gate in &mut first_stop(plan).gates {
            if let Gate::Proven { need, .. } = gate {
                *need = 1;
            }
        }
    });
    assert_found("F-404", |plan| {
        let stop = first_stop(plan).clone();
        let asked = stop.gates.iter().find_map(|gate| match gate {
            Gate::Proven { since, .. } => Some(since.0 as usize),
            _ => None,
        });
        let Action::Verify { targets, need, .. } = &mut plan.steps[asked.unwrap()].action else {
            panic!()
        };
        targets.remove(0);
        *need = 1;
    });
    assert_found("F-409", |plan| {
        first_stop(plan).gates.retain(|gate| !matches!(gate, Gate::Registered { .. }));
    });
}

#[test]
fn witnesses_and_sources_in_the_same_wave_are_found() {
    let swap_in = |plan: &mut Plan, name: &str| {
        let places = in_wave(plan, 1, name);
        let neighbour = plan.steps[places[1]].node.clone();
        (places[0], neighbour)
    };
    assert_found("F-406", |plan| {
        let (place, neighbour) = swap_in(plan, "replicate");
        plan.steps[place].action = Action::Replicate {
            sources: vec![neighbour],
            to: plan.keyring.as_ref().expect("it moves a keyring").to,
        };
    });
    assert_found("F-406", |plan| {
        let (place, _) = swap_in(plan, "replicate");
        let own = plan.steps[place].node.clone();
        plan.steps[place].action = Action::Replicate {
            sources: vec![own],
            to: plan.keyring.as_ref().expect("it moves a keyring").to,
        };
    });
    assert_found("F-407", |plan| {
        let (place, _) = swap_in(plan, "replicate");
        plan.steps[place].action = Action::Replicate {
            sources: Vec::new(),
            to: plan.keyring.as_ref().expect("it moves a keyring").to,
        };
    });
    assert_found("F-403", |plan| {
        let (place, neighbour) = swap_in(plan, "stop");
        for gate in &mut plan.steps[place].gates {
            if let Gate::Proven { holders, .. } = gate {
                holders.push(neighbour.clone());
            }
        }
    });
}

#[test]
fn witnesses_in_one_failure_domain_are_found() {
    let (plan, mut fleet) = sound(4);
    for node in &mut fleet.nodes {
        node.failure_domain = "one".parse().unwrap();
    }
    let found = codes(&plan, &fleet);
    assert!(found.contains("F-405"), "{found:?}");
    // Everything at once, in a fleet where both halves share their failure domains.
    let (plan, mut fleet) = sound(4);
    let wave: BTreeSet<NodeId> = plan
        .steps
        .iter()
        .filter(|step| step.wave == 1 && step.action.name() == "stop")
        .map(|step| step.node.clone())
        .collect();
    for node in fleet.nodes.iter_mut().filter(|node| !wave.contains(&node.node)) {
        node.failure_domain = "rest".parse().unwrap();
    }
    let found = codes(&plan, &fleet);
    assert!(found.contains("F-408"), "{found:?}");
}

#[test]
fn steps_out_of_order_are_found() {
    // Steps of one node that wait for nothing.
    for name in ["quarantine", "install", "start", "replicate", "restart"] {
        let found = spoil(|plan| {
            let place = in_wave(plan, 1, name)[0];
            plan.steps[place].gates.clear();
        });
        assert!(found.contains("F-205"), "{name}: {found:?}");
    }
    // The bundle is exchanged before the process is stopped.
    assert_found("F-301", |plan| {
        let (stop, install) = (in_wave(plan, 1, "stop")[0], in_wave(plan, 1, "install")[0]);
        let action = plan.steps[stop].action.clone();
        plan.steps[stop].action = std::mem::replace(&mut plan.steps[install].action, action);
    });
    // Started over sealed state of other code.
    assert_found("F-301", |plan| {
        let place = in_wave(plan, 1, "quarantine")[0];
        plan.steps[place].action =
            Action::Drain(plan.keyring.as_ref().expect("it moves a keyring").from);
    });
    assert_found("F-304", |plan| {
        let place = in_wave(plan, 1, "start")[0];
        plan.steps[place].action =
            Action::Start(plan.keyring.as_ref().expect("it moves a keyring").from);
    });
    assert_found("F-206", |plan| {
        let place = in_wave(plan, 1, "start")[0];
        plan.steps[place].wave = 2;
    });
}

#[test]
fn waves_that_overlap_are_found() {
    let before_wave_two = |plan: &mut Plan, gates: &dyn Fn(&mut Step)| {
        for place in in_wave(plan, 2, "verify") {
            gates(&mut plan.steps[place]);
        }
    };
    let found =
        spoil(|plan| before_wave_two(plan, &|step| step.gates = vec![Gate::Done(StepId(4))]));
    assert!(found.contains("F-411"), "{found:?}");
    let found = spoil(|plan| before_wave_two(plan, &|step| step.gates.clear()));
    assert!(found.contains("F-410"), "{found:?}");
}

/// The verifications of all of wave 1.
fn wave_verifications(plan: &mut Plan) -> Vec<usize> {
    let places = in_wave(plan, 1, "verify");
    places[places.len() - 2..].to_vec()
}

#[test]
fn a_missing_or_repeated_second_verification_is_found() {
    assert_found("F-413", |plan| {
        let places = wave_verifications(plan);
        let [first, second] = places.as_slice() else { panic!("{places:?}") };
        plan.steps[*second].node = plan.steps[*first].node.clone();
    });
    assert_found("F-412", |plan| {
        let places = wave_verifications(plan);
        let id = plan.steps[places[1]].id;
        *plan = without_step(plan, id);
    });
    // Fewer proofs than nodes.
    assert_found("F-412", |plan| {
        for place in wave_verifications(plan) {
            let Action::Verify { need, .. } = &mut plan.steps[place].action else { panic!() };
            *need = 1;
        }
    });
    // Asked before the last node of the wave was changed.
    assert_found("F-412", |plan| {
        let places = wave_verifications(plan);
        drop(plan.steps[places[0]].gates.remove(0));
    });
}

#[test]
fn two_verifiers_of_one_operator_are_a_warning_where_the_fleet_has_others() {
    let (mut plan, fleet) = sound(6);
    let places: Vec<usize> = plan
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.wave == 1)
        .filter(|(_, step)| {
            matches!(&step.action, Action::Verify { need, targets, .. }
                if *need == 3 && targets.len() == 3)
        })
        .map(|(place, _)| place)
        .collect();
    let first = fleet.node(&plan.steps[places[0]].node).unwrap();
    let twin = |node: &&heirloom_model::fleet::Node| {
        node.operator == first.operator && node.node != first.node
    };
    plan.steps[places[1]].node = fleet.nodes.iter().find(twin).unwrap().node.clone();
    let findings = check_from(&plan, &fleet);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert!(matches!(finding.fault, Fault::OneOperator { wave: 1 }));
    assert_eq!(finding.severity(), Severity::Warning);
}

#[test]
fn an_early_or_wrong_point_of_no_return_is_found() {
    let withdrawal = |plan: &mut Plan| plan.steps.len() - 1;
    assert_found("F-501", |plan| plan.point_of_no_return = StepId(3));
    assert_found("F-501", |plan| *plan = without_step(plan, plan.steps.last().unwrap().id));
    assert_found("F-502", |plan| {
        let place = withdrawal(plan);
        plan.steps[place].action = Action::Withdraw(Serial(7));
    });
    assert_found("F-503", |plan| {
        let place = withdrawal(plan);
        let first = StepId(u32::try_from(place - 2).unwrap());
        plan.steps[place].gates = vec![Gate::Done(first), Gate::PolicyPublished(Serial(5))];
    });
    assert_found("F-504", |plan| {
        let place = withdrawal(plan);
        plan.steps[place].gates.retain(|gate| !matches!(gate, Gate::PolicyPublished(_)));
    });
}

#[test]
fn a_way_back_that_does_not_lead_back_is_found() {
    let place_of = |plan: &Plan, name: &str| {
        plan.rollback.iter().position(|back| back.step.action.name() == name).unwrap()
    };
    assert_found("F-601", |plan| {
        plan.rollback.retain(|back| back.step.node != plan.nodes[0]);
        renumber_back(plan);
    });
    assert_found("F-603", |plan| {
        let place = place_of(plan, "stop");
        plan.rollback[place].step.gates.retain(|gate| matches!(gate, Gate::Done(_)));
    });
    // Undone too late: an abort between the two steps leaves the host stuck.
    for name in ["install", "restore", "start", "quarantine"] {
        let found = spoil(|plan| {
            let place = place_of(plan, name);
            plan.rollback[place].undoes = plan.steps.last().unwrap().id;
        });
        assert!(!found.is_empty(), "{name}");
    }
    assert_found("F-304", |plan| {
        let place = place_of(plan, "start");
        plan.rollback[place].step.action =
            Action::Start(plan.keyring.as_ref().expect("it moves a keyring").to);
    });
    assert_found("F-605", |plan| {
        let own = plan.nodes[0].clone();
        let last = plan.rollback.iter().rposition(|back| back.step.node == own).unwrap();
        plan.rollback[last].step.action =
            Action::Restart(plan.keyring.as_ref().expect("it moves a keyring").from);
    });
}

#[test]
fn witnesses_that_may_go_back_at_the_same_time_are_found() {
    // Nodes of the first wave rely on nodes of the second one, which must be back before.
    assert_found("F-604", |plan| {
        for back in &mut plan.rollback {
            let asks = matches!(&back.step.action, Action::Verify { need, .. } if *need == 2);
            if back.step.wave == 1 && asks {
                back.step.gates.clear();
            }
        }
    });
}

#[test]
fn codes_are_unique_and_findings_are_bounded() {
    let distinct: BTreeSet<&str> = Fault::CODES.iter().copied().collect();
    assert_eq!(distinct.len(), Fault::CODES.len());
    let (mut plan, fleet) = sound(40);
    for step in &mut plan.steps {
        step.gates.clear();
    }
    assert!(check_from(&plan, &fleet).len() <= heirloom_upgrade::checker::FINDINGS_MAX);
}
