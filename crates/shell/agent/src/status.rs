//! A node's status in the shape that Oasis operators know (`control status`, up to 22.2).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heirloom_model::admin::{KeeperStatus, SealingAge};
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;
use heirloom_registry::activity::Activity;
use heirloom_registry::domain::DomainState;
use heirloom_registry::network::NetworkState;
use heirloom_upgrade::port::Observation;
use serde_json::{Value, json};

/// The whole status. What is ours and not Oasis's stands under `heirloom`.
///
/// Where one keeper is meant, it is the one that serves, else the installed one, else any.
pub fn status_json(state: &NetworkState, observed: &Observation) -> Value {
    let Some(keeper) = foremost(observed) else {
        let mut own = on_node(state, observed);
        own["running"] = false.into();
        return json!({ "keymanager": { "status": "stopped" }, "heirloom": own });
    };
    json!({
        "registration": registration(state, keeper),
        "keymanager": key_manager(state, keeper),
        "heirloom": own(state, observed, keeper),
    })
}

/// The instance that a status is about.
fn foremost(observed: &Observation) -> Option<&KeeperStatus> {
    let seats = || observed.seats().map(|(_, status)| status);
    let keeper = || seats().find(|status| status.role == HolderRole::Keeper);
    observed.serving().or_else(keeper).or_else(|| seats().next())
}

fn registration(state: &NetworkState, keeper: &KeeperStatus) -> Value {
    let registered = state
        .domain(&keeper.domain)
        .and_then(|domain| domain.registration_with(&keeper.node, &keeper.measurement))
        .filter(|registered| *registered.instance() == keeper.instance);
    let extra_info = keeper.extra_info.as_ref().map(|info| STANDARD.encode(&info.0));
    json!({
        "last_registration": registered.map(|registered| registered.at().0),
        "descriptor": {
            "runtimes": [{
                "id": keeper.domain.to_string(),
                "capabilities": {
                    "tee": { "hardware": 1, "rak": STANDARD.encode(keeper.instance.as_bytes()) },
                },
                "extra_info": extra_info,
            }],
            "roles": "key-manager",
        },
    })
}

fn key_manager(state: &NetworkState, keeper: &KeeperStatus) -> Value {
    let policy = state.policy(&keeper.domain);
    let clients: Vec<String> = policy
        .map(|policy| policy.applications.iter().map(|rule| rule.application.to_string()).collect())
        .unwrap_or_default();
    let access: Vec<Value> = policy
        .map(|policy| {
            let peers = |rule: &heirloom_model::policy::ApplicationRule| {
                json!({
                    "runtime_id": rule.application.to_string(),
                    "peers": [rule.measurement.to_string()],
                })
            };
            policy.applications.iter().map(peers).collect()
        })
        .unwrap_or_default();
    let private: Vec<String> = state
        .nodes_of(keeper.domain)
        .filter(|node| node.node != keeper.node)
        .map(|node| node.node.to_string())
        .collect();
    json!({
        "status": oasis_word(keeper.state),
        "may_generate": keeper.may_generate,
        "runtime_id": keeper.domain.to_string(),
        "client_runtimes": clients,
        "access_list": access,
        "private_peers": private,
    })
}

fn own(state: &NetworkState, observed: &Observation, keeper: &KeeperStatus) -> Value {
    let running = json!({
        "running": true,
        "state": keeper.state.to_string(),
        "node": keeper.node.to_string(),
        "network": keeper.network.to_string(),
        "measurement": keeper.measurement.to_string(),
        "instance": keeper.instance.to_string(),
        "generation": keeper.holding.map(|holding| holding.generation.0),
        "checksum": keeper.holding.map(|holding| holding.checksum.to_string()),
        "origin": keeper.holding.map(|holding| format!("{:?}", holding.origin).to_lowercase()),
        "agrees_with_log": agrees(state, keeper),
        "progress": progress(keeper),
        "policy_serial": keeper.policy.map(|policy| policy.serial.0),
        "log_length": keeper.position.length.0,
        "log_behind": state.position().length.0.saturating_sub(keeper.position.length.0),
        "epoch": state.epoch().0,
        "activity": activity(state, keeper),
        "unreadable": keeper.unreadable.as_ref().map(ToString::to_string),
        "volatile": keeper.volatile.map(|reason| reason.to_string()),
        "behind": keeper.behind.map(|gap| gap.to_string()),
        "uncounted": keeper.uncounted,
        "requests_served": keeper.requests_served,
        "requests_refused": keeper.requests_refused,
    });
    let mut all = on_node(state, observed);
    if let (Value::Object(all), Value::Object(running)) = (&mut all, running) {
        all.extend(running);
    }
    all
}

