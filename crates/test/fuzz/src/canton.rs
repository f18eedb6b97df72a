//! Files and messages of Canton. What targets do stands with the crate that they are about; its
//! tests mutate these starts, so that here they are only for libFuzzer.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::vectors;

#[path = "../../../core/canton/fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets of the crate use it as a library")]
mod targets;

/// A file of packages.
pub fn dar(data: &[u8]) -> bool {
    targets::dar(data);
    true
}

/// A package by itself.
pub fn dalf(data: &[u8]) -> bool {
    targets::dalf(data);
    true
}

/// A snapshot of contracts, unpacked.
pub fn acs(data: &[u8]) -> bool {
    targets::acs(data);
    true
}

/// A contract or a value.
pub fn blob(data: &[u8]) -> bool {
    targets::blob(data);
    true
}

/// Signed transactions of topology.
pub fn topology(data: &[u8]) -> bool {
    targets::topology(data);
    true
}

/// Files of packages.
pub fn dars() -> Vec<Vec<u8>> {
    let names = ["dummy-1.15", "illformed", "test-1.15", "test-2.1", "test-2.2"];
    names.iter().filter_map(|name| vectors::bytes(&format!("canton/dars/{name}.dar"))).collect()
}

/// Snapshots of contracts.
pub fn snapshots() -> Vec<Vec<u8>> {
    let packed = vectors::bytes("canton/acs/constructed-3x-acs.gz");
    let unpacked = packed.map(|packed| {
        let mut bytes = Vec::new();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
        bytes
    });
    unpacked.into_iter().collect()
}

/// Contracts.
pub fn blobs() -> Vec<Vec<u8>> {
    let json = vectors::json("canton/contracts.json").unwrap_or_default();
    let cases = json.as_array().into_iter().flatten();
    let text = |case: &Value| case["created_event_blob_base64"].as_str().unwrap().to_owned();
    cases.map(|case| STANDARD.decode(text(case)).unwrap()).collect()
}

/// Transactions of topology.
pub fn transactions() -> Vec<Vec<u8>> {
    let json = vectors::json("canton/topology_transactions.json").unwrap_or_default();
    let cases = json["transactions"].as_array().into_iter().flatten();
    let text = |case: &Value| {
        case["signed_topology_transaction_versioned_hex"].as_str().unwrap().to_owned()
    };
    cases.map(|case| hex::decode(text(case)).unwrap()).collect()
}
