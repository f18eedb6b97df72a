//! The log store suite over a real server on loopback.

use heirloom_conformance::log_store::{Fixture, run};
use heirloom_model::digest::NetworkId;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_registry_shell::server::{self, Registry};
use heirloom_store::log_file::LogFile;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

struct OverHttp {
    client: RegistryClient,
    network: NetworkId,
    directory: tempfile::TempDir,
    server: Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
    runtime: Runtime,
}

impl OverHttp {
    fn serve(network: NetworkId, directory: tempfile::TempDir) -> Self {
        let path = directory.path().join("log");
        if !path.exists() {
            drop(LogFile::create(&path).unwrap());
        }
        let (store, _torn) = LogFile::open(&path).unwrap();
        let registry = Registry::open(store, network).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(server::listen("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = async move {
            let stopped = async {
                let _stopped = stopped.await;
            };
            server::serve(registry, listener, stopped).await.unwrap();
        };
        let server = Some((stop, runtime.spawn(serving)));
        let client = RegistryClient::new(&format!("http://{address}"));
        Self { client, network, directory, server, runtime }
    }
}

impl Fixture for OverHttp {
    type Store = RegistryClient;

    fn create(network: NetworkId) -> Self {
        Self::serve(network, tempfile::tempdir().unwrap())
    }

    fn store(&self) -> &RegistryClient {
        &self.client
    }

    fn restart(mut self) -> Self {
        let (stop, task) = self.server.take().unwrap();
        stop.send(()).unwrap();
        // Idle connections of the client must not keep the server alive.
        let client = std::mem::replace(&mut self.client, RegistryClient::new("http://127.0.0.1:9"));
        drop(client);
        self.runtime.block_on(task).unwrap();
        drop(self.runtime);
        Self::serve(self.network, self.directory)
    }
}

#[test]
fn the_registry_over_http_is_a_log_store() {
    run::<OverHttp>();
}
