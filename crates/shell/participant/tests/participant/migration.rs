//! A participant moves: each step of the driver, there and back, each step twice.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use heirloom_canton_node::driver::{Driver, Keeping, Safeguard, Settings, WantedKey};
use heirloom_canton_node::node::config::{Deadlines, Endpoint, NodeConfig};
use heirloom_model::digest::PlanDigest;
use heirloom_model::participant::{LedgerOffset, ParticipantMove, SynchronizerRoute};
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage};
use heirloom_upgrade::port::{DriverError, ParticipantCall, ParticipantDriver};

use crate::world::{Participant, SYNCHRONIZER, World};

fn config(name: &str, participant: &Participant) -> NodeConfig {
    NodeConfig {
        name: name.to_owned(),
        admin: Endpoint::plain(&participant.admin),
        ledger: Endpoint::plain(&participant.ledger),
        deadlines: Deadlines::default(),
    }
}

/// From alpha, which has contracts, to beta, which has no name yet.
fn driver(world: &World, version: &str) -> (Driver, Participant, Participant) {
    let alpha = world.participant("alpha", version, "");
    world.connect(&alpha).unwrap();
    world.load(&alpha, 300);
    let beta = world.participant("beta", version, "identity = \"manual\"");
    let wanted = |usage: KeyUsage, scheme| WantedKey {
        usage,
        scheme,
        label: format!("beta-{usage}").parse().unwrap(),
    };
    let synchronizer = || SYNCHRONIZER.parse().unwrap();
    let settings = Settings {
        source: config("alpha", &alpha),
        target: config("beta", &beta),
        identifier: "beta".to_owned(),
        keys: vec![
            wanted(KeyUsage::Namespace, KeyScheme::P256),
            wanted(KeyUsage::SequencerAuthentication, KeyScheme::P256),
            wanted(KeyUsage::Protocol, KeyScheme::P256),
            wanted(KeyUsage::Encryption, KeyScheme::Rsa2048),
        ],
        routes: vec![SynchronizerRoute { from: synchronizer(), to: synchronizer() }],
        safeguard: Safeguard::Directory(world.path("beta-data")),
        work: world.path("work"),
        target_version: Some(version.parse().unwrap()),
    };
    (Driver::new(settings, Keeping::Participant).unwrap(), alpha, beta)
}

/// Repeats a step for as long as it has to be waited for, and then once more.
fn twice<T: std::fmt::Debug + PartialEq>(
    what: &str,
    mut step: impl FnMut() -> Result<T, DriverError>,
) -> T {
    let deadline = Instant::now() + Duration::from_mins(2);
    let first = loop {
        match step() {
            Ok(done) => break done,
            Err(DriverError::Unknown(why)) => {
                assert!(Instant::now() < deadline, "{what}: {why}");
                thread::park_timeout(Duration::from_millis(50));
            }
            Err(error) => panic!("{what}: {error}"),
        }
    };
    assert_eq!(step().unwrap(), first, "{what}, again");
    first
}

