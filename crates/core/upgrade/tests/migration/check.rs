//! The planner makes what the checker accepts, refuses what cannot be planned, and the checker
//! finds each thing that is changed.

use heirloom_model::counter::{Epoch, PlanNumber};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::participant::{RemarkWeight, SurveyRemark};
use heirloom_model::plan::{Action, Gate, ParticipantAction, Plan, ServiceAction, StepId};
use heirloom_upgrade::checker::{self, Finding, check_participants};
use heirloom_upgrade::explain::participant::explain_from;
use heirloom_upgrade::inventory::participants::Participants;
use heirloom_upgrade::planner::migration::{
    MigrationError, MigrationNote, MigrationRequest, plan_from,
};

use super::{planned, request};
use crate::world::{World, party_of, source_of};

fn known(world: &World) -> Participants {
    Participants::of(&world.state, &world.ceremony.domain).unwrap()
}

fn codes(plan: &Plan, known: &Participants) -> Vec<&'static str> {
    let change = plan.participant.as_ref().unwrap();
    let mut codes: Vec<_> =
        check_participants(plan, change, known).iter().map(Finding::code).collect();
    codes.dedup();
    codes
}

#[test]
fn what_the_planner_makes_the_checker_accepts() {
    for nodes in [1, 2, 3] {
        let world = World::new(nodes);
        let plan = planned(&world, nodes);
        assert_eq!(codes(&plan, &known(&world)), Vec::<&str>::new());
        assert_eq!(checker::check(&plan, &world.state), Vec::new());
        assert_eq!(plan.steps.len(), 12 * nodes + 1);
        assert_eq!(plan.rollback.len(), 3 * nodes);
    }
}

#[test]
fn an_operator_that_is_alone_is_not_asked_and_others_are() {
    let world = World::new(1);
    let asks = |plan: &Plan| {
        plan.steps
            .iter()
            .any(|step| step.gates.iter().any(|gate| matches!(gate, Gate::Consented { .. })))
    };
    let alone = request(&world, 1);
    let (plan, report) = plan_from(&alone, &known(&world)).unwrap();
    assert!(!asks(&plan) && report.consents.is_empty());
    let mut mute = known(&world);
    mute.keys.clear();
    assert!(plan_from(&alone, &mute).is_ok(), "who is asked nothing needs no key");
    let other = MigrationRequest { operator: "somebody".parse().unwrap(), ..alone };
    let (plan, report) = plan_from(&other, &known(&world)).unwrap();
    assert!(asks(&plan));
    assert_eq!(report.consents.len(), 1);
    assert!(report.notes.iter().any(|note| matches!(note, MigrationNote::OneOperator(_))));
    assert!(report.notes.contains(&MigrationNote::NoRehearsal));
    let lost = report.notes.iter().filter(|note| matches!(note, MigrationNote::Lost(_)));
    assert_eq!(lost.count(), 8);
}

#[test]
fn a_party_of_somebody_else_names_its_operator() {
    let mut world = World::new(2);
    let second: NodeId = "node-2".parse().unwrap();
    let error = plan_from(&request(&world, 1), &known(&world)).unwrap_err();
    let operator = world.operator_of(&second).to_string();
    let (participant, party) = (source_of(&second), party_of(&second));
    let node: NodeId = "node-1".parse().unwrap();
    assert_eq!(
        error,
        MigrationError::NeedsAgreement { operator, participant, party, node: node.clone() }
    );
    // Whom the fleet does not know is named by the participant.
    let stranger = "stranger::1220ee".parse().unwrap();
    let host = world.hosts.get_mut(&node).unwrap();
    host.foreign[0].hosts = vec![stranger];
    let survey = world.survey(&node);
    world.accept(&survey);
    let error = plan_from(&request(&world, 2), &known(&world)).unwrap_err();
    assert!(
        matches!(&error, MigrationError::NeedsAgreement { operator, .. }
        if operator == "stranger::1220ee"),
        "{error}"
    );
    world.hosts.get_mut(&node).unwrap().foreign[0].hosts = Vec::new();
    let survey = world.survey(&node);
    world.accept(&survey);
    let error = plan_from(&request(&world, 2), &known(&world)).unwrap_err();
    assert!(matches!(error, MigrationError::UnknownHost { .. }), "{error}");
}

