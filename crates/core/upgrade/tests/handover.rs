//! What the planner makes of a handover, a move and a reseal, and what it refuses.

mod common;

use std::collections::BTreeSet;

use common::{
    NEW, OLD, VIA, carried, handover, name, new, old, release, release_of, relocation, resealing,
    rule, upgrader, via,
};
use heirloom_model::admin::Volatile;
use heirloom_model::counter::{Epoch, LogIndex, Serial, Time};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Gate, Plan, StepId, Strategy};
use heirloom_model::policy::{HolderRole, Sharing};
use heirloom_model::release::ReleaseKind;
use heirloom_model::wire;
use heirloom_upgrade::checker::{Finding, check_from};
use heirloom_upgrade::inventory::Inventory;
use heirloom_upgrade::planner::{
    Arrangement, Downtime, Hop, Lease, Note, PlanError, PlanReport, PlanRequest, plan_from,
};

const EXCLUSIVE: Sharing = Sharing::Exclusive;
const REPLICATED: Sharing = Sharing::Replicated;

fn planned(request: &PlanRequest, fleet: &Inventory) -> (Plan, PlanReport) {
    let (plan, report) = plan_from(request, fleet).expect("the fleet is sound");
    assert_eq!(check_from(&plan, fleet), Vec::new());
    assert_eq!(wire::decode::<Plan>(&wire::encode(&plan)).as_ref(), Ok(&plan));
    assert_eq!(plan.strategy, Strategy::Handover);
    assert_eq!(report.point_of_no_return, plan.point_of_no_return);
    assert_eq!((report.steps, report.rollback_steps), (plan.steps.len(), plan.rollback.len()));
    (plan, report)
}

/// What each forward step does, and to which code.
fn told(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| word(plan, &step.action)).collect()
}

fn told_back(plan: &Plan) -> Vec<String> {
    plan.rollback.iter().map(|back| word(plan, &back.step.action)).collect()
}

fn word(plan: &Plan, action: &Action) -> String {
    let code = match action {
        Action::Prepare(at)
        | Action::Drain(at)
        | Action::Stop(at)
        | Action::Start(at)
        | Action::Restart(at)
        | Action::Suspend(at)
        | Action::Activate(at)
        | Action::Forget(at)
        | Action::Reseal(at) => Some(at.measurement),
        Action::Quarantine(code) | Action::Preserve(code) => Some(*code),
        Action::Verify { code, .. } => *code,
        Action::Install { install: to, .. } | Action::HandOver { to, .. } => Some(to.measurement),
        _ => None,
    };
    let side = match code {
        Some(NEW)
            if plan.keyring.as_ref().expect("it moves a keyring").from
                != plan.keyring.as_ref().expect("it moves a keyring").to =>
        {
            " new"
        }
        Some(VIA) => " via",
        Some(OLD)
            if plan.keyring.as_ref().expect("it moves a keyring").from
                != plan.keyring.as_ref().expect("it moves a keyring").to =>
        {
            " old"
        }
        _ => "",
    };
    format!("{}{side}", action.name())
}

fn at(plan: &Plan, name: &str) -> StepId {
    let place = told(plan).iter().position(|told| told == name);
    StepId(u32::try_from(place.expect(name)).expect("plans are short"))
}

/// Steps stand in one line, forward and back.
fn assert_one_line(plan: &Plan) {
    let back = plan.rollback.iter().map(|back| &back.step);
    for steps in [plan.steps.iter().collect::<Vec<_>>(), back.collect()] {
        for pair in steps.windows(2) {
            assert!(pair[1].gates.contains(&Gate::Done(pair[0].id)), "{:?}", pair[1]);
        }
    }
}

