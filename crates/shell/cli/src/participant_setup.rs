//! The node of a participant as its configuration says: file, log, source and target.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use heirloom_agent::config_file::ConfigFileError;
use heirloom_agent::participant::config::{Config, SetupError};
use heirloom_agent::participant::{MigrateError, config};
use heirloom_canton::fingerprint::fingerprint_of_spki;
use heirloom_canton::key::SigningScheme;
use heirloom_canton_node::driver::{Driver, Keeping};
use heirloom_model::fleet::Node;
use heirloom_model::participant::SurveyFindings;
use heirloom_model::party::Namespace;
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage};
use heirloom_participant::map::PartyMap;
use heirloom_upgrade::agent::AgentError;
use heirloom_upgrade::port::DriverError;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::ledger::{self, Access, Ledger, LogArgs};
use crate::{custodian_error, file, key, participant_error};

/// Which node.
#[derive(Debug, clap::Args)]
pub(crate) struct Configured {
    /// Configuration of the node that moves a participant
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// A node with its log.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) ledger: Ledger,
}

impl Configured {
    /// Reads the file.
    pub(crate) fn read(&self) -> Result<Config, Diagnostic> {
        read(&self.config)
    }

    /// Reads the file, and follows the log.
    pub(crate) fn open(&self, access: Access) -> Result<Setup, Diagnostic> {
        let config = self.read()?;
        let log = LogArgs::of(config.network.to_string(), Some(config.registry.clone()), None);
        Ok(Setup { config, ledger: log.open(access)? })
    }
}

/// Reads a configuration.
pub(crate) fn read(path: &Path) -> Result<Config, Diagnostic> {
    Config::read(path).map_err(|error| setup_error(&error))
}

impl Setup {
    /// The node as the fleet has it.
    pub(crate) fn node(&self) -> Result<&Node, Diagnostic> {
        let node = &self.config.node;
        self.ledger.state.node(node).ok_or_else(|| {
            let message = format!("the fleet has no node {node}");
            Diagnostic::new(Code::LogNothing, message)
                .hint("publish a fleet with it: `heirloom fleet sign`, `heirloom fleet publish`")
        })
    }
}

/// Source and target.
pub(crate) fn driver(config: &Config) -> Result<Driver, Diagnostic> {
    config.driver().map_err(|error| setup_error(&error))
}

/// The new names of the parties, as soon as anybody can know them: when the target has a name, or
/// its namespace key is in the custodian.
pub(crate) fn predicted(
    config: &Config,
    found: &SurveyFindings,
) -> Result<Option<PartyMap>, Diagnostic> {
    let namespace = match &found.target {
        Some(target) => Some(target.namespace()),
        None => namespace(config)?,
    };
    let Some(namespace) = namespace else { return Ok(None) };
    let hosted = found.movable().cloned().collect();
    let map = PartyMap::of_participant(&found.source, &hosted, &BTreeSet::new(), &namespace);
    map.map(Some).map_err(|error| participant_error::map(&error))
}

/// The namespace of a key that the custodian has already.
fn namespace(config: &Config) -> Result<Option<Namespace>, Diagnostic> {
    let keys = config.wanted_keys().map_err(|error| setup_error(&error))?;
    let Some(wanted) = keys.into_iter().find(|key| key.usage == KeyUsage::Namespace) else {
        return Ok(None);
    };
    let Keeping::Custodian(custodian) = config.keeping().map_err(|error| setup_error(&error))?
    else {
        return Ok(None);
    };
    let failed = |error| custodian_error::custodian(&error);
    let Some(key) = custodian.find(&wanted.label).map_err(failed)? else { return Ok(None) };
    let public = custodian.public(&key).map_err(failed)?;
    let scheme = match key.scheme {
        KeyScheme::Ed25519 => SigningScheme::Ed25519,
        KeyScheme::P256 => SigningScheme::P256,
        KeyScheme::P384 => SigningScheme::P384,
        KeyScheme::Secp256k1 => SigningScheme::Secp256k1,
        KeyScheme::MlDsa65 | KeyScheme::EciesP256 | KeyScheme::Rsa2048 => return Ok(None),
    };
    let named = fingerprint_of_spki(scheme, public.as_bytes());
    Ok(named.ok().map(|fingerprint| fingerprint.to_namespace()))
}

/// A configuration that cannot be used, as our error.
pub(crate) fn setup_error(error: &SetupError) -> Diagnostic {
    match error {
        SetupError::Custodian(error) => custodian_error::config(error),
        SetupError::File(ConfigFileError::Unreadable { path, source })
            if source.kind() != io::ErrorKind::InvalidData =>
        {
            file::failed("read", path, source)
        }
        // What is transparent has its cause one step further down.
        SetupError::File(error) => participant_error::caused(Code::ParticipantConfig, error),
        SetupError::Identifier(_)
        | SetupError::Routes
        | SetupError::Scheme { .. }
        | SetupError::Label(_)
        | SetupError::Safeguard
        | SetupError::Certificate { .. }
        | SetupError::Same { .. }
        | SetupError::Settings(_) => participant_error::caused(Code::ParticipantConfig, error),
    }
}

/// What a participant or its custodian answered, as our error.
pub(crate) fn driver_error(error: &DriverError) -> Diagnostic {
    let code = match error {
        DriverError::Unknown(_) => Code::ParticipantUnreachable,
        DriverError::Corrupt { .. } => Code::ParticipantCorrupt,
        DriverError::Full(_) => Code::FileFull,
        DriverError::Stopping => Code::Interrupted,
        DriverError::Unexpected { .. } | DriverError::Missing { .. } | DriverError::Refused(_) => {
            Code::ParticipantRefused
        }
    };
    participant_error::caused(code, error)
}

/// Why a migration is not carried out here, as our error.
pub(crate) fn migrate_error(error: &MigrateError) -> Diagnostic {
    let code = match error {
        MigrateError::Setup(error) => return setup_error(error),
        MigrateError::Key(error) => return key::key_error(error),
        MigrateError::Store(error) => return file::store_error(error),
        MigrateError::Agent(AgentError::Read(error)) => return ledger::read_error(error),
        MigrateError::Agent(AgentError::History(_)) => Code::LogHistory,
        MigrateError::Journal(_) | MigrateError::Agent(AgentError::CorruptJournal(_)) => {
            Code::JournalCorrupt
        }
        MigrateError::NotNew { .. } => Code::ParticipantNotNew,
        MigrateError::Agent(AgentError::Observe(error)) => return driver_error(error),
        MigrateError::Agent(AgentError::Append(_) | AgentError::Journal(_)) => Code::AgentFailed,
    };
    participant_error::caused(code, error)
}

/// What the target's keys are in, for people.
pub(crate) fn keeper(config: &Config) -> String {
    if config.custodian == Path::new(config::TARGET_KEEPS) {
        "the target itself".to_owned()
    } else {
        config.custodian.display().to_string()
    }
}
