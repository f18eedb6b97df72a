//! What is in requests and answers. Keys, ids and encodings are hexadecimal text.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use heirloom_model::service::Tip;
use serde::{Deserialize, Serialize};

/// Says that the node is closed, and no error.
pub const CLOSED_HEADER: &str = "x-ledger-closed";

/// Where a ledger ends.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TipMessage {
    /// How many blocks.
    pub height: u64,
    /// The last of them.
    pub id: String,
}

impl From<Tip> for TipMessage {
    fn from(tip: Tip) -> Self {
        Self { height: tip.height.0, id: tip.id.to_string() }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TransactionMessage {
    /// Its id.
    pub id: String,
    /// `settled`, `waiting` or `unknown`.
    pub status: String,
    /// Its block, once it is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// The id of its block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
}

/// Who a node is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct InfoMessage {
    /// The newest client protocol that it speaks.
    pub protocol: u32,
    /// The oldest that it serves.
    pub client_protocol_min: u32,
    /// The network.
    pub network: String,
    /// The node.
    pub node: String,
    /// Its code.
    pub measurement: String,
    /// The key of the instance.
    pub instance: String,
    /// What it has configured.
    pub configuration: String,
    /// The schema of its database.
    pub schema: u32,
    /// Where its ledger ends.
    pub tip: TipMessage,
    /// Whose work it takes.
    pub admission: String,
    /// The smallest fee.
    pub minimum_fee: u64,
    /// How far ahead of the next block a tombstone may be.
    pub tombstone_distance_max: u64,
    /// The key for hints of private payments.
    pub view: String,
    /// The key to which requests are sealed that no host may read.
    pub door: String,
    /// The encoding of evidence for network, node, and the three keys.
    pub evidence: String,
}

/// Outputs of a key that can be spent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OutputsMessage {
    /// The outputs, sorted by id.
    pub outputs: Vec<OutputMessage>,
    /// What to give as `after` to see more.
    pub next: Option<String>,
}

/// An output that can be spent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OutputMessage {
    /// Its id.
    pub output: String,
    /// How much it is.
    pub amount: u64,
    /// The block in which it was made.
    pub height: u64,
}

/// A block.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BlockMessage {
    /// Its place.
    pub height: u64,
    /// Its id.
    pub id: String,
    /// The block before.
    pub parent: String,
    /// The ids of its transactions.
    pub transactions: Vec<String>,
    /// The code that proposed it, if it was proposed.
    pub measurement: Option<String>,
    /// The node that proposed it, if it was proposed.
    pub node: Option<String>,
    /// The key of the instance that proposed it.
    pub instance: Option<String>,
}

/// Why a request is not answered as it was meant.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FailureMessage {
    /// The word for programs.
    pub error: String,
    /// Why, for people.
    pub reason: String,
}

/// Why a request is not answered as it was meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The node takes nobody's work here.
    Closed,
    /// Too much waits: come back.
    Busy,
    /// The request is none.
    Malformed(String),
    /// The transaction does not count.
    Invalid(String),
    /// What it spends is spent, or is being spent.
    Spent(String),
    /// There is none.
    Missing(&'static str),
    /// The request is not signed by whom it is about.
    Signature(String),
    /// The node's own fault.
    Broken(String),
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error, reason) = match self {
            Self::Closed => {
                let reason = "the node is closed: come back later".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "closed", reason)
            }
            Self::Busy => {
                let reason = "too much waits: come back later".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "busy", reason)
            }
            Self::Malformed(reason) => (StatusCode::BAD_REQUEST, "malformed", reason),
            Self::Invalid(reason) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", reason),
            Self::Spent(reason) => (StatusCode::CONFLICT, "spent", reason),
            Self::Missing(what) => (StatusCode::NOT_FOUND, "missing", format!("no such {what}")),
            Self::Signature(reason) => (StatusCode::FORBIDDEN, "signature", reason),
            Self::Broken(reason) => (StatusCode::INTERNAL_SERVER_ERROR, "broken", reason),
        };
        let message = Json(FailureMessage { error: error.to_owned(), reason });
        if error == "closed" {
            return (status, [(CLOSED_HEADER, "1"), ("retry-after", "1")], message).into_response();
        }
        (status, message).into_response()
    }
}