#[test]
fn a_single_node_of_an_exclusive_domain_hands_over_by_way_of_an_upgrader() {
    let fleet = carried(1, EXCLUSIVE, 1);
    let (plan, report) = planned(&handover(None), &fleet);
    assert_eq!(
        told(&plan),
        [
            "prepare via",
            "prepare new",
            "verify old",
            "start via",
            "hand-over via",
            "restart via",
            "verify via",
            "start new",
            "hand-over new",
            "restart new",
            "verify new",
            "suspend old",
            "activate new",
            "stop old",
            "install new",
            "verify new",
            "quarantine old",
            "forget via",
            "stop via",
            "quarantine via",
        ]
    );
    assert_eq!(
        told_back(&plan),
        [
            "restart old",
            "activate old",
            "verify old",
            "stop new",
            "quarantine new",
            "forget via",
            "stop via",
            "quarantine via",
        ]
    );
    assert_one_line(&plan);
    assert_eq!(plan.nodes, [name(0)]);
    assert_eq!(plan.keyring.as_ref().expect("it moves a keyring").via.unwrap().measurement, VIA);
    let (suspend, activate) = (at(&plan, "suspend old"), at(&plan, "activate new"));
    assert_eq!(plan.point_of_no_return, activate);
    assert_eq!(activate.0, suspend.0 + 1, "nothing happens while nobody answers");
    assert_eq!(report.downtime, Downtime::Suspension { suspend, activate, entries: 2 });
    let host = fleet.nodes[0].host.clone();
    assert!(report.notes.contains(&Note::OneHost { host }));
    assert!(report.notes.contains(&Note::NoMargin));
    assert!(report.notes.contains(&Note::KeepsCarriedCopy { epochs: 2 }));
    assert!(report.waves.is_empty() && report.verifiers.is_empty());
}

/// Flaw (i) of the procedure that this replaces: the old holder went away while the
/// only other copy was in a process that had opened nothing yet.
#[test]
fn the_old_holder_ends_its_service_only_when_both_others_have_proven() {
    let (plan, _) = planned(&handover(None), &carried(1, EXCLUSIVE, 1));
    for step in ["suspend old", "stop old"] {
        let gates = &plan.step(at(&plan, step)).unwrap().gates;
        for asked in [StepId(6), StepId(10)] {
            let proven = Gate::Proven { holders: vec![name(0)], need: 1, since: asked };
            assert!(gates.contains(&proven), "{step}: {gates:?}");
        }
    }
    let forget = plan.step(at(&plan, "forget via")).unwrap();
    let again = Gate::Proven { holders: vec![name(0)], need: 1, since: StepId(15) };
    let waited = Gate::Waited { since: plan.point_of_no_return, epochs: 2 };
    assert!(forget.gates.contains(&again) && forget.gates.contains(&waited));
}

#[test]
fn a_single_node_of_a_replicated_domain_answers_all_the_time() {
    let (plan, report) = planned(&handover(Some(Serial(5))), &carried(1, REPLICATED, 1));
    let told = told(&plan);
    assert_eq!(
        told[10..],
        [
            "verify new",
            "drain old",
            "stop old",
            "install new",
            "verify new",
            "quarantine old",
            "forget via",
            "stop via",
            "quarantine via",
            "withdraw",
        ]
    );
    assert_eq!(told_back(&plan)[..4], ["install old", "start old", "verify old", "stop new"]);
    assert_one_line(&plan);
    assert_eq!(plan.point_of_no_return, at(&plan, "install new"));
    assert_eq!(report.downtime, Downtime::None);
    let last = plan.steps.last().unwrap();
    assert!(last.gates.contains(&Gate::PolicyPublished(Serial(5))));
}

#[test]
fn one_node_of_many_hands_over_while_others_prove() {
    let fleet = carried(4, REPLICATED, 2);
    let (plan, report) = planned(&handover(None), &fleet);
    assert_one_line(&plan);
    assert_eq!(plan.nodes.len(), 4, "copies are counted over all of them");
    assert!(plan.steps.iter().all(|step| step.node == name(0)));
    let beside: Vec<NodeId> = (1..4).map(name).collect();
    let asks = Action::Verify { targets: beside.clone(), need: 2, code: None };
    let asked = plan.steps.iter().find(|step| step.action == asks).unwrap();
    let stop = plan.step(at(&plan, "stop old")).unwrap();
    assert!(stop.gates.contains(&Gate::Proven { holders: beside, need: 2, since: asked.id }));
    assert!(plan.rollback.iter().any(|back| back.step.action == asks));
    assert!(!report.notes.contains(&Note::NoMargin));
    // Where one holder is enough, the node itself has it, in another seat.
    let (plan, report) = planned(&handover(None), &carried(4, REPLICATED, 1));
    assert_eq!(plan.nodes, [name(0)]);
    assert!(!report.notes.iter().any(|note| matches!(note, Note::OneHost { .. })));
}

