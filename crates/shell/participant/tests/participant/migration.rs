//! A participant moves: each step of the driver, there and back, each step twice.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use heirloom_canton_node::driver::{Driver, Keeping, Safeguard, Settings, WantedKey};
use heirloom_canton_node::node::config::{Deadlines, Endpoint, NodeConfig};
use heirloom_canton_node::node::{UserEntry, UserRight};
use heirloom_canton_node::wire::participant::participant_status_response::Kind;
use heirloom_model::digest::PlanDigest;
use heirloom_model::participant::{
    LedgerOffset, ParticipantMove, Rewritten, SurveyFindings, SynchronizerRoute,
};
use heirloom_model::party::PartyId;
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage};
use heirloom_upgrade::port::{DriverError, ParticipantCall, ParticipantDriver};

use crate::world::{Participant, SYNCHRONIZER, World};

fn config(name: &str, participant: &Participant, deadlines: Deadlines) -> NodeConfig {
    NodeConfig {
        name: name.to_owned(),
        admin: Endpoint::plain(&participant.admin),
        ledger: Endpoint::plain(&participant.ledger),
        deadlines,
    }
}

/// From alpha, which has contracts, to beta, which has no name yet.
fn driver(world: &World, version: &str) -> (Driver, Participant, Participant) {
    let deadlines = Deadlines { rest: Duration::from_millis(200), ..Deadlines::default() };
    driver_with(world, version, "", deadlines)
}

