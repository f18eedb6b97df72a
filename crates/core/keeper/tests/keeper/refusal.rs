//! What a keeper does not do, and the name that it gives to each reason.

use heirloom_keeper::handshake::Peer;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_launcher::report::LaunchMode;
use heirloom_model::admin::{AdminRefusal, Unreadable};
use heirloom_model::counter::{Epoch, Generation, Moment, SecurityVersion, Serial};
use heirloom_model::digest::Nonce;
use heirloom_model::policy::{KeyScope, Sharing};
use heirloom_model::protocol::{
    KeyAnswer, KeyKind, KeyPart, KeyPeriod, KeyRequest, PeerRefusal, PeerRequest, PeerResponse,
    ServingState,
};

use crate::lifecycle::two_holders;
use crate::world::{Node, World};

fn request(kind: KeyKind, period: KeyPeriod, part: KeyPart) -> PeerRequest {
    let (application, key) = ("wallet".parse().unwrap(), "signing".parse().unwrap());
    PeerRequest::Key(KeyRequest { application, key, kind, period, part })
}

pub(crate) fn newest() -> PeerRequest {
    request(KeyKind::Ed25519, KeyPeriod::Newest, KeyPart::Private)
}

fn key(node: &Node, peer: &Peer, request: &PeerRequest) -> Result<KeyAnswer, PeerRefusal> {
    match node.serve(peer, request) {
        PeerResponse::Key(answer) => Ok(answer),
        PeerResponse::Refused(refusal) => Err(refusal),
        PeerResponse::Generations(_) | PeerResponse::HandoverChallenge(_) => {
            panic!("another answer")
        }
    }
}

fn secret(node: &Node, peer: &Peer, request: &PeerRequest) -> [u8; 32] {
    let answer = key(node, peer, request).unwrap_or_else(|refusal| panic!("{refusal}"));
    answer.secret.unwrap().expose(|bytes| *bytes)
}

fn refusal(node: &Node, peer: &Peer, request: &PeerRequest) -> PeerRefusal {
    match node.serve(peer, request) {
        PeerResponse::Refused(refusal) => refusal,
        PeerResponse::Key(_)
        | PeerResponse::Generations(_)
        | PeerResponse::HandoverChallenge(_) => panic!("it was served"),
    }
}

/// An application on a machine of its own.
fn application(world: &World) -> Node {
    let mut node = world.node(9, &world.application);
    world.feed(&mut node);
    node
}

#[test]
fn every_holder_gives_an_application_the_same_keys() {
    let (world, mut one, mut two) = two_holders();
    let mut wallet = application(&world);
    let (at_one, _) = world.session(&mut wallet, &mut one);
    let (at_two, _) = world.session(&mut wallet, &mut two);
    for kind in KeyKind::ALL {
        let asked = request(kind, KeyPeriod::Newest, KeyPart::Private);
        assert_eq!(secret(&one, &at_one, &asked), secret(&two, &at_two, &asked));
    }
    let public = request(KeyKind::P256, KeyPeriod::Newest, KeyPart::Public);
    let answer = key(&one, &at_one, &public).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert!(answer.secret.is_none());
    assert_eq!(answer.public.unwrap().0.len(), 33);
    assert_eq!((answer.generation, answer.policy), (Generation(0), Serial(1)));
    let none = request(KeyKind::Symmetric, KeyPeriod::Newest, KeyPart::Public);
    assert_eq!(refusal(&one, &at_one, &none), PeerRefusal::NoPublicPart);
    let status = one.status();
    assert_eq!((status.requests_served, status.requests_refused), (6, 1));
}

