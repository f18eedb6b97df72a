//! Real contracts: read, written, named again, rewritten.

use std::collections::BTreeMap;

use crate::authenticate::{AuthenticateError, authenticate, recompute, recompute_as};
use crate::blob::{BlobError, CreatedAt, FatContract};
use crate::contract_hash::plain::{legacy, upgrade_friendly};
use crate::contract_hash::typed::{HashError, typed_normal_form, write_typed};
use crate::contract_id::{ContractId, ContractIdVersion};
use crate::hash::Preimage;
use crate::name::Party;
use crate::tests::{AnyVersion, base64, hex_bytes, json, text};
use crate::types::{NoTypes, Type};
use crate::unicum::{Salt, unicum_preimage};
use crate::value::Value;
use crate::value::walk::{Leaf, Mapping};

/// A contract of the vectors with what is said about it.
pub(super) struct Vector {
    pub(super) about: serde_json::Value,
    pub(super) blob: Vec<u8>,
    pub(super) contract: FatContract,
}

pub(super) fn vectors() -> Vec<Vector> {
    let Some(all) = json("contracts.json") else { return Vec::new() };
    let read = |about: &serde_json::Value| {
        let blob = base64(&about["created_event_blob_base64"]);
        let contract = FatContract::decode(&blob).unwrap();
        Vector { about: about.clone(), blob, contract }
    };
    all.as_array().unwrap().iter().map(read).collect()
}