#[test]
fn a_move_goes_to_the_same_release_on_another_host() {
    let fleet = carried(2, EXCLUSIVE, 1);
    let (plan, report) = planned(&relocation(), &fleet);
    assert_one_line(&plan);
    let steps: Vec<(usize, String)> = plan
        .steps
        .iter()
        .zip(told(&plan))
        .map(|(step, told)| (usize::from(step.node != name(0)), told))
        .collect();
    let steps: Vec<(usize, &str)> = steps.iter().map(|(node, told)| (*node, &**told)).collect();
    assert_eq!(
        steps,
        [
            (0, "verify"),
            (1, "hand-over"),
            (1, "restart"),
            (0, "verify"),
            (1, "verify"),
            (0, "suspend"),
            (1, "activate"),
            (0, "stop"),
            (0, "verify"),
            (0, "quarantine"),
        ]
    );
    assert_eq!(plan.point_of_no_return, StepId(6));
    assert_eq!(
        (plan.nodes.as_slice(), plan.keyring.as_ref().expect("it moves a keyring").via),
        ([name(0), name(1)].as_slice(), None)
    );
    assert_eq!(told_back(&plan), ["restart", "activate", "verify", "stop", "quarantine", "start"]);
    let (suspend, activate) = (StepId(5), StepId(6));
    assert_eq!(report.downtime, Downtime::Suspension { suspend, activate, entries: 2 });
    let (plan, report) = planned(&relocation(), &carried(3, REPLICATED, 1));
    assert_eq!(plan.point_of_no_return, at(&plan, "stop"));
    assert_eq!(report.downtime, Downtime::None);
    assert_eq!(told_back(&plan)[..2], ["start", "verify"]);
    planned(&relocation(), &carried(5, REPLICATED, 2));
}

#[test]
fn a_reseal_keeps_what_was_there_until_it_has_proven() {
    let (plan, report) = planned(&resealing(), &carried(1, EXCLUSIVE, 1));
    assert_one_line(&plan);
    assert_eq!(told(&plan), ["verify", "preserve", "reseal", "restart", "verify"]);
    assert!(plan.rollback.is_empty(), "old and new files open alike");
    assert_eq!(plan.point_of_no_return, StepId(4));
    let restart = StepId(3);
    assert_eq!(report.downtime, Downtime::Restart { restart, lease: Lease::Attendance });
    let (_, report) = planned(&resealing(), &carried(1, REPLICATED, 1));
    assert_eq!(report.downtime, Downtime::Restart { restart, lease: Lease::None });
    let (_, report) = planned(&resealing(), &carried(3, REPLICATED, 1));
    assert_eq!(report.downtime, Downtime::None);
    planned(&resealing(), &carried(4, REPLICATED, 2));
}

/// A handover there and back again: the plan forbids nothing that the policy allows.
#[test]
fn what_was_replaced_can_come_back() {
    let mut fleet = carried(1, EXCLUSIVE, 1);
    let mut same = release("keeper-1.0.0", OLD, 1);
    fleet.releases.remove(&old());
    same.security_version = heirloom_model::counter::SecurityVersion(2);
    let back_to = same.digest();
    fleet.releases.insert(back_to, same);
    fleet.policy.holders = vec![rule(OLD, &[VIA]), rule(NEW, &[VIA]), rule(VIA, &[OLD, NEW])];
    let seen = fleet.registered[&name(0)][&OLD];
    fleet.registered.get_mut(&name(0)).unwrap().insert(NEW, seen);
    fleet.active = Some((name(0), NEW));
    let back = PlanRequest { from: new(), to: back_to, ..handover(None) };
    planned(&back, &fleet);
}

fn refused(request: &PlanRequest, fleet: &Inventory) -> PlanError {
    let error = plan_from(request, fleet).expect_err("the plan must not be made");
    assert!(!error.hint().is_empty() && !error.to_string().is_empty());
    error
}

fn with(sharing: Sharing, change: impl Fn(&mut Inventory)) -> Inventory {
    let mut fleet = carried(2, sharing, 1);
    change(&mut fleet);
    fleet
}

