//! JSON over HTTP, for services without a client library in this tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use heirloom_participant::custodian::CustodianError;
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, http};

use crate::fault::{ATTEMPTS_MAX, FIRST_WAIT, Fault, Repeat, shortened};

/// The longest answer: a page of names.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// The longest file of certificates: the bundle of a system has some 200 kB.
const AUTHORITIES_BYTES_MAX: u64 = 4 * 1024 * 1024;
const CONNECT: Duration = Duration::from_secs(3);
const ATTEMPT: Duration = Duration::from_secs(10);

/// Who vouches for servers, where nobody names a file: Debian and its children.
pub(crate) const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Method {
    Get,
    Post,
}

/// One service.
pub(crate) struct Service {
    agent: Agent,
    base: String,
    /// What this service means by a status and a body.
    meaning: fn(status: u16, body: &Value, attempts: u32) -> Fault,
}

impl Service {
    /// A service at an address. Plain HTTP only where the address says so, which is for tests and
    /// for servers on the loopback interface.
    pub(crate) fn new(
        base: &str,
        authorities: &Path,
        meaning: fn(u16, &Value, u32) -> Fault,
    ) -> Result<Self, CustodianError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent("heirloom")
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(ATTEMPT));
        let config = match is_plain(base)? {
            Plain::Loopback => config,
            Plain::No => config.https_only(true).tls_config(tls(authorities)?),
        };
        let base = base.trim_end_matches('/').to_owned();
        Ok(Self { agent: Agent::new_with_config(config.build()), base, meaning })
    }

    /// Asks, and again if that is right.
    pub(crate) fn ask(
        &self,
        repeat: Repeat,
        method: Method,
        path: &str,
        header: (&str, &str),
        body: Option<&Value>,
    ) -> Result<Value, Fault> {
        let mut wait = FIRST_WAIT;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let fault = match self.ask_once(method, path, header, body, attempts) {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            if !fault.is_worth_repeating(repeat) || attempts == ATTEMPTS_MAX {
                return Err(fault);
            }
            thread::sleep(wait);
            wait *= 2;
        }
    }

    fn ask_once(
        &self,
        method: Method,
        path: &str,
        (name, value): (&str, &str),
        body: Option<&Value>,
        attempts: u32,
    ) -> Result<Value, Fault> {
        let url = format!("{}{path}", self.base);
        let answer = match method {
            Method::Get => self.agent.get(&url).header(name, value).call(),
            Method::Post => {
                let body = body.map_or_else(|| "{}".to_owned(), Value::to_string);
                let request = self.agent.post(&url).header(name, value);
                request.header("Content-Type", "application/json").send(body)
            }
        };
        let answer = answer.map_err(|error| Fault::Silent(shortened(&error.to_string())))?;
        self.read(answer, attempts)
    }

    fn read(&self, answer: http::Response<Body>, attempts: u32) -> Result<Value, Fault> {
        let status = answer.status();
        let mut body = answer.into_body();
        let text = body.with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| Fault::Silent(shortened(&error.to_string())))?;
        if status.is_success() && text.trim().is_empty() {
            return Ok(Value::Null);
        }
        let value = serde_json::from_str(&text);
        if status.is_success() {
            return value.map_err(|error| Fault::Strange(shortened(&error.to_string())));
        }
        Err((self.meaning)(status.as_u16(), &value.unwrap_or(Value::Null), attempts))
    }
}

/// Whether an address speaks plain HTTP.
pub(crate) enum Plain {
    Loopback,
    No,
}

/// Refuses an address that is neither TLS nor on this host.
pub(crate) fn is_plain(base: &str) -> Result<Plain, CustodianError> {
    // The metadata server of a cloud's machine speaks nothing else. Its address is link-local: what
    // is sent there reaches whoever runs the machine, and nobody behind.
    let loopback =
        ["http://127.0.0.1", "http://localhost", "http://[::1]", "http://169.254.169.254"];
    let is_loopback = loopback.iter().any(|start| {
        base.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    });
    if is_loopback {
        return Ok(Plain::Loopback);
    }
    if base.starts_with("https://") {
        return Ok(Plain::No);
    }
    Err(CustodianError::Refused {
        place: base.to_owned(),
        what: "to be asked".to_owned(),
        why: "the address is neither https:// nor on the loopback interface".to_owned(),
    })
}

fn tls(authorities: &Path) -> Result<TlsConfig, CustodianError> {
    let refused = |why: String| CustodianError::Refused {
        place: authorities.display().to_string(),
        what: "its certificates".to_owned(),
        why,
    };
    let length = fs::metadata(authorities).map_err(|error| refused(error.to_string()))?.len();
    if length > AUTHORITIES_BYTES_MAX {
        return Err(refused(format!("it has more than {AUTHORITIES_BYTES_MAX} bytes")));
    }
    let pem = fs::read(authorities).map_err(|error| refused(error.to_string()))?;
    let found: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(refused("it has no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(found)))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

/// A file that was named, or that of the system.
pub(crate) fn authorities(named: Option<&PathBuf>) -> PathBuf {
    named.cloned().unwrap_or_else(|| SYSTEM_AUTHORITIES.into())
}
