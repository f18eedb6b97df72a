//! A keyring moves from one seat to the next, and what each side does not believe of the other's
//! part in it.

use heirloom_keeper::keeper::error::KeeperError;
use heirloom_keeper::keeper::{Keeper, KeeperConfig};
use heirloom_keeper::keyring::BadGenerations;
use heirloom_model::admin::AdminRefusal;
use heirloom_model::counter::Generation;
use heirloom_model::digest::{Checksum, Nonce};
use heirloom_model::domain::{HoldingOrigin, PlanStep};
use heirloom_model::plan::StepId;
use heirloom_model::policy::{HolderRole, Sharing};
use heirloom_model::protocol::{
    PeerRefusal, PeerRequest, PeerResponse, ReplicatedGeneration, ServingState, WireSecret,
};

use crate::seats::{Answered, Play, Stopped, TO_NEW, TO_VIA, hand_over, plan};
use crate::world::World;

#[test]
fn a_keyring_moves_over_the_upgrader_and_each_copy_is_recovered() {
    let mut play = Play::new();
    let before = play.old.status().holding.unwrap();
    assert_eq!(play.via.keeper.state(), ServingState::Empty);
    assert_eq!(play.hand_over(TO_VIA), Ok(1));
    assert_eq!(play.via.keeper.state(), ServingState::Carrying);
    let held = play.via.status().holding.unwrap();
    assert_eq!((held.checksum, held.origin), (before.checksum, HoldingOrigin::Received));
    assert_eq!(play.via.disk.names("keyring").len(), 1);

    let mut play = Play::carried();
    assert_eq!(play.via.status().holding.unwrap().origin, HoldingOrigin::Recovered);
    assert_eq!(play.hand_over(TO_NEW), Ok(1));
    assert_eq!(play.new.keeper.state(), ServingState::Standby);
    assert_eq!(play.new.status().holding.unwrap().checksum, before.checksum);
    // All of that changed nothing for those whom the old keeper serves.
    assert_eq!(play.old.keeper.state(), ServingState::Ready);
}

/// In a replicated domain the same words move the keyring, and replication goes on beside them:
/// but not to an upgrader, which has a copy only by a plan.
#[test]
fn a_replicated_domain_hands_over_as_well() {
    let mut world = World::new();
    world.publish_handover(2, |policy| policy.sharing = Sharing::Replicated);
    let (mut one, mut two) = (world.node(1, &world.old), world.node(2, &world.old));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    world.register(&mut one);
    let code = world.via;
    let mut via = world.beside(&one, &code);
    let (peer, donor) = world.session(&mut via, &mut one);
    let all = PeerRequest::Replicate { newest: Generation(0), count: 1 };
    let PeerResponse::Refused(PeerRefusal::NoEdge { .. }) = one.serve(&peer, &all) else {
        panic!("an upgrader has a copy only by a plan")
    };
    assert!(via.keeper.replication_next().is_none());
    let accepted = via.keeper.accept_generations(&via.enclave, &donor, &[]);
    assert_eq!(accepted.err(), Some(KeeperError::Role { role: HolderRole::Upgrader }));

    let mut made = plan(&world, &one);
    made.rollback.clear();
    made.steps.truncate(3);
    made.steps[1].gates.clear();
    made.point_of_no_return = StepId(0);
    let step = PlanStep { plan: world.propose(&made), step: StepId(TO_VIA) };
    world.feed(&mut one);
    world.feed(&mut via);
    assert_eq!(hand_over(&world, step, &mut one, &mut via), Ok(1));
    assert_eq!(via.keeper.state(), ServingState::Carrying);
    let mut three = world.node(3, &world.old);
    world.feed(&mut three);
    // Nor does an upgrader give anything away without a plan.
    let (peer, donor) = world.session(&mut three, &mut via);
    let state = ServingState::Carrying;
    let PeerResponse::Refused(refusal) = via.serve(&peer, &all) else { panic!("it was served") };
    assert_eq!(refusal, PeerRefusal::NotServing { state });
    let accepted = three.keeper.accept_generations(&three.enclave, &donor, &[]);
    assert!(matches!(accepted.err(), Some(KeeperError::NoEdge { .. })));
    assert_eq!(world.replicate(&mut one, &mut three), 1);
}

