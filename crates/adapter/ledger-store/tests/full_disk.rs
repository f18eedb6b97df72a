//! What a disk that is really full does to each job, and that each goes on when there is room.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use heirloom_ledger::amount::Amount;
use heirloom_ledger::block::BlockMetadata;
use heirloom_ledger::chain::{build_block, check_block};
use heirloom_ledger::configuration::{Allocation, Configuration};
use heirloom_ledger::schema::{SCHEMA_OWNERS, SCHEMA_TRANSACTIONS};
use heirloom_ledger::state::State;
use heirloom_ledger_store::copy::{Method, copy};
use heirloom_ledger_store::error::{JobError, LedgerError};
use heirloom_ledger_store::inspect::inspect;
use heirloom_ledger_store::ledger::Ledger;
use heirloom_ledger_store::migrate::migrate;
use heirloom_ledger_store::prepare::{Prepared, prepare};
use heirloom_ledger_store::snapshot::snapshot;
use heirloom_model::counter::Time;
use heirloom_model::digest::{NetworkId, PlanDigest};
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::secret::Secret;
use heirloom_model::service::Tip;
use heirloom_model::signature::SigningKey;

const PLAN: PlanDigest = PlanDigest::new([0xab; 32]);
const MEASUREMENT: Measurement = Measurement::Sgx(MrEnclave::new([4; 32]));

