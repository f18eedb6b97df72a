//! Reads a package of Daml-LF without its expressions.
//!
//! Expressions nest deeper than any reader of messages with a limit follows (real packages have
//! more than a hundred levels), and no type needs them: they are fields that are stepped over.
//! Types are kept as a graph; [`super::types`] follows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use heirloom_model::limit::{LF_DEFINITIONS_MAX, LF_TABLE_ENTRIES_MAX};

use super::archive::{Archive, LfVersion};
use super::layout::{LF1, LF2, Layout};
use super::tables::{DottedRef, StringRef, Tables, duplicate, once};
use super::typegraph::{Graph, NodeId};
use crate::proto::{Field, ProtoError, Reader, push};
use crate::types::{
    BuiltinType, DottedName, PackageId, PackageName, ParseNameError, TypeId, TypeName,
};

/// Why a package is not read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PackageError {
    /// It is not such a message.
    #[error("the package is malformed")]
    Proto(#[from] ProtoError),
    /// A name is not one of Daml-LF.
    #[error("the package has a bad name")]
    Name(#[from] ParseNameError),
    /// A number points behind the end of a table, or ahead in it.
    #[error("entry {index} of the table of {table} is not there, or not yet")]
    Index {
        /// The table.
        table: &'static str,
        /// The number.
        index: i64,
    },
    /// A version is not one.
    #[error("{found:?} is no version of a package: numbers with dots between them")]
    PackageVersion {
        /// The text, cut.
        found: String,
    },
    /// A package must say how it is called.
    #[error("packages of Daml-LF {version} say name and version, and this one does not")]
    NoMetadata {
        /// Its Daml-LF.
        version: LfVersion,
    },
    /// A field of another version of Daml-LF.
    #[error("packages of Daml-LF {version} have no {what}")]
    NotInVersion {
        /// The field.
        what: &'static str,
        /// Its Daml-LF.
        version: LfVersion,
    },
    /// A module asks for behaviour that no participant has any more.
    #[error("module {module} has outdated feature flags")]
    Flags {
        /// The module.
        module: DottedName,
    },
    /// Two of a kind have one name.
    #[error("{what} {name:?} is declared twice")]
    Duplicate {
        /// The kind.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A declaration declares nothing.
    #[error("{name} is neither record, variant, enumeration nor interface")]
    NoBody {
        /// The type.
        name: TypeName,
    },
    /// An enumeration with parameters.
    #[error("{name} is an enumeration with parameters")]
    EnumParameters {
        /// The type.
        name: TypeName,
    },
    /// A type is none.
    #[error("{what}")]
    Type {
        /// What is wrong.
        what: &'static str,
    },
    /// A type has too many levels.
    #[error("a type has more than {limit} levels")]
    TooDeep {
        /// How many it may have.
        limit: usize,
    },
    /// All types together are too large.
    #[error("the types of the package have more than {limit} nodes")]
    TooLarge {
        /// How many they may have.
        limit: usize,
    },
    /// A type uses a synonym that no package here declares.
    #[error("the synonym {synonym} is not declared, or with other parameters")]
    UnknownSynonym {
        /// Which.
        synonym: TypeId,
    },
    /// A template needs a serializable record of its name.
    #[error("template {template} has no serializable record of its name")]
    TemplateWithoutRecord {
        /// The template.
        template: TypeName,
    },
    /// A value has another type than it says.
    #[error("the value {name} is {found}, and it says that it is {declared:?}")]
    IllTyped {
        /// The value.
        name: TypeName,
        /// What its expression is.
        found: &'static str,
        /// What it says.
        declared: BuiltinType,
    },
}

/// A version of a package: numbers with dots between them, compared one by one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PackageVersion(Vec<u32>);

impl PackageVersion {
    /// The numbers.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }
}

impl FromStr for PackageVersion {
    type Err = PackageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || PackageError::PackageVersion { found: text.chars().take(80).collect() };
        if text.len() > 255 {
            return Err(bad());
        }
        let number = |segment: &str| {
            let number: u32 = segment.parse().map_err(|_| bad())?;
            // No sign and no leading zeros; participants keep 31 bits.
            let plain = number.to_string() == segment && i32::try_from(number).is_ok();
            if plain { Ok(number) } else { Err(bad()) }
        };
        text.split('.').map(number).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for PackageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.pad(&numbers.join("."))
    }
}

/// What a package says of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Metadata {
    pub(super) name: PackageName,
    pub(super) version: PackageVersion,
    pub(super) upgrades: Option<PackageId>,
}

