//! What clients ask.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use heirloom_ledger::check::Invalid;
use heirloom_ledger::client::{
    Answer, Ask, CheckedView, Fate, FoundOutput, RefusalCause, ViewAnswer,
};
use heirloom_ledger::context;
use heirloom_ledger::hint::{ViewPublic, scan};
use heirloom_ledger::limit::{ANSWER_OUTPUTS_MAX, SCAN_OUTPUTS_MAX};
use heirloom_ledger::output::OutputId;
use heirloom_ledger::pending::NotQueued;
use heirloom_ledger::sealed::{DoorPublic, door_public, open_request, seal_answer};
use heirloom_ledger::transaction::{Transaction, TransactionId};
use heirloom_ledger_store::error::LedgerError;
use heirloom_model::causes::with_causes;
use heirloom_model::digest::{NetworkId, sha256};
use heirloom_model::evidence::ReportData;
use heirloom_model::identifier::NodeId;
use heirloom_model::service::Height;
use heirloom_model::signature::PublicKey;
use heirloom_model::wire;
use serde::Deserialize;

use crate::chain::SubmitError;
use crate::http::Shared;
use crate::http::message::{
    BlockMessage, Failure, InfoMessage, OutputMessage, OutputsMessage, TipMessage,
    TransactionMessage,
};
use crate::instance::{Instance, random};
use crate::limit::{OUTPUTS_MAX, WAIT_MS_MAX};
use crate::service::Service;

pub(super) async fn submit(
    State(shared): State<Shared>,
    body: Bytes,
) -> Result<Json<TransactionMessage>, Failure> {
    let malformed = |error| Failure::Malformed(with_causes(&error));
    let transaction: Transaction = wire::decode(&body).map_err(malformed)?;
    blocking(move || {
        let (service, id) = (&shared.service, transaction.id());
        match service.chain().fate(&id).map_err(|error| broken(&error))? {
            // The same transaction again is no new one.
            known @ (Fate::Settled(_) | Fate::Waiting) => return Ok(message(&id, &known)),
            Fate::Unknown => {}
        }
        service.chain().submit(transaction).map_err(|error| refused(&error))?;
        service.chain().accepted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(message(&id, &Fate::Waiting))
    })
    .await
    .map(Json)
}