#[test]
fn each_thing_that_cannot_be_planned_is_refused() {
    type Change = fn(&mut MigrationRequest, &mut Participants);
    let node = || -> NodeId { "node-1".parse().unwrap() };
    let cases: [(&str, Change); 12] = [
        ("HasKeepers", |_, known| known.has_keepers = true),
        ("NoNodes", |it, _| it.nodes.clear()),
        ("NamedTwice", |it, _| it.nodes.push("node-1".parse().unwrap())),
        ("UnknownNode", |it, _| it.nodes.push("node-9".parse().unwrap())),
        ("NotSurveyed", |_, known| known.surveys.clear()),
        ("SurveyOld", |it, known| {
            known.epoch = Epoch(258);
            (it.opens, it.abort_after, it.not_after) = (Epoch(300), None, Epoch(400));
        }),
        ("Blocked", |_, known| {
            let remark = SurveyRemark { weight: RemarkWeight::Blocks, text: "x".to_owned() };
            known.surveys.values_mut().for_each(|seen| seen.found.remarks.push(remark.clone()));
        }),
        ("NoOperatorKey", |_, known| {
            known.keys.pop_last();
        }),
        ("NoSynchronizer", |_, known| {
            known.surveys.values_mut().for_each(|seen| seen.found.routes.clear());
        }),
        ("WrongWindow", |it, _| it.opens = Epoch(31)),
        ("WrongWindow", |it, _| (it.opens, it.abort_after) = (Epoch(41), None)),
        ("MovedTwice", |_, known| {
            let same = known.surveys.values().next().unwrap().found.source.clone();
            known.surveys.values_mut().for_each(|seen| seen.found.source = same.clone());
        }),
    ];
    for (expected, change) in cases {
        let world = World::new(2);
        let (mut wish, mut known) = (request(&world, 2), known(&world));
        change(&mut wish, &mut known);
        let error = plan_from(&wish, &known).unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{expected}: {error:?}");
        assert!(!error.hint().is_empty());
    }
    assert_eq!(node().as_str(), "node-1");
}

fn find(plan: &Plan, action: ParticipantAction) -> usize {
    plan.steps.iter().position(|step| step.action == Action::Participant(action)).unwrap()
}

/// Each gate of the plan of three operators is needed.
#[test]
fn without_any_one_gate_something_is_found() {
    let world = World::new(3);
    let plan = planned(&world, 3);
    let known = known(&world);
    let places = plan.steps.iter().map(|step| step.id);
    let places = places.chain(plan.rollback.iter().map(|back| back.step.id));
    for id in places {
        for place in 0..plan.step(id).unwrap().gates.len() {
            let mut spoilt = plan.clone();
            let at = usize::try_from(id.0).unwrap();
            let step = match at.checked_sub(plan.steps.len()) {
                None => &mut spoilt.steps[at],
                Some(back) => &mut spoilt.rollback[back].step,
            };
            let gate = step.gates.remove(place);
            assert_ne!(codes(&spoilt, &known), Vec::<&str>::new(), "{id}: {gate:?}");
        }
    }
}

/// No two steps of a node can change places, and none can be left out.
#[test]
fn without_any_one_step_something_is_found() {
    let world = World::new(2);
    let plan = planned(&world, 2);
    let known = known(&world);
    for at in 0..plan.steps.len() {
        let mut spoilt = plan.clone();
        spoilt.steps[at].action = Action::Service(ServiceAction::Snapshot);
        assert!(codes(&spoilt, &known).contains(&"F-902"), "{at}");
        for other in 0..at {
            let mut spoilt = plan.clone();
            let [one, two] = [&plan.steps[at], &plan.steps[other]];
            if one.action != two.action && one.node == two.node {
                spoilt.steps[at].action = two.action.clone();
                spoilt.steps[other].action = one.action.clone();
                assert_ne!(codes(&spoilt, &known), Vec::<&str>::new(), "{at} and {other}");
            }
        }
    }
}

type Spoil = fn(&mut Plan, &mut Participants);

