use heirloom_ledger::chain::{build_block, check_block};
use heirloom_ledger::client::ScanPosition;
use heirloom_ledger::schema::{SCHEMA_OWNERS, SCHEMA_TRANSACTIONS};
use heirloom_ledger::state::State;
use heirloom_model::counter::Time;
use heirloom_model::service::Height;

use super::*;
use crate::environment::open_with_room;
use crate::world::{NETWORK, World, configuration, faucet, fill, instance, measurement};

fn next(ledger: &Ledger) -> (CheckedBlock, BlockMetadata) {
    let parent = ledger.parent().unwrap();
    let block = build_block(&parent, &configuration(), Vec::new(), Time(u64::MAX));
    let block = check_block(block, &parent, &configuration(), &**ledger).unwrap();
    let node = "n1".parse().unwrap();
    let metadata = BlockMetadata::sign(&block.id(), node, measurement(), &instance());
    (block, metadata)
}

fn open_error(directory: &Path, schema: u32) -> OpenError {
    Ledger::open(directory, SchemaVersion(schema)).err().expect("it does not open")
}

#[test]
fn what_is_appended_is_there_when_it_is_opened_again() {
    let world = World::new(2, 40);
    let ledger = Ledger::open(&world.data, SCHEMA_OWNERS).unwrap();
    assert_eq!(ledger.tip().unwrap(), world.tip);
    let (block, metadata) = next(&ledger);
    let tip = ledger.append(&block, &metadata).unwrap();
    assert_eq!(tip, block.tip());
    let twice = ledger.append(&block, &metadata);
    assert!(matches!(twice, Err(LedgerError::NotNext { .. })), "{twice:?}");
    drop(ledger);
    let ledger = Ledger::open(&world.data, SCHEMA_OWNERS).unwrap();
    assert_eq!(ledger.tip().unwrap(), tip);
    let stored = ledger.block(tip.height).unwrap().unwrap();
    assert_eq!((stored.block, stored.metadata), (block.block().clone(), Some(metadata)));
    assert_eq!(ledger.blocks(Height(40), 9).unwrap().len(), 2);
    assert_eq!(ledger.block(Height(42)).unwrap(), None);
    crate::verify::verify(&ledger).unwrap();
}

#[test]
fn a_block_that_its_proposer_did_not_sign_is_refused() {
    let world = World::new(2, 3);
    let ledger = Ledger::open(&world.data, SCHEMA_OWNERS).unwrap();
    let (block, metadata) = next(&ledger);
    for changed in [
        BlockMetadata { node: "n2".parse().unwrap(), ..metadata.clone() },
        BlockMetadata { instance: faucet().public_key(), ..metadata.clone() },
        BlockMetadata {
            measurement: heirloom_model::measurement::Measurement::Sgx(
                heirloom_model::measurement::MrEnclave::new([9; 32]),
            ),
            ..metadata.clone()
        },
    ] {
        let refused = ledger.append(&block, &changed);
        assert!(matches!(refused, Err(LedgerError::Metadata(_))), "{refused:?}");
    }
    assert_eq!(ledger.tip().unwrap(), world.tip);
}

#[test]
fn absent_held_corrupt_and_other_schemas_are_told_apart_and_nothing_is_created() {
    let world = World::new(2, 3);
    let nowhere = world.root().join("nowhere");
    assert!(matches!(open_error(&nowhere, 2), OpenError::Missing { .. }));
    assert!(!nowhere.exists(), "looking for it creates nothing");
    let wrong = open_error(&world.data, 3);
    assert!(
        matches!(
            wrong,
            OpenError::WrongSchema { found: SchemaVersion(2), wanted: SchemaVersion(3) }
        ),
        "{wrong:?}"
    );
    let ledger = Ledger::open(&world.data, SCHEMA_OWNERS).unwrap();
    let held = open_error(&world.data, 2);
    let pid = format!("pid {}", std::process::id());
    assert!(matches!(&held, OpenError::Held { holder, .. } if *holder == pid), "{held:?}");
    drop(ledger);
    let again = Ledger::create(&world.data, NETWORK, &configuration(), SCHEMA_OWNERS);
    assert!(matches!(again, Err(OpenError::Exists { .. })));
    let file = world.data.join("original/data.mdb");
    let mut bytes = fs::read(&file).unwrap();
    bytes[..8192].fill(0x5a);
    fs::write(&file, bytes).unwrap();
    let corrupt = open_error(&world.data, 2);
    assert!(matches!(corrupt, OpenError::Ledger(LedgerError::Corrupt { .. })), "{corrupt:?}");
    fs::remove_file(&file).unwrap();
    assert!(matches!(open_error(&world.data, 2), OpenError::Missing { .. }));
    assert!(!file.exists());
    let foreign = world.root().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes"), b"mine").unwrap();
    let refused = Ledger::create(&foreign, NETWORK, &configuration(), SCHEMA_OWNERS);
    assert!(matches!(refused, Err(OpenError::Exists { .. })));
}

