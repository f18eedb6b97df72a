//! A fence at HAProxy: the servers of one backend are drained through the master's socket.

use std::path::PathBuf;
use std::time::Duration;

use crate::edge::{Edge, EdgeError, EdgeState};

/// Where one HAProxy is. It runs in master-worker mode (`-W` or `-Ws`) with a master socket (`-S`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HaProxyOptions {
    /// The master's command socket: it reaches the worker that serves, and the workers that still
    /// end requests after a reload.
    pub master_socket: PathBuf,
    /// The backend whose servers are the service. All of them are fenced.
    pub backend: String,
    /// The `server-state-file` of the configuration, from which HAProxy reads after a reload or
    /// restart that the servers are drained.
    pub state_file: PathBuf,
    /// How long to wait for an answer or a change.
    pub timeout: Duration,
}

/// The fence at one HAProxy.
#[derive(Debug)]
pub struct HaProxyEdge {
    options: HaProxyOptions,
}

impl HaProxyEdge {
    /// Nothing is asked of the proxy yet.
    pub fn new(options: HaProxyOptions) -> Self {
        Self { options }
    }
}

impl Edge for HaProxyEdge {
    fn observe(&mut self) -> Result<EdgeState, EdgeError> {
        Err(EdgeError::Unreachable {
            what: self.options.master_socket.display().to_string(),
            reason: "this edge cannot be asked yet".to_owned(),
        })
    }

    fn close(&mut self) -> Result<(), EdgeError> {
        self.observe().map(|_state| ())
    }

    fn open(&mut self) -> Result<(), EdgeError> {
        self.observe().map(|_state| ())
    }
}
