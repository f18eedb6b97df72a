//! What every fence at a proxy can do, and what can go wrong with it.

use std::path::{Path, PathBuf};

use crate::haproxy::{HaProxyEdge, HaProxyOptions};
use crate::nginx::{NginxEdge, NginxOptions};

/// A fence at one reverse proxy in front of one service.
///
/// Only one caller at a time: two that open and close at once get what the proxy heard last.
pub trait Edge: Send {
    /// What the running proxy does now: asked of the running process, never remembered.
    fn observe(&mut self) -> Result<EdgeState, EdgeError>;

    /// No new client work from now on, also after the proxy reloads or restarts, as far as the
    /// proxy can keep it. Running requests end.
    ///
    /// May be repeated, also after a crash anywhere in it. When this returns, the running proxy
    /// admits nobody; after an error it may or may not.
    fn close(&mut self) -> Result<(), EdgeError>;

    /// Clients are let in again.
    ///
    /// May be repeated, also after a crash anywhere in it. When this returns, the running proxy
    /// admits clients; after an error it may or may not.
    fn open(&mut self) -> Result<(), EdgeError>;
}

/// What a running proxy does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EdgeState {
    /// Whether a client that comes now is let in.
    pub admission: EdgeAdmission,
    /// Client requests still under way through this edge. A closed edge whose count is zero lets
    /// no more client work through, until it is opened.
    pub connections: u64,
}

/// Whether a client that comes now is let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EdgeAdmission {
    /// New requests are answered with 503.
    Closed,
    /// New requests reach the service, as far as the proxy is concerned.
    Open,
}

/// Why a proxy did not do what it was asked, or did not say what it does.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EdgeError {
    /// A file of the fence is not what we wrote. It is left as it is.
    #[error(
        "{path} is not a file of this fence: {reason}; compare it, and put the fence's own text \
         back or remove it"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No space is left for a file of the fence. What was there before is still there.
    #[error("no space is left to write {path}; make room and repeat")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The configuration names something that is not there.
    #[error("{what} is missing; look whether the proxy's configuration and the edge's agree")]
    Missing {
        /// What it is: a file, a backend, a program.
        what: String,
    },
    /// The proxy, its configuration check or the system does not allow it.
    #[error("{what} was refused: {reason}; correct this and repeat")]
    Refused {
        /// What was asked.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The proxy does not run, does not answer, or was not done when time was up. Whether it did
    /// what it was asked is unknown: asking again may succeed, and does no harm.
    #[error("{what} does not answer: {reason}; start the proxy, or look whether it still runs")]
    Unreachable {
        /// Whom we asked.
        what: String,
        /// What happened.
        reason: String,
    },
    /// Something answered that is not this fence, or the proxy did not do what it accepted.
    #[error("{what} did not behave as a fence does: {reason}; read the proxy's own log")]
    Unexpected {
        /// Who answered.
        what: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// Where one edge is and how it is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EdgeOptions {
    /// HAProxy, through its master's command socket.
    HaProxy(HaProxyOptions),
    /// nginx, through an include file and a reload.
    Nginx(NginxOptions),
}

/// The edge of these options. Nothing is asked of the proxy yet.
pub fn edge(options: EdgeOptions) -> Box<dyn Edge> {
    match options {
        EdgeOptions::HaProxy(options) => Box::new(HaProxyEdge::new(options)),
        EdgeOptions::Nginx(options) => Box::new(NginxEdge::new(options)),
    }
}

impl EdgeError {
    /// The meaning of an error of the system at a file.
    pub(crate) fn at_file(operation: &str, path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound => Self::Missing { what: path.display().to_string() },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Self::Full { path: path.to_owned() }
            }
            _ => {
                let what = format!("to {operation} {}", path.display());
                Self::Refused { what, reason: error.to_string() }
            }
        }
    }
}
