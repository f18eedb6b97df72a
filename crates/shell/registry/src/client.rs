//! The log store that calls a server.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::{ENVELOPE_BYTES_MAX, LOG_BATCH_BYTES_MAX, LOG_ENTRIES_MAX};
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, Timeout};

use crate::message::{
    Addresses, Announcement, ENTRY_LENGTH_BYTES, Failure, Head, JSON_BYTES_MAX, PRESENCE_BYTES_MAX,
    Present, WATCH_MS_MAX,
};

/// A server in the same data centre answers a connection at once, or is gone.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// The largest batch over a slow line.
const CALL_TIME_MAX: Duration = Duration::from_mins(2);
/// What framing adds to a batch: entries have indices, hashes and lengths.
const FRAMES_BYTES_MAX: usize = LOG_ENTRIES_MAX * 256;

/// Calls one registry. Each call tries once; retries belong to the caller.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    agent: Agent,
    base: String,
}

impl RegistryClient {
    /// A client of the server at `base`: `http://host:port`, or `host:port`. Nothing is called
    /// yet.
    pub fn new(base: &str) -> Self {
        let base = base.trim_end_matches('/');
        let scheme = if base.contains("://") { "" } else { "http://" };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_global(Some(CALL_TIME_MAX))
            // A connection that was kept may be found dead only after a statement was sent on
            // it; then nobody knows whether it was appended.
            .max_idle_connections(0)
            .max_redirects(0)
            .proxy(None)
            .build();
        Self { agent: Agent::new_with_config(config), base: format!("{scheme}{base}") }
    }

    /// Where the server is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Hands in what an agent says about where its node can be reached. An
    /// [`Announcer`](crate::announcer::Announcer) says it in the right order.
    pub fn announce(&self, node: &NodeId, said: &Announcement) -> Result<(), ReadError> {
        let body = serde_json::to_vec(said);
        let body = body.map_err(|error| ReadError::Refused { reason: error.to_string() })?;
        let url = format!("{}/v1/presence/{node}", self.base);
        let request = self.agent.put(url).header("content-type", "application/json");
        let response = request.send(&body[..]).map_err(|error| unreachable(&error))?;
        success(response).map(drop)
    }

    /// Where nodes can be reached now, as they said. Nothing vouches for it: whoever connects
    /// demands evidence.
    pub fn presence(&self) -> Result<BTreeMap<NodeId, String>, ReadError> {
        let response = success(self.get("/v1/presence", CALL_TIME_MAX)?)?;
        let addresses: Addresses = json(response, PRESENCE_BYTES_MAX)?;
        let parse = |(node, said): (String, Present)| {
            let node: NodeId = node.parse().map_err(|error| corrupt(&error))?;
            Ok((node, said.address))
        };
        addresses.nodes.into_iter().map(parse).collect()
    }

    fn get(&self, path: &str, time: Duration) -> Result<Response<Body>, ReadError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let request = request.config().timeout_global(Some(time)).build();
        request.call().map_err(|error| unreachable(&error))
    }

    fn position(&self, path: &str, time: Duration) -> Result<LogPosition, ReadError> {
        let head: Head = json(success(self.get(path, time)?)?, JSON_BYTES_MAX)?;
        LogPosition::try_from(&head).map_err(|error| corrupt(&error))
    }
}

impl LogStore for RegistryClient {
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError> {
        let found = envelope.len();
        if found > ENVELOPE_BYTES_MAX {
            return Err(AppendError::TooLarge { found, limit: ENVELOPE_BYTES_MAX });
        }
        let url = format!("{}/v1/append?expected={expected}", self.base);
        let request = self.agent.post(url).header("content-type", "application/octet-stream");
        let response = request.send(envelope).map_err(|error| not_appended(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(append_error(status, failure(response), found));
        }
        // From here on the server has said yes; what cannot be read is a doubt, not a no.
        let unknown = |reason: String| AppendError::Unknown { reason };
        let head: Head =
            json(response, JSON_BYTES_MAX).map_err(|error| unknown(error.to_string()))?;
        let head = LogPosition::try_from(&head).map_err(|error| unknown(error.to_string()))?;
        if head.length <= expected {
            return Err(unknown(format!("the registry says that it has {} entries", head.length)));
        }
        Ok(head)
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        self.position("/v1/head", CALL_TIME_MAX)
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        let path = format!("/v1/entries?from={from}&max={}", max.min(LOG_ENTRIES_MAX));
        let response = success(self.get(&path, CALL_TIME_MAX)?)?;
        let bytes = body(response, LOG_BATCH_BYTES_MAX.saturating_add(FRAMES_BYTES_MAX))?;
        let entries = entries(&bytes)?;
        if entries.len() > max {
            return Err(ReadError::Corrupt { reason: "it sent more than was asked".to_owned() });
        }
        check_order(from, &entries)?;
        Ok(entries)
    }

    fn watch(&self, from: LogIndex, timeout: Duration) -> Result<LogPosition, ReadError> {
        let wait_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).min(WATCH_MS_MAX);
        let path = format!("/v1/watch?from={from}&wait_ms={wait_ms}");
        // The server answers when the wait is over; the rest is for the way there and back.
        self.position(&path, Duration::from_millis(wait_ms) + CONNECT_TIME_MAX * 2)
    }
}

