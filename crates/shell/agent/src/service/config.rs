//! What the agent is told about its node's service: the `[service]` table of its configuration.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Component, PathBuf};
use std::time::Duration;

use heirloom_model::identifier::{ApplicationId, NodeId, ReleaseName};
use heirloom_model::limit::SERVICE_PEERS_MAX;
use heirloom_proxy::edge::EdgeOptions;
use heirloom_proxy::haproxy::HaProxyOptions;
use heirloom_proxy::nginx::NginxOptions;
use serde::Deserialize;

use crate::config_file::from_text;

/// A peer's `address:port`: the longest name that DNS has, and a port. All peers are one argument,
/// which the system limits to 128 KiB.
pub const PEER_ADDRESS_BYTES_MAX: usize = 253 + 1 + 5;
/// How long a proxy may take to answer, if nothing else is said: it is asked in every tick.
const EDGE_TIMEOUT_MS: u64 = 2_000;

/// The service of one node. No key that decides where data lives or who connects has a default,
/// except the directory below the agent's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Whose keys it asks for.
    #[serde(deserialize_with = "from_text")]
    pub application: ApplicationId,
    /// The host's tool for its database: an absolute path.
    pub tool: PathBuf,
    /// Directory of the bundle that is installed when no service is installed yet. The policy in
    /// force must name its measurement.
    pub bundle: Option<PathBuf>,
    /// Directory of everything that the service keeps, below the agent's `data`.
    #[serde(default = "default_data")]
    pub data: PathBuf,
    /// What peers must have alike.
    pub configuration: PathBuf,
    /// What peers must have alike once they run another release.
    pub configuration_next: Option<NextConfiguration>,
    /// Where the proxy finds it.
    pub client_listen: SocketAddr,
    /// Where its peers find it.
    pub peer_listen: SocketAddr,
    /// Where tests come in while clients are kept out.
    pub door_listen: SocketAddr,
    /// The other nodes, `name=address:port`.
    pub peers: Vec<Peer>,
    /// Where blocks are distributed from.
    pub archive: PathBuf,
    /// The proxy in front of it.
    pub edge: EdgeConfig,
}

/// The configuration of one release, all others having another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextConfiguration {
    /// The release, as its measured manifest names it.
    #[serde(deserialize_with = "from_text")]
    pub release: ReleaseName,
    /// The file.
    pub path: PathBuf,
}

/// Another node of the same service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Where it is: `address:port`.
    pub address: String,
}

/// The proxy in front of the service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "kind")]
pub enum EdgeConfig {
    /// nginx.
    Nginx {
        /// The program.
        #[serde(default = "default_nginx")]
        program: PathBuf,
        /// Its main configuration file.
        configuration: PathBuf,
        /// The file that the fence owns.
        include: PathBuf,
        /// Its `pid` file.
        pid_file: PathBuf,
        /// A plain listener on loopback behind the fence.
        probe: SocketAddr,
        /// The name by which the probe asks.
        #[serde(default = "default_host")]
        host: String,
        /// How long to wait for an answer or a change.
        #[serde(default = "default_timeout")]
        timeout_ms: u64,
    },
    /// `HAProxy`.
    HaProxy {
        /// The master's command socket.
        master_socket: PathBuf,
        /// The backend that is the service.
        backend: String,
        /// The `server-state-file`.
        state_file: PathBuf,
        /// How long to wait for an answer or a change.
        #[serde(default = "default_timeout")]
        timeout_ms: u64,
    },
}

/// Why `[service]` cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ServiceConfigError {
    /// A path that could mean another program tomorrow.
    #[error("`tool` is {}, not an absolute path", path.display())]
    Tool {
        /// The path.
        path: PathBuf,
    },
    /// A directory outside of the agent's.
    #[error("`data` is {}, not a name below the agent's directory", path.display())]
    Data {
        /// The path.
        path: PathBuf,
    },
    /// Names that the agent uses for something else.
    #[error("`data` is {}, which the agent uses for something else", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// Two listeners at one address.
    #[error("`client_listen`, `peer_listen` and `door_listen` must differ")]
    Listen,
    /// Too many peers, one twice, or the node itself.
    #[error(
        "`peers` names {found} nodes; at most {SERVICE_PEERS_MAX} others may be named, each once"
    )]
    Peers {
        /// How many it names.
        found: usize,
    },
}

