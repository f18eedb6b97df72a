//! From the first generation to the last proof.

use heirloom_keeper::keeper::error::KeeperError;
use heirloom_model::counter::{Generation, Moment};
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::protocol::ServingState;
use heirloom_registry::domain::Proven;

use crate::world::{Node, World};

fn state(node: &Node) -> ServingState {
    node.keeper.state()
}

fn origin(node: &Node) -> HoldingOrigin {
    node.status().holding.unwrap().origin
}

/// Two holders of generation 0 with the old code.
pub(crate) fn two_holders() -> (World, Node, Node) {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old), world.node(2, &world.old));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    (world, one, two)
}

#[test]
fn the_first_generation_is_created_by_order_and_survives_a_restart() {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old), world.node(2, &world.old));
    assert_eq!(state(&one), ServingState::Starting);
    world.feed(&mut one);
    world.feed(&mut two);
    assert_eq!(state(&one), ServingState::Empty);
    assert!(one.keeper.replication_next().is_none(), "there is nothing to receive");
    world.rotate(0, &mut one, &mut two);
    for node in [&mut one, &mut two] {
        assert_eq!(state(node), ServingState::Ready);
        assert_eq!(origin(node), HoldingOrigin::Received);
        assert_eq!(node.disk.names("keyring").len(), 1);
        assert_eq!(node.disk.names("proposed").len(), 0, "promoted, and then removed");
        let (before, code) = (node.status().holding.unwrap(), world.old);
        world.restart(node, &code);
        assert_eq!(state(node), ServingState::Starting);
        world.feed(node);
        assert_eq!(state(node), ServingState::Ready);
        let after = node.status().holding.unwrap();
        assert_eq!((after.generation, after.checksum), (before.generation, before.checksum));
        assert_eq!(after.origin, HoldingOrigin::Recovered);
    }
}

#[test]
fn a_proof_is_good_only_after_a_restart() {
    let (mut world, mut one, mut two) = two_holders();
    world.restart(&mut one, &world.old.clone());
    let challenge = world.challenge(&[&one, &two]);
    let mut flaws = Vec::new();
    for node in [&mut one, &mut two] {
        world.feed(node);
        let files = node.disk.stored();
        let proof = node.keeper.prove(&node.enclave, challenge, &files).unwrap();
        world.accept_bytes(&proof);
        let domain = world.state.domain(&world.ceremony.domain).unwrap();
        let committed = *domain.committed().unwrap();
        let proven: &Proven = domain.latest_proof(&node.name).unwrap();
        flaws.push(proven.flaw(committed.generation, &committed.checksum).is_some());
    }
    assert_eq!(flaws, [false, true]);
}

#[test]
fn a_proof_comes_from_what_is_on_disk_and_not_from_memory() {
    let (mut world, mut one, _) = two_holders();
    let challenge = world.challenge(&[&one]);
    world.feed(&mut one);
    let mut files = one.disk.stored();
    files.retain(|file| !file.name.starts_with("keyring"));
    let proof = one.keeper.prove(&one.enclave, challenge, &files);
    assert_eq!(proof, Err(KeeperError::NotOnDisk { generation: Generation(0) }));
    let mut files = one.disk.stored();
    let last = files[0].bytes.len() - 1;
    files[0].bytes[last] ^= 1;
    assert!(matches!(
        one.keeper.prove(&one.enclave, challenge, &files),
        Err(KeeperError::Unreadable(_))
    ));
    let unknown = heirloom_model::digest::Nonce::new([9; 32]);
    let proof = one.keeper.prove(&one.enclave, unknown, &one.disk.stored());
    assert_eq!(proof, Err(KeeperError::NotInLog));
}

/// Nothing is in memory that is not on disk: a failed write changes nothing, and the same order
/// can be carried out again.
#[test]
fn a_write_that_fails_takes_no_effect() {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old), world.node(2, &world.old));
    let order = world.order(0, &one);
    world.feed(&mut one);
    let intent = one.keeper.create_generation(&one.enclave, order).unwrap();
    one.disk.failures = 1;
    assert!(intent.persist(&mut one.disk).is_err());
    drop(intent);
    assert!(one.keeper.repeat_receipt(&one.enclave, order).unwrap().is_none());
    let intent = one.keeper.create_generation(&one.enclave, order).unwrap();
    let receipt = one.carry_out(intent);
    world.accept_bytes(&receipt);
    world.feed(&mut one);
    world.feed(&mut two);
    let receipt = world.receive(order, &mut one, &mut two).unwrap();
    world.accept_bytes(&receipt);
    // The promotion fails; the proposal stays, and the next call promotes it.
    let rest = world.log.last().unwrap().clone();
    let intent = one.keeper.follow(&one.enclave, &[rest], None, Moment(0)).unwrap();
    one.disk.failures = 1;
    assert!(intent.persist(&mut one.disk).is_err());
    drop(intent);
    assert_eq!(state(&one), ServingState::Empty);
    assert_eq!(one.disk.names("proposed").len(), 1);
    world.feed(&mut one);
    assert_eq!(state(&one), ServingState::Ready);
}

