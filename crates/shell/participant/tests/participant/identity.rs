//! Who a participant is, what it needs to start, and whom a synchronizer admits.

use std::fs;

use heirloom_canton_node::wire::participant::participant_status_response::Kind;
use heirloom_participant_shell::client;
use heirloom_participant_shell::command::Transact;

use crate::world::World;

#[test]
fn a_participant_without_identity_says_what_it_waits_for() {
    let world = World::new();
    let alpha = world.participant("alpha", "3.5.1", "identity = \"manual\"");
    let Some(Kind::NotInitialized(found)) = world.status(&alpha).kind else { panic!("it is") };
    assert_eq!((found.waiting_for_external_input, found.version), (1, "3.5.1".to_owned()));
    let error = world.connect(&alpha).unwrap_err();
    assert!(error.to_string().contains("not initialized"), "{error}");
}

#[test]
fn keys_without_their_store_are_never_taken_for_new_ones() {
    let world = World::new();
    let mut alpha = world.participant("alpha", "3.5.1", "");
    alpha.kill();
    world.start(&mut alpha);
    alpha.kill();
    fs::rename(world.path("alpha-data"), world.path("elsewhere")).unwrap();
    let log = world.start_refused(&alpha);
    assert!(log.contains("never initialised, but the custodian has a key"), "{log}");
    fs::remove_dir_all(world.path("alpha-data")).unwrap();
    fs::rename(world.path("elsewhere"), world.path("alpha-data")).unwrap();
    world.start(&mut alpha);
    alpha.kill();
    // And a store without its keys makes no new ones.
    fs::rename(world.path("alpha-keys"), world.path("keys-elsewhere")).unwrap();
    let log = world.start_refused(&alpha);
    assert!(log.contains(": failed: "), "{log}");
}

#[test]
fn a_synchronizer_names_the_scheme_that_it_does_not_admit() {
    let world = World::with(34, "[\"p256\"]");
    let alpha = world.participant("alpha", "3.5.1", "");
    let error = world.connect(&alpha).unwrap_err().to_string();
    assert!(error.contains("scheme ed25519") && error.contains("one of: p256"), "{error}");
    let beta = world.participant("beta", "3.5.1", "[keys]\nsigning = \"p256\"");
    world.connect(&beta).unwrap();
}

#[test]
fn two_participants_agree_on_what_they_share() {
    let world = World::new();
    let alpha = world.participant("alpha", "3.5.1", "");
    let beta = world.participant("beta", "3.5.1", "");
    for one in [&alpha, &beta] {
        world.connect(one).unwrap();
        world.load(one, 10);
    }
    let ledger = alpha.ledger.clone();
    let done = world.runtime.block_on(client::transact(&Transact { ledger, owner: None })).unwrap();
    assert!(done.archived);
    assert_eq!(world.count(&alpha).contracts, 10);
    assert_eq!(world.count(&beta).contracts, 10);
    assert_ne!(world.count(&alpha).blobs, world.count(&beta).blobs);
}

#[test]
fn a_wrong_configuration_says_what_is_wrong() {
    let world = World::new();
    for (more, reason) in [
        ("color = \"red\"", "unknown field `color`"),
        ("identity = \"maybe\"", "unknown variant `maybe`"),
        ("[keys]\nsigning = \"p999\"", "\"p999\" is none of"),
        ("[keys]\nsigning = \"rsa2048\"", "keys do not do that"),
        ("[faults]\nimport_fail = 1", "unknown field `import_fail`"),
    ] {
        let alpha = world.describe("alpha", "3.5.1", more);
        let log = world.start_refused(&alpha);
        assert!(log.contains(reason), "{log} does not say {reason:?}");
        fs::remove_dir(world.path("alpha-keys")).unwrap();
    }
    let alpha = world.describe("alpha", "3.6.0", "");
    let log = world.start_refused(&alpha);
    assert!(log.contains("is none of 3.3.x, 3.4.x, 3.5.x"), "{log}");
}