impl ServiceConfig {
    /// Whether it makes sense for this node.
    pub fn check(&self, node: &NodeId) -> Result<(), ServiceConfigError> {
        if !self.tool.is_absolute() {
            return Err(ServiceConfigError::Tool { path: self.tool.clone() });
        }
        let mut parts = self.data.components();
        let is_name = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
        if !is_name {
            return Err(ServiceConfigError::Data { path: self.data.clone() });
        }
        let taken = ["bundles", "state", "trial", "run", "journal", "installed"];
        if taken.iter().any(|name| self.data.as_os_str() == *name) {
            return Err(ServiceConfigError::Taken { path: self.data.clone() });
        }
        let listen = BTreeSet::from([self.client_listen, self.peer_listen, self.door_listen]);
        if listen.len() != 3 {
            return Err(ServiceConfigError::Listen);
        }
        let found = self.peers.len();
        let distinct: BTreeSet<&NodeId> = self.peers.iter().map(|peer| &peer.node).collect();
        if found > SERVICE_PEERS_MAX || distinct.len() != found || distinct.contains(node) {
            return Err(ServiceConfigError::Peers { found });
        }
        Ok(())
    }

    /// The configuration of a release.
    pub fn configuration_of(&self, release: &ReleaseName) -> &PathBuf {
        match &self.configuration_next {
            Some(next) if next.release == *release => &next.path,
            Some(_) | None => &self.configuration,
        }
    }
}

impl EdgeConfig {
    /// As the fence wants it.
    pub fn options(&self) -> EdgeOptions {
        match self.clone() {
            Self::Nginx { program, configuration, include, pid_file, probe, host, timeout_ms } => {
                EdgeOptions::Nginx(NginxOptions {
                    program,
                    configuration,
                    include,
                    pid_file,
                    probe,
                    host,
                    timeout: Duration::from_millis(timeout_ms),
                })
            }
            Self::HaProxy { master_socket, backend, state_file, timeout_ms } => {
                EdgeOptions::HaProxy(HaProxyOptions {
                    master_socket,
                    backend,
                    state_file,
                    timeout: Duration::from_millis(timeout_ms),
                })
            }
        }
    }
}

impl TryFrom<String> for Peer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not `node=address:port`");
        let (node, address) = text.split_once('=').ok_or_else(wrong)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        // What separates peers in their argument is in no address.
        let is_word = host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        let fits = address.len() <= PEER_ADDRESS_BYTES_MAX;
        if host.is_empty() || !is_word || !is_port || !fits {
            return Err(wrong());
        }
        let node = node.parse().map_err(|_error| wrong())?;
        Ok(Self { node, address: address.to_owned() })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.node, self.address)
    }
}

/// All peers in one word: the platform daemon passes on fewer arguments than there may be peers.
pub(crate) fn in_one_word(peers: &[Peer]) -> String {
    peers.iter().map(Peer::to_string).collect::<Vec<_>>().join(",")
}

fn default_data() -> PathBuf {
    PathBuf::from("service")
}

fn default_nginx() -> PathBuf {
    PathBuf::from("/usr/sbin/nginx")
}

fn default_host() -> String {
    "localhost".to_owned()
}

