//! The configuration files of a participant and of a synchronizer, as people write them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use heirloom_model::party::{ParsePartyError, SynchronizerId};
use heirloom_participant::custodian::key::{KeyScheme, ParseKeyError};
use serde::Deserialize;

use crate::limit::{CONFIGURATION_BYTES_MAX, CONFIRMATION_MS};
use crate::version::{ParseVersionError, Version};

/// What a participant is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParticipantFile {
    /// The identifier of the participant, and what the labels of its keys begin with.
    pub name: String,
    /// The version of the real one that it behaves like.
    pub version: String,
    /// The directory of its store, relative to this file.
    pub data: PathBuf,
    /// Where the admin API is.
    pub admin_listen: SocketAddr,
    /// Where the Ledger API is.
    pub ledger_listen: SocketAddr,
    /// Who gives it keys and identity.
    #[serde(default)]
    pub identity: Identity,
    /// Whether private keys may be asked for over the network. Off, as in the real one.
    #[serde(default)]
    pub preview_commands: bool,
    /// Who holds its keys, relative to this file: a file of `heirloom custodian`.
    pub custodian: PathBuf,
    /// Which keys it makes when it makes them itself.
    #[serde(default)]
    pub keys: KeysSection,
    /// What goes wrong on purpose.
    #[serde(default)]
    pub faults: Faults,
}

/// Who gives a participant keys and identity.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// It makes them at its first start.
    #[default]
    Automatic,
    /// Somebody registers keys and gives it an identity.
    Manual,
}

/// Which keys a participant makes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysSection {
    /// The scheme of its three signing keys.
    pub signing: String,
    /// The scheme of its encryption key.
    pub encryption: String,
}

impl Default for KeysSection {
    fn default() -> Self {
        Self { signing: "ed25519".to_owned(), encryption: "rsa2048".to_owned() }
    }
}

/// What goes wrong on purpose, for tests. All of it is off unless it is written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// An import fails after so many batches, once in the life of the process.
    pub import_fails_after_batches: Option<u64>,
    /// How long an import rests after each batch.
    pub import_pause_ms: u64,
    /// An import whose caller hangs up is carried out all the same, and begins so late.
    pub import_outlives_caller_ms: Option<u64>,
    /// How long an export rests after each chunk.
    pub export_pause_ms: u64,
    /// Calls such as `ImportAcs` that answer UNAVAILABLE once in the life of the process.
    pub unavailable_once: Vec<String>,
    /// Calls that do everything and whose first answer is lost all the same.
    pub answer_lost_once: Vec<String>,
}

/// What a synchronizer is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SynchronizerFile {
    /// Its name, as `identifier::namespace`.
    pub id: String,
    /// The protocol version: 33, 34 or 35.
    pub protocol_version: u32,
    /// The directory of its store, relative to this file.
    pub data: PathBuf,
    /// Where participants come in.
    pub listen: SocketAddr,
    /// Schemes of signing keys that members may have.
    pub signing: Vec<String>,
    /// Schemes of encryption keys that members may have.
    pub encryption: Vec<String>,
    /// How long a participant may take to confirm, in milliseconds.
    #[serde(default = "confirmation_ms")]
    pub confirmation_ms: u64,
}

fn confirmation_ms() -> u64 {
    CONFIRMATION_MS
}

/// What a participant is, understood.
#[derive(Clone, Debug)]
pub struct ParticipantSettings {
    /// The identifier.
    pub name: String,
    /// The version.
    pub version: Version,
    /// The directory of the store.
    pub data: PathBuf,
    /// Where the admin API is.
    pub admin_listen: SocketAddr,
    /// Where the Ledger API is.
    pub ledger_listen: SocketAddr,
    /// Who gives it keys and identity.
    pub identity: Identity,
    /// Whether private keys may be asked for.
    pub preview_commands: bool,
    /// The custodian's file.
    pub custodian: PathBuf,
    /// The scheme of signing keys that it makes itself.
    pub signing: KeyScheme,
    /// The scheme of the encryption key that it makes itself.
    pub encryption: KeyScheme,
    /// What goes wrong on purpose.
    pub faults: Faults,
}

