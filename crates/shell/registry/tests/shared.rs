//! Several servers in front of one etcd cluster: none of them keeps anything that others lack.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says if it is skipped"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use heirloom_conformance::etcd::Cluster;
use heirloom_conformance::log_store::{self, Fixture};
use heirloom_etcd::etcd::Etcd;
use heirloom_etcd::log::EtcdLog;
use heirloom_etcd::presence::EtcdPresence;
use heirloom_model::counter::{Epoch, LogIndex, Serial};
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::LogPosition;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use heirloom_registry_shell::announcer::Announcer;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_registry_shell::server::{ServeError, Server, Shared, Stopper};
use heirloom_testkit::ceremony::Ceremony;
use tempfile::TempDir;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// A watch that must be woken ends long before.
const PATIENCE: Duration = Duration::from_secs(30);

struct OnEtcd {
    client: RegistryClient,
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl OnEtcd {
    fn start(cluster: &Cluster, network: NetworkId) -> Self {
        let etcd = Etcd::new(cluster.endpoints()).unwrap();
        let log = Box::new(EtcdLog::new(etcd.clone(), network));
        let shared = Shared { log, presence: Box::new(EtcdPresence::new(etcd, network)) };
        let server = Server::bind_shared(shared, network, ANY).unwrap();
        let client = RegistryClient::new(&server.address().to_string());
        let stopper = server.stopper();
        let thread = Some(thread::spawn(move || server.run()));
        Self { client, stopper, thread }
    }
}

impl Drop for OnEtcd {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

/// Two servers; requests go to the first, and to the second after a restart.
struct Pair {
    network: NetworkId,
    servers: Vec<OnEtcd>,
    cluster: Cluster,
    _directory: TempDir,
}

impl Pair {
    fn start(network: NetworkId) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(1, directory.path()).unwrap();
        let servers = (0..2).map(|_| OnEtcd::start(&cluster, network)).collect();
        Self { network, servers, cluster, _directory: directory }
    }

    fn clients(&self) -> [&RegistryClient; 2] {
        [&self.servers[0].client, &self.servers[1].client]
    }
}

impl Fixture for Pair {
    type Store = RegistryClient;

    fn create(network: NetworkId) -> Self {
        Self::start(network)
    }

    fn store(&self) -> &RegistryClient {
        &self.servers[0].client
    }

    fn restart(mut self) -> Self {
        self.servers.clear();
        self.cluster.restart_all().unwrap();
        self.servers.push(OnEtcd::start(&self.cluster, self.network));
        self
    }
}

fn available() -> bool {
    if !Cluster::available() {
        println!("skipped: this machine has no etcd");
    }
    Cluster::available()
}

fn index(index: usize) -> LogIndex {
    LogIndex(u64::try_from(index).unwrap())
}

#[test]
fn a_server_on_etcd_is_a_log_store() {
    if available() {
        log_store::run::<Pair>();
    }
}

#[test]
fn what_one_server_takes_all_know() {
    if !available() {
        return;
    }
    let ceremony = Ceremony::new(&[4; 32]);
    let pair = Pair::start(ceremony.network);
    let [one, two] = pair.clients();
    let fleet = ceremony.fleet(Serial(1), ceremony.nodes(2));
    let statements = [ceremony.root(), ceremony.epoch(Epoch(1)), fleet, ceremony.epoch(Epoch(2))];
    let mut position = LogPosition::START;
    for (at, statement) in statements.iter().enumerate() {
        // In turn, each behind what the other took; and the other one wakes its watchers.
        let (writer, other) = if at % 2 == 0 { (one, two) } else { (two, one) };
        let envelope = wire::encode(statement);
        let entry = LogEntry::following(&position, envelope.clone());
        position = position.advance(&entry).unwrap();
        thread::scope(|scope| {
            let watcher = scope.spawn(|| other.watch(index(at), PATIENCE));
            assert_eq!(writer.append(index(at), &envelope), Ok(position));
            assert_eq!(watcher.join().unwrap(), Ok(position));
        });
        assert_eq!(other.head(), Ok(position));
        let refused = other.append(index(at), &envelope);
        assert_eq!(refused, Err(AppendError::Conflict { head: position }));
    }
    // A server judges by what the other took: this epoch has begun.
    let again = wire::encode(&ceremony.epoch(Epoch(2)));
    for client in [one, two] {
        let refused = client.append(index(4), &again);
        assert!(matches!(refused, Err(AppendError::Refused { .. })), "{refused:?}");
    }
    let node: NodeId = "node-1".parse().unwrap();
    let key = Arc::new(ceremony.agent_key(&node));
    let announcer = |client: &RegistryClient| {
        Announcer::new(client.clone(), ceremony.network, node.clone(), Arc::clone(&key))
    };
    announcer(one).announce("host-1:7000", Duration::from_mins(1)).unwrap();
    assert_eq!(two.presence().unwrap()[&node], "host-1:7000");
    announcer(two).announce("host-1:7001", Duration::from_mins(1)).unwrap();
    assert_eq!(one.presence().unwrap()[&node], "host-1:7001");
}

#[test]
fn a_server_without_its_cluster_says_so_until_it_is_back() {
    if !available() {
        return;
    }
    let ceremony = Ceremony::new(&[4; 32]);
    let mut pair = Pair::start(ceremony.network);
    let root = wire::encode(&ceremony.root());
    let position = pair.clients()[0].append(LogIndex(0), &root).unwrap();
    pair.cluster.kill(0);
    let [client, _] = pair.clients();
    let head = client.head();
    assert!(matches!(head, Err(ReadError::Unreachable { .. })), "{head:?}");
    let epoch = wire::encode(&ceremony.epoch(Epoch(1)));
    let appended = client.append(LogIndex(1), &epoch);
    assert!(matches!(appended, Err(AppendError::Unreachable { .. })), "{appended:?}");
    // By now the server has looked for itself, and failed.
    let watched = client.watch(LogIndex(1), Duration::from_secs(10));
    assert!(matches!(watched, Err(ReadError::Unreachable { .. })), "{watched:?}");
    pair.cluster.restart(0).unwrap();
    let [client, other] = pair.clients();
    assert_eq!(client.head(), Ok(position));
    let position = client.append(LogIndex(1), &epoch).unwrap();
    assert_eq!(other.watch(LogIndex(1), PATIENCE), Ok(position));
}

#[test]
fn a_cluster_with_the_log_of_another_network_is_not_served() {
    if !available() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(1, directory.path()).unwrap();
    let network = NetworkId::new([1; 32]);
    let etcd = Etcd::new(cluster.endpoints()).unwrap();
    let log = EtcdLog::new(etcd.clone(), network);
    log.append(LogIndex(0), b"the root of another network").unwrap();
    let presence = Box::new(EtcdPresence::new(etcd, network));
    let refused = Server::bind_shared(Shared { log: Box::new(log), presence }, network, ANY);
    let refused = refused.map(drop);
    assert!(matches!(refused, Err(ServeError::OtherNetwork { .. })), "{refused:?}");
}
