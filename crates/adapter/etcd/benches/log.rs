//! What the log costs beyond what etcd costs.
//!
//! The floors are etcd's own: one put of as many bytes, and the time from a put until a plain watch
//! of its key hears of it. Everything is measured on the same cluster of one member, in the same
//! run; the ratio of a figure to its floor is what there is to judge.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use etcd_client::{Client, WatchOptions};
use heirloom_conformance::etcd::Cluster;
use heirloom_etcd::etcd::Etcd;
use heirloom_etcd::log::EtcdLog;
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::NetworkId;
use heirloom_registry::port::LogStore;
use tokio::runtime::Runtime;

/// A usual statement.
const STATEMENT: [u8; 600] = [7; 600];
/// A watch that must be woken ends long before.
const PATIENCE: Duration = Duration::from_mins(1);

fn log(cluster: &Cluster, number: u8) -> EtcdLog {
    let etcd = Etcd::new(cluster.endpoints()).expect("the cluster has endpoints");
    EtcdLog::new(etcd, NetworkId::new([number; 32]))
}

fn connect(runtime: &Runtime, cluster: &Cluster) -> Client {
    let client = runtime.block_on(Client::connect(cluster.endpoints(), None));
    client.expect("the cluster runs")
}

fn runtime() -> Runtime {
    Runtime::new().expect("threads can be started")
}

fn append(criterion: &mut Criterion, cluster: &Cluster) {
    let mut group = criterion.benchmark_group("append");
    group.sample_size(50);
    let log = log(cluster, 1);
    let mut next = LogIndex(0);
    group.bench_function("log", |bencher| {
        bencher.iter(|| {
            let head = log.append(next, &STATEMENT).expect("nobody else appends");
            next = head.length;
        });
    });
    let runtime = runtime();
    let mut client = connect(&runtime, cluster);
    group.bench_function("floor: put", |bencher| {
        bencher.iter(|| {
            runtime.block_on(client.put("plain", STATEMENT, None)).expect("the cluster runs")
        });
    });
    group.finish();
}

fn watch(criterion: &mut Criterion, cluster: &Cluster) {
    let mut group = criterion.benchmark_group("watch");
    group.sample_size(50);
    group.bench_function("log", |bencher| {
        bencher.iter_custom(|count| watched_log(cluster, count));
    });
    group.bench_function("floor: plain watch", |bencher| {
        bencher.iter_custom(|count| watched_key(cluster, count));
    });
    group.finish();
}

/// The time from the beginning of each append until a watcher on another connection has its
/// answer. The watcher waits already: it says so before it does, and the append begins a moment
/// later.
fn watched_log(cluster: &Cluster, count: u64) -> Duration {
    let (writer, watcher) = (log(cluster, 2), log(cluster, 2));
    let start = writer.head().expect("the cluster runs").length;
    watcher.head().expect("the cluster runs");
    let (wait, waits) = channel();
    let (hear, heard) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            for index in (start.0..).map(LogIndex).take(usize::try_from(count).unwrap_or(0)) {
                wait.send(()).expect("the writer listens");
                watcher.watch(index, PATIENCE).expect("the cluster runs");
                hear.send(Instant::now()).expect("the writer listens");
            }
        });
        let mut next = start;
        let mut total = Duration::ZERO;
        for () in waits {
            thread::sleep(SETTLE);
            let begun = Instant::now();
            next = writer.append(next, &STATEMENT).expect("nobody else appends").length;
            let end = heard.recv().expect("the watcher answers each");
            total += end.saturating_duration_since(begun);
        }
        total
    })
}

/// Within this a watch has reached etcd; what comes earlier is heard all the same.
const SETTLE: Duration = Duration::from_millis(5);

/// The same with a put and a watch of etcd.
fn watched_key(cluster: &Cluster, count: u64) -> Duration {
    let runtime = runtime();
    let (mut writer, mut watcher) = (connect(&runtime, cluster), connect(&runtime, cluster));
    runtime.block_on(async {
        let mut total = Duration::ZERO;
        let mut stream =
            watcher.watch("watched", Some(WatchOptions::new())).await.expect("the cluster runs");
        let created = stream.message().await.expect("the cluster runs");
        assert!(created.is_some_and(|message| message.created()), "a watch begins with this");
        for _ in 0..count {
            // As long as for the log, so that both begin from rest.
            tokio::time::sleep(SETTLE).await;
            let begun = Instant::now();
            let (put, seen) =
                tokio::join!(writer.put("watched", STATEMENT, None), stream.message());
            put.expect("the cluster runs");
            seen.expect("the cluster runs");
            total += begun.elapsed();
        }
        total
    })
}

fn all(criterion: &mut Criterion) {
    if !Cluster::available() {
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directories can be made");
    let cluster = Cluster::start(1, directory.path()).expect("etcd starts");
    append(criterion, &cluster);
    watch(criterion, &cluster);
}

criterion_group!(benches, all);
criterion_main!(benches);
