//! The service as operators see it.

use heirloom_model::measurement::Measurement;
use heirloom_model::service::{KeyCustody, ServiceStatus, Tip, Writing};
use heirloom_registry::network::NetworkState;
use heirloom_upgrade::port::{EdgeAdmission, ServiceObservation};
use serde_json::{Map, Value, json};

use super::node::Node;
use super::state::Desired;

/// Everything that is known about it.
pub(crate) fn json(
    node: &mut Node,
    seen: Option<&ServiceObservation>,
    state: &NetworkState,
) -> Value {
    let desired = node.state.now().clone();
    let distributes = node.distributor.is_running();
    let mut all = json!({
        "application": node.setup.config.application.as_str(),
        "peers_expected": node.setup.config.peers.len(),
        "edge_connections": node.edge_seen.connections,
        "distribution": if distributes { "running" } else { "stopped" },
        "under_way": node.tool.under_way(),
        "wanted": if desired.code().is_some() { "running" } else { "halted" },
        "wanted_admission": desired.admission.name(),
        "trouble": node.trouble,
        "waiting": node.waits.as_ref().map(|(_, text)| text),
    });
    let Some(seen) = seen else {
        all["state"] = "unknown".into();
        return all;
    };
    let code = seen.running_code().or(seen.silent.first());
    let named = code.or(seen.installed.as_ref());
    let release = named.and_then(|code| state.releases_with(*code).next());
    let snapshots: Map<String, Value> =
        seen.snapshots.iter().map(|(plan, at)| (plan.to_string(), tip(at))).collect();
    let exercised = |step: &heirloom_model::domain::PlanStep| json!({ "plan": step.plan.to_string(), "step": step.step.0 });
    let observed = json!({
        "state": word(&desired, seen),
        "installed": seen.installed.map(|code| code.to_string()),
        "release": release.map(|release| release.name.to_string()),
        "code": code.map(Measurement::to_string),
        "edge": seen.edge.map(|edge| match edge {
            EdgeAdmission::Closed => "closed",
            EdgeAdmission::Open => "open",
        }),
        "snapshots": snapshots,
        "migrated": seen.migrated.map(|plan| plan.to_string()),
        "exercised": seen.exercised.iter().map(exercised).collect::<Vec<_>>(),
        "database_held": seen.database_held,
        "drift": seen.drift,
    });
    merge(&mut all, observed);
    merge(&mut all, running(seen.running.as_deref()));
    all
}

/// What the instance says, or nulls.
fn running(status: Option<&ServiceStatus>) -> Value {
    let Some(status) = status else {
        let names = [
            "tip",
            "loaded",
            "schema",
            "admission",
            "writing",
            "pending",
            "quiet_ms",
            "open_ms",
            "errors",
            "peers",
            "fork",
            "waits_for",
            "keys",
            "instance",
            "configuration",
        ];
        let mut none: Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        none.insert("peers_connected".to_owned(), 0.into());
        return Value::Object(none);
    };
    let peers = status.peers.iter().map(|peer| {
        json!({
            "node": peer.node.as_str(),
            "measurement": peer.measurement.to_string(),
            "configuration": peer.configuration.to_string(),
        })
    });
    let keys = status.keys.iter().map(|key| {
        json!({
            "key": key.key.as_str(),
            "custody": match key.custody {
                KeyCustody::Keyring => "keyring",
                KeyCustody::PerBoot => "per boot",
            },
            "public": key.public.map(|public| public.to_string()),
        })
    });
    json!({
        "instance": status.instance.to_string(),
        "configuration": status.configuration.to_string(),
        "tip": status.tip.as_ref().map(tip),
        "loaded": status.loaded.as_ref().map(tip),
        "schema": status.schema.map(|schema| schema.0),
        "admission": status.admission.name(),
        "writing": match status.writing {
            Writing::Active => "active",
            Writing::Frozen => "frozen",
        },
        "pending": status.pending,
        "quiet_ms": status.quiet_milliseconds,
        "open_ms": status.open_milliseconds,
        "errors": status.errors,
        "peers_connected": status.peers.len(),
        "peers": peers.collect::<Vec<_>>(),
        "keys": keys.collect::<Vec<_>>(),
        "fork": status.fork.as_ref().map(tip),
        "waits_for": status.waits_for,
    })
}

/// One word for how it is.
fn word(desired: &Desired, seen: &ServiceObservation) -> &'static str {
    match &seen.running {
        Some(status) if status.writing == Writing::Frozen => "frozen",
        Some(status) => status.admission.name(),
        None if !seen.silent.is_empty() => "silent",
        None if desired.installed.is_none() => "not installed",
        None if desired.code().is_none() => "halted",
        None => "down",
    }
}

fn tip(tip: &Tip) -> Value {
    json!({ "height": tip.height.0, "id": tip.id.to_string() })
}

fn merge(all: &mut Value, more: Value) {
    if let (Value::Object(all), Value::Object(more)) = (all, more) {
        all.extend(more);
    }
}
