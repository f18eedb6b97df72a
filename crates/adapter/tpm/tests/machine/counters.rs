//! Counters of code, and what happens to whoever puts files back.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use heirloom_keeper::port::Platform as _;
use heirloom_launcher::report::Secs;
use heirloom_model::digest::CounterName;
use heirloom_model::measurement::MrEnclave;
use heirloom_tpm::counter::Counter;
use heirloom_tpm::key::StorageRoot;
use heirloom_tpm::machine::TpmMachine;
use heirloom_tpm::machine::counters::{COUNTERS, COUNTERS_OF_CODE_MAX};
use heirloom_tpm::machine::error::MachineError;
use heirloom_tpm::machine::setup::install;
use heirloom_tpm::machine::state::{TABLE_INDEX, freshness};
use heirloom_tpm::note::{Note, Noted};
use zeroize::Zeroizing;

use crate::world::{Code, World, copy, secs};

const NAME: CounterName = CounterName::new([1; 32]);
const OTHER: CounterName = CounterName::new([2; 32]);

fn code(world: &World) -> Code {
    Code { machine: Arc::new(world.open().unwrap()), secs: secs() }
}

/// The counter of the TPM goes up once.
fn count(world: &World) {
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    Counter::open(&tpm, freshness()).unwrap().increment(&root, None).unwrap();
}