#[test]
fn real_contracts_are_read_and_written_with_the_same_bytes() {
    for Vector { about, blob, contract } in vectors() {
        let parties = |list: &serde_json::Value| {
            let list = list.as_array().unwrap();
            list.iter().map(|p| text(p).parse::<Party>().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(contract.encode(), blob);
        assert_eq!(contract.version.as_str(), text(&about["serialization_version"]));
        assert_eq!(contract.contract_id.to_string(), text(&about["contract_id"]));
        assert_eq!(contract.package_name.as_str(), text(&about["package_name"]));
        assert_eq!(contract.template.to_string(), text(&about["template"]));
        assert_eq!(Some(contract.created_at.micros()), about["created_at_micros"].as_i64());
        assert_eq!(contract.salt.as_bytes().to_vec(), hex_bytes(&about["salt_hex"]));
        assert!(contract.signatories.iter().eq(&parties(&about["signatories"])));
        assert!(contract.observers.iter().eq(&parties(&about["observers"])));
    }
}

#[test]
fn every_intermediate_value_of_real_ids_is_reproduced() {
    let types = AnyVersion::load();
    for Vector { about, contract, .. } in vectors() {
        let FatContract { package_name: name, template, create_arg: argument, .. } = &contract;
        let hash = match contract.contract_id.version().unwrap() {
            ContractIdVersion::V10 => legacy(name, template, argument),
            ContractIdVersion::V11 => upgrade_friendly(name, template, argument),
            ContractIdVersion::V12 => {
                let mut preimage = Preimage::default();
                let of_type = Type::Con { id: template.clone(), args: Vec::new() };
                write_typed(&types, &of_type, argument, &mut preimage).unwrap();
                assert_eq!(preimage.as_bytes(), hex_bytes(&about["typed_value_preimage_hex"]));
                typed_normal_form(&types, name, template, argument).unwrap()
            }
            ContractIdVersion::Old(_) => unreachable!("no vector is old"),
        };
        assert_eq!(hash.as_bytes().to_vec(), hex_bytes(&about["contract_hash_hex"]));
        let preimage = unicum_preimage(&contract, None);
        let with_purpose = [&29_u32.to_be_bytes(), preimage.as_bytes()].concat();
        let expected = hex_bytes(&about["unicum_preimage_without_contract_hash_hex"]);
        assert_eq!(with_purpose, expected);
        assert_eq!(recompute(&contract, &types).unwrap(), contract.contract_id);
        authenticate(&contract, &types).unwrap();
    }
}

#[test]
fn a_contract_with_one_other_field_is_not_authentic() {
    type Change = fn(&mut FatContract);
    let changes: [(&str, Change); 7] = [
        ("salt", |c| {
            let mut salt = *c.salt.as_bytes();
            salt[31] ^= 1;
            c.salt = Salt::from_bytes(salt);
        }),
        ("created_at", |c| {
            c.created_at = CreatedAt::from_micros(c.created_at.micros() + 1).unwrap();
        }),
        ("signatories", |c| _ = c.signatories.insert("M::1220ff".parse().unwrap())),
        ("observers", |c| _ = c.observers.insert("M::1220ff".parse().unwrap())),
        ("package name", |c| c.package_name = "other".parse().unwrap()),
        ("template", |c| c.template.name.entity = "Other".parse().unwrap()),
        ("unicum", |c| {
            let mut bytes = c.contract_id.as_bytes().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            c.contract_id = ContractId::from_bytes(&bytes).unwrap();
        }),
    ];
    let types = AnyVersion::load();
    for vector in vectors() {
        for (what, change) in changes {
            let mut contract = vector.contract.clone();
            change(&mut contract);
            let error = authenticate(&contract, &types).unwrap_err();
            let by_types = matches!(error, AuthenticateError::Hash(_)) && what == "template";
            let differs = matches!(error, AuthenticateError::Differs { .. });
            assert!(differs || by_types, "{what}: {error}");
        }
        // Each party, number and text of the argument is covered, one at a time.
        let mut leaves = 0;
        vector.contract.create_arg.visit(&mut |_, leaf| {
            leaves += usize::from(!matches!(leaf, Leaf::TextMapKey(_)));
        });
        for index in 0..leaves {
            let mut contract = vector.contract.clone();
            change_leaf(&mut contract.create_arg, &mut { index });
            assert_ne!(contract, vector.contract);
            let error = authenticate(&contract, &types).unwrap_err();
            assert!(matches!(error, AuthenticateError::Differs { .. }), "{error}");
        }
    }
}

/// Changes the leaf with this index, counted as a visitor sees them.
fn change_leaf(value: &mut Value, left: &mut usize) -> bool {
    let mut hit = || {
        let is_it = *left == 0;
        *left = left.wrapping_sub(1);
        is_it
    };
    match value {
        Value::Party(party) if hit() => {
            *party = "M::1220ff".parse().unwrap();
            true
        }
        Value::Text(text) if hit() => {
            text.push('x');
            true
        }
        Value::ContractId(id) if hit() => {
            let mut bytes = id.as_bytes().to_vec();
            bytes[1] ^= 1;
            *id = ContractId::from_bytes(&bytes).unwrap();
            true
        }
        Value::Optional(Some(inner)) => change_leaf(inner, left),
        Value::Variant { value, .. } => change_leaf(value, left),
        Value::List(values) | Value::Record(values) => {
            values.iter_mut().any(|value| change_leaf(value, left))
        }
        Value::TextMap(entries) => entries.iter_mut().any(|(_, v)| change_leaf(v, left)),
        Value::GenMap(entries) => {
            entries.iter_mut().any(|(k, v)| change_leaf(k, left) || change_leaf(v, left))
        }
        _ => false,
    }
}

#[test]
fn a_package_id_is_only_in_the_older_hashes() {
    let types = AnyVersion::load();
    for Vector { mut contract, .. } in vectors() {
        contract.template.package = "00ff".parse().unwrap();
        let is_same = recompute(&contract, &types).unwrap() == contract.contract_id;
        assert_eq!(is_same, contract.contract_id.version() == Some(ContractIdVersion::V12));
    }
}

#[test]
fn types_that_are_missing_are_said_to_be_missing() {
    for Vector { contract, .. } in vectors() {
        let newest = contract.contract_id.version() == Some(ContractIdVersion::V12);
        match authenticate(&contract, &NoTypes) {
            Ok(_) => assert!(!newest),
            Err(error) => {
                let id = contract.template.clone();
                assert_eq!(error, AuthenticateError::Hash(HashError::UnknownType { id }));
            }
        }
        assert!(recompute_as(&contract, ContractIdVersion::V11, &NoTypes).is_ok());
    }
}

/// Parties by a table, contract ids not at all.
pub(super) struct Table(pub(super) BTreeMap<Party, Party>);

impl Mapping for Table {
    fn party(&self, party: &Party) -> Option<Party> {
        self.0.get(party).cloned()
    }

    fn contract_id(&self, _: &ContractId) -> Option<ContractId> {
        None
    }
}

/// The contract with other parties and its new id.
pub(super) fn rewritten(contract: &FatContract, table: &Table, types: &AnyVersion) -> FatContract {
    let map = |party: &Party| table.party(party).unwrap_or_else(|| party.clone());
    let mut new = contract.clone();
    new.create_arg = contract.create_arg.rewritten(table).unwrap();
    new.signatories = contract.signatories.iter().map(map).collect();
    new.observers = contract.observers.iter().map(map).collect();
    new.contract_id = recompute(&new, types).unwrap();
    new
}

#[test]
fn rewrites_have_the_computed_ids_and_bytes_and_can_be_undone() {
    let Some(all) = json("rewrites_computed.json") else { return };
    let (types, contracts) = (AnyVersion::load(), vectors());
    for (about, vector) in all["rewrites"].as_array().unwrap().iter().zip(&contracts) {
        assert_eq!(about["name"], vector.about["name"]);
        let pairs = about["party_map"].as_object().unwrap();
        let pairs = pairs.iter().map(|(k, v)| (k.parse().unwrap(), text(v).parse().unwrap()));
        let table = Table(pairs.collect());
        let new = rewritten(&vector.contract, &table, &types);
        assert_eq!(new.contract_id.to_string(), text(&about["new_contract_id"]));
        assert_eq!(new.encode(), base64(&about["new_created_event_blob_base64"]));
        let inverse = Table(table.0.iter().map(|(k, v)| (v.clone(), k.clone())).collect());
        assert_eq!(rewritten(&new, &inverse, &types).encode(), vector.blob);
    }
}

#[test]
fn no_byte_of_a_real_contract_can_be_cut_or_added() {
    for Vector { blob, .. } in vectors() {
        for length in 0..blob.len() {
            assert!(FatContract::decode(&blob[..length]).is_err(), "{length}");
        }
        for extra in [&[0x00][..], &[0x18, 0x01], &[0x1a, 0x00]] {
            let longer = [&blob, extra].concat();
            assert!(FatContract::decode(&longer).is_err());
        }
    }
}

/// What is read is what was written: a changed byte is refused, or changes the contract.
#[test]
fn no_two_byte_strings_are_one_contract() {
    let types = AnyVersion::load();
    for Vector { blob, contract, .. } in vectors() {
        for index in 0..blob.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut changed = blob.clone();
                changed[index] ^= mask;
                if let Ok(other) = FatContract::decode(&changed) {
                    assert_eq!(other.encode(), changed);
                    assert_ne!(other, contract);
                }
            }
        }
        // Only the ids themselves, and what no hash covers, leave a contract authentic.
        let mut changed = contract.clone();
        changed.contract_id = ContractId::new(
            contract.contract_id.version().unwrap(),
            &[7; 32],
            &crate::hash::Multihash::from_bytes(&contract.contract_id.suffix()[2..]).unwrap(),
        );
        assert!(authenticate(&changed, &types).is_ok(), "the ledger checks discriminators itself");
    }
}

#[test]
fn unknown_versions_and_fields_are_refused_by_name() {
    let Some(Vector { blob, contract, .. }) = vectors().into_iter().next() else { return };
    let mut other = blob.clone();
    assert_eq!(&other[2..5], b"2.1");
    other[4] = b'3';
    let error = FatContract::decode(&other).unwrap_err();
    assert_eq!(error, BlobError::Version { found: "2.3".to_owned() });
    let mut unsigned = contract;
    unsigned.signatories.clear();
    assert_eq!(FatContract::decode(&unsigned.encode()).unwrap_err(), BlobError::NoSignatory);
}
