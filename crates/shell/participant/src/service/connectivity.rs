//! Synchronizers: known, connected, disconnected.

use heirloom_canton_node::wire::participant::register_synchronizer_request::SynchronizerConnection;
use heirloom_canton_node::wire::participant::synchronizer_connectivity_service_server::SynchronizerConnectivityService;
use heirloom_canton_node::wire::participant::{
    ConnectSynchronizerRequest, ConnectSynchronizerResponse, DisconnectAllSynchronizersRequest,
    DisconnectAllSynchronizersResponse, DisconnectSynchronizerRequest,
    DisconnectSynchronizerResponse, ListConnectedSynchronizersRequest,
    ListConnectedSynchronizersResponse, ListRegisteredSynchronizersRequest,
    ListRegisteredSynchronizersResponse, ModifySynchronizerRequest, ModifySynchronizerResponse,
    ReconnectSynchronizerRequest, ReconnectSynchronizerResponse, ReconnectSynchronizersRequest,
    ReconnectSynchronizersResponse, RegisterSynchronizerRequest, RegisterSynchronizerResponse,
    list_connected_synchronizers_response, list_registered_synchronizers_response,
};
use tonic::{Request, Response, Status};

use crate::service::Services;
use crate::synchronizer::wire::Parameters;
use crate::version::Line;

/// The number of a synchronizer that is not superseded.
const ACTIVE: i32 = 1;

#[tonic::async_trait]
impl SynchronizerConnectivityService for Services {
    async fn connect_synchronizer(
        &self,
        request: Request<ConnectSynchronizerRequest>,
    ) -> Result<Response<ConnectSynchronizerResponse>, Status> {
        let config = request.into_inner().config;
        self.with("ConnectSynchronizer", |node| async move {
            let alias = node.register(config, true).await?;
            node.connect(&alias).await?;
            Ok(ConnectSynchronizerResponse { connected_successfully: true })
        })
        .await
    }

    async fn register_synchronizer(
        &self,
        request: Request<RegisterSynchronizerRequest>,
    ) -> Result<Response<RegisterSynchronizerResponse>, Status> {
        let request = request.into_inner();
        let with_handshake =
            request.synchronizer_connection != i32::from(SynchronizerConnection::None);
        self.with("RegisterSynchronizer", |node| async move {
            node.register(request.config, with_handshake).await?;
            Ok(RegisterSynchronizerResponse {})
        })
        .await
    }

    async fn modify_synchronizer(
        &self,
        request: Request<ModifySynchronizerRequest>,
    ) -> Result<Response<ModifySynchronizerResponse>, Status> {
        let request = request.into_inner();
        self.with("ModifySynchronizer", |node| async move {
            node.modify(request.new_config).await?;
            Ok(ModifySynchronizerResponse {})
        })
        .await
    }

    async fn reconnect_synchronizer(
        &self,
        request: Request<ReconnectSynchronizerRequest>,
    ) -> Result<Response<ReconnectSynchronizerResponse>, Status> {
        let request = request.into_inner();
        self.with("ReconnectSynchronizer", |node| async move {
            node.connect(&request.synchronizer_alias).await?;
            Ok(ReconnectSynchronizerResponse { connected_successfully: true })
        })
        .await
    }

    async fn reconnect_synchronizers(
        &self,
        request: Request<ReconnectSynchronizersRequest>,
    ) -> Result<Response<ReconnectSynchronizersResponse>, Status> {
        let request = request.into_inner();
        self.with("ReconnectSynchronizers", |node| async move {
            let failed = node.reconnect_all().await?;
            match failed.into_values().next() {
                Some(error) if !request.ignore_failures => Err(error),
                _ => Ok(ReconnectSynchronizersResponse {}),
            }
        })
        .await
    }

    async fn disconnect_synchronizer(
        &self,
        request: Request<DisconnectSynchronizerRequest>,
    ) -> Result<Response<DisconnectSynchronizerResponse>, Status> {
        let request = request.into_inner();
        self.with("DisconnectSynchronizer", |node| async move {
            node.disconnect(Some(&request.synchronizer_alias)).await?;
            Ok(DisconnectSynchronizerResponse {})
        })
        .await
    }

    async fn disconnect_all_synchronizers(
        &self,
        _: Request<DisconnectAllSynchronizersRequest>,
    ) -> Result<Response<DisconnectAllSynchronizersResponse>, Status> {
        self.with("DisconnectAllSynchronizers", |node| async move {
            node.disconnect(None).await?;
            Ok(DisconnectAllSynchronizersResponse {})
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
                    physical_synchronizer_id: link.physical().to_owned(),
                    healthy: link.is_healthy(),
                }
            });
            Ok(ListConnectedSynchronizersResponse { connected_synchronizers: connected.collect() })
        })
        .await
    }

    async fn list_registered_synchronizers(
        &self,
        _: Request<ListRegisteredSynchronizersRequest>,
    ) -> Result<Response<ListRegisteredSynchronizersResponse>, Status> {
        self.on("ListRegisteredSynchronizers", |node| {
            let line = node.settings().version.line;
            let says_more = line >= Line::V35;
            let says_where = node.settings().version.line >= Line::V34;
            let connected: Vec<String> =
                node.connected().into_iter().map(|(alias, _)| alias).collect();
            let results = node.synchronizers()?.into_iter().map(|one| {
                let physical = one.parameters.as_ref().map(Parameters::physical_id);
                list_registered_synchronizers_response::Result {
                    config: one.stated_config(line),
                    connected: connected.contains(&one.alias),
                    // Since 3.4.
                    physical_synchronizer_id: physical.filter(|_| says_where),
                    status: if says_more { ACTIVE } else { 0 },
                }
            });
            Ok(ListRegisteredSynchronizersResponse { results: results.collect() })
        })
        .await
    }
}
