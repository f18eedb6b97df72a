//! The numbers of fields in packages: both generations of Daml-LF say the same with other numbers
//! (`daml_lf1.proto`, `daml_lf2.proto`).

use crate::types::BuiltinType;

/// A number that no field has: what this generation cannot say.
pub(super) const NONE: u32 = 0;

/// The numbers of one generation. Numbers that both share stand in the reader.
#[derive(Debug)]
pub(super) struct Layout {
    /// Fields that are not known here are refused, as participants do for Daml-LF 2.
    pub(super) strict: bool,
    pub(super) module: Module,
    pub(super) synonym: Synonym,
    pub(super) data: Data,
    pub(super) template: Template,
    pub(super) value: Value,
    pub(super) ty: Type,
    pub(super) name: Name,
    /// An expression that is one constructor of a built-in type.
    pub(super) builtin_constructor: u32,
    /// An expression of the package's table.
    pub(super) interned_expression: u32,
    pub(super) builtin: fn(i32) -> Builtin,
}

#[derive(Debug)]
pub(super) struct Module {
    pub(super) text: u32,
    pub(super) name: u32,
    pub(super) flags: u32,
    pub(super) synonyms: u32,
    pub(super) types: u32,
    pub(super) values: u32,
    pub(super) templates: u32,
    pub(super) exceptions: u32,
    pub(super) interfaces: u32,
}

#[derive(Debug)]
pub(super) struct Synonym {
    pub(super) text: u32,
    pub(super) name: u32,
    pub(super) params: u32,
    pub(super) ty: u32,
    pub(super) location: u32,
}

#[derive(Debug)]
pub(super) struct Data {
    pub(super) text: u32,
    pub(super) name: u32,
    pub(super) params: u32,
    pub(super) serializable: u32,
    pub(super) record: u32,
    pub(super) variant: u32,
    pub(super) enumeration: u32,
    pub(super) interface: u32,
    pub(super) location: u32,
}

#[derive(Debug)]
pub(super) struct Template {
    pub(super) text: u32,
    pub(super) name: u32,
    pub(super) key: u32,
    /// Expressions, choices, places: present in templates and not read.
    pub(super) unread: &'static [u32],
}

#[derive(Debug)]
pub(super) struct Value {
    pub(super) name_with_type: u32,
    pub(super) expression: u32,
}

#[derive(Debug)]
pub(super) struct Type {
    pub(super) forall: u32,
    pub(super) structure: u32,
    pub(super) nat: u32,
    pub(super) synonym: u32,
    pub(super) interned: u32,
    pub(super) application: u32,
}

/// How names of modules, types and packages refer to tables.
#[derive(Debug)]
pub(super) struct Name {
    /// A dotted name as text, in a reference.
    pub(super) text: u32,
    /// Its number in the table.
    pub(super) interned: u32,
    /// A package id as text.
    pub(super) package_text: u32,
    /// Its number among the package's imports.
    pub(super) import: u32,
}

/// A built-in type by its number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Builtin {
    /// Numbers with ten digits behind the point: the older form of `Numeric 10`.
    Decimal,
    /// One that a contract can hold.
    Known(BuiltinType),
    /// One that no contract can hold.
    Opaque,
    /// None.
    Unknown,
}

pub(super) const LF1: Layout = Layout {
    strict: false,
    module: Module {
        text: 1,
        name: 8,
        flags: 4,
        synonyms: 9,
        types: 5,
        values: 6,
        templates: 7,
        exceptions: 10,
        interfaces: 11,
    },
    synonym: Synonym { text: 1, name: 8, params: 2, ty: 3, location: 4 },
    data: Data {
        text: 1,
        name: 8,
        params: 2,
        serializable: 5,
        record: 3,
        variant: 4,
        enumeration: 7,
        interface: 9,
        location: 6,
    },
    template: Template { text: 1, name: 12, key: 10, unread: &[] },
    value: Value { name_with_type: 1, expression: 2 },
    ty: Type { forall: 5, structure: 7, nat: 11, synonym: 12, interned: 13, application: NONE },
    name: Name { text: 2, interned: 3, package_text: 2, import: NONE },
    builtin_constructor: 4,
    interned_expression: NONE,
    builtin: builtin_1,
};

pub(super) const LF2: Layout = Layout {
    strict: true,
    module: Module {
        text: NONE,
        name: 1,
        flags: 2,
        synonyms: 3,
        types: 4,
        values: 5,
        templates: 6,
        exceptions: 7,
        interfaces: 8,
    },
    synonym: Synonym { text: NONE, name: 2, params: 3, ty: 4, location: 1 },
    data: Data {
        text: NONE,
        name: 2,
        params: 3,
        serializable: 4,
        record: 5,
        variant: 6,
        enumeration: 7,
        interface: 8,
        location: 1,
    },
    template: Template { text: NONE, name: 1, key: 9, unread: &[2, 3, 4, 6, 7, 8, 10] },
    value: Value { name_with_type: 2, expression: 3 },
    ty: Type { forall: 4, structure: 5, nat: 6, synonym: 7, interned: 8, application: 9 },
    name: Name { text: NONE, interned: 2, package_text: NONE, import: 4 },
    builtin_constructor: 5,
    interned_expression: 44,
    builtin: builtin_2,
};

fn builtin_1(number: i32) -> Builtin {
    Builtin::Known(match number {
        0 => BuiltinType::Unit,
        1 => BuiltinType::Bool,
        2 => BuiltinType::Int64,
        3 => return Builtin::Decimal,
        5 => BuiltinType::Text,
        6 => BuiltinType::Timestamp,
        8 => BuiltinType::Party,
        9 => BuiltinType::List,
        12 => BuiltinType::Date,
        13 => BuiltinType::ContractId,
        14 => BuiltinType::Optional,
        16 => BuiltinType::TextMap,
        17 => BuiltinType::Numeric,
        20 => BuiltinType::GenMap,
        10 | 11 | 15 | 18 | 19 | 21..=23 => return Builtin::Opaque,
        _ => return Builtin::Unknown,
    })
}

fn builtin_2(number: i32) -> Builtin {
    Builtin::Known(match number {
        0 => BuiltinType::Unit,
        1 => BuiltinType::Bool,
        2 => BuiltinType::Int64,
        3 => BuiltinType::Date,
        4 => BuiltinType::Timestamp,
        5 => BuiltinType::Numeric,
        6 => BuiltinType::Party,
        7 => BuiltinType::Text,
        8 => BuiltinType::ContractId,
        9 => BuiltinType::Optional,
        10 => BuiltinType::List,
        11 => BuiltinType::GenMap,
        19 => BuiltinType::TextMap,
        13..=18 | 1002 | 1003 => return Builtin::Opaque,
        _ => return Builtin::Unknown,
    })
}

/// The number of a built-in type in Daml-LF 2.
pub(super) fn builtin_number(builtin: BuiltinType) -> u64 {
    match builtin {
        BuiltinType::Unit => 0,
        BuiltinType::Bool => 1,
        BuiltinType::Int64 => 2,
        BuiltinType::Date => 3,
        BuiltinType::Timestamp => 4,
        BuiltinType::Numeric => 5,
        BuiltinType::Party => 6,
        BuiltinType::Text => 7,
        BuiltinType::ContractId => 8,
        BuiltinType::Optional => 9,
        BuiltinType::List => 10,
        BuiltinType::GenMap => 11,
        BuiltinType::TextMap => 19,
    }
}
