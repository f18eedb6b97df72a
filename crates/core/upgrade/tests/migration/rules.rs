//! What the log takes of a migration: each rule, with one thing changed.

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::{ContractSetDigest, PartyMapDigest, SnapshotDigest};
use heirloom_model::domain::PlanStep;
use heirloom_model::envelope::Envelope;
use heirloom_model::fleet::OperatorKey;
use heirloom_model::identifier::{NodeId, OperatorId};
use heirloom_model::participant::{
    CustodianKind, Enrolled, Exported, LedgerOffset, MapAgreement, ParticipantFacts,
    ParticipantStanding, ParticipantSurvey, PartyMove, Reconciled, RemarkWeight, Rewritten,
    SurveyRemark,
};
use heirloom_model::plan::{Action, Gate, ParticipantAction, Plan, ServiceAction, Step, StepId};
use heirloom_model::wire;
use heirloom_testkit::ceremony::Code;
use heirloom_upgrade::port::DriverError;

use super::{Move, approve, moving, planned};
use crate::world::{World, digest_of, lock, party_of, source_of, target_of};

fn proposed(world: &World, plan: &Plan) -> &'static str {
    world.refusal(&world.ceremony.proposal(plan))
}

fn position(plan: &Plan, action: ParticipantAction) -> usize {
    plan.steps.iter().position(|step| step.action == Action::Participant(action)).unwrap()
}

#[test]
fn a_proposal_is_refused_for_each_thing_that_is_changed() {
    type Spoil = fn(&mut Plan);
    let cases: [(&str, &str, Spoil); 17] = [
        ("nothing", "accepted", |_| {}),
        ("no ground", "plan-mismatch", |plan| plan.participant = None),
        ("number", "not-next", |plan| plan.number.0 += 1),
        ("window", "shape", |plan| plan.participant.as_mut().unwrap().opens = Epoch(31)),
        ("deadline", "shape", |plan| {
            plan.participant.as_mut().unwrap().abort_after = Some(Epoch(41));
        }),
        ("moves", "shape", |plan| {
            plan.participant.as_mut().unwrap().moves.pop();
        }),
        ("parties", "survey-differs", |plan| {
            plan.participant.as_mut().unwrap().moves[0].parties.clear();
        }),
        ("admin", "shape", |plan| {
            let moved = &mut plan.participant.as_mut().unwrap().moves[0];
            moved.parties.push(moved.source.admin_party());
        }),
        ("source", "shape", |plan| {
            let moves = &mut plan.participant.as_mut().unwrap().moves;
            moves[1].source = moves[0].source.clone();
        }),
        ("custodian", "survey-differs", |plan| {
            plan.participant.as_mut().unwrap().moves[0].custodian = CustodianKind::Software;
        }),
        ("action", "shape", |plan| plan.steps[0].action = Action::Service(ServiceAction::Snapshot)),
        ("twice", "shape", |plan| {
            plan.steps[0].action = Action::Participant(ParticipantAction::Enroll);
        }),
        ("consent", "shape", |plan| {
            let at = position(plan, ParticipantAction::Supply);
            plan.steps[at].gates.retain(|gate| !matches!(gate, Gate::Consented { .. }));
        }),
        ("part of the consent", "shape", |plan| {
            let at = position(plan, ParticipantAction::Supply);
            for gate in &mut plan.steps[at].gates {
                if let Gate::Consented { first, last } = gate {
                    *last = *first;
                }
            }
        }),
        ("concord", "shape", |plan| {
            let at = position(plan, ParticipantAction::Safeguard);
            plan.steps[at].gates.retain(|gate| !matches!(gate, Gate::Concordant { .. }));
        }),
        ("order", "shape", |plan| {
            let at = position(plan, ParticipantAction::Import);
            plan.steps[at].gates.clear();
        }),
        ("settled early", "shape", |plan| {
            let at = position(plan, ParticipantAction::Settle);
            plan.steps[at].gates.clear();
        }),
    ];
    let world = World::new(2);
    for (what, expected, spoil) in cases {
        let mut plan = planned(&world, 2);
        spoil(&mut plan);
        assert_eq!(proposed(&world, &plan), expected, "{what}");
    }
    let plan = planned(&world, 2);
    let by_agent = world.ceremony.proposal_of_agent(&plan, &plan.nodes[0]);
    assert_eq!(world.refusal(&by_agent), "plan-mismatch");
}

