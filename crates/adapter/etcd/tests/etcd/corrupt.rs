//! What somebody changed in etcd is refused, never served. Each case changes one thing.

use etcd_client::{Client, GetOptions};
use heirloom_etcd::etcd::Etcd;
use heirloom_etcd::log::EtcdLog;
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::LogPosition;
use heirloom_model::log::LogEntry;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use tokio::runtime::Runtime;

use crate::fixture::{World, log_at};

/// etcd, as anybody who can reach it sees it.
struct Raw {
    runtime: Runtime,
    client: Client,
    base: String,
}

impl Raw {
    fn new(world: &World, network: NetworkId) -> Self {
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(Client::connect(world.cluster.endpoints(), None)).unwrap();
        Self { runtime, client, base: format!("heirloom/{network}/") }
    }

    fn get(&mut self, key: &str) -> Vec<u8> {
        let found = self.runtime.block_on(self.client.get(format!("{}{key}", self.base), None));
        found.unwrap().kvs()[0].value().to_vec()
    }

    /// The value of a key in the log of [`ANOTHER`] network.
    fn get_of_another(&mut self, key: &str) -> Vec<u8> {
        let key = format!("heirloom/{ANOTHER}/{key}");
        let found = self.runtime.block_on(self.client.get(key, None));
        found.unwrap().kvs()[0].value().to_vec()
    }

    fn put(&mut self, key: &str, value: Vec<u8>) {
        let put = self.client.put(format!("{}{key}", self.base), value, None);
        self.runtime.block_on(put).unwrap();
    }

    fn delete(&mut self, key: &str) {
        let delete = self.client.delete(format!("{}{key}", self.base), None);
        self.runtime.block_on(delete).unwrap();
    }

    fn parts(&mut self) -> Vec<String> {
        let all = GetOptions::new().with_prefix().with_keys_only();
        let found =
            self.runtime.block_on(self.client.get(format!("{}part/", self.base), Some(all)));
        let name = |key: &str| key.strip_prefix(&*self.base).unwrap().to_owned();
        found.unwrap().kvs().iter().map(|found| name(found.key_str().unwrap())).collect()
    }
}

/// A network whose log has as many entries, and others.
const ANOTHER: NetworkId = NetworkId::new([0xff; 32]);

fn entry(index: u64) -> String {
    format!("log/{index:016x}")
}

/// Changes the last byte.
fn bent(mut value: Vec<u8>) -> Vec<u8> {
    *value.last_mut().unwrap() ^= 1;
    value
}

/// Three entries, of which the second is large, in a network of its own.
fn three(world: &World, number: u8) -> (NetworkId, Raw) {
    let network = NetworkId::new([number; 32]);
    let log = open(world, network);
    log.append(LogIndex(0), b"first").unwrap();
    log.append(LogIndex(1), &large()).unwrap();
    log.append(LogIndex(2), b"third").unwrap();
    (network, Raw::new(world, network))
}

