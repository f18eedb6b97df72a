//! Fleets whose nodes are of several kinds of platform: a release is another measurement on each.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{NEW, OLD, apart, name, release, relocation, request, rule};
use heirloom_model::digest::ReleaseDigest;
use heirloom_model::measurement::{LaunchedCode, Measurement, TeeKind};
use heirloom_model::plan::{Action, CodePair, Placement, Plan, Step};
use heirloom_upgrade::checker::{Finding, check_from};
use heirloom_upgrade::inventory::Inventory;
use heirloom_upgrade::planner::{PlanError, PlanRequest, WaveSize, plan_from};

const OLD_TPM: Measurement = Measurement::Tpm(LaunchedCode::new([1; 32]));
const NEW_TPM: Measurement = Measurement::Tpm(LaunchedCode::new([2; 32]));

/// The releases, each with both measurements.
fn releases() -> [(ReleaseDigest, heirloom_model::release::Release); 2] {
    let both = |name: &str, codes: [Measurement; 2], version| {
        let mut found = release(name, codes[0], version);
        found.measurements = codes.to_vec();
        (found.digest(), found)
    };
    [both("keeper-1.0.0", [OLD, OLD_TPM], 1), both("keeper-2.0.0", [NEW, NEW_TPM], 2)]
}

/// `count` nodes in failure domains of their own, of which every second one has a TPM.
fn mixed(count: usize) -> Inventory {
    let mut fleet = apart(count, 2);
    fleet.releases = releases().into_iter().collect();
    for (place, seen) in fleet.registered.values_mut().enumerate() {
        let found = seen[&OLD];
        if place % 2 == 1 {
            *seen = BTreeMap::from([(OLD_TPM, found)]);
        }
    }
    let all = [OLD, NEW, OLD_TPM, NEW_TPM];
    let others = |own: Measurement| all.into_iter().filter(|code| *code != own).collect::<Vec<_>>();
    fleet.policy.holders = all.iter().map(|code| rule(*code, &others(*code))).collect();
    fleet
}

fn rolling() -> PlanRequest {
    let [(from, _), (to, _)] = releases();
    PlanRequest { from, to, ..request(WaveSize::Half) }
}

fn codes(plan: &Plan, fleet: &Inventory) -> BTreeSet<&'static str> {
    check_from(plan, fleet).iter().map(Finding::code).collect()
}

fn placements(step: &Step) -> Vec<Measurement> {
    match &step.action {
        Action::Prepare(at)
        | Action::Drain(at)
        | Action::Stop(at)
        | Action::Start(at)
        | Action::Restart(at)
        | Action::Replicate { to: at, .. } => vec![at.measurement],
        Action::Install { expect, install } => vec![expect.measurement, install.measurement],
        Action::Quarantine(code) | Action::Restore(code) => vec![*code],
        _ => Vec::new(),
    }
}

#[test]
fn each_node_changes_to_what_the_release_is_on_its_kind_of_platform() {
    for count in 2..7 {
        let fleet = mixed(count.max(3));
        let (plan, _) = plan_from(&rolling(), &fleet).expect("the fleet is sound");
        let kept = plan.keyring.as_ref().expect("it moves a keyring");
        assert_eq!(kept.others, [CodePair { from: OLD_TPM, to: NEW_TPM }]);
        assert_eq!(check_from(&plan, &fleet), Vec::new());
        let back = plan.rollback.iter().map(|back| &back.step);
        for step in plan.steps.iter().chain(back) {
            let place = fleet.nodes.iter().position(|node| node.node == step.node).unwrap();
            let kind = if place % 2 == 1 { TeeKind::Tpm } else { TeeKind::Sgx };
            assert!(placements(step).iter().all(|code| code.kind() == kind), "{step:?}");
        }
    }
}

#[test]
fn a_plan_for_one_kind_reads_as_it_did_before_there_were_several() {
    let fleet = apart(4, 2);
    let (plan, _) = plan_from(&request(WaveSize::Half), &fleet).expect("the fleet is sound");
    assert!(plan.keyring.as_ref().expect("it moves a keyring").others.is_empty());
}

#[test]
fn a_release_must_have_a_measurement_on_every_kind_of_platform() {
    let mut fleet = mixed(4);
    let only = release("keeper-2.0.0", NEW, 2);
    fleet.releases.insert(only.digest(), only.clone());
    let asked = PlanRequest { to: only.digest(), ..rolling() };
    let error = plan_from(&asked, &fleet).expect_err("nothing runs on the TPM");
    let expected = name(1);
    assert!(
        matches!(&error, PlanError::NotOnPlatform { node, kind: TeeKind::Tpm, release }
            if *node == expected && *release == only.digest()),
        "{error}"
    );
    assert!(!error.hint().is_empty());
}

