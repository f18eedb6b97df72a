use std::collections::BTreeMap;

use heirloom_model::limit::LF_TYPE_NESTING_MAX;

use super::super::archive::{Archive, LfVersion};
use super::super::package::{PackageError, PackageVersion, RawPackage};
use super::super::types::resolve;
use crate::proto::{ProtoError, Writer};
use crate::types::{BuiltinType, DataBody, PackageId, Type, TypeName};

/// The parts of a package of Daml-LF 2.1 with one record, which is a template, and a value.
#[derive(Clone)]
struct Parts {
    strings: Vec<&'static str>,
    dotted: Vec<Vec<u8>>,
    metadata: Option<Vec<u8>>,
    types: Vec<Vec<u8>>,
    module: Vec<Vec<u8>>,
    more: Vec<u8>,
}

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

fn flags() -> Vec<u8> {
    bytes(2, &[varint(1, 1), varint(2, 1), varint(3, 1)].concat())
}

/// A field with a label and an entry of the table of types.
fn field(label: u64, ty: u64) -> Vec<u8> {
    bytes(1, &[varint(3, label), bytes(2, &varint(8, ty))].concat())
}

/// A record with this name, these fields, and more.
fn record(name: u64, fields: &[Vec<u8>], more: &[u8]) -> Vec<u8> {
    let body = bytes(5, &fields.concat());
    bytes(4, &[varint(2, name), varint(4, 1), body, more.to_vec()].concat())
}

fn template(name: u64) -> Vec<u8> {
    bytes(6, &varint(1, name))
}

/// A value with this name, entry of the table of types, and constructor.
fn value(name: u64, ty: u64, constructor: u64) -> Vec<u8> {
    let named = [varint(1, name), bytes(2, &varint(8, ty))].concat();
    bytes(5, &[bytes(2, &named), bytes(3, &varint(5, constructor))].concat())
}

fn builtin(number: u64, args: &[Vec<u8>]) -> Vec<u8> {
    let args: Vec<_> = args.iter().map(|arg| bytes(2, arg)).collect();
    bytes(3, &[varint(1, number), args.concat()].concat())
}

/// A declared type or synonym of this package.
fn own(alternative: u32, name: u64, args: &[Vec<u8>]) -> Vec<u8> {
    let module = [bytes(1, &bytes(1, b"")), varint(2, 0)].concat();
    let id = [bytes(1, &module), varint(2, name)].concat();
    let args: Vec<_> = args.iter().map(|arg| bytes(2, arg)).collect();
    bytes(alternative, &[bytes(1, &id), args.concat()].concat())
}

fn interned(entry: u64) -> Vec<u8> {
    varint(8, entry)
}

impl Parts {
    fn good() -> Self {
        Self {
            strings: vec!["Main", "T", "label", "name", "1.0.0", "U", "x", "no name"],
            // Main, T, U, x.
            dotted: [0, 1, 5, 6].iter().map(|string| bytes(1, &[*string])).collect(),
            metadata: Some([varint(1, 3), varint(2, 4)].concat()),
            // Party and Unit.
            types: vec![builtin(6, &[]), builtin(0, &[])],
            module: vec![
                varint(1, 0),
                flags(),
                record(1, &[field(2, 0)], &[]),
                template(1),
                value(3, 1, 0),
            ],
            more: Vec::new(),
        }
    }

    fn package(&self) -> Vec<u8> {
        message(|package| {
            package.bytes(1, &self.module.concat());
            for string in &self.strings {
                package.text(2, string);
            }
            for name in &self.dotted {
                package.bytes(3, name);
            }
            if let Some(metadata) = &self.metadata {
                package.bytes(4, metadata);
            }
            for ty in &self.types {
                package.bytes(5, ty);
            }
            package.copy(&self.more);
        })
    }

    fn read(&self) -> Result<BTreeMap<TypeName, DataBody>, PackageError> {
        let id: PackageId = "-own-".parse().unwrap();
        let package = self.package();
        let archive = Archive { id: id.clone(), version: LfVersion::BUILT, package: &package };
        let package = RawPackage::parse(&archive)?;
        let all = BTreeMap::from([(id.clone(), package)]);
        let resolved = resolve(&all[&id], &all, &mut 0)?;
        Ok(resolved.types.into_iter().map(|(name, ty)| (name, ty.body)).collect())
    }

