//! Addresses that expire with a lease.

use heirloom_model::digest::NetworkId;

use crate::etcd::Etcd;

/// Where the nodes of one network can be reached, on a cluster.
#[derive(Debug)]
pub struct EtcdPresence {
    etcd: Etcd,
    network: NetworkId,
}

impl EtcdPresence {
    /// The table of this network. Nothing is called yet.
    pub fn new(etcd: Etcd, network: NetworkId) -> Self {
        Self { etcd, network }
    }
}