/// A declared type before its types are followed.
#[derive(Clone, Debug)]
pub(super) struct RawData {
    pub(super) name: TypeName,
    pub(super) params: Vec<String>,
    pub(super) serializable: bool,
    pub(super) body: RawBody,
}

#[derive(Clone, Debug)]
pub(super) enum RawBody {
    Enum(Vec<String>),
    Interface,
    Record(Vec<(String, NodeId)>),
    Variant(Vec<(String, NodeId)>),
}

#[derive(Clone, Debug)]
pub(super) struct RawSynonym {
    pub(super) params: Vec<String>,
    pub(super) ty: NodeId,
}

/// A package: its names are resolved, its types are a graph.
#[derive(Clone, Debug)]
pub(super) struct RawPackage {
    pub(super) id: PackageId,
    pub(super) version: LfVersion,
    pub(super) metadata: Option<Metadata>,
    pub(super) graph: Graph,
    pub(super) data: Vec<RawData>,
    pub(super) synonyms: BTreeMap<TypeName, RawSynonym>,
    /// With the types of their keys.
    pub(super) templates: BTreeMap<TypeName, Option<NodeId>>,
}

/// The messages of a package, not yet read.
#[derive(Default)]
struct Sections<'a> {
    modules: Vec<&'a [u8]>,
    strings: Vec<&'a str>,
    dotted: Vec<&'a [u8]>,
    metadata: Option<&'a [u8]>,
    types: Vec<&'a [u8]>,
    expressions: Vec<&'a [u8]>,
    imports: Option<&'a [u8]>,
}

impl RawPackage {
    pub(super) fn parse(archive: &Archive<'_>) -> Result<Self, PackageError> {
        let version = archive.version;
        let sections = sections(archive.package, version)?;
        let mut tables = Tables {
            layout: layout(version),
            version,
            own: archive.id.clone(),
            strings: sections.strings,
            dotted: Vec::new(),
            imports: Vec::new(),
            expressions: sections.expressions,
        };
        if !version.has_tables() && !sections.dotted.is_empty() {
            return Err(PackageError::NotInVersion { what: "table of dotted names", version });
        }
        for bytes in sections.dotted {
            let name = tables.dotted_name(bytes)?;
            tables.dotted.push(name);
        }
        if let Some(bytes) = sections.imports {
            tables.imports = imports(bytes)?;
        }
        let metadata = tables.metadata(sections.metadata)?;
        let graph = Graph::parse(&tables, &sections.types)?;
        let mut package = Self {
            id: archive.id.clone(),
            version,
            metadata,
            graph,
            data: Vec::new(),
            synonyms: BTreeMap::new(),
            templates: BTreeMap::new(),
        };
        let mut names = BTreeSet::new();
        for bytes in sections.modules {
            let name = package.module(&tables, bytes)?;
            if !names.insert(name.clone()) {
                return Err(duplicate("module", &name));
            }
        }
        package.check_names()?;
        Ok(package)
    }

