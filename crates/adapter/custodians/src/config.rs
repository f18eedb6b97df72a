//! A custodian as a file describes it.
//!
//! Nothing that matters has a default: a region, a token or a folder that nobody named is an
//! error, and so is a word that is not known. Secrets stand in files of their own.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use heirloom_model::participant::CustodianKind;
use heirloom_participant::custodian::{Custodian, CustodianError};
use serde::Deserialize;

use crate::aws::{self, AwsConfig};
use crate::gcp::{self, Access, GcpConfig, Protection};
use crate::pkcs11::{self, TokenConfig};
use crate::software::{Folder, Unlock};
use crate::vault::{self, VaultConfig};

/// The longest configuration: a dozen lines.
const CONFIG_BYTES_MAX: u64 = 16 * 1024;

/// One custodian.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Config {
    /// Encrypted files in a folder. Exactly one of the two secrets.
    Software {
        /// The folder, which exists, for its owner only.
        folder: PathBuf,
        /// A file with a password.
        password_file: Option<PathBuf>,
        /// A file with at least 32 random bytes.
        key_file: Option<PathBuf>,
    },
    /// A token behind a PKCS#11 module.
    Pkcs11 {
        /// The module: a shared library.
        module: PathBuf,
        /// The label of the token.
        token: String,
        /// A file with the user's PIN.
        pin_file: PathBuf,
    },
    /// AWS KMS.
    Aws {
        /// The region.
        region: String,
        /// Another address than that of the region.
        endpoint: Option<String>,
        /// A file with credentials in the format of the AWS tools, instead of their standard
        /// chain.
        credentials_file: Option<PathBuf>,
        /// A profile of that file, or of the standard one.
        profile: Option<String>,
    },
    /// Google Cloud KMS. Exactly one of `token_file` and `metadata`.
    Gcp {
        /// The project.
        project: String,
        /// The location of the key ring.
        location: String,
        /// The key ring.
        key_ring: String,
        /// `hsm` or `software`.
        protection: Protection,
        /// A file with an access token, which somebody keeps fresh.
        token_file: Option<PathBuf>,
        /// `true`: the metadata server of this machine gives the token.
        metadata: Option<bool>,
        /// Another address than the service's own.
        endpoint: Option<String>,
        /// A file with the certificates that vouch for it, instead of the system's.
        ca_file: Option<PathBuf>,
    },
    /// The Transit engine of Vault or OpenBao.
    Vault {
        /// The address.
        address: String,
        /// The path of the engine.
        mount: String,
        /// A file with a token.
        token_file: PathBuf,
        /// A file with the certificates that vouch for the server, instead of the system's.
        ca_file: Option<PathBuf>,
    },
}

/// Why no custodian could be opened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the custodian's configuration {} cannot be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// The file is no configuration.
    #[error("the custodian's configuration {} is wrong: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Two settings exclude each other, or one of two is missing.
    #[error("a custodian of kind {kind} needs exactly one of: {settings}")]
    OneOf {
        /// The kind.
        kind: CustodianKind,
        /// Their names.
        settings: &'static str,
    },
    /// The custodian did not open.
    #[error("the custodian does not open")]
    Custodian(#[from] CustodianError),
}

impl Config {
    /// Reads a configuration. Relative paths in it start at the folder of the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |why: String| ConfigError::Unreadable { path: path.to_owned(), why };
        let mut text = String::new();
        let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
        let read = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text);
        let length = read.map_err(|error| unreadable(error.to_string()))?;
        if u64::try_from(length).is_ok_and(|length| length > CONFIG_BYTES_MAX) {
            return Err(unreadable(format!("it has more than {CONFIG_BYTES_MAX} bytes")));
        }
        let config: Self = toml::from_str(&text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        Ok(config.relative_to(path.parent().unwrap_or(Path::new(""))))
    }
}

impl Config {
    /// Opens the custodian.
    pub fn open(&self) -> Result<Box<dyn Custodian>, ConfigError> {
        match self {
            Self::Software { folder, password_file, key_file } => {
                let unlock = match (password_file, key_file) {
                    (Some(file), None) => Unlock::Password(file.clone()),
                    (None, Some(file)) => Unlock::KeyFile(file.clone()),
                    _ => return Err(one_of(CustodianKind::Software, "password_file, key_file")),
                };
                Ok(Folder::open(folder, &unlock)?.into_custodian())
            }
            Self::Pkcs11 { module, token, pin_file } => {
                let (module, token) = (module.clone(), token.clone());
                let config = TokenConfig { module, token, pin_file: pin_file.clone() };
                Ok(pkcs11::open(&config)?)
            }
            Self::Aws { region, endpoint, credentials_file, profile } => {
                Ok(aws::open(&AwsConfig {
                    region: region.clone(),
                    endpoint: endpoint.clone(),
                    credentials_file: credentials_file.clone(),
                    profile: profile.clone(),
                })?)
            }
            Self::Gcp { .. } => Ok(gcp::open(&self.gcp()?)?),
            Self::Vault { address, mount, token_file, ca_file } => Ok(vault::open(&VaultConfig {
                address: address.clone(),
                mount: mount.clone(),
                token_file: token_file.clone(),
                ca_file: ca_file.clone(),
            })?),
        }
    }

    fn gcp(&self) -> Result<GcpConfig, ConfigError> {
        let wrong = || one_of(CustodianKind::Gcp, "token_file, metadata = true");
        let Self::Gcp { project, location, key_ring, protection, .. } = self else {
            return Err(wrong());
        };
        let Self::Gcp { token_file, metadata, endpoint, ca_file, .. } = self else {
            return Err(wrong());
        };
        let access = match (token_file, metadata) {
            (Some(file), None) => Access::File(file.clone()),
            (None, Some(true)) => Access::Metadata,
            _ => return Err(wrong()),
        };
        Ok(GcpConfig {
            project: project.clone(),
            location: location.clone(),
            key_ring: key_ring.clone(),
            protection: *protection,
            access,
            endpoint: endpoint.clone(),
            ca_file: ca_file.clone(),
        })
    }

    fn relative_to(mut self, folder: &Path) -> Self {
        let join = |path: &mut PathBuf| *path = folder.join(&*path);
        match &mut self {
            Self::Software { folder, password_file, key_file } => {
                join(folder);
                password_file.iter_mut().chain(key_file).for_each(join);
            }
            Self::Aws { credentials_file, .. } => credentials_file.iter_mut().for_each(join),
            Self::Gcp { token_file, ca_file, .. } => {
                token_file.iter_mut().chain(ca_file).for_each(join);
            }
            Self::Vault { token_file, ca_file, .. } => {
                std::iter::once(token_file).chain(ca_file).for_each(join);
            }
            Self::Pkcs11 { module, pin_file, .. } => [module, pin_file].into_iter().for_each(join),
        }
        self
    }
}

fn one_of(kind: CustodianKind, settings: &'static str) -> ConfigError {
    ConfigError::OneOf { kind, settings }
}
