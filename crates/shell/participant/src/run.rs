//! The processes: a participant, and a synchronizer.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use heirloom_canton_node::wire::ledger::command_service_server::CommandServiceServer;
use heirloom_canton_node::wire::ledger::state_service_server::StateServiceServer;
use heirloom_canton_node::wire::ledger_admin::party_management_service_server::PartyManagementServiceServer;
use heirloom_canton_node::wire::ledger_admin::user_management_service_server::UserManagementServiceServer;
use heirloom_canton_node::wire::older;
use heirloom_canton_node::wire::participant::package_service_server::PackageServiceServer;
use heirloom_canton_node::wire::participant::participant_repair_service_server::ParticipantRepairServiceServer;
use heirloom_canton_node::wire::participant::participant_status_service_server::ParticipantStatusServiceServer;
use heirloom_canton_node::wire::participant::ping_service_server::PingServiceServer;
use heirloom_canton_node::wire::participant::synchronizer_connectivity_service_server::SynchronizerConnectivityServiceServer;
use heirloom_canton_node::wire::topology::identity_initialization_service_server::IdentityInitializationServiceServer;
use heirloom_canton_node::wire::topology::topology_manager_read_service_server::TopologyManagerReadServiceServer;
use heirloom_canton_node::wire::topology::topology_manager_write_service_server::TopologyManagerWriteServiceServer;
use heirloom_canton_node::wire::vault::vault_service_server::VaultServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::configuration::{ConfigurationError, ParticipantSettings, SynchronizerSettings};
use crate::limit::{INBOUND_MESSAGE_BYTES_MAX, OUTBOUND_MESSAGE_BYTES_MAX};
use crate::log::event;
use crate::node::Node;
use crate::node::error::NodeError;
use crate::service::Services;
use crate::service::older::Split;
use crate::synchronizer::sequencer::{OpenError, Sequencer};
use crate::synchronizer::server;
use crate::version::Line;

/// Why a process does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The participant does not open.
    #[error("the participant does not start")]
    Node(#[from] NodeError),
    /// The synchronizer does not open.
    #[error("the synchronizer does not start")]
    Open(#[from] OpenError),
    /// It cannot listen.
    #[error("nobody can listen at {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// It does not serve any more.
    #[error("the server failed")]
    Serve(#[from] tonic::transport::Error),
    /// The runtime does not start.
    #[error("the runtime does not start")]
    Runtime(#[source] std::io::Error),
}

/// A participant that serves, in this process.
pub struct Running {
    /// The node.
    pub node: Arc<Node>,
    /// Where its admin API is.
    pub admin: SocketAddr,
    /// Where its Ledger API is.
    pub ledger: SocketAddr,
    stop: watch::Sender<bool>,
    servers: Vec<tokio::task::JoinHandle<Result<(), tonic::transport::Error>>>,
}

impl Running {
    /// Starts to serve, and connects what connects by itself.
    pub async fn start(settings: ParticipantSettings) -> Result<Self, RunError> {
        let node = tokio::task::spawn_blocking(move || Node::open(settings)).await;
        let node = node.map_err(|error| NodeError::Refused(error.to_string()))??;
        Self::serve(node).await
    }

    /// Serves a node that is open.
    pub async fn serve(node: Arc<Node>) -> Result<Self, RunError> {
        let (admin, admin_at) = listen(node.settings().admin_listen).await?;
        let (ledger, ledger_at) = listen(node.settings().ledger_listen).await?;
        let (stop, stopped) = watch::channel(false);
        let serve = |listener, routes| {
            let mut stopped = stopped.clone();
            let until = async move {
                // A sender that is gone has stopped too.
                stopped.wait_for(|stop| *stop).await.ok();
            };
            tokio::spawn(serve_routes(listener, routes, until))
        };
        let servers = vec![serve(admin, admin_routes(&node)), serve(ledger, ledger_routes(&node))];
        event("admin", admin_at);
        event("ledger", ledger_at);
        node.connect_automatically().await;
        event("started", node.settings().version.to_string());
        Ok(Self { node, admin: admin_at, ledger: ledger_at, stop, servers })
    }

    /// Ends: connections are cut, calls that run end first.
    pub async fn stop(self) -> Result<(), RunError> {
        self.node.disconnect(None).await?;
        self.stop.send_replace(true);
        for server in self.servers {
            server.await.map_err(|error| NodeError::Refused(error.to_string()))??;
        }
        Ok(())
    }
}

/// A synchronizer that serves, in this process.
pub struct RunningSynchronizer {
    /// Where it is.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

impl RunningSynchronizer {
    /// Starts to serve.
    pub async fn start(settings: SynchronizerSettings) -> Result<Self, RunError> {
        let address = settings.listen;
        let opened = tokio::task::spawn_blocking(move || Sequencer::open(&settings)).await;
        let sequencer = opened.map_err(|error| NodeError::Refused(error.to_string()))??;
        let (listener, address) = listen(address).await?;
        let (stop, mut stopped) = watch::channel(false);
        event("synchronizer", sequencer.parameters());
        let until = async move {
            stopped.wait_for(|stop| *stop).await.ok();
        };
        let server = tokio::spawn(server::serve(Arc::new(sequencer), listener, until));
        event("started", address);
        Ok(Self { address, stop, server })
    }

    /// Ends at once: whoever follows comes again.
    pub fn stop(self) {
        self.stop.send_replace(true);
        self.server.abort();
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let failed = |source| RunError::Listen { address, source };
    let listener = server::listen(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn serve_routes(
    listener: TcpListener,
    routes: Routes,
    until: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let incoming = TcpListenerStream::new(listener);
    Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, until).await
}

/// A server with the limits of messages of the real one.
macro_rules! limited {
    ($server:ident, $services:expr) => {
        $server::new($services.clone())
            .max_decoding_message_size(INBOUND_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(OUTBOUND_MESSAGE_BYTES_MAX)
    };
}

fn admin_routes(node: &Arc<Node>) -> Routes {
    let services = Services::new(Arc::clone(node));
    let mut routes = Routes::new(limited!(ParticipantStatusServiceServer, services))
        .add_service(limited!(IdentityInitializationServiceServer, services))
        .add_service(limited!(VaultServiceServer, services))
        .add_service(limited!(TopologyManagerReadServiceServer, services))
        .add_service(limited!(TopologyManagerWriteServiceServer, services))
        .add_service(limited!(PackageServiceServer, services))
        .add_service(limited!(PingServiceServer, services))
        .add_service(limited!(ParticipantRepairServiceServer, services));
    let current = limited!(SynchronizerConnectivityServiceServer, services);
    if node.settings().version.line < Line::V34 {
        use older::party_management_service_server::PartyManagementServiceServer as OlderParties;
        use older::synchronizer_connectivity_service_server::SynchronizerConnectivityServiceServer as OlderConnectivity;
        let older = limited!(OlderConnectivity, services);
        routes = routes.add_service(Split { current, older });
        routes = routes.add_service(limited!(OlderParties, services));
    } else {
        routes = routes.add_service(current);
    }
    routes
}

fn ledger_routes(node: &Arc<Node>) -> Routes {
    let services = Services::new(Arc::clone(node));
    Routes::new(limited!(StateServiceServer, services))
        .add_service(limited!(CommandServiceServer, services))
        .add_service(limited!(PartyManagementServiceServer, services))
        .add_service(limited!(UserManagementServiceServer, services))
}
