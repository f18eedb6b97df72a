//! Daml types, as far as values of contracts need them: no expressions, no functions.
//!
//! A contract holds values without labels and type names. The hash of its newest identifiers names
//! both, so whoever computes it needs a [`TypeStore`], which is filled from packages.

use std::fmt;
use std::str::FromStr;

use heirloom_model::limit::LF_NAME_CHARACTERS_MAX;

/// Why text is not a name of a package, module or type.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{found:?} is not {what}")]
pub struct ParseNameError {
    /// What was expected.
    pub what: &'static str,
    /// The text, cut.
    pub found: String,
}

impl ParseNameError {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, found: text.chars().take(80).collect() }
    }
}

/// The SHA-256 of a package's payload, as lower-case hex.
///
/// Packages of tests have other names (`-pkgId-`), so a package id is any text of letters, digits
/// and `-_ ` (Daml-LF, `Ref.PackageId`).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PackageId(String);

impl PackageId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageId {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_ ".contains(c);
        if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
            return Err(ParseNameError::new("a package id", text));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What people call a package, over all its versions.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PackageName(String);

impl PackageName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PackageName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if text.is_empty() || text.len() > 255 || !text.chars().all(allowed) {
            return Err(ParseNameError::new("a package name", text));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One or more identifiers with dots between them: a module, or a type in it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DottedName(Vec<String>);

impl DottedName {
    /// A name of these segments.
    pub fn from_segments(
        segments: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, ParseNameError> {
        let segments: Vec<String> = segments.into_iter().map(Into::into).collect();
        let joined: usize = segments.iter().map(|s| s.len() + 1).sum();
        if segments.is_empty() || joined > LF_NAME_CHARACTERS_MAX + 1 {
            return Err(ParseNameError::new("a dotted name", &segments.join(".")));
        }
        match segments.iter().find(|segment| !is_identifier(segment)) {
            Some(bad) => Err(ParseNameError::new("an identifier", bad)),
            None => Ok(Self(segments)),
        }
    }

    /// Its identifiers.
    pub fn segments(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for DottedName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_segments(text.split('.'))
    }
}

impl fmt::Display for DottedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.join("."))
    }
}

/// Succeeds for identifiers of Daml-LF: a letter, `$` or `_`, then also digits.
pub fn is_identifier(text: &str) -> bool {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '$' || c == '_';
    let mut characters = text.chars();
    text.len() <= LF_NAME_CHARACTERS_MAX
        && characters.next().is_some_and(starts)
        && characters.all(|c| starts(c) || c.is_ascii_digit())
}

/// A type of a module, without the package.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TypeName {
    /// The module.
    pub module: DottedName,
    /// The type in it.
    pub entity: DottedName,
}

impl FromStr for TypeName {
    type Err = ParseNameError;

    /// Reads `Module.Name:Type.Name`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (module, entity) =
            text.split_once(':').ok_or_else(|| ParseNameError::new("a module and a type", text))?;
        Ok(Self { module: module.parse()?, entity: entity.parse()? })
    }
}

impl fmt::Display for TypeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.module, self.entity)
    }
}

/// A type of a package: a template has one too.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TypeId {
    /// The package.
    pub package: PackageId,
    /// The type in it.
    pub name: TypeName,
}

impl FromStr for TypeId {
    type Err = ParseNameError;

    /// Reads `package:Module.Name:Type.Name`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (package, name) =
            text.split_once(':').ok_or_else(|| ParseNameError::new("a type of a package", text))?;
        Ok(Self { package: package.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.package, self.name)
    }
}

/// A type that every ledger knows.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum BuiltinType {
    /// True or false.
    Bool,
    /// A reference to a contract; one argument.
    ContractId,
    /// Days since 1970.
    Date,
    /// A map from any ordered type; two arguments.
    GenMap,
    /// A signed integer.
    Int64,
    /// One argument.
    List,
    /// A decimal number; its scale is a [`Type::Nat`].
    Numeric,
    /// One argument.
    Optional,
    /// Somebody who signs or sees.
    Party,
    /// UTF-8.
    Text,
    /// A map from text; one argument.
    TextMap,
    /// Microseconds since 1970.
    Timestamp,
    /// The type of one value.
    Unit,
}

/// A type expression. Synonyms are resolved, applications are gathered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Type {
    /// A built-in type with its arguments.
    Builtin {
        /// Which.
        builtin: BuiltinType,
        /// Its arguments.
        args: Vec<Type>,
    },
    /// A declared type with its arguments.
    Con {
        /// Which.
        id: TypeId,
        /// Its arguments.
        args: Vec<Type>,
    },
    /// A natural number, as argument of `Numeric`.
    Nat(u32),
    /// A type that no contract can hold: functions, structs, updates, higher kinds.
    Opaque,
    /// A parameter of the declaration around it.
    Var(String),
}

/// A named field of a record, or a constructor of a variant with its argument.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field {
    /// The label or constructor.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// What a declaration declares.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DataBody {
    /// Constructors without arguments, in order of rank.
    Enum(Vec<String>),
    /// An interface: no values.
    Interface,
    /// Fields in order.
    Record(Vec<Field>),
    /// Constructors with arguments, in order of rank.
    Variant(Vec<Field>),
}

/// A declared type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DataType {
    /// Its parameters.
    pub params: Vec<String>,
    /// What it is.
    pub body: DataBody,
}

/// Who knows declared types.
pub trait TypeStore {
    /// The declaration, or none if no package that is here has it.
    fn data_type(&self, package: &PackageId, name: &TypeName) -> Option<&DataType>;

    /// The type of the key of a template, or none if it has no key or is not known.
    fn key_type(&self, _package: &PackageId, _template: &TypeName) -> Option<&Type> {
        None
    }
}

/// A store that knows nothing: enough for the older hashes.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTypes;

impl TypeStore for NoTypes {
    fn data_type(&self, _: &PackageId, _: &TypeName) -> Option<&DataType> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_ids_read_as_they_print() {
        for text in ["ab12:Splice.AmuletRules:AmuletRules", "-pkg-:M:A.B$c"] {
            assert_eq!(text.parse::<TypeId>().unwrap().to_string(), text);
        }
        for text in ["ab", "ab:M", "ab:M:", "ab:M:1", "a.b:M:T", "ab:M..N:T", ":M:T"] {
            assert!(text.parse::<TypeId>().is_err(), "{text}");
        }
    }
}
