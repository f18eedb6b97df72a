//! Properties over generated values and arbitrary bytes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use crate::acs::{Entry, FrameReader};
use crate::blob::{CreatedAt, FatContract, KeyWithMaintainers, SerializationVersion};
use crate::contract_id::{ContractId, ContractIdVersion};
use crate::hash::{Purpose, canton_hash};
use crate::instance1::OldContract;
use crate::key::{PublicKey, Signature};
use crate::key_hash::KeyHash;
use crate::name::Party;
use crate::tests::contracts::{Table, vectors};
use crate::topology::SignedTransaction;
use crate::topology::snapshot::{read_list, read_stream};
use crate::unicum::Salt;
use crate::value::numeric::Numeric;
use crate::value::walk::{Mapping, find_party};
use crate::value::{DATE_DAYS, TIMESTAMP_MICROS, Value};

fn party() -> impl Strategy<Value = Party> {
    "[A-Za-z0-9_-]{1,8}::1220[0-9a-f]{4}".prop_map(|text| text.parse().unwrap())
}

fn contract_id() -> impl Strategy<Value = ContractId> {
    any::<([u8; 32], u8)>().prop_map(|(discriminator, seed)| {
        let unicum = canton_hash(Purpose::Unicum, &[seed]);
        ContractId::new(ContractIdVersion::V12, &discriminator, &unicum)
    })
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Unit),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int64),
        DATE_DAYS.prop_map(Value::Date),
        TIMESTAMP_MICROS.prop_map(Value::Timestamp),
        (any::<i64>(), 0_u8..38).prop_map(|(unscaled, scale)| {
            Value::Numeric(Numeric::new(i128::from(unscaled), scale).unwrap())
        }),
        party().prop_map(Value::Party),
        "[^\\x00]{0,12}".prop_map(Value::Text),
        contract_id().prop_map(Value::ContractId),
        "[A-Z][a-z]{0,5}".prop_map(Value::Enum),
        Just(Value::Optional(None)),
    ]
}

pub(super) fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            inner.clone().prop_map(|value| Value::Optional(Some(Box::new(value)))),
            vec(inner.clone(), 0..5).prop_map(Value::List),
            vec(inner.clone(), 0..5).prop_map(Value::Record),
            ("[A-Z][a-z]{0,5}", inner.clone()).prop_map(|(constructor, value)| {
                Value::Variant { constructor, value: Box::new(value) }
            }),
            btree_map("[^\\x00]{0,5}", inner.clone(), 0..4)
                .prop_map(|entries| Value::TextMap(entries.into_iter().collect())),
            btree_map(party(), inner, 0..4).prop_map(|entries| {
                let entry = |(party, value)| (Value::Party(party), value);
                Value::GenMap(entries.into_iter().map(entry).collect())
            }),
        ]
    })
}

fn contract() -> impl Strategy<Value = FatContract> {
    let parties = || btree_set(party(), 1..4);
    let key = proptest::option::of((value(), any::<[u8; 32]>()));
    (contract_id(), value(), parties(), parties(), TIMESTAMP_MICROS, any::<[u8; 32]>(), key)
        .prop_map(|(contract_id, create_arg, signatories, observers, micros, salt, key)| {
            let observers = observers.difference(&signatories).cloned().collect();
            let maintainers: BTreeSet<Party> = signatories.iter().take(1).cloned().collect();
            let with_key = |(key, hash)| KeyWithMaintainers {
                key,
                maintainers,
                hash: Some(KeyHash::from_bytes(hash)),
            };
            let version = match key {
                Some(_) => SerializationVersion::V2,
                None => SerializationVersion::V1,
            };
            FatContract {
                version,
                contract_id,
                package_name: "a-package".parse().unwrap(),
                template: "00ff:A.B:C".parse().unwrap(),
                create_arg,
                signatories,
                observers,
                created_at: CreatedAt::from_micros(micros).unwrap(),
                salt: Salt::from_bytes(salt),
                key: key.map(with_key),
            }
        })
}

