//! One file of a mirror that is a web server.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use heirloom_model::release::Artifact;
use ureq::Agent;
use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderName, LOCATION, RANGE, TRANSFER_ENCODING,
};
use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::MirrorError;
use crate::limit::{AUTHORITIES_BYTES_MAX, HEADER_BYTES_MAX, Patience};
use crate::mirror::Authorities;
use crate::source::{Begins, Source};

/// Where distributions keep the system's certificate authorities.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Asks for a file from where the part ends.
pub(crate) fn open(
    address: &str,
    authorities: Option<&Authorities>,
    artifact: &Artifact,
    offset: u64,
    patience: &Patience,
) -> Result<Source, MirrorError> {
    let agent = agent(authorities, patience)?;
    let mut request = agent.get(address);
    if offset > 0 {
        request = request.header(RANGE, format!("bytes={offset}-"));
    }
    let response = request.call().map_err(|error| unreachable(&error))?;
    let headers = response.headers();
    let begins = begins(response.status(), headers, offset, artifact.size)?;
    refuse_encoded(headers)?;
    let rest = match begins {
        Begins::Anew => artifact.size,
        Begins::WhereAsked => artifact.size.saturating_sub(offset),
    };
    if let Some(length) = number(headers, CONTENT_LENGTH).filter(|length| *length != rest) {
        let found = artifact.size.saturating_sub(rest).saturating_add(length);
        return Err(MirrorError::Size { expected: artifact.size, found });
    }
    // The caller never takes more than one byte too much; this is only a second lock.
    let limit = rest.saturating_add(1);
    let reader = response.into_body().into_with_config().limit(limit.saturating_add(1)).reader();
    Ok(Source { reader: Box::new(reader), begins })
}

fn agent(authorities: Option<&Authorities>, patience: &Patience) -> Result<Agent, MirrorError> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // An answer from anywhere else than the configured place is no answer.
        .max_redirects(0)
        .proxy(None)
        .accept_encoding("identity")
        .user_agent("heirloom")
        .max_idle_connections(0)
        .max_response_header_size(HEADER_BYTES_MAX)
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.silence))
        .timeout_per_read(Some(patience.silence))
        .timeout_global(Some(patience.file));
    let config = match authorities {
        None => config,
        Some(authorities) => config.https_only(true).tls_config(tls(authorities)?),
    };
    Ok(Agent::new_with_config(config.build()))
}

fn tls(authorities: &Authorities) -> Result<TlsConfig, MirrorError> {
    let roots = Arc::new(certificates(authorities)?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(roots))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

/// The certificates of those who vouch. Read again for each file: they are replaced now and then.
fn certificates(authorities: &Authorities) -> Result<Vec<Certificate<'static>>, MirrorError> {
    let path = match authorities {
        Authorities::File(path) => path.as_path(),
        Authorities::System => {
            let mut known = SYSTEM_AUTHORITIES.map(Path::new).into_iter();
            known.find(|path| path.exists()).unwrap_or(Path::new(SYSTEM_AUTHORITIES[0]))
        }
    };
    let unusable = |reason: String| MirrorError::Authorities { path: path.to_path_buf(), reason };
    let pem = read_limited(path).map_err(|error| unusable(error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        // The system's bundle may have an entry that nobody understands; a file that somebody
        // wrote for us may not.
        match (item, authorities) {
            (Ok(PemItem::Certificate(certificate)), _) => found.push(certificate),
            (Ok(_), _) | (Err(_), Authorities::System) => {}
            (Err(error), Authorities::File(_)) => return Err(unusable(error.to_string())),
        }
    }
    if found.is_empty() {
        return Err(unusable("it has no certificate".to_owned()));
    }
    Ok(found)
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(AUTHORITIES_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where the body begins, by status and header.
fn begins(
    status: StatusCode,
    headers: &HeaderMap,
    offset: u64,
    size: u64,
) -> Result<Begins, MirrorError> {
    let answer = || text(headers, CONTENT_RANGE).unwrap_or_else(|| status.to_string());
    match status {
        StatusCode::OK => Ok(Begins::Anew),
        StatusCode::PARTIAL_CONTENT => {
            let range = || MirrorError::Range { offset, answer: answer() };
            let (first, total) = content_range(headers).ok_or_else(range)?;
            if let Some(found) = total.filter(|total| *total != size) {
                return Err(MirrorError::Size { expected: size, found });
            }
            if offset == 0 || first != offset { Err(range()) } else { Ok(Begins::WhereAsked) }
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(MirrorError::Missing),
        StatusCode::RANGE_NOT_SATISFIABLE => Err(MirrorError::Range { offset, answer: answer() }),
        other if other.is_redirection() => {
            Err(MirrorError::Redirected { location: text(headers, LOCATION).unwrap_or_default() })
        }
        other => Err(MirrorError::Status(other.as_u16())),
    }
}

/// First byte and whole size of `bytes <first>-<last>/<size or *>`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = text(headers, CONTENT_RANGE)?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.parse().ok()?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first, total))
}

/// Nothing is ever unpacked: a few bytes could become a full disk.
fn refuse_encoded(headers: &HeaderMap) -> Result<(), MirrorError> {
    for (header, plain) in [(CONTENT_ENCODING, "identity"), (TRANSFER_ENCODING, "chunked")] {
        for value in headers.get_all(header) {
            if !value.as_bytes().eq_ignore_ascii_case(plain.as_bytes()) {
                let encoding = String::from_utf8_lossy(value.as_bytes()).into_owned();
                return Err(MirrorError::Encoded { encoding });
            }
        }
    }
    Ok(())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

fn unreachable(error: &ureq::Error) -> MirrorError {
    let reason = error.to_string();
    let is_trust = match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(error) => {
            error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
        }
        _ => false,
    };
    if is_trust { MirrorError::Untrusted { reason } } else { MirrorError::Unreachable { reason } }
}
