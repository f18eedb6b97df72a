//! Topology, read and written.

use std::sync::Arc;

use heirloom_canton_node::wire::protocol::enums::TopologyChangeOp;
use heirloom_canton_node::wire::protocol::topology_mapping::Mapping;
use heirloom_canton_node::wire::topology::authorize_request::Type;
use heirloom_canton_node::wire::topology::store_id::{Authorized, Store};
use heirloom_canton_node::wire::topology::synchronizer::Kind;
use heirloom_canton_node::wire::topology::topology_manager_read_service_server::TopologyManagerReadService;
use heirloom_canton_node::wire::topology::topology_manager_write_service_server::TopologyManagerWriteService;
use heirloom_canton_node::wire::topology::{
    AddTransactionsRequest, AddTransactionsResponse, AuthorizeRequest, AuthorizeResponse,
    BaseQuery, BaseResult, ListNamespaceDelegationRequest, ListNamespaceDelegationResponse,
    ListOwnerToKeyMappingRequest, ListOwnerToKeyMappingResponse, ListPartyToParticipantRequest,
    ListPartyToParticipantResponse, ListVettedPackagesRequest, ListVettedPackagesResponse, StoreId,
    list_namespace_delegation_response, list_owner_to_key_mapping_response,
    list_party_to_participant_response, list_vetted_packages_response,
};
use heirloom_model::party::SynchronizerId;
use prost::Message;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::node::error::NodeError;
use crate::node::link::Link;
use crate::service::Services;
use crate::synchronizer::wire::Proposal;
use crate::topology::{Accepted, Topology};

/// Where topology is read or written.
enum Place {
    Authorized,
    Synchronizer(SynchronizerId),
}

#[tonic::async_trait]
impl TopologyManagerReadService for Services {
    async fn list_namespace_delegation(
        &self,
        request: Request<ListNamespaceDelegationRequest>,
    ) -> Result<Response<ListNamespaceDelegationResponse>, Status> {
        let request = request.into_inner();
        self.on("ListNamespaceDelegation", move |node| {
            let found = found(node, request.base_query, |mapping| match mapping {
                Mapping::NamespaceDelegation(item)
                    if item.namespace.starts_with(&request.filter_namespace) =>
                {
                    Some(item.clone())
                }
                _ => None,
            })?;
            let results = found.into_iter().map(|(context, item)| {
                list_namespace_delegation_response::Result { context, item: Some(item) }
            });
            Ok(ListNamespaceDelegationResponse { results: results.collect() })
        })
        .await
    }

    async fn list_owner_to_key_mapping(
        &self,
        request: Request<ListOwnerToKeyMappingRequest>,
    ) -> Result<Response<ListOwnerToKeyMappingResponse>, Status> {
        let request = request.into_inner();
        self.on("ListOwnerToKeyMapping", move |node| {
            let found = found(node, request.base_query, |mapping| match mapping {
                Mapping::OwnerToKeyMapping(item)
                    if item.member.contains(&request.filter_key_owner_uid) =>
                {
                    Some(item.clone())
                }
                _ => None,
            })?;
            let results = found.into_iter().map(|(context, item)| {
                list_owner_to_key_mapping_response::Result { context, item: Some(item) }
            });
            Ok(ListOwnerToKeyMappingResponse { results: results.collect() })
        })
        .await
    }

    async fn list_vetted_packages(
        &self,
        request: Request<ListVettedPackagesRequest>,
    ) -> Result<Response<ListVettedPackagesResponse>, Status> {
        let request = request.into_inner();
        self.on("ListVettedPackages", move |node| {
            let found = found(node, request.base_query, |mapping| match mapping {
                Mapping::VettedPackages(item)
                    if item.participant_uid.starts_with(&request.filter_participant) =>
                {
                    Some(item.clone())
                }
                _ => None,
            })?;
            let results = found.into_iter().map(|(context, item)| {
                list_vetted_packages_response::Result { context, item: Some(item) }
            });
            Ok(ListVettedPackagesResponse { results: results.collect() })
        })
        .await
    }

    async fn list_party_to_participant(
        &self,
        request: Request<ListPartyToParticipantRequest>,
    ) -> Result<Response<ListPartyToParticipantResponse>, Status> {
        let request = request.into_inner();
        self.on("ListPartyToParticipant", move |node| {
            let found = found(node, request.base_query, |mapping| match mapping {
                Mapping::PartyToParticipant(item)
                    if item.party.starts_with(&request.filter_party)
                        && (request.filter_participant.is_empty()
                            || item.participants.iter().any(|host| {
                                host.participant_uid.starts_with(&request.filter_participant)
                            })) =>
                {
                    Some(item.clone())
                }
                _ => None,
            })?;
            let results = found.into_iter().map(|(context, item)| {
                list_party_to_participant_response::Result { context, item: Some(item) }
            });
            Ok(ListPartyToParticipantResponse { results: results.collect() })
        })
        .await
    }
}

