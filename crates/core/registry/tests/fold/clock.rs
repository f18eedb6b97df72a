//! Epochs and endorsements.

use heirloom_model::counter::{Epoch, Time};
use heirloom_model::digest::NetworkId;
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::Endorsements;
use heirloom_model::root::Role;

use crate::world::{
    BEGIN, OLD, World, agent, check, development_root, first_root, key, role_keys, signed,
};

#[test]
fn epochs_follow_one_another_and_time_never_decreases() {
    let mut world = World::begun();
    let mut start = world.epoch();
    start.time = BEGIN;
    check(
        &mut world,
        &start,
        |start| signed(start, Role::Timekeeper),
        &[
            ("another network", "other-network", |start| start.network = NetworkId::new([1; 32])),
            ("the same epoch", "not-next", |start| start.epoch = Epoch(1)),
            ("an epoch left out", "not-next", |start| start.epoch = Epoch(3)),
            ("a second earlier", "time-went-back", |start| start.time = Time(BEGIN.0 - 1)),
        ],
    );
    let one = Envelope::signed(&start, &role_keys(Role::Timekeeper)[..1]);
    assert_eq!(world.code(&one), "threshold-not-met");
}

#[test]
fn before_the_first_epoch_nothing_that_expires_is_accepted() {
    let mut world = World::empty();
    world.accept(&signed(&first_root(), Role::Root));
    assert_eq!(world.state.now(), None);
    assert_eq!(world.code(&signed(&world.fleet(), Role::Operator)), "no-time");
    assert_eq!(world.code(&signed(&world.release("keeper-1", OLD), Role::Release)), "no-time");
    assert_eq!(world.code(&signed(&world.policy(), Role::Policy)), "no-time");
    let mut second = world.epoch();
    second.epoch = Epoch(2);
    assert_eq!(world.code(&signed(&second, Role::Timekeeper)), "not-next");
    let epoch = world.epoch();
    assert_eq!(epoch.epoch, Epoch(1));
    world.accept(&signed(&epoch, Role::Timekeeper));
    assert_eq!((world.state.now(), world.state.epoch()), (Some(BEGIN), Epoch(1)));
}

#[test]
fn endorsements_come_from_an_operator_or_an_agent_of_the_fleet() {
    let mut world = World::begun();
    let endorsements = development_root().endorsements(BEGIN);
    let operator = &role_keys(Role::Operator)[..1];
    assert_eq!(world.code(&Envelope::signed(&endorsements, operator)), "accepted");
    let from_agent = Envelope::signed(&endorsements, [&agent("n1")]);
    assert_eq!(world.code(&from_agent), "unknown-signer", "there is no fleet yet");
    world.accept(&signed(&world.fleet(), Role::Operator));
    assert_eq!(world.code(&from_agent), "accepted");
    assert_eq!(world.code(&Envelope::signed(&endorsements, [&key(1, 9)])), "unknown-signer");
    assert_eq!(world.code(&Envelope::unsigned(&endorsements)), "not-one-signature");
    let two = Envelope::signed(&endorsements, &role_keys(Role::Operator)[..2]);
    assert_eq!(world.code(&two), "not-one-signature");
}

/// The manufacturer's signatures decide, whoever brings the endorsements.
#[test]
fn endorsements_that_the_manufacturer_did_not_sign_are_refused() {
    let mut world = World::begun();
    let mut endorsements = development_root().endorsements(BEGIN);
    let Endorsements::SgxDcap(collateral) = &mut endorsements else {
        panic!("it is of the kind SGX")
    };
    collateral.tcb_info_signature[0] ^= 1;
    let changed = Envelope::signed(&endorsements, &role_keys(Role::Operator)[..1]);
    assert_eq!(world.code(&changed), "evidence-refused");
}

#[test]
fn evidence_travels_only_where_it_is_looked_at() {
    let mut world = World::with_genesis();
    let registration = world.registration("n1");
    let attested = crate::world::Instance::new("n1", OLD).attest(&registration);
    let mut bare = attested.clone();
    bare.evidence = None;
    assert_eq!(world.code(&bare), "evidence-missing");
    let mut start = signed(&world.epoch(), Role::Timekeeper);
    start.evidence = attested.evidence;
    assert_eq!(world.code(&start), "evidence-unexpected");
}