fn refused(error: &SubmitError) -> Failure {
    let reason = with_causes(error);
    match error {
        SubmitError::Invalid(Invalid::Unreadable(_)) => Failure::Broken(reason),
        SubmitError::Invalid(Invalid::AlreadySpent { .. })
        | SubmitError::NotQueued(NotQueued::Conflict { .. }) => Failure::Spent(reason),
        SubmitError::Invalid(_) | SubmitError::NotQueued(NotQueued::Duplicate) => {
            Failure::Invalid(reason)
        }
        SubmitError::NotQueued(NotQueued::Full { .. }) => Failure::Busy,
        SubmitError::Frozen | SubmitError::Broken(_) => Failure::Closed,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    wait_ms: Option<u64>,
}

pub(super) async fn receipt(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Json<TransactionMessage>, Failure> {
    let id: TransactionId = parse(&id)?;
    let wait = Duration::from_millis(query.wait_ms.unwrap_or(0).min(WAIT_MS_MAX));
    let deadline = tokio::time::Instant::now() + wait;
    let mut tip = shared.service.chain().watch();
    loop {
        let service = Arc::clone(&shared.service);
        let fate = blocking(move || service.chain().fate(&id).map_err(|error| broken(&error)));
        let fate = fate.await?;
        let is_over = tokio::time::Instant::now() >= deadline;
        if matches!(fate, Fate::Settled(_)) || is_over {
            return Ok(Json(message(&id, &fate)));
        }
        // Whether a block came or the time is over: what became of it is looked at again.
        tokio::time::timeout_at(deadline, tip.changed()).await.ok();
    }
}

fn message(id: &TransactionId, fate: &Fate) -> TransactionMessage {
    let (status, receipt) = match fate {
        Fate::Settled(receipt) => ("settled", Some(receipt)),
        Fate::Waiting => ("waiting", None),
        Fate::Unknown => ("unknown", None),
    };
    TransactionMessage {
        id: id.to_string(),
        status: status.to_owned(),
        height: receipt.map(|receipt| receipt.height.0),
        block: receipt.map(|receipt| receipt.block.to_string()),
    }
}

pub(super) async fn tip(State(shared): State<Shared>) -> Json<TipMessage> {
    Json(shared.service.chain().tip().into())
}

pub(super) async fn info(State(shared): State<Shared>) -> Result<Json<InfoMessage>, Failure> {
    blocking(move || info_of(&shared.service)).await.map(Json)
}

/// What evidence for clients carries: the keys to which they seal, and whose they are.
pub fn evidence_for_clients(
    network: &NetworkId,
    node: &NodeId,
    instance: &PublicKey,
    view: &ViewPublic,
    door: &DoorPublic,
) -> ReportData {
    let digest = sha256(&[
        context::EVIDENCE_CLIENTS,
        network.as_bytes(),
        &sha256(&[node.as_str().as_bytes()]),
        instance.as_bytes(),
        view.as_bytes(),
        door.as_bytes(),
    ]);
    let mut bytes = [0; 64];
    for (byte, from) in bytes.iter_mut().zip(digest) {
        *byte = from;
    }
    ReportData::new(bytes)
}

fn info_of(service: &Service) -> Result<InfoMessage, Failure> {
    let instance = service.instance();
    let view = instance.view().ok_or(Failure::Closed)?.public();
    let door = door_public(instance.door());
    let configuration = service.chain().configuration();
    let own = instance.own();
    let data = evidence_for_clients(&own.network, &own.node, &instance.public_key(), &view, &door);
    let evidence = service.evidence(&data).map_err(|error| broken(&error))?;
    Ok(InfoMessage {
        protocol: heirloom_ledger::client::CLIENT_PROTOCOL,
        client_protocol_min: configuration.client_protocol_min,
        network: own.network.to_string(),
        node: own.node.to_string(),
        measurement: own.measurement.to_string(),
        instance: instance.public_key().to_string(),
        configuration: own.configuration.to_string(),
        schema: service.chain().ledger().schema().0,
        tip: service.chain().tip().into(),
        admission: service.admission().name().to_owned(),
        minimum_fee: configuration.minimum_fee.0,
        tombstone_distance_max: configuration.tombstone_distance_max,
        view: view.to_string(),
        door: door.to_string(),
        evidence: hex::encode(wire::encode(&evidence)),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountQuery {
    after: Option<String>,
}

pub(super) async fn account(
    State(shared): State<Shared>,
    Path(owner): Path<String>,
    Query(query): Query<AccountQuery>,
) -> Result<Json<OutputsMessage>, Failure> {
    let owner: PublicKey = parse(&owner)?;
    let after: Option<OutputId> = query.after.as_deref().map(parse).transpose()?;
    blocking(move || {
        let ledger = shared.service.chain().ledger();
        let found = ledger.outputs_of(&owner, after.as_ref(), OUTPUTS_MAX);
        let found = found.map_err(|error| broken(&error))?;
        let more = found.last().filter(|_| found.len() >= OUTPUTS_MAX);
        Ok(OutputsMessage {
            next: more.map(|last| last.output.to_string()),
            outputs: found
                .iter()
                .map(|found| OutputMessage {
                    output: found.output.to_string(),
                    amount: found.amount.0,
                    height: found.height.0,
                })
                .collect(),
        })
    })
    .await
    .map(Json)
}

pub(super) async fn block(
    State(shared): State<Shared>,
    Path(height): Path<u64>,
) -> Result<Json<BlockMessage>, Failure> {
    blocking(move || {
        let found = shared.service.chain().ledger().block(Height(height));
        let found = found.map_err(|error| broken(&error))?.ok_or(Failure::Missing("block"))?;
        let transactions = &found.block.transactions;
        let metadata = found.metadata.as_ref();
        Ok(BlockMessage {
            height,
            id: found.block.id().to_string(),
            parent: found.block.parent.to_string(),
            transactions: transactions.iter().map(|it| it.id().to_string()).collect(),
            measurement: metadata.map(|metadata| metadata.measurement.to_string()),
            node: metadata.map(|metadata| metadata.node.to_string()),
            instance: metadata.map(|metadata| metadata.instance.to_string()),
        })
    })
    .await
    .map(Json)
}

/// A request that only this instance can read, and an answer that only the client can read. What
/// cannot be opened is refused; everything else is said inside.
pub(super) async fn view(State(shared): State<Shared>, body: Bytes) -> Result<Response, Failure> {
    let sealed = blocking(move || {
        let instance = shared.service.instance();
        let opened = open_request(&body, instance.door());
        let (request, reply) = opened.map_err(|error| Failure::Malformed(with_causes(&error)))?;
        let min = shared.service.chain().configuration().client_protocol_min;
        let answer = if request.protocol < min
            || request.protocol > heirloom_ledger::client::CLIENT_PROTOCOL
        {
            refuse(RefusalCause::Protocol, "this client protocol is not served")
        } else {
            answer(&shared.service, instance, &request.ask)
        };
        let ephemeral = random(&**instance.platform()).map_err(|error| broken(&error))?;
        seal_answer(&answer, &reply, &ephemeral).map_err(|error| broken(&error))
    })
    .await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], sealed).into_response())
}

fn answer(service: &Service, instance: &Instance, ask: &Ask) -> Answer {
    let Ask::View(request) = ask else {
        return refuse(RefusalCause::Unsupported, "only views are asked for in this way");
    };
    match request.check(&instance.network(), &instance.public_key()) {
        Ok(checked) => match find(service, instance, &checked) {
            Ok(found) => Answer::View(found),
            Err(reason) => Answer::NotYet { reason },
        },
        Err(error) => refuse(RefusalCause::Signature, &error.to_string()),
    }
}

fn refuse(cause: RefusalCause, reason: &str) -> Answer {
    Answer::Refused { cause, reason: reason.to_owned() }
}

fn find(
    service: &Service,
    instance: &Instance,
    checked: &CheckedView,
) -> Result<ViewAnswer, String> {
    let view = instance.view().ok_or("the node has no view key yet")?;
    let ledger = service.chain().ledger();
    let outputs = ledger.private_outputs(checked.from(), SCAN_OUTPUTS_MAX);
    let page = outputs.map_err(|_| "the ledger cannot be read")?;
    let mut found = Vec::new();
    for (place, id, record) in &page.outputs {
        let matches = scan(view, [(*id, &record.output)]);
        let own = matches.into_iter().filter(|it| it.hint.recipient == checked.owner());
        for it in own {
            if found.len() >= ANSWER_OUTPUTS_MAX {
                return Ok(ViewAnswer { outputs: found, next: Some(*place) });
            }
            found.push(FoundOutput {
                output: it.output,
                amount: it.amount,
                blinding: it.hint.blinding,
                height: record.height,
            });
        }
    }
    Ok(ViewAnswer { outputs: found, next: page.next })
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error: T::Err| Failure::Malformed(error.to_string()))
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::Broken(with_causes(error))
}

/// Runs what touches the disk or checks signatures outside of the threads that answer.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failure::Broken("the node failed while answering".to_owned()))?
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        broken(&error)
    }
}
