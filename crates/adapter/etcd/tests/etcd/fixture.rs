//! A cluster, for one test at a time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use heirloom_conformance::etcd::Cluster;
use heirloom_etcd::etcd::Etcd;
use heirloom_etcd::log::EtcdLog;
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::LogPosition;
use heirloom_model::log::LogEntry;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use tempfile::TempDir;

pub(crate) const NETWORK: NetworkId = NetworkId::new([1; 32]);

/// Elections need a machine that has time: tests with clusters wait for each other.
static TURN: Mutex<()> = Mutex::new(());

/// A cluster and what it needs. Fields are dropped in this order.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    _directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    /// A cluster, if this machine has etcd.
    pub(crate) fn start(nodes: usize) -> Option<Self> {
        Self::start_with(nodes, &[])
    }

    pub(crate) fn start_with(nodes: usize, options: &[&str]) -> Option<Self> {
        if !Cluster::available() {
            println!("skipped: this machine has no etcd");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::start_with(nodes, directory.path(), options).unwrap();
        Some(Self { cluster, _directory: directory, _turn: turn })
    }

    /// The log, through all members.
    pub(crate) fn log(&self) -> EtcdLog {
        log_at(self.cluster.endpoints())
    }

    /// The log, through one member.
    pub(crate) fn log_of(&self, member: usize) -> EtcdLog {
        log_at(&self.cluster.endpoints()[member..=member])
    }
}

pub(crate) fn log_at(endpoints: &[String]) -> EtcdLog {
    EtcdLog::new(Etcd::new(endpoints).unwrap(), NETWORK)
}

/// The whole log, which must be one chain.
pub(crate) fn read_all(log: &EtcdLog) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    let mut position = LogPosition::START;
    loop {
        let batch = log.read(position.length, 100).unwrap();
        if batch.is_empty() {
            assert_eq!(log.head(), Ok(position));
            return entries;
        }
        for entry in batch {
            position = position.advance(&entry).unwrap();
            entries.push(entry);
        }
    }
}

/// Appends until it is sure that the entry is there, as a careful caller does: what is unknown
/// is looked at, and tried again only at the same place. Returns the place.
pub(crate) fn append_surely(log: &EtcdLog, envelope: &[u8]) -> LogIndex {
    let head = || loop {
        match log.head() {
            Ok(head) => return head.length,
            Err(error) => assert!(matches!(error, ReadError::Unreachable { .. }), "{error}"),
        }
    };
    let mut place = head();
    loop {
        match log.append(place, envelope) {
            Ok(after) => {
                assert_eq!(after.length, place.next().unwrap());
                return place;
            }
            Err(AppendError::Conflict { .. }) => match log.read(place, 1) {
                Ok(found) if found.first().is_some_and(|it| it.envelope == envelope) => {
                    return place;
                }
                Ok(found) if !found.is_empty() => place = head(),
                _ => {}
            },
            Err(AppendError::Unknown { .. } | AppendError::Unreachable { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// Every entry that somebody was told is there stands where they were told, and nothing stands
/// anywhere twice.
pub(crate) fn assert_kept(log: &EtcdLog, acknowledged: &BTreeMap<LogIndex, Vec<u8>>) {
    let entries = read_all(log);
    let mut places: BTreeMap<&[u8], LogIndex> = BTreeMap::new();
    for entry in &entries {
        let before = places.insert(&entry.envelope, entry.index);
        assert_eq!(before, None, "entry {} stands there twice", entry.index);
    }
    for (place, envelope) in acknowledged {
        assert_eq!(places.get(&envelope[..]), Some(place), "an acknowledged entry");
    }
}
