//! Hashes of values that the ledger's own tests pin.

use std::collections::BTreeMap;

use crate::contract_hash::typed::{typed_normal_form, write_typed};
use crate::hash::Preimage;
use crate::key_hash::typed_key_hash;
use crate::tests::{json, text, vector};
use crate::types::{
    BuiltinType, DataBody, DataType, Field, PackageId, PackageName, Type, TypeId, TypeName,
    TypeStore,
};
use crate::value::Value;

/// Declarations by name, in one package.
#[derive(Default)]
struct Declared(BTreeMap<String, DataType>);

impl TypeStore for Declared {
    fn data_type(&self, _: &PackageId, name: &TypeName) -> Option<&DataType> {
        self.0.get(&name.to_string())
    }
}

fn builtin(builtin: BuiltinType, args: &[Type]) -> Type {
    Type::Builtin { builtin, args: args.to_vec() }
}

fn con(name: &str) -> Type {
    Type::Con { id: format!("p:{name}").parse().unwrap(), args: Vec::new() }
}

fn field(name: &str, ty: Type) -> Field {
    Field { name: name.to_owned(), ty }
}

fn record(fields: Vec<Field>) -> DataType {
    DataType { params: Vec::new(), body: DataBody::Record(fields) }
}

fn bool_value(value: bool) -> Value {
    Value::Bool(value)
}

/// A value with its type, from the line that the ledger prints for it.
fn of_line(line: &str, bools: &[bool]) -> Option<(Type, Value)> {
    let bool_type = builtin(BuiltinType::Bool, &[]);
    let inside =
        line.split_once('(').map_or("", |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    let parsed = |kind, value| Some((builtin(kind, &[]), value));
    match line.split('(').next().unwrap() {
        "SUnit" => parsed(BuiltinType::Unit, Value::Unit),
        "SBool" => parsed(BuiltinType::Bool, Value::Bool(inside == "true")),
        "SInt64" => parsed(BuiltinType::Int64, Value::Int64(inside.parse().unwrap())),
        "SText" => parsed(BuiltinType::Text, Value::Text(inside.to_owned())),
        "SParty" => parsed(BuiltinType::Party, Value::Party(inside.parse().unwrap())),
        "SNumeric" => {
            let number = match inside {
                "0E-10" => "0.0000000000".to_owned(),
                whole if !whole.contains('.') => format!("{whole}."),
                number => number.to_owned(),
            };
            parsed(BuiltinType::Numeric, Value::Numeric(number.parse().unwrap()))
        }
        "SDate" | "STimestamp" => time_of_line(inside),
        "SOptional" => Some(optional_of_line(line, bools)),
        "SList" => {
            let values = bools.iter().copied().map(bool_value).collect();
            Some((builtin(BuiltinType::List, &[bool_type]), Value::List(values)))
        }
        "SMap" => Some(map_of_line(line, bools)),
        "SEnum" => {
            let (name, constructor) = declared_name(inside);
            Some((con(&name), Value::Enum(constructor)))
        }
        "SRecord" => {
            let (name, _) = declared_name(inside);
            let values = bools.iter().copied().map(bool_value).collect();
            Some((con(&name), Value::Record(values)))
        }
        "SVariant" => {
            let (name, constructor) = declared_name(inside);
            let value = Box::new(bool_value(bools[0]));
            Some((con(&name), Value::Variant { constructor, value }))
        }
        _ => None,
    }
}

/// The dates and times that the ledger's tests use.
fn time_of_line(text: &str) -> Option<(Type, Value)> {
    let date = |days| Some((builtin(BuiltinType::Date, &[]), Value::Date(days)));
    let time = |micros| Some((builtin(BuiltinType::Timestamp, &[]), Value::Timestamp(micros)));
    match text {
        "1970-01-01" => date(0),
        "1969-07-21" => date(-164),
        "2019-12-16" => date(18_246),
        "1970-01-01T00:00:00Z" => time(0),
        "1969-07-21T02:56:15Z" => time(-14_159_025_000_000),
        "2019-12-16T11:17:54.940779Z" => time(1_576_495_074_940_779),
        _ => None,
    }
}

fn optional_of_line(line: &str, bools: &[bool]) -> (Type, Value) {
    let bool_type = builtin(BuiltinType::Bool, &[]);
    let depth = line.matches("Some(").count() - line.matches("Some(SBool").count();
    let inner = bools.first().map(|value| Box::new(bool_value(*value)));
    let mut ty = builtin(BuiltinType::Optional, &[bool_type]);
    let mut value = Value::Optional(inner);
    for _ in 0..depth {
        ty = builtin(BuiltinType::Optional, &[ty]);
        value = Value::Optional(Some(Box::new(value)));
    }
    (ty, value)
}

fn map_of_line(line: &str, bools: &[bool]) -> (Type, Value) {
    let bool_type = builtin(BuiltinType::Bool, &[]);
    let keys = line.split("SText(").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned());
    // The first boolean says which kind of map it is.
    let entries = keys.zip(bools[1..].iter().copied().map(bool_value));
    if bools[0] {
        (builtin(BuiltinType::TextMap, &[bool_type]), Value::TextMap(entries.collect()))
    } else {
        let text = builtin(BuiltinType::Text, &[]);
        let entries = entries.map(|(key, value)| (Value::Text(key), value)).collect();
        (builtin(BuiltinType::GenMap, &[text, bool_type]), Value::GenMap(entries))
    }
}