fn there_and_back(version: &str) {
    let world = World::new();
    let (mut driver, alpha, beta) = driver(&world, version);
    let before = world.count(&alpha);
    let (found, _) = driver.look().unwrap();
    assert_eq!(found.contracts, 300);
    assert_eq!(found.blocks().collect::<Vec<_>>(), Vec::<&str>::new());
    let node: heirloom_model::identifier::NodeId = "one".parse().unwrap();
    let moved = ParticipantMove::of(node.clone(), &found);
    let task = ParticipantCall { plan: PlanDigest::new([7; 32]), moved: &moved };

    let enrolled = twice("enroll", || driver.enroll(task));
    let moves = twice("allocate", || driver.allocate(task));
    assert_eq!(moves.len(), 3);
    assert!(moves.iter().all(|one| one.to.namespace() == enrolled.target.namespace()));
    twice("supply", || driver.supply(task));
    let end = twice("quiesce", || driver.quiesce(task));
    let moved_on = driver.export(task, LedgerOffset(end.0 + 1)).unwrap_err();
    assert!(matches!(moved_on, DriverError::Unexpected { .. }), "{moved_on:?}");
    let exported = twice("export", || driver.export(task, end));
    assert_eq!(exported.contracts, 300);
    let parts = BTreeMap::from([(node, moves)]);
    let rewritten = twice("rewrite", || driver.rewrite(task, &exported, &parts));
    assert_eq!(rewritten.contracts, 300);
    let seen = driver.observe(task).unwrap();
    assert_eq!(seen.work.imported.map(|found| found.contracts), Some(0));
    let early = driver.import(task, &rewritten).unwrap_err();
    assert!(matches!(early, DriverError::Missing { .. }), "{early:?}");
    twice("safeguard", || driver.safeguard(task));
    twice("import", || driver.import(task, &rewritten));
    twice("connect", || driver.connect(task));
    let reconciled = twice("reconcile", || driver.reconcile(task, &rewritten));
    assert_eq!((reconciled.contracts, reconciled.ids), (300, rewritten.ids));
    assert_eq!(reconciled.signer, enrolled.target.namespace());
    let seen = driver.observe(task).unwrap();
    assert_eq!(seen.work.lacking, Some(0));
    assert!(seen.work.safeguarded);
    assert!(seen.source.unwrap().is_off());
    assert_eq!(world.count(&beta).contracts, 300);

    twice("disconnect", || driver.disconnect(task));
    twice("purge", || driver.purge(task, Some(&rewritten)));
    assert_eq!(world.count(&beta).contracts, 0);
    twice("reconnect", || driver.reconnect(task));
    assert_eq!(world.count(&alpha), before);

    let seen = driver.observe(task).unwrap();
    assert_eq!(seen.work.imported.map(|found| found.contracts), Some(0));
    assert!(!seen.source.unwrap().is_off());
}

#[test]
fn a_participant_of_3_5_moves_there_and_back() {
    there_and_back("3.5.1");
}

#[test]
fn a_participant_of_3_4_moves_there_and_back() {
    there_and_back("3.4.1");
}

#[test]
fn a_target_with_another_name_is_somebody_elses() {
    let world = World::new();
    let (mut driver, _alpha, _beta) = driver(&world, "3.5.1");
    let (found, _) = driver.look().unwrap();
    let moved = ParticipantMove::of("one".parse().unwrap(), &found);
    let task = ParticipantCall { plan: PlanDigest::new([7; 32]), moved: &moved };
    let strange = "beta::1220cc".parse().unwrap();
    // A key of another namespace cannot be there: the node takes only a name of its own.
    assert!(driver.target().name_it(&strange).is_err());
    let mut other = moved.clone();
    other.source = "gamma::1220dd".parse().unwrap();
    let task_of_other = ParticipantCall { moved: &other, ..task };
    let error = driver.enroll(task_of_other).unwrap_err();
    assert!(matches!(error, DriverError::Unexpected { .. }), "{error:?}");
    assert_eq!(driver.target().id().unwrap(), None);
}

#[test]
fn what_was_imported_survives_a_power_cut() {
    let world = World::new();
    let (mut driver, _alpha, mut beta) = driver(&world, "3.5.1");
    let (found, _) = driver.look().unwrap();
    let node: heirloom_model::identifier::NodeId = "one".parse().unwrap();
    let moved = ParticipantMove::of(node.clone(), &found);
    let task = ParticipantCall { plan: PlanDigest::new([7; 32]), moved: &moved };
    twice("enroll", || driver.enroll(task));
    let moves = twice("allocate", || driver.allocate(task));
    twice("supply", || driver.supply(task));
    let end = twice("quiesce", || driver.quiesce(task));
    let exported = twice("export", || driver.export(task, end));
    let parts = BTreeMap::from([(node, moves)]);
    let rewritten = twice("rewrite", || driver.rewrite(task, &exported, &parts));
    twice("safeguard", || driver.safeguard(task));
    twice("import", || driver.import(task, &rewritten));
    // A power cut after the import: it is there, and the target stays off.
    beta.kill();
    world.start(&mut beta);
    assert_eq!(world.count(&beta).contracts, 300);
}
