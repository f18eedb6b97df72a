//! What the planner makes, and what it refuses.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{NEW, OLD, apart, inventory, new, old, release, request};
use heirloom_attest::result::AnchorClass;
use heirloom_model::counter::{Epoch, Generation, Serial, Time};
use heirloom_model::digest::{AnchorId, PlanDigest};
use heirloom_model::plan::{Action, Gate, Plan};
use heirloom_model::policy::Sharing;
use heirloom_model::wire;
use heirloom_upgrade::checker::check_from;
use heirloom_upgrade::inventory::Inventory;
use heirloom_upgrade::planner::{
    Arrangement, Note, PlanError, PlanReport, PlanRequest, SOURCES_MAX, WITNESS_SPARE, WaveSize,
    plan_from,
};

fn planned(request: &PlanRequest, inventory: &Inventory) -> (Plan, PlanReport) {
    let (plan, report) = plan_from(request, inventory).expect("the fleet is sound");
    assert_eq!(check_from(&plan, inventory), Vec::new());
    (plan, report)
}

fn sizes(report: &PlanReport) -> Vec<usize> {
    report.waves.iter().map(Vec::len).collect()
}

#[test]
fn the_default_is_half_then_half() {
    let (plan, report) = planned(&request(WaveSize::Half), &apart(4, 2));
    assert_eq!(sizes(&report), [2, 2]);
    assert_eq!(report.need, 2);
    assert_eq!(plan.point_of_no_return, plan.steps.last().unwrap().id);
    assert_eq!(wire::decode::<Plan>(&wire::encode(&plan)).unwrap(), plan);
    // The way of one node, in the words of the strategy.
    let own: Vec<&str> = plan
        .steps
        .iter()
        .filter(|step| step.node == plan.nodes[0] && step.wave == 1)
        .map(|step| step.action.name())
        .collect();
    let expected = [
        "verify",
        "drain",
        "stop",
        "quarantine",
        "install",
        "start",
        "replicate",
        "restart",
        "verify",
    ];
    assert_eq!(own[..9], expected);
}

#[test]
fn nothing_passes_the_first_wave_before_the_upgrade_epoch() {
    let (plan, _) = planned(&request(WaveSize::Half), &apart(4, 2));
    let waits = |step: &&heirloom_model::plan::Step| step.gates.contains(&Gate::Epoch(Epoch(12)));
    let waiting: Vec<_> = plan.steps.iter().filter(waits).collect();
    let [step] = waiting.as_slice() else { panic!("{waiting:?}") };
    assert!(matches!(&step.action, Action::Verify { targets, need: 2, .. } if targets.len() == 2));
}

#[test]
fn custody_makes_waves_smaller_than_asked() {
    for (nodes, min, size, expected) in [
        (2, 1, WaveSize::Half, vec![1, 1]),
        // Two of three at once would leave the keyring in one failure domain.
        (3, 1, WaveSize::Half, vec![1, 1, 1]),
        (3, 2, WaveSize::Half, vec![1, 1, 1]),
        (5, 2, WaveSize::Half, vec![3, 2]),
        (5, 3, WaveSize::Half, vec![2, 2, 1]),
        (5, 2, WaveSize::OneByOne, vec![1, 1, 1, 1, 1]),
        (5, 2, WaveSize::Count(2), vec![2, 2, 1]),
        (5, 2, WaveSize::Count(0), vec![1, 1, 1, 1, 1]),
    ] {
        let (_, report) = planned(&request(size), &apart(nodes, min));
        assert_eq!(sizes(&report), expected, "{nodes} nodes, {min} needed, {size:?}");
    }
    let (_, report) = planned(&request(WaveSize::Half), &apart(5, 3));
    assert!(report.notes.contains(&Note::SmallerWaves { asked: 3, largest: 2 }));
}

