//! Processes that are killed: what was acknowledged is there.

use std::thread;

use heirloom_participant_shell::client::load;
use heirloom_participant_shell::command::Ledger;

use crate::world::{VALIDATION, World, unpack, wait};

#[test]
fn a_participant_that_is_killed_while_it_is_loaded_loses_nothing_acknowledged() {
    let world = World::new();
    let mut alpha = world.participant("alpha", "3.5.1", "");
    world.connect(&alpha).unwrap();
    let asked = World::load_of(&alpha, 3_000, &["alice", "bob", "carol"]);
    let loading = thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(load::load(&asked))
    });
    wait("contracts are there", || world.end(&alpha) >= 5);
    // Everything that this sees was acknowledged to somebody.
    let asked = Ledger { ledger: alpha.ledger.clone() };
    let seen = world.runtime.block_on(heirloom_participant_shell::client::contracts(&asked));
    let seen = seen.unwrap().contracts;
    alpha.kill();
    assert!(loading.join().unwrap().is_err(), "it was killed before the end");
    world.start(&mut alpha);
    assert!(world.count(&alpha).contracts >= seen);
    world.load(&alpha, 200);
    let after = world.count(&alpha).contracts;
    assert!(after >= 200 && after.is_multiple_of(10), "{after}");
}

#[test]
fn an_import_that_is_killed_in_the_middle_is_finished_by_the_next_one() {
    let world = World::new();
    let faults = "[faults]\nimport_pause_ms = 300";
    let mut alpha = world.participant("alpha", "3.5.1", faults);
    world.connect(&alpha).unwrap();
    world.load(&alpha, 1_000);
    world.connect_by_hand_only(&alpha);
    world.disconnect(&alpha);
    let before = world.count(&alpha);
    let snapshot = world.export(&alpha).unwrap();
    let ids =
        unpack(&snapshot).into_iter().map(|one| one.contract().unwrap().contract_id.to_string());
    world.purge(&alpha, ids.collect(), false).unwrap();
    thread::scope(|scope| {
        let importing = scope.spawn(|| world.import(&alpha, snapshot.clone(), VALIDATION));
        wait("a batch is there", || world.count(&alpha).contracts > 0);
        drop(importing);
        // Another handle of the same process.
        std::process::Command::new("kill").args(["-9", &alpha.pid()]).status().unwrap();
    });
    alpha.kill();
    world.start(&mut alpha);
    let partly = world.count(&alpha).contracts;
    assert!(partly > 0 && partly < 1_000 && partly.is_multiple_of(200), "{partly}");
    // It did not connect by itself: otherwise repair would be refused.
    world.import(&alpha, snapshot, VALIDATION).unwrap();
    assert_eq!(world.count(&alpha), before);
}

#[test]
fn an_import_that_fails_in_between_leaves_what_it_persisted() {
    let world = World::new();
    let alpha = world.participant("alpha", "3.5.1", "[faults]\nimport_fails_after_batches = 1");
    world.connect(&alpha).unwrap();
    world.load(&alpha, 300);
    world.disconnect(&alpha);
    let before = world.count(&alpha);
    let snapshot = world.export(&alpha).unwrap();
    let ids =
        unpack(&snapshot).into_iter().map(|one| one.contract().unwrap().contract_id.to_string());
    world.purge(&alpha, ids.collect(), false).unwrap();
    let status = world.import(&alpha, snapshot.clone(), VALIDATION).unwrap_err();
    assert!(status.message().contains("fails after 1 batches"), "{status:?}");
    assert_eq!(world.count(&alpha).contracts, 200);
    world.import(&alpha, snapshot, VALIDATION).unwrap();
    assert_eq!(world.count(&alpha), before);
}

#[test]
fn a_synchronizer_that_is_killed_has_the_same_log_again() {
    let mut world = World::new();
    let alpha = world.participant("alpha", "3.5.1", "");
    world.connect(&alpha).unwrap();
    world.load(&alpha, 20);
    world.kill_synchronizer();
    world.start_synchronizer();
    wait("the participant follows again", || {
        let asked = World::load_of(&alpha, 40, &["alice", "bob", "carol"]);
        world.runtime.block_on(load::load(&asked)).is_ok()
    });
    assert_eq!(world.count(&alpha).contracts, 40);
}

#[test]
fn a_command_whose_answer_is_lost_is_carried_out_once() {
    let world = World::new();
    let faults = "[faults]\nanswer_lost_once = [\"SubmitAndWaitForTransaction\"]\n\
                  unavailable_once = [\"UploadDar\"]";
    let alpha = world.participant("alpha", "3.5.1", faults);
    world.connect(&alpha).unwrap();
    let asked = World::load_of(&alpha, 10, &["alice", "bob", "carol"]);
    for expected in [0, 10] {
        let error = world.runtime.block_on(load::load(&asked)).unwrap_err();
        assert!(error.to_string().contains("configuration asks for this"), "{error}");
        assert_eq!(world.count(&alpha).contracts, expected);
    }
    world.load(&alpha, 20);
    assert_eq!(world.count(&alpha).contracts, 20);
}
