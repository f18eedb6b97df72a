//! The configuration of a node that moves a participant. Unknown keys are errors; nothing that
//! matters has a default.

use std::path::{Path, PathBuf};

use heirloom_canton_node::driver::{
    Driver, Keeping, Safeguard, Settings, SettingsError, WantedKey,
};
use heirloom_canton_node::node::config::{Deadlines, Endpoint, NodeConfig};
use heirloom_custodians::config::{Config as CustodianConfig, ConfigError as CustodianConfigError};
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::NodeId;
use heirloom_model::limit::SYNCHRONIZERS_MAX;
use heirloom_model::participant::{CustodianKind, ServerVersion, SynchronizerRoute};
use heirloom_model::party::{Namespace, ParsePartyError, ParticipantId, SynchronizerId};
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage, Label, Operation, ParseKeyError};
use serde::Deserialize;

use crate::config_file::{self, ConfigFileError, from_text};

/// The word in place of a custodian's file: the target makes and keeps its keys itself.
pub const TARGET_KEEPS: &str = "participant";
/// Synchronizers of one participant: as many as a node may state.
pub const ROUTES_MAX: usize = SYNCHRONIZERS_MAX;
/// Words of the command that copies a store.
pub const COMMAND_WORDS_MAX: usize = 64;

/// What a node that moves a participant needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network, by the digest of its first root.
    #[serde(deserialize_with = "from_text")]
    pub network: NetworkId,
    /// The node.
    #[serde(deserialize_with = "from_text")]
    pub node: NodeId,
    /// File with the signing key of the node's agent.
    pub key_file: PathBuf,
    /// Where the registry is served: `http://address:port`.
    pub registry: String,
    /// Directory of the journal, and of a folder for each plan with what was exported and made.
    /// It has contracts in the clear.
    pub data: PathBuf,
    /// What stands in front of `::` in the target's name.
    pub identifier: String,
    /// The file of the custodian that keeps the target's keys, or the word `participant`: the
    /// target makes and keeps them itself.
    pub custodian: PathBuf,
    /// What the target runs. Only for servers before 3.5, which do not say it before they have a
    /// name.
    #[serde(default, deserialize_with = "some_from_text")]
    pub target_version: Option<ServerVersion>,
    /// The participant whose contracts move.
    pub source: Side,
    /// The participant that they move to.
    pub target: Side,
    /// The target's keys.
    pub keys: Keys,
    /// Where the contracts of each synchronizer go.
    pub route: Vec<Route>,
    /// How the target's store is copied before anything is imported.
    pub safeguard: SafeguardConfig,
}

/// How one participant is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// Where operators are served: `http://host:port` or `https://host:port`.
    pub admin: String,
    /// Where applications are served.
    pub ledger: String,
    /// PEM file of the authorities that may certify it.
    pub authorities: Option<PathBuf>,
    /// PEM file of this caller's certificate, for servers that want one.
    pub certificate: Option<PathBuf>,
    /// PEM file of the key of that certificate.
    pub certificate_key: Option<PathBuf>,
    /// The name in its certificate, if that is not the host.
    pub server_name: Option<String>,
    /// File with a bearer token.
    pub token_file: Option<PathBuf>,
}

/// The target's keys: one for each use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The scheme of the keys that sign.
    #[serde(deserialize_with = "from_text")]
    pub signing: KeyScheme,
    /// The scheme of the key that decrypts.
    #[serde(deserialize_with = "from_text")]
    pub encryption: KeyScheme,
    /// What their labels begin with.
    #[serde(deserialize_with = "from_text")]
    pub label: Label,
}

/// Where the contracts of one synchronizer go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where they are.
    #[serde(deserialize_with = "from_text")]
    pub from: SynchronizerId,
    /// Where they go.
    #[serde(deserialize_with = "from_text")]
    pub to: SynchronizerId,
}

