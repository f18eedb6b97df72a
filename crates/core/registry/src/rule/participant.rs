//! What nodes find out about their participants, and what operators agree to.

use heirloom_model::envelope::Envelope;
use heirloom_model::limit::{
    FOREIGN_PARTIES_MAX, NOTE_CHARACTERS_MAX, PARTICIPANT_PARTIES_MAX, PARTY_HOSTS_MAX,
    SURVEY_REMARKS_MAX, SYNCHRONIZERS_MAX,
};
use heirloom_model::participant::{
    Enrolled, Exported, MapAgreement, ParticipantChange, ParticipantFacts, ParticipantMove,
    ParticipantStanding, ParticipantSurvey, PartyMove, Reconciled, Rewritten, SurveyFindings,
};
use heirloom_model::plan::{Action, ParticipantAction, Step};
use heirloom_model::root::Role;

use super::custody::verify_agent;
use super::fleet::node_in;
use super::plan::{check_open, current_plan};
use super::{Change, same_network};
use crate::network::NetworkState;
use crate::plan::{PlanState, PlanStatus};
use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, require};
use crate::verified::verify_one;

pub(crate) fn examine_survey(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let unverified: ParticipantSurvey = envelope.unverified().map_err(Refusal::Malformed)?;
    same_network(state, unverified.network)?;
    let agent = node_in(state, &unverified.node, &unverified.domain)?.agent;
    let (survey, _) = verify_agent::<ParticipantSurvey>(envelope, agent)?;
    check_findings(&survey.found)?;
    Ok(Change::Survey(Box::new(survey)))
}

fn check_findings(found: &SurveyFindings) -> Result<(), Refusal> {
    ascending("survey.routes", &found.routes, SYNCHRONIZERS_MAX, |route| route.from.clone())?;
    let parties = PARTICIPANT_PARTIES_MAX;
    ascending("survey.parties", &found.parties, parties, |party| party.party.clone())?;
    let foreign = FOREIGN_PARTIES_MAX;
    ascending("survey.foreign", &found.foreign, foreign, |party| party.party.clone())?;
    for party in &found.foreign {
        ascending("survey.foreign.hosts", &party.hosts, PARTY_HOSTS_MAX, Clone::clone)?;
        let own = found.parties.binary_search_by(|own| own.party.cmp(&party.party)).is_ok();
        require(!own, "survey.foreign", Fault::Unexpected)?;
    }
    let limit = SURVEY_REMARKS_MAX;
    let fault = Fault::TooLong { found: found.remarks.len(), limit };
    require(found.remarks.len() <= limit, "survey.remarks", fault)?;
    // People read them in a terminal.
    let plain = |text: &str| {
        text.chars().count() <= NOTE_CHARACTERS_MAX && !text.chars().any(char::is_control)
    };
    let plain = found.remarks.iter().all(|remark| plain(&remark.text));
    require(plain, "survey.remarks.text", Fault::Unexpected)
}

pub(crate) fn examine_standing(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let unverified: ParticipantStanding = envelope.unverified().map_err(Refusal::Malformed)?;
    same_network(state, unverified.network)?;
    let plan = current_plan(state, &unverified.step.plan)?;
    let agent = node_in(state, &unverified.node, &plan.plan().domain)?.agent;
    let (standing, _) = verify_agent::<ParticipantStanding>(envelope, agent)?;
    let id = standing.step.step;
    let wrong = |reason| Err(Refusal::WrongStep { step: id, reason });
    if plan.plan().domain != standing.domain {
        return wrong("belongs to another domain");
    }
    let change = change_of(plan)?;
    let step = plan.plan().step(id).ok_or(Refusal::UnknownStep { step: id })?;
    if step.node != standing.node {
        return wrong("belongs to another node");
    }
    if let Some(at) = plan.done_at(id) {
        return Err(Refusal::AlreadyRecorded { what: "result of this step", at });
    }
    if let Some(seen) = plan.participant_standing(id)
        && seen.standing().facts == standing.facts
    {
        return Err(Refusal::AlreadyRecorded { what: "statement of this node", at: seen.at() });
    }
    if !plan.allows(id) {
        return Err(Refusal::PlanStatus { status: plan.status() });
    }
    check_open(state, plan, step)?;
    check_facts(plan, change, step, &standing.facts)?;
    Ok(Change::ParticipantStanding(Box::new(standing)))
}

