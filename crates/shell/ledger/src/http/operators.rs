//! What operators and their tools ask, at the side door.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use heirloom_model::identifier::NodeId;
use heirloom_model::service::{KeyCustody, ServiceStatus, Tip, Writing};
use serde_json::{Value, json};

use crate::http::Shared;
use crate::service::Service;

pub(super) async fn health(State(shared): State<Shared>) -> Response {
    let status = shared.service.chain().status();
    match status.broken {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "fork\n").into_response(),
    }
}

pub(super) async fn admin(State(shared): State<Shared>) -> Json<Value> {
    Json(describe(&shared.service))
}

/// Everything that a node knows about itself.
pub fn describe(service: &Service) -> Value {
    let status = service.status();
    let mut described = describe_status(&status);
    let own = service.instance().own();
    let tips: Vec<Value> = service
        .positions_now()
        .iter()
        .map(|(node, position)| {
            json!({
                "node": node.as_str(),
                "tip": describe_tip(position.tip),
                "pending": position.pending,
            })
        })
        .collect();
    let more = json!({
        "schema_version": "heirloom.ledger-admin.v1",
        "node": own.node.as_str(),
        "network": own.network.to_string(),
        "application": own.application.as_str(),
        "peers_expected": own.peers.iter().map(NodeId::as_str).collect::<Vec<_>>(),
        "peer_tips": tips,
        "refused_peers": service.refused(),
        "refused_peers_last": service.refused_last(),
        "closed_answers": service.closed.load(Ordering::Relaxed),
        "accepted": service.chain().accepted.load(Ordering::Relaxed),
        "leader": leads(service),
    });
    if let (Value::Object(described), Value::Object(more)) = (&mut described, more) {
        described.extend(more);
    }
    described
}

fn leads(service: &Service) -> bool {
    let own = crate::raft::types::number(&service.instance().own().node);
    service.raft().is_some_and(|raft| raft.metrics().borrow().current_leader == Some(own))
}

/// A status, for programs.
pub fn describe_status(status: &ServiceStatus) -> Value {
    let keys = status.keys.iter().map(|key| {
        let custody = match key.custody {
            KeyCustody::Keyring => "keyring",
            KeyCustody::PerBoot => "per boot",
        };
        let public = key.public.map(|public| public.to_string());
        json!({ "key": key.key.as_str(), "custody": custody, "public": public })
    });
    let peers = status.peers.iter().map(|peer| {
        json!({
            "node": peer.node.as_str(),
            "measurement": peer.measurement.to_string(),
            "configuration": peer.configuration.to_string(),
        })
    });
    json!({
        "measurement": status.measurement.to_string(),
        "instance": status.instance.to_string(),
        "configuration": status.configuration.to_string(),
        "schema": status.schema.map(|schema| schema.0),
        "loaded": status.loaded.map(describe_tip),
        "tip": status.tip.map(describe_tip),
        "writing": match status.writing {
            Writing::Active => "active",
            Writing::Frozen => "frozen",
        },
        "pending": status.pending,
        "admission": status.admission.name(),
        "quiet_ms": status.quiet_milliseconds,
        "peers": peers.collect::<Vec<_>>(),
        "keys": keys.collect::<Vec<_>>(),
        "fork": status.fork.map(describe_tip),
        "errors": status.errors,
        "open_ms": status.open_milliseconds,
        "waits_for": status.waits_for,
    })
}

fn describe_tip(tip: Tip) -> Value {
    json!({ "height": tip.height.0, "id": tip.id.to_string() })
}

pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let content_type = [(axum::http::header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (content_type, exposition(&shared.service)).into_response()
}

/// The metrics as Prometheus reads them.
fn exposition(service: &Service) -> String {
    let status = service.status();
    let height = status.tip.map_or(0, |tip| tip.height.0);
    let peers = u64::try_from(status.peers.len()).unwrap_or(u64::MAX);
    let is_open = u64::from(status.admission == heirloom_model::service::Admission::Open);
    let rows = [
        ("ledger_height", "gauge", "Blocks of the ledger.", height),
        ("ledger_pending", "gauge", "Transactions that wait for a block.", status.pending),
        ("ledger_peers_attested", "gauge", "Peers with an attested session.", peers),
        ("ledger_open", "gauge", "Whether clients are let in.", is_open),
        ("ledger_fork", "gauge", "Whether a fork was seen.", u64::from(status.fork.is_some())),
        ("ledger_leader", "gauge", "Whether this node proposes.", u64::from(leads(service))),
        ("ledger_errors_total", "counter", "Answers that were an own error.", status.errors),
        (
            "ledger_closed_total",
            "counter",
            "Answers that the node is closed.",
            service.closed.load(Ordering::Relaxed),
        ),
        (
            "ledger_accepted_total",
            "counter",
            "Transactions taken from clients of this node.",
            service.chain().accepted.load(Ordering::Relaxed),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        // Writing into a string cannot fail.
        write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n").ok();
    }
    text.push_str("# HELP ledger_peers_refused_total Peers that were refused.\n");
    text.push_str("# TYPE ledger_peers_refused_total counter\n");
    for (reason, count) in service.refused() {
        writeln!(text, "ledger_peers_refused_total{{reason=\"{reason}\"}} {count}").ok();
    }
    text
}