/// The log by itself, without a checker, takes no plan whose gates were thinned out.
#[test]
fn without_any_one_gate_the_log_takes_no_plan() {
    let world = World::new(2);
    let plan = planned(&world, 2);
    let places = plan.steps.iter().map(|step| step.id);
    let places = places.chain(plan.rollback.iter().map(|back| back.step.id));
    for id in places {
        for place in 0..plan.step(id).unwrap().gates.len() {
            let mut spoilt = plan.clone();
            let gate = step_mut(&mut spoilt, id).gates.remove(place);
            assert_eq!(proposed(&world, &spoilt), "shape", "{id}: {gate:?}");
        }
    }
}

fn step_mut(plan: &mut Plan, id: StepId) -> &mut Step {
    let at = usize::try_from(id.0).unwrap();
    let forward = plan.steps.len();
    match at.checked_sub(forward) {
        None => &mut plan.steps[at],
        Some(back) => &mut plan.rollback[back].step,
    }
}

#[test]
fn a_commit_waits_until_every_target_was_compared() {
    let world = World::new(2);
    let plan = planned(&world, 2);
    let compared =
        |at: usize| plan.participant_step(&plan.nodes[at], ParticipantAction::Reconcile).unwrap();
    let commit = plan.point_of_no_return;
    for at in [0, 1] {
        let mut hasty = plan.clone();
        step_mut(&mut hasty, commit).gates = vec![Gate::Done(compared(at))];
        assert_eq!(proposed(&world, &hasty), "shape", "only {at}");
    }
    // One after the other is as good as both at once.
    let mut chained = plan.clone();
    step_mut(&mut chained, commit).gates = vec![Gate::Done(compared(1))];
    step_mut(&mut chained, compared(1)).gates.push(Gate::Done(compared(0)));
    assert_eq!(proposed(&world, &chained), "accepted");
}

#[test]
fn every_node_can_settle_and_go_back_by_itself() {
    type Spoil = fn(&mut Plan);
    let cases: [(&str, Spoil); 5] = [
        ("no purge", |plan| {
            plan.rollback[1].step.action = Action::Participant(ParticipantAction::Disconnect);
        }),
        ("undoes something else", |plan| plan.rollback[1].undoes = StepId(0)),
        ("waits for the other node", |plan| {
            let other = plan.rollback[0].step.id;
            plan.rollback[3].step.gates.push(Gate::Done(other));
        }),
        ("the other node's", |plan| plan.rollback[4].step.node = plan.nodes[0].clone()),
        ("no way back", |plan| {
            plan.rollback.pop();
        }),
    ];
    let world = World::new(2);
    for (what, spoil) in cases {
        let mut plan = planned(&world, 2);
        spoil(&mut plan);
        assert_eq!(proposed(&world, &plan), "shape", "{what}");
    }
    // Where nothing else is wrong but that one target never settles.
    let mut plan = planned(&world, 2);
    assert_eq!(plan.rollback.len(), 6);
    let last = plan.steps.pop().unwrap();
    assert_eq!(last.action, Action::Participant(ParticipantAction::Settle));
    for back in &mut plan.rollback {
        back.step.id.0 -= 1;
        for gate in &mut back.step.gates {
            if let Gate::Done(before) = gate {
                before.0 -= 1;
            }
        }
    }
    assert_eq!(proposed(&world, &plan), "shape");
}