/// Where the counter of the TPM stands.
fn counted(world: &World) -> u64 {
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    Counter::open(&tpm, freshness()).unwrap().read(&root).unwrap()
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

/// Where a raise is stopped: before or after the TPM carries out one of its commands.
#[derive(Clone, Copy, Debug)]
enum Stopped {
    Before,
    After,
}

/// Raises a counter to this value, and stops the machine at this command of the raise. Whether the
/// raise was told.
fn raise_and_stop(world: &mut World, to: u64, at: u32, stopped: Stopped) -> bool {
    let (tpm, fuse) = world.fused_tpm();
    let machine = TpmMachine::open(&world.state(), tpm, &world.lock()).unwrap();
    let one = Code { machine: Arc::new(machine), secs: secs() };
    fuse.burn_after(at, matches!(stopped, Stopped::After));
    let told = one.raise(&NAME, to).is_ok();
    drop(one);
    world.swtpm.lose_power();
    told
}

/// Wherever a raise is stopped, the next start finds it done or not done, goes on from there, and
/// never takes back what was told.
#[test]
fn a_crash_at_any_command_of_a_raise_is_healed() {
    let Some(mut world) = World::approved() else { return };
    let path = world.state().join(COUNTERS);
    let mut stands = 0;
    for stopped in [Stopped::Before, Stopped::After] {
        for at in 0..COMMANDS_MAX {
            let before = fs::read(&path).unwrap();
            let told = raise_and_stop(&mut world, stands + 1, at, stopped);
            let is_written = fs::read(&path).unwrap() != before;
            let one = code(&world);
            stands += u64::from(is_written);
            assert_eq!(one.counter(&NAME), Ok(stands), "{stopped:?} {at}");
            assert!(!told || is_written);
            if is_written {
                // Once it is healed, the file before is an old one.
                let healed = fs::read(&path).unwrap();
                fs::write(&path, before).unwrap();
                assert!(one.counter(&NAME).is_err());
                fs::write(&path, healed).unwrap();
            }
            one.raise(&NAME, stands + 1).unwrap();
            stands += 1;
            if told {
                break;
            }
            assert!(at + 1 < COMMANDS_MAX, "a raise ends");
        }
    }
}

/// More commands than one raise takes, with its sessions.
const COMMANDS_MAX: u32 = 64;

/// Stops a machine after the next table was made durable, before anything was noted: the table
/// before, and the one after, of which nobody was told.
fn stopped_before_the_note(world: &mut World) -> [Vec<u8>; 2] {
    let before = fs::read(world.state().join(COUNTERS)).unwrap();
    for at in 0..COMMANDS_MAX {
        raise_and_stop(world, 1, at, Stopped::Before);
        let after = fs::read(world.state().join(COUNTERS)).unwrap();
        if after != before {
            return [before, after];
        }
    }
    panic!("no table was written");
}

/// Whoever has the machine raises a counter; whoever installs an approval beside it would go on with
/// the same raise, and both would count.
#[test]
fn who_installs_an_approval_neither_counts_nor_writes_where_somebody_raises_a_counter() {
    let Some(mut world) = World::approved() else { return };
    let approval = world.approvals().current.unwrap();
    let [_, half] = stopped_before_the_note(&mut world);
    let stands = counted(&world);
    {
        let _served = world.lock();
        let refused = install(&world.state(), &world.tpm(), &approval);
        assert!(matches!(refused, Err(MachineError::InUse { .. })), "{refused:?}");
    }
    install(&world.state(), &world.tpm(), &approval).unwrap();
    assert_eq!(counted(&world), stands, "what was half done is for who serves the machine");
    assert_eq!(fs::read(world.state().join(COUNTERS)).unwrap(), half);
    assert_eq!(code(&world).counter(&NAME), Ok(1), "and they go on with it");
    assert_eq!(counted(&world), stands + 1);
}

/// Two tables have one number: of one nobody was told, of the other somebody was.
#[test]
fn a_table_that_never_counted_does_not_take_back_what_was_told() {
    let Some(mut world) = World::approved() else { return };
    let path = world.state().join(COUNTERS);
    let [before, kept] = stopped_before_the_note(&mut world);
    // Whoever stopped it goes on with the table before, and lets another raise be told.
    fs::write(&path, &before).unwrap();
    let one = code(&world);
    assert_eq!(one.counter(&NAME), Ok(0), "nobody was told of the raise");
    one.raise(&OTHER, 1).unwrap();
    let told = fs::read(&path).unwrap();
    fs::write(&path, &kept).unwrap();
    assert!(one.counter(&OTHER).is_err(), "also while it runs");
    drop(one);
    assert!(matches!(world.refusal(), MachineError::OtherTable { .. }));
    fs::write(&path, &told).unwrap();
    let one = code(&world);
    assert_eq!((one.counter(&NAME), one.counter(&OTHER)), (Ok(0), Ok(1)));
}

/// The owner of the TPM can remove the note and make another. He does not know its value.
#[test]
fn a_note_that_was_removed_or_made_by_another_is_found_out() {
    let Some(world) = World::approved() else { return };
    code(&world).raise(&NAME, 1).unwrap();
    let saved = world.state().with_file_name("saved");
    copy(&world.state(), &saved);
    let path = world.state().join(COUNTERS);
    let kept = fs::read(&path).unwrap();
    {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        let stranger = Note::new(&tpm, TABLE_INDEX, Zeroizing::new([7; 32]));
        assert_eq!(stranger.read(&root).unwrap(), Noted::Other, "nobody else reads it");
        assert!(stranger.write(&root, &[1; 32]).is_err(), "nor writes it");
    }
    assert_eq!(code(&world).counter(&NAME), Ok(1));
    {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        let forged = Note::new(&tpm, TABLE_INDEX, Zeroizing::new([7; 32]));
        forged.define(&root).unwrap();
        assert_eq!(forged.read(&root).unwrap(), Noted::Nothing);
    }
    assert!(matches!(world.refusal(), MachineError::NoteReplaced { .. }), "nothing is in it");
    {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        let forged = Note::new(&tpm, TABLE_INDEX, Zeroizing::new([7; 32]));
        forged.write(&root, &[1; 32]).unwrap();
        assert_eq!(forged.read(&root).unwrap(), Noted::Content([1; 32]));
    }
    assert!(matches!(world.refusal(), MachineError::NoteReplaced { .. }), "it is another's");
    {
        let tpm = world.tpm();
        Note::remove(&tpm, TABLE_INDEX).unwrap();
    }
    assert!(matches!(world.refusal(), MachineError::NoteRemoved { .. }));
    assert_eq!(fs::read(&path).unwrap(), kept, "nothing is overwritten");
}

#[test]
fn code_has_no_more_counters_than_code_needs_and_leaves_room_for_others() {
    let Some(world) = World::approved() else { return };
    let machine = Arc::new(world.open().unwrap());
    let one = Code { machine: Arc::clone(&machine), secs: secs() };
    let named = |number: usize| CounterName::new([u8::try_from(number).unwrap(); 32]);
    for number in 0..COUNTERS_OF_CODE_MAX {
        one.raise(&named(number), 1).unwrap();
    }
    let refused = one.raise(&named(COUNTERS_OF_CODE_MAX), 1).unwrap_err();
    assert!(refused.to_string().contains("has 16 counters already"), "{refused}");
    one.raise(&named(0), 2).unwrap();
    let other = Secs { measurement: MrEnclave::new([6; 32]), ..secs() };
    let other = Code { machine, secs: other };
    other.raise(&named(COUNTERS_OF_CODE_MAX), 1).unwrap();
    assert_eq!(one.counter(&named(0)), Ok(2));
    assert_eq!(other.counter(&named(0)), Ok(0), "each has its own");
}

#[test]
fn a_table_of_another_machine_is_corrupt_here() {
    let (Some(one), Some(other)) = (World::approved(), World::approved()) else { return };
    code(&one).raise(&NAME, 1).unwrap();
    let foreign = fs::read(one.state().join(COUNTERS)).unwrap();
    fs::write(other.state().join(COUNTERS), foreign).unwrap();
    assert!(matches!(other.refusal(), MachineError::CountersCorrupt));
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
    // Whoever owns the TPM can count, and cannot write the note.
    count(&world);
    count(&world);
    assert!(matches!(world.refusal(), MachineError::OtherTable { .. }));
    count(&world);
    assert!(matches!(world.refusal(), MachineError::OtherTable { .. }));
    count(&world);
    assert!(matches!(world.refusal(), MachineError::CountersRolledBack { .. }));
}

fn put_back(world: &mut World, saved: &Path) {
    // It writes nothing any more once it has lost power.
    let state = world.swtpm.state();
    world.swtpm.lose_power_for(|| copy(saved, &state));
}
