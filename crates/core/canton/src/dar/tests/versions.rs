use super::super::package::PackageError;
use super::super::{DarError, Package, read_package};
use crate::proto::Writer;
use crate::types::{BuiltinType, DataBody, Type, TypeName};

fn message(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    fill(&mut writer);
    writer.finish()
}

/// One field of a message.
fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    message(|writer| {
        writer.bytes(number, content);
    })
}

fn varint(number: u32, value: u64) -> Vec<u8> {
    message(|writer| {
        writer.varint(number, value);
    })
}

/// A dotted name as text.
fn text(name: &str) -> Vec<u8> {
    name.split('.').flat_map(|segment| bytes(1, segment.as_bytes())).collect()
}

fn read(major: u32, minor: &str, package: &[u8]) -> Result<Package, DarError> {
    let payload = [bytes(3, minor.as_bytes()), bytes(2 * major, package)].concat();
    let hash = hex::encode(heirloom_model::digest::sha256(&[&payload]));
    read_package(&[bytes(3, &payload), bytes(4, hash.as_bytes())].concat())
}

fn name(text: &str) -> TypeName {
    text.parse().unwrap()
}

fn flags(number: u32) -> Vec<u8> {
    bytes(number, &[varint(1, 1), varint(2, 1), varint(3, 1)].concat())
}

/// Everything that later versions have in tables stands in line.
fn without_tables() -> Vec<u8> {
    let decimal = bytes(3, &varint(1, 3));
    let variable = bytes(1, &bytes(1, b"a"));
    let own = bytes(1, b"");
    let module = [bytes(1, &own), bytes(2, &text("Main.Old"))].concat();
    let colour = [bytes(1, &module), bytes(2, &text("Colour"))].concat();
    let colours = bytes(3, &[varint(1, 9), bytes(2, &bytes(2, &bytes(1, &colour)))].concat());
    let field =
        |label: &str, ty: &[u8]| bytes(1, &[bytes(1, label.as_bytes()), bytes(2, ty)].concat());
    let fields =
        [field("amount", &decimal), field("it", &variable), field("colours", &colours)].concat();
    let record =
        [bytes(1, &text("Box")), bytes(2, &bytes(1, b"a")), bytes(3, &fields), varint(5, 1)];
    let constructors = [bytes(1, b"Red"), bytes(1, b"Green")].concat();
    let enumeration = [bytes(1, &text("Colour")), bytes(7, &constructors), varint(5, 1)];
    let party = bytes(3, &varint(1, 8));
    let contract = [bytes(1, &text("Contract")), bytes(3, &field("owner", &party)), varint(5, 1)];
    let template = [bytes(1, &text("Contract")), bytes(10, &bytes(1, &party))];
    let module = [
        bytes(1, &text("Main.Old")),
        flags(4),
        bytes(5, &record.concat()),
        bytes(5, &enumeration.concat()),
        bytes(5, &contract.concat()),
        bytes(7, &template.concat()),
    ];
    bytes(1, &module.concat())
}

#[test]
fn packages_before_tables_are_read() {
    let package = read(1, "6", &without_tables()).unwrap();
    assert_eq!(package.name(), None);
    let plain = |builtin| Type::Builtin { builtin, args: Vec::new() };
    let DataBody::Record(fields) = &package.data_type(&name("Main.Old:Box")).unwrap().body else {
        panic!("a record")
    };
    let types: Vec<_> = fields.iter().map(|field| (field.name.as_str(), &field.ty)).collect();
    let decimal = Type::Builtin { builtin: BuiltinType::Numeric, args: vec![Type::Nat(10)] };
    let id = crate::types::TypeId { package: package.id().clone(), name: name("Main.Old:Colour") };
    let colour = Type::Con { id, args: Vec::new() };
    let colours = Type::Builtin { builtin: BuiltinType::List, args: vec![colour] };
    let variable = Type::Var("a".to_owned());
    assert_eq!(types, [("amount", &decimal), ("it", &variable), ("colours", &colours)]);
    let colour = &package.data_type(&name("Main.Old:Colour")).unwrap().body;
    assert_eq!(*colour, DataBody::Enum(vec!["Red".to_owned(), "Green".to_owned()]));
    let template = name("Main.Old:Contract");
    assert_eq!(package.key_type(&template), Some(&plain(BuiltinType::Party)));
}

