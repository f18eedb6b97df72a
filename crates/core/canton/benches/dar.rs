//! How long the largest file of packages at hand is read, and the floor: unpacking its entries and
//! hashing its packages, which every reader has to do.

#![expect(clippy::print_stderr, reason = "a skipped benchmark says so")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Decompress, FlushDecompress};
use heirloom_canton::dar;
use heirloom_canton::hash::sha256;

fn vector() -> Option<Vec<u8>> {
    let path = heirloom_testkit::vectors::find("canton/dars/splice-amulet-0.1.17.dar")?;
    #[expect(clippy::disallowed_methods, reason = "benchmarks read vectors from files")]
    std::fs::read(path).ok()
}

/// Unpacks and hashes one entry after the other, believing every length.
fn floor(file: &[u8]) -> u64 {
    let number = |at: usize, bytes: usize| {
        let bytes = file.get(at..at + bytes).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (mut at, mut unpacked_bytes) = (0, 0);
    while number(at, 4) == 0x0403_4b50 {
        let (packed, unpacked) = (number(at + 18, 4), number(at + 22, 4));
        let content = at + 30 + number(at + 26, 2) + number(at + 28, 2);
        let mut out = vec![0; unpacked];
        let packed_bytes = file.get(content..content + packed).unwrap_or_default();
        let mut state = Decompress::new(false);
        state
            .decompress(packed_bytes, &mut out, FlushDecompress::Finish)
            .expect("the reader took the file");
        black_box(sha256(&out));
        unpacked_bytes += state.total_out();
        at = content + packed;
    }
    unpacked_bytes
}

fn read(c: &mut Criterion) {
    let Some(file) = vector() else {
        eprintln!("skipped: the vectors are not on this machine");
        return;
    };
    let mut group = c.benchmark_group("dar");
    group.throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("read splice-amulet", |b| {
        b.iter(|| dar::read(black_box(&file)).expect("it is good"));
    });
    group.bench_function("floor: unpack and hash", |b| b.iter(|| floor(black_box(&file))));
    group.finish();
}

criterion_group!(benches, read);
criterion_main!(benches);
