//! Real contracts whose ids need the types of a package.

use base64::Engine as _;
use heirloom_canton::authenticate::{AuthenticateError, authenticate};
use heirloom_canton::blob::FatContract;
use heirloom_canton::contract_hash::typed::{HashError, typed_normal_form};
use heirloom_canton::dar::{self, Dar};
use heirloom_canton::types::{DataType, NoTypes, PackageId, TypeName, TypeStore};

use crate::vector;

/// The contracts were created by another version of the package than the one that is here. Hashes
/// do not depend on that: names of types have no package.
struct OtherVersion<'a> {
    dar: &'a Dar,
    created_by: PackageId,
}

impl TypeStore for OtherVersion<'_> {
    fn data_type(&self, package: &PackageId, name: &TypeName) -> Option<&DataType> {
        let package = if *package == self.created_by { self.dar.main().id() } else { package };
        self.dar.data_type(package, name)
    }
}

fn contracts() -> Option<Vec<(serde_json::Value, FatContract)>> {
    let json: Vec<serde_json::Value> = serde_json::from_slice(&vector("contracts.json")?).unwrap();
    let decoded = json.into_iter().map(|case| {
        let blob = case["created_event_blob_base64"].as_str().unwrap();
        let blob = base64::engine::general_purpose::STANDARD.decode(blob).unwrap();
        (case, FatContract::decode(&blob).unwrap())
    });
    Some(decoded.collect())
}

#[test]
fn contracts_of_splice_are_authentic_over_the_types_of_their_packages() {
    let (Some(bytes), Some(contracts)) = (vector("dars/splice-amulet-0.1.17.dar"), contracts())
    else {
        return;
    };
    let dar = dar::read(&bytes).unwrap();
    let mut authentic = 0;
    for (case, contract) in contracts {
        if contract.package_name.as_str() != "splice-amulet" {
            continue;
        }
        let created_by = contract.template.package.clone();
        let store = OtherVersion { dar: &dar, created_by };
        let (name, template) = (&contract.package_name, &contract.template);
        let hash = typed_normal_form(&store, name, template, &contract.create_arg).unwrap();
        assert_eq!(hash.to_string(), case["contract_hash_hex"].as_str().unwrap());
        authenticate(&contract, &store).unwrap();
        authentic += 1;
    }
    assert_eq!(authentic, 3);
}

#[test]
fn without_its_types_a_contract_of_splice_is_unknown_and_not_refused() {
    let Some(contracts) = contracts() else { return };
    let (_, contract) = contracts
        .iter()
        .find(|(_, contract)| contract.package_name.as_str() == "splice-amulet")
        .unwrap();
    let error = authenticate(contract, &NoTypes).unwrap_err();
    let id = contract.template.clone();
    assert_eq!(error, AuthenticateError::Hash(HashError::UnknownType { id }));
}
