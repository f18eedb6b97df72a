//! Clients for demonstrations: everything through the public services of a participant.

pub mod load;
pub mod package;

use heirloom_canton::hash::sha256;
use heirloom_canton_node::wire::ledger::command::Command as Kind;
use heirloom_canton_node::wire::ledger::command_service_client::CommandServiceClient;
use heirloom_canton_node::wire::ledger::event::Event;
use heirloom_canton_node::wire::ledger::{
    Command, Commands, CreateCommand, ExerciseCommand, SubmitAndWaitForTransactionRequest,
    Transaction,
};
use heirloom_canton_node::wire::ledger_admin::party_management_service_client::PartyManagementServiceClient;
use heirloom_canton_node::wire::ledger_admin::{GetParticipantIdRequest, ListKnownPartiesRequest};
use heirloom_canton_node::wire::participant::synchronizer_connectivity_service_client::SynchronizerConnectivityServiceClient;
use heirloom_canton_node::wire::participant::{
    ConnectSynchronizerRequest, ListRegisteredSynchronizersRequest, ReconnectSynchronizerRequest,
    SequencerConnection, SequencerConnections, SynchronizerConnectionConfig, sequencer_connection,
};
use heirloom_canton_node::wire::slim;
use heirloom_canton_node::wire::slim::cumulative_filter::IdentifierFilter;
use heirloom_canton_node::wire::slim::get_active_contracts_response::ContractEntry;
use heirloom_canton_node::wire::slim::state_service_client::StateServiceClient;
use prost::Message;
use serde::Serialize;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::clock::now_micros;
use crate::command::{Connect, Ledger, Transact};
use crate::limit::{CONNECT_MAX, OUTBOUND_MESSAGE_BYTES_MAX};

/// Who asks.
pub(crate) const USER: &str = "heirloom-demonstration";

/// Why a client did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The participant says no, or nothing that is known.
    #[error("{call}: {}: {}", status.code(), status.message())]
    Status {
        /// What was asked.
        call: &'static str,
        /// What was answered.
        status: Box<Status>,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The answer is none.
    #[error("the participant answers without {0}")]
    Incomplete(&'static str),
    /// The request makes no sense.
    #[error("{0}")]
    Usage(&'static str),
}

/// An outcome that people and programs read.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counted {
    /// How many contracts are active.
    pub contracts: usize,
    /// The SHA-256 of their blobs in order.
    pub blobs: String,
}

/// A contract that came and went.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Transacted {
    /// Its id.
    pub created: String,
    /// That it is archived again.
    pub archived: bool,
}

/// A synchronizer that is connected.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Connected {
    /// What the participant calls it.
    pub alias: String,
    /// That it is connected.
    pub connected: bool,
}

/// Makes a connection.
pub(crate) async fn channel(url: &str) -> Result<Channel, ClientError> {
    let unreachable = |source| ClientError::Unreachable { url: url.to_owned(), source };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(unreachable)?;
    endpoint.connect_timeout(CONNECT_MAX).connect().await.map_err(unreachable)
}

pub(crate) fn failed(call: &'static str) -> impl Fn(Status) -> ClientError {
    move |status| ClientError::Status { call, status: Box::new(status) }
}

/// Registers a synchronizer and connects, or connects again.
pub async fn connect(asked: &Connect) -> Result<Connected, ClientError> {
    let mut client = SynchronizerConnectivityServiceClient::new(channel(&asked.admin).await?);
    let request = ListRegisteredSynchronizersRequest { all_statuses: false };
    let listed = client.list_registered_synchronizers(request).await;
    let results = listed.map_err(failed("ListRegisteredSynchronizers"))?.into_inner().results;
    let is_known = results.iter().any(|one| {
        let config = SynchronizerConnectionConfig::decode(one.config.as_slice());
        config.is_ok_and(|config| config.synchronizer_alias == asked.alias)
    });
    if is_known {
        let request =
            ReconnectSynchronizerRequest { synchronizer_alias: asked.alias.clone(), retry: false };
        let done = client.reconnect_synchronizer(request).await;
        done.map_err(failed("ReconnectSynchronizer"))?;
    } else {
        let grpc = sequencer_connection::Grpc {
            connections: vec![asked.synchronizer.clone()],
            ..sequencer_connection::Grpc::default()
        };
        let connection = SequencerConnection {
            r#type: Some(sequencer_connection::Type::Grpc(grpc)),
            alias: "only".to_owned(),
            sequencer_id: None,
        };
        let config = SynchronizerConnectionConfig {
            synchronizer_alias: asked.alias.clone(),
            sequencer_connections: Some(SequencerConnections {
                sequencer_connections: vec![connection],
            }),
            ..SynchronizerConnectionConfig::default()
        };
        let request = ConnectSynchronizerRequest {
            config: config.encode_to_vec(),
            ..ConnectSynchronizerRequest::default()
        };
        let done = client.connect_synchronizer(request).await;
        done.map_err(failed("ConnectSynchronizer"))?;
    }
    Ok(Connected { alias: asked.alias.clone(), connected: true })
}

/// Counts what is active, and hashes it.
pub async fn contracts(asked: &Ledger) -> Result<Counted, ClientError> {
    let channel = channel(&asked.ledger).await?;
    let mut blobs = Vec::new();
    for (_, blob) in active(channel).await? {
        blobs.push(blob);
    }
    blobs.sort();
    let hashes: Vec<u8> = blobs.iter().flat_map(|blob| sha256(blob)).collect();
    Ok(Counted { contracts: blobs.len(), blobs: hex::encode(sha256(&hashes)) })
}

