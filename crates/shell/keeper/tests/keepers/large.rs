//! More generations than one answer carries: batches, pipelining, resumption.

use std::fs;
use std::path::PathBuf;

use heirloom_emulated::host::EmulatedEnclave;
use heirloom_keeper::intent::Intent;
use heirloom_keeper::keeper::{Keeper, KeeperConfig};
use heirloom_keeper_shell::directory::StateDirectory;
use heirloom_model::admin::{AdminRequest, AdminResponse, Progress};
use heirloom_model::counter::{Epoch, Generation, Moment, Serial};
use heirloom_model::domain::{ActivationCause, HoldingOrigin};
use heirloom_model::limit::REPLICATION_BATCH_MAX;
use heirloom_model::policy::HolderRole;
use heirloom_model::protocol::ServingState;

use crate::handover::Scene;
use crate::wire::Wire;
use crate::world::{Node, World, nobody, requests};

/// A hundred more than a full batch.
const GENERATIONS: u64 = REPLICATION_BATCH_MAX as u64 + 100;

fn carry_out<T>(keeper: &mut Keeper, directory: &mut StateDirectory, intent: Intent<T>) -> T {
    let receipt = intent.persist(directory).unwrap();
    keeper.complete(intent, receipt)
}

/// A keeper without sockets, which has followed so many entries.
struct Bare {
    keeper: Keeper,
    state: StateDirectory,
    enclave: EmulatedEnclave,
    fed: usize,
}

impl Bare {
    fn start(world: &World) -> Self {
        let state = StateDirectory::open(&world.directory.path().join("1")).unwrap();
        let enclave = world.enclave(1, &world.old);
        let (network, domain) = (world.ceremony.network, world.ceremony.domain);
        let (node, role) = ("node-1".parse().unwrap(), HolderRole::Keeper);
        let config = KeeperConfig { network, domain, node, role };
        let keeper = Keeper::start(config, &enclave, &state.load().unwrap()).unwrap();
        Self { keeper, state, enclave, fed: 0 }
    }

    /// Its clock stands still: once attended, it is so for ever.
    fn feed(&mut self, world: &World) {
        let ticket = self.keeper.attend(Moment(0));
        let entries = &world.log[self.fed..];
        let followed = self.keeper.follow(&self.enclave, entries, Some(ticket), Moment(0));
        carry_out(&mut self.keeper, &mut self.state, followed.unwrap());
        self.fed = world.log.len();
    }

    fn create(&mut self, world: &mut World, generation: u64) {
        let not_after = Epoch(world.state.epoch().0 + 5);
        let node = self.keeper.config().node.clone();
        world.accept(&world.ceremony.order(Generation(generation), &node, not_after));
        let committed = world.state.domain(&world.ceremony.domain).unwrap();
        let order = committed.order().unwrap().order().nonce;
        self.feed(world);
        let intent = self.keeper.create_generation(&self.enclave, order).unwrap();
        let receipt = carry_out(&mut self.keeper, &mut self.state, intent);
        world.accept_bytes(&receipt);
    }
}

/// Creates generations on one node, which is the whole fleet, without its sockets.
fn create(world: &mut World) {
    let mut bare = Bare::start(world);
    bare.create(world, 0);
    bare.feed(world);
    if world.is_exclusive() {
        // Whoever is active recovered what it holds.
        drop(bare);
        bare = Bare::start(world);
        bare.feed(world);
        let activation = bare.keeper.activate(&bare.enclave, ActivationCause::First).unwrap();
        world.accept_bytes(&activation);
    }
    for generation in 1..GENERATIONS {
        bare.create(world, generation);
    }
    bare.feed(world);
    assert_eq!(bare.keeper.state_at(Moment(0)), ServingState::Ready);
}

/// The files of the keyring, sorted.
fn keyring(node: &Node) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(&node.state)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("keyring-"))
        .collect();
    files.sort();
    files
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
    assert_eq!(keyring(&two).len(), 2, "a full batch and the rest");

    // As if it had been stopped after the newest batch.
    fs::remove_file(&keyring(&two)[0]).unwrap();
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

/// The connection breaks while the second batch is on its way, and the receiver with it.
#[test]
fn a_handover_that_is_cut_off_is_repeated_and_goes_on_where_it_ended() {
    let mut scene = Scene::with(create);
    scene.hand_over_to_via();
    // How many bytes the same handover takes, seen from the outside.
    let whole = scene.carried;
    scene.open_hop_to_new();
    let wire = Wire::to(&scene.via.source().address, whole - 4_000);
    let refused = scene.new.ask(&scene.request_of_new(&wire.source()));
    assert!(matches!(refused, AdminResponse::Refused(_)), "{refused:?}");
    let received = u64::try_from(REPLICATION_BATCH_MAX).unwrap();
    let expected = Some(Progress { received, wanted: GENERATIONS });
    assert_eq!(scene.new.status().progress, expected, "{} of {whole}", wire.carried());
    assert_eq!(keyring(&scene.new).len(), 1);

    scene.restart_new();
    assert_eq!(scene.new.status().state, ServingState::Replicating);
    // It is another instance, of which the log knows nothing yet.
    let request = scene.request_of_new(&scene.via.source());
    let refused = scene.new.ask(&request);
    assert!(matches!(refused, AdminResponse::Refused(_)), "{refused:?}");
    scene.register_new();
    assert_eq!(scene.new.ask(&request), AdminResponse::Done);
    assert_eq!(scene.new.ask(&request), AdminResponse::Done, "it may be repeated");
    assert_eq!(keyring(&scene.new).len(), 2);
    assert_eq!(scene.new.status().state, ServingState::Standby);
    let (held, given) = (scene.new.status().holding.unwrap(), scene.via.status().holding.unwrap());
    assert_eq!(held.checksum, given.checksum);
}