#[test]
fn a_proposal_rests_on_what_the_nodes_found_not_long_ago() {
    let plan = planned(&World::new(2), 2);
    let node = plan.nodes[0].clone();
    let mut world = World::new(2);
    for epoch in 2..=257 {
        world.accept(&world.ceremony.epoch(Epoch(epoch)));
    }
    let mut late = plan.clone();
    late.participant.as_mut().unwrap().abort_after = None;
    late.not_after = Epoch(900);
    assert_eq!(proposed(&world, &late), "accepted");
    world.accept(&world.ceremony.epoch(Epoch(258)));
    assert_eq!(proposed(&world, &late), "survey-old");

    let mut world = World::new(2);
    let remark = SurveyRemark { weight: RemarkWeight::Blocks, text: "in flight".to_owned() };
    let mut survey = world.survey_of(&node);
    survey.found.remarks.push(remark);
    let survey = world.signed(&node, &survey);
    world.accept(&survey);
    assert_eq!(proposed(&world, &plan), "survey-blocks");

    let mut world = World::new(2);
    let host = world.hosts.get_mut(&node).unwrap();
    host.foreign[0].hosts = vec!["stranger::1220ee".parse().unwrap()];
    let survey = world.survey(&node);
    world.accept(&survey);
    assert_eq!(proposed(&world, &plan), "foreign-party");

    // A node that left the fleet and came back has to look again.
    let mut world = World::new(2);
    let nodes = world.ceremony.nodes(2);
    let fleet = world.ceremony.fleet(Serial(2), nodes[1..].to_vec());
    world.accept(&fleet);
    let fleet = world.ceremony.fleet(Serial(3), nodes);
    world.accept(&fleet);
    assert_eq!(proposed(&world, &plan), "not-surveyed");

    let mut world = World::new(2);
    let policy = world.ceremony.policy_of(Serial(1), &[Code::named("keeper", 1)], &[]);
    let policy = world.ceremony.policy(&policy);
    world.accept(&policy);
    assert_eq!(proposed(&world, &plan), "has-keyring");
}

#[test]
fn a_survey_is_refused_for_each_thing_that_is_changed() {
    type Spoil = fn(&mut ParticipantSurvey);
    let world = World::new(2);
    let node: NodeId = "node-1".parse().unwrap();
    let cases: [(&str, &str, Spoil); 6] = [
        ("nothing", "accepted", |_| {}),
        ("order", "shape", |it| it.found.parties.reverse()),
        ("own party as foreign", "shape", |it| {
            it.found.foreign[0].party = it.found.parties[0].party.clone();
        }),
        ("remark", "shape", |it| {
            let text = "two\nlines".to_owned();
            it.found.remarks.push(SurveyRemark { weight: RemarkWeight::Notes, text });
        }),
        ("domain", "other-domain", |it| {
            it.domain = heirloom_model::identifier::DomainId::new([1; 32]);
        }),
        ("network", "other-network", |it| {
            it.network = heirloom_model::digest::NetworkId::new([1; 32]);
        }),
    ];
    for (what, expected, spoil) in cases {
        let mut survey = world.survey_of(&node);
        spoil(&mut survey);
        assert_eq!(world.refusal(&world.signed(&node, &survey)), expected, "{what}");
    }
    let other: NodeId = "node-2".parse().unwrap();
    let forged = world.signed(&other, &world.survey_of(&node));
    assert_eq!(world.refusal(&forged), "unknown-signer");
}

/// Two nodes, at the moment when the first one shall do this.
fn just_before(action: ParticipantAction) -> (Move, NodeId) {
    let mut it = moving(2);
    let node = it.plan.nodes[0].clone();
    let stop = DriverError::Unknown("test".to_owned());
    lock(&it.world).hosts.get_mut(&node).unwrap().fail.insert(action.name(), stop);
    it.run(|it| {
        let world = lock(&it.world);
        let other = &it.plan.nodes[1];
        let step = it.plan.participant_step(other, action).unwrap();
        let done = world.state.plan(&it.plan.digest()).unwrap().done_at(step).is_some();
        done && world.hosts[&node].calls.contains(&action.name())
    });
    (it, node)
}