#[test]
fn every_wave_leaves_every_failure_domain_a_holder_where_it_can() {
    // Three failure domains with two nodes each: half of each, never a whole one.
    let fleet = inventory(&[0, 0, 1, 1, 2, 2], &[0, 1], 3);
    let (_, report) = planned(&request(WaveSize::Half), &fleet);
    assert_eq!(sizes(&report), [3, 3]);
    // A failure domain with one node can only go when the others suffice.
    let fleet = inventory(&[0, 1, 1, 1], &[0, 1], 1);
    let (_, report) = planned(&request(WaveSize::Half), &fleet);
    assert_eq!(report.waves.iter().map(Vec::len).sum::<usize>(), 4);
}

#[test]
fn two_operators_verify_if_there_are_two() {
    let fleet = inventory(&[0, 1, 2, 3, 4, 5], &[0, 0, 0, 0, 0, 1], 2);
    let (_, report) = planned(&request(WaveSize::Half), &fleet);
    for (first, second) in &report.verifiers {
        assert_ne!(first, second);
        let operator = |name| fleet.node(name).unwrap().operator.clone();
        assert_ne!(operator(first), operator(second));
    }
    let alone = inventory(&[0, 1, 2, 3], &[0], 2);
    let (_, report) = planned(&request(WaveSize::Half), &alone);
    assert!(report.notes.iter().any(|note| matches!(note, Note::OneOperator { .. })));
}

#[test]
fn operators_are_told_what_is_weak() {
    let mut fleet = apart(4, 1);
    fleet.anchors.insert(AnchorId::new([5; 32]), AnchorClass::Development);
    let (_, report) = planned(&request(WaveSize::Half), &fleet);
    assert!(report.notes.contains(&Note::NoMargin));
    assert!(report.notes.contains(&Note::DevelopmentRoot));
}

