//! The suite of every log store, on one member and on three.

use heirloom_conformance::log_store::{self, Fixture};
use heirloom_etcd::etcd::Etcd;
use heirloom_etcd::log::EtcdLog;
use heirloom_model::digest::NetworkId;

use crate::fixture::World;

struct On<const NODES: usize> {
    log: EtcdLog,
    network: NetworkId,
    world: World,
}

impl<const NODES: usize> On<NODES> {
    fn open(world: World, network: NetworkId) -> Self {
        let log = EtcdLog::new(Etcd::new(world.cluster.endpoints()).unwrap(), network);
        Self { log, network, world }
    }
}

impl<const NODES: usize> Fixture for On<NODES> {
    type Store = EtcdLog;

    fn create(network: NetworkId) -> Self {
        Self::open(World::start(NODES).unwrap(), network)
    }

    fn store(&self) -> &EtcdLog {
        &self.log
    }

    fn restart(self) -> Self {
        let Self { network, mut world, .. } = self;
        world.cluster.restart_all().unwrap();
        Self::open(world, network)
    }
}

#[test]
fn one_member_is_a_log_store() {
    if World::start(1).is_some() {
        log_store::run::<On<1>>();
    }
}

#[test]
fn three_members_are_a_log_store() {
    if World::start(1).is_some() {
        log_store::run::<On<3>>();
    }
}