fn standing(
    it: &Move,
    node: &NodeId,
    action: ParticipantAction,
    facts: ParticipantFacts,
) -> Envelope {
    let step = it.plan.participant_step(node, action).unwrap();
    let standing = ParticipantStanding {
        network: it.plan.network,
        domain: it.plan.domain,
        node: node.clone(),
        step: PlanStep { plan: it.plan.digest(), step },
        facts,
    };
    lock(&it.world).signed(node, &standing)
}

fn judged(
    it: &Move,
    node: &NodeId,
    action: ParticipantAction,
    facts: ParticipantFacts,
) -> &'static str {
    let envelope = standing(it, node, action, facts);
    lock(&it.world).refusal(&envelope)
}

#[test]
fn what_a_target_is_continues_the_plan() {
    let action = ParticipantAction::Enroll;
    let (it, node) = just_before(action);
    let good = Enrolled { target: target_of(&node), custodian: CustodianKind::Pkcs11 };
    let other = it.plan.nodes[1].clone();
    let cases = [
        ("accepted", good.clone()),
        ("facts-mismatch", Enrolled { custodian: CustodianKind::Aws, ..good.clone() }),
        ("facts-mismatch", Enrolled { target: source_of(&node), ..good.clone() }),
        ("facts-mismatch", Enrolled { target: target_of(&other), ..good.clone() }),
    ];
    for (expected, facts) in cases {
        let found = judged(&it, &node, action, ParticipantFacts::Enrolled(facts.clone()));
        assert_eq!(found, expected, "{facts:?}");
    }
    let wrong_kind = ParticipantFacts::Quiesced(LedgerOffset(1));
    assert_eq!(judged(&it, &node, action, wrong_kind), "facts-mismatch");
    let early = ParticipantFacts::Allocated(Vec::new());
    assert_eq!(judged(&it, &node, ParticipantAction::Allocate, early), "too-early");
    let settled = ParticipantFacts::Enrolled(Enrolled { target: target_of(&other), ..good });
    assert_eq!(judged(&it, &other, action, settled), "already-recorded");
}

#[test]
fn every_party_has_the_same_name_in_the_new_namespace() {
    let action = ParticipantAction::Allocate;
    let (it, node) = just_before(action);
    let from = party_of(&node);
    let to = from.moved_to(&target_of(&node).namespace()).unwrap();
    let good = PartyMove { from: from.clone(), to: to.clone() };
    let elsewhere = "alice::1220ff".parse().unwrap();
    let renamed = "alicia::1220bb0001".parse().unwrap();
    let cases = [
        ("accepted", vec![good.clone()]),
        ("facts-mismatch", Vec::new()),
        ("facts-mismatch", vec![PartyMove { to: elsewhere, ..good.clone() }]),
        ("facts-mismatch", vec![PartyMove { to: renamed, ..good.clone() }]),
        ("facts-mismatch", vec![good.clone(), PartyMove { from: to, ..good }]),
    ];
    for (expected, moves) in cases {
        let found = judged(&it, &node, action, ParticipantFacts::Allocated(moves.clone()));
        assert_eq!(found, expected, "{moves:?}");
    }
}

#[test]
fn a_snapshot_is_taken_where_the_ledger_ended() {
    let action = ParticipantAction::Export;
    let (it, node) = just_before(action);
    let good = lock(&it.world).hosts[&node].snapshot();
    let late = Exported { ledger_end: LedgerOffset(good.ledger_end.0 + 1), ..good };
    assert_eq!(judged(&it, &node, action, ParticipantFacts::Exported(good)), "accepted");
    assert_eq!(judged(&it, &node, action, ParticipantFacts::Exported(late)), "facts-mismatch");
}

fn rewritten_of(it: &Move, like: &NodeId) -> Rewritten {
    let world = lock(&it.world);
    world.state.plan(&it.plan.digest()).unwrap().rewritten(like).unwrap().clone()
}

