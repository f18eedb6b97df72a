//! The server: small, without a ledger, and obedient to its script.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use heirloom_canton_node::wire::ledger_admin as admin;
use heirloom_canton_node::wire::ledger_admin::party_management_service_server as parties;
use heirloom_canton_node::wire::older;
use heirloom_canton_node::wire::older::party_management_service_server as older_parties;
use heirloom_canton_node::wire::older::synchronizer_connectivity_service_server as older_synchronizers;
use heirloom_canton_node::wire::participant as wire;
use heirloom_canton_node::wire::participant::participant_repair_service_server as repair;
use heirloom_canton_node::wire::participant::participant_status_service_server as status;
use heirloom_canton_node::wire::participant::synchronizer_connectivity_service_server as synchronizers;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the server does.
#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) status: Option<wire::ParticipantStatusResponse>,
    /// It knows none of the services of 3.x.
    pub(crate) is_second_major: bool,
    /// It never answers.
    pub(crate) is_silent: bool,
    /// The one call that it never answers.
    pub(crate) holds: Option<&'static str>,
    /// How changes fail.
    pub(crate) fails: Option<Code>,
    /// What an export consists of.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// An export ends with an error.
    pub(crate) breaks: bool,
    /// What an import says about ids.
    pub(crate) renames: HashMap<String, String>,
    /// Pages of parties, with one party each; the last of very many leads to itself.
    pub(crate) pages: usize,
    /// The one synchronizer that it knows.
    pub(crate) connection: Vec<u8>,
}

#[derive(Default)]
struct Seen {
    asked: HashMap<&'static str, usize>,
    imported: Vec<wire::ImportAcsRequest>,
    tokens: Vec<String>,
    connection: Vec<u8>,
}

#[derive(Clone)]
struct Answers {
    script: Script,
    seen: Arc<Mutex<Seen>>,
}

/// A server that runs until this is dropped.
pub(crate) struct Fake {
    pub(crate) address: String,
    seen: Arc<Mutex<Seen>>,
    runtime: Option<Runtime>,
}

/// A participant with a name.
pub(crate) fn ready(uid: &str, version: &str) -> wire::ParticipantStatusResponse {
    let common = heirloom_canton_node::wire::health::Status {
        uid: uid.to_owned(),
        active: true,
        version: version.to_owned(),
        ..Default::default()
    };
    let status = wire::participant_status_response::ParticipantStatusResponseStatus {
        common_status: Some(common),
        active: true,
        ..Default::default()
    };
    let kind = wire::participant_status_response::Kind::Status(status);
    wire::ParticipantStatusResponse { kind: Some(kind) }
}

impl Fake {
    pub(crate) fn serve(script: &Script) -> Self {
        let runtime = Runtime::new().unwrap();
        let seen =
            Arc::new(Mutex::new(Seen { connection: script.connection.clone(), ..Seen::default() }));
        let is_33 = script.status.as_ref().is_some_and(|status| match &status.kind {
            Some(wire::participant_status_response::Kind::Status(status)) => {
                status.common_status.as_ref().is_some_and(|one| one.version.starts_with("3.3"))
            }
            _ => false,
        });
        let script = script.clone();
        let answers = Answers { script: script.clone(), seen: Arc::clone(&seen) };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move {
            let mut server = Server::builder();
            let router =
                server.add_service(parties::PartyManagementServiceServer::new(answers.clone()));
            let router = match (script.is_second_major, is_33) {
                (true, _) => router,
                (false, true) => router
                    .add_service(status::ParticipantStatusServiceServer::new(answers.clone()))
                    .add_service(repair::ParticipantRepairServiceServer::new(answers.clone()))
                    .add_service(older_parties::PartyManagementServiceServer::new(answers.clone()))
                    .add_service(Split {
                        older: older_synchronizers::SynchronizerConnectivityServiceServer::new(
                            answers.clone(),
                        ),
                        current: synchronizers::SynchronizerConnectivityServiceServer::new(answers),
                    }),
                (false, false) => router
                    .add_service(status::ParticipantStatusServiceServer::new(answers.clone()))
                    .add_service(repair::ParticipantRepairServiceServer::new(answers.clone()))
                    .add_service(synchronizers::SynchronizerConnectivityServiceServer::new(
                        answers,
                    )),
            };
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, seen, runtime: Some(runtime) }
    }

    pub(crate) fn asked(&self, call: &'static str) -> usize {
        self.seen.lock().unwrap().asked.get(call).copied().unwrap_or_default()
    }

    pub(crate) fn imported(&self) -> Vec<wire::ImportAcsRequest> {
        self.seen.lock().unwrap().imported.clone()
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        self.seen.lock().unwrap().tokens.clone()
    }

