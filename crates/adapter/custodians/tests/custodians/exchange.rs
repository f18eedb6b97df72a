//! Exchanges with services that are not here, written down from their documentation.
//!
//! A request must be one of those that were written down, in line, header and body; what the
//! service answers is taken from there too. That proves that we speak as documented, and nothing
//! about the service.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heirloom_conformance::custodian::Bench as _;
use heirloom_participant::custodian::Custodian;
use heirloom_participant::custodian::key::{KeyHandle, KeyRequest};
use serde_json::Value;

use crate::fake::{Answer, Fake, Request};
use crate::software::SoftwareBench;

/// One request and its answers: each but the last once, the last for ever.
pub(crate) struct Exchange {
    pub(crate) line: String,
    pub(crate) body: Option<Value>,
    pub(crate) answers: Vec<(u16, Value)>,
}

/// What was written down.
pub(crate) struct Script {
    pub(crate) header: (&'static str, &'static str),
    pub(crate) exchanges: Vec<Exchange>,
}

impl Script {
    pub(crate) fn new(header: (&'static str, &'static str)) -> Self {
        Self { header, exchanges: Vec::new() }
    }

    pub(crate) fn on(
        mut self,
        line: String,
        body: Option<Value>,
        answers: &[(u16, Value)],
    ) -> Self {
        self.exchanges.push(Exchange { line, body, answers: answers.to_vec() });
        self
    }

    /// A service that answers so, and 499 to anything else.
    pub(crate) fn play(self) -> Fake {
        let (name, value) = self.header;
        let exchanges = Mutex::new(self.exchanges);
        Fake::start(move |request| {
            if request.header(name) != Some(value) {
                return Answer::Json(499, "{}".to_owned());
            }
            let mut exchanges = exchanges.lock().unwrap();
            let found = exchanges.iter_mut().find(|exchange| is_same(exchange, request));
            let Some(exchange) = found else { return Answer::Json(499, "{}".to_owned()) };
            let (status, body) = exchange.answers[0].clone();
            if exchange.answers.len() > 1 {
                exchange.answers.remove(0);
            }
            let body = if body.is_null() { String::new() } else { body.to_string() };
            Answer::Json(status, body)
        })
    }
}

fn is_same(exchange: &Exchange, request: &Request) -> bool {
    let body = serde_json::from_str(&request.body).ok();
    request.line == format!("{} HTTP/1.1", exchange.line) && body == exchange.body
}

/// Files, and a real key elsewhere that stands for the one in the service.
pub(crate) struct Elsewhere {
    pub(crate) folder: tempfile::TempDir,
    custodian: Box<dyn Custodian>,
    _bench: SoftwareBench,
    key: KeyHandle,
}

impl Elsewhere {
    pub(crate) fn new(request: &KeyRequest) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "a-token\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let bench = SoftwareBench::new();
        let custodian = bench.open();
        let key = custodian.create(request).unwrap();
        Self { folder, custodian, _bench: bench, key }
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub(crate) fn pem(&self) -> String {
        let der = self.custodian.public(&self.key).unwrap();
        let text = STANDARD.encode(der.as_bytes());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    pub(crate) fn raw(&self) -> String {
        let der = self.custodian.public(&self.key).unwrap();
        STANDARD.encode(&der.as_bytes()[12..])
    }

    pub(crate) fn signature(&self, message: &[u8]) -> String {
        let algorithm = self.key.scheme.algorithm().unwrap();
        STANDARD.encode(self.custodian.sign(&self.key, algorithm, message).unwrap().as_bytes())
    }
}

/// The base64 of a hash of these bits.
pub(crate) fn hash(bits: &str, message: &[u8]) -> String {
    let algorithm = match bits {
        "256" => &aws_lc_rs::digest::SHA256,
        _ => &aws_lc_rs::digest::SHA384,
    };
    STANDARD.encode(aws_lc_rs::digest::digest(algorithm, message))
}
