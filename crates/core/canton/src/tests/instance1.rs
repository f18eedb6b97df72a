//! Contracts of the second major version. There are no shared vectors of them: these tests pin the
//! form that its sources describe, on messages that are written here.

use crate::acs::Entry;
use crate::blob::BlobError;
use crate::contract_id::{ContractId, ContractIdVersion, OldContractIdVersion};
use crate::hash::{Purpose, canton_hash};
use crate::instance1::{OldAuthenticateError, OldContract};
use crate::proto::{Writer, versioned};
use crate::value::Value;

const PARTY: &str = "Alice::1220aa";

fn identifier(w: &mut Writer) {
    w.text(1, "00ff").text(2, "Main").text(3, "Iou");
}

/// A record with a party, an amount and an optional that is none.
fn argument(w: &mut Writer) {
    w.message(1, |w| {
        w.message(1, identifier);
        for (label, content) in [("owner", 0), ("amount", 1), ("memo", 2)] {
            w.message(2, |w| {
                w.text(1, label).message(2, |w| match content {
                    0 => _ = w.text(10, PARTY),
                    1 => _ = w.text(6, "1.5000000000"),
                    _ => _ = w.bytes(14, &[]),
                });
            });
        }
    });
}

fn contract_id(version: OldContractIdVersion) -> ContractId {
    let unicum = canton_hash(Purpose::Unicum, b"anything");
    ContractId::new(ContractIdVersion::Old(version), &[3; 32], &unicum)
}

fn serializable(id: &ContractId, name: Option<&str>) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.text(1, &id.to_string());
    writer.message(2, |w| {
        w.message(1, identifier).message(2, |w| {
            w.text(1, "14").message(2, argument);
        });
        w.text(3, "an agreement").text_if_set(4, name.unwrap_or_default());
    });
    writer.message(3, |w| _ = w.text(1, PARTY).text(2, "Bob::1220bb"));
    writer.message(4, |w| _ = w.varint(1, 1_700_000_000).varint(2, 123_456_000));
    writer.message(5, |w| _ = w.varint(1, 0).bytes(2, &[9; 32]));
    versioned(2, &writer.finish())
}

fn blob(id: &ContractId) -> Vec<u8> {
    let mut payload = Writer::default();
    payload.bytes(1, id.as_bytes()).message(2, identifier).message(3, argument);
    payload.text(5, PARTY).text(6, "Bob::1220bb").sfixed64(7, 1_700_000_000_123_456);
    let mut metadata = Writer::default();
    metadata.message(1, |w| _ = w.varint(1, 0).bytes(2, &[9; 32]));
    payload.bytes(8, &versioned(0, &metadata.finish()));
    let mut writer = Writer::default();
    writer.text(1, "14").bytes(2, &payload.finish());
    writer.finish()
}

#[test]
fn both_forms_are_the_same_contract() {
    let id = contract_id(OldContractIdVersion::V2);
    let contract = OldContract::decode_serializable(&serializable(&id, None)).unwrap();
    assert_eq!(OldContract::decode_blob(&blob(&id)).unwrap(), contract);
    let Value::Record(fields) = &contract.create_arg else { panic!("a record") };
    assert_eq!(fields.len(), 3, "this version keeps fields that are none");
    assert_eq!(contract.created_at.micros(), 1_700_000_000_123_456);
    let entry = {
        let mut writer = Writer::default();
        writer.varint(1, 5).text(2, "domain::1220cc").bytes(3, &serializable(&id, None));
        versioned(0, &writer.finish())
    };
    let Entry::Second(read) = Entry::decode(&entry).unwrap() else { panic!("of 2.x") };
    assert_eq!(read.contract, contract);
    assert_eq!((read.protocol_version, read.synchronizer.as_str()), (5, "domain::1220cc"));
}

/// An id that was made right is confirmed, and depends on exactly what its version covers.
#[test]
fn each_version_covers_what_it_says() {
    use OldContractIdVersion::{V1, V2, V3};
    for (version, covers_parties, covers_name) in
        [(V1, false, false), (V2, true, false), (V3, true, true)]
    {
        let bytes = serializable(&contract_id(version), Some("a-package"));
        let mut contract = OldContract::decode_serializable(&bytes).unwrap();
        contract.contract_id = contract.recompute().unwrap();
        assert_eq!(contract.recompute().unwrap(), contract.contract_id);
        let same = |change: &dyn Fn(&mut OldContract)| {
            let mut other = contract.clone();
            change(&mut other);
            other.recompute().unwrap() == contract.contract_id
        };
        assert!(!same(&|c| c.create_arg = Value::Unit));
        assert!(!same(&|c| c.salt = Some(crate::unicum::Salt::from_bytes([1; 32]))));
        assert!(!same(&|c| c.template.name.entity = "Other".parse().unwrap()));
        assert_eq!(!same(&|c| _ = c.signatories.insert("C".parse().unwrap())), covers_parties);
        assert_eq!(!same(&|c| c.package_name = None), covers_name);
    }
}

#[test]
fn ids_that_say_nothing_are_not_confirmed() {
    let id = contract_id(OldContractIdVersion::NonAuthenticated);
    let contract = OldContract::decode_blob(&blob(&id)).unwrap();
    assert_eq!(contract.recompute(), Err(OldAuthenticateError::NotAuthenticated { id }));
    let mut contract = OldContract::decode_blob(&blob(&contract_id(OldContractIdVersion::V1)));
    let contract = contract.as_mut().unwrap();
    contract.salt = None;
    assert!(matches!(contract.recompute(), Err(OldAuthenticateError::NoSalt { .. })));
    contract.contract_id =
        ContractId::new(ContractIdVersion::V12, &[0; 32], &canton_hash(Purpose::Unicum, b""));
    assert!(matches!(contract.recompute(), Err(OldAuthenticateError::OtherVersion { .. })));
}

#[test]
fn what_is_not_understood_is_refused() {
    let id = contract_id(OldContractIdVersion::V2);
    let with_field = [serializable(&id, None), vec![0x1a, 0x00]].concat();
    assert!(OldContract::decode_serializable(&with_field).is_err());
    let mut version = blob(&id);
    version[3] = b'6';
    let error = OldContract::decode_blob(&version).unwrap_err();
    assert_eq!(error, BlobError::Version { found: "16".to_owned() });
}
