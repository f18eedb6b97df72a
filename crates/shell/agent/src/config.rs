//! The agent's one configuration file. Unknown keys are errors; there are no defaults for
//! anything that decides where key material lives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use heirloom_fetch::limit::MIRRORS_MAX;
use heirloom_fetch::mirror::{Authorities, Mirror, ParseMirrorError};
use heirloom_hardware::tee::Tee;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use serde::Deserialize;

use crate::config_file::{self, ConfigFileError, from_text};
use crate::service::config::{ServiceConfig, ServiceConfigError};

/// Addresses of one node: a handover needs two, for the old keeper and the new one.
pub const LISTEN_MAX: usize = 16;
/// Codes that one node can start: the one that runs, the next ones, and those to go back to.
pub const CODES_MAX: usize = 16;

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
    /// Socket of this host's platform daemon. Without it, `tee` says how keepers are started.
    pub platform: Option<PathBuf>,
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
    /// The keeper bundles of this node: exactly one per domain, and none with `tee`.
    #[serde(default)]
    pub keeper: Vec<KeeperBundle>,
    /// Keepers in a TEE that they speak to themselves, instead of `platform`.
    pub tee: Option<TeeConfig>,
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

/// A TEE, and the commands that start keepers in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeeConfig {
    /// Which.
    #[serde(deserialize_with = "from_text")]
    pub name: Tee,
    /// What can be started. The first one is what is installed when nothing is installed yet.
    pub code: Vec<TeeCode>,
}

/// Code that an operator put into its place.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeeCode {
    /// What it measures.
    #[serde(deserialize_with = "from_text")]
    pub measurement: Measurement,
    /// Program and arguments; those of a keeper come behind them.
    pub command: Vec<String>,
    /// Where it answers its agent: a loopback address with a port, of its own for each code. Left
    /// out where the TEE shares sockets in files with its host.
    pub admin: Option<SocketAddr>,
}

/// How keepers are started.
#[derive(Clone, Copy, Debug)]
pub enum Ground<'a> {
    /// By the platform daemon at this socket.
    Daemon(&'a Path),
    /// By commands.
    Tee(&'a TeeConfig),
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
    /// Nothing says how keepers are started, or two things do.
    #[error("exactly one of `platform` and `[tee]` must say how keepers are started")]
    Ground,
    /// Something that only a platform daemon can start.
    #[error("with `[tee]` there is neither `[[keeper]]` nor `[service]`: bundles need `platform`")]
    NoDaemon,
    /// No code, or too much, or one twice.
    #[error("`[tee]` names {found} codes; there must be 1 to {CODES_MAX}, each once")]
    Codes {
        /// How many it names.
        found: usize,
    },
    /// Code without a program that starts it.
    #[error("nothing starts {0}: its `command` is empty")]
    NoCommand(Measurement),
    /// An address that others reach, without a port, or of two codes.
    #[error("`admin` is a loopback address with a port, another one for each code")]
    Admin,
    /// Code of another kind of platform.
    #[error("{code} is not what code measures in {tee}")]
    OtherKind {
        /// The TEE.
        tee: Tee,
        /// The code.
        code: Measurement,
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
        match (self.ground()?, self.keeper.len()) {
            (Ground::Daemon(_), 1) => Ok(()),
            (Ground::Daemon(_), found) => Err(ConfigError::Bundles { found }),
            (Ground::Tee(tee), 0) if self.service.is_none() => tee.check(),
            (Ground::Tee(_), _) => Err(ConfigError::NoDaemon),
        }
    }

    /// How keepers are started.
    pub fn ground(&self) -> Result<Ground<'_>, ConfigError> {
        match (&self.platform, &self.tee) {
            (Some(socket), None) => Ok(Ground::Daemon(socket)),
            (None, Some(tee)) => Ok(Ground::Tee(tee)),
            (Some(_), Some(_)) | (None, None) => Err(ConfigError::Ground),
        }
    }
}

impl TeeConfig {
    /// The command of each code.
    pub fn commands(&self) -> BTreeMap<Measurement, TeeCode> {
        self.code.iter().map(|code| (code.measurement, code.clone())).collect()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let found = self.code.len();
        if found == 0 || found > CODES_MAX || self.commands().len() != found {
            return Err(ConfigError::Codes { found });
        }
        let addresses: Vec<SocketAddr> = self.code.iter().filter_map(|code| code.admin).collect();
        let is_own = |address: &SocketAddr| address.ip().is_loopback() && address.port() != 0;
        let distinct: BTreeSet<&SocketAddr> = addresses.iter().collect();
        if distinct.len() != addresses.len() || !addresses.iter().all(is_own) {
            return Err(ConfigError::Admin);
        }
        for code in &self.code {
            let (tee, code, command) = (self.name, code.measurement, &code.command);
            if code.kind() != tee.kind() {
                return Err(ConfigError::OtherKind { tee, code });
            }
            if command.first().is_none_or(String::is_empty) {
                return Err(ConfigError::NoCommand(code));
            }
        }
        Ok(())
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

    #[test]
    fn a_node_in_a_tee_names_commands_instead_of_a_platform_and_bundles() {
        let code = |digit: &str, command: &str| {
            let digits = digit.repeat(64);
            format!("[[tee.code]]\nmeasurement = \"sgx:{digits}\"\ncommand = {command}\n")
        };
        let run = r#"["gramine-sgx", "/opt/heirloom/keeper"]"#;
        let bare = GOOD.replace("platform = \"platform.sock\"\n", "");
        let bare = bare.replace("[[keeper]]\nbundle = \"bundles/v1\"\n", "");
        let tee = |codes: &str| format!("{bare}[tee]\nname = \"gramine\"\n{codes}");
        let good = tee(&format!("{}{}", code("1", run), code("2", run)));
        let parsed = parse(&good).unwrap();
        let Ground::Tee(found) = parsed.ground().unwrap() else { panic!("there is no daemon") };
        assert_eq!((found.name, found.commands().len()), (Tee::Gramine, 2));

        let refused = |text: &str| parse(text).unwrap_err();
        assert!(matches!(refused(&bare), ConfigError::Ground));
        let both = format!("platform = \"p\"\n{}", good.trim_start());
        assert!(matches!(refused(&both), ConfigError::Ground));
        let keeper = format!("{good}[[keeper]]\nbundle = \"bundles/v1\"\n");
        assert!(matches!(refused(&keeper), ConfigError::NoDaemon));
        assert!(matches!(refused(&format!("{good}{SERVICE}")), ConfigError::NoDaemon));
        let twice = tee(&code("1", run).repeat(2));
        assert!(matches!(refused(&twice), ConfigError::Codes { found: 2 }));
        assert!(matches!(refused(&tee("code = []\n")), ConfigError::Codes { found: 0 }));
        assert!(matches!(refused(&tee(&code("1", "[]"))), ConfigError::NoCommand(_)));
        let other = good.replace("gramine\"\n", "tdx\"\n");
        assert!(matches!(refused(&other), ConfigError::OtherKind { tee: Tee::Tdx, .. }));
        for (one, two) in [("10.0.0.1:7", "127.0.0.1:8"), ("127.0.0.1:7", "127.0.0.1:7")] {
            let with = |digit, admin| format!("{}admin = \"{admin}\"\n", code(digit, run));
            let text = tee(&format!("{}{}", with("1", one), with("2", two)));
            assert!(matches!(refused(&text), ConfigError::Admin), "{one} {two}");
        }
        let none = good.replace("name = \"gramine\"", "name = \"sgx\"");
        assert!(matches!(refused(&none), ConfigError::File(ConfigFileError::Malformed { .. })));
    }
}