fn large() -> Vec<u8> {
    (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect()
}

fn open(world: &World, network: NetworkId) -> EtcdLog {
    EtcdLog::new(Etcd::new(world.cluster.endpoints()).unwrap(), network)
}

type Change = fn(&mut Raw);

/// Changes by which reading the whole log is refused.
const READ: &[(&str, Change)] = &[
    ("garbage at the first entry", |raw| raw.put(&entry(0), b"garbage".to_vec())),
    ("garbage at the last entry", |raw| raw.put(&entry(2), b"garbage".to_vec())),
    ("a changed envelope", |raw| {
        let bent = bent(raw.get(&entry(0)));
        raw.put(&entry(0), bent);
    }),
    ("a changed last envelope", |raw| {
        let bent = bent(raw.get(&entry(2)));
        raw.put(&entry(2), bent);
    }),
    ("an entry in the place of another", |raw| {
        let third = raw.get(&entry(2));
        raw.put(&entry(0), third);
    }),
    ("the first entry of another history, which is right in itself", |raw| {
        let first = raw.get_of_another(&entry(0));
        raw.put(&entry(0), first);
    }),
    ("an entry of another history, which is right in itself", |raw| {
        let second = raw.get_of_another(&entry(1));
        raw.put(&entry(1), second);
    }),
    ("the last entry of another history, which is right in itself", |raw| {
        let third = raw.get_of_another(&entry(2));
        raw.put(&entry(2), third);
    }),
    ("a missing entry", |raw| raw.delete(&entry(1))),
    ("a missing first entry", |raw| raw.delete(&entry(0))),
    ("an entry behind the last", |raw| raw.put(&entry(3), b"more".to_vec())),
    ("garbage at the head", |raw| raw.put("head", b"garbage".to_vec())),
    ("no head", |raw| raw.delete("head")),
    ("a head with another hash", |raw| {
        let bent = bent(raw.get("head"));
        raw.put("head", bent);
    }),
    ("a head that is too long", |raw| {
        let mut head = raw.get("head");
        // CBOR: an array of two, then the length.
        head[1] = 4;
        raw.put("head", head);
    }),
    ("a head that is too short", |raw| {
        let mut head = raw.get("head");
        head[1] = 2;
        raw.put("head", head);
    }),
    ("a head of nothing", |raw| {
        let mut head = raw.get("head");
        head[1] = 0;
        raw.put("head", head);
    }),
    ("a changed part", |raw| {
        let part = raw.parts().remove(0);
        let bent = bent(raw.get(&part));
        raw.put(&part, bent);
    }),
    ("a missing part", |raw| {
        let part = raw.parts().remove(0);
        raw.delete(&part);
    }),
    ("a part in the place of another", |raw| {
        let parts = raw.parts();
        let other = raw.get(&parts[1]);
        raw.put(&parts[0], other);
    }),
];

/// The changes by which nothing can be appended. The end of the log is looked at before.
const APPEND: &[&str] = &[
    "garbage at the last entry",
    "the last entry of another history, which is right in itself",
    "an entry behind the last",
    "garbage at the head",
    "no head",
    "a head with another hash",
    "a head that is too long",
    "a head that is too short",
    "a head of nothing",
];

#[test]
fn what_was_changed_is_corrupt() {
    let Some(world) = World::start(1) else { return };
    let another = open(&world, ANOTHER);
    for (index, envelope) in (0..).zip([b"one", b"two", b"tre"]) {
        another.append(LogIndex(index), envelope).unwrap();
    }
    for (number, (what, change)) in (1..).zip(READ) {
        let (network, mut raw) = three(&world, number);
        let log = open(&world, network);
        assert_eq!(log.read(LogIndex(0), 9).unwrap().len(), 3, "{what}");
        change(&mut raw);
        // Also for whoever has never seen the log before.
        for log in [log, open(&world, network)] {
            let read = log.read(LogIndex(0), 9);
            let refused = matches!(read, Err(ReadError::Corrupt { .. }));
            assert!(refused, "{what}: {:?}", read.map(|it| it.len()));
            if APPEND.contains(what) {
                let head = log.head();
                assert!(matches!(head, Err(ReadError::Corrupt { .. })), "{what}: {head:?}");
                let appended = log.append(LogIndex(3), b"fourth");
                let refused = matches!(appended, Err(AppendError::Corrupt { .. }));
                assert!(refused, "{what}: {appended:?}");
            }
        }
    }
}

/// Another history is as consistent as ours: only those who know ours see that it is gone.
#[test]
fn a_log_that_became_shorter_or_another_is_corrupt_for_those_who_saw_it() {
    let Some(world) = World::start(1) else { return };
    let (network, mut raw) = three(&world, 1);
    let log = open(&world, network);
    log.head().unwrap();
    let (other, mut others) = {
        let network = NetworkId::new([2; 32]);
        let log = open(&world, network);
        for (index, envelope) in (0..).zip([b"one", b"two"]) {
            log.append(LogIndex(index), envelope).unwrap();
        }
        (log, Raw::new(&world, network))
    };
    raw.delete(&entry(2));
    for key in [entry(0), entry(1), "head".to_owned()] {
        let value = others.get(&key);
        raw.put(&key, value);
    }
    let shorter = open(&world, network);
    assert_eq!(shorter.read(LogIndex(0), 9), other.read(LogIndex(0), 9));
    for refused in [log.head().map(drop), log.read(LogIndex(0), 9).map(drop)] {
        assert!(matches!(refused, Err(ReadError::Corrupt { .. })), "{refused:?}");
    }
    // And one of the same length.
    other.append(LogIndex(2), b"three").unwrap();
    for key in [entry(2), "head".to_owned()] {
        let value = others.get(&key);
        raw.put(&key, value);
    }
    assert_eq!(open(&world, network).read(LogIndex(0), 9), other.read(LogIndex(0), 9));
    let refused = log.head();
    assert!(matches!(refused, Err(ReadError::Corrupt { .. })), "{refused:?}");
}

/// A key that is there already is never written, whatever the head says.
#[test]
fn an_entry_is_never_overwritten() {
    let Some(world) = World::start(1) else { return };
    let (network, mut raw) = three(&world, 1);
    let fourth = LogEntry::following(&open(&world, network).head().unwrap(), b"theirs".to_vec());
    raw.put(&entry(3), fourth.envelope.clone());
    let refused = open(&world, network).append(LogIndex(3), b"ours");
    assert!(matches!(refused, Err(AppendError::Corrupt { .. })), "{refused:?}");
    assert_eq!(raw.get(&entry(3)), fourth.envelope);
}

#[test]
fn two_clusters_are_never_one_log() {
    let Some(one) = World::start(1) else { return };
    let directory = tempfile::tempdir().unwrap();
    let options = ["--initial-cluster-token=another"];
    let two = heirloom_conformance::etcd::Cluster::start_with(1, directory.path(), &options);
    let two = two.unwrap();
    let log = log_at(&[one.cluster.endpoints()[0].clone(), two.endpoints()[0].clone()]);
    assert_eq!(log.head(), Ok(LogPosition::START));
    let World { mut cluster, .. } = one;
    cluster.kill(0);
    let found = log.head();
    assert!(matches!(found, Err(ReadError::Corrupt { .. })), "{found:?}");
}
