//! The agent's own interface: read-only, plain HTTP, for the CLI and for people with curl.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use heirloom_model::wire;
use heirloom_store::journal_file::JournalFile;
use heirloom_upgrade::journal::JournalEntry;
use serde_json::{Value, json};

use crate::freshness::Freshness;

/// What the loop last said about itself.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What the last tick came to.
    pub tick: String,
    /// What is awaited, or what went wrong.
    pub waiting: Vec<String>,
    /// What is wrong although the agent goes on.
    pub warnings: Vec<String>,
    /// The node's status, as Oasis operators know it.
    pub status: Value,
    /// Whether that is how it is now.
    pub freshness: Freshness,
}

#[derive(Clone)]
struct Shared {
    report: Arc<Mutex<Report>>,
    journal: PathBuf,
}

/// Serves on a thread of its own. Fails at once if the address cannot be used.
pub fn serve(address: &str, journal: PathBuf, report: Arc<Mutex<Report>>) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/waiting", get(waiting))
        .route("/v1/journal", get(entries))
        .with_state(Shared { report, journal });
    std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    if let Err(error) = axum::serve(listener, app).await {
                        tracing::error!(%error, "the agent's interface ended");
                    }
                }
                Err(error) => tracing::error!(%error, "the agent's interface did not start"),
            }
        });
    })?;
    Ok(())
}

/// An agent that has just started knows nothing about its node, which is not the same as
/// knowing that there is nothing.
async fn status(State(shared): State<Shared>) -> Response {
    let report = shared.report.lock().unwrap_or_else(PoisonError::into_inner);
    let shown = report.freshness.show(report.status.clone(), Instant::now());
    if shown.is_null() {
        let message = "the agent has not looked at its node yet\n";
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    }
    Json(shown).into_response()
}

async fn waiting(State(shared): State<Shared>) -> Json<Value> {
    let report = shared.report.lock().unwrap_or_else(PoisonError::into_inner);
    let mut warnings = report.freshness.warnings(Instant::now());
    warnings.extend_from_slice(&report.warnings);
    Json(json!({
        "tick": report.tick,
        "waiting": report.waiting,
        "warnings": warnings,
    }))
}

async fn entries(State(shared): State<Shared>) -> Response {
    match JournalFile::inspect(&shared.journal) {
        Ok(records) => {
            let lines: Vec<String> = records.iter().map(|record| line(record)).collect();
            lines.concat().into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// One record as a line of JSON.
fn line(record: &[u8]) -> String {
    let value = match wire::decode::<JournalEntry>(record) {
        Ok(entry) => json!({
            "sequence": entry.sequence,
            "written": entry.written.0,
            "previous": entry.previous.to_string(),
            "record": format!("{:?}", entry.record),
        }),
        Err(error) => json!({ "corrupt": error.to_string() }),
    };
    format!("{value}\n")
}