/// From nodes of every kind to nodes of every kind, forward and back.
#[test]
fn every_edge_between_kinds_must_be_named() {
    let all = [OLD, NEW, OLD_TPM, NEW_TPM];
    let (plan, _) = plan_from(&rolling(), &mixed(4)).expect("the fleet is sound");
    for giver in 0..all.len() {
        for receiver in all.into_iter().filter(|code| *code != all[giver]) {
            let mut fleet = mixed(4);
            fleet.policy.holders[giver].gives_to.retain(|code| *code != receiver);
            let error = plan_from(&rolling(), &fleet).expect_err("an edge is missing");
            let told = format!("{} to {receiver}", all[giver]);
            assert!(
                matches!(error, PlanError::NoWayForward { .. } | PlanError::NoWayBack { .. }),
                "{told}: {error}"
            );
            assert!(!codes(&plan, &fleet).is_empty(), "the checker finds {told}");
        }
    }
}

/// What is right on one kind of platform is foreign on another.
#[test]
fn the_measurement_of_another_kind_is_found_in_every_action() {
    let fleet = mixed(4);
    let (plan, _) = plan_from(&rolling(), &fleet).expect("the fleet is sound");
    let other = |at: &mut Measurement| {
        *at = match *at {
            OLD => OLD_TPM,
            NEW => NEW_TPM,
            OLD_TPM => OLD,
            _ => NEW,
        };
    };
    let mut tried = 0;
    for place in 0..plan.steps.len() + plan.rollback.len() {
        let mut spoilt = plan.clone();
        let forward = spoilt.steps.len();
        let step = match place.checked_sub(forward) {
            None => &mut spoilt.steps[place],
            Some(back) => &mut spoilt.rollback[back].step,
        };
        match &mut step.action {
            Action::Prepare(at)
            | Action::Drain(at)
            | Action::Stop(at)
            | Action::Start(at)
            | Action::Restart(at)
            | Action::Replicate { to: at, .. } => other(&mut at.measurement),
            Action::Install { install, .. } => other(&mut install.measurement),
            Action::Quarantine(code) | Action::Restore(code) => other(code),
            _ => continue,
        }
        tried += 1;
        assert!(!codes(&spoilt, &fleet).is_empty(), "step {place}");
    }
    assert!(tried > 40, "{tried}");
}

#[test]
fn a_plan_that_forgets_a_kind_is_found() {
    let fleet = mixed(4);
    let (mut plan, _) = plan_from(&rolling(), &fleet).expect("the fleet is sound");
    plan.keyring.as_mut().expect("it moves a keyring").others.clear();
    assert!(!codes(&plan, &fleet).is_empty());
}

#[test]
fn a_pair_of_two_kinds_is_found() {
    let fleet = mixed(4);
    let (mut plan, _) = plan_from(&rolling(), &fleet).expect("the fleet is sound");
    plan.keyring.as_mut().expect("it moves a keyring").others[0].to = NEW;
    assert!(!codes(&plan, &fleet).is_empty());
}

/// The same release moves from one kind of platform to another, along an edge of the policy.
#[test]
fn a_move_may_change_the_kind() {
    let fleet = mixed(4);
    let [(from, _), _] = releases();
    let asked = PlanRequest { from, to: from, ..relocation() };
    let (plan, _) = plan_from(&asked, &fleet).expect("the policy names the edge");
    let kept = plan.keyring.as_ref().expect("it moves a keyring");
    let at = |measurement| Placement { release: from, measurement };
    assert_eq!((kept.from, kept.to), (at(OLD), at(OLD_TPM)));
    assert!(kept.others.is_empty());
    assert_eq!(check_from(&plan, &fleet), Vec::new());
    assert!(
        !plan.steps.iter().any(|step| matches!(step.action, Action::Install { .. })),
        "what is installed on either node stays"
    );

    let mut unnamed = fleet.clone();
    unnamed.policy.holders[0].gives_to.retain(|code| *code != OLD_TPM);
    let error = plan_from(&asked, &unnamed).expect_err("the edge is missing");
    assert!(matches!(error, PlanError::NoHop { .. }), "{error}");
    assert!(!codes(&plan, &unnamed).is_empty());
}