#[test]
fn a_full_map_is_full_and_what_was_there_stays() {
    let world = World::new(2, 3);
    let path = world.data.join("original");
    let size = usize::try_from(fs::metadata(path.join("data.mdb")).unwrap().len()).unwrap();
    let env = open_with_room(&path, Access::Append, size + 16 * 4096).unwrap();
    let database = Database::of(env, &path).unwrap();
    let (mut full, mut appended) = (None, 0_u64);
    for _ in 0..10_000 {
        let parent = database.parent().unwrap();
        let block = build_block(&parent, &configuration(), Vec::new(), Time(0));
        let block = check_block(block, &parent, &configuration(), &database).unwrap();
        let made = database.write(|writer| {
            let head = writer.view().head()?;
            writer.append(&head, &block, Some(&next_metadata(&block)))
        });
        if let Err(error) = made {
            full = Some(error);
            break;
        }
        appended += 1;
    }
    assert!(matches!(full, Some(LedgerError::Full { .. })), "{full:?}");
    assert_eq!(database.tip().unwrap().height.0, world.tip.height.0 + appended);
    crate::verify::verify(&database).unwrap();
}

fn next_metadata(block: &CheckedBlock) -> BlockMetadata {
    BlockMetadata::sign(&block.id(), "n1".parse().unwrap(), measurement(), &instance())
}

#[test]
fn outputs_are_found_by_id_by_owner_and_by_the_view_key() {
    let world = World::new(2, 64);
    let ledger = Ledger::open(&world.data, SCHEMA_OWNERS).unwrap();
    let owned = ledger.outputs_of(&faucet().public_key(), None, 64).unwrap();
    assert_eq!(owned.len(), 1, "only what is left can be spent: {owned:?}");
    let (record, spent) = ledger.output(&owned[0].output).unwrap().unwrap();
    assert_eq!((record.output.amount(), spent), (owned[0].amount, None));
    let after = ledger.outputs_of(&faucet().public_key(), Some(&owned[0].output), 64).unwrap();
    assert_eq!(after, []);
    let all = ledger.private_outputs(ScanPosition::default(), 64).unwrap();
    assert_eq!((all.outputs.len(), all.next), (4, None));
    let mut found = Vec::new();
    let mut from = Some(ScanPosition::default());
    while let Some(position) = from {
        let page = ledger.private_outputs(position, 1).unwrap();
        found.extend(page.outputs);
        from = page.next;
    }
    assert_eq!(found, all.outputs, "page by page as at once");
    let id = ledger.block(Height(8)).unwrap().unwrap().block.transactions[0].id();
    let not_here = ledger.transaction_height(&id);
    assert!(matches!(not_here, Err(LedgerError::NotInSchema { .. })), "{not_here:?}");
    let world = World::new(3, 64);
    let ledger = Ledger::open(&world.data, SCHEMA_TRANSACTIONS).unwrap();
    assert_eq!(ledger.transaction_height(&id).unwrap(), Some(Height(8)));
}

#[test]
fn an_interrupted_creation_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let stopped = create_with(&data, NETWORK, &configuration(), SCHEMA_OWNERS, &mut |database| {
        Err(LedgerError::corrupt(database.path(), "stop", "here"))
    });
    assert!(stopped.is_err());
    assert!(matches!(open_error(&data, 2), OpenError::Missing { .. }));
    symlink(ORIGINAL, data.join("live")).unwrap();
    assert!(matches!(open_error(&data, 2), OpenError::Missing { .. }));
    let tip = fill(&data, 2, 5).unwrap();
    assert_eq!(Ledger::open(&data, SCHEMA_OWNERS).unwrap().tip().unwrap(), tip);
}