#[test]
fn an_upgrader_serves_nobody_and_creates_nothing() {
    let mut play = Play::carried();
    let mut wallet = play.world.node(9, &play.world.application);
    play.world.feed(&mut wallet);
    let (peer, _) = play.world.session(&mut wallet, &mut play.via);
    let state = ServingState::Carrying;
    let asked = crate::refusal::newest();
    let PeerResponse::Refused(refusal) = play.via.serve(&peer, &asked) else {
        panic!("an upgrader served a key")
    };
    assert_eq!(refusal, PeerRefusal::NotServing { state });
    assert!(!play.via.status().may_generate);
    let role = HolderRole::Upgrader;
    let order = Nonce::new([9; 32]);
    let refused = play.via.keeper.create_generation(&play.via.enclave, order).err();
    assert_eq!(refused, Some(KeeperError::Role { role }));
    let refused = play.via.keeper.repeat_receipt(&play.via.enclave, order).err();
    assert_eq!(refused, Some(KeeperError::Role { role }));
    let (_, donor) = play.world.session(&mut play.new, &mut play.via);
    let accepted = play.new.keeper.accept_generations(&play.new.enclave, &donor, &[]);
    assert_eq!(accepted.err(), Some(KeeperError::Exclusive));
}

/// Genesis is an order to a keeper: an upgrader that is there first does not carry it out.
#[test]
fn an_upgrader_never_makes_the_first_generation() {
    let mut world = World::new();
    world.publish_handover(2, |_| {});
    let mut via = world.node(1, &world.via);
    let order = world.order(0, &via);
    world.feed(&mut via);
    assert_eq!(via.keeper.state(), ServingState::Empty);
    assert!(!via.status().may_generate);
    let refused = via.keeper.create_generation(&via.enclave, order).err();
    let role = HolderRole::Upgrader;
    assert_eq!(refused, Some(KeeperError::Role { role }));
}

/// Code that was measured for another role than the policy gives it holds nothing.
#[test]
fn policy_and_manifest_must_name_the_same_role() {
    let (world, mut one, _) = crate::lifecycle::two_holders();
    let config = world.config(&one.name, &world.old);
    let config = KeeperConfig { role: HolderRole::Upgrader, ..config };
    one.keeper = Keeper::start(config, &one.enclave, &one.disk.stored()).unwrap();
    world.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::Withdrawn);
    assert_eq!(one.status().role, HolderRole::Upgrader);
    let mut play = Play::carried();
    let config = play.world.config(&play.via.name, &play.world.via);
    let config = KeeperConfig { role: HolderRole::Keeper, ..config };
    let files = play.via.disk.stored();
    play.via.keeper = Keeper::start(config, &play.via.enclave, &files).unwrap();
    play.feed();
    assert_eq!(play.via.keeper.state(), ServingState::Withdrawn);
}