#[test]
fn an_application_gets_only_what_its_rule_lists() {
    let (mut world, mut one, mut two) = two_holders();
    let mut wallet = application(&world);
    let measurement = world.application.measurement;
    let not_listed = |policy| PeerRefusal::ApplicationNotListed {
        policy: Serial(policy),
        measurement,
        application: "wallet".parse().unwrap(),
    };
    // A keeper is no application.
    let (peer, _) = world.session(&mut two, &mut one);
    let found = refusal(&one, &peer, &newest());
    assert!(matches!(found, PeerRefusal::ApplicationNotListed { .. }), "{found}");

    let mut judged =
        |world: &mut World, serial, change: fn(&mut heirloom_model::policy::Policy)| {
            world.publish(serial, change);
            world.feed(&mut one);
            world.feed(&mut wallet);
            let (peer, _) = world.session(&mut wallet, &mut one);
            key(&one, &peer, &newest()).map(|_| ())
        };
    assert_eq!(judged(&mut world, 2, |_| {}), Ok(()));
    let other_key = |policy: &mut heirloom_model::policy::Policy| {
        policy.applications[0].keys = KeyScope::Only(vec!["other".parse().unwrap()]);
    };
    assert_eq!(judged(&mut world, 3, other_key), Err(not_listed(3)));
    let this_key = |policy: &mut heirloom_model::policy::Policy| {
        policy.applications[0].keys = KeyScope::Only(vec!["signing".parse().unwrap()]);
    };
    assert_eq!(judged(&mut world, 4, this_key), Ok(()));
    let newer_code = |policy: &mut heirloom_model::policy::Policy| {
        policy.applications[0].security_version = SecurityVersion(2);
    };
    let (policy, required) = (Serial(5), SecurityVersion(2));
    let too_low = PeerRefusal::SecurityVersionTooLow { policy, measurement, required };
    assert_eq!(judged(&mut world, 5, newer_code), Err(too_low));
    let nobody = |policy: &mut heirloom_model::policy::Policy| policy.applications.clear();
    assert_eq!(judged(&mut world, 6, nobody), Err(not_listed(6)));
}

#[test]
fn a_session_ends_with_the_policy_or_the_time_that_it_was_judged_by() {
    let (mut world, mut one, _) = two_holders();
    let mut wallet = application(&world);
    let (peer, _) = world.session(&mut wallet, &mut one);
    assert!(key(&one, &peer, &newest()).is_ok());
    world.publish(2, |policy| policy.session_seconds_max = 60);
    world.feed(&mut one);
    assert_eq!(refusal(&one, &peer, &newest()), PeerRefusal::EvidenceTooOld);
    let (peer, _) = world.session(&mut wallet, &mut one);
    world.epoch();
    world.feed(&mut one);
    assert!(key(&one, &peer, &newest()).is_ok(), "60 seconds later");
    world.epoch();
    world.feed(&mut one);
    assert_eq!(refusal(&one, &peer, &newest()), PeerRefusal::EvidenceTooOld);
}

#[test]
fn ephemeral_keys_are_served_for_some_epochs_and_outlive_a_rotation() {
    let (mut world, mut one, mut two) = two_holders();
    let mut wallet = application(&world);
    let ephemeral =
        |epoch| request(KeyKind::X25519, KeyPeriod::Epoch(Epoch(epoch)), KeyPart::Private);
    world.epoch();
    world.feed(&mut one);
    world.feed(&mut two);
    let (peer, _) = world.session(&mut wallet, &mut one);
    let before = secret(&one, &peer, &ephemeral(2));
    assert_ne!(before, secret(&one, &peer, &ephemeral(1)));
    world.rotate(1, &mut one, &mut two);
    assert_eq!(before, secret(&one, &peer, &ephemeral(2)), "the epoch began with generation 0");
    for _ in 0..3 {
        world.epoch();
    }
    world.feed(&mut one);
    world.feed(&mut two);
    let (at_one, _) = world.session(&mut wallet, &mut one);
    let (at_two, _) = world.session(&mut wallet, &mut two);
    assert_eq!(before, secret(&one, &at_one, &ephemeral(2)));
    assert_eq!(before, secret(&two, &at_two, &ephemeral(2)));
    let (oldest, newest) = (Epoch(2), Epoch(5));
    let out_of_range = PeerRefusal::EpochOutOfRange { oldest, newest };
    assert_eq!(refusal(&one, &at_one, &ephemeral(1)), out_of_range);
    assert_eq!(refusal(&one, &at_one, &ephemeral(6)), out_of_range);
    world.restart(&mut one, &world.old.clone());
    world.feed(&mut one);
    let (peer, _) = world.session(&mut wallet, &mut one);
    assert_eq!(before, secret(&one, &peer, &ephemeral(2)), "after a restart");
}