/// What a synchronizer is, understood.
#[derive(Clone, Debug)]
pub struct SynchronizerSettings {
    /// Its name.
    pub id: SynchronizerId,
    /// The protocol version.
    pub protocol_version: u32,
    /// The directory of the store.
    pub data: PathBuf,
    /// Where participants come in.
    pub listen: SocketAddr,
    /// Signing keys that members may have.
    pub signing: Vec<KeyScheme>,
    /// Encryption keys that members may have.
    pub encryption: Vec<KeyScheme>,
    /// How long a participant may take to confirm.
    pub confirmation: std::time::Duration,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is too long to be one.
    #[error("{path} has {found} bytes, and a configuration at most {CONFIGURATION_BYTES_MAX}")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
    },
    /// It is not the text of a configuration.
    #[error("{path} is no configuration: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The version is none that this program behaves like.
    #[error(transparent)]
    Version(#[from] ParseVersionError),
    /// A scheme of keys is none.
    #[error(transparent)]
    Scheme(#[from] ParseKeyError),
    /// A scheme does not do what it is listed for.
    #[error("{scheme} is listed under `{field}`, and its keys do not do that")]
    SchemeUsage {
        /// The list.
        field: &'static str,
        /// The scheme.
        scheme: KeyScheme,
    },
    /// The name of the synchronizer is none.
    #[error(transparent)]
    Name(#[from] ParsePartyError),
    /// The name of the participant cannot begin the labels of its keys.
    #[error(
        "name {found:?} must be 1 to 30 lowercase letters, digits and '-', and begin with a letter"
    )]
    ParticipantName {
        /// The text.
        found: String,
    },
    /// No synchronizer runs with this protocol version.
    #[error("protocol_version {0} is none of 33, 34, 35")]
    ProtocolVersion(u32),
    /// A synchronizer must admit something.
    #[error("`{0}` admits no scheme, so nobody could connect")]
    NoScheme(&'static str),
}

/// Reads a participant's configuration.
pub fn read_participant(path: &Path) -> Result<ParticipantSettings, ConfigurationError> {
    let file: ParticipantFile = read(path)?;
    let begins = file.name.starts_with(|c: char| c.is_ascii_lowercase());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !begins || file.name.len() > 30 || !file.name.chars().all(allowed) {
        return Err(ConfigurationError::ParticipantName { found: file.name });
    }
    let base = path.parent().unwrap_or(Path::new("."));
    Ok(ParticipantSettings {
        version: file.version.parse()?,
        data: base.join(file.data),
        admin_listen: file.admin_listen,
        ledger_listen: file.ledger_listen,
        identity: file.identity,
        preview_commands: file.preview_commands,
        custodian: base.join(file.custodian),
        signing: scheme("signing", &file.keys.signing)?,
        encryption: scheme("encryption", &file.keys.encryption)?,
        faults: file.faults,
        name: file.name,
    })
}

/// Reads a synchronizer's configuration.
pub fn read_synchronizer(path: &Path) -> Result<SynchronizerSettings, ConfigurationError> {
    let file: SynchronizerFile = read(path)?;
    if !(33..=35).contains(&file.protocol_version) {
        return Err(ConfigurationError::ProtocolVersion(file.protocol_version));
    }
    let base = path.parent().unwrap_or(Path::new("."));
    Ok(SynchronizerSettings {
        id: file.id.parse()?,
        protocol_version: file.protocol_version,
        data: base.join(file.data),
        listen: file.listen,
        signing: schemes("signing", &file.signing)?,
        encryption: schemes("encryption", &file.encryption)?,
        confirmation: std::time::Duration::from_millis(file.confirmation_ms),
    })
}

fn read<T: for<'d> Deserialize<'d>>(path: &Path) -> Result<T, ConfigurationError> {
    let failed = |source| ConfigurationError::Read { path: path.to_owned(), source };
    let found = std::fs::metadata(path).map_err(failed)?.len();
    if found > CONFIGURATION_BYTES_MAX {
        return Err(ConfigurationError::TooLong { path: path.to_owned(), found });
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    toml::from_str(&text).map_err(|error| ConfigurationError::Malformed {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn schemes(field: &'static str, list: &[String]) -> Result<Vec<KeyScheme>, ConfigurationError> {
    if list.is_empty() {
        return Err(ConfigurationError::NoScheme(field));
    }
    list.iter().map(|text| scheme(field, text)).collect()
}

fn scheme(field: &'static str, text: &str) -> Result<KeyScheme, ConfigurationError> {
    let scheme: KeyScheme = text.parse()?;
    let is_encryption = scheme == KeyScheme::Rsa2048;
    if is_encryption != (field == "encryption") {
        return Err(ConfigurationError::SchemeUsage { field, scheme });
    }
    Ok(scheme)
}
