use heirloom_ledger::schema::{Index, SCHEMA_OUTPUTS, SCHEMA_OWNERS, SCHEMA_TRANSACTIONS};
use proptest::prelude::*;

use super::*;
use crate::inspect::inspect;
use crate::ledger::Ledger;
use crate::snapshot::snapshot;
use crate::world::{PLAN, World, cut_anywhere, tamper};

fn names(names: &[&str]) -> Vec<MigrationName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

const BOTH: [&str; 2] = ["outputs-by-owner", "height-of-transaction"];

fn snapshotted(schema: u32, blocks: u64) -> World {
    let world = World::new(schema, blocks);
    snapshot(&world.data, &world.state, &PLAN, &world.tip, &mut |_| ()).unwrap();
    world
}

fn to_three(world: &World, way: &[&str]) -> Result<(), JobError> {
    let (plan, tip) = (&PLAN, &world.tip);
    migrate(&world.data, plan, tip, SCHEMA_TRANSACTIONS, &names(way), &mut |_| ())
}

/// Every record of every table.
fn dump(directory: &Path) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let database = Database::open_at(directory, Access::Read).unwrap();
    let dumped = database.read(|view| {
        let tables = [
            ("head", Some(view.tables.head)),
            ("blocks", Some(view.tables.blocks)),
            ("metadata", Some(view.tables.metadata)),
            ("outputs", Some(view.tables.outputs)),
            ("spent", Some(view.tables.spent)),
            ("owners", view.tables.index(Index::OutputsByOwner)),
            ("transactions", view.tables.index(Index::HeightOfTransaction)),
        ];
        let mut records = Vec::new();
        for (name, table) in tables {
            for record in table.iter().flat_map(|table| table.iter(view.txn).unwrap()) {
                let (key, value) = record.unwrap();
                records.push((name, key.to_vec(), value.to_vec()));
            }
        }
        Ok(records)
    });
    dumped.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn a_migrated_database_is_the_one_that_would_have_been_made(blocks in 1..90_u64) {
        let fresh = dump(&World::new(3, blocks).data.join("original"));
        for (schema, way) in [(1, &BOTH[..]), (2, &BOTH[1..])] {
            let world = snapshotted(schema, blocks);
            to_three(&world, way).unwrap();
            prop_assert_eq!(dump(&world.data.join("live").canonicalize().unwrap()), fresh.clone());
        }
    }
}

#[test]
fn a_migration_that_stops_anywhere_goes_on_and_the_original_stays_as_it_is() {
    let world = snapshotted(1, 64);
    let original = dump(&world.data.join("original"));
    let asked =
        Asked { plan: &PLAN, expected: &world.tip, to: SCHEMA_TRANSACTIONS, names: &names(&BOTH) };
    let cuts = cut_anywhere(
        |checkpoint| migrate_with(&world.data, &asked, &mut |_| (), checkpoint),
        |name| {
            let seen = inspect(&world.data, &world.state).unwrap();
            let swapped = name == "the live link is replaced";
            let expected = if swapped { SCHEMA_TRANSACTIONS } else { SCHEMA_OUTPUTS };
            assert_eq!(seen.schema, expected, "after {name}");
            assert_eq!(seen.migrated.is_some(), swapped, "after {name}");
            assert_eq!(seen.tip, world.tip);
        },
    );
    assert!(cuts >= 3, "{cuts}");
    let seen = inspect(&world.data, &world.state).unwrap();
    assert_eq!((seen.schema, seen.migrated), (SCHEMA_TRANSACTIONS, Some(PLAN)));
    assert_eq!(dump(&world.data.join("original")), original);
    to_three(&world, &BOTH).unwrap();
    let ledger = Ledger::open(&world.data, SCHEMA_TRANSACTIONS).unwrap();
    assert_eq!(ledger.tip().unwrap(), world.tip);
    drop(ledger);
    let cuts = cut_anywhere(
        |checkpoint| revert_with(&world.data, &PLAN, &world.tip, checkpoint),
        |_| assert!(inspect(&world.data, &world.state).is_ok()),
    );
    assert_eq!(cuts, 2);
    revert(&world.data, &PLAN, &world.tip).unwrap();
    let seen = inspect(&world.data, &world.state).unwrap();
    assert_eq!((seen.schema, seen.migrated), (SCHEMA_OUTPUTS, None));
    assert_eq!(dump(&world.data.join("original")), original);
}

#[test]
fn a_copy_without_migrations_is_live_too() {
    let world = snapshotted(2, 9);
    migrate(&world.data, &PLAN, &world.tip, SCHEMA_OWNERS, &[], &mut |_| ()).unwrap();
    let seen = inspect(&world.data, &world.state).unwrap();
    assert_eq!((seen.schema, seen.migrated), (SCHEMA_OWNERS, Some(PLAN)));
    assert!(Ledger::open(&world.data, SCHEMA_OWNERS).is_ok());
}