#[tonic::async_trait]
impl TopologyManagerWriteService for Services {
    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        let request = request.into_inner();
        self.with("Authorize", |node| async move {
            let place = place_of(&node, request.store.as_ref())?;
            let Some(Type::Proposal(proposal)) = request.r#type else {
                let only = "only proposals are authorized here, not hashes of others' proposals";
                return Err(NodeError::Unsupported(only.to_owned()));
            };
            let operation = TopologyChangeOp::try_from(proposal.change)
                .map_err(|_| NodeError::Invalid("the change is not known".to_owned()))?;
            let mapping = proposal.v30.and_then(|mapping| mapping.mapping);
            let mapping = mapping
                .ok_or_else(|| NodeError::Unsupported("the mapping is not known".to_owned()))?;
            let before = topology_of(&node, &place);
            let (signer, signed_by) = (Arc::clone(&node), request.signed_by);
            let signed = tokio::task::spawn_blocking(move || {
                signer.propose(mapping, operation, proposal.serial, &signed_by, &before)
            });
            let signed = signed.await.map_err(|error| NodeError::Refused(error.to_string()))??;
            add(&node, &place, std::slice::from_ref(&signed)).await?;
            Ok(AuthorizeResponse { transaction: Some(signed) })
        })
        .await
    }

    async fn add_transactions(
        &self,
        request: Request<AddTransactionsRequest>,
    ) -> Result<Response<AddTransactionsResponse>, Status> {
        let request = request.into_inner();
        self.with("AddTransactions", |node| async move {
            let place = place_of(&node, request.store.as_ref())?;
            add(&node, &place, &request.transactions).await?;
            Ok(AddTransactionsResponse {})
        })
        .await
    }
}

async fn add(
    node: &Arc<Node>,
    place: &Place,
    transactions: &[heirloom_canton_node::wire::protocol::SignedTopologyTransaction],
) -> Result<(), NodeError> {
    let links: Vec<Arc<Link>> = match place {
        Place::Authorized => {
            node.authorize(transactions)?;
            node.connected().into_iter().map(|(_, link)| link).collect()
        }
        Place::Synchronizer(id) => vec![node.link_for(id.as_str())?],
    };
    for link in links {
        for signed in transactions {
            link.submit(Proposal::Topology(signed.encode_to_vec())).await?;
        }
    }
    Ok(())
}

fn place_of(node: &Node, store: Option<&StoreId>) -> Result<Place, NodeError> {
    match store.and_then(|store| store.store.as_ref()) {
        Some(Store::Authorized(_)) | None => Ok(Place::Authorized),
        Some(Store::Synchronizer(found)) => {
            let Some(Kind::Id(name) | Kind::PhysicalId(name)) = &found.kind else {
                return Err(NodeError::Invalid("the synchronizer is not named".to_owned()));
            };
            let known = node.synchronizers()?.into_iter().find(|one| {
                let parameters = one.parameters.as_ref();
                parameters.is_some_and(|p| p.synchronizer_id == *name || p.physical_id() == *name)
            });
            let missing = || NodeError::Missing(format!("synchronizer {name} is not known"));
            let id = known.and_then(|known| known.synchronizer());
            Ok(Place::Synchronizer(id.ok_or_else(missing)?))
        }
        Some(Store::Temporary(_)) => {
            Err(NodeError::Unsupported("there are no temporary stores here".to_owned()))
        }
    }
}

fn topology_of(node: &Node, place: &Place) -> Topology {
    match place {
        Place::Authorized => node.with_authorized(Clone::clone),
        Place::Synchronizer(id) => {
            node.with_known(id, |known| known.topology.clone()).unwrap_or_default()
        }
    }
}

/// The mappings of a store that are looked for, each with where it comes from.
fn found<T>(
    node: &Node,
    query: Option<BaseQuery>,
    wanted: impl Fn(&Mapping) -> Option<T>,
) -> Result<Vec<(Option<BaseResult>, T)>, NodeError> {
    let query = query.unwrap_or_default();
    let place = place_of(node, query.store.as_ref())?;
    // There are no proposals.
    if query.proposals {
        return Ok(Vec::new());
    }
    let topology = topology_of(node, &place);
    let store = query.store.unwrap_or(StoreId { store: Some(Store::Authorized(Authorized {})) });
    let all = topology
        .standing()
        .filter_map(|accepted| Some((Some(context(accepted, &store)), wanted(&accepted.mapping)?)));
    Ok(all.collect())
}

fn context(accepted: &Accepted, store: &StoreId) -> BaseResult {
    let time = Timestamp {
        seconds: accepted.time_micros.div_euclid(1_000_000),
        nanos: i32::try_from(accepted.time_micros.rem_euclid(1_000_000) * 1_000)
            .unwrap_or_default(),
    };
    let signatures = &accepted.signed.signatures;
    BaseResult {
        store: Some(store.clone()),
        sequenced: Some(time),
        valid_from: Some(time),
        valid_until: None,
        operation: TopologyChangeOp::AddReplace.into(),
        transaction_hash: accepted.hash.as_bytes().to_vec(),
        serial: i32::try_from(accepted.serial).unwrap_or(i32::MAX),
        signed_by_fingerprints: signatures.iter().map(|one| one.signed_by.clone()).collect(),
    }
}
