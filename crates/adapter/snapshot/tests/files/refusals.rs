//! What stops everything, and what is left then.

use std::cell::Cell;
use std::os::unix::fs::symlink;
use std::rc::Rc;

use heirloom_canton::value::Value;
use heirloom_participant::rewrite::RewriteError;
use heirloom_snapshot::progress::{Advance, Cancel, Pass, Progress};

use super::*;

fn verify_error(files: &Files, types: &(dyn TypeStore + Sync)) -> SnapshotError {
    verify(&files.source(), &mut files.run(types, 2)).unwrap_err()
}

fn contracts(world: &World, count: i64) -> Vec<FatContract> {
    (0..count).map(|number| world.contract(&Spec::new(number))).collect()
}

#[test]
fn a_contract_that_was_changed_stops_everything_and_is_named() {
    type Edit = fn(&mut FatContract);
    let world = World::new();
    let edits: [Edit; 5] = [
        |c| {
            let Value::Record(fields) = &mut c.create_arg else { unreachable!() };
            fields[4] = Value::Text("tampered".to_owned());
        },
        |c| c.observers.retain(|party| !party.as_str().starts_with("a::")),
        |c| c.salt = heirloom_canton::unicum::Salt::from_bytes([0; 32]),
        |c| c.created_at = heirloom_canton::blob::CreatedAt::from_micros(1).unwrap(),
        |c| c.package_name = "other".parse().unwrap(),
    ];
    for edit in edits {
        let mut contracts = contracts(&world, 20);
        edit(&mut contracts[11]);
        let files = Files::new(&source_of(&contracts));
        match verify_error(&files, &world) {
            SnapshotError::NotAuthentic { place, id, .. } => {
                assert_eq!((place.number, &id), (12, &id_at(&contracts, 11)));
                let before: usize = contracts[..11].iter().map(|c| entry(c).len() + 2).sum();
                assert_eq!(place.offset, u64::try_from(before).unwrap());
            }
            other => panic!("{other:?}"),
        }
        files.has_no_output();
    }
}