#[test]
fn nothing_is_migrated_but_the_snapshot_of_the_agreed_tip_by_the_named_way() {
    let world = World::new(2, 9);
    assert!(matches!(to_three(&world, &BOTH[1..]), Err(JobError::Missing { .. })), "no snapshot");
    let world = snapshotted(2, 9);
    assert!(matches!(to_three(&world, &BOTH), Err(JobError::NoWay(_))));
    assert!(matches!(to_three(&world, &[]), Err(JobError::NoWay(_))));
    let other = Tip { height: Height(8), ..world.tip };
    let to = SCHEMA_TRANSACTIONS;
    let refused = migrate(&world.data, &PLAN, &other, to, &names(&BOTH[1..]), &mut |_| ());
    assert!(matches!(refused, Err(JobError::OtherTip { .. })), "{refused:?}");
    let ledger = Ledger::open(&world.data, SCHEMA_OWNERS).unwrap();
    assert!(matches!(to_three(&world, &BOTH[1..]), Err(JobError::Held { .. })));
    drop(ledger);
    assert_eq!(inspect(&world.data, &world.state).unwrap().migrated, None);
}

#[test]
fn every_kind_of_bad_record_is_found_and_nothing_is_swapped() {
    type Change = fn(&mut Writer<'_, '_, '_>);
    let bad: [(&str, Change); 6] = [
        ("block 5", |writer| {
            let table = writer.tables.blocks;
            table.put(writer.txn, &5_u64.to_be_bytes(), b"nonsense").unwrap();
        }),
        ("block 8", |writer| {
            let mut block = writer.view().block(Height(8)).unwrap().unwrap().block;
            block.time = heirloom_model::counter::Time(7);
            let bytes = heirloom_model::wire::encode(&block);
            writer.tables.blocks.put(writer.txn, &8_u64.to_be_bytes(), &bytes).unwrap();
        }),
        ("metadata of block 6", |writer| {
            writer.tables.metadata.delete(writer.txn, &6_u64.to_be_bytes()).unwrap();
        }),
        ("output", |writer| {
            let table = writer.tables.outputs;
            let (key, value) = table.first(writer.txn).unwrap().unwrap();
            let (key, mut value) = (key.to_vec(), value.to_vec());
            *value.last_mut().unwrap() ^= 1;
            table.put(writer.txn, &key, &value).unwrap();
        }),
        ("table spent", |writer| {
            writer.tables.spent.put(writer.txn, &[7; 32], &1_u64.to_be_bytes()).unwrap();
        }),
        ("head", |writer| {
            let mut head = writer.view().head().unwrap();
            head.totals.fees.0 += 1;
            writer.put_head(&head).unwrap();
        }),
    ];
    for (expected, change) in bad {
        let world = World::new(2, 20);
        tamper(&world.data.join("original"), change);
        snapshot(&world.data, &world.state, &PLAN, &world.tip, &mut |_| ()).unwrap();
        for _ in 0..2 {
            match to_three(&world, &BOTH[1..]) {
                Err(JobError::Corrupt { record, .. }) => {
                    let close = record.starts_with(expected) || record == "block 9";
                    assert!(close, "{record} instead of {expected}");
                }
                other => panic!("{other:?} instead of {expected}"),
            }
            assert_eq!(inspect(&world.data, &world.state).unwrap().migrated, None);
        }
    }
}

#[test]
fn a_snapshot_with_another_digest_is_not_migrated() {
    let world = snapshotted(2, 20);
    let file = Directory::new(&world.data).snapshot(&PLAN).join(LEDGER_DIRECTORY).join(DATA_FILE);
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let refused = to_three(&world, &BOTH[1..]);
    assert!(
        matches!(&refused, Err(JobError::Corrupt { reason, .. }) if reason.contains("digest")),
        "{refused:?}"
    );
}

#[test]
fn what_the_new_version_appended_does_not_come_back_with_the_old() {
    let world = snapshotted(2, 9);
    to_three(&world, &BOTH[1..]).unwrap();
    let other = Tip { height: Height(8), ..world.tip };
    let refused = revert(&world.data, &PLAN, &other);
    assert!(matches!(refused, Err(JobError::OtherTip { .. })), "{refused:?}");
    assert_eq!(inspect(&world.data, &world.state).unwrap().migrated, Some(PLAN));
    revert(&world.data, &PLAN, &world.tip).unwrap();
    assert_eq!(inspect(&world.data, &world.state).unwrap().tip, world.tip);
}