/// A child that begins to run has our files until it is another program, locks included.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A disk in memory, for those who may mount one.
struct SmallDisk {
    directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl SmallDisk {
    #[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
    fn mount() -> Option<Self> {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = Self { directory: tempfile::tempdir().unwrap(), _alone: alone };
        let mounted = mount(&["-t", "tmpfs", "-o", "size=64m", "tmpfs"], disk.path());
        if !mounted {
            eprintln!("skipped: this user may not mount a small disk");
        }
        mounted.then_some(disk)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves so many bytes, once what is unfinished is gone.
    fn leave(&self, bytes: u64) {
        let size = format!("remount,size={}", used(self.path()) + bytes);
        assert!(mount(&["-o", &size], self.path()));
    }

    fn grow(&self) {
        assert!(mount(&["-o", "remount,size=64m"], self.path()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let done = Command::new("mount").args(arguments).arg(at).output();
    done.is_ok_and(|output| output.status.success())
}

/// What a disk in memory counts, without what an unfinished job left: the next one removes it.
fn used(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let kept = entries.filter(|entry| !entry.file_name().to_str().unwrap().ends_with(".partial"));
    let sizes = kept.map(|entry| {
        let seen = entry.metadata().unwrap();
        if seen.is_dir() { used(&entry.path()) } else { seen.blocks() * 512 }
    });
    sizes.sum()
}

fn key() -> SigningKey {
    SigningKey::from_seed(Secret::new([2; 32]))
}

fn configuration() -> Configuration {
    Configuration {
        name: "test network".to_owned(),
        minimum_fee: Amount(2),
        tombstone_distance_max: 100,
        block_payments_max: 16,
        block_interval_milliseconds: 100,
        allocations: vec![Allocation { owner: key().public_key(), amount: Amount(1_000_000) }],
        client_protocol_min: 1,
    }
}

fn prepared() -> Option<(SmallDisk, PathBuf, PathBuf, Tip)> {
    let disk = SmallDisk::mount()?;
    let (data, state) = (disk.path().join("data"), disk.path().join("state"));
    let (key, configuration) = (key(), configuration());
    let prepared = Prepared {
        network: NetworkId::new([1; 32]),
        configuration: &configuration,
        schema: SCHEMA_OWNERS,
        blocks: 300,
        faucet: &key,
        view: None,
        node: "n1".parse().unwrap(),
        measurement: MEASUREMENT,
        instance: &key,
    };
    let tip = prepare(&data, &prepared, &mut |_| ()).unwrap();
    Some((disk, data, state, tip))
}

#[test]
fn a_snapshot_that_finds_no_room_is_made_when_there_is_some() {
    let Some((disk, data, state, tip)) = prepared() else { return };
    let take = || snapshot(&data, &state, &PLAN, &tip, &mut |_| ());
    let database = fs::metadata(data.join("live/data.mdb")).unwrap().len();
    for room in [4096, database / 2, database] {
        disk.leave(room);
        let full = take();
        assert!(matches!(full, Err(JobError::Full { .. })), "{room}: {full:?}");
        // Nothing unfinished keeps the disk full: the node has to go back.
        assert_eq!(fs::read_dir(data.join("snapshots")).unwrap().count(), 0);
        disk.grow();
        let seen = inspect(&data, &state).unwrap();
        assert_eq!((seen.tip, seen.snapshots.is_empty()), (tip, true), "{room}");
    }
    take().unwrap();
    assert_eq!(inspect(&data, &state).unwrap().snapshots.get(&PLAN), Some(&tip));
}

#[test]
fn a_migration_that_finds_no_room_leaves_the_original_and_goes_on_when_there_is_some() {
    let Some((disk, data, state, tip)) = prepared() else { return };
    snapshot(&data, &state, &PLAN, &tip, &mut |_| ()).unwrap();
    let names = ["height-of-transaction".parse().unwrap()];
    let run = || migrate(&data, &PLAN, &tip, SCHEMA_TRANSACTIONS, &names, &mut |_| ());
    let database = fs::metadata(data.join("live/data.mdb")).unwrap().len();
    // The second finds room for the copy, and none for what the migration adds to it.
    for room in [database / 2, database + 16 * 1024] {
        disk.leave(room);
        let full = run();
        assert!(matches!(full, Err(JobError::Full { .. })), "{room}: {full:?}");
        disk.grow();
        let seen = inspect(&data, &state).unwrap();
        assert_eq!((seen.tip, seen.schema, seen.migrated), (tip, SCHEMA_OWNERS, None), "{room}");
    }
    run().unwrap();
    let seen = inspect(&data, &state).unwrap();
    assert_eq!((seen.tip, seen.schema), (tip, SCHEMA_TRANSACTIONS));
}

#[test]
fn a_block_that_finds_no_room_is_not_appended_and_the_ledger_goes_on_when_there_is_some() {
    let Some((disk, data, _, tip)) = prepared() else { return };
    let ledger = Ledger::open(&data, SCHEMA_OWNERS).unwrap();
    let append = || {
        let parent = ledger.parent().unwrap();
        let block = build_block(&parent, &configuration(), Vec::new(), Time(u64::MAX));
        let block = check_block(block, &parent, &configuration(), &*ledger).unwrap();
        let node = "n1".parse().unwrap();
        let metadata = BlockMetadata::sign(&block.id(), node, MEASUREMENT, &key());
        ledger.append(&block, &metadata)
    };
    disk.leave(0);
    // Pages that became free before are used first.
    let mut last = tip;
    let full = loop {
        match append() {
            Ok(tip) => last = tip,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LedgerError::Full { .. }), "{full:?}");
    assert_eq!(ledger.tip().unwrap(), last, "nothing of it is there");
    disk.grow();
    let tip = append().unwrap();
    assert_eq!(tip.height.0, last.height.0 + 1);
    drop(ledger);
    assert_eq!(Ledger::open(&data, SCHEMA_OWNERS).unwrap().tip().unwrap(), tip);
}

/// A filesystem in memory shares no blocks, so this is the way byte by byte; and a copy that
/// failed is not taken for one that is there.
#[test]
fn where_blocks_cannot_be_shared_bytes_are_copied() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (from, to) = (disk.path().join("from"), disk.path().join("to"));
    fs::write(&from, vec![7; 3 << 20]).unwrap();
    let copied = copy(&from, &to, &mut |_| ()).unwrap();
    assert_eq!((copied.method, copied.bytes), (Method::Bytes, 3 << 20));
    assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
    let again = copy(&from, &to, &mut |_| ());
    assert!(matches!(again, Err(JobError::Io { .. })), "{again:?}");
}