/// All active contracts: their ids and blobs.
pub(crate) async fn active(channel: Channel) -> Result<Vec<(String, Vec<u8>)>, ClientError> {
    let mut ends =
        heirloom_canton_node::wire::ledger::state_service_client::StateServiceClient::new(
            channel.clone(),
        );
    let end = ends.get_ledger_end(heirloom_canton_node::wire::ledger::GetLedgerEndRequest {}).await;
    let end = end.map_err(failed("GetLedgerEnd"))?.into_inner().offset;
    let mut client =
        StateServiceClient::new(channel).max_decoding_message_size(OUTBOUND_MESSAGE_BYTES_MAX);
    let wildcard = slim::WildcardFilter { include_created_event_blob: true };
    let filter = slim::CumulativeFilter {
        identifier_filter: Some(IdentifierFilter::WildcardFilter(wildcard)),
    };
    let request = slim::GetActiveContractsRequest {
        active_at_offset: end,
        event_format: Some(slim::EventFormat {
            filters_for_any_party: Some(slim::Filters { cumulative: vec![filter] }),
            ..slim::EventFormat::default()
        }),
    };
    let call = "GetActiveContracts";
    let mut stream = client.get_active_contracts(request).await.map_err(failed(call))?.into_inner();
    let mut all = Vec::new();
    while let Some(answer) = stream.next().await {
        let entry = answer.map_err(failed(call))?.contract_entry;
        if let Some(ContractEntry::ActiveContract(found)) = entry
            && let Some(event) = found.created_event
        {
            all.push((event.contract_id, event.created_event_blob));
        }
    }
    Ok(all)
}

/// Creates one contract with a party that is hosted here, and archives it again.
pub async fn transact(asked: &Transact) -> Result<Transacted, ClientError> {
    let channel = channel(&asked.ledger).await?;
    let parties = local_parties(channel.clone()).await?;
    let party = parties.first().ok_or(ClientError::Incomplete("a party that is hosted here"))?;
    let other = asked.owner.as_ref().or(parties.last()).unwrap_or(party);
    let number = now_micros();
    let holding = package::Holding { issuer: party, owner: other, number, previous: None };
    let create = Kind::Create(CreateCommand {
        template_id: Some(package::template()),
        create_arguments: Some(package::arguments(&holding)),
    });
    let acting = vec![party.clone()];
    let made = submit(channel.clone(), &format!("create-{number}"), &acting, vec![create]).await?;
    let created = created_ids(&made);
    let created = created.into_iter().next().ok_or(ClientError::Incomplete("a created event"))?;
    let archive = Kind::Exercise(ExerciseCommand {
        template_id: Some(package::template()),
        contract_id: created.clone(),
        choice: "Archive".to_owned(),
        choice_argument: None,
    });
    let ended = submit(channel, &format!("archive-{number}"), &acting, vec![archive]).await?;
    let archived = ended.events.iter().any(|event| {
        matches!(&event.event, Some(Event::Archived(found)) if found.contract_id == created)
    });
    Ok(Transacted { created, archived })
}

/// Parties that are hosted here, without the participant's own.
pub(crate) async fn local_parties(channel: Channel) -> Result<Vec<String>, ClientError> {
    let mut client = PartyManagementServiceClient::new(channel);
    let id = client.get_participant_id(GetParticipantIdRequest {}).await;
    let id = id.map_err(failed("GetParticipantId"))?.into_inner().participant_id;
    let mut parties = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListKnownPartiesRequest {
            page_token: page_token.clone(),
            ..ListKnownPartiesRequest::default()
        };
        let listed = client.list_known_parties(request).await;
        let listed = listed.map_err(failed("ListKnownParties"))?.into_inner();
        let local = listed.party_details.into_iter().filter(|found| found.is_local);
        parties.extend(local.map(|found| found.party).filter(|party| *party != id));
        if listed.next_page_token.is_empty() {
            return Ok(parties);
        }
        page_token = listed.next_page_token;
    }
}

pub(crate) async fn submit(
    channel: Channel,
    command_id: &str,
    act_as: &[String],
    kinds: Vec<Kind>,
) -> Result<Transaction, ClientError> {
    let mut client =
        CommandServiceClient::new(channel).max_decoding_message_size(OUTBOUND_MESSAGE_BYTES_MAX);
    let commands = Commands {
        user_id: USER.to_owned(),
        command_id: command_id.to_owned(),
        act_as: act_as.to_vec(),
        commands: kinds.into_iter().map(|kind| Command { command: Some(kind) }).collect(),
        ..Commands::default()
    };
    let request =
        SubmitAndWaitForTransactionRequest { commands: Some(commands), transaction_format: None };
    let done = client.submit_and_wait_for_transaction(request).await;
    let done = done.map_err(failed("SubmitAndWaitForTransaction"))?.into_inner();
    done.transaction.ok_or(ClientError::Incomplete("a transaction"))
}

/// The ids of created contracts, in the order of the commands.
pub(crate) fn created_ids(transaction: &Transaction) -> Vec<String> {
    let created = transaction.events.iter().filter_map(|event| match &event.event {
        Some(Event::Created(found)) => Some(found.contract_id.clone()),
        _ => None,
    });
    created.collect()
}