    /// The type of the only field of the record after a change.
    fn field_type(change: impl FnOnce(&mut Self)) -> Result<Type, PackageError> {
        let mut parts = Self::good();
        change(&mut parts);
        match parts.read()?.remove(&name("Main:T")) {
            Some(DataBody::Record(mut fields)) => Ok(fields.remove(0).ty),
            other => panic!("{other:?}"),
        }
    }
}

/// Why the package is refused after a change.
fn refused(change: impl FnOnce(&mut Parts)) -> PackageError {
    let mut parts = Parts::good();
    change(&mut parts);
    parts.read().unwrap_err()
}

fn name(text: &str) -> TypeName {
    text.parse().unwrap()
}

fn unknown(message: &'static str, number: u32) -> PackageError {
    ProtoError::UnknownField { message, number }.into()
}

fn duplicate(what: &'static str, name: &str) -> PackageError {
    PackageError::Duplicate { what, name: name.to_owned() }
}

fn plain(builtin: BuiltinType) -> Type {
    Type::Builtin { builtin, args: Vec::new() }
}

#[test]
fn the_good_package_is_good() {
    let ty = Parts::field_type(|_| {}).unwrap();
    assert_eq!(ty, plain(BuiltinType::Party));
}

#[test]
fn tables_and_metadata_are_checked() {
    let index = |table, index| PackageError::Index { table, index };
    assert_eq!(refused(|p| p.module[0] = varint(1, 4)), index("dotted names", 4));
    assert_eq!(refused(|p| p.dotted[3] = bytes(1, &[8])), index("strings", 8));
    assert_eq!(refused(|p| p.module[2] = record(1, &[field(2, 2)], &[])), index("types", 2));
    assert_eq!(refused(|p| p.module[2] = record(1, &[field(8, 0)], &[])), index("strings", 8));
    assert_eq!(refused(|p| p.metadata = Some(varint(1, 8))), index("strings", 8));
    let version = LfVersion::BUILT;
    assert_eq!(refused(|p| p.metadata = None), PackageError::NoMetadata { version });
    let found = "x".to_owned();
    let not_a_version = refused(|p| p.metadata = Some([varint(1, 3), varint(2, 6)].concat()));
    assert_eq!(not_a_version, PackageError::PackageVersion { found });
    let no_name = refused(|p| p.metadata = Some([varint(1, 7), varint(2, 4)].concat()));
    assert!(matches!(no_name, PackageError::Name(_)), "{no_name:?}");
    let no_label = refused(|p| p.module[2] = record(1, &[field(7, 0)], &[]));
    assert!(matches!(no_label, PackageError::Name(_)), "{no_label:?}");
    let no_segment = refused(|p| p.dotted[3] = bytes(1, &[7]));
    assert!(matches!(no_segment, PackageError::Name(_)), "{no_segment:?}");
    let empty = refused(|p| p.dotted[3] = Vec::new());
    assert!(matches!(empty, PackageError::Name(_)), "{empty:?}");
}

#[test]
fn fields_that_nobody_knows_are_refused() {
    assert_eq!(refused(|p| p.more = varint(10, 1)), unknown("Package", 10));
    assert_eq!(refused(|p| p.module.push(varint(9, 1))), unknown("Module", 9));
    let data = refused(|p| p.module[2] = record(1, &[], &varint(9, 1)));
    assert_eq!(data, unknown("DefDataType", 9));
    assert_eq!(refused(|p| p.module[3] = bytes(6, &varint(5, 1))), unknown("DefTemplate", 5));
    assert_eq!(refused(|p| p.types[0] = varint(10, 1)), unknown("Type", 10));
    for number in 6..=9 {
        let error = refused(|p| p.more = bytes(number, b""));
        assert!(matches!(error, PackageError::NotInVersion { .. }), "{error:?}");
    }
    let applied = bytes(9, &[bytes(1, &interned(0)), bytes(2, &interned(0))].concat());
    let error = refused(|p| p.types[1] = applied);
    assert!(matches!(error, PackageError::NotInVersion { .. }), "{error:?}");
    let label = [field(2, 0), bytes(1, &varint(1, 0))];
    assert_eq!(refused(|p| p.module[2] = record(1, &label, &[])), unknown("FieldWithType", 1));
}

