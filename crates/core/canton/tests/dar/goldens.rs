//! Hashes of values that the ledger's own tests pin, over types that the builder writes.

use heirloom_canton::contract_hash::typed::write_typed;
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::dar::build::{
    self, DarBuilder, field, gen_map, list, numeric, optional, own, plain, text_map,
};
use heirloom_canton::dar::{self, Dar};
use heirloom_canton::hash::Preimage;
use heirloom_canton::key_hash::typed_key_hash;
use heirloom_canton::types::{
    BuiltinType, DataBody, DataType, Field, Type, TypeId, TypeName, TypeStore,
};
use heirloom_canton::value::Value;

use crate::vector;

const BOOL: fn() -> Type = || plain(BuiltinType::Bool);
const TEXT: fn() -> Type = || plain(BuiltinType::Text);

fn name(text: &str) -> TypeName {
    text.parse().unwrap()
}

/// The module of the ledger's tests: records, variants and enumerations, each twice.
fn module() -> Dar {
    let pair = |body: fn(Vec<Field>) -> DataBody, first: &str, second: &str| {
        let fields =
            vec![field(first, Type::Var("a".into())), field(second, Type::Var("b".into()))];
        DataType { params: vec!["a".into(), "b".into()], body: body(fields) }
    };
    let mut builder = DarBuilder::new("package-name-0".parse().unwrap(), "1.0.0".parse().unwrap());
    for suffix in ["", "Bis"] {
        builder = builder
            .record(name(&format!("Mod:Unit{suffix}")), Vec::new())
            .declare(name(&format!("Mod:Tuple{suffix}")), pair(DataBody::Record, "_1", "_2"))
            .declare(name(&format!("Mod:Either{suffix}")), pair(DataBody::Variant, "Left", "Right"))
            .enumeration(name(&format!("Mod:Color{suffix}")), &["Red", "Green", "Blue"]);
    }
    dar::read(&builder.build().unwrap().bytes).unwrap()
}

fn of_type(dar: &Dar, entity: &str, args: Vec<Type>) -> Type {
    Type::Con { id: TypeId { package: dar.main().id().clone(), name: name(entity) }, args }
}

/// The values of the ledger's test in its order, each with its type.
fn values(dar: &Dar) -> Vec<(Type, Value)> {
    let mut values = scalars();
    let some = |value| Value::Optional(Some(Box::new(value)));
    let (none, of_bool) = (Value::Optional(None), optional(BOOL()));
    values.extend([
        (of_bool.clone(), none.clone()),
        (of_bool.clone(), some(Value::Bool(false))),
        (of_bool.clone(), some(Value::Bool(true))),
        (optional(of_bool.clone()), some(none)),
        (optional(of_bool), some(some(Value::Bool(false)))),
    ]);
    let lists: [&[bool]; 6] =
        [&[], &[false], &[true], &[false, false], &[false, true], &[true, false]];
    for elements in lists {
        let elements = elements.iter().map(|element| Value::Bool(*element)).collect();
        values.push((list(BOOL()), Value::List(elements)));
    }
    let maps: [&[(&str, bool)]; 8] = [
        &[],
        &[("a", false)],
        &[("a", true)],
        &[("b", false)],
        &[("a", false), ("b", false)],
        &[("a", true), ("b", false)],
        &[("a", false), ("b", true)],
        &[("a", false), ("c", false)],
    ];
    for entries in maps {
        let entries = entries.iter().map(|(k, v)| ((*k).to_owned(), Value::Bool(*v))).collect();
        values.push((text_map(BOOL()), Value::TextMap(entries)));
    }
    for entries in maps {
        let entry = |(k, v): &(&str, bool)| (Value::Text((*k).to_owned()), Value::Bool(*v));
        let entries = entries.iter().map(entry).collect();
        values.push((gen_map(TEXT(), BOOL()), Value::GenMap(entries)));
    }
    values.extend(declared(dar));
    values
}