/// Each row changes one thing.
#[test]
fn what_must_not_be_handed_over_is_refused_with_the_rule_and_a_hint() {
    let wish = handover(None);
    let at = |change: fn(&mut Inventory)| refused(&wish, &with(EXCLUSIVE, change));
    let none = |fleet: &mut Inventory| fleet.keyring = None;
    assert!(matches!(at(none), PlanError::NoGeneration(_)));
    let error = at(|fleet| fleet.policy.holders_min = 2);
    assert!(matches!(error, PlanError::ExclusiveNeedsOne { needed: 2, .. }));
    assert!(matches!(at(|fleet| fleet.active = None), PlanError::NobodyActive(_)));
    let error = at(|fleet| fleet.active = Some((name(1), OLD)));
    assert!(matches!(error, PlanError::NotActive { active, .. } if active == name(1)));
    let error = at(|fleet| fleet.active = Some((name(0), NEW)));
    assert!(matches!(error, PlanError::NotActive { .. }));
    let error = at(|fleet| drop(fleet.releases.remove(&via())));
    assert!(matches!(error, PlanError::UnknownRelease(_)));
    let error = at(|fleet| fleet.policy.holders[2].role = HolderRole::Keeper);
    assert!(matches!(error, PlanError::WrongRole { expected: HolderRole::Upgrader, .. }));
    let error = at(|fleet| fleet.policy.holders[1].role = HolderRole::Upgrader);
    assert!(matches!(error, PlanError::WrongRole { expected: HolderRole::Keeper, .. }));
    let error = at(|fleet| fleet.policy.holders[0].gives_to.clear());
    assert!(matches!(error, PlanError::NoHop { hop: Hop::ToUpgrader, .. }));
    let error = at(|fleet| fleet.policy.holders[2].gives_to.clear());
    assert!(matches!(error, PlanError::NoHop { hop: Hop::FromUpgrader, .. }));
    let error = at(|fleet| drop(fleet.policy.holders.remove(2)));
    assert!(matches!(error, PlanError::NoHop { .. }));
    let error = at(|fleet| fleet.policy.not_after = Time(999));
    assert!(matches!(error, PlanError::NoHop { .. }));
    let error = at(|fleet| fleet.releases.get_mut(&via()).unwrap().not_after = Time(999));
    assert!(matches!(error, PlanError::ReleaseExpired { release, .. } if release == via()));
    let error = at(|fleet| fleet.releases.get_mut(&new()).unwrap().not_after = Time(999));
    assert!(matches!(error, PlanError::ReleaseExpired { release, .. } if release == new()));
    let error = at(|fleet| {
        let older = heirloom_model::counter::SecurityVersion(0);
        fleet.releases.get_mut(&new()).unwrap().security_version = older;
    });
    assert!(matches!(error, PlanError::SecurityVersionLower { .. }));
    let error = at(|fleet| drop(fleet.registered.remove(&name(0))));
    assert!(matches!(error, PlanError::NotRegistered { .. }));
    let error = at(|fleet| drop(fleet.nodes.remove(0)));
    assert!(matches!(error, PlanError::UnknownNode(_)));
    let error = refused(&handover(Some(Serial(9))), &with(EXCLUSIVE, |_| ()));
    assert!(matches!(error, PlanError::WrongWithdrawal { .. }));
    let early = PlanRequest { not_after: Epoch(9), ..handover(None) };
    let error = refused(&early, &with(EXCLUSIVE, |_| ()));
    assert!(matches!(error, PlanError::EndsTooEarly { .. }));
    let same = PlanRequest { to: old(), ..handover(None) };
    let error = refused(&same, &with(EXCLUSIVE, |_| ()));
    assert!(matches!(error, PlanError::SameMeasurement(OLD)));
}

#[test]
fn an_upgrader_is_an_upgraders_release_with_code_of_its_own() {
    let by = |release: heirloom_model::release::Release| {
        let fleet = with(EXCLUSIVE, |fleet| {
            fleet.releases.insert(release.digest(), release.clone());
        });
        let arrangement =
            Arrangement::Handover { node: name(0), via: release.digest(), withdraw: None };
        refused(&PlanRequest { arrangement, ..handover(None) }, &fleet)
    };
    let keeper = release("upgrader-2.0.0", VIA, 1);
    assert!(matches!(by(keeper), PlanError::NotAnUpgrader(_)));
    let mut nowhere = upgrader();
    nowhere.measurements.clear();
    assert!(matches!(by(nowhere), PlanError::NotAnUpgrader(_)));
    let twin = release_of(ReleaseKind::Upgrader, "upgrader-2.0.0", NEW, 1);
    assert!(matches!(by(twin), PlanError::WrongRole { .. }));
}

