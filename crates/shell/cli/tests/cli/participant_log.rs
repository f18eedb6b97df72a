//! Migrations as the log shows them: where they stand, who agreed to the names.

use std::collections::BTreeMap;

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::{JournalHash, Nonce, PlanDigest};
use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::participant::{
    CustodianKind, Enrolled, ForeignParty, LedgerOffset, ParticipantFacts, ParticipantStanding,
    ParticipantSurvey, PartyKind, PartyMove, SurveyFindings, SurveyedParty, SynchronizerRoute,
};
use heirloom_model::party::{ParticipantId, PartyId};
use heirloom_model::plan::{Action, ParticipantAction, Plan, StepOutcome, StepResult};
use heirloom_model::statement::Statement;
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_testkit::ceremony::Ceremony;
use heirloom_upgrade::planner::migration::{self, MigrationRequest};

use crate::world::Place;

const SYNCHRONIZER: &str = "global::1220dd";

/// Two nodes of two operators, whose parties stand in common contracts, and a plan that moves both.
struct World {
    place: Place,
    ceremony: Ceremony,
    nodes: Vec<NodeId>,
    state: NetworkState,
    plan: Plan,
}

fn named(kind: &str, node: &NodeId, which: &str) -> String {
    let number = node.as_str().rsplit('-').next().unwrap();
    format!("{kind}::1220{which}{number:0>4}")
}

fn source(node: &NodeId) -> ParticipantId {
    named("participant", node, "aa").parse().unwrap()
}

fn party(node: &NodeId, which: &str) -> PartyId {
    named("alice", node, which).parse().unwrap()
}

fn findings(node: &NodeId, other: &NodeId) -> SurveyFindings {
    let mut parties = vec![
        SurveyedParty { party: party(node, "aa"), kind: PartyKind::Local },
        SurveyedParty { party: source(node).admin_party(), kind: PartyKind::Admin },
    ];
    parties.sort_by(|left, right| left.party.cmp(&right.party));
    SurveyFindings {
        source: source(node),
        source_version: "3.4.12".parse().unwrap(),
        target_version: "3.5.1".parse().unwrap(),
        custodian: CustodianKind::Pkcs11,
        target: None,
        routes: vec![SynchronizerRoute {
            from: SYNCHRONIZER.parse().unwrap(),
            to: SYNCHRONIZER.parse().unwrap(),
        }],
        parties,
        foreign: vec![ForeignParty { party: party(other, "aa"), hosts: vec![source(other)] }],
        packages: 2,
        contracts: 7,
        ledger_end: LedgerOffset(40),
        remarks: Vec::new(),
    }
}

fn survey(ceremony: &Ceremony, node: &NodeId, other: &NodeId) -> ParticipantSurvey {
    ParticipantSurvey {
        network: ceremony.network,
        domain: ceremony.domain,
        node: node.clone(),
        found: findings(node, other),
    }
}

impl World {
    fn new() -> Self {
        let ceremony = Ceremony::new(&[23; 32]);
        let place = Place::new();
        place.begin_log();
        for (number, key) in (0..).zip(&ceremony.operator_keys) {
            place.key(&format!("operator-{number}.key"), key);
        }
        let fleet = ceremony.nodes(2);
        let nodes: Vec<NodeId> = fleet.iter().map(|node| node.node.clone()).collect();
        let mut state = NetworkState::new(ceremony.network);
        let push = |state: &mut NetworkState, envelope: &Envelope| {
            place.append(envelope);
            let entry = LogEntry::following(&state.position(), wire::encode(envelope));
            let applied = state.apply(&entry).unwrap();
            assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
        };
        push(&mut state, &ceremony.root());
        push(&mut state, &ceremony.epoch(Epoch(1)));
        push(&mut state, &ceremony.fleet(Serial(1), fleet));
        for (node, other) in [(&nodes[0], &nodes[1]), (&nodes[1], &nodes[0])] {
            let survey = survey(&ceremony, node, other);
            push(&mut state, &Envelope::signed(&survey, [&ceremony.agent_key(node)]));
        }
        let request = MigrationRequest {
            domain: ceremony.domain,
            nodes: nodes.clone(),
            operator: state.node(&nodes[0]).unwrap().operator.clone(),
            opens: Epoch(1),
            abort_after: None,
            not_after: Epoch(50),
            nonce: Nonce::new([4; 32]),
        };
        let (plan, _) = migration::plan(&request, &state).unwrap();
        push(&mut state, &ceremony.proposal(&plan));
        Self { place, ceremony, nodes, state, plan }
    }

    fn digest(&self) -> PlanDigest {
        self.plan.digest()
    }

    fn log(&self) -> String {
        format!("--network {} --log log", self.ceremony.network)
    }

    fn approve(&self) {
        for number in 1..=2 {
            let plan = self.digest();
            let words = format!("plan approve --plan {plan} --key operator-{number}.key");
            self.place.ok(&format!("{words} {}", self.log()));
        }
    }

    fn say<T: Statement>(&self, node: &NodeId, statement: &T) {
        self.place.append(&Envelope::signed(statement, [&self.ceremony.agent_key(node)]));
    }

