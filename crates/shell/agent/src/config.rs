//! The agent's one configuration file. Unknown keys are errors; there are no defaults for
//! anything that decides where key material lives.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use heirloom_fetch::limit::MIRRORS_MAX;
use heirloom_fetch::mirror::{Authorities, Mirror, ParseMirrorError};
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::NodeId;
use serde::Deserialize;

use crate::config_file::{self, ConfigFileError, from_text};
use crate::service::config::{ServiceConfig, ServiceConfigError};

/// Addresses of one node: a handover needs two, for the old keeper and the new one.
pub const LISTEN_MAX: usize = 16;

/// What the agent of one node needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network, by the digest of its first root.
    #[serde(deserialize_with = "from_text")]
    pub network: NetworkId,
    /// The node.
    #[serde(deserialize_with = "from_text")]
    pub node: NodeId,
    /// File with the agent's signing key.
    pub key_file: PathBuf,
    /// Where the registry is served: `http://address:port`.
    pub registry: String,
    /// Socket of this host's platform daemon.
    pub platform: PathBuf,
    /// Directory of everything that this node keeps: journal, bundles, sealed state, quarantine.
    pub data: PathBuf,
    /// Where releases are fetched from, in this order: `https://host/path`, `http://host/path`, or
    /// an absolute directory; each with one directory per release, named like it.
    pub mirrors: Vec<String>,
    /// PEM file of the certificate authorities that vouch for mirrors over https. Without it, those
    /// of the system do.
    pub mirror_authorities: Option<PathBuf>,
    /// `address:port` on which keepers serve sessions. Each keeper takes the first one that no
    /// other uses: two run side by side while a keyring is handed over.
    pub listen: Vec<SocketAddr>,
    /// `address:port` of the agent's own interface: status, journal.
    pub api: String,
    /// Free bytes that must remain on the disk before a release is prepared.
    pub free_bytes_min: u64,
    /// The keeper bundles of this node: exactly one per domain.
    pub keeper: Vec<KeeperBundle>,
    /// The service of this node, if it runs one besides its keeper.
    pub service: Option<ServiceConfig>,
}

