//! What the server does with each request.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use heirloom_model::causes::with_causes;
use heirloom_model::counter::LogIndex;
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::{ENVELOPE_BYTES_MAX, LOG_ENTRIES_MAX};
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_registry::port::{AnnounceError, AppendError, LogStore, PresenceTable, ReadError};
use heirloom_registry::refusal::Refusal;
use serde::Deserialize;
use tokio::sync::watch;

use crate::message::{
    Addresses, Announcement, Failure, Head, JSON_BYTES_MAX, Present, WATCH_MS_MAX,
};
use crate::presence::{acceptable, stale};

/// A request that takes longer is given up: the largest statement over a slow line.
const REQUEST_TIME_MAX: Duration = Duration::from_mins(2);

/// What every request works on.
pub(crate) struct Service {
    pub(crate) log: Box<dyn LogStore>,
    /// The fold of the log, up to its end as far as this server knows. Holding it is the right to
    /// append here; the log decides between servers.
    pub(crate) state: Mutex<NetworkState>,
    pub(crate) followed: watch::Sender<Followed>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) presence: Box<dyn PresenceTable>,
}

/// How far the log has been followed.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    pub(crate) position: LogPosition,
    /// Why nobody knows now whether there is more.
    pub(crate) lost: Option<ReadError>,
}

type Shared = State<Arc<Service>>;

pub(crate) fn router(service: Arc<Service>) -> Router {
    let large = DefaultBodyLimit::max(ENVELOPE_BYTES_MAX);
    Router::new()
        .route("/v1/append", post(append).layer(large))
        .route("/v1/entries", get(entries))
        .route("/v1/watch", get(wait))
        .route("/v1/head", get(head))
        .route("/v1/presence", get(addresses))
        .route("/v1/presence/{node}", put(announce))
        .route("/v1/healthz", get(health))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .layer(from_fn(within_time))
        .with_state(service)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppendQuery {
    expected: u64,
}

async fn append(
    State(service): Shared,
    query: Result<Query<AppendQuery>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Head>, Failure> {
    let Query(AppendQuery { expected }) = query.map_err(|error| malformed(&error))?;
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::TooLarge { limit: ENVELOPE_BYTES_MAX },
        _ => malformed(&error),
    })?;
    // Judging verifies signatures and appending flushes a disk: neither belongs on the threads
    // that answer everybody else. The task ends even if the caller has gone.
    let appending = move || service.append(LogIndex(expected), &body);
    let appended = tokio::task::spawn_blocking(appending).await;
    let lost = |_| Failure::Unknown { reason: "the server failed while appending".to_owned() };
    appended.map_err(lost)?.map(|position| Json(position.into()))
}

impl Service {
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, Failure> {
        let mut state = self.state.lock().map_err(|_| Failure::Unavailable {
            reason: "the server failed during an earlier append: start it again".to_owned(),
        })?;
        if state.position().length != expected {
            // Another server may have appended.
            self.catch_up(&mut state).map_err(read_failure)?;
        }
        let before = state.position();
        if before.length != expected {
            return Err(Failure::Conflict { head: before.into() });
        }
        let kind = match state.judge(envelope) {
            Ok(kind) => kind,
            Err(refusal) => {
                // It may be refused for what the log was, and not for what it is.
                self.catch_up(&mut state).map_err(read_failure)?;
                if state.position() != before {
                    return Err(Failure::Conflict { head: state.position().into() });
                }
                tracing::warn!(code = refusal.code(), "a statement is refused");
                return Err(refused(&refusal));
            }
        };
        // The log takes it only behind the entries with which it was judged.
        let position = match self.log.append(expected, envelope) {
            Ok(position) => position,
            Err(AppendError::Conflict { head }) => {
                // Whoever reads next finds what stands there; nothing was appended.
                drop(self.catch_up(&mut state));
                return Err(Failure::Conflict { head: head.into() });
            }
            Err(error) => return Err(append_failure(error)),
        };
        let entry = LogEntry::following(&before, envelope.to_vec());
        let _applied = state.apply(&entry).map_err(|broken| corrupt(&broken))?;
        tracing::info!(kind = kind.name(), index = entry.index.0, "a statement is appended");
        self.tell(position);
        Ok(position)
    }