/// Everything that reads bytes from outside. None of it may panic.
fn read_everything(bytes: &[u8]) {
    drop(Value::decode(bytes));
    drop(crate::value1::decode_versioned(bytes));
    drop(FatContract::decode(bytes));
    drop(OldContract::decode_blob(bytes));
    drop(OldContract::decode_serializable(bytes));
    drop(Entry::decode(bytes));
    FrameReader::new(bytes).for_each(drop);
    drop(SignedTransaction::decode(bytes));
    drop(read_list(bytes));
    drop(read_stream(bytes));
    drop(PublicKey::decode(bytes));
    drop(Signature::decode(bytes));
    drop(ContractId::from_bytes(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(find_party(text));
        drop(text.parse::<Numeric>());
        drop(text.parse::<ContractId>());
    }
}

proptest! {
    #[test]
    fn a_value_is_read_as_it_was_written(value in value()) {
        let bytes = value.encode();
        prop_assert_eq!(Value::decode(&bytes).unwrap(), value);
    }

    #[test]
    fn a_contract_is_read_as_it_was_written(contract in contract()) {
        let bytes = contract.encode();
        prop_assert_eq!(FatContract::decode(&bytes).unwrap(), contract);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
        read_everything(&bytes);
    }

    #[test]
    fn no_change_of_a_contract_makes_a_reader_panic(
        contract in contract(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = contract.encode();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        read_everything(&bytes);
    }

    #[test]
    fn a_mapping_and_its_inverse_give_back_the_value(value in value()) {
        let mut parties = BTreeSet::new();
        value.visit(&mut |_, leaf| if let crate::value::walk::Leaf::Party(party) = leaf {
            parties.insert(party.clone());
        });
        // Reverses the order of all parties.
        let names = (0..parties.len()).rev().map(|n| format!("new-{n:04}::x").parse::<Party>());
        let table: BTreeMap<_, _> =
            parties.into_iter().zip(names.map(Result::unwrap)).collect();
        let inverse = Table(table.iter().map(|(k, v)| (v.clone(), k.clone())).collect());
        let table = Table(table);
        let there = value.rewritten(&table).unwrap();
        there.visit(&mut |_, leaf| if let crate::value::walk::Leaf::Party(party) = leaf {
            assert!(table.party(party).is_none(), "an old party is left");
        });
        prop_assert_eq!(Value::decode(&there.encode()).unwrap(), there.clone());
        prop_assert_eq!(there.rewritten(&inverse).unwrap(), value);
    }
}

#[test]
fn no_change_of_a_real_contract_makes_a_reader_panic() {
    for vector in vectors() {
        for index in 0..vector.blob.len() {
            for byte in [0x00, 0x7f, 0x80, 0xff] {
                let mut bytes = vector.blob.clone();
                bytes[index] = byte;
                read_everything(&bytes);
            }
        }
    }
}

#[test]
fn values_that_are_too_deep_are_refused_and_not_followed() {
    let mut bytes = Value::Unit.encode();
    for _ in 0..5_000 {
        let mut writer = crate::proto::Writer::default();
        writer.message(10, |w| _ = w.bytes(1, &bytes));
        bytes = writer.finish();
    }
    let error = Value::decode(&bytes).unwrap_err();
    let limit = heirloom_model::limit::VALUE_NESTING_MAX;
    assert_eq!(error, crate::value::codec::ValueError::TooDeep { limit });
}

#[test]
fn keys_that_become_the_same_are_refused() {
    let party = |name: &str| name.parse::<Party>().unwrap();
    let entry = |name: &str| (Value::Party(party(name)), Value::Unit);
    let map = Value::List(vec![Value::GenMap(vec![entry("a::1"), entry("b::1")])]);
    let table = Table(BTreeMap::from([(party("a::1"), party("b::1"))]));
    let error = map.rewritten(&table).unwrap_err();
    assert_eq!(error.path.to_string(), "element 0");
}

#[test]
fn texts_that_hold_parties_are_found_and_left_alone() {
    let party: Party = "a::1220".parse().unwrap();
    let value = Value::Record(vec![
        Value::Text("see a::1220, or not".to_owned()),
        Value::TextMap(vec![("a::1220".to_owned(), Value::Unit)]),
        Value::Text("no party: here".to_owned()),
        Value::Text("crate::".to_owned()),
    ]);
    let table = Table(BTreeMap::from([(party, "b::1220".parse().unwrap())]));
    assert_eq!(value.rewritten(&table).unwrap(), value);
    let found: Vec<_> = value.texts_like_parties().iter().map(|t| t.path.to_string()).collect();
    assert_eq!(found, ["field 0", "field 1, key of entry 0"]);
}

#[test]
fn values_have_as_many_levels_as_the_ledger_takes() {
    let nested = |levels: usize| {
        (0..levels).fold(Value::Unit, |value, _| Value::Optional(Some(Box::new(value))))
    };
    let limit = heirloom_model::limit::VALUE_NESTING_MAX;
    assert!(Value::decode(&nested(limit).encode()).is_ok());
    assert!(Value::decode(&nested(limit + 1).encode()).is_err());
}

#[test]
fn times_of_other_years_are_refused() {
    let last = *TIMESTAMP_MICROS.end();
    for (value, taken) in [
        (Value::Timestamp(last), true),
        (Value::Timestamp(last + 1), false),
        (Value::Timestamp(TIMESTAMP_MICROS.start() - 1), false),
        (Value::Date(*DATE_DAYS.end()), true),
        (Value::Date(DATE_DAYS.end() + 1), false),
        (Value::Date(DATE_DAYS.start() - 1), false),
    ] {
        assert_eq!(Value::decode(&value.encode()).is_ok(), taken, "{value:?}");
    }
    assert_eq!(CreatedAt::from_micros(i64::MIN), None);
}
