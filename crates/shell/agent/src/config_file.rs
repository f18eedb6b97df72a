//! Reading a configuration file: the same for every kind of node.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The largest configuration file in bytes: it has a dozen lines.
pub const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
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
    #[error("{} is not the configuration of {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should configure.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// Reads what a file says. What it configures is for people who gave another file.
pub(crate) fn read<T: DeserializeOwned>(
    path: &Path,
    what: &'static str,
) -> Result<T, ConfigFileError> {
    let unreadable = |source| ConfigFileError::Unreadable { path: path.to_path_buf(), source };
    let found = std::fs::metadata(path).map_err(unreadable)?.len();
    if found > CONFIG_BYTES_MAX {
        return Err(ConfigFileError::TooLarge { path: path.to_path_buf(), found });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    toml::from_str(&text).map_err(|source| {
        let (path, source) = (path.to_path_buf(), Box::new(source));
        ConfigFileError::Malformed { path, what, source }
    })
}

/// Parses any of our newtypes from text.
pub(crate) fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}
