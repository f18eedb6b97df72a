//! The tools, against nodes that run.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use heirloom_ledger_shell::command::{End, Exercise, Load};
use heirloom_ledger_shell::configuration::{AllocationEntry, ConfigurationFile};
use heirloom_ledger_shell::tool::exercise::{TESTS, exercise};
use heirloom_ledger_shell::tool::load::load;
use heirloom_model::counter::LogIndex;
use heirloom_model::service::Admission;
use heirloom_registry::port::LogStore;
use heirloom_registry_shell::server;
use heirloom_store::log_file::LogFile;
use serde_json::Value;

use crate::world::{Node, World, admit, stop, wait};

/// Writes the wallets and the configuration, as `prepare` does.
fn write_files(world: &World) -> (PathBuf, PathBuf) {
    let directory = world.directory.path().join("wallets");
    std::fs::create_dir(&directory).unwrap();
    for wallet in &world.wallets {
        wallet.write(&directory).unwrap();
    }
    let configuration = &world.configuration;
    let allocation = configuration.allocations.iter().map(|allocation| AllocationEntry {
        owner: allocation.owner.to_string(),
        amount: allocation.amount.0,
    });
    let file = ConfigurationFile {
        name: configuration.name.clone(),
        minimum_fee: configuration.minimum_fee.0,
        tombstone_distance_max: configuration.tombstone_distance_max,
        block_payments_max: configuration.block_payments_max,
        block_interval_ms: configuration.block_interval_milliseconds,
        client_protocol_min: configuration.client_protocol_min,
        wallets: Some(PathBuf::from("wallets")),
        allocation: allocation.collect(),
    };
    let path = world.directory.path().join("ledger.toml");
    std::fs::write(&path, toml::to_string(&file).unwrap()).unwrap();
    (directory, path)
}

#[test]
fn every_test_passes_at_the_side_door_while_clients_stay_outside() {
    let world = World::new();
    let (_, configuration) = write_files(&world);
    let log = LogFile::create(&world.directory.path().join("log file")).unwrap();
    for entry in world.log.read(LogIndex(0), 100).unwrap() {
        log.append(entry.index, &entry.envelope).unwrap();
    }
    let listen = "127.0.0.1:0".parse().unwrap();
    let registry = server::Server::bind(log, world.ceremony.network, listen).unwrap();
    let url = format!("http://{}", registry.address());
    let stopper = registry.stopper();
    let serving = thread::spawn(move || registry.run().unwrap());

    let nodes = world.open();
    admit(&nodes, Admission::SideDoor);
    let asked = |node: &Node, tests: &[&str]| Exercise {
        door: node.running.addresses().unwrap().1.to_string(),
        registry: url.clone(),
        network: world.ceremony.network,
        domain: world.ceremony.domain,
        test: tests.iter().map(|test| test.parse().unwrap()).collect(),
        configuration: configuration.clone(),
        wallets: None,
    };
    // All nodes are tried at the same time, with the same wallets.
    thread::scope(|scope| {
        for node in &nodes {
            let asked = asked(node, &TESTS);
            scope.spawn(move || exercise(&asked).unwrap());
        }
    });
    assert!(exercise(&asked(&nodes[0], &["no-such-test"])).is_err());
    assert!(nodes[0].client().tip().is_err(), "clients are not let in");
    stop(nodes);
    stopper.stop();
    serving.join().unwrap();
}

#[test]
fn no_payment_is_lost_or_doubled_while_all_nodes_are_closed_for_a_moment() {
    let world = World::new();
    let (wallets, _) = write_files(&world);
    let nodes = world.open();
    let report = world.directory.path().join("report.json");
    let until = world.directory.path().join("stop");
    let address = |node: &Node| node.running.addresses().unwrap().0.to_string();
    let asked = Load {
        edge: nodes.iter().map(address).collect(),
        wallets,
        report: report.clone(),
        end: End { payments: None, until_file: Some(until.clone()) },
        pause_ms: 1,
    };
    let paying = thread::spawn(move || load(&asked).unwrap());
    let seen = |name: &str| -> u64 {
        let text = std::fs::read(&report).unwrap_or_default();
        let report: Value = serde_json::from_slice(&text).unwrap_or_default();
        report[name].as_u64().unwrap_or(0)
    };
    wait("payments are confirmed", || seen("payments_confirmed") >= 6);
    admit(&nodes, Admission::Closed);
    wait("somebody was turned away", || seen("refused_while_closed") >= 3);
    let before = seen("payments_confirmed");
    admit(&nodes, Admission::Open);
    wait("more payments are confirmed", || seen("payments_confirmed") >= before + 6);
    std::fs::write(&until, []).unwrap();
    paying.join().unwrap();
    let text = std::fs::read(&report).unwrap();
    let report: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(report["verified"], true, "{report:#}");
    assert_eq!((&report["payments_lost"], &report["payments_doubled"]), (&0.into(), &0.into()));
    assert_eq!(report["payments_submitted"], report["payments_confirmed"], "{report:#}");
    assert!(report["closed_window_ms"].as_u64().is_some(), "{report:#}");
    let accepted: Vec<u64> = nodes
        .iter()
        .map(|node| Arc::clone(node.service()))
        .map(|service| service.chain().accepted.load(std::sync::atomic::Ordering::Relaxed))
        .collect();
    assert!(accepted.iter().all(|count| *count > 0), "every address was used: {accepted:?}");
    stop(nodes);
}