/// The donor judges forward: each refusal by one change of the policy or the peer.
#[test]
fn a_keyring_goes_only_along_an_edge() {
    let (mut world, mut one, mut two) = two_holders();
    let mut three = world.node(3, &world.new);
    world.feed(&mut three);
    let all = PeerRequest::Replicate { newest: Generation(0), count: 1 };
    let (peer, _) = world.session(&mut three, &mut one);
    let too_many = PeerRequest::Replicate { newest: Generation(0), count: 2_049 };
    assert_eq!(refusal(&one, &peer, &too_many), PeerRefusal::OutOfLimits);
    let none = PeerRequest::Replicate { newest: Generation(0), count: 0 };
    assert_eq!(refusal(&one, &peer, &none), PeerRefusal::OutOfLimits);
    let generation = Generation(1);
    let future = PeerRequest::Replicate { newest: generation, count: 1 };
    assert_eq!(refusal(&one, &peer, &future), PeerRefusal::NotHeld { generation });
    let order = Nonce::new([9; 32]);
    let proposed = PeerRequest::ReplicateProposed { order };
    assert_eq!(refusal(&one, &peer, &proposed), PeerRefusal::NotProposed);
    assert!(matches!(one.serve(&peer, &all), PeerResponse::Generations(_)));

    let (from, to) = (world.old.measurement, world.new.measurement);
    world.publish(2, |policy| policy.holders.iter_mut().for_each(|rule| rule.gives_to.clear()));
    world.feed(&mut one);
    world.feed(&mut two);
    world.feed(&mut three);
    let (peer, giver) = world.session(&mut three, &mut one);
    let no_edge = PeerRefusal::NoEdge { policy: Serial(2), from, to };
    assert_eq!(refusal(&one, &peer, &all), no_edge);
    // The receiver judges backward, whatever the donor would do.
    let (own, _) = world.session(&mut two, &mut one);
    let PeerResponse::Generations(sent) = one.serve(&own, &all) else {
        panic!("the same code may have it")
    };
    let accepted = three.keeper.accept_generations(&three.enclave, &giver, &sent);
    assert_eq!(accepted.err(), Some(KeeperError::NoEdge { from, to }));

    let required = SecurityVersion(4);
    world.publish(3, |policy| {
        for rule in policy.holders.iter_mut().filter(|rule| rule.measurement == to) {
            rule.security_version = required;
        }
    });
    world.feed(&mut one);
    world.feed(&mut three);
    assert_eq!(three.keeper.state(), ServingState::Withdrawn, "too old for its own rule");
    let (peer, _) = world.session(&mut three, &mut one);
    let too_low =
        PeerRefusal::SecurityVersionTooLow { policy: Serial(3), measurement: to, required };
    assert_eq!(refusal(&one, &peer, &all), too_low);
}

/// An exclusive domain never has two active holders, whatever its edges say.
#[test]
fn the_keyring_of_an_exclusive_domain_is_given_to_nobody() {
    let all = PeerRequest::Replicate { newest: Generation(0), count: 1 };
    let sent = {
        let (world, mut one, _) = two_holders();
        let mut three = world.node(3, &world.new);
        world.feed(&mut three);
        let (peer, _) = world.session(&mut three, &mut one);
        let PeerResponse::Generations(sent) = one.serve(&peer, &all) else {
            panic!("a replicated domain's keyring is given")
        };
        sent
    };
    let mut world = World::new();
    world.publish(2, |policy| {
        (policy.sharing, policy.holders_min) = (Sharing::Exclusive, 1);
    });
    let mut one = world.first_active();
    let mut three = world.node(3, &world.new);
    world.feed(&mut three);
    let (peer, giver) = world.session(&mut three, &mut one);
    assert_eq!(refusal(&one, &peer, &all), PeerRefusal::Exclusive);
    let proposed = PeerRequest::ReplicateProposed { order: Nonce::new([9; 32]) };
    assert_eq!(refusal(&one, &peer, &proposed), PeerRefusal::Exclusive);
    assert!(three.keeper.replication_next().is_none());
    let accepted = three.keeper.accept_generations(&three.enclave, &giver, &sent);
    assert_eq!(accepted.err(), Some(KeeperError::Exclusive));
}

#[test]
fn withdrawn_code_keeps_its_state_and_serves_nobody() {
    let (mut world, mut one, mut two) = two_holders();
    let mut three = world.node(3, &world.new);
    world.feed(&mut three);
    world.replicate(&mut one, &mut three);
    let old = world.old.measurement;
    world.publish(2, |policy| policy.holders.retain(|rule| rule.measurement != old));
    for node in [&mut one, &mut two, &mut three] {
        world.feed(node);
    }
    assert_eq!(one.keeper.state(), ServingState::Withdrawn);
    assert_eq!(one.disk.names("keyring").len(), 1);
    let (peer, giver) = world.session(&mut three, &mut one);
    let all = PeerRequest::Replicate { newest: Generation(0), count: 1 };
    let state = ServingState::Withdrawn;
    assert_eq!(refusal(&one, &peer, &all), PeerRefusal::NotServing { state });
    assert_eq!(refusal(&one, &peer, &newest()), PeerRefusal::NotServing { state });
    // And nobody believes what it sends.
    let mut late = world.node(2, &world.new);
    world.feed(&mut late);
    let (at_three, _) = world.session(&mut late, &mut three);
    let PeerResponse::Generations(sent) = three.serve(&at_three, &all) else {
        panic!("the new code gives to itself")
    };
    let accepted = late.keeper.accept_generations(&late.enclave, &giver, &sent);
    assert!(matches!(accepted.err(), Some(KeeperError::NotAHolder(_))));
}

