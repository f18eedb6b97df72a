//! More generations than one answer carries: batches, pipelining, resumption.

use std::fs;

use heirloom_keeper::intent::Intent;
use heirloom_keeper::keeper::{Keeper, KeeperConfig};
use heirloom_keeper_shell::directory::StateDirectory;
use heirloom_model::admin::{AdminRequest, AdminResponse, Progress};
use heirloom_model::counter::{Epoch, Generation, Serial};
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::limit::REPLICATION_BATCH_MAX;
use heirloom_model::protocol::ServingState;

use crate::world::{World, nobody, requests};

/// A hundred more than a full batch.
const GENERATIONS: u64 = REPLICATION_BATCH_MAX as u64 + 100;

fn carry_out<T>(keeper: &mut Keeper, directory: &mut StateDirectory, intent: Intent<T>) -> T {
    let receipt = intent.persist(directory).unwrap();
    keeper.complete(intent, receipt)
}

/// Creates generations on one node, which is the whole fleet, without its sockets.
fn create(world: &mut World) {
    let mut state = StateDirectory::open(&world.directory.path().join("1")).unwrap();
    let enclave = world.enclave(1, &world.old.clone());
    let (network, domain) = (world.ceremony.network, world.ceremony.domain);
    let config = KeeperConfig { network, domain, node: "node-1".parse().unwrap() };
    let node = config.node.clone();
    let mut keeper = Keeper::start(config, &enclave, &[]).unwrap();
    let mut fed = 0;
    for generation in 0..GENERATIONS {
        let not_after = Epoch(world.state.epoch().0 + 5);
        world.accept(&world.ceremony.order(Generation(generation), &node, not_after));
        let committed = world.state.domain(&domain).unwrap();
        let order = committed.order().unwrap().order().nonce;
        let intent = keeper.follow(&enclave, &world.log[fed..]).unwrap();
        carry_out(&mut keeper, &mut state, intent);
        fed = world.log.len();
        let intent = keeper.create_generation(&enclave, order).unwrap();
        let receipt = carry_out(&mut keeper, &mut state, intent);
        world.accept_bytes(&receipt);
    }
    let intent = keeper.follow(&enclave, &world.log[fed..]).unwrap();
    carry_out(&mut keeper, &mut state, intent);
    assert_eq!(keeper.state(), ServingState::Ready);
}

#[test]
fn a_large_keyring_is_received_in_batches_and_resumed_after_a_restart() {
    let mut world = World::with(|ceremony| ceremony.nodes(1), 1);
    create(&mut world);
    let mut one = world.node(1, &world.old);
    let mut two = world.node(2, &world.new);
    world.feed(&one);
    world.feed(&two);
    let wanted = GENERATIONS;
    let sources = vec![nobody(), one.source()];
    let replicate = AdminRequest::Replicate { sources };
    assert_eq!(two.ask(&replicate), AdminResponse::Done);
    let keyring = |world: &World| -> Vec<_> {
        let mut files: Vec<_> = fs::read_dir(world.directory.path().join("2"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("keyring-"))
            .collect();
        files.sort();
        files
    };
    assert_eq!(keyring(&world).len(), 2, "a full batch and the rest");

    // As if it had been stopped after the newest batch.
    fs::remove_file(&keyring(&world)[0]).unwrap();
    world.restart(&mut two, &world.new);
    world.feed(&two);
    let status = two.status();
    assert_eq!(status.state, ServingState::Replicating);
    let received = u64::try_from(REPLICATION_BATCH_MAX).unwrap();
    assert_eq!(status.progress, Some(Progress { received, wanted }));
    assert_eq!(two.ask(&replicate), AdminResponse::Done);
    world.restart(&mut two, &world.new);
    world.feed(&two);
    let holding = two.status().holding.unwrap();
    assert_eq!(holding.origin, HoldingOrigin::Recovered);
    assert_eq!(holding.checksum, one.status().holding.unwrap().checksum);
    assert_eq!(world.keys(&one, &requests(7)), world.keys(&two, &requests(7)));

    // Every file is opened again, one for each generation.
    world.restart(&mut one, &world.old);
    world.feed(&one);
    assert_eq!(one.ask(&AdminRequest::Probe), AdminResponse::Done);
    assert_eq!(one.status().policy.unwrap().serial, Serial(1));
}