#[test]
fn a_contract_that_is_there_twice_is_refused() {
    let world = World::new();
    let mut contracts = contracts(&world, 5);
    contracts.push(contracts[2].clone());
    let files = Files::new(&source_of(&contracts));
    match verify_error(&files, &world) {
        SnapshotError::Twice { id } => assert_eq!(id, id_at(&contracts, 2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_was_cut_anywhere_is_refused() {
    let world = World::new();
    let whole = source_of(&contracts(&world, 3));
    for length in (0..whole.len()).step_by(7) {
        let files = Files::new(&whole[..length]);
        let error = verify_error(&files, &world);
        assert!(matches!(error, SnapshotError::Truncated { .. }), "{length}: {error:?}");
    }
    // Cut between the compressed bytes and inside of an entry: gzip is whole, the entry is not.
    let mut entries: Vec<Vec<u8>> = contracts(&world, 2).iter().map(entry).collect();
    let mut framed = Vec::new();
    heirloom_canton::acs::write_frame(&mut framed, &entries.remove(0));
    framed.truncate(framed.len() - 1);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, &framed).unwrap();
    let files = Files::new(&gz.finish().unwrap());
    let error = verify_error(&files, &world);
    assert!(matches!(error, SnapshotError::Truncated { .. }), "{error:?}");
}

fn rewrite_error(files: &Files, world: &World, change: &Change) -> SnapshotError {
    let mut run = files.run(world, 2);
    let verified = verify(&files.source(), &mut run).unwrap();
    rewrite(&verified, change, &files.outputs(), &mut run).unwrap_err()
}

#[test]
fn a_party_that_the_map_is_about_to_make_is_refused_where_it_occurs() {
    let world = World::new();
    let mut spec = Spec::new(1);
    spec.holders.push(format!("b-4::{NEW}"));
    let files = Files::new(&source_of(&[world.contract(&Spec::new(0)), world.contract(&spec)]));
    let SnapshotError::Rewrite { place, source, .. } = rewrite_error(&files, &world, &change())
    else {
        panic!("another error")
    };
    let RewriteError::Occurs { party } = *source else { panic!("{source:?}") };
    assert_eq!((place.number, party.as_str()), (2, format!("b-4::{NEW}").as_str()));
    files.has_no_output();
}

#[test]
fn keys_of_a_map_that_become_one_are_refused() {
    let world = World::new();
    let mut spec = Spec::new(1);
    spec.holders.push(format!("b-1::{NEW}"));
    let files = Files::new(&source_of(&[world.contract(&spec)]));
    let SnapshotError::Rewrite { source, .. } = rewrite_error(&files, &world, &change()) else {
        panic!("another error")
    };
    assert!(matches!(*source, RewriteError::Collision { .. }), "{source:?}");
    files.has_no_output();
}

#[test]
fn a_file_that_changed_after_it_was_verified_is_refused() {
    let world = World::new();
    let files = Files::new(&source_of(&contracts(&world, 5)));
    let mut run = files.run(&world, 1);
    let verified = verify(&files.source(), &mut run).unwrap();
    fs::write(files.source(), source_of(&contracts(&world, 6))).unwrap();
    let error = rewrite(&verified, &change(), &files.outputs(), &mut run).unwrap_err();
    assert!(matches!(error, SnapshotError::Changed { .. }), "{error:?}");
    files.has_no_output();
}

#[test]
fn an_output_that_changed_after_it_was_written_is_found() {
    let world = World::new();
    let files = Files::new(&source_of(&contracts(&world, 5)));
    let mut run = files.run(&world, 1);
    let (verified, outcome, _) = whole(&files, &world, &change(), 1).unwrap();
    let outputs = files.outputs();
    // Authentic contracts, but one of them is missing.
    let map = fs::read(&outputs.contract_map).unwrap();
    let kept = fs::read(&outputs.snapshot).unwrap();
    fs::write(&outputs.snapshot, source_of(&contracts(&world, 4))).unwrap();
    let after = |run: &mut Run<'_>| {
        verify_after(&verified, &outcome, &change(), &outputs, run).unwrap_err()
    };
    let error = after(&mut run);
    assert!(matches!(error, SnapshotError::OldParty { .. }), "{error:?}");
    fs::write(&outputs.snapshot, kept).unwrap();
    let text = String::from_utf8(map).unwrap().replacen("ca12", "ca11", 2);
    fs::write(&outputs.contract_map, text).unwrap();
    let error = after(&mut run);
    assert!(matches!(error, SnapshotError::Differs { .. }), "{error:?}");
}

#[test]
fn a_full_disk_changes_nothing_and_says_what_to_do() {
    let world = World::new();
    let files = Files::new(&source_of(&contracts(&world, 50)));
    let outputs = files.outputs();
    fs::write(&outputs.snapshot, "old").unwrap();
    // Where the unfinished file would be is a device that is always full.
    let unfinished = outputs.snapshot.with_file_name(".acs.gz.new");
    symlink("/dev/full", &unfinished).unwrap();
    let error = rewrite_error(&files, &world, &change());
    assert!(matches!(error, SnapshotError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("run again"), "{error}");
    assert_eq!(fs::read(&outputs.snapshot).unwrap(), b"old");
    assert!(!outputs.contract_map.exists());
    whole(&files, &world, &change(), 2).unwrap();
}

#[test]
fn what_a_crash_left_is_in_nobodys_way() {
    let world = World::new();
    let files = Files::new(&source_of(&contracts(&world, 20)));
    let outputs = files.outputs();
    whole(&files, &world, &change(), 2).unwrap();
    let expected = read_outputs(&outputs);
    // A run that was killed while it wrote: old files in their places, half of one beside them.
    fs::write(outputs.snapshot.with_file_name(".acs.gz.new"), vec![7; 100_000]).unwrap();
    let mut run = files.run(&world, 1);
    let verified = verify(&files.source(), &mut run).unwrap();
    assert_eq!(read_outputs(&outputs), expected);
    rewrite(&verified, &change(), &outputs, &mut run).unwrap();
    assert_eq!(read_outputs(&outputs), expected);
    assert_eq!(fs::read_dir(files.directory.path().join("out")).unwrap().count(), 3);
}

/// Stops a run as soon as a pass begins.
struct StopAt {
    pass: Pass,
    cancel: Cancel,
    heard: Rc<Cell<bool>>,
}

impl Progress for StopAt {
    fn advanced(&mut self, advance: Advance) {
        if advance.pass == self.pass {
            self.heard.set(true);
            self.cancel.cancel();
        }
    }
}

#[test]
fn a_run_that_is_stopped_in_any_pass_leaves_no_output() {
    let world = World::new();
    let parents: Vec<Vec<usize>> = (0..3_000).map(|n: usize| vec![n / 2]).collect();
    let order: Vec<usize> = (0..3_000).collect();
    let files = Files::new(&source_of(&graph(&world, &parents, &order)));
    for pass in [Pass::Verify, Pass::Gather, Pass::Order, Pass::Rewrite] {
        let heard = Rc::new(Cell::new(false));
        let mut run = files.run(&world, 2);
        let cancel = run.cancel.clone();
        run.progress = Box::new(StopAt { pass, cancel, heard: Rc::clone(&heard) });
        let result = verify(&files.source(), &mut run)
            .and_then(|verified| rewrite(&verified, &change(), &files.outputs(), &mut run));
        assert!(heard.get(), "{pass:?} never began");
        // The last report of a pass comes when all of it is done: then the next one stops.
        assert!(matches!(result, Err(SnapshotError::Cancelled)), "{pass:?}: {result:?}");
        files.has_no_output();
    }
}

/// An event of the readable half with a field that nobody knows, which is carried.
fn with_unknown_field(event: &[u8], text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    // Field 99, length-delimited.
    [event, &[0x9a, 0x06, length], text.as_bytes()].concat()
}

#[test]
fn an_old_name_that_was_carried_unread_is_found_in_what_was_written() {
    let world = World::new();
    let contract = world.contract(&Spec::new(0));
    let event = heirloom_canton::ledger_event::write(&contract, &[]);
    let entry_with = |text: &str| {
        let event = with_unknown_field(&event, text);
        let synchronizer = world::synchronizer();
        let entry = heirloom_canton::acs::ActiveContract::new(&event, &synchronizer, 0).unwrap();
        entry.encode().to_vec()
    };
    let files = Files::new(&compress(&[entry_with("carried")]));
    whole(&files, &world, &change(), 1).unwrap();
    let files = Files::new(&compress(&[entry_with(&format!("x::{OLD}"))]));
    let error = whole(&files, &world, &change(), 1).unwrap_err();
    assert!(matches!(error, SnapshotError::OldNamespace { .. }), "{error:?}");
}

#[test]
fn two_synchronizers_that_would_become_one_are_refused() {
    let target: heirloom_canton::name::SynchronizerId = format!("t::{NEW}").parse().unwrap();
    let from = |name: &str| format!("{name}::{OTHER}").parse().unwrap();
    let routes = BTreeMap::from([(from("a"), target.clone()), (from("b"), target)]);
    let error = Change::new(map_of(&moves()), routes).unwrap_err();
    assert!(matches!(error, SnapshotError::Synchronizers { .. }), "{error:?}");
}