/// `pkgId:Mod:Color,Red,0)`: the type and the constructor.
fn declared_name(inside: &str) -> (String, String) {
    let mut parts = inside.split(',');
    let name = parts.next().unwrap().strip_prefix("pkgId:").unwrap().to_owned();
    (name, parts.next().unwrap().to_owned())
}

fn declared() -> Declared {
    let boolean = || builtin(BuiltinType::Bool, &[]);
    let mut all = Declared::default();
    for name in ["Unit", "UnitBis"] {
        all.0.insert(format!("Mod:{name}"), record(Vec::new()));
    }
    for name in ["Tuple", "TupleBis"] {
        let fields = vec![field("_1", boolean()), field("_2", boolean())];
        all.0.insert(format!("Mod:{name}"), record(fields));
    }
    for name in ["Color", "ColorBis"] {
        let constructors = ["Red", "Green", "Blue"].map(str::to_owned).to_vec();
        let body = DataBody::Enum(constructors);
        all.0.insert(format!("Mod:{name}"), DataType { params: Vec::new(), body });
    }
    for name in ["Either", "EitherBis"] {
        let body = DataBody::Variant(vec![field("Left", boolean()), field("Right", boolean())]);
        all.0.insert(format!("Mod:{name}"), DataType { params: Vec::new(), body });
    }
    all
}

fn package() -> PackageName {
    "package-name-0".parse().unwrap()
}