    /// Follows the log to its end.
    pub(crate) fn catch_up(&self, state: &mut NetworkState) -> Result<(), ReadError> {
        loop {
            let entries = self.log.read(state.position().length, LOG_ENTRIES_MAX)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                let applied = state.apply(&entry);
                let _applied = applied
                    .map_err(|broken| ReadError::Corrupt { reason: with_causes(&broken) })?;
            }
        }
        self.tell(state.position());
        Ok(())
    }

    /// Wakes whoever waits for this.
    fn tell(&self, position: LogPosition) {
        self.followed.send_replace(Followed { position, lost: None });
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntriesQuery {
    from: u64,
    max: Option<usize>,
}

async fn entries(
    State(service): Shared,
    query: Result<Query<EntriesQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(EntriesQuery { from, max }) = query.map_err(|error| malformed(&error))?;
    let max = max.unwrap_or(LOG_ENTRIES_MAX);
    let reading = move || service.log.read(LogIndex(from), max);
    let read = tokio::task::spawn_blocking(reading).await;
    let lost = |_| Failure::Unavailable { reason: "the server failed while reading".to_owned() };
    let entries = read.map_err(lost)?.map_err(read_failure)?;
    let mut bytes = Vec::new();
    for entry in &entries {
        let entry = wire::encode(entry);
        let length = u32::try_from(entry.len()).map_err(|error| corrupt(&error))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&entry);
    }
    Ok(([(CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchQuery {
    from: u64,
    wait_ms: u64,
}

/// Waits without holding a thread: whatever is appended, here or elsewhere, is followed.
async fn wait(
    State(service): Shared,
    query: Result<Query<WatchQuery>, QueryRejection>,
) -> Result<Json<Head>, Failure> {
    let Query(WatchQuery { from, wait_ms }) = query.map_err(|error| malformed(&error))?;
    let mut followed = service.followed.subscribe();
    let mut stopping = service.stopping.clone();
    let there = followed.wait_for(|followed| followed.position.length.0 > from);
    tokio::select! {
        _ = there => {}
        () = tokio::time::sleep(Duration::from_millis(wait_ms.min(WATCH_MS_MAX))) => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    let Followed { position, lost } = service.followed.borrow().clone();
    match lost {
        // It is there, whatever may be behind it.
        Some(_) if position.length.0 > from => Ok(Json(position.into())),
        Some(error) => Err(read_failure(error)),
        None => Ok(Json(position.into())),
    }
}

async fn head(State(service): Shared) -> Result<Json<Head>, Failure> {
    // Another server may have appended: the log knows.
    let read = tokio::task::spawn_blocking(move || service.log.head()).await;
    let lost = |_| Failure::Unavailable { reason: "the server failed while reading".to_owned() };
    read.map_err(lost)?.map(|position| Json(position.into())).map_err(read_failure)
}

async fn health(State(service): Shared) -> Result<&'static str, Failure> {
    match service.followed.borrow().lost.clone() {
        Some(error) => Err(read_failure(error)),
        None => Ok("ok\n"),
    }
}

async fn announce(
    State(service): Shared,
    Path(node): Path<String>,
    body: Result<Json<Announcement>, JsonRejection>,
) -> Result<StatusCode, Failure> {
    let node: NodeId = node.parse().map_err(|error| malformed(&error))?;
    let Json(announcement) = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::TooLarge { limit: JSON_BYTES_MAX },
        _ => malformed(&error),
    })?;
    // Whoever appends holds the fold while a disk is flushed: that is waited for elsewhere.
    let announcing = move || service.announce(node, announcement);
    let lost = |_| Failure::Unavailable { reason: "the server failed while listening".to_owned() };
    tokio::task::spawn_blocking(announcing).await.map_err(lost)??;
    Ok(StatusCode::NO_CONTENT)
}

impl Service {
    /// Keeps an address that the agent of a node of the fleet has signed.
    fn announce(&self, node: NodeId, announcement: Announcement) -> Result<(), Failure> {
        let refused =
            |code: &str, reason: String| Failure::Refused { code: code.to_owned(), reason };
        let (network, agent) = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let agent = state.node(&node).map(|member| member.agent).ok_or_else(|| {
                refused("presence-unknown-node", format!("the fleet has no node {node}"))
            })?;
            (state.network(), agent)
        };
        let vouched = announcement
            .verify(&network, node, &agent)
            .map_err(|error| refused("presence-not-vouched", with_causes(&error)))?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        let (node, said) = acceptable(vouched, unix_ms)?;
        self.presence.announce(&node, &said).map_err(|error| match error {
            AnnounceError::Stale => stale(&error.to_string()),
            AnnounceError::TooMany { limit } => Failure::TooLarge { limit },
            AnnounceError::Table(error) => read_failure(error),
        })
    }
}

async fn addresses(State(service): Shared) -> Result<Json<Addresses>, Failure> {
    let read = tokio::task::spawn_blocking(move || service.presence.present()).await;
    let lost = |_| Failure::Unavailable { reason: "the server failed while reading".to_owned() };
    let present = read.map_err(lost)?.map_err(read_failure)?;
    let nodes = present.into_iter().map(|(node, said)| {
        let ttl_ms = u64::try_from(said.ttl.as_millis()).unwrap_or(u64::MAX);
        (node.to_string(), Present { address: said.address, ttl_ms })
    });
    Ok(Json(Addresses { nodes: nodes.collect() }))
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        // An append may still end well after this.
        Err(_) => {
            Failure::Unknown { reason: "the request took too long".to_owned() }.into_response()
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Corrupt { .. } | Self::Unknown { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
}

fn malformed(error: &dyn Error) -> Failure {
    Failure::Malformed { reason: with_causes(error) }
}

fn corrupt(error: &dyn Error) -> Failure {
    Failure::Corrupt { reason: with_causes(error) }
}

fn refused(refusal: &Refusal) -> Failure {
    Failure::Refused { code: refusal.code().to_owned(), reason: with_causes(refusal) }
}

fn append_failure(error: AppendError) -> Failure {
    match error {
        AppendError::Conflict { head } => Failure::Conflict { head: head.into() },
        AppendError::Refused { code, reason } => Failure::Refused { code, reason },
        AppendError::TooLarge { limit, .. } => Failure::TooLarge { limit },
        AppendError::Full { reason } => Failure::Full { reason },
        AppendError::Unreachable { reason } => Failure::Unavailable { reason },
        AppendError::Corrupt { reason } => Failure::Corrupt { reason },
        AppendError::Unknown { reason } => Failure::Unknown { reason },
    }
}

fn read_failure(error: ReadError) -> Failure {
    match error {
        ReadError::Unreachable { reason } | ReadError::Refused { reason } => {
            Failure::Unavailable { reason }
        }
        ReadError::Corrupt { reason } => Failure::Corrupt { reason },
    }
}