/// As [`driver`], with a beta in which something goes wrong.
fn driver_with(
    world: &World,
    version: &str,
    faults: &str,
    deadlines: Deadlines,
) -> (Driver, Participant, Participant) {
    let alpha = world.participant("alpha", version, "");
    world.connect(&alpha).unwrap();
    world.load(&alpha, 300);
    let beta = world.participant("beta", version, &format!("identity = \"manual\"\n{faults}"));
    let wanted = |usage: KeyUsage, scheme| WantedKey {
        usage,
        scheme,
        label: format!("beta-{usage}").parse().unwrap(),
    };
    let synchronizer = || SYNCHRONIZER.parse().unwrap();
    let settings = Settings {
        source: config("alpha", &alpha, Deadlines::default()),
        target: config("beta", &beta, deadlines),
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

/// What was found under these codes.
fn remarks(found: &SurveyFindings, codes: &str) -> Vec<String> {
    let texts = found.remarks.iter().map(|remark| remark.text.clone());
    texts.filter(|text| text.starts_with(codes)).collect()
}

fn there_and_back(version: &str) {
    let world = World::new();
    let (mut driver, alpha, beta) = driver(&world, version);
    let before = world.count(&alpha);
    let (found, _) = driver.look().unwrap();
    assert_eq!(found.contracts, 300);
    assert_eq!(found.blocks().collect::<Vec<_>>(), Vec::<&str>::new());
    // The synchronizer says what it takes, and that is what the target gets.
    for code in ["P-401", "P-402", "P-405", "P-406"] {
        assert_eq!(remarks(&found, code), Vec::<String>::new());
    }
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
    // The end of the ledger is written down before there is a snapshot.
    let folder = world.path("work").join(task.plan.to_string());
    let noted = || fs::read_to_string(folder.join("source-end.txt")).ok();
    assert_eq!(noted(), None);
    let in_the_way = folder.join("source-snapshot.gz.part");
    fs::create_dir(&in_the_way).unwrap();
    assert!(driver.export(task, end).is_err());
    assert_eq!(noted(), Some(end.to_string()));
    fs::remove_dir(&in_the_way).unwrap();
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
fn a_synchronizer_that_takes_no_p256_blocks_before_anything_is_done() {
    let world = World::with(34, "[\"ed25519\", \"p384\"]");
    let (driver, alpha, _beta) = driver(&world, "3.5.1");
    let before = world.count(&alpha);
    let (found, _) = driver.look().unwrap();
    let blocks: Vec<&str> = found.blocks().collect();
    assert_eq!(blocks.len(), 3, "{blocks:?}");
    let words = format!(
        "P-401: {SYNCHRONIZER} takes ed25519, p384 for namespace, not p256: it lists no signing \
         key p256"
    );
    assert!(blocks[0].starts_with(&words), "{blocks:?}");
    assert_eq!(remarks(&found, "P-402"), Vec::<String>::new());
    // Nobody was given a name or a key, and the source goes on.
    assert_eq!(driver.target().id().unwrap(), None);
    assert_eq!(driver.target().keys().unwrap(), []);
    assert_eq!(world.count(&alpha), before);
    assert!(!world.path("work").exists());
}

#[test]
fn a_synchronizer_that_does_not_answer_is_said_and_blocks_nothing() {
    let mut world = World::new();
    let (driver, _alpha, _beta) = driver(&world, "3.5.1");
    world.kill_synchronizer();
    let (found, _) = driver.look().unwrap();
    assert_eq!(remarks(&found, "P-401"), Vec::<String>::new());
    let unseen = remarks(&found, "P-402");
    assert_eq!(unseen.len(), 1, "{unseen:?}");
    assert!(unseen[0].contains("cannot be reached"), "{unseen:?}");
    assert_eq!(found.blocks().collect::<Vec<_>>(), Vec::<&str>::new());
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

const PLAN: PlanDigest = PlanDigest::new([7; 32]);

/// The node of these tests, and what a plan says of it.
fn planned(driver: &Driver) -> ParticipantMove {
    let (found, _) = driver.look().unwrap();
    ParticipantMove::of("one".parse().unwrap(), &found)
}

/// Every step before the import; `meanwhile` happens while the target is still connected.
fn until_import(
    driver: &mut Driver,
    task: ParticipantCall<'_>,
    meanwhile: impl FnOnce(),
) -> Rewritten {
    twice("enroll", || driver.enroll(task));
    let moves = twice("allocate", || driver.allocate(task));
    twice("supply", || driver.supply(task));
    meanwhile();
    let end = twice("quiesce", || driver.quiesce(task));
    let exported = twice("export", || driver.export(task, end));
    let parts = BTreeMap::from([(task.moved.node.clone(), moves)]);
    let rewritten = twice("rewrite", || driver.rewrite(task, &exported, &parts));
    twice("safeguard", || driver.safeguard(task));
    rewritten
}

#[track_caller]
fn is_unexpected<T: std::fmt::Debug>(outcome: Result<T, DriverError>, words: &str) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, DriverError::Unexpected { .. }), "{error:?}");
    assert!(error.to_string().contains(words), "{error} does not say {words:?}");
}

#[test]
fn what_was_imported_survives_a_power_cut() {
    let world = World::new();
    let (mut driver, _alpha, mut beta) = driver(&world, "3.5.1");
    let moved = planned(&driver);
    let task = ParticipantCall { plan: PLAN, moved: &moved };
    let rewritten = until_import(&mut driver, task, || ());
    twice("import", || driver.import(task, &rewritten));
    // A power cut after the import: it is there, and the target stays off.
    beta.kill();
    world.start(&mut beta);
    assert_eq!(world.count(&beta).contracts, 300);
    let Some(Kind::Status(status)) = world.status(&beta).kind else { panic!("it has a name") };
    assert_eq!(status.connected_synchronizers, []);
}

#[test]
fn a_target_whose_new_parties_have_other_contracts_gets_none() {
    let world = World::new();
    let (mut driver, _alpha, beta) = driver(&world, "3.5.1");
    let moved = planned(&driver);
    let task = ParticipantCall { plan: PLAN, moved: &moved };
    let rewritten = until_import(&mut driver, task, || drop(world.load(&beta, 10)));
    let found = world.count(&beta);
    is_unexpected(driver.import(task, &rewritten), "10 others, the first is 00");
    assert_eq!(world.count(&beta), found);
    // Nothing of the plan is there, so nothing is taken out.
    twice("purge", || driver.purge(task, Some(&rewritten)));
    assert_eq!(world.count(&beta), found);
    let seen = driver.observe(task).unwrap();
    assert_eq!(seen.work.imported.map(|found| found.contracts), Some(0));
}

#[test]
fn contracts_that_came_with_nobody_keep_a_plan_from_being_reconciled_and_purged() {
    let world = World::new();
    let (mut driver, alpha, beta) = driver(&world, "3.5.1");
    let moved = planned(&driver);
    let task = ParticipantCall { plan: PLAN, moved: &moved };
    let rewritten = until_import(&mut driver, task, || ());
    twice("import", || driver.import(task, &rewritten));
    twice("connect", || driver.connect(task));
    twice("reconcile", || driver.reconcile(task, &rewritten));
    // A source that somebody connected may go on.
    driver.source().reconnect("global").unwrap();
    let connected = driver.reconcile(task, &rewritten).unwrap_err();
    assert!(connected.to_string().contains("still connected"), "{connected}");
    world.disconnect(&alpha);
    twice("reconcile", || driver.reconcile(task, &rewritten));
    world.load(&beta, 305);
    is_unexpected(driver.reconcile(task, &rewritten), "5 others, the first is 00");
    twice("disconnect", || driver.disconnect(task));
    is_unexpected(driver.purge(task, Some(&rewritten)), "5 others, the first is 00");
    assert_eq!(world.count(&beta).contracts, 305);
    // Where the target is another one than that of the plan, it is left alone.
    let mut other = moved.clone();
    other.target_version = "3.5.2".parse().unwrap();
    let of_other = ParticipantCall { moved: &other, ..task };
    is_unexpected(driver.disconnect(of_other), "3.5.2");
    let mut other = moved.clone();
    other.source = "gamma::1220dd".parse().unwrap();
    let of_other = ParticipantCall { moved: &other, ..task };
    is_unexpected(driver.reconnect(of_other), "gamma::1220dd");
}

#[test]
fn an_import_that_outlives_its_call_leaves_nothing_behind_when_the_plan_is_called_off() {
    let world = World::new();
    let faults = "[faults]\nimport_outlives_caller_ms = 1000\nimport_pause_ms = 200";
    let deadlines = Deadlines {
        import: Duration::from_millis(300),
        rest: Duration::from_secs(5),
        ..Deadlines::default()
    };
    let (mut driver, _alpha, beta) = driver_with(&world, "3.5.1", faults, deadlines);
    let moved = planned(&driver);
    let task = ParticipantCall { plan: PLAN, moved: &moved };
    let rewritten = until_import(&mut driver, task, || ());
    let cut = driver.import(task, &rewritten).unwrap_err();
    assert!(matches!(cut, DriverError::Unknown(_)), "{cut:?}");
    // Nothing is there yet, and nobody may take that for the end of it.
    let seen = driver.observe(task).unwrap();
    assert_eq!(seen.work.imported.filter(|found| found.contracts == 0), None);
    twice("purge", || driver.purge(task, Some(&rewritten)));
    // The import was over before the purge was.
    let log = fs::read_to_string(world.path("beta.log")).unwrap();
    assert!(log.contains("imported"), "{log}");
    assert_eq!(world.count(&beta).contracts, 0);
    let seen = driver.observe(task).unwrap();
    assert_eq!(seen.work.imported.map(|found| found.contracts), Some(0));
    let again = driver.import(task, &rewritten).unwrap_err();
    assert!(matches!(again, DriverError::Refused(_)), "{again:?}");
}

#[test]
fn users_are_those_of_the_quiet_source_and_are_made_also_if_it_is_gone() {
    let world = World::new();
    let (mut driver, mut alpha, _beta) = driver(&world, "3.5.1");
    let moved = planned(&driver);
    let task = ParticipantCall { plan: PLAN, moved: &moved };
    let party = moved.parties.first().unwrap();
    let user = |id: &str, party: &PartyId| UserEntry {
        id: id.to_owned(),
        primary: Some(party.clone()),
        is_deactivated: false,
        annotations: BTreeMap::new(),
        identity_provider: String::new(),
        rights: [UserRight::ActAs(party.clone())].into(),
    };
    driver.source().ensure_user(&user("app", party)).unwrap();
    let rewritten = until_import(&mut driver, task, || ());
    twice("import", || driver.import(task, &rewritten));
    twice("connect", || driver.connect(task));
    twice("reconcile", || driver.reconcile(task, &rewritten));
    driver.source().ensure_user(&user("late", party)).unwrap();
    is_unexpected(driver.reconcile(task, &rewritten), "\"late\"");
    alpha.kill();
    twice("settle", || driver.settle(task));
    let target = driver.target().id().unwrap().unwrap();
    let new = party.moved_to(&target.namespace()).unwrap();
    let users = driver.target().users().unwrap();
    let made = users.iter().find(|one| one.id == "app").unwrap();
    assert_eq!(
        (&made.primary, &made.rights),
        (&Some(new.clone()), &[UserRight::ActAs(new)].into())
    );
    assert!(users.iter().all(|one| one.id != "late"));
}
