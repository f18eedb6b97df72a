use std::fs;

use super::*;
use crate::world::{World, cut_anywhere};

fn open(world: &World, database: &Database) -> Result<Distribution, JobError> {
    let archive = Archive::open(&world.root().join("archive")).unwrap();
    Distribution::open(database, archive, &world.state)
}

#[test]
fn a_distribution_that_stops_anywhere_goes_on_and_every_block_is_there() {
    let world = World::new(2, 30);
    fs::remove_file(&world.state).unwrap();
    let database = Database::open(&world.data).unwrap();
    let cuts = cut_anywhere(
        |checkpoint| {
            let mut distribution = open(&world, &database)?;
            while distribution.advance_with(&database, 7, checkpoint)? > 0 {}
            Ok(())
        },
        |_| {
            let next = read_state(&world.state).unwrap().unwrap();
            let archive = Archive::open(&world.root().join("archive")).unwrap();
            assert!((1..next).all(|height| archive.block(Height(height)).unwrap().is_some()));
        },
    );
    assert!(cuts > 3, "{cuts}");
    let archive = Archive::open(&world.root().join("archive")).unwrap();
    for height in (1..=30).map(Height) {
        assert_eq!(archive.block(height).unwrap(), database.block(height).unwrap());
    }
    assert_eq!(archive.block(Height(31)).unwrap(), None);
    assert_eq!(fs::read(&world.state).unwrap(), b"{\"next\":31}");
    let path = archive.path(Height(0x1234));
    assert!(path.ends_with("00/00/00/00/00/00/12/0000000000001234.block"), "{path:?}");
}

#[test]
fn a_state_file_that_is_missing_behind_or_ahead() {
    let world = World::new(2, 30);
    fs::remove_file(&world.state).unwrap();
    let database = Database::open(&world.data).unwrap();
    let mut distribution = open(&world, &database).unwrap();
    while distribution.advance(&database, 100).unwrap() > 0 {}
    fs::remove_file(&world.state).unwrap();
    assert_eq!(open(&world, &database).unwrap().next(), Height(31));
    write_state(&world.state, 4).unwrap();
    assert_eq!(open(&world, &database).unwrap().next(), Height(31));
    write_state(&world.state, 32).unwrap();
    let refused = open(&world, &database);
    assert!(matches!(refused, Err(JobError::Refused { .. })), "{refused:?}");
    write_state(&world.state, 31).unwrap();
    let archive = Archive::open(&world.root().join("archive")).unwrap();
    fs::remove_file(archive.path(Height(30))).unwrap();
    let gap = open(&world, &database);
    assert!(matches!(gap, Err(JobError::Missing { .. })), "{gap:?}");
}

#[test]
fn another_block_is_never_overwritten() {
    let world = World::new(2, 5);
    let database = Database::open(&world.data).unwrap();
    let archive = Archive::open(&world.root().join("archive")).unwrap();
    let ours = database.block(Height(3)).unwrap().unwrap();
    let mut fork = ours.clone();
    fork.block.time.0 += 1;
    archive.put(&fork).unwrap();
    archive.put(&fork).unwrap();
    match archive.put(&ours) {
        Err(JobError::Refused { reason }) => {
            for id in [fork.block.id(), ours.block.id()] {
                assert!(reason.contains(&id.to_string()), "{reason}");
            }
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(archive.block(Height(3)).unwrap(), Some(fork));
    fs::write(archive.path(Height(3)), b"nonsense").unwrap();
    assert!(matches!(archive.put(&ours), Err(JobError::Corrupt { .. })));
    assert_eq!(fs::read(archive.path(Height(3))).unwrap(), b"nonsense");
}
