//! Participants that move to another key store, as JSON.

use heirloom_model::participant::{
    MapAgreement, ParticipantChange, ParticipantFacts, ParticipantMove, ParticipantStanding,
    ParticipantSurvey, PartyMove, SharedContracts, SurveyFindings, SynchronizerRoute,
};
use serde_json::{Value, json};

use crate::view::plan_step;

/// What a plan does with participants.
pub(crate) fn change(change: &ParticipantChange) -> Value {
    json!({
        "moves": change.moves.iter().map(moved).collect::<Vec<_>>(),
        "opens": change.opens.0,
        "abort_after": change.abort_after.map(|epoch| epoch.0),
    })
}

fn moved(moved: &ParticipantMove) -> Value {
    json!({
        "node": moved.node.to_string(),
        "source": moved.source.to_string(),
        "source_version": moved.source_version.to_string(),
        "target_version": moved.target_version.to_string(),
        "custodian": moved.custodian.name(),
        "routes": moved.routes.iter().map(route).collect::<Vec<_>>(),
        "parties": moved.parties.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn route(route: &SynchronizerRoute) -> Value {
    json!({ "from": route.from.to_string(), "to": route.to.to_string() })
}

/// What a node found.
pub(crate) fn survey(survey: &ParticipantSurvey) -> Value {
    json!({
        "network": survey.network.to_string(),
        "domain": survey.domain.to_string(),
        "node": survey.node.to_string(),
        "found": findings(&survey.found),
    })
}

/// What a survey finds.
pub(crate) fn findings(found: &SurveyFindings) -> Value {
    let parties = found
        .parties
        .iter()
        .map(|party| json!({ "party": party.party.to_string(), "kind": party.kind.name() }));
    let foreign = found.foreign.iter().map(|foreign| {
        let hosts: Vec<String> = foreign.hosts.iter().map(ToString::to_string).collect();
        json!({ "party": foreign.party.to_string(), "hosts": hosts })
    });
    let remarks = found
        .remarks
        .iter()
        .map(|remark| json!({ "weight": remark.weight.name(), "text": remark.text }));
    json!({
        "source": found.source.to_string(),
        "source_version": found.source_version.to_string(),
        "target_version": found.target_version.to_string(),
        "custodian": found.custodian.name(),
        "target": found.target.as_ref().map(ToString::to_string),
        "routes": found.routes.iter().map(route).collect::<Vec<_>>(),
        "parties": parties.collect::<Vec<_>>(),
        "foreign": foreign.collect::<Vec<_>>(),
        "packages": found.packages,
        "contracts": found.contracts,
        "ledger_end": found.ledger_end.0,
        "remarks": remarks.collect::<Vec<_>>(),
    })
}

/// What a node states for a step.
pub(crate) fn standing(standing: &ParticipantStanding) -> Value {
    json!({
        "network": standing.network.to_string(),
        "domain": standing.domain.to_string(),
        "node": standing.node.to_string(),
        "step": plan_step(&standing.step),
        "facts": stated(&standing.facts),
    })
}

/// What was stated, under its name.
pub(crate) fn stated(stated: &ParticipantFacts) -> Value {
    json!({ stated.name(): facts(stated) })
}

fn facts(facts: &ParticipantFacts) -> Value {
    match facts {
        ParticipantFacts::Enrolled(enrolled) => json!({
            "target": enrolled.target.to_string(),
            "custodian": enrolled.custodian.name(),
        }),
        ParticipantFacts::Allocated(moves) => moves.iter().map(party).collect(),
        ParticipantFacts::Quiesced(ledger_end) => json!({ "ledger_end": ledger_end.0 }),
        ParticipantFacts::Exported(exported) => json!({
            "ledger_end": exported.ledger_end.0,
            "snapshot": exported.snapshot.to_string(),
            "contracts": exported.contracts,
        }),
        ParticipantFacts::Rewritten(rewritten) => json!({
            "source": rewritten.source.to_string(),
            "map": rewritten.map.to_string(),
            "snapshot": rewritten.snapshot.to_string(),
            "contracts": rewritten.contracts,
            "ids": rewritten.ids.to_string(),
            "shared": rewritten.shared.iter().map(shared).collect::<Vec<_>>(),
        }),
        ParticipantFacts::Reconciled(reconciled) => json!({
            "contracts": reconciled.contracts,
            "ids": reconciled.ids.to_string(),
            "signer": reconciled.signer.to_string(),
            "ledger_end": reconciled.ledger_end.0,
        }),
    }
}

fn party(moved: &PartyMove) -> Value {
    json!({ "from": moved.from.to_string(), "to": moved.to.to_string() })
}

fn shared(shared: &SharedContracts) -> Value {
    json!({
        "node": shared.node.to_string(),
        "contracts": shared.contracts,
        "ids": shared.ids.to_string(),
    })
}

/// Consent to a party map.
pub(crate) fn agreement(agreement: &MapAgreement) -> Value {
    json!({
        "network": agreement.network.to_string(),
        "plan": agreement.plan.to_string(),
        "operator": agreement.operator.to_string(),
        "map": agreement.map.to_string(),
    })
}
