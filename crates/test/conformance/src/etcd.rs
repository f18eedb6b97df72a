//! Real etcd clusters on this machine, and faults in them.

use std::io;
use std::path::Path;

/// A cluster of etcd processes on free ports of the loopback interface. They end with this value.
#[derive(Debug)]
pub struct Cluster {
    endpoints: Vec<String>,
}

impl Cluster {
    /// Whether this machine has etcd.
    pub fn available() -> bool {
        false
    }

    /// Starts `nodes` members with their data below `directory`, and waits until they have a
    /// leader.
    pub fn start(_nodes: usize, _directory: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Where clients reach each member: `http://127.0.0.1:port`.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Kills a member at once.
    pub fn kill(&mut self, _member: usize) {}

    /// Starts a member that was killed, with the data that it has.
    pub fn restart(&mut self, _member: usize) -> io::Result<()> {
        Ok(())
    }

    /// Cuts a member off from all others; clients still reach it.
    pub fn cut(&self, _member: usize) {}

    /// Heals all links.
    pub fn heal(&self) {}
}
