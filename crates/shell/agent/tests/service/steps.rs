//! What each step does, on the way there and on the way back.

use std::fs;

use heirloom_launcher::bundle::{BINARY, MANIFEST, SIGSTRUCT};
use heirloom_model::counter::{Epoch, SecurityVersion, Serial, Time};
use heirloom_model::digest::{ArtifactDigest, DigestOf as _};
use heirloom_model::envelope::Envelope;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::Measurement;
use heirloom_model::release::{Artifact, Release, ReleaseKind};
use heirloom_model::service::{Admission, Writing};
use heirloom_model::wire;
use heirloom_proxy::edge::EdgeAdmission;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_testkit::ceremony::{CODE_SIGNER, Ceremony, Code};
use heirloom_upgrade::port::{DriverError, ServiceDriver};

use crate::world::{PLAN, TIP, World, step, terms};

#[test]
fn a_service_goes_through_a_flag_day_and_its_events_tell_of_it() {
    let mut world = World::open();
    let (old, new) = (world.old, world.new);
    let before = world.seen();
    assert_eq!((before.installed, before.migrated), (Some(old), None));
    assert_eq!(before.running_code(), Some(&old));
    assert!(before.database_held.is_some(), "a process has it open");

    world.misbehave("pending", "1");
    let waits = world.service.fence();
    assert!(matches!(&waits, Err(DriverError::Unknown(text)) if text.contains("1 at the service")));
    assert_eq!(world.fence.0.lock().unwrap().admission, EdgeAdmission::Closed);
    assert_eq!(world.status().admission, Admission::Closed, "it is closed, and not yet idle");
    world.behave("pending");
    world.fence.0.lock().unwrap().connections = 2;
    let waits = world.service.fence();
    assert!(matches!(&waits, Err(DriverError::Unknown(text)) if text.contains("2 requests")));
    world.fence.0.lock().unwrap().connections = 0;

    world.close();
    let halted = world.seen();
    assert!(!halted.exists(&old) && halted.database_held.is_none() && halted.drift.is_none());
    assert_eq!(halted.snapshots.get(&PLAN), Some(&TIP));
    world.until_known(|service| service.migrate(&PLAN, &TIP, &terms())).unwrap();
    assert_eq!(world.seen().migrated, Some(PLAN));
    world.service.deploy(&old, &new).unwrap();
    assert_eq!(world.seen().installed, Some(new));
    world.until_known(|service| service.launch(&new, Some(&TIP))).unwrap();
    let launched = world.status();
    assert_eq!((launched.measurement, launched.loaded), (new, Some(TIP)));
    assert_eq!(launched.admission, Admission::SideDoor);
    assert_eq!(world.seen().edge, Some(heirloom_upgrade::port::EdgeAdmission::Closed));
    let standing = world.service.state(&new, step(9)).unwrap();
    assert_eq!(standing, format!("{new} 9").into_bytes());
    let tests = ["pay".parse().unwrap()];
    world.until_known(|service| service.exercise(step(11), &tests)).unwrap();
    assert!(world.seen().exercised.contains(&step(11)));
    world.until_known(ServiceDriver::open).unwrap();
    let after = world.seen();
    assert_eq!((world.status().admission, after.drift), (Admission::Open, None));
    assert_eq!(after.edge, Some(heirloom_upgrade::port::EdgeAdmission::Open));

    let events = fs::read_to_string(world.path("data/service/events.jsonl")).unwrap();
    let words: Vec<String> = events
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .inspect(|event| assert!(event["at_ms"].is_u64() && event["ms"].is_u64(), "{event}"))
        .inspect(|event| {
            let copies = ["snapshot", "migrate"].iter().any(|word| event["step"] == *word);
            assert_eq!(event["bytes"] == 7, copies, "{event}");
        })
        .map(|event| event["step"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "keep", "fence", "freeze", "halt", "snapshot", "migrate", "deploy", "launch", "state",
        "exercise", "open",
    ];
    assert_eq!(words, expected);
}

#[test]
fn a_service_goes_back_to_its_old_code_and_data() {
    let mut world = World::open();
    let (old, new) = (world.old, world.new);
    world.change();
    world.until_known(|service| service.halt(&new)).unwrap();
    world.until_known(|service| service.revert(&PLAN, &TIP)).unwrap();
    world.service.deploy(&new, &old).unwrap();
    world.until_known(|service| service.launch(&old, Some(&TIP))).unwrap();
    world.until_known(ServiceDriver::open).unwrap();
    let seen = world.seen();
    assert_eq!((seen.running_code(), seen.migrated), (Some(&old), None));
    assert_eq!(seen.edge, Some(heirloom_upgrade::port::EdgeAdmission::Open));
    let bundles = world.path("data/service/bundles");
    for code in [old, new] {
        assert!(bundles.join(code.to_string()).is_dir(), "{code} was deleted");
    }
}

#[test]
fn a_node_that_is_only_frozen_is_thawed_by_opening_it() {
    let mut world = World::open();
    let old = world.old;
    world.until_known(ServiceDriver::fence).unwrap();
    world.until_known(|service| service.freeze(&old, std::time::Duration::ZERO)).unwrap();
    assert_eq!(world.status().writing, Writing::Frozen);
    world.until_known(ServiceDriver::open).unwrap();
    assert_eq!(world.status().writing, Writing::Active);
    assert_eq!(world.status().admission, Admission::Open);
}

#[test]
fn whoever_is_not_ready_keeps_the_proxy_closed() {
    let mut world = World::open();
    world.until_known(ServiceDriver::fence).unwrap();
    world.misbehave("unready", "");
    assert!(matches!(world.service.open(), Err(DriverError::Unknown(_))));
    let admission = world.fence.0.lock().unwrap().admission;
    assert_eq!(admission, EdgeAdmission::Closed, "clients would find nobody");
    world.behave("unready");
    world.until_known(ServiceDriver::open).unwrap();
    assert_eq!(world.fence.0.lock().unwrap().admission, EdgeAdmission::Open);
}

#[test]
fn a_service_that_answers_nobody_is_fenced_at_the_proxy_all_the_same() {
    let mut world = World::open();
    world.misbehave("deaf", "");
    assert_eq!(world.seen().silent, [world.old].into());
    assert!(matches!(world.service.fence(), Err(DriverError::Unknown(_))));
    assert_eq!(world.fence.0.lock().unwrap().admission, EdgeAdmission::Closed);
}

#[test]
fn a_long_copy_keeps_nobody_from_looking() {
    let mut world = World::open();
    let old = world.old;
    world.until_known(ServiceDriver::fence).unwrap();
    world.until_known(|service| service.halt(&old)).unwrap();
    world.misbehave("slow", "");
    let waits = world.service.snapshot(&PLAN, &TIP);
    assert!(matches!(&waits, Err(DriverError::Unknown(_))), "{waits:?}");
    assert!(world.service.is_waiting());
    let seen = world.seen();
    assert_eq!(seen.snapshots.get(&PLAN), None);
    let network = NetworkState::new(world.ceremony.network);
    let shown = world.service.json(Some(&seen), &network);
    assert_eq!(shown["under_way"]["what"], "snapshot", "{shown}");
    assert_eq!(shown["state"], "halted");
    // The agent dies; its tool is found again, ended, and the copy begins anew.
    world.restart_agent();
    world.behave("slow");
    world.until_known(|service| service.snapshot(&PLAN, &TIP)).unwrap();
    assert_eq!(world.seen().snapshots.get(&PLAN), Some(&TIP));
}

#[test]
fn a_release_is_fetched_tried_without_data_and_stated() {
    let mut world = World::empty();
    let release = published(&world, "ledger-2.0.0", world.new);
    let new = world.new;
    let standing = world.until_known(|service| service.equip(&release, &new, step(1))).unwrap();
    assert_eq!(standing, format!("{new} 1").into_bytes());
    assert!(world.processes().is_empty(), "the trial has ended");
    assert!(!world.path("data/service/ledger").exists(), "it was tried without data");
    let foreign = crate::world::sign(&world.ceremony, world.directory.path(), "other-1", "other");
    let release = published(&world, "other-1", foreign);
    let refused = world.until_known(|service| service.equip(&release, &foreign, step(1)));
    assert!(matches!(&refused, Err(DriverError::Refused(text)) if text.contains("made for other")));
}

/// A release as the log has it, and its files at the mirror.
fn published(world: &World, name: &str, code: Measurement) -> Release {
    let mirror = world.path("mirror").join(name);
    fs::create_dir_all(&mirror).unwrap();
    let artifacts = [BINARY, MANIFEST, SIGSTRUCT].map(|file| {
        let bytes = fs::read(world.path(name).join(file)).unwrap();
        fs::write(mirror.join(file), &bytes).unwrap();
        Artifact {
            name: file.parse().unwrap(),
            size: bytes.len() as u64,
            digest: ArtifactDigest::of(bytes.as_slice()),
        }
    });
    Release {
        network: world.ceremony.network,
        name: name.parse().unwrap(),
        kind: ReleaseKind::Application,
        security_version: SecurityVersion(1),
        measurements: vec![code],
        signer: CODE_SIGNER,
        artifacts: artifacts.to_vec(),
        not_after: Time(u64::MAX),
    }
}

fn append(state: &mut NetworkState, envelope: &Envelope) {
    let position = state.position();
    let envelope = wire::encode(envelope);
    let entry = LogEntry { index: position.length, previous: position.head, envelope };
    let applied = state.apply(&entry).unwrap();
    assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
}

#[test]
fn the_first_service_is_installed_once_and_only_if_the_policy_names_it() {
    let mut world = World::empty();
    let ceremony = Ceremony::new(&[7; 32]);
    let mut state = NetworkState::new(ceremony.network);
    world.service.install_first(&state);
    assert_eq!(world.told().installed, None, "nobody has said anything");
    let keeper = Code::named("keeper", 1);
    append(&mut state, &ceremony.root());
    append(&mut state, &ceremony.epoch(Epoch(1)));
    append(&mut state, &ceremony.fleet(Serial(1), ceremony.nodes(1)));
    append(&mut state, &ceremony.release("keeper-1.0.0", &keeper).0);
    let code = |measurement| Code { measurement, ..Code::application("ledger", 1) };
    let rules =
        [("ledger", code(world.new)), ("other", code(world.old)), ("ledger", code(world.old))];
    for (at, (application, code)) in rules.iter().enumerate() {
        let serial = Serial(u64::try_from(at).unwrap() + 1);
        let mut policy = ceremony.policy_of(serial, &[keeper], &[]);
        Ceremony::admit(&mut policy, application, code);
        append(&mut state, &ceremony.policy(&policy));
        world.service.install_first(&state);
        let expected = (at == 2).then_some(world.old);
        assert_eq!(world.told().installed, expected, "{application} {}", code.measurement);
    }
    let seen = world.settle();
    assert_eq!(
        (seen.running_code(), seen.edge),
        (Some(&world.old), Some(heirloom_upgrade::port::EdgeAdmission::Open))
    );
    assert_eq!(world.status().admission, Admission::Open);

    // A node that has voted and has no record is not a new one.
    fs::create_dir(world.path("data/service/votes")).unwrap();
    fs::remove_file(world.path("data/service/service.state")).unwrap();
    world.restart_agent();
    world.service.install_first(&state);
    assert_eq!(world.told().installed, None);
    let shown = world.service.json(None, &state);
    assert!(shown["trouble"].as_str().unwrap().contains("not a new node"), "{shown}");
}