/// Each row changes one thing and names the refusal.
#[test]
fn what_must_not_be_planned_is_refused_with_the_rule_and_a_hint() {
    let refused = |name: &str, request: PlanRequest, fleet: &Inventory| -> PlanError {
        let error = plan_from(&request, fleet).expect_err(name);
        assert!(!error.to_string().is_empty() && !error.hint().is_empty());
        error
    };
    let half = || request(WaveSize::Half);
    let with = |change: &dyn Fn(&mut Inventory)| {
        let mut fleet = apart(4, 2);
        change(&mut fleet);
        fleet
    };
    let error = refused("no generation", half(), &with(&|fleet| fleet.keyring = None));
    assert!(matches!(error, PlanError::NoGeneration(_)));
    let error = refused("one holder", half(), &apart(1, 1));
    assert!(matches!(error, PlanError::SingleHolder { found: 1, .. }));
    assert!(error.hint().contains("handover"));
    let fleet = with(&|fleet| fleet.policy.sharing = Sharing::Exclusive);
    assert!(matches!(refused("exclusive", half(), &fleet), PlanError::Exclusive(_)));
    let fleet = with(&|fleet| drop(fleet.releases.remove(&new())));
    assert!(matches!(refused("unknown", half(), &fleet), PlanError::UnknownRelease(_)));
    let fleet = with(&|fleet| fleet.now = Time(10_001));
    assert!(matches!(refused("expired", half(), &fleet), PlanError::ReleaseExpired { .. }));
    let back = PlanRequest { from: new(), to: old(), ..half() };
    let fleet = with(&|fleet| {
        for seen in fleet.registered.values_mut() {
            let found = seen[&OLD];
            seen.insert(NEW, found);
        }
    });
    assert!(matches!(refused("older", back, &fleet), PlanError::SecurityVersionLower { .. }));
    let same = release("keeper-1.0.1", OLD, 1);
    let request_same = PlanRequest { to: same.digest(), ..half() };
    let fleet = with(&|fleet| drop(fleet.releases.insert(same.digest(), same.clone())));
    assert!(matches!(refused("same", request_same, &fleet), PlanError::SameMeasurement(_)));
    let fleet = with(&|fleet| fleet.policy.holders[0].gives_to.clear());
    assert!(matches!(refused("forward", half(), &fleet), PlanError::NoWayForward { .. }));
    let fleet = with(&|fleet| drop(fleet.policy.holders.remove(1)));
    assert!(matches!(refused("no rule", half(), &fleet), PlanError::NoWayForward { .. }));
    let fleet = with(&|fleet| fleet.policy.holders[1].gives_to.clear());
    assert!(matches!(refused("back", half(), &fleet), PlanError::NoWayBack { .. }));
    let fleet = with(&|fleet| fleet.rotation = Some(Generation(4)));
    assert!(matches!(refused("rotation", half(), &fleet), PlanError::RotationPending(_)));
    let fleet = with(&|fleet| fleet.holding_plan = Some(PlanDigest::new([1; 32])));
    assert!(matches!(refused("active", half(), &fleet), PlanError::PlanActive(_)));
    let (wave_size, upgrade_epoch) = (WaveSize::Half, None);
    let arrangement = Arrangement::Rolling { wave_size, upgrade_epoch, withdraw: Serial(6) };
    let serial = PlanRequest { arrangement, ..half() };
    assert!(matches!(refused("serial", serial, &apart(4, 2)), PlanError::WrongWithdrawal { .. }));
    let fleet = with(&|fleet| {
        fleet.strangers.insert("gone".parse().unwrap());
    });
    assert!(matches!(refused("stranger", half(), &fleet), PlanError::NotInFleet { .. }));
    let fleet = with(&|fleet| drop(fleet.registered.pop_first()));
    assert!(matches!(refused("unregistered", half(), &fleet), PlanError::NotRegistered { .. }));
    let early = PlanRequest { not_after: Epoch(11), ..half() };
    assert!(matches!(refused("end", early, &apart(4, 2)), PlanError::EndsTooEarly { .. }));
    let error = refused("too few", half(), &apart(3, 3));
    assert!(matches!(error, PlanError::TooFewOutside { needed: 3, .. }));
    let crowded = inventory(&[0, 0, 0, 0], &[0, 1], 2);
    assert!(matches!(refused("one domain", half(), &crowded), PlanError::TooFewOutside { .. }));
    // Four failure domains on paper, and one machine that answers from all of them.
    let shared = with(&|fleet| {
        let machine = fleet.registered.values().next().unwrap()[&OLD].platform;
        let seen = fleet.registered.values_mut().flat_map(BTreeMap::values_mut);
        seen.for_each(|seen| seen.platform = machine);
    });
    assert!(matches!(refused("one machine", half(), &shared), PlanError::TooFewOutside { .. }));
}

#[test]
fn a_plan_for_ten_thousand_nodes_stays_within_its_limits() {
    let fleet = common::large(10_000);
    for size in [WaveSize::Half, WaveSize::Count(100)] {
        let (plan, report) = planned(&request(size), &fleet);
        assert!(report.bytes < 32 * 1024 * 1024, "{}", report.bytes);
        let longest =
            plan.steps.iter().filter(|step| step.wave != 0).map(|step| match &step.action {
                Action::Replicate { sources, .. } => sources.len(),
                Action::Verify { targets, need, .. } if (*need as usize) < targets.len() => {
                    targets.len()
                }
                _ => 0,
            });
        assert!(longest.max().unwrap() <= SOURCES_MAX.max(2 + WITNESS_SPARE));
        let wave_of: BTreeSet<_> = report.waves.iter().flatten().collect();
        assert_eq!(wave_of.len(), 10_000, "every node is in one wave");
    }
}

#[test]
fn one_by_one_works_for_the_largest_fleet() {
    let (_, report) = planned(&request(WaveSize::OneByOne), &common::large(10_000));
    assert_eq!(report.waves.len(), 10_000);
    let apart = common::apart(10_000, 2);
    let (_, report) = planned(&request(WaveSize::Half), &apart);
    assert_eq!(report.waves.len(), 2);
}