    fn module(&mut self, tables: &Tables<'_>, bytes: &[u8]) -> Result<DottedName, PackageError> {
        let numbers = &tables.layout.module;
        let (mut data, mut synonyms) = (Vec::new(), Vec::new());
        let (mut values, mut templates) = (Vec::new(), Vec::new());
        let mut name = DottedRef::default();
        let mut flags = None;
        for field in Reader::new(bytes) {
            let field = field?;
            let number = field.number();
            let what = "declarations of one kind in a module";
            let keep = |list: &mut Vec<_>| push(list, field.bytes()?, what, LF_DEFINITIONS_MAX);
            if number == numbers.types {
                keep(&mut data)?;
            } else if number == numbers.values {
                keep(&mut values)?;
            } else if number == numbers.templates {
                keep(&mut templates)?;
            } else if number == numbers.synonyms {
                keep(&mut synonyms)?;
            } else if number == numbers.flags {
                once(&mut flags, field.bytes()?, "flags")?;
            } else if number == numbers.name {
                name.interned(&field)?;
            } else if number == numbers.text {
                name.text(&field)?;
            } else if number != numbers.exceptions && number != numbers.interfaces {
                tables.unknown(&field, "Module")?;
            }
        }
        let module = tables.dotted(&name)?;
        check_flags(&module, flags.unwrap_or_default())?;
        for bytes in synonyms {
            self.synonym(tables, &module, bytes)?;
        }
        for bytes in data {
            let data = self.data(tables, &module, bytes)?;
            self.data.push(data);
        }
        for bytes in values {
            self.value(tables, &module, bytes)?;
        }
        for bytes in templates {
            self.template(tables, &module, bytes)?;
        }
        Ok(module)
    }

    fn synonym(
        &mut self,
        tables: &Tables<'_>,
        module: &DottedName,
        bytes: &[u8],
    ) -> Result<(), PackageError> {
        let numbers = &tables.layout.synonym;
        let mut name = DottedRef::default();
        let (mut params, mut ty) = (Vec::new(), None);
        for field in Reader::new(bytes) {
            let field = field?;
            let number = field.number();
            if number == numbers.name {
                name.interned(&field)?;
            } else if number == numbers.text {
                name.text(&field)?;
            } else if number == numbers.params {
                params.push(tables.parameter(field.bytes()?)?);
            } else if number == numbers.ty {
                once(&mut ty, field.bytes()?, "type of a synonym")?;
            } else if number != numbers.location {
                tables.unknown(&field, "DefTypeSyn")?;
            }
        }
        let name = TypeName { module: module.clone(), entity: tables.dotted(&name)? };
        let ty = self.graph.declared(tables, ty.unwrap_or_default())?;
        match self.synonyms.insert(name.clone(), RawSynonym { params, ty }) {
            None => Ok(()),
            Some(_) => Err(duplicate("synonym", &name)),
        }
    }

    fn data(
        &mut self,
        tables: &Tables<'_>,
        module: &DottedName,
        bytes: &[u8],
    ) -> Result<RawData, PackageError> {
        let numbers = &tables.layout.data;
        let mut name = DottedRef::default();
        let (mut params, mut serializable, mut body) = (Vec::new(), false, None);
        for field in Reader::new(bytes) {
            let field = field?;
            let number = field.number();
            if number == numbers.name {
                name.interned(&field)?;
            } else if number == numbers.text {
                name.text(&field)?;
            } else if number == numbers.params {
                params.push(tables.parameter(field.bytes()?)?);
            } else if number == numbers.serializable {
                serializable = field.boolean()?;
            } else if [numbers.record, numbers.variant, numbers.enumeration, numbers.interface]
                .contains(&number)
            {
                once(&mut body, field, "body of a type")?;
            } else if number != numbers.location {
                tables.unknown(&field, "DefDataType")?;
            }
        }
        let name = TypeName { module: module.clone(), entity: tables.dotted(&name)? };
        let body = body.ok_or_else(|| PackageError::NoBody { name: name.clone() })?;
        let body = self.body(tables, &body)?;
        if matches!(body, RawBody::Enum(_)) && !params.is_empty() {
            return Err(PackageError::EnumParameters { name });
        }
        Ok(RawData { name, params, serializable, body })
    }