    /// Every step up to the new names is stated and done.
    fn allocate(&self) {
        let targets: BTreeMap<&NodeId, ParticipantId> = self
            .nodes
            .iter()
            .map(|node| (node, named("new", node, "bb").parse().unwrap()))
            .collect();
        for step in &self.plan.steps {
            let Action::Participant(action) = step.action else { break };
            let target = targets[&step.node].clone();
            let facts = match action {
                ParticipantAction::Survey => {
                    let other = self.nodes.iter().find(|node| **node != step.node).unwrap();
                    self.say(&step.node, &survey(&self.ceremony, &step.node, other));
                    None
                }
                ParticipantAction::Enroll => {
                    let custodian = CustodianKind::Pkcs11;
                    Some(ParticipantFacts::Enrolled(Enrolled { target, custodian }))
                }
                ParticipantAction::Allocate => {
                    let from = party(&step.node, "aa");
                    let to = from.moved_to(&target.namespace()).unwrap();
                    Some(ParticipantFacts::Allocated(vec![PartyMove { from, to }]))
                }
                _ => break,
            };
            if let Some(facts) = facts {
                let standing = ParticipantStanding {
                    network: self.ceremony.network,
                    domain: self.ceremony.domain,
                    node: step.node.clone(),
                    step: PlanStep { plan: self.digest(), step: step.id },
                    facts,
                };
                self.say(&step.node, &standing);
            }
            let result = StepResult {
                network: self.ceremony.network,
                plan: self.digest(),
                number: self.plan.number,
                step: step.id,
                node: step.node.clone(),
                outcome: StepOutcome::Done,
                journal: JournalHash::new([1; 32]),
            };
            self.say(&step.node, &result);
        }
    }
}

#[test]
fn a_migration_is_shown_from_its_proposal_to_the_new_names() {
    let world = World::new();
    let (plan, log) = (world.digest(), world.log());
    let status = format!("participant status --plan {plan} {log}");
    let json = world.place.json(&status);
    assert_eq!(json["schema"], "heirloom.participant.status.v1");
    assert_eq!(json["status"], "proposed");
    assert_eq!(json["standings"].as_array().unwrap().len(), 0);
    assert_eq!(json["map"], serde_json::Value::Null);
    world.approve();
    world.allocate();
    let json = world.place.json(&status);
    assert_eq!(json["standings"].as_array().unwrap().len(), 4);
    assert_eq!(json["not_agreed"].as_array().unwrap().len(), 2);
    assert_eq!(json["point_of_no_return"], "before: an abort goes back");
    let text = world.place.ok(&status);
    for expected in ["party map ", "not agreed by: ", "new names  1 party", "keys in pkcs11"] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let shown = world.place.ok(&format!("plan show {plan} {log}"));
    assert!(shown.contains("does not move"), "{shown}");
}

#[test]
fn operators_agree_to_the_names_that_they_were_shown() {
    let world = World::new();
    let (plan, log) = (world.digest(), world.log());
    let agree = format!("participant agree --plan {plan} {log}");
    world.place.fails(&agree, 4, "E-PARTICIPANT-017");
    world.approve();
    world.allocate();
    let shown = world.place.json(&agree);
    assert_eq!(shown["moves"].as_array().unwrap().len(), 2);
    assert_eq!(shown["index"], serde_json::Value::Null);
    // Both operators are open, and the key is of neither: nobody guesses who is meant.
    world.place.fails(&format!("{agree} --key operator-0.key"), 1, "E-INPUT-005");
    let operator = |index: usize| world.state.node(&world.nodes[index]).unwrap().operator.clone();
    // Nobody agrees for somebody else, and whoever tries is told so before anything is asked.
    let other = format!("{agree} --key operator-2.key --operator {}", operator(0));
    let told = world.place.fails(&other, 3, "E-STATEMENT-004");
    assert!(told.contains("is not the key of operator-1"), "{told}");
    let json = world.place.json(&format!("{agree} --key operator-1.key"));
    assert_eq!(json["operator"], operator(0).to_string());
    assert_eq!(json["map"], shown["map"]);
    // The other one is the only one left, and has a key of its own.
    world.place.fails(&format!("{agree} --key operator-1.key"), 3, "E-STATEMENT-004");
    let json = world.place.json(&format!("{agree} --key operator-2.key"));
    assert_eq!(json["operator"], operator(1).to_string());
    world.place.fails(&format!("{agree} --key operator-0.key"), 1, "E-INPUT-005");
    let status = world.place.json(&format!("participant status --plan {plan} {log}"));
    assert_eq!(status["agreements"].as_array().unwrap().len(), 2);
    assert_eq!(status["not_agreed"].as_array().unwrap().len(), 0);
}

#[test]
fn who_has_no_key_in_the_fleet_is_told_to_publish_one() {
    let world = World::new();
    let (plan, log) = (world.digest(), world.log());
    world.approve();
    world.allocate();
    let mut fleet = world.ceremony.fleet_of(Serial(2), world.ceremony.nodes(2));
    fleet.operators.retain(|known| known.operator.as_str() != "operator-2");
    let fleet = world.ceremony.signed_fleet(&fleet);
    world.place.append(&fleet);
    let agree = format!("participant agree --plan {plan} {log} --key operator-2.key");
    let told = world.place.fails(&format!("{agree} --operator operator-2"), 3, "E-STATEMENT-004");
    let expected = "the fleet names no key of operator-2: publish a fleet with its key";
    assert!(told.contains(expected), "{told}");
}