#[test]
fn a_shorter_log_or_another_one_is_refused() {
    let (mut world, mut one, mut two) = two_holders();
    world.rotate(1, &mut one, &mut two);
    let whole = world.log.clone();
    // Shorter.
    world.restart(&mut one, &world.old.clone());
    let short = &whole[..whole.len() - 1];
    let intent = one.keeper.follow(&one.enclave, short, None, Moment(0)).unwrap();
    assert!(intent.writes().is_empty());
    one.carry_out(intent);
    assert_eq!(one.keeper.state(), ServingState::RolledBack);
    let refused = one.keeper.register(&one.enclave);
    assert_eq!(refused, Err(KeeperError::State { state: ServingState::RolledBack }));
    world.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::Ready, "the log was only late");
    // Another history, of the same length and longer.
    let mut fork = World::new();
    while fork.log.len() <= whole.len() {
        fork.epoch();
    }
    world.restart(&mut one, &world.old.clone());
    fork.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::RolledBack);
    // The witness alone says so, without any keyring.
    one.disk.files.retain(|name, _| name.starts_with("witness"));
    world.restart(&mut one, &world.old.clone());
    fork.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::RolledBack);
}

/// Whoever stole keys of an old root leaves the new one out of the log, and goes on from there.
#[test]
fn a_root_that_was_seen_is_not_left_out_after_a_restart() {
    let (mut world, mut one, _two) = two_holders();
    let mut fork = World::new();
    fork.log.clear();
    fork.state = heirloom_registry::network::NetworkState::new(fork.ceremony.network);
    for entry in &world.log {
        fork.accept_bytes(&entry.envelope);
    }
    world.accept(&world.ceremony.next_root(Serial(2)));
    world.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::Ready);
    world.restart(&mut one, &world.old.clone());
    world.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::Ready);
    fork.publish(2, |_| {});
    fork.epoch();
    world.restart(&mut one, &world.old.clone());
    fork.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::RolledBack);
}

#[test]
fn unreadable_state_is_kept_and_nothing_is_written_over_it() {
    let (mut world, mut one, mut two) = two_holders();
    world.rotate(1, &mut one, &mut two);
    let good = one.disk.clone();
    let first = one.disk.names("keyring")[0].to_owned();

    // Other code on the same disk, as after a careless upgrade.
    world.restart(&mut one, &world.new.clone());
    world.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::Unreadable);
    let (sealed_by, own) = (world.old.measurement, world.new.measurement);
    let reason = Unreadable::WrongMeasurement { file: first.clone(), sealed_by, own };
    assert_eq!(one.status().unreadable, Some(reason.clone()));
    assert!(one.keeper.replication_next().is_none());
    assert_eq!(
        AdminRefusal::from(one.keeper.probe(&one.enclave, &one.disk.stored()).unwrap_err()),
        AdminRefusal::Unreadable(reason)
    );
    assert_eq!(one.disk.files, good.files, "not a byte was written");

    // One damaged file.
    one.disk.files.get_mut(&first).unwrap()[200] ^= 1;
    world.restart(&mut one, &world.old.clone());
    world.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::Unreadable);
    let order = Nonce::new([9; 32]);
    let refused = one.keeper.create_generation(&one.enclave, order).err();
    assert!(matches!(refused, Some(KeeperError::Unreadable(_))));

    // A file under another name.
    one.disk = good.clone();
    let bytes = one.disk.files.remove(&first).unwrap();
    let renamed = "keyring-00000000000000000007-00000000000000000007.sealed".to_owned();
    one.disk.files.insert(renamed.clone(), bytes);
    world.restart(&mut one, &world.old.clone());
    let found = one.status().unreadable;
    assert_eq!(found, Some(Unreadable::Corrupt { file: renamed }));

    // Only the witness is damaged: that there is none that opens is not that there is none.
    one.disk = good;
    for (name, bytes) in &mut one.disk.files {
        if name.starts_with("witness") {
            bytes.truncate(10);
        }
    }
    world.restart(&mut one, &world.old.clone());
    assert_eq!(one.keeper.state(), ServingState::Unreadable);
}