/// What a plan does with participants.
pub(crate) fn change_of(plan: &PlanState) -> Result<&ParticipantChange, Refusal> {
    let change = plan.plan().participant.as_ref();
    change.ok_or(Refusal::NoParticipant { plan: *plan.digest() })
}

fn agree(holds: bool, what: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::FactsMismatch { what }) }
}

/// Each step states the facts of its own name, and they continue what was stated before.
fn check_facts(
    plan: &PlanState,
    change: &ParticipantChange,
    step: &Step,
    facts: &ParticipantFacts,
) -> Result<(), Refusal> {
    let moved = change.move_of(&step.node);
    let moved = moved.ok_or(Refusal::PlanMismatch { what: "nodes" })?;
    let Action::Participant(action) = step.action else { return agree(false, "kind") };
    match (action, facts) {
        (ParticipantAction::Enroll, ParticipantFacts::Enrolled(enrolled)) => {
            check_enrolled(plan, moved, enrolled)
        }
        (ParticipantAction::Allocate, ParticipantFacts::Allocated(moves)) => {
            check_allocated(plan, moved, moves)
        }
        (ParticipantAction::Quiesce, ParticipantFacts::Quiesced(_)) => Ok(()),
        (ParticipantAction::Export, ParticipantFacts::Exported(exported)) => {
            let quiet = plan.quiesced(&step.node);
            agree(quiet == Some(exported.ledger_end), "ledger end")
        }
        (ParticipantAction::Rewrite, ParticipantFacts::Rewritten(rewritten)) => {
            check_rewritten(plan, step, rewritten)
        }
        (ParticipantAction::Reconcile, ParticipantFacts::Reconciled(reconciled)) => {
            check_reconciled(plan, step, reconciled)
        }
        _ => agree(false, "kind"),
    }
}

fn check_enrolled(
    plan: &PlanState,
    moved: &ParticipantMove,
    enrolled: &Enrolled,
) -> Result<(), Refusal> {
    agree(enrolled.custodian == moved.custodian, "custodian")?;
    // A target with the namespace of the source would take its parties' names too.
    let is_new = enrolled.target.namespace() != moved.source.namespace();
    agree(is_new, "namespace")?;
    let others = plan.plan().nodes.iter().filter(|node| **node != moved.node);
    let taken =
        others.filter_map(|node| plan.enrolled(node)).any(|other| other.target == enrolled.target);
    agree(!taken, "target")
}

/// Every party of the plan, and no other, has the same name in the namespace of the target.
fn check_allocated(
    plan: &PlanState,
    moved: &ParticipantMove,
    moves: &[PartyMove],
) -> Result<(), Refusal> {
    let enrolled = plan.enrolled(&moved.node).ok_or(Refusal::FactsMismatch { what: "target" })?;
    let namespace = enrolled.target.namespace();
    agree(moves.iter().map(|party| &party.from).eq(&moved.parties), "parties")?;
    let named = |party: &PartyMove| party.from.moved_to(&namespace).as_ref() == Ok(&party.to);
    agree(moves.iter().all(named), "new names")
}

fn check_rewritten(plan: &PlanState, step: &Step, rewritten: &Rewritten) -> Result<(), Refusal> {
    let exported: &Exported =
        plan.exported(&step.node).ok_or(Refusal::FactsMismatch { what: "export" })?;
    agree(rewritten.source == exported.snapshot, "source snapshot")?;
    agree(rewritten.contracts == exported.contracts, "number of contracts")?;
    let map = plan.party_map().map(|(digest, _)| digest);
    agree(map == Some(rewritten.map), "party map")?;
    let others = plan.plan().nodes.iter().filter(|node| **node != step.node);
    agree(rewritten.shared.iter().map(|shared| &shared.node).eq(others), "other nodes")?;
    let few = rewritten.shared.iter().all(|shared| shared.contracts <= rewritten.contracts);
    agree(few, "shared contracts")
}