fn agrees(state: &NetworkState, keeper: &KeeperStatus) -> bool {
    let committed = state.domain(&keeper.domain).and_then(|domain| domain.committed());
    match (&keeper.holding, committed) {
        (Some(holding), Some(committed)) => {
            holding.generation == committed.generation && holding.checksum == committed.checksum
        }
        (Some(_) | None, None) | (None, Some(_)) => false,
    }
}

fn progress(keeper: &KeeperStatus) -> Option<Value> {
    let progress = keeper.progress?;
    Some(json!({ "received": progress.received, "wanted": progress.wanted }))
}

/// Who answers in an exclusive domain, as the log says; null where everybody may.
fn activity(state: &NetworkState, keeper: &KeeperStatus) -> Value {
    match state.domain(&keeper.domain).map(DomainState::activity) {
        None | Some(Activity::None) => Value::Null,
        Some(Activity::Active(active)) => json!({
            "status": "active",
            "node": active.node().to_string(),
            "measurement": active.measurement().to_string(),
            "instance": active.instance().to_string(),
            "here": *active.instance() == keeper.instance,
            "since": active.at().0,
        }),
        Some(Activity::Suspended(holder)) => json!({
            "status": "suspended",
            "node": holder.node().to_string(),
            "measurement": holder.measurement().to_string(),
            "instance": holder.instance().to_string(),
            "here": *holder.instance() == keeper.instance,
            "since": holder.at().0,
        }),
    }
}

/// What is there whether a keeper runs or not.
fn on_node(state: &NetworkState, observed: &Observation) -> Value {
    let texts = |measurements: &BTreeSet<Measurement>| -> Vec<String> {
        measurements.iter().map(ToString::to_string).collect()
    };
    let seats: Vec<Value> =
        observed.running.values().map(|status| seat(state, observed, status)).collect();
    json!({
        "installed": text(observed.installed.as_ref()),
        "live_state_of": texts(&observed.live),
        "quarantined_state_of": texts(&observed.quarantined),
        "silent": texts(&observed.silent),
        "seats": seats,
    })
}

/// One running instance.
fn seat(state: &NetworkState, observed: &Observation, status: &KeeperStatus) -> Value {
    let release = state.releases_with(status.measurement).next();
    json!({
        "measurement": status.measurement.to_string(),
        "release": release.map(|release| release.name.to_string()),
        "role": status.role.name(),
        "state": status.state.to_string(),
        "instance": status.instance.to_string(),
        "address": status.address,
        "sealing": match status.sealing {
            SealingAge::Current => "current",
            SealingAge::Older => "older",
        },
        "generation": status.holding.map(|holding| holding.generation.0),
        "checksum": status.holding.map(|holding| holding.checksum.to_string()),
        "origin": status.holding.map(|holding| format!("{:?}", holding.origin).to_lowercase()),
        "requests_served": status.requests_served,
        "installed": observed.installed == Some(status.measurement),
        "progress": progress(status),
    })
}

/// Our states in Oasis's words. A keeper without keys is `ready` there; here it is `starting`.
fn oasis_word(state: ServingState) -> &'static str {
    match state {
        ServingState::Ready => "ready",
        ServingState::Starting
        | ServingState::Empty
        | ServingState::Replicating
        | ServingState::Standby
        | ServingState::Unattended => "starting",
        ServingState::Draining | ServingState::Suspended | ServingState::Superseded => "stopped",
        ServingState::Unreadable
        | ServingState::RolledBack
        | ServingState::Withdrawn
        | ServingState::Carrying
        | ServingState::Uncounted => "disabled",
    }
}

fn text(value: Option<&impl ToString>) -> Option<String> {
    value.map(ToString::to_string)
}
