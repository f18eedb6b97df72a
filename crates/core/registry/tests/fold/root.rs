//! Roots.

use heirloom_model::counter::{Serial, Time};
use heirloom_model::digest::{DigestOf, NetworkId};
use heirloom_model::envelope::Envelope;
use heirloom_model::root::{Role, Root};
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use heirloom_registry::network::{Applied, NetworkState};

use crate::world::{World, check, first_root, key, role_keys, signed};

fn code(state: &mut NetworkState, envelope: &Envelope) -> &'static str {
    match state.judge(&wire::encode(envelope)) {
        Ok(_) => "accepted",
        Err(refusal) => refusal.code(),
    }
}

type Change = fn(&mut Root);

/// Rows that break the shape of any root.
const SHAPES: &[(&str, Change)] = &[
    ("a role missing", |root| {
        root.roles.pop();
    }),
    ("a role twice", |root| {
        let role = root.roles[4].clone();
        root.roles.push(role);
    }),
    ("roles out of order", |root| root.roles.swap(1, 2)),
    ("a key twice", |root| root.roles[0].keys[1] = root.roles[0].keys[0]),
    ("keys out of order", |root| root.roles[2].keys.reverse()),
    ("no keys", |root| root.roles[1].keys.clear()),
    ("threshold of nobody", |root| root.roles[3].threshold = 0),
    ("threshold beyond all keys", |root| root.roles[3].threshold = 4),
    ("an anchor twice", |root| {
        let anchor = root.anchors[0].clone();
        root.anchors.push(anchor);
    }),
];

/// The first root is trusted for its digest; that does not make every such root one.
#[test]
fn a_first_root_is_well_formed_and_signed_by_itself() {
    let judge = |root: &Root, keys: &[usize]| {
        // The network is named after whatever root this is.
        let network = NetworkId::of(wire::encode(root).as_slice());
        let all = role_keys(Role::Root);
        let envelope = Envelope::signed(root, keys.iter().map(|index| &all[*index]));
        code(&mut NetworkState::new(network), &envelope)
    };
    assert_eq!(judge(&first_root(), &[0, 1]), "accepted");
    assert_eq!(judge(&first_root(), &[0]), "threshold-not-met");
    assert_eq!(judge(&first_root(), &[]), "threshold-not-met");
    for (change, make) in SHAPES {
        let mut root = first_root();
        make(&mut root);
        assert_eq!(judge(&root, &[0, 1]), "shape", "{change}");
    }
    let named = Root { network: Some(NetworkId::new([1; 32])), ..first_root() };
    assert_eq!(judge(&named, &[0, 1]), "shape");
    let second = Root { serial: Serial(2), ..first_root() };
    assert_eq!(judge(&second, &[0, 1]), "not-next");
    // It believes nobody's evidence, so it can have no keeper.
    let bare = Root { anchors: Vec::new(), ..first_root() };
    assert_eq!(judge(&bare, &[0, 1]), "accepted");
}

#[test]
fn only_the_root_with_the_digest_of_the_network_is_the_first() {
    let mut world = World::empty();
    let other = Root { not_after: Time(first_root().not_after.0 + 1), ..first_root() };
    assert_eq!(world.code(&signed(&other, Role::Root)), "wrong-first-root");
    assert_eq!(world.code(&signed(&world.epoch(), Role::Timekeeper)), "no-root");
    world.accept(&signed(&first_root(), Role::Root));
    assert_eq!(world.code(&signed(&first_root(), Role::Root)), "other-network");
}

#[test]
fn a_successor_follows_exactly() {
    let mut world = World::begun();
    let root = world.second_root();
    let sign = |root: &Root| signed(root, Role::Root);
    check(
        &mut world,
        &root,
        sign,
        &[
            ("no network", "other-network", |root| root.network = None),
            ("another network", "other-network", |root| {
                root.network = Some(NetworkId::new([1; 32]));
            }),
            ("the same serial", "not-next", |root| root.serial = Serial(1)),
            // CVE-2025-2885: a version in between was not required.
            ("a serial left out", "not-next", |root| root.serial = Serial(3)),
            ("expired", "expired", |root| root.not_after = Time(1)),
            ("no anchors any more", "shape", |root| root.anchors.clear()),
        ],
    );
    for (change, make) in SHAPES {
        let mut changed = root.clone();
        make(&mut changed);
        assert_eq!(world.code(&sign(&changed)), "shape", "{change}");
    }
    world.accept(&sign(&root));
    assert_eq!(world.code(&sign(&root)), "not-next", "a root is accepted once");
}

/// TUF §5.3.4.
#[test]
fn a_successor_is_signed_by_the_old_and_the_new_threshold() {
    let mut world = World::begun();
    let old = role_keys(Role::Root);
    let new: Vec<_> = (0..3).map(|number| key(0x77, number)).collect();
    let mut root = world.second_root();
    root.roles[0].keys = new.iter().map(SigningKey::public_key).collect();
    root.roles[0].keys.sort();
    let mut judge = |old_count: usize, new_count: usize| {
        let signers = old[..old_count].iter().chain(&new[..new_count]);
        world.code(&Envelope::signed(&root, signers))
    };
    for (old_count, new_count) in [(0, 2), (1, 2), (2, 0), (2, 1), (3, 0), (0, 3)] {
        let found = judge(old_count, new_count);
        assert_eq!(found, "threshold-not-met", "{old_count} old, {new_count} new");
    }
    assert_eq!(judge(2, 2), "accepted");
    assert_eq!(judge(3, 3), "accepted");
}

#[test]
fn a_key_that_a_root_drops_signs_nothing_more() {
    let mut world = World::begun();
    let mut root = world.second_root();
    let timekeepers = root.roles.iter_mut().find(|keys| keys.role == Role::Timekeeper).unwrap();
    timekeepers.keys = vec![key(0x77, 0).public_key()];
    timekeepers.threshold = 1;
    world.accept(&signed(&root, Role::Root));
    assert_eq!(world.code(&signed(&world.epoch(), Role::Timekeeper)), "unknown-signer");
    let start = world.epoch();
    world.accept(&Envelope::signed(&start, [&key(0x77, 0)]));
}

#[test]
fn after_a_root_expired_only_a_root_is_accepted() {
    let mut world = World::begun();
    let mut last = world.epoch();
    last.time = first_root().not_after;
    world.accept(&signed(&last, Role::Timekeeper));
    world.tick();
    assert!(world.state.now() > Some(first_root().not_after));
    assert_eq!(world.code(&signed(&world.epoch(), Role::Timekeeper)), "root-expired");
    assert_eq!(world.code(&signed(&world.fleet(), Role::Operator)), "root-expired");
    let mut root = world.second_root();
    root.not_after = Time(u64::MAX);
    world.accept(&signed(&root, Role::Root));
    world.tick();
}

#[test]
fn what_counts_is_the_role_not_the_person() {
    let mut world = World::begun();
    for role in Role::ALL {
        let found = world.code(&signed(&world.epoch(), role));
        let expected = if role == Role::Timekeeper { "accepted" } else { "unknown-signer" };
        assert_eq!(found, expected, "{}", role.name());
    }
}

#[test]
fn junk_in_the_log_stops_nobody() {
    let mut world = World::begun();
    let before = world.state.position();
    let entry = heirloom_model::log::LogEntry::following(&before, b"junk".to_vec());
    let applied = world.state.apply(&entry).unwrap();
    assert!(matches!(applied, Applied::Refused(refusal) if refusal.code() == "malformed"));
    assert_eq!(world.state.position().length, before.length.next().unwrap());
    world.tick();
}