fn scalars() -> Vec<(Type, Value)> {
    let mut values = vec![(plain(BuiltinType::Unit), Value::Unit)];
    values.extend([true, false].map(|value| (BOOL(), Value::Bool(value))));
    values.extend([-1, 0, 1].map(|number| (plain(BuiltinType::Int64), Value::Int64(number))));
    for text in ["-10000.0000000000", "0.0000000000", "10000.0000000000"] {
        values.push((numeric(10), Value::Numeric(text.parse().unwrap())));
    }
    for text in ["-10000.", "0.", "10000."] {
        values.push((numeric(0), Value::Numeric(text.parse().unwrap())));
    }
    values.extend([0, -164, 18_246].map(|days| (plain(BuiltinType::Date), Value::Date(days))));
    let instants = [0, -14_159_025_000_000, 1_576_495_074_940_779];
    values.extend(instants.map(|at| (plain(BuiltinType::Timestamp), Value::Timestamp(at))));
    for text in ["", "someText", "a¶‱😂"] {
        values.push((TEXT(), Value::Text(text.to_owned())));
    }
    for party in ["alice", "bob"] {
        values.push((plain(BuiltinType::Party), Value::Party(party.parse().unwrap())));
    }
    values
}

fn declared(dar: &Dar) -> Vec<(Type, Value)> {
    let mut values = Vec::new();
    for (entity, constructor) in [("Color", "Red"), ("Color", "Green"), ("ColorBis", "Green")] {
        let ty = of_type(dar, &format!("Mod:{entity}"), Vec::new());
        values.push((ty, Value::Enum(constructor.to_owned())));
    }
    for entity in ["Mod:Unit", "Mod:UnitBis"] {
        values.push((of_type(dar, entity, Vec::new()), Value::Record(Vec::new())));
    }
    let tuples = [
        ("Tuple", [false, false]),
        ("Tuple", [true, false]),
        ("Tuple", [false, true]),
        ("TupleBis", [false, false]),
    ];
    for (entity, fields) in tuples {
        let ty = of_type(dar, &format!("Mod:{entity}"), vec![BOOL(), BOOL()]);
        values.push((ty, Value::Record(fields.map(Value::Bool).to_vec())));
    }
    let variants = [
        ("Either", "Left", false),
        ("Either", "Left", true),
        ("Either", "Right", false),
        ("EitherBis", "Left", false),
    ];
    for (entity, constructor, value) in variants {
        let ty = of_type(dar, &format!("Mod:{entity}"), vec![BOOL(), BOOL()]);
        let (constructor, value) = (constructor.to_owned(), Box::new(Value::Bool(value)));
        values.push((ty, Value::Variant { constructor, value }));
    }
    values
}

/// The hash of any value as if it were a contract of this template.
fn contract_hash(types: &dyn TypeStore, template: &str, ty: &Type, value: &Value) -> String {
    let template = name(template);
    let mut preimage = Preimage::default();
    preimage.byte(3).byte(5).text("package-name-0");
    preimage.texts(template.module.segments().iter()).texts(template.entity.segments().iter());
    write_typed(types, ty, value, &mut preimage).unwrap();
    hex::encode(preimage.sha256())
}

fn key_hash(types: &dyn TypeStore, template: &str, ty: &Type, value: &Value) -> String {
    let package = "-any-".parse().unwrap();
    let template = TypeId { package, name: name(template) };
    let package_name = "package-name-0".parse().unwrap();
    typed_key_hash(types, &package_name, &template, ty, value).unwrap().to_string()
}

/// The hashes of a file with lines of values and hashes.
fn hashes(file: &str) -> Option<Vec<String>> {
    let text = String::from_utf8(vector(&format!("lf_hash_goldens/{file}"))?).unwrap();
    Some(text.lines().skip(1).step_by(2).map(str::to_owned).collect())
}

#[test]
fn hashes_of_values_are_the_ledgers() {
    let (Some(contracts), Some(keys)) = (
        hashes("expected-stability-values-contract-hashes.txt"),
        hashes("expected-stability-values-key-hashes.txt"),
    ) else {
        return;
    };
    let dar = module();
    let values = values(&dar);
    assert_eq!(contracts.len(), values.len());
    assert!(keys.len() >= values.len());
    for ((ty, value), (contract, key)) in values.iter().zip(contracts.iter().zip(&keys)) {
        assert_eq!(contract_hash(&dar, "module:name", ty, value), *contract, "{value:?}");
        assert_eq!(key_hash(&dar, "module:name", ty, value), *key, "{value:?}");
    }
}

#[test]
fn hashes_of_contract_ids_are_the_ledgers() {
    let Some(expected) = hashes("expected-stability-contract-id-hashes.txt") else { return };
    let ids = [
        "0007e7b5534931dfca8e1b485c105bae4e10808bd13ddc8e897f258015f9d921c5",
        "0059b59ad7a6b6066e77b91ced54b8282f0e24e7089944685cb8f22f32fcbc4e1b",
    ];
    let dar = module();
    for (id, expected) in ids.iter().zip(&expected) {
        let id = ContractId::from_bytes(&hex::decode(id).unwrap()).unwrap();
        let ty = build::contract_id(plain(BuiltinType::Unit));
        assert_eq!(contract_hash(&dar, "module:name", &ty, &Value::ContractId(id)), *expected);
    }
}

