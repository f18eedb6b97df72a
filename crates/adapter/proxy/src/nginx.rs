//! A fence at nginx: one include file with two exact contents, and a reload.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::edge::{Edge, EdgeError, EdgeState};

/// Where one nginx is. It runs in the same process namespace as the caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NginxOptions {
    /// The program, for checking the configuration: `/usr/sbin/nginx`.
    pub program: PathBuf,
    /// The main configuration file.
    pub configuration: PathBuf,
    /// The file that this fence owns, included first in every `server` block of the service.
    pub include: PathBuf,
    /// The `pid` file of the configuration.
    pub pid_file: PathBuf,
    /// A plain HTTP listener on loopback of a `server` block that includes the file.
    pub probe: SocketAddr,
    /// The name by which the probe asks, if several `server` blocks listen there.
    pub host: String,
    /// How long to wait for an answer or a reload.
    pub timeout: Duration,
}

/// The fence at one nginx.
#[derive(Debug)]
pub struct NginxEdge {
    options: NginxOptions,
}

impl NginxEdge {
    /// Nothing is asked of the proxy yet.
    pub fn new(options: NginxOptions) -> Self {
        Self { options }
    }
}

impl Edge for NginxEdge {
    fn observe(&mut self) -> Result<EdgeState, EdgeError> {
        Err(EdgeError::Unreachable {
            what: self.options.probe.to_string(),
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
