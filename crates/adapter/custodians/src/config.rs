//! A custodian as a file describes it.
//!
//! Nothing that matters has a default: a region, a token or a folder that nobody named is an
//! error, and so is a word that is not known. Secrets stand in files of their own.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use heirloom_participant::custodian::key::Provider;
use heirloom_participant::custodian::{Custodian, CustodianError};
use serde::Deserialize;

use crate::aws::{self, AwsConfig};
use crate::pkcs11::{self, TokenConfig};
use crate::software::{Folder, Unlock};

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
    #[error("a custodian of kind {provider} needs exactly one of: {settings}")]
    OneOf {
        /// The kind.
        provider: Provider,
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
                    _ => return Err(one_of(Provider::Software, "password_file, key_file")),
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
        }
    }

    fn relative_to(mut self, folder: &Path) -> Self {
        let join = |path: &mut PathBuf| *path = folder.join(&*path);
        match &mut self {
            Self::Software { folder, password_file, key_file } => {
                join(folder);
                password_file.iter_mut().chain(key_file).for_each(join);
            }
            Self::Aws { credentials_file, .. } => credentials_file.iter_mut().for_each(join),
            Self::Pkcs11 { module, pin_file, .. } => [module, pin_file].into_iter().for_each(join),
        }
        self
    }
}

fn one_of(provider: Provider, settings: &'static str) -> ConfigError {
    ConfigError::OneOf { provider, settings }
}
