//! The tables of a package: names stand once, and everything else refers to them by number.

use std::collections::BTreeSet;
use std::fmt;

use heirloom_model::limit::LF_DEFINITIONS_MAX;

use super::archive::LfVersion;
use super::layout::{Layout, NONE};
use super::package::{Metadata, PackageError};
use crate::proto::{Field, ProtoError, Reader, push, read_varint};
use crate::types::{BuiltinType, DottedName, PackageId, is_identifier};

/// Tables of a package and how it is read.
#[derive(Debug)]
pub(super) struct Tables<'a> {
    pub(super) layout: &'static Layout,
    pub(super) version: LfVersion,
    pub(super) own: PackageId,
    pub(super) strings: Vec<&'a str>,
    pub(super) dotted: Vec<DottedName>,
    pub(super) imports: Vec<PackageId>,
    pub(super) expressions: Vec<&'a [u8]>,
}

/// A dotted name as a message has it.
#[derive(Debug, Default)]
pub(super) struct DottedRef<'a> {
    interned: Option<i32>,
    text: Option<&'a [u8]>,
}

impl<'a> DottedRef<'a> {
    pub(super) fn interned(&mut self, field: &Field<'a>) -> Result<(), PackageError> {
        once(&mut self.interned, field.int32()?, "name")
    }

    pub(super) fn text(&mut self, field: &Field<'a>) -> Result<(), PackageError> {
        once(&mut self.text, field.bytes()?, "name")
    }
}

/// A string as a message has it.
#[derive(Debug, Default)]
pub(super) struct StringRef<'a> {
    interned: Option<i32>,
    text: Option<&'a str>,
}

impl<'a> StringRef<'a> {
    pub(super) fn interned(&mut self, field: &Field<'a>) -> Result<(), PackageError> {
        once(&mut self.interned, field.int32()?, "name")
    }

    pub(super) fn text(&mut self, field: &Field<'a>) -> Result<(), PackageError> {
        once(&mut self.text, field.text()?, "name")
    }
}

impl<'a> Tables<'a> {
    /// Refuses a field where participants do.
    pub(super) fn unknown(
        &self,
        field: &Field<'_>,
        message: &'static str,
    ) -> Result<(), PackageError> {
        if self.layout.strict { Err(field.unknown(message).into()) } else { Ok(()) }
    }