    pub(crate) fn connection(&self) -> Vec<u8> {
        self.seen.lock().unwrap().connection.clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Answers {
    async fn hear<T>(&self, call: &'static str, request: &Request<T>) {
        {
            let mut seen = self.seen.lock().unwrap();
            *seen.asked.entry(call).or_default() += 1;
            if let Some(token) = request.metadata().get("authorization") {
                seen.tokens.push(token.to_str().unwrap().to_owned());
            }
        }
        if self.script.is_silent || self.script.holds == Some(call) {
            std::future::pending::<()>().await;
        }
    }

    fn fail(&self) -> Result<(), Status> {
        match self.script.fails {
            None => Ok(()),
            Some(code) => Err(Status::new(code, "as the script says")),
        }
    }

    fn chunks<T: Send + 'static>(&self, make: fn(Vec<u8>) -> T) -> Response<Chunks<T>> {
        let mut all: Vec<Result<T, Status>> =
            self.script.chunks.clone().into_iter().map(|chunk| Ok(make(chunk))).collect();
        if self.script.breaks {
            all.push(Err(Status::unavailable("it is going down")));
        }
        Response::new(Box::pin(tokio_stream::iter(all)))
    }

    fn alias(&self) -> (String, String) {
        use prost::Message;
        let config = wire::SynchronizerConnectionConfig::decode(&*self.script.connection);
        let config = config.unwrap_or_default();
        (config.synchronizer_alias, config.physical_synchronizer_id)
    }
}

#[tonic::async_trait]
impl status::ParticipantStatusService for Answers {
    async fn participant_status(
        &self,
        request: Request<wire::ParticipantStatusRequest>,
    ) -> Result<Response<wire::ParticipantStatusResponse>, Status> {
        self.hear("ParticipantStatus", &request).await;
        Ok(Response::new(self.script.status.clone().unwrap_or_default()))
    }
}

#[tonic::async_trait]
impl repair::ParticipantRepairService for Answers {
    type ExportAcsStream = Chunks<wire::ExportAcsResponse>;

    async fn export_acs(
        &self,
        request: Request<wire::ExportAcsRequest>,
    ) -> Result<Response<Self::ExportAcsStream>, Status> {
        self.hear("ExportAcs", &request).await;
        Ok(self.chunks(|chunk| wire::ExportAcsResponse { chunk }))
    }

    async fn import_acs(
        &self,
        request: Request<Streaming<wire::ImportAcsRequest>>,
    ) -> Result<Response<wire::ImportAcsResponse>, Status> {
        self.hear("ImportAcs", &request).await;
        let mut stream = request.into_inner();
        while let Some(message) = stream.next().await {
            self.seen.lock().unwrap().imported.push(message?);
            self.fail()?;
        }
        let contract_id_mappings = self.script.renames.clone();
        Ok(Response::new(wire::ImportAcsResponse { contract_id_mappings }))
    }

    async fn purge_contracts(
        &self,
        _: Request<wire::PurgeContractsRequest>,
    ) -> Result<Response<wire::PurgeContractsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl older_parties::PartyManagementService for Answers {
    type ExportAcsStream = Chunks<older::ExportAcsResponse>;

    async fn export_acs(
        &self,
        request: Request<older::ExportAcsRequest>,
    ) -> Result<Response<Self::ExportAcsStream>, Status> {
        self.hear("ExportAcs", &request).await;
        Ok(self.chunks(|chunk| older::ExportAcsResponse { chunk }))
    }
}

#[tonic::async_trait]
impl older_synchronizers::SynchronizerConnectivityService for Answers {
    async fn modify_synchronizer(
        &self,
        request: Request<older::ModifySynchronizerRequest>,
    ) -> Result<Response<older::ModifySynchronizerResponse>, Status> {
        self.seen.lock().unwrap().connection = request.into_inner().new_config;
        Ok(Response::new(older::ModifySynchronizerResponse {}))
    }

    async fn list_connected_synchronizers(
        &self,
        _: Request<older::ListConnectedSynchronizersRequest>,
    ) -> Result<Response<older::ListConnectedSynchronizersResponse>, Status> {
        let (synchronizer_alias, synchronizer_id) = self.alias();
        let one = older::list_connected_synchronizers_response::Result {
            synchronizer_alias,
            synchronizer_id,
            healthy: true,
        };
        let connected_synchronizers = vec![one];
        Ok(Response::new(older::ListConnectedSynchronizersResponse { connected_synchronizers }))
    }
}

/// Answers what 3.3 shapes differently, and what it does not.
#[derive(Clone)]
struct Split<C, O> {
    current: C,
    older: O,
}

impl<C: NamedService, O> NamedService for Split<C, O> {
    const NAME: &'static str = C::NAME;
}

type Incoming = http::Request<Body>;
type Outgoing = http::Response<Body>;

impl<C, O> Service<Incoming> for Split<C, O>
where
    C: Service<Incoming, Response = Outgoing, Error = Infallible>,
    O: Service<Incoming, Response = Outgoing, Error = Infallible>,
    C::Future: Send + 'static,
    O::Future: Send + 'static,
{
    type Response = Outgoing;
    type Error = Infallible;
    type Future = BoxFuture<Outgoing, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Generated servers are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Incoming) -> Self::Future {
        let call = request.uri().path().rsplit('/').next().unwrap_or_default();
        match call {
            "ModifySynchronizer" | "ListConnectedSynchronizers" => {
                Box::pin(self.older.call(request))
            }
            _ => Box::pin(self.current.call(request)),
        }
    }
}

#[tonic::async_trait]
impl synchronizers::SynchronizerConnectivityService for Answers {
    async fn modify_synchronizer(
        &self,
        request: Request<wire::ModifySynchronizerRequest>,
    ) -> Result<Response<wire::ModifySynchronizerResponse>, Status> {
        self.seen.lock().unwrap().connection = request.into_inner().new_config;
        Ok(Response::new(wire::ModifySynchronizerResponse {}))
    }

