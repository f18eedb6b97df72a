//! What a node says about itself, and who it is.

use heirloom_canton_node::wire::health::not_initialized::WaitingForExternalInput;
use heirloom_canton_node::wire::health::{NotInitialized, Status as CommonStatus};
use heirloom_canton_node::wire::participant::connected_synchronizer::Health;
use heirloom_canton_node::wire::participant::participant_status_response::{
    Kind, ParticipantStatusResponseStatus,
};
use heirloom_canton_node::wire::participant::participant_status_service_server::ParticipantStatusService;
use heirloom_canton_node::wire::participant::{
    ConnectedSynchronizer, ParticipantStatusRequest, ParticipantStatusResponse,
};
use heirloom_canton_node::wire::topology::identity_initialization_service_server::IdentityInitializationService;
use heirloom_canton_node::wire::topology::{
    GetIdRequest, GetIdResponse, InitIdRequest, InitIdResponse,
};
use prost_types::Duration;
use tonic::{Request, Response, Status};

use crate::node::Node;
use crate::node::link::Link;
use crate::service::Services;
use crate::version::Line;

#[tonic::async_trait]
impl ParticipantStatusService for Services {
    async fn participant_status(
        &self,
        _: Request<ParticipantStatusRequest>,
    ) -> Result<Response<ParticipantStatusResponse>, Status> {
        self.on("ParticipantStatus", |node| {
            let kind = if node.id().is_some() && node.has_topology() {
                Kind::Status(status(node))
            } else {
                Kind::NotInitialized(not_initialized(node))
            };
            Ok(ParticipantStatusResponse { kind: Some(kind) })
        })
        .await
    }
}

#[tonic::async_trait]
impl IdentityInitializationService for Services {
    async fn init_id(
        &self,
        request: Request<InitIdRequest>,
    ) -> Result<Response<InitIdResponse>, Status> {
        let request = request.into_inner();
        self.on("InitId", move |node| {
            node.init_id(&request.identifier, &request.namespace, &request.namespace_delegations)?;
            Ok(InitIdResponse {})
        })
        .await
    }

    async fn get_id(&self, _: Request<GetIdRequest>) -> Result<Response<GetIdResponse>, Status> {
        self.on("GetId", |node| {
            let id = node.id();
            Ok(GetIdResponse {
                initialized: id.is_some(),
                unique_identifier: id.map(|id| id.to_string()).unwrap_or_default(),
            })
        })
        .await
    }
}

fn status(node: &Node) -> ParticipantStatusResponseStatus {
    let settings = node.settings();
    let ports = [
        ("admin".to_owned(), i32::from(settings.admin_listen.port())),
        ("ledger".to_owned(), i32::from(settings.ledger_listen.port())),
    ];
    let uptime = node.started().elapsed();
    ParticipantStatusResponseStatus {
        common_status: Some(CommonStatus {
            uid: node.id().map(|id| id.to_string()).unwrap_or_default(),
            uptime: Some(Duration {
                seconds: i64::try_from(uptime.as_secs()).unwrap_or(i64::MAX),
                nanos: i32::try_from(uptime.subsec_nanos()).unwrap_or_default(),
            }),
            ports: ports.into_iter().collect(),
            active: true,
            version: settings.version.to_string(),
        }),
        connected_synchronizers: node
            .connected()
            .iter()
            .map(|(_, link)| ConnectedSynchronizer {
                physical_synchronizer_id: name_of(node, link),
                health: if link.is_healthy() { Health::Healthy } else { Health::Unhealthy }.into(),
            })
            .collect(),
        active: true,
        supported_protocol_versions: match settings.version.line {
            Line::V33 => vec![33],
            Line::V34 => vec![34],
            Line::V35 => vec![34, 35],
        },
    }
}

fn not_initialized(node: &Node) -> NotInitialized {
    let waiting = if node.id().is_none() {
        WaitingForExternalInput::Id
    } else {
        WaitingForExternalInput::NodeTopology
    };
    let settings = node.settings();
    let says_version = settings.version.line >= Line::V35;
    NotInitialized {
        active: true,
        waiting_for_external_input: waiting.into(),
        version: if says_version { settings.version.to_string() } else { String::new() },
    }
}

/// 3.3 names synchronizers without protocol version and serial.
fn name_of(node: &Node, link: &Link) -> String {
    match node.settings().version.line {
        Line::V33 => link.synchronizer().to_string(),
        Line::V34 | Line::V35 => link.physical().to_owned(),
    }
}
