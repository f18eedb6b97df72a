//! What services change, what they say of themselves, and what operators say about them, as JSON.

use heirloom_model::service::{
    KeyCustody, KeyShown, PeerSeen, Rehearsal, Revocation, ServiceChange, Standing, Terms, Tip,
    Writing,
};
use serde_json::{Value, json};

use crate::view::{placement, plan_step, position};

/// What a plan does with a service.
pub(crate) fn change(change: &ServiceChange) -> Value {
    json!({
        "application": change.application.to_string(),
        "from": placement(&change.from),
        "to": placement(&change.to),
        "terms": terms(&change.terms),
        "opens": change.opens.0,
        "abort_after": change.abort_after.0,
    })
}

fn terms(terms: &Terms) -> Value {
    let keys: Vec<Value> = terms
        .keys
        .iter()
        .map(|key| json!({ "key": key.key.to_string(), "custody": custody(key.custody) }))
        .collect();
    json!({
        "digest": terms.digest().to_string(),
        "from": terms.from.release.to_string(),
        "from_program": terms.from.program.to_string(),
        "to": terms.to.release.to_string(),
        "to_program": terms.to.program.to_string(),
        "configuration_from": terms.configuration_from.to_string(),
        "configuration_to": terms.configuration_to.to_string(),
        "schema_from": terms.schema_from.0,
        "schema_to": terms.schema_to.0,
        "migrations": terms.migrations.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "tests": terms.tests.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "keys": keys,
        "quiet_ms": terms.quiet_milliseconds,
        "watch_ms": terms.watch_milliseconds,
        "errors_max": terms.errors_max,
        "clients_min": terms.clients_min,
    })
}

/// What a service says of itself.
pub(crate) fn standing(standing: &Standing) -> Value {
    json!({
        "network": standing.network.to_string(),
        "domain": standing.domain.to_string(),
        "node": standing.node.to_string(),
        "step": plan_step(&standing.step),
        "application": standing.application.to_string(),
        "measurement": standing.measurement.to_string(),
        "configuration": standing.configuration.to_string(),
        "schema": standing.schema.map(|schema| schema.0),
        "loaded": standing.loaded.as_ref().map(tip),
        "tip": standing.tip.as_ref().map(tip),
        "writing": match standing.writing {
            Writing::Active => "active",
            Writing::Frozen => "frozen",
        },
        "pending": standing.pending,
        "admission": standing.admission.name(),
        "quiet_ms": standing.quiet_milliseconds,
        "peers": standing.peers.iter().map(peer).collect::<Vec<_>>(),
        "keys": standing.keys.iter().map(key).collect::<Vec<_>>(),
        "fork": standing.fork.as_ref().map(tip),
    })
}

/// The end of a ledger.
pub(crate) fn tip(tip: &Tip) -> Value {
    json!({ "height": tip.height.0, "id": tip.id.to_string() })
}

fn peer(peer: &PeerSeen) -> Value {
    json!({
        "node": peer.node.to_string(),
        "measurement": peer.measurement.to_string(),
        "configuration": peer.configuration.to_string(),
    })
}

fn key(key: &KeyShown) -> Value {
    json!({
        "key": key.key.to_string(),
        "custody": custody(key.custody),
        "public": key.public.map(|public| public.to_string()),
    })
}

/// The word for what keeps a key alive.
pub(crate) fn custody(custody: KeyCustody) -> &'static str {
    match custody {
        KeyCustody::Keyring => "keyring",
        KeyCustody::PerBoot => "per-boot",
    }
}

pub(crate) fn rehearsal(rehearsal: &Rehearsal) -> Value {
    json!({
        "network": rehearsal.network.to_string(),
        "terms": rehearsal.terms.to_string(),
        "rehearsed_on": rehearsal.rehearsed_on.to_string(),
        "plan": rehearsal.plan.to_string(),
        "seen": position(&rehearsal.seen),
    })
}

pub(crate) fn revocation(revocation: &Revocation) -> Value {
    json!({
        "network": revocation.network.to_string(),
        "plan": revocation.plan.to_string(),
    })
}
