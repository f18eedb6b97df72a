//! Runs the bodies of the fuzz targets over vectors, over mutations of them, and over any bytes.
//!
//! Every run makes the same mutations: a failure names its vector and its round.

#![expect(clippy::print_stderr, reason = "a skipped corpus says so")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use it as a library")]
mod targets;

use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use flate2::read::GzDecoder;
use heirloom_canton::dar::build::{self, DarBuilder};
use heirloom_canton::types::BuiltinType;
use proptest::prelude::*;

type Target = fn(&[u8]);

/// Mutations of each vector. They run in the development profile on every change; nights are for
/// cargo-fuzz.
const ROUNDS: u32 = 10_000;
/// Vectors larger than this are mutated less often.
const LARGE_BYTES: usize = 64 * 1024;
const ROUNDS_LARGE: u32 = 200;

fn vector(relative: &str) -> Option<Vec<u8>> {
    let Some(path) = heirloom_testkit::vectors::find(&format!("canton/{relative}")) else {
        eprintln!("skipped: the vector canton/{relative} is not on this machine");
        return None;
    };
    #[expect(clippy::disallowed_methods, reason = "tests read vectors from files")]
    Some(std::fs::read(path).unwrap())
}

fn json(relative: &str) -> serde_json::Value {
    vector(relative)
        .map_or(serde_json::Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
}

/// A generator with a seed (xorshift64): the same mutations on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// One to four changes of kinds that break parsers: bits, lengths, cuts, repetitions.
    fn mutated(&mut self, original: &[u8]) -> Vec<u8> {
        let mut bytes = original.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(7) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.byte(),
                2 if !bytes.is_empty() => {
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)];
                }
                3 => bytes.truncate(at),
                4 => bytes.insert(at, self.byte()),
                5 => {
                    let end = (at + 1 + self.below(16)).min(bytes.len());
                    let copy = bytes.get(at..end).unwrap_or_default().to_vec();
                    bytes.splice(at..at, copy);
                }
                _ => {
                    let end = (at + 1 + self.below(16)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
        }
        bytes
    }
}

fn run(name: &str, target: Target, corpus: &[Vec<u8>]) {
    for (index, vector) in corpus.iter().enumerate() {
        target(vector);
        let rounds = if vector.len() > LARGE_BYTES { ROUNDS_LARGE } else { ROUNDS };
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ index as u64);
        for round in 0..rounds {
            let mutated = random.mutated(vector);
            let outcome = catch_unwind(AssertUnwindSafe(|| target(&mutated)));
            assert!(outcome.is_ok(), "{name}: vector {index}, round {round}");
        }
    }
}

fn built() -> build::BuiltDar {
    let fields = vec![
        build::field("issuer", build::plain(BuiltinType::Party)),
        build::field("shape", build::own("Main:Shape".parse().unwrap())),
        build::field("more", build::optional(build::list(build::numeric(10)))),
    ];
    DarBuilder::new("fuzzed".parse().unwrap(), "1.0.0".parse().unwrap())
        .variant(
            "Main:Shape".parse().unwrap(),
            vec![build::field("Circle", build::plain(BuiltinType::Int64))],
        )
        .template("Main:T".parse().unwrap(), fields, &["issuer"], &[])
        .build()
        .unwrap()
}

fn dars() -> Vec<Vec<u8>> {
    let names = ["dummy-1.15", "illformed", "test-1.15", "test-2.1", "test-2.2"];
    let real = names.iter().filter_map(|name| vector(&format!("dars/{name}.dar")));
    let large = vector("dars/splice-api-token-metadata-v1-1.0.0.dar");
    real.chain(large).chain([built().bytes]).collect()
}

/// Packages without their archives, after a byte that chooses the version.
fn packages() -> Vec<Vec<u8>> {
    let built = built().archive;
    // Archive: tag and length of the payload; payload: the minor version, tag and length of the
    // package. All lengths of a small package have two bytes.
    let package = &built[3 + 3 + 3..built.len() - 66];
    targets_of(package, &[0, 1, 2, 3, 4, 5, 6, 7])
}

fn targets_of(package: &[u8], versions: &[u8]) -> Vec<Vec<u8>> {
    versions.iter().map(|version| [&[*version], package].concat()).collect()
}

fn blobs() -> Vec<Vec<u8>> {
    let json = json("contracts.json");
    let blobs = json.as_array().into_iter().flatten().map(|case| {
        let text = case["created_event_blob_base64"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    });
    blobs.collect()
}

fn snapshots() -> Vec<Vec<u8>> {
    let unpacked = vector("acs/constructed-3x-acs.gz").map(|packed| {
        let mut bytes = Vec::new();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        bytes
    });
    unpacked.into_iter().collect()
}

fn transactions() -> Vec<Vec<u8>> {
    let json = json("topology_transactions.json");
    let transactions = json["transactions"].as_array().into_iter().flatten();
    let signed = transactions.map(|case| {
        hex::decode(case["signed_topology_transaction_versioned_hex"].as_str().unwrap()).unwrap()
    });
    signed.collect()
}

#[test]
fn mutated_files_of_packages_do_not_break_the_reader() {
    run("dar", targets::dar, &dars());
}

#[test]
fn mutated_packages_do_not_break_the_reader() {
    let corpus = packages();
    // The body without its archive is a package: otherwise only noise would be mutated.
    let first = corpus.first().unwrap().get(1..).unwrap();
    heirloom_canton::dar::read_package(&targets::archive(2, "1", first)).unwrap();
    run("dalf", targets::dalf, &corpus);
}

#[test]
fn mutated_contracts_do_not_break_the_reader() {
    run("blob", targets::blob, &blobs());
}

#[test]
fn mutated_snapshots_do_not_break_the_reader() {
    run("acs", targets::acs, &snapshots());
}

#[test]
fn mutated_topology_does_not_break_the_reader() {
    run("topology", targets::topology, &transactions());
}

proptest! {
    #[test]
    fn no_bytes_break_any_reader(data in proptest::collection::vec(any::<u8>(), 0..2_048)) {
        for target in [targets::dar, targets::dalf, targets::acs, targets::blob, targets::topology] {
            target(&data);
        }
    }
}
