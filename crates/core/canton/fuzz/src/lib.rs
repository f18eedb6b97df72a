//! What each fuzz target does with its bytes. The crate's own tests run the same functions over
//! mutated vectors, so this file needs nothing but the crate.
//!
//! A target panics when something that was read does not keep a promise: what is written again is
//! read as the same, and what a reader hands out is complete.

use heirloom_canton::acs::{Entry, FrameReader, write_frame};
use heirloom_canton::blob::FatContract;
use heirloom_canton::dar::{self, Dar, Package};
use heirloom_canton::hash::sha256;
use heirloom_canton::instance1::OldContract;
use heirloom_canton::proto::Writer;
use heirloom_canton::topology::{SignedTransaction, snapshot};
use heirloom_canton::types::TypeStore as _;
use heirloom_canton::value::Value;
use heirloom_canton::value1;

/// A file of packages.
pub fn dar(data: &[u8]) {
    if let Ok(dar) = dar::read(data) {
        check_dar(&dar);
    }
}

/// A package by itself. Mutated bytes would never have their hash, so it is computed; the first
/// byte chooses the version of Daml-LF.
pub fn dalf(data: &[u8]) {
    if let Ok(package) = dar::read_package(data) {
        check_package(&package);
    }
    let Some((version, package)) = data.split_first() else { return };
    let versions =
        [(2, "1"), (2, "2"), (2, "3"), (1, "6"), (1, "7"), (1, "8"), (1, "11"), (1, "17")];
    let (major, minor) = versions[usize::from(*version) % versions.len()];
    if let Ok(package) = dar::read_package(&archive(major, minor, package)) {
        check_package(&package);
    }
}

/// A snapshot of contracts, unpacked.
pub fn acs(data: &[u8]) {
    let mut written = Vec::new();
    for frame in FrameReader::new(data) {
        let Ok(frame) = frame else { return };
        write_frame(&mut written, &frame);
        if let Ok(Entry::Current(entry)) = Entry::decode(&frame) {
            assert_eq!(entry.encode(), frame, "an entry keeps its bytes");
            if let Ok(contract) = entry.contract() {
                check_contract(&contract);
            }
        }
    }
    // Lengths can be written in more bytes than they need, so that only reading again is the same.
    let again: Vec<_> = FrameReader::new(written.as_slice()).map(Result::unwrap).collect();
    let first: Vec<_> = FrameReader::new(data).map(Result::unwrap).collect();
    assert_eq!(again, first, "frames are read as they were written");
}

/// A contract as clients hand it around, and in its older forms; and a bare value.
pub fn blob(data: &[u8]) {
    if let Ok(contract) = FatContract::decode(data) {
        check_contract(&contract);
    }
    if let Ok(contract) = OldContract::decode_blob(data) {
        drop(contract.recompute());
    }
    if let Ok(contract) = OldContract::decode_serializable(data) {
        drop(contract.recompute());
    }
    if let Ok(value) = Value::decode(data) {
        assert_eq!(Value::decode(&value.encode()).as_ref(), Ok(&value), "values are kept");
    }
    drop(value1::decode_versioned(data));
}

/// A signed transaction of topology, and snapshots of many.
pub fn topology(data: &[u8]) {
    if let Ok(signed) = SignedTransaction::decode(data) {
        let again = SignedTransaction::decode(&signed.encode());
        assert_eq!(again.as_ref().ok(), Some(&signed), "transactions are kept");
    }
    drop(snapshot::read_list(data));
    drop(snapshot::read_stream(data));
}

/// Wraps a package in an archive that has its hash.
pub fn archive(major: u8, minor: &str, package: &[u8]) -> Vec<u8> {
    let mut payload = Writer::default();
    payload.text(3, minor).bytes(if major == 1 { 2 } else { 4 }, package);
    let payload = payload.finish();
    let mut archive = Writer::default();
    archive.bytes(3, &payload).text(4, &hex::encode(sha256(&payload)));
    archive.finish()
}

fn check_dar(dar: &Dar) {
    assert!(dar.package(dar.main().id()).is_some(), "the main package is one of the packages");
    assert!(dar.packages().is_sorted_by(|a, b| a.id() < b.id()), "packages are ordered");
    dar.packages().iter().for_each(|package| check_package(package));
    for template in dar.main().templates() {
        assert!(dar.data_type(dar.main().id(), template).is_some(), "templates are types");
    }
}

fn check_package(package: &Package) {
    for template in package.templates() {
        assert!(package.data_type(template).is_some(), "templates are types");
    }
}

fn check_contract(contract: &FatContract) {
    let again = FatContract::decode(&contract.encode());
    assert_eq!(again.as_ref(), Ok(contract), "contracts are kept");
}
