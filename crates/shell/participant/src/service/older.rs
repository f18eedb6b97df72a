//! The calls that 3.3 shapes differently.

use std::convert::Infallible;
use std::pin::Pin;

use heirloom_canton_node::wire::older::party_management_service_server::PartyManagementService;
use heirloom_canton_node::wire::older::synchronizer_connectivity_service_server::SynchronizerConnectivityService;
use heirloom_canton_node::wire::older::{
    ExportAcsRequest, ExportAcsResponse, ListConnectedSynchronizersRequest,
    ListConnectedSynchronizersResponse, ModifySynchronizerRequest, ModifySynchronizerResponse,
    list_connected_synchronizers_response,
};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::NamedService;
use tonic::{Request, Response, Status};

use crate::repair::export::Export;
use crate::service::Services;

/// Calls of one service, some of which have an older shape.
#[derive(Clone)]
pub struct Split<C, O> {
    /// Answers everything else.
    pub current: C,
    /// Answers [`OLDER`].
    pub older: O,
}

/// The calls of a service of synchronizers that 3.3 shapes differently.
pub const OLDER: [&str; 2] = ["/ModifySynchronizer", "/ListConnectedSynchronizers"];

impl<C: NamedService, O> NamedService for Split<C, O> {
    const NAME: &'static str = C::NAME;
}

impl<C, O> Service<http::Request<Body>> for Split<C, O>
where
    C: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    O: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    C::Future: Send + 'static,
    O::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.current.poll_ready(context) {
            Poll::Ready(Ok(())) => self.older.poll_ready(context),
            waiting => waiting,
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if OLDER.iter().any(|call| request.uri().path().ends_with(call)) {
            Box::pin(self.older.call(request))
        } else {
            Box::pin(self.current.call(request))
        }
    }
}

#[tonic::async_trait]
impl SynchronizerConnectivityService for Services {
    async fn modify_synchronizer(
        &self,
        request: Request<ModifySynchronizerRequest>,
    ) -> Result<Response<ModifySynchronizerResponse>, Status> {
        let config = request.into_inner().new_config;
        self.with("ModifySynchronizer", |node| async move {
            node.modify(config).await?;
            Ok(ModifySynchronizerResponse {})
        })
        .await
    }

    async fn list_connected_synchronizers(
        &self,
        _: Request<ListConnectedSynchronizersRequest>,
    ) -> Result<Response<ListConnectedSynchronizersResponse>, Status> {
        self.on("ListConnectedSynchronizers", |node| {
            let connected = node.connected().into_iter().map(|(alias, link)| {
                list_connected_synchronizers_response::Result {
                    synchronizer_alias: alias,
                    synchronizer_id: link.synchronizer().to_string(),
                    healthy: link.is_healthy(),
                }
            });
            Ok(ListConnectedSynchronizersResponse { connected_synchronizers: connected.collect() })
        })
        .await
    }
}

#[tonic::async_trait]
impl PartyManagementService for Services {
    type ExportAcsStream = Pin<Box<dyn Stream<Item = Result<ExportAcsResponse, Status>> + Send>>;

    async fn export_acs(
        &self,
        request: Request<ExportAcsRequest>,
    ) -> Result<Response<Self::ExportAcsStream>, Status> {
        let request = request.into_inner();
        let renames = request.contract_synchronizer_renames.into_iter();
        let export = Export {
            parties: request.party_ids,
            synchronizer: request.synchronizer_id,
            offset: request.ledger_offset,
            renames: renames.map(|(from, to)| (from, to.target_synchronizer_id)).collect(),
            excluded: std::collections::BTreeSet::new(),
        };
        let chunks = self.exported(export)?;
        Ok(Response::new(Box::pin(chunks.map(|chunk| Ok(ExportAcsResponse { chunk: chunk? })))))
    }
}
