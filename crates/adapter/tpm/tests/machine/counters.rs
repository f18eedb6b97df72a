//! Counters of code, and what happens to whoever puts files back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use heirloom_keeper::port::Platform as _;
use heirloom_model::digest::CounterName;
use heirloom_tpm::counter::Counter;
use heirloom_tpm::key::StorageRoot;
use heirloom_tpm::machine::counters::COUNTERS;
use heirloom_tpm::machine::error::MachineError;
use heirloom_tpm::machine::state::freshness;

use crate::world::{Code, World, copy, secs};

const NAME: CounterName = CounterName::new([1; 32]);

fn code(world: &World) -> Code {
    Code { machine: Arc::new(world.open().unwrap()), secs: secs() }
}

/// The counter of the TPM goes up once.
fn count(world: &World) {
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    Counter::open(&tpm, freshness()).unwrap().increment(&root, None).unwrap();
}

#[test]
fn an_older_file_of_counters_is_refused_and_the_newest_is_not() {
    let Some(mut world) = World::approved() else { return };
    let path = world.state().join(COUNTERS);
    let first = fs::read(&path).unwrap();
    let one = code(&world);
    one.raise(&NAME, 1).unwrap();
    let second = fs::read(&path).unwrap();
    one.raise(&NAME, 2).unwrap();
    let third = fs::read(&path).unwrap();
    // Also while the machine runs.
    for old in [&first, &second] {
        fs::write(&path, old).unwrap();
        assert!(one.counter(&NAME).is_err());
        assert!(one.raise(&NAME, 1).is_err());
    }
    drop(one);
    assert!(matches!(world.refusal(), MachineError::CountersRolledBack { .. }));
    fs::write(&path, &third).unwrap();
    world.swtpm.lose_power();
    assert_eq!(code(&world).counter(&NAME), Ok(2));
    let mut damaged = third.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(world.refusal(), MachineError::CountersCorrupt | MachineError::File(_)));
    fs::remove_file(&path).unwrap();
    assert!(matches!(world.refusal(), MachineError::File(_)));
    assert!(!path.exists(), "counters are never made anew");
}

#[test]
fn a_crash_between_file_and_tpm_is_healed() {
    let Some(world) = World::approved() else { return };
    let path = world.state().join(COUNTERS);
    let one = code(&world);
    one.raise(&NAME, 1).unwrap();
    let ahead = fs::read(&path).unwrap();
    drop(one);
    // A TPM that has not counted this file yet: another machine's directory shows what it does.
    let Some(behind) = World::approved() else { return };
    let one = code(&behind);
    let before = fs::read(behind.state().join(COUNTERS)).unwrap();
    one.raise(&NAME, 1).unwrap();
    let after = fs::read(behind.state().join(COUNTERS)).unwrap();
    fs::write(behind.state().join(COUNTERS), &before).unwrap();
    assert!(one.counter(&NAME).is_err(), "the file before is old");
    fs::write(behind.state().join(COUNTERS), &after).unwrap();
    assert_eq!(one.counter(&NAME), Ok(1));
    drop(one);
    fs::write(behind.state().join(COUNTERS), ahead).unwrap();
    assert!(matches!(behind.refusal(), MachineError::CountersCorrupt), "another machine's file");
}

/// A TPM in software is a folder: whoever copies it, as the snapshot of a virtual machine does,
/// has taken the counter back. With files that are newer this is found out; with files of the same
/// time it is not, and nothing here claims it.
#[test]
fn a_tpm_that_was_put_back_alone_is_found_out() {
    let Some(mut world) = World::approved() else { return };
    let saved = tempfile::tempdir().unwrap();
    world.tpm().shutdown().unwrap();
    copy(&world.swtpm.state(), saved.path());
    let one = code(&world);
    for to in [1, 2, 3] {
        one.raise(&NAME, to).unwrap();
    }
    drop(one);
    put_back(&mut world, saved.path());
    assert!(matches!(world.refusal(), MachineError::TpmRolledBack { .. }));
    count(&world);
    count(&world);
    assert_eq!(code(&world).counter(&NAME), Ok(3), "one ahead is what a crash leaves");
}

fn put_back(world: &mut World, saved: &Path) {
    // It writes nothing any more once it has lost power.
    let state = world.swtpm.state();
    world.swtpm.lose_power_for(|| copy(saved, &state));
}