fn default_timeout() -> u64 {
    EDGE_TIMEOUT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
application = "ledger"
tool = "/usr/bin/heirloom-ledger"
configuration = "ledger.toml"
configuration_next = { release = "ledger-2.0.0", path = "next.toml" }
client_listen = "127.0.0.1:1"
peer_listen = "127.0.0.1:2"
door_listen = "127.0.0.1:3"
peers = ["node-2=127.0.0.1:4", "node-3=host:5"]
archive = "archive"
[edge]
kind = "nginx"
configuration = "nginx.conf"
include = "fence.conf"
pid_file = "nginx.pid"
probe = "127.0.0.1:6"
"#;

    fn parse(text: &str) -> Result<ServiceConfig, toml::de::Error> {
        toml::from_str(text)
    }

    fn checked(from: &str, to: &str) -> Result<(), ServiceConfigError> {
        assert!(GOOD.contains(from), "{from}");
        parse(&GOOD.replace(from, to)).unwrap().check(&"node-1".parse().unwrap())
    }

    #[test]
    fn every_key_counts_and_no_other_does() {
        let config = parse(GOOD).unwrap();
        config.check(&"node-1".parse().unwrap()).unwrap();
        assert_eq!(config.data, PathBuf::from("service"));
        assert!(matches!(config.edge.options(), EdgeOptions::Nginx(_)));
        for line in GOOD.lines().filter(|line| line.contains(" = ")) {
            let is_optional = line.starts_with("configuration_next");
            assert_eq!(parse(&GOOD.replace(line, "")).is_ok(), is_optional, "{line}");
        }
        for (from, to) in [("archive =", "x = 1\narchive ="), ("kind =", "x = 1\nkind =")] {
            assert!(parse(&GOOD.replace(from, to)).is_err(), "{to}");
        }
        assert!(parse(&GOOD.replace("nginx\"\nc", "apache\"\nc")).is_err());
        let (head, _) = GOOD.split_once("kind =").unwrap();
        let edge = "kind = \"haproxy\"\nmaster_socket = \"m\"\nbackend = \"b\"\nstate_file = \"s\"";
        let edge = parse(&format!("{head}{edge}")).unwrap().edge.options();
        assert!(matches!(edge, EdgeOptions::HaProxy(found) if found.backend == "b"));
    }

    #[test]
    fn only_the_named_release_gets_the_next_configuration() {
        let config = parse(GOOD).unwrap();
        let of = |name: &str| config.configuration_of(&name.parse().unwrap()).clone();
        assert_eq!(of("ledger-2.0.0"), PathBuf::from("next.toml"));
        assert_eq!(of("ledger-1.0.0"), PathBuf::from("ledger.toml"));
    }

    #[test]
    fn what_makes_no_sense_on_this_node_is_refused() {
        let peers = |found| Err(ServiceConfigError::Peers { found });
        assert_eq!(checked("127.0.0.1:2", "127.0.0.1:3"), Err(ServiceConfigError::Listen));
        assert_eq!(checked("node-2=", "node-1="), peers(2), "itself");
        assert_eq!(checked("node-2=", "node-3="), peers(2), "one twice");
        let tool = checked("/usr/bin/heirloom", "heirloom");
        assert!(matches!(tool, Err(ServiceConfigError::Tool { .. })), "{tool:?}");
        for path in ["/srv", "../service", "a/b", ""] {
            let found = checked("archive =", &format!("data = \"{path}\"\narchive ="));
            assert!(matches!(found, Err(ServiceConfigError::Data { .. })), "{path}");
        }
        let found = checked("archive =", "data = \"bundles\"\narchive =");
        assert!(matches!(found, Err(ServiceConfigError::Taken { .. })), "{found:?}");
        let long = format!("node-2={}:4", "h".repeat(PEER_ADDRESS_BYTES_MAX - 1));
        let wrong = ["node-2", "node-2=host", "node-2=:4", "node-2=host:0", "Node=host:4"];
        for peer in wrong.into_iter().chain(["node-2=a,b:4", "node-2=a b:4", &long]) {
            let text = GOOD.replace("node-2=127.0.0.1:4", peer);
            assert!(parse(&text).is_err(), "{peer}");
        }
    }

    #[test]
    fn as_many_peers_as_a_plan_may_have_fit_into_one_argument() {
        let host = "h".repeat(PEER_ADDRESS_BYTES_MAX - ":65535".len());
        let named = |count: usize| {
            let peers = (0..count).map(|peer| format!("\"{}-{peer:03}=", "n".repeat(59)));
            let peers: Vec<String> = peers.map(|peer| format!("{peer}{host}:65535\"")).collect();
            let one = "peers = [\"node-2=127.0.0.1:4\", \"node-3=host:5\"]";
            assert!(GOOD.contains(one));
            parse(&GOOD.replace(one, &format!("peers = [{}]", peers.join(",")))).unwrap()
        };
        let node = "node-1".parse().unwrap();
        let all = named(SERVICE_PEERS_MAX);
        all.check(&node).unwrap();
        let word = in_one_word(&all.peers);
        assert!(word.len() < 128 * 1024, "{} bytes", word.len());
        let found = SERVICE_PEERS_MAX + 1;
        assert_eq!(named(found).check(&node), Err(ServiceConfigError::Peers { found }));
        let two = parse(GOOD).unwrap().peers;
        assert_eq!(in_one_word(&two), "node-2=127.0.0.1:4,node-3=host:5");
    }
}
