//! Tests over whole contracts, snapshots and topology, with shared vectors where this machine has
//! them.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod acs;
mod contracts;
mod goldens;
mod instance1;
mod properties;
mod strict;
mod topology;
mod verify;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::dar;
use crate::types::{BuiltinType, DataBody, DataType, Field, PackageId, Type, TypeName, TypeStore};

/// A file of the shared vectors; none and a sentence if this machine does not have it.
fn vector(name: &str) -> Option<Vec<u8>> {
    let Some(path) = heirloom_testkit::vectors::find(&format!("canton/{name}")) else {
        eprintln!("skipped: the shared vector {name} is not here");
        return None;
    };
    Some(read(&path))
}

#[expect(clippy::disallowed_methods, reason = "tests read vectors from files")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn json(name: &str) -> Option<serde_json::Value> {
    vector(name).map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

fn base64(value: &serde_json::Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

fn hex_bytes(value: &serde_json::Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}

/// The types of one package, under whatever package they are asked for: the hash that needs them
/// does not depend on the version of a package.
struct AnyVersion {
    dar: Option<dar::Dar>,
    signer: DataType,
}

impl AnyVersion {
    fn load() -> Self {
        let dar = vector("dars/splice-amulet-0.1.17.dar");
        let party = Type::Builtin { builtin: BuiltinType::Party, args: Vec::new() };
        let fields = vec![Field { name: "sigNetwork".to_owned(), ty: party }];
        let signer = DataType { params: Vec::new(), body: DataBody::Record(fields) };
        Self { dar: dar.map(|bytes| dar::read(&bytes).unwrap()), signer }
    }
}

impl TypeStore for AnyVersion {
    fn data_type(&self, package: &PackageId, name: &TypeName) -> Option<&DataType> {
        if name.to_string() == "Signer:Signer" {
            return Some(&self.signer);
        }
        let dar = self.dar.as_ref()?;
        let package = dar.package(package).unwrap_or_else(|| dar.main());
        package.data_type(name)
    }
}