    fn body(&mut self, tables: &Tables<'_>, body: &Field<'_>) -> Result<RawBody, PackageError> {
        let numbers = &tables.layout.data;
        if body.number() == numbers.interface {
            return Ok(RawBody::Interface);
        }
        if body.number() == numbers.enumeration {
            return Ok(RawBody::Enum(tables.constructors(body.bytes()?)?));
        }
        let mut fields = Vec::new();
        let mut labels = BTreeSet::new();
        for field in Reader::new(body.bytes()?) {
            let field = field?;
            if field.number() != 1 {
                tables.unknown(&field, "Fields")?;
                continue;
            }
            let (label, ty) = self.field(tables, field.bytes()?)?;
            if !labels.insert(label.clone()) {
                return Err(duplicate("field or constructor", &label));
            }
            push(&mut fields, (label, ty), "fields of one type", LF_DEFINITIONS_MAX)?;
        }
        if body.number() == numbers.record {
            Ok(RawBody::Record(fields))
        } else {
            Ok(RawBody::Variant(fields))
        }
    }

    fn field(
        &mut self,
        tables: &Tables<'_>,
        bytes: &[u8],
    ) -> Result<(String, NodeId), PackageError> {
        let mut label = StringRef::default();
        let mut ty = None;
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 if !tables.layout.strict => label.text(&field)?,
                2 => once(&mut ty, field.bytes()?, "type of a field")?,
                3 => label.interned(&field)?,
                _ => tables.unknown(&field, "FieldWithType")?,
            }
        }
        let label = tables.identifier(&label)?;
        Ok((label, self.graph.declared(tables, ty.unwrap_or_default())?))
    }

    fn template(
        &mut self,
        tables: &Tables<'_>,
        module: &DottedName,
        bytes: &[u8],
    ) -> Result<(), PackageError> {
        let numbers = &tables.layout.template;
        let mut name = DottedRef::default();
        let mut key = None;
        for field in Reader::new(bytes) {
            let field = field?;
            let number = field.number();
            if number == numbers.name {
                name.interned(&field)?;
            } else if number == numbers.text {
                name.text(&field)?;
            } else if number == numbers.key {
                once(&mut key, field.bytes()?, "key of a template")?;
            } else if !numbers.unread.contains(&number) {
                tables.unknown(&field, "DefTemplate")?;
            }
        }
        let name = TypeName { module: module.clone(), entity: tables.dotted(&name)? };
        let key = key.map(|bytes| self.key_type(tables, bytes)).transpose()?;
        match self.templates.insert(name.clone(), key) {
            None => Ok(()),
            Some(_) => Err(duplicate("template", &name)),
        }
    }

    fn key_type(&mut self, tables: &Tables<'_>, bytes: &[u8]) -> Result<NodeId, PackageError> {
        let mut ty = None;
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => once(&mut ty, field.bytes()?, "type of a key")?,
                // How it is computed: expressions.
                2..=4 => {}
                _ => tables.unknown(&field, "DefKey")?,
            }
        }
        self.graph.declared(tables, ty.unwrap_or_default())
    }

    /// Looks at a value as far as that needs no look into its expression: one that is nothing but
    /// a constructor of `Unit` or `Bool` must say that it is of that type. Participants check every
    /// expression; this is the part that costs nothing.
    fn value(
        &mut self,
        tables: &Tables<'_>,
        module: &DottedName,
        bytes: &[u8],
    ) -> Result<(), PackageError> {
        let numbers = &tables.layout.value;
        let (mut named, mut expression) = (None, None);
        for field in Reader::new(bytes) {
            let field = field?;
            if field.number() == numbers.name_with_type {
                once(&mut named, field.bytes()?, "type of a value")?;
            } else if field.number() == numbers.expression {
                once(&mut expression, field.bytes()?, "expression of a value")?;
            }
        }
        let Some((found, is)) = tables.constructor(expression.unwrap_or_default())? else {
            return Ok(());
        };
        let mut name = DottedRef::default();
        let mut ty = None;
        for field in Reader::new(named.unwrap_or_default()) {
            let field = field?;
            match field.number() {
                1 if tables.layout.strict => name.interned(&field)?,
                2 => once(&mut ty, field.bytes()?, "type of a value")?,
                3 => name.interned(&field)?,
                _ => {}
            }
        }
        let ty = self.graph.declared(tables, ty.unwrap_or_default())?;
        match self.graph.plain_builtin(ty) {
            Some(declared) if declared != is => {
                let name = TypeName { module: module.clone(), entity: tables.dotted(&name)? };
                Err(PackageError::IllTyped { name, found, declared })
            }
            _ => Ok(()),
        }
    }

    /// Names of types are unique, and every template is a serializable record.
    fn check_names(&self) -> Result<(), PackageError> {
        let mut names = BTreeSet::new();
        let mut records = BTreeSet::new();
        for data in &self.data {
            if !names.insert(&data.name) {
                return Err(duplicate("type", &data.name));
            }
            if data.serializable && matches!(data.body, RawBody::Record(_)) {
                records.insert(&data.name);
            }
        }
        match self.templates.keys().find(|template| !records.contains(template)) {
            None => Ok(()),
            Some(template) => {
                Err(PackageError::TemplateWithoutRecord { template: template.clone() })
            }
        }
    }
}