#[test]
fn every_pinned_value_has_its_pinned_hash() {
    let Some(contracts) = vector("lf_hash_goldens/expected-stability-values-contract-hashes.txt")
    else {
        return;
    };
    let keys = vector("lf_hash_goldens/expected-stability-values-key-hashes.txt").unwrap();
    let (contracts, keys) =
        (String::from_utf8(contracts).unwrap(), String::from_utf8(keys).unwrap());
    let (contracts, keys): (Vec<_>, Vec<_>) = (contracts.lines().collect(), keys.lines().collect());
    let (types, template) = (declared(), "p:module:name".parse::<TypeId>().unwrap());
    let mut checked = 0;
    for (contract, key) in contracts.chunks_exact(2).zip(keys.chunks_exact(2)) {
        let [line, expected] = contract else { panic!("pairs") };
        let bools = line.match_indices("true").map(|(at, _)| (at, true));
        let bools = bools.chain(line.match_indices("false").map(|(at, _)| (at, false)));
        let bools: Vec<bool> = bools.collect::<BTreeMap<_, _>>().into_values().collect();
        let (of_type, value) = of_line(line, &bools).unwrap_or_else(|| panic!("{line}"));
        let mut preimage = Preimage::default();
        preimage.raw(&[3, 5]).text("package-name-0").texts(["module"].iter());
        preimage.texts(["name"].iter());
        write_typed(&types, &of_type, &value, &mut preimage).unwrap();
        assert_eq!(hex::encode(preimage.sha256()), **expected, "{line}");
        assert_eq!(key[0], *line);
        let hash = typed_key_hash(&types, &package(), &template, &of_type, &value).unwrap();
        assert_eq!(hash.to_string(), key[1], "{line}");
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn pinned_contract_ids_have_their_pinned_hashes() {
    let Some(lines) = vector("lf_hash_goldens/expected-stability-contract-id-hashes.txt") else {
        return;
    };
    let lines = String::from_utf8(lines).unwrap();
    for pair in lines.lines().collect::<Vec<_>>().chunks_exact(2) {
        let id = pair[0].strip_prefix("SContractId(ContractId(").unwrap().trim_end_matches(')');
        let of_type = builtin(BuiltinType::ContractId, &[builtin(BuiltinType::Unit, &[])]);
        let value = Value::ContractId(id.parse().unwrap());
        let mut preimage = Preimage::default();
        preimage.raw(&[3, 5]).text("package-name-0").texts(["module"].iter());
        preimage.texts(["name"].iter());
        write_typed(&declared(), &of_type, &value, &mut preimage).unwrap();
        assert_eq!(hex::encode(preimage.sha256()), pair[1]);
    }
}

/// One field of the record with every type.
fn read_typed(kind: &str, value: &serde_json::Value, types: &mut Declared) -> (Type, Value) {
    let number = || value.as_i64().unwrap();
    let nested = |pair: &serde_json::Value, types: &mut Declared| {
        read_typed(text(&pair[0]), &pair[1], types)
    };
    match kind {
        "int64" => (builtin(BuiltinType::Int64, &[]), Value::Int64(text(value).parse().unwrap())),
        "numeric" => {
            (builtin(BuiltinType::Numeric, &[]), Value::Numeric(text(value).parse().unwrap()))
        }
        "bool" => (builtin(BuiltinType::Bool, &[]), Value::Bool(value.as_bool().unwrap())),
        "date" => (builtin(BuiltinType::Date, &[]), Value::Date(i32::try_from(number()).unwrap())),
        "timestamp_us" => (builtin(BuiltinType::Timestamp, &[]), Value::Timestamp(number())),
        "text" => (builtin(BuiltinType::Text, &[]), Value::Text(text(value).to_owned())),
        "party" => (builtin(BuiltinType::Party, &[]), Value::Party(text(value).parse().unwrap())),
        "unit" => (builtin(BuiltinType::Unit, &[]), Value::Unit),
        "optional" if value.is_null() => {
            (builtin(BuiltinType::Optional, &[Type::Opaque]), Value::Optional(None))
        }
        "optional" => {
            let (ty, inner) = nested(value, types);
            (builtin(BuiltinType::Optional, &[ty]), Value::Optional(Some(Box::new(inner))))
        }
        "list" => {
            let all: Vec<_> = value.as_array().unwrap().iter().map(|v| nested(v, types)).collect();
            let values = all.iter().map(|(_, value)| value.clone()).collect();
            (builtin(BuiltinType::List, &[all[0].0.clone()]), Value::List(values))
        }
        "text_map" => {
            let entries = value.as_array().unwrap().iter();
            let all: Vec<_> =
                entries.map(|e| (text(&e[0]).to_owned(), nested(&e[1], types))).collect();
            let ty = all[0].1.0.clone();
            let entries = all.into_iter().map(|(key, (_, value))| (key, value)).collect();
            (builtin(BuiltinType::TextMap, &[ty]), Value::TextMap(entries))
        }
        "gen_map" => {
            let entries = value.as_array().unwrap().iter();
            let all: Vec<_> =
                entries.map(|e| (nested(&e[0], types), nested(&e[1], types))).collect();
            let args = [all[0].0.0.clone(), all[0].1.0.clone()];
            let entries = all.into_iter().map(|((_, key), (_, value))| (key, value)).collect();
            (builtin(BuiltinType::GenMap, &args), Value::GenMap(entries))
        }
        "variant" => {
            let (ty, inner) = nested(&value["value"], types);
            let (name, constructor) =
                (text(&value["type"]), text(&value["constructor"]).to_owned());
            let body = DataBody::Variant(vec![field(&constructor, ty)]);
            types.0.insert(name.to_owned(), DataType { params: Vec::new(), body });
            (con(name), Value::Variant { constructor, value: Box::new(inner) })
        }
        "record" => read_record(text(&value["type"]), &value["fields"], types),
        kind => panic!("{kind}"),
    }
}

fn read_record(name: &str, fields: &serde_json::Value, types: &mut Declared) -> (Type, Value) {
    let mut declared = Vec::new();
    let mut values = Vec::new();
    for entry in fields.as_array().unwrap() {
        let (ty, value) = read_typed(text(&entry[1]), &entry[2], types);
        declared.push(field(text(&entry[0]), ty));
        values.push(value);
    }
    types.0.insert(name.to_owned(), record(declared));
    (con(name), Value::Record(values))
}

#[test]
fn a_record_of_every_type_has_its_pinned_hashes() {
    let Some(about) = json("lf_hash_goldens/complex_record.json") else { return };
    let mut types = Declared::default();
    let (of_type, value) = read_record(text(&about["record_type"]), &about["fields"], &mut types);
    let template: TypeId = "p:Module:Template".parse().unwrap();
    let mut preimage = Preimage::default();
    preimage.raw(&[3, 5]).text("package-name-0").texts(["Module"].iter());
    preimage.texts(["Template"].iter());
    write_typed(&types, &of_type, &value, &mut preimage).unwrap();
    assert_eq!(hex::encode(preimage.sha256()), text(&about["contract_hash_v12"]));
    let hash = typed_key_hash(&types, &package(), &template, &of_type, &value).unwrap();
    assert_eq!(hash.to_string(), text(&about["key_hash_nextgen"]));
    // The value survives its bytes.
    assert_eq!(Value::decode(&value.encode()).unwrap(), value);
    // A record that its type does not have is refused.
    let error = typed_normal_form(&types, &package(), &template, &value).unwrap_err();
    assert!(error.to_string().contains("Module:Template"), "{error}");
}