fn check_reconciled(plan: &PlanState, step: &Step, found: &Reconciled) -> Result<(), Refusal> {
    let rewritten = plan.rewritten(&step.node);
    let rewritten = rewritten.ok_or(Refusal::FactsMismatch { what: "rewritten snapshot" })?;
    agree(found.contracts == rewritten.contracts, "number of contracts")?;
    agree(found.ids == rewritten.ids, "contract ids")?;
    let target = plan.enrolled(&step.node).map(|enrolled| enrolled.target.namespace());
    agree(target.as_ref() == Some(&found.signer), "signer")
}

pub(crate) fn examine_agreement(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let operators = state.quorum(Role::Operator)?;
    let (agreement, key) = verify_one::<MapAgreement>(envelope, operators.of, operators.keys)?;
    same_network(state, agreement.network)?;
    let plan = current_plan(state, &agreement.plan)?;
    change_of(plan)?;
    match plan.status() {
        PlanStatus::Approved | PlanStatus::ApprovalLapsed => {}
        status @ (PlanStatus::Proposed
        | PlanStatus::Expired
        | PlanStatus::RollingBack
        | PlanStatus::RolledBack
        | PlanStatus::PastNoReturn
        | PlanStatus::Finished) => return Err(Refusal::PlanStatus { status }),
    }
    let runs = |node| state.node(node).is_some_and(|node| node.operator == agreement.operator);
    if !plan.plan().nodes.iter().any(runs) {
        return Err(Refusal::NotItsOperator { operator: agreement.operator.clone() });
    }
    state.speaks_for(&agreement.operator, key)?;
    // Until every node has a result, the map can change.
    let expected = plan.settled_map().map_err(|step| Refusal::NotStated { step })?;
    if expected != agreement.map {
        return Err(Refusal::OtherMap { expected, found: agreement.map });
    }
    if let Some(seen) = state.agreement_of(plan, &agreement.operator) {
        return Err(Refusal::AlreadyRecorded { what: "agreement of this operator", at: seen.at() });
    }
    // One person does not speak for two operators, also if a fleet gave him another name since.
    let mut others = plan.agreements().iter().filter(|(other, _)| **other != agreement.operator);
    if let Some((other, _)) = others.find(|(_, seen)| *seen.key() == key) {
        return Err(Refusal::SpeaksForOther { key, operator: other.clone() });
    }
    Ok(Change::Agreement(agreement, key))
}

/// Refuses the result of a step whose facts are not in the log.
pub(crate) fn check_result(
    state: &NetworkState,
    plan: &PlanState,
    step: &Step,
    action: ParticipantAction,
) -> Result<(), Refusal> {
    if action == ParticipantAction::Survey {
        let change = change_of(plan)?;
        let not_stated = Refusal::NotStated { step: step.id };
        let seen = state.survey(&step.node).ok_or(not_stated.clone())?;
        if seen.at() <= plan.proposed_at() {
            return Err(not_stated);
        }
        let moved = change.move_of(&step.node).ok_or(not_stated)?;
        return match moved.difference(&seen.survey().found) {
            None => Ok(()),
            Some(what) => Err(Refusal::SurveyDiffers { node: step.node.clone(), what }),
        };
    }
    if states(action) && plan.participant_standing(step.id).is_none() {
        return Err(Refusal::NotStated { step: step.id });
    }
    Ok(())
}

/// Whether a step puts facts into the log.
pub(crate) fn states(action: ParticipantAction) -> bool {
    match action {
        ParticipantAction::Enroll
        | ParticipantAction::Allocate
        | ParticipantAction::Quiesce
        | ParticipantAction::Export
        | ParticipantAction::Rewrite
        | ParticipantAction::Reconcile => true,
        ParticipantAction::Survey
        | ParticipantAction::Supply
        | ParticipantAction::Safeguard
        | ParticipantAction::Import
        | ParticipantAction::Connect
        | ParticipantAction::Settle
        | ParticipantAction::Disconnect
        | ParticipantAction::Purge
        | ParticipantAction::Reconnect => false,
    }
}