/// A value of the file with the complex record, and its type.
fn described(kind: &str, json: &serde_json::Value) -> (Type, Value) {
    let text = || json.as_str().unwrap().to_owned();
    let number = || json.as_i64().unwrap();
    let nested = |json: &serde_json::Value| described(json[0].as_str().unwrap(), &json[1]);
    let builtin = |builtin, value| (plain(builtin), value);
    match kind {
        "int64" => builtin(BuiltinType::Int64, Value::Int64(text().parse().unwrap())),
        "numeric" => (numeric(10), Value::Numeric(text().parse().unwrap())),
        "bool" => builtin(BuiltinType::Bool, Value::Bool(json.as_bool().unwrap())),
        "date" => builtin(BuiltinType::Date, Value::Date(i32::try_from(number()).unwrap())),
        "timestamp_us" => builtin(BuiltinType::Timestamp, Value::Timestamp(number())),
        "text" => builtin(BuiltinType::Text, Value::Text(text())),
        "party" => builtin(BuiltinType::Party, Value::Party(text().parse().unwrap())),
        "unit" => builtin(BuiltinType::Unit, Value::Unit),
        "optional" if json.is_null() => (optional(TEXT()), Value::Optional(None)),
        "optional" => {
            let (ty, value) = nested(json);
            (optional(ty), Value::Optional(Some(Box::new(value))))
        }
        "list" => {
            let values = json.as_array().unwrap().iter().map(|value| nested(value).1).collect();
            (list(TEXT()), Value::List(values))
        }
        "variant" => {
            let constructor = json["constructor"].as_str().unwrap().to_owned();
            let value = Box::new(nested(&json["value"]).1);
            let ty = own(name(json["type"].as_str().unwrap()));
            (ty, Value::Variant { constructor, value })
        }
        "record" => {
            let fields = json["fields"].as_array().unwrap().iter();
            let value =
                |field: &serde_json::Value| described(field[1].as_str().unwrap(), &field[2]);
            let values = fields.map(|field| value(field).1).collect();
            (own(name(json["type"].as_str().unwrap())), Value::Record(values))
        }
        "text_map" => {
            let entry = |entry: &serde_json::Value| {
                (entry[0].as_str().unwrap().to_owned(), nested(&entry[1]).1)
            };
            let entries = json.as_array().unwrap().iter().map(entry).collect();
            (text_map(plain(BuiltinType::Int64)), Value::TextMap(entries))
        }
        "gen_map" => {
            let entry = |entry: &serde_json::Value| (nested(&entry[0]).1, nested(&entry[1]).1);
            let entries = json.as_array().unwrap().iter().map(entry).collect();
            (gen_map(TEXT(), plain(BuiltinType::Int64)), Value::GenMap(entries))
        }
        other => panic!("{other} is no kind of value"),
    }
}

#[test]
fn the_hash_of_a_record_with_every_type_is_the_ledgers() {
    let Some(bytes) = vector("lf_hash_goldens/complex_record.json") else { return };
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let (mut fields, mut values) = (Vec::new(), Vec::new());
    for entry in json["fields"].as_array().unwrap() {
        let (ty, value) = described(entry[1].as_str().unwrap(), &entry[2]);
        fields.push(field(entry[0].as_str().unwrap(), ty));
        values.push(value);
    }
    let built = DarBuilder::new("package-name-0".parse().unwrap(), "1.0.0".parse().unwrap())
        .record(name("Module:Record"), vec![field("field1", TEXT()), field("field2", TEXT())])
        .variant(name("Module:Variant"), vec![field("VariantCons", plain(BuiltinType::Int64))])
        .record(name("Module:ComplexRecord"), fields)
        .build()
        .unwrap();
    let dar = dar::read(&built.bytes).unwrap();
    let ty = of_type(&dar, "Module:ComplexRecord", Vec::new());
    let (value, template) = (Value::Record(values), json["template"].as_str().unwrap());
    let expected = |name: &str| json[name].as_str().unwrap().to_owned();
    assert_eq!(contract_hash(&dar, template, &ty, &value), expected("contract_hash_v12"));
    assert_eq!(key_hash(&dar, template, &ty, &value), expected("key_hash_nextgen"));
}
