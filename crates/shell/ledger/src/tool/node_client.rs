//! Asks a node over HTTP. Each call tries once; retries belong to the caller.

use std::time::Duration;

use heirloom_ledger::client::{
    Answer, Ask, CLIENT_PROTOCOL, ClientRequest, FoundOutput, ScanPosition, ViewRequest,
};
use heirloom_ledger::hint::ViewPublic;
use heirloom_ledger::sealed::{DoorPublic, SEALED_ANSWER_BYTES, open_answer, seal_request};
use heirloom_ledger::transaction::{Transaction, TransactionId};
use heirloom_model::causes::with_causes;
use heirloom_model::digest::NetworkId;
use heirloom_model::service::Height;
use heirloom_model::signature::PublicKey;
use heirloom_model::wire;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

use crate::http::message::{
    BlockMessage, FailureMessage, InfoMessage, OutputsMessage, TipMessage, TransactionMessage,
};
use crate::limit::WAIT_MS_MAX;
use crate::wallet::{Coin, Wallet, random};

/// A node next to its proxy answers a connection at once, or is gone.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);
/// How long a call may take beyond what it was told to wait.
const CALL_TIME_MAX: Duration = Duration::from_secs(3);
/// An answer: a page of outputs, or everything that a node says of itself.
const ANSWER_TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Pages that one question may have.
const PAGES_MAX: usize = 10_000;

/// Asks one node.
#[derive(Clone, Debug)]
pub struct NodeClient {
    agent: Agent,
    base: String,
}

/// A node as it described itself. Nothing in it is believed that is not checked.
#[derive(Clone, Debug)]
pub struct Known {
    /// As it was said.
    pub said: InfoMessage,
    /// Its network.
    pub network: NetworkId,
    /// The key of the instance.
    pub instance: PublicKey,
    /// The key for hints.
    pub view: ViewPublic,
    /// The key for sealed requests.
    pub door: DoorPublic,
}

/// Why a node did not answer as it should.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The node, or the proxy in front of it, is closed.
    #[error("the node is closed")]
    Closed,
    /// Too much waits there.
    #[error("too much waits at the node")]
    Busy,
    /// It refuses.
    #[error("refused ({error}): {reason}")]
    Refused {
        /// The word for programs.
        error: String,
        /// Why, for people.
        reason: String,
    },
    /// It cannot be reached, or did not answer in time.
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    /// Its answer is none.
    #[error("the node's answer cannot be understood: {0}")]
    Malformed(String),
}