#[test]
fn declarations_are_checked() {
    let module = "Main".parse().unwrap();
    assert_eq!(refused(|p| p.module[1] = Vec::new()), PackageError::Flags { module });
    for flag in 1..=3 {
        let two: Vec<_> = (1..=3).filter(|number| *number != flag).collect();
        let two: Vec<_> = two.into_iter().map(|number| varint(number, 1)).collect();
        let error = refused(|p| p.module[1] = bytes(2, &two.concat()));
        assert!(matches!(error, PackageError::Flags { .. }), "{error:?}");
    }
    let again = |p: &mut Parts| p.module.push(record(1, &[], &[]));
    assert_eq!(refused(again), duplicate("type", "Main:T"));
    assert_eq!(refused(|p| p.module.push(template(1))), duplicate("template", "Main:T"));
    let module = |p: &mut Parts| p.more = bytes(1, &[varint(1, 0), flags()].concat());
    assert_eq!(refused(module), duplicate("module", "Main"));
    let labels = |p: &mut Parts| p.module[2] = record(1, &[field(2, 0), field(2, 0)], &[]);
    assert_eq!(refused(labels), duplicate("field or constructor", "label"));
    let constructors = bytes(4, &[varint(2, 2), bytes(7, &bytes(2, &[2, 2]))].concat());
    assert_eq!(refused(|p| p.module.push(constructors)), duplicate("constructor", "label"));
    let bodies = |p: &mut Parts| p.module[2] = record(1, &[], &bytes(6, b""));
    assert_eq!(refused(bodies), duplicate("body of a type", ""));
    let nothing = bytes(4, &[varint(2, 2), varint(4, 1)].concat());
    let error = refused(|p| p.module.push(nothing));
    assert_eq!(error, PackageError::NoBody { name: name("Main:U") });
    let parameter = bytes(3, &varint(3, 6));
    let generic = bytes(4, &[varint(2, 2), parameter, bytes(7, b"")].concat());
    let error = refused(|p| p.module.push(generic));
    assert_eq!(error, PackageError::EnumParameters { name: name("Main:U") });
}

#[test]
fn a_template_is_a_serializable_record() {
    let expected = |name: &str| PackageError::TemplateWithoutRecord { template: self::name(name) };
    assert_eq!(refused(|p| p.module[3] = template(2)), expected("Main:U"));
    let hidden = bytes(4, &[varint(2, 1), bytes(5, b"")].concat());
    assert_eq!(refused(|p| p.module[2] = hidden), expected("Main:T"));
    let variant = bytes(4, &[varint(2, 1), varint(4, 1), bytes(6, b"")].concat());
    assert_eq!(refused(|p| p.module[2] = variant), expected("Main:T"));
}

#[test]
fn a_bare_constructor_has_the_type_that_it_says() {
    let ill = |found, declared| PackageError::IllTyped { name: name("Main:x"), found, declared };
    let (unit, party) = (BuiltinType::Unit, BuiltinType::Party);
    assert_eq!(refused(|p| p.module[4] = value(3, 1, 1)), ill("False", unit));
    assert_eq!(refused(|p| p.module[4] = value(3, 1, 2)), ill("True", unit));
    assert_eq!(refused(|p| p.module[4] = value(3, 0, 0)), ill("()", party));
}

#[test]
fn types_are_checked() {
    let wrong = |what| PackageError::Type { what };
    let unknown = wrong("a built-in type has an unknown number");
    assert_eq!(refused(|p| p.types[0] = builtin(12, &[])), unknown);
    let none = wrong("a type is none of the known ones");
    assert_eq!(refused(|p| p.types[0] = Vec::new()), none);
    let two = [builtin(6, &[]), builtin(6, &[])].concat();
    assert_eq!(refused(|p| p.types[0] = two), duplicate("alternative of a type", ""));
    let alias = wrong("an entry of the table of types only refers to another one");
    assert_eq!(refused(|p| p.types[1] = interned(0)), alias);
    let ahead = PackageError::Index { table: "types", index: 1 };
    assert_eq!(refused(|p| p.types[0] = builtin(10, &[interned(1)])), ahead);
    let itself = PackageError::Index { table: "types", index: 0 };
    assert_eq!(refused(|p| p.types[0] = builtin(10, &[interned(0)])), itself);
    let outside = bytes(1, &[varint(3, 2), bytes(2, &builtin(6, &[]))].concat());
    let error = refused(|p| p.module[2] = record(1, &[outside], &[]));
    assert_eq!(error, wrong("a declaration has a type outside the table"));
    let scale = message(|ty| {
        ty.sint64(6, 38);
    });
    let error = refused(|p| p.types[0] = builtin(5, &[scale]));
    assert_eq!(error, wrong("a scale is not between 0 and 37"));
}

