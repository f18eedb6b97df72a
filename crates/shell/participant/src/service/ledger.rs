//! What applications ask for.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use heirloom_canton::contract_id::ContractId;
use heirloom_canton_node::wire::ledger::command_service_server::CommandService;
use heirloom_canton_node::wire::ledger::cumulative_filter::IdentifierFilter;
use heirloom_canton_node::wire::ledger::event::Event as Happened;
use heirloom_canton_node::wire::ledger::get_active_contracts_response::ContractEntry;
use heirloom_canton_node::wire::ledger::state_service_server::StateService;
use heirloom_canton_node::wire::ledger::{
    ActiveContract, ArchivedEvent, Event, EventFormat, Filters, GetActiveContractsRequest,
    GetActiveContractsResponse, GetConnectedSynchronizersRequest,
    GetConnectedSynchronizersResponse, GetLedgerEndRequest, GetLedgerEndResponse, Identifier,
    SubmitAndWaitForTransactionRequest, SubmitAndWaitForTransactionResponse, Transaction,
    get_connected_synchronizers_response,
};
use heirloom_canton_node::wire::protocol::enums::ParticipantPermission;
use heirloom_model::party::PartyId;
use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::limit::{READ_CONTRACTS, STREAM_QUEUE};
use crate::node::Node;
use crate::node::contracts::Shows;
use crate::node::error::NodeError;
use crate::record::{CommandRecord, ContractRecord, Place};
use crate::service::{Services, status_of};
use crate::synchronizer::admission::permission;

type Answer = Result<GetActiveContractsResponse, Status>;