/// Power fails at every line: after any number of durable operations, a restart loses nothing.
#[test]
fn a_crash_anywhere_in_a_promotion_loses_nothing() {
    for writes in 0..3 {
        let mut world = World::new();
        let (mut one, mut two) = (world.node(1, &world.old), world.node(2, &world.old));
        let order = world.order(0, &one);
        world.feed(&mut one);
        let intent = one.keeper.create_generation(&one.enclave, order).unwrap();
        let receipt = one.carry_out(intent);
        world.accept_bytes(&receipt);
        world.feed(&mut one);
        world.feed(&mut two);
        let receipt = world.receive(order, &mut one, &mut two).unwrap();
        world.accept_bytes(&receipt);
        let rest = world.log.last().unwrap().clone();
        let intent = one.keeper.follow(&one.enclave, &[rest], None, Moment(0)).unwrap();
        assert_eq!(intent.writes().len(), 2, "a keyring file and a witness");
        for write in intent.writes().iter().take(writes) {
            one.disk.files.insert(write.name.clone(), write.bytes.clone());
        }
        drop(intent);
        world.restart(&mut one, &world.old.clone());
        world.feed(&mut one);
        assert_eq!(state(&one), ServingState::Ready, "after {writes} writes");
        assert_eq!(one.disk.names("keyring").len(), 1);
        assert_eq!(one.disk.names("proposed").len(), 0);
    }
}

#[test]
fn a_receipt_is_repeated_and_a_lost_proposal_is_not_replaced() {
    let mut world = World::new();
    let mut one = world.node(1, &world.old);
    let order = world.order(0, &one);
    world.feed(&mut one);
    let intent = one.keeper.create_generation(&one.enclave, order).unwrap();
    let receipt = one.carry_out(intent);
    let intent = one.keeper.create_generation(&one.enclave, order).unwrap();
    assert!(intent.writes().is_empty());
    let again = one.carry_out(intent);
    let payload = |bytes: &[u8]| {
        heirloom_model::wire::decode::<heirloom_model::envelope::Envelope>(bytes).unwrap().payload
    };
    assert_eq!(payload(&receipt), payload(&again));
    world.accept_bytes(&receipt);
    one.disk.files.clear();
    world.restart(&mut one, &world.old.clone());
    world.feed(&mut one);
    assert_eq!(
        one.keeper.create_generation(&one.enclave, order).err(),
        Some(KeeperError::ProposalLost { generation: Generation(0) })
    );
}

#[test]
fn new_code_receives_everything_from_old_code_and_recovers_it() {
    let (mut world, mut one, mut two) = two_holders();
    for generation in 1..6 {
        world.rotate(generation, &mut one, &mut two);
    }
    let mut three = world.node(3, &world.new);
    world.feed(&mut three);
    assert_eq!(state(&three), ServingState::Empty);
    assert_eq!(three.status().progress.unwrap().wanted, 6);
    assert_eq!(world.replicate(&mut one, &mut three), 1);
    assert_eq!(state(&three), ServingState::Ready);
    assert_eq!(origin(&three), HoldingOrigin::Received);
    assert_eq!(three.disk.names("keyring").len(), 1, "one file for one batch");
    world.restart(&mut three, &world.new.clone());
    world.feed(&mut three);
    assert_eq!(origin(&three), HoldingOrigin::Recovered);
    let (one, three) = (one.status(), three.status());
    assert_eq!(one.holding.unwrap().checksum, three.holding.unwrap().checksum);
}

/// A holder that missed a rotation serves nobody until it has caught up.
#[test]
fn a_holder_that_missed_a_rotation_catches_up() {
    let (mut world, mut one, mut two) = two_holders();
    let mut three = world.node(3, &world.old);
    world.feed(&mut three);
    world.replicate(&mut one, &mut three);
    world.rotate(1, &mut one, &mut two);
    world.rotate(2, &mut one, &mut two);
    world.feed(&mut three);
    assert_eq!(state(&three), ServingState::Replicating);
    let next = three.keeper.replication_next().unwrap();
    assert_eq!((next.newest(), next.count()), (Generation(2), 2));
    world.replicate(&mut two, &mut three);
    assert_eq!(state(&three), ServingState::Ready);
    assert_eq!(three.disk.names("keyring").len(), 2);
}

/// Firmware updates lose nothing; a rollback of the firmware is named as what it is.
#[test]
fn a_microcode_update_loses_nothing() {
    let (world, mut one, _) = two_holders();
    one.host.update_microcode().unwrap();
    one.host.certify_again(&world.ceremony.manufacturer);
    world.restart(&mut one, &world.old.clone());
    world.feed(&mut one);
    assert_eq!(state(&one), ServingState::Ready);
    assert_eq!(origin(&one), HoldingOrigin::Recovered);
}

#[test]
fn only_the_last_two_witnesses_are_kept() {
    let (mut world, mut one, mut two) = two_holders();
    for generation in 1..5 {
        world.rotate(generation, &mut one, &mut two);
        assert!(one.disk.names("witness").len() <= 2);
    }
    assert_eq!(one.disk.names("witness").len(), 2);
    assert_eq!(one.disk.names("keyring").len(), 5);
}

#[test]
fn instances_do_not_share_identity_keys() {
    let (world, mut one, _) = two_holders();
    let before = one.keeper.instance().public_key();
    world.restart(&mut one, &world.old.clone());
    assert_ne!(one.keeper.instance().public_key(), before);
    assert_eq!(one.status().instance, one.keeper.instance().public_key());
}
