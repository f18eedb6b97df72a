//! The log store.

use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::LogPosition;
use heirloom_model::log::LogEntry;
use heirloom_registry::port::{AppendError, LogStore, ReadError};

use crate::etcd::Etcd;

/// The log of one network on a cluster.
#[derive(Debug)]
pub struct EtcdLog {
    etcd: Etcd,
    network: NetworkId,
}

impl EtcdLog {
    /// The log of this network. Nothing is called yet.
    pub fn new(etcd: Etcd, network: NetworkId) -> Self {
        Self { etcd, network }
    }

    fn absent(&self) -> String {
        format!("{:?} does not serve {}", self.etcd.endpoints(), self.network)
    }
}

impl LogStore for EtcdLog {
    fn append(&self, _: LogIndex, _: &[u8]) -> Result<LogPosition, AppendError> {
        Err(AppendError::Unreachable { reason: self.absent() })
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        Err(ReadError::Unreachable { reason: self.absent() })
    }

    fn read(&self, _: LogIndex, _: usize) -> Result<Vec<LogEntry>, ReadError> {
        Err(ReadError::Unreachable { reason: self.absent() })
    }

    fn watch(&self, _: LogIndex, _: Duration) -> Result<LogPosition, ReadError> {
        Err(ReadError::Unreachable { reason: self.absent() })
    }
}