/// Splits a batch into its entries.
fn entries(mut bytes: &[u8]) -> Result<Vec<LogEntry>, ReadError> {
    let cut = || ReadError::Corrupt { reason: "it sent part of an entry".to_owned() };
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<ENTRY_LENGTH_BYTES>().ok_or_else(cut)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut())?;
        let (entry, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        entries.push(wire::decode(entry).map_err(|error| corrupt(&error))?);
        bytes = rest;
    }
    Ok(entries)
}

/// Refuses a batch with a gap or a fork in it. That it continues what the caller knows is for
/// the caller to see.
fn check_order(from: LogIndex, entries: &[LogEntry]) -> Result<(), ReadError> {
    let Some(first) = entries.first() else { return Ok(()) };
    let mut position = LogPosition { length: from, head: first.previous };
    for entry in entries {
        position = position.advance(entry).map_err(|error| corrupt(&error))?;
    }
    Ok(())
}

/// The response, if the server did what it was asked.
fn success(response: Response<Body>) -> Result<Response<Body>, ReadError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let refused = |reason| Err(ReadError::Refused { reason });
    match failure(response) {
        Some(Failure::Corrupt { reason }) => Err(ReadError::Corrupt { reason }),
        Some(Failure::Unavailable { reason } | Failure::Unknown { reason }) => {
            Err(ReadError::Unreachable { reason })
        }
        Some(
            Failure::Malformed { reason }
            | Failure::Refused { reason, .. }
            | Failure::Full { reason },
        ) => refused(reason),
        Some(Failure::TooLarge { limit }) => refused(format!("more than the {limit} allowed")),
        Some(Failure::Conflict { .. }) | None => {
            Err(ReadError::Unreachable { reason: foreign(status) })
        }
    }
}

/// What the server says about a request that it did not carry out, if it is a registry.
fn failure(response: Response<Body>) -> Option<Failure> {
    json(response, JSON_BYTES_MAX).ok()
}

fn append_error(status: StatusCode, failure: Option<Failure>, found: usize) -> AppendError {
    match failure {
        Some(Failure::Conflict { head }) => match LogPosition::try_from(&head) {
            Ok(head) => AppendError::Conflict { head },
            Err(error) => AppendError::Corrupt { reason: error.to_string() },
        },
        Some(Failure::Refused { code, reason }) => AppendError::Refused { code, reason },
        Some(Failure::Malformed { reason }) => {
            AppendError::Refused { code: "malformed".to_owned(), reason }
        }
        Some(Failure::TooLarge { limit }) => AppendError::TooLarge { found, limit },
        Some(Failure::Full { reason }) => AppendError::Full { reason },
        Some(Failure::Corrupt { reason }) => AppendError::Corrupt { reason },
        Some(Failure::Unavailable { reason }) => AppendError::Unreachable { reason },
        Some(Failure::Unknown { reason }) => AppendError::Unknown { reason },
        // A proxy that gave up does not know either.
        None if status.is_server_error() => AppendError::Unknown { reason: foreign(status) },
        None => AppendError::Unreachable { reason: foreign(status) },
    }
}

fn foreign(status: StatusCode) -> String {
    format!("what answers there is no registry: HTTP status {status}")
}

fn body(mut response: Response<Body>, limit: usize) -> Result<Vec<u8>, ReadError> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let read = response.body_mut().with_config().limit(limit).read_to_vec();
    read.map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(limit) => {
            ReadError::Corrupt { reason: format!("it sent more than {limit} bytes") }
        }
        other => unreachable(&other),
    })
}

fn json<T: DeserializeOwned>(response: Response<Body>, limit: usize) -> Result<T, ReadError> {
    serde_json::from_slice(&body(response, limit)?).map_err(|error| corrupt(&error))
}

fn corrupt(error: &dyn Error) -> ReadError {
    ReadError::Corrupt { reason: error.to_string() }
}

fn unreachable(error: &ureq::Error) -> ReadError {
    ReadError::Unreachable { reason: error.to_string() }
}

/// Sorts what went wrong by whether the statement can have reached the server.
fn not_appended(error: &ureq::Error) -> AppendError {
    let reason = error.to_string();
    let never_sent = match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::BadUri(_)
        | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        _ => false,
    };
    if never_sent { AppendError::Unreachable { reason } } else { AppendError::Unknown { reason } }
}
