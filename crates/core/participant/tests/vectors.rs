//! Real contracts, moved to other parties: the bytes that another implementation of the same rules
//! computed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says if it is skipped"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use heirloom_canton::authenticate::authenticate;
use heirloom_canton::blob::FatContract;
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::dar;
use heirloom_canton::dar::types::Packages;
use heirloom_canton::types::{
    BuiltinType, DataBody, DataType, Field, PackageId, Type, TypeName, TypeStore,
};
use heirloom_participant::map::PartyMap;
use heirloom_participant::rewrite::{Reference, rewrite};

fn vectors() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    let vectors = root.parent().unwrap().join("shared/vectors/canton");
    if vectors.is_dir() {
        return Some(vectors);
    }
    println!("skipped: no vectors at {}", vectors.display());
    None
}

#[expect(clippy::disallowed_methods, reason = "tests read vectors from files")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// Packages of any version: ids of contracts depend on the names in a package, not on its own id.
struct AnyVersion {
    packages: Packages,
    signer: DataType,
}

impl TypeStore for AnyVersion {
    fn data_type(&self, package: &PackageId, name: &TypeName) -> Option<&DataType> {
        if name.to_string() == "Signer:Signer" {
            return Some(&self.signer);
        }
        let elsewhere = || self.packages.iter().find_map(|package| package.data_type(name));
        self.packages.data_type(package, name).or_else(elsewhere)
    }
}

/// The types of every package that is there.
fn types(vectors: &Path) -> AnyVersion {
    let mut packages = Packages::new();
    let dar = read(&vectors.join("dars/splice-amulet-0.1.17.dar"));
    packages.add(&dar::read(&dar).unwrap());
    let ty = Type::Builtin { builtin: BuiltinType::Party, args: Vec::new() };
    let field = Field { name: "sigNetwork".to_owned(), ty };
    let signer = DataType { params: Vec::new(), body: DataBody::Record(vec![field]) };
    AnyVersion { packages, signer }
}

fn blob(entry: &serde_json::Value, name: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(entry[name].as_str().unwrap()).unwrap()
}

#[test]
fn real_contracts_move_to_the_bytes_that_were_computed_before() {
    let Some(vectors) = vectors() else { return };
    let types = types(&vectors);
    let contracts = json(&vectors.join("contracts.json"));
    let sources: BTreeMap<&str, Vec<u8>> = contracts
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["contract_id"].as_str().unwrap(), blob(c, "created_event_blob_base64")))
        .collect();
    let rewrites = json(&vectors.join("rewrites_computed.json"));
    let mut moved = 0;
    for expected in rewrites["rewrites"].as_array().unwrap() {
        let name = expected["name"].as_str().unwrap();
        let pairs = expected["party_map"].as_object().unwrap();
        let pairs = pairs
            .iter()
            .map(|(old, new)| (old.parse().unwrap(), new.as_str().unwrap().parse().unwrap()));
        let map = PartyMap::from_moves(pairs).unwrap();
        let source = &sources[expected["old_contract_id"].as_str().unwrap()];
        let contract = FatContract::decode(source).unwrap();
        let authentic = authenticate(&contract, &types).unwrap();
        let outside = |_: &ContractId| Reference::Outside;
        let rewritten = rewrite(&authentic, &map, &outside, &types).unwrap();
        let id = rewritten.contract.contract_id.to_string();
        assert_eq!(id, expected["new_contract_id"].as_str().unwrap(), "{name}");
        let bytes = rewritten.contract.encode();
        assert_eq!(bytes, blob(expected, "new_created_event_blob_base64"), "{name}");
        let authentic = authenticate(&rewritten.contract, &types).unwrap();
        let back = rewrite(&authentic, &map.invert(), &outside, &types).unwrap();
        assert_eq!(back.contract.encode(), *source, "{name}");
        moved += 1;
    }
    assert_eq!(moved, sources.len());
}
