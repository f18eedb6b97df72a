//! What durability costs beyond the flushes that nobody can avoid.
//!
//! The floors are the same flushes without anything else: for a record, one write and one flush of
//! the data; for a file that is replaced, a flush of the file and one of its directory.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use heirloom_store::atomic;
use heirloom_store::journal_file::JournalFile;

/// A usual record of a journal, and a usual sealed file.
const RECORD: [u8; 200] = [7; 200];
const SEALED: [u8; 500] = [9; 500];

fn journal(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("temporary directories can be made");
    let mut group = criterion.benchmark_group("journal");
    group.sample_size(50);
    let path = directory.path().join("journal");
    let mut journal = JournalFile::create(&path).expect("there is none yet");
    group.bench_function("append", |bencher| {
        bencher.iter(|| journal.append(&RECORD).expect("the disk has room"));
    });
    let mut bare = File::create(directory.path().join("bare")).expect("the directory is ours");
    group.bench_function("floor: write and flush", |bencher| {
        bencher.iter(|| {
            bare.write_all(&RECORD).expect("the disk has room");
            bare.sync_data().expect("the disk can be flushed");
        });
    });
    group.finish();
}

fn replacement(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("temporary directories can be made");
    let mut group = criterion.benchmark_group("file");
    group.sample_size(50);
    let path = directory.path().join("state");
    group.bench_function("replace", |bencher| {
        bencher.iter(|| atomic::write(&path, &SEALED).expect("the disk has room"));
    });
    group.bench_function("floor: write, flush, rename, flush", |bencher| {
        bencher.iter(|| write_bare(directory.path()).expect("the disk has room"));
    });
    group.finish();
}

fn write_bare(directory: &Path) -> std::io::Result<()> {
    let temporary = directory.join("bare.new");
    let mut file = File::create(&temporary)?;
    file.write_all(&SEALED)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join("bare"))?;
    File::open(directory)?.sync_all()
}

criterion_group!(benches, journal, replacement);
criterion_main!(benches);