fn sections(bytes: &[u8], version: LfVersion) -> Result<Sections<'_>, PackageError> {
    let strict = layout(version).strict;
    let mut sections = Sections::default();
    for field in Reader::new(bytes) {
        let field = field?;
        let table = |list: &mut Vec<_>| {
            push(list, field.bytes()?, "entries of a table", LF_TABLE_ENTRIES_MAX)
        };
        match field.number() {
            1 => push(&mut sections.modules, field.bytes()?, "modules", LF_DEFINITIONS_MAX)?,
            2 => {
                push(&mut sections.strings, field.text()?, "strings", LF_TABLE_ENTRIES_MAX)?;
            }
            3 => table(&mut sections.dotted)?,
            4 => once(&mut sections.metadata, field.bytes()?, "metadata")?,
            5 => table(&mut sections.types)?,
            6..=9 if strict && !version.is_flat() => {
                let what = "tables of kinds, expressions and imports";
                return Err(PackageError::NotInVersion { what, version });
            }
            // Kinds, which no value has, and a sentence why there are no imports.
            6 | 8 if strict => {}
            7 if strict => table(&mut sections.expressions)?,
            9 if strict => once(&mut sections.imports, field.bytes()?, "imports")?,
            _ if strict => return Err(field.unknown("Package").into()),
            _ => {}
        }
    }
    Ok(sections)
}

fn layout(version: LfVersion) -> &'static Layout {
    if version.major() == 1 { &LF1 } else { &LF2 }
}

fn imports(bytes: &[u8]) -> Result<Vec<PackageId>, PackageError> {
    let mut imports = Vec::new();
    for field in Reader::new(bytes) {
        let field = field?;
        match field.number() {
            1 => push(&mut imports, field.text()?.parse()?, "imports", LF_TABLE_ENTRIES_MAX)?,
            _ => return Err(field.unknown("PackageImports").into()),
        }
    }
    Ok(imports)
}

/// Participants refuse packages without these flags: their contracts would be shown to others.
fn check_flags(module: &DottedName, bytes: &[u8]) -> Result<(), PackageError> {
    let mut set = BTreeSet::new();
    for field in Reader::new(bytes) {
        let field = field?;
        if field.boolean()? {
            set.insert(field.number());
        }
    }
    if set == BTreeSet::from([1, 2, 3]) {
        return Ok(());
    }
    Err(PackageError::Flags { module: module.clone() })
}