#[tonic::async_trait]
impl StateService for Services {
    type GetActiveContractsStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn get_active_contracts(
        &self,
        request: Request<GetActiveContractsRequest>,
    ) -> Result<Response<Self::GetActiveContractsStream>, Status> {
        self.may_begin("GetActiveContracts")?;
        let request = request.into_inner();
        let node = Arc::clone(self.node());
        let end = node.ledger_end().map_err(|error| status_of(&error))?;
        let offset = u64::try_from(request.active_at_offset).ok().filter(|offset| *offset <= end);
        let offset = offset.ok_or_else(|| {
            Status::invalid_argument(format!("active_at_offset is not between 0 and {end}"))
        })?;
        let wanted = Wanted::new(request.event_format.unwrap_or_default())?;
        let (answers, stream) = mpsc::channel(STREAM_QUEUE);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = active(&node, offset, &wanted, &answers) {
                answers.blocking_send(Err(status_of(&error))).ok();
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_connected_synchronizers(
        &self,
        request: Request<GetConnectedSynchronizersRequest>,
    ) -> Result<Response<GetConnectedSynchronizersResponse>, Status> {
        let party = request.into_inner().party;
        self.on("GetConnectedSynchronizers", move |node| {
            let id = node.required_id()?;
            let party: Option<PartyId> = if party.is_empty() { None } else { Some(party.parse()?) };
            let mut connected_synchronizers = Vec::new();
            for (alias, link) in node.connected() {
                let held =
                    party.as_ref().map_or(Some(ParticipantPermission::Submission), |party| {
                        let look =
                            |known: &crate::node::Known| permission(&known.topology, party, &id);
                        node.with_known(link.synchronizer(), look).flatten()
                    });
                if let Some(held) = held {
                    connected_synchronizers.push(
                        get_connected_synchronizers_response::ConnectedSynchronizer {
                            synchronizer_alias: alias,
                            synchronizer_id: link.synchronizer().to_string(),
                            permission: held.into(),
                        },
                    );
                }
            }
            Ok(GetConnectedSynchronizersResponse { connected_synchronizers })
        })
        .await
    }

    async fn get_ledger_end(
        &self,
        _: Request<GetLedgerEndRequest>,
    ) -> Result<Response<GetLedgerEndResponse>, Status> {
        self.on("GetLedgerEnd", |node| {
            let offset = i64::try_from(node.ledger_end()?).unwrap_or(i64::MAX);
            Ok(GetLedgerEndResponse { offset })
        })
        .await
    }
}

#[tonic::async_trait]
impl CommandService for Services {
    async fn submit_and_wait_for_transaction(
        &self,
        request: Request<SubmitAndWaitForTransactionRequest>,
    ) -> Result<Response<SubmitAndWaitForTransactionResponse>, Status> {
        let request = request.into_inner();
        self.with("SubmitAndWaitForTransaction", |node| async move {
            let missing = || NodeError::Invalid("there are no commands".to_owned());
            let commands = request.commands.ok_or_else(missing)?;
            let names = (commands.command_id.clone(), commands.workflow_id.clone());
            let acting = commands.act_as.clone();
            let format = request.transaction_format.and_then(|format| format.event_format);
            let shows = format.map_or(Shows { verbose: true, blob: false }, |format| Shows {
                verbose: format.verbose,
                blob: has_blob(&format),
            });
            let (record, synchronizer) = node.submit(commands).await?;
            let events = tokio::task::spawn_blocking({
                let (node, record) = (Arc::clone(&node), record.clone());
                move || events(&node, &record, shows, &acting)
            });
            let events = events.await.map_err(|error| NodeError::Refused(error.to_string()))??;
            let time = timestamp(record.time_micros);
            Ok(SubmitAndWaitForTransactionResponse {
                transaction: Some(Transaction {
                    update_id: format!("{synchronizer}/{}", record.position),
                    command_id: names.0,
                    workflow_id: names.1,
                    effective_at: Some(time),
                    events,
                    offset: i64::try_from(record.offset).unwrap_or(i64::MAX),
                    synchronizer_id: synchronizer,
                    record_time: Some(time),
                }),
            })
        })
        .await
    }
}

/// Which contracts somebody wants to see, and how.
struct Wanted {
    /// Nothing for any party.
    parties: Option<BTreeMap<String, Filter>>,
    any: Option<Filter>,
    is_verbose: bool,
}

/// Templates; nothing for all of them.
#[derive(Clone, Debug, Default)]
struct Filter {
    templates: Option<Vec<Identifier>>,
    blob: bool,
}

impl Wanted {
    fn new(format: EventFormat) -> Result<Self, Status> {
        let is_verbose = format.verbose;
        let any = format.filters_for_any_party.map(filter).transpose()?;
        let parties = format.filters_by_party.into_iter();
        let parties: Result<BTreeMap<_, _>, Status> =
            parties.map(|(party, filters)| Ok((party, filter(filters)?))).collect();
        let parties = Some(parties?).filter(|parties| !parties.is_empty());
        if parties.is_none() && any.is_none() {
            return Err(Status::invalid_argument("the event format has no filter"));
        }
        Ok(Self { parties, any, is_verbose })
    }

    /// How a contract is shown, and to whom; nothing if it is not.
    fn shows(
        &self,
        record: &ContractRecord,
        template: &Identifier,
    ) -> Option<(Shows, Vec<String>)> {
        let (mut witnesses, mut blob) = (Vec::new(), false);
        for party in &record.stakeholders {
            let own = self.parties.as_ref().and_then(|parties| parties.get(party));
            for filter in own.into_iter().chain(self.any.as_ref()) {
                if filter.wants(template) {
                    blob |= filter.blob;
                    if !witnesses.contains(party) {
                        witnesses.push(party.clone());
                    }
                }
            }
        }
        let shows = Shows { verbose: self.is_verbose, blob };
        (!witnesses.is_empty()).then_some((shows, witnesses))
    }
}

impl Filter {
    fn wants(&self, template: &Identifier) -> bool {
        self.templates.as_ref().is_none_or(|templates| {
            templates.iter().any(|wanted| {
                let is_package =
                    wanted.package_id == template.package_id || wanted.package_id.starts_with('#');
                is_package
                    && wanted.module_name == template.module_name
                    && wanted.entity_name == template.entity_name
            })
        })
    }
}

fn filter(filters: Filters) -> Result<Filter, Status> {
    let mut all = Filter { templates: Some(Vec::new()), blob: false };
    if filters.cumulative.is_empty() {
        return Ok(Filter::default());
    }
    for one in filters.cumulative {
        match one.identifier_filter {
            Some(IdentifierFilter::WildcardFilter(found)) => {
                all.templates = None;
                all.blob |= found.include_created_event_blob;
            }
            Some(IdentifierFilter::TemplateFilter(found)) => {
                all.blob |= found.include_created_event_blob;
                if let (Some(templates), Some(id)) = (&mut all.templates, found.template_id) {
                    templates.push(id);
                }
            }
            None => return Err(Status::unimplemented("this filter is not known")),
        }
    }
    Ok(all)
}

fn has_blob(format: &EventFormat) -> bool {
    let any = format.filters_for_any_party.iter();
    let mut all = any.chain(format.filters_by_party.values()).flat_map(|found| &found.cumulative);
    all.any(|one| match &one.identifier_filter {
        Some(IdentifierFilter::WildcardFilter(found)) => found.include_created_event_blob,
        Some(IdentifierFilter::TemplateFilter(found)) => found.include_created_event_blob,
        None => false,
    })
}

fn active(
    node: &Node,
    offset: u64,
    wanted: &Wanted,
    answers: &mpsc::Sender<Answer>,
) -> Result<(), NodeError> {
    let id = node.required_id()?;
    let read = node.store().read()?;
    let mut place = Some(Place { offset: 0, node: 0 });
    while let Some(from) = place {
        let (contracts, next) = node.contracts_from(&read, from, READ_CONTRACTS)?;
        for (_, record) in contracts.into_iter().filter(|(_, found)| found.is_active_at(offset)) {
            let Some(template) = node.template_of(&record)? else { continue };
            let Some((shows, witnesses)) = wanted.shows(&record, &template) else { continue };
            // Only parties that are hosted here see anything here.
            let synchronizer = record.synchronizer.parse()?;
            let local = node.with_known(&synchronizer, |known| {
                let hosts = |party: &String| {
                    let party: Result<PartyId, _> = party.parse();
                    party.is_ok_and(|party| known.topology.hosts_of(&party).contains(id.as_str()))
                };
                witnesses.iter().filter(|party| hosts(party)).cloned().collect::<Vec<_>>()
            });
            let Some(local) = local.filter(|local| !local.is_empty()) else { continue };
            let event = node.created_event(&record, shows, &local)?;
            let contract = ActiveContract {
                created_event: Some(event),
                synchronizer_id: record.synchronizer,
                reassignment_counter: record.counter,
            };
            let answer = GetActiveContractsResponse {
                workflow_id: record.workflow,
                contract_entry: Some(ContractEntry::ActiveContract(contract)),
            };
            if answers.blocking_send(Ok(answer)).is_err() {
                return Ok(());
            }
        }
        place = next;
    }
    Ok(())
}

fn events(
    node: &Node,
    record: &CommandRecord,
    shows: Shows,
    acting: &[String],
) -> Result<Vec<Event>, NodeError> {
    let mut events = Vec::new();
    let wrong = |error: heirloom_canton::contract_id::ContractIdError| {
        NodeError::Invalid(error.to_string())
    };
    for id in &record.archived {
        let id = ContractId::from_bytes(id).map_err(wrong)?;
        if let Some(found) = node.contract(&id)? {
            let archived = ArchivedEvent {
                offset: i64::try_from(record.offset).unwrap_or(i64::MAX),
                node_id: 0,
                contract_id: id.to_string(),
                template_id: node.template_of(&found)?,
                witness_parties: acting.to_vec(),
                package_name: String::new(),
            };
            events.push(Event { event: Some(Happened::Archived(archived)) });
        }
    }
    for id in &record.created {
        let id = ContractId::from_bytes(id).map_err(wrong)?;
        if let Some(found) = node.contract(&id)? {
            let created = node.created_event(&found, shows, acting)?;
            events.push(Event { event: Some(Happened::Created(created)) });
        }
    }
    Ok(events)
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default(),
    }
}