/// Another machine's disk, opened by the same code.
#[test]
fn state_of_another_machine_is_named_as_such() {
    let (world, one, mut two) = two_holders();
    two.disk = one.disk.clone();
    world.restart(&mut two, &world.old.clone());
    let (sealed_on, own) = (one.identity().platform, two.identity().platform);
    let found = two.status().unreadable;
    assert!(matches!(found, Some(Unreadable::OtherPlatform { sealed_on: on, own: of, .. })
            if on == sealed_on && of == own));
}

/// The files open, but they are not the keyring that the network committed to.
#[test]
fn a_keyring_of_another_history_is_unreadable() {
    let (world, mut one, _) = two_holders();
    let (other, mut liar, _) = {
        let mut other = World::new();
        // One more entry, so that other random numbers are drawn.
        other.epoch();
        let (mut one, mut two) = (other.node(1, &other.old), other.node(2, &other.old));
        other.restart(&mut one, &other.old.clone());
        other.feed(&mut one);
        other.feed(&mut two);
        other.rotate(0, &mut one, &mut two);
        (other, one, two)
    };
    assert_eq!(liar.keeper.state(), ServingState::Ready);
    one.disk = liar.disk.clone();
    one.disk.files.retain(|name, _| name.starts_with("keyring"));
    world.restart(&mut one, &world.old.clone());
    world.feed(&mut one);
    let newest = Generation(0);
    assert_eq!(one.status().unreadable, Some(Unreadable::BrokenChain { newest }));
    other.feed(&mut liar);
}

#[test]
fn debug_code_never_holds_keys() {
    let (mut world, mut one, _) = two_holders();
    let files = one.disk.files.clone();
    let order = world.order(1, &one);
    world.restart_as(&mut one, &world.old.clone(), LaunchMode::Debug);
    world.feed(&mut one);
    assert_eq!(one.keeper.state(), ServingState::Withdrawn);
    assert!(one.status().holding.is_none());
    assert!(one.status().unreadable.is_none(), "its files were not even tried");
    let refused = one.keeper.create_generation(&one.enclave, order).err();
    assert_eq!(refused, Some(KeeperError::Debug));
    assert_eq!(one.keeper.register(&one.enclave), Err(KeeperError::Debug));
    assert_eq!(one.disk.files, files);
}

#[test]
fn a_draining_keeper_gives_its_keyring_and_no_keys() {
    let (world, mut one, mut two) = two_holders();
    let mut wallet = application(&world);
    one.keeper.drain();
    let state = ServingState::Draining;
    assert_eq!(one.keeper.state(), state);
    let (peer, _) = world.session(&mut wallet, &mut one);
    assert_eq!(refusal(&one, &peer, &newest()), PeerRefusal::NotServing { state });
    let (peer, _) = world.session(&mut two, &mut one);
    let all = PeerRequest::Replicate { newest: Generation(0), count: 1 };
    assert!(matches!(one.serve(&peer, &all), PeerResponse::Generations(_)));
    one.keeper.resume();
    assert_eq!(one.keeper.state(), ServingState::Ready);
}

#[test]
fn orders_for_others_and_orders_that_lapsed_are_not_carried_out() {
    let (mut world, mut one, mut two) = two_holders();
    let order = world.order(1, &one);
    world.feed(&mut one);
    world.feed(&mut two);
    let refused = two.keeper.create_generation(&two.enclave, order).err();
    assert_eq!(refused, Some(KeeperError::NotInLog));
    let unknown = Nonce::new([9; 32]);
    let refused = one.keeper.create_generation(&one.enclave, unknown).err();
    assert_eq!(refused, Some(KeeperError::NotInLog));
    for _ in 0..6 {
        world.epoch();
    }
    world.feed(&mut one);
    let refused = one.keeper.create_generation(&one.enclave, order).err();
    assert_eq!(refused, Some(KeeperError::NotInLog));
}

#[test]
fn the_extra_info_of_oasis_names_the_checksum_and_the_policy() {
    let (_, one, _) = two_holders();
    let status = one.status();
    let bytes = status.extra_info.unwrap().0;
    let signed = heirloom_attest::oasis::SignedInitResponse::decode(&bytes).unwrap();
    let verified = signed.verify(&status.instance).unwrap();
    assert_eq!(verified.response().checksum, Some(status.holding.unwrap().checksum));
    let policy = verified.response().policy_checksum.unwrap();
    assert_eq!(policy.as_bytes(), status.policy.unwrap().digest.as_bytes());
    assert!(verified.response().is_secure);
}