/// A list of lists of …
fn nested(levels: usize) -> Vec<u8> {
    (0..levels).fold(builtin(6, &[]), |inner, _| builtin(10, &[inner]))
}

#[test]
fn types_do_not_nest_deeper_than_the_limit() {
    let limit = LF_TYPE_NESTING_MAX;
    let ty = Parts::field_type(|p| p.types[0] = nested(limit - 1)).unwrap();
    assert!(matches!(ty, Type::Builtin { builtin: BuiltinType::List, .. }));
    assert_eq!(refused(|p| p.types[0] = nested(limit)), PackageError::TooDeep { limit });
    // The same through the table, where no entry is deep.
    let error = refused(|p| {
        let first = u64::try_from(p.types.len()).unwrap() - 1;
        for entry in 0..u64::try_from(limit).unwrap() {
            p.types.push(builtin(10, &[interned(first + entry)]));
        }
        let last = u64::try_from(p.types.len()).unwrap() - 1;
        p.module[2] = record(1, &[field(2, last)], &[]);
    });
    assert_eq!(error, PackageError::TooDeep { limit });
}

#[test]
fn a_table_that_stands_for_too_much_is_refused() {
    let error = refused(|p| {
        // Each entry is twice the one before: two to the power of thirty in thirty lines.
        for entry in 1..=30 {
            p.types.push(builtin(11, &[interned(entry), interned(entry)]));
        }
        let last = u64::try_from(p.types.len()).unwrap() - 1;
        p.module[2] = record(1, &[field(2, last)], &[]);
    });
    assert!(matches!(error, PackageError::TooLarge { .. }), "{error:?}");
}

/// A synonym `U x = body`, and the record's field is `U arguments`.
fn synonym(p: &mut Parts, params: usize, body: Vec<u8>, args: &[Vec<u8>]) {
    let var = bytes(1, &varint(3, 6));
    p.types.extend([var, body, own(7, 2, args)]);
    let params: Vec<_> = (0..params).map(|_| bytes(3, &varint(3, 6))).collect();
    let declared = [varint(2, 2), params.concat(), bytes(4, &interned(3))].concat();
    p.module.push(bytes(3, &declared));
    p.module[2] = record(1, &[field(2, 4)], &[]);
}

#[test]
fn synonyms_stand_for_what_they_say() {
    let list = |ty| Type::Builtin { builtin: BuiltinType::List, args: vec![ty] };
    let body = || builtin(10, &[interned(2)]);
    let ty = Parts::field_type(|p| synonym(p, 1, body(), &[interned(0)])).unwrap();
    assert_eq!(ty, list(plain(BuiltinType::Party)));
    // What is left over belongs to what the synonym stands for.
    let ty = Parts::field_type(|p| synonym(p, 0, builtin(10, &[]), &[interned(0)])).unwrap();
    assert_eq!(ty, list(plain(BuiltinType::Party)));
    let unknown = |error| matches!(error, PackageError::UnknownSynonym { .. });
    assert!(unknown(refused(|p| synonym(p, 1, body(), &[]))));
    assert!(unknown(refused(|p| {
        synonym(p, 1, body(), &[interned(0)]);
        p.module.remove(5);
    })));
    // A synonym of itself.
    let error = refused(|p| synonym(p, 0, own(7, 2, &[]), &[]));
    assert_eq!(error, PackageError::TooDeep { limit: LF_TYPE_NESTING_MAX });
}

#[test]
fn versions_are_numbers_with_dots() {
    for text in ["0", "1.0.0", "3.4.11", "2147483647"] {
        assert_eq!(text.parse::<PackageVersion>().unwrap().to_string(), text);
    }
    for text in ["", ".", "1.", "01", "+1", "1.0-rc1", "2147483648", "1..2"] {
        assert!(text.parse::<PackageVersion>().is_err(), "{text}");
    }
    let version = |text: &str| text.parse::<PackageVersion>().unwrap();
    assert!(version("1.10") > version("1.9"));
}