#[test]
fn a_rewritten_snapshot_continues_what_was_stated() {
    type Spoil = fn(&mut Rewritten);
    let action = ParticipantAction::Rewrite;
    let (it, node) = just_before(action);
    let other = it.plan.nodes[1].clone();
    let mut good = rewritten_of(&it, &other);
    good.source = lock(&it.world).hosts[&node].snapshot().snapshot;
    good.shared[0].node = other;
    let cases: [(&str, &str, Spoil); 6] = [
        ("nothing", "accepted", |_| {}),
        ("source", "facts-mismatch", |it| it.source = SnapshotDigest::new([1; 32])),
        ("map", "facts-mismatch", |it| it.map = PartyMapDigest::new([1; 32])),
        ("contracts", "facts-mismatch", |it| it.contracts += 1),
        ("nobody else", "facts-mismatch", |it| it.shared.clear()),
        ("too many", "facts-mismatch", |it| it.shared[0].contracts = it.contracts + 1),
    ];
    for (what, expected, spoil) in cases {
        let mut facts = good.clone();
        spoil(&mut facts);
        let found = judged(&it, &node, action, ParticipantFacts::Rewritten(facts));
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_target_shows_what_was_imported_and_that_its_custodian_signs() {
    let action = ParticipantAction::Reconcile;
    let (it, node) = just_before(action);
    let good = Reconciled {
        contracts: 2,
        ids: digest_of(&lock(&it.world).hosts[&node].imported),
        signer: target_of(&node).namespace(),
        ledger_end: LedgerOffset(41),
    };
    let cases = [
        ("accepted", good.clone()),
        ("facts-mismatch", Reconciled { contracts: 1, ..good.clone() }),
        ("facts-mismatch", Reconciled { ids: ContractSetDigest::new([1; 32]), ..good.clone() }),
        ("facts-mismatch", Reconciled { signer: source_of(&node).namespace(), ..good }),
    ];
    for (expected, facts) in cases {
        let found = judged(&it, &node, action, ParticipantFacts::Reconciled(facts.clone()));
        assert_eq!(found, expected, "{facts:?}");
    }
}

#[test]
fn only_the_agent_of_the_node_states_something_about_it() {
    let action = ParticipantAction::Quiesce;
    let (it, node) = just_before(action);
    let other = it.plan.nodes[1].clone();
    let step = it.plan.participant_step(&node, action).unwrap();
    let good = ParticipantStanding {
        network: it.plan.network,
        domain: it.plan.domain,
        node: node.clone(),
        step: PlanStep { plan: it.plan.digest(), step },
        facts: ParticipantFacts::Quiesced(LedgerOffset(40)),
    };
    let world = lock(&it.world);
    assert_eq!(world.refusal(&world.signed(&node, &good)), "accepted");
    assert_eq!(world.refusal(&world.signed(&other, &good)), "unknown-signer");
    let foreign = ParticipantStanding { node: other.clone(), ..good };
    assert_eq!(world.refusal(&world.signed(&other, &foreign)), "wrong-step");
}

#[test]
fn no_result_without_what_its_step_states() {
    for action in [
        ParticipantAction::Enroll,
        ParticipantAction::Allocate,
        ParticipantAction::Quiesce,
        ParticipantAction::Export,
        ParticipantAction::Rewrite,
        ParticipantAction::Reconcile,
    ] {
        let (it, node) = just_before(action);
        let step = it.plan.participant_step(&node, action).unwrap();
        let world = lock(&it.world);
        let result = world.ceremony.result(&it.plan, step);
        assert_eq!(world.refusal(&result), "not-stated", "{}", action.name());
    }
    let mut world = World::new(1);
    let plan = planned(&world, 1);
    approve(&mut world, &plan);
    let result = world.ceremony.result(&plan, StepId(0));
    assert_eq!(world.refusal(&result), "not-stated", "a survey from before the plan");
    let survey = world.survey(&plan.nodes[0]);
    world.accept(&survey);
    assert_eq!(world.refusal(&result), "accepted");
}

#[test]
fn no_result_before_consent_and_concord() {
    let (mut it, node) = just_before(ParticipantAction::Allocate);
    it.agrees = false;
    lock(&it.world).hosts.get_mut(&node).unwrap().fail.clear();
    let digest = it.plan.digest();
    it.run(|it| lock(&it.world).state.plan(&digest).unwrap().settled_map().is_ok());
    let supply = it.plan.participant_step(&node, ParticipantAction::Supply).unwrap();
    let result = lock(&it.world).ceremony.result(&it.plan, supply);
    assert_eq!(lock(&it.world).refusal(&result), "not-consented");
    it.agree();
    assert_eq!(lock(&it.world).refusal(&result), "accepted");

    let mut it = moving(2);
    lock(&it.world).hosts.get_mut(&node).unwrap().stubborn = true;
    let rewrite = it.plan.participant_step(&it.plan.nodes[1], ParticipantAction::Rewrite).unwrap();
    it.run(|it| lock(&it.world).state.plan(&digest).unwrap().done_at(rewrite).is_some());
    let safeguard = it.plan.participant_step(&node, ParticipantAction::Safeguard).unwrap();
    let result = lock(&it.world).ceremony.result(&it.plan, safeguard);
    let refusal = lock(&it.world).refusal(&result);
    // Either agent may have called it off already.
    assert!(["disagreed", "plan-status", "too-early"].contains(&refusal), "{refusal}");
}

/// A plan of two nodes whose party map is settled, and the agreement of the first operator to it.
fn settled() -> (Move, MapAgreement) {
    let (mut it, node) = just_before(ParticipantAction::Allocate);
    it.agrees = false;
    let digest = it.plan.digest();
    lock(&it.world).hosts.get_mut(&node).unwrap().fail.clear();
    it.run(|it| lock(&it.world).state.plan(&digest).unwrap().settled_map().is_ok());
    let operator = lock(&it.world).operator_of(&node);
    let map = it.asked(|plan| plan.settled_map().unwrap());
    let agreement = MapAgreement { network: it.plan.network, plan: digest, operator, map };
    (it, agreement)
}

fn agreed(it: &Move, agreement: &MapAgreement, signer: &OperatorId) -> &'static str {
    let world = lock(&it.world);
    world.refusal(&world.agreed(agreement, signer))
}

#[test]
fn nobody_agrees_before_the_map_is_whole() {
    let (it, node) = just_before(ParticipantAction::Allocate);
    let operator = lock(&it.world).operator_of(&node);
    let early = MapAgreement {
        network: it.plan.network,
        plan: it.plan.digest(),
        operator: operator.clone(),
        map: PartyMapDigest::new([0; 32]),
    };
    assert_eq!(agreed(&it, &early, &operator), "not-stated");
}

#[test]
fn an_agreement_counts_for_one_map_by_the_key_of_its_operator() {
    type Spoil = fn(&mut MapAgreement);
    let (it, good) = settled();
    let first = good.operator.clone();
    let second = lock(&it.world).operator_of(&it.plan.nodes[1]);
    let cases: [(&str, Spoil); 5] = [
        ("accepted", |_| {}),
        ("other-network", |it| it.network = heirloom_model::digest::NetworkId::new([1; 32])),
        ("unknown-plan", |it| it.plan = heirloom_model::digest::PlanDigest::new([1; 32])),
        ("not-its-operator", |it| it.operator = "stranger".parse().unwrap()),
        ("other-map", |it| it.map = PartyMapDigest::new([0; 32])),
    ];
    for (expected, spoil) in cases {
        let mut agreement = good.clone();
        spoil(&mut agreement);
        assert_eq!(agreed(&it, &agreement, &first), expected);
    }
    assert_eq!(agreed(&it, &good, &second), "not-operators-key");
    // Of the role, and named by the fleet, for an operator who runs nothing here.
    assert_eq!(agreed(&it, &good, &"operator-0".parse().unwrap()), "not-operators-key");
    let by_agent = lock(&it.world).signed(&it.plan.nodes[0], &good);
    let refusal = lock(&it.world).refusal(&by_agent);
    assert_eq!(refusal, "unknown-signer");
    let envelope = lock(&it.world).agreed(&good, &first);
    lock(&it.world).accept(&envelope);
    assert_eq!(agreed(&it, &good, &first), "already-recorded");
    let other = MapAgreement { operator: second.clone(), ..good };
    assert_eq!(agreed(&it, &other, &first), "not-operators-key");
    assert_eq!(agreed(&it, &other, &second), "accepted");
}

#[test]
fn an_operator_without_a_key_in_the_fleet_cannot_agree_and_is_named() {
    let (it, good) = settled();
    let named = lock(&it.world).operators();
    let others = named.iter().filter(|known| known.operator != good.operator).cloned().collect();
    let fleet = lock(&it.world).fleet_with(others);
    lock(&it.world).accept(&fleet);
    assert_eq!(agreed(&it, &good, &good.operator), "no-operator-key");
    let refusal = {
        let world = lock(&it.world);
        let envelope = wire::encode(&world.agreed(&good, &good.operator));
        world.state.clone().judge(&envelope).unwrap_err().to_string()
    };
    let expected = format!("names no key of {}: publish a fleet with its key", good.operator);
    assert!(refusal.contains(&expected), "{refusal}");
    let fleet = lock(&it.world).fleet_with(named);
    lock(&it.world).accept(&fleet);
    assert_eq!(agreed(&it, &good, &good.operator), "accepted");
}

/// What was agreed with a key that became somebody else's counts no more, and that key does not
/// speak twice.
#[test]
fn a_fleet_with_other_keys_ends_what_was_agreed_with_the_old_ones() {
    let (it, good) = settled();
    let second = lock(&it.world).operator_of(&it.plan.nodes[1]);
    let (before, other) =
        (good.operator.clone(), MapAgreement { operator: second, ..good.clone() });
    let envelope = lock(&it.world).agreed(&good, &before);
    lock(&it.world).accept(&envelope);
    let missing = |it: &Move| {
        let world = lock(&it.world);
        let plan = world.state.plan(&it.plan.digest()).unwrap();
        world.state.disagreeing(plan).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(missing(&it), std::slice::from_ref(&other.operator));
    let mut swapped = lock(&it.world).operators();
    let key = |of: &OperatorId, all: &[OperatorKey]| {
        all.iter().position(|known| known.operator == *of).unwrap()
    };
    let (one, two) = (key(&before, &swapped), key(&other.operator, &swapped));
    let of_one = swapped[one].key;
    swapped[one].key = swapped[two].key;
    swapped[two].key = of_one;
    let fleet = lock(&it.world).fleet_with(swapped);
    lock(&it.world).accept(&fleet);
    assert_eq!(missing(&it), [before.clone(), other.operator.clone()]);
    // The ceremony still calls the keys by their old names.
    assert_eq!(agreed(&it, &other, &before), "speaks-for-other");
    assert_eq!(agreed(&it, &good, &before), "not-operators-key");
    assert_eq!(agreed(&it, &good, &other.operator), "accepted");
}

#[test]
fn nobody_agrees_by_an_expired_fleet() {
    let (it, good) = settled();
    let mut world = lock(&it.world);
    let known = world.state.fleet().unwrap();
    let mut fleet = world.ceremony.fleet_of(known.serial.next().unwrap(), known.nodes.clone());
    fleet.not_after = world.state.now().unwrap();
    let fleet = world.ceremony.signed_fleet(&fleet);
    world.accept(&fleet);
    let agreement = world.agreed(&good, &good.operator);
    assert_eq!(world.refusal(&agreement), "accepted");
    let next = world.ceremony.epoch(Epoch(world.state.epoch().0 + 1));
    world.accept(&next);
    assert_eq!(world.refusal(&agreement), "expired");
}

#[test]
fn consent_to_a_plan_lasts_as_long_as_its_deadline() {
    let mut world = World::new(1);
    let plan = planned(&world, 1);
    let proposal = world.ceremony.proposal(&plan);
    world.accept(&proposal);
    let short = world.ceremony.approval(plan.digest(), 0, Epoch(29));
    assert_eq!(world.refusal(&short), "approval-too-short");
    let enough = world.ceremony.approval(plan.digest(), 0, Epoch(30));
    assert_eq!(world.refusal(&enough), "accepted");
}