impl NodeClient {
    /// A client of the node at `base`: `http://host:port`, or `host:port`.
    pub fn new(base: &str) -> Self {
        let base = base.trim_end_matches('/');
        let scheme = if base.contains("://") { "" } else { "http://" };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_global(Some(CALL_TIME_MAX + Duration::from_millis(WAIT_MS_MAX)))
            .max_idle_connections(0)
            .max_redirects(0)
            .proxy(None)
            .build();
        Self { agent: Agent::new_with_config(config), base: format!("{scheme}{base}") }
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Who the node is.
    pub fn info(&self) -> Result<Known, CallError> {
        let said: InfoMessage = self.get("/v1/info")?;
        let malformed = |error: &dyn std::error::Error| CallError::Malformed(with_causes(error));
        Ok(Known {
            network: said.network.parse().map_err(|error| malformed(&error))?,
            instance: said.instance.parse().map_err(|error| malformed(&error))?,
            view: said.view.parse().map_err(|error| malformed(&error))?,
            door: said.door.parse().map_err(|error| malformed(&error))?,
            said,
        })
    }

    /// Where its ledger ends.
    pub fn tip(&self) -> Result<TipMessage, CallError> {
        self.get("/v1/tip")
    }

    /// Hands in a transaction.
    pub fn submit(&self, transaction: &Transaction) -> Result<TransactionMessage, CallError> {
        let bytes = wire::encode(transaction);
        json(self.post("/v1/transactions", &bytes)?)
    }

    /// What became of a transaction, at most so much later.
    pub fn receipt(
        &self,
        id: &TransactionId,
        wait: Duration,
    ) -> Result<TransactionMessage, CallError> {
        self.get(&format!("/v1/transactions/{id}?wait_ms={}", wait.as_millis()))
    }

    /// Every public output that a wallet can spend.
    pub fn coins(&self, wallet: &Wallet) -> Result<Vec<(Coin, Height)>, CallError> {
        let mut coins = Vec::new();
        let mut after = String::new();
        for _ in 0..PAGES_MAX {
            let path = format!("/v1/accounts/{}/outputs{after}", wallet.owner());
            let page: OutputsMessage = self.get(&path)?;
            for found in page.outputs {
                let output = found.output.parse();
                let output = output.map_err(|error| CallError::Malformed(with_causes(&error)))?;
                let amount = heirloom_ledger::amount::Amount(found.amount);
                coins.push((Coin { output, amount, blinding: None }, Height(found.height)));
            }
            let Some(next) = page.next else { return Ok(coins) };
            after = format!("?after={next}");
        }
        Ok(coins)
    }

    /// Every private output that a wallet can spend. Neither host nor proxy sees who asks.
    pub fn private_coins(
        &self,
        wallet: &Wallet,
        known: &Known,
    ) -> Result<Vec<FoundOutput>, CallError> {
        let mut found = Vec::new();
        let mut from = ScanPosition::default();
        for _ in 0..PAGES_MAX {
            let view = ViewRequest::sign(known.network, known.instance, from, wallet.key());
            let request = ClientRequest { protocol: CLIENT_PROTOCOL, ask: Ask::View(view) };
            match self.ask_sealed(&request, known)? {
                Answer::View(page) => {
                    found.extend(page.outputs);
                    let Some(next) = page.next else { return Ok(found) };
                    from = next;
                }
                Answer::Refused { cause, reason } => {
                    return Err(CallError::Refused { error: format!("{cause:?}"), reason });
                }
                Answer::NotYet { .. } => return Err(CallError::Busy),
                other => return Err(CallError::Malformed(format!("{other:?}"))),
            }
        }
        Ok(found)
    }

    fn ask_sealed(&self, request: &ClientRequest, known: &Known) -> Result<Answer, CallError> {
        let malformed = |error: &dyn std::error::Error| CallError::Malformed(with_causes(error));
        let (ephemeral, reply) = (random(), random());
        let ephemeral = ephemeral.map_err(|error| malformed(&error))?;
        let reply = reply.map_err(|error| malformed(&error))?;
        let sealed = seal_request(request, &known.door, &ephemeral, &reply);
        let sealed = sealed.map_err(|error| malformed(&error))?;
        let bytes = bytes(success(self.post("/v1/view", &sealed)?)?)?;
        if bytes.len() != SEALED_ANSWER_BYTES {
            return Err(CallError::Malformed("the answer has not its one size".to_owned()));
        }
        open_answer(&bytes, &reply).map_err(|error| malformed(&error))
    }

    /// One block.
    pub fn block(&self, height: u64) -> Result<BlockMessage, CallError> {
        self.get(&format!("/v1/blocks/{height}"))
    }

    /// Everything that the node says of itself; only at its side door.
    pub fn admin(&self) -> Result<Value, CallError> {
        self.get("/admin")
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        json(
            self.agent
                .get(format!("{}{path}", self.base))
                .call()
                .map_err(|error| unreachable(&error))?,
        )
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<Response<Body>, CallError> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/octet-stream");
        request.send(body).map_err(|error| unreachable(&error))
    }
}

fn unreachable(error: &ureq::Error) -> CallError {
    CallError::Unreachable(with_causes(error))
}

fn bytes(mut response: Response<Body>) -> Result<Vec<u8>, CallError> {
    let body = response.body_mut().with_config().limit(ANSWER_TEXT_BYTES_MAX);
    body.read_to_vec().map_err(|error| unreachable(&error))
}

fn json<T: DeserializeOwned>(response: Response<Body>) -> Result<T, CallError> {
    let bytes = bytes(success(response)?)?;
    serde_json::from_slice(&bytes).map_err(|error| CallError::Malformed(error.to_string()))
}

/// A node says why it does not answer; a proxy in its place only that nobody is there.
fn success(response: Response<Body>) -> Result<Response<Body>, CallError> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let text = bytes(response)?;
    let said: Option<FailureMessage> = serde_json::from_slice(&text).ok();
    match (status, said) {
        (StatusCode::SERVICE_UNAVAILABLE, Some(said)) if said.error == "busy" => {
            Err(CallError::Busy)
        }
        (
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT,
            _,
        ) => Err(CallError::Closed),
        (_, Some(said)) => Err(CallError::Refused { error: said.error, reason: said.reason }),
        (status, None) => Err(CallError::Malformed(format!("status {status}"))),
    }
}