/// How a store is copied: exactly one of the two.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SafeguardConfig {
    /// A directory whose files are copied.
    pub directory: Option<PathBuf>,
    /// A program that copies it, with its arguments. The folder that it may write to is its last
    /// one.
    pub command: Option<Vec<String>>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file is no configuration.
    #[error(transparent)]
    File(#[from] ConfigFileError),
    /// The target's name is none.
    #[error("`identifier` is no name of a participant")]
    Identifier(#[source] ParsePartyError),
    /// No route, too many, or two for one synchronizer.
    #[error("there must be 1 to {ROUTES_MAX} [[route]], and one for each synchronizer")]
    Routes,
    /// A scheme that does not do what its key is for.
    #[error("a key of scheme {scheme} is not for {usage}")]
    Scheme {
        /// What the key is for.
        usage: KeyUsage,
        /// What was named.
        scheme: KeyScheme,
    },
    /// A label that leaves no room for the use of the key.
    #[error("`label` is too long")]
    Label(#[source] ParseKeyError),
    /// Both ways to copy a store, or none.
    #[error("[safeguard] needs exactly one of: directory, command")]
    Safeguard,
    /// A certificate without its key, or a key without its certificate.
    #[error("[{side}] needs both of certificate and certificate_key, or none")]
    Certificate {
        /// Which participant.
        side: &'static str,
    },
    /// Source and target are one.
    #[error("[source] and [target] are the same participant: {address}")]
    Same {
        /// Where.
        address: String,
    },
    /// The custodian does not open.
    #[error("the custodian of the target's keys does not open")]
    Custodian(#[from] CustodianConfigError),
    /// The participants cannot be called.
    #[error("the participants cannot be called as they are described")]
    Settings(#[from] SettingsError),
}

impl Config {
    /// Reads the file. Relative paths in it start at its folder.
    pub fn read(path: &Path) -> Result<Self, SetupError> {
        let mut config: Self = config_file::read(path, "a node that moves a participant")?;
        config.start_at(path.parent().unwrap_or(Path::new("")));
        config.check()?;
        Ok(config)
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }

    /// A folder for each plan.
    pub fn work(&self) -> PathBuf {
        self.data.join("plans")
    }

    /// The keys that the target gets.
    pub fn wanted_keys(&self) -> Result<Vec<WantedKey>, SetupError> {
        let wanted = KeyUsage::ALL.iter().copied().map(|usage| {
            let scheme = match usage.operation() {
                Operation::Decrypt => self.keys.encryption,
                _ => self.keys.signing,
            };
            if scheme.operation() != usage.operation() {
                return Err(SetupError::Scheme { usage, scheme });
            }
            let word = match usage {
                KeyUsage::Namespace => "namespace",
                KeyUsage::SequencerAuthentication => "sequencer",
                KeyUsage::Protocol => "protocol",
                KeyUsage::Encryption => "encryption",
            };
            let label = format!("{}-{word}", self.keys.label);
            let label = label.parse().map_err(SetupError::Label)?;
            Ok(WantedKey { usage, scheme, label })
        });
        wanted.collect()
    }

    /// Who keeps the target's keys. Opens the custodian.
    ///
    /// A participant registers keys of a token or a KMS, and never those of files: with a
    /// custodian of files the target makes and keeps its keys itself.
    pub fn keeping(&self) -> Result<Keeping, SetupError> {
        if self.custodian.file_name().is_some_and(|name| name == TARGET_KEEPS) {
            return Ok(Keeping::Participant);
        }
        let custodian = CustodianConfig::read(&self.custodian)?.open()?;
        match custodian.describe().kind {
            CustodianKind::Software => Ok(Keeping::Participant),
            CustodianKind::Aws
            | CustodianKind::Gcp
            | CustodianKind::Pkcs11
            | CustodianKind::Vault => Ok(Keeping::Custodian(custodian)),
        }
    }

    /// Source and target. Calls nobody but the custodian.
    pub fn driver(&self) -> Result<Driver, SetupError> {
        let settings = self.settings()?;
        Ok(Driver::new(settings, self.keeping()?)?)
    }

    fn settings(&self) -> Result<Settings, SetupError> {
        let mut routes: Vec<SynchronizerRoute> = self
            .route
            .iter()
            .map(|route| SynchronizerRoute { from: route.from.clone(), to: route.to.clone() })
            .collect();
        routes.sort();
        let safeguard = match (&self.safeguard.directory, &self.safeguard.command) {
            (Some(directory), None) => Safeguard::Directory(directory.clone()),
            (None, Some(words)) => Safeguard::Command(words.clone()),
            (Some(_), Some(_)) | (None, None) => return Err(SetupError::Safeguard),
        };
        Ok(Settings {
            source: self.source.node("source")?,
            target: self.target.node("target")?,
            identifier: self.identifier.clone(),
            keys: self.wanted_keys()?,
            routes,
            safeguard,
            work: self.work(),
            target_version: self.target_version.clone(),
        })
    }

    fn check(&self) -> Result<(), SetupError> {
        let mut from: Vec<&SynchronizerId> = self.route.iter().map(|route| &route.from).collect();
        let found = from.len();
        from.sort();
        from.dedup();
        if found == 0 || found > ROUTES_MAX || from.len() != found {
            return Err(SetupError::Routes);
        }
        if self.source.admin == self.target.admin {
            return Err(SetupError::Same { address: self.source.admin.clone() });
        }
        // The namespace comes later, and any is as long as this one at most.
        let possible: Result<Namespace, _> = "12".repeat(34).parse();
        possible
            .and_then(|namespace| ParticipantId::new(&self.identifier, &namespace))
            .map_err(SetupError::Identifier)?;
        let words = self.safeguard.command.as_ref().map_or(0, Vec::len);
        if words > COMMAND_WORDS_MAX {
            return Err(SetupError::Safeguard);
        }
        self.settings().map(drop)
    }

    /// Lets relative paths start at a folder.
    fn start_at(&mut self, folder: &Path) {
        let Self { key_file, data, custodian, source, target, safeguard, .. } = self;
        let sides = [source, target].into_iter().flat_map(|side| {
            let Side { authorities, certificate, certificate_key, token_file, .. } = side;
            [authorities, certificate, certificate_key, token_file].into_iter().flatten()
        });
        let own = [key_file, data].into_iter().chain(&mut safeguard.directory);
        for path in sides.chain(own) {
            *path = folder.join(&*path);
        }
        if *custodian != Path::new(TARGET_KEEPS) {
            *custodian = folder.join(&*custodian);
        }
    }
}

impl Side {
    fn node(&self, side: &'static str) -> Result<NodeConfig, SetupError> {
        let identity = match (&self.certificate, &self.certificate_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(SetupError::Certificate { side }),
        };
        let endpoint = |address: &String| Endpoint {
            address: address.clone(),
            authorities: self.authorities.clone(),
            identity: identity.clone(),
            server_name: self.server_name.clone(),
            token: self.token_file.clone(),
        };
        Ok(NodeConfig {
            name: side.to_owned(),
            admin: endpoint(&self.admin),
            ledger: endpoint(&self.ledger),
            deadlines: Deadlines::default(),
        })
    }
}

/// The same as [`from_text`] for a key that may be absent.
fn some_from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    from_text(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
network = "0101010101010101010101010101010101010101010101010101010101010101"
node = "node-1"
key_file = "agent.key"
registry = "http://127.0.0.1:1"
data = "data"
identifier = "new"
custodian = "keys/custodian.toml"

[source]
admin = "http://127.0.0.1:11"
ledger = "http://127.0.0.1:12"

[target]
admin = "http://127.0.0.1:21"
ledger = "http://127.0.0.1:22"

[keys]
signing = "p256"
encryption = "rsa2048"
label = "new"

[[route]]
from = "global::1220aa"
to = "global::1220aa"

[safeguard]
directory = "../target/store"
"#;

    fn parse(text: &str) -> Result<Config, SetupError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("participant.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    fn refused(from: &str, to: &str) -> SetupError {
        assert!(GOOD.contains(from), "{from}");
        parse(&GOOD.replacen(from, to, 1)).unwrap_err()
    }

    #[test]
    fn a_configuration_is_read_and_its_paths_start_at_its_folder() {
        let config = parse(GOOD).unwrap();
        assert!(config.key_file.is_absolute() && config.key_file.ends_with("agent.key"));
        assert!(config.custodian.ends_with("keys/custodian.toml"));
        assert!(config.journal().ends_with("data/journal"));
        let keys = config.wanted_keys().unwrap();
        let labels: Vec<&str> = keys.iter().map(|key| key.label.as_str()).collect();
        assert_eq!(labels, ["new-namespace", "new-sequencer", "new-protocol", "new-encryption"]);
        assert_eq!(keys.last().unwrap().scheme, KeyScheme::Rsa2048);
    }

    #[test]
    fn no_key_that_matters_has_a_default() {
        let needed = [
            "network",
            "node",
            "key_file",
            "registry",
            "data",
            "identifier",
            "custodian",
            "admin",
            "ledger",
            "signing",
            "encryption",
            "label",
            "from",
            "to",
        ];
        for key in needed {
            let mut is_first = true;
            let lines = GOOD.lines().filter(|line| {
                let found = line.starts_with(&format!("{key} =")) && is_first;
                is_first &= !found;
                !found
            });
            let missing = lines.collect::<Vec<_>>().join("\n");
            assert!(
                matches!(parse(&missing), Err(SetupError::File(ConfigFileError::Malformed { .. }))),
                "{key}"
            );
        }
        for key in ["surprise = 1\nnetwork =", "network ="] {
            let is_good = parse(&GOOD.replacen("network =", key, 1)).is_ok();
            assert_eq!(is_good, key == "network =");
        }
        let unknown = refused("[source]", "[source]\nuser = \"me\"");
        assert!(
            matches!(unknown, SetupError::File(ConfigFileError::Malformed { .. })),
            "{unknown:?}"
        );
    }

    #[test]
    fn each_contradiction_is_refused() {
        let route = "[[route]]\nfrom = \"global::1220aa\"\nto = \"global::1220bb\"\n";
        let twice = parse(&format!("{GOOD}{route}")).unwrap_err();
        assert!(matches!(twice, SetupError::Routes), "{twice:?}");
        let scheme = refused("\"p256\"", "\"rsa2048\"");
        assert!(matches!(scheme, SetupError::Scheme { .. }), "{scheme:?}");
        let scheme = refused("\"rsa2048\"", "\"ed25519\"");
        let usage = KeyUsage::Encryption;
        assert!(matches!(scheme, SetupError::Scheme { usage: u, .. } if u == usage), "{scheme:?}");
        let both = refused("directory =", "command = [\"copy\"]\ndirectory =");
        assert!(matches!(both, SetupError::Safeguard), "{both:?}");
        let none = refused("directory = \"../target/store\"", "");
        assert!(matches!(none, SetupError::Safeguard), "{none:?}");
        let name = refused("identifier = \"new\"", "identifier = \"a::b\"");
        assert!(matches!(name, SetupError::Identifier(_)), "{name:?}");
        let half = refused("[target]", "certificate = \"c.pem\"\n[target]");
        assert!(matches!(half, SetupError::Certificate { side: "source" }), "{half:?}");
        let same = refused("http://127.0.0.1:21", "http://127.0.0.1:11");
        assert!(matches!(same, SetupError::Same { .. }), "{same:?}");
        let label = format!("label = \"{}\"", "a".repeat(60));
        let long = refused("label = \"new\"", &label);
        assert!(matches!(long, SetupError::Label(_)), "{long:?}");
    }

    #[test]
    fn a_target_may_keep_its_keys_itself_and_a_missing_custodian_is_an_error() {
        let own = GOOD.replace("keys/custodian.toml", TARGET_KEEPS);
        assert!(matches!(parse(&own).unwrap().keeping(), Ok(Keeping::Participant)));
        let missing = parse(GOOD).unwrap().keeping();
        assert!(matches!(missing, Err(SetupError::Custodian(_))));
    }

    #[test]
    fn the_version_of_an_old_target_is_said_by_its_operator() {
        let old = format!("target_version = \"3.4.11\"{GOOD}");
        assert_eq!(parse(&old).unwrap().target_version.unwrap().as_str(), "3.4.11");
        let bad = parse(&format!("target_version = \"?\"{GOOD}")).unwrap_err();
        assert!(matches!(bad, SetupError::File(ConfigFileError::Malformed { .. })), "{bad:?}");
    }
}