#[test]
fn text_in_place_of_numbers_is_for_the_oldest_packages_only() {
    for minor in ["7", "11", "17"] {
        let error = read(1, minor, &without_tables()).unwrap_err();
        assert!(matches!(error, DarError::Package { .. }), "{error:?}");
    }
    let tables = [
        (3, bytes(3, &bytes(1, &[0]))),
        (4, bytes(4, &varint(1, 0))),
        (5, bytes(5, &bytes(3, &varint(1, 8)))),
    ];
    for (number, table) in tables {
        let package = [without_tables(), bytes(2, b"M"), table].concat();
        let DarError::Package { source, .. } = read(1, "6", &package).unwrap_err() else {
            panic!("table {number} should be refused")
        };
        assert!(matches!(source, PackageError::NotInVersion { .. }), "{source:?}");
    }
}

/// A package of Daml-LF 2.2: types are applied one argument at a time, other packages are named by
/// their place in a list, and expressions have a table.
fn flat(constructor: u64) -> Vec<u8> {
    let strings = ["M", "T", "it", "name", "1.0", "Other", "U"];
    let strings: Vec<_> = strings.iter().flat_map(|text| bytes(2, text.as_bytes())).collect();
    // M, T, Other, U.
    let dotted: Vec<_> = [0, 1, 5, 6].iter().flat_map(|at| bytes(3, &bytes(1, &[*at]))).collect();
    let import = varint(4, 0);
    let module = [bytes(1, &import), varint(2, 2)].concat();
    let other = bytes(2, &bytes(1, &[bytes(1, &module), varint(2, 3)].concat()));
    let map = bytes(3, &varint(1, 11));
    let apply = |left: u64, right: u64| {
        bytes(9, &[bytes(1, &varint(8, left)), bytes(2, &varint(8, right))].concat())
    };
    let text = bytes(3, &varint(1, 7));
    let types = [map, other, text, apply(0, 2), apply(3, 1)];
    let types: Vec<_> = types.iter().flat_map(|ty| bytes(5, ty)).collect();
    let field = bytes(1, &[varint(3, 2), bytes(2, &varint(8, 4))].concat());
    let record = bytes(4, &[varint(2, 1), varint(4, 1), bytes(5, &field)].concat());
    let named = bytes(2, &[varint(1, 1), bytes(2, &varint(8, 2))].concat());
    let value = bytes(5, &[named, bytes(3, &varint(44, 0))].concat());
    let module = [varint(1, 0), flags(2), record, value].concat();
    let metadata = [varint(1, 3), varint(2, 4)].concat();
    [
        bytes(1, &module),
        strings,
        dotted,
        bytes(4, &metadata),
        types,
        bytes(7, &varint(5, constructor)),
        bytes(9, &bytes(1, b"other-package")),
    ]
    .concat()
}

#[test]
fn flat_packages_are_read() {
    // 3 is no constructor: the value is not looked at.
    let package = read(2, "2", &flat(3)).unwrap();
    let text = Type::Builtin { builtin: BuiltinType::Text, args: Vec::new() };
    let other = Type::Con { id: "other-package:Other:U".parse().unwrap(), args: Vec::new() };
    let map = Type::Builtin { builtin: BuiltinType::GenMap, args: vec![text, other] };
    let body = &package.data_type(&name("M:T")).unwrap().body;
    assert_eq!(*body, DataBody::Record(vec![crate::types::Field { name: "it".into(), ty: map }]));
}

#[test]
fn expressions_in_the_table_are_seen_like_others() {
    let DarError::Package { source, .. } = read(2, "2", &flat(1)).unwrap_err() else {
        panic!("the package should be refused")
    };
    let expected =
        PackageError::IllTyped { name: name("M:T"), found: "False", declared: BuiltinType::Text };
    assert_eq!(source, expected);
}