    async fn list_connected_synchronizers(
        &self,
        _: Request<wire::ListConnectedSynchronizersRequest>,
    ) -> Result<Response<wire::ListConnectedSynchronizersResponse>, Status> {
        let (synchronizer_alias, synchronizer_id) = self.alias();
        let one = wire::list_connected_synchronizers_response::Result {
            physical_synchronizer_id: format!("{synchronizer_id}::34-0"),
            synchronizer_alias,
            synchronizer_id,
            healthy: true,
        };
        let connected_synchronizers = vec![one];
        Ok(Response::new(wire::ListConnectedSynchronizersResponse { connected_synchronizers }))
    }

    async fn list_registered_synchronizers(
        &self,
        _: Request<wire::ListRegisteredSynchronizersRequest>,
    ) -> Result<Response<wire::ListRegisteredSynchronizersResponse>, Status> {
        let one = wire::list_registered_synchronizers_response::Result {
            config: self.seen.lock().unwrap().connection.clone(),
            connected: true,
            ..Default::default()
        };
        Ok(Response::new(wire::ListRegisteredSynchronizersResponse { results: vec![one] }))
    }

    async fn disconnect_all_synchronizers(
        &self,
        request: Request<wire::DisconnectAllSynchronizersRequest>,
    ) -> Result<Response<wire::DisconnectAllSynchronizersResponse>, Status> {
        self.hear("DisconnectAllSynchronizers", &request).await;
        self.fail()?;
        Ok(Response::new(wire::DisconnectAllSynchronizersResponse {}))
    }

    async fn connect_synchronizer(
        &self,
        _: Request<wire::ConnectSynchronizerRequest>,
    ) -> Result<Response<wire::ConnectSynchronizerResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn register_synchronizer(
        &self,
        _: Request<wire::RegisterSynchronizerRequest>,
    ) -> Result<Response<wire::RegisterSynchronizerResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn reconnect_synchronizer(
        &self,
        _: Request<wire::ReconnectSynchronizerRequest>,
    ) -> Result<Response<wire::ReconnectSynchronizerResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn reconnect_synchronizers(
        &self,
        _: Request<wire::ReconnectSynchronizersRequest>,
    ) -> Result<Response<wire::ReconnectSynchronizersResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn disconnect_synchronizer(
        &self,
        _: Request<wire::DisconnectSynchronizerRequest>,
    ) -> Result<Response<wire::DisconnectSynchronizerResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

#[tonic::async_trait]
impl parties::PartyManagementService for Answers {
    async fn list_known_parties(
        &self,
        request: Request<admin::ListKnownPartiesRequest>,
    ) -> Result<Response<admin::ListKnownPartiesResponse>, Status> {
        self.hear("ListKnownParties", &request).await;
        let page: usize = request.get_ref().page_token.parse().unwrap_or_default();
        let party = admin::PartyDetails {
            party: format!("party{page}::1220aa"),
            is_local: true,
            ..Default::default()
        };
        let next = match self.script.pages {
            // The second page names itself as the next one.
            usize::MAX => 1,
            pages if page + 1 < pages => page + 1,
            _ => 0,
        };
        let next_page_token = if next == 0 { String::new() } else { next.to_string() };
        let party_details = vec![party];
        Ok(Response::new(admin::ListKnownPartiesResponse { party_details, next_page_token }))
    }

    async fn get_participant_id(
        &self,
        _: Request<admin::GetParticipantIdRequest>,
    ) -> Result<Response<admin::GetParticipantIdResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn get_parties(
        &self,
        _: Request<admin::GetPartiesRequest>,
    ) -> Result<Response<admin::GetPartiesResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn allocate_party(
        &self,
        _: Request<admin::AllocatePartyRequest>,
    ) -> Result<Response<admin::AllocatePartyResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}
