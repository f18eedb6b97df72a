//! Where a participant is, and how long one waits for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

/// The largest file with certificates or a key: chains have some kilobytes.
const PEM_BYTES_MAX: usize = 256 * 1024;

/// A participant as an operator describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeConfig {
    /// What people call it, in messages.
    pub name: String,
    /// Where operators are served.
    pub admin: Endpoint,
    /// Where applications are served.
    pub ledger: Endpoint,
    /// How long one waits.
    pub deadlines: Deadlines,
}

/// One interface of a participant.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Endpoint {
    /// `http://host:port`, or `https://host:port` with TLS.
    pub address: String,
    /// The PEM file of the authorities that may certify it. TLS knows no others.
    pub authorities: Option<PathBuf>,
    /// The PEM files of a certificate and its key, for servers that want to know who calls.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in its certificate, if that is not the host.
    pub server_name: Option<String>,
    /// The file of a bearer token.
    pub token: Option<PathBuf>,
}

impl Endpoint {
    /// An interface without TLS and without a token.
    pub fn plain(address: impl Into<String>) -> Self {
        Self { address: address.into(), ..Self::default() }
    }
}

/// How long one waits for what.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deadlines {
    /// A connection.
    pub connect: Duration,
    /// An answer that changes nothing.
    pub read: Duration,
    /// A change: topology becomes effective, a synchronizer is connected.
    pub change: Duration,
    /// The next piece of a stream.
    pub stream: Duration,
    /// The answer to a whole import. A server that dies meanwhile is noticed sooner.
    pub import: Duration,
    /// Between two looks at the end of a ledger, of which one wants to know whether it moves.
    pub rest: Duration,
}

/// An import whose caller went away goes on, batch by batch, and each batch moves the end of the
/// ledger. The server checks some hundred contracts a second, and a batch has some hundred.
pub const LEDGER_REST: Duration = Duration::from_secs(5);

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(30),
            change: Duration::from_mins(2),
            stream: Duration::from_mins(2),
            // A million contracts take about an hour to check.
            import: Duration::from_hours(24),
            rest: LEDGER_REST,
        }
    }
}

/// Why a participant cannot even be called.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// The address is none.
    #[error("{address:?} is not the address of a participant: {reason}")]
    Address {
        /// The text.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret would go over the network in the clear.
    #[error("{address:?} needs https:// in front: a token would be readable on the way")]
    TokenInTheClear {
        /// The text.
        address: String,
    },
    /// A file cannot be read.
    #[error("{} cannot be read: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system gives this process no threads.
    #[error("cannot start a runtime: {reason}")]
    Runtime {
        /// What the system said.
        reason: String,
    },
}

/// A connection on which nothing comes back for so long is given up, also while an import runs.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));

impl Endpoint {
    /// The connection, which is made when it is needed.
    pub(crate) fn channel(&self, deadlines: &Deadlines) -> Result<Channel, OpenError> {
        let address = &self.address;
        let wrong = |reason: String| OpenError::Address { address: address.clone(), reason };
        let endpoint = Channel::from_shared(address.clone()).map_err(|e| wrong(e.to_string()))?;
        let uri = endpoint.uri().clone();
        let host = uri.host().unwrap_or_default().to_owned();
        if uri.port_u16().is_none() || uri.path().len() > 1 || uri.query().is_some() {
            return Err(wrong("it must be http://host:port or https://host:port".to_owned()));
        }
        let endpoint = endpoint
            .connect_timeout(deadlines.connect)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .tcp_nodelay(true);
        match uri.scheme_str() {
            Some("http") if self.token.is_some() && !is_loopback(&host) => {
                Err(OpenError::TokenInTheClear { address: address.clone() })
            }
            Some("http") => Ok(endpoint.connect_lazy()),
            Some("https") => {
                let endpoint =
                    endpoint.tls_config(self.tls()?).map_err(|error| wrong(error.to_string()))?;
                Ok(endpoint.connect_lazy())
            }
            _ => Err(wrong("it must begin with http:// or https://".to_owned())),
        }
    }

    fn tls(&self) -> Result<ClientTlsConfig, OpenError> {
        let mut tls = ClientTlsConfig::new();
        if let Some(path) = &self.authorities {
            tls = tls.ca_certificate(Certificate::from_pem(read(path)?));
        }
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name.clone());
        }
        Ok(tls)
    }
}

/// Whether what is sent there never leaves this machine.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    heirloom_store::atomic::read(path, PEM_BYTES_MAX)
        .map_err(|error| OpenError::File { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_travels_in_the_clear() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let token = Some("/run/token".into());
        let endpoint =
            |address: &str| Endpoint { token: token.clone(), ..Endpoint::plain(address) };
        let deadlines = Deadlines::default();
        assert!(endpoint("http://127.0.0.1:5000").channel(&deadlines).is_ok());
        assert!(endpoint("http://[::1]:5000").channel(&deadlines).is_ok());
        assert!(endpoint("https://participant.example:5000").channel(&deadlines).is_ok());
        let error = endpoint("http://participant.example:5000").channel(&deadlines).unwrap_err();
        assert!(matches!(error, OpenError::TokenInTheClear { .. }), "{error:?}");
    }

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        for text in ["127.0.0.1:1", "http://a", "ftp://a:1", "http://a:1/path", "http://a:1?x", ""]
        {
            let error = Endpoint::plain(text).channel(&Deadlines::default()).unwrap_err();
            assert!(matches!(error, OpenError::Address { .. }), "{text}: {error:?}");
        }
    }
}