/// One change for each code.
const CHANGES: [(&str, Spoil); 23] = [
    ("F-101", |plan, _| plan.network = heirloom_model::digest::NetworkId::new([1; 32])),
    ("F-102", |plan, _| plan.number = PlanNumber(7)),
    ("F-103", |_, known| {
        known.holding_plan = Some(heirloom_model::digest::PlanDigest::new([1; 32]));
    }),
    ("F-107", |plan, _| {
        plan.participant.as_mut().unwrap().moves.pop();
    }),
    ("F-112", |plan, _| {
        plan.not_after = Epoch(0);
    }),
    ("F-807", |plan, _| {
        let at = find(plan, ParticipantAction::Safeguard);
        plan.steps[at].action = Action::Participant(ParticipantAction::Import);
    }),
    ("F-811", |plan, _| {
        let at = find(plan, ParticipantAction::Quiesce);
        plan.steps[at].gates[1] = Gate::Epoch(Epoch(2));
    }),
    ("F-816", |plan, _| {
        let other = plan.rollback[0].step.id;
        plan.rollback[3].step.gates.push(Gate::Done(other));
    }),
    ("F-902", |plan, _| plan.steps[0].wave = 1),
    ("F-903", |_, known| known.epoch = Epoch(258)),
    ("F-903", |_, known| known.surveys.clear()),
    ("F-904", |plan, _| {
        plan.participant.as_mut().unwrap().moves[0].parties.clear();
    }),
    ("F-904", |plan, _| {
        plan.participant.as_mut().unwrap().moves[0].target_version = "3.4.0".parse().unwrap();
    }),
    ("F-905", |_, known| {
        let remark = SurveyRemark { weight: RemarkWeight::Blocks, text: "x".to_owned() };
        known.surveys.values_mut().for_each(|seen| seen.found.remarks.push(remark.clone()));
    }),
    ("F-906", |plan, _| plan.participant.as_mut().unwrap().opens = Epoch(31)),
    ("F-907", |plan, _| {
        let at = find(plan, ParticipantAction::Supply);
        plan.steps[at].gates.retain(|gate| !matches!(gate, Gate::Consented { .. }));
    }),
    ("F-907", |plan, _| {
        let at = find(plan, ParticipantAction::Supply);
        for gate in &mut plan.steps[at].gates {
            if let Gate::Consented { first, last } = gate {
                *first = *last;
            }
        }
    }),
    ("F-908", |plan, _| {
        let at = find(plan, ParticipantAction::Safeguard);
        plan.steps[at].gates.retain(|gate| !matches!(gate, Gate::Concordant { .. }));
    }),
    ("F-909", |_, known| {
        let host = "stranger::1220ee".parse().unwrap();
        let seen = known.surveys.values_mut().next().unwrap();
        seen.found.foreign[0].hosts = vec![host];
    }),
    ("F-910", |plan, _| plan.rollback[1].undoes = StepId(0)),
    ("F-912", |plan, _| {
        let moves = &mut plan.participant.as_mut().unwrap().moves;
        moves[1].source = moves[0].source.clone();
    }),
    ("F-913", |_, known| known.has_keepers = true),
    ("F-914", |_, known| {
        known.keys.pop_first();
    }),
];

#[test]
fn each_change_of_a_plan_has_its_code() {
    for (expected, spoil) in CHANGES {
        let world = World::new(2);
        let (mut plan, mut known) = (planned(&world, 2), known(&world));
        spoil(&mut plan, &mut known);
        let found = codes(&plan, &known);
        assert!(found.contains(&expected), "{expected}: {found:?}");
    }
}

#[test]
fn a_commit_stands_once_where_the_way_back_ends() {
    let world = World::new(2);
    let plan = planned(&world, 2);
    let known = known(&world);
    let mut early = plan.clone();
    early.point_of_no_return = StepId(plan.point_of_no_return.0 - 1);
    assert!(codes(&early, &known).contains(&"F-911"));
    let mut loose = plan.clone();
    let at = find(&plan, ParticipantAction::Settle);
    loose.steps[at].gates[0] = Gate::Done(StepId(plan.point_of_no_return.0 - 1));
    assert!(codes(&loose, &known).contains(&"F-911"));
    let mut sudden = plan.clone();
    let commit = usize::try_from(plan.point_of_no_return.0).unwrap();
    sudden.steps[commit].gates.clear();
    assert!(codes(&sudden, &known).contains(&"F-818"));
}

#[test]
fn a_plan_about_nothing_is_found() {
    let world = World::new(1);
    let mut plan = planned(&world, 1);
    plan.participant = None;
    assert_eq!(checker::check(&plan, &world.state).len(), 1);
    plan.domain = DomainId::new([9; 32]);
    assert!(!checker::check(&plan, &world.state).is_empty());
}

#[test]
fn people_read_what_moves_and_what_does_not() {
    let world = World::new(2);
    let plan = planned(&world, 2);
    let change = plan.participant.as_ref().unwrap();
    let told = explain_from(&plan, change, &known(&world)).to_string();
    for expected in [
        "2 parties get new names",
        "whose keys are in pkcs11",
        "every operator agreed to the party map",
        "does not move",
        "every contract id",
        "(no return)",
        "survey of node-1",
    ] {
        assert!(told.contains(expected), "{expected:?} in:\n{told}");
    }
}