#[test]
fn too_few_others_are_refused_where_the_policy_wants_others() {
    let error = refused(&handover(None), &carried(2, REPLICATED, 2));
    assert!(matches!(error, PlanError::TooFewOutside { needed: 2, .. }));
    // Three failure domains on paper, and one machine that answers from all of them.
    let mut fleet = carried(3, REPLICATED, 2);
    let machine = fleet.registered[&name(1)][&OLD].platform;
    fleet.registered.get_mut(&name(2)).unwrap().get_mut(&OLD).unwrap().platform = machine;
    let error = refused(&handover(None), &fleet);
    assert!(matches!(error, PlanError::TooFewOutside { needed: 2, .. }));
}

#[test]
fn a_move_needs_an_empty_seat_of_the_same_release_on_another_host() {
    let at = |change: fn(&mut Inventory)| refused(&relocation(), &with(EXCLUSIVE, change));
    let error = at(|fleet| fleet.nodes[1].host = fleet.nodes[0].host.clone());
    assert!(matches!(error, PlanError::SameHost { .. }));
    let error = at(|fleet| drop(fleet.registered.remove(&name(1))));
    assert!(matches!(error, PlanError::NotRegistered { node, .. } if node == name(1)));
    let error = at(|fleet| {
        let seats = fleet.registered.get_mut(&name(1)).unwrap();
        let mut seen = seats[&OLD];
        seen.at = LogIndex(51);
        seats.insert(NEW, seen);
    });
    assert!(matches!(error, PlanError::OtherRelease { found: NEW, expected: OLD, .. }));
    let error = at(|fleet| {
        fleet.proven.entry(name(1)).or_default().insert(OLD, LogIndex(51));
    });
    assert!(matches!(error, PlanError::AlreadyHolds { node } if node == name(1)));
    // What it proved before it started anew says nothing about what it has now.
    let earlier = with(EXCLUSIVE, |fleet| {
        fleet.proven.entry(name(1)).or_default().insert(OLD, LogIndex(49));
    });
    planned(&relocation(), &earlier);
    let to = |to_node: NodeId| {
        let arrangement = Arrangement::Move { from_node: name(0), to_node };
        refused(&PlanRequest { arrangement, ..relocation() }, &with(EXCLUSIVE, |_| ()))
    };
    assert!(matches!(to(name(0)), PlanError::SameNode(_)));
    assert!(matches!(to(name(7)), PlanError::UnknownNode(_)));
    for request in [relocation(), resealing()] {
        let other = PlanRequest { to: new(), ..request };
        let error = refused(&other, &with(EXCLUSIVE, |_| ()));
        assert!(matches!(error, PlanError::ReleaseChanges { .. }));
    }
}

/// Planner and checker agree about what platforms do not keep.
#[test]
fn nobody_is_asked_for_what_its_platform_does_not_keep() {
    let mut fleet = with(EXCLUSIVE, |_| ());
    let (resealed, _) = planned(&resealing(), &fleet);
    let (moved, _) = planned(&relocation(), &fleet);
    let found = |plan: &Plan, fleet: &Inventory| {
        let findings = check_from(plan, fleet);
        findings.iter().map(Finding::code).collect::<BTreeSet<_>>()
    };
    let own = |fleet: &mut Inventory, volatile| {
        fleet.registered.get_mut(&name(0)).unwrap().get_mut(&OLD).unwrap().volatile = volatile;
    };
    assert_eq!((found(&resealed, &fleet), found(&moved, &fleet)), Default::default());

    // Its keys change with the update, so that sealing again comes too early or too late.
    own(&mut fleet, Some(Volatile::UntilUpdate));
    let error = refused(&resealing(), &fleet);
    assert_eq!(error, PlanError::SealsForThePresent { node: name(0) });
    assert!(error.hint().contains("receive the keyring again"));
    assert_eq!(found(&resealed, &fleet), BTreeSet::from(["F-416"]));
    // Nothing else asks its platform for that.
    planned(&relocation(), &fleet);
    assert_eq!(found(&moved, &fleet), BTreeSet::new());

    own(&mut fleet, Some(Volatile::Memory));
    for request in [relocation(), resealing()] {
        assert_eq!(refused(&request, &fleet), PlanError::HoldsInMemory { node: name(0) });
    }
    assert_eq!(found(&moved, &fleet), BTreeSet::from(["F-415"]));
    assert_eq!(found(&resealed, &fleet), BTreeSet::from(["F-415", "F-416"]));
    own(&mut fleet, None);
    planned(&resealing(), &fleet);
}