/// A keeper bundle that is installed when nothing is installed yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperBundle {
    /// Directory with `binary`, `manifest` and `sigstruct`.
    pub bundle: PathBuf,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is no configuration.
    #[error(transparent)]
    File(#[from] ConfigFileError),
    /// No address, or too many, or one twice.
    #[error("`listen` names {found} addresses; there must be 1 to {LISTEN_MAX}, each once")]
    Listen {
        /// How many it names.
        found: usize,
    },
    /// Something that is no mirror.
    #[error("`mirrors` cannot be used")]
    Mirror(#[from] ParseMirrorError),
    /// No mirror, or too many.
    #[error("`mirrors` names {found} mirrors; there must be 1 to {MIRRORS_MAX}")]
    Mirrors {
        /// How many it names.
        found: usize,
    },
    /// What is said about the service makes no sense.
    #[error("`[service]` cannot be used")]
    Service(#[from] ServiceConfigError),
    /// No keeper bundle, or more than one.
    #[error("the configuration names {found} keeper bundles for one domain; there must be one")]
    Bundles {
        /// How many it names.
        found: usize,
    },
}

impl Config {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = config_file::read(path, "an agent")?;
        config.check()?;
        Ok(config)
    }

    /// The mirrors, in order.
    pub fn mirrors(&self) -> Result<Vec<Mirror>, ConfigError> {
        let own = self.mirror_authorities.clone();
        let authorities = own.map_or(Authorities::System, Authorities::File);
        let parsed = self.mirrors.iter().map(|text| Mirror::parse(text, &authorities));
        Ok(parsed.collect::<Result<_, _>>()?)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let found = self.listen.len();
        let distinct: BTreeSet<&SocketAddr> = self.listen.iter().collect();
        if found == 0 || found > LISTEN_MAX || distinct.len() != found {
            return Err(ConfigError::Listen { found });
        }
        let found = self.mirrors()?.len();
        if found == 0 || found > MIRRORS_MAX {
            return Err(ConfigError::Mirrors { found });
        }
        if let Some(service) = &self.service {
            service.check(&self.node)?;
        }
        match self.keeper.len() {
            1 => Ok(()),
            found => Err(ConfigError::Bundles { found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
network = "0101010101010101010101010101010101010101010101010101010101010101"
node = "node-1"
key_file = "agent.key"
registry = "http://127.0.0.1:1"
platform = "platform.sock"
data = "data"
mirrors = ["https://releases.example/heirloom", "/srv/releases"]
listen = ["127.0.0.1:2", "127.0.0.1:4"]
api = "127.0.0.1:3"
free_bytes_min = 1
[[keeper]]
bundle = "bundles/v1"
"#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn one_keeper_bundle_is_accepted_two_or_none_are_refused() {
        assert_eq!(parse(GOOD).unwrap().node.as_str(), "node-1");
        let two = format!("{GOOD}[[keeper]]\nbundle = \"bundles/v2\"\n");
        assert!(matches!(parse(&two), Err(ConfigError::Bundles { found: 2 })));
        let none = GOOD.replace("[[keeper]]\nbundle = \"bundles/v1\"\n", "keeper = []\n");
        assert!(matches!(parse(&none), Err(ConfigError::Bundles { found: 0 })));
    }

    #[test]
    fn unknown_and_missing_keys_are_errors() {
        let unknown = GOOD.replace("[[keeper]]", "keeeper = 1\n[[keeper]]");
        assert!(matches!(
            parse(&unknown),
            Err(ConfigError::File(ConfigFileError::Malformed { .. }))
        ));
        let keys = ["network", "node", "registry", "data", "listen", "mirrors", "free_bytes_min"];
        for key in keys {
            let lines = GOOD.lines().filter(|line| !line.starts_with(&format!("{key} =")));
            let missing = lines.collect::<Vec<_>>().join("\n");
            assert!(
                matches!(
                    parse(&missing),
                    Err(ConfigError::File(ConfigFileError::Malformed { .. }))
                ),
                "{key}"
            );
        }
    }

    #[test]
    fn addresses_and_mirrors_must_be_usable() {
        let refused = |from: &str, to: &str| parse(&GOOD.replace(from, to)).unwrap_err();
        let (first, second) = ("\"127.0.0.1:2\"", "\"127.0.0.1:4\"");
        assert!(matches!(refused(second, first), ConfigError::Listen { found: 2 }));
        assert!(matches!(
            refused(second, "\"host\""),
            ConfigError::File(ConfigFileError::Malformed { .. })
        ));
        let none = format!("{first}, {second}");
        assert!(matches!(refused(&none, ""), ConfigError::Listen { found: 0 }));
        assert!(matches!(refused("\"/srv", "\"srv"), ConfigError::Mirror(_)));
        assert!(matches!(refused("https:", "ftp:"), ConfigError::Mirror(_)));
        let all = "\"https://releases.example/heirloom\", \"/srv/releases\"";
        assert!(matches!(refused(all, ""), ConfigError::Mirrors { found: 0 }));
    }

    const SERVICE: &str = r#"
[service]
application = "ledger"
tool = "/usr/bin/heirloom-ledger"
configuration = "ledger.toml"
client_listen = "127.0.0.1:11"
peer_listen = "127.0.0.1:12"
door_listen = "127.0.0.1:13"
peers = ["node-2=127.0.0.1:22"]
archive = "archive"
edge = { kind = "haproxy", master_socket = "m", backend = "b", state_file = "s" }
"#;

    #[test]
    fn a_service_may_be_absent_and_is_checked_for_this_node_if_it_is_not() {
        assert!(parse(GOOD).unwrap().service.is_none());
        let good = format!("{GOOD}{SERVICE}");
        assert_eq!(parse(&good).unwrap().service.unwrap().application.as_str(), "ledger");
        let own = parse(&good.replace("node-2=", "node-1="));
        assert!(matches!(own, Err(ConfigError::Service(_))), "{own:?}");
        let unknown = parse(&good.replace("archive =", "signer = 1\narchive ="));
        assert!(
            matches!(unknown, Err(ConfigError::File(ConfigFileError::Malformed { .. }))),
            "{unknown:?}"
        );
    }

    #[test]
    fn mirrors_over_https_can_have_authorities_of_their_own() {
        let text = format!("mirror_authorities = \"/etc/heirloom/ca.pem\"\n{GOOD}");
        let own = Authorities::File(PathBuf::from("/etc/heirloom/ca.pem"));
        let expected = Mirror::parse("https://releases.example/heirloom", &own).unwrap();
        assert_eq!(parse(&text).unwrap().mirrors().unwrap().first(), Some(&expected));
    }
}
