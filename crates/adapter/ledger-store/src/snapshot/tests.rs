use std::fs;

use heirloom_ledger::schema::SCHEMA_OWNERS;
use heirloom_model::service::Height;

use super::*;
use crate::inspect::inspect;
use crate::ledger::Ledger;
use crate::world::{PLAN, World, cut_anywhere};

fn take(world: &World, expected: &Tip) -> Result<(), JobError> {
    snapshot(&world.data, &world.state, &PLAN, expected, &mut |_| ())
}

#[test]
fn a_snapshot_that_stops_anywhere_is_made_whole_the_next_time() {
    let world = World::new(2, 64);
    let cuts = cut_anywhere(
        |checkpoint| {
            let (data, state, tip) = (&world.data, &world.state, &world.tip);
            snapshot_with(data, state, &PLAN, tip, &mut |_| (), checkpoint)
        },
        |name| {
            let seen = inspect(&world.data, &world.state).unwrap();
            let finished = name == "it has its name";
            assert_eq!(seen.snapshots.contains_key(&PLAN), finished, "after {name}");
        },
    );
    assert_eq!(cuts, 6, "a crash after each step but the last was tried, and one after it");
    let seen = inspect(&world.data, &world.state).unwrap();
    assert_eq!(seen.snapshots.get(&PLAN), Some(&world.tip));
    let place = Directory::new(&world.data).snapshot(&PLAN);
    let manifest = verify(&place, &PLAN, &world.tip).unwrap();
    assert_eq!(manifest.next, Some(world.tip.height.0));
    let file = place.join(LEDGER_DIRECTORY).join(DATA_FILE);
    assert_eq!(copy::digest(&file, &mut |_| ()).unwrap().1, manifest.digest);
    assert_eq!(fs::read(&file).unwrap(), fs::read(world.data.join("live/data.mdb")).unwrap());
    take(&world, &world.tip).unwrap();
}

#[test]
fn progress_is_told_in_bytes() {
    let world = World::new(2, 64);
    let mut last = None;
    snapshot(&world.data, &world.state, &PLAN, &world.tip, &mut |seen| last = Some(seen)).unwrap();
    let last: Progress = last.unwrap();
    assert_eq!(last.bytes, last.of);
    assert!(last.of > 0);
}

#[test]
fn only_the_agreed_tip_is_copied_and_only_while_nobody_has_the_ledger() {
    let world = World::new(2, 9);
    let other = Tip { height: Height(8), ..world.tip };
    assert!(matches!(take(&world, &other), Err(JobError::OtherTip { .. })));
    let ledger = Ledger::open(&world.data, SCHEMA_OWNERS).unwrap();
    assert!(matches!(take(&world, &world.tip), Err(JobError::Held { .. })));
    drop(ledger);
    take(&world, &world.tip).unwrap();
    assert!(matches!(take(&world, &other), Err(JobError::OtherTip { .. })));
}

#[test]
fn a_state_file_ahead_of_the_ledger_is_no_pair_with_it() {
    let world = World::new(2, 9);
    write_state(&world.state, 10).unwrap();
    take(&world, &world.tip).unwrap();
    let world = World::new(2, 9);
    write_state(&world.state, 11).unwrap();
    let refused = take(&world, &world.tip);
    assert!(matches!(&refused, Err(JobError::Refused { reason }) if reason.contains("no pair")));
    assert!(!world.data.join("snapshots").exists());
    fs::write(&world.state, b"{\"next\":9,\"more\":1}").unwrap();
    assert!(matches!(take(&world, &world.tip), Err(JobError::Corrupt { .. })));
    fs::remove_file(&world.state).unwrap();
    take(&world, &world.tip).unwrap();
}

#[test]
fn a_snapshot_that_changed_is_corrupt_and_is_not_replaced() {
    let world = World::new(2, 9);
    take(&world, &world.tip).unwrap();
    let place = Directory::new(&world.data).snapshot(&PLAN);
    let file = place.join(LEDGER_DIRECTORY).join(DATA_FILE);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[1..]).unwrap();
    assert!(matches!(take(&world, &world.tip), Err(JobError::Corrupt { .. })));
    assert!(inspect(&world.data, &world.state).unwrap().snapshots.is_empty());
    fs::write(&file, &whole).unwrap();
    take(&world, &world.tip).unwrap();
    write_state(&place.join(DISTRIBUTION_FILE), 3).unwrap();
    assert!(matches!(take(&world, &world.tip), Err(JobError::Corrupt { .. })));
    fs::remove_file(place.join("manifest.json")).unwrap();
    assert!(matches!(take(&world, &world.tip), Err(JobError::Missing { .. })));
}
