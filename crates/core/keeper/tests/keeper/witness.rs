//! What becomes of a directory that somebody puts back to what it was, and who notices: the
//! machine's counter, the registry, or the peers.

use heirloom_keeper::keeper::Keeper;
use heirloom_keeper::port::Platform;
use heirloom_model::admin::WitnessGap;
use heirloom_model::log::LogEntry;
use heirloom_model::protocol::ServingState;

use crate::kinds::{machine, old_there};
use crate::world::{BOOT, Disk, World};

/// Starts the old code over this directory, and follows this log.
fn start(world: &World, platform: &dyn Platform, disk: &mut Disk, log: &[LogEntry]) -> Keeper {
    let name = "node-3".parse().unwrap();
    let mut keeper =
        Keeper::start(world.config(&name, &world.old), platform, &disk.stored()).unwrap();
    let intent = keeper.follow(platform, log, None, world.now).unwrap();
    let receipt = intent.persist(disk).unwrap();
    keeper.complete(intent, receipt);
    keeper.count_witness(platform).unwrap();
    keeper
}

/// A snapshot of the whole virtual machine: its directory and its log fit each other. The TPM is
/// not in the snapshot.
#[test]
fn a_machine_that_counts_notices_an_old_snapshot_and_an_old_log() {
    let mut world = World::mixed(|_| {});
    let machine = machine(&world, 3, BOOT);
    let process = old_there(&world, &machine);
    let mut disk = Disk::default();
    let keeper = start(&world, &process, &mut disk, &world.log);
    assert_eq!(keeper.state(), ServingState::Empty);
    let (snapshot, old_log, counters) = (disk.clone(), world.log.clone(), machine.counters());

    world.accept(&world.ceremony.next_root(heirloom_model::counter::Serial(2)));
    start(&world, &process, &mut disk, &world.log);
    assert_eq!(start(&world, &process, &mut disk, &world.log).state(), ServingState::Empty);

    let mut restored = snapshot.clone();
    let again = start(&world, &process, &mut restored, &old_log);
    assert_eq!(again.state(), ServingState::RolledBack);
    let gap = WitnessGap { counter: 2, newest: Some(1) };
    assert_eq!(again.status(world.now).behind, Some(gap));
    // With the present log the directory is as old as before.
    let present = start(&world, &process, &mut restored, &world.log);
    assert_eq!(present.state(), ServingState::RolledBack);
    assert_eq!(restored.files, snapshot.files, "nothing is written");

    // A snapshot that had the counter in it is believed: that is what the TPM is for.
    machine.turn_back(counters);
    let mut restored = snapshot;
    assert_eq!(start(&world, &process, &mut restored, &old_log).state(), ServingState::Empty);
}

/// What code on a machine without a counter has: the log tells it what it misses, and the peers
/// give it. With a log that is as old as the directory it notices nothing.
#[test]
fn without_a_counter_the_registry_says_what_is_missing_and_peers_give_it() {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old.clone()), world.node(2, &world.old.clone()));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    let (snapshot, old_log) = (two.disk.clone(), world.log.clone());
    world.rotate(1, &mut one, &mut two);

    two.disk = snapshot.clone();
    world.restart(&mut two, &world.old.clone());
    let old_as_well = two.keeper.follow(&two.enclave, &old_log, None, world.now).unwrap();
    two.carry_out(old_as_well);
    assert_eq!(two.keeper.state(), ServingState::Ready, "nobody told it otherwise");
    assert_eq!(two.keeper.status(world.now).behind, None);

    // The registry does: before it has what it misses it answers nothing newer.
    world.feed(&mut two);
    assert_ne!(two.keeper.state(), ServingState::Ready);
    assert!(world.replicate(&mut one, &mut two) > 0);
    assert_eq!(two.keeper.state(), ServingState::Ready);

    // A directory that is newer than the log is noticed anywhere: the witness is in it.
    let present = two.disk.clone();
    world.restart(&mut two, &world.old.clone());
    two.disk = present;
    let behind = two.keeper.follow(&two.enclave, &old_log, None, world.now).unwrap();
    two.carry_out(behind);
    assert_ne!(two.keeper.state(), ServingState::Ready);
}
