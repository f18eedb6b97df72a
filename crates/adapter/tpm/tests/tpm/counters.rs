//! Counters, who may move them, and the owner.

use heirloom_model::secret::Secret;
use heirloom_tpm::client::Tpm;
use heirloom_tpm::code::ResponseCode;
use heirloom_tpm::counter::{Counter, CounterPublic, Incrementer};
use heirloom_tpm::error::TpmError;
use heirloom_tpm::key::StorageRoot;
use heirloom_tpm::policy::Opening;
use heirloom_tpm::transport::Socket;

use crate::world::{World, as_booted, command_of, refusal};

const INDEX: u32 = 0x0180_4801;

fn of_owner() -> CounterPublic {
    CounterPublic::new(INDEX, Incrementer::Owner).unwrap()
}

#[test]
fn a_counter_grows_by_one_and_survives_the_loss_of_power() {
    let Some(mut world) = World::new() else { return };
    let read = |world: &World| {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        Counter::open(&tpm, of_owner()).unwrap().read(&root).unwrap()
    };
    {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        assert!(matches!(Counter::open(&tpm, of_owner()), Err(TpmError::Missing(_))));
        let counter = Counter::define(&root, of_owner(), None).unwrap();
        let first = counter.read(&root).unwrap();
        counter.increment(&root, None).unwrap();
        assert_eq!(counter.read(&root).unwrap(), first + 1);
        // What exists is found, not made again.
        let again = Counter::define(&root, of_owner(), None).unwrap();
        assert_eq!(again.read(&root).unwrap(), first + 1);
    }
    let before = read(&world);
    world.swtpm.lose_power();
    assert_eq!(read(&world), before);
}

#[test]
fn a_counter_that_is_made_again_starts_above_every_count_before() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let counter = Counter::define(&root, of_owner(), None).unwrap();
    for _ in 0..3 {
        counter.increment(&root, None).unwrap();
    }
    let before = counter.read(&root).unwrap();
    counter.remove().unwrap();
    let again = Counter::define(&root, of_owner(), None).unwrap();
    assert!(again.read(&root).unwrap() > before);
}

#[test]
fn a_counter_of_a_policy_moves_only_while_the_policy_is_satisfied() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let policy = as_booted(&tpm);
    let public = CounterPublic::new(INDEX, Incrementer::Policy(policy.digest())).unwrap();
    let opening = Some(Opening::Plain(&policy));
    let counter = Counter::define(&root, public, opening).unwrap();
    let first = counter.read(&root).unwrap();
    counter.increment(&root, opening).unwrap();
    // The owner may not.
    assert_eq!(refusal(counter.increment(&root, None)), 0x149);
    tpm.extend(8, &[1; 32]).unwrap();
    assert_eq!(refusal(counter.increment(&root, opening)), 0x99d);
    assert_eq!(counter.read(&root).unwrap(), first + 1);
}

#[test]
fn something_else_in_the_place_of_a_counter_is_corrupt() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    Counter::define(&root, of_owner(), None).unwrap();
    let policy = as_booted(&tpm);
    let ruled = CounterPublic::new(INDEX, Incrementer::Policy(policy.digest())).unwrap();
    assert!(matches!(Counter::open(&tpm, ruled), Err(TpmError::Corrupt { .. })));
    let defined = Counter::define(&root, ruled, Some(Opening::Plain(&policy)));
    assert!(matches!(defined, Err(TpmError::Corrupt { .. })));
    assert_eq!(CounterPublic::new(0x01c0_0002, Incrementer::Owner), None);
    assert_eq!(CounterPublic::new(0x0100_0000, Incrementer::Owner), None);
}

#[test]
fn a_counter_whose_first_increment_was_lost_is_completed() {
    let Some(world) = World::new() else { return };
    let (tpm, bus) = world.overheard();
    let root = StorageRoot::open(&tpm).unwrap();
    // The TPM makes the counter, and whoever asked for it dies.
    bus.meddle(|command, response| {
        if command_of(command) == 0x12a {
            response.truncate(4);
        }
    });
    assert!(Counter::define(&root, of_owner(), None).is_err());
    bus.behave();
    assert!(matches!(Counter::open(&tpm, of_owner()), Err(TpmError::Corrupt { .. })));
    let counter = Counter::define(&root, of_owner(), None).unwrap();
    assert!(counter.read(&root).unwrap() > 0);
}

#[test]
fn an_old_count_that_is_played_back_on_the_bus_is_found_out() {
    let Some(world) = World::new() else { return };
    let (tpm, bus) = world.overheard();
    let root = StorageRoot::open(&tpm).unwrap();
    let counter = Counter::define(&root, of_owner(), None).unwrap();
    counter.read(&root).unwrap();
    let old = bus.messages.lock().unwrap().last().unwrap().clone();
    counter.increment(&root, None).unwrap();
    bus.meddle(move |command, response| {
        if command_of(command) == 0x14e {
            response.clone_from(&old);
        }
    });
    assert!(matches!(counter.read(&root), Err(TpmError::Corrupt { .. })));
    bus.meddle(|command, response| {
        if command_of(command) == 0x14e {
            // The lowest byte of the count.
            response[23] ^= 1;
        }
    });
    assert!(matches!(counter.read(&root), Err(TpmError::Corrupt { .. })));
    bus.behave();
    assert!(counter.read(&root).is_ok());
}

#[test]
fn a_tpm_in_software_rolls_back_with_its_folder() {
    let Some(world) = World::new() else { return };
    let read = |world: &World| {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        Counter::open(&tpm, of_owner()).unwrap().read(&root).unwrap()
    };
    let copied = {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        let counter = Counter::define(&root, of_owner(), None).unwrap();
        let copied = world.cloned();
        counter.increment(&root, None).unwrap();
        copied
    };
    assert!(world.swtpm.state().join("tpm2-00.permall").is_file());
    // This is why such a TPM protects nothing from its own machine, and why the documents say so.
    assert_eq!(read(&copied) + 1, read(&world));
}

#[test]
fn an_owner_who_set_a_value_is_the_only_one_who_makes_and_removes() {
    let Some(world) = World::new() else { return };
    let value = || Secret::new(*b"the value that the owner has set");
    {
        let (mut tpm, bus) = world.overheard();
        tpm.change_owner(value()).unwrap();
        assert!(!bus.carried(&value().expose(|bytes| *bytes)));
        let root = StorageRoot::open(&tpm).unwrap();
        let counter = Counter::define(&root, of_owner(), None).unwrap();
        counter.increment(&root, None).unwrap();
    }
    {
        // A root that is permanent needs no owner; to make and remove something does.
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        let counter = Counter::open(&tpm, of_owner()).unwrap();
        assert!(counter.read(&root).is_ok());
        let refused = counter.increment(&root, None).err().unwrap();
        assert_eq!(refused.refusal(), Some(ResponseCode::BAD_AUTH));
        let refused = counter.remove().err().unwrap();
        assert_eq!(refused.refusal(), Some(ResponseCode::BAD_AUTH));
        let other = CounterPublic::new(INDEX + 1, Incrementer::Owner).unwrap();
        let refused = Counter::define(&root, other, None).err().unwrap();
        assert_eq!(refused.refusal(), Some(ResponseCode::BAD_AUTH));
    }
    let tpm = Tpm::owned(Socket::unix(world.swtpm.socket()), value());
    tpm.startup().unwrap();
    assert!(StorageRoot::transient(&tpm).is_ok());
    Counter::open(&tpm, of_owner()).unwrap().remove().unwrap();
}
