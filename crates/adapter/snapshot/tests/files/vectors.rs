//! Real contracts in the framing of an export.

use heirloom_canton::dar;
use heirloom_canton::dar::types::Packages;
use heirloom_canton::types::{BuiltinType, DataBody, DataType, Field, PackageId, Type, TypeName};

use super::*;

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

#[test]
fn the_real_contracts_of_a_file_become_those_that_were_computed_before() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).unwrap();
    let vectors = root.parent().unwrap().join("shared/vectors/canton");
    if !vectors.is_dir() {
        println!("skipped: no vectors at {}", vectors.display());
        return;
    }
    let mut packages = Packages::new();
    let dar = fs::read(vectors.join("dars/splice-amulet-0.1.17.dar")).unwrap();
    packages.add(&dar::read(&dar).unwrap());
    let ty = Type::Builtin { builtin: BuiltinType::Party, args: Vec::new() };
    let field = Field { name: "sigNetwork".to_owned(), ty };
    let signer = DataType { params: Vec::new(), body: DataBody::Record(vec![field]) };
    let types = AnyVersion { packages, signer };

    let json = fs::read(vectors.join("rewrites_computed.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let rewrites = json["rewrites"].as_array().unwrap();
    let mut pairs = BTreeMap::new();
    for rewrite in rewrites {
        for (old, new) in rewrite["party_map"].as_object().unwrap() {
            pairs.insert(old.parse().unwrap(), new.as_str().unwrap().parse().unwrap());
        }
    }
    let change = Change::new(PartyMap::from_moves(pairs).unwrap(), BTreeMap::new()).unwrap();
    let files = Files::new(&fs::read(vectors.join("acs/constructed-3x-acs.gz")).unwrap());
    let (verified, outcome, _) = whole(&files, &types, &change, 2).unwrap();
    assert_eq!(verified.contents().contracts, 7);
    assert_eq!(outcome.report.contracts, 7);
    let map = fs::read_to_string(files.outputs().contract_map).unwrap();
    for rewrite in rewrites {
        let id = |name: &str| rewrite[name].as_str().unwrap().to_owned();
        let line = format!("{} {}\n", id("old_contract_id"), id("new_contract_id"));
        assert!(map.contains(&line), "{line}");
    }
}