    pub(super) fn string(&self, index: i32) -> Result<&'a str, PackageError> {
        entry(&self.strings, index, "strings").copied()
    }

    pub(super) fn import(&self, index: i32) -> Result<PackageId, PackageError> {
        entry(&self.imports, index, "imports").cloned()
    }

    pub(super) fn dotted(&self, name: &DottedRef<'_>) -> Result<DottedName, PackageError> {
        if self.version.has_tables() {
            // Number zero is not written by Daml-LF 2.
            let index = self.index(name.interned)?;
            return entry(&self.dotted, index, "dotted names").cloned();
        }
        let missing = ProtoError::Missing { message: "a declaration", field: "name" };
        let mut segments = Vec::new();
        for field in Reader::new(name.text.ok_or(missing)?) {
            let field = field?;
            if field.number() == 1 {
                segments.push(field.text()?);
            }
        }
        Ok(DottedName::from_segments(segments)?)
    }

    pub(super) fn identifier(&self, name: &StringRef<'_>) -> Result<String, PackageError> {
        let text = if self.version.has_tables() {
            self.string(self.index(name.interned)?)?
        } else {
            name.text.ok_or(ProtoError::Missing { message: "a declaration", field: "name" })?
        };
        check_identifier(text)
    }

    fn index(&self, index: Option<i32>) -> Result<i32, PackageError> {
        let missing = ProtoError::Missing { message: "a declaration", field: "name" };
        match index {
            Some(index) => Ok(index),
            None if self.layout.strict => Ok(0),
            None => Err(missing.into()),
        }
    }

    /// The name of a parameter. Its kind is not read.
    pub(super) fn parameter(&self, bytes: &[u8]) -> Result<String, PackageError> {
        let mut name = StringRef::default();
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 if !self.layout.strict => name.text(&field)?,
                2 => {}
                3 => name.interned(&field)?,
                _ => self.unknown(&field, "TypeVarWithKind")?,
            }
        }
        self.identifier(&name)
    }

    /// The constructors of an enumeration. Their numbers are packed, or one by one.
    pub(super) fn constructors(&self, bytes: &[u8]) -> Result<Vec<String>, PackageError> {
        let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
        let mut keep = |name: String| {
            if !seen.insert(name.clone()) {
                return Err(duplicate("constructor", &name));
            }
            Ok(push(&mut names, name, "constructors of one type", LF_DEFINITIONS_MAX)?)
        };
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 if !self.version.has_tables() => keep(check_identifier(field.text()?)?)?,
                2 if self.version.has_tables() => {
                    for index in numbers(&field)? {
                        keep(check_identifier(self.string(index)?)?)?;
                    }
                }
                _ => self.unknown(&field, "EnumConstructors")?,
            }
        }
        Ok(names)
    }

    pub(super) fn dotted_name(&self, bytes: &[u8]) -> Result<DottedName, PackageError> {
        let mut segments = Vec::new();
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => {
                    for index in numbers(&field)? {
                        let segment = self.string(index)?;
                        push(&mut segments, segment, "segments of a name", LF_DEFINITIONS_MAX)?;
                    }
                }
                _ => self.unknown(&field, "InternedDottedName")?,
            }
        }
        Ok(DottedName::from_segments(segments)?)
    }

    pub(super) fn metadata(&self, bytes: Option<&[u8]>) -> Result<Option<Metadata>, PackageError> {
        let version = self.version;
        let Some(bytes) = bytes else {
            if version.has_metadata() {
                return Err(PackageError::NoMetadata { version });
            }
            return Ok(None);
        };
        if !version.has_metadata() {
            return Err(PackageError::NotInVersion { what: "metadata", version });
        }
        let (mut name, mut number, mut upgrades) = (0, 0, None);
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => name = field.int32()?,
                2 => number = field.int32()?,
                3 => once(&mut upgrades, self.upgraded(field.bytes()?)?, "upgraded package")?,
                _ => self.unknown(&field, "PackageMetadata")?,
            }
        }
        let (name, version) = (self.string(name)?.parse()?, self.string(number)?.parse()?);
        Ok(Some(Metadata { name, version, upgrades }))
    }

    fn upgraded(&self, bytes: &[u8]) -> Result<PackageId, PackageError> {
        let mut index = 0;
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => index = field.int32()?,
                _ => self.unknown(&field, "UpgradedPackageId")?,
            }
        }
        Ok(self.string(index)?.parse()?)
    }

    /// What an expression is, if it is one constructor of a built-in type.
    pub(super) fn constructor(
        &self,
        expression: &[u8],
    ) -> Result<Option<(&'static str, BuiltinType)>, PackageError> {
        let mut expression = expression;
        if let Some(field) = expression_field(expression, self.layout.interned_expression)? {
            expression = entry(&self.expressions, field.int32()?, "expressions")?;
        }
        let field = expression_field(expression, self.layout.builtin_constructor)?;
        Ok(match field.map(|field| field.int32()).transpose()? {
            Some(0) => Some(("()", BuiltinType::Unit)),
            Some(1) => Some(("False", BuiltinType::Bool)),
            Some(2) => Some(("True", BuiltinType::Bool)),
            _ => None,
        })
    }
}

/// The field of an expression that says what it is, if it is this one.
fn expression_field(expression: &[u8], number: u32) -> Result<Option<Field<'_>>, PackageError> {
    for field in Reader::new(expression) {
        let field = field?;
        if number != NONE && field.number() == number {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

/// Keeps the only occurrence of a field. Other readers would take the last one, or merge both.
pub(super) fn once<T>(
    slot: &mut Option<T>,
    value: T,
    what: &'static str,
) -> Result<(), PackageError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(duplicate(what, &"")),
    }
}

/// The entry of a table.
fn entry<'t, T>(table: &'t [T], index: i32, what: &'static str) -> Result<&'t T, PackageError> {
    let found = usize::try_from(index).ok().and_then(|index| table.get(index));
    found.ok_or(PackageError::Index { table: what, index: index.into() })
}

/// Repeated numbers: packed into one field, or one by one.
fn numbers(field: &Field<'_>) -> Result<Vec<i32>, PackageError> {
    let Ok(mut packed) = field.bytes() else {
        return Ok(vec![field.int32()?]);
    };
    let mut numbers = Vec::new();
    while !packed.is_empty() {
        let number = read_varint(&mut packed)?;
        let number = i32::try_from(number)
            .map_err(|_| ProtoError::Number { what: "entry of a table", found: number })?;
        numbers.push(number);
    }
    Ok(numbers)
}

fn check_identifier(text: &str) -> Result<String, PackageError> {
    if is_identifier(text) {
        return Ok(text.to_owned());
    }
    // The only way to a `ParseNameError` is a name that does not parse.
    Ok(DottedName::from_segments([text])?.to_string())
}

pub(super) fn duplicate(what: &'static str, name: &impl fmt::Display) -> PackageError {
    PackageError::Duplicate { what, name: name.to_string().chars().take(80).collect() }
}
