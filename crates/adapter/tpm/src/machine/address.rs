//! Where a TPM is, as people write it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::client::Tpm;
use crate::code::CommandCode;
use crate::error::TpmError;
use crate::transport::{Device, Socket};

/// Where a TPM is: a device of the kernel, or a socket of a TPM in software.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TpmAddress {
    /// `/dev/tpmrm0`, say.
    Device(PathBuf),
    /// `tcp:127.0.0.1:2321`, say.
    Tcp(SocketAddr),
    /// `unix:/run/swtpm/socket`, say.
    Unix(PathBuf),
}

/// A text that is no address of a TPM.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a TPM is at unix:PATH, tcp:ADDRESS:PORT or a device like /dev/tpmrm0, not at {0:?}")]
pub struct ParseAddressError(String);

impl TpmAddress {
    /// A client of the TPM there. Sockets are connected with the first command.
    pub fn connect(&self) -> Result<Tpm, TpmError> {
        match self {
            Self::Device(path) => Device::open(path)
                .map(Tpm::new)
                .map_err(|error| TpmError::of_transport(CommandCode::Startup, error)),
            Self::Tcp(address) => Ok(Tpm::new(Socket::tcp(*address))),
            Self::Unix(path) => Ok(Tpm::new(Socket::unix(path))),
        }
    }
}

impl FromStr for TpmAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseAddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(address) = text.strip_prefix("tcp:") {
            return address.parse().map(Self::Tcp).map_err(|_| malformed());
        }
        if text.starts_with("/dev/") { Ok(Self::Device(text.into())) } else { Err(malformed()) }
    }
}

impl fmt::Display for TpmAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_text() {
        for text in ["unix:/run/tpm", "tcp:127.0.0.1:2321", "/dev/tpmrm0"] {
            assert_eq!(text.parse::<TpmAddress>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "tcp:localhost", "tpm0", "tcp:127.0.0.1", "/run/tpm"] {
            assert!(text.parse::<TpmAddress>().is_err(), "{text:?}");
        }
    }
}