/// Whatever a donor sends, the receiver computes the chain itself, and writes nothing that the
/// network has not committed to.
#[test]
fn the_receiver_takes_only_what_the_network_committed_to() {
    let mut play = Play::new();
    let Answered { ask, challenge, mut session, receiver, donor, .. } =
        play.answered(TO_VIA).unwrap();
    let donor =
        play.via.keeper.prove_to_donor(&play.via.enclave, &donor, &ask, &challenge).unwrap();
    let proof = play.via.keeper.handover_next(&donor).unwrap();
    let message = PeerRequest::ProveHandover(proof);
    let PeerResponse::Generations(sent) = play.old.converse(&receiver, &mut session, &message)
    else {
        panic!("the donor refuses")
    };
    let copy = |change: fn(&mut ReplicatedGeneration)| {
        let mut changed = ReplicatedGeneration {
            generation: sent[0].generation,
            secret: sent[0].secret.expose(WireSecret::new),
            previous: sent[0].previous,
        };
        change(&mut changed);
        vec![changed]
    };
    let disk = play.via.disk.files.clone();
    let accept = |sent: &[ReplicatedGeneration]| {
        play.via.keeper.accept_handed_over(&play.via.enclave, &donor, sent).err()
    };
    let generation = Generation(0);
    let checksum = Some(BadGenerations::Checksum { generation }.into());
    assert_eq!(accept(&copy(|sent| sent.secret = WireSecret::new(&[9; 32]))), checksum);
    assert_eq!(accept(&copy(|sent| sent.previous = Checksum::new([9; 32]))), checksum);
    let (expected, found) = (generation, Generation(1));
    let order = Some(BadGenerations::Order { expected, found }.into());
    assert_eq!(accept(&copy(|sent| sent.generation = Generation(1))), order);
    let none = Some(BadGenerations::Count { found: 0, asked: 1 }.into());
    assert_eq!(accept(&[]), none);
    assert_eq!(play.via.disk.files, disk, "nothing was written");
    assert_eq!(play.via.keeper.state(), ServingState::Empty);
    let intent = play.via.keeper.accept_handed_over(&play.via.enclave, &donor, &sent).unwrap();
    play.via.carry_out(intent);
    assert_eq!(play.via.keeper.state(), ServingState::Carrying);
    let again = play.via.keeper.accept_handed_over(&play.via.enclave, &donor, &sent).err();
    assert_eq!(again, Some(KeeperError::State { state: ServingState::Carrying }));
    assert!(play.via.keeper.handover_next(&donor).is_none());
}

#[test]
fn a_handover_is_asked_for_by_the_seat_that_the_step_names() {
    let mut play = Play::new();
    let step = play.step(TO_VIA);
    let refused = |node: &crate::world::Node| {
        let asked = node.keeper.request_handover(&node.enclave, step);
        AdminRefusal::from(asked.map(|_| ()).unwrap_err())
    };
    let state = ServingState::Ready;
    assert_eq!(refused(&play.old), AdminRefusal::State { state }, "it has everything");
    assert!(matches!(refused(&play.new), AdminRefusal::NotAuthorised(_)));
    // The same code on another node.
    let mut elsewhere = play.world.node(2, &play.world.via);
    play.world.register(&mut elsewhere);
    assert!(matches!(refused(&elsewhere), AdminRefusal::NotAuthorised(_)));
    // A donor that is another seat answers nobody.
    play.feed();
    let stopped = hand_over(&play.world, step, &mut play.new, &mut play.via);
    let state = ServingState::Empty;
    assert_eq!(stopped, Err(Stopped::Donor(PeerRefusal::NotServing { state })));
}

/// Power fails at every durable operation of the receiver; the same step is taken again.
#[test]
fn a_handover_survives_a_crash_of_the_receiver() {
    use crate::world::Crash;
    for crash in [Crash::Before, Crash::After] {
        let mut play = Play::new();
        play.via.disk.crash = Some((play.via.disk.operations, crash));
        let Answered { ask, challenge, mut session, receiver, donor, .. } =
            play.answered(TO_VIA).unwrap();
        let donor =
            play.via.keeper.prove_to_donor(&play.via.enclave, &donor, &ask, &challenge).unwrap();
        let message = PeerRequest::ProveHandover(play.via.keeper.handover_next(&donor).unwrap());
        let PeerResponse::Generations(sent) = play.old.converse(&receiver, &mut session, &message)
        else {
            panic!("the donor refuses")
        };
        let intent = play.via.keeper.accept_handed_over(&play.via.enclave, &donor, &sent).unwrap();
        assert!(intent.persist(&mut play.via.disk).is_err());
        play.via.disk.crash = None;
        let code = play.world.via;
        play.restart(&code);
        match crash {
            Crash::Before => assert_eq!(play.hand_over(TO_VIA), Ok(1)),
            Crash::After => {}
        }
        assert_eq!(play.via.keeper.state(), ServingState::Carrying);
        assert_eq!(play.old.keeper.state(), ServingState::Ready);
    }
}
