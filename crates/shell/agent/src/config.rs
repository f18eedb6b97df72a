//! The agent's one configuration file. Unknown keys are errors; there are no defaults for
//! anything that decides where key material lives.

use std::path::{Path, PathBuf};

use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::NodeId;
use serde::Deserialize;

/// The largest configuration file in bytes: it has a dozen lines.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;

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
    /// Directory from which releases are fetched: one directory per release, named like it.
    pub artifacts: PathBuf,
    /// `address:port` on which the keeper serves sessions.
    pub listen: String,
    /// `address:port` of the agent's own interface: status, journal.
    pub api: String,
    /// Free bytes that must remain on the disk before a release is prepared.
    pub free_bytes_min: u64,
    /// The keeper bundles of this node: exactly one per domain.
    pub keeper: Vec<KeeperBundle>,
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
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is too large to be one.
    #[error("{} has {found} bytes; a configuration has at most {CONFIG_BYTES_MAX}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes present.
        found: u64,
    },
    /// The file is not what it must be.
    #[error("{} is not a configuration", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
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
        let unreadable = |source| ConfigError::Unreadable { path: path.to_path_buf(), source };
        let found = std::fs::metadata(path).map_err(unreadable)?.len();
        if found > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge { path: path.to_path_buf(), found });
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let config: Self = toml::from_str(&text).map_err(|source| ConfigError::Malformed {
            path: path.to_path_buf(),
            source: Box::new(source),
        })?;
        match config.keeper.len() {
            1 => Ok(config),
            found => Err(ConfigError::Bundles { found }),
        }
    }
}

/// Parses any of our newtypes from text.
fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
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
artifacts = "artifacts"
listen = "127.0.0.1:2"
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
        assert!(matches!(parse(&unknown), Err(ConfigError::Malformed { .. })));
        for key in ["network", "node", "registry", "data", "listen", "free_bytes_min"] {
            let lines = GOOD.lines().filter(|line| !line.starts_with(&format!("{key} =")));
            let missing = lines.collect::<Vec<_>>().join("\n");
            assert!(matches!(parse(&missing), Err(ConfigError::Malformed { .. })), "{key}");
        }
    }
}
